//! HotSpot's attach protocol: a socket in /tmp that the JVM opens when a trigger file and SIGQUIT ask for it, and on
//! which it answers one command a connection.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::target::{Status, Target};
use crate::capture::census::Refusal;
use crate::sys::guise::Guise;
use crate::sys::poll::{Interest, Wait};
use crate::sys::process::{Handle, ProcessId};
use crate::sys::signal::Signal;
use crate::sys::socket;

/// How long a JVM may take to open its socket. It does so within 30 ms unless it waits for a safepoint.
const OPENING: Duration = Duration::from_secs(6);
/// The first look for the socket, and the longest time between two.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LONGEST_LOOK: Duration = Duration::from_millis(200);

/// How much of an answer's text is kept where all of it is wanted. A class histogram is not kept but read as it comes.
const LONGEST_TEXT: u64 = 256 * 1024;

/// A moment that nothing may outlast.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// In so long a time.
    pub fn after(span: Duration) -> Self {
        let now = Instant::now();
        // A time beyond what the clock can tell: a day is as good.
        Self(now.checked_add(span).or_else(|| now.checked_add(Duration::from_secs(86400))).unwrap_or(now))
    }

    /// How much time is left; `None` when it is over.
    pub fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// The moment itself.
    pub const fn at(self) -> Instant {
        self.0
    }

    /// The earlier of this and in so long a time.
    pub fn or_after(self, span: Duration) -> Self {
        Self(self.0.min(Self::after(span).0))
    }
}

/// A JVM that can be asked.
#[derive(Debug)]
pub struct Jvm {
    target: Target,
    status: Status,
    /// The target's /tmp.
    temporary: OwnedFd,
    socket: String,
    deadline: Deadline,
}

impl Jvm {
    /// Opens the way to a JVM: by the socket that is there, or by asking for one. `start` is when it has started, if only
    /// that one is meant.
    ///
    /// # Errors
    /// [`Refusal::NotMine`] for another kind of process, [`Refusal::Cannot`] with the cause.
    pub fn attach(pid: i32, start: Option<u64>, deadline: Deadline) -> Result<Self, Refusal> {
        let target = Target::open(pid)?;
        if start.is_some_and(|start| target.started().ok() != Some(start)) {
            return Err(gone(pid));
        }
        target.check_kind()?;
        let status = target.status().map_err(|_| gone(pid))?;
        check_state(pid, &status)?;
        let temporary = target
            .folder("root/tmp")
            .map_err(|error| cannot(pid, &format!("/proc/{pid}/root/tmp, where its socket would be: {error}")))?;
        let socket = format!(".java_pid{}", status.own_pid);
        let jvm = Self { target, status, temporary, socket, deadline };
        match jvm.connect() {
            Ok(_) => Ok(jvm),
            Err(Connection::Absent) => jvm.trigger().map(|()| jvm),
            Err(Connection::Stale) => {
                // Left by an earlier process of this number that was killed. It is the target's own to replace.
                let _as_target = jvm.guise()?;
                let _ = unlinkat(&jvm.temporary, jvm.socket.as_str(), UnlinkatFlags::NoRemoveDir);
                drop(_as_target);
                jvm.trigger().map(|()| jvm)
            }
            Err(Connection::Busy) => Err(cannot(pid, "it does not take connections; it may hang")),
            Err(Connection::Refused(refusal)) => Err(refusal),
        }
    }

    /// Its number.
    pub const fn pid(&self) -> i32 {
        self.target.pid
    }

    /// The process.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// What its status was.
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// Its /tmp.
    pub const fn temporary(&self) -> &OwnedFd {
        &self.temporary
    }

    /// Acts as the JVM's user from here on: what is made belongs to it, and it talks to nobody else.
    ///
    /// # Errors
    /// Where that user may not be taken on.
    pub fn guise(&self) -> Result<Option<Guise>, Refusal> {
        let (user, group) = (self.status.user(), self.status.group());
        Guise::of(user, group).map_err(|error| {
            cannot(
                self.pid(),
                &format!("it runs as user {user} and group {group}, whom memini may not act for: {error}"),
            )
        })
    }

    /// Asks for one thing: a command of the protocol and up to three arguments.
    ///
    /// # Errors
    /// [`Refusal::Cannot`] where it does not answer in time, is gone, or refuses.
    pub fn ask(&self, command: &str, arguments: [&str; 3]) -> Result<Answer, Refusal> {
        let pid = self.pid();
        let stream = match self.connect() {
            Ok(stream) => stream,
            Err(Connection::Refused(refusal)) => return Err(refusal),
            Err(Connection::Busy) => return Err(cannot(pid, "it does not take connections; it may hang")),
            Err(Connection::Absent | Connection::Stale) => return Err(cannot(pid, "its socket has gone")),
        };
        let [first, second, third] = arguments;
        let request = format!("1\0{command}\0{first}\0{second}\0{third}\0");
        // It fits into the socket's buffer, so this never waits.
        socket::send_now(&stream, request.as_bytes()).map_err(|error| cannot(pid, &format!("it hangs up: {error}")))?;
        Ok(Answer { stream, pid, deadline: self.deadline, asked: Instant::now(), early: Vec::new(), ended: false })
    }

    /// Asks for what `jcmd` would ask, and returns the text.
    ///
    /// # Errors
    /// As [`Jvm::ask`], and where the JVM says that it failed.
    pub fn command(&self, line: &str) -> Result<String, Refusal> {
        self.ask("jcmd", [line, "", ""])?.text()
    }

    fn connect(&self) -> Result<UnixStream, Connection> {
        let pid = self.pid();
        let refuse = |cause: &str| Connection::Refused(cannot(pid, &format!("/tmp/{} {cause}", self.socket)));
        let status = match fstatat(&self.temporary, self.socket.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(status) => status,
            Err(Errno::ENOENT) => return Err(Connection::Absent),
            Err(error) => return Err(refuse(&format!("cannot be looked at: {error}"))),
        };
        if status.st_mode & libc::S_IFMT != libc::S_IFSOCK {
            return Err(refuse("is no socket; somebody else has put it there"));
        }
        if status.st_uid != 0 && status.st_uid != self.status.user() {
            return Err(refuse(&format!("belongs to user {}, not to the JVM's", status.st_uid)));
        }
        // Short enough for an address, and the folder is the one that was looked at.
        let path = PathBuf::from(format!("/proc/self/fd/{}/{}", self.temporary.as_raw_fd(), self.socket));
        let as_target = self.guise().map_err(Connection::Refused)?;
        let connected = socket::connect_now(&path);
        drop(as_target);
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(Connection::Stale),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Connection::Absent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Connection::Busy),
            Err(error) => return Err(refuse(&format!("cannot be connected to: {error}"))),
        };
        // Two containers may share /tmp, and each has a process 1.
        match socket::peer(&stream) {
            Ok((peer, _)) if peer == pid => Ok(stream),
            Ok(_) => Err(refuse("is that of another process; the folder may be shared with another container")),
            Err(error) => Err(refuse(&format!("does not tell whose it is: {error}"))),
        }
    }

    /// Asks the JVM to open its socket, and waits for it.
    fn trigger(&self) -> Result<(), Refusal> {
        let pid = self.pid();
        // Before the target is looked at again below: a later process of this number would be noticed there.
        let handle = Handle::open(ProcessId::new(pid).ok_or(Refusal::NotMine)?).map_err(|_| gone(pid))?;
        if self.target.has_option(b"-XX:+DisableAttachMechanism") {
            return Err(cannot(pid, "it was started with -XX:+DisableAttachMechanism"));
        }
        self.check_handler()?;
        let trigger = Trigger::create(self)?;
        // Looked at anew as late as possible: between the two the process may have been replaced.
        self.check_handler()?;
        handle.signal(Signal::QUIT).map_err(|error| cannot(pid, &format!("it cannot be sent SIGQUIT: {error}")))?;
        let deadline = self.deadline.or_after(OPENING);
        let began = Instant::now();
        let mut pause = FIRST_LOOK;
        while let Some(left) = deadline.left() {
            std::thread::sleep(pause.min(left));
            pause = pause.saturating_mul(2).min(LONGEST_LOOK);
            match self.connect() {
                Ok(_) => return Ok(()),
                // It binds the socket before it listens.
                Err(Connection::Absent | Connection::Stale | Connection::Busy) => {}
                Err(Connection::Refused(refusal)) => return Err(refusal),
            }
            if self.target.status().is_err() {
                return Err(gone(pid));
            }
        }
        drop(trigger);
        let waited =
            crate::units::Span(Duration::from_millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)));
        let cause = match self.target.status().map(|status| status.state) {
            Ok(b'T' | b't') => "it is stopped, and will print its threads when it goes on",
            Ok(b'Z' | b'X') | Err(_) => return Err(gone(pid)),
            Ok(_) => "it hangs, or attaching is disabled",
        };
        Err(cannot(pid, &format!("it did not open its socket within {waited}: {cause}")))
    }

    fn check_handler(&self) -> Result<(), Refusal> {
        let status = self.target.status().map_err(|_| gone(self.pid()))?;
        check_state(self.pid(), &status)?;
        if !status.catches_quit() {
            // It is starting, and the signal would be its end; or it runs with -Xrs and has its socket from the start on.
            return Err(cannot(self.pid(), "it does not handle SIGQUIT (yet), which would end it"));
        }
        // It handles SIGQUIT early, and only later removes the socket of an earlier process of its number: its own, if it
        // was asked for one meanwhile. This thread comes after that. Not every JDK 8 gives its threads names.
        let has_begun = self.target.thread_names().iter().any(|name| name == b"Service Thread");
        if !has_begun && !self.target.is_of_jdk_8() {
            return Err(cannot(self.pid(), "it is starting"));
        }
        Ok(())
    }
}

/// Why there is no connection.
enum Connection {
    /// There is no socket.
    Absent,
    /// Nobody listens.
    Stale,
    /// The queue is full.
    Busy,
    Refused(Refusal),
}

/// The file that tells the JVM that SIGQUIT means attaching; removed when this goes.
struct Trigger<'a> {
    jvm: &'a Jvm,
    folder: OwnedFd,
    name: String,
}

impl<'a> Trigger<'a> {
    fn create(jvm: &'a Jvm) -> Result<Self, Refusal> {
        let name = format!(".attach_pid{}", jvm.status.own_pid);
        let mut cause = None;
        for place in ["cwd", "root/tmp"] {
            let created = jvm.target.folder(place).and_then(|folder| {
                let _as_target = jvm.guise().map_err(|refusal| io::Error::other(refusal.to_string()))?;
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(&folder, name.as_str(), flags, Mode::from_bits_truncate(0o660))?;
                Ok(folder)
            });
            match created {
                Ok(folder) => return Ok(Self { jvm, folder, name }),
                Err(error) => cause = Some(error),
            }
        }
        let cause = cause.map_or(String::new(), |error| error.to_string());
        Err(cannot(jvm.pid(), &format!("{name} can be made neither in its working folder nor in its /tmp: {cause}")))
    }
}

impl Drop for Trigger<'_> {
    fn drop(&mut self) {
        // As who made it; where that fails, as memini itself: a file that is left would turn the next SIGQUIT of
        // somebody who wants a thread dump into an attach.
        let as_target = self.jvm.guise();
        if unlinkat(&self.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir).is_err() {
            drop(as_target);
            let _ = unlinkat(&self.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// What the JVM answers: a code, then text until the end. Reading fails with `TimedOut` at the deadline.
#[derive(Debug)]
pub struct Answer {
    stream: UnixStream,
    pid: i32,
    deadline: Deadline,
    asked: Instant,
    /// What came before anybody wanted to read it.
    early: Vec<u8>,
    ended: bool,
}

impl Answer {
    /// The connection, to wait for.
    pub const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// When it was asked.
    pub const fn asked(&self) -> Instant {
        self.asked
    }

    /// The same answer, but to be waited for no longer than this from now on.
    pub fn within(mut self, span: Duration) -> Self {
        self.deadline = self.deadline.or_after(span);
        self
    }

    /// Takes what has come, without waiting; whether that was all of it. JDK 21 and later begin to answer before they have
    /// done anything.
    pub fn has_ended(&mut self) -> bool {
        let mut buffer = [0; 1024];
        while !self.ended {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) if (self.early.len() as u64) < LONGEST_TEXT => {
                    self.early.extend_from_slice(buffer.get(..count).unwrap_or_default());
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // It will not say more.
                Err(_) => self.ended = true,
            }
        }
        self.ended
    }

    /// Waits no longer than this for the end of the answer; whether it has come.
    pub fn ends_within(&mut self, span: Duration) -> bool {
        let deadline = self.deadline.or_after(span);
        while !self.has_ended() {
            let Some(left) = deadline.left() else { return false };
            let mut wait = Wait::new();
            wait.add(self.stream.as_fd(), Interest::Read, ());
            if wait.wait(Some(left)).is_err() {
                return false;
            }
        }
        true
    }

    /// The code in the first line: 0 for success. JVMs say 0 for many failures, too.
    ///
    /// # Errors
    /// [`Refusal::Cannot`] for the deadline, a connection that ends, and what is no number.
    pub fn code(&mut self) -> Result<i32, Refusal> {
        let mut digits = String::new();
        let pid = self.pid;
        for _ in 0..16 {
            let mut byte = [0];
            match self.read(&mut byte) {
                Ok(0) if digits.is_empty() => return Err(cannot(pid, "it closed the connection without an answer")),
                Ok(0) => break,
                Ok(_) if byte == [b'\n'] => break,
                Ok(_) => digits.extend(byte.map(char::from)),
                Err(error) => return Err(self.failure(&error)),
            }
        }
        digits.trim().parse().map_err(|_| cannot(pid, &format!("its answer makes no sense: {digits:?}")))
    }

    /// The code, which must be 0, and the text; a text that is too long is cut.
    ///
    /// # Errors
    /// As [`Answer::code`].
    pub fn text(mut self) -> Result<String, Refusal> {
        let code = self.code()?;
        let mut bytes = Vec::new();
        if let Err(error) = self.by_ref().take(LONGEST_TEXT).read_to_end(&mut bytes) {
            return Err(self.failure(&error));
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if code == 0 { Ok(text) } else { Err(cannot(self.pid, &format!("it answers {}", quoted(&text)))) }
    }

    /// The line for an answer that could not be read.
    pub fn failure(&self, error: &io::Error) -> Refusal {
        match error.kind() {
            io::ErrorKind::TimedOut => {
                cannot(self.pid, "it did not answer in time; it may hang on its way to a safepoint")
            }
            _ => cannot(self.pid, &format!("it hangs up: {error}")),
        }
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.early.is_empty() {
            let count = self.early.as_slice().read(buffer)?;
            self.early.drain(..count);
            return Ok(count);
        }
        if self.ended {
            return Ok(0);
        }
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = self.deadline.left().ok_or(io::ErrorKind::TimedOut)?;
                    let mut wait = Wait::new();
                    wait.add(self.stream.as_fd(), Interest::Read, ());
                    wait.wait(Some(left))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// The line for a JVM that cannot be asked.
pub fn cannot(pid: i32, cause: &str) -> Refusal {
    Refusal::Cannot(format!("cannot ask JVM {pid}: {cause}; its heap is not looked at"))
}

fn check_state(pid: i32, status: &Status) -> Result<(), Refusal> {
    match status.state {
        // It could not answer, and would print its threads into the app's output when it goes on.
        b'T' | b't' => Err(cannot(pid, "it is stopped")),
        b'Z' | b'X' | b'x' => Err(gone(pid)),
        _ => Ok(()),
    }
}

fn gone(pid: i32) -> Refusal {
    cannot(pid, "it has ended")
}

/// The first line of what a JVM says, short and without what could forge a line of the log.
pub fn quoted(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
    let line: String = line.chars().take(200).collect();
    format!("“{}”", line.escape_debug())
}
