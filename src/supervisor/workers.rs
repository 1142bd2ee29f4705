//! The table of workers: memini's own children that do what may be slow or go wrong.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::report::{LONGEST_LOOK, Report, WORKER};
use super::sentence::Ending;
use crate::engine::event::{Exit, HookEnd, Run};
use crate::sys::process::{self, ProcessId};
use crate::sys::signal::Signal;
use crate::sys::spawn::{self, Child, ExecOutcome, ExecResult, Options, Program};

/// How many workers can run at the same time: what the engine starts (16 hooks), the
/// record's, the recorder's, the guardian, and what ends the helpers' work.
pub const CAPACITY: usize = 21;

/// How many descriptors a worker can be given: the record's has the journal and the recorder.
const MOST_INHERITED: usize = 2;

/// The longest line that a worker may report.
const LONGEST_REPORT: usize = 1024;

/// How many of a worker's remarks are kept for the record.
const MOST_REMARKS: usize = 8;

/// What a worker has told that belongs into the record.
#[derive(Debug)]
pub enum Remark {
    /// Something was not done, and why.
    LeftOut(String),
    /// The SHA-256 of a file that is whole.
    Digest {
        /// Relative to the incident.
        file: String,
        /// Its size.
        bytes: u64,
        /// In hexadecimal.
        sha256: String,
    },
}

/// What a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A hook of the user's.
    Hook(Run),
    /// The built-in evidence; the second is true for the baseline.
    Evidence(Run, bool),
    /// Writes the incident's record; `true`: the last one.
    Record(bool),
    /// Ends what the app's helpers record.
    Unrecord,
    /// Continues the app should memini die while it is stopped.
    Guardian,
    /// Finds the last run's recorder, and makes this one's.
    Recorder,
}

/// A worker that runs.
#[derive(Debug)]
pub struct Worker {
    id: ProcessId,
    /// What it is for.
    pub role: Role,
    exec: ExecResult,
    report: File,
    line: Vec<u8>,
    /// Its end of the pipe is closed: it will say nothing more.
    is_silent: bool,
    /// The process group of the hook, once the worker has told it.
    hook_group: Option<ProcessId>,
    /// How the hook ended, as far as the worker has told it.
    end: Option<HookEnd>,
    /// Where the hook's output stands, relative to the incident, and its size.
    pub output: Option<(String, u64)>,
    remarks: Vec<Remark>,
    /// What it has found so far, to be told if it is killed before it has found more.
    so_far: Vec<String>,
    /// A process that it has stopped, to look at it.
    holds: Option<ProcessId>,
    /// When that process goes on in any case; `None`: it does already.
    holds_until: Option<Instant>,
    /// Whether it has told that the record is on disk.
    written: bool,
    /// Whether it has told that it stands guard.
    ready: bool,
}

/// A worker that has ended.
#[derive(Debug)]
pub struct Finished {
    /// What it was for.
    pub role: Role,
    /// How its hook ended.
    pub end: HookEnd,
    /// Where the hook's output stands.
    pub output: Option<(String, u64)>,
    /// What else belongs into the record.
    pub remarks: Vec<Remark>,
    /// Whether the record is on disk.
    pub written: bool,
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    table: Vec<Worker>,
    /// A process that was held goes on since it was last asked.
    has_let_go: bool,
}

impl Workers {
    /// None yet.
    pub fn new() -> Self {
        Self { table: Vec::with_capacity(CAPACITY), has_let_go: false }
    }

    /// Runs memini again with the hidden verb. `inherited` are descriptors that it finds under the same numbers,
    /// [`MOST_INHERITED`] at the most.
    ///
    /// # Errors
    /// Where no process or pipe can be had, too many workers run, or too many descriptors are given.
    pub fn start(&mut self, role: Role, words: Vec<OsString>, inherited: &[BorrowedFd<'_>]) -> io::Result<()> {
        if self.table.len() >= CAPACITY {
            return Err(io::Error::other("too many workers run already"));
        }
        let mut arguments: Vec<OsString> = vec!["memini".into(), WORKER.into()];
        arguments.extend(words);
        let program = Program::worker(&arguments)?;
        let (reader, writer) = spawn::pipe()?;
        // The first one is the worker's output; the others are as many as were given.
        let mut all = [(writer.as_fd(), libc::STDOUT_FILENO); 1 + MOST_INHERITED];
        for (place, descriptor) in all.iter_mut().skip(1).zip(inherited) {
            *place = (*descriptor, descriptor.as_raw_fd());
        }
        let count = inherited.len().saturating_add(1);
        let descriptors = all.get(..count).ok_or_else(|| io::Error::other("too many descriptors for a worker"))?;
        let child = spawn::spawn(&program, &Options { descriptors, ..Options::default() })?;
        self.table.push(Worker::new(role, child, reader));
        Ok(())
    }

    /// Where reports may still come from. A worker's end of the pipe closes before the worker has ended; a closed pipe is
    /// ready all the time, and whoever waited for it with a higher priority would keep the worker from ending at all.
    pub fn reports(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.table.iter().filter(|worker| !worker.is_silent).map(|worker| worker.report.as_fd())
    }

    /// Whether a worker of this role runs.
    pub fn any(&self, test: impl Fn(Role) -> bool) -> bool {
        self.table.iter().any(|worker| test(worker.role))
    }

    /// The process groups of the workers and of their hooks, to be spared when the tree is signalled.
    pub fn groups(&self, groups: &mut Vec<ProcessId>) {
        groups.clear();
        for worker in &self.table {
            groups.push(worker.id);
            groups.extend(worker.hook_group);
        }
    }

    /// Whether one of them holds this process still, as far as it has told.
    pub fn hold(&self, process: ProcessId) -> bool {
        self.table.iter().any(|worker| worker.holds == Some(process))
    }

    /// When the first of those that are held goes on in any case.
    pub fn hold_due(&self) -> Option<Instant> {
        self.table.iter().filter_map(|worker| worker.holds_until).min()
    }

    /// Lets those go on that are held for longer than any look takes: who looks is stuck or stopped itself. It is held as far as it
    /// has told, and lets it go on once more, maybe.
    pub fn end_holds(&mut self, now: Instant) {
        for worker in &mut self.table {
            if let (Some(held), Some(until)) = (worker.holds, worker.holds_until)
                && until <= now
            {
                worker.holds_until = None;
                let _ = process::kill(held, Signal::CONT);
                self.has_let_go = true;
            }
        }
    }

    /// Whether a process that was held goes on since this was last asked, be it by the worker or by memini.
    pub fn take_let_go(&mut self) -> bool {
        std::mem::take(&mut self.has_let_go)
    }

    /// Whether the guardian stands guard.
    pub fn are_guarded(&self) -> bool {
        self.table.iter().any(|worker| worker.role == Role::Guardian && worker.ready)
    }

    /// Signals the hook of this run, or what takes its evidence.
    pub fn signal_run(&self, run: Run, signal: Signal) {
        for worker in self.table.iter().filter(|worker| worker.role.run() == Some(run)) {
            // A worker that has not got as far as to start its hook is itself what takes too long.
            let group = worker.hook_group.unwrap_or(worker.id);
            let _ = process::kill_group(group, signal);
        }
    }

    /// Ends the worker of this run and its hook.
    pub fn abandon(&self, run: Run) {
        self.signal_run(run, Signal::KILL);
        for worker in self.table.iter().filter(|worker| worker.role.run() == Some(run)) {
            let _ = process::kill_group(worker.id, Signal::KILL);
        }
    }

    /// Reads what workers have reported. Bounded: at most one buffer of each.
    pub fn listen(&mut self) {
        for worker in &mut self.table {
            let held = worker.holds;
            worker.listen();
            self.has_let_go |= held.is_some() && worker.holds != held;
        }
    }

    /// If this was a worker: it has ended.
    pub fn ended(&mut self, id: ProcessId, exit: Exit) -> Option<Finished> {
        let index = self.table.iter().position(|worker| worker.id == id)?;
        let mut worker = self.table.swap_remove(index);
        let held = worker.holds;
        // All that it has written is in the pipe by now.
        while worker.listen() {}
        self.has_let_go |= held.is_some() && worker.holds != held;
        let end = worker.end.unwrap_or(match exit {
            // It has ended without telling how its hook ended: there was none.
            Exit::Code(_) => HookEnd::NotStarted,
            Exit::Signal(_) => HookEnd::Ended(exit),
        });
        if worker.end.is_none() {
            worker.so_far.iter().for_each(|line| worker.log_found(line));
        }
        // Killed in the middle of a look. Who is stopped must go on whatever becomes of those who look.
        if let Some(held) = worker.holds {
            let _ = process::kill(held, Signal::CONT);
            self.has_let_go = true;
        }
        // A hook whose end was not told may still run, with nobody to watch its time.
        if let (Some(group), false) = (worker.hook_group, matches!(worker.end, Some(HookEnd::Ended(_)))) {
            let _ = process::kill_group(group, Signal::KILL);
        }
        if let ExecOutcome::Failed(errno) = worker.exec.poll() {
            let error = io::Error::from_raw_os_error(errno);
            log::warn!("cannot run /proc/self/exe: {error}; there is no worker for {}", worker.role.name());
            let (role, end, remarks) = (worker.role, HookEnd::NotStarted, Vec::new());
            return Some(Finished { role, end, output: None, remarks, written: false });
        }
        if worker.end.is_none()
            && !worker.written
            && !worker.ready
            && !matches!(exit, Exit::Code(0) | Exit::Signal(Signal::KILL))
        {
            log::warn!("the worker for {} was cut short: {}", worker.role.name(), Ending(exit));
        }
        let (role, remarks) = (worker.role, worker.remarks);
        Some(Finished { role, end, output: worker.output, remarks, written: worker.written })
    }
}

impl Role {
    /// The engine's number for it.
    const fn run(self) -> Option<Run> {
        match self {
            Self::Hook(run) | Self::Evidence(run, _) => Some(run),
            Self::Record(_) | Self::Unrecord | Self::Guardian | Self::Recorder => None,
        }
    }

    const fn is_baseline(self) -> bool {
        matches!(self, Self::Evidence(_, true))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hook(_) => "a hook",
            Self::Evidence(..) => "the evidence",
            Self::Record(_) => "the record",
            Self::Unrecord => "the helpers",
            Self::Guardian => "the brake",
            Self::Recorder => "the recorder",
        }
    }
}

impl Worker {
    /// One that has just been started and has told nothing yet.
    fn new(role: Role, child: Child, report: OwnedFd) -> Self {
        Self {
            id: child.id,
            role,
            exec: child.exec,
            report: File::from(report),
            line: Vec::with_capacity(LONGEST_REPORT),
            is_silent: false,
            hook_group: None,
            end: None,
            output: None,
            remarks: Vec::new(),
            so_far: Vec::new(),
            holds: None,
            holds_until: None,
            written: false,
            ready: false,
        }
    }

    /// Reads and acts on what is there; whether there may be more.
    fn listen(&mut self) -> bool {
        let mut buffer = [0; 2048];
        let count = match self.report.read(&mut buffer) {
            Ok(count) if count > 0 => count,
            Ok(_) => {
                self.is_silent = true;
                return false;
            }
            Err(_) => return false,
        };
        for byte in buffer.iter().take(count) {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.told(&String::from_utf8_lossy(&line));
                self.line = line;
                self.line.clear();
            } else if self.line.len() < LONGEST_REPORT {
                self.line.push(*byte);
            }
        }
        true
    }

    fn told(&mut self, line: &str) {
        let who = self.role;
        let run = match who {
            Role::Hook(run) => run.0,
            Role::Evidence(..) | Role::Record(_) | Role::Unrecord | Role::Guardian | Role::Recorder => 0,
        };
        match Report::parse(line) {
            Some(Report::Group(id)) => self.hook_group = ProcessId::new(id),
            Some(Report::Tail(text)) => log::info!("hook {run} | {text}"),
            Some(Report::Output(bytes, file)) => self.output = Some((file.to_owned(), bytes)),
            Some(Report::Told(text)) => log::info!("{text}"),
            Some(Report::Found(text)) => {
                self.so_far.clear();
                self.log_found(text);
            }
            Some(Report::SoFar(text)) if self.so_far.len() < MOST_REMARKS => self.so_far.push(text.to_owned()),
            Some(Report::SoFar(_)) => {}
            Some(Report::LeftOut(text)) => {
                self.log_found(text);
                self.remark(Remark::LeftOut(text.to_owned()));
            }
            Some(Report::Digest(bytes, sha256, file)) => {
                self.remark(Remark::Digest { file: file.to_owned(), bytes, sha256: sha256.to_owned() });
            }
            Some(Report::Holds(id)) => {
                self.holds = ProcessId::new(id);
                self.holds_until = self.holds.and_then(|_| Instant::now().checked_add(LONGEST_LOOK));
            }
            Some(Report::Ready) => self.ready = true,
            Some(Report::Written) => self.written = true,
            Some(Report::Code(code)) => self.end = Some(HookEnd::Ended(Exit::Code(code))),
            Some(Report::Signal(number)) => {
                self.end = Signal::from_number(number).map(|signal| HookEnd::Ended(Exit::Signal(signal)));
            }
            Some(Report::Warning(text)) if run > 0 => log::warn!("hook {run}: {text}"),
            Some(Report::Warning(text)) => log::warn!("{text}"),
            Some(Report::Failed(text)) => {
                self.end = Some(HookEnd::NotStarted);
                if run > 0 {
                    log::warn!("hook {run}: {text}")
                } else {
                    log::warn!("{text}")
                }
                self.remark(Remark::LeftOut(text.to_owned()));
            }
            None => log::debug!("a worker said {line:?}"),
        }
    }

    /// Of the baseline there is nothing to be warned of.
    fn log_found(&self, text: &str) {
        if self.role.is_baseline() { log::debug!("{text}") } else { log::warn!("{text}") }
    }

    fn remark(&mut self, remark: Remark) {
        if self.remarks.len() < MOST_REMARKS {
            self.remarks.push(remark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{Interest, Wait};
    use std::io::Write;
    use std::time::Duration;

    /// A worker's place in the table, and the worker's end of its pipe.
    fn workers() -> (Workers, File) {
        let mut workers = Workers::new();
        let program = Program::new(&["true".into()]).unwrap();
        let child = spawn::spawn(&program, &Options::default()).unwrap();
        let (reader, writer) = spawn::pipe().unwrap();
        workers.table.push(Worker::new(Role::Record(false), child, reader));
        (workers, File::from(writer))
    }

    fn ready(workers: &Workers) -> usize {
        let mut wait = Wait::new();
        workers.reports().for_each(|report| wait.add(report, Interest::Read, ()));
        wait.wait(Some(Duration::ZERO)).unwrap();
        wait.ready().count()
    }

    #[test]
    fn a_worker_that_has_closed_its_pipe_and_not_ended_yet_wakes_nobody_again() {
        let (mut workers, mut writer) = workers();
        assert_eq!(ready(&workers), 0);
        writer.write_all(b"written\n").unwrap();
        assert_eq!(ready(&workers), 1);
        drop(writer);
        for _ in 0..2 {
            workers.listen();
        }
        assert_eq!((ready(&workers), workers.table[0].written), (0, true));
    }

    #[test]
    fn what_was_found_so_far_is_told_if_a_worker_is_killed_and_never_twice() {
        let so_far = |reports: &[u8]| {
            let (mut workers, mut writer) = workers();
            writer.write_all(reports).unwrap();
            workers.listen();
            workers.table[0].so_far.clone()
        };
        assert_eq!(so_far(b"so-far one\nso-far two\n"), ["one", "two"]);
        assert_eq!(so_far(&b"so-far one\n".repeat(20)).len(), MOST_REMARKS);
        assert!(so_far(b"so-far one\nfound more\n").is_empty());
    }

    #[test]
    fn who_is_held_is_known_and_that_somebody_goes_on_is_told_once() {
        let (mut workers, mut writer) = workers();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let held = ProcessId::new(child.id().cast_signed()).unwrap();
        for end in ["holds 0\n".to_owned(), format!("holds {held}\nholds 0\n")] {
            writer.write_all(format!("holds {held}\n").as_bytes()).unwrap();
            workers.listen();
            assert!(workers.hold(held) && !workers.take_let_go());
            writer.write_all(end.as_bytes()).unwrap();
            workers.listen();
            assert!(!workers.hold(held) && workers.take_let_go() && !workers.take_let_go());
        }
        // Stuck while it holds somebody.
        let stands = || std::fs::read_to_string(format!("/proc/{held}/stat")).unwrap().contains(") T ");
        let stop = || {
            process::kill(held, Signal::STOP).unwrap();
            while !stands() {
                std::thread::yield_now();
            }
        };
        assert_eq!(workers.hold_due(), None);
        let before = Instant::now();
        writer.write_all(format!("holds {held}\n").as_bytes()).unwrap();
        workers.listen();
        stop();
        let due = workers.hold_due().unwrap();
        assert!(due >= before + LONGEST_LOOK);
        workers.end_holds(due - Duration::from_nanos(1));
        assert!(stands() && !workers.take_let_go());
        workers.end_holds(due);
        assert!(workers.take_let_go() && workers.hold(held));
        assert_eq!(workers.hold_due(), None);
        while stands() {
            std::thread::yield_now();
        }
        writer.write_all(b"holds 0\n").unwrap();
        workers.listen();
        assert!(!workers.hold(held) && workers.take_let_go());
        // Killed while it held somebody.
        writer.write_all(format!("holds {held}\n").as_bytes()).unwrap();
        drop(writer);
        stop();
        let worker = workers.table[0].id;
        assert!(workers.ended(worker, Exit::Signal(Signal::KILL)).is_some());
        assert!(workers.take_let_go());
        while stands() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
