//! What holds whatever happens: DESIGN's properties, checked at each step of random traces and of the simulator.

use std::time::Duration;

use proptest::prelude::*;

use super::Engine;
use super::brake::LONGEST_STOP;
use super::event::{Command, Event, Exit, HookEnd, Note, Run, Sample, StopReason};
use super::ladder::Steps;
use super::settings::{GaugeKind, Leftovers, OnLeak, Settings, Stage, StopWhen, Threshold, Thresholds};
use super::simulator::{MIB, Memory, World};
use super::time::Moment;
use super::trend::Verdict;
use crate::cgroup::reading::{Events, Level, Reading, Scope, Stat};
use crate::sys::signal::Signal;

/// In the list of what runs: the built-in evidence.
const EVIDENCE: usize = usize::MAX;

/// The laws, and what was seen so far.
pub struct Laws {
    settings: Settings,
    stage: Stage,
    incident: bool,
    ballast: bool,
    verdict: Verdict,
    stopping: bool,
    doomed: bool,
    exited: bool,
    over: bool,
    able: bool,
    has_timer: bool,
    braked: Option<Moment>,
    runs_until: Option<Moment>,
    last_run: u32,
    captures: u32,
    last_capture: Option<Moment>,
    running: Vec<(Run, usize)>,
    /// Whether the last reading has the whole machine: its stages depend on our share of it as well.
    host: bool,
}

impl Laws {
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            stage: Stage::Normal,
            incident: false,
            ballast: false,
            verdict: Verdict::Steady,
            stopping: false,
            doomed: false,
            exited: false,
            over: false,
            able: false,
            has_timer: false,
            braked: None,
            runs_until: None,
            last_run: 0,
            captures: 0,
            last_capture: None,
            running: Vec::new(),
            host: false,
        }
    }

    /// Checks what the engine answered to an event.
    pub fn check(&mut self, now: Moment, event: &Event<'_>, commands: &[Command], deadline: Option<Moment>) {
        if self.over {
            assert_eq!(commands, [], "nothing after the exit");
        }
        match event {
            Event::RunEnded { run, .. } => self.running.retain(|(running, _)| running != run),
            Event::ReadingFailed => {
                let decided = commands.iter().any(|command| matches!(command, Command::Note(Note::StageBegan { .. })));
                assert!(!decided, "nothing is decided on a bad reading");
            }
            Event::CanBrake(able) => self.able = *able,
            Event::HasStopTimer(has) => self.has_timer = *has,
            Event::Reading(reading) => self.host = reading.levels().iter().any(|level| level.scope == Scope::Host),
            _ => {}
        }
        // Who is killed by force is killed before anything else, and must not be told to go on after it.
        let is_force = |command: &Command| matches!(command, Command::Note(Note::Killing { .. }));
        let goes_on = |command: &Command| matches!(command, Command::Release | Command::RunFor(_));
        let spared = self.settings.dry_run || !commands.iter().any(is_force);
        assert!(spared || !commands.iter().any(goes_on), "killed and let go at once: {commands:?}");
        let is_exit = |command: &Command| matches!(command, Command::Note(Note::AppExited { .. }));
        if commands.iter().any(is_exit) {
            let stands = self.braked.is_some() || self.runs_until.is_some();
            let ends = [Command::Release, Command::SignalLeftovers(Signal::KILL)];
            assert!(!stands || ends.iter().any(|end| commands.contains(end)), "left stopped");
        }
        for command in commands {
            assert!(!self.over, "nothing after the exit");
            self.obey(now, command);
        }
        if let Some(since) = self.braked {
            let going_on = deadline.is_some_and(|deadline| deadline.since(since) <= LONGEST_STOP);
            assert!(going_on || now.since(since) > LONGEST_STOP, "nobody looks after a tree that is stopped");
        }
        if let Some(ends) = self.runs_until {
            let in_time = deadline.is_some_and(|deadline| deadline <= ends.max(now).after(Duration::from_millis(1)));
            assert!(in_time, "nobody looks after a tree that the kernel stops");
        }
        self.check_captures(now, commands);
        assert!(deadline.is_none_or(|deadline| deadline >= now), "the next wake is never in the past");
        assert!(!self.over || deadline.is_none(), "no wake after the exit");
        if self.settings.watch && !self.over && !self.doomed {
            assert!(self.exited || deadline.is_some_and(|deadline| deadline.since(now) <= Duration::from_secs(1)));
        }
    }

    fn obey(&mut self, now: Moment, command: &Command) {
        let silent = matches!(command, Command::Note(_) | Command::Read | Command::ReadFull | Command::Exit(_));
        let book = matches!(
            command,
            Command::OpenIncident | Command::CloseIncident | Command::RecordLast { .. } | Command::FinishRecords
        );
        let leaving = matches!(command, Command::SignalLeftovers(_));
        assert!(!self.settings.dry_run || silent || book || leaving, "a dry run touches nothing: {command:?}");
        match command {
            Command::Read | Command::ReadFull => assert!(!self.exited && self.settings.watch),
            Command::OpenIncident => assert!(!std::mem::replace(&mut self.incident, true), "incidents do not nest"),
            Command::CloseIncident => {
                assert!(std::mem::replace(&mut self.incident, false), "an incident is closed that is not open");
                assert!(self.running.is_empty() && !self.ballast && !self.stopping && self.stage == Stage::Normal);
            }
            Command::TakeBallast(bytes) => {
                assert!(!std::mem::replace(&mut self.ballast, true) && self.incident);
                assert!((1..=4 * MIB).contains(bytes));
            }
            Command::FreeBallast => assert!(std::mem::replace(&mut self.ballast, false), "nothing to free"),
            Command::RunHook { run, hook, stage } => {
                assert!(run.0 > self.last_run, "runs are numbered in their order");
                self.last_run = run.0;
                assert!(!self.running.iter().any(|(_, running)| running == hook), "never twice at once");
                assert_eq!(self.settings.hooks[*hook], *stage);
                assert!(*stage != Stage::Stop || self.stopping, "stop hooks are for a stop");
                self.running.push((*run, *hook));
                assert!(self.running.len() <= 16);
            }
            Command::TakeEvidence { run, stage, .. } => {
                assert!(run.0 > self.last_run, "runs are numbered in their order");
                self.last_run = run.0;
                assert!(!self.running.iter().any(|(_, running)| *running == EVIDENCE), "never twice at once");
                assert!(self.settings.evidence && !self.exited && !self.doomed);
                assert!(self.incident == (*stage != Stage::Normal), "only the baseline is no incident's");
                assert!(*stage != Stage::Stop || self.stopping, "the last evidence is for a stop");
                assert!(
                    self.braked.is_none() && self.runs_until.is_none(),
                    "not while growth is followed step by step"
                );
                self.running.push((*run, EVIDENCE));
                assert!(self.running.len() <= 16);
            }
            Command::SignalRun { run, .. } => assert!(self.running.iter().any(|(running, _)| running == run)),
            Command::AbandonRun { run } => self.running.retain(|(running, _)| running != run),
            Command::Brake => {
                assert!(self.able && self.settings.brake && self.braked.is_none() && !self.doomed && !self.exited);
                (self.braked, self.runs_until) = (Some(now), None);
            }
            Command::Release => {
                let (braked, timed) = (self.braked.take(), self.runs_until.take());
                assert!((braked.is_some() || timed.is_some()) && !self.doomed, "nothing to release");
            }
            Command::RunFor(span) => {
                assert!(self.able && self.has_timer && self.settings.brake && !self.doomed && !self.exited);
                self.braked = None;
                self.runs_until = Some(now.after(*span));
            }
            Command::StopApp => assert!(self.stopping && !self.doomed && !self.exited),
            Command::FreezeTree => assert!(self.stopping && !self.exited && !self.ballast),
            Command::KillTree => {
                assert!(self.stopping && !self.exited);
                self.doomed = true;
                (self.braked, self.runs_until) = (None, None);
            }
            Command::SignalLeftovers(signal) => {
                assert!(self.exited);
                if *signal == Signal::KILL {
                    (self.braked, self.runs_until) = (None, None);
                }
            }
            Command::RecordLast { .. } | Command::FinishRecords => assert!(self.exited),
            Command::NoteProcesses => assert!(self.stopping),
            Command::Exit(_) => {
                assert!(self.exited && self.running.is_empty());
                self.over = true;
            }
            Command::Note(note) => self.note(note),
        }
    }

    fn note(&mut self, note: &Note) {
        match note {
            Note::StageBegan { stage, from, sample } => {
                assert!(self.incident && *from == self.stage && stage > from);
                assert!(self.is_above(*stage, sample), "{stage} begins below its threshold: {sample:?}");
                self.stage = *stage;
            }
            Note::StageEnded { stage, from, sample } => {
                assert!(*from == self.stage && stage < from);
                let flaps = self.is_within_hysteresis(*from, sample) && !self.host;
                assert!(!flaps, "{from} ends within its hysteresis: {sample:?}");
                self.stage = *stage;
            }
            Note::Verdict { verdict, from, sample, .. } => {
                // The same is told again to an incident of its own.
                let again = self.settings.on_leak == OnLeak::Capture && *verdict > Verdict::Steady;
                assert!(*from == self.verdict && (*verdict != self.verdict || again) && !self.exited);
                assert_eq!(sample.rate > 0.0, *verdict > Verdict::Steady, "{note:?}");
                self.verdict = *verdict;
            }
            Note::Stopping { sample, reason } => {
                assert!(*reason != StopReason::Leak || self.verdict == Verdict::Leak);
                assert!(!self.stopping || self.settings.dry_run, "stopped twice");
                assert!(self.is_above(Stage::Stop, sample), "stopped below the threshold: {sample:?}");
                self.stopping = !self.settings.dry_run;
            }
            Note::Killing { sample } => {
                assert!(!self.doomed, "killed twice");
                assert!(self.is_above(Stage::Kill, sample), "killed below the threshold: {sample:?}");
                self.stopping = !self.settings.dry_run;
            }
            Note::StopNotNeeded { sample } => assert!(self.is_above(Stage::Stop, sample)),
            Note::CaptureSkipped { taken, .. } => {
                let known = if self.settings.evidence { *taken >= self.captures } else { *taken == self.captures };
                assert!(known && *taken > 0 || self.settings.max_captures == 0)
            }
            Note::AppExited { stopped, .. } => {
                assert!(!std::mem::replace(&mut self.exited, true), "it ends once");
                assert_eq!(*stopped, self.stopping);
            }
            Note::Terminating | Note::GraceOver => assert!(self.stopping),
            Note::Braked { times, .. } => assert!(*times > 0 && self.incident),
            Note::OomKill { times } => assert!(*times > 0 && !self.exited),
            _ => {}
        }
    }

    fn check_captures(&mut self, now: Moment, commands: &[Command]) {
        // The evidence comes with the hooks or, where there is no time for it, after them.
        let is_capture = |command: &Command| matches!(command, Command::RunHook { stage: Stage::Capture, .. });
        if !commands.iter().any(is_capture) {
            if !self.settings.dry_run {
                return;
            }
            let said =
                |command: &Command| matches!(command, Command::Note(Note::HookStarted { stage: Stage::Capture, .. }));
            if !commands.iter().any(said) {
                return;
            }
        }
        let last = commands.iter().any(|command| matches!(command, Command::Note(Note::Stopping { .. })));
        let cooled = self.last_capture.is_none_or(|at| now.since(at) >= self.settings.cooldown);
        assert!(cooled || last, "a capture in a cooldown");
        self.captures += 1;
        assert!(self.captures <= self.settings.max_captures, "too many captures");
        self.last_capture = Some(now);
    }

    fn steps(&self, sample: &Sample) -> Option<Steps> {
        Some(Steps::resolve(&self.settings.thresholds, sample.limit?).0)
    }

    fn is_above(&self, stage: Stage, sample: &Sample) -> bool {
        self.steps(sample).and_then(|steps| steps.of(stage)).is_some_and(|level| sample.gauged >= level)
    }

    fn is_within_hysteresis(&self, stage: Stage, sample: &Sample) -> bool {
        let Some(level) = self.steps(sample).and_then(|steps| steps.of(stage)) else { return false };
        let band = (sample.limit.unwrap_or(0) / 20).min(level / 2);
        sample.gauged >= level - band
    }
}

/// An event without its borrowed reading.
#[derive(Clone, Debug)]
enum Happening {
    Seen { levels: Vec<Level>, oom_kill: Option<u64>, pressure: Option<f32> },
    Failed,
    HookEnded(u32),
    CanBrake(bool),
    HasStopTimer(bool),
    AppExited(Exit),
    AllGone,
    Recorded,
    Deadline,
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![3 => Just(Scope::Own), 1 => Just(Scope::Tree), 1 => Just(Scope::Ancestor(1)), 1 => Just(Scope::Host)]
}

fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![8 => (0u64..=1100).prop_map(|mebibytes| mebibytes * MIB), 1 => Just(0), 1 => Just(u64::MAX)]
}

fn stat() -> impl Strategy<Value = Stat> {
    (bytes(), bytes(), bytes(), any::<u64>()).prop_map(|(inactive_file, file_dirty, slab_reclaimable, refaults)| Stat {
        inactive_file: inactive_file >> 3,
        file_dirty: file_dirty >> 4,
        slab_reclaimable: slab_reclaimable >> 5,
        workingset_refault_file: refaults,
        ..Stat::default()
    })
}

fn limit() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![10 => Just(Some(1000 * MIB)), 2 => Just(Some(700 * MIB)), 1 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(u64::MAX))]
}

fn level() -> impl Strategy<Value = Level> {
    let swap = prop_oneof![5 => Just((0, 0)), 1 => (bytes(), bytes())];
    (scope(), bytes(), limit(), swap, proptest::option::weighted(0.8, stat())).prop_map(
        |(scope, usage, limit, (swap_usage, swap_capacity), stat)| Level {
            scope,
            usage,
            limit,
            swap_usage,
            swap_capacity,
            stat,
        },
    )
}

/// A level as it mostly is: the own group's, with a limit.
fn plain_level() -> impl Strategy<Value = Level> {
    (0u64..=1000, any::<bool>()).prop_map(|(mebibytes, full)| Level {
        usage: mebibytes * MIB,
        limit: Some(1000 * MIB),
        stat: full.then(Stat::default),
        ..Level::default()
    })
}

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![any::<u8>().prop_map(Exit::Code), Just(Exit::Signal(Signal::KILL)), Just(Exit::Signal(Signal::TERM))]
}

fn happening() -> impl Strategy<Value = Happening> {
    let levels = prop_oneof![
        5 => plain_level().prop_map(|level| vec![level]),
        2 => proptest::collection::vec(level(), 0..4)
    ];
    let oom_kill = proptest::option::of(0u64..3);
    let pressure = proptest::option::of(0.0f32..100.0);
    prop_oneof![
        30 => (levels, oom_kill, pressure)
            .prop_map(|(levels, oom_kill, pressure)| Happening::Seen { levels, oom_kill, pressure }),
        2 => Just(Happening::Failed),
        6 => (0u32..40).prop_map(Happening::HookEnded),
        1 => exit().prop_map(Happening::AppExited),
        3 => proptest::bool::weighted(0.9).prop_map(Happening::CanBrake),
        3 => proptest::bool::weighted(0.7).prop_map(Happening::HasStopTimer),
        1 => Just(Happening::AllGone),
        1 => Just(Happening::Recorded),
        10 => Just(Happening::Deadline),
    ]
}

fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(0u64), 0u64..5_000_000, 0u64..1_000_000_000, 0u64..40_000_000_000, 0u64..400_000_000_000,]
        .prop_map(Duration::from_nanos)
}

fn threshold(default: f64) -> impl Strategy<Value = Threshold> {
    prop_oneof![
        6 => Just(Threshold::Percent(default)),
        1 => Just(Threshold::Off),
        1 => (1u64..1000).prop_map(|mebibytes| Threshold::Bytes(mebibytes * MIB)),
        1 => (0u64..1000).prop_map(|mebibytes| Threshold::Below(mebibytes * MIB)),
    ]
}

fn stages() -> impl Strategy<Value = Vec<Stage>> {
    proptest::collection::vec(proptest::sample::select(Stage::LADDER.to_vec()), 0..24)
}

prop_compose! {
    fn settings()(
        trace in threshold(60.0),
        capture in threshold(80.0),
        stop in threshold(92.0),
        kill in threshold(97.0),
        level in proptest::bool::weighted(0.3),
        gauge in proptest::sample::select(vec![GaugeKind::Unreclaimable, GaugeKind::WorkingSet, GaugeKind::Usage]),
        soft_limit in proptest::option::weighted(0.2, bytes()),
        hooks in stages(),
        cooldown in prop_oneof![Just(0), Just(30), Just(300)],
        max_captures in 0u32..4,
        grace in 0u64..20,
        leftovers in proptest::sample::select(vec![Leftovers::Kill, Leftovers::Term, Leftovers::Wait]),
        dry_run in proptest::bool::weighted(0.15),
        brake in proptest::bool::weighted(0.8),
        watch in proptest::bool::weighted(0.95),
        cores in 0u32..20,
        evidence in proptest::bool::weighted(0.7),
        baseline_after in 0u64..400,
        looks_early in any::<bool>(),
        trend_millis in prop_oneof![Just(60_000u64), 1u64..20_000],
    ) -> Settings {
        Settings {
            watch,
            thresholds: Thresholds { trace, capture, stop, kill },
            stop_when: if level { StopWhen::Level } else { StopWhen::Urgent },
            gauge,
            soft_limit,
            hooks,
            cooldown: Duration::from_secs(cooldown),
            max_captures,
            grace: Duration::from_secs(grace),
            leftovers,
            dry_run,
            brake,
            evidence,
            baseline_after: Duration::from_secs(baseline_after),
            on_leak: if looks_early { OnLeak::Capture } else { OnLeak::Notice },
            trend_unit: Duration::from_millis(trend_millis),
            cores,
            ..Settings::default()
        }
    }
}

fn tell(engine: &mut Engine, now: Moment, happening: &Happening, commands: &mut Vec<Command>, laws: &mut Laws) {
    let mut reading = Reading::new();
    let event = match happening {
        Happening::Seen { levels, oom_kill, pressure } => {
            for level in levels {
                assert!(reading.push(*level));
            }
            reading.events = oom_kill.map(|oom_kill| Events { oom_kill, ..Events::default() });
            reading.pressure_full_avg10 = *pressure;
            Event::Reading(&reading)
        }
        Happening::Failed => Event::ReadingFailed,
        Happening::HookEnded(run) => Event::RunEnded { run: Run(*run), end: HookEnd::Ended(Exit::Code(0)) },
        Happening::CanBrake(able) => Event::CanBrake(*able),
        Happening::HasStopTimer(has) => Event::HasStopTimer(*has),
        Happening::AppExited(exit) => Event::AppExited(*exit),
        Happening::AllGone => Event::AllGone,
        Happening::Recorded => Event::Recorded,
        Happening::Deadline => Event::Deadline,
    };
    engine.handle(now, event, commands);
    laws.check(now, &event, commands, engine.deadline());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold_whatever_happens(
        settings in settings(),
        trace in proptest::collection::vec((pause(), happening()), 1..150),
    ) {
        let mut now = Moment::default();
        let mut laws = Laws::new(&settings);
        let mut engine = Engine::new(settings, now);
        for (pause, happening) in &trace {
            now = now.after(*pause);
            tell(&mut engine, now, happening, &mut Vec::new(), &mut laws);
        }
    }

    #[test]
    fn time_that_stands_still_or_runs_back_harms_nothing(
        settings in settings(),
        trace in proptest::collection::vec((0u64..3_000_000_000, happening()), 1..60),
    ) {
        let mut engine = Engine::new(settings, Moment::from_nanos(1_000_000_000));
        for (nanos, happening) in &trace {
            let settings = engine.settings.clone();
            let now = engine.now;
            let mut commands = Vec::new();
            let mut reading = Reading::new();
            let event = match happening {
                Happening::Seen { levels, .. } => {
                    for level in levels {
                        prop_assert!(reading.push(*level));
                    }
                    Event::Reading(&reading)
                }
                Happening::AppExited(exit) => Event::AppExited(*exit),
                _ => Event::Deadline,
            };
            engine.handle(Moment::from_nanos(*nanos), event, &mut commands);
            prop_assert!(engine.now >= now);
            prop_assert!(engine.deadline().is_none_or(|deadline| deadline >= engine.now), "{settings:?}");
        }
    }

    #[test]
    fn from_anywhere_the_apps_end_leads_to_one_exit_in_bounded_time(
        settings in settings(),
        trace in proptest::collection::vec((pause(), happening()), 0..60),
        exit in exit(),
    ) {
        let bound = settings.leftover_timeout + Duration::from_secs(1 + 3 + 2);
        let mut now = Moment::default();
        let mut laws = Laws::new(&settings);
        let mut engine = Engine::new(settings, now);
        for (pause, happening) in trace.iter().filter(|(_, event)| !matches!(event, Happening::AppExited(_))) {
            now = now.after(*pause);
            tell(&mut engine, now, happening, &mut Vec::new(), &mut laws);
        }
        let died = now;
        let mut commands = Vec::new();
        tell(&mut engine, now, &Happening::AppExited(exit), &mut commands, &mut laws);
        // From here on nobody answers: no hook ends, no leftover goes, no record is confirmed.
        while let Some(deadline) = engine.deadline() {
            prop_assert!(deadline.since(died) <= bound, "{:?} after the app", deadline.since(died));
            prop_assert!(deadline > now || commands.is_empty() || now == died, "no progress");
            now = deadline;
            commands.clear();
            tell(&mut engine, now, &Happening::Deadline, &mut commands, &mut laws);
        }
        let exits = commands.iter().filter(|command| matches!(command, Command::Exit(_))).count();
        prop_assert_eq!(exits, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stop_ends_in_an_exit_whatever_app_and_hooks_do(
        rate in 1.0f64..2000.0,
        start in 0.0f64..0.5,
        mebibytes in 256u64..4096,
        leaves in proptest::option::of(0u64..20_000),
        lives in 1u32..4,
        hooks in proptest::collection::vec(proptest::option::of(0u64..40_000), 24),
        stages in stages(),
        grace in 0u64..20,
    ) {
        let settings = Settings { hooks: stages, grace: Duration::from_secs(grace), cores: 2, ..Settings::default() };
        let limit = mebibytes * MIB;
        let mut world = World::new(settings, limit, move |time| Memory {
            heap: (limit as f64 * start + rate * time * MIB as f64) as u64,
            cache: 50 * MIB,
        });
        world.leaves = leaves.map(Duration::from_millis);
        world.lives = lives;
        world.hooks = hooks.into_iter().map(|millis| millis.map(Duration::from_millis)).collect();
        // The climb itself, and then hooks, grace and leaving.
        let climb = (limit / MIB) as f64 / rate;
        let world = world.play(Duration::from_secs_f64(climb) + Duration::from_secs(20 + 20 + 8 + 6));
        prop_assert_eq!(world.exit_code(), Some(75));
    }
}
