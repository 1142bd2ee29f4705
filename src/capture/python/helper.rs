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

/// All of a look's helpers, with all their traces. So many may come, and so much at a time.
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(10);
const MOST_SENT: usize = 512 << 20;
const LARGEST_PART: usize = 4 << 20;

/// When recording ends if nobody asks any more: a slow leak takes hours from the trace stage to the capture stage.
const LONGEST_RECORDING: Duration = Duration::from_secs(6 * 3600);

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
    /// Until when all helpers that are asked must have answered: a look must not fail because they do not.
    pub until: Instant,
}

impl Tracing {
    /// For one look, that begins now.
    pub fn of_look(frames: u32, room: Option<u64>) -> Self {
        let now = Instant::now();
        Self { frames, longest: LONGEST_RECORDING, room, until: now.checked_add(PATIENCE_WITH_ALL).unwrap_or(now) }
    }

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
        let found = dump(pid, for_dump, self.until)?;
        if matches!(found.state, State::Idle | State::Kept) {
            let command = format!("start {} {} {for_recording}", self.frames, self.longest.as_secs());
            Answer::to(pid, &command, self.until)?;
        }
        Ok(found)
    }
}

/// Ends what memini has begun to record in this process. Where there is no helper, nothing is to be ended.
pub fn end(pid: i32) {
    let _ = Answer::to(pid, "stop", Instant::now());
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
    /// What tracemalloc takes, or has taken at the most; bytes.
    memory: u64,
}

impl Answer {
    fn to(pid: i32, command: &str, until: Instant) -> io::Result<Self> {
        let deadline = Instant::now().checked_add(PATIENCE).map_or(until, |deadline| deadline.min(until));
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
            State::Kept if blocks == 0 => format!(
                "lines were recorded for {recorded}, until that took far too much memory; there was no room to tell them"
            ),
            State::Own | State::App | State::Kept => {
                let who = if self.state == State::App { "the app itself has recorded" } else { "recorded" };
                let end = if self.state == State::Kept { ", until it took too long or too much memory" } else { "" };
                format!(
                    "{who} for {recorded}{end}: {} in {blocks} blocks, without what was allocated before; that takes up to {}",
                    Size(bytes),
                    Size(self.memory)
                )
            }
        });
        // Without lines, too: what recording takes or has taken is no leak of the app's.
        if self.has_lines() || self.state == State::Large {
            census.recorded = Some(self.recorded);
            census.recording = self.memory;
        }
        if let Some(error) = self.fault {
            census.remarks.push(format!("not all lines have come: {error}"));
        }
        census.sites = sites;
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    /// Says that it is up, and does what it is told.
    const APP: &str = r#"
import os, signal, sys
held = []
def hold(count):
    for number in range(count):
        held.append("x" * 1000 + str(number))
print("up", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"#;

    struct App {
        child: Child,
        output: BufReader<ChildStdout>,
        errors: std::path::PathBuf,
        place: tempfile::TempDir,
    }

    impl App {
        fn start(options: &[&str], sitecustomize: Option<&str>) -> Self {
            let place = tempfile::tempdir().unwrap();
            let (folder, own) = (place.path().join("helper"), place.path().join("own"));
            for path in [&folder, &own] {
                fs::create_dir(path).unwrap();
            }
            fs::write(folder.join(FILE), SOURCE).unwrap();
            if let Some(text) = sitecustomize {
                fs::write(own.join(FILE), text).unwrap();
            }
            let script = place.path().join("app.py");
            fs::write(&script, APP).unwrap();
            let errors = place.path().join("errors");
            let mut command = Command::new(std::env::var_os("MEMINI_TEST_PYTHON").unwrap_or_else(|| "python3".into()));
            command.args(["-X", "dev", "-W", "always"]).args(options).arg(script);
            command.env("PYTHONPATH", format!("{}:{}", folder.display(), own.display()));
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&errors).unwrap());
            let mut child = command.spawn().unwrap();
            let output = BufReader::new(child.stdout.take().unwrap());
            let mut this = Self { child, output, errors, place };
            assert_eq!(this.line(), "up");
            this
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

        fn census(&self, tracing: Tracing) -> (Census, Option<String>) {
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

    fn tracing(frames: u32) -> Tracing {
        Tracing::of_look(frames, None)
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
        let (census, _) = app.census(Tracing { room: Some(1 << 20), ..tracing(3) });
        assert!(census.sites.is_empty() && census.remarks[0].contains("no room"), "{:?}", census.remarks);
        Answer::to(app.pid(), "stop", soon()).unwrap();
        assert_eq!(app.tell("import _tracemalloc; print(_tracemalloc.is_tracing())"), "False");
        app.end();
    }

    #[test]
    fn recording_ends_by_itself_and_what_it_has_found_is_kept() {
        let mut app = App::start(&[], None);
        // The helper looks ten times a second; so many blocks take more than the least that is allowed, but not three times as much.
        app.census(Tracing { room: Some(1), ..tracing(1) });
        // It cannot look before that is done.
        app.tell("sys.setswitchinterval(60); hold(30_000); sys.setswitchinterval(0.005)");
        let tells = "import _tracemalloc; print(_tracemalloc.is_tracing())";
        let deadline = Instant::now() + Duration::from_secs(60);
        while app.tell(tells) == "True" {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(20));
        }
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
        let (census, _) = app.census(tracing(1));
        assert!(census.sites.is_empty() && census.recorded.is_some() && census.recording > 3 << 20, "{census:?}");
        assert!(census.remarks[0].contains("no room to tell them"), "{:?}", census.remarks);
        app.end();
    }

    #[test]
    fn what_the_app_itself_records_is_told_and_left_alone() {
        let mut app = App::start(&[], None);
        app.tell("import tracemalloc; tracemalloc.start()");
        app.tell("hold(500)");
        let (census, _) = app.census(tracing(1));
        assert_holds(&census, 500);
        end(app.pid());
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
        app.tell("os.closerange(3, 64); files = [os.pipe() for _ in range(8)]");
        // The first is still waited for at the socket that was closed.
        let _ = app.census(tracing(1));
        let (census, fault) = app.census(tracing(1));
        assert_eq!(fault, None, "{census:?}");
        assert_eq!(app.tell("print(all(os.write(w, b'x') + len(os.read(r, 1)) == 2 for r, w in files))"), "True");
        app.tell("[os.close(end) for pair in files for end in pair]");
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

    #[test]
    fn where_python_looks_at_no_variable_there_is_no_helper() {
        let app = App::start(&["-I"], None);
        let (census, fault) = app.census(tracing(1));
        let fault = fault.unwrap();
        assert!(fault.contains("no helper is in it") && census.remarks == [fault.clone()], "{fault}");
        let none = tracing(1).add(app.pid(), Err(Refusal::NotMine));
        assert_eq!(none, (Err(Refusal::NotMine), None));
    }

    #[test]
    fn whoever_pretends_to_be_a_helper_is_not_believed_everything() {
        for (said, kind) in [
            (&b"own 1 2\n\xff\xff\xff\xff"[..], io::ErrorKind::InvalidData),
            (b"own 1 2\n\x05\0\0\0hello", io::ErrorKind::InvalidData),
            (b"own 1 2\n\x05\0\0\0", io::ErrorKind::UnexpectedEof),
        ] {
            assert_eq!(pretend(said, |pid| dump(pid, 1, soon()).unwrap().fault.unwrap().kind()), kind);
        }
        for said in [&b""[..], b"own\n", b"own -1 2\n", b"else 1 2\n", b"\xff\n", &[b'x'; 1000]] {
            pretend(said, |pid| dump(pid, 1, soon()).unwrap_err());
        }
    }

    /// Somebody who takes the name of this very process, and answers so to whatever comes.
    fn pretend<T>(said: &'static [u8], ask: impl Fn(i32) -> T) -> T {
        use nix::sys::socket::{ControlMessageOwned, bind, recvmsg};
        use std::os::fd::RawFd;
        static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap();
        let pid = std::process::id().cast_signed();
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
