//! Apps that look busy and are well: nothing is done to them.

use std::fs::File;

use crate::support::{Group, Incident, MIB, Memini};

#[test]
fn page_cache_is_no_reason_for_anything() {
    let group = Group::new("cache", 64);
    let memini = Memini::new(&group);
    for (name, mib) in [("large", 256), ("hot", 40)] {
        // A file of holes fills the cache like any other one.
        File::create(memini.place().join(name)).unwrap().set_len(mib * MIB).unwrap();
    }
    let mut session = memini.app(&[]).start();
    for name in ["large", "large", "hot", "hot", "hot"] {
        session.tell(&format!("read $PLACE/{name}"));
    }
    let highest = group.peak().unwrap_or(group.usage());
    assert!(highest > 60 * MIB, "the cache was not filled: {highest}");
    let ended = session.finish();
    ended.assert_code(0).assert_silent("trace:").assert_silent("exit code");
    assert_eq!(Incident::all(&ended.dir()).len(), 0);
}

#[test]
fn pages_that_the_disk_has_not_taken_yet_stop_nobody() {
    // PostgreSQL was stopped because too little room was left to shut down in: 17 MiB of what it had just written counted.
    let group = Group::new("dirty", 96);
    let mut session = Memini::new(&group).app(&[]).start();
    session.tell("to 79");
    for _ in 0..3 {
        session.tell("write $PLACE/large 96");
    }
    session.finish().assert_code(0).assert_silent("stopping").assert_silent("killing");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn a_plateau_below_the_stop_threshold_is_captured_and_left_alone() {
    let group = Group::new("plateau", 64);
    let mut session = Memini::new(&group).options(&["--cooldown", "0s"]).hook("capture=true").app(&[]).start();
    session.tell("to 54");
    session.sees(" ended after ");
    for _ in 0..20 {
        session.tell("to 53.5");
        session.tell("to 54");
    }
    let ended = session.finish();
    ended.assert_code(0).assert_silent("stopping");
    let incident = ended.incident();
    // On the way up there is something new to see now and then, on the plateau there is not.
    assert!((1..=5).contains(&incident.hooks().len()), "{}", ended.log);
    assert_eq!(incident.json["outcome"], "exited");
}

#[test]
fn a_high_plateau_is_not_stopped_by_its_level() {
    let group = Group::new("high", 512);
    let mut session = Memini::new(&group).app(&[]).start();
    // The last part slowly: whoever runs towards the limit is stopped for that, and rightly so.
    session.tell("to 469");
    session.tell("grow 1 12");
    session.tell("to 480.5");
    session.sees("above the stop threshold, but it is not urgent");
    for _ in 0..20 {
        session.tell("to 480");
        session.tell("to 480.5");
    }
    let ended = session.finish();
    ended.assert_code(0).assert_silent("stopping");
    let events = ended.incident().events();
    assert!(events.contains(&"stop-not-needed".to_owned()) && !events.contains(&"stopping".to_owned()), "{events:?}");
}

#[test]
fn who_wants_the_plain_threshold_gets_it() {
    let group = Group::new("level", 512);
    let ended = Memini::new(&group).options(&["--stop-when", "level"]).app(&["to 478", "pause"]).start().end();
    ended.assert_code(75).assert_says("stopping the app, it is above the stop threshold");
    assert_eq!(ended.incident().event("stopping")["reason"], "level");
}

#[test]
fn growth_that_ends_below_the_stop_threshold_stops_nothing() {
    let group = Group::new("step", 64);
    let mut session = Memini::new(&group).app(&[]).start();
    for _ in 0..5 {
        session.tell("to 55");
        session.tell("to 20");
    }
    session.finish().assert_code(0).assert_silent("stopping").assert_silent("killing");
}
