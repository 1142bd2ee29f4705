//! A bad command line or environment is refused in one line, before anything is started.

use std::process::Stdio;

use crate::support::app::shell;
use crate::support::memini::{Finished, Memini, Place};

/// Runs an app that would leave a mark, and fails if it ran.
fn refuse(options: &[&str], variables: &[(&str, &str)]) -> Finished {
    let memini = Memini::at(Place::Child).options(options);
    let memini = memini.with(|command| _ = command.envs(variables.iter().copied()));
    let finished = memini.run(shell("echo started")).expect(125);
    let what = format!("{options:?} {variables:?}: {finished:?}");
    assert_eq!(finished.output, "", "{what}");
    assert_eq!(finished.log.lines().count(), 1, "{what}");
    assert!(finished.log.starts_with("memini: ") && finished.log.ends_with('\n'), "{what}");
    finished
}

#[test]
fn a_bad_option_is_refused_and_named() {
    let cases: &[(&[&str], &str)] = &[
        (&["--stop-att", "90%"], "--stop-att"),
        (&["--no-such-option"], "--no-such-option"),
        (&["-Z"], "-Z"),
        (&["--stop-at"], "--stop-at"),
        (&["--stop-at", "lots"], "lots"),
        (&["--stop-at", "101%"], "101%"),
        (&["--stop-at", "-5%"], "-5%"),
        (&["--trace-at", "90%", "--capture-at", "80%"], "capture"),
        (&["--stop-at", "97%"], "kill"),
        (&["--limit", "64MiB", "--capture-at", "60MiB", "--stop-at", "50MiB"], "stop"),
        (&["--limit", "64MiB", "--trace-at=-1GiB"], "trace"),
        (&["--limit", "12 parsecs"], "parsecs"),
        (&["--limit", "99999999999999999999"], "99999999999999999999"),
        (&["--limit", "16EiB"], "16EiB"),
        (&["--limit", "-1"], "-1"),
        (&["--grace", "10"], "10"),
        (&["--grace", "10 parsecs"], "parsecs"),
        (&["--grace", "99999999999999999999s"], "99999999999999999999s"),
        (&["--cooldown", ""], "cooldown"),
        (&["--max-captures", "-1"], "-1"),
        (&["--max-captures", "99999999999"], "99999999999"),
        (&["--stop-signal", "TERMINATE"], "TERMINATE"),
        (&["--stop-signal", "0"], "0"),
        (&["--stop-signal", "65"], "65"),
        (&["-p", "SIGNOT"], "SIGNOT"),
        (&["--rewrite", "TERM"], "TERM"),
        (&["--rewrite", "TERM:NOT"], "NOT"),
        (&["--rewrite", "0:TERM"], "0"),
        (&["-e", "256"], "256"),
        (&["-e", "x"], "x"),
        (&["--leftovers", "forget"], "forget"),
        (&["--hook", "lunch=true"], "lunch"),
        (&["--hook", "capture"], "capture"),
        (&["--hook", "capture="], "capture"),
        (&["--hook", "capture=echo 'unclosed"], "unclosed"),
        (&["--hook", "capture=echo {nonsense}"], "nonsense"),
        (&["--exit-code", "0"], "0"),
        (&["--exit-code", "125"], "125"),
        (&["--exit-code", "126"], "126"),
        (&["--exit-code", "127"], "127"),
        (&["--exit-code", "137"], "137"),
        (&["--exit-code", "139"], "139"),
        (&["--exit-code", "256"], "256"),
        (&["--gauge", "guess"], "guess"),
        (&["--stop-when", "bored"], "bored"),
        (&["--log-format", "xml"], "xml"),
        (&["--json"], "--json"),
        (&["--dry-run=perhaps"], "perhaps"),
    ];
    for (options, named) in cases {
        let finished = refuse(options, &[]);
        assert!(finished.log.contains(named), "{options:?} should name {named}: {}", finished.log);
    }
}

#[test]
fn a_bad_variable_is_refused_and_named() {
    let cases = [
        ("MEMINI_STOP_AT", "lots"),
        ("MEMINI_LIMIT", "64 potatoes"),
        ("MEMINI_GRACE", "soon"),
        ("MEMINI_STOP_SIGNAL", "STOPIT"),
        ("MEMINI_HOOK", "capture='"),
        ("MEMINI_EXIT_CODE", "137"),
        ("MEMINI_GROUP", "perhaps"),
        ("MEMINI_REWRITE", "TERM"),
        ("MEMINI_LEFTOVERS", "keep"),
        ("MEMINI_LOG_FORMAT", "xml"),
        ("MEMINI_VERBOSE", "much"),
    ];
    for (name, value) in cases {
        let finished = refuse(&[], &[(name, value)]);
        assert!(finished.log.contains(name), "{name}={value}: {}", finished.log);
    }
}

#[test]
fn a_flag_beats_its_variable() {
    let memini = Memini::at(Place::Child).options(["--rewrite", "TERM:USR1", "--leftovers", "wait"]);
    let memini = memini.with(|command| _ = command.env("MEMINI_LEFTOVERS", "kill").env("MEMINI_REWRITE", "TERM:0"));
    let mut running = memini.start(shell("trap 'exit 44' USR1; echo ready; while :; do sleep 1000 & wait; done"));
    running.output.wait_for("ready\n");
    running.signal(libc::SIGTERM);
    running.finish().expect(44);
}

#[test]
fn nothing_to_run_is_refused() {
    for words in [&[][..], &["--"], &["-g"], &["--no-watch", "--"], &[""], &["--", ""]] {
        let memini = crate::support::memini::binary();
        let output = std::process::Command::new(memini).args(words).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{words:?}: {output:?}");
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.lines().count() == 1 && log.contains("no command"), "{words:?}: {log:?}");
    }
}

#[test]
fn a_folder_that_a_hook_needs_must_be_usable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let link = folder.path().join("link");
    std::fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink(folder.path(), &link).unwrap();
    for path in [&file, &link, &file.join("below")] {
        let path = path.to_str().unwrap();
        let finished = refuse(&["--dir", path, "--hook", "capture=cp x {dir}"], &[]);
        assert!(finished.log.contains(path), "{}", finished.log);
        // Without a hook that needs it, it is worth a warning.
        let finished = Memini::at(Place::Child).options(["--dir", path]).run(shell("exit 5")).expect(5);
        let warned = finished.log.lines().any(|line| line.contains(path) && !line.contains("runs sh"));
        assert!(warned, "{finished:?}");
    }
}

#[test]
fn as_pid_1_it_is_refused_just_so() {
    let finished = Memini::at(Place::Init).options(["--stop-at", "lots"]).run(shell("echo started")).expect(125);
    assert_eq!((finished.output.as_str(), finished.log.lines().count()), ("", 1), "{finished:?}");
}

#[test]
fn options_stop_at_the_commands_name() {
    let finished = Memini::at(Place::Child).run(["echo", "--no-such-option", "-g", "--stop-at"]).expect(0);
    assert_eq!(finished.output, "--no-such-option -g --stop-at\n");
    let memini = crate::support::memini::binary();
    let output = std::process::Command::new(memini).args(["-q", "echo", "--version", "--"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "--version --\n");
}
