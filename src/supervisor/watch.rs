//! The memory source in PID 1: reads it, and tells once when it cannot be read and once when it can again.

use std::os::fd::BorrowedFd;

use crate::cgroup::held::Held;
use crate::cgroup::reading::{Reading, Scope};
use crate::cgroup::source::{Depth, Source};

/// A source and its last good reading.
pub struct Watch {
    source: Box<dyn Source>,
    held: Held,
    reading: Reading,
    failing: bool,
    failures: u32,
    /// How much of what is read is memini's own ballast. Bytes.
    ballast: u64,
}

impl Watch {
    /// Watches this source.
    pub fn new(source: Box<dyn Source>, held: Held, first: Reading) -> Self {
        Self { source, held, reading: first, failing: false, failures: 0, ballast: 0 }
    }

    /// Reads anew, with what the whole machine holds if that is asked for. `None`: it could not be read, and nothing is to be
    /// decided on the old numbers.
    pub fn read(&mut self, depth: Depth, with_held: bool) -> Option<&Reading> {
        let machine_held = if with_held { self.held.read() } else { None };
        match self.source.read(depth, &mut self.reading) {
            Ok(()) => {
                if self.failing {
                    self.failing = false;
                    log::info!("memory can be read again, after {} failed attempts", self.failures);
                    self.failures = 0;
                }
                leave_out(&mut self.reading, self.ballast);
                self.reading.machine_held = machine_held;
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

    /// From now on so much of what is read is memini's own ballast: it can be let go at any time, and is no reason to stop
    /// an app.
    pub fn hold_ballast(&mut self, bytes: u64) {
        self.ballast = bytes;
    }

    /// Ready with POLLPRI when the kernel has counted a memory event.
    pub fn events(&self) -> Option<BorrowedFd<'_>> {
        self.source.events()
    }
}

/// Takes the ballast out of every level that counts it. The process tree never does: memini is not below itself.
fn leave_out(reading: &mut Reading, ballast: u64) {
    for level in reading.levels_mut().iter_mut().filter(|level| level.scope != Scope::Tree) {
        level.usage = level.usage.saturating_sub(ballast);
        if let Some(stat) = &mut level.stat {
            stat.anon = stat.anon.saturating_sub(ballast);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::Fake;
    use crate::cgroup::reading::{Level, Stat};

    #[test]
    fn the_ballast_is_none_of_the_apps_memory() {
        let mut reading = Reading::new();
        let stat = Some(Stat { anon: 90, file: 5, ..Stat::default() });
        assert!(reading.push(Level { usage: 100, stat, ..Level::default() }));
        assert!(reading.push(Level { scope: Scope::Tree, usage: 100, ..Level::default() }));
        let mut watch = Watch::new(Box::new(Fake::new([Some(reading)])), Held::open("/".as_ref()), Reading::new());
        watch.hold_ballast(30);
        for _ in 0..2 {
            let levels = watch.read(Depth::Full, false).unwrap().levels();
            assert_eq!((levels[0].usage, levels[0].stat.unwrap().anon, levels[1].usage), (70, 60, 100));
        }
    }

    #[test]
    fn a_failure_gives_nothing_to_decide_on_and_the_next_good_reading_does() {
        let source = Fake::new([Some(Reading::new()), None, None, Some(Reading::new())]);
        let mut watch = Watch::new(Box::new(source), Held::open("/".as_ref()), Reading::new());
        let answers: Vec<bool> = (0..4).map(|_| watch.read(Depth::Full, false).is_some()).collect();
        assert_eq!(answers, [true, false, false, true]);
        assert!(!watch.failing);
    }
}
