//! The brake: growth that would reach the limit before memini could look again is stopped for a moment, and looked at.
//!
//! The tree is stopped (SIGSTOP) and memory read until it stands still; then the ladder decides on numbers that cannot run
//! away meanwhile, and the tree goes on unless it is to be killed. A moment later it is looked at again, until it either
//! grows slowly enough to be followed in the usual way or has to be stopped once more. A growth that nobody could follow
//! becomes one that can be followed.
//!
//! Where the kernel can be told to stop the tree at a given moment, memini need not be woken in time: the tree is let run
//! until half of what is left is used up, and no longer unless memini comes back before that and says so. A growth that can
//! still be followed in this way is not stopped at all.

use std::time::Duration;

use super::event::{Command, Note};
use super::levels::View;
use super::rate::span;
use super::time::Moment;
use super::watch::Incident;
use super::{Engine, Phase};

/// How late a woken process may run where others want the processor, beside what it sleeps: 3.9 ms were measured between
/// two threads that fill memory, 17 ms (p99) where the whole machine is busy.
pub(super) const LATENESS: Duration = Duration::from_millis(10);

/// The longest that the tree is stopped, whatever memory does meanwhile.
pub(super) const LONGEST_STOP: Duration = Duration::from_millis(2);

/// Between two looks at a tree that is stopped. A thread that is in the kernel when the signal comes ends what it does
/// there first: zeroing a huge page takes that long.
const SETTLE: Duration = Duration::from_micros(50);

/// Who grows that often in a row although it is stopped does not end what it was about to do: the kernel fills a range of
/// pages in one go, which only SIGKILL ends.
const DEFIANCE: u32 = 2;

/// How long the tree goes on until it is looked at again: a part of the time in which it would reach the limit, between these.
/// Each time it is let go, memini may be woken late, so that few long runs lose less than many short ones. Memini sleeps
/// meanwhile: to wait busily uses up the share of the processor that a woken process needs to be run at once, and lost twice
/// as many races.
const RUN: Duration = Duration::from_micros(300);
const LONGEST_RUN: Duration = Duration::from_millis(1);
const PARTS: f64 = 4.0;

/// The longest from look to look, and the shortest and longest time for which the tree is let run, where the kernel stops it
/// then.
const LONGEST_LOOK: Duration = Duration::from_millis(3);
const SHORTEST_LEAVE: Duration = Duration::from_micros(100);
const LONGEST_LEAVE: Duration = Duration::from_millis(6);

/// Growth that takes longer than this to the limit can be followed while it goes on: there are some looks left.
const FOLLOWED: Duration = Duration::from_micros(1200);

/// Brakes that are no farther apart than this are told of as one.
const SERIES: Duration = Duration::from_secs(1);

/// What the brake does.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Nothing.
    #[default]
    Free,
    /// The tree is stopped, and is read again `next`; it goes on at `until` at the latest.
    Stopped { since: Moment, until: Moment, next: Moment, seen: Option<u64> },
    /// It goes on, and is looked at again then. Where the kernel was told so, it stops the tree when that `ends`.
    Watched { next: Moment, ends: Option<Moment> },
}

/// The brake, and what it has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Brake {
    state: State,
    /// How often in a row memory was seen to grow although the tree is stopped.
    defied: u32,
    /// All the time for which the tree was stopped so far: time in which nothing could grow.
    stopped: Duration,
    /// What is still to be told.
    times: u64,
    untold: Duration,
    last: Moment,
}

impl Brake {
    /// The time that the tree has had to grow in: rates are measured in it.
    pub(super) fn running_time(&self, now: Moment) -> Moment {
        let present = match self.state {
            State::Stopped { since, .. } => now.since(since),
            State::Watched { ends: Some(ends), .. } => now.since(ends),
            State::Free | State::Watched { .. } => Duration::ZERO,
        };
        now.before(self.stopped.saturating_add(present))
    }

    pub(super) const fn is_active(&self) -> bool {
        !matches!(self.state, State::Free)
    }

    /// Whether memory grows although the tree is stopped.
    pub(super) const fn is_defied(&self) -> bool {
        self.is_stopped() && self.defied >= DEFIANCE
    }

    pub(super) const fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped { .. })
    }

    /// Whether the kernel will stop the tree, or has, unless it is told otherwise.
    pub(super) const fn is_timed(&self) -> bool {
        matches!(self.state, State::Watched { ends: Some(_), .. })
    }

    /// Since when the kernel has stopped the tree, if it has.
    fn ran_out(&self, now: Moment) -> Option<Moment> {
        match self.state {
            State::Watched { ends, .. } => ends.filter(|ends| *ends <= now),
            State::Free | State::Stopped { .. } => None,
        }
    }

    /// Whether the tree is stopped, by memini or by the kernel.
    pub(super) fn stands_still(&self, now: Moment) -> bool {
        self.is_stopped() || self.ran_out(now).is_some()
    }

    pub(super) const fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Free => None,
            State::Stopped { next, .. } | State::Watched { next, .. } => Some(next),
        }
    }

    /// The tree is stopped, and may have been for some time.
    fn stop(&mut self, since: Moment, now: Moment) {
        let until = now.after(LONGEST_STOP);
        self.state = State::Stopped { since, until, next: now.after(SETTLE), seen: None };
        self.defied = 0;
        self.count(now);
    }

    fn count(&mut self, now: Moment) {
        self.times = self.times.saturating_add(1);
        self.last = now;
    }

    fn add(&mut self, span: Duration) {
        self.stopped = self.stopped.saturating_add(span);
        self.untold = self.untold.saturating_add(span);
    }

    /// A reading of a stopped tree: whether it stands still, or its time is up.
    fn settles(&mut self, now: Moment, gauged: u64) -> bool {
        let State::Stopped { until, next, seen, .. } = &mut self.state else { return true };
        let before = seen.replace(gauged);
        if before.is_some_and(|before| gauged <= before) || now >= *until {
            return true;
        }
        if before.is_some() {
            self.defied = self.defied.saturating_add(1);
        }
        *next = now.after(SETTLE).min(*until);
        false
    }

    /// The tree goes on, or is about to be killed. False if it was not stopped.
    fn end_stop(&mut self, now: Moment) -> bool {
        let State::Stopped { since, .. } = self.state else { return false };
        self.add(now.since(since));
        self.state = State::Free;
        true
    }

    /// Whether the tree may be stopped again.
    fn has_had_its_turn(&self, now: Moment) -> bool {
        match self.state {
            State::Watched { next, .. } => now >= next,
            State::Free | State::Stopped { .. } => true,
        }
    }
}

impl Engine {
    /// Before anything else is done about a reading. True if it is too early to decide anything: the tree has just been
    /// stopped, or does not stand still yet.
    pub(super) fn brake(&mut self, view: &View, commands: &mut Vec<Command>) -> bool {
        if self.brake.is_stopped() {
            let stands_still = self.brake.settles(self.now, view.sample.gauged);
            return !stands_still && !self.is_to_be_killed(view);
        }
        if !self.watch.brakes {
            return false;
        }
        if let Some(since) = self.brake.ran_out(self.now) {
            self.stop_tree(since, commands);
            return true;
        }
        if !self.brake.has_had_its_turn(self.now) {
            return false;
        }
        let was_timed = self.brake.is_timed();
        self.brake.state = State::Free;
        let is_doomed = self.is_to_be_killed(view);
        if is_doomed && self.watch.levels.are_scarce() {
            return false;
        }
        if !self.watch.is_outrun() {
            if was_timed && !is_doomed {
                commands.push(Command::Release);
            }
            return false;
        }
        if self.watch.has_stop_timer && !is_doomed && self.left_to_follow() >= FOLLOWED {
            self.run_for_a_while(commands);
            return false;
        }
        self.stop_tree(self.now, commands);
        true
    }

    fn stop_tree(&mut self, since: Moment, commands: &mut Vec<Command>) {
        self.brake.stop(since, self.now);
        commands.push(Command::Brake);
        // It counts for the kernel, and is room that the app may need within milliseconds.
        self.watch.free_ballast(commands);
        commands.push(Command::ReadFull);
    }

    /// How long until a limit is reached at the growth of the last milliseconds, which may be about to double.
    fn left_to_follow(&self) -> Duration {
        span(self.watch.levels.seconds_left_at(self.watch.usual_fill()))
    }

    /// The tree runs until half of what is left is used up, and is looked at before that.
    fn run_for_a_while(&mut self, commands: &mut Vec<Command>) {
        let leave = self.left_to_follow().div_f64(2.0).clamp(SHORTEST_LEAVE, LONGEST_LEAVE);
        let next = leave.div_f64(2.0).clamp(RUN, LONGEST_LOOK);
        self.brake.state = State::Watched { next: self.now.after(next), ends: Some(self.now.after(leave)) };
        commands.push(Command::RunFor(leave));
    }

    /// After everything else: the tree goes on, unless it is to be killed.
    pub(super) fn release(&mut self, commands: &mut Vec<Command>) {
        if !self.watch.brakes {
            // Only now: what was just decided may be to kill it.
            self.let_go(commands);
            return;
        }
        if !self.brake.end_stop(self.now) || self.is_killed() {
            return;
        }
        if self.watch.has_stop_timer && self.watch.is_outrun() {
            self.run_for_a_while(commands);
            return;
        }
        commands.push(Command::Release);
        let left = span(self.watch.levels.seconds_left()).min(LATENESS).saturating_sub(self.watch.lateness.expected());
        let run = left.div_f64(PARTS).clamp(RUN, LONGEST_RUN);
        self.brake.state = State::Watched { next: self.now.after(run), ends: None };
    }

    /// Nothing is known about memory, or nothing is to be done about it any more: the tree goes on, and nothing stops it.
    pub(super) fn let_go(&mut self, commands: &mut Vec<Command>) {
        if self.end_brake() && !self.is_killed() {
            commands.push(Command::Release);
        }
    }

    /// The brake does nothing any more. Whether the tree is stopped by it, or would be.
    pub(super) fn end_brake(&mut self) -> bool {
        if let Some(since) = self.brake.ran_out(self.now) {
            self.brake.stop(since, self.now);
        }
        let is_timed = self.brake.is_timed();
        let is_stopped = self.brake.end_stop(self.now);
        self.brake.state = State::Free;
        is_timed || is_stopped
    }

    const fn is_killed(&self) -> bool {
        matches!(self.phase, Phase::Stopping(stop) if stop.is_kill())
    }

    /// The tree was stopped for so long until now, and not by the engine's order.
    pub fn stood_still(&mut self, now: Moment, span: Duration) {
        self.brake.count(now);
        self.brake.add(span);
    }

    /// Says how often it was braked, once it is over.
    pub(super) fn tell_brakes(&mut self, commands: &mut Vec<Command>) {
        let (times, stopped) = (self.brake.times, self.brake.untold);
        (self.brake.times, self.brake.untold) = (0, Duration::ZERO);
        if times > 0 && self.watch.incident != Incident::None {
            commands.push(Command::Note(Note::Braked { times, stopped }));
        }
    }

    /// The same, unless more may follow at once.
    pub(super) fn tell_brakes_that_are_over(&mut self, commands: &mut Vec<Command>) {
        if self.brake.times > 0 && !self.brake.is_active() && self.now.since(self.brake.last) >= SERIES {
            self.tell_brakes(commands);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::{Event, Exit};
    use crate::engine::levels::HABIT;
    use crate::engine::settings::{Leftovers, Settings, Stage, StopWhen, Threshold};
    use crate::engine::simulator::{GIB, MIB, Memory, Scene, World};
    use crate::sys::signal::Signal;

    const LIMIT: u64 = 256 * MIB;

    /// An app that fills so many bytes a second from the start.
    fn fill(settings: Settings, limit: u64, rate: f64) -> World {
        World::new(settings, limit, move |time| Memory { heap: (rate * time) as u64, cache: 0 })
    }

    fn brakes(world: &World) -> usize {
        world.log.iter().filter(|(_, command)| *command == Command::Brake).count()
    }

    #[test]
    fn what_nobody_could_follow_is_followed_and_ended_before_the_limit() {
        for (cores, fastest) in [(1, 3e9), (2, 6e9)] {
            for rate in [1e9, 2e9, fastest] {
                // As late as a busy machine makes memini: what comes in between must not pass from 97% to the limit.
                let limit = if rate > 3e9 { 2 * LIMIT } else { LIMIT };
                let mut world = fill(Settings { cores, ..Settings::default() }, limit, rate);
                world.lateness = Duration::from_millis(2);
                let world = world.play(Duration::from_secs(60));
                assert_eq!(world.exit_code(), Some(75), "{rate} {cores}");
                assert!(brakes(&world) > 0, "{rate} {cores}");
                let told = world.log.iter().find_map(|(_, command)| match command {
                    Command::Note(Note::Braked { times, stopped }) => Some((*times, *stopped)),
                    _ => None,
                });
                let (times, stopped) = told.expect("it is told");
                assert_eq!(times as usize, brakes(&world));
                assert!(stopped >= world.stopped, "{stopped:?} {:?}", world.stopped);
            }
        }
    }

    // bench/race: most of what was lost unprivileged was let go by the brake, and memini was then woken 4 to 14 ms late.
    #[test]
    fn where_the_kernel_stops_the_tree_it_does_not_matter_how_late_memini_is_woken() {
        for (limit, rate) in [(64 * MIB, 0.5e9), (LIMIT, 1.5e9), (LIMIT, 3e9)] {
            for (lateness, leaves) in [(8, true), (8, false), (15, true), (15, false)] {
                let play = |has_stop_timer| {
                    let memory = move |time: f64| Memory { heap: (0.3 * limit as f64 + time * rate) as u64, cache: 0 };
                    let mut world = World::new(Settings { cores: 2, ..Settings::default() }, limit, memory);
                    world.lateness = Duration::from_millis(lateness);
                    world.has_stop_timer = has_stop_timer;
                    world.leaves = leaves.then_some(Duration::from_millis(300));
                    world.play(Duration::from_secs(60)).exit_code()
                };
                assert_eq!(play(true), Some(75), "{limit} {rate} {lateness} {leaves}");
                let late = lateness == 15 || limit < LIMIT || rate < 2e9;
                assert_eq!(play(false) == Some(137), late, "{limit} {rate} {lateness} {leaves}");
            }
        }
    }

    #[test]
    fn without_a_brake_the_same_fill_is_lost() {
        let mut world = fill(Settings { brake: false, ..Settings::default() }, 64 * MIB, 6e9);
        world.lateness = Duration::from_millis(4);
        let world = world.play(Duration::from_secs(60));
        assert_eq!((world.exit_code(), brakes(&world)), (Some(137), 0));
    }

    #[test]
    fn what_can_be_followed_is_never_braked() {
        for (limit, rate) in [(LIMIT, 20e6), (GIB, 200e6)] {
            let world = fill(Settings::default(), limit, rate).play(Duration::from_secs(60));
            assert_eq!((world.exit_code(), brakes(&world)), (Some(75), 0), "{rate}");
        }
    }

    #[test]
    fn a_batch_that_ends_below_the_limit_goes_on_and_is_not_stopped() {
        let memory =
            |time: f64| Memory { heap: ((time - 1.0).max(0.0) * 4e9).min(0.9 * LIMIT as f64) as u64, cache: 0 };
        let world = World::new(Settings { cores: 2, ..Settings::default() }, LIMIT, memory);
        let world = world.play(Duration::from_secs(60));
        assert!(brakes(&world) > 0);
        assert_eq!(world.exit_code(), None);
        assert!(world.stopped < Duration::from_millis(20), "{:?}", world.stopped);
    }

    // bench/calm: 2000 brakes, and a fifth of the work was not done.
    #[test]
    fn where_the_kernel_keeps_the_time_a_batch_is_not_stopped_at_all() {
        let memory =
            |time: f64| Memory { heap: ((time - 1.0).max(0.0) * 4e9).min(0.9 * LIMIT as f64) as u64, cache: 0 };
        for has_stop_timer in [true, false] {
            let mut world = World::new(Settings { cores: 2, ..Settings::default() }, LIMIT, memory);
            world.has_stop_timer = has_stop_timer;
            let world = world.play(Duration::from_secs(60));
            assert_eq!((world.exit_code(), brakes(&world) == 0), (None, has_stop_timer));
        }
    }

    #[test]
    fn page_cache_is_not_braked_however_fast_it_is_read() {
        let memory = |time: f64| Memory { heap: 150 * MIB, cache: (time * 4e9) as u64 };
        let world =
            World::new(Settings { cores: 2, ..Settings::default() }, LIMIT, memory).play(Duration::from_secs(60));
        assert!(brakes(&world) <= 3, "{}", brakes(&world));
    }

    // bench/calm, compile: 340 brakes a second, and a fifth of the work was not done.
    #[test]
    fn who_comes_back_from_the_same_height_again_and_again_is_braked_at_first_and_then_no_more() {
        let tooth = |time: f64| Memory {
            heap: (0.6 * LIMIT as f64 + ((time % 0.2) * 3e9).min(0.3 * LIMIT as f64)) as u64,
            cache: 0,
        };
        let world =
            World::new(Settings { cores: 2, ..Settings::default() }, LIMIT, tooth).play(Duration::from_secs(60));
        assert_eq!(world.exit_code(), None);
        let start = Moment::from_nanos(1_000_000_000);
        let late = |(at, command): &&(Moment, Command)| *command == Command::Brake && at.since(start) > 3 * HABIT;
        assert!(brakes(&world) > 0);
        assert_eq!(world.log.iter().filter(late).count(), 0);
    }

    /// Braked at 80% after 60% a millisecond before.
    fn braked(settings: Settings) -> Scene {
        let mut scene = Scene::new(settings);
        scene.tell(Duration::ZERO, Event::CanBrake(true));
        scene.read(60, 0);
        scene.now = scene.now.after(Duration::from_millis(1));
        assert_eq!(scene.read(80, 0), [Command::Brake, Command::FreeBallast, Command::ReadFull]);
        scene
    }

    #[test]
    fn a_tree_that_stands_still_goes_on_at_once() {
        let mut scene = braked(Settings::default());
        assert_eq!(scene.read(81, 0), [], "it may still grow");
        assert_eq!(scene.wait(), (SETTLE, vec![Command::ReadFull]));
        let commands = scene.read(81, 0);
        assert!(matches!(commands[0], Command::Note(Note::StageBegan { stage: Stage::Capture, .. })), "{commands:?}");
        assert_eq!(commands.last(), Some(&Command::Release));
        assert!((RUN..=LONGEST_RUN).contains(&scene.wait().0));
    }

    #[test]
    fn a_tree_that_does_not_stand_still_goes_on_after_two_milliseconds() {
        let mut scene = braked(Settings::default());
        let mut waited = Duration::ZERO;
        for reading in 0.. {
            let commands = scene.read(81 + u64::min(reading, 8), 0);
            if commands.contains(&Command::Release) {
                break;
            }
            assert_eq!(commands, []);
            waited += scene.wait().0;
        }
        assert!(waited <= LONGEST_STOP, "{waited:?}");
    }

    #[test]
    fn what_even_a_stop_does_not_stop_is_killed_without_a_look_at_its_processes() {
        let mut scene = braked(Settings::default());
        for percent in [90, 91] {
            scene.now = scene.now.before(Duration::from_millis(1));
            assert_eq!(scene.read(percent, 0), []);
        }
        scene.now = scene.now.before(Duration::from_millis(1));
        let commands = scene.read(98, 0);
        assert!(commands.contains(&Command::KillTree), "{commands:?}");
        let others = [Command::Release, Command::FreezeTree, Command::NoteProcesses];
        assert!(!others.iter().any(|other| commands.contains(other)), "{commands:?}");
    }

    // It was let go, and killed in the same breath: it ran on in between.
    #[test]
    fn who_may_no_longer_be_braked_is_not_let_go_to_be_killed() {
        let mut scene = braked(Settings::default());
        scene.tell(Duration::ZERO, Event::CanBrake(false));
        let commands = scene.read(98, 0);
        assert!(commands.contains(&Command::KillTree) && !commands.contains(&Command::Release), "{commands:?}");
        let mut scene = braked(Settings::default());
        scene.tell(Duration::ZERO, Event::CanBrake(false));
        scene.now = scene.now.after(Duration::from_secs(1));
        assert!(scene.read(50, 0).contains(&Command::Release));
    }

    // Its scan of /proc was charged to the full group, and called the OOM killer itself.
    #[test]
    fn at_the_limit_memini_kills_without_looking_at_anybody() {
        for (percent, looks) in [(98, true), (100, false)] {
            let commands = braked(Settings::default()).read(percent, 0);
            assert!(commands.contains(&Command::KillTree), "{commands:?}");
            for look in [Command::FreezeTree, Command::NoteProcesses] {
                assert_eq!(commands.contains(&look), looks, "{percent}% {commands:?}");
            }
        }
        // The same at the end of the grace period.
        for (percent, looks) in [(94, true), (100, false)] {
            let mut settings = Settings { stop_when: StopWhen::Level, ..Settings::default() };
            settings.thresholds.kill = Threshold::Off;
            let mut scene = Scene::new(settings);
            scene.read(95, 0);
            scene.tell(Duration::ZERO, Event::Deadline);
            scene.read(percent, 0);
            let commands = scene.tell(Settings::default().grace, Event::Deadline);
            assert!(commands.contains(&Command::KillTree), "{commands:?}");
            assert_eq!(commands.contains(&Command::FreezeTree), looks, "{percent}% {commands:?}");
        }
        let mut scene = Scene::new(Settings::default());
        scene.tell(Duration::ZERO, Event::CanBrake(true));
        scene.read(60, 0);
        scene.now = scene.now.after(Duration::from_millis(4));
        let commands = scene.read(100, 0);
        assert!(commands.contains(&Command::KillTree) && !commands.contains(&Command::Brake), "{commands:?}");
    }

    #[test]
    fn a_stop_for_a_look_at_the_processes_is_counted_as_a_brake() {
        let mut scene = Scene::new(Settings::default());
        scene.read(85, 0);
        scene.engine.stood_still(scene.now, Duration::from_millis(7));
        let told = scene.exit(Exit::Code(0)).into_iter().find_map(|command| match command {
            Command::Note(Note::Braked { times, stopped }) => Some((times, stopped)),
            _ => None,
        });
        assert_eq!(told, Some((1, Duration::from_millis(7))));
    }

    #[test]
    fn nothing_is_left_stopped_when_memory_cannot_be_read_or_the_app_ends() {
        let commands = braked(Settings::default()).tell(Duration::ZERO, Event::ReadingFailed);
        assert_eq!(commands, [Command::Release]);
        for (leftovers, expected) in [(Leftovers::Kill, false), (Leftovers::Term, true), (Leftovers::Wait, true)] {
            let commands = braked(Settings { leftovers, ..Settings::default() }).exit(Exit::Code(3));
            let killed = commands.contains(&Command::SignalLeftovers(Signal::KILL));
            assert_eq!((commands.contains(&Command::Release), killed), (expected, !expected), "{leftovers:?}");
        }
    }

    #[test]
    fn whoever_may_not_be_braked_is_not() {
        for (brake, dry_run, able) in [(false, false, true), (true, true, true), (true, false, false)] {
            let mut scene = Scene::new(Settings { brake, dry_run, ..Settings::default() });
            scene.tell(Duration::ZERO, Event::CanBrake(able));
            scene.read(60, 0);
            scene.now = scene.now.after(Duration::from_millis(1));
            assert!(!scene.read(80, 0).contains(&Command::Brake), "{brake} {dry_run} {able}");
        }
    }
}
