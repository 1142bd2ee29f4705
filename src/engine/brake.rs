//! The brake: growth that would reach the limit before memini could look again is stopped for a moment, and looked at.
//!
//! The tree is stopped (SIGSTOP) and memory read until it stands still; then the ladder decides on numbers that cannot run
//! away meanwhile, and the tree goes on unless it is to be killed. While it runs again it is looked at without sleeping, so
//! that no scheduler comes between, until it either grows slowly enough to be followed in the usual way or has to be
//! stopped once more. A growth that nobody could follow becomes one that can be followed.

use std::time::Duration;

use super::event::{Command, Note};
use super::levels::View;
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

/// How long the tree goes on until it may be stopped again, and how often it is looked at meanwhile.
const RUN: Duration = Duration::from_micros(300);
#[allow(dead_code)]
const GLANCE: Duration = Duration::from_micros(50);

/// Before that it is stopped only if so large a part of the room is gone.
const GAIN: u64 = 4;

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
    /// It goes on, and is watched without a pause until then.
    Watched { until: Moment, next: Moment, gauged: u64, room: u64 },
}

/// The brake, and what it has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Brake {
    state: State,
    /// Memory grows although the tree is stopped: the kernel fills a range of pages in one go, which only SIGKILL ends.
    defied: bool,
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
            State::Free | State::Watched { .. } => Duration::ZERO,
        };
        now.before(self.stopped.saturating_add(present))
    }

    pub(super) const fn is_active(&self) -> bool {
        !matches!(self.state, State::Free)
    }

    /// Whether memory grows although the tree is stopped.
    pub(super) const fn is_defied(&self) -> bool {
        self.is_stopped() && self.defied
    }

    pub(super) const fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped { .. })
    }

    pub(super) const fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Free => None,
            State::Stopped { next, .. } | State::Watched { next, .. } => Some(next),
        }
    }

    fn stop(&mut self, now: Moment) {
        let until = now.after(LONGEST_STOP);
        self.state = State::Stopped { since: now, until, next: now.after(SETTLE), seen: None };
        self.times = self.times.saturating_add(1);
        self.last = now;
    }

    /// A reading of a stopped tree: whether it stands still, or its time is up.
    fn settles(&mut self, now: Moment, gauged: u64) -> bool {
        let State::Stopped { until, next, seen, .. } = &mut self.state else { return true };
        if seen.replace(gauged).is_some_and(|before| gauged <= before) || now >= *until {
            return true;
        }
        *next = now.after(SETTLE).min(*until);
        false
    }

    /// The tree goes on, or is about to be killed. False if it was not stopped.
    fn end_stop(&mut self, now: Moment) -> bool {
        let State::Stopped { since, .. } = self.state else { return false };
        let span = now.since(since);
        self.stopped = self.stopped.saturating_add(span);
        self.untold = self.untold.saturating_add(span);
        self.state = State::Free;
        true
    }

    fn watch(&mut self, now: Moment, view: &View, glance: Duration) {
        let room = view.sample.room.unwrap_or(0);
        let (until, next) = (now.after(RUN), now.after(glance));
        self.state = State::Watched { until, next, gauged: view.sample.gauged, room };
    }

    /// Whether a tree that runs under watch may be stopped again.
    fn has_had_its_turn(&self, now: Moment, view: &View) -> bool {
        match self.state {
            State::Watched { until, gauged, room, .. } => {
                now >= until || view.sample.gauged.saturating_sub(gauged) > room / GAIN
            }
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
            self.brake.defied = !stands_still;
            return !stands_still && !self.is_to_be_killed(view);
        }
        if !self.watch.is_outrun() {
            if self.brake.has_had_its_turn(self.now, view) {
                self.brake.state = State::Free;
            }
            return false;
        }
        if !self.brake.has_had_its_turn(self.now, view) {
            return false;
        }
        self.brake.stop(self.now);
        commands.push(Command::Brake);
        // It counts for the kernel, and is room that the app may need within milliseconds.
        self.watch.free_ballast(commands);
        commands.push(Command::ReadFull);
        true
    }

    /// After everything else: the tree goes on, or is watched on.
    pub(super) fn release(&mut self, view: Option<&View>, commands: &mut Vec<Command>) {
        let glance = self.glance();
        let killed = matches!(self.phase, Phase::Stopping(stop) if stop.is_kill());
        if self.brake.end_stop(self.now) && !killed {
            commands.push(Command::Release);
            if let Some(view) = view {
                self.brake.watch(self.now, view, glance);
            }
        } else if killed {
            self.brake.state = State::Free;
        } else if let State::Watched { next, .. } = &mut self.brake.state {
            *next = self.now.after(glance);
        }
    }

    /// Between two looks at a tree that runs under watch. It does not run while memini looks where there is only one core.
    fn glance(&self) -> Duration {
        RUN
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
