//! The built-in evidence: who has grown is named, in the log, in the record and in the last words.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::json;

use crate::support::session::python;
use crate::support::{Ended, Group, Incident, MIB, Memini, Session, neighbour, records, send, wait_until};

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
    let mut session = leaking(&group).options(&["--max-captures", "1"]).start();
    session.sees("looking at the processes, to compare with later");
    session.sees("the processes were looked at");
    session.tell("148");
    session.sees_times("the processes were looked at", 2);
    let line = session.sees("__main__.cache: dict");
    // Memory reaches the stage before all are there: how many are, when the look is taken, depends on who is the faster.
    let number = line.split_once("dict, ").and_then(|(_, rest)| rest.split_once(' ')).map_or("", |(number, _)| number);
    let number: u64 = number.parse().unwrap_or(0);
    assert!((100_000..=148_000).contains(&number), "{line}");
    // It was not among those that were told before: with how few items it may have been there is known.
    let more = line.split_once("(+").and_then(|(_, rest)| rest.split_once(')')).map_or("", |(more, _)| more);
    assert!((number - 1000..=number).contains(&more.parse().unwrap_or(0)), "{line}");
    assert!(line.contains("heap of CPython 3."), "{line}");
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
    // Where memory swings around a threshold, it is looked at again.
    let mut stages: Vec<_> = evidence["looks"].as_array().unwrap().iter().map(|look| look["stage"].clone()).collect();
    let looks = stages.len();
    stages.dedup();
    assert_eq!(stages, ["normal", "trace", "capture"], "{evidence}");
    let sizes: Vec<_> = first["sizes"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap_or(0)).collect();
    assert!(sizes.len() == looks && sizes.is_sorted() && sizes.last().copied() == first["bytes"].as_u64(), "{first}");
    let held = evidence["processes"][0]["sizes"].as_array().unwrap();
    assert!(held[2].as_u64() > held[0].as_u64(), "{evidence}");
    incident.assert_private();
    incident.assert_digests();
    incident.assert_history(204);
    // For people: by itself, and on demand.
    let page = fs::read_to_string(incident.folder.join("report.html")).unwrap();
    assert!(page.contains("__main__.cache: dict") && page.ends_with("</html>\n"), "{page}");
    let mut memini = Command::new(crate::support::session::binary());
    let shown = memini.arg("report").arg(incident.folder.parent().unwrap().parent().unwrap()).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let headline = incident.json["summary"].as_str().unwrap();
    assert!(shown.starts_with(headline) && shown.contains("__main__.cache: dict, heap of CPython"), "{shown}");
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
fn a_history_is_told_where_there_is_room_and_in_the_end() {
    let group = Group::new("history", 100);
    let mut session = Memini::new(&group).options(&["--stop-at", "off", "--kill-at", "off"]).app(&[]).start();
    records(&session.dir().join("recorder"));
    session.tell("to 70");
    session.recorded(1, "open");
    let dir = session.dir();
    let open = || Incident::only(&dir);
    wait_until("a record with a history", || open().json["history"].is_array());
    // Less room than what it costs to read it.
    session.tell("to 94");
    wait_until("a record without one", || open().json["history"].is_null());
    let ended = session.finish();
    ended.incident().assert_history(90);
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn a_run_that_was_killed_with_its_app_has_its_history() {
    let group = Group::new("history-killed", 200);
    let place = tempfile::TempDir::with_prefix("memini-test-").unwrap();
    let dir = place.path().join("memini");
    let options = ["--dir", dir.to_str().unwrap(), "--stop-at", "off", "--kill-at", "off"];
    let start = || Memini::new(&group).options(&options).app(&[]).start();
    // With a record that was open, and without any.
    for is_open in [true, false] {
        let mut session = start();
        records(&dir.join("recorder"));
        session.tell("to 197");
        session.sees("capture: memory is at ");
        if is_open {
            wait_until("the record", || !Incident::all(&dir).is_empty());
        }
        group.members().into_iter().filter(|id| *id > 0).for_each(|id| send("KILL", id));
        assert!(session.end().was_killed());
        if !is_open {
            let _ = fs::remove_dir_all(dir.join("incidents"));
        }
        let session = start();
        session.sees("was killed by the kernel's OOM killer");
        session.finish();
        let incident = Incident::only(&dir);
        assert_eq!(incident.json["outcome"], "oom-killed");
        incident.assert_history(190);
        assert!(incident.folder.join("report.html").exists());
        fs::remove_dir_all(&dir).unwrap();
    }
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
    session.sees("what it had found by then is all");
    let ended = session.finish();
    ended.assert_code(0);
    assert_kernels_numbers(&ended, "trace");
}

/// Of a look that was cut there is what the kernel knew.
fn assert_kernels_numbers(ended: &Ended, stage: &str) {
    ended.assert_says("in use: ").assert_says("% private memory of python").assert_silent("cache: dict");
    let incident = ended.incident();
    let evidence = &incident.json["evidence"];
    assert_eq!(evidence["file"], format!("artifacts/evidence-{stage}-1.json"), "{evidence}\n{}", ended.log);
    assert!(evidence["place"].as_str().unwrap().contains("% private memory of python"), "{evidence}");
    let file = fs::read(incident.folder.join(evidence["file"].as_str().unwrap())).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    assert_eq!((&file["so_far"], &file["processes"][0]["census"]), (&json!(true), &json!(null)), "{file}");
}

/// A leak whose app says when it leaves.
const LEAVING: &str = r#"
import signal, sys
def leave(*_):
    print("it leaves", file=sys.stderr, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
"#;

/// The state of a process, as in /proc/PID/stat; `X` if there is none.
fn state(id: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('X')
}

/// An app that stands still to be looked at, for as long as the worker that looks is kept from going on.
fn in_the_middle_of_a_look(group: &Group) -> (Session, i32) {
    let program = format!("{LEAVING}{LEAK}");
    let command = [python(), "-c", &program, "lists"];
    let options = ["-v", "--capture-at", "off", "--stop-when", "level", "--grace", "60s"];
    // It lasts for a part of a second: who comes too late tries again.
    for _ in 0..20 {
        let mut session = Memini::new(group).options(&options).command(&command).start();
        session.sees("runs as process");
        let app = session.child("cache = {}");
        session.begin("350");
        session.sees("trace: looking at the processes");
        let worker = nix::unistd::Pid::from_raw(session.child("__worker evidence"));
        while state(app) != 'T' && state(worker.as_raw()) != 'X' {
            std::hint::spin_loop();
        }
        nix::sys::signal::kill(worker, nix::sys::signal::Signal::SIGSTOP).unwrap();
        wait_until("the worker to stop", || matches!(state(worker.as_raw()), 'T' | 'X'));
        if state(app) == 'T' {
            return (session, app);
        }
    }
    panic!("never in the middle of a look");
}

#[test]
fn a_look_that_the_stop_stage_cuts_leaves_an_app_that_can_leave() {
    let group = Group::new("cut-stop", 512);
    let (session, _) = in_the_middle_of_a_look(&group);
    let filler = neighbour(&group, &["to 485", "say full", "pause"]);
    filler.hears("full");
    session.sees("stopping the app");
    let ended = session.end();
    ended.assert_code(75).assert_says("it is cut").assert_says("it leaves");
    assert_kernels_numbers(&ended, "trace");
    let incident = ended.incident();
    assert_eq!(incident.json["outcome"], "stopped");
    incident.assert_private();
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn a_look_that_the_kill_stage_cuts_leaves_nobody_stopped() {
    let group = Group::new("cut-kill", 512);
    let (session, app) = in_the_middle_of_a_look(&group);
    let filler = neighbour(&group, &["to 503", "say full", "pause"]);
    filler.hears("full");
    let ended = session.end();
    ended.assert_code(75);
    assert_eq!(ended.incident().json["outcome"], "killed", "{}", ended.log);
    assert_eq!((state(app), group.oom_kills()), ('X', 0));
}

#[test]
fn a_look_that_is_stuck_leaves_nobody_stopped() {
    let group = Group::new("stuck", 512);
    let (session, app) = in_the_middle_of_a_look(&group);
    wait_until("the app to go on", || state(app) != 'T');
    let worker = session.child("__worker evidence");
    assert_eq!(state(worker), 'T');
    send("KILL", worker);
    session.sees("what it had found by then is all");
    session.finish().assert_code(0);
}

#[test]
fn an_app_that_was_stopped_before_stays_so() {
    let group = Group::new("stopped", 160);
    let mut session = leaking(&group).start();
    session.sees("the processes were looked at");
    session.tell("1");
    let app = session.child("cache = {}");
    send("STOP", app);
    wait_until("the app to stop", || state(app) == 'T');
    let filler = neighbour(&group, &["to 132", "say full", "pause"]);
    filler.hears("full");
    session.sees_times("the processes were looked at", 2);
    assert_eq!(state(app), 'T');
    send("CONT", app);
    session.tell("1");
    session.finish().assert_code(0).assert_says("heap of CPython");
}

/// An app that calls itself, and what it holds, by names that would do harm if anybody showed them as they are.
const HOSTILE: &str = r#"
import ctypes, os, sys
ctypes.CDLL(None).prctl(15, b"\n\x1b[2J\xff\nholds", 0, 0, 0)
Evil = type("E\nmemini: forged\x1b]0;x\x07\u202e", (), {})
globals()["cache\nholds 1\nmemini: forged\x1b[31m"] = held = []
files = [os.open("/dev/shm/memini-test\nmemini: forged\x1b\xff-%d" % os.getpid(), os.O_CREAT | os.O_RDWR) for _ in range(300)]
os.unlink("/dev/shm/memini-test\nmemini: forged\x1b\xff-%d" % os.getpid())
print("done", flush=True)
for line in sys.stdin:
    for number in range(int(line) * 1000):
        one = Evil()
        one.text = "x" * 900 + str(number)
        held.append(one)
    print("done", line.strip(), flush=True)
"#;

#[test]
fn names_of_the_app_forge_nothing() {
    let group = Group::new("hostile", 200);
    let memini = Memini::new(&group).options(&["--baseline-after", "0s", "--cooldown", "0s", "-v"]);
    let words = memini.place().join("words");
    fs::write(&words, "").unwrap();
    let options = ["--termination-log", words.to_str().unwrap(), "--stop-when", "level"];
    let mut session = memini.options(&options).command(&[python(), "-c", HOSTILE]).start();
    session.sees("the processes were looked at");
    session.tell("120");
    session.sees_times("the processes were looked at", 2);
    // Slowly enough that the look at the next stage is over before there is no time for it any more.
    session.tell("38");
    session.sees_times("the processes were looked at", 3);
    session.begin("200");
    let ended = session.end();
    ended.assert_code(75).assert_says("E\u{fffd}memini: forged").assert_says("(pid 2)");
    let texts = [ended.log.clone(), fs::read_to_string(&words).unwrap()];
    for text in &texts {
        assert!(!text.lines().any(|line| line.starts_with("memini: forged")), "{text}");
        let harm = text.chars().find(|letter| (letter.is_control() && *letter != '\n') || *letter == '\u{202e}');
        assert_eq!(harm, None, "{text}");
    }
    assert!(ended.log.lines().all(|line| line.starts_with("memini: ")), "{}", ended.log);
    let incident = ended.incident();
    let file = incident.json["evidence"]["file"].as_str().unwrap();
    let text = fs::read(incident.folder.join(file)).unwrap();
    assert!(!text.iter().any(u8::is_ascii_control), "it is one line of JSON");
    let evidence: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let look = &evidence["processes"][0];
    assert!(look["comm"].as_str().unwrap().starts_with("\n\u{1b}[2J\u{fffd}"), "{look}");
    assert_eq!((look["threads"].as_u64(), look["descriptors"]["deleted_memory"].is_u64()), (Some(1), true), "{look}");
    let page = fs::read_to_string(incident.folder.join("report.html")).unwrap();
    let harm = page.chars().find(|letter| (letter.is_control() && *letter != '\n') || *letter == '\u{202e}');
    assert!(harm.is_none() && page.contains("\\nmemini: forged") && !page.contains("<script"), "{harm:?}: {page}");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn evidence_for_which_the_disk_has_no_room_is_in_the_log_and_leaves_nothing_half_written() {
    let group = Group::new("no-disk", 160);
    // Not charged to the group: the disk is made outside of it and filled before memini starts.
    let setup = "echo 0 > $GROUP/../cgroup.procs && mkdir $PLACE/memini && \
                 mount -t tmpfs -o size=64k,nr_inodes=64 none $PLACE/memini && \
                 { cat /dev/zero > $PLACE/memini/ballast 2>/dev/null; echo 0 > $GROUP/cgroup.procs; }";
    let mut session = leaking(&group).setup(setup).start();
    session.sees("the processes were looked at");
    session.tell("110");
    let line = session.sees("/artifacts/evidence-");
    assert!(line.contains("No space left on device (os error 28)"), "{line}");
    assert!(line.contains("what was found is in this log only"), "{line}");
    let found = format!("find /proc/{}/root{}", session.id(), session.dir().display());
    let found = Command::new("sh").args(["-c", &found]).output().unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.contains("/ballast") && !found.contains(".partial"), "{found}");
    // How much of a heap is seen in the time that there is, depends on the machine.
    session
        .finish()
        .assert_code(0)
        .assert_says("private memory of python3 (pid ")
        .assert_silent("there is no evidence");
}

/// A look on demand that was stopped while it holds this process.
fn who_looks_at(id: i32) -> std::process::Child {
    for _ in 0..200 {
        let mut looker = Command::new(crate::support::session::binary())
            .args(["capture", &id.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let looker_id = i32::try_from(looker.id()).unwrap();
        while state(id) != 'T' && state(looker_id) != 'Z' {
            std::hint::spin_loop();
        }
        send("STOP", looker_id);
        wait_until("who looks to stop", || matches!(state(looker_id), 'T' | 'Z'));
        if state(id) == 'T' {
            return looker;
        }
        looker.kill().unwrap();
        looker.wait().unwrap();
    }
    panic!("never in the middle of a look");
}

#[test]
fn who_looks_on_demand_and_is_killed_leaves_nobody_stopped() {
    let program = format!("{LEAK}\n")
        .replace("for line in sys.stdin:", "leak(200)\nprint('ready', flush=True)\nfor line in sys.stdin:");
    let mut app = Command::new(python())
        .args(["-c", &program, "lists"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(app.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let id = i32::try_from(app.id()).unwrap();
    for signal in ["KILL", "INT", "TERM", "HUP"] {
        let mut looker = who_looks_at(id);
        let looker_id = i32::try_from(looker.id()).unwrap();
        send(signal, looker_id);
        send("CONT", looker_id);
        looker.wait().unwrap();
        wait_until("the app to go on", || state(id) != 'T');
    }
    // Nor does anybody who is stopped himself, and never goes on.
    let mut looker = who_looks_at(id);
    wait_until("the app to go on", || state(id) != 'T');
    assert_eq!(state(i32::try_from(looker.id()).unwrap()), 'T');
    looker.kill().unwrap();
    looker.wait().unwrap();
    drop(app.stdin.take());
    assert!(app.wait().unwrap().success());
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

/// How long one stands still is limited: two of them would wait for each other.
static ONE_JVM: Mutex<()> = Mutex::new(());

/// A JVM whose heap may grow beyond the limit. What another had left in a common /tmp, as process 2 of its own namespace, was
/// taken for an obstacle.
fn jvm<'a>(group: &'a Group, options: &[&str]) -> Memini<'a> {
    let java = ["java", "-XX:+UseSerialGC", "-Xms16m", "-Xmn8m", "-Xmx600m", "-cp", leaking_jvm(), "Leak"];
    Memini::new(group).options(&["-v", "--baseline-after", "3s"]).options(options).own_tmp().command(&java)
}

#[test]
fn of_a_jvm_the_class_is_named_and_its_heap_is_kept() {
    let _alone = ONE_JVM.lock().unwrap_or_else(PoisonError::into_inner);
    let group = Group::new("jvm", 400);
    // All of it, however busy the machine is.
    let mut session = jvm(&group, &["--max-pause", "60s"]).start();
    session.tell("1");
    session.sees("the processes were looked at");
    session.tell_until("5", "trace: looking at the processes");
    session.sees_times("the processes were looked at", 2);
    session.tell_until("5", "capture: looking at the processes");
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
    incident.assert_digests();
    assert!(ended.place().join("tmp/hsperfdata_root").is_dir(), "a JVM leaves this folder in its /tmp");
    assert_eq!(group.oom_kills(), 0);
}

/// Asks on demand, as `docker exec` does: in the group and the namespaces of this session.
fn ask(group: &Group, session: &Session, words: &[&str]) -> Output {
    let target = session.id().to_string();
    Command::new("sh")
        .args(["-c", r#"echo 0 > "$GROUP/cgroup.procs" && exec "$@""#, "sh"])
        .args(["nsenter", "--target", &target, "--mount", "--pid", "--"])
        .arg(crate::support::session::binary())
        .args(["capture", "--dir"])
        .arg(session.dir())
        .args(words)
        .env("GROUP", group.path())
        .output()
        .unwrap()
}

/// The number of its app, as it is inside.
fn number_of(session: &Session) -> String {
    session.sees("java runs as process ").rsplit(' ').next().unwrap().to_owned()
}

/// The number of its tickets in a dump, as somebody else reads it.
fn tickets(dump: &Path) -> u64 {
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jvm/read");
    let output = Command::new(reader).arg(dump).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let count = text.lines().find_map(|line| line.strip_prefix("Leak$Ticket ")).unwrap_or_else(|| panic!("{text}"));
    count.parse().unwrap()
}

#[test]
fn on_demand_a_heap_is_dumped_if_it_is_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let _alone = ONE_JVM.lock().unwrap_or_else(PoisonError::into_inner);
    let group = Group::new("dump-on-demand", 400);
    let mut session = jvm(&group, &["--heavy", "on"]).start();
    session.tell("12");
    let pid = number_of(&session);
    let captures = session.dir().join("captures");
    let answer = ask(&group, &session, &["--json"]);
    assert!(answer.status.success() && !captures.exists(), "{}", String::from_utf8_lossy(&answer.stderr));
    let answer = ask(&group, &session, &["--json", "--heavy", "on", "--max-pause", "60s"]);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let json: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    let dump = &json["heap_dump"];
    let path = Path::new(dump["path"].as_str().unwrap_or_else(|| panic!("{json:#}")));
    assert_eq!(
        (path.parent(), dump["pid"].as_i64(), dump["whole"].as_bool()),
        (Some(&*captures), pid.parse().ok(), Some(true))
    );
    assert_eq!(dump["bytes"].as_u64(), Some(fs::metadata(path).unwrap().len()));
    let sum = Command::new("sha256sum").arg(path).output().unwrap();
    assert_eq!(dump["sha256"].as_str(), String::from_utf8_lossy(&sum.stdout).split_whitespace().next());
    for (path, mode) in [(&*captures, 0o700), (path, 0o600)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, mode, "{}", path.display());
    }
    assert_eq!(tickets(path), 12_000);
    fs::remove_file(path).unwrap();

    session.tell("3");
    let answer = ask(&group, &session, &[&pid, "--heavy=on", "--redact", "--live", "--max-pause=60s"]);
    let text = String::from_utf8(answer.stdout).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("heap dump of java (pid {pid}): ")))
        .unwrap_or_else(|| panic!("{text}"));
    let path = line.split([' ', ',']).find(|word| word.ends_with(".hprof.gz")).unwrap();
    let sum = Command::new("sha256sum").arg(path).output().unwrap();
    let sum = String::from_utf8_lossy(&sum.stdout).split_whitespace().next().unwrap().to_owned();
    assert!(
        answer.status.success() && text.contains(&format!("SHA-256 {sum}")) && text.contains("are zeroed"),
        "{text}"
    );
    assert_eq!(tickets(Path::new(path)), 15_000);
    assert_eq!(fs::read_dir(&captures).unwrap().count(), 1);
    session.tell("1");
    session.finish().assert_code(0);
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn what_speaks_against_a_heap_dump_on_demand_is_one_line_with_its_numbers_beside_the_evidence() {
    let _alone = ONE_JVM.lock().unwrap_or_else(PoisonError::into_inner);
    let group = Group::new("none-on-demand", 200);
    let setup = r#"mkdir -m 700 "$PLACE/memory" && mount -t tmpfs -o mode=700 none "$PLACE/memory""#;
    let mut session = jvm(&group, &["--capture", "off"]).setup(setup).start();
    session.tell("12");
    let (memory, link) = (session.place().join("memory"), session.place().join("link"));
    fs::create_dir(&link).unwrap();
    std::os::unix::fs::symlink(&memory, link.join("captures")).unwrap();
    let [memory, link] = [&memory, &link].map(|path| path.to_str().unwrap());
    let pid = number_of(&session);
    let refused = |session: &Session, words: &[&str], why: &str| {
        let answer = ask(&group, session, &[&["--heavy", "on", "--max-pause", "60s"], words].concat());
        let (text, error) = (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
        assert!(error.starts_with("memini: no heap dump") && error.contains(why), "{error}");
        assert_eq!((answer.status.code(), error.lines().count()), (Some(125), 1), "{error}");
        assert!(text.contains(&format!("java {pid}: holds ")), "{text}");
    };
    for (words, why) in [
        (&["--max-pause", "1ms"][..], "would stand still for"),
        (&["--keep-free", "1000TiB"], "1000 TiB are to stay so (--keep-free)"),
        (&["--max-total", "64KiB"], "what is there already takes 0 B, and --max-total is 64 KiB"),
        (&["--dir", memory], "it is on a tmpfs, whose content takes memory"),
        (&["--dir", link], "link/captures: it is a symbolic link"),
    ] {
        refused(&session, words, why);
    }
    let filler = neighbour(&group, &["to 180", "say full", "pause"]);
    filler.hears("full");
    refused(&session, &[], "it may need 32 MiB, and ");
    let left = fs::read_dir(session.dir().join("captures")).unwrap().count();
    session.tell("1");
    session.finish().assert_code(0);
    assert_eq!((left, group.oom_kills()), (0, 0));

    let group = Group::new("no-jvm", 160);
    let session = leaking(&group).start();
    session.sees("the processes were looked at");
    let answer = ask(&group, &session, &["--heavy", "on"]);
    let error = String::from_utf8_lossy(&answer.stderr);
    assert_eq!(error, "memini: no heap dump: none of these processes is a JVM whose classes could be counted\n");
    assert_eq!(answer.status.code(), Some(125));
    session.finish().assert_code(0);
}

/// A JVM whose heap dump has begun and does not go on, and then a neighbour that takes so many MiB: what is left of it all.
fn with_a_cut_dump(group: &Group, taken: u64) -> Ended {
    let _alone = ONE_JVM.lock().unwrap_or_else(PoisonError::into_inner);
    let mut session = jvm(group, &["--max-pause", "60s", "--grace", "60s", "--stop-when", "level"]).start();
    session.tell("1");
    session.sees("the processes were looked at");
    session.tell_until("5", "capture: looking at the processes");
    let artifacts = session.dir().join("incidents");
    let partial = || {
        let incidents = fs::read_dir(&artifacts).into_iter().flatten().flatten();
        let mut files = incidents
            .flat_map(|incident| fs::read_dir(incident.path().join("artifacts")).into_iter().flatten().flatten());
        files.find(|file| file.file_name().to_string_lossy().ends_with(".hprof.gz.partial")).map(|file| file.path())
    };
    // (Whoever waits for the app's answer to the last instruction may wait until the dump is whole, as the app stands still.)
    wait_until("the heap is dumped", || partial().is_some());
    send("STOP", session.child("__worker evidence"));
    assert!(partial().is_some(), "{}", session.log());
    let filler = neighbour(group, &[&format!("to {taken}"), "say full", "pause"]);
    filler.hears("full");
    let ended = session.end();
    ended.assert_code(75);
    let incident = ended.incident();
    let listed =
        incident.json["artifacts"].as_array().unwrap().iter().map(|artifact| artifact["file"].as_str().unwrap());
    assert_eq!(
        listed.filter(|file| file.ends_with(".hprof.gz.partial")).count(),
        1,
        "{:#}",
        incident.json["artifacts"]
    );
    assert_eq!(group.oom_kills(), 0);
    ended
}

#[test]
fn a_heap_dump_that_the_stop_stage_cuts_leaves_a_jvm_that_can_leave() {
    let group = Group::new("cut-dump", 400);
    let ended = with_a_cut_dump(&group, 380);
    ended.assert_says("it is cut").assert_says("it leaves");
    assert_eq!(ended.incident().json["outcome"], "stopped");
}

#[test]
fn a_heap_dump_that_the_kill_stage_cuts_is_kept_as_far_as_it_came() {
    let group = Group::new("killed-dump", 400);
    let ended = with_a_cut_dump(&group, 394);
    ended.assert_says("killing the app").assert_silent("it leaves");
    assert_eq!(ended.incident().json["outcome"], "killed");
}

#[test]
fn what_speaks_against_a_heap_dump_is_said_with_its_numbers() {
    let _alone = ONE_JVM.lock().unwrap_or_else(PoisonError::into_inner);
    for (options, why) in [(&["--max-pause", "500ms"][..], "would stand still for"), (&["--heavy", "off"], "")] {
        let group = Group::new("no-dump", 400);
        let mut session = jvm(&group, options).start();
        session.tell("1");
        session.sees("the processes were looked at");
        session.tell_until("5", "trace: looking at the processes");
        session.sees_times("the processes were looked at", 2);
        session.tell_until("5", "capture: looking at the processes");
        session.sees_times("the processes were looked at", 3);
        let ended = session.finish();
        ended.assert_code(0).assert_says(why).assert_silent("): artifacts/heap-");
        assert_eq!(ended.log.contains("no heap dump"), !why.is_empty(), "{}", ended.log);
        let incident = ended.incident();
        let left_out =
            incident.json["not_done"].as_array().unwrap().iter().map(|undone| undone["text"].as_str().unwrap());
        let told = left_out.filter(|text| text.starts_with("no heap dump of java") && text.contains(why)).count();
        assert_eq!(told, usize::from(!why.is_empty()), "{:#}", incident.json["not_done"]);
    }
}

#[test]
fn what_a_heap_dump_may_take_of_the_disk_is_limited() {
    let _alone = ONE_JVM.lock().unwrap_or_else(PoisonError::into_inner);
    let in_memory = r#"mkdir -m 700 "$PLACE/memini" && mount -t tmpfs -o mode=700 none "$PLACE/memini""#;
    for (options, setup, why) in [
        (&["--keep-free", "1000TiB"][..], ":", "1000 TiB are to stay so (--keep-free)"),
        (&["--max-total", "10MiB"], ":", "and --max-total is 10 MiB"),
        (&["--max-artifact", "64KiB"], ":", "as the JVM wrote it, cut off), it stood still"),
        (&[], in_memory, "it is on a tmpfs, whose content takes memory"),
    ] {
        let group = Group::new("disk", 260);
        let mut session = jvm(&group, options).setup(setup).start();
        session.tell("1");
        session.sees("the processes were looked at");
        session.tell_until("5", "trace: looking at the processes");
        session.sees_times("the processes were looked at", 2);
        session.tell_until("5", "capture: looking at the processes");
        session.sees_times("the processes were looked at", 3);
        session.tell("1");
        let ended = session.finish();
        ended.assert_code(0).assert_says(why);
        assert_eq!(group.oom_kills(), 0);
    }
}

#[test]
fn an_app_that_is_well_does_not_keep_old_incidents_for_ever() {
    let group = Group::new("keep-for", 100);
    let memini = Memini::new(&group).options(&["--keep-for", "30d"]);
    let incidents = memini.place().join("memini/incidents");
    // The third one was written to lately.
    let names = [1, 2, 3, 4].map(|day| incidents.join(format!("2020-11-0{day}T05-45-01Z-web-1")));
    for name in &names {
        fs::create_dir_all(name.join("artifacts")).unwrap();
        fs::write(name.join("incident.json"), "{}").unwrap();
    }
    for name in [&names[0], &names[1], &names[3]] {
        let file = fs::File::options().write(true).open(name.join("incident.json")).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(31 * 86_400)).unwrap();
    }
    let session = memini.app(&[]).start();
    wait_until("the old one to be removed", || !names[1].exists());
    let ended = session.finish();
    ended.assert_code(0);
    assert_eq!(names.map(|name| name.exists()), [true, false, true, true]);
}

#[test]
fn of_earlier_incidents_the_first_and_the_newest_are_kept() {
    let group = Group::new("kept", 160);
    let memini = leaking(&group).options(&["--keep-incidents", "3", "--keep-dumps", "1"]);
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let incidents = memini.place().join("memini/incidents");
    let older: Vec<String> = (1..=4).map(|month| format!("2026-{month:02}-01T00-00-00Z-{host}-1")).collect();
    for name in &older {
        let artifacts = incidents.join(name).join("artifacts");
        fs::create_dir_all(&artifacts).unwrap();
        fs::write(incidents.join(name).join("incident.json"), "{}").unwrap();
        fs::write(artifacts.join("heap-2-1.hprof.gz"), name).unwrap();
    }
    let mut session = memini.start();
    session.tell("110");
    session.sees("trace:");
    let ended = session.finish();
    ended.assert_code(0);
    let mut left: Vec<String> = fs::read_dir(ended.dir().join("incidents"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!((left.len(), &left[..2]), (3, &[older[0].clone(), older[3].clone()][..]), "{}", ended.log);
    let dumps = left
        .iter()
        .filter(|name| ended.dir().join("incidents").join(name).join("artifacts/heap-2-1.hprof.gz").exists());
    assert_eq!(dumps.collect::<Vec<_>>(), [&older[3]]);
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
    // A second look at the same stage might be on its way when the app ends.
    let memini = with_lines(&group, &["--max-captures", "1"], &[]);
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
