//! Lines instead of types: what tracemalloc records, asked from memini's helper in a Python process.
//!
//! The helper is a file of Python that memini puts before all others (`--helpers python`); see `helper/sitecustomize.py`. It
//! listens on an abstract socket, which leaves nothing on any disk and is named by the PID namespace and the number there, and
//! obeys only root and its own user, whom the kernel names. Each command brings the socket for its answer along, and an answer
//! counts only if the kernel says that it comes from that process: anybody may take a name first.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials,
    connect, recvmsg, sendmsg, setsockopt, socket, sockopt,
};

use super::marshal::{First, Lines};
use super::remote;
use super::stop::OnHold;
use crate::capture::census::{Census, Refusal};
use crate::sys::process::ProcessId;
use crate::units::{Size, Span};

/// The helper itself, a file of Python by the name under which Python looks for such files.
pub const SOURCE: &str = include_str!("helper/sitecustomize.py");

/// That name, and the folder below memini's own.
pub const FILE: &str = "sitecustomize.py";
pub const FOLDER: &str = "helpers/python";

/// How many lines are told.
const LINES: usize = 50;

/// How long a helper has for its answer: it waits for the interpreter's lock, which an extension may keep for long.
const PATIENCE: Duration = Duration::from_secs(2);

/// All of a look's helpers, with all their traces. So many may come, and so much at a time.
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(10);
const MOST_SENT: usize = 512 << 20;
const LARGEST_PART: usize = 4 << 20;

/// When recording ends if nobody asks any more: a slow leak takes hours from the trace stage to the capture stage.
const LONGEST_RECORDING: Duration = Duration::from_secs(6 * 3600);

/// What recording may take in the app; bytes. The most is so many blocks that they are listed in about 0.3 s, for which the
/// interpreter stands still.
const LEAST_RECORDED: u64 = 1 << 20;
const MOST_RECORDED: u64 = 32 << 20;

/// What a list of all blocks takes, as a multiple of what recording takes (the helper has the same number).
const COST_OF_LIST: u64 = 4;

/// With more processes than that, none is told of those that share the room with it: each takes some microseconds of its time.
const MOST_SHARING: usize = 100;

/// How long a helper that was brought is waited for, and how often it is looked whether it is there.
const PATIENCE_WITH_BROUGHT: Duration = Duration::from_millis(500);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// The longest first line.
const LONGEST_LINE: usize = 128;

/// What is to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct Tracing<'a> {
    /// How many frames of the stack at each allocation.
    pub frames: u32,
    /// When it ends if nobody asks again.
    pub longest: Duration,
    /// What is left below the limit; bytes.
    pub room: Option<u64>,
    /// Who shares it.
    pub sharing: &'a [i32],
    /// In how many of them is recorded.
    pub processes: u64,
    /// The helper's file, for those who can be made to read it now.
    pub file: Option<&'a Path>,
    /// Who is told before a process is stopped for that.
    pub on_hold: OnHold,
    /// Until when all helpers that are asked must have answered: a look must not fail because they do not.
    pub until: Instant,
}

impl<'a> Tracing<'a> {
    /// For one look, that begins now.
    pub fn of_look(frames: u32, room: Option<u64>) -> Self {
        let now = Instant::now();
        let until = now.checked_add(PATIENCE_WITH_ALL).unwrap_or(now);
        Self {
            frames,
            longest: LONGEST_RECORDING,
            room,
            sharing: &[],
            processes: 1,
            file: None,
            on_hold: |_| Ok(()),
            until,
        }
    }

    /// The room is that of all these processes, of which this many at the most are looked at.
    #[must_use]
    pub fn shared(self, sharing: &'a [i32], most: usize) -> Self {
        Self { sharing, processes: u64::try_from(sharing.len().clamp(1, most.max(1))).unwrap_or(1), ..self }
    }

    /// Where this is the helper's file: also in processes that have none yet, if they can be made to run it.
    #[must_use]
    pub fn brought(self, file: &'a Path, on_hold: OnHold) -> Self {
        Self { file: Some(file), on_hold, ..self }
    }

    /// Adds the lines to the census of this process, and lets its helper begin to record if it does not. On top of it, for the
    /// log, why there is nothing to be had from the helper, or not all.
    pub fn add(&self, pid: i32, census: Result<Census, Refusal>) -> (Result<Census, Refusal>, Option<String>) {
        if matches!(census, Err(Refusal::NotMine)) {
            return (census, None);
        }
        let dump = self.dump(pid);
        let fault = match &dump {
            Ok(dump) => dump.why_not_all().map(|why| format!("process {pid}: {why}")),
            // Who has ended has no helper any more, and that it has is said already.
            Err(_) if !exists(pid) => None,
            Err(why) => Some(format!("process {pid}: {why}; no lines are recorded")),
        };
        let census = match (census, &dump) {
            // A version that cannot be looked at from outside still tells by itself.
            (Err(Refusal::Cannot(why)), Ok(dump)) if dump.has_lines() => {
                Ok(Census { runtime: "CPython".into(), share: 1.0, remarks: vec![why], ..Census::default() })
            }
            (census, _) => census,
        };
        let census = census.map(|mut census| {
            match dump {
                Ok(dump) => dump.add_to(&mut census),
                Err(_) => census.remarks.extend(fault.clone()),
            }
            census
        });
        (census, fault)
    }

    fn dump(&self, pid: i32) -> Result<Dump, String> {
        // What a dump takes is gone a moment later, before the next process has its turn; what recording takes stays.
        let for_dump = self.room.map_or(u64::MAX, |room| room / 2).min(MOST_RECORDED.saturating_mul(COST_OF_LIST));
        let found = match dump(pid, for_dump, self.until) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                if !self.bring(pid)? {
                    return Err(why(&error));
                }
                dump(pid, for_dump, self.until)
            }
            found => found,
        };
        let found = found.map_err(|error| why(&error))?;
        if matches!(found.state, State::Idle | State::Kept | State::Lost) {
            Answer::to(pid, &self.start(pid), self.until).map_err(|error| why(&error))?;
        }
        Ok(found)
    }

    /// The command by which recording begins in this process.
    fn start(&self, pid: i32) -> String {
        // Not more than fits into what the kernel and Python count with.
        let room = self.room.unwrap_or(1 << 48);
        let part = room.checked_div(self.processes).unwrap_or(0);
        let most = (part / 16).clamp(LEAST_RECORDED, MOST_RECORDED);
        let mut command = format!("start {} {} {most} ", self.frames, self.longest.as_secs());
        // Mostly one of them grows, and may take all the room: a helper looks what all have taken. It leaves room for the lists of
        // the others, who may have to make theirs at the same moment. Where it cannot see them there is only its own part.
        let others = most.saturating_mul(COST_OF_LIST).saturating_mul(self.processes.saturating_sub(1));
        let sees_them = self.sharing.len() <= MOST_SHARING && self.sharing.contains(&pid) && sees_numbers_of_mine(pid);
        // Writing to a String cannot fail.
        let _ = write!(command, "{}", if sees_them { room.saturating_sub(others).max(part) } else { part });
        for process in self.sharing.iter().filter(|_| sees_them) {
            let _ = write!(command, " {process}");
        }
        command
    }

    /// Makes a process read the helper's file, and waits until it is there. Whether it could be made to.
    fn bring(&self, pid: i32) -> Result<bool, String> {
        let (Some(file), Some(process)) = (self.file, ProcessId::new(pid)) else { return Ok(false) };
        let cannot = |why: String| format!("no helper is in it, and none can be brought: {why}");
        if !remote::run(process, file, SOURCE, self.on_hold).map_err(cannot)? {
            return Ok(false);
        }
        let deadline = Instant::now().checked_add(PATIENCE_WITH_BROUGHT).map_or(self.until, |end| end.min(self.until));
        while !address(pid).and_then(|address| listens(&address)).unwrap_or(false) {
            if Instant::now() >= deadline {
                return Err(
                    "no helper is in it yet: one comes as soon as any of its threads runs Python again".to_owned()
                );
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        // The other threads need not.
        remote::take_back(process, file, self.on_hold);
        Ok(true)
    }
}

/// Ends what memini has begun to record in this process. Where there is no helper, nothing is to be ended; and none comes any more
/// that was to be brought from this file.
pub fn end(pid: i32, file: &Path, on_hold: OnHold) {
    let stopped = Answer::to(pid, "stop", Instant::now());
    if let (Err(error), Some(process)) = (stopped, ProcessId::new(pid))
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        remote::take_back(process, file, on_hold);
    }
}

/// Whether it still is, and not only as a zombie: that has no memory.
fn exists(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/maps")).is_ok_and(|maps| !maps.is_empty())
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            "no helper is in it: python -I, -E or -S, a worker of uWSGI, another user, or it was there before"
                .to_owned()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "its helper does not answer: something keeps the interpreter's lock, or it has just forked".to_owned()
        }
        io::ErrorKind::PermissionDenied => "another process answers in its helper's name".to_owned(),
        _ => format!("its helper cannot be asked: {error}"),
    }
}

/// What a helper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It records nothing.
    Idle,
    /// It does, because memini has said so.
    Own,
    /// The app itself has begun to.
    App,
    /// It did, until that took too long or too much memory; the lines with the most bytes were kept.
    Kept,
    /// It did, until that took too long or too much memory, and there was no room to keep anything.
    Lost,
    /// To tell would take more memory than there is, or too long.
    Large,
}

/// An answer's first line, and what follows it.
#[derive(Debug)]
struct Answer {
    stream: UnixStream,
    /// Who must be the one who answers.
    pid: i32,
    deadline: Instant,
    state: State,
    recorded: Duration,
    /// What tracemalloc takes, or has taken at the most; bytes.
    memory: u64,
}

impl Answer {
    fn to(pid: i32, command: &str, until: Instant) -> io::Result<Self> {
        let deadline = Instant::now().checked_add(PATIENCE).map_or(until, |deadline| deadline.min(until));
        let (stream, theirs) = UnixStream::pair()?;
        setsockopt(&stream, sockopt::PassCred, &true)?;
        send(&address(pid)?, command, &theirs.into())?;
        let mut answer = Self { stream, pid, deadline, state: State::Idle, recorded: Duration::ZERO, memory: 0 };
        let line = answer.line()?;
        let mut words = line.split(' ');
        answer.state = match words.next() {
            Some("idle") => State::Idle,
            Some("own") => State::Own,
            Some("app") => State::App,
            Some("kept") => State::Kept,
            Some("lost") => State::Lost,
            Some("large") => State::Large,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or(io::ErrorKind::InvalidData);
        (answer.recorded, answer.memory) = (Duration::from_secs(number()?), number()?);
        Ok(answer)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::with_capacity(LONGEST_LINE);
        loop {
            let mut letter = [0];
            self.fill(&mut letter)?;
            match letter {
                [b'\n'] => return String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into()),
                [letter] if line.len() < LONGEST_LINE => line.push(letter),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what the process has sent, and nobody else.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // Room for nothing else: descriptors that somebody sends along do not fit in, and the kernel closes them.
        let mut extras = nix::cmsg_space!(UnixCredentials);
        let mut parts = [IoSliceMut::new(buffer)];
        let message =
            recvmsg::<()>(self.stream.as_raw_fd(), &mut parts, Some(&mut extras), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let is_theirs = message
            .cmsgs()?
            .any(|extra| matches!(extra, ControlMessageOwned::ScmCredentials(sender) if sender.pid() == self.pid));
        if message.bytes > 0 && !is_theirs {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(message.bytes)
    }

    /// All parts, until one of no length. An error: not all of them have come; those that have are in `lines`.
    fn parts(&mut self, lines: &mut Lines) -> io::Result<()> {
        let first = if self.state == State::Kept { First::Blocks } else { First::Domain };
        let (mut part, mut sent) = (Vec::new(), 0usize);
        loop {
            let mut length = [0; 4];
            self.fill(&mut length)?;
            let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
            if length == 0 {
                return Ok(());
            }
            sent = sent.saturating_add(length);
            if length > LARGEST_PART || sent > MOST_SENT {
                return Err(io::ErrorKind::InvalidData.into());
            }
            part.resize(length, 0);
            self.fill(&mut part)?;
            lines.add(&part, first).map_err(|_| io::ErrorKind::InvalidData)?;
        }
    }
}

/// Whether a process has the same numbers for processes as this one.
fn sees_numbers_of_mine(pid: i32) -> bool {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
    matches!((namespace(&pid.to_string()), namespace("self")), (Ok(its), Ok(mine)) if its == mine)
}

/// `memini-python-<PID namespace>-<number there>`
fn address(pid: i32) -> io::Result<UnixAddr> {
    let namespace = fs::read_link(format!("/proc/{pid}/ns/pid"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number =
        status.lines().find_map(|line| line.strip_prefix("NSpid:")).and_then(|line| line.split('\t').next_back());
    let namespace = namespace.to_str().and_then(|name| name.strip_prefix("pid:[")?.strip_suffix(']'));
    let (Some(namespace), Some(number)) = (namespace, number) else { return Err(io::ErrorKind::InvalidData.into()) };
    Ok(UnixAddr::new_abstract(format!("memini-python-{namespace}-{number}").as_bytes())?)
}

/// Whether anybody has this name.
fn listens(address: &UnixAddr) -> io::Result<bool> {
    let asking = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    Ok(connect(asking.as_raw_fd(), address).is_ok())
}

fn send(address: &UnixAddr, command: &str, answer: &OwnedFd) -> io::Result<()> {
    let sender = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let descriptors = [answer.as_raw_fd()];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let text = [IoSlice::new(command.as_bytes())];
    sendmsg(sender.as_raw_fd(), &text, &[ControlMessage::ScmRights(&descriptors)], flags, Some(address))?;
    Ok(())
}

/// What has been recorded.
#[derive(Debug)]
struct Dump {
    state: State,
    recorded: Duration,
    memory: u64,
    lines: Lines,
    /// Why not all of it has come.
    fault: Option<io::Error>,
}

fn dump(pid: i32, room: u64, until: Instant) -> io::Result<Dump> {
    let mut answer = Answer::to(pid, &format!("dump {room}"), until)?;
    let lines = Lines::default();
    answer.deadline = until;
    let mut dump = Dump { state: answer.state, recorded: answer.recorded, memory: answer.memory, lines, fault: None };
    if dump.has_lines() {
        dump.fault = answer.parts(&mut dump.lines).err();
    }
    Ok(dump)
}

impl Dump {
    const fn has_lines(&self) -> bool {
        matches!(self.state, State::Own | State::App | State::Kept)
    }

    /// What was recorded, and cannot be told. Without this the log would pass over it.
    fn why_not_all(&self) -> Option<String> {
        let recorded = Span(self.recorded);
        match self.state {
            State::Large => Some(format!(
                "lines were recorded for {recorded}; to tell them takes four times the {} that this takes, and there is no \
                 room for it, or the app would stand still for too long",
                Size(self.memory)
            )),
            State::Lost => Some(format!(
                "lines were recorded for {recorded}, until it took too long or too much memory, and there was no room to keep \
                 them; it begins again"
            )),
            _ => self.fault.as_ref().map(|error| format!("not all lines have come: {error}")),
        }
    }

    fn add_to(self, census: &mut Census) {
        let (sites, bytes, blocks) = self.lines.largest(LINES);
        let recorded = Span(self.recorded);
        census.remarks.extend(self.why_not_all());
        match self.state {
            State::Idle => census.remarks.push("from now on it is recorded which lines allocate".to_owned()),
            State::Own | State::App | State::Kept => {
                let who = if self.state == State::App { "the app itself has recorded" } else { "recorded" };
                let end = if self.state == State::Kept { ", until it took too long or too much memory" } else { "" };
                census.remarks.push(format!(
                    "{who} for {recorded}{end}: {} in {blocks} blocks, without what was allocated before; that takes up to {}",
                    Size(bytes),
                    Size(self.memory)
                ));
            }
            State::Large | State::Lost => {}
        }
        // Without lines, too: what recording takes or has taken is no leak of the app's.
        if self.state != State::Idle {
            census.recorded = Some(self.recorded);
            census.recording = self.memory;
        }
        census.sites = sites;
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    /// Says that it is up, and does what it is told.
    const APP: &str = r#"
import os, signal, sys
held = []
def hold(count, letters=1000):
    for number in range(count):
        held.append("x" * letters + str(number))
print("up", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"#;

    struct App {
        child: Child,
        output: BufReader<ChildStdout>,
        errors: PathBuf,
        place: tempfile::TempDir,
        /// The helper's file, as the app sees it.
        file: PathBuf,
    }

    impl App {
        fn start(options: &[&str], sitecustomize: Option<&str>) -> Self {
            let python = std::env::var_os("MEMINI_TEST_PYTHON").unwrap_or_else(|| "python3".into());
            Self::start_in(tempfile::tempdir().unwrap(), Path::new("/"), Command::new(python), options, sitecustomize)
        }

        /// CPython 3.14 in a root of its own, which has its own /proc; `None` where there is none.
        fn start_newest(user: u32, options: &[&str]) -> Option<Self> {
            let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
            let cache =
                std::env::var_os("MEMINI_TEST_CACHE").map_or_else(|| home.join(".cache/memini-tests"), PathBuf::from);
            let root = cache.join("python-forky");
            if !nix::unistd::geteuid().is_root() || !root.join("ok").exists() {
                println!("skipped: not root, or there is no {}", root.display());
                return None;
            }
            let place = tempfile::tempdir_in(root.join("tmp")).unwrap();
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", r#"mount -t proc proc "$0/proc" && exec chroot "$@""#]).arg(&root);
            command.arg(format!("--userspec={user}:{user}")).arg(&root).arg("/usr/bin/python3.14");
            fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
            Some(Self::start_in(place, &root, command, options, None))
        }

        fn start_in(
            place: tempfile::TempDir,
            root: &Path,
            mut command: Command,
            options: &[&str],
            sitecustomize: Option<&str>,
        ) -> Self {
            let (folder, own) = (place.path().join("helper"), place.path().join("own"));
            for path in [&folder, &own] {
                fs::create_dir(path).unwrap();
            }
            fs::write(folder.join(FILE), SOURCE).unwrap();
            if let Some(text) = sitecustomize {
                fs::write(own.join(FILE), text).unwrap();
            }
            fs::write(place.path().join("app.py"), APP).unwrap();
            let errors = place.path().join("errors");
            let seen = |path: &Path| Path::new("/").join(path.strip_prefix(root).unwrap());
            command.args(["-X", "dev", "-W", "always"]).args(options).arg(seen(&place.path().join("app.py")));
            command.env("PYTHONPATH", format!("{}:{}", seen(&folder).display(), seen(&own).display()));
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&errors).unwrap());
            let mut child = command.spawn().unwrap();
            let output = BufReader::new(child.stdout.take().unwrap());
            let mut this = Self { child, output, errors, file: seen(&folder.join(FILE)), place };
            assert_eq!(this.line(), "up", "{}", fs::read_to_string(&this.errors).unwrap());
            this
        }

        /// As a look does that may bring a helper.
        fn brought(&self) -> (Census, Option<String>) {
            self.census(tracing(1).brought(&self.file, |_| Ok(())))
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        }

        /// Runs a line of Python; what it prints first.
        fn tell(&mut self, line: &str) -> String {
            writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
            let first = self.line();
            if first != "done" {
                assert_eq!(self.line(), "done");
            }
            first
        }

        fn pid(&self) -> i32 {
            self.child.id().cast_signed()
        }

        fn census(&self, tracing: Tracing<'_>) -> (Census, Option<String>) {
            let (census, fault) = tracing.add(self.pid(), Ok(Census::default()));
            (census.unwrap(), fault)
        }

        /// Ends it; it must have ended well and have said nothing.
        fn end(mut self) {
            drop(self.child.stdin.take());
            assert!(self.child.wait().unwrap().success());
            assert_eq!(fs::read_to_string(&self.errors).unwrap(), "");
        }
    }

    impl Drop for App {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// The line with the most bytes has so many strings, and what holds them has grown a little as well.
    #[track_caller]
    fn assert_holds(census: &Census, strings: u64) {
        let first = census.sites.first().unwrap_or_else(|| panic!("{census:?}"));
        assert!(first.line.ends_with("/app.py:6") && (strings..strings + 10).contains(&first.blocks), "{census:?}");
    }

    fn tracing(frames: u32) -> Tracing<'static> {
        Tracing::of_look(frames, None)
    }

    const IS_TRACING: &str = "import _tracemalloc; print(_tracemalloc.is_tracing())";

    fn wait_until_idle(app: &mut App) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while app.tell(IS_TRACING) == "True" {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn soon() -> Instant {
        Instant::now() + PATIENCE_WITH_ALL
    }

    #[test]
    fn lines_are_told_with_what_they_hold_and_only_as_long_as_they_are_wanted() {
        let mut app = App::start(&[], None);
        app.tell("hold(1000)");
        let (census, fault) = app.census(tracing(3));
        assert_eq!((census.sites.len(), census.recorded, fault), (0, None, None));
        app.tell("hold(2000)");
        let (census, _) = app.census(tracing(3));
        assert_holds(&census, 2000);
        let (first, script) = (&census.sites[0], app.place.path().join("app.py"));
        assert_eq!(first.callers, ["<string>:1".to_owned(), format!("{}:9", script.display())]);
        assert!((2_000_000..2_200_000).contains(&first.bytes), "{first:?}");
        assert!(census.remarks[0].contains("without what was allocated before"), "{:?}", census.remarks);
        // Much larger than one part, and not where there is no room for it.
        app.tell("hold(50_000)");
        assert_holds(&app.census(tracing(3)).0, 52_000);
        let (census, fault) = app.census(Tracing { room: Some(1 << 20), ..tracing(3) });
        assert!(census.sites.is_empty() && census.remarks[0].contains("no room"), "{:?}", census.remarks);
        assert!(fault.unwrap().contains("no room"));
        Answer::to(app.pid(), "stop", soon()).unwrap();
        assert_eq!(app.tell(IS_TRACING), "False");
        app.end();
    }

    #[test]
    fn recording_ends_by_itself_and_what_it_has_found_is_kept() {
        let mut app = App::start(&[], None);
        // The helper looks ten times a second; 30,000 blocks take more than the least that is allowed.
        app.census(Tracing { room: Some(16 << 20), ..tracing(1) });
        // The helper cannot look before that is done.
        app.tell("sys.setswitchinterval(60); hold(30_000, 10); sys.setswitchinterval(0.005)");
        wait_until_idle(&mut app);
        let (census, _) = app.census(tracing(1));
        assert_holds(&census, 30_000);
        assert!(census.remarks[0].contains("until it took too long or too much memory"), "{:?}", census.remarks);
        app.end();
    }

    #[test]
    fn what_takes_far_too_much_to_tell_is_given_up() {
        let mut app = App::start(&[], None);
        app.census(Tracing { room: Some(1), ..tracing(1) });
        // The helper cannot look before that is done.
        app.tell("sys.setswitchinterval(60); held += [object() for _ in range(200_000)]; sys.setswitchinterval(0.005)");
        let deadline = Instant::now() + Duration::from_secs(60);
        while app.tell("import _tracemalloc; print(_tracemalloc.is_tracing())") == "True" {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(20));
        }
        let (census, fault) = app.census(tracing(1));
        assert!(census.sites.is_empty() && census.recorded.is_some() && census.recording > 3 << 20, "{census:?}");
        assert!(census.remarks[0].contains("no room to keep them"), "{:?}", census.remarks);
        // The log once passed over it.
        assert_eq!(fault, Some(format!("process {}: {}", app.pid(), census.remarks[0])));
        app.end();
    }

    #[test]
    fn what_the_app_itself_records_is_told_and_left_alone() {
        let mut app = App::start(&[], None);
        app.tell("import tracemalloc; tracemalloc.start()");
        app.tell("hold(500)");
        let (census, _) = app.census(tracing(1));
        assert_holds(&census, 500);
        end(app.pid(), Path::new("/"), |_| Ok(()));
        assert!(app.census(tracing(1)).0.remarks[0].starts_with("the app itself has recorded"));
        assert_eq!(app.tell("print(tracemalloc.is_tracing())"), "True");
        app.end();
    }

    #[test]
    fn children_have_helpers_of_their_own_and_nobody_is_warned_of_a_thread() {
        let mut app = App::start(&[], None);
        app.census(tracing(1));
        app.tell("hold(300)");
        let fork = "r, w = os.pipe(); child = os.fork(); child or (hold(5), os.write(w, b'x'), signal.pause())";
        app.tell(fork);
        let child: i32 = app.tell("os.read(r, 1); print(child)").parse().unwrap();
        let census = tracing(1).add(child, Ok(Census::default())).0.unwrap();
        assert_holds(&census, 305);
        // The parent has its own back; where Python counts threads late, when it collects garbage the next time.
        app.tell("import gc; gc.collect()");
        assert_holds(&app.census(tracing(1)).0, 300);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).unwrap();
        app.tell("os.waitpid(child, 0), os.close(r), os.close(w)");
        app.end();
    }

    #[test]
    fn an_app_that_closes_what_it_does_not_know_loses_nothing_of_its_own() {
        let mut app = App::start(&[], None);
        app.tell("import stat; end = lambda number: os.fstat(number).st_mode");
        app.tell(
            "number = [n for n in range(1024) if os.path.exists(f'/proc/self/fd/{n}') and stat.S_ISSOCK(end(n))][-1]",
        );
        assert_eq!(app.tell("print(number >= 200)"), "True");
        // What the app opens in its place must neither be read nor closed.
        app.tell("r, w = os.pipe(); os.close(number); os.dup2(r, number); os.close(r)");
        // The helper may still wait at the socket that was closed, until the first command comes.
        let deadline = soon();
        while app.census(tracing(1)).1.is_some() {
            assert!(Instant::now() < deadline);
        }
        assert_eq!(app.census(tracing(1)).1, None);
        assert_eq!(app.tell("print(os.write(w, b'x') + len(os.read(number, 1)))"), "2");
        app.tell("os.close(number), os.close(w)");
        app.end();
    }

    #[test]
    fn recording_that_there_was_no_room_to_tell_of_begins_again() {
        let mut app = App::start(&[], None);
        let small = Tracing { room: Some(1), ..tracing(1) };
        app.census(small);
        // The app grows into what was free: a list of what was recorded would not fit any more.
        app.tell("hold(30_000)");
        wait_until_idle(&mut app);
        let (census, _) = app.census(small);
        assert!(census.sites.is_empty() && census.remarks[0].contains("begins again"), "{census:?}");
        assert_eq!(app.tell(IS_TRACING), "True");
        app.end();
    }

    /// Once the share of each was the same: one of two processes was not to grow by more than half of the room, or what it had
    /// recorded was thrown away, and the log did not say so.
    #[test]
    fn what_one_of_several_has_recorded_is_kept_as_long_as_all_together_leave_room() {
        let (mut app, mut other) = (App::start(&[], None), App::start(&[], None));
        let both = [app.pid(), other.pid()];
        let room = 64 << 20;
        let shared = Tracing { room: Some(room), ..tracing(1) }.shared(&both, 5);
        // 40 MB, in 4 MiB of what is recorded: more than half of the room, and with a list of all of it less than the room.
        let grows = "sys.setswitchinterval(60); hold(40_000); sys.setswitchinterval(0.005)";
        for (others, kept) in [("pass", true), ("more = bytearray(20 << 20)", false)] {
            app.census(shared);
            other.tell(others);
            app.tell(grows);
            wait_until_idle(&mut app);
            let (census, fault) = app.census(shared);
            assert_eq!((census.sites.is_empty(), fault.is_some()), (!kept, !kept), "{census:?}");
            if kept {
                assert_holds(&census, 40_000);
            } else {
                assert!(fault.unwrap().contains("no room to keep them"));
            }
            Answer::to(app.pid(), "stop", soon()).unwrap();
        }
        app.end();
        other.end();
    }

    #[test]
    fn a_helper_is_told_of_those_whom_it_sees() {
        let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
        let (pid, me) = (sleeper.id().cast_signed(), std::process::id().cast_signed());
        let many: Vec<i32> = (1..=100).chain([pid]).collect();
        let words = |sharing: &[i32], room| {
            let command = Tracing { room, ..tracing(2) }.shared(sharing, 5).start(pid);
            command.split(' ').skip(3).map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        const ROOM: u64 = 160 << 20;
        for (sharing, said) in [
            // A sixteenth, and four times as much for the list of each of the others.
            (&[pid, me][..], format!("{} {} {pid} {me}", ROOM / 32, ROOM - ROOM / 8)),
            (&[pid], format!("{} {ROOM} {pid}", ROOM / 16)),
            (&[], format!("{} {ROOM}", ROOM / 16)),
            (&[me], format!("{} {ROOM}", ROOM / 16)),
            (&many, format!("{} {}", ROOM / 80, ROOM / 5)),
        ] {
            assert_eq!(words(sharing, Some(ROOM)), said);
        }
        // As long a command as there can be.
        let longest: Vec<i32> = std::iter::repeat_n(4_194_304, MOST_SHARING - 1).chain([pid]).collect();
        assert!(Tracing { room: None, ..tracing(100) }.shared(&longest, 5).start(pid).len() <= 1024);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    #[test]
    fn whoever_has_taken_a_helpers_name_is_not_listened_to() {
        let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = sleeper.id().cast_signed();
        let kind = pretend(pid, b"idle 0 0\n", |pid| dump(pid, 1, soon()).unwrap_err().kind());
        assert_eq!(kind, io::ErrorKind::PermissionDenied);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    /// Something has to run Python now and then: one that only waits in a system call cannot be made to run anything.
    const BUSY: &str = "import threading, time; threading.Thread(target=lambda: [time.sleep(0.01) for _ in iter(int, 1)], daemon=True).start()";

    #[test]
    #[ignore = "needs CPython 3.14"]
    fn remote_a_helper_is_brought_to_who_was_started_without() {
        let Some(mut app) = App::start_newest(0, &["-I"]) else { return };
        app.tell(BUSY);
        app.tell("hold(1000); threads = threading.active_count(); modules = set(sys.modules)");
        let (census, fault) = app.brought();
        assert_eq!((census.sites.len(), fault), (0, None));
        app.tell("hold(2000)");
        assert_holds(&app.census(tracing(1)).0, 2000);
        assert_eq!(
            app.tell("print(threading.active_count() - threads, [path for path in sys.path if 'helper' in path])"),
            "0 []"
        );
        assert_eq!(app.tell("print(sorted(set(sys.modules) - modules))"), "['_socket', '_tracemalloc', 'fcntl']");
        // It is there for good, and in the children. The app's own thread is what it may be warned of.
        app.tell("import warnings; warnings.simplefilter('ignore')");
        app.tell("r, w = os.pipe(); child = os.fork(); child or (hold(5), os.write(w, b'x'), signal.pause())");
        let child: i32 = app.tell("os.read(r, 1); print(child)").parse().unwrap();
        let census = tracing(1).add(child, Ok(Census::default())).0.unwrap();
        assert_holds(&census, 2005);
        assert_eq!(app.brought().1, None);
        end(app.pid(), &app.file, |_| Ok(()));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).unwrap();
        app.tell("os.waitpid(child, 0), os.close(r), os.close(w)");
        app.end();
    }

    #[test]
    #[ignore = "needs CPython 3.14"]
    fn remote_what_nobody_has_run_is_done_later_or_taken_back() {
        let Some(mut app) = App::start_newest(0, &["-I"]) else { return };
        // It waits for a line, in a system call.
        let deadline = soon();
        while !fs::read_to_string(format!("/proc/{}/stat", app.pid())).unwrap().contains(") S ") {
            assert!(Instant::now() < deadline);
        }
        let fault = app.brought().1.unwrap();
        assert!(fault.contains("as soon as any of its threads runs Python again"), "{fault}");
        end(app.pid(), &app.file, |_| Ok(()));
        app.tell("import time; time.sleep(0.05)");
        assert!(app.census(tracing(1)).1.unwrap().contains("no helper is in it"));
        // Once more, and this time it comes.
        app.brought();
        app.tell("pass");
        let deadline = soon();
        while app.census(tracing(1)).1.is_some() {
            assert!(Instant::now() < deadline);
        }
        app.end();
    }

    #[test]
    #[ignore = "needs CPython 3.14"]
    fn remote_who_does_not_want_it_or_cannot_read_the_file_is_left_alone() {
        for (user, options, says) in [
            (0, &["-I", "-X", "disable-remote-debug"][..], "remote debugging is switched off in it"),
            (65534, &["-I"], "another user"),
        ] {
            let Some(mut app) = App::start_newest(user, options) else { return };
            app.tell(BUSY);
            let fault = app.brought().1.unwrap();
            assert!(fault.contains(says), "{fault}");
            // Longer than any part of a look.
            app.tell("time.sleep(0.05)");
            assert!(app.census(tracing(1)).1.is_some());
            app.end();
        }
        let Some(app) = App::start_newest(0, &["-I"]) else { return };
        let fault = app.census(tracing(1).brought(Path::new("/nowhere"), |_| Ok(()))).1.unwrap();
        assert!(fault.contains("does not see /nowhere"), "{fault}");
        app.end();
    }

    #[test]
    fn the_apps_own_start_is_as_it_was() {
        let own =
            "import sys; sys.own = (__name__, __file__.split('/')[-2], [path.split('/')[-1] for path in sys.path[:1]])";
        let mut app = App::start(&[], Some(own));
        assert_eq!(app.tell("print(sys.own)"), "('sitecustomize', 'own', ['own'])");
        assert_eq!(app.tell("print(sys.modules['sitecustomize'].__file__.split('/')[-2])"), "own");
        assert_eq!(app.tell("print(any(path.endswith('helper') for path in sys.path))"), "False");
        app.end();
    }

    /// Of CPython 3.9 and 3.10 with `-X dev`, every second child crashed that ended as soon as it was forked: its helper's thread had not
    /// begun yet.
    #[test]
    fn a_child_that_ends_at_once_ends_in_order() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(FILE), SOURCE).unwrap();
        let program =
            "import os, sys\nfor _ in range(20):\n    if os.fork() == 0:\n        sys.exit(7)\n    print(os.wait()[1])";
        let mut pythons =
            vec![PathBuf::from(std::env::var_os("MEMINI_TEST_PYTHON").unwrap_or_else(|| "python3".into()))];
        let pyenv = PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".pyenv/versions");
        let others = fs::read_dir(pyenv).into_iter().flatten().flatten().map(|entry| entry.path().join("bin/python3"));
        pythons.extend(others.filter(|python| python.exists()));
        for python in pythons {
            let run = |folder: &Path| {
                let mut command = Command::new(&python);
                command.args(["-X", "dev", "-c", program]).env("PYTHONPATH", folder);
                let output = command.output().unwrap();
                (String::from_utf8(output.stdout).unwrap(), output.status.code())
            };
            let plain = run("/".as_ref());
            // 3.8 itself crashes so, without a helper.
            if plain.0 == "1792\n".repeat(20) {
                assert_eq!(run(place.path()), plain, "{}", python.display());
            }
        }
    }

    #[test]
    fn where_python_looks_at_no_variable_there_is_no_helper() {
        let app = App::start(&["-I"], None);
        let (census, fault) = app.census(tracing(1));
        let fault = fault.unwrap();
        assert!(fault.contains("no helper is in it") && census.remarks == [fault.clone()], "{fault}");
        let none = tracing(1).add(app.pid(), Err(Refusal::NotMine));
        assert_eq!(none, (Err(Refusal::NotMine), None));
    }

    // An app that ended while it was looked at was said to have been started as python -I.
    #[test]
    fn who_has_ended_is_not_said_to_have_no_helper() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        let gone = || Err(Refusal::Cannot("it ended".into()));
        while exists(pid) {
            std::thread::yield_now();
        }
        assert_eq!(tracing(1).add(pid, gone()), (gone(), None), "a zombie");
        child.wait().unwrap();
        assert_eq!(tracing(1).add(pid, gone()), (gone(), None), "nobody");
    }

    #[test]
    fn whoever_pretends_to_be_a_helper_is_not_believed_everything() {
        let myself = std::process::id().cast_signed();
        for (said, kind) in [
            (&b"own 1 2\n\xff\xff\xff\xff"[..], io::ErrorKind::InvalidData),
            (b"own 1 2\n\x05\0\0\0hello", io::ErrorKind::InvalidData),
            (b"own 1 2\n\x05\0\0\0", io::ErrorKind::UnexpectedEof),
        ] {
            assert_eq!(pretend(myself, said, |pid| dump(pid, 1, soon()).unwrap().fault.unwrap().kind()), kind);
        }
        for said in [&b""[..], b"own\n", b"own -1 2\n", b"else 1 2\n", b"\xff\n", &[b'x'; 1000]] {
            pretend(myself, said, |pid| dump(pid, 1, soon()).unwrap_err());
        }
    }

    /// Somebody in this very process who takes the name of one, and answers so to whatever comes.
    fn pretend<T>(pid: i32, said: &'static [u8], ask: impl Fn(i32) -> T) -> T {
        use nix::sys::socket::{ControlMessageOwned, bind, recvmsg};
        use std::os::fd::RawFd;
        static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap();
        let listener = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &address(pid).unwrap()).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut text, mut extras) = ([0; 256], nix::cmsg_space!(RawFd));
            let mut text = [io::IoSliceMut::new(&mut text)];
            let message = recvmsg::<()>(listener.as_raw_fd(), &mut text, Some(&mut extras), MsgFlags::empty()).unwrap();
            let Some(ControlMessageOwned::ScmRights(rights)) = message.cmsgs().unwrap().next() else { panic!() };
            let _ = nix::sys::socket::send(rights[0], said, MsgFlags::MSG_NOSIGNAL);
            nix::unistd::close(rights[0]).unwrap();
        });
        let outcome = ask(pid);
        answering.join().unwrap();
        outcome
    }
}
