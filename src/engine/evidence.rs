//! When the built-in evidence is taken: once a stage calls for it, as soon as memory leaves time for it.
//!
//! It takes some tenths of a second and a few megabytes: never while growth is being followed step by step, and never two at the
//! same time. The first of all is the baseline, which the later ones are compared with.

use super::Engine;
use super::event::{Command, Note};
use super::hooks::Work;
use super::levels::View;
use super::settings::Stage;
use super::time::Moment;
use super::watch::Incident;

/// What is still to be taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    /// For this stage.
    stage: Option<Stage>,
    /// Whether there is anything to compare with, or soon will be.
    has_baseline: bool,
}

impl Due {
    /// The incident is over: what it called for would tell of another time.
    pub(super) fn forget(&mut self) {
        self.stage = None;
    }
}

impl Engine {
    /// A stage calls for evidence. The highest one counts.
    pub(super) fn call_for_evidence(&mut self, stage: Stage) {
        if self.settings.evidence {
            self.watch.due.stage = self.watch.due.stage.max(Some(stage));
        }
    }

    /// Takes what is due, if now is the time.
    pub(super) fn take_evidence(&mut self, view: &View, commands: &mut Vec<Command>) {
        let Some(stage) = self.watch.due.stage.or_else(|| self.baseline_due()) else { return };
        let is_busy = self.is_pressed() || self.brake.is_active() || self.runs.running(Work::Evidence).is_some();
        if is_busy {
            return;
        }
        self.watch.due = Due { stage: None, has_baseline: true };
        if self.settings.dry_run {
            commands.push(Command::Note(Note::EvidenceStarted { run: None, stage }));
        } else {
            self.runs.start_evidence(self.now, stage, view.sample.room, self.settings.hook_timeout, commands);
        }
    }

    fn baseline_due(&self) -> Option<Stage> {
        let is_calm = self.watch.incident == Incident::None && self.watch.stage == Stage::Normal;
        let wanted = self.settings.evidence && !self.settings.dry_run && !self.watch.due.has_baseline;
        let is_time = self.now >= Moment::default().after(self.settings.baseline_after);
        (is_calm && wanted && is_time).then_some(Stage::Normal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::event::{Event, Exit, HookEnd, Run};
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

    fn end(scene: &mut Scene, run: u32) -> Vec<Command> {
        scene.tell(Duration::ZERO, Event::RunEnded { run: Run(run), end: HookEnd::Ended(Exit::Code(0)) })
    }

    #[test]
    fn the_baseline_is_taken_once_when_its_time_has_come() {
        let mut scene = Scene::new(settings());
        assert_eq!(taken(&scene.read(10, 0)), []);
        later(&mut scene, 59);
        assert_eq!(taken(&scene.read(10, 0)), []);
        later(&mut scene, 1);
        assert_eq!(taken(&scene.read(10, 0)), [(Run(1), Stage::Normal)]);
        end(&mut scene, 1);
        later(&mut scene, 600);
        assert_eq!(taken(&scene.read(10, 0)), []);
    }

    #[test]
    fn memory_that_is_high_before_is_looked_at_then_and_the_baseline_is_left_out() {
        let mut scene = Scene::new(settings());
        scene.read(10, 0);
        later(&mut scene, 30);
        assert_eq!(taken(&scene.read(65, 0)), [(Run(1), Stage::Trace)]);
        end(&mut scene, 1);
        later(&mut scene, 60);
        assert_eq!(taken(&scene.read(10, 0)), []);
        later(&mut scene, 2);
        assert_eq!(taken(&scene.read(10, 0)), []);
    }

    #[test]
    fn two_looks_are_never_taken_at_once_and_the_higher_stage_counts() {
        let mut scene = Scene::new(settings());
        scene.read(10, 0);
        later(&mut scene, 600);
        assert_eq!(taken(&scene.read(65, 0)), [(Run(1), Stage::Trace)]);
        later(&mut scene, 600);
        assert_eq!(taken(&scene.read(85, 0)), []);
        end(&mut scene, 1);
        later(&mut scene, 1);
        assert_eq!(taken(&scene.read(85, 0)), [(Run(2), Stage::Capture)]);
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
