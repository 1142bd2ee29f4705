//! The life of runs, of hooks and of the built-in evidence: started, timed, asked to end, ended, given up.

use std::time::Duration;

use super::event::{Command, HookEnd, Note, Run};
use super::settings::Stage;
use super::time::Moment;
use crate::sys::signal::Signal;

/// How many runs there may be at the same time.
const SLOTS: usize = 16;

/// Between TERM and KILL, and between KILL and giving up.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same once the app has ended: nobody waits long for the dead.
const LEAVING_PATIENCE: Duration = Duration::from_secs(1);

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A hook of the user's: its index.
    Hook(usize),
    /// The built-in evidence.
    Evidence,
}

impl Work {
    fn started(self, run: Run, stage: Stage) -> Note {
        match self {
            Self::Hook(hook) => Note::HookStarted { run: Some(run), hook, stage },
            Self::Evidence => Note::EvidenceStarted { run: Some(run), stage },
        }
    }

    fn ended(self, run: Run, end: HookEnd, after: Duration) -> Note {
        match self {
            Self::Hook(hook) => Note::HookEnded { run, hook, end, after },
            Self::Evidence => Note::EvidenceEnded { run, end, after },
        }
    }

    fn overdue(self, run: Run, signal: Signal, after: Duration) -> Note {
        match self {
            Self::Hook(hook) => Note::HookOverdue { run, hook, signal, after },
            Self::Evidence => Note::EvidenceCut { run, after },
        }
    }
}

/// What happens to a run when its time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Term,
    Kill,
    Abandon,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    run: Run,
    work: Work,
    began: Moment,
    next: Next,
    due: Moment,
}

/// The runs that have not ended.
#[derive(Debug, Default)]
pub struct Runs {
    slots: [Option<Running>; SLOTS],
    begun: u32,
    leaving: bool,
}

impl Runs {
    /// Starts a hook. One too many is not started, and noted so.
    pub fn start_hook(
        &mut self,
        now: Moment,
        hook: usize,
        stage: Stage,
        timeout: Duration,
        commands: &mut Vec<Command>,
    ) {
        let run = self.begin(now, Work::Hook(hook), stage, timeout, commands);
        commands.extend(run.map(|run| Command::RunHook { run, hook, stage }));
    }

    /// Starts to take evidence, if one more can run. `room` is what is left below the limit.
    pub fn start_evidence(
        &mut self,
        now: Moment,
        stage: Stage,
        room: Option<u64>,
        time: Duration,
        commands: &mut Vec<Command>,
    ) -> Option<Run> {
        let run = self.begin(now, Work::Evidence, stage, time, commands);
        commands.extend(run.map(|run| Command::TakeEvidence { run, stage, room, time }));
        run
    }

    fn begin(
        &mut self,
        now: Moment,
        work: Work,
        stage: Stage,
        timeout: Duration,
        commands: &mut Vec<Command>,
    ) -> Option<Run> {
        let run = self.next();
        self.begun = run.0;
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_none()) else {
            commands.push(Command::Note(work.ended(run, HookEnd::NotStarted, Duration::ZERO)));
            return None;
        };
        // Evidence is never asked to end: whatever it reads or writes is made for being cut.
        let next = if work == Work::Evidence { Next::Kill } else { Next::Term };
        *slot = Some(Running { run, work, began: now, next, due: now.after(timeout) });
        commands.push(Command::Note(work.started(run, stage)));
        Some(run)
    }

    /// The number of the next run.
    pub fn next(&self) -> Run {
        Run(self.begun.saturating_add(1))
    }

    /// A run is over. One that nobody knows, or that was given up, is no news.
    pub fn end(&mut self, now: Moment, run: Run, end: HookEnd, commands: &mut Vec<Command>) {
        let slot = self.slots.iter_mut().find(|slot| slot.is_some_and(|running| running.run == run));
        if let Some(Running { work, began, .. }) = slot.and_then(Option::take) {
            commands.push(Command::Note(work.ended(run, end, now.since(began))));
        }
    }

    /// Does what is due.
    pub fn check(&mut self, now: Moment, commands: &mut Vec<Command>) {
        let patience = if self.leaving { LEAVING_PATIENCE } else { PATIENCE };
        for slot in &mut self.slots {
            let Some(running) = slot.as_mut().filter(|running| running.due <= now) else { continue };
            let (signal, next) = match running.next {
                Next::Term => (Signal::TERM, Next::Kill),
                Next::Kill => (Signal::KILL, Next::Abandon),
                Next::Abandon => {
                    commands.push(Command::AbandonRun { run: running.run });
                    *slot = None;
                    continue;
                }
            };
            let Running { run, work, began, .. } = *running;
            (running.next, running.due) = (next, now.after(patience));
            commands.push(Command::SignalRun { run, signal });
            commands.push(Command::Note(work.overdue(run, signal, now.since(began))));
        }
    }

    /// The app has ended: whatever still runs has 2 s, then it is killed.
    pub fn leave(&mut self, now: Moment) {
        self.leaving = true;
        for running in self.slots.iter_mut().flatten() {
            (running.next, running.due) = match running.next {
                Next::Term => (Next::Kill, now.after(PATIENCE)),
                Next::Kill => (Next::Kill, running.due.min(now.after(PATIENCE))),
                Next::Abandon => (Next::Abandon, running.due.min(now.after(LEAVING_PATIENCE))),
            };
        }
    }

    /// When [`check`](Self::check) has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        self.slots.iter().flatten().map(|running| running.due).min()
    }

    /// Memory leaves no time any more for evidence that is still being taken: it is cut.
    pub fn cut_evidence(&mut self, now: Moment, commands: &mut Vec<Command>) {
        for running in self.slots.iter_mut().flatten() {
            if running.work == Work::Evidence && running.next != Next::Abandon {
                running.due = now;
            }
        }
        self.check(now, commands);
    }

    /// The run of this, if it has not ended.
    pub fn running(&self, work: Work) -> Option<Run> {
        self.slots.iter().flatten().find(|running| running.work == work).map(|running| running.run)
    }

    /// Whether a run with this number or a later one has not ended.
    pub fn any_since(&self, run: Run) -> bool {
        self.slots.iter().flatten().any(|running| running.run >= run)
    }

    /// Whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::Exit;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Moment {
        Moment::default().after(Duration::from_secs(seconds))
    }

    fn started(hooks: usize) -> Runs {
        let mut runs = Runs::default();
        for hook in 0..hooks {
            runs.start_hook(at(0), hook, Stage::Trace, TIMEOUT, &mut Vec::new());
        }
        runs
    }

    /// What `check` does at each of these seconds: a signal's number, 0 for giving up.
    fn acts(runs: &mut Runs, seconds: &[u64]) -> Vec<(u64, i32)> {
        let mut acts = Vec::new();
        for second in seconds {
            let mut commands = Vec::new();
            runs.check(at(*second), &mut commands);
            acts.extend(commands.iter().filter_map(|command| match command {
                Command::SignalRun { signal, .. } => Some((*second, signal.number())),
                Command::AbandonRun { .. } => Some((*second, 0)),
                _ => None,
            }));
        }
        acts
    }

    #[test]
    fn a_run_is_noted_started_and_noted_again_when_it_ends() {
        let mut runs = Runs::default();
        let mut commands = Vec::new();
        runs.start_hook(at(0), 4, Stage::Capture, TIMEOUT, &mut commands);
        let run = Run(1);
        assert_eq!(
            commands,
            [
                Command::Note(Note::HookStarted { run: Some(run), hook: 4, stage: Stage::Capture }),
                Command::RunHook { run, hook: 4, stage: Stage::Capture },
            ]
        );
        assert!(runs.running(Work::Hook(4)).is_some() && runs.running(Work::Hook(0)).is_none() && !runs.is_empty());
        assert!(runs.any_since(run) && !runs.any_since(runs.next()));
        commands.clear();
        let end = HookEnd::Ended(Exit::Code(3));
        runs.end(at(7), run, end, &mut commands);
        assert_eq!(commands, [Command::Note(Note::HookEnded { run, hook: 4, end, after: Duration::from_secs(7) })]);
        assert!(runs.is_empty() && runs.deadline().is_none());
    }

    #[test]
    fn a_hook_that_hangs_is_asked_then_killed_then_given_up() {
        let mut runs = started(1);
        assert_eq!(runs.deadline(), Some(at(30)));
        assert_eq!(acts(&mut runs, &[1, 29, 30, 31, 32, 33, 34, 60]), [(30, 15), (32, 9), (34, 0)]);
        assert!(runs.is_empty());
    }

    #[test]
    fn an_end_that_nobody_waits_for_is_no_news() {
        let mut runs = started(1);
        acts(&mut runs, &[30, 32, 34]);
        let mut commands = Vec::new();
        for run in [Run(0), Run(1), Run(2)] {
            runs.end(at(40), run, HookEnd::NotStarted, &mut commands);
        }
        assert_eq!(commands, []);
    }

    #[test]
    fn one_hook_too_many_is_noted_and_not_started() {
        let mut runs = started(SLOTS);
        let mut commands = Vec::new();
        runs.start_hook(at(0), 99, Stage::Trace, TIMEOUT, &mut commands);
        let (run, end, after) = (Run(17), HookEnd::NotStarted, Duration::ZERO);
        assert_eq!(commands, [Command::Note(Note::HookEnded { run, hook: 99, end, after })]);
        assert!(runs.running(Work::Hook(99)).is_none());
        assert_eq!(runs.next(), Run(18));
    }

    #[test]
    fn when_the_app_has_ended_no_hook_keeps_memini() {
        for (since, expected) in
            [(10, &[(12, 9), (13, 0)][..]), (30, &[(32, 9), (33, 0)]), (31, &[(32, 9), (33, 0)]), (33, &[(34, 0)])]
        {
            let mut runs = started(1);
            let seconds: Vec<_> = (0..=since).collect();
            acts(&mut runs, &seconds);
            runs.leave(at(since));
            let seconds: Vec<_> = (since + 1..60).collect();
            assert_eq!(acts(&mut runs, &seconds), expected, "left at {since}");
        }
    }
}
