//! Lines instead of types: what tracemalloc records, asked from memini's helper in a Python process.
//!
//! The helper is a file of Python that memini puts before all others (`--helpers python`); see `helper/sitecustomize.py`. It
//! listens on an abstract socket, which leaves nothing on any disk and is named by the PID namespace and the number there, and
//! obeys only root and its own user, whom the kernel names. Each command brings the socket for its answer along.

use std::fs;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket};

use super::marshal::{First, Lines};
use crate::capture::census::{Census, Refusal};
use crate::units::{Size, Span};

/// The helper itself, a file of Python by the name under which Python looks for such files.
pub const SOURCE: &str = include_str!("helper/sitecustomize.py");

/// That name.
pub const FILE: &str = "sitecustomize.py";

/// How many lines are told.
const LINES: usize = 50;

/// How long a helper has for its answer: it waits for the interpreter's lock, which an extension may keep for long.
const PATIENCE: Duration = Duration::from_secs(2);

/// And for all traces. So many may come, and so much at a time.
const PATIENCE_FOR_TRACES: Duration = Duration::from_secs(10);
const MOST_SENT: usize = 512 << 20;
const LARGEST_PART: usize = 4 << 20;

/// What recording may take in the app; bytes.
const LEAST_RECORDED: u64 = 1 << 20;
const MOST_RECORDED: u64 = 256 << 20;

/// The longest first line.
const LONGEST_LINE: usize = 128;

/// What is to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// How many frames of the stack at each allocation.
    pub frames: u32,
    /// When it ends if nobody asks again.
    pub longest: Duration,
    /// What is left below the limit; bytes.
    pub room: Option<u64>,
}

impl Tracing {
    /// Slow leaks take hours from the trace stage to the capture stage.
    pub const LONGEST: Duration = Duration::from_secs(6 * 3600);

    /// Adds the lines to the census of this process, and lets its helper begin to record if it does not. On top of it, for the
    /// log, why there is nothing to be had from the helper.
    pub fn add(&self, pid: i32, census: Result<Census, Refusal>) -> (Result<Census, Refusal>, Option<String>) {
        if matches!(census, Err(Refusal::NotMine)) {
            return (census, None);
        }
        let dump = self.dump(pid);
        let fault = dump.as_ref().err().map(|error| format!("process {pid}: {}; no lines are recorded", why(error)));
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

    fn dump(&self, pid: i32) -> io::Result<Dump> {
        // What a dump takes is gone a moment later; what recording takes stays.
        let for_dump = self.room.map_or(u64::MAX, |room| room / 2);
        let for_recording = self.room.map_or(MOST_RECORDED, |room| (room / 16).clamp(LEAST_RECORDED, MOST_RECORDED));
        let found = dump(pid, for_dump)?;
        if matches!(found.state, State::Idle | State::Kept) {
            let command = format!("start {} {} {for_recording}", self.frames, self.longest.as_secs());
            Answer::to(pid, &command, PATIENCE)?;
        }
        Ok(found)
    }
}

/// Ends what memini has begun to record in this process. Where there is no helper, nothing is to be ended.
pub fn end(pid: i32) {
    let _ = Answer::to(pid, "stop", Duration::ZERO);
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            "no helper is in it: python -I, -E or -S, another user, or it was there before".to_owned()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "its helper does not answer: something keeps the interpreter's lock, or it has just forked".to_owned()
        }
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
    /// To tell would take more memory than there is.
    Large,
}

/// An answer's first line, and what follows it.
#[derive(Debug)]
struct Answer {
    stream: UnixStream,
    deadline: Instant,
    state: State,
    recorded: Duration,
    /// What tracemalloc takes; bytes.
    memory: u64,
}

impl Answer {
    fn to(pid: i32, command: &str, patience: Duration) -> io::Result<Self> {
        let deadline = Instant::now().checked_add(patience).ok_or(io::ErrorKind::InvalidInput)?;
        let (stream, theirs) = UnixStream::pair()?;
        send(&address(pid)?, command, &theirs.into())?;
        let mut answer = Self { stream, deadline, state: State::Idle, recorded: Duration::ZERO, memory: 0 };
        let line = answer.line()?;
        let mut words = line.split(' ');
        answer.state = match words.next() {
            Some("idle") => State::Idle,
            Some("own") => State::Own,
            Some("app") => State::App,
            Some("kept") => State::Kept,
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
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
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

fn dump(pid: i32, room: u64) -> io::Result<Dump> {
    let mut answer = Answer::to(pid, &format!("dump {room}"), PATIENCE)?;
    let lines = Lines::default();
    answer.deadline = answer.deadline.checked_add(PATIENCE_FOR_TRACES).unwrap_or(answer.deadline);
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

    fn add_to(self, census: &mut Census) {
        let (sites, bytes, blocks) = self.lines.largest(LINES);
        let recorded = Span(self.recorded);
        census.remarks.push(match self.state {
            State::Idle => "from now on it is recorded which lines allocate".to_owned(),
            State::Large => format!(
                "lines were recorded for {recorded}; to tell them takes four times the {} that this takes, and there is no \
                 room for it",
                Size(self.memory)
            ),
            State::Own | State::App | State::Kept => {
                let who = if self.state == State::App { "the app itself has recorded" } else { "recorded" };
                let end = if self.state == State::Kept { ", until it took too long or too much memory" } else { "" };
                format!(
                    "{who} for {recorded}{end}: {} in {blocks} blocks, without what was allocated before; that takes {}",
                    Size(bytes),
                    Size(self.memory)
                )
            }
        });
        if let Some(error) = self.fault {
            census.remarks.push(format!("not all lines have come: {error}"));
        }
        if !sites.is_empty() {
            census.recorded = Some(self.recorded);
        }
        census.sites = sites;
    }
}
