//! Wakes that come late: memini was descheduled, throttled by a CPU quota, or stopped.

use std::time::Duration;

use super::event::{Command, Note};
use super::peak::Peak;
use super::time::Moment;

/// Lateness of some milliseconds is how machines are; beyond this, growth may have passed unseen.
const LATE: Duration = Duration::from_millis(100);

/// A throttled container is late all the time: it is counted, and told of once a minute.
const QUIET: Duration = Duration::from_secs(60);

/// How long a late wake is kept in mind: a machine that was busy is likely to be so still.
const REMEMBERED: Duration = Duration::from_secs(1);

/// How late memini was woken lately: the most of the last second or two.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lateness(Peak<Duration>);

impl Lateness {
    /// Memini was woken so late.
    pub fn add(&mut self, now: Moment, late: Duration) {
        self.0.add(now, late, REMEMBERED);
    }

    /// How late it may be the next time.
    pub fn expected(&self) -> Duration {
        self.0.highest()
    }
}

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
    fn the_lateness_to_be_expected_is_the_most_of_the_last_seconds() {
        let mut lateness = Lateness::default();
        let expected: Vec<u128> =
            [(5000, 20), (5500, 3), (5999, 1), (6000, 2), (6900, 0), (7000, 1), (8500, 0), (11_000, 0)]
                .map(|(millis, late)| {
                    lateness.add(Moment::default().after(Duration::from_millis(millis)), Duration::from_millis(late));
                    lateness.expected().as_millis()
                })
                .to_vec();
        assert_eq!(expected, [20, 20, 20, 20, 20, 2, 1, 0]);
    }

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
