//! Apps that do not let themselves be ended: uninterruptible, multiplying, behind a hook that hangs.

use crate::support::Group;
use crate::{app_of, children, memini, state, wait_until};

#[test]
fn an_app_in_uninterruptible_sleep_is_killed_again_and_again_and_ends_when_it_wakes_up() {
    for as_init in [true, false] {
        let group = Group::new(&format!("sleep-{as_init}"), 64);
        // The freezer of v1 holds a process in state D: not even SIGKILL ends it there. That is what `docker pause` does.
        let freezer = Group::of("freezer", &format!("sleep-{as_init}"));
        let memini = memini(&group).options(&["--grace", "200ms"]);
        let memini = if as_init { memini } else { memini.not_as_init() };
        let mut session = memini.app(&["on SIGUSR1 to 48", "fork pause"]).start();
        session.tell("to 20");
        let id = session.id();
        let app = app_of(id);
        freezer.set("cgroup.procs", &app.to_string());
        freezer.set("freezer.state", "FROZEN");
        wait_until("the app to be in state D", || state(app) == Some('D'));
        let child = children(app)[0];
        let filler = crate::support::neighbour(&group, &["to 48", "say full", "pause"]);
        filler.hears("full");
        session.sees("the app did not leave within 200 ms: killing it");
        wait_until("the rest of the tree to be dead", || matches!(state(child), None | Some('Z')));
        // The kernel keeps the app; memini stays, and still does what an init does.
        assert_eq!(state(app), Some('D'));
        assert!(matches!(state(id), Some('S' | 'R')), "{:?}", state(id));
        freezer.set("freezer.state", "THAWED");
        let ended = session.end();
        ended.assert_code(75);
        assert_eq!(ended.incident().json["outcome"], "killed");
        assert_eq!(group.oom_kills(), 0);
    }
}

/// Every process forks as fast as it can and ends, so that each is gone before anybody could look at it; none hears
/// SIGTERM, and all of them together hold memory.
const STORM: &str = "
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
held = bytearray(8 << 20)
app = os.getpid()
for _ in range(6):
    if os.fork() == 0:
        break
while True:
    try:
        if os.fork() and os.getpid() != app:
            os._exit(0)
    except OSError:
        pass
";

#[test]
fn a_fork_storm_is_ended_to_the_last_process() {
    for as_init in [true, false] {
        let group = Group::new(&format!("storm-{as_init}"), 256);
        // So that the storm stays one that the machine survives.
        let pids = Group::of("pids", &format!("storm-{as_init}"));
        pids.set("pids.max", "200");
        let setup = format!("echo 0 > {}/cgroup.procs", pids.path().display());
        let memini = memini(&group).setup(&setup).options(&["--grace", "300ms", "--limit", "64MiB"]);
        let memini = if as_init { memini } else { memini.not_as_init() };
        let session = memini.command(&[crate::support::session::python(), "-S", "-I", "-c", STORM]).start();
        session.sees("runs ");
        let ended = session.end();
        ended.assert_code(75);
        assert_eq!(ended.incident().json["outcome"], "killed", "{}", ended.log);
        wait_until("the dead to be gone from the group", || group.members().is_empty() && pids.members().is_empty());
        assert_eq!(group.oom_kills(), 0);
    }
}

#[test]
fn a_hook_that_hangs_at_the_stop_is_killed_and_leaves_nobody_behind() {
    for as_init in [true, false] {
        let group = Group::new(&format!("hangs-{as_init}"), 64);
        let memini = memini(&group).options(&["--grace", "500ms", "--hook-timeout", "600s"]);
        let memini = if as_init { memini } else { memini.not_as_init() };
        // Deaf, with children of its own, one of them in a session of its own.
        let hook = "stop=sh -c 'trap \"\" TERM INT HUP; sleep 1000 & setsid sleep 1000 & while :; do sleep 1000; done'";
        let ended = memini.hook(hook).app(&["to 48", "pause"]).start().end();
        ended.assert_code(75).assert_says("sending SIGTERM to the app");
        let events = ended.incident().events();
        assert!(events.contains(&"hook-overdue".to_owned()), "{as_init}: {events:?}\n{}", ended.log);
        wait_until("the dead to be gone from the group", || group.members().is_empty());
        assert_eq!(group.oom_kills(), 0);
    }
}
