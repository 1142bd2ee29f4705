//! How much of the program is in memory: what is only needed for a start, a worker or an incident is let go of after it.

use std::time::Duration;

use crate::engine::time::Moment;
use crate::sys::memory;

/// To let go costs some thirty page faults at the next looks: not more often than this.
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

    /// There is time: lets go of what is not in use any more.
    pub fn tidy(&mut self, now: Moment) {
        if self.uses_more && self.last.is_none_or(|last| now.since(last) >= AT_MOST) {
            memory::release_program();
            (self.uses_more, self.last) = (false, Some(now));
        }
    }
}
