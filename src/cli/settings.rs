//! From values to the configuration of a run.

use std::ffi::OsString;

use log::LevelFilter;

use super::error::Failure;
use super::thresholds::check_ascending;
use super::values::Values;
use super::{flags, hook, units};
use crate::config::{Config, Dumping, Form, Heavy, Helpers, Keeping, LogFormat, Reach, When};
use crate::engine::settings::{GaugeKind, Leftovers, OnLeak, StopWhen, Thresholds};
use crate::sys::signal::Signal;

const STOP_WHEN: [(&str, StopWhen); 2] = [("urgent", StopWhen::Urgent), ("level", StopWhen::Level)];

const GAUGES: [(&str, GaugeKind); 3] =
    [("unreclaimable", GaugeKind::Unreclaimable), ("working-set", GaugeKind::WorkingSet), ("usage", GaugeKind::Usage)];

const HEAVY: [(&str, When); 3] = [("auto", When::Auto), ("off", When::Off), ("on", When::On)];

const ON_LEAK: [(&str, OnLeak); 2] = [("notice", OnLeak::Notice), ("capture", OnLeak::Capture)];

const LEFTOVERS: [(&str, Leftovers); 3] =
    [("kill", Leftovers::Kill), ("term", Leftovers::Term), ("wait", Leftovers::Wait)];

const HELPERS: [(&str, Helpers); 3] =
    [("off", Helpers::NONE), ("auto", Helpers::ALL), ("python", Helpers { python: true })];

const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

const FORMS: [(&str, Form); 4] =
    [("text", Form::Text), ("md", Form::Markdown), ("html", Form::Html), ("json", Form::Json)];

const REACHES: [(&str, Reach); 4] =
    [("auto", Reach::Auto), ("10min", Reach::TenMinutes), ("3h", Reach::ThreeHours), ("48h", Reach::TwoDays)];

/// How far back a chart goes.
pub fn reach(values: &Values<'_>) -> Result<Reach, Failure> {
    values.one(&flags::SPAN, |text| units::choice(text, &REACHES))
}

/// How a report is to be written.
pub fn form(values: &Values<'_>) -> Result<Form, Failure> {
    values.one(&flags::FORMAT, |text| units::choice(text, &FORMS))
}

/// The heap dump that `memini capture` is to take: only if the line itself asks for one. The variable is meant for the memini that
/// guards this app, which need not stand still whenever somebody looks.
pub fn dumping(values: &Values<'_>) -> Result<Option<Dumping>, Failure> {
    let heavy = heavy(values)?;
    if values.is_given(&flags::HEAVY) && heavy.when != When::Off {
        let dir = values.raw(&flags::DIR, units::path)?;
        return Ok(Some(Dumping { dir, heavy, keeping: keeping(values)? }));
    }
    let idle = [&flags::MAX_PAUSE, &flags::REDACT, &flags::LIVE].into_iter().find(|flag| values.is_given(flag));
    match idle {
        Some(flag) => {
            let what = format!("--{} is about a heap dump, and 'memini capture' takes one with --heavy on", flag.long);
            Err(Failure::new(what))
        }
        None => Ok(None),
    }
}

fn heavy(values: &Values<'_>) -> Result<Heavy, Failure> {
    Ok(Heavy {
        when: values.one(&flags::HEAVY, |text| units::choice(text, &HEAVY))?,
        max_pause: values.one(&flags::MAX_PAUSE, units::positive_duration)?,
        redact: values.switch(&flags::REDACT)?,
        live: values.switch(&flags::LIVE)?,
    })
}

fn keeping(values: &Values<'_>) -> Result<Keeping, Failure> {
    Ok(Keeping {
        incidents: values.one(&flags::KEEP_INCIDENTS, units::positive_count)?,
        dumps: values.one(&flags::KEEP_DUMPS, units::positive_count)?,
        age: values.one(&flags::KEEP_FOR, units::age)?,
        artifact: values.one(&flags::MAX_ARTIFACT, units::size)?,
        total: values.one(&flags::MAX_TOTAL, units::size)?,
        free: values.one(&flags::KEEP_FREE, units::size_or_none)?,
    })
}

/// Reads and checks every value.
pub fn config(values: &Values<'_>, command: Vec<OsString>) -> Result<Config, Failure> {
    values.switch(&flags::SUBREAPER)?;
    Ok(Config {
        command,
        thresholds: thresholds(values)?,
        stop_when: values.one(&flags::STOP_WHEN, |text| units::choice(text, &STOP_WHEN))?,
        gauge: values.one(&flags::GAUGE, |text| units::choice(text, &GAUGES))?,
        soft_limit: values.optional(&flags::LIMIT, units::size)?,
        hooks: values.list(&flags::HOOK, hook::parse)?,
        capture: values.one(&flags::CAPTURE, units::recipes)?,
        heavy: heavy(values)?,
        keeping: keeping(values)?,
        baseline_after: values.one(&flags::BASELINE_AFTER, units::duration)?,
        on_leak: values.one(&flags::ON_LEAK, |text| units::choice(text, &ON_LEAK))?,
        helpers: values.one(&flags::HELPERS, |text| units::choice(text, &HELPERS))?,
        traceback_frames: values.one(&flags::TRACEBACK_FRAMES, units::frames)?,
        hook_timeout: values.one(&flags::HOOK_TIMEOUT, units::positive_duration)?,
        cooldown: values.one(&flags::COOLDOWN, units::duration)?,
        max_captures: values.one(&flags::MAX_CAPTURES, units::count)?,
        grace: values.one(&flags::GRACE, units::duration)?,
        stop_signal: values.one(&flags::STOP_SIGNAL, units::signal)?,
        exit_code: values.one(&flags::EXIT_CODE, units::exit_code)?,
        dir: values.raw(&flags::DIR, units::path)?,
        termination_log: values.raw(&flags::TERMINATION_LOG, units::path)?,
        recorder: values.one(&flags::RECORDER, units::recorder)?,
        dry_run: values.switch(&flags::DRY_RUN)?,
        brake: !values.switch(&flags::NO_BRAKE)?,
        watch: !values.switch(&flags::NO_WATCH)?,
        group: values.switch(&flags::GROUP)?,
        parent_death_signal: values.optional(&flags::PARENT_DEATH_SIGNAL, units::signal)?,
        remap_exit: values.list(&flags::REMAP_EXIT, units::any_exit_code)?,
        rewrite: last_of_each(values.list(&flags::REWRITE, units::rewrite)?),
        leftovers: values.one(&flags::LEFTOVERS, |text| units::choice(text, &LEFTOVERS))?,
        leftover_timeout: values.one(&flags::LEFTOVER_TIMEOUT, units::duration)?,
        warn_on_reap: values.switch(&flags::WARN_ON_REAP)?,
        log_level: log_level(values)?,
        log_format: values.one(&flags::LOG_FORMAT, |text| units::choice(text, &LOG_FORMATS))?,
    })
}

fn thresholds(values: &Values<'_>) -> Result<Thresholds, Failure> {
    let thresholds = Thresholds {
        trace: values.one(&flags::TRACE_AT, units::threshold)?,
        capture: values.one(&flags::CAPTURE_AT, units::threshold)?,
        stop: values.one(&flags::STOP_AT, units::threshold)?,
        kill: values.one(&flags::KILL_AT, units::threshold)?,
    };
    check_ascending(&thresholds, None).map_err(Failure::new)?;
    Ok(thresholds)
}

/// As for all options: what is said later about the same signal holds.
fn last_of_each(pairs: Vec<(Signal, Option<Signal>)>) -> Vec<(Signal, Option<Signal>)> {
    let mut kept: Vec<(Signal, Option<Signal>)> = Vec::with_capacity(pairs.len());
    for (from, to) in pairs {
        kept.retain(|(known, _)| *known != from);
        kept.push((from, to));
    }
    kept
}

/// `-v` and `-q` are one setting, so either of them on the command line silences both variables.
fn log_level(values: &Values<'_>) -> Result<LevelFilter, Failure> {
    let (verbose, quiet) = (&flags::VERBOSE, &flags::QUIET);
    let in_environment = (values.times_in_environment(verbose)?, values.times_in_environment(quiet)?);
    let given = (values.times_given(verbose), values.times_given(quiet));
    let (more, less) = if given == (0, 0) { in_environment } else { given };
    Ok(match i16::from(more) - i16::from(less) {
        ..=-2 => LevelFilter::Error,
        -1 => LevelFilter::Warn,
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        2.. => LevelFilter::Trace,
    })
}
