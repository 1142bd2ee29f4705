//! Signals from outside reach the app; what memini itself drew does not.

use crate::support::app::{python, shell};
use crate::support::memini::{Memini, Place};
use crate::support::{process, wait_until};

const INT: i32 = 2;
const QUIT: i32 = 3;
const HUP: i32 = 1;
const USR1: i32 = 10;
const TERM: i32 = 15;
const CONT: i32 = 18;
const STOP: i32 = 19;

/// Every mode that has a way of its own for signals.
fn modes() -> impl Iterator<Item = (Place, &'static [&'static str])> {
    Place::ALL.into_iter().flat_map(|place| [(place, &[][..]), (place, &["-g"][..])])
}

/// An app with default dispositions, which has said so.
const SLEEPER: &str = "echo ready; exec sleep 1000";

#[test]
fn every_signal_from_outside_reaches_the_app() {
    for (place, options) in modes() {
        let script = "block(); say('ready')\nwhile True: say('got', take()[0], '.')";
        let mut memini = Memini::at(place).options(options).start(python(script));
        memini.output.wait_for("ready\n");
        for number in (1..=64).filter(|number| ![libc::SIGKILL, libc::SIGSTOP].contains(number)) {
            memini.signal(number);
            memini.output.wait_for(&format!("got {number} ."));
        }
    }
}

#[test]
fn every_signal_from_inside_reaches_the_app_once() {
    for (place, options) in modes() {
        let script = "
block()
for number in set(range(1, 65)) - UNBLOCKABLE:
    os.kill(os.getppid(), number)
    assert take()[0] == number, number
assert pending() == [], pending()
";
        Memini::at(place).options(options).run(python(script)).expect(0);
    }
}

#[test]
fn faults_that_others_send_are_forwarded_however_they_are_sent() {
    // si_code tells them from faults of memini's own: SI_QUEUE and SI_TKILL, where kill(2) has SI_USER.
    let script = "
block()
memini = os.getppid()
info = (ctypes.c_int * 32)()
for number in (signal.SIGABRT, signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS):
    assert system_call(TGKILL, memini, memini, number) == 0
    assert take()[0] == number, number
    info[0], info[2] = number, -1
    assert system_call(SIGQUEUEINFO, memini, number, info) == 0
    assert take()[0] == number, number
";
    for place in Place::ALL {
        Memini::at(place).run(python(script)).expect(0);
    }
}

#[test]
fn with_group_the_whole_group_hears_it_and_without_only_the_app() {
    let script = "
block()
child = os.fork()
if child == 0:
    time.sleep(1000)
def child_has(number):
    with open(f'/proc/{child}/status') as status:
        masks = [int(line.split()[1], 16) for line in status if line.startswith('ShdPnd')]
    return masks[0] & set_of(number) != 0
os.kill(os.getppid(), signal.SIGUSR1)
assert take()[0] == signal.SIGUSR1
if sys.argv[1] == 'group':
    wait_until(lambda: child_has(signal.SIGUSR1))
else:
    assert not child_has(signal.SIGUSR1)
";
    for place in Place::ALL {
        for (options, who) in [(&["--group"][..], "group"), (&[], "app")] {
            let mut app = python(script);
            app.push(who.to_owned());
            Memini::at(place).options(options).run(app).expect(0);
        }
    }
}

#[test]
fn an_app_that_left_its_group_is_still_reached_in_group_mode() {
    // A session leader cannot be moved, and its group has the same number; a new group of another leader has not.
    let script = "
block()
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    say('ready')
    time.sleep(1000)
wait_until(lambda: os.getpgid(child) == child)
os.setpgid(0, child)
os.kill(os.getppid(), signal.SIGUSR1)
assert take()[0] == signal.SIGUSR1
";
    for place in Place::ALL {
        Memini::at(place).options(["-g"]).run(python(script)).expect(0);
    }
}

#[test]
fn real_time_signals_queue_and_none_is_lost() {
    let script = "
block()
say('ready')
wait_until(lambda: state_of(os.getppid()) == 'T')
for _ in range(1000):
    os.kill(os.getppid(), 40)
say('sent')
for _ in range(1000):
    assert take(set_of(40))
assert 40 not in pending()
";
    for place in Place::ALL {
        let mut memini = Memini::at(place).start(python(script));
        memini.output.wait_for("ready\n");
        memini.signal(STOP);
        memini.output.wait_for("sent\n");
        memini.signal(CONT);
        memini.finish().expect(0);
    }
}

#[test]
fn what_a_write_of_meminis_own_drew_is_not_forwarded() {
    // -vv: each forwarded signal is a line on standard error, which nobody reads, or which no file may take.
    let script = "
block()
if sys.argv[1] == 'pipe':
    sys.stdin.readline()
for _ in range(100):
    os.kill(os.getppid(), signal.SIGUSR1)
    assert take()[0] == signal.SIGUSR1
assert pending() == [], pending()
";
    for place in Place::ALL {
        let file = tempfile::tempfile().unwrap();
        let mut app = python(script);
        app.push("file".into());
        let full = Memini::at(place).options(["-vv"]).launched_by_shell("ulimit -f 0; exec \"$@\"");
        full.with(|command| _ = command.stderr(file)).run(app).expect(0);

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut app = python(&script.replace("if sys.argv[1] == 'pipe':\n    sys.stdin.readline()", ""));
        app.push("pipe".into());
        Memini::at(place).options(["-vv"]).with(|command| _ = command.stderr(writer)).run(app).expect(0);
    }
}

#[test]
fn deaths_of_other_children_are_not_forwarded_as_sigchld() {
    let script = "
block()
for _ in range(100):
    pid = orphan(lambda: None)
    wait_until(lambda: state_of(pid) is None)
    os.kill(os.getppid(), signal.SIGUSR1)
    assert take()[0] == signal.SIGUSR1
assert pending() == [], pending()
";
    for place in Place::ALL {
        Memini::at(place).run(python(script)).expect(0);
    }
}

#[test]
fn a_stop_that_comes_through_memini_lasts_until_it_is_continued() {
    for place in Place::ALL {
        for number in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            let mut memini = Memini::at(place).options(["-v"]).start(shell(SLEEPER));
            memini.output.wait_for("ready\n");
            let pid = memini.pid();
            let app = process::children(pid)[0];
            memini.signal(number);
            memini.log.wait_for("the app is stopped by");
            assert_eq!(process::state(app), Some('T'), "{place:?}, {number}");
            memini.signal(CONT);
            wait_until("the app goes on", || process::state(app) == Some('S'));
            memini.signal(TERM);
            memini.finish().expect(128 + TERM);
        }
    }
}

#[test]
fn a_stopped_app_hears_that_it_shall_end() {
    for (place, options) in modes() {
        for number in [TERM, HUP, INT, QUIT] {
            let app = "ulimit -c 0; echo ready; exec sleep 1000";
            let mut memini = Memini::at(place).options(options).options(["-v"]).start(shell(app));
            memini.output.wait_for("ready\n");
            let app = process::children(memini.pid())[0];
            process::send(app, STOP);
            memini.log.wait_for("the app is stopped by SIGSTOP");
            memini.signal(number);
            memini.finish().expect(128 + number);
        }
    }
}

#[test]
fn a_signal_is_rewritten_as_the_user_says() {
    let cases: [(&[&str], &[i32], i32); 6] = [
        (&["--rewrite", "TERM:KILL"], &[TERM], 137),
        (&["--rewrite", "TERM:QUIT", "--rewrite=QUIT:USR1"], &[TERM], 131),
        (&["--rewrite", "HUP:0"], &[HUP, TERM], 143),
        (&["--rewrite", "HUP:0", "--rewrite", "15:SIGRTMIN+3"], &[HUP, TERM], 128 + 37),
        (&["--rewrite", "RTMIN+6:INT"], &[40], 130),
        (&["-g", "--rewrite", "HUP:0", "--rewrite", "TERM:HUP"], &[HUP, TERM], 129),
    ];
    for place in Place::ALL {
        for (options, numbers, code) in cases {
            let app = "ulimit -c 0; echo ready; exec sleep 1000";
            let mut memini = Memini::at(place).options(options).start(shell(app));
            memini.output.wait_for("ready\n");
            for number in numbers {
                memini.signal(*number);
            }
            memini.finish().expect(code);
        }
    }
}

#[test]
fn rewrites_are_read_from_the_environment_too() {
    let memini = Memini::at(Place::Init).with(|command| _ = command.env("MEMINI_REWRITE", "HUP:0,TERM:INT"));
    let mut memini = memini.start(shell(SLEEPER));
    memini.output.wait_for("ready\n");
    memini.signal(HUP);
    memini.signal(TERM);
    memini.finish().expect(130);
}

#[test]
fn the_parents_death_is_told_to_the_app() {
    // The parent starts memini, waits until that has asked for the signal and the app runs, and is killed.
    let parent = "
memini = os.fork()
if memini == 0:
    os.execv(sys.argv[1], sys.argv[1:])
say('memini', memini)
time.sleep(1000)
";
    let app = "block(); say('ready'); say('got', take()[0])";
    let mut launcher = python(parent);
    let launcher_name = launcher.remove(0);
    let mut command = std::process::Command::new(launcher_name);
    let child = command
        .args(launcher)
        .arg(crate::support::memini::binary())
        .args(["--parent-death-signal", "USR1", "--"])
        .args(python(app))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let output = crate::support::transcript::Transcript::of(child.stdout.take().unwrap());
    let memini: u32 = output.value("memini").parse().unwrap();
    output.wait_for("ready\n");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(output.value("got"), USR1.to_string());
    wait_until("memini's end", || process::state(memini).is_none_or(|state| state == 'Z'));
    output.whole();
}
