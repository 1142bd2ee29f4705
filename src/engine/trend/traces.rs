//! The memory of real apps, recorded for two minutes each (`bench/verdict --record`) and played more slowly: what a sample stands
//! for is hours later in the trend's time.

use std::time::Duration;

use super::{Bounds, Trend, UNIT, Verdict};
use crate::engine::time::Moment;

macro_rules! traces {
    ($($name:literal),*) => { [$(($name, include_str!(concat!("traces/", $name, ".txt")))),*] };
}

/// What was said while each sample stood for so many seconds.
fn verdicts(trace: &str, seconds: u64) -> Vec<Verdict> {
    let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() << 10;
    let limit = trace.lines().find(|line| line.starts_with("# limit")).map(number).unwrap();
    let mut trend = Trend::new(UNIT);
    let samples = trace.lines().filter(|line| !line.starts_with('#')).map(number);
    let said = samples.enumerate().filter_map(|(sample, gauged)| {
        let now = Moment::default().after(Duration::from_secs(sample as u64 * seconds));
        trend.add(now, gauged, Some(Bounds { limit, room: limit.saturating_sub(gauged) }))
    });
    said.map(|said| said.verdict).collect()
}

#[test]
fn no_healthy_app_leaks_however_slowly_it_is_played() {
    for (name, trace) in traces!["healthy-jvm", "healthy-node", "healthy-batches", "healthy-pool"] {
        // From 20 minutes to eight days.
        for seconds in [1, 3, 7, 15, 30, 60, 90, 120, 300, 600] {
            let said = verdicts(trace, seconds);
            assert!(!said.contains(&Verdict::Leak), "{name} at {seconds} s: {said:?}");
        }
    }
}

#[test]
fn leaks_are_told_within_hours_and_called_that_after_a_day() {
    for (name, trace) in traces!["leak-python", "leak-node"] {
        // Six hours, and 30 and 40.
        assert!(verdicts(trace, 18).starts_with(&[Verdict::Growing]), "{name}: {:?}", verdicts(trace, 18));
        for seconds in [90, 120] {
            let said = verdicts(trace, seconds);
            assert!(said.contains(&Verdict::Leak), "{name} at {seconds} s: {said:?}");
        }
    }
}
