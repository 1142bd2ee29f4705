//! What is read: the group, its limit while it changes, the process tree, other gauges.

use std::fs::{self, File};
use std::path::Path;

use crate::support::{ABOVE_STOP, Group, Incident, MIB, Memini, neighbour, records, wait_until};

#[test]
fn memory_in_tmpfs_counts() {
    let group = Group::new("tmpfs", 64);
    // What looks at the processes takes some memory as well: not so much that the app is stopped.
    let memini = Memini::new(&group).options(&["--stop-at", "off", "--kill-at", "off"]);
    let mut session = memini.setup("mkdir $PLACE/shm && mount -t tmpfs none $PLACE/shm").app(&[]).start();
    session.tell("write $PLACE/shm/file 48");
    session.sees("capture: memory is at 5");
    session.tell("remove $PLACE/shm/file");
    session.sees("normal again");
    let ended = session.finish();
    ended.assert_code(0);
    let incident = ended.incident();
    let shmem = incident.event("capture")["sample"]["composition"]["shmem"].as_u64().unwrap();
    assert!(shmem >= 40 * MIB, "{shmem}");
}

#[test]
fn a_limit_that_changes_is_noted_and_decided_on() {
    let group = Group::new("live", 128);
    let mut session = Memini::new(&group).app(&[]).start();
    session.tell("to 70");
    group.limit(100);
    session.sees("the limit changed from 128 MiB to 100 MiB");
    session.sees(" of 100 MiB (");
    group.limit(200);
    session.sees("the limit changed from 100 MiB to 200 MiB");
    session.sees("trace is over, normal again: memory is at ");
    group.limit(75);
    let ended = session.end();
    ended.assert_code(75).assert_says("the limit changed from 200 MiB to 75 MiB");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn a_soft_limit_below_the_kernels_counts() {
    let group = Group::new("soft", 256);
    let ended =
        Memini::new(&group).options(&["--limit", "64MiB"]).app(&["recorded", ABOVE_STOP, "pause"]).start().end();
    ended.assert_code(75).assert_says("limit 64 MiB").assert_says(" of 64 MiB (");
    assert_eq!(group.failures(), 0, "the kernel's own limit was far away");
}

#[test]
fn a_soft_limit_above_the_kernels_does_not() {
    let group = Group::new("soft-high", 64);
    let ended =
        Memini::new(&group).options(&["--limit", "256MiB"]).app(&["recorded", ABOVE_STOP, "pause"]).start().end();
    ended.assert_code(75).assert_says("limit 64 MiB").assert_says(" of 64 MiB (9");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn in_a_shared_group_without_a_limit_the_process_tree_counts() {
    let group = Group::unlimited("shared");
    let neighbour = neighbour(&group, &["hold 100", "say ready", "pause"]);
    neighbour.hears("ready");
    for as_init in [true, false] {
        let memini = Memini::new(&group).options(&["--limit", "64MiB"]).app(&["hold 20"]);
        let mut session = if as_init { memini } else { memini.not_as_init() }.start();
        session.sees("process tree");
        session.tell("hold 12");
        session.sees("trace: memory is at ");
        session.begin("hold 24");
        let ended = session.end();
        ended.assert_code(75);
        assert_eq!(ended.incident().json["source"], "process tree");
    }
}

#[test]
fn without_any_limit_the_machine_is_what_limits() {
    let group = Group::unlimited("none");
    let mut session = Memini::new(&group).app(&[]).start();
    session.tell("hold 50");
    session.finish().assert_code(0).assert_says("no limit, the machine has ").assert_silent("trace:");
}

#[test]
fn where_no_cgroup_is_visible_the_process_tree_is_read() {
    for as_init in [true, false] {
        let group = Group::unlimited(&format!("hidden-{as_init}"));
        let memini = Memini::new(&group)
            .options(&["--limit", "64MiB"])
            .setup("mount -t tmpfs none /sys/fs/cgroup")
            .app(&["hold 56", "pause"]);
        let ended = if as_init { memini } else { memini.not_as_init() }.start().end();
        ended.assert_code(75).assert_says("process tree");
        let warnings: Vec<_> = ended.log.lines().filter(|line| line.contains("cgroup")).collect();
        let [warning] = warnings.as_slice() else { panic!("{}", ended.log) };
        assert!(warning.ends_with("; memory is watched by what is there: process tree"), "{warning}");
    }
}

#[test]
fn each_gauge_counts_what_it_says() {
    // A multi-generational LRU (on by default from Debian 14 on) leaves pages that are only read again inactive.
    let active = !std::fs::read_to_string("/sys/kernel/mm/lru_gen/enabled").is_ok_and(|bits| bits.trim() != "0x0000");
    for (gauge, once, again) in [("unreclaimable", false, false), ("working-set", false, active), ("usage", true, true)]
    {
        for (times, rises) in [(1, once), (3, again)] {
            let group = Group::new(&format!("{gauge}-{times}"), 64);
            let memini = Memini::new(&group).options(&["--gauge", gauge, "--stop-at", "off", "--kill-at", "off"]);
            File::create(memini.place().join("file")).unwrap().set_len(40 * MIB).unwrap();
            let mut session = memini.app(&[]).start();
            for _ in 0..times {
                session.tell("read $PLACE/file");
            }
            if rises {
                session.sees("trace: memory is at ");
            }
            let ended = session.finish();
            ended.assert_code(0);
            assert_eq!(Incident::all(&ended.dir()).len(), usize::from(rises), "{gauge}, {times} times: {}", ended.log);
        }
    }
}

/// Size and resident size, in kB, of what memini has mapped of a file and cannot write to, or of what it can write to.
fn mapped(id: i32, path: &Path, writable: bool) -> (u64, u64) {
    let maps = fs::read_to_string(format!("/proc/{id}/smaps")).unwrap();
    let (mut size, mut resident, mut is_meant) = (0, 0, false);
    for line in maps.lines() {
        let number = || line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
        if line.starts_with("Size:") && is_meant {
            size += number();
        } else if line.starts_with("Rss:") && is_meant {
            resident += number();
        } else if line.split_whitespace().next().is_some_and(|word| word.contains('-')) {
            is_meant = line.ends_with(path.to_str().unwrap()) && line.contains(" rw") == writable;
        }
    }
    (size, resident)
}

// With each recipe and command that was added, more of the program stayed in the memory of every container: 2.1 MB at last. And
// Linux 6.18 maps all of a large folio of the page cache when a page of it is written to: the whole recorder.
#[test]
fn of_the_program_and_of_the_recorder_only_what_is_in_use_stays_in_memory() {
    let group = Group::new("program", 64);
    let session = Memini::new(&group).app(&[]).start();
    let recorder = session.dir().join("recorder");
    records(&recorder);
    let program = fs::read_link(format!("/proc/{}/exe", session.id())).unwrap();
    wait_until("most of the program to be let go", || {
        let (size, resident) = mapped(session.id(), &program, false);
        assert!(size > 1000, "{size} kB");
        resident < size / 2
    });
    let (size, resident) = mapped(session.id(), &recorder, true);
    assert_eq!(size, 512);
    assert!(resident <= 128, "{resident} kB");
    session.finish().assert_code(0);
}
