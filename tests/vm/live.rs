//! Limits that change while the app runs. The kernel tells nobody.

use crate::support::{Group, Memini};

#[test]
fn a_limit_that_is_raised_in_time_saves_the_app() {
    let group = Group::new("raised", 64);
    let mut session = Memini::new(&group).app(&[]).start();
    session.tell("to 55");
    session.sees("capture: memory is at 5");
    group.limit(256);
    session.sees("the limit changed from 64 MiB to 256 MiB");
    session.sees("normal again");
    session.tell("to 90");
    session.finish().assert_code(0).assert_silent("stopping");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn a_limit_that_is_taken_away_and_set_again_is_followed() {
    let group = Group::new("unset", 64);
    let mut session = Memini::new(&group).app(&[]).start();
    session.tell("to 55");
    session.sees("capture: memory is at 5");
    group.set("memory.max", "max");
    session.sees("the limit changed from 64 MiB to none");
    group.limit(60);
    session.sees("the limit changed from none to 60 MiB");
    session.begin("grow 5");
    session.end().assert_code(75);
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn a_limit_that_is_lowered_below_usage_is_the_kernels_and_memini_tells() {
    let group = Group::new("lowered", 128);
    let mut session = Memini::new(&group).app(&[]).start();
    session.tell("to 60");
    group.limit(32);
    let ended = session.end();
    // The kernel kills while the limit is being written, memini as soon as it sees it, or both do. And the kernel goes on
    // until usage is below the limit: while the app is being torn down, memini is what is left to kill.
    if ended.was_killed() {
        assert!(group.oom_kills() > 0, "{}", ended.log);
    } else if ended.log.contains("killing the app") {
        ended.assert_code(75).assert_says("the limit changed from 128 MiB to 32 MiB");
    } else {
        assert!(group.oom_kills() > 0, "{}", ended.log);
        ended.assert_code(137).assert_says("the app was killed by the kernel's OOM killer");
    }
}
