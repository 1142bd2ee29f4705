//! How fast a level grows: averages over seconds for decisions, over an instant for emergencies.

use std::time::Duration;

use super::time::Moment;

/// Seconds over which the long average forgets: a collector's saw tooth of several seconds cancels out.
const LONG: f64 = 30.0;

/// Seconds over which the short average forgets: a leak that begins is seen within about a second.
const SHORT: f64 = 1.0;

/// Seconds over which the instant average forgets. A cgroup's usage jitters by 64 pages per CPU (the kernel's
/// pre-charged stock), which is some MB/s over this time: good enough for "imminent", too nervous for all else.
const INSTANT: f64 = 0.05;

/// Averages of growth in bytes a second, each weighted exponentially, over readings at irregular times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    last: Option<(Moment, u64)>,
    long: f64,
    short: f64,
    instant: f64,
}

impl Rates {
    /// Takes a point. It must be measured as the one before was: never a bound after a measure.
    pub fn add(&mut self, now: Moment, bytes: u64) {
        let Some((then, before)) = self.last else {
            self.last = Some((now, bytes));
            return;
        };
        let seconds = now.since(then).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let growth = (bytes as f64 - before as f64) / seconds;
        for (average, tau) in [(&mut self.long, LONG), (&mut self.short, SHORT), (&mut self.instant, INSTANT)] {
            let weight = -(-seconds / tau).exp_m1();
            *average += weight * (growth - *average);
        }
        self.last = Some((now, bytes));
    }

    /// The next point is not to be compared with the last: it is counted otherwise. What is known stays known.
    pub fn skip(&mut self) {
        self.last = None;
    }

    /// The rate that decisions rest on: the higher of the 1 s and 30 s averages. Negative when it shrinks.
    pub fn steady(&self) -> f64 {
        self.long.max(self.short)
    }

    /// The average over an instant.
    pub fn instant(&self) -> f64 {
        self.instant
    }

    /// The highest of all averages: for what cannot wait.
    pub fn fastest(&self) -> f64 {
        self.steady().max(self.instant)
    }
}

/// Seconds over which a burst is forgotten. At 2 ms from look to look a fill from rest shows a third of its rate after the
/// first one and two thirds after the third. The kernel's pre-charged stock makes this jitter by about 100 MB/s a core.
const BURST: f64 = 0.005;

/// Growth of the last milliseconds, in bytes a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Burst {
    last: Option<(Moment, u64, Option<u64>)>,
    average: f64,
}

impl Burst {
    /// Takes a point: usage, and what of it counts if that was measured. Where it was not, then or now, usage has to do.
    pub fn add(&mut self, now: Moment, usage: u64, gauged: Option<u64>) {
        let Some((then, usage_before, gauged_before)) = self.last else {
            self.last = Some((now, usage, gauged));
            return;
        };
        let seconds = now.since(then).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let (bytes, before) = match (gauged, gauged_before) {
            (Some(gauged), Some(before)) => (gauged, before),
            _ => (usage, usage_before),
        };
        let growth = (bytes as f64 - before as f64) / seconds;
        self.average -= (-seconds / BURST).exp_m1() * (growth - self.average);
        self.last = Some((now, usage, gauged));
    }

    /// The rate.
    pub const fn rate(&self) -> f64 {
        self.average
    }
}

/// Seconds until so many bytes are used up at this rate; `None` if it does not grow.
pub fn seconds_until(bytes: u64, rate: f64) -> Option<f64> {
    (rate > 0.0).then(|| bytes as f64 / rate)
}

/// Seconds as a span; what is too long or no number at all is as long, or as short, as can be.
pub fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::default().after(Duration::from_millis(millis))
    }

    fn is_near(value: f64, wanted: f64, tolerance: f64) -> bool {
        (value - wanted).abs() <= tolerance * wanted.abs()
    }

    #[test]
    fn steady_growth_is_found_whatever_the_intervals() {
        for intervals in [&[1000][..], &[2, 2, 996], &[500, 1, 7, 130]] {
            let mut rates = Rates::default();
            let mut millis = 0;
            while millis < 120_000 {
                for interval in intervals {
                    rates.add(at(millis), millis * 5_000);
                    millis += interval;
                }
            }
            assert!(is_near(rates.steady(), 5e6, 0.02), "{intervals:?}: {}", rates.steady());
            assert!(is_near(rates.fastest(), 5e6, 0.02), "{intervals:?}: {}", rates.fastest());
        }
    }

    #[test]
    fn a_step_fades_within_seconds_from_the_short_average_and_at_once_from_the_instant_one() {
        let mut rates = Rates::default();
        rates.add(at(0), 0);
        rates.add(at(2), 100_000_000);
        assert!(rates.fastest() > 1e9, "{}", rates.fastest());
        assert!(is_near(rates.steady(), 100e6, 0.01), "{}", rates.steady());
        rates.add(at(502), 100_000_000);
        assert!(is_near(rates.fastest(), 60.6e6, 0.01), "{}", rates.fastest());
        rates.add(at(10_000), 100_000_000);
        assert!(rates.steady() < 3e6, "{}", rates.steady());
    }

    #[test]
    fn a_burst_is_seen_within_milliseconds_and_forgotten_as_fast() {
        let mut burst = Burst::default();
        let rates: Vec<f64> = [(0, 0), (2, 4), (4, 8), (6, 12), (26, 12), (27, 12)]
            .map(|(millis, megabytes)| {
                burst.add(at(millis), megabytes * 1_000_000, None);
                burst.rate() / 1e6
            })
            .to_vec();
        assert!(
            rates[0] == 0.0 && (650.0..670.0).contains(&rates[1]) && (1390.0..1410.0).contains(&rates[3]),
            "{rates:?}"
        );
        assert!(rates[5] < 30.0, "{rates:?}");
    }

    #[test]
    fn page_cache_is_no_burst_once_it_was_measured() {
        let mut burst = Burst::default();
        burst.add(at(0), 0, None);
        burst.add(at(2), 100_000_000, Some(5_000_000));
        assert!(burst.rate() > 1e9, "nothing to compare with but usage");
        for millis in 2..40 {
            burst.add(at(millis * 2), millis * 100_000_000, Some(5_000_000));
        }
        assert!(burst.rate() < 1e7, "{}", burst.rate());
    }

    #[test]
    fn shrinking_is_negative_and_never_reaches_a_limit() {
        let mut rates = Rates::default();
        rates.add(at(0), 9_000_000);
        rates.add(at(1000), 1_000_000);
        assert!(rates.steady() < 0.0);
        assert_eq!(seconds_until(1000, rates.steady()), None);
    }

    #[test]
    fn two_points_in_one_instant_are_no_growth() {
        let mut rates = Rates::default();
        rates.add(at(5), 1000);
        rates.add(at(5), 9_000_000);
        assert_eq!(rates.fastest(), 0.0);
        rates.add(at(1005), 1000);
        assert_eq!(rates.fastest(), 0.0, "compared with the first of the two");
    }

    #[test]
    fn a_point_that_is_counted_otherwise_does_not_make_the_rate_jump() {
        let mut rates = Rates::default();
        rates.add(at(0), 0);
        rates.add(at(1000), 1_000_000);
        let before = rates.steady();
        rates.skip();
        rates.add(at(2000), 800_000_000);
        assert_eq!(rates.steady(), before);
    }

    #[test]
    fn spans_are_cut_to_what_can_be_told() {
        assert_eq!(span(0.5), Duration::from_millis(500));
        assert_eq!(span(-1.0), Duration::ZERO);
        assert_eq!(span(f64::NAN), Duration::ZERO);
        assert_eq!(span(f64::INFINITY), Duration::MAX);
        assert_eq!(seconds_until(500, 1000.0), Some(0.5));
    }
}
