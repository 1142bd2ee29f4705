//! memini or the app held by somebody else: SIGSTOP, a debugger.

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::support::{Group, Session, send};
use crate::{app_of, memini, state, wait_until};

/// Somebody who holds memini.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Signal,
    Debugger,
}

impl Holder {
    fn hold(self, id: i32) {
        match self {
            Self::Signal => send("STOP", id),
            Self::Debugger => {
                ptrace::attach(Pid::from_raw(id)).unwrap();
                assert!(matches!(waitpid(Pid::from_raw(id), None), Ok(WaitStatus::Stopped(..))));
            }
        }
        wait_until("memini to be held", || matches!(state(id), Some('T' | 't')));
    }

    fn release(self, id: i32) {
        match self {
            Self::Signal => send("CONT", id),
            Self::Debugger => ptrace::detach(Pid::from_raw(id), None).unwrap(),
        }
    }
}

fn running(group: &Group) -> Session {
    let mut session = memini(group).hook("capture=sh -c 'echo evidence'").app(&[]).start();
    session.tell("to 20");
    session
}

#[test]
fn when_it_is_let_go_it_decides_on_what_holds_then() {
    for holder in [Holder::Signal, Holder::Debugger] {
        // The app has grown far beyond the thresholds meanwhile.
        let group = Group::new(&format!("held-{holder:?}"), 64);
        let session = {
            let mut session = running(&group);
            let id = session.id();
            holder.hold(id);
            session.tell("to 48");
            holder.release(id);
            session
        };
        let ended = session.end();
        ended.assert_code(75);
        assert_eq!(ended.incident().output(), b"evidence\n", "a stage that was jumped over still counts");
        assert_eq!(group.oom_kills(), 0);

        // It has grown and shrunk meanwhile: of that nothing is left to decide on.
        let group = Group::new(&format!("held-back-{holder:?}"), 64);
        let mut session = running(&group);
        let id = session.id();
        holder.hold(id);
        session.tell("to 62");
        session.tell("to 20");
        holder.release(id);
        session.tell("to 36");
        session.sees("trace: memory is at ");
        session.begin("exit 7");
        session.end().assert_code(7).assert_silent("stopping the app").assert_silent("capture: ");
    }
}

#[test]
fn a_signal_that_came_while_it_was_held_arrives_afterwards() {
    for holder in [Holder::Signal, Holder::Debugger] {
        let group = Group::new(&format!("held-signal-{holder:?}"), 64);
        let session = memini(&group).app(&["on SIGTERM exit 9", "say ready"]).start();
        session.sees("runs ");
        let id = session.id();
        let app = app_of(id);
        wait_until("the app to catch SIGTERM", || {
            let caught = crate::process::status(app.cast_unsigned(), "SigCgt").unwrap_or_default();
            u64::from_str_radix(&caught, 16).is_ok_and(|caught| caught >> (libc::SIGTERM - 1) & 1 == 1)
        });
        holder.hold(id);
        send("TERM", id);
        holder.release(id);
        session.end().assert_code(9);
    }
}

#[test]
fn an_app_under_a_debugger_is_stopped_and_killed_like_any_other() {
    for (name, instructions, outcome) in
        [("leaves", &["say ready"][..], "stopped"), ("ignores", &["ignore SIGTERM", "say ready"], "killed")]
    {
        let group = Group::new(&format!("traced-{name}"), 64);
        let mut session = memini(&group).options(&["--grace", "500ms"]).app(instructions).start();
        session.tell("to 20");
        let app = app_of(session.id());
        let app = Pid::from_raw(app);
        ptrace::seize(app, ptrace::Options::empty()).unwrap();
        session.begin("to 48");
        // Who is killed meanwhile can no longer be continued, and its end is told next.
        let go_on = |signal| assert!(matches!(ptrace::cont(app, signal), Ok(()) | Err(Errno::ESRCH)));
        // The debugger lets it have each signal, as debuggers do.
        loop {
            match waitpid(app, None).unwrap() {
                WaitStatus::Stopped(_, signal) => go_on(Some(signal)),
                WaitStatus::PtraceEvent(_, Signal::SIGSTOP | Signal::SIGTRAP, _) => go_on(None),
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => break,
                other => panic!("{other:?}"),
            }
        }
        let ended = session.end();
        ended.assert_code(75);
        assert_eq!(ended.incident().json["outcome"], outcome, "{name}");
    }
}

#[test]
fn an_app_that_a_debugger_holds_is_killed_when_its_time_is_over() {
    let group = Group::new("traced-held", 64);
    let options = ["--grace", "300ms"];
    let mut session = memini(&group).options(&options).app(&["fork pause", "on SIGUSR1 to 48"]).start();
    session.tell("to 20");
    let app = Pid::from_raw(app_of(session.id()));
    // Its memory is somebody else's, and it is the one that is held.
    ptrace::attach(app).unwrap();
    assert!(matches!(waitpid(app, None), Ok(WaitStatus::Stopped(..))));
    let filler = crate::support::neighbour(&group, &["to 48", "say full", "pause"]);
    filler.hears("full");
    session.sees("the app did not leave within 300 ms: killing it");
    assert!(matches!(waitpid(app, None), Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _))));
    session.end().assert_code(75);
}
