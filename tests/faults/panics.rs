//! memini's own panic, injected by a build with the feature `injected-panic`: it goes on as a plain init.

use crate::support::{Ended, Group, Memini, Session, send};
use crate::{app_of, children, memini, process, state, wait_until};

const SAID: &str = "memory is not watched any more, memini goes on as a plain init";

fn breaking<'a>(group: &'a Group, at: &str, as_init: bool) -> Memini<'a> {
    let memini = memini(group).setup(&format!("export INJECTED_PANIC='{at}'"));
    let memini = memini.hook("capture=sh -c 'echo evidence'").hook("stop=true");
    if as_init { memini } else { memini.not_as_init() }
}

/// What is left is a plain init: it forwards, reaps, and passes the app's exit code on.
fn is_plain_init(mut session: Session) -> Ended {
    session.sees(SAID);
    session.tell("on SIGUSR1 write $PLACE/heard 0");
    let id = session.id();
    let app = app_of(id);
    send("USR1", id);
    session.appears("heard");
    assert_ne!(state(app), Some('T'), "it stays stopped");
    // An orphan: whoever adopts it must reap it.
    session.tell("daemon pause");
    let words = |id: i32| process::file(id.cast_unsigned(), "cmdline");
    let mut found = None;
    wait_until("the orphan to be adopted", || {
        found = children(id).into_iter().find(|child| *child != app && words(*child) == words(app));
        found.is_some()
    });
    let orphan = found.expect("the orphan");
    send("KILL", orphan);
    wait_until("the orphan to be reaped", || state(orphan).is_none());
    session.begin("exit 9");
    let ended = session.end();
    ended.assert_code(9);
    assert_eq!(ended.log.matches(SAID).count(), 1, "{}", ended.log);
    ended
}

#[test]
fn at_the_start_and_on_the_first_reading_the_app_runs_on() {
    for as_init in [true, false] {
        for at in ["\"start\"", "Read(Full)", "Read(Usage)", "Deadline"] {
            let group = Group::new("panic-early", 64);
            let mut session = breaking(&group, at, as_init).app(&[]).start();
            session.tell("hold 1");
            is_plain_init(session).assert_says(&format!("injected at {at}"));
        }
    }
}

#[test]
fn in_the_middle_of_a_climb_the_app_runs_on() {
    for as_init in [true, false] {
        for (at, level) in
            [("Note(StageBegan", 35), ("OpenIncident", 35), ("TakeBallast", 35), ("RunHook", 41), ("RunEnded", 41)]
        {
            let group = Group::new("panic-climb", 64);
            let mut session = breaking(&group, at, as_init).app(&[]).start();
            session.tell(&format!("to {level}"));
            is_plain_init(session).assert_says(&format!("injected at {at}"));
        }
    }
}

#[test]
fn while_the_app_is_being_stopped_it_is_let_go_and_nothing_stays_stopped() {
    for as_init in [true, false] {
        // Before SIGTERM, after it, and when the tree has been stopped by SIGSTOP just before.
        for at in ["Note(Stopping", "StopApp", "Note(GraceOver", "FreezeTree", "NoteProcesses", "KillTree"] {
            let group = Group::new("panic-stop", 64);
            let memini = breaking(&group, at, as_init).options(&["--grace", "300ms"]).app(&["ignore SIGTERM"]);
            let mut session = memini.start();
            session.tell("to 48");
            is_plain_init(session).assert_says(&format!("injected at {at}"));
        }
    }
}

#[test]
fn an_app_that_was_told_to_leave_leaves_with_its_own_exit_code() {
    for as_init in [true, false] {
        for at in ["Note(AppExited", "AppExited", "RecordLast", "Exit("] {
            let group = Group::new("panic-leave", 64);
            let ended = breaking(&group, at, as_init).app(&["on SIGTERM exit 5", "to 48", "pause"]).start().end();
            ended.assert_code(5).assert_says(&format!("injected at {at}")).assert_says(SAID);
            assert_eq!(group.oom_kills(), 0);
        }
    }
}

#[test]
fn a_worker_that_panics_costs_a_line_and_the_rest_goes_on() {
    for (at, said) in [("\"hook\"", "hook 1: internal error: "), ("\"record\"", "internal error: ")] {
        let group = Group::new("panic-worker", 64);
        let mut session = breaking(&group, at, true).app(&[]).start();
        session.tell("to 41");
        session.sees(said);
        session.begin("to 48");
        let ended = session.end();
        ended.assert_code(75).assert_says("sending SIGTERM to the app").assert_silent(SAID);
        assert_eq!(group.oom_kills(), 0);
    }
}
