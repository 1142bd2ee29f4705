//! The engine decides. It is pure: no system call, no clock, no file; time and events come in, commands go out.
//!
//! An event goes one way: readings to [`watch`], which gauges them ([`levels`], [`gauge`], [`rate`]), finds the stage
//! ([`ladder`]), follows the [`trend`] ([`leak`]), runs what belongs to the stage ([`captures`], [`hooks`], [`evidence`]) and asks
//! whether the app must leave ([`urgency`]); then [`stop`] leads it out. The app's end goes to [`leaving`].
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod brake;
mod cadence;
mod captures;
pub mod event;
mod evidence;
pub mod gauge;
mod hooks;
mod ladder;
mod late;
mod leak;
mod leaving;
mod levels;
pub mod looks;
mod oom;
mod peak;
#[cfg(test)]
mod properties;
pub mod rate;
pub mod settings;
#[cfg(test)]
mod simulator;
mod stop;
mod thrash;
pub mod time;
pub mod trend;
mod urgency;
mod watch;

use std::time::Duration;

use brake::Brake;
use event::{Command, Event, Glimpse};
use hooks::Runs;
use late::Late;
use leaving::Leaving;
use looks::Looks;
use oom::Oom;
use settings::{GaugeKind, Settings};
use stop::Stop;
use time::Moment;
use watch::Watch;

/// With fewer seconds than this until the limit, memini does nothing but look: to start a process takes a millisecond or
/// more, and then there is one more that wants the processor.
const PRESSED: f64 = 0.25;

/// Where the app stands.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// It runs.
    Running,
    /// It is being stopped or killed.
    Stopping(Stop),
    /// It has ended; what is left is tidied up.
    Leaving(Leaving),
    /// Memini has ended.
    Gone,
}

/// The state machine of one run of one app.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    now: Moment,
    phase: Phase,
    watch: Watch,
    brake: Brake,
    runs: Runs,
    oom: Oom,
    late: Late,
    looks: Looks,
    /// Whether no process is left but memini.
    alone: bool,
}

impl Engine {
    /// An engine at `now`, before the first reading. The app is being started.
    pub fn new(settings: Settings, now: Moment) -> Self {
        let watch = Watch::new(&settings, now);
        Self {
            settings,
            now,
            phase: Phase::Running,
            watch,
            brake: Brake::default(),
            runs: Runs::default(),
            oom: Oom::default(),
            late: Late::default(),
            looks: Looks::default(),
            alone: false,
        }
    }

    /// Takes an event, appends what is to be done to `commands`.
    pub fn handle(&mut self, now: Moment, event: Event<'_>, commands: &mut Vec<Command>) {
        if matches!(self.phase, Phase::Gone) {
            return;
        }
        if matches!(event, Event::Deadline | Event::Reading(_)) {
            // The first reading waits for the app's start, however long that takes.
            let due = self.deadline().filter(|_| self.watch.has_begun());
            self.late.check(now, due, commands);
            if matches!(event, Event::Deadline) {
                let late = due.map_or(Duration::ZERO, |due| now.since(due));
                self.looks.is_late(late);
                self.watch.lateness.add(now, late);
            }
        }
        self.now = self.now.max(now);
        match event {
            Event::Reading(reading) => self.read(reading, commands),
            Event::ReadingFailed => {
                self.watch.failed(self.now);
                self.let_go(commands);
            }
            Event::CanBrake(able) => {
                self.watch.brakes = able && self.would_brake();
            }
            Event::HasStopTimer(has) => self.watch.has_stop_timer = has,
            Event::RunEnded { run, end } => {
                self.runs.end(self.now, run, end, commands);
                self.watch.due.run_ended(self.now, run, end);
            }
            Event::AppExited(exit) => self.app_exited(exit, commands),
            Event::AllGone => self.all_gone(),
            Event::Recorded => self.recorded(),
            Event::Deadline => {}
        }
        // Only now, or a hook that ended in time would be called overdue because its end was heard of late.
        self.runs.check(self.now, commands);
        match self.phase {
            Phase::Running => self.recover(commands),
            Phase::Stopping(stop) => self.proceed(stop, commands),
            Phase::Leaving(leaving) => self.leave(leaving, commands),
            Phase::Gone => {}
        }
        if matches!(event, Event::Deadline) && self.watches() {
            let wary = self.is_wary();
            commands.push(self.watch.ask(self.now, wary));
        }
    }

    /// When to call again with [`Event::Deadline`] at the latest; `None`: only when something happens.
    pub fn deadline(&self) -> Option<Moment> {
        let phase = match &self.phase {
            Phase::Running => None,
            Phase::Stopping(stop) => Some(stop.deadline()),
            Phase::Leaving(leaving) => leaving.deadline(),
            Phase::Gone => return None,
        };
        // Where the kernel keeps an eye on the tree, the brake's looks are enough.
        let reading = (self.watches() && !self.brake.is_timed()).then(|| self.watch.deadline());
        let brake = self.brake.deadline().filter(|_| self.watches());
        let next = [phase, reading, brake, self.runs.deadline()].into_iter().flatten().min()?;
        Some(next.max(self.now))
    }

    /// What the last reading showed. `None` before the first one, and where memory decides nothing any more.
    pub fn look(&self) -> Option<Glimpse> {
        let look = self.watches().then(|| self.watch.levels.look()).flatten()?;
        let room = look.limit.map(|limit| limit.saturating_sub(look.usage));
        Some(Glimpse { trending: self.watch.trend.trending(room), ..look })
    }

    /// Whether growth that cannot be followed is to be braked, where that can be done.
    pub fn would_brake(&self) -> bool {
        self.settings.brake && !self.settings.dry_run
    }

    /// Whether memory grows so fast that nothing else may take memini's time now.
    pub fn is_pressed(&self) -> bool {
        self.watches() && self.watch.levels.seconds_left() < PRESSED
    }

    /// Whether less is left than memini itself may need to look at processes.
    pub fn is_scarce(&self) -> bool {
        self.watches() && self.watch.levels.are_scarce()
    }

    /// Whether the next reading is to come with what the whole machine holds.
    pub fn wants_held(&self) -> bool {
        self.settings.gauge == GaugeKind::Unreclaimable && !self.is_wary() && self.watch.wants_held()
    }

    /// Whether a reading will be decided on, whatever it shows.
    fn is_wary(&self) -> bool {
        !matches!(self.phase, Phase::Running) || self.brake.is_active()
    }

    /// Whether memory still decides anything.
    fn watches(&self) -> bool {
        let undecided = match &self.phase {
            Phase::Running => true,
            Phase::Stopping(stop) => !stop.is_kill(),
            Phase::Leaving(_) | Phase::Gone => false,
        };
        self.settings.watch && undecided
    }
}
