//! The hierarchy as containers see it: namespaces, read-only mounts, other users, other hierarchies beside it.

use crate::support::{Ended, Group, MIB, Memini};

// By their paths: busybox's shell prefers its own of these programs, which have fewer options.

/// Becomes what follows in a cgroup namespace whose root is the own group.
const PRIVATE: &[&str] = &["/programs/unshare", "--cgroup"];

/// The same, with the hierarchy mounted anew, as container engines do.
const REMOUNTED: &[&str] = &[
    "/programs/unshare",
    "--cgroup",
    "sh",
    "-c",
    "umount /sys/fs/cgroup && mount -t cgroup2 -o $OPTIONS none /sys/fs/cgroup && exec \"$@\"",
    "sh",
];

/// A user without any capability, who cannot get one.
const NOBODY: &[&str] = &[
    "/programs/setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
    "--no-new-privs",
];

fn assert_guarded(ended: &Ended, group: &Group, source: &str) {
    assert_eq!(group.oom_kills(), 0, "{}", ended.log);
    ended.assert_code(75).assert_says(&format!(": {source}, limit 64 MiB")).assert_says("sending SIGTERM to the app");
    let incident = ended.incident();
    assert_eq!((&incident.json["outcome"], &incident.json["source"]), (&"stopped".into(), &source.into()));
    assert_eq!(incident.event("stop")["sample"]["limit"], 64 * MIB);
}

#[test]
fn in_a_private_namespace_the_own_group_is_the_root() {
    for options in ["rw", "ro"] {
        let group = Group::new(&format!("private-{options}"), 64);
        let setup = format!("export OPTIONS={options}");
        let ended = Memini::new(&group).setup(&setup).launched_by(REMOUNTED).app(&["hold 36", "grow 10"]).start().end();
        assert_guarded(&ended, &group, "cgroup v2 /sys/fs/cgroup");
    }
}

#[test]
fn a_private_namespace_with_the_hosts_mount_still_finds_the_own_group() {
    let group = Group::new("unmounted", 64);
    let ended = Memini::new(&group).launched_by(PRIVATE).app(&["hold 36", "grow 10"]).start().end();
    assert_guarded(&ended, &group, &format!("cgroup v2 {}", group.path().display()));
}

#[test]
fn a_read_only_hierarchy_is_enough() {
    let group = Group::new("readonly", 64);
    let setup = "mount --bind /sys/fs/cgroup /sys/fs/cgroup && mount -o remount,ro,bind /sys/fs/cgroup";
    let ended = Memini::new(&group).setup(setup).app(&["hold 36", "grow 10"]).start().end();
    assert_guarded(&ended, &group, &format!("cgroup v2 {}", group.path().display()));
}

#[test]
fn a_user_without_capabilities_is_guarded() {
    let group = Group::new("nobody", 64);
    let setup = "export OPTIONS=ro && chown -R 65534:65534 $PLACE";
    let memini = Memini::new(&group).setup(setup).launched_by(REMOUNTED).launched_by(NOBODY);
    let ended = memini.app(&["hold 36", "grow 10"]).start().end();
    assert_guarded(&ended, &group, "cgroup v2 /sys/fs/cgroup");
}

#[test]
fn a_hierarchy_of_v1_beside_it_is_passed_over() {
    let group = Group::new("hybrid", 64);
    let setup = "mkdir $PLACE/v1 && mount -t cgroup -o none,name=other none $PLACE/v1";
    let ended = Memini::new(&group).setup(setup).app(&["hold 36", "grow 10"]).start().end();
    assert_guarded(&ended, &group, &format!("cgroup v2 {}", group.path().display()));
}
