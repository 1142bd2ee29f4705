//! `memini status` and `memini incidents`, typed beside a memini as `docker exec` does, and about runs that are over.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::shared::terminal::{INTERRUPT, Terminal};
use crate::support::session::binary;
use crate::support::{Group, MIB, Memini, Session, send, wait_until};

/// Joins the group, as whoever is sent into a container is in it.
const JOIN: &str = r#"echo 0 > "$GROUP/cgroup.procs" && exec "$@""#;

/// The words that run these in the container: in its group and its namespaces.
fn inside(session: &Session, group: &Group, words: &[&str]) -> Vec<String> {
    // From then on there are a namespace and a memini in it.
    session.sees(", runs ");
    let target = session.id().to_string();
    let group = format!("GROUP={}", group.path().display());
    let start = ["env", &group, "sh", "-c", JOIN, "sh", "nsenter", "--target", &target, "--pid", "--mount"];
    start.iter().chain(words).map(|word| (*word).to_owned()).collect()
}

fn memini<'a>(words: &[&'a str], binary: &'a str) -> Vec<&'a str> {
    [&[binary], words].concat()
}

/// Runs memini with these words, without a terminal.
fn run(words: &[String]) -> Output {
    let mut command = Command::new(&words[0]);
    for name in ["COLUMNS", "NO_COLOR", "LANG", "LC_ALL", "LC_CTYPE", "MEMINI_DIR"] {
        command.env_remove(name);
    }
    command.args(&words[1..]).output().expect("a process")
}

fn ask(session: &Session, group: &Group, words: &[&str]) -> Output {
    let binary = binary();
    run(&inside(session, group, &memini(words, binary.to_str().unwrap())))
}

/// About a folder, from outside.
fn ask_of(dir: &Path, words: &[&str]) -> Output {
    let binary = binary();
    let words = [&[binary.to_str().unwrap()], words, &[dir.to_str().unwrap()]].concat();
    run(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

#[track_caller]
fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[track_caller]
fn object(output: &Output) -> Value {
    let text = text(output);
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

/// Why there is nothing to be shown, in one line.
#[track_caller]
fn refusal(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len(), error.matches('\n').count()), (Some(1), 0, 1), "{error}");
    error.trim_end().to_owned()
}

/// Asks until it is so.
fn status_that(session: &Session, group: &Group, what: &str, mut is_so: impl FnMut(&Value) -> bool) -> Value {
    let mut status = Value::Null;
    wait_until(what, || {
        let answer = ask(session, group, &["status", "--json"]);
        // memini is waited for while it is young. Its recorder is there once the disk has all of it, which may take longer.
        if String::from_utf8_lossy(&answer.stderr).contains("(process 1) records nothing: ") {
            return false;
        }
        status = object(&answer);
        is_so(&status)
    });
    status
}

/// A memini that leaves the app alone, and does not brake: nsenter(1) stops itself when whom it has sent is stopped for a moment,
/// and nobody lets it go on.
fn watched(group: &Group) -> Memini<'_> {
    Memini::new(group).options(&["--stop-at", "off", "--kill-at", "off", "--no-brake"])
}

fn is_running(status: &Value) -> bool {
    status["state"] == "running" && status["seen"].is_string()
}

#[test]
fn what_it_says_agrees_with_the_kernels_own_files() {
    let group = Group::new("status", 200);
    let mut session = watched(&group).options(&["--baseline-after", "0s"]).app(&[]).start();
    let status = status_that(&session, &group, "a baseline", |status| status["processes"]["since"] == "baseline");
    assert_eq!((&status["stage"], &status["pid"]), (&json!("normal"), &json!(1)));
    session.tell("to 130");
    let status = status_that(&session, &group, "the stage trace", |status| status["stage"] == "trace");
    let near = |told: &Value, kernel: u64| {
        let told = told.as_u64().unwrap_or(0);
        assert!(told.abs_diff(kernel) < 12 * MIB, "{told} {kernel}: {status:#}");
    };
    near(&status["usage"], group.usage());
    near(&status["composition"]["anon"], group.entry("memory.stat", "total_rss"));
    assert_eq!(status["limit"], 200 * MIB);
    assert_eq!(status["room"].as_u64(), Some(200 * MIB - status["gauged"].as_u64().unwrap()));
    assert_eq!(status["thresholds"]["trace"], json!({"at": "60%", "bytes": 120 * MIB}));
    assert_eq!(status["thresholds"]["stop"], json!({"at": "off", "bytes": null}));
    let first = &status["processes"]["list"][0];
    assert!(first["growth"].as_u64().unwrap() > 60 * MIB, "{first}");
    assert!(status["app"]["command"][0].as_str().unwrap().contains("python"), "{}", status["app"]);
    let events: Vec<&str> =
        status["events"].as_array().unwrap().iter().map(|event| event["text"].as_str().unwrap()).collect();
    assert!(events.iter().any(|text| text.starts_with("the trace stage began: ")), "{events:?}");
    assert!(!status["history"]["gauged"].as_array().unwrap().is_empty());
    // The highest that was seen is in the history.
    let highest = status["history"]["gauged"].as_array().unwrap().iter().filter_map(|course| course[1].as_u64()).max();
    assert!(highest.unwrap() >= 119 * MIB, "{highest:?}");
    session.finish().assert_code(0);
}

#[test]
fn without_a_terminal_it_is_plain_text_of_the_width_that_is_asked_for() {
    let group = Group::new("status-plain", 64);
    let session = watched(&group).app(&["to 45"]).start();
    status_that(&session, &group, "a look", is_running);
    let binary = binary();
    let binary = binary.to_str().unwrap();
    for (variables, columns, is_ascii) in
        [(&[][..], 80, false), (&["COLUMNS=60", "LANG=C"], 60, true), (&["COLUMNS=120", "LC_ALL=C.UTF-8"], 120, false)]
    {
        let words = [&["env"], variables, &[binary, "status"]].concat();
        let screen = text(&run(&inside(&session, &group, &words)));
        let widest = screen.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns && widest > columns - 12, "{widest}: {screen}");
        assert!(!screen.contains('\u{1b}') && screen.is_ascii() == is_ascii, "{screen}");
        for part in ["Memory ", " of 64 MiB", "limit", "Composition", "Processes", "up "] {
            assert!(screen.contains(part), "no {part:?} in {screen}");
        }
    }
    session.finish().assert_code(0);
}

/// Words for a shell on a terminal: its settings before and after, and how what is run in between ended.
fn between(words: &[String], variables: &[&str]) -> Vec<String> {
    let script =
        r#"stty -g | sed "s/^/before /"; "$@"; echo; echo "code $?"; stty -g | sed "s/^/after /"; echo over ."#;
    // The code is that of the words, not of the echo before it.
    let script = script.replace(r#""$@"; echo; echo "code $?""#, r#""$@"; code=$?; echo; echo "code $code""#);
    let mut line: Vec<String> = vec!["env".into(), "-u".into(), "LC_ALL".into()];
    line.extend(variables.iter().map(|variable| (*variable).to_owned()));
    line.extend(["sh".into(), "-c".into(), script, "sh".into()]);
    line.extend_from_slice(words);
    line
}

/// Nothing was done to the terminal that would have to be undone.
fn assert_left_alone(terminal: &Terminal) {
    let shown = terminal.screen.text();
    assert_eq!(terminal.value("before"), terminal.value("after"), "{shown}");
    assert!(!shown.contains("\u{1b}[?") && !shown.contains("\u{1b}7"), "{shown:?}");
}

#[test]
fn a_terminal_gets_colours_unless_it_does_not_want_them() {
    let group = Group::new("status-colours", 64);
    let session = watched(&group).app(&["to 45"]).start();
    status_that(&session, &group, "a look", is_running);
    let binary = binary();
    let words = inside(&session, &group, &[binary.to_str().unwrap(), "status"]);
    for (variables, has_colours) in
        [(&["TERM=xterm"][..], true), (&["TERM=xterm", "NO_COLOR=1"], false), (&["TERM=dumb"], false)]
    {
        let terminal = Terminal::start(&between(&words, variables));
        terminal.screen.wait_for("over .");
        assert_eq!(terminal.value("code"), "0");
        let shown = terminal.screen.text();
        assert_eq!(shown.contains("\u{1b}[1m"), has_colours, "{variables:?}: {shown:?}");
        assert!(has_colours || !shown.contains('\u{1b}'), "{shown:?}");
    }
    session.finish().assert_code(0);
}

#[test]
fn a_watch_goes_on_until_one_has_seen_enough_or_the_run_ends() {
    let group = Group::new("status-watch", 64);
    for is_interrupted in [true, false] {
        let session = watched(&group).not_as_init().app(&["to 30"]).start();
        let recorder = session.dir().join("recorder");
        wait_until("the recorder", || {
            let mut pulse = [0; 4];
            fs::File::open(&recorder).is_ok_and(|file| file.read_exact_at(&mut pulse, 4096).is_ok()) && pulse != [0; 4]
        });
        let dir = session.dir();
        let words = [binary().to_str().unwrap(), "status", "--watch=100ms", dir.to_str().unwrap()].map(str::to_owned);
        let mut terminal = Terminal::start(&between(&words, &["TERM=xterm"]));
        // A second screen over the first.
        terminal
            .screen
            .find("a second screen", |shown| (shown.matches("up ").count() >= 2 && shown.contains('A')).then_some(()));
        if is_interrupted {
            terminal.press(INTERRUPT);
            // The shell is interrupted as well.
            let _ = terminal.end();
            session.finish().assert_code(0);
            continue;
        }
        session.finish().assert_code(0);
        terminal.screen.wait_for("over .");
        let shown = terminal.screen.text();
        assert_eq!(terminal.value("code"), "0", "{shown}");
        let last = shown.lines().rev().find(|line| line.contains("the last run of ")).unwrap_or_default();
        assert!(last.contains(", ended with 0"), "{shown}");
        assert_left_alone(&terminal);
    }
}

// The kernel ends whoever is in a PID namespace with its PID 1: nobody is left to put a terminal back.
#[test]
fn a_watch_that_is_killed_with_its_container_leaves_the_terminal_as_it_was() {
    let group = Group::new("status-gone", 64);
    let session = watched(&group).app(&["to 30"]).start();
    status_that(&session, &group, "a look", is_running);
    let binary = binary();
    let words = inside(&session, &group, &[binary.to_str().unwrap(), "status", "--watch=100ms"]);
    let terminal = Terminal::start(&between(&words, &["TERM=xterm"]));
    terminal.screen.find("a second screen", |shown| (shown.matches("up ").count() >= 2).then_some(()));
    session.finish().assert_code(0);
    terminal.screen.wait_for("over .");
    assert_left_alone(&terminal);
}

// The recorder is made some 100 ms after the start, and the stage would have been "normal" for good.
#[test]
fn a_stage_that_began_before_the_recorder_was_there_is_told() {
    let group = Group::new("status-early", 64);
    let session = watched(&group).app(&["to 58"]).start();
    let status = status_that(&session, &group, "the stage capture", |status| status["stage"] == "capture");
    let texts: Vec<&str> =
        status["events"].as_array().unwrap().iter().map(|event| event["text"].as_str().unwrap()).collect();
    assert!(texts.iter().any(|text| text.starts_with("the capture stage began: ")), "{texts:?}");
    session.finish().assert_code(0);
}

#[test]
fn a_run_that_is_over_is_shown_with_its_end() {
    let group = Group::new("status-over", 64);
    let session = watched(&group).app(&["to 45"]).start();
    status_that(&session, &group, "the stage trace", |status| status["stage"] == "trace");
    let ended = session.finish();
    ended.assert_code(0);
    let status = object(&ask_of(&ended.dir(), &["status", "--json"]));
    assert_eq!((&status["state"], &status["ending"]["how"]), (&json!("ended"), &json!("exited")));
    assert_eq!((&status["ending"]["exit_code"], &status["processes"]), (&json!(0), &json!(null)));
    let screen = text(&ask_of(&ended.dir(), &["status"]));
    // A sentence may take two lines.
    let words = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(" ran for ") && words.contains(", ended with 0 "), "{screen}");
    assert!(screen.lines().any(|line| line.ends_with(" end")), "{screen}");
    let list = text(&ask_of(&ended.dir(), &["incidents"]));
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.contains("  exited   ") && list.contains("% of 64 MiB"), "{list}");
}

#[test]
fn a_run_that_was_killed_is_shown_as_such_and_becomes_an_incident() {
    let group = Group::new("status-killed", 200);
    let place = TempDir::with_prefix("memini-test-").unwrap();
    let dir = place.path().join("memini");
    let start = || watched(&group).options(&["--dir", dir.to_str().unwrap()]).app(&[]).start();
    let mut session = start();
    session.tell("to 197");
    status_that(&session, &group, "the stage capture", |status| {
        status["stage"] == "capture" && status["gauged"].as_u64() > Some(196 * MIB)
    });
    group.members().into_iter().filter(|id| *id > 0).for_each(|id| send("KILL", id));
    assert!(session.end().was_killed());
    let status = object(&ask_of(&dir, &["status", "--json"]));
    assert_eq!((&status["state"], &status["ending"]["how"]), (&json!("ended"), &json!("oom-killed")), "{status:#}");
    assert_eq!(status["ending"]["certain"], false);

    let session = start();
    session.sees("the last run of ");
    let list = object(&ask_of(&dir, &["incidents", "--json"]));
    let incidents = list["incidents"].as_array().unwrap();
    assert_eq!((incidents.len(), &incidents[0]["outcome"]), (1, &json!("oom-killed")), "{list:#}");
    assert!(incidents[0]["bytes"].as_u64() > Some(512 << 10), "{list:#}");
    session.finish().assert_code(0);
}

#[test]
fn a_recorder_in_memory_is_found_where_no_folder_can_be_written() {
    let read_only = "mkdir $PLACE/memini && mount --bind $PLACE/memini $PLACE/memini && \
                     mount -o remount,ro,bind $PLACE/memini";
    let group = Group::new("status-memory", 64);
    let session = watched(&group).setup(read_only).app(&["to 30"]).start();
    session.sees("the recorder is in memory");
    let status = status_that(&session, &group, "a look", is_running);
    assert_eq!((&status["recorder"], &status["limit"]), (&json!(null), &json!(64 * MIB)));
    assert!(text(&ask(&session, &group, &["status"])).contains("Recorder    in memory"));
    // The folder is that of a variable which memini has as well: it is no wish to see something else.
    let binary = binary();
    let words = ["env", "MEMINI_DIR=/nowhere", binary.to_str().unwrap(), "status", "--json"];
    assert_eq!(object(&run(&inside(&session, &group, &words)))["state"], "running");
    session.finish().assert_code(0);
}

#[test]
fn of_two_in_one_folder_each_sees_its_own() {
    let (one, other) = (Group::new("status-one", 64), Group::new("status-other", 96));
    let place = TempDir::with_prefix("memini-test-").unwrap();
    let dir = place.path().join("memini");
    let start = |group| watched(group).options(&["--dir", dir.to_str().unwrap()]).app(&["to 20"]).start();
    let first = start(&one);
    status_that(&first, &one, "a look", is_running);
    let second = start(&other);
    let status = status_that(&second, &other, "a look", is_running);
    assert_eq!((&status["limit"], &status["remarks"]), (&json!(96 * MIB), &json!([])));
    assert!(status["recorder"].as_str().unwrap().ends_with("/recorder.2"), "{}", status["recorder"]);
    let status = object(&ask(&first, &one, &["status", "--json"]));
    assert_eq!(status["limit"], 64 * MIB);
    // From outside, where both can be seen.
    let status = object(&ask_of(&dir, &["status", "--json"]));
    let remark = format!("another memini records in this folder, too: {}", dir.join("recorder").display());
    assert_eq!((&status["limit"], &status["remarks"]), (&json!(96 * MIB), &json!([remark])));
    assert_eq!(object(&ask_of(&dir.join("recorder"), &["status", "--json"]))["limit"], 64 * MIB);
    // Neither was disturbed.
    second.finish().assert_code(0).assert_silent("gone");
    first.finish().assert_code(0).assert_silent("gone");
}

#[test]
fn where_there_is_nothing_to_be_shown_one_line_says_why() {
    let group = Group::new("status-nothing", 64);
    let session = watched(&group).options(&["--recorder", "off"]).app(&["to 20"]).start();
    session.sees("runs ");
    let why = refusal(&ask(&session, &group, &["status"]));
    assert!(why.starts_with("memini: memini (process 1) records nothing: "), "{why}");
    assert_eq!(ask(&session, &group, &["status", "--span", "1h"]).status.code(), Some(125));
    session.finish().assert_code(0);

    let session = watched(&group).app(&["to 20"]).start();
    status_that(&session, &group, "a look", is_running);
    let binary = binary();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let words = [&nobody[..], &[binary.to_str().unwrap(), "status"]].concat();
    let readable = run(&inside(&session, &group, &[&nobody[..], &["test", "-x", binary.to_str().unwrap()]].concat()));
    if readable.status.success() {
        let why = refusal(&run(&inside(&session, &group, &words)));
        assert!(why.contains("cannot read /proc/1/fd: Permission denied (os error 13); "), "{why}");
    }
    session.finish().assert_code(0);

    let place = TempDir::with_prefix("memini-test-").unwrap();
    let why = refusal(&ask_of(place.path(), &["status"]));
    assert_eq!(why, format!("memini: there is no recorder in {}", place.path().display()));
    let list = text(&ask_of(place.path(), &["incidents"]));
    assert_eq!(list, format!("no incidents in {}: memory was never high\n", place.path().display()));
    fs::write(place.path().join("incidents"), "").unwrap();
    let why = refusal(&ask_of(place.path(), &["incidents"]));
    assert!(why.ends_with("Not a directory (os error 20); no incident can be listed"), "{why}");
}
