//! Real swap: it counts where it can be used, on both sides.

use crate::support::{Group, MIB, Memini};

#[test]
fn limited_swap_adds_to_usage_and_to_the_limit() {
    let group = Group::new("swap", 64);
    group.set("memory.swap.max", &(64 * MIB).to_string());
    let ended = Memini::new(&group).app(&["hold 48", "grow 10"]).start().end();
    assert_eq!(group.oom_kills(), 0, "{}", ended.log);
    ended.assert_code(75).assert_says(" of 128 MiB (9");
    let incident = ended.incident();
    // A disk that is slow to take what is swapped makes growth come in leaps: the stop may be left out.
    let decision = if incident.events().contains(&"stopping".to_owned()) { "stopping" } else { "killing" };
    let sample = &incident.event(decision)["sample"];
    let [gauged, limit] = [&sample["gauged"], &sample["limit"]].map(|number| number.as_u64().unwrap());
    assert!(limit == 128 * MIB && gauged * 100 >= limit * 92, "{sample}");
}

#[test]
fn memory_beyond_the_limit_is_no_reason_to_stop_while_swap_is_left() {
    let group = Group::new("roomy", 64);
    group.set("memory.swap.max", "max");
    let mut session = Memini::new(&group).app(&[]).start();
    session.tell("grow 60 88");
    assert!(group.number("memory.swap.current") > 16 * MIB, "{}", group.number("memory.swap.current"));
    session.finish().assert_code(0).assert_silent("stopping").assert_silent("capture:");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn swap_that_may_not_be_used_does_not_count() {
    let group = Group::new("swapless", 64);
    assert_eq!(group.number("memory.swap.max"), 0);
    let ended = Memini::new(&group).app(&["hold 36", "grow 10"]).start().end();
    ended.assert_code(75).assert_says(" of 64 MiB (9");
    assert_eq!((group.oom_kills(), group.number("memory.swap.current")), (0, 0));
}

#[test]
fn swap_that_is_taken_away_is_room_no_more() {
    let group = Group::new("taken", 64);
    group.set("memory.swap.max", &(256 * MIB).to_string());
    let mut session = Memini::new(&group).app(&[]).start();
    session.tell("grow 60 72");
    // The app lets go of what is in memory; what was swapped out stays there.
    session.tell("to 44");
    group.set("memory.swap.max", "0");
    // From here on nothing is added to it.
    let swapped = group.number("memory.swap.current");
    assert!(swapped > 4 * MIB, "{swapped}");
    session.begin("grow 5");
    let ended = session.end();
    assert_eq!(group.oom_kills(), 0, "{}", ended.log);
    ended.assert_code(75);
    let limit = ended.incident().event("stop")["sample"]["limit"].as_u64().unwrap();
    assert!(limit >= 64 * MIB && limit <= 64 * MIB + swapped, "what is in swap already still counts: {limit}");
}
