//! Open files are the app's.

use crate::support::app::{python, shell};
use crate::support::memini::{Memini, Place};
use crate::support::transcript::Transcript;
use crate::support::{process, wait_until};

#[test]
fn descriptors_above_2_are_inherited_by_the_app_and_closed_by_memini() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "content").unwrap();
    let launcher = format!("exec 3<'{0}' 9<'{0}'; exec \"$@\"", file.display());
    for place in Place::ALL {
        let app = shell("echo 3 $(cat <&3); echo 9 $(cat <&9); exec sleep 1000");
        let mut memini = Memini::at(place).launched_by_shell(&launcher).start(app);
        // One open file, two descriptors of it would share their place in it; these are two.
        assert_eq!((memini.output.value("3"), memini.output.value("9")), ("content".into(), "content".into()));
        let pid = memini.pid();
        wait_until("memini closes its copies", || {
            (0..64).all(|number| process::link(pid, &format!("fd/{number}")).is_none_or(|path| path != file))
        });
        memini.signal(libc::SIGTERM);
        memini.finish().expect(143);
    }
}

#[test]
fn a_pipe_ends_when_the_app_closes_it_though_memini_was_given_it() {
    // Not in a PID namespace: there the program that waits outside holds the pipe as well.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut memini = Memini::at(Place::Child)
        .launched_by_shell("exec 5<&0 </dev/null; exec \"$@\"")
        .with(|command| _ = command.stdin(writer))
        .start(shell("exec 5<&-; echo closed; exec sleep 1000"));
    memini.output.wait_for("closed\n");
    assert_eq!(Transcript::of(reader).whole(), "");
    memini.signal(libc::SIGTERM);
    memini.finish().expect(143);
}

#[test]
fn the_app_has_no_descriptor_that_it_was_not_given() {
    let list = "say(*sorted(int(name) for name in os.listdir('/proc/self/fd')))";
    for place in Place::ALL {
        let bare = Memini::at(place).run_bare(python(list)).expect(0);
        let under = Memini::at(place).run(python(list)).expect(0);
        assert_eq!(under.output, bare.output);
    }
}

#[test]
fn standard_descriptors_that_were_closed_stay_closed() {
    // Python and others open something of their own first, and that gets the lowest free number.
    let app = "code=100
for number in 0 1 2; do test -e /proc/$$/fd/$number && code=$((code + (1 << number))); done
exit $code";
    let cases = [("<&-", 6), (">&-", 5), ("2>&-", 3), ("<&- >&-", 4), ("<&- >&- 2>&-", 0), ("", 7)];
    for place in Place::ALL {
        for (closed, open) in cases {
            let launcher = format!("exec \"$@\" {closed}");
            Memini::at(place).launched_by_shell(&launcher).run(shell(app)).expect(100 + open);
        }
    }
}
