//! When it is looked for children that were born stopped.
//!
//! Who is in the middle of fork(2) when the tree is stopped hands the stop on to its child: the kernel keeps a signal to
//! many processes for the forks that are under way. A SIGCONT is not kept so. The kernel drops one that does nothing before
//! it comes to the forks (`prepare_signal` and `__send_signal_locked` in its kernel/signal.c; seen on 6.18 with a tree that
//! forks every 17 ms), so that a child may be born stopped when everybody goes on again, and nobody else
//! would ever continue it. A fork ends when it likes: at the limit, or under `memory.high`, in seconds.

use std::time::Duration;

use crate::engine::time::Moment;
use crate::process::list::Process;

/// From the release to the first look; each further pause is twice as long. While memory grows fast, 250 processes take
/// longer to look at than memini has.
const FIRST: Duration = Duration::from_millis(20);

/// The last look is 20 s after the release.
pub const LOOKS: u32 = 10;

/// The pause before a look, the first being 0.
pub fn pause(look: u32) -> Duration {
    FIRST.saturating_mul(2u32.saturating_pow(look))
}

/// What a process may have had of page faults that has not run yet: the kernel writes its number into its memory.
const FAULTS: u64 = 4;

/// Whether it was stopped before it ran: nobody else is so quick to stop one.
pub const fn is_born_stopped(process: &Process) -> bool {
    process.state == b'T' && process.minor_faults <= FAULTS
}

/// When it is looked for them.
#[derive(Clone, Copy, Debug)]
pub struct Newborn {
    next: Moment,
    looks: u32,
}

impl Newborn {
    /// The tree goes on.
    pub fn after_release(now: Moment) -> Self {
        Self { next: now.after(pause(0)), looks: 0 }
    }

    /// When it is to be looked for them.
    pub const fn due(&self) -> Moment {
        self.next
    }

    /// It is looked for them now. False if that was the last time.
    pub fn looked(&mut self, now: Moment) -> bool {
        self.looks = self.looks.saturating_add(1);
        self.next = now.after(pause(self.looks));
        self.looks < LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_for_them_for_twenty_seconds() {
        let start = Moment::from_nanos(5);
        let mut newborn = Newborn::after_release(start);
        let mut spans = Vec::new();
        loop {
            let due = newborn.due();
            spans.push(due.since(start).as_millis());
            if !newborn.looked(due) {
                break;
            }
        }
        assert_eq!(spans, [20, 60, 140, 300, 620, 1260, 2540, 5100, 10220, 20460]);
    }
}
