//! The options: one definition each, from which the parser, the environment names and the help are made.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, value_parser};

/// The id under which the app's words are found.
pub const COMMAND: &str = "command";
/// The id of `-h`.
pub const SHORT_HELP: &str = "short-help";
/// The id of `--help`.
pub const LONG_HELP: &str = "help";
/// The id of `--version`.
pub const VERSION: &str = "version";

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing; `=false` undoes what the environment says.
    Switch,
    /// Nothing, and each repetition counts.
    Count,
    /// One value; the last one wins. The word that stands for it in the help.
    Value(&'static str),
    /// One value, or none that stands for this one: `--watch`, `--watch=5s`; the last one wins. The word for it in the help.
    Optional(&'static str, &'static str),
    /// One path; the last one wins.
    Path,
    /// One value, repeatable. The word for it, and what separates values in the environment.
    List(&'static str, &'static [char]),
}

/// A group of options in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heading {
    /// Thresholds and the gauge.
    Watching,
    /// What is kept of an incident.
    Evidence,
    /// How the app is stopped.
    Stopping,
    /// What any init is asked for.
    Init,
    /// What memini says.
    Logging,
    /// For memini's own commands alone.
    Commands,
}

impl Heading {
    /// In the order of the help.
    pub const ALL: [Self; 6] =
        [Self::Watching, Self::Evidence, Self::Stopping, Self::Init, Self::Logging, Self::Commands];

    /// As the help prints it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Watching => "Watching memory",
            Self::Evidence => "Hooks and evidence",
            Self::Stopping => "Stopping",
            Self::Init => "Init",
            Self::Logging => "Logging",
            Self::Commands => "memini status, check, capture, incidents, report",
        }
    }
}

/// One option.
#[derive(Debug)]
pub struct Flag {
    /// Its long name without dashes; also its id.
    pub long: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// What it takes.
    pub takes: Takes,
    /// The value that holds when nobody gives one, as a user would write it; empty if there is none.
    pub default: &'static str,
    /// Where it stands in the help.
    pub heading: Heading,
    /// What it does, in half a line.
    pub brief: &'static str,
    /// What `--help` says on top of it; may be empty.
    pub detail: &'static str,
}

impl Flag {
    /// Its name in the environment: `--stop-at` is `MEMINI_STOP_AT`.
    pub fn variable(&self) -> String {
        let mut name = String::from("MEMINI_");
        name.extend(self.long.chars().map(|letter| if letter == '-' { '_' } else { letter.to_ascii_uppercase() }));
        name
    }

    /// The word for its value in the help.
    pub const fn value_name(&self) -> Option<&'static str> {
        match self.takes {
            Takes::Switch | Takes::Count => None,
            Takes::Path => Some("PATH"),
            Takes::Value(name) | Takes::List(name, _) | Takes::Optional(name, _) => Some(name),
        }
    }

    fn arg(&self) -> Arg {
        let mut arg = Arg::new(self.long).long(self.long);
        if let Some(letter) = self.short {
            arg = arg.short(letter);
        }
        match self.takes {
            Takes::Switch => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(value_parser!(OsString)),
            Takes::Optional(_, without) => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value(without)
                .value_parser(value_parser!(OsString)),
            Takes::Count => arg.action(ArgAction::Count),
            // A path may be any word, so an option that was forgotten to be given its path must not eat the next one.
            Takes::Path => arg.num_args(1).value_parser(value_parser!(OsString)),
            // These values are checked, so the next option is no danger, and `-64MiB` is a value.
            Takes::Value(_) => arg.num_args(1).allow_hyphen_values(true).value_parser(value_parser!(OsString)),
            Takes::List(..) => arg
                .num_args(1)
                .action(ArgAction::Append)
                .allow_hyphen_values(true)
                .value_parser(value_parser!(OsString)),
        }
    }
}

/// The same for memini's own commands: their options may stand after their words.
pub fn command_of_memini() -> Command {
    command().mut_arg(COMMAND, |arg| arg.trailing_var_arg(false))
}

/// The parser of options and command. Values are left as they are: they may come from the environment as well.
pub fn command() -> Command {
    Command::new("memini")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        // As with every init: what an entry point sets, a later option may change.
        .args_override_self(true)
        .args(ALL.iter().map(|flag| flag.arg()))
        .arg(Arg::new(SHORT_HELP).short('h').action(ArgAction::SetTrue))
        .arg(Arg::new(LONG_HELP).long("help").action(ArgAction::SetTrue))
        .arg(Arg::new(VERSION).long("version").short('V').action(ArgAction::SetTrue))
        // Not allow_hyphen_values: it would take a mistyped option for the command.
        .arg(Arg::new(COMMAND).num_args(1..).trailing_var_arg(true).value_parser(value_parser!(OsString)))
}

macro_rules! flags {
    ($($name:ident $flag:expr;)*) => {
        $(
            #[doc = concat!("The option that in the environment is `MEMINI_", stringify!($name), "`.")]
            pub const $name: Flag = $flag;
        )*
        /// Every option, in the order of the help.
        pub static ALL: &[Flag] = &[$($name),*];
    };
}

const THRESHOLD: Takes = Takes::Value("THRESHOLD");
const DURATION: Takes = Takes::Value("DURATION");
const SIGNAL: Takes = Takes::Value("SIGNAL");
const COMMAS: &[char] = &[',', '\n'];
const LINES: &[char] = &['\n'];

flags! {
    TRACE_AT Flag {
        long: "trace-at", short: None, takes: THRESHOLD, default: "60%", heading: Heading::Watching,
        brief: "begin the trace stage here",
        detail: "Cheap looks; what must run for a while to be useful is switched on. A THRESHOLD is a share of the \
                 limit (80%), a size (400MiB), a distance below the limit (-64MiB), or off. Thresholds must ascend.",
    };
    CAPTURE_AT Flag {
        long: "capture-at", short: None, takes: THRESHOLD, default: "80%", heading: Heading::Watching,
        brief: "begin the capture stage here",
        detail: "The main evidence is taken.",
    };
    STOP_AT Flag {
        long: "stop-at", short: None, takes: THRESHOLD, default: "92%", heading: Heading::Watching,
        brief: "the app may be stopped from here on",
        detail: "Whether it is stopped is up to --stop-when. Below, it never is.",
    };
    KILL_AT Flag {
        long: "kill-at", short: None, takes: THRESHOLD, default: "97%", heading: Heading::Watching,
        brief: "end growth by force from here on",
        detail: "When growth outruns the grace period, or the limit would be reached before memini could look again, \
                 the app and its children are stopped (SIGSTOP), looked at, and killed (SIGKILL).",
    };
    STOP_WHEN Flag {
        long: "stop-when", short: None, takes: Takes::Value("urgent|level"), default: "urgent",
        heading: Heading::Watching,
        brief: "what decides above --stop-at",
        detail: "urgent: the limit is near in time, or too little room is left to shut down in. level: the threshold \
                 alone.",
    };
    GAUGE Flag {
        long: "gauge", short: None, takes: Takes::Value("GAUGE"), default: "unreclaimable",
        heading: Heading::Watching,
        brief: "which bytes count",
        detail: "unreclaimable: those that the kernel could not free. working-set: the kubelet's, usage without the \
                 inactive page cache. usage: all that is charged, page cache included.",
    };
    LIMIT Flag {
        long: "limit", short: None, takes: Takes::Value("SIZE"), default: "", heading: Heading::Watching,
        brief: "a limit of your own; the lowest limit counts",
        detail: "256MiB, 1.5GiB, bytes without a unit; MB and GB are powers of 1000; single letters are powers of 1024 \
                 as in docker run --memory (256m, 1g).",
    };
    NO_WATCH Flag {
        long: "no-watch", short: None, takes: Takes::Switch, default: "", heading: Heading::Watching,
        brief: "do not watch memory: a plain init",
        detail: "",
    };
    NO_BRAKE Flag {
        long: "no-brake", short: None, takes: Takes::Switch, default: "", heading: Heading::Watching,
        brief: "never stop the app for a moment to look at it",
        detail: "Growth that would reach the limit before memini could look again is otherwise stopped (SIGSTOP), \
                 looked at, and continued within 2 ms.",
    };
    DRY_RUN Flag {
        long: "dry-run", short: None, takes: Takes::Switch, default: "", heading: Heading::Watching,
        brief: "only say what would be done about memory",
        detail: "Nothing is touched but memini's own log and folder.",
    };
    HOOK Flag {
        long: "hook", short: None, takes: Takes::List("STAGE=COMMAND", LINES), default: "", heading: Heading::Evidence,
        brief: "run this when the stage begins; repeatable",
        detail: "STAGE is trace, capture, stop or kill. COMMAND is split into words as a shell would, but no shell \
                 runs it. See 'Hooks' below. In the environment: one hook a line.",
    };
    HOOK_TIMEOUT Flag {
        long: "hook-timeout", short: None, takes: DURATION, default: "30s", heading: Heading::Evidence,
        brief: "how long a hook may run",
        detail: "Then its process group gets SIGTERM, and SIGKILL two seconds later.",
    };
    CAPTURE Flag {
        long: "capture", short: None, takes: Takes::Value("WHAT"), default: "auto", heading: Heading::Evidence,
        brief: "the built-in evidence: auto, off, proc, python, jvm",
        detail: "At each stage memini looks at the processes from outside and says who has grown: auto takes whatever fits a \
                 process; names, separated by commas, take only these, and proc is always among them.",
    };
    BASELINE_AFTER Flag {
        long: "baseline-after", short: None, takes: DURATION, default: "5min", heading: Heading::Evidence,
        brief: "when the first look is taken, to compare with",
        detail: "A time at which the app is usually up and steady. If memory reaches the trace stage before, that look is the \
                 first.",
    };
    ON_LEAK Flag {
        long: "on-leak", short: None, takes: Takes::Value("notice|capture"), default: "notice", heading: Heading::Evidence,
        brief: "what follows when memory is found to leak",
        detail: "memini follows the trend over an hour to five days and logs the verdict: steady, growing or leak. capture also \
                 looks at the processes when it is leak, or growing with less than a day to the limit. A verdict alone never stops \
                 the app.",
    };
    HEAVY Flag {
        long: "heavy", short: None, takes: Takes::Value("auto|off|on"), default: "auto", heading: Heading::Evidence,
        brief: "heap dumps of JVMs at the capture stage",
        detail: "auto takes one when memory grows and room, disk and --max-pause allow it; on also when memory does not grow. \
                 'memini capture --heavy on' takes one now, into the folder captures in --dir; there the variable does not count.",
    };
    MAX_PAUSE Flag {
        long: "max-pause", short: None, takes: DURATION, default: "5s", heading: Heading::Evidence,
        brief: "how long a heap dump may stop the app",
        detail: "What would take longer is not begun; what does take longer is cut off.",
    };
    REDACT Flag {
        long: "redact", short: None, takes: Takes::Switch, default: "", heading: Heading::Evidence,
        brief: "heap dumps without contents: numbers and texts are zeroed",
        detail: "Sizes, names of classes and who refers to whom are kept.",
    };
    LIVE Flag {
        long: "live", short: None, takes: Takes::Switch, default: "", heading: Heading::Evidence,
        brief: "heap dumps of what is reachable only",
        detail: "That costs the JVM a full collection of garbage before.",
    };
    KEEP_INCIDENTS Flag {
        long: "keep-incidents", short: None, takes: Takes::Value("N"), default: "20", heading: Heading::Evidence,
        brief: "how many incidents are kept: the first and the newest",
        detail: "What is older than the newest and younger than the first is removed, with its artifacts. In a folder that is \
                 shared, what another host has written to within the last hour stays.",
    };
    KEEP_DUMPS Flag {
        long: "keep-dumps", short: None, takes: Takes::Value("N"), default: "3", heading: Heading::Evidence,
        brief: "how many heap dumps are kept: the first and the newest",
        detail: "Of all incidents together.",
    };
    KEEP_FOR Flag {
        long: "keep-for", short: None, takes: Takes::Value("DURATION|off"), default: "30d", heading: Heading::Evidence,
        brief: "how old incidents get, the first and the newest aside",
        detail: "Counted from when one was last written to. It is looked at when memini starts and whenever an incident is \
                 written down.",
    };
    MAX_ARTIFACT Flag {
        long: "max-artifact", short: None, takes: Takes::Value("SIZE"), default: "1GiB", heading: Heading::Evidence,
        brief: "the largest heap dump, compressed",
        detail: "It is cut off there, and most readers refuse the rest. What a hook prints is cut off at 1MiB.",
    };
    MAX_TOTAL Flag {
        long: "max-total", short: None, takes: Takes::Value("SIZE"), default: "4GiB", heading: Heading::Evidence,
        brief: "what all incidents together may take",
        detail: "Old heap dumps are removed first, then old incidents, the first one last. Where that does not make enough room, \
                 no heap dump is taken.",
    };
    KEEP_FREE Flag {
        long: "keep-free", short: None, takes: Takes::Value("SIZE"), default: "256MiB", heading: Heading::Evidence,
        brief: "how much of the disk a heap dump leaves free",
        detail: "0 for nothing.",
    };
    HELPERS Flag {
        long: "helpers", short: None, takes: Takes::Value("off|auto|python"), default: "off", heading: Heading::Evidence,
        brief: "what memini puts into the app's processes",
        detail: "python: a module by PYTHONPATH, or brought to CPython 3.14 later. From the trace stage on it records which lines allocate, with tracemalloc, and \
                 the lines are named with what they hold. That costs time wherever memory is allocated. auto: all there are.",
    };
    TRACEBACK_FRAMES Flag {
        long: "traceback-frames", short: None, takes: Takes::Value("N"), default: "1", heading: Heading::Evidence,
        brief: "how many callers of a line are recorded",
        detail: "1 is the line alone. Each more makes what --helpers costs several times as much.",
    };
    COOLDOWN Flag {
        long: "cooldown", short: None, takes: DURATION, default: "5min", heading: Heading::Evidence,
        brief: "the least time between two captures",
        detail: "",
    };
    MAX_CAPTURES Flag {
        long: "max-captures", short: None, takes: Takes::Value("N"), default: "3", heading: Heading::Evidence,
        brief: "how many captures a run may take",
        detail: "",
    };
    DIR Flag {
        long: "dir", short: None, takes: Takes::Path, default: "/tmp/memini", heading: Heading::Evidence,
        brief: "the folder for incidents",
        detail: "Made if it does not exist. Neither a file nor a symbolic link.",
    };
    RECORDER Flag {
        long: "recorder", short: None, takes: Takes::Value("SIZE|off"), default: "512KiB", heading: Heading::Evidence,
        brief: "the flight recorder in --dir: how large",
        detail: "History of memory and events that survives whatever becomes of memini, so that the next start can tell how \
                 this run ended. 512 KiB hold every second of 10 minutes, every 10 s of 3 h, every minute of 48 h. 64KiB to \
                 1MiB.",
    };
    TERMINATION_LOG Flag {
        long: "termination-log", short: None, takes: Takes::Path, default: "/dev/termination-log",
        heading: Heading::Evidence,
        brief: "last words for the orchestrator",
        detail: "If this file exists, it gets at most 4096 bytes: what happened, and where the evidence lies.",
    };
    GRACE Flag {
        long: "grace", short: None, takes: DURATION, default: "10s", heading: Heading::Stopping,
        brief: "from the stop signal to SIGKILL",
        detail: "When memini stops the app for memory. Keep it below the grace period of the orchestrator.",
    };
    STOP_SIGNAL Flag {
        long: "stop-signal", short: None, takes: SIGNAL, default: "TERM", heading: Heading::Stopping,
        brief: "what asks the app to leave",
        detail: "As STOPSIGNAL of a Dockerfile. A SIGNAL is a name or a number: TERM, SIGTERM, 15, RTMIN+3.",
    };
    EXIT_CODE Flag {
        long: "exit-code", short: None, takes: Takes::Value("N"), default: "75", heading: Heading::Stopping,
        brief: "the exit code when memini stopped the app for memory",
        detail: "1 to 255, but not 125, 126, 127, 137 or 139, which say something else. 75 is EX_TEMPFAIL: try again.",
    };
    GROUP Flag {
        long: "group", short: Some('g'), takes: Takes::Switch, default: "", heading: Heading::Init,
        brief: "signal the app's process group, not the app alone",
        detail: "",
    };
    PARENT_DEATH_SIGNAL Flag {
        long: "parent-death-signal", short: Some('p'), takes: SIGNAL, default: "", heading: Heading::Init,
        brief: "the signal that memini gets when its parent dies",
        detail: "",
    };
    REMAP_EXIT Flag {
        long: "remap-exit", short: Some('e'), takes: Takes::List("N", COMMAS), default: "", heading: Heading::Init,
        brief: "report this exit code of the app as 0; repeatable",
        detail: "Many a runtime exits with 143 after SIGTERM although all went well. In the environment: separated by \
                 commas.",
    };
    REWRITE Flag {
        long: "rewrite", short: None, takes: Takes::List("FROM:TO", COMMAS), default: "", heading: Heading::Init,
        brief: "forward signal FROM as TO; TO = 0 drops it; repeatable",
        detail: "TERM:QUIT, HUP:0. In the environment: separated by commas.",
    };
    LEFTOVERS Flag {
        long: "leftovers", short: None, takes: Takes::Value("kill|term|wait"), default: "kill", heading: Heading::Init,
        brief: "what happens to processes that outlive the app",
        detail: "kill: SIGKILL at once. term: SIGTERM, then SIGKILL after --leftover-timeout. wait: nothing but that \
                 SIGKILL.",
    };
    LEFTOVER_TIMEOUT Flag {
        long: "leftover-timeout", short: None, takes: DURATION, default: "10s", heading: Heading::Init,
        brief: "how long they may go on",
        detail: "",
    };
    WARN_ON_REAP Flag {
        long: "warn-on-reap", short: Some('w'), takes: Takes::Switch, default: "", heading: Heading::Init,
        brief: "warn about each zombie that is not the app's own child",
        detail: "",
    };
    SUBREAPER Flag {
        long: "subreaper", short: Some('s'), takes: Takes::Switch, default: "", heading: Heading::Init,
        brief: "accepted for tini's sake",
        detail: "memini adopts orphans wherever it runs.",
    };
    VERBOSE Flag {
        long: "verbose", short: Some('v'), takes: Takes::Count, default: "", heading: Heading::Logging,
        brief: "say more; -vv for everything",
        detail: "In the environment a number.",
    };
    QUIET Flag {
        long: "quiet", short: Some('q'), takes: Takes::Count, default: "", heading: Heading::Logging,
        brief: "warnings and errors only; -qq errors only",
        detail: "In the environment a number. -v and -q on the command line replace both variables.",
    };
    LOG_FORMAT Flag {
        long: "log-format", short: None, takes: Takes::Value("text|json"), default: "text", heading: Heading::Logging,
        brief: "how log lines look, on standard error",
        detail: "",
    };
    JSON Flag {
        long: "json", short: None, takes: Takes::Switch, default: "", heading: Heading::Commands,
        brief: "print what was found for machines",
        detail: "",
    };
    SINCE Flag {
        long: "since", short: None, takes: Takes::Path, default: "", heading: Heading::Commands,
        brief: "tell what has grown since 'capture --json' printed this",
        detail: "",
    };
    FORMAT Flag {
        long: "format", short: None, takes: Takes::Value("text|md|html|json"), default: "text",
        heading: Heading::Commands,
        brief: "how 'memini report' shows an incident",
        detail: "md for a ticket, html for a page with charts in one file, json for incident.json.",
    };
    WATCH Flag {
        long: "watch", short: None, takes: Takes::Optional("DURATION", "2s"), default: "", heading: Heading::Commands,
        brief: "'memini status' again and again, so often (2s)",
        detail: "Until the run ends, or Ctrl-C. With --json, one object a line.",
    };
    SPAN Flag {
        long: "span", short: None, takes: Takes::Value("auto|10min|3h|48h"), default: "auto",
        heading: Heading::Commands,
        brief: "how far back the chart of 'memini status' goes",
        detail: "auto: as far as the run is long.",
    };
}
