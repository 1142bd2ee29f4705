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
            Record::Wanted | Record::Done => None,
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
        let by_kill = exit == Exit::Signal(Signal::KILL) && !killed;
        let oom_killed = by_kill && self.oom.explains_death(self.now);
        commands.push(Command::Note(Note::AppExited { exit, oom_killed, stopped }));
        let code = match (oom_killed, stopped) {
            (true, _) => remapped(OOM_KILLED, &self.settings),
            (false, true) => self.settings.exit_code,
            (false, false) => remapped(exit.code(), &self.settings),
        };
        let worth_a_record = oom_killed || stopped || self.watch.incident != Incident::None;
        let record = if worth_a_record { Record::Wanted } else { Record::Done };
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
