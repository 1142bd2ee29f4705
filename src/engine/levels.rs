//! All levels at which a limit may be enforced, and which of them counts.

use std::cmp::Reverse;
use std::time::Duration;

use super::cadence;
use super::event::{Command, Glimpse, Note, Sample};
use super::gauge::Gauged;
use super::ladder::Steps;
use super::peak::Peak;
use super::rate::{Burst, Rates, seconds_until};
use super::settings::{Settings, Stage};
use super::time::Moment;
use super::trend::Trending;
use crate::cgroup::reading::{Level, MAX_LEVELS, Reading, Scope};

/// Near the end: within a tenth of the limit of the stop or kill threshold.
const NEAR: u64 = 10;

/// Growing, as far as the cadence is concerned: at the rate of the last instant the limit is nearer than this many seconds.
/// The jitter of the kernel's counters alone stays above it, and a step is forgotten at once.
const GROWING: f64 = 1.0;

/// At the growth of the last milliseconds the limit is nearer than this many seconds: something is going on.
const BURSTING: f64 = 1.0;

/// A level that was reached in the last so long span is a habit.
pub(super) const HABIT: Duration = Duration::from_secs(5);

/// What the kernel charges in advance for each core (64 pages): usage jitters by that.
const STOCK: u64 = 64 * 4096;

/// What memini may need to look at processes.
const ENOUGH: u64 = 1 << 20;

/// So much of the limit, one part in so many, is next to nothing: it may have been gained before memory is measured anew, and
/// beyond a level that is a habit.
const RISEN: u64 = 64;

/// What is known of one level.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    seen: Gauged,
    steps: Steps,
    /// Bytes until something is to be done.
    distance: u64,
    unreachable: Option<Stage>,
    rates: Rates,
    burst: Burst,
    /// How high it has been.
    habit: Peak<u64>,
    /// What was seen when it was last measured, and what the whole machine held then.
    measured: Option<Gauged>,
    held_then: Option<u64>,
    /// Whether the machine's gain since then tells that next to nothing was gained here.
    is_bounded: bool,
    swap_usage: u64,
    swap_capacity: u64,
    /// The limit that was last told of, if it was.
    told: Option<Option<u64>>,
}

impl Track {
    fn take(
        &mut self,
        now: Moment,
        level: &Level,
        soft: Option<u64>,
        held: Option<u64>,
        full: bool,
        settings: &Settings,
    ) {
        if level.scope != self.seen.scope {
            *self = Self::default();
        }
        let swapped = (self.swap_capacity, level.swap_capacity);
        let level = if full {
            (self.swap_usage, self.swap_capacity) = (level.swap_usage, level.swap_capacity);
            *level
        } else {
            Level { swap_usage: self.swap_usage, swap_capacity: self.swap_capacity, ..*level }
        };
        let limit = self.seen.limit;
        self.seen = Gauged::new(&level, settings.gauge, soft, full);
        if self.seen.limit != limit {
            self.habit = Peak::default();
        }
        (self.steps, self.unreachable) =
            self.seen.limit.map_or_else(Default::default, |limit| Steps::resolve(&settings.thresholds, limit));
        let is_known = self.look_at(held, settings.cores);
        let distance = |from, to| {
            let acts = |stage| (from..=to).contains(&stage) && settings.acts_at(stage);
            self.steps.distance(self.seen.gauged, acts)
        };
        let end = distance(Stage::Stop, Stage::Kill).saturating_sub(cadence::MARGIN);
        self.distance = distance(Stage::Trace, Stage::Capture).min(end);
        if full && (swapped.0 > 0) != (swapped.1 > 0) {
            self.rates.skip();
        }
        if self.seen.exact {
            self.rates.add(now, self.seen.gauged);
            self.habit.add(now, self.seen.gauged, HABIT);
        }
        // A glance that tells nothing is followed by a full reading at once, which must be compared with what was known last.
        if is_known || !self.is_high() {
            self.burst.add(now, self.seen.usage, is_known.then_some(self.seen.gauged));
        }
    }

    /// Notes what was measured, or finds a bound for what was not. Whether either is known.
    fn look_at(&mut self, held: Option<u64>, cores: u32) -> bool {
        if self.seen.exact {
            (self.measured, self.held_then) = (Some(self.seen), held);
        } else {
            // What somebody else has let go of meanwhile must not hide what is gained after it.
            self.held_then = self.held_then.zip(held).map(|(then, now)| then.min(now));
        }
        self.is_bounded = false;
        let Some(measured) = self.measured else { return false };
        if let Some(bound) = self.bound_by_machine(&measured, held) {
            (self.seen.gauged, self.is_bounded) = (bound, true);
        } else if !self.seen.exact {
            if !self.stands_still(cores) {
                return false;
            }
            self.seen.gauged = self.bound(&measured);
        }
        true
    }

    /// Whether usage is what it was when memory was last measured, and nothing is being reclaimed: then what it is made of
    /// has not changed either.
    fn stands_still(&self, cores: u32) -> bool {
        let jitter = u64::from(cores.max(1)).saturating_mul(STOCK);
        let used = self.seen.memory.saturating_add(jitter.saturating_mul(4));
        let reclaims = self.seen.nominal.is_some_and(|limit| used > limit);
        !reclaims
            && self.measured.is_some_and(|measured| {
                let same_stage = self.steps.reached(self.bound(&measured)) == self.steps.reached(measured.gauged);
                same_stage && measured.limit == self.seen.limit && measured.memory.abs_diff(self.seen.memory) <= jitter
            })
    }

    /// What can be gauged at most as long as nothing is reclaimed.
    fn bound(&self, measured: &Gauged) -> u64 {
        measured.gauged.saturating_add(self.seen.memory.saturating_sub(measured.memory))
    }

    /// What can be gauged at most after what the whole machine has gained since it was measured, if that is next to nothing
    /// and calls for nothing. While page cache keeps usage at the limit, usage tells nothing.
    fn bound_by_machine(&self, measured: &Gauged, held: Option<u64>) -> Option<u64> {
        let gained = held?.saturating_sub(self.held_then?);
        let (limit, bound) = (self.seen.limit?, measured.gauged.saturating_add(gained));
        let holds = measured.limit == self.seen.limit && gained <= limit / RISEN;
        (holds && self.steps.lowest().is_none_or(|lowest| bound < lowest)).then_some(bound.min(self.seen.usage))
    }

    /// How long the fastest fill takes to the next thing that matters here.
    fn sleep(&self, ceiling: f64, lateness: Duration) -> Duration {
        let Some(limit) = self.seen.limit else { return cadence::LONGEST };
        let bytes = self.seen.gauged;
        let end = self.steps.of(Stage::Stop).or(self.steps.of(Stage::Kill));
        let near = end.is_some_and(|end| bytes >= end.saturating_sub(limit / NEAR));
        // On a busy machine a look comes late. That is no reason to look more often as long as nothing grows.
        let grows = self.seconds_at(self.burst.rate()) < BURSTING;
        let lateness = if grows { lateness } else { Duration::ZERO };
        cadence::sleep(self.distance, ceiling, lateness, near && self.is_growing())
    }

    /// Whether the growth of the last milliseconds would pass the limit of a group within this time. Where it has been before,
    /// it has come back from: compilers, databases and collectors grow as fast again and again.
    fn is_outrun(&self, span: Duration) -> bool {
        let gained = self.burst.rate() * span.as_secs_f64();
        let slack = self.seen.limit.unwrap_or_default() / RISEN;
        let earlier = self.habit.earlier();
        let is_news = earlier == 0 || self.seen.gauged > earlier.saturating_add(slack);
        self.is_enforced() && is_news && gained > 0.0 && self.seen.room().is_some_and(|room| gained >= room as f64)
    }

    /// Whether it is a group's, whose limit the kernel enforces.
    const fn is_enforced(&self) -> bool {
        matches!(self.seen.scope, Scope::Own | Scope::Ancestor(_))
    }

    fn is_high(&self) -> bool {
        self.steps.lowest().is_some_and(|lowest| self.seen.usage >= lowest)
    }

    fn is_growing(&self) -> bool {
        self.seconds_at(self.rates.instant()) < GROWING
    }

    /// Seconds until the limit at the fastest rate.
    fn seconds_left(&self) -> f64 {
        self.seconds_at(self.rates.fastest())
    }

    /// Seconds until the limit at this rate; infinite if it is never reached.
    fn seconds_at(&self, rate: f64) -> f64 {
        self.seen.room().and_then(|room| seconds_until(room, rate)).unwrap_or(f64::INFINITY)
    }

    fn sample(&self) -> Sample {
        let room = self.seen.room();
        let rate = self.rates.steady();
        Sample {
            usage: self.seen.usage,
            gauged: self.seen.gauged,
            limit: self.seen.limit,
            room,
            rate,
            time_to_limit: room.and_then(|room| seconds_until(room, rate)),
            stat: self.seen.stat,
        }
    }

    /// Notes a limit that is not the one last told of, and a stage that it makes impossible.
    fn tell(&mut self, commands: &mut Vec<Command>) {
        let to = self.seen.nominal;
        match self.told.replace(to) {
            Some(from) if from == to => return,
            Some(from) => commands.push(Command::Note(Note::LimitChanged { from, to })),
            None => {}
        }
        if let (Some(limit), Some(stage)) = (self.seen.limit, self.unreachable) {
            commands.push(Command::Note(Note::ThresholdsUnreachable { limit, stage }));
        }
    }
}

/// What decisions rest on: the level that counts, at this moment.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// What is noted.
    pub sample: Sample,
    /// The level's measures.
    pub level: Gauged,
    /// Where its stages begin.
    pub steps: Steps,
    /// The stage that is called for.
    pub reached: Stage,
    /// The stage that has not ended yet, if it had begun.
    pub held: Stage,
    /// Seconds until the limit at the fastest rate; infinite if there is no growth.
    pub seconds_left: f64,
    /// The fastest rate, bytes a second.
    pub fastest: f64,
}

/// The levels of the readings.
#[derive(Debug, Default)]
pub struct Levels {
    tracks: [Track; MAX_LEVELS],
    count: usize,
    /// The level with the least room, when all were last measured.
    narrowest: usize,
}

impl Levels {
    /// Takes a reading. `now` is in the time that the tree has had to grow in.
    pub fn take(&mut self, now: Moment, reading: &Reading, full: bool, settings: &Settings) {
        let levels = reading.levels();
        let tree = levels.iter().any(|level| level.scope == Scope::Tree);
        let own = if tree { Scope::Tree } else { Scope::Own };
        self.count = levels.len();
        for (track, level) in self.tracks.iter_mut().zip(levels) {
            let soft = settings.soft_limit.filter(|_| level.scope == own);
            track.take(now, level, soft, reading.machine_held, full, settings);
        }
        if full {
            let room = |track: &Track| track.seen.room().unwrap_or(u64::MAX);
            let narrowest = self.tracks().iter().enumerate().min_by_key(|(_, track)| room(track));
            self.narrowest = narrowest.map_or(0, |(index, _)| index);
        }
    }

    /// What the last reading showed of the level with the least room.
    pub fn look(&self) -> Option<Glimpse> {
        let track = self.tracks().get(self.narrowest)?;
        let seen = &track.seen;
        Some(Glimpse {
            usage: seen.usage,
            gauged: seen.exact.then_some(seen.gauged),
            limit: seen.limit,
            swap: seen.usage.saturating_sub(seen.memory),
            rate: track.rates.steady(),
            stat: seen.stat,
            trending: Trending::default(),
        })
    }

    fn tracks(&self) -> &[Track] {
        self.tracks.get(..self.count).unwrap_or_default()
    }

    /// What is gauged, or its bound, where the least room is left.
    pub fn nearest(&self) -> u64 {
        let room = |track: &&Track| track.seen.room().unwrap_or(u64::MAX);
        self.tracks().iter().min_by_key(room).map_or(0, |track| track.seen.gauged)
    }

    /// What the app's own level holds, if it was measured: its group, or its tree of processes.
    pub fn own(&self) -> Option<u64> {
        let own = self.tracks().first().filter(|track| matches!(track.seen.scope, Scope::Own | Scope::Tree))?;
        own.seen.exact.then_some(own.seen.gauged)
    }

    /// Whether any level may have reached a stage, as far as its usage tells.
    pub fn are_high(&self) -> bool {
        self.tracks().iter().any(Track::is_high)
    }

    /// Whether every level with a limit was measured, and not only some.
    pub fn are_measured(&self) -> bool {
        self.tracks().iter().all(|track| track.seen.exact || track.seen.limit.is_none())
    }

    /// Whether below a limit of the kernel's less is left than memini itself may need to look at processes. The kernel's own
    /// objects for that are charged to the group: at the limit it is memini's system call that calls the OOM killer.
    pub fn are_scarce(&self) -> bool {
        let room = |seen: &Gauged| seen.enforced.map(|limit| limit.saturating_sub(seen.gauged));
        self.tracks().iter().any(|track| track.seen.exact && room(&track.seen).is_some_and(|room| room < ENOUGH))
    }

    /// Whether none of those that look high can be.
    pub fn are_bounded(&self) -> bool {
        self.tracks().iter().all(|track| track.is_bounded || !track.is_high())
    }

    /// Whether nothing has changed since memory was last measured.
    pub fn stand_still(&self, cores: u32) -> bool {
        self.tracks().iter().all(|track| track.stands_still(cores))
    }

    /// Whether some level can be swapped: then a fast reading tells nothing.
    pub fn can_swap(&self) -> bool {
        self.tracks().iter().any(|track| track.swap_capacity > 0)
    }

    /// How long memini may sleep.
    pub fn sleep(&self, ceiling: f64, lateness: Duration) -> Duration {
        self.tracks().iter().map(|track| track.sleep(ceiling, lateness)).min().unwrap_or(cadence::LONGEST)
    }

    /// Seconds until the first limit is reached at the growth of the last milliseconds.
    pub fn seconds_left(&self) -> f64 {
        let left = |track: &Track| track.seconds_at(track.burst.rate());
        self.tracks().iter().map(left).fold(f64::INFINITY, f64::min)
    }

    /// The same for the limits of groups, and a growth of at least so many bytes a second.
    pub fn seconds_left_at(&self, rate: f64) -> f64 {
        let enforced = self.tracks().iter().filter(|track| track.is_enforced());
        enforced.map(|track| track.seconds_at(track.burst.rate().max(rate))).fold(f64::INFINITY, f64::min)
    }

    /// Whether any limit would be passed within this time.
    pub fn are_outrun(&self, span: Duration) -> bool {
        self.tracks().iter().any(|track| track.is_outrun(span))
    }

    /// The level that counts: where the highest stage is called for, then where the least room is left. Levels that could
    /// not be measured are left out; `None` if nothing was measured.
    pub fn view(&self) -> Option<View> {
        let measured = || self.tracks().iter().filter(|track| track.seen.exact);
        let binding = measured().max_by_key(|track| {
            let room = track.seen.room();
            (self.reached(track), room.is_some(), Reverse(room))
        })?;
        let held = measured().map(|track| self.held(track)).max()?;
        Some(View {
            sample: binding.sample(),
            level: binding.seen,
            steps: binding.steps,
            reached: self.reached(binding),
            held,
            seconds_left: binding.seconds_left(),
            fastest: binding.rates.fastest(),
        })
    }

    /// The stages that a level can call for. On the whole machine's memory that is no more than `capture` unless our own
    /// share of it is a half (one part in `part`): nobody is stopped for a neighbour's growth.
    fn steps(&self, track: &Track, part: u64) -> Steps {
        let own = self.tracks().first().map_or(0, |own| own.seen.usage);
        let foreign = track.seen.scope == Scope::Host && own.saturating_mul(part) < track.seen.gauged;
        if foreign { track.steps.without_force() } else { track.steps }
    }

    fn reached(&self, track: &Track) -> Stage {
        self.steps(track, 2).reached(track.seen.gauged)
    }

    /// A neighbour's growth ends a stage more slowly than it begins one, or the stage would flap with its share.
    fn held(&self, track: &Track) -> Stage {
        self.steps(track, 3).held(track.seen.gauged)
    }

    /// Notes changes of the limits that count: the own one, and the one that the view rests on.
    pub fn tell(&mut self, view: &View, commands: &mut Vec<Command>) {
        let count = self.count;
        for (index, track) in self.tracks.iter_mut().take(count).enumerate() {
            if index == 0 || track.seen.scope == view.level.scope {
                track.tell(commands);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::reading::Stat;

    const MIB: u64 = 1 << 20;

    fn own(usage: u64) -> Level {
        Level { usage: usage * MIB, limit: Some(1000 * MIB), stat: Some(Stat::default()), ..Level::default() }
    }

    fn reading(levels: &[Level]) -> Reading {
        let mut reading = Reading::new();
        for level in levels {
            assert!(reading.push(*level));
        }
        reading
    }

    fn taken(levels: &[Level], settings: &Settings) -> Levels {
        let mut taken = Levels::default();
        taken.take(Moment::default(), &reading(levels), true, settings);
        taken
    }

    #[test]
    fn the_highest_stage_counts_and_then_the_least_room() {
        let parent = |usage, limit| Level { scope: Scope::Ancestor(1), limit: Some(limit * MIB), ..own(usage) };
        for (levels, counts, stage) in [
            ([own(500), parent(500, 2000)], Scope::Own, Stage::Normal),
            ([own(500), parent(500, 900)], Scope::Ancestor(1), Stage::Normal),
            ([own(850), parent(1700, 2000)], Scope::Own, Stage::Capture),
            ([own(850), parent(3700, 4000)], Scope::Ancestor(1), Stage::Stop),
        ] {
            let view = taken(&levels, &Settings::default()).view().unwrap();
            assert_eq!((view.level.scope, view.reached), (counts, stage), "{levels:?}");
        }
    }

    #[test]
    fn a_level_with_a_limit_counts_more_than_one_without() {
        let unlimited = Level { limit: None, ..own(900) };
        let parent = Level { scope: Scope::Ancestor(1), ..own(100) };
        let view = taken(&[unlimited, parent], &Settings::default()).view().unwrap();
        assert_eq!((view.level.scope, view.reached), (Scope::Ancestor(1), Stage::Normal));
        let view = taken(&[unlimited], &Settings::default()).view().unwrap();
        assert_eq!((view.sample.limit, view.reached, view.held), (None, Stage::Normal, Stage::Normal));
    }

    #[test]
    fn nobody_is_stopped_for_a_neighbours_growth() {
        let host = |usage| Level { scope: Scope::Host, ..own(usage) };
        let unlimited = |usage| Level { limit: None, ..own(usage) };
        for (ours, all, reached, held) in [
            (100, 980, Stage::Capture, Stage::Capture),
            (326, 980, Stage::Capture, Stage::Capture),
            (327, 980, Stage::Capture, Stage::Kill),
            (490, 980, Stage::Kill, Stage::Kill),
            (100, 700, Stage::Trace, Stage::Trace),
        ] {
            let view = taken(&[unlimited(ours), host(all)], &Settings::default()).view().unwrap();
            assert_eq!((view.reached, view.held), (reached, held), "{ours} of {all}");
        }
    }

    #[test]
    fn the_users_limit_is_for_the_tree_if_there_is_one_else_for_the_own_group() {
        let settings = Settings { soft_limit: Some(100 * MIB), ..Settings::default() };
        let unlimited = Level { limit: None, ..own(90) };
        let tree = Level { scope: Scope::Tree, ..unlimited };
        let view = taken(&[unlimited], &settings).view().unwrap();
        assert_eq!((view.reached, view.sample.room), (Stage::Capture, Some(10 * MIB)));
        let view = taken(&[tree, unlimited], &settings).view().unwrap();
        assert_eq!((view.level.scope, view.reached), (Scope::Tree, Stage::Capture));
        let view = taken(&[Level { usage: 0, ..tree }, unlimited], &settings).view().unwrap();
        assert_eq!((view.level.scope, view.reached), (Scope::Tree, Stage::Normal));
    }

    #[test]
    fn levels_that_were_not_measured_decide_nothing() {
        let blind = Level { stat: None, ..own(990) };
        assert!(taken(&[blind], &Settings::default()).view().is_none());
        let parent = Level { scope: Scope::Ancestor(1), ..own(100) };
        let view = taken(&[blind, parent], &Settings::default()).view().unwrap();
        assert_eq!(view.reached, Stage::Normal);
        assert!(taken(&[], &Settings::default()).view().is_none());
    }

    // Ten times a second a stage ended and began again.
    #[test]
    fn a_glance_at_a_sum_of_processes_decides_nothing_while_the_group_was_not_measured() {
        let tree = Level { scope: Scope::Tree, stat: None, ..own(100) };
        for (group, limit, measured) in [(true, Some(1000), true), (false, Some(1000), false), (false, None, true)] {
            let stat = group.then(Stat::default);
            let own = Level { stat, limit, ..own(700) };
            let mut levels = Levels::default();
            levels.take(Moment::default(), &reading(&[tree, own]), false, &Settings::default());
            assert_eq!(levels.are_measured(), measured, "{group} {limit:?}");
        }
    }

    #[test]
    fn memory_is_scarce_below_the_kernels_limit_alone() {
        let settings = Settings { soft_limit: Some(500 * MIB), ..Settings::default() };
        for (usage, scarce) in [(499, false), (600, false), (999, false), (1000, true)] {
            assert_eq!(taken(&[own(usage)], &settings).are_scarce(), scarce, "{usage}");
        }
        let parent = Level { scope: Scope::Ancestor(1), ..own(1000) };
        assert!(taken(&[own(100), parent], &Settings::default()).are_scarce());
    }

    #[test]
    fn a_changed_limit_is_told_once() {
        let settings = Settings::default();
        let mut levels = Levels::default();
        let mut told = Vec::new();
        for limit in [Some(1000), Some(1000), Some(500), Some(500), None, Some(500)] {
            let level = Level { limit, ..own(0) };
            levels.take(Moment::default(), &reading(&[level]), true, &settings);
            levels.tell(&levels.view().unwrap(), &mut told);
        }
        let changed = |from, to| Command::Note(Note::LimitChanged { from, to });
        assert_eq!(told, [changed(Some(1000), Some(500)), changed(Some(500), None), changed(None, Some(500))]);
    }

    #[test]
    fn swap_that_others_use_up_is_no_change_of_the_limit() {
        let settings = Settings::default();
        let mut levels = Levels::default();
        let mut told = Vec::new();
        for swap_capacity in [900, 800, 0] {
            let level = Level { swap_capacity, ..own(0) };
            levels.take(Moment::default(), &reading(&[level]), true, &settings);
            assert_eq!(levels.can_swap(), swap_capacity > 0);
            levels.tell(&levels.view().unwrap(), &mut told);
        }
        assert_eq!(told, []);
    }

    #[test]
    fn a_fast_reading_takes_the_swap_of_the_last_full_one() {
        let settings = Settings::default();
        let mut levels = Levels::default();
        let full = Level { swap_usage: 400 * MIB, swap_capacity: 1000 * MIB, ..own(500) };
        levels.take(Moment::default(), &reading(&[full]), true, &settings);
        levels.take(Moment::default(), &reading(&[Level { stat: None, ..own(900) }]), false, &settings);
        assert!(levels.can_swap() && levels.are_high() && levels.view().is_none());
    }

    #[test]
    fn swap_that_begins_to_count_is_not_growth() {
        let settings = Settings::default();
        let mut levels = Levels::default();
        for (second, swap_capacity) in [(0, 0), (1, 1000 * MIB), (2, 1000 * MIB)] {
            let level = Level { swap_usage: 300 * MIB, swap_capacity, ..own(500) };
            let now = Moment::default().after(Duration::from_secs(second));
            levels.take(now, &reading(&[level]), true, &settings);
            assert_eq!(levels.view().unwrap().fastest, 0.0, "second {second}");
        }
    }

    #[test]
    fn the_sleep_is_the_shortest_of_all_levels_and_long_where_no_limit_is() {
        let ceiling = 6e9;
        let unlimited = Level { limit: None, ..own(900) };
        assert_eq!(taken(&[unlimited], &Settings::default()).sleep(ceiling, Duration::ZERO), cadence::LONGEST);
        assert_eq!(taken(&[], &Settings::default()).sleep(ceiling, Duration::ZERO), cadence::LONGEST);
        let parent = Level { scope: Scope::Ancestor(1), ..own(540) };
        let both = taken(&[own(0), parent], &Settings::default()).sleep(ceiling, Duration::ZERO);
        assert_eq!(both, taken(&[own(540)], &Settings::default()).sleep(ceiling, Duration::ZERO));
        assert!(both < taken(&[own(0)], &Settings::default()).sleep(ceiling, Duration::ZERO));
    }

    #[test]
    fn near_the_end_the_floor_is_lower_while_it_grows() {
        let settings = Settings { hooks: vec![Stage::Capture], ..Settings::default() };
        for (from, to, micros) in
            [(930, 969, 500), (960, 969, 2000), (969, 969, 2000), (799, 799, 2000), (790, 799, 2000)]
        {
            let mut levels = Levels::default();
            for (second, usage) in [(0, from), (1, to)] {
                let now = Moment::default().after(Duration::from_secs(second));
                levels.take(now, &reading(&[own(usage)]), true, &settings);
            }
            assert_eq!(levels.sleep(6e9, Duration::ZERO).as_micros(), micros, "{from} to {to}");
        }
    }
}
