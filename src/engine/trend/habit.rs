//! What memory has done before: how high its minima have been, and from how high they have come back.

/// How many spans are remembered, the present one included.
const SLOTS: usize = 33;

/// One span.
#[derive(Clone, Copy, Debug)]
struct Slot {
    high: u64,
    low: u64,
    /// The deepest fall within it.
    fall: u64,
}

/// What is known of the time before the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How high it has been.
    pub high: u64,
    /// By how much it has come down again: what goes up by that and comes back is no leak.
    pub fall: u64,
    /// By how much the lowest point of a span lay below that of an earlier one: the swing of days, without what is quicker.
    pub swing: u64,
}

/// The minima that have left the window, in spans of so many.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    slots: [Option<Slot>; SLOTS],
    span: u64,
    in_slot: u64,
    age: u64,
}

impl Habit {
    /// Nothing is known. `span` is how many minima are put together.
    pub const fn new(span: u64) -> Self {
        Self { slots: [None; SLOTS], span, in_slot: 0, age: 0 }
    }

    /// How many minima ago the first one was that is known, or was remembered once.
    pub const fn age(&self) -> u64 {
        self.age
    }

    /// Takes a minimum that leaves the window; `None` where nothing was measured.
    pub fn add(&mut self, minimum: Option<u64>) {
        if minimum.is_some() || self.age > 0 {
            self.age = self.age.saturating_add(1);
        }
        if self.in_slot >= self.span {
            self.turn();
            self.in_slot = 0;
        }
        self.in_slot = self.in_slot.saturating_add(1);
        let (Some(value), Some(slot)) = (minimum, self.slots.last_mut()) else { return };
        *slot = Some(match *slot {
            None => Slot { high: value, low: value, fall: 0 },
            Some(known) => Slot {
                high: known.high.max(value),
                low: known.low.min(value),
                fall: known.fall.max(known.high.saturating_sub(value)),
            },
        });
    }

    /// So many were not measured.
    pub fn skip(&mut self, count: u64) {
        let spans = count.checked_div(self.span).unwrap_or(0);
        for _ in 0..spans.min(SLOTS as u64) {
            self.turn();
        }
        if self.age > 0 {
            self.age = self.age.saturating_add(count);
        }
    }

    fn turn(&mut self) {
        self.slots.rotate_left(1);
        if let Some(last) = self.slots.last_mut() {
            *last = None;
        }
    }

    /// What is remembered.
    pub fn past(&self) -> Past {
        let (mut past, mut highest_low) = (Past::default(), 0u64);
        for slot in self.slots.iter().flatten() {
            past = Past {
                high: past.high.max(slot.high),
                fall: past.fall.max(slot.fall).max(past.high.saturating_sub(slot.low)),
                swing: past.swing.max(highest_low.saturating_sub(slot.low)),
            };
            highest_low = highest_low.max(slot.low);
        }
        past
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(values: &[u64], span: u64) -> Past {
        let mut habit = Habit::new(span);
        values.iter().for_each(|value| habit.add(Some(*value)));
        habit.past()
    }

    fn high_and_fall(values: &[u64], span: u64) -> (u64, u64) {
        let Past { high, fall, .. } = past(values, span);
        (high, fall)
    }

    #[test]
    fn the_peak_and_the_deepest_fall_are_known_wherever_spans_begin() {
        for span in 1..8 {
            assert_eq!(past(&[], span), Past::default());
            assert_eq!(high_and_fall(&[10, 20, 90], span), (90, 0), "a rise is no fall");
            assert_eq!(high_and_fall(&[10, 90, 30, 60, 20, 40], span), (90, 70));
            assert_eq!(high_and_fall(&[50, 20, 95, 90, 70], span), (95, 30));
        }
    }

    #[test]
    fn a_swing_is_what_the_lowest_points_of_spans_do() {
        let days = [30, 90, 40, 85, 10, 70, 35, 95];
        assert_eq!((past(&days, 2).swing, past(&days, 2).fall), (30, 80));
        assert_eq!(past(&[10, 20, 30], 1).swing, 0);
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut habit = Habit::new(2);
        habit.add(Some(500));
        for _ in 0..63 {
            habit.add(Some(9));
        }
        assert_eq!((habit.past().high, habit.past().fall), (500, 491));
        for _ in 0..4 {
            habit.add(Some(9));
        }
        assert_eq!((habit.past(), habit.age()), (Past { high: 9, ..Past::default() }, 68));
        habit.skip(20);
        assert_eq!((habit.past(), habit.age()), (Past { high: 9, ..Past::default() }, 88));
        habit.skip(u64::MAX);
        assert_eq!((habit.past(), habit.age()), (Past::default(), u64::MAX));
    }

    #[test]
    fn time_in_which_nothing_was_measured_counts_only_after_the_first_measure() {
        let mut habit = Habit::new(3);
        habit.skip(70);
        habit.add(None);
        assert_eq!(habit.age(), 0);
        habit.add(Some(1));
        habit.add(None);
        assert_eq!((habit.age(), habit.past()), (2, Past { high: 1, ..Past::default() }));
    }
}
