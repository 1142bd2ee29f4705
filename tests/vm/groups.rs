//! Nested groups: limits of ancestors, and siblings that use them up.

use crate::support::{Group, MIB, Memini, neighbour};

#[test]
fn a_limit_of_the_parents_alone_counts() {
    let parent = Group::new("parent", 64);
    let group = parent.below("own");
    let ended = Memini::new(&group).app(&["hold 36", "grow 10"]).start().end();
    assert_eq!(parent.oom_kills(), 0, "{}", ended.log);
    ended.assert_code(75).assert_says("limit 64 MiB").assert_says(" of 64 MiB (9");
    assert_eq!(ended.incident().event("stop")["sample"]["limit"], 64 * MIB);
}

#[test]
fn of_nested_limits_the_one_with_the_least_room_counts() {
    let top = Group::new("top", 64);
    let middle = top.below("middle");
    middle.limit(200);
    let group = middle.below("own");
    group.limit(100);
    let mut session = Memini::new(&group).app(&[]).start();
    session.sees("limit 64 MiB");
    session.tell("to 54");
    session.sees("capture: memory is at 5");
    // Now it is another one.
    top.limit(300);
    session.sees("normal again");
    middle.limit(62);
    session.sees(" of 62 MiB (");
    session.begin("grow 5");
    let ended = session.end();
    assert_eq!((top.oom_kills(), middle.oom_kills()), (0, 0), "{}", ended.log);
    ended.assert_code(75);
}

#[test]
fn a_new_limit_of_the_parents_is_seen() {
    let parent = Group::unlimited("late");
    let group = parent.below("own");
    let mut session = Memini::new(&group).app(&[]).start();
    session.tell("to 50");
    parent.limit(64);
    session.sees(" of 64 MiB (");
    session.begin("grow 5");
    session.end().assert_code(75);
    assert_eq!(parent.oom_kills(), 0);
}

#[test]
fn a_sibling_that_fills_the_parent_is_seen_in_time() {
    let parent = Group::new("pod", 96);
    let (group, other) = (parent.below("own"), parent.below("other"));
    let mut session = Memini::new(&group).app(&[]).start();
    session.tell("to 24");
    let sibling = neighbour(&other, &["hold 10", "say ready", "grow 10"]);
    sibling.hears("ready");
    let ended = session.end();
    assert_eq!(parent.oom_kills(), 0, "{}", ended.log);
    ended.assert_code(75);
    let incident = ended.incident();
    let sample = &incident.event("stop")["sample"];
    assert_eq!(sample["limit"], 96 * MIB);
    // Whose memory it is stands there, too: the level that counts is the parent's.
    assert!(sample["composition"]["anon"].as_u64().unwrap() > 60 * MIB, "{sample}");
}

#[test]
fn a_group_without_the_controller_is_charged_to_the_one_above() {
    let parent = Group::new("charged", 64);
    let group = parent.below_without_controller("own");
    let ended = Memini::new(&group).app(&["hold 36", "grow 10"]).start().end();
    assert_eq!(parent.oom_kills(), 0, "{}", ended.log);
    ended.assert_code(75).assert_says(&format!("cgroup v2 {}, limit 64 MiB", parent.path().display()));
}
