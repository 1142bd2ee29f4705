//! Thresholds: four texts, a line each, under a limit. What is accepted means something, and is printed as what a user
//! may write to get the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memini_fuzz::cli::check_ascending;
use memini_fuzz::engine::settings::{Stage, Threshold, Thresholds};
use memini_fuzz::{number, option_units};

fn read(text: &str) -> Threshold {
    let threshold = match option_units::threshold(text) {
        Ok(threshold) => threshold,
        Err(why) => {
            assert!(!why.is_empty());
            return Threshold::Off;
        }
    };
    match threshold {
        Threshold::Percent(percent) => assert!(percent > 0.0 && percent <= 100.0, "{percent}"),
        Threshold::Bytes(bytes) | Threshold::Below(bytes) => assert!(bytes > 0 && bytes <= i64::MAX as u64, "{bytes}"),
        Threshold::Off => {}
    }
    let printed = threshold.to_string();
    assert_eq!(option_units::threshold(&printed), Ok(threshold), "{printed}");
    threshold
}

fuzz_target!(|data: &[u8]| {
    let (limit, text) = number(data);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut lines = text.split('\n');
    let mut next = || read(lines.next().unwrap_or("off"));
    let thresholds = Thresholds { trace: next(), capture: next(), stop: next(), kill: next() };
    for stage in Stage::LADDER {
        if let Some(level) = thresholds.of(stage).bytes(limit) {
            assert!(level >= 1 && level <= limit, "{level} of {limit}");
        }
    }
    let levels = Stage::LADDER.into_iter().filter(|stage| thresholds.of(*stage) != Threshold::Off);
    let levels: Vec<_> = levels.map(|stage| thresholds.of(stage).bytes(limit)).collect();
    let ascends = levels.iter().all(Option::is_some) && levels.is_sorted_by(|low, high| low < high);
    assert_eq!(check_ascending(&thresholds, Some(limit)).is_ok(), ascends, "{levels:?} of {limit}");
    let _ = check_ascending(&thresholds, None);
});
