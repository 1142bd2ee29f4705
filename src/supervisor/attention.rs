//! How soon memini must run when it is woken.

use std::time::Duration;

use crate::sys::schedule;

/// On a busy machine a woken process of normal priority runs up to 20 ms late (p99 17 ms, measured with both cores
/// busy). Where the next look is further away than that, being late loses nothing.
const LATENESS: Duration = Duration::from_millis(20);

/// Not back and forth at each look.
const RELAXED: Duration = Duration::from_millis(40);

/// Asks the scheduler for low latency while memory could reach something that matters before memini would run.
///
/// Not for all of PID 1's life: SCHED_FIFO and a short slice have a price. A signal takes up to twice as long to be
/// forwarded and many orphans longer to be reaped, because memini then runs at once and on the core where it ran before,
/// in place of whoever has just woken it.
#[derive(Debug, Default)]
pub struct Attention {
    is_high: bool,
}

impl Attention {
    /// `next`: the time until memory is looked at again; `None` if it is not. True if it has just become short.
    pub fn adapt(&mut self, next: Option<Duration>) -> bool {
        let was_high = self.is_high;
        match (self.is_high, next) {
            (false, Some(next)) if next <= LATENESS && !next.is_zero() => {
                self.is_high = true;
                let latency = schedule::ask_for_low_latency();
                log::debug!("the next look is in {next:?}: scheduling is {}", latency.name());
            }
            (true, Some(next)) if next <= RELAXED => {}
            (true, _) => {
                self.is_high = false;
                schedule::ask_for_nothing();
            }
            (false, _) => {}
        }
        self.is_high && !was_high
    }
}
