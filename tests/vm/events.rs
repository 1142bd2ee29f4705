//! `memory.events`, and what the OOM killer does with a whole group.

use std::time::{Duration, Instant};

use crate::support::{Group, Incident, Memini};

const OFF: &[&str] = &["--trace-at", "off", "--capture-at", "off", "--stop-at", "off", "--kill-at", "off"];
const NO_STOP: &[&str] = &["--stop-at", "off", "--kill-at", "off"];

/// How often a process has gone to sleep.
fn sleeps(id: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn an_event_of_the_kernels_wakes_memini() {
    let group = Group::new("wakes", 48);
    // With nothing to do at any threshold, it looks once a second.
    let mut session = Memini::new(&group).options(OFF).app(&[]).start();
    session.tell("write $PLACE/file 100");
    let id = session.id();
    let (before, events, start) = (sleeps(id), group.failures(), Instant::now());
    while group.failures() < events + 1000 || start.elapsed() < Duration::from_millis(500) {
        session.tell("read $PLACE/file");
    }
    // At most one event in 10 ms is told of; half a second holds fifty.
    let (looks, seconds) = (sleeps(id) - before, start.elapsed().as_secs());
    assert!(looks > 5 + 3 * (seconds + 1), "{looks} looks in {seconds} s");
    session.finish().assert_code(0);
}

#[test]
fn where_the_oom_killer_takes_the_group_memini_says_so_before_and_leaves_what_it_had() {
    let group = Group::new("together", 64);
    group.set("memory.oom.group", "1");
    let mut session = Memini::new(&group).options(NO_STOP).options(&["-v"]).app(&[]).start();
    session.sees("memory.oom.group is set: the kernel's OOM killer would take memini along");
    session.tell("to 54");
    session.sees("capture: memory is at 5");
    session.recorded(1, "open");
    session.begin("hold 100");
    let ended = session.end();
    assert!(ended.was_killed(), "{}", ended.log);
    ended.assert_silent("the app was killed");
    // The app, memini, and the workers that it may have had.
    assert!(group.oom_kills() >= 2, "{}", group.oom_kills());
    let incident = Incident::only(&ended.dir());
    assert_eq!((&incident.json["outcome"], &incident.json["exit_code"]), (&"open".into(), &serde_json::Value::Null));

    // The next run tells, and completes what this one has left.
    let dir = ended.dir();
    let next = Memini::new(&group).options(&["--dir", dir.to_str().unwrap()]).app(&[]).start();
    next.sees("was killed by the kernel's OOM killer, ");
    next.finish().assert_code(0);
    let incident = Incident::only(&dir);
    assert_eq!(incident.json["outcome"], "oom-killed");
    assert_eq!(incident.event("found-by-next-run")["certain"], true);
}

#[test]
fn memini_stops_the_app_before_the_oom_killer_takes_the_group() {
    let group = Group::new("rescued", 64);
    group.set("memory.oom.group", "1");
    let ended = Memini::new(&group).app(&["hold 36", "grow 10"]).start().end();
    assert_eq!(group.oom_kills(), 0, "{}", ended.log);
    ended.assert_code(75);
    assert_eq!(ended.incident().json["outcome"], "stopped");
}

#[test]
fn without_oom_group_only_the_app_dies_and_memini_tells() {
    for round in 0..8 {
        let group = Group::new(&format!("alone-{round}"), 48);
        group.set("memory.oom.group", "0");
        let ended = Memini::new(&group).options(OFF).options(&["-v"]).app(&["grow 100"]).start().end();
        if ended.was_killed() {
            // While the dead app's memory is still being freed, memini is what is left to kill: see memory/killed.rs.
            assert!(group.oom_kills() >= 2, "{}", ended.log);
            continue;
        }
        ended.assert_code(137).assert_silent("memory.oom.group is set");
        ended.assert_says("the app was killed by the kernel's OOM killer (ended by SIGKILL)");
        assert_eq!((group.oom_kills(), ended.incident().json["outcome"].as_str()), (1, Some("oom-killed")));
        return;
    }
    panic!("no round in which only the app was killed");
}
