//! The event loop of PID 1, and what carries out the engine's commands.
//!
//! One thread, one wait. Signals, deaths of children, reports of workers, memory events and time come in; the engine
//! decides; this room signals, reaps, reads small kernel files and starts workers. Nothing here blocks, and nothing
//! here may fail for good: whatever goes wrong costs a log line.
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

pub mod app;
mod attention;
pub mod evidence;
mod helper;
pub mod log;
pub mod newborn;
mod recorder;
pub mod recording;
pub mod report;
mod resident;
pub mod sentence;
pub mod tree;
pub mod watch;
pub mod workers;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use ::log::{Level, log};

use crate::cgroup::source::Depth;
use crate::config::{Config, Recipes};
use crate::engine::Engine;
use crate::engine::event::{Command, Event, Exit, HookEnd, Note, Run, Sample, StopReason};
use crate::engine::settings::Stage;
use crate::engine::time::Moment;
use crate::injected;
use crate::process::facts::Facts;
use crate::sys::mask::{self, Arrival, SignalDescriptor};
use crate::sys::memory::Ballast;
use crate::sys::poll::{Interest, Wait};
use crate::sys::process::{self, Change, ProcessId};
use crate::sys::signal::Signal;
use crate::sys::spawn;
use crate::sys::stop_timer::StopTimer;
use app::App;
use attention::Attention;
use recorder::Recorder;
use recording::Recording;
use resident::Resident;
use sentence::{Ending, Sentence};
use tree::Tree;
use watch::Watch;
use workers::{Role, Workers};

/// How many deaths are taken before the loop looks at anything else.
const REAPED_AT_ONCE: usize = 4096;

/// How many events are handled before the loop looks at signals again. The engine needs three for a decision.
const EVENTS_AT_ONCE: usize = 256;

/// A large process takes some seconds to be torn down.
const TEARDOWN: Duration = Duration::from_secs(5);

/// Without anything else to do, the loop comes round this often: a lost wake-up must not last.
const IDLE: Duration = Duration::from_secs(60);

/// Who is stopped by somebody else is looked up again when the brake was not needed for so long.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How often the kernel is told anew when to stop the tree if that moment comes while it is being told.
const TRIES: u32 = 3;

/// How long a record may wait because memory leaves no time for it.
const LONGEST_HOLD: Duration = Duration::from_millis(250);

/// memini's clock: what the engine calls a moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn now(&self) -> Moment {
        Moment::from_nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// An event that waits for its turn.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Read(Depth),
    RunEnded(Run, HookEnd),
    CanBrake(bool),
    HasStopTimer(bool),
    AppExited(Exit),
    AllGone,
    Recorded,
    Deadline,
}

/// What a descriptor that is ready stands for.
#[derive(Clone, Copy)]
enum Token {
    Signals,
    Exec,
    MemoryEvent,
    Reports,
}

/// What cannot wait where growth is ended by force. The rest stays in its order.
const fn is_pressing(command: &Command) -> bool {
    use Command::{FreeBallast, FreezeTree, KillTree, NoteProcesses, OpenIncident};
    matches!(command, OpenIncident | FreeBallast | FreezeTree | NoteProcesses | KillTree)
}

/// Everything that PID 1 has.
pub struct Supervisor {
    config: Config,
    clock: Clock,
    signals: SignalDescriptor,
    app: App,
    engine: Engine,
    watch: Option<Watch>,
    tree: Tree,
    workers: Workers,
    recording: Recording,
    recorder: Recorder,
    resident: Resident,
    ballast: Option<Ballast>,
    /// What the hooks' tokens say: the last sample that was noted, and why.
    last_sample: Sample,
    reason: &'static str,
    /// The app is being stopped for its memory.
    stopping: bool,
    /// Facts about processes are gathered once everything more urgent is done.
    facts_for: Option<Stage>,
    /// The stages of this incident for which they were.
    facts_taken: Vec<Stage>,
    /// Facts of a moment at which no incident was open yet.
    early: Option<(Moment, Facts)>,
    /// When the tree was last stopped for a moment, or let run for one.
    braked: Option<Moment>,
    stop_timer: Option<StopTimer>,
    has_tried_stop_timer: bool,
    /// Since when a record waits for memory to leave time for it.
    held: Option<Moment>,
    /// What workers have seen so far, each for the next one to compare with; made for the first one.
    seen: Option<OwnedFd>,
    /// As long as memini lives, and no longer, this end of the guardian's pipe is open.
    lifeline: Option<OwnedFd>,
    is_guarded: bool,
    pending: VecDeque<Pending>,
    commands: Vec<Command>,
    arrivals: Vec<Arrival>,
    spared: Vec<ProcessId>,
    attention: Attention,
    /// When the app's tree was killed, if it was.
    killed: Option<Moment>,
    /// When it was last looked for deaths.
    reaped: Moment,
    /// More deaths wait than were taken.
    more_to_reap: bool,
    app_exit_told: bool,
    all_gone_told: bool,
    exit: Option<u8>,
}

/// What the supervisor is made of.
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// The clock that the engine was started with.
    pub clock: Clock,
    /// Where signals come from.
    pub signals: SignalDescriptor,
    /// The app, started.
    pub app: App,
    /// The engine.
    pub engine: Engine,
    /// The memory source; `None` with `--no-watch`, or where nothing can be read.
    pub watch: Option<Watch>,
    /// The phrase for it.
    pub source: String,
}

impl Supervisor {
    /// Ready to run.
    pub fn new(parts: Parts) -> Self {
        let app = parts.app.id();
        let mut pending = VecDeque::with_capacity(64);
        if parts.watch.is_some() {
            pending.push_back(Pending::Read(Depth::Full));
        }
        let tree = Tree::new(app);
        // The end of PID 1 is the end of the namespace: nothing can be left stopped. Elsewhere that takes a guardian.
        if tree.is_init() {
            pending.push_back(Pending::CanBrake(true));
        }
        Self {
            recording: Recording::new(&parts.config, app.get(), &parts.source),
            recorder: Recorder::new(&parts.config, parts.watch.is_some()),
            resident: Resident::new(),
            tree,
            config: parts.config,
            clock: parts.clock,
            signals: parts.signals,
            app: parts.app,
            engine: parts.engine,
            watch: parts.watch,
            workers: Workers::new(),
            ballast: None,
            last_sample: Sample::default(),
            reason: "threshold",
            stopping: false,
            facts_for: None,
            facts_taken: Vec::with_capacity(Stage::LADDER.len()),
            early: None,
            braked: None,
            stop_timer: None,
            has_tried_stop_timer: false,
            held: None,
            seen: None,
            lifeline: None,
            is_guarded: false,
            pending,
            commands: Vec::with_capacity(64),
            arrivals: Vec::with_capacity(mask::ARRIVALS_AT_ONCE),
            spared: Vec::with_capacity(workers::CAPACITY.saturating_mul(2)),
            attention: Attention::default(),
            killed: None,
            reaped: Moment::default(),
            more_to_reap: true,
            app_exit_told: false,
            all_gone_told: false,
            exit: None,
        }
    }

    /// Runs until the engine ends it. The exit code.
    pub fn run(&mut self) -> u8 {
        loop {
            self.handle_pending();
            if let Some(code) = self.exit {
                return code;
            }
            self.wait();
        }
    }

    /// Goes on as a plain init after an error of memini's own: forwards, reaps, and ends with the app.
    pub fn run_plainly(&mut self) -> u8 {
        // Whether it has stopped the tree may have been found out, and not been acted on.
        let may_have_stopped = self.stop_timer.take().is_some();
        self.tree.thaw(self.clock.now(), may_have_stopped);
        self.watch = None;
        self.recorder.broken(self.clock.now());
        loop {
            self.take_signals();
            self.reap();
            if let Some(exit) = self.app.ended().filter(|_| !self.more_to_reap) {
                let code = exit.code();
                let code = if self.config.remap_exit.contains(&code) { 0 } else { code };
                self.recorder.exit(self.clock.now(), code);
                return code;
            }
            let mut wait = Wait::new();
            wait.add(self.signals.as_fd(), Interest::Read, ());
            let now = self.clock.now();
            let newborn = self.newborn_due().map_or(IDLE, |due| due.since(now));
            let _ = wait.wait(Some(if self.more_to_reap { Duration::ZERO } else { newborn }));
            self.continue_newborn_if_due();
        }
    }

    /// Waits for whatever comes first, and turns it into events.
    fn wait(&mut self) {
        if self.attention.adapt(self.engine.deadline().map(|deadline| deadline.since(self.clock.now()))) {
            self.resident.uses_more();
            self.set_up_stop_timer();
        }
        let mut wait = Wait::new();
        wait.add(self.signals.as_fd(), Interest::Read, Token::Signals);
        if let Some(exec) = self.app.exec() {
            wait.add(exec.as_fd(), Interest::Read, Token::Exec);
        }
        if let Some(events) = self.watch.as_ref().and_then(Watch::events) {
            wait.add(events, Interest::Priority, Token::MemoryEvent);
        }
        for report in self.workers.reports() {
            wait.add(report, Interest::Read, Token::Reports);
        }
        let timeout = self.timeout();
        let outcome = wait.wait(Some(timeout));
        let mut ready = [None; 4];
        for (place, token) in ready.iter_mut().zip(wait.ready()) {
            *place = Some(token);
        }
        if let Err(error) = outcome {
            ::log::warn!("cannot wait: {error}; looking at everything");
            ready = [Some(Token::Signals), Some(Token::Exec), None, Some(Token::Reports)];
        }
        for token in ready.into_iter().flatten() {
            match token {
                Token::Signals => self.take_signals(),
                Token::Exec => self.app.look_at_exec(),
                // Any reading also reads memory.events itself, which makes it quiet again; the engine asks if more is needed.
                Token::MemoryEvent => self.pending.push_back(Pending::Read(Depth::Usage)),
                Token::Reports => self.listen(),
            }
        }
        let now = self.clock.now();
        // A lost wake-up must not last.
        if self.more_to_reap || now.since(self.reaped) >= IDLE {
            self.reap();
        }
        if self.engine.deadline().is_some_and(|deadline| deadline <= now) {
            self.pending.push_back(Pending::Deadline);
        }
        self.continue_newborn_if_due();
        self.end_holds_if_due();
        self.write_record_if_due(now);
        self.keep_recorder(now);
        self.tidy_program(now);
    }

    /// What it takes to run workers is not in use any more when these are over.
    fn tidy_program(&mut self, now: Moment) {
        self.resident.guarded(self.workers.any(|role| role == Role::Guardian));
        if self.has_short_workers() {
            self.resident.uses_more();
        }
        if self.tidying_due().is_some_and(|due| due <= now) {
            self.resident.tidy(now);
        }
    }

    /// While memory grows fast, and when the app is gone, there is no time for it.
    fn tidying_due(&self) -> Option<Moment> {
        // Most of the time there is nothing to be let go of, and this is asked at each look.
        let has_time = |_: &Moment| !self.has_short_workers() && !self.app_exit_told && !self.engine.is_pressed();
        self.resident.due().filter(has_time)
    }

    /// Whether there are workers other than the one that stays.
    fn has_short_workers(&self) -> bool {
        self.workers.any(|role| role != Role::Guardian)
    }

    /// Has the recorder made once there is time for that, and later what it needs besides being written to.
    fn keep_recorder(&mut self, now: Moment) {
        if self.recorder_due().is_some_and(|due| due <= now) && !self.engine.is_scarce() {
            self.recorder.start(now, &self.recording.run(), &self.config, &mut self.workers);
        }
        if !self.engine.is_pressed() {
            self.recorder.keep_up(now);
        }
    }

    /// While memory grows fast, and when the app is gone, there is no time for a worker.
    fn recorder_due(&self) -> Option<Moment> {
        self.recorder.due().filter(|_| !self.app_exit_told && !self.engine.is_pressed())
    }

    /// While memory grows fast, a look at everybody takes longer than there is time for. But not for ever.
    fn newborn_due(&self) -> Option<Moment> {
        let due = self.tree.newborn_due()?;
        Some(if self.engine.is_pressed() { due.after(LONGEST_HOLD) } else { due })
    }

    fn continue_newborn_if_due(&mut self) {
        let now = self.clock.now();
        if self.newborn_due().is_some_and(|due| due <= now) {
            self.tree.continue_newborn(now);
        }
    }

    /// A look that takes too long must not be what stops an app.
    fn end_holds_if_due(&mut self) {
        if self.workers.hold_due().is_some() {
            self.workers.end_holds(Instant::now());
            self.brake_who_was_let_go();
        }
    }

    /// When a record is to be written: not while a killed app still lets go of its memory, if that does not take too long.
    /// The OOM killer finds nothing any more that it could take from such a process, and whoever needs memory at the limit
    /// now, as a new worker does, is killed in its place: memini itself.
    fn record_due(&self) -> Option<Moment> {
        let due = self.recording.due(&self.workers)?;
        let killed = self.killed.filter(|_| self.app.ended().is_none());
        Some(killed.map_or(due, |killed| due.max(killed.after(TEARDOWN))))
    }

    fn write_record_if_due(&mut self, now: Moment) {
        let is_due = self.record_due().is_some_and(|due| due <= now);
        if is_due && self.holds_record(now) {
            return;
        }
        self.held = None;
        if !is_due {
            return;
        }
        if self.recording.write_if_due(now, &self.config, self.recorder.descriptor(), &mut self.workers).is_err() {
            self.pending.push_back(Pending::Recorded);
        }
    }

    /// Whether the next record has to wait: its worker would take time that memory does not leave. But not for ever.
    fn holds_record(&mut self, now: Moment) -> bool {
        if self.app_exit_told || !self.engine.is_pressed() {
            return false;
        }
        now.since(*self.held.get_or_insert(now)) < LONGEST_HOLD
    }

    fn timeout(&self) -> Duration {
        if self.more_to_reap || !self.pending.is_empty() {
            return Duration::ZERO;
        }
        let now = self.clock.now();
        // While it is held, the engine's deadlines bring the loop round often enough.
        let record = if self.held.is_some() { None } else { self.record_due() };
        let recorder = self.recorder_due().filter(|_| !self.engine.is_scarce());
        let due = [self.engine.deadline(), record, self.newborn_due(), recorder, self.tidying_due()];
        let held = self.workers.hold_due().map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
        due.into_iter().flatten().map(|moment| moment.since(now)).min().unwrap_or(IDLE).min(IDLE).min(held)
    }

    /// Reads signals and passes on what is meant for the app.
    fn take_signals(&mut self) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        arrivals.clear();
        self.signals.take(|arrival| arrivals.push(arrival));
        if !arrivals.is_empty() {
            // Before anything is forwarded: whether the app is stopped matters for that, and is to be had from waitpid(2) a
            // moment before SIGCHLD tells.
            self.reap();
        }
        let own = std::process::id();
        let now = self.clock.now();
        for arrival in arrivals.iter().filter(|arrival| arrival.is_from_outside(own)) {
            self.recorder.signal(now, arrival);
            self.forward(arrival.signal);
        }
        self.arrivals = arrivals;
    }

    fn forward(&mut self, signal: Signal) {
        let rule = self.config.rewrite.iter().find(|(from, _)| *from == signal);
        let Some(target) = rule.map_or(Some(signal), |(_, to)| *to) else {
            ::log::debug!("{signal} is dropped, as --rewrite has it");
            return;
        };
        if self.app.ended().is_some() {
            self.spare_workers();
            self.tree.signal_leftovers(target, &self.spared);
        } else {
            self.app.forward(target);
        }
    }

    /// Takes the deaths of children, and acts on the app's only when no other waits any more.
    fn reap(&mut self) {
        self.more_to_reap = true;
        self.reaped = self.clock.now();
        for _ in 0..REAPED_AT_ONCE {
            let Some((id, change)) = process::next_change() else {
                self.more_to_reap = false;
                break;
            };
            if id == self.app.id() {
                self.app.change(change);
            } else if let Change::Ended(exit) = change {
                self.other_ended(id, exit);
            }
        }
        if self.more_to_reap {
            return;
        }
        if let Some(exit) = self.app.ended()
            && !self.app_exit_told
        {
            self.app_exit_told = true;
            self.tree.app_ended();
            if self.watch.is_some() {
                self.pending.push_back(Pending::Read(Depth::Full));
            }
            self.pending.push_back(Pending::AppExited(exit));
        }
        self.look_whether_all_are_gone();
    }

    fn other_ended(&mut self, id: ProcessId, exit: Exit) {
        let Some(finished) = self.workers.ended(id, exit) else {
            if self.config.warn_on_reap {
                ::log::warn!("reaped process {id}, an orphan: {}", Ending(exit));
            }
            return;
        };
        self.brake_who_was_let_go();
        match finished.role {
            Role::Hook(run) => {
                if let Some((file, bytes)) = &finished.output {
                    self.recording.hook_output(self.since_start(), run, file, *bytes);
                }
                self.recording.remarks(self.since_start(), run, &finished.remarks);
                self.pending.push_back(Pending::RunEnded(run, finished.end));
            }
            Role::Evidence(run, _) => {
                if let Some((file, bytes)) = &finished.output {
                    self.recording.evidence(self.since_start(), run, file, *bytes);
                }
                self.recording.remarks(self.since_start(), run, &finished.remarks);
                self.pending.push_back(Pending::RunEnded(run, finished.end));
            }
            Role::Unrecord => {}
            Role::Recorder => {
                self.recorder.made();
                // The next look may be a second away.
                self.pending.push_back(Pending::Read(Depth::Full));
                // An incident may have been opened before.
                if let Some(name) = self.recording.name() {
                    self.recorder.incident_began(self.clock.now(), name);
                }
            }
            Role::Guardian => {
                (self.lifeline, self.is_guarded) = (None, false);
                self.pending.push_back(Pending::CanBrake(false));
            }
            Role::Record(is_last) => {
                if finished.written {
                    self.recording.written();
                }
                if is_last {
                    self.pending.push_back(Pending::Recorded);
                }
                self.look_whether_all_is_written();
            }
        }
    }

    fn look_whether_all_is_written(&mut self) {
        if self.recording.is_finished(&self.workers) {
            self.pending.push_back(Pending::Recorded);
        }
    }

    fn look_whether_all_are_gone(&mut self) {
        if self.app_exit_told && !self.all_gone_told {
            self.spare_workers();
            if self.tree.is_gone(&self.spared) {
                self.all_gone_told = true;
                self.pending.push_back(Pending::AllGone);
            }
        }
    }

    fn spare_workers(&mut self) {
        // Who has just told its hook's group is to be spared with it. What else is told must not be lost.
        self.listen();
        self.workers.groups(&mut self.spared);
    }

    fn since_start(&self) -> Duration {
        self.clock.now().since(Moment::default())
    }

    /// Gives the engine what has happened, and does what it says, until nothing is left.
    fn handle_pending(&mut self) {
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = self.pending.pop_front() else { break };
            self.handle(event);
            if self.exit.is_some() {
                return;
            }
        }
        // If there is no time for it now, there will be when the tree stands still, or when the app is asked to leave.
        if let Some(stage) = self.facts_for.filter(|_| !self.engine.is_pressed()) {
            self.facts_for = None;
            self.note_processes(stage);
        }
    }

    fn handle(&mut self, event: Pending) {
        let mut commands = std::mem::take(&mut self.commands);
        commands.clear();
        let now = self.clock.now();
        injected::panic_at(&event);
        match event {
            Pending::Read(depth) => {
                let with_held = self.engine.wants_held();
                match self.watch.as_mut().and_then(|watch| watch.read(depth, with_held)) {
                    Some(reading) => {
                        self.engine.handle(now, Event::Reading(reading), &mut commands);
                        if let Some(look) = self.engine.look() {
                            self.recorder.look(now, &look, reading.events);
                        }
                    }
                    None => self.engine.handle(now, Event::ReadingFailed, &mut commands),
                }
            }
            Pending::RunEnded(run, end) => self.engine.handle(now, Event::RunEnded { run, end }, &mut commands),
            Pending::CanBrake(able) => self.engine.handle(now, Event::CanBrake(able), &mut commands),
            Pending::HasStopTimer(has) => self.engine.handle(now, Event::HasStopTimer(has), &mut commands),
            Pending::AppExited(exit) => self.engine.handle(now, Event::AppExited(exit), &mut commands),
            Pending::AllGone => self.engine.handle(now, Event::AllGone, &mut commands),
            Pending::Recorded => self.engine.handle(now, Event::Recorded, &mut commands),
            Pending::Deadline => self.engine.handle(now, Event::Deadline, &mut commands),
        }
        // A log line wakes whoever reads it, and may take its author's place on the processor: where growth is ended by
        // force, that comes first. Where the tree is not even stopped for it, nothing may come before the kill; nor where the
        // app has left, and its children fill what is left.
        let by_force = commands.iter().any(|command| matches!(command, Command::Note(Note::Killing { .. })));
        let at_once = by_force && !commands.contains(&Command::FreezeTree);
        let rank = |command: &Command| match command {
            Command::KillTree if at_once => 0,
            Command::SignalLeftovers(Signal::KILL) => 0,
            command if by_force && is_pressing(command) => 1,
            _ => 2,
        };
        for turn in 0..3 {
            for command in commands.iter().filter(|command| rank(command) == turn) {
                self.carry_out(command);
            }
        }
        self.commands = commands;
    }

    fn carry_out(&mut self, command: &Command) {
        injected::panic_at(command);
        match command {
            Command::Read => self.pending.push_back(Pending::Read(Depth::Usage)),
            Command::ReadFull => self.pending.push_back(Pending::Read(Depth::Full)),
            Command::OpenIncident => self.begin_incident(),
            Command::Note(note) => self.note(note),
            Command::CloseIncident => {
                self.recording.end(self.since_start());
                self.recorder.recovered(self.clock.now());
                self.facts_taken.clear();
                self.end_recording();
            }
            Command::RunHook { run, hook, stage } => self.run_hook(*run, *hook, *stage),
            Command::TakeEvidence { run, stage, room, time } => self.take_evidence(*run, *stage, *room, *time),
            Command::SignalRun { run, signal } => self.workers.signal_run(*run, *signal),
            Command::AbandonRun { run } => self.workers.abandon(*run),
            Command::TakeBallast(bytes) => {
                let length = usize::try_from(*bytes).unwrap_or(0);
                self.ballast = Ballast::take(length).map_err(|error| ::log::debug!("no ballast: {error}")).ok();
                self.count_ballast(if self.ballast.is_some() { *bytes } else { 0 });
            }
            Command::FreeBallast => {
                self.ballast = None;
                self.count_ballast(0);
            }
            Command::Brake => self.brake(),
            Command::Release => self.release(),
            Command::RunFor(span) => self.run_for(*span),
            Command::StopApp => {
                // Before the app hears of it: a moment later it may hold nothing any more.
                if let Some(stage) = self.facts_for.take() {
                    self.note_processes_at_rest(stage);
                }
                self.app.stop(self.config.stop_signal);
            }
            Command::FreezeTree => {
                self.spare_workers();
                self.tree.freeze(&self.spared);
            }
            Command::NoteProcesses => self.note_processes(Stage::Kill),
            Command::KillTree => {
                self.spare_workers();
                self.tree.kill(&self.spared);
                self.stop_timer = None;
                // Who is dead holds nothing.
                self.facts_for = None;
                self.killed.get_or_insert(self.clock.now());
                self.more_to_reap = true;
            }
            Command::SignalLeftovers(signal) => {
                self.spare_workers();
                self.tree.signal_leftovers(*signal, &self.spared);
                if *signal == Signal::KILL {
                    self.stop_timer = None;
                }
                self.more_to_reap = true;
            }
            Command::RecordLast { code } => {
                self.begin_incident();
                if self.recording.finish(self.since_start(), *code) {
                    self.write_record_if_due(self.clock.now());
                } else {
                    self.pending.push_back(Pending::Recorded);
                }
            }
            Command::FinishRecords => {
                self.recording.finish_earlier();
                self.write_record_if_due(self.clock.now());
                self.look_whether_all_is_written();
            }
            Command::Exit(code) => {
                if let Some(name) = self.recording.written_name() {
                    let folder = self.config.dir.join("incidents").join(name);
                    ::log::info!("exit code {code}; the evidence is in {}", folder.display());
                } else if self.stopping {
                    ::log::info!("exit code {code}; the evidence is in this log only");
                }
                self.tree.end_all();
                self.recorder.exit(self.clock.now(), *code);
                self.exit = Some(*code);
            }
        }
    }

    fn brake(&mut self) {
        self.begin_series();
        self.spare_workers();
        self.tree.brake(&self.spared);
        if let Some(timer) = &mut self.stop_timer {
            // The tree is stopped in any case.
            timer.cancel();
        }
    }

    /// Before the first stop of a series: later, whoever is found stopped may be so by the brake, and would never go on. Or by
    /// the kernel, at the moment that it was told: a series does not end before memini has seen to that.
    fn begin_series(&mut self) {
        let now = self.clock.now();
        let goes_on = self.braked.replace(now).is_some_and(|last| now.since(last) < LOOK_AGAIN);
        if goes_on || self.tree.is_frozen() || self.stop_timer.as_ref().is_some_and(StopTimer::is_running) {
            return;
        }
        self.spare_workers();
        // Who is held by a worker was told before it was stopped.
        self.workers.listen();
        self.tree.look_who_is_stopped(&self.spared, |id| self.workers.hold(id));
        self.tell_of_stop_timer();
    }

    /// The kernel's timer reaches one process group. Who is in another is only braked in the usual way.
    fn tell_of_stop_timer(&mut self) {
        let has = self.stop_timer.is_some() && self.tree.is_one_group();
        self.pending.push_back(Pending::HasStopTimer(has));
    }

    /// Opens what the kernel stops the tree with at a given moment, once memory may call for it.
    fn set_up_stop_timer(&mut self) {
        if self.stop_timer.is_some() || self.has_tried_stop_timer {
            return;
        }
        if !self.engine.would_brake() || self.app.ended().is_some() {
            return;
        }
        self.has_tried_stop_timer = true;
        match StopTimer::new(self.app.id()) {
            Ok(timer) => self.stop_timer = Some(timer),
            Err(error) => ::log::debug!("the kernel cannot be told to stop the app at a given moment: {error}"),
        }
        self.tell_of_stop_timer();
    }

    /// Lets the tree run for so long, and no longer unless told so before.
    fn run_for(&mut self, span: Duration) {
        if !self.tree.is_frozen() {
            self.begin_series();
        }
        if self.tree.is_frozen() {
            // What takes long comes before the time runs.
            self.look_at_rest();
        }
        for _ in 0..TRIES {
            let Some(timer) = &mut self.stop_timer else { break };
            let set = timer.start(span);
            let stood = set.had_stopped || self.tree.is_frozen();
            if stood {
                self.tree.release(self.clock.now());
            }
            if !set.is_set {
                ::log::debug!("the kernel could not be told when to stop the app");
                self.stop_timer = None;
                self.tell_of_stop_timer();
            } else if stood && self.stop_timer.as_mut().is_some_and(StopTimer::has_come) {
                // Whether it came before the tree went on cannot be told: if so, it is not stopped.
                continue;
            }
            break;
        }
        if self.tree.is_frozen() {
            self.tree.release(self.clock.now());
        }
    }

    fn release(&mut self) {
        let had_stopped = self.stop_timer.as_mut().is_some_and(StopTimer::cancel);
        if had_stopped || self.tree.is_frozen() {
            self.look_at_rest();
            self.tree.release(self.clock.now());
        }
    }

    /// What is to be known about the processes is best seen while they stand still, if that is soon done; and once early, as the
    /// next look may find no room left for it.
    fn look_at_rest(&mut self) {
        // At the limit the look itself would call the OOM killer, and memini is among those that it may take.
        if self.tree.is_small() && !self.engine.is_scarce() {
            let early = self.facts_taken.is_empty().then_some(Stage::Trace);
            if self.recording.name().is_none() {
                self.look_early();
            } else if let Some(stage) = self.facts_for.take().or(early) {
                self.facts_taken.extend(early);
                self.note_processes(stage);
            }
        }
    }

    fn look_early(&mut self) {
        let now = self.clock.now();
        if self.early.as_ref().is_none_or(|(then, _)| now.since(*then) >= LOOK_AGAIN) {
            self.spare_workers();
            self.early = self.tree.facts(&self.spared).map(|facts| (now, facts));
        }
    }

    fn begin_incident(&mut self) {
        let now = self.clock.now();
        if self.recording.name().is_none() {
            self.recording.begin(self.recorder.place());
            if let Some(name) = self.recording.name() {
                self.recorder.incident_began(now, name);
            }
        }
        if let Some((then, facts)) = self.early.take().filter(|(then, _)| now.since(*then) < LOOK_AGAIN)
            && self.facts_taken.is_empty()
        {
            self.facts_taken.push(Stage::Trace);
            self.recording.processes(then.since(Moment::default()), Stage::Trace, &facts);
        }
    }

    /// Where memini is not PID 1, somebody must continue the app should memini die while it is stopped.
    fn call_guardian(&mut self) {
        if !self.engine.would_brake() || self.tree.is_init() || self.lifeline.is_some() {
            return;
        }
        let started = spawn::pipe().and_then(|(reader, writer)| {
            let group = self.app.id().to_string();
            let words = vec!["guardian".into(), reader.as_raw_fd().to_string().into(), group.into()];
            self.workers.start(Role::Guardian, words, &[reader.as_fd()])?;
            Ok(writer)
        });
        match started {
            Ok(writer) => self.lifeline = Some(writer),
            Err(error) => ::log::debug!("cannot start a worker: {error}; fast growth is not braked"),
        }
    }

    fn listen(&mut self) {
        self.workers.listen();
        self.brake_who_was_let_go();
        if self.lifeline.is_some() && !self.is_guarded && self.workers.are_guarded() {
            self.is_guarded = true;
            self.pending.push_back(Pending::CanBrake(true));
        }
    }

    /// A worker that has looked at a process lets it go on, and knows nothing of the brake.
    fn brake_who_was_let_go(&mut self) {
        if self.workers.take_let_go() && self.tree.is_frozen() {
            self.spare_workers();
            self.tree.brake(&self.spared);
        }
    }

    fn count_ballast(&mut self, bytes: u64) {
        if let Some(watch) = &mut self.watch {
            watch.hold_ballast(bytes);
        }
    }

    fn note(&mut self, note: &Note) {
        let sentence = Sentence { note, config: &self.config };
        // That a dying app holds less and less is no news.
        let is_news = !(self.stopping && matches!(note, Note::StageEnded { .. }));
        log!(if is_news { sentence.level() } else { Level::Debug }, "{sentence}");
        match note {
            Note::StageBegan { stage, sample, .. } => {
                self.call_guardian();
                self.last_sample = *sample;
                let is_due = *stage >= Stage::Capture && !self.facts_taken.contains(stage);
                if is_due {
                    self.facts_taken.push(*stage);
                    self.facts_for = Some(*stage);
                }
            }
            Note::Killing { .. } => self.stopping = !self.config.dry_run,
            Note::Stopping { reason, sample } => {
                self.stopping = !self.config.dry_run;
                self.last_sample = *sample;
                self.reason = match reason {
                    StopReason::Urgent => "urgent",
                    StopReason::Leak => "leak",
                    StopReason::Floor => "floor",
                    StopReason::Level => "level",
                };
            }
            // There was no incident: memory was filled faster than anybody could look. Now there is one.
            Note::AppExited { oom_killed: true, .. } | Note::LastLooks { .. } => self.begin_incident(),
            _ => {}
        }
        self.recording.note(self.since_start(), note);
        self.recorder.note(self.clock.now(), note);
    }

    /// Hundreds of processes take tens of milliseconds to look at, in which they fill what is left. They are asked to leave in
    /// a moment, and so may be stopped for as long as that takes.
    fn note_processes_at_rest(&mut self, stage: Stage) {
        let stop =
            self.engine.would_brake() && !self.tree.is_frozen() && self.engine.is_pressed() && self.tree.is_large();
        let began = self.clock.now();
        if stop {
            self.brake();
        }
        self.note_processes(stage);
        if stop {
            let now = self.clock.now();
            self.tree.release(now);
            self.engine.stood_still(now, now.since(began));
        }
    }

    fn note_processes(&mut self, stage: Stage) {
        if self.recording.name().is_none() {
            return;
        }
        self.spare_workers();
        if let Some(facts) = self.tree.facts(&self.spared) {
            self.recording.processes(self.since_start(), stage, &facts);
        }
    }

    fn take_evidence(&mut self, run: Run, stage: Stage, room: Option<u64>, time: Duration) {
        let is_baseline = stage == Stage::Normal;
        let incident = if is_baseline { Some("") } else { self.recording.name() };
        let recipes = self.config.capture.unwrap_or(Recipes::NONE);
        // With nothing to explain, nothing is to be slowed down.
        let frames = self.recorded_frames().filter(|_| !is_baseline);
        let outcome = incident.ok_or_else(|| std::io::Error::other("no incident is open")).and_then(|incident| {
            let seen = match self.seen.take() {
                Some(seen) => seen,
                None => evidence::keeper()?,
            };
            let request = evidence::Request {
                dir: &self.config.dir,
                incident,
                run: run.0,
                app: self.app.id(),
                stage: stage.name(),
                room,
                time,
                recipes,
                heavy: self.config.heavy,
                keeping: self.config.keeping,
                frames,
                seen: seen.as_fd(),
            };
            let started = self.workers.start(Role::Evidence(run, is_baseline), request.words(), &[seen.as_fd()]);
            self.seen = Some(seen);
            started
        });
        if let Err(error) = outcome {
            ::log::warn!("cannot look at the processes: {error}; there is no evidence of the {stage} stage");
            self.pending.push_back(Pending::RunEnded(run, HookEnd::NotStarted));
        }
    }

    /// How many frames the helpers of the app's Python processes record, if it was started with them.
    fn recorded_frames(&self) -> Option<u32> {
        self.app.has_helper().then_some(self.config.traceback_frames)
    }

    /// The incident is over: what was begun for it in the app is to end.
    fn end_recording(&mut self) {
        if self.recorded_frames().is_some() {
            let words = vec!["unrecord".into(), self.config.dir.clone().into(), self.app.id().to_string().into()];
            if let Err(error) = self.workers.start(Role::Unrecord, words, &[]) {
                ::log::warn!("cannot tell the app's helpers to end: {error}; they go on until their time is up");
            }
        }
    }

    fn run_hook(&mut self, run: Run, hook: usize, stage: Stage) {
        let outcome = match (self.config.hooks.get(hook), self.recording.name()) {
            (Some(hook), Some(incident)) => {
                let sample = &self.last_sample;
                let reason = if stage >= Stage::Stop { self.reason } else { "threshold" };
                let mut words: Vec<OsString> = vec![
                    "hook".into(),
                    self.config.dir.clone().into(),
                    incident.into(),
                    format!("{stage}-{}", run.0).into(),
                    self.app.id().to_string().into(),
                    stage.name().into(),
                    sample.gauged.to_string().into(),
                    sample.limit.map_or_else(String::new, |limit| limit.to_string()).into(),
                    reason.into(),
                ];
                words.extend(hook.words.iter().map(OsString::from));
                self.workers.start(Role::Hook(run), words, &[])
            }
            _ => Err(std::io::Error::other("no incident is open")),
        };
        if let Err(error) = outcome {
            ::log::warn!("cannot start hook {}: {error}; it is left out", run.0);
            self.pending.push_back(Pending::RunEnded(run, HookEnd::NotStarted));
        }
    }
}
