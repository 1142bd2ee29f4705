//! The built-in evidence: who has grown is named, in the log, in the record and in the last words.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::support::session::python;
use crate::support::{Group, MIB, Memini, Session, wait_until};

/// Adds so many thousand strings of 1000 letters to a dict of the module; or lists, which take longer to look at.
const LEAK: &str = r#"
import sys
cache = {}
def leak(thousands):
    for _ in range(thousands * 1000):
        cache[len(cache)] = "x" * 1000 + str(len(cache)) if "lists" not in sys.argv else [None] * 120
for line in sys.stdin:
    leak(int(line))
    print("done", line.strip(), flush=True)
"#;

fn leaking(group: &Group) -> Memini<'_> {
    Memini::new(group).options(&["--baseline-after", "0s", "--cooldown", "0s", "-v"]).command(&[python(), "-c", LEAK])
}

#[test]
fn who_has_grown_is_named_while_the_app_lives_on() {
    let group = Group::new("named", 256);
    let mut session = leaking(&group).start();
    session.sees("looking at the processes, to compare with later");
    session.sees("the processes were looked at");
    session.tell("148");
    session.sees_times("the processes were looked at", 2);
    let line = session.sees("__main__.cache: dict");
    assert!(line.contains("148000 (+148000)") && line.contains("heap of CPython 3."), "{line}");
    session.tell("45");
    session.sees_times("the processes were looked at", 3);
    let ended = session.finish();
    ended.assert_code(0);
    let incident = ended.incident();
    let evidence = &incident.json["evidence"];
    let first = &evidence["suspects"][0];
    assert_eq!(first["what"], "__main__.cache: dict", "{evidence}\n{}", ended.log);
    assert_eq!((first["consistency"].as_f64(), evidence["is_conclusive"].as_bool()), (Some(1.0), Some(true)));
    assert!(first["growth"].as_u64().unwrap() > 100 * MIB, "{evidence}");
    let file = evidence["file"].as_str().unwrap();
    assert!(file.starts_with("artifacts/evidence-capture-"), "{file}\n{}", ended.log);
    let listed = incident.json["artifacts"].as_array().unwrap();
    assert_eq!(listed.iter().filter(|artifact| artifact["file"] == file).count(), 1, "{listed:?}");
    incident.assert_private();
}

#[test]
fn the_last_words_name_who_has_grown() {
    let group = Group::new("words", 160);
    let memini = leaking(&group);
    let words = memini.place().join("words");
    fs::write(&words, "").unwrap();
    let mut session = memini.options(&["--termination-log", words.to_str().unwrap(), "--stop-when", "level"]).start();
    session.sees("the processes were looked at");
    session.tell("100");
    session.sees_times("the processes were looked at", 2);
    session.begin("200");
    let ended = session.end();
    ended.assert_code(75);
    let words = fs::read_to_string(&words).unwrap();
    assert!(words.contains("__main__.cache: dict"), "{words}\n{}", ended.log);
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn who_wants_none_gets_none() {
    let group = Group::new("none", 160);
    let mut session = leaking(&group).options(&["--capture", "off"]).start();
    session.tell("110");
    session.sees("trace:");
    let ended = session.finish();
    ended.assert_code(0).assert_silent("the processes").assert_silent("cache");
    assert!(ended.incident().json["evidence"].is_null());
}

#[test]
fn a_census_can_be_left_out() {
    let group = Group::new("proc", 160);
    let mut session = leaking(&group).options(&["--capture", "proc"]).start();
    session.sees("the processes were looked at");
    session.tell("110");
    session.sees_times("the processes were looked at", 2);
    let ended = session.finish();
    ended.assert_code(0).assert_says("private memory").assert_silent("__main__");
}

#[test]
fn where_no_room_is_left_no_census_is_taken_and_memini_says_so() {
    let group = Group::new("room", 64);
    let mut session = leaking(&group).options(&["--capture-at", "78%"]).start();
    session.sees("the processes were looked at");
    session.tell("40");
    session.sees("the kernel's numbers must do");
    session.finish().assert_code(0);
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn an_app_goes_on_when_the_look_at_it_is_killed_while_it_stands_still() {
    let group = Group::new("held", 512);
    let command = [python(), "-c", LEAK, "lists"];
    let mut session = Memini::new(&group).options(&["-v", "--capture-at", "off"]).command(&command).start();
    session.sees("runs as process");
    let app = session.child("cache = {}");
    session.begin("350");
    wait_until("the app stands still to be looked at", || {
        let stat = fs::read_to_string(format!("/proc/{app}/stat")).unwrap_or_default();
        stat.contains(") T ") && session.log().contains("trace: looking at the processes")
    });
    let worker = session.child("__worker evidence");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL).unwrap();
    session.sees("its evidence is missing");
    session.finish().assert_code(0);
}

/// The folder with the compiled class.
fn leaking_jvm() -> &'static str {
    static FOLDER: OnceLock<String> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("java");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/memory/java/Leak.java");
        let done = Command::new("javac").arg("-d").arg(&folder).arg(source).status();
        assert!(done.expect("these tests need a JDK").success());
        folder.into_os_string().into_string().unwrap()
    })
}

/// JVMs with the same number in namespaces of their own would use the same name in /tmp.
static ONE_JVM: Mutex<()> = Mutex::new(());

fn leak_until(session: &mut Session, text: &str) {
    while !session.log().contains(text) {
        session.tell("5");
    }
}

/// A JVM whose heap may grow beyond the limit.
fn jvm<'a>(group: &'a Group, options: &[&str]) -> Memini<'a> {
    let java = ["java", "-XX:+UseSerialGC", "-Xms16m", "-Xmn8m", "-Xmx600m", "-cp", leaking_jvm(), "Leak"];
    Memini::new(group).options(&["-v", "--baseline-after", "3s"]).options(options).command(&java)
}

#[test]
fn of_a_jvm_the_class_is_named_and_its_heap_is_kept() {
    let _alone = ONE_JVM.lock().unwrap_or_else(PoisonError::into_inner);
    let group = Group::new("jvm", 400);
    let mut session = jvm(&group, &[]).start();
    session.tell("1");
    session.sees("the processes were looked at");
    leak_until(&mut session, "trace: looking at the processes");
    session.sees_times("the processes were looked at", 2);
    leak_until(&mut session, "capture: looking at the processes");
    session.sees_times("the processes were looked at", 3);
    // It goes on.
    session.tell("1");
    let ended = session.finish();
    ended.assert_code(0).assert_says("Leak$Ticket").assert_says("heap dump of java");
    let incident = ended.incident();
    let first = &incident.json["evidence"]["suspects"][0];
    assert_eq!(first["what"], "Leak$Ticket", "{}", ended.log);
    let artifacts = incident.json["artifacts"].as_array().unwrap();
    let dump = artifacts.iter().find(|artifact| artifact["file"].as_str().unwrap().ends_with(".hprof.gz"));
    let path = ended.dir().join("incidents").join(incident.json["id"].as_str().unwrap());
    let path = path.join(dump.unwrap_or_else(|| panic!("{}", ended.log))["file"].as_str().unwrap());
    let unpacked = Command::new("gzip").args(["-dc"]).arg(&path).output().unwrap();
    assert!(unpacked.status.success() && unpacked.stdout.starts_with(b"JAVA PROFILE 1.0."), "{}", path.display());
    assert!(unpacked.stdout.len() as u64 > 250 * 1_000_000, "{} bytes", unpacked.stdout.len());
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn what_speaks_against_a_heap_dump_is_said_with_its_numbers() {
    let _alone = ONE_JVM.lock().unwrap_or_else(PoisonError::into_inner);
    for (options, why) in [(&["--max-pause", "500ms"][..], "would stand still for"), (&["--heavy", "off"], "")] {
        let group = Group::new("no-dump", 400);
        let mut session = jvm(&group, options).start();
        session.tell("1");
        session.sees("the processes were looked at");
        leak_until(&mut session, "trace: looking at the processes");
        session.sees_times("the processes were looked at", 2);
        leak_until(&mut session, "capture: looking at the processes");
        session.sees_times("the processes were looked at", 3);
        let ended = session.finish();
        ended.assert_code(0).assert_says(why).assert_silent("heap dump of java (pid 2): artifacts");
        assert_eq!(ended.log.contains("no heap dump"), !why.is_empty(), "{}", ended.log);
    }
}

/// The seventh line allocates much, the fifth a little; and it tells how it was changed.
const LINES: &str = r#"
import os, sys
cache = []
def little():
    return "y" * 100
def leak(number):
    return "x" * 1000 + str(number)
def state():
    import _tracemalloc
    threads, is_helped = len(os.listdir("/proc/self/task")), any("helpers" in path for path in sys.path)
    print("state:", threads, is_helped, _tracemalloc.is_tracing(), file=sys.stderr, flush=True)
for line in sys.stdin:
    if line == "state\n":
        state()
    elif line == "block\n":
        cache.append(bytearray(150 << 20))
    elif line == "clear\n":
        cache.clear()
    else:
        for number in range(int(line) * 1000):
            cache.append(leak(number))
            if number % 100 == 0:
                cache.append(little())
    print("done", line.strip(), flush=True)
"#;

fn with_lines<'a>(group: &'a Group, options: &[&str], python_options: &[&str]) -> Memini<'a> {
    let memini =
        Memini::new(group).options(&["--baseline-after", "0s", "--cooldown", "0s", "--helpers", "python", "-v"]);
    let script = memini.place().join("app.py");
    fs::write(&script, LINES).unwrap();
    let command = [&[python()], python_options, &[script.to_str().unwrap()]].concat();
    memini.options(options).command(&command)
}

#[test]
fn with_a_helper_the_line_that_allocates_is_named() {
    let group = Group::new("lines", 256);
    let memini = with_lines(&group, &[], &[]);
    let script = memini.place().join("app.py").display().to_string();
    let mut session = memini.start();
    session.sees("the processes were looked at");
    session.tell("148");
    session.sees_times("the processes were looked at", 2);
    session.tell("52");
    let line = session.sees(&format!("{script}:7"));
    assert!(line.contains("allocations of CPython 3."), "{line}");
    session.sees_times("the processes were looked at", 3);
    let ended = session.finish();
    ended.assert_code(0).assert_silent("no helper");
    let incident = ended.incident();
    let evidence = &incident.json["evidence"];
    // What holds them may be named before: it was there when nothing was recorded yet.
    let suspects = evidence["suspects"].as_array().unwrap();
    let first = suspects.iter().find(|suspect| suspect["what"] == format!("{script}:7"));
    let first = first.unwrap_or_else(|| panic!("{evidence}\n{}", ended.log));
    // How many, depends on when the two looks were taken while it went on.
    let (bytes, count) = (first["bytes"].as_u64().unwrap(), first["count"].as_u64().unwrap());
    assert!(count > 20_000 && (1000..1100).contains(&(bytes / count)), "{evidence}");
    assert_eq!(evidence["is_conclusive"], true, "{evidence}");
    incident.assert_private();
}

#[test]
fn an_app_with_a_helper_is_slowed_down_only_as_long_as_there_is_something_to_explain() {
    let group = Group::new("over", 256);
    let mut session = with_lines(&group, &["--trace-at", "50%"], &[]).start();
    session.sees("the processes were looked at");
    session.tell("state");
    session.sees("state: 2 False False");
    session.tell("block");
    session.sees_times("the processes were looked at", 2);
    session.tell("state");
    session.sees("state: 2 False True");
    session.tell("clear");
    session.recorded(1, "recovered");
    // The helper hears of it a moment later.
    wait_until("the recording has ended", || {
        session.tell("state");
        session.log().matches("state: 2 False False").count() > 1
    });
    session.finish().assert_code(0);
}

#[test]
fn where_no_helper_can_be_the_log_says_so() {
    let group = Group::new("isolated", 256);
    let mut session = with_lines(&group, &[], &["-I"]).start();
    session.sees("the processes were looked at");
    session.tell("148");
    session.sees("no helper is in it: python -I, -E or -S");
    session.sees("cache: list");
    session.finish().assert_code(0);
}
