//! After the app: what still runs is ended, the last record is written, and memini ends with the right exit code.

use std::time::Duration;

use super::event::{Command, Exit, Note};
use super::settings::{Leftovers, Settings};
use super::time::Moment;
use super::watch::Incident;
use super::{Engine, Phase};
use crate::sys::signal::Signal;

/// What the kernel's OOM killer leaves behind: 128 + SIGKILL.
const OOM_KILLED: u8 = 137;

/// After SIGKILL nobody is waited for longer than this.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How long the last record may take: a full or slow disk must not keep the container.
const RECORD_WAIT: Duration = Duration::from_secs(2);

/// The processes that outlived the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// They have until then.
    Granted(Moment),
    /// They were killed, and are waited for until then.
    Killed(Moment),
    /// There are none, or nobody waits for them.
    Gone,
}

/// The last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    /// To be written when all else is over.
    Wanted,
    /// There is none, but earlier ones may still be written.
    Earlier,
    /// Being written, at most until then.
    Asked(Moment),
    /// Written, or not wanted.
    Done,
}

/// How far memini has come on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    code: u8,
    rest: Rest,
    record: Record,
}

impl Leaving {
    pub(super) fn deadline(&self) -> Option<Moment> {
        let rest = match self.rest {
            Rest::Granted(until) | Rest::Killed(until) => Some(until),
            Rest::Gone => None,
        };
        let record = match self.record {
            Record::Asked(until) => Some(until),
            Record::Wanted | Record::Earlier | Record::Done => None,
        };
        rest.or(record)
    }
}

impl Engine {
    pub(super) fn app_exited(&mut self, exit: Exit, commands: &mut Vec<Command>) {
        let (stopped, killed) = match self.phase {
            Phase::Running => (false, false),
            Phase::Stopping(stop) => (true, stop.is_kill()),
            Phase::Leaving(_) | Phase::Gone => return,
        };
        // Who is to be killed in a moment is not let run before: it may fill what is left.
        let kills = self.settings.leftovers == Leftovers::Kill && !self.alone;
        if self.end_brake() && !killed && !kills {
            commands.push(Command::Release);
        }
        self.tell_brakes(commands);
        let by_kill = exit == Exit::Signal(Signal::KILL) && !killed;
        let oom_killed = by_kill && self.oom.explains_death(self.now);
        let times = self.oom.untold();
        if times > 0 && !oom_killed {
            // Another process of the group, or the app itself in the moment in which memini killed it: told either way.
            commands.push(Command::Note(Note::OomKill { times }));
        }
        if oom_killed || times > 0 {
            commands.push(Command::Note(Note::LastLooks { looks: self.looks.last() }));
        }
        commands.push(Command::Note(Note::AppExited { exit, oom_killed, stopped }));
        let code = match (oom_killed, stopped) {
            (true, _) => remapped(OOM_KILLED, &self.settings),
            (false, true) => self.settings.exit_code,
            (false, false) => remapped(exit.code(), &self.settings),
        };
        let worth_a_record = oom_killed || stopped || self.watch.incident != Incident::None;
        let record = match (worth_a_record, self.watch.has_closed) {
            (true, _) => Record::Wanted,
            (false, true) => Record::Earlier,
            (false, false) => Record::Done,
        };
        self.runs.leave(self.now);
        self.phase = Phase::Leaving(Leaving { code, rest: self.end_rest(commands), record });
    }

    /// Deals with what outlived the app, as the user chose.
    fn end_rest(&self, commands: &mut Vec<Command>) -> Rest {
        if self.alone {
            return Rest::Gone;
        }
        let until = self.now.after(self.settings.leftover_timeout);
        match self.settings.leftovers {
            Leftovers::Kill => {
                commands.push(Command::SignalLeftovers(Signal::KILL));
                Rest::Gone
            }
            Leftovers::Term => {
                commands.push(Command::SignalLeftovers(Signal::TERM));
                Rest::Granted(until)
            }
            Leftovers::Wait => Rest::Granted(until),
        }
    }

    pub(super) fn all_gone(&mut self) {
        self.alone = true;
        if let Phase::Leaving(leaving) = &mut self.phase {
            leaving.rest = Rest::Gone;
        }
    }

    pub(super) fn recorded(&mut self) {
        if let Phase::Leaving(Leaving { record: record @ Record::Asked(_), .. }) = &mut self.phase {
            *record = Record::Done;
        }
    }

    /// Goes on towards the exit.
    pub(super) fn leave(&mut self, mut leaving: Leaving, commands: &mut Vec<Command>) {
        match leaving.rest {
            Rest::Granted(until) if until <= self.now => {
                commands.push(Command::Note(Note::LeftoversOverdue));
                commands.push(Command::SignalLeftovers(Signal::KILL));
                leaving.rest = Rest::Killed(self.now.after(LAST_WAIT));
            }
            Rest::Killed(until) if until <= self.now => leaving.rest = Rest::Gone,
            _ => {}
        }
        if leaving.rest == Rest::Gone && self.runs.is_empty() {
            leaving.record = match leaving.record {
                Record::Wanted => {
                    commands.push(Command::RecordLast { code: leaving.code });
                    Record::Asked(self.now.after(RECORD_WAIT))
                }
                Record::Earlier => {
                    commands.push(Command::FinishRecords);
                    Record::Asked(self.now.after(RECORD_WAIT))
                }
                Record::Asked(until) if until <= self.now => Record::Done,
                record => record,
            };
        }
        self.phase = Phase::Leaving(leaving);
        if leaving.rest == Rest::Gone && self.runs.is_empty() && leaving.record == Record::Done {
            commands.push(Command::Exit(leaving.code));
            self.phase = Phase::Gone;
        }
    }
}

/// The app's own exit code, unless the user calls it a success.
fn remapped(code: u8, settings: &Settings) -> u8 {
    if settings.remap_exit.contains(&code) { 0 } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::{Event, HookEnd, Run};
    use crate::engine::settings::{Stage, StopWhen};
    use crate::engine::simulator::Scene;

    const LEFT: Exit = Exit::Code(3);

    fn noted(exit: Exit, oom_killed: bool, stopped: bool) -> Command {
        Command::Note(Note::AppExited { exit, oom_killed, stopped })
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn without_anything_left_to_do_the_exit_comes_at_once() {
        let mut scene = Scene::new(Settings::default());
        let commands = scene.exit(LEFT);
        assert_eq!(commands, [noted(LEFT, false, false), Command::SignalLeftovers(Signal::KILL), Command::Exit(3)]);
        assert_eq!(scene.engine.deadline(), None);
        assert_eq!(scene.exit(LEFT), []);
        assert_eq!(scene.read(99, 0), []);
    }

    #[test]
    fn nobody_is_signalled_where_nobody_is_left() {
        for leftovers in [Leftovers::Kill, Leftovers::Term, Leftovers::Wait] {
            let mut scene = Scene::new(Settings { leftovers, ..Settings::default() });
            assert_eq!(scene.tell(secs(1), Event::AllGone), []);
            assert_eq!(scene.exit(LEFT), [noted(LEFT, false, false), Command::Exit(3)], "{leftovers:?}");
        }
    }

    #[test]
    fn leftovers_may_take_their_time_and_then_are_killed() {
        for (leftovers, first) in
            [(Leftovers::Term, Some(Command::SignalLeftovers(Signal::TERM))), (Leftovers::Wait, None)]
        {
            let mut scene = Scene::new(Settings { leftovers, ..Settings::default() });
            let mut expected = vec![noted(LEFT, false, false)];
            expected.extend(first);
            assert_eq!(scene.exit(LEFT), expected, "{leftovers:?}");
            let overdue = vec![Command::Note(Note::LeftoversOverdue), Command::SignalLeftovers(Signal::KILL)];
            assert_eq!(scene.wait(), (secs(10), overdue));
            assert_eq!(scene.wait(), (secs(1), vec![Command::Exit(3)]));
        }
    }

    #[test]
    fn leftovers_that_go_are_not_waited_for_any_longer() {
        for before in [false, true] {
            let mut scene = Scene::new(Settings { leftovers: Leftovers::Term, ..Settings::default() });
            scene.exit(LEFT);
            if before {
                scene.wait();
            }
            assert_eq!(scene.tell(secs(0), Event::AllGone), [Command::Exit(3)]);
        }
    }

    #[test]
    fn exit_codes_that_the_user_calls_a_success_are_one() {
        let settings = Settings { remap_exit: vec![3, 143], ..Settings::default() };
        for (exit, code) in [
            (Exit::Code(3), 0),
            (Exit::Code(4), 4),
            (Exit::Signal(Signal::TERM), 0),
            (Exit::Signal(Signal::KILL), 137),
            (Exit::Code(0), 0),
        ] {
            let commands = Scene::new(settings.clone()).exit(exit);
            assert_eq!(commands.last(), Some(&Command::Exit(code)), "{exit:?}");
        }
    }

    #[test]
    fn an_app_that_was_stopped_ends_with_the_code_for_that_whatever_its_own() {
        let settings =
            Settings { stop_when: StopWhen::Level, exit_code: 42, remap_exit: vec![42, 0], ..Settings::default() };
        for exit in [Exit::Code(0), Exit::Code(9), Exit::Signal(Signal::TERM), Exit::Signal(Signal::KILL)] {
            let mut scene = Scene::new(settings.clone());
            assert!(scene.read(93, 0).contains(&Command::StopApp));
            let commands = scene.exit(exit);
            assert_eq!(commands.first(), Some(&noted(exit, false, true)));
            assert_eq!(commands.last(), Some(&Command::RecordLast { code: 42 }));
            assert_eq!(scene.tell(secs(1), Event::Recorded), [Command::Exit(42)]);
        }
    }

    #[test]
    fn the_last_record_is_waited_for_but_not_long() {
        let mut scene = Scene::new(Settings::default());
        scene.read(70, 0);
        assert_eq!(scene.tell(secs(0), Event::Recorded), [], "nobody asked");
        assert_eq!(scene.exit(LEFT).last(), Some(&Command::RecordLast { code: 3 }));
        assert_eq!(scene.wait(), (secs(2), vec![Command::Exit(3)]));
    }

    #[test]
    fn an_app_that_dies_in_an_incident_has_not_recovered() {
        let mut scene = Scene::new(Settings::default());
        scene.read(70, 0);
        assert!(!scene.read(0, 0).contains(&Command::CloseIncident), "its memory is gone because it died");
        assert_eq!(scene.exit(Exit::Code(1)).last(), Some(&Command::RecordLast { code: 1 }));
        let mut scene = Scene::new(Settings::default());
        scene.read(70, 0);
        scene.read(0, 0);
        assert!(scene.tell(secs(1), Event::Deadline).contains(&Command::CloseIncident));
        // What was closed a moment ago may still be being written.
        assert_eq!(scene.exit(Exit::Code(1)).last(), Some(&Command::FinishRecords));
        assert_eq!(scene.tell(secs(1), Event::Recorded), [Command::Exit(1)]);
    }

    #[test]
    fn only_a_death_by_sigkill_while_the_counter_rose_is_the_kernels() {
        let killed = Exit::Signal(Signal::KILL);
        for (exit, kills, oom_killed, code) in [
            (killed, 1, true, 137),
            (killed, 0, false, 137),
            (Exit::Code(1), 1, false, 1),
            (Exit::Signal(Signal::TERM), 1, false, 143),
        ] {
            let mut scene = Scene::new(Settings::default());
            scene.read(10, 0);
            scene.read(10, kills);
            let commands = scene.exit(exit);
            assert!(commands.contains(&noted(exit, oom_killed, false)), "{exit:?} {kills}");
            let told = commands.contains(&Command::Note(Note::OomKill { times: kills }));
            assert_eq!(told, kills > 0 && !oom_killed, "a kill is told one way or the other: {exit:?} {kills}");
            if oom_killed {
                assert_eq!(commands.last(), Some(&Command::RecordLast { code }));
                assert_eq!(scene.tell(secs(0), Event::Recorded), [Command::Exit(code)]);
            } else {
                assert_eq!(commands.last(), Some(&Command::Exit(code)));
            }
        }
    }

    #[test]
    fn a_kill_that_the_app_outlives_is_noted() {
        let mut scene = Scene::new(Settings::default());
        scene.read(10, 0);
        scene.read(10, 2);
        scene.now = scene.now.after(secs(1));
        assert!(scene.read(10, 2).contains(&Command::Note(Note::OomKill { times: 2 })));
    }

    #[test]
    fn what_memini_killed_itself_is_not_the_kernels_doing() {
        let killed = Exit::Signal(Signal::KILL);
        let mut scene = Scene::new(Settings { stop_when: StopWhen::Level, ..Settings::default() });
        scene.read(10, 0);
        assert!(scene.read(98, 0).contains(&Command::KillTree));
        scene.read(0, 1);
        let commands = scene.exit(killed);
        assert_eq!(commands[0], Command::Note(Note::OomKill { times: 1 }));
        assert!(matches!(commands[1], Command::Note(Note::LastLooks { .. })));
        assert_eq!(commands[2], noted(killed, false, true));
        assert_eq!(scene.tell(secs(0), Event::Recorded), [Command::Exit(75)]);
    }

    #[test]
    fn hooks_that_still_run_have_two_seconds() {
        let mut scene = Scene::new(Settings { hooks: vec![Stage::Trace, Stage::Trace], ..Settings::default() });
        scene.read(70, 0);
        assert_eq!(scene.exit(LEFT).last(), Some(&Command::SignalLeftovers(Signal::KILL)));
        assert_eq!(scene.tell(secs(0), Event::AppExited(LEFT)), [], "it ends only once");
        scene.tell(secs(1), Event::RunEnded { run: Run(2), end: HookEnd::Ended(Exit::Code(0)) });
        let (span, commands) = scene.wait();
        assert_eq!(
            (span, commands.first()),
            (secs(1), Some(&Command::SignalRun { run: Run(1), signal: Signal::KILL }))
        );
        let abandoned = vec![Command::AbandonRun { run: Run(1) }, Command::RecordLast { code: 3 }];
        assert_eq!(scene.wait(), (secs(1), abandoned));
        assert_eq!(scene.tell(secs(0), Event::Recorded), [Command::Exit(3)]);
    }

    #[test]
    fn a_plain_init_is_woken_by_events_alone() {
        let mut scene = Scene::new(Settings { watch: false, ..Settings::default() });
        assert_eq!(scene.engine.deadline(), None);
        assert_eq!(scene.tell(secs(9), Event::Deadline), []);
        assert_eq!(scene.read(99, 0), []);
        assert_eq!(scene.exit(LEFT).last(), Some(&Command::Exit(3)));
    }
}
