//! What a verdict leads to: a note, and on request an early look at the processes. Never a stop by itself: above the stop
//! threshold [`urgency`](super::urgency) asks for it.

use super::event::{Command, Note};
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
        }
        let Some((from, trending)) = self.watch.early.wanted else { return };
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
        }
        self.watch.early.wanted = None;
        if trending.verdict != from {
            commands.push(Command::Note(Note::Verdict { from, trending, sample: view.sample }));
        }
    }
}
