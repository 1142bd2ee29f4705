//! `memory.high`: the kernel slows down whoever is above it, memini's workers included.

use crate::support::{Group, MIB, Memini, send, wait_until};

/// Known: on Linux 5.10 memini waits here for pages of its recorder, for seconds each (docs/how-it-works.md).
fn recorder() -> &'static [&'static str] {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    if release.starts_with("5.") { &["--recorder", "off"] } else { &[] }
}

#[test]
fn an_app_that_memory_high_holds_down_is_left_alone_and_memini_stays_awake() {
    let group = Group::new("held", 64);
    group.set("memory.high", &(30 * MIB).to_string());
    let mut session = Memini::new(&group).options(recorder()).app(&[]).start();
    session.begin("grow 20");
    wait_until("the kernel slows the app down", || group.entry("memory.events", "high") > 20);
    assert!(group.usage() > 28 * MIB);
    // It hears signals, forwards them, and collects the app, all of it above memory.high.
    send("TERM", session.id());
    let ended = session.end();
    ended.assert_code(143).assert_silent("stopping").assert_silent("internal error");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn above_memory_high_memini_still_runs_hooks_and_stops_the_app() {
    let group = Group::new("slow", 64);
    group.set("memory.high", &(30 * MIB).to_string());
    // What the recorder has in the page cache (512 KiB) is above memory.high as well, and memini does not count it.
    let options = ["--trace-at", "24MiB", "--capture-at", "29.9MiB", "--stop-at", "30.4MiB", "--stop-when", "level"];
    let ended = Memini::new(&group)
        .options(&options)
        .options(recorder())
        .hook("capture=echo captured")
        .hook("stop=echo last words")
        .app(&["hold 14", "grow 20"])
        .start()
        .end();
    assert!(group.entry("memory.events", "high") > 0, "the kernel slowed nobody down: {}", ended.log);
    ended.assert_code(75).assert_says("| captured").assert_says("| last words");
    let incident = ended.incident();
    assert_eq!((incident.json["outcome"].as_str(), group.oom_kills()), (Some("stopped"), 0));
    assert_eq!(incident.event("stop")["sample"]["limit"], 64 * MIB, "the limit is memory.max");
}
