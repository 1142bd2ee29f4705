//! The time of day, which somebody else may set: it names and dates things, and decides nothing.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{Group, Memini};

/// Moves the machine's clock by so many days, and back in the end.
struct Clock(i64);

impl Clock {
    fn jump(&mut self, days: i64) {
        self.0 += days;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed();
        let time = format!("@{}", now + days * 86_400);
        let set = Command::new("date").args(["-s", &time]).output().expect("date");
        assert!(set.status.success(), "{set:?}");
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let back = -self.0;
        self.jump(back);
    }
}

#[test]
fn a_clock_that_is_set_back_and_forth_changes_nothing_but_dates() {
    let mut clock = Clock(0);
    let group = Group::new("clock", 64);
    let options = ["--grace", "300ms"];
    let mut session =
        Memini::new(&group).options(&options).hook("capture=echo evidence").app(&["ignore SIGTERM"]).start();
    session.tell("to 42");
    session.sees("trace: memory is at ");
    clock.jump(-400);
    session.tell("to 54");
    session.sees(": exit code ");
    clock.jump(800);
    session.begin("grow 20");
    let ended = session.end();
    ended.assert_code(75).assert_silent("internal error");
    let incident = ended.incident();
    let timeline = incident.json["timeline"].as_array().expect("a list");
    let seconds: Vec<_> = timeline.iter().map(|entry| entry["seconds"].as_f64().expect("a number")).collect();
    assert!(seconds.is_sorted() && seconds.iter().all(|seconds| *seconds < 3600.0), "{seconds:?}");
    assert_eq!((incident.json["outcome"].as_str(), group.oom_kills()), (Some("killed"), 0), "{}", ended.log);
    assert_eq!(incident.output(), b"evidence\n");
}
