//! The validated configuration of one run: everything after this point may rely on it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::settings::{GaugeKind, Leftovers, OnLeak, Stage, StopWhen, Thresholds};
use crate::sys::signal::Signal;

/// A command of the user's that runs when a stage begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// When it runs.
    pub stage: Stage,
    /// Its words, split as a shell would, with tokens (`{pid}` …) still in them. At least one.
    pub words: Vec<String>,
    /// As the user wrote it, for logs and records.
    pub text: String,
}

/// Which kinds of built-in evidence are taken besides the kernel's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipes {
    /// The census of CPython.
    pub python: bool,
    /// The class histogram of HotSpot.
    pub jvm: bool,
}

impl Recipes {
    /// All of them.
    pub const ALL: Self = Self { python: true, jvm: true };
    /// None.
    pub const NONE: Self = Self { python: false, jvm: false };
    /// By their names, as they stand in `--capture`.
    pub const NAMES: [(&str, Self); 3] = [
        ("proc", Self::NONE),
        ("python", Self { python: true, ..Self::NONE }),
        ("jvm", Self { jvm: true, ..Self::NONE }),
    ];

    /// Whether all of these are among them.
    pub fn has(self, other: Self) -> bool {
        self.and(other) == self
    }

    /// Both together.
    pub const fn and(self, other: Self) -> Self {
        Self { python: self.python | other.python, jvm: self.jvm | other.jvm }
    }
}

/// When a dump of everything is taken, which costs the app seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// When memory grows, and what it costs is there.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Also when memory does not grow.
    On,
}

/// How a dump of everything is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heavy {
    /// `--heavy`.
    pub when: When,
    /// `--max-pause`.
    pub max_pause: Duration,
    /// `--redact`.
    pub redact: bool,
    /// `--live`.
    pub live: bool,
}

/// A dump of everything that `memini capture` is to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumping {
    /// `--dir`, absolute.
    pub dir: PathBuf,
    /// How.
    pub heavy: Heavy,
    /// How much of it may be kept.
    pub keeping: Keeping,
}

/// How much evidence is kept below DIR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeping {
    /// `--keep-incidents`: the first one and the newest, so many in all.
    pub incidents: u32,
    /// `--keep-dumps`: the same of heap dumps.
    pub dumps: u32,
    /// `--keep-for`: how old they get, but for the first one and the newest; `None`: for ever.
    pub age: Option<Duration>,
    /// `--max-artifact`: the largest file; bytes.
    pub artifact: u64,
    /// `--max-total`: all incidents together; bytes.
    pub total: u64,
    /// `--keep-free`: what a heap dump leaves free on the disk; bytes.
    pub free: u64,
}

/// What memini puts into the app's processes to learn more from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Helpers {
    /// A module in every CPython, that can record which lines allocate.
    pub python: bool,
}

impl Helpers {
    /// All of them.
    pub const ALL: Self = Self { python: true };
    /// None.
    pub const NONE: Self = Self { python: false };
}

/// How far back the chart of `memini status` goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// As far as the run is long.
    #[default]
    Auto,
    /// 10 minutes, at the finest resolution.
    TenMinutes,
    /// 3 hours.
    ThreeHours,
    /// 48 hours.
    TwoDays,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Lines for a terminal.
    #[default]
    Text,
    /// For a ticket.
    Markdown,
    /// A page.
    Html,
    /// `incident.json` itself.
    Json,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `memini: …`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What `memini [OPTIONS] COMMAND` was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The app: its name and arguments, at least one word.
    pub command: Vec<OsString>,
    /// When the stages begin.
    pub thresholds: Thresholds,
    /// What decides above the stop threshold.
    pub stop_when: StopWhen,
    /// Which bytes count.
    pub gauge: GaugeKind,
    /// `--limit`, bytes.
    pub soft_limit: Option<u64>,
    /// `--hook`, in their order.
    pub hooks: Vec<Hook>,
    /// `--capture`; `None`: off.
    pub capture: Option<Recipes>,
    /// `--heavy`, `--max-pause`, `--redact`, `--live`.
    pub heavy: Heavy,
    /// `--keep-incidents`, `--keep-dumps`, `--keep-for`, `--max-artifact`, `--max-total`, `--keep-free`.
    pub keeping: Keeping,
    /// `--baseline-after`.
    pub baseline_after: Duration,
    /// `--on-leak`.
    pub on_leak: OnLeak,
    /// `--helpers`.
    pub helpers: Helpers,
    /// `--traceback-frames`.
    pub traceback_frames: u32,
    /// `--hook-timeout`.
    pub hook_timeout: Duration,
    /// `--cooldown`.
    pub cooldown: Duration,
    /// `--max-captures`.
    pub max_captures: u32,
    /// `--grace`.
    pub grace: Duration,
    /// `--stop-signal`.
    pub stop_signal: Signal,
    /// `--exit-code`.
    pub exit_code: u8,
    /// `--dir`, absolute.
    pub dir: PathBuf,
    /// `--termination-log`, absolute.
    pub termination_log: PathBuf,
    /// `--recorder`: its size in bytes; `None`: off.
    pub recorder: Option<u64>,
    /// `--dry-run`.
    pub dry_run: bool,
    /// False with `--no-brake`.
    pub brake: bool,
    /// False with `--no-watch`.
    pub watch: bool,
    /// `--group`.
    pub group: bool,
    /// `--parent-death-signal`.
    pub parent_death_signal: Option<Signal>,
    /// `--remap-exit`.
    pub remap_exit: Vec<u8>,
    /// `--rewrite`: pairs; `None` drops the signal.
    pub rewrite: Vec<(Signal, Option<Signal>)>,
    /// `--leftovers`.
    pub leftovers: Leftovers,
    /// `--leftover-timeout`.
    pub leftover_timeout: Duration,
    /// `--warn-on-reap`.
    pub warn_on_reap: bool,
    /// What is logged: `-q` warnings only (`-qq` errors only), none of them info, `-v` debug, `-vv` trace.
    pub log_level: log::LevelFilter,
    /// `--log-format`.
    pub log_format: LogFormat,
}
