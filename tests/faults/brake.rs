//! The brake: growth that nobody could follow is stopped for moments, and nothing is ever left stopped by it.

use std::time::{Duration, Instant};

use crate::support::{Ended, Group, Incident, Memini, send};
use crate::{app_of, children, run, state, wait_until};

/// Whether a fast climb is braked depends on the machine: one of so many is.
const ROUNDS: usize = 200;

/// A gigabyte a second up to more than 50 of 64 MiB, and rest there.
const CLIMB: &str = "grow 1000 45";

fn brakes(ended: &Ended) -> u64 {
    // There is none where the machine kept memini from looking at all.
    let times = |incident: &Incident| incident.json["brakes"]["times"].as_u64().expect("a number");
    Incident::all(&ended.dir()).iter().map(times).sum()
}

/// What has come of a climb with these options.
fn climbed(options: &[&str]) -> Ended {
    let group = Group::new("climbed", 64);
    let mut session = climber(&group).options(options).app(&[]).start();
    session.tell(CLIMB);
    session.begin("exit 7");
    let ended = session.end();
    ended.assert_code(7);
    ended
}

/// Never stopped for its level: what is seen here is the brake alone. Without a loopback, so that the kernel cannot be told to
/// stop the app in time: that leaves next to nothing for the brake to do.
fn climber(group: &Group) -> Memini<'_> {
    rester(group).setup("exec unshare --net -- \"$@\"")
}

/// The same with a loopback.
fn rester(group: &Group) -> Memini<'_> {
    Memini::new(group).options(&["--stop-at", "off", "--kill-at", "off"])
}

/// Whether the kernel was told to stop the app: some descriptor of memini's signals its owner (O_ASYNC).
fn is_timed(memini: i32) -> bool {
    let folder = std::fs::read_dir(format!("/proc/{memini}/fdinfo")).into_iter().flatten().flatten();
    folder.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).any(|info| {
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 0o20000 != 0)
    })
}

#[test]
fn a_climb_that_nobody_could_follow_is_braked_and_goes_on() {
    for round in 0..ROUNDS {
        let group = Group::new("climb", 64);
        let mut session = climber(&group).app(&[]).start();
        session.tell(CLIMB);
        let app = app_of(session.id());
        // A brake may be on just now.
        wait_until("the app to go on", || state(app) != Some('T'));
        session.begin("exit 7");
        let ended = session.end();
        ended.assert_code(7);
        assert_eq!(group.oom_kills(), 0);
        if brakes(&ended) > 0 {
            ended.assert_says("the app grew faster than could be followed: braked ");
            return;
        }
        assert!(round + 1 < ROUNDS, "never braked");
    }
}

/// memini stands still at a moment at which the kernel was told when to stop the app. Whether the kernel has.
fn is_stopped_by_the_kernel(memini: i32, app: i32) -> bool {
    let start = Instant::now();
    while !is_timed(memini) && start.elapsed() < Duration::from_millis(500) {}
    send("STOP", memini);
    wait_until("memini to stop", || state(memini) == Some('T'));
    // Stopped by memini's own brake it would be so already, and a moment that has not been set in full never comes.
    let was_running = is_timed(memini) && state(app) != Some('T');
    let start = Instant::now();
    while was_running && start.elapsed() < Duration::from_millis(500) {
        if state(app) == Some('T') {
            return true;
        }
    }
    false
}

// Regression: who was late for more than a second took the app for stopped by somebody else, and left it so.
#[test]
fn the_kernel_stops_the_app_in_time_even_while_memini_itself_stands_still_and_memini_lets_it_go_on() {
    for _ in 0..ROUNDS {
        let group = Group::new("timed", 64);
        // What continues memini must not continue the app.
        let mut session = rester(&group).options(&["--rewrite", "CONT:0"]).app(&[]).start();
        session.tell("to 5");
        let (memini, app) = (session.id(), app_of(session.id()));
        session.begin(CLIMB);
        let is_proven = is_stopped_by_the_kernel(memini, app);
        if is_proven {
            // Longer than a series of brakes lasts; nothing happens meanwhile that could be waited for.
            std::thread::sleep(Duration::from_millis(1500));
            assert_eq!(state(app), Some('T'));
        }
        send("CONT", memini);
        wait_until("the app to go on", || state(app) != Some('T'));
        session.begin("exit 7");
        let ended = session.end();
        ended.assert_code(7);
        assert_eq!(group.oom_kills(), 0);
        if is_proven {
            assert!(brakes(&ended) > 0, "it is counted");
            return;
        }
    }
    panic!("memini never told the kernel to");
}

#[test]
fn whoever_wants_no_brake_gets_none() {
    let mut without = 0;
    for round in 1..=ROUNDS {
        let ended = climbed(&["--no-brake"]);
        ended.assert_silent("braked");
        assert_eq!(brakes(&ended), 0);
        // Where none is braked, --no-brake has kept nobody from it.
        without += brakes(&climbed(&[]));
        if round >= 3 && without > 0 {
            return;
        }
    }
    panic!("never braked without it either");
}

#[test]
fn what_somebody_else_has_stopped_stays_stopped() {
    for round in 0..ROUNDS {
        let group = Group::new("stopped", 64);
        let mut session = climber(&group).app(&[]).start();
        session.tell("fork pause");
        let app = app_of(session.id());
        let child = children(app)[0];
        send("STOP", child);
        wait_until("the child to stop", || state(child) == Some('T'));
        session.tell(CLIMB);
        assert_eq!(state(child), Some('T'), "continued by the brake");
        session.begin("exit 7");
        let ended = session.end();
        ended.assert_code(7);
        if brakes(&ended) > 0 {
            return;
        }
        assert!(round + 1 < ROUNDS, "never braked");
    }
}

// Regression: whose parent was in the middle of fork(2) when the tree was stopped was born stopped after it went on again,
// and stayed so: the last of this chain, in one of two or three runs.
#[test]
fn who_is_born_of_a_fork_that_the_brake_met_is_not_left_stopped() {
    for _ in 0..6 {
        let group = Group::new("fork", 64);
        let memini = Memini::new(&group).options(&["--grace", "30s"]);
        let ended = memini.app(&["ignore SIGTERM", "breed 30"]).start().end();
        ended.assert_code(75).assert_says("killing the app").assert_silent("did not leave");
    }
}

#[test]
fn when_memini_dies_while_the_app_is_stopped_the_app_goes_on() {
    let group = Group::new("guarded", 64);
    let mut session = climber(&group).not_as_init().app(&[]).start();
    let (memini, app) = (session.id(), app_of(session.id()));
    session.tell("to 45");
    // The guardian is called at the trace stage, and is the only worker that stays.
    session.sees("trace: memory is at ");
    let guardian = |id: &i32| {
        std::fs::read(format!("/proc/{id}/cmdline"))
            .is_ok_and(|words| words.split(|byte| *byte == 0).any(|word| word == b"guardian"))
    };
    wait_until("the guardian", || children(memini).iter().any(guardian));
    let guard = children(memini).into_iter().find(|id| guardian(id)).expect("the guardian");
    // It reads, and thereby stands guard.
    wait_until("the guardian to wait", || state(guard) == Some('S'));
    run(&["kill", "-STOP", "--", &format!("-{app}")]);
    wait_until("the app to stop", || state(app) == Some('T'));
    send("KILL", memini);
    wait_until("the app to go on", || state(app) != Some('T'));
    send("KILL", app);
    wait_until("the guardian to end", || state(guard).is_none_or(|state| state == 'Z'));
    drop(session.end());
}
