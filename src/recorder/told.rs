//! What the cells say: samples, the pulse, events; as numbers and as words of 32 bits.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::format::{CELL_HEAD, EVENT_WORDS, NONE, PULSE_WORDS, SAMPLE_WORDS, blocks, bytes, halves, whole};
use crate::cgroup::reading::Stat;
use crate::engine::event::{Exit, Glimpse, HookEnd, Note, Sample as Seen, StopReason};
use crate::engine::rate::seconds_until;
use crate::engine::settings::Stage;
use crate::engine::trend::{Trending, Verdict};
use crate::sys::signal::Signal;

/// A number in the course of a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// The least; bytes, as all of them.
    pub least: u64,
    /// The most.
    pub most: u64,
    /// The last.
    pub last: u64,
}

/// What was seen in the time of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The number of the slot since memini started; it began this many periods after that.
    pub number: u32,
    /// How often memory was looked at.
    pub looks: u32,
    /// The highest stage.
    pub stage: Stage,
    /// All that is charged.
    pub usage: Course,
    /// What thresholds are compared with; `None` if it was not measured.
    pub gauged: Option<Course>,
    /// The limit; `None` where there was none.
    pub limit: Option<Course>,
    /// The composition when it was last read: the fields that are kept.
    pub stat: Stat,
    /// In swap.
    pub swap: u64,
}

/// Content of a sample's cell.
pub type SampleWords = [u32; SAMPLE_WORDS - CELL_HEAD];

/// Words of the content: number; looks and stage; then least, most and last of usage, gauged and limit; then the composition.
const COURSES: usize = 2;
const PARTS: usize = COURSES + 9;

/// A slot that is being filled. What was not seen yet is [`NONE`].
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    words: SampleWords,
}

impl Bucket {
    /// With nothing in it.
    pub const fn new(number: u32) -> Self {
        let mut words = [NONE; SAMPLE_WORDS - CELL_HEAD];
        words[0] = number;
        words[1] = 0;
        Self { words }
    }

    /// Its number.
    pub const fn number(&self) -> u32 {
        self.words[0]
    }

    /// What is to be written.
    pub const fn words(&self) -> &SampleWords {
        &self.words
    }

    /// Takes a look.
    pub fn take(&mut self, look: &Glimpse, stage: Stage) {
        self.count(1, stage as u32);
        let numbers = [Some(look.usage), look.gauged, look.limit].map(|number| number.map_or(NONE, blocks));
        self.widen(numbers.map(|number| [number; 3]));
        let Some(stat) = &look.stat else { return };
        let parts = [
            stat.anon,
            stat.file,
            stat.shmem,
            stat.slab_unreclaimable,
            stat.slab_reclaimable,
            stat.kernel_stack,
            stat.pagetables,
            stat.sock,
            look.swap,
            stat.file_dirty.saturating_add(stat.file_writeback),
        ];
        for (place, part) in self.words.iter_mut().skip(PARTS).zip(parts) {
            *place = blocks(part);
        }
    }

    /// Takes what a finer slot has seen, which came later.
    pub fn merge(&mut self, finer: &Self) {
        let [_, flags, a, b, c, d, e, f, g, h, i, ..] = finer.words;
        self.count(flags >> 8, flags & 0xff);
        self.widen([[a, b, c], [d, e, f], [g, h, i]]);
        for (place, part) in self.words.iter_mut().zip(finer.words).skip(PARTS).filter(|(_, part)| *part != NONE) {
            *place = part;
        }
    }

    fn count(&mut self, looks: u32, stage: u32) {
        let [_, flags, ..] = &mut self.words;
        let all = (*flags >> 8).saturating_add(looks).min(0xff_ffff);
        *flags = (all << 8) | (*flags & 0xff).max(stage);
    }

    fn widen(&mut self, courses: [[u32; 3]; 3]) {
        let places = self.words.get_mut(COURSES..PARTS).unwrap_or_default();
        for (place, [low, high, newest]) in places.chunks_exact_mut(3).zip(courses) {
            let [least, most, last] = place else { continue };
            if newest == NONE {
                continue;
            }
            *least = (*least).min(low);
            *most = if *most == NONE { high } else { (*most).max(high) };
            *last = newest;
        }
    }
}

impl Sample {
    /// Reads a cell's content.
    pub fn parse(content: &[u32]) -> Option<Self> {
        let words: &SampleWords = content.try_into().ok()?;
        let [number, flags, a, b, c, d, e, f, g, h, i, parts @ ..] = *words;
        let course = |least, most, last| Some(Course { least: bytes(least)?, most: bytes(most)?, last: bytes(last)? });
        let [anon, file, shmem, slab_unreclaimable, slab_reclaimable, kernel_stack, pagetables, sock, swap, dirty] =
            parts.map(|part| bytes(part).unwrap_or(0));
        Some(Self {
            number,
            looks: flags >> 8,
            stage: stage(flags & 0xff)?,
            usage: course(a, b, c)?,
            gauged: course(d, e, f),
            limit: course(g, h, i),
            stat: Stat {
                anon,
                file,
                shmem,
                slab_unreclaimable,
                slab_reclaimable,
                kernel_stack,
                pagetables,
                sock,
                file_dirty: dirty,
                ..Stat::default()
            },
            swap,
        })
    }

    /// What counts: what thresholds are compared with, or all that is charged where that was not measured.
    pub fn gauged(&self) -> Course {
        self.gauged.unwrap_or(self.usage)
    }
}

/// What stands for a verdict.
pub(super) fn verdict_of(number: u8) -> Option<Verdict> {
    [Verdict::Steady, Verdict::Growing, Verdict::Leak].into_iter().find(|verdict| *verdict as u8 == number)
}

/// What stands for a stage.
pub(super) fn stage_of(number: u8) -> Option<Stage> {
    stage(u32::from(number))
}

/// What stands for a reason to stop the app.
pub(super) fn reason_of(number: u8) -> Option<StopReason> {
    let reasons = [StopReason::Urgent, StopReason::Leak, StopReason::Floor, StopReason::Level];
    reasons.into_iter().find(|reason| *reason as u8 == number)
}

/// How a process ended: `exit code 3`, `ended by SIGKILL`, `it did not run`.
pub(super) fn exit_text(number: u64) -> String {
    match number.checked_sub(256) {
        _ if number == u64::MAX => "it did not run".to_owned(),
        None => format!("exit code {number}"),
        Some(signal) => format!("ended by {}", signal_text(signal)),
    }
}

/// A signal's name.
pub(super) fn signal_text(number: u64) -> String {
    let signal = i32::try_from(number).ok().and_then(Signal::from_number);
    signal.map_or_else(|| "an unknown signal".to_owned(), |signal| signal.to_string())
}

fn stage(number: u32) -> Option<Stage> {
    [Stage::Normal, Stage::Trace, Stage::Capture, Stage::Stop, Stage::Kill].into_iter().nth(number as usize)
}

/// The last that is known of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pulse {
    /// Milliseconds from memini's start to the last look.
    pub since_start: u64,
    /// Milliseconds since 1970 at the last second that began, UTC; 0 before the first.
    pub unix: u64,
    /// And from memini's start to then.
    pub unix_at: u64,
    /// The stage.
    pub stage: Stage,
    /// All that is charged; bytes.
    pub usage: u64,
    /// What thresholds are compared with, when it was last measured; bytes.
    pub gauged: u64,
    /// The limit; bytes.
    pub limit: Option<u64>,
    /// Growth; bytes a second.
    pub rate: f64,
    /// The kernel's counters: over the limit, reclaim failed, killed.
    pub max: u64,
    /// The second.
    pub oom: u64,
    /// The third; `None` where the kernel does not tell.
    pub oom_kill: Option<u64>,
    /// How often the tree was stopped to be looked at.
    pub brakes: u64,
    /// How often memini was woken late.
    pub late: u64,
    /// What the trend says; time to the limit is left out.
    pub trending: Trending,
    /// The exit code that memini has ended with; `None`: it has not.
    pub exit: Option<u8>,
}

/// Content of its cell.
pub type PulseWords = [u32; PULSE_WORDS - CELL_HEAD];

impl Pulse {
    /// As it is written.
    pub fn words(&self) -> PulseWords {
        let mut words = [0; PULSE_WORDS - CELL_HEAD];
        let wide = [
            self.since_start,
            self.unix,
            self.unix_at,
            self.usage,
            self.gauged,
            self.limit.unwrap_or(u64::MAX),
            self.rate.to_bits(),
            self.max,
            self.oom,
            self.oom_kill.unwrap_or(u64::MAX),
            self.brakes,
            self.late,
        ];
        let numbers = wide.into_iter().flat_map(halves);
        let Trending { verdict, rate, horizon, .. } = self.trending;
        let small = [
            self.stage as u32,
            self.exit.map_or(0, |code| u32::from(code).saturating_add(1)),
            verdict as u32,
            u32::try_from(horizon.as_secs()).unwrap_or(u32::MAX),
            (rate as f32).to_bits(),
        ];
        for (place, word) in words.iter_mut().zip(numbers.chain(small)) {
            *place = word;
        }
        words
    }

    /// Reads a cell's content.
    pub fn parse(content: &[u32]) -> Option<Self> {
        let words: &PulseWords = content.try_into().ok()?;
        let mut wide = words.chunks_exact(2).map(|pair| match pair {
            [low, high] => whole(*low, *high),
            _ => 0,
        });
        let mut next = || wide.next().unwrap_or(0);
        let or_none = |number: u64| Some(number).filter(|number| *number != u64::MAX);
        let pulse = Self {
            since_start: next(),
            unix: next(),
            unix_at: next(),
            usage: next(),
            gauged: next(),
            limit: or_none(next()),
            rate: Some(f64::from_bits(next())).filter(|rate| rate.is_finite()).unwrap_or(0.0),
            max: next(),
            oom: next(),
            oom_kill: or_none(next()),
            brakes: next(),
            late: next(),
            stage: Stage::Normal,
            trending: Trending::default(),
            exit: None,
        };
        let [.., stage_code, exit, verdict_code, horizon, slope] = *words;
        let slope = Some(f64::from(f32::from_bits(slope))).filter(|slope| slope.is_finite());
        Some(Self {
            stage: stage(stage_code)?,
            exit: exit.checked_sub(1).and_then(|code| u8::try_from(code).ok()),
            trending: Trending {
                verdict: u8::try_from(verdict_code).ok().and_then(verdict_of).unwrap_or_default(),
                rate: slope.unwrap_or(0.0),
                time_to_limit: None,
                horizon: Duration::from_secs(u64::from(horizon)),
            },
            ..pulse
        })
    }
}

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A higher stage began.
    StageBegan = 1,
    /// A stage ended.
    StageEnded,
    /// A signal came from outside: its number, who sent it, how often.
    Signal,
    /// A hook was started: run, hook.
    HookStarted,
    /// It ended: run, hook, how.
    HookEnded,
    /// It was sent a signal for taking too long: run, hook, signal.
    HookOverdue,
    /// The evidence was begun: run.
    EvidenceStarted,
    /// It ended: run, how.
    EvidenceEnded,
    /// It was cut: run.
    EvidenceCut,
    /// The tree was stopped for moments: how often, milliseconds in all.
    Braked,
    /// The limit changed: from, to.
    LimitChanged,
    /// memini was woken late: microseconds, how often so far.
    LateWake,
    /// The kernel killed while the app lived on: how often.
    OomKill,
    /// The app is being stopped: what was seen; the stage says why.
    Stopping,
    /// The stop signal was sent.
    Terminating,
    /// The grace period was over.
    GraceOver,
    /// The tree was frozen and killed.
    Killing,
    /// The app has ended: how, 1 if by the OOM killer, 1 if memini had stopped it.
    AppExited,
    /// Above the stop threshold, and no stop needed.
    StopNotNeeded,
    /// A capture was not taken.
    CaptureSkipped,
    /// A stage can never begin: the limit.
    ThresholdsUnreachable,
    /// Thrashing.
    Thrashing,
    /// Processes outlived the app and their time.
    LeftoversOverdue,
    /// An incident was opened: its number in this run.
    IncidentBegan,
    /// It is over, and the app lives on.
    Recovered,
    /// An error of memini's own: it goes on as a plain init.
    Broken,
    /// The trend says something else: what was seen, with the rate over the horizon; `stage` is 0, `from` has both verdicts.
    Verdict,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::StageBegan,
        Self::StageEnded,
        Self::Signal,
        Self::HookStarted,
        Self::HookEnded,
        Self::HookOverdue,
        Self::EvidenceStarted,
        Self::EvidenceEnded,
        Self::EvidenceCut,
        Self::Braked,
        Self::LimitChanged,
        Self::LateWake,
        Self::OomKill,
        Self::Stopping,
        Self::Terminating,
        Self::GraceOver,
        Self::Killing,
        Self::AppExited,
        Self::StopNotNeeded,
        Self::CaptureSkipped,
        Self::ThresholdsUnreachable,
        Self::Thrashing,
        Self::LeftoversOverdue,
        Self::IncidentBegan,
        Self::Recovered,
        Self::Broken,
        Self::Verdict,
    ];

    /// As it is called on an incident's timeline.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StageBegan => "stage-began",
            Self::StageEnded => "stage-ended",
            Self::Signal => "signal",
            Self::HookStarted => "hook-started",
            Self::HookEnded => "hook-ended",
            Self::HookOverdue => "hook-overdue",
            Self::EvidenceStarted => "evidence-started",
            Self::EvidenceEnded => "evidence-ended",
            Self::EvidenceCut => "evidence-cut",
            Self::Braked => "braked",
            Self::LimitChanged => "limit-changed",
            Self::LateWake => "late-wake",
            Self::OomKill => "oom-kill",
            Self::Stopping => "stopping",
            Self::Terminating => "terminating",
            Self::GraceOver => "grace-over",
            Self::Killing => "killing",
            Self::AppExited => "app-exited",
            Self::StopNotNeeded => "stop-not-needed",
            Self::CaptureSkipped => "capture-skipped",
            Self::ThresholdsUnreachable => "thresholds-unreachable",
            Self::Thrashing => "thrashing",
            Self::LeftoversOverdue => "leftovers-overdue",
            Self::IncidentBegan => "incident-began",
            Self::Recovered => "recovered",
            Self::Broken => "broken",
            Self::Verdict => "verdict",
        }
    }

    /// Whether its numbers are a sample.
    const fn has_sample(self) -> bool {
        matches!(
            self,
            Self::StageBegan
                | Self::StageEnded
                | Self::Stopping
                | Self::Killing
                | Self::StopNotNeeded
                | Self::Thrashing
                | Self::Verdict
        )
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// How many there were before.
    pub number: u32,
    /// Milliseconds since memini started.
    pub since_start: u64,
    /// What.
    pub kind: Kind,
    /// The stage that it is about.
    pub stage: Stage,
    /// The one before; for [`Kind::Stopping`] the reason.
    pub from: u8,
    /// As [`Kind`] says. A sample: usage, gauged, limit, the bits of the rate.
    pub values: [u64; 4],
}

/// Content of its cell.
pub type EventWords = [u32; EVENT_WORDS - CELL_HEAD];

impl Event {
    /// Something that has just happened; the number and the time are the writer's.
    pub const fn new(kind: Kind, values: [u64; 4]) -> Self {
        Self { number: 0, since_start: 0, kind, stage: Stage::Normal, from: 0, values }
    }

    fn of_stage(kind: Kind, stage: Stage, from: u8, values: [u64; 4]) -> Self {
        Self { stage, from, ..Self::new(kind, values) }
    }

    /// A note of the engine's; `None` for what an incident keeps better.
    pub fn of(note: &Note) -> Option<Self> {
        let run = |run: Option<crate::engine::event::Run>| run.map_or(0, |run| u64::from(run.0));
        let index = |hook: usize| hook as u64;
        let limit = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        Some(match note {
            Note::StageBegan { stage, from, sample } => {
                Self::of_stage(Kind::StageBegan, *stage, *from as u8, seen(sample))
            }
            Note::StageEnded { stage, from, sample } => {
                Self::of_stage(Kind::StageEnded, *stage, *from as u8, seen(sample))
            }
            Note::StopNotNeeded { sample } => Self::new(Kind::StopNotNeeded, seen(sample)),
            Note::CaptureSkipped { taken, .. } => Self::new(Kind::CaptureSkipped, [u64::from(*taken), 0, 0, 0]),
            Note::Stopping { reason, sample } => {
                Self::of_stage(Kind::Stopping, Stage::Stop, *reason as u8, seen(sample))
            }
            Note::Terminating => Self::new(Kind::Terminating, [0; 4]),
            Note::GraceOver => Self::new(Kind::GraceOver, [0; 4]),
            Note::Killing { sample } => Self::of_stage(Kind::Killing, Stage::Kill, 0, seen(sample)),
            Note::HookStarted { run: of, hook, stage } => {
                Self::of_stage(Kind::HookStarted, *stage, 0, [run(*of), index(*hook), 0, 0])
            }
            Note::HookEnded { run: of, hook, end, .. } => {
                Self::new(Kind::HookEnded, [run(Some(*of)), index(*hook), ending(*end), 0])
            }
            Note::HookOverdue { run: of, hook, signal, .. } => {
                let signal = u64::from(signal.number().unsigned_abs());
                Self::new(Kind::HookOverdue, [run(Some(*of)), index(*hook), signal, 0])
            }
            Note::EvidenceStarted { run: of, stage } => {
                Self::of_stage(Kind::EvidenceStarted, *stage, 0, [run(*of), 0, 0, 0])
            }
            Note::EvidenceEnded { run: of, end, .. } => {
                Self::new(Kind::EvidenceEnded, [run(Some(*of)), ending(*end), 0, 0])
            }
            Note::EvidenceCut { run: of, .. } => Self::new(Kind::EvidenceCut, [run(Some(*of)), 0, 0, 0]),
            Note::LimitChanged { from, to } => Self::new(Kind::LimitChanged, [limit(*from), limit(*to), 0, 0]),
            Note::ThresholdsUnreachable { limit, stage } => {
                Self::of_stage(Kind::ThresholdsUnreachable, *stage, 0, [*limit, 0, 0, 0])
            }
            Note::OomKill { times } => Self::new(Kind::OomKill, [*times, 0, 0, 0]),
            Note::Thrashing { sample, .. } => Self::new(Kind::Thrashing, seen(sample)),
            Note::Braked { times, stopped } => {
                Self::new(Kind::Braked, [*times, super::format::milliseconds(*stopped), 0, 0])
            }
            Note::Verdict { verdict, from, sample, .. } => {
                let both = (*from as u8) << 4 | *verdict as u8;
                Self { from: both, ..Self::new(Kind::Verdict, seen(sample)) }
            }
            Note::LastLooks { .. } => return None,
            Note::LateWake { late, times } => {
                Self::new(Kind::LateWake, [u64::try_from(late.as_micros()).unwrap_or(u64::MAX), *times, 0, 0])
            }
            Note::AppExited { exit, oom_killed, stopped } => {
                Self::new(Kind::AppExited, [code(*exit), u64::from(*oom_killed), u64::from(*stopped), 0])
            }
            Note::LeftoversOverdue => Self::new(Kind::LeftoversOverdue, [0; 4]),
        })
    }

    /// As it is written.
    pub fn words(&self) -> EventWords {
        let flags = u32::from_le_bytes([self.kind as u8, self.stage as u8, self.from, 0]);
        let mut words = [0; EVENT_WORDS - CELL_HEAD];
        let numbers = std::iter::once(self.since_start).chain(self.values).flat_map(halves);
        for (place, word) in words.iter_mut().zip([flags, self.number].into_iter().chain(numbers)) {
            *place = word;
        }
        words
    }

    /// Reads a cell's content. `None` also for a kind that only a newer memini knows.
    pub fn parse(content: &[u32]) -> Option<Self> {
        let words: &EventWords = content.try_into().ok()?;
        let [flags, number, a, b, c, d, e, f, g, h, i, j, _] = *words;
        let [kind, of, from, _] = flags.to_le_bytes();
        Some(Self {
            number,
            since_start: whole(a, b),
            kind: Kind::ALL.into_iter().find(|known| *known as u8 == kind)?,
            stage: stage(u32::from(of))?,
            from,
            values: [whole(c, d), whole(e, f), whole(g, h), whole(i, j)],
        })
    }

    /// As an entry of an incident's journal, at a time in milliseconds since 1970.
    pub fn json(&self, unix: u64) -> Value {
        let mut entry = Map::new();
        let [a, b, c, _] = self.values;
        let mut put = |key: &str, value: Value| _ = entry.insert(key.to_owned(), value);
        put("unix_ms", unix.into());
        put("seconds", (self.since_start as f64 / 1000.0).into());
        put("event", self.kind.name().into());
        let limit = |limit: u64| if limit == u64::MAX { Value::Null } else { limit.into() };
        let exit = |code: u64| match code.checked_sub(256) {
            None => json!({"code": code}),
            Some(signal) => {
                let signal = i32::try_from(signal).ok().and_then(Signal::from_number);
                json!({"signal": signal.map_or_else(|| "unknown".to_owned(), |signal| signal.to_string())})
            }
        };
        match self.kind {
            Kind::StageBegan | Kind::StageEnded => {
                put("stage", self.stage.name().into());
                put("from", stage(u32::from(self.from)).map_or(Value::Null, |from| from.name().into()));
            }
            Kind::Stopping => {
                put("reason", json!(reason_of(self.from)));
            }
            Kind::Verdict => {
                put("verdict", json!(verdict_of(self.from & 15)));
                put("from", json!(verdict_of(self.from >> 4)));
                put("horizon", Value::Null);
            }
            Kind::Signal => {
                put(
                    "signal",
                    json!(i32::try_from(a).ok().and_then(Signal::from_number).map(|signal| signal.to_string())),
                );
                put("sender", b.into());
                put("times", c.into());
            }
            Kind::Braked => {
                put("times", a.into());
                put("stopped", (b as f64 / 1000.0).into());
            }
            Kind::LimitChanged => {
                put("from", limit(a));
                put("to", limit(b));
            }
            Kind::LateWake => {
                put("late", (a as f64 / 1e6).into());
                put("times", b.into());
            }
            Kind::OomKill => put("times", a.into()),
            Kind::HookStarted | Kind::EvidenceStarted => {
                // In a dry run there is none.
                put("run", if a > 0 { a.into() } else { Value::Null });
                if self.kind == Kind::HookStarted {
                    put("hook", b.into());
                }
                put("stage", self.stage.name().into());
            }
            Kind::HookOverdue => {
                put("run", a.into());
                put("hook", b.into());
                let signal = i32::try_from(c).ok().and_then(Signal::from_number);
                put("signal", signal.map_or_else(|| "unknown".to_owned(), |signal| signal.to_string()).into());
                put("after", Value::Null);
            }
            Kind::HookEnded | Kind::EvidenceEnded => {
                put("run", a.into());
                let end = if self.kind == Kind::HookEnded {
                    put("hook", b.into());
                    c
                } else {
                    b
                };
                put("end", if end == u64::MAX { json!({"not_started": true}) } else { exit(end) });
                put("after", Value::Null);
            }
            Kind::EvidenceCut => {
                put("run", a.into());
                put("after", Value::Null);
            }
            Kind::CaptureSkipped => {
                put("cooldown_left", Value::Null);
                put("taken", a.into());
            }
            Kind::ThresholdsUnreachable => {
                put("limit", a.into());
                put("stage", self.stage.name().into());
            }
            Kind::Thrashing => {
                put("refaults", Value::Null);
                put("pressure", Value::Null);
            }
            Kind::AppExited => {
                put("exit", exit(a));
                put("oom_killed", (b != 0).into());
                put("stopped", (c != 0).into());
            }
            _ => {}
        }
        if self.kind.has_sample() {
            put("sample", self.sample());
        }
        Value::Object(entry)
    }

    fn sample(&self) -> Value {
        let [usage, gauged, limit, rate] = self.values;
        let limit = Some(limit).filter(|limit| *limit != u64::MAX);
        let rate = Some(f64::from_bits(rate)).filter(|rate| rate.is_finite()).unwrap_or(0.0);
        sample(usage, gauged, limit, rate, None)
    }

    /// Percent of the limit that were reached, where the numbers are a sample.
    pub fn percent(&self) -> Option<f64> {
        let [_, gauged, limit, _] = self.values;
        let has_limit = self.kind.has_sample() && limit != u64::MAX && limit > 0;
        has_limit.then(|| gauged as f64 / limit as f64 * 100.0)
    }
}

/// A sample as it stands on a timeline.
pub fn sample(usage: u64, gauged: u64, limit: Option<u64>, rate: f64, stat: Option<Stat>) -> Value {
    let room = limit.map(|limit| limit.saturating_sub(gauged));
    let time_to_limit = room.and_then(|room| seconds_until(room, rate));
    json!({
        "usage": usage,
        "gauged": gauged,
        "limit": limit,
        "room": room,
        "rate": rate,
        "time_to_limit": time_to_limit,
        "composition": stat,
    })
}

fn seen(sample: &Seen) -> [u64; 4] {
    [sample.usage, sample.gauged, sample.limit.unwrap_or(u64::MAX), sample.rate.to_bits()]
}

/// A code as it is; 256 and more: a signal.
fn code(exit: Exit) -> u64 {
    match exit {
        Exit::Code(code) => u64::from(code),
        Exit::Signal(signal) => u64::from(signal.number().unsigned_abs()).saturating_add(256),
    }
}

fn ending(end: HookEnd) -> u64 {
    match end {
        HookEnd::Ended(exit) => code(exit),
        HookEnd::NotStarted => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(usage: u64, gauged: Option<u64>) -> Glimpse {
        Glimpse {
            usage: usage << 20,
            gauged: gauged.map(|gauged| gauged << 20),
            limit: Some(100 << 20),
            ..Glimpse::default()
        }
    }

    #[test]
    fn a_slot_tells_the_least_the_most_and_the_last() {
        let mut bucket = Bucket::new(7);
        assert_eq!(Sample::parse(bucket.words()), None, "nothing was seen");
        bucket.take(&look(50, Some(40)), Stage::Normal);
        bucket.take(&look(90, None), Stage::Trace);
        let stat = Some(Stat { anon: 5 << 20, ..Stat::default() });
        bucket.take(&Glimpse { stat, swap: 1 << 20, ..look(60, Some(30)) }, Stage::Normal);
        let sample = Sample::parse(bucket.words()).unwrap();
        let course =
            |least: u64, most: u64, last: u64| Course { least: least << 20, most: most << 20, last: last << 20 };
        assert_eq!((sample.number, sample.looks, sample.stage), (7, 3, Stage::Trace));
        assert_eq!((sample.usage, sample.gauged), (course(50, 90, 60), Some(course(30, 40, 30))));
        assert_eq!((sample.limit, sample.stat.anon, sample.swap), (Some(course(100, 100, 100)), 5 << 20, 1 << 20));

        let mut coarse = Bucket::new(0);
        let mut earlier = Bucket::new(6);
        earlier.take(&look(95, Some(10)), Stage::Capture);
        coarse.merge(&earlier);
        coarse.merge(&bucket);
        let sample = Sample::parse(coarse.words()).unwrap();
        assert_eq!((sample.looks, sample.stage), (4, Stage::Capture));
        assert_eq!((sample.usage, sample.gauged), (course(50, 95, 60), Some(course(10, 40, 30))));
        assert_eq!(sample.stat.anon, 5 << 20);
    }

    #[test]
    fn the_pulse_comes_back_as_it_was() {
        let pulse = Pulse {
            since_start: 1 << 40,
            unix: 1_795_326_301_000,
            unix_at: 3,
            stage: Stage::Stop,
            usage: u64::MAX,
            gauged: 5,
            limit: None,
            rate: -1.5,
            max: 6,
            oom: 7,
            oom_kill: Some(8),
            brakes: 9,
            late: 10,
            exit: Some(75),
            trending: Trending {
                verdict: Verdict::Leak,
                rate: 0.5,
                time_to_limit: None,
                horizon: Duration::from_secs(3600),
            },
        };
        assert_eq!(Pulse::parse(&pulse.words()), Some(pulse));
        assert_eq!(Pulse::parse(&Pulse::default().words()), Some(Pulse::default()));
    }

    #[test]
    fn every_kind_of_event_comes_back_and_has_a_name_of_its_own() {
        let mut names: Vec<&str> = Kind::ALL.map(Kind::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let event = Event {
                number: 3,
                since_start: 4,
                kind,
                stage: Stage::Kill,
                from: 2,
                values: [u64::MAX, 1, 256 + 9, 0],
            };
            assert_eq!(Event::parse(&event.words()), Some(event));
            assert_eq!(event.json(1)["event"], kind.name());
        }
        assert_eq!(Event::parse(&[0; 13]), None);
        let exited = Event::new(Kind::AppExited, [256 + 9, 1, 0, 0]);
        assert_eq!(exited.json(0)["exit"]["signal"], "SIGKILL");
    }
}
