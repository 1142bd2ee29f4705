//! The door: arguments and environment in, a checked configuration out. Nothing is printed and nobody exits here.

mod error;
mod flags;
mod folder;
mod help;
mod hook;
mod settings;
mod thresholds;
mod units;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;

use crate::config::{Config, Dumping, Form, Reach};
use crate::engine::settings::GaugeKind;
use crate::supervisor::report::WORKER;

pub use error::Failure;
// For those who act on the configuration.
pub use {folder::check_dir, hook::expand, thresholds::check_ascending, units::threshold as parse_threshold};

use values::Values;

/// A command of memini's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    /// Says what memini sees and may do.
    Check,
    /// Takes evidence now.
    Capture,
    /// Shows how a run stands.
    Status,
    /// Lists incidents.
    Incidents,
    /// Shows an incident.
    Report,
}

impl Verb {
    const ALL: [Self; 5] = [Self::Check, Self::Capture, Self::Status, Self::Incidents, Self::Report];

    const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Capture => "capture",
            Self::Status => "status",
            Self::Incidents => "incidents",
            Self::Report => "report",
        }
    }

    fn of(word: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| word == verb.name())
    }
}

/// What memini was started for.
#[derive(Debug)]
pub enum Invocation {
    /// Run an app.
    Run(Box<Config>),
    /// Say what memini sees and may do here.
    Check {
        /// As one JSON object.
        json: bool,
        /// `--limit`, bytes.
        soft_limit: Option<u64>,
        /// `--dir`, absolute.
        dir: PathBuf,
        /// `--gauge`.
        gauge: GaugeKind,
    },
    /// Take evidence now.
    Capture {
        /// As one JSON object.
        json: bool,
        /// Whose: these processes and what descends from them. None: the tree of the memini that is PID 1 here.
        pids: Vec<i32>,
        /// What `--json` printed before, to compare with.
        since: Option<PathBuf>,
        /// The heap dump that is to be taken, too.
        dumping: Option<Dumping>,
    },
    /// Show how a run stands.
    Status {
        /// As one JSON object.
        json: bool,
        /// `--watch`: again and again, so often.
        watch: Option<Duration>,
        /// `--span`.
        reach: Reach,
        /// A folder or a recorder, as an argument or with `--dir`. None: the memini that runs here.
        which: Option<PathBuf>,
        /// `MEMINI_DIR` or the default, absolute: where to look if none runs here.
        dir: PathBuf,
    },
    /// List incidents.
    Incidents {
        /// As one JSON object.
        json: bool,
        /// The folder that they are in.
        dir: PathBuf,
    },
    /// Show an incident.
    Report {
        /// `--format`.
        form: Form,
        /// An incident's name, its folder, or a folder with incidents. None: the newest in `dir`.
        which: Option<PathBuf>,
        /// `--dir`, absolute.
        dir: PathBuf,
    },
    /// Be a worker of another memini: what follows [`WORKER`], as it came.
    Worker(Vec<OsString>),
    /// Print this on standard output, as it is, and exit with 0.
    Print(String),
}

/// Reads the arguments, the program's name included, and the variables `MEMINI_…`.
///
/// # Errors
///
/// What is wrong, in one line, and the exit code for it.
#[inline(never)]
pub fn parse(
    mut arguments: Vec<OsString>,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Invocation, Failure> {
    if arguments.get(1).is_some_and(|first| first == WORKER) {
        return Ok(Invocation::Worker(arguments.split_off(2)));
    }
    let line = if has_options(&arguments) { Line::with_options(arguments)? } else { Line::without_options(arguments) };
    if let Some(text) = line.options.as_ref().and_then(asked_for) {
        return Ok(Invocation::Print(text));
    }
    let values = Values { options: line.options.as_ref(), environment };
    refuse_options_of_others(line.verb, &values)?;
    let json = values.switch(&flags::JSON)?;
    let since = values.path(&flags::SINCE);
    if line.verb == Some(Verb::Capture) {
        let pids = line.command.iter().map(|word| pid(word)).collect::<Result<_, _>>()?;
        return Ok(Invocation::Capture { json, pids, since, dumping: settings::dumping(&values)? });
    }
    if line.verb == Some(Verb::Report) {
        let form = if json { Form::Json } else { settings::form(&values)? };
        let dir = values.raw(&flags::DIR, units::path)?;
        let which = at_most_one(&line.command, "report", "shows one incident")?;
        return Ok(Invocation::Report { form, which, dir });
    }
    if line.verb == Some(Verb::Status) {
        let watch = values.optional(&flags::WATCH, units::interval)?;
        let reach = settings::reach(&values)?;
        let dir = values.raw(&flags::DIR, units::path)?;
        let word = at_most_one(&line.command, "status", "shows one run")?;
        // The variable is that of the memini that runs here, which may have had to record elsewhere.
        let which = word.or_else(|| values.is_given(&flags::DIR).then(|| dir.clone()));
        return Ok(Invocation::Status { json, watch, reach, which, dir });
    }
    if line.verb == Some(Verb::Incidents) {
        let dir = values.raw(&flags::DIR, units::path)?;
        let word = at_most_one(&line.command, "incidents", "lists those of one folder")?;
        return Ok(Invocation::Incidents { json, dir: word.unwrap_or(dir) });
    }
    let config = settings::config(&values, line.command)?;
    if line.verb == Some(Verb::Check) {
        return Ok(Invocation::Check { json, soft_limit: config.soft_limit, dir: config.dir, gauge: config.gauge });
    }
    if config.command.first().is_none_or(|name| name.is_empty()) {
        return Err(Failure::with_hint("no command to run"));
    }
    Ok(Invocation::Run(Box::new(config)))
}

/// A command line, taken apart.
struct Line {
    /// `None` if there are no options.
    options: Option<ArgMatches>,
    /// The app's name and arguments; what follows a command of memini's own.
    command: Vec<OsString>,
    /// If it is a command of memini's own.
    verb: Option<Verb>,
}

/// What is meant for one command of memini's own is no option of another one, nor of an app's start.
fn refuse_options_of_others(verb: Option<Verb>, values: &Values<'_>) -> Result<(), Failure> {
    if verb.is_none() && values.is_given(&flags::JSON) {
        return Err(Failure::new(
            "--json belongs to memini's own commands, as in 'memini status'; to run an app, leave it out",
        ));
    }
    for (flag, owner) in [
        (flags::SINCE, Verb::Capture),
        (flags::FORMAT, Verb::Report),
        (flags::WATCH, Verb::Status),
        (flags::SPAN, Verb::Status),
    ] {
        if verb != Some(owner) && values.is_given(&flag) {
            let (long, owner) = (flag.long, owner.name());
            let what = verb.map_or_else(|| "to run an app".to_owned(), |verb| format!("for 'memini {}'", verb.name()));
            return Err(Failure::new(format!("--{long} belongs to 'memini {owner}'; {what}, leave it out")));
        }
    }
    Ok(())
}

fn pid(word: &OsStr) -> Result<i32, Failure> {
    let text = word.to_string_lossy();
    text.parse().ok().filter(|pid| *pid > 0).ok_or_else(|| {
        let what =
            format!("'memini capture {text}': not a process id; an app of that name is run with 'memini -- capture'");
        Failure::new(what)
    })
}

fn at_most_one(words: &[OsString], verb: &str, does: &str) -> Result<Option<PathBuf>, Failure> {
    match words {
        [] => Ok(None),
        [one] => Ok(Some(one.into())),
        [_, other, ..] => Err(Failure::new(format!(
            "'memini {verb}' {does}, and '{}' is one too many; an app of that name is run with 'memini -- {verb}'",
            other.to_string_lossy()
        ))),
    }
}

/// Whether anything before the command's name is up to clap. Most starts have nothing, and clap takes a tenth of a
/// millisecond to find that out. memini's own commands may have options after their names.
fn has_options(arguments: &[OsString]) -> bool {
    arguments.get(1).is_some_and(|first| first != "--" && (Verb::of(first).is_some() || is_dashed(first)))
}

fn is_dashed(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

impl Line {
    /// `memini COMMAND`, `memini -- COMMAND`
    fn without_options(mut arguments: Vec<OsString>) -> Self {
        let first = if arguments.get(1).is_some_and(|first| first == "--") { 2 } else { 1 };
        let command = if arguments.len() > first { arguments.split_off(first) } else { Vec::new() };
        Self { options: None, command, verb: None }
    }

    /// Never inlined: what clap needs on the stack would be touched by starts without options as well.
    #[inline(never)]
    fn with_options(arguments: Vec<OsString>) -> Result<Self, Failure> {
        let mut words: Vec<OsString> = arguments.into_iter().skip(1).collect();
        let mut options = flags::command().try_get_matches_from(&words)?;
        let command = command_words(&mut options);
        // The command is all that is left, so what stands before it tells whether it was set off by `--`.
        let position = words.len().saturating_sub(command.len());
        let set_off = position.checked_sub(1).and_then(|before| words.get(before)).is_some_and(|word| word == "--");
        let Some(verb) = command.first().filter(|_| !set_off).and_then(|name| Verb::of(name)) else {
            return Ok(Self { options: Some(options), command, verb: None });
        };
        // Its options may stand among its words.
        words.remove(position);
        let mut matches = flags::command_of_memini().try_get_matches_from(&words)?;
        let command = command_words(&mut matches);
        if let (Verb::Check, Some(word)) = (verb, command.first()) {
            return Err(Failure::new(format!(
                "'memini check' takes no '{}'; an app of that name is run with 'memini -- check'",
                word.to_string_lossy()
            )));
        }
        Ok(Self { options: Some(matches), command, verb: Some(verb) })
    }
}

fn command_words(options: &mut ArgMatches) -> Vec<OsString> {
    options.remove_many(flags::COMMAND).map(Iterator::collect).unwrap_or_default()
}

/// The text that was asked for instead of a run.
fn asked_for(options: &ArgMatches) -> Option<String> {
    if options.get_flag(flags::LONG_HELP) {
        Some(help::long())
    } else if options.get_flag(flags::SHORT_HELP) {
        Some(help::short())
    } else if options.get_flag(flags::VERSION) {
        Some(help::version())
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
