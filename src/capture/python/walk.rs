//! The walk along the collector's lists: what there is, how large it is, and a sample of what the containers refer to.

use std::time::Instant;

use super::heap::{Body, Heap, Object, Run};
use super::layout::object;
use super::memory::Reach;
use super::types::{ByAddress, Kind};

/// How many references the sample holds at the most.
const SAMPLE: usize = 6000;

/// How many of the largest containers are kept.
const LARGEST: usize = 48;

/// How many of the heaviest, and what a container must take with its items to be one; bytes.
const HEAVIEST: usize = 12;
const HEAVY: u64 = 1 << 20;
/// With fewer items it is hardly one that grows.
const FEWEST_HEAVY: u64 = 8;

/// How many objects of each type are kept, to be looked into.
const SOME: usize = 8;

/// How many containers are weighed with what belongs to their items, and how many objects are looked at for each item.
const WEIGHED_DEEPLY: u64 = 64;
const LOOKED_AT_IN_EACH: u64 = 256;

/// Containers with fewer items are not told as holders.
const FEWEST_ITEMS: u64 = 64;

/// What has as many references is a large container.
pub const MANY: u64 = 2048;

/// After how many objects the clock is looked at, if nothing had to be read for them.
const STRETCH: u64 = 256;

/// A garbled list may be a ring that never comes back to its head; no process has this many objects.
const MOST: u64 = 1 << 32;

/// Pseudo-random numbers, always the same ones (xorshift64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A number below this one.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.checked_rem(limit).unwrap_or(0)
    }

    /// The address of one reference of a run: a random one of that part of it that has this number, of so many.
    ///
    /// Where several lie side by side they take turns: a dict's keys are small and its values may be large, and a sample with
    /// twice as many of these as of those would be wrong by a quarter.
    pub fn item(&mut self, run: &Run, number: u64, parts: u64) -> Option<u64> {
        let takes_turns = run.side > 1 && parts.checked_rem(run.side) == Some(0);
        let side = if takes_turns { run.side } else { 1 };
        let (groups, parts) = (run.total.checked_div(side)?, parts.checked_div(side)?);
        let (number, turn) = (number.checked_div(side)?, number.checked_rem(side)?);
        // The parts reach to the end, be they of unequal length: what is new is there.
        let begin = number.checked_mul(groups)?.checked_div(parts)?;
        let end = number.checked_add(1)?.checked_mul(groups)?.checked_div(parts)?;
        let group = begin.checked_add(self.below(end.saturating_sub(begin).max(1)))?;
        run.address(group.checked_mul(side)?.checked_add(turn)?)
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self(0x2545_F491_4F6C_DD1D)
    }
}

/// An even sample of all references that are shown to it, whose number need not be known beforehand.
///
/// Each stands for `spacing` references on the average; once the sample is full, half of it goes and the spacing doubles.
#[derive(Debug)]
pub struct Sample {
    /// The addresses of the references.
    pub places: Vec<u64>,
    /// How many references there were.
    pub total: u64,
    spacing: u64,
    skip: u64,
    dice: Dice,
}

impl Default for Sample {
    fn default() -> Self {
        Self { places: Vec::with_capacity(SAMPLE), total: 0, spacing: 1, skip: 0, dice: Dice::default() }
    }
}

impl Sample {
    fn add(&mut self, run: &Run) {
        self.total = self.total.saturating_add(run.total);
        let mut at = self.skip;
        while at < run.total {
            if let Some(address) = run.address(at) {
                self.places.push(address);
            }
            if self.places.len() >= SAMPLE {
                let dice = &mut self.dice;
                self.places.retain(|_| dice.below(2) == 0);
                self.spacing = self.spacing.saturating_mul(2);
            }
            // From 1 to twice the spacing less 1: the spacing on the average.
            let widest = self.spacing.saturating_mul(2).saturating_sub(1);
            at = at.saturating_add(self.dice.below(widest)).saturating_add(1);
        }
        self.skip = at.saturating_sub(run.total);
    }

    /// How many references each one of the sample stands for.
    pub fn weight(&self) -> f64 {
        if self.places.is_empty() { 0.0 } else { self.total as f64 / self.places.len() as f64 }
    }
}

/// Which objects were seen: a Bloom filter with two bits for each. Only one object in four is asked about, chosen by its
/// address; so a megabyte does for three million, of which it takes one in forty for seen that was not.
#[derive(Debug, Default)]
pub struct Seen(Vec<u64>);

impl Seen {
    const WORDS: usize = 1 << 17;

    /// Two places; `None` for an object that is not asked about.
    fn places(address: u64) -> Option<[(usize, u64); 2]> {
        let mixed = (address >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        if mixed >> 62 != 0 {
            return None;
        }
        let again = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        Some([again >> 41, again >> 18].map(|bit| {
            let word = usize::try_from(bit >> 6).unwrap_or(0) & Self::WORDS.wrapping_sub(1);
            (word, 1u64.wrapping_shl(u32::try_from(bit & 63).unwrap_or(0)))
        }))
    }

    fn add(&mut self, address: u64) {
        let Some(places) = Self::places(address) else { return };
        if self.0.is_empty() {
            self.0 = vec![0; Self::WORDS];
        }
        for (word, bit) in places {
            if let Some(word) = self.0.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// Whether this one was, or at least looks so; `None` for one that is not asked about.
    pub fn has(&self, address: u64) -> Option<bool> {
        let places = Self::places(address)?;
        Some(places.into_iter().all(|(word, bit)| self.0.get(word).is_some_and(|word| word & bit != 0)))
    }
}

/// A container among the largest.
#[derive(Clone, Copy, Debug)]
pub struct Large {
    /// Where it is.
    pub address: u64,
    /// How many items it holds.
    pub items: u64,
    /// What it takes itself; bytes.
    pub bytes: u64,
    /// What it is.
    pub kind: Kind,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Objects in the lists that were seen.
    pub seen: u64,
    /// What they take; bytes.
    pub bytes: u64,
    /// Whether there are more that were not seen.
    pub more: bool,
    /// How many more there are, as far as the collector tells.
    pub expected: u64,
    /// A sample of what small containers and other objects refer to.
    pub few: Sample,
    /// A sample of what large containers refer to. All of these are found, even if there is no time for all objects.
    pub many: Sample,
    /// Which ones these were.
    pub which: Seen,
    /// The containers with the most items, in no order.
    pub largest: Vec<Large>,
    /// Those that were found, with their items, to take the most, in no order.
    pub heaviest: Vec<Large>,
    fewest: u64,
    weighed: u64,
    dice: Dice,
    /// Each container with many items: a few thousand in a process of gigabytes.
    large: ByAddress<()>,
}

impl Tally {
    /// Counts an object of one of the lists.
    pub fn count_listed(&mut self, heap: &mut Heap, of: &Object, body: &Body) {
        self.seen = self.seen.wrapping_add(1);
        self.which.add(of.address);
        self.count(heap, of, body);
        // An even choice of all that were seen: each comes in with the probability that it must have at the end.
        if let Some(found) = heap.types.get_mut(of.number).filter(|_| is_looked_into(of.kind)) {
            if found.some.len() < SOME {
                found.some.push(of.address);
            } else if let Some(place) =
                usize::try_from(self.dice.below(found.seen)).ok().and_then(|at| found.some.get_mut(at))
            {
                *place = of.address;
            }
        }
    }

    /// Counts an object, whether it is in a list or not.
    pub fn count(&mut self, heap: &mut Heap, of: &Object, body: &Body) {
        for run in body.runs.iter().flatten() {
            if run.total < MANY {
                self.few.add(run);
            } else {
                self.many.add(run);
                self.large.insert(of.address, ());
            }
        }
        if let Some(items) = body.items.filter(|items| *items >= FEWEST_ITEMS && *items > self.fewest) {
            let large = Large { address: of.address, items, bytes: body.bytes, kind: of.kind };
            keep(&mut self.largest, LARGEST, large, |kept| kept.items);
            if self.largest.len() >= LARGEST {
                self.fewest = self.largest.iter().map(|kept| kept.items).min().unwrap_or(0);
            }
        }
        if let Some(found) = heap.types.get_mut(of.number) {
            found.seen = found.seen.wrapping_add(1);
            found.bytes = found.bytes.saturating_add(body.bytes);
        }
        self.bytes = self.bytes.saturating_add(body.bytes);
    }

    /// Counts an object of one of the lists, if it is a large container that the walk has not come by.
    pub fn count_missed(&mut self, heap: &mut Heap, of: &Object, body: &Body) {
        let large = body.runs.iter().flatten().any(|run| run.total >= MANY);
        if large && !self.large.contains_key(&of.address) {
            self.count_listed(heap, of, body);
        }
    }

    /// Weighs a container by a few of its items: not many items may take much. Of the first ones, which are the running functions'
    /// and the app's own, what belongs to the items is weighed as well.
    ///
    /// One for which there is no time until this moment is left out.
    pub fn weigh(&mut self, heap: &mut Heap, of: &Object, body: &Body, until: Instant) {
        let (Some(items), Some(run)) = (body.items, body.runs.iter().flatten().next()) else { return };
        if items < FEWEST_HEAVY {
            return;
        }
        self.weighed = self.weighed.saturating_add(1);
        let most = if self.weighed <= WEIGHED_DEEPLY { LOOKED_AT_IN_EACH } else { 1 };
        let mut bytes = 0.0;
        // In the middle and at the end, where what is new is; of a dict, keys and values.
        let groups = run.total.checked_div(run.side).unwrap_or_default();
        let looks =
            [groups >> 1, groups.saturating_sub(groups >> 2), groups.saturating_sub(2), groups.saturating_sub(1)];
        let at = |group: u64, side| group.saturating_mul(run.side).saturating_add(side);
        for at in looks.into_iter().flat_map(|group| (0..run.side).map(move |side| at(group, side))) {
            if heap.memory.is_past(until, true) {
                return;
            }
            let Some(item) = run.address(at).and_then(|place| heap.reference(run, place)) else { continue };
            bytes += super::belongings(heap, item, None, most, &mut self.dice);
        }
        let held = run.held as f64 / run.side.max(1) as f64;
        let bytes = (bytes / looks.len() as f64 * held) as u64;
        let bytes = body.bytes.saturating_add(bytes);
        if bytes >= HEAVY {
            let heavy = Large { address: of.address, items, bytes, kind: of.kind };
            keep(&mut self.heaviest, HEAVIEST, heavy, |kept| kept.bytes);
        }
    }
}

/// Whether objects of such a type are asked what belongs to them: those of classes are, and what else is no mere container.
pub const fn is_looked_into(kind: Kind) -> bool {
    matches!(kind, Kind::Instance | Kind::Generator | Kind::Other)
}

/// Keeps the largest by some measure.
fn keep(kept: &mut Vec<Large>, most: usize, large: Large, measure: impl Fn(&Large) -> u64) {
    if kept.iter().any(|known| known.address == large.address) {
        return;
    }
    if kept.len() < most {
        kept.push(large);
    } else if let Some(least) = kept.iter_mut().min_by_key(|large| measure(large))
        && measure(least) < measure(&large)
    {
        *least = large;
    }
}

/// One of the collector's lists.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// The address of its head.
    pub head: u64,
    /// How many objects it holds, as far as the collector tells.
    pub expected: u64,
    /// Whether `_gc_prev` leads back: not while a collection runs.
    pub both_ways: bool,
}

/// Shows each object of a list to `visit` until this moment. Whether that were all.
///
/// What there is no time for is left out of its middle: the newest objects are at its end, and it is mostly they that
/// have become too many.
pub fn each(
    heap: &mut Heap,
    list: List,
    until: Instant,
    visit: &mut impl FnMut(&mut Heap, &Object),
) -> Result<(), Broken> {
    let now = heap.memory.now();
    let half = until.saturating_duration_since(now).checked_div(2).unwrap_or_default();
    let first = if list.both_ways { now.checked_add(half).unwrap_or(until) } else { until };
    let stop = match follow(heap, list.head, list.head, 0, first, visit)? {
        None => return Ok(()),
        Some(stop) => stop,
    };
    if !list.both_ways {
        return Err(Broken::Late);
    }
    match follow(heap, list.head, stop, 8, until, visit)? {
        None => Ok(()),
        Some(_) => Err(Broken::Late),
    }
}

/// Why a list was not seen whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// There was no time for all of it.
    Late,
    /// It leads to where nothing can be read, or to what is no object.
    Torn,
}

/// Follows one link from the head until `end`. Where it stopped, if time ran out before.
fn follow(
    heap: &mut Heap,
    head: u64,
    end: u64,
    link: u64,
    until: Instant,
    visit: &mut impl FnMut(&mut Heap, &Object),
) -> Result<Option<u64>, Broken> {
    let start = heap.memory.word(head.wrapping_add(link)).ok_or(Broken::Torn)?;
    let mut at = start & !3;
    let mut reach = Reach::Near;
    let mut fills = heap.memory.fills;
    for count in 1..MOST {
        if at == end || at == head {
            return Ok(None);
        }
        let address = at.wrapping_add(object::HEAD);
        let (next, previous, object) = match heap.memory.words::<8>(at, reach) {
            Some([next, previous, words @ ..]) => (next, previous, heap.object_with(address, words)),
            None => {
                let [next, previous] = heap.memory.words::<2>(at, reach).ok_or(Broken::Torn)?;
                (next, previous, heap.object(address, reach))
            }
        };
        if let Some(object) = object {
            visit(heap, &object);
        } else if next == 0 {
            return Err(Broken::Torn);
        }
        at = if link == 0 { next } else { previous } & !3;
        let is_stretch = count & STRETCH.wrapping_sub(1) == 0;
        if heap.memory.is_past(until, is_stretch) {
            return Ok(Some(at));
        }
        if is_stretch {
            // Where objects lie scattered, most of a large window would be read for nothing.
            let read = heap.memory.fills.wrapping_sub(fills);
            fills = heap.memory.fills;
            reach = match reach {
                Reach::Near if read > STRETCH >> 3 => Reach::Far,
                Reach::Far if read < STRETCH >> 3 || count & 0xFFFF == 0 => Reach::Near,
                same => same,
            };
        }
    }
    Err(Broken::Torn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_even_and_bounded() {
        let mut sample = Sample::default();
        // A great many small containers, and one that is as large as all of them.
        for at in 0..500_000u64 {
            let base = at << 8;
            sample.add(&Run { base, stride: 8, side: 1, count: 2, total: 2, held: 2 });
        }
        sample.add(&Run { base: 1 << 40, stride: 8, side: 1, count: 1_000_000, total: 1_000_000, held: 1_000_000 });
        assert_eq!(sample.total, 2_000_000);
        assert!((SAMPLE / 4..SAMPLE).contains(&sample.places.len()), "{}", sample.places.len());
        let large = sample.places.iter().filter(|place| **place >= 1 << 40).count();
        let share = large as f64 / sample.places.len() as f64;
        assert!((0.45..0.55).contains(&share), "{share}");
    }

    #[test]
    fn every_part_of_a_run_may_be_looked_at_and_the_end_of_it_too() {
        for total in [1, 15, 16, 17, 31, 60, 95, 1000] {
            let run = Run { base: 800, stride: 8, side: 1, count: total, total, held: total };
            let mut dice = Dice::default();
            let mut seen = std::collections::HashSet::new();
            for _ in 0..4000 {
                for number in 0..16u64.min(total) {
                    seen.insert(dice.item(&run, number, 16.min(total)).unwrap());
                }
            }
            assert_eq!(seen, (0..total).map(|at| 800 + at * 8).collect(), "{total}");
        }
    }

    #[test]
    fn as_many_values_are_looked_at_as_keys() {
        let run = Run { base: 0, stride: 24, side: 2, count: 2000, total: 2000, held: 2000 };
        let mut dice = Dice::default();
        let places: Vec<u64> = (0..48).map(|number| dice.item(&run, number, 48).unwrap()).collect();
        assert_eq!(places.iter().filter(|place| *place % 24 == 8).count(), 24);
        assert!(places.windows(2).step_by(2).all(|pair| pair[1] / 24 < 1000 && pair[0] / 24 < 1000));
        // Each of them is looked at where there are no more than these.
        let few = Run { count: 8, total: 8, held: 8, ..run };
        let all: Vec<u64> = (0..8).map(|number| dice.item(&few, number, 8).unwrap()).collect();
        assert_eq!(all, [0, 8, 24, 32, 48, 56, 72, 80]);
    }

    #[test]
    fn what_stands_for_others_is_taken_again() {
        let run = Run { base: 800, stride: 8, side: 1, count: 4, total: 10, held: 10 };
        assert_eq!(run.address(9), Some(808));
        assert_eq!(Run { count: 0, ..run }.address(0), None);
        let pairs = Run { base: 800, stride: 24, side: 2, count: 4, total: 4, held: 4 };
        assert_eq!([0, 1, 2, 3].map(|at| pairs.address(at)), [800, 808, 824, 832].map(Some));
    }
}
