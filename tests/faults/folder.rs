//! --dir: full, taken away, replaced, read-only. The app is stopped in time all the same.

use std::fs;

use crate::support::{Ended, Group, Session};
use crate::{memini, run_beside};

/// An app at the trace stage, whose incident is on disk.
fn in_an_incident(group: &Group, setup: &str) -> Session {
    let memini = memini(group).hook("capture=sh -c 'echo evidence'").setup(setup);
    let mut session = memini.app(&[]).start();
    session.tell("to 35");
    session.sees("trace: ");
    session
}

/// The app goes on growing, and is stopped.
fn is_stopped(mut session: Session, group: &Group) -> Ended {
    session.tell("to 41");
    session.sees("hook 1 ");
    session.begin("to 48");
    let ended = session.end();
    ended.assert_code(75).assert_says("sending SIGTERM to the app").assert_silent("internal error");
    assert_eq!(group.oom_kills(), 0);
    ended
}

#[test]
fn a_disk_without_a_byte_left_keeps_nobody_from_leaving() {
    let group = Group::new("folder-full", 64);
    // Not charged to the group: the disk is made outside of it and filled before memini starts.
    let setup = "echo 0 > $GROUP/../cgroup.procs && mkdir $PLACE/memini && \
                 mount -t tmpfs -o size=64k,nr_inodes=8 none $PLACE/memini && \
                 { cat /dev/zero > $PLACE/memini/ballast 2>/dev/null; echo 0 > $GROUP/cgroup.procs; }";
    let session = in_an_incident(&group, setup);
    session.sees("No space left on device (os error 28)");
    is_stopped(session, &group).assert_says("No space left on device (os error 28)");
}

#[test]
fn a_folder_that_is_taken_away_replaced_or_made_read_only_keeps_nobody_from_leaving() {
    for (name, fault, said) in [
        ("removed", "while ! rm -rf $DIR; do :; done", "exit code 75; the evidence is in "),
        ("file", "while ! rm -rf $DIR; do :; done; touch $DIR", "(os error 20)"),
        ("link", "while ! rm -rf $DIR; do :; done; ln -s /tmp $DIR", "it is a symbolic link"),
        ("foreign", "chown -R 12345 $DIR", "it belongs to user 12345"),
        ("read-only", "mount --bind $DIR $DIR && mount -o remount,ro,bind $DIR", "Read-only file system (os error 30)"),
        ("covered", "mount -t tmpfs -o size=4k,nr_inodes=1 none $DIR", "No space left on device (os error 28)"),
    ] {
        let group = Group::new(&format!("folder-{name}"), 64);
        let session = in_an_incident(&group, ":");
        session.recorded(1, "open");
        let fault = fault.replace("$DIR", session.dir().to_str().unwrap());
        run_beside(session.id(), &fault);
        let ended = is_stopped(session, &group);
        ended.assert_says(said);
        if name == "removed" {
            assert_eq!(ended.incident().json["outcome"], "stopped");
        }
        if name == "link" {
            assert!(!fs::exists("/tmp/incidents").unwrap(), "a link was followed");
        }
    }
}

#[test]
fn the_program_may_be_removed_while_it_runs() {
    let group = Group::new("program", 64);
    // A copy stands for it: `$1` is the binary that the starter would run.
    let setup = "cp \"$1\" $PLACE/program && shift && set -- $PLACE/program \"$@\"";
    let session = in_an_incident(&group, setup);
    fs::remove_file(session.place().join("program")).unwrap();
    is_stopped(session, &group).assert_says("hook 1 | evidence");
}
