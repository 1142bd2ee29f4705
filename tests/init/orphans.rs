//! Orphans are adopted and reaped, however many.

use crate::support::app::python;
use crate::support::memini::{Memini, Place};

const CONT: i32 = 18;
const STOP: i32 = 19;

/// memini is held while ten thousand of its children end, so that all of them are zombies at once and only one SIGCHLD
/// is pending.
const BURST: &str = "
memini = os.getppid()
say('ready')
wait_until(lambda: state_of(memini) == 'T')
pids = [orphan(lambda: None) for _ in range(10000)]
wait_until(lambda: state_of(pids[-1]) == 'Z')
assert sum(state_of(pid) == 'Z' for pid in pids) > 9990
say('burst')
";

#[test]
fn ten_thousand_zombies_at_once_are_all_reaped() {
    let script = "
wait_until(lambda: not any(os.path.exists(f'/proc/{pid}') for pid in pids))
os._exit(5)
";
    for place in Place::ALL {
        let mut memini = Memini::at(place).start(python(&format!("{BURST}{script}")));
        memini.output.wait_for("ready\n");
        memini.signal(STOP);
        memini.output.wait_for("burst\n");
        memini.signal(CONT);
        memini.finish().expect(5);
    }
}

#[test]
fn the_apps_exit_among_ten_thousand_others_is_not_lost() {
    // The app ends while memini is held: its death and all others come as one.
    let mut memini = Memini::at(Place::Init).start(python(&format!("{BURST}os._exit(77)")));
    memini.output.wait_for("ready\n");
    memini.signal(STOP);
    memini.output.wait_for("burst\n");
    let pid = memini.pid();
    crate::support::wait_until("the app's end", || {
        let children = crate::support::process::children(pid);
        children.iter().all(|pid| crate::support::process::state(*pid) == Some('Z'))
    });
    memini.signal(CONT);
    memini.finish().expect(77);
}

#[test]
fn a_grandchild_whose_parent_died_becomes_meminis_child_and_is_reaped() {
    // The daemons' way: fork twice, and the one in the middle exits.
    let script = "
life, told = os.pipe(), os.pipe()
middle = os.fork()
if middle == 0:
    grandchild = os.fork()
    if grandchild == 0:
        os.read(life[0], 1)
        os._exit(0)
    os.write(told[1], str(grandchild).encode())
    os._exit(0)
os.waitpid(middle, 0)
grandchild = int(os.read(told[0], 20))
say('grandchild', grandchild)
with open(f'/proc/{grandchild}/stat', 'rb') as file:
    assert int(file.read().rpartition(b')')[2].split()[1]) == os.getppid()
os.write(life[1], b'x')
wait_until(lambda: state_of(grandchild) is None)
";
    for place in Place::ALL {
        let finished = Memini::at(place).options(["-w"]).run(python(script)).expect(0);
        let grandchild = finished.output.trim().strip_prefix("grandchild ").unwrap();
        assert!(finished.log.contains(&format!("reaped process {grandchild}")), "{finished:?}");
    }
}

#[test]
fn reaping_is_told_only_if_asked_for() {
    let script = "pid = orphan(lambda: None); wait_until(lambda: state_of(pid) is None)";
    for place in Place::ALL {
        let finished = Memini::at(place).run(python(script)).expect(0);
        assert!(!finished.log.contains("reaped"), "{finished:?}");
    }
}
