//! When the built-in evidence is taken: once a stage calls for it, as soon as memory leaves time for it.
//!
//! It takes some tenths of a second and a few megabytes: never while growth is being followed step by step, and never two at the
//! same time. The baseline is what the later ones are compared with: it is taken when memory has been calm for long enough, also
//! if a peak was looked at before.

use std::time::Duration;

use super::Engine;
use super::event::{Command, Exit, HookEnd, Note, Run};
use super::hooks::Work;
use super::levels::View;
use super::settings::Stage;
use super::time::Moment;
use super::watch::Incident;

/// A baseline that has failed is tried again after twice this time, or after twice the one that it is taken after.
const AGAIN: Duration = Duration::from_secs(60);

/// What is still to be taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    /// For this stage.
    stage: Option<Stage>,
    baseline: Baseline,
}

/// What the later looks are compared with.
#[derive(Clone, Copy, Debug, Default)]
struct Baseline {
    /// Whether it was taken.
    is_taken: bool,
    /// The run that takes it.
    run: Option<Run>,
    /// How often that has failed.
    failures: u32,
    /// Since when memory is calm, or it has failed.
    since: Moment,
}

impl Due {
    /// The incident is over: what it called for would tell of another time. Memory has to be calm for a while again.
    pub(super) fn forget(&mut self, now: Moment) {
        self.stage = None;
        self.baseline.since = now;
    }

    /// A run has ended. A baseline that has failed is tried again.
    pub(super) fn run_ended(&mut self, now: Moment, run: Run, end: HookEnd) {
        if self.baseline.run != Some(run) {
            return;
        }
        self.baseline.run = None;
        if end == HookEnd::Ended(Exit::Code(0)) {
            self.baseline.is_taken = true;
        } else {
            self.baseline.fail(now);
        }
    }
}

impl Baseline {
    fn fail(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        self.since = now;
    }

    /// When it is to be taken. What has failed is tried less and less often: it may fail for good.
    fn time(&self, wait: Duration) -> Moment {
        let wait = match self.failures {
            0 => wait,
            failures => wait.max(AGAIN).saturating_mul(2u32.saturating_pow(failures)),
        };
        self.since.after(wait)
    }
}

impl Engine {
    /// A stage calls for evidence. The highest one counts.
    pub(super) fn call_for_evidence(&mut self, stage: Stage) {
        if self.settings.evidence {
            self.watch.due.stage = self.watch.due.stage.max(Some(stage));
        }
    }

    /// Takes what is due, if now is the time. `time` is how long it may take.
    pub(super) fn take_evidence(&mut self, view: &View, time: Duration, commands: &mut Vec<Command>) {
        let Some(stage) = self.watch.due.stage.or_else(|| self.baseline_due()) else { return };
        let is_busy = self.is_pressed() || self.brake.is_active() || self.runs.running(Work::Evidence).is_some();
        if is_busy {
            return;
        }
        self.watch.due.stage = None;
        if self.settings.dry_run {
            commands.push(Command::Note(Note::EvidenceStarted { run: None, stage }));
            return;
        }
        let run = self.runs.start_evidence(self.now, stage, view.sample.room, time, commands);
        if stage == Stage::Normal {
            self.watch.due.baseline.run = run;
            if run.is_none() {
                self.watch.due.baseline.fail(self.now);
            }
        }
    }

    fn baseline_due(&self) -> Option<Stage> {
        let is_calm = self.watch.incident == Incident::None && self.watch.stage == Stage::Normal;
        let baseline = &self.watch.due.baseline;
        let wanted = self.settings.evidence && !self.settings.dry_run && !baseline.is_taken && baseline.run.is_none();
        let is_time = self.now >= baseline.time(self.settings.baseline_after);
        (is_calm && wanted && is_time).then_some(Stage::Normal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::Event;
    use crate::engine::settings::Settings;
    use crate::engine::simulator::Scene;

    fn settings() -> Settings {
        Settings { evidence: true, baseline_after: Duration::from_secs(60), ..Settings::default() }
    }

    /// The stages for which evidence is taken.
    fn taken(commands: &[Command]) -> Vec<(Run, Stage)> {
        let taken = |command: &Command| match command {
            Command::TakeEvidence { run, stage, .. } => Some((*run, *stage)),
            _ => None,
        };
        commands.iter().filter_map(taken).collect()
    }

    fn later(scene: &mut Scene, seconds: u64) {
        scene.now = scene.now.after(Duration::from_secs(seconds));
    }

    /// Those for which it is taken when so many seconds later so many percent are in use.
    fn after(scene: &mut Scene, seconds: u64, percent: u64) -> Vec<(Run, Stage)> {
        later(scene, seconds);
        taken(&scene.read(percent, 0))
    }

    fn end(scene: &mut Scene, run: u32) -> Vec<Command> {
        end_as(scene, run, HookEnd::Ended(Exit::Code(0)))
    }

    fn end_as(scene: &mut Scene, run: u32, end: HookEnd) -> Vec<Command> {
        scene.tell(Duration::ZERO, Event::RunEnded { run: Run(run), end })
    }

    #[test]
    fn the_baseline_is_taken_once_when_its_time_has_come() {
        let mut scene = Scene::new(settings());
        assert_eq!(taken(&scene.read(10, 0)), []);
        assert_eq!(after(&mut scene, 59, 10), []);
        assert_eq!(after(&mut scene, 1, 10), [(Run(1), Stage::Normal)]);
        end(&mut scene, 1);
        assert_eq!(after(&mut scene, 600, 10), []);
    }

    #[test]
    fn a_peak_that_was_looked_at_before_is_no_baseline_and_the_baseline_follows_when_memory_is_calm() {
        let mut scene = Scene::new(settings());
        scene.read(10, 0);
        assert_eq!(after(&mut scene, 30, 65), [(Run(1), Stage::Trace)]);
        end(&mut scene, 1);
        assert_eq!(after(&mut scene, 60, 10), []);
        later(&mut scene, 2);
        // The incident is over; memory has to be calm for as long as at the start.
        assert_eq!(taken(&scene.read(10, 0)), []);
        assert_eq!(after(&mut scene, 59, 10), []);
        assert_eq!(after(&mut scene, 1, 10), [(Run(2), Stage::Normal)]);
        end(&mut scene, 2);
        assert_eq!(after(&mut scene, 6000, 10), []);
    }

    #[test]
    fn a_baseline_that_fails_is_tried_again_less_and_less_often() {
        let mut scene = Scene::new(settings());
        scene.read(10, 0);
        assert_eq!(after(&mut scene, 60, 10), [(Run(1), Stage::Normal)]);
        for (run, wait, failure) in [
            (1, 120, HookEnd::NotStarted),
            (2, 240, HookEnd::Ended(Exit::Signal(crate::sys::signal::Signal::KILL))),
            (3, 480, HookEnd::NotStarted),
        ] {
            end_as(&mut scene, run, failure);
            assert_eq!(after(&mut scene, wait - 1, 10), [], "{run}");
            assert_eq!(after(&mut scene, 1, 10), [(Run(run + 1), Stage::Normal)]);
        }
        end(&mut scene, 4);
        assert_eq!(after(&mut scene, 6000, 10), []);
    }

    #[test]
    fn two_looks_are_never_taken_at_once_and_the_higher_stage_counts() {
        let mut scene = Scene::new(settings());
        scene.read(10, 0);
        assert_eq!(after(&mut scene, 600, 65), [(Run(1), Stage::Trace)]);
        assert_eq!(after(&mut scene, 600, 85), []);
        end(&mut scene, 1);
        assert_eq!(after(&mut scene, 1, 85), [(Run(2), Stage::Capture)]);
    }

    #[test]
    fn a_dry_run_looks_at_nobody() {
        let mut scene = Scene::new(Settings { dry_run: true, ..settings() });
        scene.read(10, 0);
        later(&mut scene, 600);
        let commands = scene.read(65, 0);
        assert_eq!(taken(&commands), []);
        assert!(commands.contains(&Command::Note(Note::EvidenceStarted { run: None, stage: Stage::Trace })));
    }
}
