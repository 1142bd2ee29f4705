//! No signal is too early.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use crate::support::app::python;
use crate::support::memini::{Memini, Place, Running};
use crate::support::{process, wait_until};

const TERM: i32 = libc::SIGTERM;

/// In each mode.
const ROUNDS: u64 = 150;

/// The first moments of a run: memini starts, the app does not exist yet, has no name yet, does not listen yet.
const SPAN: Duration = Duration::from_micros(2500);

const MODES: [&[&str]; 2] = [&[], &["-g"]];

/// Busy until the moment has come: a sleep would be later than all that is of interest here. It decides when the signal
/// is sent, and nothing depends on it.
fn let_pass(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn moments() -> impl Iterator<Item = Duration> {
    (0..ROUNDS).map(|round| SPAN.mul_f64(round as f64 / ROUNDS as f64))
}

/// Waits until memini has blocked the signal. Before, the kernel drops what is sent to PID 1, and ends any other
/// process: no program can do anything about that.
fn wait_for_memini(running: &mut Running) -> u32 {
    let pid = running.pid_of_any_name();
    loop {
        let is_memini = process::name(pid).is_some_and(|name| name == "memini");
        if is_memini && process::blocks(pid, TERM) {
            return pid;
        }
        assert!(running.runs(), "it has ended: {}", running.log.text());
    }
}

#[test]
fn a_signal_in_the_first_moments_of_pid_1_ends_the_app() {
    for options in MODES {
        for moment in moments() {
            let mut running = Memini::at(Place::Init).options(options).start(["sleep", "1000"]);
            let pid = wait_for_memini(&mut running);
            let_pass(moment);
            process::send(pid, TERM);
            running.finish().expect(128 + TERM);
        }
    }
}

#[test]
fn a_signal_in_the_first_moments_of_an_ordinary_process_ends_the_app_or_memini_before_it() {
    for options in MODES {
        for moment in moments() {
            let mut running = Memini::at(Place::Child).options(options).start(["sleep", "1000"]);
            let pid = running.pid_of_any_name();
            let_pass(moment);
            process::send(pid, TERM);
            let status = running.finish().status();
            let ended = status.code() == Some(128 + TERM) || status.signal() == Some(TERM);
            assert!(ended, "{status:?} after {moment:?} with {options:?}");
        }
    }
}

#[test]
fn an_app_that_handles_the_signal_hears_it_or_dies_of_it_before() {
    let script = "
import signal, os, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(42))
# Not pause(): a signal just before it would leave Python's handler waiting.
while True: time.sleep(0.01)
";
    for options in MODES {
        // Python takes some ten milliseconds until it listens.
        for moment in moments().step_by(5).map(|moment| moment * 12) {
            let app = ["python3", "-S", "-I", "-c", script];
            let mut running = Memini::at(Place::Init).options(options).start(app);
            let pid = wait_for_memini(&mut running);
            let_pass(moment);
            process::send(pid, TERM);
            let code = running.finish().code();
            assert!([42, 128 + TERM].contains(&code), "{code} after {moment:?}");
        }
    }
}

#[test]
fn what_came_before_the_app_existed_is_delivered_to_it() {
    // The launcher blocks some signals, is sent them, and becomes memini, which finds them pending. Another process
    // sends them: what memini draws itself is not for the app.
    let launcher = "
block(set_of(signal.SIGTERM, signal.SIGUSR1, 40))
sender = os.fork()
if sender == 0:
    for number in (signal.SIGTERM, signal.SIGUSR1, 40, 40):
        os.kill(os.getppid(), number)
    os._exit(0)
os.waitpid(sender, 0)
os.execvp(sys.argv[1], sys.argv[1:])
";
    let app = "
wanted = set_of(signal.SIGTERM, signal.SIGUSR1, 40)
assert sorted(take(wanted)[0] for _ in range(4)) == [10, 15, 40, 40]
";
    for place in Place::ALL {
        for options in MODES {
            Memini::at(place).options(options).launched_by(python(launcher)).run(python(app)).expect(0);
        }
    }
}

#[test]
fn memini_has_blocked_every_signal_by_the_time_the_app_runs() {
    for place in Place::ALL {
        let mut running = Memini::at(place).start(["sleep", "1000"]);
        let pid = running.pid();
        wait_until("the app", || {
            process::children(pid).iter().any(|app| process::name(*app).is_some_and(|name| name == "sleep"))
        });
        for number in (1..=64).filter(|number| ![libc::SIGKILL, libc::SIGSTOP].contains(number)) {
            assert!(process::blocks(pid, number), "{number}");
        }
        running.signal(TERM);
        running.finish().expect(128 + TERM);
    }
}
