//! How much of the program is in memory: what is only needed for a start or a worker is let go of after it. What PID 1 runs
//! when memory is short stays.

use std::time::Duration;

use crate::engine::time::Moment;
use crate::sys::memory;

/// To let go costs a few page faults when it is needed again: not more often than this.
const AT_MOST: Duration = Duration::from_secs(1);

/// Whether there is something to be let go of.
#[derive(Debug, Default)]
pub struct Resident {
    uses_more: bool,
    is_guarded: bool,
    last: Option<Moment>,
}

impl Resident {
    /// After the start there is.
    pub fn new() -> Self {
        Self { uses_more: true, ..Self::default() }
    }

    /// More of the program is in use than all the time.
    pub const fn uses_more(&mut self) {
        self.uses_more = true;
    }

    /// A guardian is there for long; it takes more of the program only to start one, and when it has ended.
    pub const fn guarded(&mut self, is_guarded: bool) {
        self.uses_more |= is_guarded != self.is_guarded;
        self.is_guarded = is_guarded;
    }

    /// When something is to be let go of, if there is. After the start at once: beside an app of many small processes that fills
    /// memory right away, the kernel's OOM killer would else choose memini, which is larger than each of them.
    pub fn due(&self) -> Option<Moment> {
        self.uses_more.then(|| self.last.map_or_else(Moment::default, |last| last.after(AT_MOST)))
    }

    /// Lets go of what is not in use any more.
    pub fn tidy(&mut self, now: Moment) {
        memory::release_program();
        (self.uses_more, self.last) = (false, Some(now));
    }
}
