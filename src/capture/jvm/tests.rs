//! Against real JVMs: this machine's, and those that `tests/fetch` has brought.
//!
//! `cargo test --bins jvm::tests -- --ignored`, as root.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use super::attach::{Deadline, Jvm};
use super::dump::{Dump, Wishes, dump};
use super::histogram::{Limits, census, census_of};
use super::target::Target;
use crate::capture::census::{Group, Refusal};
use crate::capture::proc::Identity;
use crate::incident::folder::Folder;
use crate::sys::process::{ProcessId, kill};
use crate::sys::signal::Signal;

/// How many sessions the test program holds: no round number, so that no other class has as many by chance.
const SESSIONS: u64 = 10_007;
const NOBODY: u32 = 65_534;

/// A Java runtime: in this file system, or in one that is changed into.
#[derive(Clone, Debug)]
struct Runtime {
    root: Option<PathBuf>,
    java: PathBuf,
    /// What it shall have as its /tmp.
    tmp: Option<PathBuf>,
}

impl Runtime {
    fn own() -> Self {
        Self { root: None, java: "java".into(), tmp: None }
    }

    /// Those that are there.
    fn all() -> Vec<Self> {
        let mut found = vec![Self::own()];
        let installed = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
        let homes = installed.map(|entry| entry.path()).filter(|home| !home.is_symlink());
        found.extend(
            homes
                .map(|home| Self { root: None, java: home.join("bin/java"), tmp: None })
                .filter(|runtime| runtime.java.exists() && !runtime.java.to_string_lossy().contains("-17-")),
        );
        let cache = std::env::var_os("MEMINI_TEST_CACHE").map_or_else(
            || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/memini-tests"),
            PathBuf::from,
        );
        for version in [8, 11, 17, 21, 25] {
            let root = cache.join(format!("jdk-{version}"));
            let home = format!("usr/lib/jvm/java-{version}-openjdk-amd64");
            for java in ["bin/java", "jre/bin/java"].map(|java| Path::new(&home).join(java)) {
                if root.join(&java).exists() {
                    found.push(Self { root: Some(root), java: Path::new("/").join(java), tmp: None });
                    break;
                }
            }
        }
        found
    }

    /// A command that becomes the JVM.
    fn command(&self, options: &[&str], program: &[&str]) -> Command {
        let (mut command, classes) = match &self.root {
            None => (Command::new(&self.java), classes().to_owned()),
            Some(root) => {
                let script = r#"mount -t proc proc "$1/proc" && mount --bind "$2" "$1/mnt" &&
                    mount --bind "$3" "$1/tmp" && shift 3 && exec chroot "$@""#;
                let own_tmp = root.join("tmp");
                let tmp = self.tmp.as_deref().unwrap_or(&own_tmp);
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
                command.args([root.as_path(), classes(), tmp, root.as_path(), self.java.as_path()]);
                (command, "/mnt".into())
            }
        };
        command.arg("-cp").arg(classes).args(options).arg("Holder").args(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    fn start(&self, options: &[&str], program: &[&str]) -> Session {
        let mut options = options.to_vec();
        if !options.iter().any(|option| option.starts_with("-Xmx")) {
            options.push("-Xmx128m");
        }
        let mut session = Session::new(self.command(&options, program));
        session.wait_until_ready();
        session
    }

    /// Whether it is older than 17.
    fn insists_on_disk(&self) -> bool {
        let java = self.java.to_string_lossy();
        self.root.is_some() && (java.contains("java-8-") || java.contains("java-11-"))
    }

    /// The root of its file system.
    fn root(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new("/"))
    }
}

/// The compiled test program.
fn classes() -> &'static Path {
    static CLASSES: OnceLock<tempfile::TempDir> = OnceLock::new();
    CLASSES
        .get_or_init(|| {
            use std::os::unix::fs::PermissionsExt;
            let folder = tempfile::tempdir().unwrap();
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jvm/Holder.java");
            let words = ["--release", "8", "-Xlint:-options", "-d"];
            let status = Command::new("javac").args(words).arg(folder.path()).arg(source).status().unwrap();
            assert!(status.success());
            folder
        })
        .path()
}

/// A running JVM; killed at the end.
struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn new(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn wait_until_ready(&mut self) {
        let mut told = String::new();
        // A tool's options may be told first.
        while self.output.read_line(&mut told).unwrap() > 0 {
            if told.ends_with("ready\n") {
                return;
            }
        }
        panic!("it has not started: {told} {:?}", self.child.wait());
    }

    /// Whether it works: its answer, and for how long its clock did not get on since the last time, in milliseconds.
    fn works(&mut self) -> u64 {
        self.does("there?")
    }

    /// The same, after it has done something; see `Holder.leak`.
    fn does(&mut self, what: &str) -> u64 {
        writeln!(self.input, "{what}").unwrap();
        let line = self.line();
        let rest = line.strip_prefix(&format!("{what} {SESSIONS} ")).unwrap_or_else(|| panic!("{line:?}"));
        rest.parse().unwrap()
    }

    fn wait_until_stopped(&self) {
        let began = Instant::now();
        while Target::open(self.pid()).unwrap().status().unwrap().state != b'T' {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
    }

    fn signal(&self, signal: Signal) {
        kill(ProcessId::new(self.pid()).unwrap(), signal).unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Output {
    _base: tempfile::TempDir,
    folder: Folder,
}

impl Output {
    fn new() -> Self {
        // Not below /tmp, which may be a tmpfs.
        let base = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let folder = Folder::base(&base.path().join("memini")).unwrap();
        Self { _base: base, folder }
    }

    fn dump(&self, pid: i32, wishes: Wishes) -> Dump {
        dump(pid, &self.folder, "heap.hprof.gz", wishes).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("heap.hprof.gz")
    }

    /// What an independent reader counts. Another one looks whether all is in its place, about which the first is easygoing.
    fn second_opinion(&self) -> Vec<(String, u64)> {
        let read = |program: &str| {
            let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jvm").join(program);
            let output = Command::new(&program).arg(self.file()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).unwrap();
            let lines = text.lines().map(|line| line.rsplit_once(' ').unwrap());
            let mut counts: Vec<(String, u64)> =
                lines.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect();
            counts.sort();
            counts
        };
        let counts = read("read");
        let total = |counts: &[(String, u64)]| counts.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!(total(&read("hprof.py")), total(&counts));
        counts
    }

    fn content(&self) -> Vec<u8> {
        let mut content = Vec::new();
        let file = std::fs::File::open(self.file()).unwrap();
        flate2::read::MultiGzDecoder::new(file).read_to_end(&mut content).unwrap();
        content
    }
}

fn count(groups: &[Group], name: &str) -> u64 {
    groups.iter().find(|group| group.name == name).map_or(0, |group| group.instances)
}

fn holds(content: &[u8], text: &str) -> bool {
    let wide: Vec<u8> = text.bytes().flat_map(|byte| [0, byte]).collect();
    let is_there = |part: &[u8]| {
        let first = part[0];
        let mut rest = content;
        while let Some(at) = rest.iter().position(|byte| *byte == first) {
            if rest[at..].starts_with(part) {
                return true;
            }
            rest = &rest[at + 1..];
        }
        false
    };
    is_there(text.as_bytes()) || is_there(&wide)
}

/// What was left in a file system's /tmp, or in the working folder, for this process.
fn left_behind(root: &Path, pid: i32) -> Vec<String> {
    let places = [root.join("tmp"), PathBuf::from(format!("/proc/{pid}/cwd"))];
    let entries = places.iter().flat_map(|place| std::fs::read_dir(place).into_iter().flatten().flatten());
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| *name == format!(".attach_pid{pid}") || is_place_of(root, name, pid)).collect()
}

/// Whether it is a folder for a dump that nobody uses any more: other tests run at the same time, with folders of
/// their own that go within seconds.
fn is_place_of(root: &Path, name: &str, pid: i32) -> bool {
    if !name.starts_with(".memini-") {
        return false;
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        if !root.join("tmp").join(name).exists() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("{name} is left (process {pid})");
    true
}

fn cause(refusal: &Refusal) -> &str {
    match refusal {
        Refusal::Cannot(line) => line,
        Refusal::NotMine => "not mine",
    }
}

fn assert_cannot<T: std::fmt::Debug>(result: Result<T, Refusal>, expected: &str) {
    let refusal = result.unwrap_err();
    assert!(cause(&refusal).contains(expected), "{refusal}");
    assert!(!cause(&refusal).contains('\n'));
}

#[test]
#[ignore = "needs a JDK"]
fn every_version_tells_what_it_holds_and_goes_on() {
    for runtime in Runtime::all() {
        let mut session = runtime.start(&[], &[&SESSIONS.to_string()]);
        let pid = session.pid();
        let census = census(pid, Limits::default()).unwrap();
        println!("{}: {:?} {:?}", census.runtime, census.pause, census.remarks);
        assert_eq!(count(&census.groups, "Holder$Session"), SESSIONS);
        assert!(count(&census.groups, "java.lang.String") > SESSIONS);
        assert!(census.runtime.starts_with("OpenJDK "), "{}", census.runtime);
        assert!((1 << 20..128 << 20).contains(&census.heap.unwrap()));
        assert!(census.groups.is_sorted_by(|one, other| one.bytes >= other.bytes));
        session.works();

        let live = super::histogram::census(pid, Limits { live: true, ..Limits::default() }).unwrap();
        assert_eq!(count(&live.groups, "Holder$Session"), SESSIONS);

        let output = Output::new();
        let dump = output.dump(pid, Wishes::default());
        println!("{}: {} → {} bytes, {:?}, {:?}", dump.runtime, dump.raw, dump.size, dump.pause, dump.remarks);
        assert!(dump.whole, "{:?}", dump.remarks);
        session.works();
        assert_eq!(dump.size, std::fs::metadata(output.file()).unwrap().len());
        assert_eq!(count(&dump.groups, "Holder$Session"), SESSIONS);
        assert!(holds(&output.content(), "top-secret-4321"));
        assert!(holds(&output.content(), "SECRET64"));
        assert_same(&output, &dump, &live.groups);

        // What a memini has left that was killed.
        let left = runtime.root().join("tmp/.memini-left");
        std::fs::create_dir_all(&left).unwrap();
        std::fs::set_permissions(&left, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        nix::unistd::mkfifo(&left.join("heap"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(600);
        std::fs::File::open(&left).unwrap().set_modified(long_ago).unwrap();
        let output = Output::new();
        let dump = output.dump(pid, Wishes { redact: true, live: true, ..Wishes::default() });
        assert!(dump.whole);
        assert!(!left.exists());
        let content = output.content();
        for secret in ["top-secret", "SECRET64", "SCR2", "SECSTATI"] {
            assert!(!holds(&content, secret), "{secret}");
        }
        assert_same(&output, &dump, &live.groups);
        session.works();
        assert_eq!(left_behind(runtime.root(), pid), Vec::<String>::new());
    }
}

/// The objects that somebody else finds in a dump are those that memini has counted in it, and those that the JVM itself has
/// counted, but for what it has made or dropped between the two.
fn assert_same(output: &Output, dump: &Dump, histogram: &[Group]) {
    let mut second = output.second_opinion();
    for (name, _) in &mut second {
        // The address that makes a hidden class unique: memini leaves it out.
        let address = name.find(['+', '/']).unwrap_or(name.len());
        let end = name[address..].find('[').map_or(name.len(), |dimensions| address + dimensions);
        name.replace_range(address..end, "");
    }
    second.sort();
    let mut counted: Vec<(String, u64)> =
        dump.groups.iter().map(|group| (group.name.clone(), group.instances)).collect();
    counted.sort();
    assert_eq!(counted, second);
    assert!(second.contains(&("Holder$Session".to_owned(), SESSIONS)));
    let compared: Vec<&Group> = histogram.iter().filter(|group| group.name != "java.lang.Class").collect();
    let find = |name: &str| second.iter().find(|(other, _)| other == name).map_or(0, |(_, count)| *count);
    let different: Vec<_> = compared
        .iter()
        .filter(|group| find(&group.name) != group.instances)
        .map(|group| (&group.name, group.instances, find(&group.name)))
        .collect();
    println!("    {} of {} classes differ: {different:?}", different.len(), compared.len());
    assert!(different.iter().all(|(name, _, _)| !name.starts_with("Holder")));
    assert!(different.len() * 10 < compared.len(), "{different:?}");
}

#[test]
#[ignore = "needs a JDK"]
fn a_dump_that_is_cut_off_leaves_a_jvm_that_works() {
    for runtime in Runtime::all() {
        let mut session = runtime.start(&["-Xmx256m"], &[&SESSIONS.to_string(), "40"]);
        for wishes in [
            Wishes { cap: 300_000, ..Wishes::default() },
            // In the second part of those that have two.
            Wishes { cap: 5_000_000, ..Wishes::default() },
            Wishes { time: Duration::from_millis(60), ..Wishes::default() },
        ] {
            let output = Output::new();
            match dump(session.pid(), &output.folder, "heap.hprof.gz", wishes) {
                Ok(dump) => {
                    println!("{}: {} of {} bytes, {:?}", dump.runtime, dump.size, dump.raw, dump.remarks);
                    let is_told = dump.remarks.iter().any(|remark| remark.contains("not whole"));
                    assert!(is_told != dump.whole);
                    // Nobody can stop a JVM that writes to its own disk.
                    assert!(!dump.whole || (runtime.insists_on_disk() && wishes.time < Duration::from_secs(1)));
                    assert!(dump.size < wishes.cap + (2 << 20));
                    output.content();
                }
                // Nothing came within that time.
                Err(refusal) => assert!(cause(&refusal).contains("no dump"), "{refusal}"),
            }
            session.works();
        }
        let dump = Output::new().dump(session.pid(), Wishes::default());
        assert!(dump.whole, "{:?}", dump.remarks);
        assert_eq!(left_behind(runtime.root(), session.pid()), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs a JDK"]
fn other_collectors_and_options_are_understood() {
    let sessions = SESSIONS.to_string();
    for options in [
        &["-XX:+UseSerialGC"][..],
        &["-XX:+UseParallelGC"],
        &["-XX:+UseZGC"],
        &["-XX:+UseShenandoahGC"],
        &["-Xrs"],
        &["-XX:NativeMemoryTracking=summary"],
        &["-Xint", "-XX:-UseCompressedOops"],
    ] {
        let mut session = Runtime::own().start(options, &[&sessions]);
        let census = census(session.pid(), Limits::default()).unwrap();
        println!("{options:?}: {:?} {:?}", census.heap, census.remarks);
        assert_eq!(count(&census.groups, "Holder$Session"), SESSIONS);
        assert!((1 << 20..100 << 20).contains(&census.heap.unwrap()));
        let is_tracked = census.outside.iter().any(|part| part.name.starts_with("the JVM's own: "));
        assert_eq!(options[0].contains("Native"), is_tracked);
        session.works();
        let output = Output::new();
        assert!(output.dump(session.pid(), Wishes::default()).whole);
        assert!(output.second_opinion().contains(&("Holder$Session".to_owned(), SESSIONS)));
    }
}

#[test]
#[ignore = "needs a JDK"]
fn what_others_have_put_in_the_sockets_place_is_refused() {
    let mut session = Runtime::own().start(&[], &[&SESSIONS.to_string()]);
    let pid = session.pid();
    let path = PathBuf::from(format!("/tmp/.java_pid{pid}"));
    let attach = || census(pid, Limits::default());

    std::fs::write(&path, "").unwrap();
    assert_cannot(attach(), "is no socket");
    std::fs::remove_file(&path).unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(elsewhere.path().join("socket")).unwrap();
    symlink(elsewhere.path().join("socket"), &path).unwrap();
    assert_cannot(attach(), "is no socket");
    std::fs::remove_file(&path).unwrap();
    drop(listener);

    let listener = UnixListener::bind(&path).unwrap();
    assert_cannot(attach(), "is that of another process");
    chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    assert_cannot(attach(), "belongs to user 65534");
    drop(listener);
    // Nobody listens there, but it is not the JVM's: it stays.
    assert_cannot(attach(), "belongs to user 65534");
    assert!(path.exists());

    // A socket of its own user that nobody listens on was left by an earlier process of that number.
    chown(&path, Some(0), Some(0)).unwrap();
    assert_eq!(count(&attach().unwrap().groups, "Holder$Session"), SESSIONS);
    assert_eq!(left_behind(Path::new("/"), pid), Vec::<String>::new());
    session.works();
}

#[test]
#[ignore = "needs a JDK"]
fn what_others_have_put_in_the_way_of_a_trigger_or_a_dump_is_neither_followed_nor_removed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join("heap");
    std::fs::write(&victim, "untouched").unwrap();
    let mut command = Runtime::own().command(&["-Xmx128m"], &[&SESSIONS.to_string()]);
    let cwd = tempfile::tempdir().unwrap();
    command.current_dir(cwd.path());
    let mut session = Session::new(command);
    session.wait_until_ready();
    let pid = session.pid();
    let triggers = [cwd.path(), Path::new("/tmp")].map(|folder| folder.join(format!(".attach_pid{pid}")));
    for trigger in &triggers {
        symlink(&victim, trigger).unwrap();
    }
    assert_cannot(census(pid, Limits::default()), "can be made neither in its working folder nor in its /tmp");
    // Where one place is left, it does.
    std::fs::remove_file(&triggers[1]).unwrap();
    assert!(census(pid, Limits::default()).is_ok());
    assert!(!triggers[1].exists() && triggers[0].is_symlink());

    // As what a memini has left that was killed, long ago.
    let (link, foreign) = (PathBuf::from("/tmp/.memini-test-link"), PathBuf::from("/tmp/.memini-test-foreign"));
    symlink(elsewhere.path(), &link).unwrap();
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("heap"), "untouched").unwrap();
    std::fs::set_permissions(&foreign, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(600);
    std::fs::File::open(&foreign).unwrap().set_modified(long_ago).unwrap();
    chown(&foreign, Some(NOBODY), Some(NOBODY)).unwrap();
    let dump = Output::new().dump(pid, Wishes::default());
    let left = [link.is_symlink(), foreign.join("heap").exists(), std::fs::read(&victim).unwrap() == b"untouched"];
    std::fs::remove_file(&link).unwrap();
    std::fs::remove_dir_all(&foreign).unwrap();
    assert!(dump.whole && left == [true; 3], "{left:?}");
    session.works();
}

#[test]
#[ignore = "needs a JDK"]
fn a_later_process_of_the_same_number_is_not_asked() {
    let mut session = Runtime::own().start(&[], &[&SESSIONS.to_string()]);
    let pid = session.pid();
    let start = Target::open(pid).unwrap().started().unwrap();
    for other in [start - 1, start + 1] {
        assert_cannot(census(pid, Limits { start: Some(other), ..Limits::default() }), "it has ended");
        let output = Output::new();
        let wishes = Wishes { start: Some(other), ..Wishes::default() };
        assert_cannot(dump(pid, &output.folder, "heap.hprof.gz", wishes), "it has ended");
        assert!(output.folder.files().is_empty());
    }
    // Nobody has asked it for a socket.
    assert!(!Path::new(&format!("/tmp/.java_pid{pid}")).exists());
    assert!(census(pid, Limits { start: Some(start), ..Limits::default() }).is_ok());
    assert!(Output::new().dump(pid, Wishes { start: Some(start), ..Wishes::default() }).whole);
    session.works();
}

#[test]
#[ignore = "needs a JDK"]
fn attaching_that_is_switched_off_is_told_without_a_signal() {
    for (options, variable) in
        [(&["-XX:+DisableAttachMechanism"][..], None), (&[], Some("-Dx=y -XX:+DisableAttachMechanism"))]
    {
        let mut command = Runtime::own().command(options, &[&SESSIONS.to_string()]);
        command.stderr(Stdio::null());
        variable.map(|value| command.env("JAVA_TOOL_OPTIONS", value));
        let mut session = Session::new(command);
        session.wait_until_ready();
        assert_cannot(census(session.pid(), Limits::default()), "-XX:+DisableAttachMechanism");
        // SIGQUIT would have made it print its threads before this answer.
        session.works();
    }
}

#[test]
#[ignore = "needs a JDK"]
fn a_jvm_that_is_starting_is_not_killed() {
    let mut early = 0;
    for _ in 0..5 {
        let mut session = Session::new(Runtime::own().command(&[], &[&SESSIONS.to_string()]));
        let census = loop {
            match census(session.pid(), Limits::default()) {
                Ok(census) => break census,
                Err(refusal) => {
                    early += u32::from(
                        ["does not handle SIGQUIT", "it is starting"]
                            .iter()
                            .any(|early| cause(&refusal).contains(early)),
                    );
                    assert!(!cause(&refusal).contains("its socket"), "{refusal}");
                    assert!(session.child.try_wait().unwrap().is_none(), "killed; the last answer was: {refusal}");
                }
            }
        };
        assert!(!census.groups.is_empty());
        session.wait_until_ready();
        session.works();
    }
    assert!(early > 0, "it was never looked at early enough");
}

#[test]
#[ignore = "needs a JDK"]
fn a_stopped_jvm_costs_a_deadline_and_leaves_nothing() {
    let mut session = Runtime::own().start(&[], &[&SESSIONS.to_string()]);
    let pid = session.pid();
    session.signal(Signal::STOP);
    session.wait_until_stopped();
    assert_cannot(census(pid, Limits::default()), "it is stopped;");
    assert_eq!(left_behind(Path::new("/"), pid), Vec::<String>::new());
    session.signal(Signal::CONT);
    session.works();

    let jvm = Jvm::attach(pid, None, Deadline::after(Duration::from_secs(2))).unwrap();
    session.signal(Signal::STOP);
    session.wait_until_stopped();
    let began = Instant::now();
    assert_cannot(census_of(&jvm, Limits::default()), "did not answer in time");
    assert!(began.elapsed() < Duration::from_secs(5));
    session.signal(Signal::CONT);
    session.works();
    assert_eq!(count(&census(pid, Limits::default()).unwrap().groups, "Holder$Session"), SESSIONS);
}

/// The file that a JVM writes its dump to by itself, with its path and ` (deleted)` if it has no name any more.
fn own_file(pid: i32) -> Option<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut paths = files.filter_map(|file| std::fs::read_link(file.path()).ok()?.into_os_string().into_string().ok());
    paths.find(|path| path.contains("/.memini-") && path.contains("/heap"))
}

/// Waits until a dump of this process is on its way: in memini's file, or in the one that the JVM itself writes.
fn wait_until_dumping(runtime: &Runtime, output: &Output, pid: i32) {
    let began = Instant::now();
    loop {
        if own_file(pid).is_some() {
            return;
        }
        let places = std::fs::read_dir(runtime.root().join("tmp")).unwrap().flatten();
        let places = places.filter(|entry| entry.file_name().to_string_lossy().starts_with(".memini-"));
        let mut files =
            places.map(|place| place.path().join("heap")).chain([output.file().with_extension("gz.partial")]);
        let is_begun =
            |file: PathBuf| std::fs::symlink_metadata(file).is_ok_and(|file| file.is_file() && file.len() > 0);
        if files.any(is_begun) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "needs a JDK"]
fn a_jvm_that_dies_in_the_middle_is_an_end_and_no_hang() {
    for runtime in Runtime::all() {
        let session = runtime.start(&["-Xmx256m"], &[&SESSIONS.to_string(), "100"]);
        let pid = session.pid();
        let output = Output::new();
        let began = Instant::now();
        let result = std::thread::scope(|scope| {
            let taken = scope.spawn(|| dump(pid, &output.folder, "heap.hprof.gz", Wishes::default()));
            wait_until_dumping(&runtime, &output, pid);
            session.signal(Signal::KILL);
            taken.join().unwrap()
        });
        println!("{:?}: {result:?}", runtime.java);
        match result {
            Ok(dump) => assert!(!dump.whole, "{dump:?}"),
            Err(refusal) => {
                assert_ne!(refusal, Refusal::NotMine);
                assert!(output.folder.files().is_empty(), "{refusal}");
            }
        }
        assert!(began.elapsed() < Duration::from_secs(60));
        // Not reaped yet, it has no mappings that could tell what it was.
        assert_eq!(census(pid, Limits::default()), Err(Refusal::NotMine));
        assert_eq!(left_behind(runtime.root(), pid), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs a JDK"]
fn a_memini_that_is_killed_in_the_middle_leaves_a_jvm_that_works() {
    for runtime in Runtime::all() {
        let mut session = runtime.start(&["-Xmx256m"], &[&SESSIONS.to_string(), "100"]);
        let pid = session.pid();
        let output = Output::new();
        let mut other = Command::new(std::env::current_exe().unwrap())
            .args(["capture::jvm::tests::what_dumps_until_it_is_killed", "--exact", "--ignored"])
            .env("MEMINI_TEST_JVM", pid.to_string())
            .env("MEMINI_TEST_FOLDER", output.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until_dumping(&runtime, &output, pid);
        let is_nameless = || own_file(pid).is_some_and(|path| path.ends_with(" (deleted)"));
        let is_kept = || output.file().with_extension("gz.partial").metadata().is_ok_and(|file| file.len() > 0);
        let began = Instant::now();
        while runtime.insists_on_disk() && !is_nameless() && !is_kept() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
        other.kill().unwrap();
        other.wait().unwrap();
        session.works();

        let tmp = runtime.root().join("tmp");
        let places = || {
            let names = std::fs::read_dir(&tmp).unwrap().flatten();
            names.filter(|entry| entry.file_name().to_string_lossy().starts_with(".memini-")).map(|entry| entry.path())
        };
        // The whole heap, which nobody would come for.
        let left = || places().map(|place| place.join("heap")).find(|file| file.is_file());
        assert!(!runtime.insists_on_disk() || left().is_none(), "{:?}", left());

        // What is left goes with the next look, once nobody can be on the way to using it.
        // From JDK 22 on the JVM still tidies up in there when it works again, which makes it new: then it is for the look after that.
        let began = Instant::now();
        loop {
            for place in places() {
                let long_ago = std::time::SystemTime::now() - Duration::from_secs(600);
                std::fs::File::open(place).unwrap().set_modified(long_ago).unwrap();
            }
            for file in [output.file(), output.file().with_extension("gz.partial")] {
                let _ = std::fs::remove_file(file);
            }
            census(pid, Limits::default()).unwrap();
            if places().count() == 0 {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "what is left has not gone");
        }
        assert!(output.dump(pid, Wishes::default()).whole);
        session.works();
    }
}

/// Run by the test above.
#[test]
#[ignore = "needs a JVM that is told"]
fn what_dumps_until_it_is_killed() {
    let Some(pid) = std::env::var_os("MEMINI_TEST_JVM") else { return };
    let pid = pid.to_str().and_then(|pid| pid.parse().ok()).unwrap();
    let folder = Folder::base(Path::new(&std::env::var_os("MEMINI_TEST_FOLDER").unwrap())).unwrap();
    let _ = dump(pid, &folder, "heap.hprof.gz", Wishes::default());
}

#[test]
#[ignore = "needs a JDK"]
fn a_jvm_that_hangs_on_its_way_to_a_safepoint_costs_the_deadline() {
    // Other collectors compile loops with stops in them.
    let options = ["-XX:+UseParallelGC", "-XX:-UseCountedLoopSafepoints", "-XX:LoopStripMiningIter=0"];
    let mut session = Runtime::own().start(&options, &[&SESSIONS.to_string()]);
    let pid = session.pid();
    assert!(census(pid, Limits::default()).is_ok());
    session.does("spin");
    let limits = Limits { time: Duration::from_secs(1), ..Limits::default() };
    let began = Instant::now();
    // Until the loop is compiled it can be stopped.
    let refusal = loop {
        match census(pid, limits) {
            Ok(_) => assert!(began.elapsed() < Duration::from_secs(60)),
            Err(refusal) => break refusal,
        }
    };
    assert!(cause(&refusal).contains("did not answer in time; it may hang on its way to a safepoint"), "{refusal}");
    let output = Output::new();
    let wishes = Wishes { time: Duration::from_secs(1), ..Wishes::default() };
    let began = Instant::now();
    let refusal = dump(pid, &output.folder, "heap.hprof.gz", wishes).unwrap_err();
    println!("{refusal}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(output.folder.files().is_empty());
    assert_eq!(left_behind(Path::new("/"), pid), Vec::<String>::new());
}

/// A small file system of its own, on a disk.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn new(megabytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let mount = folder.path().join("disk");
        std::fs::create_dir(&mount).unwrap();
        let words = ["-q", "-F", "-O", "^has_journal", "-m", "0"];
        assert!(Command::new("mkfs.ext4").args(words).arg(&image).status().unwrap().success());
        let words = ["-o".as_ref(), "loop".as_ref(), image.as_os_str(), mount.as_os_str()];
        assert!(Command::new("mount").args::<_, &OsStr>(words).status().unwrap().success());
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[test]
#[ignore = "needs a JDK and a loop device"]
fn a_disk_that_fills_up_in_the_middle_is_told_and_nothing_is_left_on_it() {
    let disk = Disk::new(8);
    for runtime in Runtime::all() {
        let mut session = runtime.start(&["-Xmx256m"], &[&SESSIONS.to_string(), "60"]);
        let folder = Folder::base(&disk.path().join("memini")).unwrap();
        assert_cannot(dump(session.pid(), &folder, "heap.hprof.gz", Wishes::default()), "No space left on device");
        assert!(folder.files().is_empty());
        session.works();
        assert_eq!(left_behind(runtime.root(), session.pid()), Vec::<String>::new());
        assert!(Output::new().dump(session.pid(), Wishes::default()).whole);
    }
}

#[test]
#[ignore = "needs JDKs before 17, and a loop device"]
fn a_jvm_that_has_no_room_for_its_own_dump_is_told() {
    for runtime in Runtime::all().into_iter().filter(|runtime| runtime.insists_on_disk()) {
        // For the heap that is there it is large enough; then it is filled by somebody else.
        let disk = Disk::new(300);
        let runtime = Runtime { tmp: Some(disk.path()), ..runtime };
        let mut session = runtime.start(&["-Xmx256m"], &[&SESSIONS.to_string(), "100"]);
        let output = Output::new();
        let wishes = Wishes { reserve: 200 << 20, ..Wishes::default() };
        assert_cannot(dump(session.pid(), &output.folder, "heap.hprof.gz", wishes), "200 MiB are to stay free");
        let result = std::thread::scope(|scope| {
            let taken = scope.spawn(|| dump(session.pid(), &output.folder, "heap.hprof.gz", Wishes::default()));
            let began = Instant::now();
            while own_file(session.pid()).is_none() {
                assert!(began.elapsed() < Duration::from_secs(60) && !taken.is_finished());
                std::thread::yield_now();
            }
            let mut filling = std::fs::File::create(disk.path().join("filling")).unwrap();
            // To write as much would take longer than the JVM does.
            let free = statvfs(&disk.path()).unwrap();
            let free = (free.blocks_available() * free.fragment_size()).cast_signed();
            let _ = fallocate(&filling, FallocateFlags::empty(), 0, free);
            filling.seek(SeekFrom::End(0)).unwrap();
            while filling.write_all(&[0; 1 << 20]).is_ok() {}
            taken.join().unwrap()
        });
        println!("{:?}: {result:?}", runtime.java);
        match result {
            Ok(dump) => {
                assert!(!dump.whole && dump.remarks.iter().any(|remark| remark.contains("not whole")));
                output.content();
            }
            Err(refusal) => assert!(cause(&refusal).contains("writes no dump"), "{refusal}"),
        }
        session.works();
        assert!(!std::fs::read_dir(disk.path()).unwrap().flatten().any(|place| place.path().is_dir()
            && place.file_name() != "lost+found"
            && !place.file_name().to_string_lossy().starts_with("hsperfdata")));
        let output = Output::new();
        assert_cannot(dump(session.pid(), &output.folder, "heap.hprof.gz", Wishes::default()), "needed");
        session.works();
    }
}

#[test]
#[ignore = "needs a JDK"]
fn what_grows_outside_the_heap_is_told_by_its_kind() {
    use crate::capture::snapshot::Snapshot;
    let look = |identity: Identity| census(identity.pid, Limits::default());
    for runtime in Runtime::all() {
        for native in [&[][..], &["-XX:NativeMemoryTracking=summary"]] {
            let options = [&["-Xmx256m", "-XX:MaxDirectMemorySize=1g"], native].concat();
            let mut session = runtime.start(&options, &[&SESSIONS.to_string()]);
            let pid = session.pid();
            let mut before = Snapshot::take(&[pid], None, None, &[&look]);
            let direct = if native.is_empty() { "direct buffers and other native memory" } else { "direct buffers" };
            for (leak, expected) in
                [("direct 150", direct), ("classes 3000", "metaspace"), ("threads 1500", "thread stacks")]
            {
                session.does(leak);
                let after = Snapshot::take(&[pid], None, None, &[&look]);
                let findings = crate::capture::suspects::find(&[&before, &after]);
                let first = findings.suspects.first().unwrap();
                let census = after.processes[0].census.as_ref().unwrap();
                println!("{} {leak}: {:?}", census.runtime, census.remarks[0]);
                for suspect in findings.suspects.iter().take(3) {
                    let growth = suspect.growth.unwrap_or(0) >> 20;
                    println!("    {} {growth} MiB {:?} [{}]", suspect.what, suspect.count_growth, suspect.place);
                }
                assert!(
                    first.what == expected || (first.what == "threads" && expected == "thread stacks"),
                    "{first:?}"
                );
                let asked: i64 = leak.split(' ').nth(1).unwrap().parse().unwrap();
                assert!((asked..asked + 500).contains(&first.count_growth.unwrap()), "{first:?}");
                // All that is private is in one of them.
                let parts: u64 = census.outside.iter().map(|part| part.bytes).sum();
                let held = after.processes[0].process.held();
                let whole = parts + census.heap.unwrap();
                assert!(whole.abs_diff(held) < (held / 10).max(8 << 20), "{whole} of {held}");
                before = after;
            }
        }
    }
}

#[test]
#[ignore = "needs a JDK"]
fn a_jvm_of_another_user_is_asked_as_that_user() {
    for runtime in Runtime::all().into_iter().filter(|runtime| runtime.root.is_none()) {
        let mut command = runtime.command(&["-Xmx128m"], &[&SESSIONS.to_string()]);
        // It cannot write to its working folder.
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        let mut session = Session::new(command);
        session.wait_until_ready();
        let pid = session.pid();
        let census = census(pid, Limits::default()).unwrap();
        assert_eq!(count(&census.groups, "Holder$Session"), SESSIONS);
        let output = Output::new();
        let dump = output.dump(pid, Wishes::default());
        println!("{}: {:?}", dump.runtime, dump.remarks);
        assert!(dump.whole, "{:?}", dump.remarks);
        assert!(output.second_opinion().contains(&("Holder$Session".to_owned(), SESSIONS)));
        session.works();
        assert_eq!(left_behind(Path::new("/"), pid), Vec::<String>::new());
        assert_eq!(nix::unistd::geteuid().as_raw(), 0);
    }
}

#[test]
#[ignore = "needs a JDK"]
fn without_privileges_a_jvm_of_another_user_is_a_clear_line() {
    use std::os::unix::fs::PermissionsExt;
    let mut session = Runtime::own().start(&[], &[&SESSIONS.to_string()]);
    // Where that user may run it.
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let words = ["capture::jvm::tests::what_an_unprivileged_user_is_told", "--exact", "--ignored", "--nocapture"];
    let output = Command::new(&program)
        .args(words)
        .env("MEMINI_TEST_JVM", session.pid().to_string())
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("told: cannot read /proc/"), "{text}");
    session.works();
    assert_eq!(left_behind(Path::new("/"), session.pid()), Vec::<String>::new());
}

/// Run by the test above, as somebody else.
#[test]
#[ignore = "needs a JVM of another user"]
fn what_an_unprivileged_user_is_told() {
    let Some(pid) = std::env::var_os("MEMINI_TEST_JVM") else { return };
    let pid = pid.to_str().and_then(|pid| pid.parse().ok()).unwrap();
    match census(pid, Limits::default()) {
        Err(Refusal::Cannot(line)) => println!("told: {line}"),
        other => panic!("{other:?}"),
    }
}

/// A program that looks like a launcher with HotSpot in it: it exports its symbol.
fn pretender(place: &Path, main: &str) -> Session {
    let (source, program) = (place.join("main.c"), place.join("launcher"));
    let text = format!("#include <signal.h>\n#include <stdio.h>\n#include <unistd.h>\nint gHotSpotVMStructs;\n{main}");
    std::fs::write(&source, text).unwrap();
    let words = [OsStr::new("-rdynamic"), "-o".as_ref(), program.as_os_str(), source.as_os_str()];
    assert!(Command::new("cc").args(words).status().unwrap().success());
    let mut command = Command::new(&program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut session = Session::new(command);
    session.wait_until_ready();
    session
}

#[test]
#[ignore = "needs a C compiler"]
fn a_jvm_that_is_linked_statically_is_recognised() {
    let place = tempfile::tempdir().unwrap();
    let main = r#"int main(void) { puts("ready"); fflush(stdout); return pause(); }"#;
    let mut session = pretender(place.path(), main);
    // It is one, though it does not handle the signal.
    assert_cannot(census(session.pid(), Limits::default()), "does not handle SIGQUIT");
    assert!(session.child.try_wait().unwrap().is_none());
}

#[test]
#[ignore = "needs a C compiler"]
fn a_jvm_that_never_opens_its_socket_costs_the_deadline_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let main = r#"#include <sys/prctl.h>
        static void hear(int number) { (void) number; }
        int main(void) { prctl(PR_SET_NAME, "Service Thread"); signal(SIGQUIT, hear); puts("ready"); fflush(stdout); while (1) pause(); }"#;
    let session = pretender(place.path(), main);
    let limits = Limits { time: Duration::from_millis(300), ..Limits::default() };
    let began = Instant::now();
    assert_cannot(census(session.pid(), limits), "did not open its socket within");
    assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&began.elapsed()));
    assert_eq!(left_behind(Path::new("/"), session.pid()), Vec::<String>::new());
}

/// Prints what a census and a dump cost; `MEMINI_TEST_GROUP` is the folder of the memory cgroup (v1) that all this runs in.
#[test]
#[ignore = "a measurement: alone, on a quiet machine"]
fn measure() {
    use crate::units::{Size, Span};
    let group = std::env::var_os("MEMINI_TEST_GROUP").map(PathBuf::from);
    let number = |name: &str| -> u64 {
        let text = group.as_ref().and_then(|group| std::fs::read_to_string(group.join(name)).ok());
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    for runtime in Runtime::all() {
        for megabytes in [100u32, 500, 2000] {
            let heap = format!("-Xmx{}m", megabytes * 2);
            let mut session = runtime.start(&[&heap], &[&SESSIONS.to_string(), &megabytes.to_string()]);
            let pid = session.pid();
            let measured = |what: &str, session: &mut Session, act: &mut dyn FnMut() -> Duration| {
                session.works();
                let resident = || Target::open(pid).unwrap().status().unwrap().resident;
                let before = (resident(), number("memory.usage_in_bytes"));
                if let Some(group) = &group {
                    std::fs::write(group.join("memory.max_usage_in_bytes"), "0").unwrap();
                }
                let began = Instant::now();
                let pause = act();
                let time = began.elapsed();
                let peak = number("memory.max_usage_in_bytes").saturating_sub(before.1);
                println!(
                    "{megabytes} MB, {what}: {} in all, pause {} as measured, {} ms as the app saw it, JVM +{}, group +{}",
                    Span(time),
                    Span(pause),
                    session.works(),
                    Size(resident().saturating_sub(before.0)),
                    Size(peak)
                );
            };
            let mut line = String::new();
            measured("first census", &mut session, &mut || census(pid, Limits::default()).unwrap().pause);
            measured("census", &mut session, &mut || census(pid, Limits::default()).unwrap().pause);
            let live = Limits { live: true, ..Limits::default() };
            measured("live census", &mut session, &mut || census(pid, live).unwrap().pause);
            for redact in [false, true] {
                let what = if redact { "redacted dump" } else { "dump" };
                measured(what, &mut session, &mut || {
                    let output = Output::new();
                    let dump = output.dump(pid, Wishes { redact, ..Wishes::default() });
                    line =
                        format!("{}: {} in {}, whole: {}", dump.runtime, Size(dump.raw), Size(dump.size), dump.whole);
                    dump.pause
                });
                println!("    {line}");
            }
        }
    }
}
