//! What outlives the app is ended as the user chose, and memini's exit code is the app's all the same.

use crate::support::app::{python, shell};
use crate::support::memini::{Memini, Place, Running};
use crate::support::process;

/// The app leaves a process behind that has said it is there, and exits with 3. What that process does at SIGTERM is up
/// to the first argument; its second is whether it leaves the app's process group and session first.
const APP: &str = "
if os.fork() == 0:
    if sys.argv[2] == 'session':
        os.setsid()
    block()
    say('leftover')
    if sys.argv[1] == 'stubborn':
        take(0)
    number, _ = take(set_of(signal.SIGTERM, signal.SIGUSR1))
    say('got', number)
    os._exit(0)
sys.stdin.readline()
os._exit(3)
";

/// Runs the app until its leftover is there, then lets the app exit.
fn leave(place: Place, options: &[&str], what: &str, group: &str) -> Running {
    let mut app = python(APP);
    app.extend([what.to_owned(), group.to_owned()]);
    let memini = Memini::at(place).options(options).with(|command| _ = command.stdin(std::process::Stdio::piped()));
    let mut running = memini.start(app);
    running.output.wait_for("leftover\n");
    running.close_input();
    running
}

fn cases() -> impl Iterator<Item = (Place, &'static str)> {
    Place::ALL.into_iter().flat_map(|place| [(place, "same"), (place, "session")])
}

#[test]
fn by_default_they_are_killed_at_once() {
    for (place, group) in cases() {
        for options in [&[][..], &["--leftovers", "kill", "--leftover-timeout", "1h"]] {
            // The output ends, so the leftover is gone; it had no time to say anything.
            let finished = leave(place, options, "listening", group).finish().expect(3);
            assert_eq!(finished.output, "leftover\n", "{place:?}, {group}");
        }
    }
}

#[test]
fn with_term_they_are_asked_and_memini_stays_until_they_are_gone() {
    for (place, group) in cases() {
        let options = ["--leftovers", "term", "--leftover-timeout", "1h"];
        let finished = leave(place, &options, "listening", group).finish().expect(3);
        assert_eq!(finished.output, "leftover\ngot 15\n", "{place:?}, {group}");
    }
}

#[test]
fn with_term_the_stubborn_are_killed_after_the_timeout() {
    for (place, group) in cases() {
        let options = ["--leftovers", "term", "--leftover-timeout", "50ms"];
        let finished = leave(place, &options, "stubborn", group).finish().expect(3);
        assert_eq!(finished.output, "leftover\n", "{place:?}, {group}");
    }
}

#[test]
fn with_wait_they_finish_by_themselves_and_signals_reach_them() {
    for (place, group) in cases() {
        let options = ["--leftovers", "wait", "--leftover-timeout", "1h", "-v"];
        let mut running = leave(place, &options, "listening", group);
        let memini = running.pid();
        let gone = |app: u32| process::state(app).is_none();
        crate::support::wait_until("the app's end", || {
            process::children(memini).iter().all(|pid| {
                gone(*pid) || {
                    // The leftover is memini's own child now.
                    process::blocks(*pid, libc::SIGUSR2)
                }
            })
        });
        assert!(running.runs());
        running.signal(libc::SIGUSR1);
        let finished = running.finish().expect(3);
        assert_eq!(finished.output, "leftover\ngot 10\n", "{place:?}, {group}");
    }
}

#[test]
fn with_wait_they_are_killed_after_the_timeout() {
    for (place, group) in cases() {
        let options = ["--leftovers", "wait", "--leftover-timeout", "50ms"];
        let finished = leave(place, &options, "listening", group).finish().expect(3);
        assert_eq!(finished.output, "leftover\n", "{place:?}, {group}");
    }
}

#[test]
fn a_stopped_one_hears_that_it_shall_end() {
    let app = "
child = os.fork()
if child == 0:
    block()
    say('leftover')
    take(set_of(signal.SIGTERM))
    say('term')
    os._exit(0)
sys.stdin.readline()
os.kill(child, signal.SIGSTOP)
wait_until(lambda: state_of(child) == 'T')
os._exit(3)
";
    for place in Place::ALL {
        let options = ["--leftovers", "term", "--leftover-timeout", "1h"];
        let memini = Memini::at(place).options(options).with(|command| _ = command.stdin(std::process::Stdio::piped()));
        let mut running = memini.start(python(app));
        running.output.wait_for("leftover\n");
        running.close_input();
        assert_eq!(running.finish().expect(3).output, "leftover\nterm\n", "{place:?}");
    }
}

#[test]
fn without_any_memini_ends_with_the_app() {
    for place in Place::ALL {
        for how in ["kill", "term", "wait"] {
            // With a leftover timeout that no test would live to see.
            let options = ["--leftovers", how, "--leftover-timeout", "1h"];
            Memini::at(place).options(options).run(shell("true; exit 4")).expect(4);
        }
    }
}
