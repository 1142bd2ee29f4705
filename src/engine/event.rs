//! What the engine is told and what it answers: the only way in and the only way out.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::looks::LastLooks;
use super::settings::Stage;
use super::trend::{Trending, Verdict};
use crate::cgroup::reading::{Reading, Stat};
pub use crate::sys::process::Exit;
use crate::sys::signal::Signal;

/// One run of a hook or of the built-in evidence, numbered from 1 in the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Run(pub u32);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookEnd {
    /// It ran and ended so.
    Ended(Exit),
    /// It could not be started (missing, not executable, no process to be had); the supervisor has logged why.
    NotStarted,
}

impl Serialize for HookEnd {
    /// As [`Exit`], or `{"not_started": true}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Ended(exit) => exit.serialize(serializer),
            Self::NotStarted => serializer.collect_map([("not_started", true)]),
        }
    }
}

/// Times stand in records as seconds.
fn seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

/// What the engine is told.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Memory was read, fast or in full. Also the answer to [`Command::ReadFull`].
    Reading(&'a Reading),
    /// Memory could not be read; the last good reading stands and nothing is decided on it.
    ReadingFailed,
    /// A run is over.
    RunEnded {
        /// Which run.
        run: Run,
        /// How.
        end: HookEnd,
    },
    /// Whether the tree can be stopped for a moment from now on, and be sure to go on whatever becomes of memini.
    CanBrake(bool),
    /// Whether the kernel can be told to stop the tree at a given moment.
    HasStopTimer(bool),
    /// The app has ended, all zombies are drained, and memory was read in full just before (if it could be).
    AppExited(Exit),
    /// No process is left but memini (and its workers).
    AllGone,
    /// The last record is on disk, or never will be.
    Recorded,
    /// Nothing happened but that [`Engine::deadline`](super::Engine::deadline) has come.
    Deadline,
}

/// What the engine wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Read memory now, fast. The answer is `Event::Reading` or `Event::ReadingFailed`.
    Read,
    /// Read memory now, in full. The same answers.
    ReadFull,
    /// An incident begins: everything noted from here on belongs to it.
    OpenIncident,
    /// Log this, and put it on the incident's timeline if one is open.
    Note(Note),
    /// The incident is over; the app lives on.
    CloseIncident,
    /// Start this hook. If it cannot be started, `HookEnd::NotStarted` follows.
    RunHook {
        /// The number of the run.
        run: Run,
        /// Which hook: its index in `Settings::hooks`.
        hook: usize,
        /// The stage it runs for.
        stage: Stage,
    },
    /// Look at the processes and note who holds the memory, for this stage; `normal` is the baseline, with no incident open. If
    /// it cannot be begun, `HookEnd::NotStarted` follows.
    TakeEvidence {
        /// The number of the run.
        run: Run,
        /// The stage it runs for.
        stage: Stage,
        /// What is left below the limit; bytes.
        room: Option<u64>,
        /// How long it may take: then it is cut.
        time: Duration,
    },
    /// Send this signal to the hook's process group, or to what takes the evidence.
    SignalRun {
        /// Which run.
        run: Run,
        /// TERM or KILL.
        signal: Signal,
    },
    /// The run's worker does not end by itself: end it, and its hook.
    AbandonRun {
        /// Which run.
        run: Run,
    },
    /// Take the ballast: touch this many bytes that can be let go at once.
    TakeBallast(u64),
    /// Let the ballast go.
    FreeBallast,
    /// Stop every process of the tree (SIGSTOP) for a moment. `ReadFull` follows, and `Release`, `RunFor` or `KillTree` within
    /// milliseconds.
    Brake,
    /// Let the tree go on after `Brake` or `RunFor`: all but what had been stopped before.
    Release,
    /// Let the tree go on, but for no longer than this: then the kernel stops it, unless one of these commands comes before.
    RunFor(Duration),
    /// Send the stop signal to the app (or its group, as configured), then SIGCONT, so that a stopped app hears it.
    StopApp,
    /// SIGKILL to the app alone is never enough for a tree that fills memory: stop every process of the tree with
    /// SIGSTOP, until no new one appears.
    FreezeTree,
    /// Note facts about the processes of the tree: who holds how much.
    NoteProcesses,
    /// SIGKILL to every process of the tree, until no new one appears.
    KillTree,
    /// Send this signal to every process that outlived the app.
    SignalLeftovers(Signal),
    /// Write the incident's last record and the termination message. `Event::Recorded` follows.
    RecordLast {
        /// The exit code that memini will end with.
        code: u8,
    },
    /// Finish the records of incidents that are over. `Event::Recorded` follows.
    FinishRecords,
    /// End memini with this exit code. Nothing follows.
    Exit(u8),
}

/// Why the app is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// At the present rate the limit is nearer than the grace period plus 5 s.
    Urgent,
    /// It leaks, and nothing will make it better.
    Leak,
    /// Too little room is left to shut down in.
    Floor,
    /// The user wants the plain threshold.
    Level,
}

/// One gauged point, as it stands in notes, hooks' tokens and the incident's record. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// All that is charged to the level that counts (swap included where some can be used).
    pub usage: u64,
    /// What thresholds are compared with (the gauge's own measure: unreclaimable by default).
    pub gauged: u64,
    /// The limit that counts, if any.
    pub limit: Option<u64>,
    /// What is left below it; negative never, 0 when passed.
    pub room: Option<u64>,
    /// Growth of `gauged` in bytes a second: the higher of the 1 s and 30 s averages. Negative when it shrinks.
    pub rate: f64,
    /// Seconds until the limit at that rate; `None` if it does not grow or there is no limit.
    pub time_to_limit: Option<f64>,
    /// Where the bytes are.
    #[serde(rename = "composition")]
    pub stat: Option<Stat>,
}

/// What the last reading showed, for the recorder. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Glimpse {
    /// All that is charged to the level that counts (swap included where some can be used).
    pub usage: u64,
    /// What thresholds are compared with; `None` where it was not measured, but only usage.
    pub gauged: Option<u64>,
    /// The limit that counts, if any.
    pub limit: Option<u64>,
    /// How much of it is in swap.
    pub swap: u64,
    /// Growth in bytes a second, as in [`Sample`].
    pub rate: f64,
    /// Where the bytes are, if it was read.
    pub stat: Option<Stat>,
    /// What the trend says.
    pub trending: Trending,
}

/// Something worth a line in the log and a place on the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Note {
    /// A higher stage begins.
    StageBegan {
        /// The new stage.
        stage: Stage,
        /// The one before.
        from: Stage,
        /// What was seen.
        sample: Sample,
    },
    /// Back at a lower stage.
    StageEnded {
        /// The stage now.
        stage: Stage,
        /// The one that ended.
        from: Stage,
        /// What was seen.
        sample: Sample,
    },
    /// Above the stop threshold, but nothing that calls for a stop.
    StopNotNeeded {
        /// What was seen.
        sample: Sample,
    },
    /// A capture that the stage calls for is not taken.
    CaptureSkipped {
        /// The cooldown ends in this time; zero if the number of captures is used up.
        #[serde(serialize_with = "seconds")]
        cooldown_left: Duration,
        /// How many were taken.
        taken: u32,
    },
    /// The app is being stopped (`dry_run`: would be).
    Stopping {
        /// Why.
        reason: StopReason,
        /// What was seen.
        sample: Sample,
    },
    /// The stop signal is sent now (the last hooks are done, or their time is up).
    Terminating,
    /// The grace period is over.
    GraceOver,
    /// The kill stage acts: the tree is frozen and killed.
    Killing {
        /// What was seen.
        sample: Sample,
    },
    /// A hook is started (`dry_run`: would be).
    HookStarted {
        /// The run; `None` in a dry run.
        run: Option<Run>,
        /// The hook's index.
        hook: usize,
        /// The stage.
        stage: Stage,
    },
    /// A hook ended in time.
    HookEnded {
        /// The run.
        run: Run,
        /// The hook's index.
        hook: usize,
        /// How.
        end: HookEnd,
        /// After this long.
        #[serde(serialize_with = "seconds")]
        after: Duration,
    },
    /// A hook ran too long and is sent this signal.
    HookOverdue {
        /// The run.
        run: Run,
        /// The hook's index.
        hook: usize,
        /// The signal.
        signal: Signal,
        /// After this long.
        #[serde(serialize_with = "seconds")]
        after: Duration,
    },
    /// The built-in evidence is taken (`dry_run`: would be).
    EvidenceStarted {
        /// The run; `None` in a dry run.
        run: Option<Run>,
        /// The stage.
        stage: Stage,
    },
    /// It ended in time.
    EvidenceEnded {
        /// The run.
        run: Run,
        /// How.
        end: HookEnd,
        /// After this long.
        #[serde(serialize_with = "seconds")]
        after: Duration,
    },
    /// It takes too long, or memory leaves no time for it any more: it is cut.
    EvidenceCut {
        /// The run.
        run: Run,
        /// After this long.
        #[serde(serialize_with = "seconds")]
        after: Duration,
    },
    /// What the trend says has changed.
    Verdict {
        /// What it says now.
        verdict: Verdict,
        /// What it said before.
        from: Verdict,
        /// How much time it looks back on.
        #[serde(serialize_with = "seconds")]
        horizon: Duration,
        /// What was seen; rate and time to the limit are those over the horizon.
        sample: Sample,
    },
    /// The limit changed.
    LimitChanged {
        /// Before.
        from: Option<u64>,
        /// Now.
        to: Option<u64>,
    },
    /// The stages, newly resolved, do not ascend under the new limit, or cannot begin at all.
    ThresholdsUnreachable {
        /// The limit.
        limit: u64,
        /// The first stage that can never begin.
        stage: Stage,
    },
    /// The kernel's OOM killer has killed in this group while the app lives on.
    OomKill {
        /// How often since the last look.
        times: u64,
    },
    /// Hardly any file cache is left and what there is, is read again and again: slow, but not out of memory.
    Thrashing {
        /// Refaults of file pages a second.
        refaults: f64,
        /// `full avg10` of memory.pressure in percent.
        pressure: Option<f32>,
        /// What was seen.
        sample: Sample,
    },
    /// The tree was stopped for moments, to look at growth that could not be followed.
    Braked {
        /// How often since this was last noted.
        times: u64,
        /// For how long in all.
        #[serde(serialize_with = "seconds")]
        stopped: Duration,
    },
    /// The last looks up to the one at which the kernel's OOM killer was seen to have killed: they tell why memini was too
    /// late.
    LastLooks {
        /// The oldest first.
        looks: LastLooks,
    },
    /// memini was woken late: it was descheduled, throttled or stopped.
    LateWake {
        /// By how much.
        #[serde(serialize_with = "seconds")]
        late: Duration,
        /// How often so far.
        times: u64,
    },
    /// The app has ended.
    AppExited {
        /// How.
        exit: Exit,
        /// True if it died by SIGKILL and `oom_kill` rose: the kernel did it.
        oom_killed: bool,
        /// True if memini had stopped it.
        stopped: bool,
    },
    /// Processes outlived the app and their time is up.
    LeftoversOverdue,
}
