//! The cadence: how long memini may sleep so that no growth, however sudden, passes a threshold unseen.

use std::time::Duration;

use super::rate::span;

/// What one thread can fill in a second at the most: huge pages, all at once. One was measured at up to 11.2 GB/s, two at up to
/// 19 GB/s (EPYC, Linux 6.18).
const BYTES_PER_CORE: f64 = 11e9;

/// Page by page one thread was measured at 2 to 4 GB/s, on the same machine: a fourth of that.
pub const USUAL_PART: f64 = 4.0;

/// What is to be left when the fastest fill is seen at last: it goes on until memini has done something about it.
pub const MARGIN: u64 = 8 << 20;

/// What all threads of a machine together can fill in a second at the most: its memory's bandwidth.
const BYTES_PER_MACHINE: f64 = 50e9;

/// Looking more often than this would cost more than a per mille of a core.
const FLOOR: Duration = Duration::from_millis(2);

/// Near the end, while it grows: half the fills that a 2 ms sleep loses to the kernel are seen with this one.
const URGENT_FLOOR: Duration = Duration::from_micros(500);

/// The limit may change at any time without any event: look at least so often.
pub const LONGEST: Duration = Duration::from_secs(1);

/// The fastest that memory can be filled, in bytes a second, by so many cores.
pub fn ceiling(cores: u32) -> f64 {
    (f64::from(cores.max(1)) * BYTES_PER_CORE).min(BYTES_PER_MACHINE)
}

/// How long to sleep when the next threshold is so many bytes away, and the next look comes so late. `urgent`: near the end,
/// and growing.
pub fn sleep(distance: u64, ceiling: f64, lateness: Duration, urgent: bool) -> Duration {
    let floor = if urgent { URGENT_FLOOR } else { FLOOR };
    span(distance as f64 / ceiling).saturating_sub(lateness).clamp(floor, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_cores_fill_faster_up_to_what_memory_can_do() {
        for (cores, wanted) in [(0, 11e9), (1, 11e9), (2, 22e9), (4, 44e9), (5, 50e9), (u32::MAX, 50e9)] {
            assert_eq!(ceiling(cores), wanted, "{cores}");
        }
    }

    #[test]
    fn the_sleep_is_what_the_fastest_fill_needs_within_bounds() {
        for (distance, urgent, micros) in [
            (60_000_000, false, 10_000),
            (60_000_000, true, 10_000),
            (6_000_000, false, 2_000),
            (6_000_000, true, 1_000),
            (1_000_000, false, 2_000),
            (0, true, 500),
            (6_000_000_000, false, 1_000_000),
            (u64::MAX, true, 1_000_000),
        ] {
            assert_eq!(
                sleep(distance, 6e9, Duration::ZERO, urgent),
                Duration::from_micros(micros),
                "{distance} {urgent}"
            );
        }
    }
}
