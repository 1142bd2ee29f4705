//! What the engine is told once: thresholds, times, and how many hooks there are.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::trend::UNIT;
use crate::units::ExactSize;

/// How far up the ladder: DESIGN's words, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Nothing to do.
    #[default]
    Normal,
    /// Cheap looks; what must run for a while is switched on.
    Trace,
    /// The main evidence.
    Capture,
    /// May stop the app from here on.
    Stop,
    /// Ends the growth by force.
    Kill,
}

impl Stage {
    /// The stages that have a threshold, from low to high.
    pub const LADDER: [Self; 4] = [Self::Trace, Self::Capture, Self::Stop, Self::Kill];

    /// `normal`, `trace`, `capture`, `stop`, `kill`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Trace => "trace",
            Self::Capture => "capture",
            Self::Stop => "stop",
            Self::Kill => "kill",
        }
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The level at which a stage begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// This share of the limit, in percent, above 0 and at most 100.
    Percent(f64),
    /// This many bytes.
    Bytes(u64),
    /// This many bytes below the limit.
    Below(u64),
    /// The stage is switched off.
    Off,
}

impl Threshold {
    /// The level in bytes under this limit; `None` where the stage is off, or where the level would not lie between 1
    /// byte and the limit (`-64MiB` of a limit of 32 MiB, or `400MiB` of 256 MiB): such a stage never begins.
    pub fn bytes(self, limit: u64) -> Option<u64> {
        let level = match self {
            Self::Percent(percent) => (limit as f64 * percent / 100.0) as u64,
            Self::Bytes(bytes) => bytes,
            Self::Below(below) => limit.checked_sub(below)?,
            Self::Off => return None,
        };
        (level >= 1 && level <= limit).then_some(level)
    }
}

impl fmt::Display for Threshold {
    /// As a user would write it: `80%`, `400MiB`, `-64MiB`, `off`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(out, "{percent}%"),
            Self::Bytes(bytes) => write!(out, "{}", ExactSize(*bytes)),
            Self::Below(bytes) => write!(out, "-{}", ExactSize(*bytes)),
            Self::Off => out.write_str("off"),
        }
    }
}

/// The thresholds of the four stages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// When `trace` begins.
    pub trace: Threshold,
    /// When `capture` begins.
    pub capture: Threshold,
    /// When `stop` begins.
    pub stop: Threshold,
    /// When `kill` begins.
    pub kill: Threshold,
}

impl Thresholds {
    /// The threshold of this stage; `Off` for `normal`.
    pub const fn of(&self, stage: Stage) -> Threshold {
        match stage {
            Stage::Normal => Threshold::Off,
            Stage::Trace => self.trace,
            Stage::Capture => self.capture,
            Stage::Stop => self.stop,
            Stage::Kill => self.kill,
        }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            trace: Threshold::Percent(60.0),
            capture: Threshold::Percent(80.0),
            stop: Threshold::Percent(92.0),
            kill: Threshold::Percent(97.0),
        }
    }
}

/// What decides above the stop threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopWhen {
    /// Only when the limit is near in time, or too little room is left to shut down in.
    #[default]
    Urgent,
    /// The threshold alone.
    Level,
}

/// Which bytes thresholds are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GaugeKind {
    /// What reclaim could not free.
    #[default]
    Unreclaimable,
    /// The kubelet's: usage − inactive_file.
    WorkingSet,
    /// All that is charged.
    Usage,
}

/// What follows when memory is found to leak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLeak {
    /// A line in the log.
    #[default]
    Notice,
    /// Also a look at the processes, long before any stage calls for one.
    Capture,
}

/// What happens to processes that outlive the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leftovers {
    /// SIGKILL at once.
    #[default]
    Kill,
    /// SIGTERM, and SIGKILL after the timeout.
    Term,
    /// Wait for them, and SIGKILL after the timeout.
    Wait,
}

/// The engine's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether memory is watched at all.
    pub watch: bool,
    /// When the stages begin.
    pub thresholds: Thresholds,
    /// What decides above the stop threshold.
    pub stop_when: StopWhen,
    /// Which bytes count.
    pub gauge: GaugeKind,
    /// A limit of the user's, bytes; the lower of this and the kernel's counts.
    pub soft_limit: Option<u64>,
    /// For each hook, in the order in which they were given: its stage. The index is its name in commands.
    pub hooks: Vec<Stage>,
    /// Whether the built-in evidence is taken.
    pub evidence: bool,
    /// When the first of it is taken, to compare the later with: at a time at which the app is usually up.
    pub baseline_after: Duration,
    /// What follows when memory is found to leak.
    pub on_leak: OnLeak,
    /// The shortest span of the trend; all others are multiples of it. Only tests have another.
    pub trend_unit: Duration,
    /// How long a hook may run.
    pub hook_timeout: Duration,
    /// The least time between the beginnings of two captures.
    pub cooldown: Duration,
    /// How many captures a run may take.
    pub max_captures: u32,
    /// Between the stop signal and SIGKILL.
    pub grace: Duration,
    /// The exit code when memini stopped the app for memory.
    pub exit_code: u8,
    /// Exit codes that are reported as 0 (`--remap-exit`).
    pub remap_exit: Vec<u8>,
    /// What happens to processes that outlive the app.
    pub leftovers: Leftovers,
    /// How long they may.
    pub leftover_timeout: Duration,
    /// Only says what it would do.
    pub dry_run: bool,
    /// Whether growth that cannot be followed may be stopped for a moment.
    pub brake: bool,
    /// Usable cores: how many threads can fill memory at the same time.
    pub cores: u32,
    /// The least pause between two readings. Zero for a cgroup, whose files cost microseconds; where every process must
    /// be looked at, memini would else be busy with nothing but that.
    pub reading_pause: Duration,
}

impl Settings {
    /// Whether anything is to be done at the moment in which this stage begins. A stage that is only noted may be noted
    /// a little later: looking for it would cost more than all the rest.
    pub fn acts_at(&self, stage: Stage) -> bool {
        stage >= Stage::Stop || self.hooks.contains(&stage)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            watch: true,
            thresholds: Thresholds::default(),
            stop_when: StopWhen::default(),
            gauge: GaugeKind::default(),
            soft_limit: None,
            hooks: Vec::new(),
            evidence: false,
            baseline_after: Duration::from_secs(300),
            on_leak: OnLeak::default(),
            trend_unit: UNIT,
            hook_timeout: Duration::from_secs(30),
            cooldown: Duration::from_secs(300),
            max_captures: 3,
            grace: Duration::from_secs(10),
            exit_code: 75,
            remap_exit: Vec::new(),
            leftovers: Leftovers::default(),
            leftover_timeout: Duration::from_secs(10),
            dry_run: false,
            brake: true,
            cores: 1,
            reading_pause: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_lies_between_one_byte_and_the_limit_or_is_none() {
        for (threshold, limit, level) in [
            (Threshold::Percent(60.0), 1000, Some(600)),
            (Threshold::Percent(100.0), 1000, Some(1000)),
            (Threshold::Percent(0.01), 1000, None),
            (Threshold::Bytes(400), 1000, Some(400)),
            (Threshold::Bytes(400), 256, None),
            (Threshold::Bytes(0), 256, None),
            (Threshold::Below(64), 1000, Some(936)),
            (Threshold::Below(64), 64, None),
            (Threshold::Below(64), 32, None),
            (Threshold::Off, 1000, None),
        ] {
            assert_eq!(threshold.bytes(limit), level, "{threshold:?} of {limit}");
        }
    }

    #[test]
    fn stages_ascend_and_are_called_as_users_call_them() {
        assert!(Stage::LADDER.is_sorted() && Stage::LADDER.iter().all(|stage| *stage > Stage::Normal));
        assert_eq!(Stage::Normal.to_string(), "normal");
        assert_eq!(Stage::LADDER.map(Stage::name), ["trace", "capture", "stop", "kill"]);
    }
}
