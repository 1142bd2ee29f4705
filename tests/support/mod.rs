//! What the tests of the running binary share: memini started in a place, its output read without holding it up, and
//! the processes of the machine looked at. Nothing here waits for a time to pass; it waits for something to happen, and
//! fails after [`DEADLINE`].
#![allow(dead_code, reason = "each crate of tests needs a part of it")]

pub mod app;
pub mod memini;
pub mod process;
pub mod terminal;
pub mod transcript;

use std::time::{Duration, Instant};

/// What has not happened by then will not happen. Machines may be slow and busy, so this is far more than it takes.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// How long to look away between two looks at something that cannot be waited for.
const GLANCE: Duration = Duration::from_millis(1);

/// Looks until there is something, and fails with `what` if that never happens.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(GLANCE);
    }
}

/// Looks until it is so.
pub fn wait_until(what: &str, mut look: impl FnMut() -> bool) {
    wait_for(what, || look().then_some(()));
}
