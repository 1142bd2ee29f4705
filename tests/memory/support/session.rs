//! memini with an app in a group, its log as it comes, and how both ended.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Group, Incident, send};

/// No test waits for a certain time; this is when it gives up.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is run in the group first: it joins the group, prepares what the test wants (`$SETUP`), and becomes memini.
pub const STARTER: &str = r#"echo 0 > "$GROUP/cgroup.procs" && eval "$SETUP" && unset SETUP && exec "$@""#;

/// An instruction for the app in a group of 64 MiB: above the stop threshold (58.88 MiB) even while the ballast counts for the
/// app as used (2 MiB) and the last quarter of a MiB is missing; and below the kill threshold (62.08 MiB), though what memini
/// uses itself comes on top.
pub const ABOVE_STOP: &str = "to 61.5";

/// The app that does what it is told, unless MEMINI_TEST_APP names another one that does the same.
const APP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/memory/app.py");

/// memini, to be started.
pub struct Memini<'a> {
    group: &'a Group,
    dir: TempDir,
    options: Vec<String>,
    setup: String,
    app: Vec<String>,
    init: bool,
    own_tmp: bool,
    launcher: Vec<String>,
}

impl<'a> Memini<'a> {
    /// memini as PID 1 of a namespace of its own, in this group.
    pub fn new(group: &'a Group) -> Self {
        let dir = TempDir::with_prefix("memini-test-").expect("a temporary folder");
        let (options, setup, app, launcher) = (Vec::new(), ":".into(), Vec::new(), Vec::new());
        Self { group, dir, options, setup, app, init: true, own_tmp: false, launcher }
    }

    /// As one process among others.
    pub fn not_as_init(mut self) -> Self {
        self.init = false;
        self
    }

    /// More options.
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// Adds a hook.
    pub fn hook(self, hook: &str) -> Self {
        self.options(&["--hook", hook])
    }

    /// What the shell does before it becomes memini, in a mount namespace of its own.
    pub fn setup(mut self, script: &str) -> Self {
        script.clone_into(&mut self.setup);
        self
    }

    /// With a /tmp of its own, as a container has it: a JVM names what it makes there by its number, which in another PID
    /// namespace is another one's, too. It is a folder on disk in the test's own: what is in a tmpfs is charged to the group.
    pub fn own_tmp(mut self) -> Self {
        self.own_tmp = true;
        self
    }

    /// What the shell does for that. What the test is made of may lie in /tmp, and stays where it is.
    fn makes_own_tmp(&self) -> String {
        let program = binary();
        let house = Path::new(env!("CARGO_MANIFEST_DIR"));
        let needed = [Some(self.place()), program.parent(), Some(house), Some(Path::new(env!("CARGO_TARGET_TMPDIR")))];
        let inside = needed.into_iter().flatten().filter_map(|folder| folder.strip_prefix("/tmp").ok());
        let keep = |folder: &Path| {
            let folder = folder.display();
            format!(r#"mkdir -p "$PLACE/tmp/{folder}" && mount --bind "/tmp/{folder}" "$PLACE/tmp/{folder}" && "#)
        };
        let kept: String = inside.filter(|folder| *folder != Path::new("")).map(keep).collect();
        format!(r#"mkdir -m 1777 "$PLACE/tmp" && {kept}mount --rbind "$PLACE/tmp" /tmp && "#)
    }

    /// The app that does what it is told, with these instructions.
    pub fn app(self, instructions: &[&str]) -> Self {
        let command: Vec<_> = app().iter().map(String::as_str).chain(instructions.iter().copied()).collect();
        self.command(&command)
    }

    /// Run by a program that becomes memini by exec: its words, memini's follow.
    pub fn launched_by(mut self, words: &[&str]) -> Self {
        self.launcher.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Any other app.
    pub fn command(mut self, command: &[&str]) -> Self {
        self.app = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The folder of the test's own. `--dir` is `memini` in it unless the test says otherwise.
    pub fn place(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it.
    pub fn start(self) -> Session {
        let namespaces = if self.init { "--pid --fork --kill-child --mount-proc" } else { "--mount" };
        let mut command = Command::new("unshare");
        command.args(namespaces.split(' ')).args(["sh", "-c", STARTER, "sh"]);
        command.args(&self.launcher);
        command.arg(binary()).arg("--dir").arg(self.dir.path().join("memini")).args(&self.options);
        command.arg("--").args(&self.app);
        let setup = if self.own_tmp { self.makes_own_tmp() + &self.setup } else { self.setup };
        command.env("GROUP", self.group.path()).env("SETUP", setup).env("PLACE", self.dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("unshare");
        let id = i32::try_from(child.id()).expect("a process id");
        let input = child.stdin.take();
        let log = Lines::of(child.stderr.take().expect("a pipe"));
        let output = Lines::of(child.stdout.take().expect("a pipe"));
        Session { dir: self.dir, init: self.init, id, input, log, output, ended: wait_for(child), over: false }
    }
}

/// The program under test: the static release binary if tests/run has built it.
pub fn binary() -> PathBuf {
    std::env::var_os("MEMINI").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_memini")), PathBuf::from)
}

/// The command of the app that does what it is told.
pub fn app() -> &'static [String] {
    static COMMAND: OnceLock<Vec<String>> = OnceLock::new();
    COMMAND.get_or_init(|| match std::env::var("MEMINI_TEST_APP") {
        Ok(app) => vec![app],
        Err(_) => [python(), "-S", "-I", APP].map(str::to_owned).to_vec(),
    })
}

/// The interpreter itself: what stands in PATH may be a script that chooses one, slowly.
pub fn python() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let output = output.expect("these tests need python3");
        String::from_utf8(output.stdout).expect("a path").trim().to_owned()
    })
}

fn wait_for(mut child: Child) -> Receiver<ExitStatus> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        if let Ok(status) = child.wait() {
            let _ = sender.send(status);
        }
    });
    receiver
}

/// Lines that somebody writes, as they come.
#[derive(Clone)]
struct Lines(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    closed: bool,
}

impl Lines {
    fn of(source: impl std::io::Read + Send + 'static) -> Self {
        let this = Self(Arc::default());
        let lines = this.clone();
        thread::spawn(move || {
            let (written, news) = &*lines.0;
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                written.lock().expect("the lines").lines.push(String::from_utf8_lossy(&line).into_owned());
                news.notify_all();
            }
            written.lock().expect("the lines").closed = true;
            news.notify_all();
        });
        this
    }

    /// Waits for the `count`th line with this text.
    fn wait(&self, text: &str, count: usize) -> Option<String> {
        let (written, news) = &*self.0;
        let deadline = Instant::now() + PATIENCE;
        let mut written = written.lock().expect("the lines");
        loop {
            if let Some(line) = written.lines.iter().filter(|line| line.contains(text)).nth(count.checked_sub(1)?) {
                return Some(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if written.closed || left.is_zero() {
                return None;
            }
            written = news.wait_timeout(written, left).expect("the lines").0;
        }
    }

    /// Waits until nobody can write any more.
    fn all(&self) -> Option<Vec<String>> {
        let (written, news) = &*self.0;
        let written = written.lock().expect("the lines");
        let (written, _) = news.wait_timeout_while(written, PATIENCE, |written| !written.closed).expect("the lines");
        written.closed.then(|| written.lines.clone())
    }

    fn text(&self) -> String {
        self.0.0.lock().expect("the lines").lines.join("\n")
    }
}

/// memini at work.
pub struct Session {
    dir: TempDir,
    init: bool,
    id: i32,
    input: Option<ChildStdin>,
    log: Lines,
    output: Lines,
    ended: Receiver<ExitStatus>,
    over: bool,
}

impl Session {
    /// Waits for a line of the log with this text.
    pub fn sees(&self, text: &str) -> String {
        self.sees_times(text, 1)
    }

    /// Waits for so many lines of the log with this text; the last of them.
    pub fn sees_times(&self, text: &str, count: usize) -> String {
        self.log.wait(text, count).unwrap_or_else(|| panic!("no {text:?} ({count}) in the log:\n{}", self.log.text()))
    }

    /// Gives the app an instruction and waits until it has followed it.
    pub fn tell(&mut self, instruction: &str) {
        let done = format!("done {instruction}");
        let before = self.output.text().lines().filter(|line| **line == done).count();
        self.begin(instruction);
        let waited = self.output.wait(&done, before + 1);
        assert!(waited.is_some(), "the app did not {instruction:?}; the log:\n{}", self.log.text());
    }

    /// Gives the app an instruction again and again until this stands in the log. Does not wait for an app that stands still by
    /// then.
    pub fn tell_until(&mut self, instruction: &str, text: &str) {
        let done = format!("done {instruction}");
        while !self.log().contains(text) {
            let before = self.output.text().lines().filter(|line| **line == done).count();
            self.begin(instruction);
            let has_done = || self.output.text().lines().filter(|line| **line == done).count() > before;
            wait_until(&done, || has_done() || self.log().contains(text));
        }
    }

    /// Gives the app an instruction that it may not live to see the end of.
    pub fn begin(&mut self, instruction: &str) {
        let input = self.input.as_mut().expect("standard input");
        writeln!(input, "{instruction}").unwrap_or_else(|error| panic!("{error}; the log:\n{}", self.log.text()));
    }

    /// Waits until this file is in the test's own folder.
    pub fn appears(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.place().join(name).exists() {
            assert!(Instant::now() < deadline, "waited in vain for the file {name}; the log: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until so many incidents are on disk and the last of them has come to this outcome.
    pub fn recorded(&self, count: usize, outcome: &str) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let incidents = Incident::all(&self.dir());
            if incidents.len() == count && incidents.last().is_some_and(|last| last.json["outcome"] == outcome) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("no incident {count} that is {outcome}; the log:\n{}", self.log.text());
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// memini's process id, as it is outside.
    pub fn id(&self) -> i32 {
        if !self.init {
            return self.id;
        }
        let path = format!("/proc/{0}/task/{0}/children", self.id);
        let children = fs::read_to_string(path).expect("unshare's children");
        children.trim().parse().expect("one child of unshare's")
    }

    /// A child of memini's with these words in its command line, as it is outside, as soon as there is one.
    pub fn child(&self, words: &str) -> i32 {
        let mut found = None;
        wait_until(&format!("a child with {words:?}"), || {
            let path = format!("/proc/{0}/task/{0}/children", self.id());
            let children = fs::read_to_string(path).unwrap_or_default();
            let has_words = |pid: &&str| {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.replace('\0', " ").contains(words)
            };
            found = children.split_whitespace().find(has_words).and_then(|pid| pid.parse().ok());
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("no child with {words:?}; the log:\n{}", self.log.text()))
    }

    /// Its own folder; `memini` in it is --dir.
    pub fn place(&self) -> &Path {
        self.dir.path()
    }

    /// --dir.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().join("memini")
    }

    /// Closes the app's standard input, so that it ends, and waits for the end.
    pub fn finish(mut self) -> Ended {
        self.input = None;
        self.end()
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ended {
        let status = match self.ended.recv_timeout(PATIENCE) {
            Ok(status) => status,
            Err(_) => panic!("memini did not end; the log:\n{}", self.log.text()),
        };
        self.over = true;
        let log = self.log.all().unwrap_or_else(|| panic!("standard error is still open; the log:\n{}", self.log()));
        Ended { status, log: log.join("\n"), place: std::mem::replace(&mut self.dir, empty()) }
    }
}

fn empty() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.over {
            send("KILL", self.id);
        }
    }
}

/// What is left when memini has ended.
pub struct Ended {
    status: ExitStatus,
    /// All that memini and the app have written to standard error.
    pub log: String,
    place: TempDir,
}

impl Ended {
    /// The exit code, which it must be.
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "{}; the log:\n{}", self.status, self.log);
        self
    }

    /// Whether memini itself was killed, by somebody else.
    pub fn was_killed(&self) -> bool {
        // unshare does the same to itself; that of util-linux 2.38 tries to, and fails.
        self.status.signal() == Some(9) || self.log.contains("unshare: sigprocmask unblock failed")
    }

    /// The log must have this text.
    pub fn assert_says(&self, text: &str) -> &Self {
        assert!(self.log.contains(text), "no {text:?} in the log:\n{}", self.log);
        self
    }

    /// The log must not have this text.
    pub fn assert_silent(&self, text: &str) -> &Self {
        assert!(!self.log.contains(text), "{text:?} in the log:\n{}", self.log);
        self
    }

    /// The test's own folder.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// --dir.
    pub fn dir(&self) -> PathBuf {
        self.place.path().join("memini")
    }

    /// The only incident.
    pub fn incident(&self) -> Incident {
        Incident::only(&self.dir())
    }
}

/// Waits until this recorder has seen a look: its pulse has been written.
pub fn records(path: &Path) {
    let mut sequence = [0; 4];
    wait_until("the recorder's pulse", || {
        let file = fs::File::open(path);
        file.is_ok_and(|file| file.read_exact_at(&mut sequence, 4096).is_ok()) && sequence != [0; 4]
    });
}

/// Looks until it is so.
pub fn wait_until(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Another app in the group, that memini has nothing to do with. It ends with the group.
pub struct Neighbour(Lines);

impl Neighbour {
    /// Waits for a line of the neighbour's.
    pub fn hears(&self, text: &str) {
        assert!(self.0.wait(text, 1).is_some(), "the neighbour did not say {text:?}");
    }
}

/// Starts a neighbour.
pub fn neighbour(group: &Group, instructions: &[&str]) -> Neighbour {
    let mut command = Command::new("sh");
    command.args(["-c", STARTER, "sh"]).args(app()).args(instructions);
    command.env("GROUP", group.path()).env("SETUP", ":").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("a neighbour");
    let lines = Lines::of(child.stdout.take().expect("a pipe"));
    let _ = wait_for(child);
    Neighbour(lines)
}
