//! Where the kernel was faster, or memini was told to let it be: memini says what happened.

use serde_json::json;

use crate::support::{Group, Memini, wait_until};

/// Who allocates while the dead app's memory is still being freed is killed next, and there is nobody but memini: seen where
/// the machine is busy, mostly with Linux 7.2. What is asserted holds where the kernel was content with one.
const ROUNDS: usize = 8;

const ALL_OFF: &[&str] = &["--trace-at", "off", "--capture-at", "off", "--stop-at", "off", "--kill-at", "off"];

#[test]
fn an_app_that_the_kernel_kills_is_said_to_be_killed_by_the_kernel() {
    let (ended, log) = (0..ROUNDS)
        .find_map(|round| {
            let group = Group::new(&format!("oom-{round}"), 48);
            let memini = Memini::new(&group);
            let log = memini.place().join("termination-log");
            std::fs::write(&log, "").unwrap();
            let options = ["--termination-log", log.to_str().unwrap()];
            let ended = memini.options(ALL_OFF).options(&options).app(&["grow 200"]).start().end();
            assert!(group.oom_kills() >= if ended.was_killed() { 2 } else { 1 }, "{}", ended.log);
            (!ended.was_killed()).then_some((ended, log))
        })
        .expect("a round in which only the app was killed");
    ended.assert_code(137).assert_says("the app was killed by the kernel's OOM killer (ended by SIGKILL)");
    let incident = ended.incident();
    assert_eq!((&incident.json["outcome"], &incident.json["exit_code"]), (&json!("oom-killed"), &json!(137)));
    assert_eq!(incident.event("app-exited")["oom_killed"], true);
    let message = std::fs::read_to_string(&log).unwrap();
    assert!(message.starts_with("the kernel's OOM killer killed "), "{message}");
}

#[test]
fn whoever_wins_the_race_the_exit_code_tells_the_truth() {
    for round in 0..4 {
        let group = Group::new(&format!("race-{round}"), 48);
        let ended = Memini::new(&group).app(&["hold 200"]).start().end();
        if group.oom_kills() == 0 {
            ended.assert_code(75).assert_silent("OOM killer");
        } else if ended.log.contains("killing the app before the kernel does") {
            // Both at once: it is told.
            ended.assert_code(75).assert_says("the kernel's OOM killer has killed a process of this group");
        } else if ended.was_killed() {
            // Who allocates while the dead app's memory is still being freed is killed next, and there is nobody but memini.
            assert!(group.oom_kills() >= 2, "{}", ended.log);
        } else {
            ended.assert_code(137).assert_says("the app was killed by the kernel's OOM killer");
        }
    }
}

#[test]
fn a_sigkill_from_elsewhere_is_not_called_the_kernels() {
    let group = Group::new("sigkill", 48);
    let session = Memini::new(&group).hook("capture=kill -KILL {pid}").app(&["to 42", "pause"]).start();
    let ended = session.end();
    assert_eq!(group.oom_kills(), 0);
    ended.assert_code(137).assert_silent("OOM killer");
    assert_eq!(ended.incident().json["outcome"], "exited");
}

#[test]
fn a_child_that_the_kernel_kills_is_a_warning_and_the_app_lives_on() {
    for round in 0..ROUNDS {
        let group = Group::new(&format!("child-{round}"), 48);
        let mut session = Memini::new(&group).options(ALL_OFF).app(&[]).start();
        session.tell("fork grow 200");
        wait_until("a kill that memini tells of, or more than one", || {
            session.log().contains("the kernel's OOM killer has killed a process") || group.oom_kills() >= 2
        });
        if group.oom_kills() >= 2 {
            continue;
        }
        session.begin("exit 4");
        session.end().assert_code(4);
        assert_eq!(group.oom_kills(), 1);
        return;
    }
    panic!("no round in which only the child was killed");
}

#[test]
fn without_a_watch_memini_is_a_plain_init() {
    let group = Group::new("no-watch", 48);
    let ended = Memini::new(&group).options(&["--no-watch"]).app(&["grow 200"]).start().end();
    assert!(group.oom_kills() >= 1);
    ended.assert_code(137).assert_says("memory is not watched");
    assert!(!ended.dir().exists());
}
