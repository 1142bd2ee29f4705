//! What the kernel's OOM killer did, told from its counter.

use std::time::Duration;

use super::time::Moment;

/// The counter rises before the dead are collected. Only if the app outlives it by this long, another process died.
const SURVIVED: Duration = Duration::from_secs(1);

/// A large process takes some seconds to be torn down; if the app's death by SIGKILL follows within this, it is the one.
const TEARDOWN: Duration = Duration::from_secs(5);

/// Watches `oom_kill`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Oom {
    noted: Option<u64>,
    seen: u64,
    /// The last rise.
    rose: Option<Moment>,
    /// The first rise that is not noted yet.
    waiting: Option<Moment>,
}

impl Oom {
    /// Takes the counter. If it rose and the app has outlived that, it comes back by how much.
    pub fn check(&mut self, now: Moment, kills: u64) -> Option<u64> {
        let noted = *self.noted.get_or_insert(kills);
        if kills > self.seen.max(noted) {
            self.rose = Some(now);
            self.waiting.get_or_insert(now);
        }
        self.seen = kills;
        self.waiting.take_if(|rose| now.since(*rose) >= SURVIVED)?;
        self.noted = Some(kills);
        Some(kills.saturating_sub(noted)).filter(|times| *times > 0)
    }

    /// Whether it has killed and that is not told yet.
    pub const fn is_pending(&self) -> bool {
        self.waiting.is_some()
    }

    /// How often it has killed without that being noted yet. Asked at the app's end, when nothing will outlive anything.
    pub fn untold(&self) -> u64 {
        self.noted.map_or(0, |noted| self.seen.saturating_sub(noted))
    }

    /// Whether a death by SIGKILL now is the OOM killer's.
    pub fn explains_death(&self, now: Moment) -> bool {
        self.waiting.is_some() || self.rose.is_some_and(|rose| now.since(rose) <= TEARDOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::default().after(Duration::from_millis(millis))
    }

    #[test]
    fn kills_before_the_start_are_not_ours() {
        let mut oom = Oom::default();
        assert_eq!(oom.check(at(0), 7), None);
        assert_eq!(oom.check(at(5000), 7), None);
        assert!(!oom.explains_death(at(5000)));
    }

    #[test]
    fn a_kill_that_the_app_outlives_is_noted_once() {
        let mut oom = Oom::default();
        let notes: Vec<_> = [(0, 7), (100, 7), (200, 8), (300, 10), (1250, 10), (1300, 10), (2400, 10), (9000, 10)]
            .into_iter()
            .filter_map(|(millis, kills)| Some((millis, oom.check(at(millis), kills)?)))
            .collect();
        assert_eq!(notes, [(1250, 3)]);
    }

    #[test]
    fn a_kill_just_before_the_death_explains_it_even_if_it_took_seconds() {
        let mut oom = Oom::default();
        oom.check(at(0), 0);
        assert!(!oom.explains_death(at(0)));
        oom.check(at(100), 1);
        assert!(oom.explains_death(at(100)));
        assert_eq!(oom.check(at(2000), 1), Some(1));
        assert!(oom.explains_death(at(5000)), "a large process takes its time to die");
        assert!(!oom.explains_death(at(60_000)), "that was another process");
    }

    #[test]
    fn a_kill_that_nobody_noted_explains_a_death_however_late() {
        let mut oom = Oom::default();
        oom.check(at(0), 0);
        oom.check(at(100), 1);
        assert!(oom.explains_death(at(60_000)));
    }

    #[test]
    fn a_counter_that_falls_is_no_kill() {
        let mut oom = Oom::default();
        oom.check(at(0), 5);
        assert_eq!(oom.check(at(2000), 0), None);
        assert!(!oom.explains_death(at(2000)));
        oom.check(at(3000), 1);
        oom.check(at(3500), 9);
        assert_eq!(oom.check(at(5000), 0), None, "nor is one that comes back to where it was");
    }
}
