//! What a process writes, collected while it writes.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};

use super::DEADLINE;

#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    ended: bool,
}

/// A growing text. A thread reads it, so that the writer is never held up.
#[derive(Clone, Default)]
pub struct Transcript(Arc<(Mutex<Text>, Condvar)>);

impl Transcript {
    /// Of nothing: the test has the other end itself.
    pub fn empty() -> Self {
        let transcript = Self::default();
        transcript.0.0.lock().unwrap().ended = true;
        transcript
    }

    /// Reads this source until its end.
    pub fn of(mut source: impl Read + Send + 'static) -> Self {
        let transcript = Self::default();
        let shared = transcript.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal whose other end was closed says EIO.
            while let Ok(length @ 1..) = source.read(&mut buffer) {
                shared.0.0.lock().unwrap().bytes.extend_from_slice(&buffer[..length]);
                shared.0.1.notify_all();
            }
            drop(source);
            shared.0.0.lock().unwrap().ended = true;
            shared.0.1.notify_all();
        });
        transcript
    }

    /// The text so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap().bytes).into_owned()
    }

    /// Waits until `find` finds something in the text.
    pub fn find<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let (text, change) = &*self.0;
        let mut guard = text.lock().unwrap();
        loop {
            let so_far = String::from_utf8_lossy(&guard.bytes).into_owned();
            if let Some(found) = find(&so_far) {
                return found;
            }
            assert!(!guard.ended, "it ended without {what}; all it said: {so_far}");
            let (next, timeout) = change.wait_timeout(guard, DEADLINE).unwrap();
            guard = next;
            assert!(!timeout.timed_out(), "waited in vain for {what}; so far: {so_far}");
        }
    }

    /// Waits until the text contains this.
    pub fn wait_for(&self, text: &str) {
        self.find(&format!("{text:?}"), |so_far| so_far.contains(text).then_some(()));
    }

    /// Waits for a line that begins with `key` and a space. The rest of it.
    pub fn value(&self, key: &str) -> String {
        self.find(&format!("a line {key:?}"), |so_far| {
            let whole = so_far.rfind('\n').map_or("", |end| &so_far[..end]);
            whole.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(' ')?.trim_end().to_owned()))
        })
    }

    /// Waits for the end: every copy of the descriptor is closed. The whole text.
    pub fn whole(&self) -> String {
        let (text, change) = &*self.0;
        let (guard, timeout) = change.wait_timeout_while(text.lock().unwrap(), DEADLINE, |text| !text.ended).unwrap();
        let so_far = String::from_utf8_lossy(&guard.bytes).into_owned();
        assert!(!timeout.timed_out(), "somebody still holds the other end; so far: {so_far}");
        so_far
    }
}
