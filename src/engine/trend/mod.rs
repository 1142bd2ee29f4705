//! The trend: whether memory grows, and whether that is a leak.
//!
//! What is compared are minima: of each span of time only the lowest point counts, so that the saw tooth of a collector cancels
//! out. Thirty of them make a window, and there are windows of one hour to five days ([`HORIZONS`]). A window grows if the
//! slope between its points is positive (Theil and Sen), if that is no chance (Mann and Kendall), if each third of it rises and
//! the last one hardly less than the others (a warm-up becomes slower), if it has passed what was the habit before, and if it
//! would matter before long.
//!
//! Growth is called a leak only where nothing that ends by itself looks the same. The morning of a service looks like one until
//! the evening, and a batch like one until it is done. So that takes a window of four hours at least, and either a day of memory
//! before the window or a window of a day; and the growth must be more than what memory was seen to give back before.

mod habit;
#[cfg(test)]
mod simulation;
mod statistics;
#[cfg(test)]
mod traces;

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::rate::seconds_until;
use super::time::Moment;
use habit::{Habit, Past};
use statistics::{Growth, Minima, WINDOW, is_higher};

/// What the trend says; in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It does not grow, or not so that it would matter.
    #[default]
    Steady,
    /// It grows, and may come to an end: a warm-up, the load of the day, a cache that fills.
    Growing,
    /// It grows, and nothing is known that would end it.
    Leak,
}

impl Verdict {
    /// `steady`, `growing`, `leak`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Growing => "growing",
            Self::Leak => "leak",
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A verdict, and what it rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trending {
    /// What is the case now.
    pub verdict: Verdict,
    /// Growth over the horizon, bytes a second; 0 for `steady`.
    pub rate: f64,
    /// Seconds until the limit at that rate.
    pub time_to_limit: Option<f64>,
    /// How much time the verdict looks back on.
    pub horizon: Duration,
}

/// The length of the shortest span of which the minimum is taken.
pub const UNIT: Duration = Duration::from_secs(60);

/// Units in a day.
const DAY: u64 = 24 * 60;

/// How many units make a bucket of each horizon, and how many buckets a span of its [`Habit`], which remembers 32 of them:
/// eight days at least, as one week differs less from another than one day does. The windows: 1 h, 4 h, 1 d, 5 d.
const HORIZONS: [(u64, u64); 4] = [(2, 180), (8, 45), (48, 15), (240, 7)];

/// A leak wants a window of at least so many units: four hours. Shorter ones can hold a batch.
const LONG_ENOUGH: u64 = WINDOW as u64 * 8;

/// Thirty points by chance reach this once in 30,000 times. What wanders, and so is not by chance, does so far more often; a
/// straight line has 7.8.
const SIGNIFICANT: f64 = 4.0;

/// What holds a verdict that stands.
const STILL_SIGNIFICANT: f64 = 2.58;

/// The last third rises at least this much of what the first one does, and the whole: a warm-up does not for long.
const NOT_SLOWER: f64 = 0.4;

/// The same while a verdict stands.
const STILL_NOT_SLOWER: f64 = 0.2;

/// Each third of a leak rises at least this much of what the whole does.
const EVEN: f64 = 0.2;

/// Of a leak's five steps two are at most this much of the whole: what has grown once or twice has not leaked.
const LUMPS: f64 = 0.65;

/// Growth matters if the limit is nearer than this many times the window, and nearer than [`FAR`]: who has seen an hour does
/// not speak of next week.
const FORESIGHT: f64 = 48.0;

/// Units in 30 days.
const FAR: f64 = 30.0 * DAY as f64;

/// It also takes so many parts of the limit, one of them, to have been gained in the window.
const SHARE: f64 = 100.0;

/// This much of what the window has gained must lie above all that was known before.
const NEWS: f64 = 0.5;

/// The same while a verdict stands.
const STILL_NEWS: f64 = 0.25;

/// Of a leak also this much of the deepest fall that was known, and of the swing from day to day; of that more as long as less
/// than a week is known. The first Monday of an app that was started on a weekend rises far above what was known.
const FALLS: f64 = 0.5;
const SWINGS: f64 = 0.5;
const FIRST_SWINGS: f64 = 3.0;

/// How many judgements in a row it takes to begin, and to end.
const BEGIN: u32 = 3;
const END: u32 = 5;

/// What is left below the limit, and the limit; bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The limit.
    pub limit: u64,
    /// The room.
    pub room: u64,
}

/// One window, and what it says.
#[derive(Clone, Copy, Debug)]
struct Horizon {
    /// Units in a bucket.
    scale: u64,
    minima: Minima,
    habit: Habit,
    /// The open bucket: its number, its minimum, how many units of it were measured.
    bucket: u64,
    low: Option<u64>,
    measured: u64,
    verdict: Verdict,
    /// How often in a row each of `growing` and `leak` has held.
    begins: [u32; 2],
    ends: u32,
    /// Bytes a unit, when it last grew.
    rate: f64,
    /// Who falls below this does not grow any more.
    middle: u64,
}

impl Horizon {
    const fn new(scale: u64, span: u64) -> Self {
        Self {
            scale,
            minima: [None; WINDOW],
            habit: Habit::new(span),
            bucket: 0,
            low: None,
            measured: 0,
            verdict: Verdict::Steady,
            begins: [0; 2],
            ends: 0,
            rate: 0.0,
            middle: 0,
        }
    }

    /// Units in the window.
    const fn length(&self) -> u64 {
        self.scale.saturating_mul(WINDOW as u64)
    }

    /// Takes the minimum of a unit. Whether a bucket has become whole.
    fn add(&mut self, unit: u64, low: u64) -> bool {
        let bucket = unit.checked_div(self.scale).unwrap_or(0);
        let is_late = bucket > self.bucket;
        if is_late {
            self.close();
            self.miss(bucket.saturating_sub(self.bucket).saturating_sub(1));
            self.bucket = bucket;
        }
        self.low = Some(self.low.map_or(low, |known| known.min(low)));
        self.measured = self.measured.saturating_add(1);
        let is_last = unit.saturating_add(1).checked_rem(self.scale) == Some(0);
        if is_last {
            self.close();
            self.bucket = bucket.saturating_add(1);
        }
        if low < self.middle {
            self.fall();
        }
        is_late || is_last
    }

    /// A sudden fall: a worker has left, or what was held was garbage. What is to be thought of it will be seen anew.
    fn fall(&mut self) {
        (self.verdict, self.begins, self.ends, self.middle) = (Verdict::Steady, [0; 2], 0, 0);
    }

    /// Ends the open bucket. One of which more than half was missed says too little: its lowest point may be the tip of a tooth.
    fn close(&mut self) {
        let is_measured = self.measured.saturating_mul(2) >= self.scale;
        let low = self.low.take().filter(|_| is_measured);
        self.measured = 0;
        self.push(low);
    }

    fn push(&mut self, low: Option<u64>) {
        self.minima.rotate_left(1);
        if let Some(last) = self.minima.last_mut() {
            self.habit.add(std::mem::replace(last, low));
        }
    }

    /// So many buckets passed while nothing was measured.
    fn miss(&mut self, buckets: u64) {
        let window = WINDOW as u64;
        for _ in 0..buckets.min(window) {
            self.push(None);
        }
        self.habit.skip(buckets.saturating_sub(window));
    }

    /// Judges the window anew.
    fn judge(&mut self, bounds: Option<Bounds>) {
        // Most windows do not grow, and that is seen at a glance.
        let growth =
            if self.verdict > Verdict::Steady || is_higher(&self.minima) { Growth::of(&self.minima) } else { None };
        let (now, stands) = growth.zip(bounds).map_or_else(Default::default, |(growth, bounds)| {
            let past = self.habit.past();
            let stands = self.verdict == Verdict::Steady || self.still_holds(&growth, past);
            if self.grows(&growth, bounds, past) || (self.verdict > Verdict::Steady && stands) {
                (self.middle, self.rate) = (growth.middle, growth.slope / self.scale as f64);
            }
            (self.look(&growth, bounds, past), stands)
        });
        for (count, verdict) in self.begins.iter_mut().zip([Verdict::Growing, Verdict::Leak]) {
            *count = if now >= verdict { count.saturating_add(1) } else { 0 };
            if *count >= BEGIN {
                self.verdict = self.verdict.max(verdict);
            }
        }
        self.ends = if now >= self.verdict || stands { 0 } else { self.ends.saturating_add(1) };
        if self.ends >= END {
            let middle = if now > Verdict::Steady { self.middle } else { 0 };
            (self.verdict, self.ends, self.middle) = (now, 0, middle);
        }
    }

    fn look(&self, growth: &Growth, bounds: Bounds, past: Past) -> Verdict {
        if !self.grows(growth, bounds, past) {
            return Verdict::Steady;
        }
        // A whole day, and the morning after it.
        let is_old = self.known() >= DAY.saturating_add(LONG_ENOUGH) || self.length() >= DAY;
        let is_even = growth.thirds.iter().all(|third| *third >= EVEN * growth.slope) && growth.lumps <= LUMPS;
        let swings = if self.known() < DAY.saturating_mul(7) { FIRST_SWINGS } else { SWINGS };
        let habit = (FALLS * past.fall as f64).max(swings * past.swing as f64);
        // In a window of a day the day cancels out.
        let is_new = self.length() >= DAY || news(growth, past) >= habit;
        let is_leak = self.length() >= LONG_ENOUGH && is_old && is_even && is_new;
        if is_leak { Verdict::Leak } else { Verdict::Growing }
    }

    fn grows(&self, growth: &Growth, bounds: Bounds, past: Past) -> bool {
        let [first, middle, last] = growth.thirds;
        let rises = growth.slope > 0.0 && first > 0.0 && middle > 0.0 && last > 0.0;
        // Windows of days would else begin to tell of growth hours after its end.
        let is_alive = self.length() < DAY || growth.tail >= NOT_SLOWER * growth.slope;
        let goes_on = last >= NOT_SLOWER * first.max(growth.slope) && growth.last >= growth.middle;
        let left = seconds_until(bounds.room, growth.slope / self.scale as f64).unwrap_or(f64::INFINITY);
        let matters = left <= FAR.min(FORESIGHT * self.length() as f64) && growth.gain() * SHARE >= bounds.limit as f64;
        rises
            && goes_on
            && is_alive
            && matters
            && growth.significance >= SIGNIFICANT
            && news(growth, past) >= NEWS * growth.gain()
    }

    /// Whether a verdict that stands is not to end: less is asked of it than of one that begins.
    fn still_holds(&self, growth: &Growth, past: Past) -> bool {
        let [_, _, last] = growth.thirds;
        growth.slope > 0.0
            && growth.significance >= STILL_SIGNIFICANT
            && last >= STILL_NOT_SLOWER * growth.slope
            && growth.last >= growth.middle
            && news(growth, past) >= STILL_NEWS * growth.gain()
    }

    /// How many units before the window are known.
    fn known(&self) -> u64 {
        self.habit.age().saturating_mul(self.scale)
    }
}

/// By how much it has passed all that was known before, bytes.
fn news(growth: &Growth, past: Past) -> f64 {
    growth.level as f64 - past.high as f64
}

/// The windows, and what they say together.
#[derive(Debug)]
pub struct Trend {
    unit: Duration,
    begun: Option<Moment>,
    /// The open unit: its number, its end, its minimum.
    number: u64,
    end: Moment,
    low: u64,
    horizons: [Horizon; HORIZONS.len()],
    verdict: Verdict,
}

impl Trend {
    /// Nothing is known yet. `unit` is the length of the shortest span; all others are multiples of it.
    pub fn new(unit: Duration) -> Self {
        Self {
            unit: unit.max(Duration::from_millis(1)),
            begun: None,
            number: 0,
            end: Moment::default(),
            low: 0,
            horizons: HORIZONS.map(|(scale, span)| Horizon::new(scale, span)),
            verdict: Verdict::Steady,
        }
    }

    /// What is the case now.
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes what was gauged. Once a unit it is judged; a verdict that has changed is told.
    pub fn add(&mut self, now: Moment, gauged: u64, bounds: Option<Bounds>) -> Option<Trending> {
        if now < self.end {
            self.low = self.low.min(gauged);
            return None;
        }
        let Some(begun) = self.begun else {
            (self.begun, self.end, self.low) = (Some(now), now.after(self.unit), gauged);
            return None;
        };
        self.close(bounds);
        let passed = now.since(begun).as_nanos().checked_div(self.unit.as_nanos()).unwrap_or(0);
        self.number = u64::try_from(passed).unwrap_or(u64::MAX);
        let rest = now.since(begun).as_nanos().checked_rem(self.unit.as_nanos()).unwrap_or(0);
        let rest = Duration::from_nanos(u64::try_from(rest).unwrap_or(0));
        (self.end, self.low) = (now.after(self.unit.saturating_sub(rest)), gauged);
        self.change(bounds)
    }

    fn close(&mut self, bounds: Option<Bounds>) {
        for horizon in &mut self.horizons {
            if horizon.add(self.number, self.low) {
                horizon.judge(bounds);
            }
        }
    }

    fn change(&mut self, bounds: Option<Bounds>) -> Option<Trending> {
        let verdict = self.horizons.iter().map(|horizon| horizon.verdict).max().unwrap_or_default();
        let is_new = std::mem::replace(&mut self.verdict, verdict) != verdict;
        is_new.then(|| self.trending(bounds.map(|bounds| bounds.room)))
    }

    /// The verdict, and what it rests on: the longest window that says so. `room` is what is left below the limit; bytes.
    pub fn trending(&self, room: Option<u64>) -> Trending {
        let found = self.horizons.iter().rev().find(|horizon| horizon.verdict == self.verdict);
        let grows = found.filter(|_| self.verdict > Verdict::Steady);
        let rate = grows.map_or(0.0, |horizon| horizon.rate / self.unit.as_secs_f64());
        let length = found.map_or(0, Horizon::length);
        Trending {
            verdict: self.verdict,
            rate,
            time_to_limit: room.and_then(|room| seconds_until(room, rate)),
            horizon: self.unit.saturating_mul(u32::try_from(length).unwrap_or(u32::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const LIMIT: u64 = 1000 * MIB;
    const MINUTES_OF_DAY: u64 = 24 * 60;

    fn bounds(gauged: u64) -> Option<Bounds> {
        Some(Bounds { limit: LIMIT, room: LIMIT.saturating_sub(gauged) })
    }

    fn at(minute: u64) -> Moment {
        Moment::default().after(Duration::from_secs(60 * minute))
    }

    /// The verdicts, and the minutes in which they were given, of a life that is looked at four times a minute where `gauged`
    /// tells anything.
    fn verdicts(minutes: u64, gauged: impl Fn(u64) -> Option<u64>) -> Vec<(u64, Trending)> {
        let mut trend = Trend::new(UNIT);
        let looks = (0..minutes * 4).map(|quarter| (quarter / 4, Duration::from_secs(15 * quarter)));
        looks
            .filter_map(|(minute, since)| {
                let gauged = gauged(minute)?;
                let said = trend.add(Moment::default().after(since), gauged, bounds(gauged))?;
                Some((minute, said))
            })
            .collect()
    }

    fn names(verdicts: &[(u64, Trending)]) -> Vec<&'static str> {
        verdicts.iter().map(|(_, said)| said.verdict.name()).collect()
    }

    /// From 200 MiB, 10 MiB an hour.
    fn leak(minute: u64) -> u64 {
        200 * MIB + minute * 10 * MIB / 60
    }

    #[test]
    fn growth_is_told_within_four_hours_and_called_a_leak_after_a_day() {
        let said = verdicts(28 * 60, |minute| Some(leak(minute)));
        assert_eq!(names(&said), ["growing", "leak"]);
        let [(growing, _), (leaks, leak)] = said[..] else { panic!("{said:?}") };
        assert!((60..=4 * 60).contains(&growing) && (22 * 60..26 * 60).contains(&leaks), "{said:?}");
        assert!((leak.rate / (10.0 * MIB as f64 / 3600.0) - 1.0).abs() < 0.01, "{leak:?}");
        let room = (LIMIT - self::leak(leaks)) as f64;
        assert!((leak.time_to_limit.unwrap() * leak.rate / room - 1.0).abs() < 0.01, "{leak:?}");
        assert_eq!(leak.horizon, Duration::from_secs(24 * 3600));
    }

    #[test]
    fn with_a_day_known_a_leak_is_one_within_four_hours() {
        let start = 30 * 60;
        let said = verdicts(start + 6 * 60, |minute| Some(leak(minute.saturating_sub(start))));
        assert_eq!(names(&said), ["growing", "leak"]);
        assert!(said[1].0 - start <= 270, "{said:?}");
        assert_eq!(said[1].1.horizon, Duration::from_secs(4 * 3600));
    }

    #[test]
    fn a_sudden_fall_ends_a_verdict_within_minutes_and_what_comes_back_is_no_news() {
        // A worker that held 150 MiB is replaced after 30 hours and comes to where it was.
        let restart = 30 * 60;
        let said = verdicts(restart + 14 * 60, |minute| {
            Some(if minute < restart { leak(minute) } else { leak(minute) - 150 * MIB })
        });
        assert_eq!(names(&said), ["growing", "leak", "steady"]);
        assert!(said[2].0 - restart <= 2, "{said:?}");
        assert_eq!((said[2].1.rate, said[2].1.time_to_limit), (0.0, None));
    }

    #[test]
    fn growth_that_has_ended_is_steady_again() {
        let said = verdicts(60 * 60, |minute| Some(leak(minute.min(30 * 60))));
        assert_eq!(names(&said), ["growing", "leak", "steady"]);
        assert!(said[2].0 < 30 * 60 + 15 * 60, "{said:?}");
    }

    #[test]
    fn hours_in_which_nothing_was_seen_make_no_growth_and_hide_none() {
        for gap in [7 * 60, 2 * 60 + 7, 3] {
            let seen = |minute: u64| !(10 * 60..10 * 60 + gap).contains(&minute);
            let said = verdicts(40 * 60, |minute| seen(minute).then(|| leak(minute)));
            assert_eq!(said.last().unwrap().1.verdict, Verdict::Leak, "{gap} {said:?}");
            let said =
                verdicts(40 * 60, |minute| seen(minute).then_some(if minute < 600 { 300 * MIB } else { 330 * MIB }));
            assert_eq!(names(&said), [""; 0], "one step, {gap}");
        }
        let mut trend = Trend::new(UNIT);
        for minute in [0, 1, 2, 50_000_000, 50_000_001, u64::MAX / 60_000_000_000] {
            assert_eq!(trend.add(at(minute), minute, bounds(0)), None);
        }
    }

    #[test]
    fn who_looks_seldom_sees_the_same() {
        for seconds in [7, 60, 61, 90, 120] {
            let mut trend = Trend::new(UNIT);
            let said: Vec<_> = (0..28 * 3600 / seconds)
                .filter_map(|look| {
                    let now = Moment::default().after(Duration::from_secs(look * seconds));
                    trend.add(now, leak(look * seconds / 60), bounds(leak(look * seconds / 60)))
                })
                .collect();
            assert_eq!(said.last().unwrap().verdict, Verdict::Leak, "{seconds}");
        }
    }

    #[test]
    fn a_limit_that_changes_changes_the_forecast_alone() {
        let mut trend = Trend::new(UNIT);
        let mut said = Vec::new();
        for minute in 0..40 * 60 {
            let limit = if minute < 20 * 60 { LIMIT } else { 2 * LIMIT };
            let bounds = Bounds { limit, room: limit - leak(minute) };
            said.extend(trend.add(at(minute), leak(minute), Some(bounds)).map(|change| (minute, change)));
        }
        assert_eq!(names(&said), ["growing", "leak"]);
        assert!(said[1].1.time_to_limit.unwrap() > 140.0 * 3600.0, "{said:?}");
        assert_eq!(verdicts(40 * 60, |_| Some(0)), []);
    }

    #[test]
    fn without_a_limit_there_is_no_verdict_and_one_that_stands_ends() {
        let mut trend = Trend::new(UNIT);
        let said: Vec<_> = (0..60 * 60)
            .filter_map(|minute| trend.add(at(minute), leak(minute), bounds(0).filter(|_| minute < 28 * 60)))
            .map(|said| said.verdict)
            .collect();
        assert_eq!(said, [Verdict::Growing, Verdict::Leak, Verdict::Steady]);
    }

    #[test]
    fn what_would_take_months_is_not_told() {
        // 0.02 MiB an hour: 1% of the limit in three weeks.
        assert_eq!(verdicts(8 * MINUTES_OF_DAY, |minute| Some(200 * MIB + minute * MIB / 3000)), []);
    }

    fn life() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let pause = prop_oneof![20 => 0u64..120, 1 => 0u64..400_000, 1 => Just(0)];
        let bytes = prop_oneof![8 => 0u64..2 * LIMIT, 1 => Just(0), 1 => Just(u64::MAX)];
        proptest::collection::vec((pause, bytes), 1..3000)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_comes_is_answered(life in life(), unit in 1u64..60_000, limit in prop_oneof![Just(0), Just(LIMIT), Just(u64::MAX)]) {
            let mut trend = Trend::new(Duration::from_millis(unit));
            let (mut now, mut verdict) = (Moment::default(), Verdict::Steady);
            for (seconds, gauged) in life {
                now = now.after(Duration::from_secs(seconds));
                if let Some(said) = trend.add(now, gauged, Some(Bounds { limit, room: limit.saturating_sub(gauged) })) {
                    prop_assert!(said.verdict != verdict && said.rate.is_finite());
                    prop_assert_eq!(said.rate > 0.0, said.verdict > Verdict::Steady);
                    prop_assert!(said.time_to_limit.is_none_or(|left| left >= 0.0));
                    verdict = said.verdict;
                }
            }
        }

        #[test]
        fn what_never_grows_is_steady(steps in proptest::collection::vec((0u64..2 * MIB, 0u64..200 * MIB), 2900)) {
            // Lower and lower, with anything above it three times in four.
            let mut low = LIMIT;
            let lows: Vec<(u64, u64)> = steps.iter().map(|(down, tooth)| {
                low = low.saturating_sub(*down);
                (low, *tooth)
            }).collect();
            let mut trend = Trend::new(UNIT);
            for (minute, (low, tooth)) in lows.iter().enumerate() {
                for (second, gauged) in [(0, *low + tooth), (20, *low), (40, *low + tooth / 2)] {
                    let now = at(minute as u64).after(Duration::from_secs(second));
                    prop_assert_eq!(trend.add(now, gauged, bounds(gauged)), None);
                }
            }
        }

        #[test]
        fn where_it_begins_does_not_matter(
            noise in proptest::collection::vec(0u64..8 * MIB, 36 * 60),
            slope in 0u64..20,
            shift in 0u64..1 << 40,
        ) {
            let said = |shift: u64| -> Vec<Trending> {
                let mut trend = Trend::new(UNIT);
                let room = Some(Bounds { limit: LIMIT, room: LIMIT / 2 });
                let gauged = |minute: u64| shift + noise[minute as usize] + minute * slope * MIB / 60;
                (0..36 * 60).filter_map(|minute| trend.add(at(minute), gauged(minute), room)).collect()
            };
            prop_assert_eq!(said(0), said(shift));
        }

        #[test]
        fn a_steeper_leak_is_found_no_later(noise in proptest::collection::vec(0u64..2 * MIB, 30 * 60), slope in 4u64..20) {
            let found = |slope: u64| {
                let mut trend = Trend::new(UNIT);
                let room = Some(Bounds { limit: LIMIT, room: LIMIT / 2 });
                let gauged = |minute: u64| noise[minute as usize] + minute * slope * MIB / 60;
                (0..30 * 60).find(|minute| {
                    trend.add(at(*minute), gauged(*minute), room);
                    trend.verdict() == Verdict::Leak
                })
            };
            let (slow, fast) = (found(slope), found(2 * slope));
            prop_assert!(slow.is_some() && fast.is_some() && fast <= slow, "{slow:?} {fast:?}");
        }
    }
}
