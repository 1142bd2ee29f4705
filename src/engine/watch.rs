//! Watching memory: what a reading leads to.

use std::time::Duration;

use super::brake::LATENESS;
use super::cadence::{self, LONGEST};
use super::captures::{Captures, Gate, Ration};
use super::event::{Command, Note};
use super::evidence::Due;
use super::hooks::Work;
use super::late::Lateness;
use super::leak::Early;
use super::levels::{Levels, View};
use super::settings::{Settings, Stage};
use super::thrash::Thrash;
use super::time::Moment;
use super::trend::{Trend, Verdict};
use super::urgency::{Need, Urgency};
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

/// As long as nothing changes, memory is measured so often.
const FRESH: Duration = Duration::from_millis(100);

/// Memory is also back to normal when the app has just died, and that is no recovery: its end is heard of within this.
const SETTLED: Duration = Duration::from_secs(1);

/// What is known about memory, and what was done about it.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) levels: Levels,
    pub(super) stage: Stage,
    pub(super) incident: Incident,
    /// Whether there was one before.
    pub(super) has_closed: bool,
    /// Whether memini holds memory to let go when it matters.
    pub(super) ballast: bool,
    pub(super) trace: Ration,
    pub(super) captures: Captures,
    pub(super) kill: Ration,
    /// The evidence that is still to be taken.
    pub(super) due: Due,
    pub(super) trend: Trend,
    pub(super) early: Early,
    urgency: Urgency,
    thrash: Thrash,
    /// In a dry run: when it was last said that the app would be stopped.
    pub(super) pretended: Option<Moment>,
    /// Whether the tree can be stopped for a moment, and be sure to go on whatever becomes of memini.
    pub(super) brakes: bool,
    /// Whether the kernel can be told to stop it at a given moment.
    pub(super) has_stop_timer: bool,
    /// How late memini was woken lately.
    pub(super) lateness: Lateness,
    cores: u32,
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
            has_closed: false,
            ballast: false,
            trace: Ration::default(),
            captures: Captures::default(),
            kill: Ration::default(),
            due: Due::default(),
            trend: Trend::new(settings.trend_unit),
            early: Early::default(),
            urgency: Urgency::default(),
            thrash: Thrash::default(),
            pretended: None,
            brakes: false,
            has_stop_timer: false,
            lateness: Lateness::default(),
            cores: settings.cores,
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

    /// Whether memory has been read in full.
    pub(super) const fn has_begun(&self) -> bool {
        self.last_full.is_some()
    }

    /// How memory is to be read now. `wary`: whatever it shows, it will be decided on.
    pub(super) fn ask(&mut self, now: Moment, wary: bool) -> Command {
        self.schedule(now);
        let cold = self.last_full.is_none_or(|last| now.since(last) >= LONGEST);
        if cold || wary || self.needs_full(now) {
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
    fn needs_full(&self, now: Moment) -> bool {
        let busy = self.incident != Incident::None || self.levels.are_high() && !self.levels.are_bounded();
        busy && !self.stands_still(now) || self.levels.can_swap() || self.is_outrun()
    }

    /// Whether usage alone does not tell, but what the whole machine holds may: nothing is going on but page cache.
    pub(super) fn wants_held(&self) -> bool {
        self.incident == Incident::None && self.levels.are_high() && !self.levels.can_swap()
    }

    /// High, but as high as a moment ago: what takes ten times as long to read would tell nothing new.
    fn stands_still(&self, now: Moment) -> bool {
        let fresh = self.last_full.is_some_and(|last| now.since(last) < FRESH);
        fresh && self.urgency.deadline().is_none() && self.levels.stand_still(self.cores)
    }

    /// What a fill by all cores usually reaches, page by page: a part of the ceiling, in bytes a second.
    pub(super) fn usual_fill(&self) -> f64 {
        self.ceiling / cadence::USUAL_PART
    }

    /// Whether a limit may be passed before the next look, so that the tree must not go on unwatched.
    pub(super) fn is_outrun(&self) -> bool {
        self.brakes && self.levels.are_outrun(self.sleep.saturating_add(LATENESS.max(self.lateness.expected())))
    }

    /// Takes the numbers. `None`: too few of them to decide anything on, and if more are to be had, they are asked for.
    fn take(
        &mut self,
        (now, running_time): (Moment, Moment),
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
        self.levels.take(running_time, reading, full, settings);
        self.sleep = self.levels.sleep(self.ceiling, self.lateness.expected()).max(settings.reading_pause);
        if full {
            self.last_full = Some(now);
        }
        self.schedule(now);
        if !full && (wary || self.needs_full(now) || self.last_full.is_none()) {
            self.asked = true;
            commands.push(Command::ReadFull);
            return None;
        }
        // A glance at a sum of processes is exact while the groups' are not: of all of them nothing is known then.
        if !full && !self.levels.are_measured() {
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
        // The look that finds the counter higher is the last one that tells anything: how late it came.
        let was_pending = self.oom.is_pending();
        if let Some(times) = reading.events.and_then(|events| self.oom.check(self.now, events.oom_kill)) {
            commands.push(Command::Note(Note::OomKill { times }));
            commands.push(Command::Note(Note::LastLooks { looks: self.looks.last() }));
        }
        if !self.watches() {
            return;
        }
        let times = (self.now, self.brake.running_time(self.now));
        let wary = self.is_wary();
        let view = self.watch.take(times, reading, &self.settings, wary, commands);
        if !was_pending {
            self.looks.take(self.now, self.watch.levels.nearest(), self.brake.stands_still(self.now));
        }
        let Some(view) = view else {
            // Nothing more is on its way.
            if !self.watch.asked {
                self.let_go(commands);
            }
            return;
        };
        if self.brake(&view, commands) {
            return;
        }
        let thrashing = self.watch.notice_thrashing(self.now, &view, reading.pressure_full_avg10, &self.settings);
        commands.extend(thrashing.map(Command::Note));
        self.climb(&view, commands);
        self.follow(&view, commands);
        self.take_ballast(&view, commands);
        match self.phase {
            Phase::Stopping(stop) => self.reconsider(stop, &view, commands),
            _ => self.decide(&view, commands),
        }
        self.release(commands);
        self.tell_brakes_that_are_over(commands);
    }

    /// Goes up the ladder at once, and down when the present stage is left behind.
    fn climb(&mut self, view: &View, commands: &mut Vec<Command>) {
        let (from, sample) = (self.watch.stage, view.sample);
        let stage = if view.reached > from { view.reached } else { view.held.min(from) };
        self.watch.stage = stage;
        if stage > from {
            self.open(commands);
            commands.push(Command::Note(Note::StageBegan { stage, from, sample }));
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

    pub(super) fn open(&mut self, commands: &mut Vec<Command>) {
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
        let calm = !self.brake.is_active() && !self.is_pressed();
        let ample = calm && bytes > 0 && room >= bytes.saturating_mul(BALLAST_ROOM);
        let idle = !self.settings.dry_run && !self.watch.ballast && matches!(self.phase, Phase::Running);
        if ample && idle && (Stage::Trace..Stage::Stop).contains(&self.watch.stage) && view.reached < Stage::Stop {
            self.watch.ballast = true;
            commands.push(Command::TakeBallast(bytes));
        }
    }

    /// The app runs: takes evidence where the stage calls for it, and decides whether it must go.
    fn decide(&mut self, view: &View, commands: &mut Vec<Command>) {
        if self.is_to_be_killed(view) {
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
        let leaks = self.watch.trend.verdict() == Verdict::Leak;
        match self.watch.urgency.need(self.now, view, leaks, &self.settings) {
            Need::Stop(reason) => self.stop(reason, view, first, commands),
            Need::Wait => self.watch.schedule(self.now),
            Need::None => self.tell_calm(view, commands),
        }
        if matches!(self.phase, Phase::Running) {
            self.take_evidence(view, self.settings.hook_timeout, commands);
        }
    }

    fn trace(&mut self, view: &View, commands: &mut Vec<Command>) {
        let called = view.reached >= Stage::Trace && view.steps.of(Stage::Trace).is_some();
        if called && self.watch.trace.allows(self.now, self.settings.cooldown) {
            self.watch.trace.spend(self.now);
            self.run_hooks(Stage::Trace, commands);
            self.call_for_evidence(Stage::Trace);
        }
    }

    fn capture(&mut self, view: &View, commands: &mut Vec<Command>) {
        if self.calls_for_capture(view) && self.capture_gate(view) == Gate::Open {
            self.watch.captures.take(self.now, view.sample.gauged);
            self.run_hooks(Stage::Capture, commands);
            self.call_for_evidence(Stage::Capture);
        }
    }

    /// Whether a capture is called for and there is anything to take it with.
    pub(super) fn calls_for_capture(&self, view: &View) -> bool {
        let hooks = || self.settings.hooks.iter().enumerate().filter(|(_, stage)| **stage == Stage::Capture);
        view.reached >= Stage::Capture
            && view.steps.of(Stage::Capture).is_some()
            && (self.settings.evidence || hooks().next().is_some())
            && self.runs.running(Work::Evidence).is_none()
            && !hooks().any(|(hook, _)| self.runs.running(Work::Hook(hook)).is_some())
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
            if *of != stage || self.runs.running(Work::Hook(hook)).is_some() {
                continue;
            }
            if self.settings.dry_run {
                commands.push(Command::Note(Note::HookStarted { run: None, hook, stage }));
            } else {
                self.runs.start_hook(self.now, hook, stage, self.settings.hook_timeout, commands);
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
            self.tell_brakes(commands);
            self.watch.due.forget(self.now);
            self.watch.incident = Incident::None;
            self.watch.has_closed = true;
            commands.push(Command::CloseIncident);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::reading::{Level, Stat};
    use crate::engine::event::{Event, Run};
    use crate::engine::settings::{Threshold, Thresholds};
    use crate::engine::simulator::Scene;

    const LATER: Duration = Duration::from_millis(1);

    /// Commands by their names, which is enough to see their order.
    fn names(commands: &[Command]) -> Vec<String> {
        let name = |command: &Command| match command {
            Command::Note(note) => format!("{note:?}"),
            command => format!("{command:?}"),
        };
        commands
            .iter()
            .map(|command| name(command).split([' ', '(', '{']).next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn the_first_look_is_in_full_and_after_it_a_glance_is_enough_for_a_second() {
        let mut scene = Scene::new(Settings::default());
        assert_eq!(scene.engine.deadline(), Some(scene.now));
        assert_eq!(scene.tell(Duration::ZERO, Event::Deadline), [Command::ReadFull]);
        assert_eq!(scene.read(10, 0), []);
        assert_eq!(scene.tell(LATER, Event::Deadline), [Command::Read]);
        assert_eq!(scene.glance(11), []);
        assert_eq!(scene.tell(Duration::from_secs(1), Event::Deadline), [Command::ReadFull]);
    }

    #[test]
    fn a_glance_at_or_above_a_threshold_decides_nothing_and_asks_for_more() {
        let mut scene = Scene::new(Settings::default());
        assert_eq!(scene.glance(10), [Command::ReadFull], "nothing is known yet");
        scene.read(10, 0);
        assert_eq!(scene.glance(59), []);
        assert_eq!(scene.glance(60), [Command::ReadFull]);
        assert_eq!(scene.tell(LATER, Event::Deadline), [Command::ReadFull], "as usage is high");
    }

    #[test]
    fn where_memory_can_be_swapped_a_glance_is_never_enough() {
        let mut scene = Scene::new(Settings::default());
        let mut reading = Reading::new();
        let stat = Some(Stat::default());
        assert!(reading.push(Level { limit: Some(1 << 30), swap_capacity: 1, stat, ..Level::default() }));
        assert_eq!(scene.tell(LATER, Event::Reading(&reading)), []);
        assert_eq!(scene.tell(LATER, Event::Deadline), [Command::ReadFull]);
        scene.read(10, 0);
        assert_eq!(scene.tell(LATER, Event::Deadline), [Command::Read]);
    }

    #[test]
    fn the_last_hooks_have_half_of_what_is_left_even_if_memory_cannot_be_read_any_more() {
        let stop_when = crate::engine::settings::StopWhen::Level;
        let mut scene = Scene::new(Settings { hooks: vec![Stage::Stop], stop_when, ..Settings::default() });
        scene.read(91, 0);
        scene.now = scene.now.after(Duration::from_secs(1));
        // 2 GiB in a second, of which the average has seen 63%: 5.5 s until the limit.
        assert!(names(&scene.read(93, 0)).contains(&"Stopping".to_owned()));
        assert_eq!(scene.tell(Duration::from_millis(2700), Event::ReadingFailed), []);
        let commands = scene.tell(Duration::from_millis(100), Event::ReadingFailed);
        assert_eq!(names(&commands), ["Terminating", "StopApp"]);
    }

    #[test]
    fn an_answer_in_full_that_holds_no_details_is_not_asked_for_again() {
        let mut scene = Scene::new(Settings::default());
        scene.tell(Duration::ZERO, Event::Deadline);
        assert_eq!(scene.glance(99), []);
    }

    #[test]
    fn where_a_reading_is_dear_there_is_a_pause_between_two() {
        let sleep = |reading_pause| {
            let mut scene = Scene::new(Settings { reading_pause, ..Settings::default() });
            scene.read(91, 0);
            scene.engine.deadline().unwrap().since(scene.now)
        };
        let cadence = sleep(Duration::ZERO);
        assert!(cadence < LONGEST / 2, "{cadence:?}");
        assert_eq!(sleep(cadence / 2), cadence);
        assert_eq!(sleep(cadence * 2), cadence * 2);
    }

    #[test]
    fn a_reading_without_levels_is_a_failed_one() {
        let mut scene = Scene::new(Settings::default());
        scene.tell(Duration::ZERO, Event::Deadline);
        assert_eq!(scene.tell(LATER, Event::Reading(&Reading::new())), []);
        assert!(scene.engine.deadline().is_some_and(|due| due > scene.now));
    }

    #[test]
    fn an_incident_is_opened_before_anything_is_noted_or_run() {
        let hooks = vec![Stage::Capture, Stage::Trace, Stage::Stop, Stage::Kill];
        let mut scene = Scene::new(Settings { hooks, ..Settings::default() });
        scene.read(10, 0);
        scene.now = scene.now.after(Duration::from_secs(3600));
        let commands = scene.read(85, 0);
        assert_eq!(
            names(&commands),
            [
                "LateWake",
                "OpenIncident",
                "StageBegan",
                "TakeBallast",
                "HookStarted",
                "RunHook",
                "HookStarted",
                "RunHook"
            ]
        );
        assert_eq!(commands[3], Command::TakeBallast(BALLAST));
        assert_eq!(commands[5], Command::RunHook { run: Run(1), hook: 1, stage: Stage::Trace });
        assert_eq!(commands[7], Command::RunHook { run: Run(2), hook: 0, stage: Stage::Capture });
    }

    #[test]
    fn a_stage_that_is_switched_off_runs_no_hooks() {
        let hooks = vec![Stage::Trace, Stage::Capture];
        for (trace, capture, runs) in [
            (Threshold::Off, Threshold::Percent(80.0), Some(1)),
            (Threshold::Percent(60.0), Threshold::Off, Some(0)),
            (Threshold::Off, Threshold::Off, None),
        ] {
            let thresholds = Thresholds { trace, capture, ..Thresholds::default() };
            let mut scene = Scene::new(Settings { hooks: hooks.clone(), thresholds, ..Settings::default() });
            let ran = scene.read(93, 0).into_iter().find_map(|command| match command {
                Command::RunHook { hook, .. } => Some(hook),
                _ => None,
            });
            assert_eq!(ran, runs, "{trace:?} {capture:?}");
        }
    }

    #[test]
    fn hooks_of_the_kill_stage_run_once_when_it_begins_and_nothing_is_imminent() {
        let mut scene = Scene::new(Settings { hooks: vec![Stage::Kill], ..Settings::default() });
        let runs = |commands: Vec<Command>| names(&commands).iter().filter(|name| *name == "RunHook").count();
        // The first reading has no rate.
        assert_eq!(runs(scene.read(97, 0)), 1);
        assert_eq!(runs(scene.read(97, 0)), 0);
    }

    #[test]
    fn at_a_stop_the_ballast_goes_first_and_the_signal_last() {
        let hooks = vec![Stage::Stop];
        let settings = Settings { hooks, stop_when: crate::engine::settings::StopWhen::Level, ..Settings::default() };
        let mut scene = Scene::new(settings);
        scene.read(65, 0);
        scene.now = scene.now.after(Duration::from_millis(50));
        let commands = scene.read(93, 0);
        assert_eq!(names(&commands), ["StageBegan", "Stopping", "FreeBallast", "HookStarted", "RunHook"]);
        let ended = Event::RunEnded { run: Run(1), end: crate::engine::event::HookEnd::NotStarted };
        assert_eq!(names(&scene.tell(LATER, ended)), ["HookEnded", "Terminating", "StopApp"]);
        let commands = scene.tell(Duration::from_secs(10), Event::Deadline);
        assert_eq!(names(&commands), ["LateWake", "GraceOver", "FreezeTree", "NoteProcesses", "KillTree"]);
    }

    #[test]
    fn a_kill_freezes_first_and_runs_its_hooks_last() {
        let mut scene = Scene::new(Settings { hooks: vec![Stage::Trace, Stage::Kill], ..Settings::default() });
        scene.read(10, 0);
        let names = names(&scene.read(98, 0));
        let expected = ["OpenIncident", "StageBegan", "Killing", "FreezeTree", "NoteProcesses", "KillTree"];
        assert_eq!(names[..6], expected);
        assert_eq!(names[6..], ["HookStarted", "RunHook"]);
    }

    #[test]
    fn a_stage_that_a_limit_makes_impossible_is_told_once_for_each_limit() {
        let thresholds = Thresholds { capture: Threshold::Below(64 << 20), ..Thresholds::default() };
        let mut scene = Scene::new(Settings { thresholds, ..Settings::default() });
        let mut told = Vec::new();
        for mebibytes in [32u64, 32, 640, 48] {
            let mut reading = Reading::new();
            let stat = Some(Stat::default());
            assert!(reading.push(Level { limit: Some(mebibytes << 20), stat, ..Level::default() }));
            told.extend(scene.tell(LATER, Event::Reading(&reading)));
        }
        let unreachable =
            |limit: u64| Command::Note(Note::ThresholdsUnreachable { limit: limit << 20, stage: Stage::Capture });
        let changed =
            |from: u64, to: u64| Command::Note(Note::LimitChanged { from: Some(from << 20), to: Some(to << 20) });
        assert_eq!(told, [unreachable(32), changed(32, 640), changed(640, 48), unreachable(48)]);
    }

    #[test]
    fn thrashing_is_noted_and_stops_nothing() {
        let mut scene = Scene::new(Settings::default());
        let mut noted = Vec::new();
        for second in 0..20u64 {
            let mut reading = Reading::new();
            let stat = Stat { file: 1, inactive_file: 1, workingset_refault_file: second * 9000, ..Stat::default() };
            assert!(reading.push(Level {
                usage: 91 << 30,
                limit: Some(100 << 30),
                stat: Some(stat),
                ..Level::default()
            }));
            noted.extend(names(&scene.tell(Duration::from_secs(1), Event::Reading(&reading))));
        }
        noted.retain(|name| name != "LateWake");
        assert_eq!(noted, ["OpenIncident", "StageBegan", "TakeBallast", "Thrashing"]);
    }
}
