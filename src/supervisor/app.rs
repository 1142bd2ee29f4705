//! The app: one child, its signals, and its place on the terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::helper;
use crate::config::Config;
use crate::engine::event::Exit;
use crate::sys::mask::{ChildDisposition, SignalDescriptor};
use crate::sys::poll::{Interest, Wait};
use crate::sys::process::{self, Change, ProcessId};
use crate::sys::signal::Signal;
use crate::sys::spawn::{self, ExecOutcome, ExecResult, Options, Program};
use crate::sys::terminal;

/// Signals that ask for an end: a stopped app does not hear them until it is continued.
const ENDING: [Signal; 4] = [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT];

/// How often within a second a stop is undone that the app has drawn by using a terminal. One that it will never get would
/// stop it again and again.
const RESUMES: u32 = 16;
const RESUMES_WITHIN: Duration = Duration::from_secs(1);

/// The app.
#[derive(Debug)]
pub struct App {
    id: ProcessId,
    /// Its name, for messages.
    name: String,
    /// Until it is known whether exec worked.
    exec: Option<ExecResult>,
    ended: Option<Exit>,
    /// Signals go to its process group.
    to_group: bool,
    /// The terminal whose foreground it was given.
    terminal: Option<BorrowedFd<'static>>,
    stopped: bool,
    /// A stop that came from outside is wanted, and stays.
    stop_was_forwarded: bool,
    resumes: u32,
    resumed_since: Instant,
    /// EPERM is told once.
    refused: bool,
    /// Its Python processes were given a helper.
    has_helper: bool,
}

impl App {
    /// Forks; exec follows in the child.
    ///
    /// # Errors
    /// Where a NUL byte is in an argument, or where no process or pipe can be had.
    pub fn start(config: &Config, disposition: &ChildDisposition) -> io::Result<Self> {
        let program = Program::new(&config.command)?;
        let terminal = terminal::to_give_away();
        let variable = helper::install(config);
        let options =
            Options { terminal, child_disposition: Some(disposition), descriptors: &[], variable: variable.as_deref() };
        let child = spawn::spawn(&program, &options)?;
        Ok(Self {
            id: child.id,
            name: config.command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            exec: Some(child.exec),
            ended: None,
            to_group: config.group,
            terminal,
            stopped: false,
            stop_was_forwarded: false,
            resumes: 0,
            resumed_since: Instant::now(),
            refused: false,
            has_helper: variable.is_some(),
        })
    }

    /// Lets it have the processor until its exec has happened, a signal waits to be forwarded or this time has passed.
    pub fn go_first(&self, signals: &SignalDescriptor, at_most: Duration) {
        let mut wait = Wait::new();
        wait.add(signals.as_fd(), Interest::Read, ());
        if let Some(exec) = self.exec() {
            wait.add(exec.as_fd(), Interest::Read, ());
        }
        // What has happened is found by the loop; that nothing could be waited for changes nothing.
        let _ = wait.wait(Some(at_most));
    }

    /// Its process id.
    pub const fn id(&self) -> ProcessId {
        self.id
    }

    /// Whether its Python processes were given a helper.
    pub const fn has_helper(&self) -> bool {
        self.has_helper
    }

    /// What is to be waited for until exec has happened.
    pub const fn exec(&self) -> Option<&ExecResult> {
        self.exec.as_ref()
    }

    /// How it ended, once it has.
    pub const fn ended(&self) -> Option<Exit> {
        self.ended
    }

    /// Looks whether exec has worked, and says so if it has not. The child's exit code, 126 or 127, follows.
    pub fn look_at_exec(&mut self) {
        match self.exec.as_mut().map(ExecResult::poll) {
            None | Some(ExecOutcome::Pending) => return,
            Some(ExecOutcome::Running) => log::debug!("{} runs as process {}", self.name, self.id),
            Some(ExecOutcome::Failed(errno)) => {
                let error = io::Error::from_raw_os_error(errno);
                log::error!("cannot run {}: {error}; nothing was started", self.name);
            }
        }
        self.exec = None;
    }

    /// A signal from outside, for the app.
    pub fn forward(&mut self, signal: Signal) {
        self.stop_was_forwarded = [Signal::TSTP, Signal::TTIN, Signal::TTOU, Signal::STOP].contains(&signal);
        self.send(signal);
        // A stopped process keeps a signal pending. Whoever asks for an end wants it to be heard.
        if self.stopped && ENDING.contains(&signal) {
            self.send(Signal::CONT);
        }
    }

    /// The stop signal of memini's own, and SIGCONT, so that even an app that was just stopped hears it.
    pub fn stop(&mut self, signal: Signal) {
        self.send(signal);
        self.send(Signal::CONT);
    }

    fn send(&mut self, signal: Signal) {
        if self.ended.is_some() {
            return;
        }
        let result = if self.to_group {
            // An app that became the leader of another session or group has left the one that memini made.
            process::kill_group(self.id, signal).or_else(|_| process::kill(self.id, signal))
        } else {
            process::kill(self.id, signal)
        };
        match result {
            Ok(()) => log::trace!("{signal} went to process {}", self.id),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) if !self.refused => {
                self.refused = true;
                log::warn!("cannot send {signal} to process {}: {error}; it does not get memini's signals", self.id);
            }
            Err(_) => {}
        }
    }

    /// The app's state has changed.
    pub fn change(&mut self, change: Change) {
        match change {
            Change::Ended(exit) => {
                self.ended = Some(exit);
                self.look_at_exec();
                if let Some(terminal) = self.terminal.take() {
                    self.take_terminal_back(terminal);
                }
            }
            Change::Stopped(signal) => {
                self.stopped = true;
                log::debug!("the app is stopped by {signal}");
                if [Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(&signal) {
                    self.stopped_at_terminal(signal);
                }
            }
            Change::Continued => self.stopped = false,
        }
    }

    /// The user has typed Ctrl-Z, or the app wanted to use a terminal from the background.
    ///
    /// The shell that started memini waits for memini, so memini stops as well and gives the shell its prompt back.
    /// Where there is no such shell (a container's PID 1) nobody could ever continue the app, so it goes on at once;
    /// unless the signal came through memini: somebody wants the app to be stopped, and will send SIGCONT.
    fn stopped_at_terminal(&mut self, signal: Signal) {
        // A job that was started in the background was brought to the front: the shell's `fg` reaches memini alone.
        if signal != Signal::TSTP && self.hand_terminal_on() {
            let _ = process::kill_group(self.id, Signal::CONT);
        } else if job_control_above() {
            self.suspend(signal);
        } else if !self.stop_was_forwarded && (signal == Signal::TSTP || self.may_resume()) {
            if let Some(terminal) = self.terminal {
                let _ = terminal::give(terminal, self.id);
            }
            let _ = process::kill_group(self.id, Signal::CONT);
        }
        self.stop_was_forwarded = false;
    }

    fn may_resume(&mut self) -> bool {
        if self.resumed_since.elapsed() > RESUMES_WITHIN {
            self.resumes = 0;
            self.resumed_since = Instant::now();
        }
        self.resumes = self.resumes.saturating_add(1);
        self.resumes <= RESUMES
    }

    /// Stops memini and the rest of its job; comes back when the shell continues it.
    fn suspend(&mut self, signal: Signal) {
        if let Some(terminal) = self.terminal {
            self.take_terminal_back(terminal);
        }
        // Others of the job (`memini app | less`) stop as the terminal would have stopped them. memini blocks this.
        let _ = process::kill_own_group(signal);
        let _ = process::kill(process::own_id(), Signal::STOP);
        // From here on the shell has continued the job: in the foreground (`fg`) or not (`bg`).
        self.hand_terminal_on();
        let _ = process::kill_group(self.id, Signal::CONT);
    }

    /// Gives the app the foreground that memini has. False where memini does not have it.
    fn hand_terminal_on(&mut self) -> bool {
        let Some(terminal) = terminal::in_foreground() else { return false };
        self.terminal = Some(terminal);
        terminal::give(terminal, self.id).is_ok()
    }

    fn take_terminal_back(&self, terminal: BorrowedFd<'_>) {
        if let Ok(own) = process::group_of(None)
            && terminal::foreground_group(terminal) == Some(self.id)
        {
            let _ = terminal::give(terminal, own);
        }
    }
}

/// Whether a shell with job control waits for memini: its parent is in the same session but in another group.
fn job_control_above() -> bool {
    let session = process::session_of(None);
    let (Some(parent), Ok(session)) = (process::parent_id(), session) else { return false };
    if process::own_id().get() == 1 || session == process::own_id() {
        return false;
    }
    let same_session = process::session_of(Some(parent)).is_ok_and(|other| other == session);
    let other_group = match (process::group_of(Some(parent)), process::group_of(None)) {
        (Ok(parents), Ok(own)) => parents != own,
        _ => false,
    };
    same_session && other_group
}
