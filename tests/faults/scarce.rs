//! No descriptors and no processes left: workers do not start, and the app is watched and stopped all the same.

use std::process::{Command, Stdio};

use crate::support::{Group, MIB, Session, records};
use crate::{FILLER, memini, process, run};

/// The program under test.
fn binary() -> String {
    std::env::var("MEMINI").unwrap_or_else(|_| env!("CARGO_BIN_EXE_memini").to_owned())
}

/// An app that has come to 20 MiB.
fn running(group: &Group, setup: &str) -> Session {
    let memini = memini(group).hook("capture=sh -c 'echo evidence'").setup(setup);
    let mut session = memini.app(&[]).start();
    session.tell("to 20");
    // Until then its worker has what it needs of descriptors and processes, and gives it back.
    records(&session.dir().join("recorder"));
    session
}

/// It grows until it is stopped; no hook and no record could be made.
fn is_stopped_without_workers(mut session: Session, group: &Group, error: i32) {
    session.tell("to 41");
    session.sees(&format!("(os error {error}); it is left out"));
    session.begin("to 48");
    let ended = session.end();
    ended.assert_code(75).assert_says("sending SIGTERM to the app").assert_silent("internal error");
    // The record's worker may come too late to be refused: it waits as long as memory grows fast.
    ended.assert_says("cannot start hook 1: ").assert_says(&format!("(os error {error})"));
    assert_eq!(group.oom_kills(), 0);
    assert!(group.number("memory.max_usage_in_bytes") > 44 * MIB);
}

#[test]
fn with_few_descriptors_it_runs_the_app_or_refuses_and_nothing_in_between() {
    let mut ran = 0;
    for limit in 0..=24 {
        let output = Command::new("prlimit")
            .arg(format!("--nofile={limit}"))
            .args([&binary(), "--dir", "/nonexistent/memini", "--", "/bin/true"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => ran += 1,
            // The app itself needs some to be loaded.
            Some(127) if log.contains("error while loading shared libraries") => {}
            Some(125) => assert_eq!(log.lines().count(), 1, "{limit}: {log}"),
            _ => panic!("{limit}: {}: {log}", output.status),
        }
        assert!(!log.contains("internal error") && !log.contains("panicked"), "{limit}: {log}");
    }
    assert!(ran > 8, "{ran}");
}

#[test]
fn without_a_descriptor_left_the_app_is_stopped_all_the_same() {
    let group = Group::new("descriptors", 64);
    let session = running(&group, ":");
    let id = session.id().cast_unsigned();
    let open = (0..1024).filter(|number| process::link(id, &format!("fd/{number}")).is_some()).max().unwrap();
    run(&["prlimit", "--pid", &id.to_string(), &format!("--nofile={}", open + 1)]);
    is_stopped_without_workers(session, &group, libc::EMFILE);
}

#[test]
fn without_a_process_left_in_the_group_the_app_is_stopped_all_the_same() {
    let group = Group::new("processes", 64);
    let pids = Group::of("pids", "processes");
    let session = running(&group, &format!("echo 0 > {}/cgroup.procs", pids.path().display()));
    pids.set("pids.max", &pids.members().len().to_string());
    is_stopped_without_workers(session, &group, libc::EAGAIN);
}

#[test]
fn without_a_process_left_to_the_user_the_app_is_stopped_all_the_same() {
    let group = Group::new("user-processes", 256);
    // A user of its own: the kernel counts all processes of one. These are memini and the app.
    let setup = "chmod 755 $PLACE && mkdir -m 777 $PLACE/memini && \
                 prlimit --nproc=2:2 --pid $$ && exec setpriv --reuid 64321 --regid 64321 --clear-groups --inh-caps=-all --bounding-set=-all \"$@\"";
    let memini = memini(&group).hook("capture=sh -c 'echo evidence'").setup(setup);
    let mut session = memini.options(&["--limit", "32MiB"]).command(&FILLER).start();
    session.sees("runs sh");
    session.begin("go");
    let ended = session.end();
    ended.assert_code(75).assert_says("cannot start hook 1: ");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn an_app_that_cannot_be_forked_is_a_refusal() {
    let group = Group::new("no-fork", 64);
    let pids = Group::of("pids", "no-fork");
    // memini itself is the last one that fits.
    let setup = format!("echo 0 > {0}/cgroup.procs && echo 1 > {0}/pids.max", pids.path().display());
    let ended = memini(&group).setup(&setup).command(&["true"]).start().end();
    ended.assert_code(125).assert_says("cannot start true: Resource temporarily unavailable (os error 11)");
}
