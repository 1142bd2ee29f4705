//! Page cache on a real file system, and memory in tmpfs.

use crate::support::{Group, MIB, Memini};

#[test]
fn a_storm_of_page_cache_is_no_reason_for_anything() {
    let group = Group::new("storm", 64);
    let mut session = Memini::new(&group).hook("capture=true").app(&[]).start();
    session.tell("hold 12");
    session.tell("write $PLACE/large 112");
    for name in ["large", "large"] {
        session.tell(&format!("read $PLACE/{name}"));
    }
    session.tell("write $PLACE/large 70");
    session.tell("write $PLACE/hot 36");
    for _ in 0..3 {
        session.tell("read $PLACE/hot");
    }
    assert!(group.usage() > 56 * MIB, "the cache is full: {}", group.usage());
    assert!(group.failures() > 0, "the kernel had to reclaim");
    let ended = session.finish();
    ended.assert_code(0).assert_silent("trace:").assert_silent("capture:").assert_silent("stop:");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn growth_in_shared_memory_is_stopped_like_any_other() {
    let group = Group::new("shm", 64);
    let setup = "mkdir $PLACE/shm && mount -t tmpfs none $PLACE/shm";
    let ended = Memini::new(&group).setup(setup).app(&["hold 4", "fill $PLACE/shm/file 20"]).start().end();
    assert_eq!(group.oom_kills(), 0, "{}", ended.log);
    ended.assert_code(75).assert_says("sending SIGTERM to the app");
    let incident = ended.incident();
    let composition = &incident.event("stop")["sample"]["composition"];
    assert!(composition["shmem"].as_u64().unwrap() > 36 * MIB, "{composition}");
    assert_eq!(incident.json["outcome"], "stopped");
}
