//! The second alarm: no memory is missing for the heap, but for the files; the same pages are read again and again.

use std::time::Duration;

use super::gauge::Gauged;
use super::time::Moment;

/// Refaults are counted over at least this long.
const WINDOW: Duration = Duration::from_secs(1);

/// So many pages a second (4 MB/s) are read again when a working set does not fit. A cold start has no refaults.
const REFAULTS: f64 = 1000.0;

/// `full avg10` in percent: every process of the group stood still for a fifth of the time.
const PRESSURE: f32 = 20.0;

/// It is thrashing once it has lasted so long.
const SUSTAINED: Duration = Duration::from_secs(5);

/// Watches for thrashing on one level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thrash {
    counted: Option<(Moment, u64)>,
    refaults: f64,
    since: Option<Moment>,
    noted: Option<Moment>,
}

impl Thrash {
    /// Takes a full reading. The refaults of file pages a second come back when the alarm is to be given.
    pub fn check(&mut self, now: Moment, level: &Gauged, pressure: Option<f32>, cooldown: Duration) -> Option<f64> {
        let stat = level.stat?;
        self.count(now, stat.workingset_refault_file);
        let starved = level.nominal.is_some_and(|limit| {
            stat.file.saturating_sub(stat.shmem) < limit / 20 && level.memory >= limit.saturating_sub(limit / 10)
        });
        let busy = self.refaults > REFAULTS || pressure.is_some_and(|percent| percent >= PRESSURE);
        if !(starved && busy) {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let quiet = self.noted.is_none_or(|noted| now.since(noted) >= cooldown);
        if now.since(since) < SUSTAINED || !quiet {
            return None;
        }
        self.noted = Some(now);
        Some(self.refaults)
    }

    fn count(&mut self, now: Moment, refaults: u64) {
        match self.counted {
            Some((then, _)) if now.since(then) < WINDOW => return,
            Some((then, before)) => {
                self.refaults = refaults.saturating_sub(before) as f64 / now.since(then).as_secs_f64();
            }
            None => {}
        }
        self.counted = Some((now, refaults));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::reading::Stat;

    const COOLDOWN: Duration = Duration::from_secs(60);

    fn level(memory: u64, file: u64, refaults: u64) -> Gauged {
        let stat = Stat { file, shmem: 10, workingset_refault_file: refaults, ..Stat::default() };
        Gauged { memory, nominal: Some(1000), stat: Some(stat), ..Gauged::default() }
    }

    /// The seconds at which an alarm is given when each half second reads so.
    fn alarms(seconds: u64, mut reading: impl FnMut(u64) -> (Gauged, Option<f32>)) -> Vec<u64> {
        let mut thrash = Thrash::default();
        (0..seconds * 2)
            .filter(|half| {
                let (level, pressure) = reading(half / 2);
                let now = Moment::default().after(Duration::from_millis(half * 500));
                thrash.check(now, &level, pressure, COOLDOWN).is_some()
            })
            .map(|half| half / 2)
            .collect()
    }

    #[test]
    fn files_that_are_read_again_and_again_give_one_alarm_a_cooldown() {
        assert_eq!(alarms(100, |second| (level(950, 20, second * 5000), None)), [6, 66]);
    }

    #[test]
    fn pressure_alone_is_enough_where_hardly_any_file_is_left() {
        assert_eq!(alarms(30, |_| (level(950, 20, 0), Some(20.0))), [5]);
        assert_eq!(alarms(30, |_| (level(950, 20, 0), Some(19.9))), [0; 0]);
    }

    #[test]
    fn it_is_no_thrashing_while_one_sign_is_missing() {
        assert_eq!(alarms(30, |second| (level(899, 20, second * 5000), Some(50.0))), [0; 0], "there is room");
        assert_eq!(alarms(30, |second| (level(950, 60, second * 5000), Some(50.0))), [0; 0], "there is cache");
        assert_eq!(alarms(30, |second| (level(950, 20, second * 900), None)), [0; 0], "few refaults");
        let unlimited = |second| Gauged { nominal: None, ..level(950, 20, second * 5000) };
        assert_eq!(alarms(30, |second| (unlimited(second), Some(50.0))), [0; 0], "there is no limit");
        let unknown = |second| Gauged { stat: None, ..level(950, 20, second * 5000) };
        assert_eq!(alarms(30, |second| (unknown(second), Some(50.0))), [0; 0], "nothing is known");
    }

    #[test]
    fn a_pause_begins_the_wait_anew() {
        assert_eq!(alarms(30, |second| (level(950, 20, 0), Some(if second == 4 { 0.0 } else { 50.0 }))), [10]);
    }
}
