//! The memory source in PID 1: reads it, and tells once when it cannot be read and once when it can again.

use std::os::fd::BorrowedFd;

use crate::cgroup::reading::Reading;
use crate::cgroup::source::{Depth, Source};

/// A source and its last good reading.
pub struct Watch {
    source: Box<dyn Source>,
    reading: Reading,
    failing: bool,
    failures: u32,
}

impl Watch {
    /// Watches this source.
    pub fn new(source: Box<dyn Source>, first: Reading) -> Self {
        Self { source, reading: first, failing: false, failures: 0 }
    }

    /// Reads anew. `None`: it could not be read, and nothing is to be decided on the old numbers.
    pub fn read(&mut self, depth: Depth) -> Option<&Reading> {
        match self.source.read(depth, &mut self.reading) {
            Ok(()) => {
                if self.failing {
                    self.failing = false;
                    log::info!("memory can be read again, after {} failed attempts", self.failures);
                    self.failures = 0;
                }
                Some(&self.reading)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                if !self.failing {
                    self.failing = true;
                    log::warn!("{error}; nothing is decided until it can be read again");
                }
                None
            }
        }
    }

    /// Ready with POLLPRI when the kernel has counted a memory event.
    pub fn events(&self) -> Option<BorrowedFd<'_>> {
        self.source.events()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::Fake;

    #[test]
    fn a_failure_gives_nothing_to_decide_on_and_the_next_good_reading_does() {
        let source = Fake::new([Some(Reading::new()), None, None, Some(Reading::new())]);
        let mut watch = Watch::new(Box::new(source), Reading::new());
        let answers: Vec<bool> = (0..4).map(|_| watch.read(Depth::Full).is_some()).collect();
        assert_eq!(answers, [true, false, false, true]);
        assert!(!watch.failing);
    }
}
