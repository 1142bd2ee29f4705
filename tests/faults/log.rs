//! Standard error breaks while memini is at work.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::stat::Mode;

use crate::support::{Group, Incident};
use crate::{memini, wait_until};

/// A pipe with a name, and both of its ends.
fn pipe(path: &Path) -> (File, File) {
    nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
    let writer = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
    (reader, writer)
}

const LOG: &str = "exec 2> $PLACE/log";

#[test]
fn a_log_that_is_closed_in_the_middle_ends_nothing_and_the_app_is_stopped() {
    let group = Group::new("log-closed", 64);
    let memini = memini(&group).hook("capture=sh -c 'echo evidence'").setup(LOG);
    let (mut reader, writer) = pipe(&memini.place().join("log"));
    let mut session = memini.app(&[]).start();
    drop(writer);
    let mut log = String::new();
    session.tell("to 35");
    wait_until("the trace stage", || {
        let _ = reader.read_to_string(&mut log);
        log.contains("memini: trace: ")
    });
    drop(reader);
    session.begin("to 48");
    let ended = session.end();
    ended.assert_code(75);
    let incident = ended.incident();
    assert_eq!((&incident.json["outcome"], &incident.output()[..]), (&"stopped".into(), &b"evidence\n"[..]));
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up_and_what_was_dropped_is_told_later() {
    let group = Group::new("log-full", 64);
    let memini = memini(&group).hook("capture=sh -c 'echo evidence'").setup(LOG);
    let (mut reader, mut writer) = pipe(&memini.place().join("log"));
    // Full from the start: not one line of memini's fits.
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    let mut session = memini.app(&[]).start();
    let dir = session.dir();
    session.tell("to 41");
    wait_until("the hook of the first incident", || {
        Incident::all(&dir).first().is_some_and(|incident| incident.json["hooks"][0]["end"]["code"] == 0)
    });
    session.tell("to 20");
    session.recorded(1, "recovered");
    // Somebody begins to read.
    let mut unread = vec![0; 1 << 20];
    let count = reader.read(&mut unread).unwrap();
    assert!(unread[..count].iter().all(|byte| *byte == b'x'), "{}", String::from_utf8_lossy(&unread[..count]));
    session.begin("to 48");
    let mut log = Vec::new();
    wait_until("the count of dropped lines", || {
        let _ = reader.read_to_end(&mut log);
        String::from_utf8_lossy(&log).contains(" log lines were dropped: standard error took no more\n")
    });
    drop(writer);
    let ended = session.end();
    let _ = reader.read_to_end(&mut log);
    ended.assert_code(75);
    let log = String::from_utf8_lossy(&log).trim_start_matches('x').to_owned();
    let first = log.lines().next().unwrap();
    let dropped = first.trim_start_matches("memini: ").split(' ').next().unwrap().parse::<u32>();
    // The start, two stages, the hook's three lines, their end: what a reader would have seen meanwhile.
    assert!(dropped.is_ok_and(|dropped| dropped >= 7), "{log}");
    assert!(log.contains("memini: sending SIGTERM to the app"), "{log}");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn a_log_that_nobody_reads_does_not_hold_up_a_stop() {
    let group = Group::new("log-full-stop", 64);
    let memini = memini(&group).hook("stop=sh -c 'echo evidence'").setup(LOG);
    let (reader, mut writer) = pipe(&memini.place().join("log"));
    while writer.write(&[b'x'; 4096]).is_ok() {}
    let ended = memini.app(&["ignore SIGTERM", "grow 20"]).start().end();
    ended.assert_code(75);
    let incident = ended.incident();
    assert_eq!((&incident.json["outcome"], &incident.output()[..]), (&"killed".into(), &b"evidence\n"[..]));
    assert_eq!(group.oom_kills(), 0);
    drop(reader);
}
