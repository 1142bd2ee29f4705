//! Clocks. What memini decides rests on CLOCK_MONOTONIC alone; the time of day only names and dates things.

use crate::memini;
use crate::support::Group;

/// The kernel gives a time namespace its offsets before the first process is in it, and they never change: a clock that
/// jumps at run time is none that anybody could have. A machine may have been up for any time, though.
#[test]
fn a_machine_that_has_just_booted_or_runs_for_a_century_is_like_any_other() {
    let up: f64 = std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    for (name, offset) in [("booted", -(up.floor() as i64)), ("century", 100 * 365 * 86_400)] {
        let group = Group::new(&format!("clock-{name}"), 64);
        let setup = format!(
            "exec unshare --time --fork --kill-child --monotonic {offset} --boottime {offset} \
             unshare --pid --fork --kill-child --mount-proc -- \"$@\""
        );
        let memini = memini(&group).not_as_init().setup(&setup).hook("capture=sh -c 'echo evidence'");
        let ended =
            memini.options(&["--grace", "300ms"]).app(&["ignore SIGTERM", "to 41", "to 48", "pause"]).start().end();
        ended.assert_code(75).assert_says("the app did not leave within 300 ms: killing it");
        let incident = ended.incident();
        assert_eq!(
            (&incident.json["outcome"], &incident.output()[..]),
            (&"killed".into(), &b"evidence\n"[..]),
            "{name}"
        );
        let last = incident.json["timeline"].as_array().unwrap().last().unwrap();
        assert!(last["seconds"].as_f64().is_some_and(|seconds| seconds < 90.0), "{last}");
        assert_eq!(group.oom_kills(), 0, "{name}");
    }
}
