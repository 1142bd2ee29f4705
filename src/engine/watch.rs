//! Watching memory: what a reading leads to.

use std::time::Duration;

use super::cadence::{self, LONGEST};
use super::captures::{Captures, Gate, Ration};
use super::event::{Command, Note};
use super::levels::{Levels, View};
use super::settings::{Settings, Stage};
use super::thrash::Thrash;
use super::time::Moment;
use super::urgency::{Need, Urgency, must_kill};
use super::{Engine, Phase};
use crate::cgroup::reading::Reading;

/// The most that the ballast takes: what a shell and its tools were measured to need at the limit.
const BALLAST: u64 = 4 << 20;

/// The ballast is at most this part of the limit, and this many times as much must be free.
const BALLAST_SHARE: u64 = 32;
const BALLAST_ROOM: u64 = 8;

/// In one incident a capture follows another only if so many parts of the limit have been added: a plateau is captured
/// once.
const NEWS: u64 = 100;

/// Memory is also back to normal when the app has just died, and that is no recovery: its end is heard of within this.
const SETTLED: Duration = Duration::from_secs(1);

/// What is known about memory, and what was done about it.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) levels: Levels,
    pub(super) stage: Stage,
    pub(super) incident: Incident,
    /// Whether memini holds memory to let go when it matters.
    pub(super) ballast: bool,
    pub(super) trace: Ration,
    pub(super) captures: Captures,
    pub(super) kill: Ration,
    urgency: Urgency,
    thrash: Thrash,
    /// In a dry run: when it was last said that the app would be stopped.
    pub(super) pretended: Option<Moment>,
    ceiling: f64,
    sleep: Duration,
    next: Moment,
    last_full: Option<Moment>,
    /// Whether a full reading is on its way.
    asked: bool,
}

/// One climb of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incident {
    None,
    Open {
        /// Whether it was said that no stop is needed, since the stop stage began.
        calm: bool,
    },
    /// Back at normal since then; it ends with its last hook.
    Over {
        since: Moment,
    },
}

impl Watch {
    pub(super) fn new(settings: &Settings, now: Moment) -> Self {
        Self {
            levels: Levels::default(),
            stage: Stage::Normal,
            incident: Incident::None,
            ballast: false,
            trace: Ration::default(),
            captures: Captures::default(),
            kill: Ration::default(),
            urgency: Urgency::default(),
            thrash: Thrash::default(),
            pretended: None,
            ceiling: cadence::ceiling(settings.cores),
            sleep: LONGEST,
            next: now,
            last_full: None,
            asked: false,
        }
    }

    /// When memory is to be read.
    pub(super) const fn deadline(&self) -> Moment {
        self.next
    }

    /// How memory is to be read now. `wary`: whatever it shows, it will be decided on.
    pub(super) fn ask(&mut self, now: Moment, wary: bool) -> Command {
        self.schedule(now);
        let cold = self.last_full.is_none_or(|last| now.since(last) >= LONGEST);
        if cold || wary || self.needs_full() {
            self.asked = true;
            Command::ReadFull
        } else {
            Command::Read
        }
    }

    /// The reading that was asked for cannot be had: the last good one stands, also for when to try again.
    pub(super) fn failed(&mut self, now: Moment) {
        self.asked = false;
        self.schedule(now);
    }

    /// Plans the next reading: as the cadence allows; in full once a second; and when a claim of growth is to be checked.
    /// What is overdue waits for the cadence: a reading that fails must not be tried without a pause.
    fn schedule(&mut self, now: Moment) {
        let warm = self.last_full.map(|last| last.after(LONGEST));
        let others = [warm, self.urgency.deadline()].into_iter().flatten().filter(|due| *due > now);
        let rhythm = now.after(self.sleep);
        self.next = others.fold(rhythm, Moment::min);
    }

    /// Whether a fast reading would not be enough: something is going on, or usage alone does not tell.
    fn needs_full(&self) -> bool {
        self.incident != Incident::None || self.levels.can_swap() || self.levels.are_high()
    }

    /// Takes the numbers. `None`: too few of them to decide anything on, and if more are to be had, they are asked for.
    fn take(
        &mut self,
        now: Moment,
        reading: &Reading,
        settings: &Settings,
        wary: bool,
        commands: &mut Vec<Command>,
    ) -> Option<View> {
        if reading.levels().is_empty() {
            self.failed(now);
            return None;
        }
        let full = std::mem::take(&mut self.asked) || reading.levels().iter().any(|level| level.stat.is_some());
        self.levels.take(now, reading, full, settings);
        self.sleep = self.levels.sleep(self.ceiling);
        if full {
            self.last_full = Some(now);
        }
        self.schedule(now);
        if !full && (wary || self.needs_full() || self.last_full.is_none()) {
            self.asked = true;
            commands.push(Command::ReadFull);
            return None;
        }
        let view = self.levels.view()?;
        self.levels.tell(&view, commands);
        Some(view)
    }

    fn notice_thrashing(
        &mut self,
        now: Moment,
        view: &View,
        pressure: Option<f32>,
        settings: &Settings,
    ) -> Option<Note> {
        let refaults = self.thrash.check(now, &view.level, pressure, settings.cooldown)?;
        Some(Note::Thrashing { refaults, pressure, sample: view.sample })
    }

    /// Lets the ballast go, if there is any.
    pub(super) fn free_ballast(&mut self, commands: &mut Vec<Command>) {
        if std::mem::take(&mut self.ballast) {
            commands.push(Command::FreeBallast);
        }
    }
}

impl Engine {
    /// Takes a reading and does what it calls for.
    pub(super) fn read(&mut self, reading: &Reading, commands: &mut Vec<Command>) {
        if matches!(self.phase, Phase::Leaving(_)) {
            return;
        }
        if let Some(times) = reading.events.and_then(|events| self.oom.check(self.now, events.oom_kill)) {
            commands.push(Command::Note(Note::OomKill { times }));
        }
        if !self.watches() {
            return;
        }
        let wary = !matches!(self.phase, Phase::Running);
        let Some(view) = self.watch.take(self.now, reading, &self.settings, wary, commands) else { return };
        let thrashing = self.watch.notice_thrashing(self.now, &view, reading.pressure_full_avg10, &self.settings);
        commands.extend(thrashing.map(Command::Note));
        self.climb(&view, commands);
        match self.phase {
            Phase::Stopping(stop) => self.reconsider(stop, &view, commands),
            _ => self.decide(&view, commands),
        }
    }

    /// Goes up the ladder at once, and down when the present stage is left behind.
    fn climb(&mut self, view: &View, commands: &mut Vec<Command>) {
        let (from, sample) = (self.watch.stage, view.sample);
        let stage = if view.reached > from { view.reached } else { view.held.min(from) };
        self.watch.stage = stage;
        if stage > from {
            self.open(commands);
            commands.push(Command::Note(Note::StageBegan { stage, from, sample }));
            self.take_ballast(view, commands);
        } else if stage < from {
            commands.push(Command::Note(Note::StageEnded { stage, from, sample }));
        }
        if from < Stage::Stop && stage >= Stage::Stop {
            self.watch.incident = Incident::Open { calm: false };
        }
        if from < Stage::Capture && stage >= Stage::Capture {
            self.tell_skipped_capture(view, commands);
        }
    }

    fn open(&mut self, commands: &mut Vec<Command>) {
        if self.watch.incident == Incident::None {
            self.watch.trace.renew();
            self.watch.captures.renew();
            self.watch.kill.renew();
            commands.push(Command::OpenIncident);
        }
        if !matches!(self.watch.incident, Incident::Open { .. }) {
            self.watch.incident = Incident::Open { calm: false };
        }
    }

    /// Takes the ballast while there is plenty of room, and nothing more pressing to do.
    fn take_ballast(&mut self, view: &View, commands: &mut Vec<Command>) {
        let (Some(limit), Some(room)) = (view.sample.limit, view.sample.room) else { return };
        let bytes = BALLAST.min(limit / BALLAST_SHARE);
        let ample = bytes > 0 && room >= bytes.saturating_mul(BALLAST_ROOM);
        let idle = !self.settings.dry_run && !self.watch.ballast && matches!(self.phase, Phase::Running);
        if ample && idle && view.reached < Stage::Stop {
            self.watch.ballast = true;
            commands.push(Command::TakeBallast(bytes));
        }
    }

    /// The app runs: takes evidence where the stage calls for it, and decides whether it must go.
    fn decide(&mut self, view: &View, commands: &mut Vec<Command>) {
        if must_kill(view, &self.settings, None) {
            self.kill(view, commands);
            if !self.settings.dry_run {
                return;
            }
        }
        let first = self.runs.next();
        self.trace(view, commands);
        self.capture(view, commands);
        if view.reached == Stage::Kill && self.watch.kill.allows(self.now, self.settings.cooldown) {
            self.watch.kill.spend(self.now);
            self.run_hooks(Stage::Kill, commands);
        }
        match self.watch.urgency.need(self.now, view, &self.settings) {
            Need::Stop(reason) => self.stop(reason, view, first, commands),
            Need::Wait => self.watch.schedule(self.now),
            Need::None => self.tell_calm(view, commands),
        }
    }

    fn trace(&mut self, view: &View, commands: &mut Vec<Command>) {
        let called = view.reached >= Stage::Trace && view.steps.of(Stage::Trace).is_some();
        if called && self.watch.trace.allows(self.now, self.settings.cooldown) {
            self.watch.trace.spend(self.now);
            self.run_hooks(Stage::Trace, commands);
        }
    }

    fn capture(&mut self, view: &View, commands: &mut Vec<Command>) {
        if self.calls_for_capture(view) && self.capture_gate(view) == Gate::Open {
            self.watch.captures.take(self.now, view.sample.gauged);
            self.run_hooks(Stage::Capture, commands);
        }
    }

    /// Whether a capture is called for and there is anything to take it with.
    pub(super) fn calls_for_capture(&self, view: &View) -> bool {
        let hooks = || self.settings.hooks.iter().enumerate().filter(|(_, stage)| **stage == Stage::Capture);
        view.reached >= Stage::Capture
            && view.steps.of(Stage::Capture).is_some()
            && hooks().next().is_some()
            && !hooks().any(|(hook, _)| self.runs.is_running(hook))
    }

    fn capture_gate(&self, view: &View) -> Gate {
        let news = view.sample.limit.unwrap_or(0) / NEWS;
        let Settings { cooldown, max_captures, .. } = self.settings;
        self.watch.captures.gate(self.now, view.sample.gauged, news, cooldown, max_captures)
    }

    fn tell_skipped_capture(&mut self, view: &View, commands: &mut Vec<Command>) {
        if !self.calls_for_capture(view) {
            return;
        }
        let cooldown_left = match self.capture_gate(view) {
            Gate::Cooling(left) => left,
            Gate::UsedUp => Duration::ZERO,
            Gate::Open | Gate::NothingNew => return,
        };
        if self.watch.captures.tell() {
            let taken = self.watch.captures.taken();
            commands.push(Command::Note(Note::CaptureSkipped { cooldown_left, taken }));
        }
    }

    fn tell_calm(&mut self, view: &View, commands: &mut Vec<Command>) {
        let may = view.reached >= Stage::Stop && view.steps.of(Stage::Stop).is_some();
        if may && self.watch.incident == (Incident::Open { calm: false }) {
            self.watch.incident = Incident::Open { calm: true };
            commands.push(Command::Note(Note::StopNotNeeded { sample: view.sample }));
        }
    }

    /// Runs all hooks of a stage, side by side; but never one that still runs.
    pub(super) fn run_hooks(&mut self, stage: Stage, commands: &mut Vec<Command>) {
        for (hook, of) in self.settings.hooks.iter().enumerate() {
            if *of != stage || self.runs.is_running(hook) {
                continue;
            }
            if self.settings.dry_run {
                commands.push(Command::Note(Note::HookStarted { run: None, hook, stage }));
            } else {
                self.runs.start(self.now, hook, stage, self.settings.hook_timeout, commands);
            }
        }
    }

    /// The incident is over once memory is back to normal, and stays so, and its last hook has ended.
    pub(super) fn recover(&mut self, commands: &mut Vec<Command>) {
        if matches!(self.watch.incident, Incident::Open { .. }) && self.watch.stage == Stage::Normal {
            self.watch.incident = Incident::Over { since: self.now };
            self.watch.free_ballast(commands);
        }
        let Incident::Over { since } = self.watch.incident else { return };
        if self.runs.is_empty() && self.now.since(since) >= SETTLED {
            self.watch.incident = Incident::None;
            commands.push(Command::CloseIncident);
        }
    }
}
