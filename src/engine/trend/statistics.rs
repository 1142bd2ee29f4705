//! What a window of minima says: robust slopes and the test for a trend. No allocation, and no number that could be none.

/// How many buckets a window has.
pub const WINDOW: usize = 30;

/// How many slopes so many points have between them.
const PAIRS: usize = WINDOW * (WINDOW - 1) / 2;

/// Of so many buckets at least this many must have been measured in each third, or nothing is said about it.
const ENOUGH_OF_THIRD: usize = THIRD * 4 / 5;

const THIRD: usize = WINDOW / 3;

/// The minima of a window, the oldest first; `None` where too little was measured.
pub type Minima = [Option<u64>; WINDOW];

/// How a window grows. Slopes are bytes a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// The median of the slopes between all pairs (Theil and Sen): a third of the points may be anything.
    pub slope: f64,
    /// The slope within each third of the window.
    pub thirds: [f64; 3],
    /// The slope of its last sixth.
    pub tail: f64,
    /// By how many standard deviations more pairs rise than fall (Mann and Kendall), if order were chance.
    pub significance: f64,
    /// How much of the whole rise lies in two of five steps, those between the medians of its sixths: 0.4 of a straight line, 1
    /// of a stair or two.
    pub lumps: f64,
    /// The median of the middle third.
    pub middle: u64,
    /// The newest minimum.
    pub last: u64,
    /// The median of the last three: where it stands now, whatever the newest one is.
    pub level: u64,
}

impl Growth {
    /// Looks at a window. `None` if too little of it was measured, or its newest bucket was not.
    pub fn of(minima: &Minima) -> Option<Self> {
        let last = minima.last().copied().flatten()?;
        let mut thirds = [0.0; 3];
        for (third, slope) in minima.chunks_exact(THIRD).zip(&mut thirds) {
            if third.iter().flatten().count() < ENOUGH_OF_THIRD {
                return None;
            }
            *slope = median_slope(third)?;
        }
        let middle = minima.chunks_exact(THIRD).nth(1)?;
        let tail = minima.get(WINDOW.saturating_sub(THIRD / 2)..)?;
        let newest = minima.get(WINDOW.saturating_sub(3)..)?;
        Some(Self {
            slope: median_slope(minima)?,
            thirds,
            tail: median_slope(tail)?,
            significance: significance(minima),
            lumps: lumps(minima)?,
            middle: median(middle)?,
            last,
            level: median(newest)?,
        })
    }

    /// What the window has gained, bytes.
    pub fn gain(&self) -> f64 {
        self.slope * (WINDOW - 1) as f64
    }
}

/// Whether the newest minimum is above all of the first third: without that nothing has grown through the whole window.
pub fn is_higher(minima: &Minima) -> bool {
    let highest = minima.iter().take(THIRD).flatten().max();
    minima.last().is_some_and(|last| last.as_ref() > highest)
}

/// Every pair of measured points: how far they lie apart, and by how much the later one is higher.
fn pairs(minima: &[Option<u64>]) -> impl Iterator<Item = (f64, f64)> {
    minima.iter().enumerate().flat_map(move |(at, early)| {
        let later = minima.iter().enumerate().skip(at.saturating_add(1));
        later.filter_map(move |(then, late)| Some((then.saturating_sub(at) as f64, (*late)? as f64 - (*early)? as f64)))
    })
}

fn median_slope(minima: &[Option<u64>]) -> Option<f64> {
    let mut slopes = [0.0; PAIRS];
    let mut count = 0usize;
    for (slot, (apart, gained)) in slopes.iter_mut().zip(pairs(minima)) {
        *slot = gained / apart;
        count = count.saturating_add(1);
    }
    let slopes = slopes.get_mut(..count).filter(|slopes| !slopes.is_empty())?;
    let (_, median, _) = slopes.select_nth_unstable_by(count / 2, f64::total_cmp);
    Some(*median)
}

fn median(minima: &[Option<u64>]) -> Option<u64> {
    let mut values = [0; WINDOW];
    let mut count = 0usize;
    for (slot, value) in values.iter_mut().zip(minima.iter().flatten()) {
        *slot = *value;
        count = count.saturating_add(1);
    }
    let values = values.get_mut(..count).filter(|values| !values.is_empty())?;
    let (_, median, _) = values.select_nth_unstable(count / 2);
    Some(*median)
}

fn lumps(minima: &Minima) -> Option<f64> {
    let mut levels = minima.chunks_exact(THIRD / 2).map(median);
    let first = levels.next()?? as f64;
    let (mut last, mut two) = (first, [0.0f64; 2]);
    for level in levels {
        let level = level? as f64;
        let [high, next] = two;
        let step = level - last;
        two = if step > high { [step, high] } else { [high, next.max(step)] };
        last = level;
    }
    let rise = last - first;
    Some(if rise > 0.0 { two.iter().sum::<f64>() / rise } else { 1.0 })
}

/// Ties make the deviation smaller than what is taken for it here, and the result too small: the safe side.
fn significance(minima: &[Option<u64>]) -> f64 {
    let count = minima.iter().flatten().count() as f64;
    let score: f64 = pairs(minima).map(|(_, gained)| if gained == 0.0 { 0.0 } else { gained.signum() }).sum();
    let deviation = (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    if deviation > 0.0 { score / deviation } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(value: impl Fn(u64) -> u64) -> Minima {
        std::array::from_fn(|at| Some(value(at as u64)))
    }

    #[test]
    fn a_straight_line_has_its_slope_everywhere_and_every_pair_rises() {
        let growth = Growth::of(&window(|at| 1000 + 7 * at)).unwrap();
        assert_eq!((growth.slope, growth.thirds, growth.gain()), (7.0, [7.0; 3], 203.0));
        assert_eq!((growth.middle, growth.level, growth.last), (1000 + 7 * 15, 1000 + 7 * 28, 1000 + 7 * 29));
        // 435 pairs; the deviation of 30 points is the root of 30 × 29 × 65 / 18.
        assert!((growth.significance - 435.0 / 3141.666_f64.sqrt()).abs() < 1e-3, "{}", growth.significance);
    }

    #[test]
    fn a_few_outliers_change_nothing() {
        let growth = Growth::of(&window(|at| if at % 7 == 3 { 90_000 } else { 1000 + 7 * at })).unwrap();
        assert!((growth.slope - 7.0).abs() < 1.0, "{growth:?}");
    }

    #[test]
    fn what_is_flat_or_falls_has_no_growth() {
        let flat = Growth::of(&window(|_| 5)).unwrap();
        assert_eq!((flat.slope, flat.significance), (0.0, 0.0));
        let falling = Growth::of(&window(|at| 1000 - at)).unwrap();
        assert!(falling.slope < 0.0 && falling.significance < -7.0);
    }

    #[test]
    fn a_stair_is_all_lump_and_a_ramp_none() {
        let lumps = |value: fn(u64) -> u64| Growth::of(&window(value)).unwrap().lumps;
        assert_eq!(lumps(|at| 5 * at), 0.4);
        assert_eq!(lumps(|at| if at < 17 { 10 } else { 90 }), 1.0);
        assert_eq!(lumps(|at| at / 10), 1.0);
        assert_eq!(lumps(|_| 7), 1.0);
    }

    #[test]
    fn what_was_not_measured_is_left_out_and_too_little_says_nothing() {
        let mut minima = window(|at| 7 * at);
        for at in [0, 3, 12, 15, 20, 23] {
            minima[at] = None;
        }
        assert_eq!(Growth::of(&minima).unwrap().slope, 7.0);
        minima[29] = None;
        assert_eq!(Growth::of(&minima), None, "where it stands is not known");
        let mut minima = window(|at| 7 * at);
        minima[10..15].fill(None);
        assert_eq!(Growth::of(&minima), None);
        assert_eq!(Growth::of(&[None; WINDOW]), None);
    }

    fn minima() -> impl Strategy<Value = Minima> {
        let value = prop_oneof![6 => 0u64..1 << 40, 1 => Just(0), 1 => Just(u64::MAX)];
        proptest::collection::vec(proptest::option::weighted(0.95, value), WINDOW)
            .prop_map(|values| values.try_into().unwrap())
    }

    proptest! {
        #[test]
        fn no_number_is_hostile(minima in minima()) {
            if let Some(growth) = Growth::of(&minima) {
                let all = [growth.slope, growth.tail, growth.significance, growth.gain(), growth.lumps];
                prop_assert!(all.iter().chain(&growth.thirds).all(|number| number.is_finite()), "{growth:?}");
                prop_assert!(growth.significance.abs() < 8.0);
            }
        }

        #[test]
        fn only_differences_count(values in proptest::collection::vec(0u64..1 << 40, WINDOW), shift in 0u64..1 << 40) {
            let minima = window(|at| values[at as usize]);
            let growth = Growth::of(&minima).unwrap();
            let shifted = Growth::of(&window(|at| values[at as usize] + shift)).unwrap();
            let expected = Growth {
                middle: growth.middle + shift,
                last: growth.last + shift,
                level: growth.level + shift,
                ..growth
            };
            prop_assert_eq!(shifted, expected);
        }

        #[test]
        fn more_slope_is_more_growth(values in proptest::collection::vec(0u64..1 << 30, WINDOW), more in 1u64..1 << 20) {
            let growth = Growth::of(&window(|at| values[at as usize])).unwrap();
            let steeper = Growth::of(&window(|at| values[at as usize] + more * at)).unwrap();
            prop_assert!((steeper.slope - growth.slope - more as f64).abs() < 1e-3);
            prop_assert!(steeper.significance >= growth.significance);
            prop_assert!(steeper.thirds.iter().zip(growth.thirds).all(|(steeper, slope)| *steeper > slope));
        }
    }
}
