//! Source: the tests' own, which says what it was told to.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use super::reading::Reading;
use super::source::{Cause, Depth, ReadError, Source};

/// Gives the readings of its script in their order, then the last one for ever.
#[derive(Debug, Default)]
pub struct Fake {
    script: VecDeque<Option<Reading>>,
    last: Reading,
    /// How it was asked.
    pub asked: Vec<Depth>,
}

impl Fake {
    /// A source with this script; `None` is a failure.
    pub fn new(script: impl IntoIterator<Item = Option<Reading>>) -> Self {
        Self { script: script.into_iter().collect(), ..Self::default() }
    }
}

impl Source for Fake {
    fn read(&mut self, depth: Depth, reading: &mut Reading) -> Result<(), ReadError> {
        self.asked.push(depth);
        match self.script.pop_front() {
            Some(None) => {
                let cause = Cause::Io(io::Error::from(io::ErrorKind::NotFound));
                return Err(ReadError { path: PathBuf::from("fake"), cause });
            }
            Some(Some(next)) => self.last = next,
            None => {}
        }
        *reading = self.last;
        Ok(())
    }

    fn describe(&self) -> &str {
        "fake"
    }
}
