//! The ladder: where each stage begins under a limit, and where it ends again.

use super::settings::{Stage, Threshold, Thresholds};

/// A stage ends this share of the limit below where it began, so that what swings around a threshold does not flap. A
/// collector's young generation and the per-CPU stock of pages stay well inside it.
const HYSTERESIS: u64 = 20;

/// The thresholds in bytes under one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    limit: u64,
    /// One for each of [`Stage::LADDER`]; those that are there ascend.
    levels: [Option<u64>; Stage::LADDER.len()],
}

impl Steps {
    /// Resolves the thresholds under this limit. Beside them comes the lowest stage that is switched on but can never
    /// begin, because it does not lie below the limit or above a lower stage; it is left out.
    ///
    /// Where two stages contradict each other, the one stays that protects better: stop (it lets the app leave), then
    /// kill, then capture, then trace.
    pub fn resolve(thresholds: &Thresholds, limit: u64) -> (Self, Option<Stage>) {
        let mut steps = Self { limit, levels: [None; Stage::LADDER.len()] };
        for stage in [Stage::Stop, Stage::Kill, Stage::Capture, Stage::Trace] {
            let level = thresholds.of(stage).bytes(limit).filter(|level| steps.ascends_with(stage, *level));
            if let Some((_, place)) = Stage::LADDER.iter().zip(&mut steps.levels).find(|(known, _)| **known == stage) {
                *place = level;
            }
        }
        let unreachable = Stage::LADDER
            .into_iter()
            .find(|stage| thresholds.of(*stage) != Threshold::Off && steps.of(*stage).is_none());
        (steps, unreachable)
    }

    fn ascends_with(&self, stage: Stage, level: u64) -> bool {
        self.iter().all(|(other, at)| if other < stage { at < level } else { at > level })
    }

    /// The stages that can begin, and where, from low to high.
    fn iter(&self) -> impl DoubleEndedIterator<Item = (Stage, u64)> {
        Stage::LADDER.into_iter().zip(self.levels).filter_map(|(stage, level)| Some((stage, level?)))
    }

    /// The same without the stages that end the app.
    #[must_use]
    pub fn without_force(mut self) -> Self {
        for (_, level) in Stage::LADDER.iter().zip(&mut self.levels).filter(|(stage, _)| **stage >= Stage::Stop) {
            *level = None;
        }
        self
    }

    /// Where this stage begins; `None` if it cannot.
    pub fn of(&self, stage: Stage) -> Option<u64> {
        self.iter().find(|(known, _)| *known == stage).map(|(_, level)| level)
    }

    /// Where the first stage begins.
    pub fn lowest(&self) -> Option<u64> {
        self.iter().next().map(|(_, level)| level)
    }

    /// The stage that so many bytes call for.
    pub fn reached(&self, bytes: u64) -> Stage {
        self.iter().rev().find(|(_, level)| *level <= bytes).map_or(Stage::Normal, |(stage, _)| stage)
    }

    /// The highest stage that so many bytes do not end.
    pub fn held(&self, bytes: u64) -> Stage {
        self.iter().rev().find(|(_, level)| self.end(*level) <= bytes).map_or(Stage::Normal, |(stage, _)| stage)
    }

    /// Below this the stage ends that begins at `level`. Half of it at the lowest, or a tiny threshold would never end.
    fn end(&self, level: u64) -> u64 {
        level.saturating_sub((self.limit / HYSTERESIS).min(level / 2))
    }

    /// How far it is to the next stage at which something is to be done, or to the limit when all have begun.
    pub fn distance(&self, bytes: u64, acts: impl Fn(Stage) -> bool) -> u64 {
        let next = self.iter().find(|(stage, level)| *level > bytes && acts(*stage));
        next.map_or(self.limit, |(_, level)| level).saturating_sub(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::settings::Settings;
    use Threshold::{Below, Bytes, Off, Percent};

    fn steps(limit: u64) -> Steps {
        Steps::resolve(&Thresholds::default(), limit).0
    }

    #[test]
    fn a_stage_begins_at_its_threshold() {
        let steps = steps(1000);
        for (bytes, stage) in [
            (0, Stage::Normal),
            (599, Stage::Normal),
            (600, Stage::Trace),
            (799, Stage::Trace),
            (800, Stage::Capture),
            (919, Stage::Capture),
            (920, Stage::Stop),
            (970, Stage::Kill),
            (5000, Stage::Kill),
        ] {
            assert_eq!(steps.reached(bytes), stage, "{bytes}");
        }
    }

    #[test]
    fn without_force_no_app_is_ended() {
        let gentle = steps(1000).without_force();
        assert_eq!(Stage::LADDER.map(|stage| gentle.of(stage)), [Some(600), Some(800), None, None]);
        assert_eq!((gentle.reached(990), gentle.held(990)), (Stage::Capture, Stage::Capture));
    }

    #[test]
    fn a_stage_ends_a_twentieth_of_the_limit_below() {
        let steps = steps(1000);
        for (bytes, stage) in [
            (549, Stage::Normal),
            (550, Stage::Trace),
            (749, Stage::Trace),
            (750, Stage::Capture),
            (869, Stage::Capture),
            (870, Stage::Stop),
            (919, Stage::Stop),
            (920, Stage::Kill),
        ] {
            assert_eq!(steps.held(bytes), stage, "{bytes}");
        }
    }

    #[test]
    fn a_threshold_near_nothing_still_ends() {
        let thresholds = Thresholds { trace: Bytes(10), ..Thresholds::default() };
        let (steps, _) = Steps::resolve(&thresholds, 1000);
        assert_eq!((steps.held(5), steps.held(4)), (Stage::Trace, Stage::Normal));
    }

    #[test]
    fn the_distance_leads_to_the_next_stage_and_at_last_to_the_limit() {
        let steps = steps(1000);
        for (bytes, distance) in [(0, 600), (599, 1), (600, 200), (969, 1), (970, 30), (1000, 0), (1200, 0)] {
            assert_eq!(steps.distance(bytes, |_| true), distance, "{bytes}");
        }
    }

    #[test]
    fn a_stage_at_which_nothing_is_done_is_not_hurried_to() {
        let steps = steps(1000);
        for (hooks, distance) in [(vec![], 920), (vec![Stage::Capture], 800), (vec![Stage::Trace, Stage::Kill], 600)] {
            let settings = Settings { hooks, ..Settings::default() };
            assert_eq!(steps.distance(0, |stage| settings.acts_at(stage)), distance, "{:?}", settings.hooks);
        }
    }

    #[test]
    fn stages_that_contradict_each_other_give_way_to_those_that_protect() {
        let defaults = Thresholds::default();
        for (thresholds, limit, kept, unreachable) in [
            (defaults, 1000, [Some(600), Some(800), Some(920), Some(970)], None),
            (
                Thresholds { trace: Bytes(960), ..defaults },
                1000,
                [None, Some(800), Some(920), Some(970)],
                Some(Stage::Trace),
            ),
            (
                Thresholds { kill: Bytes(100), ..defaults },
                1000,
                [Some(600), Some(800), Some(920), None],
                Some(Stage::Kill),
            ),
            (
                Thresholds { capture: Below(64), ..defaults },
                32,
                [Some(19), None, Some(29), Some(31)],
                Some(Stage::Capture),
            ),
            (
                Thresholds { capture: Percent(95.0), stop: Off, ..defaults },
                1000,
                [Some(600), Some(950), None, Some(970)],
                None,
            ),
            (
                Thresholds { trace: Bytes(920), ..defaults },
                1000,
                [None, Some(800), Some(920), Some(970)],
                Some(Stage::Trace),
            ),
            (defaults, 0, [None; 4], Some(Stage::Trace)),
        ] {
            let (steps, missing) = Steps::resolve(&thresholds, limit);
            assert_eq!(Stage::LADDER.map(|stage| steps.of(stage)), kept, "{thresholds:?} {limit}");
            assert_eq!(missing, unreachable, "{thresholds:?} {limit}");
            assert_eq!(steps.lowest(), kept.into_iter().flatten().next());
        }
        assert_eq!(steps(1000).of(Stage::Normal), None);
    }
}
