//! memini, started as a test wants it.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::transcript::Transcript;
use super::{process, wait_for, wait_until};

/// The binary under test: `MEMINI` names the release build, without it cargo's own build is taken.
pub fn binary() -> PathBuf {
    std::env::var_os("MEMINI").map_or_else(|| env!("CARGO_BIN_EXE_memini").into(), PathBuf::from)
}

/// As what memini runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// PID 1 of a PID namespace of its own, with its own /proc.
    Init,
    /// A process like any other, which adopts orphans as a subreaper.
    Child,
}

impl Place {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Init, Self::Child];
}

/// How memini shall be started.
#[derive(Debug)]
pub struct Memini {
    place: Place,
    launcher: Vec<OsString>,
    options: Vec<OsString>,
    command: Command,
}

impl Memini {
    /// In this place, with nothing on standard input.
    pub fn at(place: Place) -> Self {
        let program = match place {
            Place::Init => "unshare",
            Place::Child => "env",
        };
        let mut command = Command::new(program);
        // What is ignored or blocked where the tests are started is inherited through all that follows: under nohup(1) an app
        // that kills itself with SIGHUP would live on.
        let defaults = ["env", "--default-signal"];
        if place == Place::Init {
            command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
            if !nix::unistd::geteuid().is_root() {
                command.arg("--map-root-user");
            }
            command.args(defaults);
        } else {
            command.arg(defaults[1]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MEMINI")) {
            command.env_remove(name);
        }
        // All of them would record in one folder, and tell of one another's ends.
        command.env("MEMINI_RECORDER", "off");
        Self { place, launcher: Vec::new(), options: Vec::new(), command }
    }

    /// With these options.
    pub fn options<W: Into<OsString>>(mut self, options: impl IntoIterator<Item = W>) -> Self {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Run by a program that becomes memini by exec: its words, memini's follow.
    pub fn launched_by<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.launcher.extend(words.into_iter().map(Into::into));
        self
    }

    /// Run by a shell script that becomes memini with `exec "$@"`.
    pub fn launched_by_shell(self, script: &str) -> Self {
        self.launched_by(["sh", "-c", script, "sh"])
    }

    /// With standard input, output, directory or environment of the test's own.
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts it with this app.
    pub fn start<W: Into<OsString>>(self, app: impl IntoIterator<Item = W>) -> Running {
        let mut words = self.launcher;
        words.push(binary().into());
        words.extend(self.options);
        words.push("--".into());
        words.extend(app.into_iter().map(Into::into));
        Running::start(self.place, self.command, words)
    }

    /// Runs it to its end with this app.
    pub fn run<W: Into<OsString>>(self, app: impl IntoIterator<Item = W>) -> Finished {
        self.start(app).finish()
    }

    /// Runs the same without memini: what the app would see by itself.
    pub fn run_bare<W: Into<OsString>>(self, app: impl IntoIterator<Item = W>) -> Finished {
        let mut words = self.launcher;
        words.extend(app.into_iter().map(Into::into));
        Running::start(self.place, self.command, words).finish()
    }
}

/// A memini that runs. It and all below it are killed if the test does not see its end.
pub struct Running {
    place: Place,
    child: Child,
    /// What the app and memini write to standard output.
    pub output: Transcript,
    /// What they write to standard error.
    pub log: Transcript,
}

/// A memini that has ended.
#[derive(Debug)]
pub struct Finished {
    status: ExitStatus,
    /// All of standard output.
    pub output: String,
    /// All of standard error.
    pub log: String,
}

impl Finished {
    /// The exit code; fails if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("a signal ended memini: {self:?}"))
    }

    /// Fails unless the exit code is this.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self:?}");
        self
    }

    /// The exit code, or the signal that ended memini before it was ready for signals.
    pub fn status(&self) -> ExitStatus {
        self.status
    }
}

impl Running {
    fn start(place: Place, mut command: Command, words: Vec<OsString>) -> Self {
        let mut child = command.args(words).spawn().unwrap();
        let output = child.stdout.take().map_or_else(Transcript::empty, Transcript::of);
        let log = child.stderr.take().map_or_else(Transcript::empty, Transcript::of);
        Self { place, child, output, log }
    }

    /// memini's process id, seen from here, once it is memini (and not yet the program that becomes it).
    pub fn pid(&mut self) -> u32 {
        let pid = self.pid_of_any_name();
        wait_until("a process named memini", || process::name(pid).is_some_and(|name| name == "memini"));
        pid
    }

    /// The process that is or becomes memini.
    pub fn pid_of_any_name(&mut self) -> u32 {
        match self.place {
            Place::Child => self.child.id(),
            Place::Init => wait_for("the PID namespace's first process", || {
                assert!(self.child.try_wait().unwrap().is_none(), "it has ended: {}", self.log.text());
                process::children(self.child.id()).first().copied()
            }),
        }
    }

    /// Sends memini a signal, from outside its PID namespace.
    pub fn signal(&mut self, number: i32) {
        let pid = self.pid();
        process::send(pid, number);
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Writes to memini's standard input, where the test has the other end of it.
    pub fn write_input(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Closes memini's standard input, where the test has the other end of it.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for memini's end.
    pub fn end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the end of memini", || child.try_wait().unwrap())
    }

    /// Waits for memini's end, and for that of everyone who holds its output.
    pub fn finish(mut self) -> Finished {
        let status = self.end();
        Finished { status, output: self.output.whole(), log: self.log.whole() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let below = process::descendants(self.child.id());
            if std::thread::panicking() {
                below.iter().for_each(|id| eprintln!("still there: {}", process::told(*id)));
            }
            let _ = self.child.kill();
            below.into_iter().for_each(process::end);
            let _ = self.child.wait();
        }
    }
}
