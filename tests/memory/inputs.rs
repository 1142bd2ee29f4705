//! Bad input that can only be seen against a real limit or a real folder: refused before the app starts.

use crate::support::{Group, Memini};

/// The app must not have been started: it would have written a file.
fn assert_refused(name: &str, limit: u64, setup: &str, options: &[&str], said: &str) {
    let group = Group::new(&format!("refused-{name}"), limit);
    let ended =
        Memini::new(&group).setup(setup).options(options).command(&["sh", "-c", "touch $PLACE/started"]).start().end();
    ended.assert_code(125).assert_says(said);
    let lines: Vec<_> = ended.log.lines().collect();
    assert_eq!(lines.len(), 1, "{name}: one clear line, not {lines:#?}");
    assert!(!ended.place().join("started").exists(), "{name}: the app was started");
}

#[test]
fn thresholds_that_the_limit_forbids_are_refused() {
    for (name, limit, options, said) in [
        ("above", 256, &["--capture-at", "400MiB"][..], "--capture-at"),
        ("below-nothing", 48, &["--capture-at", "-64MiB"], "--capture-at"),
        ("descends", 256, &["--trace-at", "230MiB"], "--trace-at"),
        ("equal", 256, &["--stop-at", "210MiB", "--kill-at", "-46MiB"], "--kill-at"),
        ("soft", 1024, &["--limit", "256MiB", "--capture-at", "400MiB"], "--capture-at"),
    ] {
        assert_refused(name, limit, ":", options, said);
    }
}

#[test]
fn a_folder_that_a_hook_needs_must_be_one() {
    let hook = ["--hook", "capture=touch {dir}/dump"];
    for (name, setup, said) in [
        ("file", "touch $PLACE/memini", "is not a folder"),
        ("link", "ln -s $PLACE $PLACE/memini", "is a symbolic link, which memini does not follow; name a folder"),
        (
            "read-only",
            "mkdir $PLACE/memini && mount --bind $PLACE/memini $PLACE/memini && mount -o remount,ro,bind $PLACE/memini",
            "cannot be written to: Read-only file system (os error 30)",
        ),
    ] {
        assert_refused(name, 64, setup, &hook, said);
    }
}

#[test]
fn thresholds_in_bytes_and_below_the_limit_hold() {
    let group = Group::new("bytes", 64);
    let options = ["--trace-at", "30MiB", "--capture-at", "40MiB", "--stop-at", "-8MiB", "--kill-at", "-2MiB"];
    let mut session = Memini::new(&group).options(&options).app(&[]).start();
    session.sees("trace 30MiB, capture 40MiB, stop -8MiB (56 MiB) when urgent, kill -2MiB (62 MiB)");
    session.tell("to 33");
    session.sees("trace: memory is at 3");
    session.tell("to 43");
    session.sees("capture: memory is at 4");
    session.begin("to 59.5");
    session.sees("stop: memory is at 5");
    session.end().assert_code(75);
}

#[test]
fn stages_that_are_off_do_not_act() {
    let group = Group::new("off", 64);
    let options = ["--trace-at", "off", "--stop-at", "off", "--kill-at", "off"];
    let mut session = Memini::new(&group).options(&options).app(&[]).start();
    session.sees("trace off, capture 80% (51.2 MiB), stop off, kill off;");
    session.tell("to 60");
    session.sees("capture: memory is at ");
    session.finish().assert_code(0).assert_silent("trace:").assert_silent("stopping").assert_silent("killing");
}

#[test]
fn a_lowered_limit_leaves_out_what_it_makes_impossible() {
    let group = Group::new("impossible", 128);
    let options = ["--trace-at", "15MiB", "--capture-at", "100MiB"];
    let mut session = Memini::new(&group).options(&options).app(&[]).start();
    session.tell("to 20");
    // By now it has seen the first limit.
    session.sees("trace: memory is at ");
    group.limit(64);
    session.sees("the limit changed from 128 MiB to 64 MiB");
    session.sees("under the limit of 64 MiB the stage capture can never begin; it is left out");
    session.finish().assert_code(0);
}
