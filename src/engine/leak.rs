//! What a verdict leads to: a note, and on request an early look at the processes. Never a stop by itself: above the stop
//! threshold [`urgency`](super::urgency) asks for it.

use super::event::{Command, Note, Sample};
use super::hooks::Work;
use super::levels::View;
use super::settings::{OnLeak, Settings, Stage};
use super::time::Moment;
use super::trend::{Bounds, Trending, UNIT, Verdict};
use super::watch::Incident;
use super::{Engine, Phase};

/// Growth that will be at the limit within so many units, a day, may have no time to be called a leak.
const SOON: u32 = 24 * 60;

/// What follows from the last verdict.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Early {
    /// It is to be told, and looked at.
    wanted: Option<(Verdict, Trending)>,
    last: Option<Moment>,
    taken: u32,
    /// Whether growth of this verdict was looked at, and when it was last asked whether it should be.
    is_looked_at: bool,
    asked: Moment,
}

impl Early {
    /// Whether growth like this is to be looked at now.
    fn is_due(&self, now: Moment, trending: &Trending, settings: &Settings) -> bool {
        let is_asked = settings.on_leak == OnLeak::Capture && settings.evidence;
        let is_soon = trending.time_to_limit.is_some_and(|left| left < UNIT.saturating_mul(SOON).as_secs_f64());
        let is_worth_it = match trending.verdict {
            Verdict::Steady => false,
            Verdict::Growing => is_soon,
            Verdict::Leak => true,
        };
        let has_cooled = self.last.is_none_or(|last| now.since(last) >= settings.cooldown);
        is_asked && is_worth_it && has_cooled && self.taken < settings.max_captures
    }

    /// Whether it is to be asked once more whether growth of this verdict should be looked at: once a unit.
    fn waits(&self, now: Moment, verdict: Verdict) -> bool {
        verdict > Verdict::Steady && !self.is_looked_at && self.wanted.is_none() && now.since(self.asked) >= UNIT
    }
}

impl Engine {
    /// Follows the trend of what the app itself holds, not that of its neighbours.
    pub(super) fn follow(&mut self, view: &View, commands: &mut Vec<Command>) {
        let (Phase::Running, Some(own)) = (&self.phase, self.watch.levels.own()) else { return };
        let bounds = view.sample.limit.zip(view.sample.room).map(|(limit, room)| Bounds { limit, room });
        let before = self.watch.trend.verdict();
        if let Some(trending) = self.watch.trend.add(self.now, own, bounds) {
            let from = self.watch.early.wanted.map_or(before, |(from, _)| from);
            self.watch.early.wanted = Some((from, trending));
            self.watch.early.is_looked_at = false;
        } else if self.watch.early.waits(self.now, before) {
            // The limit may have come nearer since then, or the cooldown have passed.
            self.watch.early.wanted = Some((before, self.watch.trend.trending(view.sample.room)));
        }
        let Some((from, trending)) = self.watch.early.wanted else { return };
        let mut has_looked = false;
        // Within an incident the ladder takes what is to be taken.
        let is_calm = self.watch.incident == Incident::None && self.watch.stage == Stage::Normal;
        if is_calm && self.watch.early.is_due(self.now, &trending, &self.settings) {
            let is_busy = self.is_pressed() || self.brake.is_active() || self.runs.running(Work::Evidence).is_some();
            if is_busy {
                return;
            }
            self.open(commands);
            self.call_for_evidence(Stage::Trace);
            self.watch.early.last = Some(self.now);
            self.watch.early.taken = self.watch.early.taken.saturating_add(1);
            self.watch.early.is_looked_at = true;
            has_looked = true;
        }
        (self.watch.early.wanted, self.watch.early.asked) = (None, self.now);
        // Also told again to an incident of its own.
        if trending.verdict != from || has_looked {
            let Trending { verdict, rate, time_to_limit, horizon } = trending;
            let sample = Sample { rate, time_to_limit, ..view.sample };
            commands.push(Command::Note(Note::Verdict { verdict, from, horizon, sample }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::event::StopReason;
    use crate::engine::simulator::{GIB, Memory, World};

    /// So large that memini looks once a second.
    const LIMIT: u64 = 64 * GIB;

    fn hours(hours: f64) -> Duration {
        Duration::from_secs_f64(hours * 3600.0)
    }

    /// From so many percent of the limit, so many an hour, until so many hours have passed.
    fn leak(start: f64, rate: f64, end: f64) -> impl Fn(f64) -> Memory {
        let share = move |seconds: f64| (start + rate * (seconds / 3600.0).min(end)) / 100.0;
        move |seconds| Memory { heap: (share(seconds) * LIMIT as f64) as u64, cache: GIB }
    }

    fn verdicts(world: &World) -> Vec<Verdict> {
        let verdict = |command: &Command| match command {
            Command::Note(Note::Verdict { verdict, .. }) => Some(*verdict),
            _ => None,
        };
        world.log.iter().filter_map(|(_, command)| verdict(command)).collect()
    }

    fn looks(world: &World) -> Vec<Stage> {
        let look = |command: &Command| match command {
            Command::TakeEvidence { stage, .. } => Some(*stage),
            _ => None,
        };
        world.log.iter().filter_map(|(_, command)| look(command)).collect()
    }

    #[test]
    fn by_default_a_leak_is_only_told() {
        let settings = Settings { evidence: true, ..Settings::default() };
        let world = World::new(settings, LIMIT, leak(20.0, 1.0, 99.0)).play(hours(30.0));
        assert_eq!((verdicts(&world), looks(&world)), (vec![Verdict::Growing, Verdict::Leak], vec![Stage::Normal]));
        assert!(!world.log.iter().any(|(_, command)| matches!(command, Command::OpenIncident)));
    }

    #[test]
    fn on_request_a_leak_is_looked_at_long_before_the_trace_stage() {
        let settings = Settings { evidence: true, on_leak: OnLeak::Capture, ..Settings::default() };
        let world = World::new(settings, LIMIT, leak(20.0, 1.0, 99.0)).play(hours(30.0));
        assert_eq!(verdicts(&world), [Verdict::Growing, Verdict::Leak]);
        assert_eq!(looks(&world), [Stage::Normal, Stage::Trace]);
        let order: Vec<_> = world.log.iter().map(|(_, command)| command).collect();
        let place = |wanted: fn(&Command) -> bool| order.iter().position(|command| wanted(command)).unwrap();
        let opened = place(|command| matches!(command, Command::OpenIncident));
        let told = order.iter().rposition(|command| matches!(command, Command::Note(Note::Verdict { .. }))).unwrap();
        let looked = place(|command| matches!(command, Command::TakeEvidence { stage: Stage::Trace, .. }));
        let closed = place(|command| matches!(command, Command::CloseIncident));
        assert!(opened < told && told < looked && looked < closed, "{order:?}");
    }

    #[test]
    fn growth_that_may_not_live_to_be_called_a_leak_is_looked_at_as_well() {
        let settings = Settings { evidence: true, on_leak: OnLeak::Capture, ..Settings::default() };
        let world = World::new(settings.clone(), LIMIT, leak(20.0, 5.0, 99.0)).play(hours(6.0));
        assert_eq!((verdicts(&world), looks(&world)), (vec![Verdict::Growing], vec![Stage::Normal, Stage::Trace]));
        let none = Settings { max_captures: 0, ..settings };
        let world = World::new(none, LIMIT, leak(20.0, 5.0, 99.0)).play(hours(6.0));
        assert_eq!((verdicts(&world), looks(&world)), (vec![Verdict::Growing], vec![Stage::Normal]));
    }

    /// Regression test: it was asked for only when the verdict had just changed.
    #[test]
    fn growth_that_was_slow_enough_at_first_is_looked_at_when_less_than_a_day_is_left() {
        let settings = Settings { evidence: true, on_leak: OnLeak::Capture, ..Settings::default() };
        let world = World::new(settings, LIMIT, leak(20.0, 2.5, 99.0)).play(hours(15.0));
        assert_eq!(looks(&world), [Stage::Normal, Stage::Trace]);
        let at = |wanted: fn(&Command) -> bool| {
            let found = world.log.iter().find(|(_, command)| wanted(command)).unwrap();
            found.0.since(Moment::default()).as_secs_f64() / 3600.0
        };
        let told = at(|command| matches!(command, Command::Note(Note::Verdict { .. })));
        let looked = at(|command| matches!(command, Command::TakeEvidence { stage: Stage::Trace, .. }));
        // The rate is known to some percent.
        assert!(told < 4.0 && (6.0..12.0).contains(&looked), "{told} {looked}");
        assert!(!world.log.iter().any(|(_, command)| matches!(command, Command::Note(Note::StageBegan { .. }))));
    }

    #[test]
    fn above_the_stop_threshold_a_leak_is_stopped_in_a_calm_moment() {
        let world = World::new(Settings::default(), LIMIT, leak(40.0, 1.8, 99.0)).play(hours(30.0));
        let stopping = world.log.iter().find_map(|(_, command)| match command {
            Command::Note(Note::Stopping { reason, sample }) => Some((*reason, sample.gauged as f64 / LIMIT as f64)),
            _ => None,
        });
        let (reason, share) = stopping.unwrap();
        assert_eq!((reason, world.exit_code()), (StopReason::Leak, Some(75)));
        assert!((0.92..0.921).contains(&share), "{share}");
    }

    #[test]
    fn a_plateau_that_was_reached_within_a_day_is_left_alone() {
        let world = World::new(Settings::default(), LIMIT, leak(34.0, 3.0, 20.0)).play(hours(30.0));
        assert_eq!((verdicts(&world), world.exit_code()), (vec![Verdict::Growing, Verdict::Steady], None));
    }
}
