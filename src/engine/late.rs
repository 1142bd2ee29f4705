//! Wakes that come late: memini was descheduled, throttled by a CPU quota, or stopped.

use std::time::Duration;

use super::event::{Command, Note};
use super::time::Moment;

/// Lateness of some milliseconds is how machines are; beyond this, growth may have passed unseen.
const LATE: Duration = Duration::from_millis(100);

/// A throttled container is late all the time: it is counted, and told of once a minute.
const QUIET: Duration = Duration::from_secs(60);

/// Counts late wakes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Late {
    times: u64,
    told: Option<Moment>,
}

impl Late {
    /// Memini woke at `now` and should have at `due`.
    pub fn check(&mut self, now: Moment, due: Option<Moment>, commands: &mut Vec<Command>) {
        let Some(late) = due.map(|due| now.since(due)).filter(|late| *late > LATE) else { return };
        self.times = self.times.saturating_add(1);
        if self.told.is_none_or(|told| now.since(told) >= QUIET) {
            self.told = Some(now);
            commands.push(Command::Note(Note::LateWake { late, times: self.times }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_wakes_are_all_counted_and_told_once_a_minute() {
        let at = |millis| Moment::default().after(Duration::from_millis(millis));
        let mut late = Late::default();
        let mut commands = Vec::new();
        for (now, due) in [(50, None), (100, Some(0)), (301, Some(200)), (900, Some(400)), (60_301, Some(60_000))] {
            late.check(at(now), due.map(at), &mut commands);
        }
        let note = |late, times| Command::Note(Note::LateWake { late: Duration::from_millis(late), times });
        assert_eq!(commands, [note(101, 1), note(301, 3)]);
    }
}
