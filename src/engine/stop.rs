//! Leading the app out: last hooks, the stop signal, the grace period, and the end by force.

use std::time::Duration;

use super::event::{Command, Note, Run, StopReason};
use super::hooks::Work;
use super::levels::View;
use super::rate::span;
use super::settings::Stage;
use super::time::Moment;
use super::urgency::must_kill;
use super::{Engine, Phase};

/// A process in uninterruptible sleep does not die of SIGKILL before it wakes up, and new ones may have been forked by
/// somebody outside of the tree: it is tried again and again.
const AGAIN: Duration = Duration::from_secs(2);

/// Evidence that has less time than this is not begun: a worker's start alone may take a part of it.
const ENOUGH_FOR_EVIDENCE: Duration = Duration::from_millis(300);

/// How far a stop has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// The last hooks run, at most until then. Those that began before `first` are not waited for.
    LastHooks { until: Moment, first: Run },
    /// The app was asked to leave and has until then.
    Grace { until: Moment },
    /// It was killed, and will be again then if it is still there.
    Kill { again: Moment },
}

impl Stop {
    pub(super) const fn deadline(&self) -> Moment {
        match self {
            Self::LastHooks { until, .. } | Self::Grace { until } => *until,
            Self::Kill { again } => *again,
        }
    }

    pub(super) const fn is_kill(&self) -> bool {
        matches!(self, Self::Kill { .. })
    }
}

impl Engine {
    /// Begins to stop the app. Hooks from `first` on have only just begun: they belong to the last ones.
    pub(super) fn stop(&mut self, reason: StopReason, view: &View, first: Run, commands: &mut Vec<Command>) {
        let note = Command::Note(Note::Stopping { reason, sample: view.sample });
        if self.settings.dry_run {
            return self.pretend(note, commands);
        }
        commands.push(note);
        self.watch.free_ballast(commands);
        self.run_missed_hooks(view, commands);
        self.run_hooks(Stage::Stop, commands);
        let patience = self.settings.hook_timeout.min(self.settings.grace).min(half_of_what_is_left(view));
        if patience >= ENOUGH_FOR_EVIDENCE {
            self.call_for_evidence(Stage::Stop);
            self.take_evidence(view, patience, commands);
        }
        let first = self.runs.running(Work::Evidence).map_or(first, |run| run.min(first));
        self.phase = Phase::Stopping(Stop::LastHooks { until: self.now.after(patience), first });
    }

    /// What lower stages did not do because of a cooldown is done now: there will be no other time.
    fn run_missed_hooks(&mut self, view: &View, commands: &mut Vec<Command>) {
        if view.steps.of(Stage::Trace).is_some() && !self.watch.trace.is_used() {
            self.watch.trace.spend(self.now);
            self.run_hooks(Stage::Trace, commands);
        }
        let captures = &mut self.watch.captures;
        if captures.none_yet() && captures.taken() < self.settings.max_captures && self.calls_for_capture(view) {
            self.watch.captures.take(self.now, view.sample.gauged);
            self.run_hooks(Stage::Capture, commands);
        }
    }

    /// Memory goes on growing while the app is being stopped: the rest must go faster, or by force.
    pub(super) fn reconsider(&mut self, stop: Stop, view: &View, commands: &mut Vec<Command>) {
        if self.is_to_be_killed(view) {
            self.kill(view, commands);
        } else if let Stop::LastHooks { until, first } = stop {
            let until = until.min(self.now.after(half_of_what_is_left(view)));
            self.phase = Phase::Stopping(Stop::LastHooks { until, first });
        }
    }

    /// Whether the growth must be ended by force.
    pub(super) fn is_to_be_killed(&self, view: &View) -> bool {
        let grace_left = match self.phase {
            Phase::Stopping(Stop::LastHooks { .. }) => Some(self.settings.grace),
            Phase::Stopping(Stop::Grace { until }) => Some(until.since(self.now)),
            Phase::Stopping(Stop::Kill { .. }) => return false,
            Phase::Running | Phase::Leaving(_) | Phase::Gone => None,
        };
        must_kill(view, &self.settings, grace_left)
    }

    /// Takes the next step of a stop when it is time.
    pub(super) fn proceed(&mut self, stop: Stop, commands: &mut Vec<Command>) {
        let due = stop.deadline() <= self.now;
        let next = match stop {
            Stop::LastHooks { first, .. } if due || !self.runs.any_since(first) => {
                self.runs.cut_evidence(self.now, commands);
                commands.push(Command::Note(Note::Terminating));
                commands.push(Command::StopApp);
                Stop::Grace { until: self.now.after(self.settings.grace) }
            }
            Stop::Grace { .. } if due => {
                commands.push(Command::Note(Note::GraceOver));
                self.look_and_kill(commands);
                self.kill_again_later()
            }
            Stop::Kill { .. } if due => {
                commands.extend([Command::FreezeTree, Command::KillTree]);
                self.kill_again_later()
            }
            stop => stop,
        };
        self.phase = Phase::Stopping(next);
    }

    /// Ends the growth by force.
    pub(super) fn kill(&mut self, view: &View, commands: &mut Vec<Command>) {
        let note = Command::Note(Note::Killing { sample: view.sample });
        if self.settings.dry_run {
            return self.pretend(note, commands);
        }
        commands.push(note);
        self.watch.free_ballast(commands);
        self.look_and_kill(commands);
        self.phase = Phase::Stopping(self.kill_again_later());
        self.runs.cut_evidence(self.now, commands);
        // Last, because a fork takes a millisecond in which memory is filled.
        if !self.watch.kill.is_used() {
            self.watch.kill.spend(self.now);
            self.run_hooks(Stage::Kill, commands);
        }
    }

    /// What a stop does not stop is not to be looked at first; nor is anything where a look itself would need what is not
    /// there any more.
    fn look_and_kill(&self, commands: &mut Vec<Command>) {
        if !self.brake.is_defied() && !self.watch.levels.are_scarce() {
            commands.extend([Command::FreezeTree, Command::NoteProcesses]);
        }
        commands.push(Command::KillTree);
    }

    fn kill_again_later(&self) -> Stop {
        Stop::Kill { again: self.now.after(AGAIN) }
    }

    /// Dry run: says once a cooldown what would be done.
    fn pretend(&mut self, note: Command, commands: &mut Vec<Command>) {
        if self.watch.pretended.is_none_or(|last| self.now.since(last) >= self.settings.cooldown) {
            self.watch.pretended = Some(self.now);
            commands.push(note);
        }
    }
}

/// The last hooks may take half of the time until the limit; the other half is the app's.
fn half_of_what_is_left(view: &View) -> Duration {
    view.sample.time_to_limit.map_or(Duration::MAX, |seconds| span(seconds / 2.0))
}
