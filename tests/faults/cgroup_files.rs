//! The kernel's files: unreadable, nonsense, gone, replaced.

use std::fs;
use std::path::PathBuf;

use crate::support::{Ended, Group, Memini, records};
use crate::{FILLER, USAGE, memini, run_beside};

/// An app that ends by itself: memini has to pass its exit code on, whatever it could read.
fn passes_on(memini: Memini) -> Ended {
    let mut session = memini.app(&[]).start();
    session.tell("hold 10");
    session.begin("exit 7");
    let ended = session.end();
    ended.assert_code(7).assert_silent("internal error");
    ended
}

/// A group of this name below another one.
fn below(group: &Group, name: &str) -> PathBuf {
    let path = group.path().join(name);
    fs::create_dir(&path).expect("a group below");
    path
}

#[test]
fn a_file_that_cannot_be_read_or_holds_nonsense_costs_a_line_and_the_tree_is_watched() {
    for (name, fault, said) in [
        (
            "directory",
            // A folder cannot be mounted over a file: it stands among files that are mounted where they have always been.
            "mkdir $PLACE/real && mount --bind $GROUP $PLACE/real && mount -t tmpfs none $GROUP && mkdir $GROUP/FILE && \
             for f in memory.limit_in_bytes memory.stat cgroup.procs; do \
             touch $GROUP/$f && mount --bind $PLACE/real/$f $GROUP/$f; done",
            "Is a directory (os error 21)",
        ),
        ("overmounted", "mount -t tmpfs none $GROUP", "no memory.usage_in_bytes in "),
        ("empty", "touch $PLACE/bad && mount --bind $PLACE/bad $GROUP/FILE", "nothing there"),
        ("garbage", "echo lots > $PLACE/bad && mount --bind $PLACE/bad $GROUP/FILE", "\"lots\" is not a number"),
        ("negative", "echo -5 > $PLACE/bad && mount --bind $PLACE/bad $GROUP/FILE", "\"-5\" is below zero"),
        ("fails", "mount --bind /proc/self/mem $GROUP/FILE", "(os error 3); memory is watched"),
    ] {
        let group = Group::new(&format!("bad-{name}"), 256);
        let memini = memini(&group).setup(&fault.replace("FILE", USAGE)).options(&["--limit", "256MiB"]);
        let ended = passes_on(memini);
        ended.assert_says(said).assert_says("memory is watched by what is there: process tree");
    }
}

#[test]
fn a_user_without_permission_watches_the_tree_and_is_stopped_in_time() {
    // Root may read everything: a file of root's own stands before the kernel's, and memini runs as somebody else.
    let group = Group::new("forbidden", 256);
    let setup = format!(
        "chmod 755 $PLACE && mkdir -m 777 $PLACE/memini && touch $PLACE/bad && chmod 0 $PLACE/bad && \
         mount --bind $PLACE/bad $GROUP/{USAGE} && \
         exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all \"$@\""
    );
    let mut session = memini(&group).setup(&setup).options(&["--limit", "64MiB"]).command(&FILLER).start();
    let said = format!("{USAGE}: Permission denied (os error 13); memory is watched by what is there: process tree");
    session.sees(&said);
    session.begin("go");
    session.end().assert_code(75).assert_says("exit code 75");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn a_group_that_is_removed_at_run_time_costs_a_line_and_is_watched_again_when_it_is_back() {
    let group = Group::unlimited("removed");
    let own = below(&group, "own");
    let refuge = below(&group, "refuge");
    fs::write(own.join("memory.limit_in_bytes"), (64 << 20).to_string()).unwrap();
    let setup = "echo 0 > $GROUP/own/cgroup.procs";
    let mut session = memini(&group).setup(setup).app(&[]).start();
    session.sees("limit 64 MiB");
    session.tell("hold 10");
    // Everybody moves out, and the kernel lets the group go.
    let members = fs::read_to_string(own.join("cgroup.procs")).unwrap();
    for member in members.lines() {
        fs::write(refuge.join("cgroup.procs"), member).unwrap();
    }
    crate::wait_until("the group to be empty", || fs::remove_dir(&own).is_ok());
    session.sees("nothing is decided until it can be read again");
    session.tell("hold 10");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("memory.limit_in_bytes"), (64 << 20).to_string()).unwrap();
    session.sees("memory can be read again, after ");
    session.begin("exit 7");
    let ended = session.end();
    ended.assert_code(7);
    let told = ended.log.matches("nothing is decided until it can be read again").count();
    assert_eq!(told, 1, "once, and not at each look:\n{}", ended.log);
    for folder in [own, refuge] {
        crate::wait_until("the group to be empty", || fs::remove_dir(&folder).is_ok());
    }
}

#[test]
fn who_is_moved_to_another_group_lives_on() {
    let group = Group::new("moved", 64);
    let refuge = Group::new("moved-to", 64);
    let mut session = memini(&group).app(&[]).start();
    session.tell("to 10");
    // Its worker would be a member that may be gone in the next moment.
    records(&session.dir().join("recorder"));
    for member in group.members() {
        refuge.set("cgroup.procs", &member.to_string());
    }
    session.tell("hold 30");
    session.begin("exit 7");
    session.end().assert_code(7).assert_silent("internal error");
}

#[test]
fn files_that_vanish_or_are_replaced_behind_open_descriptors_change_nothing() {
    for (name, fault) in [
        ("unmounted", "umount --lazy $(findmnt -nro TARGET -T $GROUP)"),
        ("covered", "mount -t tmpfs none $GROUP"),
        (
            "replaced",
            "echo 5 > $PLACE/bad; for f in memory.usage_in_bytes memory.limit_in_bytes memory.stat; do \
                      mount --bind $PLACE/bad $GROUP/$f; done",
        ),
    ] {
        let group = Group::new(&format!("behind-{name}"), 64);
        let mut session = memini(&group).hook("capture=echo ran").app(&[]).start();
        session.tell("to 20");
        let fault = fault.replace("$GROUP", group.path().to_str().unwrap());
        let fault = fault.replace("$PLACE", session.place().to_str().unwrap());
        run_beside(session.id(), &fault);
        // The app reads these files, too, but it need not.
        session.begin("hold 41.5");
        session.end().assert_code(75).assert_silent("nothing is decided");
        assert_eq!(group.oom_kills(), 0, "{name}");
    }
}

#[test]
fn without_proc_no_worker_starts_and_the_app_is_stopped_all_the_same() {
    let group = Group::new("no-proc", 64);
    let mut session = memini(&group).hook("capture=echo ran").app(&[]).start();
    session.tell("to 20");
    run_beside(session.id(), "mount -t tmpfs none /proc");
    session.tell("to 41");
    session.sees("cannot run /proc/self/exe: No such file or directory (os error 2); there is no worker for a hook");
    session.begin("to 48");
    session.end().assert_code(75).assert_says("sending SIGTERM to the app");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn a_limit_that_is_lowered_below_what_is_in_use_stops_the_app_at_once() {
    let group = Group::new("lowered", 256);
    let mut session = memini(&group).app(&[]).start();
    session.tell("to 60");
    // The kernel of v1 refuses a limit below what it cannot free, so this is as low as it can be.
    let mib = (62..).find(|mib| fs::write(group.path().join("memory.limit_in_bytes"), (mib << 20).to_string()).is_ok());
    let ended = session.end();
    ended.assert_code(75).assert_says(&format!("the limit changed from 256 MiB to {} MiB", mib.unwrap()));
    assert_eq!(group.oom_kills(), 0);
    // v2 takes it and kills: there is nothing that anybody could do. A soft limit is as low as its user wants.
    let group = Group::new("lowered-soft", 256);
    let session = memini(&group).options(&["--limit", "4MiB"]).app(&["hold 20", "pause"]).start();
    let ended = session.end();
    ended.assert_code(75).assert_says("limit 4 MiB");
}
