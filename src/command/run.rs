//! `memini [OPTIONS] COMMAND`: starts the app and watches over it until it ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use super::hook::names_folder;
use crate::capture::probe::Armed;
use crate::cgroup::choose::{self, Choice};
use crate::cgroup::held::Held;
use crate::cgroup::reading::Scope;
use crate::cgroup::source::{Depth, Source};
use crate::cli::{check_ascending, check_dir};
use crate::config::{Config, Hook};
use crate::engine::Engine;
use crate::engine::settings::{Settings, Stage, StopWhen, Threshold};
use crate::engine::trend;
use crate::injected;
use crate::supervisor::app::App;
use crate::supervisor::watch::Watch;
use crate::supervisor::{Clock, Parts, Supervisor, log as sink};
use crate::sys::mask::{ChildDisposition, SignalDescriptor};
use crate::sys::{descriptors, memory, process, schedule};
use crate::units::Size;

/// memini's own failure, usage and configuration included.
pub const FAILURE: u8 = 125;

/// How long the rest of memini's start waits for the app's exec: where cores are few or busy the two would compete, and
/// the app has nothing to be watched before its exec.
const HEAD_START: Duration = Duration::from_millis(20);

type Opened = (Box<dyn Source>, Choice);

/// Runs the app. The exit code.
pub fn run(config: Config) -> u8 {
    sink::install(config.log_format, config.log_level);
    install_panic_hook();
    match start(config) {
        Ok(mut supervisor) => supervise(&mut supervisor),
        Err(message) => {
            log::error!("{message}");
            FAILURE
        }
    }
}

/// Whatever breaks inside memini must not take the container down: it goes on as a plain init.
fn supervise(supervisor: &mut Supervisor) -> u8 {
    match catch_unwind(AssertUnwindSafe(|| supervisor.run())) {
        Ok(code) => code,
        Err(_) => loop {
            if let Ok(code) = catch_unwind(AssertUnwindSafe(|| supervisor.run_plainly())) {
                return code;
            }
        },
    }
}

/// The standard hook prints a backtrace and may block on a full pipe.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        log::error!("internal error: {info}; memory is not watched any more, memini goes on as a plain init");
    }));
}

/// Everything up to the loop. An error means that the app was not started.
fn start(config: Config) -> Result<Box<Supervisor>, String> {
    let clock = Clock::start();
    let opened = refuse_bad_configuration(&config)?;
    let signals = SignalDescriptor::new().map_err(|error| format!("cannot read signals: {error}"))?;
    let disposition = ChildDisposition::take().map_err(|error| format!("cannot wait for children: {error}"))?;
    if process::own_id().get() != 1
        && let Err(error) = process::become_subreaper()
    {
        log::warn!("cannot become a subreaper: {error}; orphans of the app are reaped by somebody else");
    }
    if let Some(signal) = config.parent_death_signal {
        let parent = process::parent_id();
        if let Err(error) = process::set_parent_death_signal(signal) {
            log::warn!("cannot ask for {signal} at the parent's death: {error}; it will not come");
        } else if process::parent_id() != parent {
            // It died before it was asked for: the signal is memini's to send.
            let _ = process::kill(process::own_id(), signal);
        }
    }
    let app = App::start(&config, &disposition).map_err(|error| {
        let name = config.command.first().map(|name| name.to_string_lossy()).unwrap_or_default();
        format!("cannot start {name}: {error}")
    })?;
    // From here on the app runs, and memini may not fail any more: as PID 1, its end would be the app's.
    app.go_first(&signals, HEAD_START);
    Ok(settle(config, clock, signals, app, opened))
}

/// What can be known to be wrong before the app starts.
fn refuse_bad_configuration(config: &Config) -> Result<Option<Opened>, String> {
    if config.hooks.iter().any(needs_folder) {
        check_dir(&config.dir)?;
    }
    // Percentages alone were compared when they were read, so the limit need not be known yet: the app starts earlier.
    let thresholds = Stage::LADDER.map(|stage| config.thresholds.of(stage));
    let comparable = thresholds.iter().all(|threshold| matches!(threshold, Threshold::Percent(_) | Threshold::Off));
    if comparable || !config.watch {
        return Ok(None);
    }
    let opened = choose::open(Path::new("/"), config.soft_limit.is_some());
    check_ascending(&config.thresholds, effective_limit(config, &opened.1))?;
    Ok(Some(opened))
}

fn needs_folder(hook: &Hook) -> bool {
    names_folder(&hook.text)
}

/// The limit that thresholds are resolved against: the lowest of the kernel's and the user's, or the machine's memory.
fn effective_limit(config: &Config, choice: &Choice) -> Option<u64> {
    let host = choice.first.levels().iter().find(|level| level.scope == Scope::Host).and_then(|level| level.limit);
    [choice.limit, config.soft_limit].into_iter().flatten().min().or(host)
}

/// The rest of the start, while the app starts as well.
fn settle(
    config: Config,
    clock: Clock,
    signals: SignalDescriptor,
    app: App,
    opened: Option<Opened>,
) -> Box<Supervisor> {
    descriptors::close_inherited();
    // memini must not keep a volume busy that the app has left.
    if let Err(error) = std::env::set_current_dir("/") {
        log::debug!("cannot leave the working folder: {error}");
    }
    // The app runs by now: an error of memini's own must not end it.
    let looked = catch_unwind(AssertUnwindSafe(|| {
        injected::panic_at(&"start");
        let (mut watch, choice) = if config.watch { open_watch(&config, opened) } else { (None, None) };
        announce(&config, &app, choice.as_ref());
        let reading_pause = watch.as_mut().map(pause).unwrap_or_default();
        (watch, choice.map(|choice| choice.description).unwrap_or_default(), reading_pause)
    }));
    let (watch, source, reading_pause) = looked.unwrap_or_default();
    let guards = config.watch;
    let engine = Engine::new(settings(&config, watch.is_some(), reading_pause), clock.now());
    let supervisor = assemble(Parts { config, clock, signals, app, engine, watch, source });
    memory::release_program();
    if guards {
        keep_in_memory();
    }
    supervisor
}

/// The watch over memory, where anything can be read.
///
/// This and the next function are not inlined: the deepest stack of the start counts in memini's resident memory for
/// good, so that what needs much of it shall not stand on top of what does as well.
#[inline(never)]
fn open_watch(config: &Config, opened: Option<Opened>) -> (Option<Watch>, Option<Choice>) {
    let (source, choice) = opened.unwrap_or_else(|| choose::open(Path::new("/"), config.soft_limit.is_some()));
    if choice.readable {
        return (Some(Watch::new(source, Held::open("/".as_ref()), choice.first)), Some(choice));
    }
    let why = choice.why_not.as_deref().unwrap_or("nothing tells how much memory is used");
    log::warn!("{why}; memory is not watched, memini goes on as a plain init");
    (None, None)
}

#[inline(never)]
fn assemble(parts: Parts) -> Box<Supervisor> {
    Box::new(Supervisor::new(parts))
}

/// What is in use from here on; not what the start alone has used of the stack.
fn keep_in_memory() {
    memory::release_stack();
    if let Err(error) = memory::lock() {
        log::debug!("cannot lock memory: {error}; memini may be slow when the machine is short of memory");
    }
}

/// How long to pause between two readings. Those of a cgroup cost microseconds, and the engine may have them as often as
/// it likes. Looking at every process of a machine takes milliseconds: so much that it is given a share of a core.
fn pause(watch: &mut Watch) -> Duration {
    pause_after(|| {
        let start = schedule::own_time();
        watch.read(Depth::Usage, false);
        schedule::own_time().saturating_sub(start)
    })
}

/// The cheaper of two readings counts, in the time that they took of a processor: on a busy machine any of them may be
/// interrupted for milliseconds, and the first finds nothing in the caches.
fn pause_after(mut reading: impl FnMut() -> Duration) -> Duration {
    const READINGS: u32 = 2;
    const CHEAP: Duration = Duration::from_micros(200);
    const SHARE: u32 = 50;
    const LONGEST: Duration = Duration::from_millis(250);
    let mut cheapest = Duration::MAX;
    for _ in 0..READINGS {
        cheapest = cheapest.min(reading());
        if cheapest < CHEAP {
            return Duration::ZERO;
        }
    }
    cheapest.saturating_mul(SHARE).min(LONGEST)
}

fn settings(config: &Config, watch: bool, reading_pause: Duration) -> Settings {
    Settings {
        watch,
        thresholds: config.thresholds,
        stop_when: config.stop_when,
        gauge: config.gauge,
        soft_limit: config.soft_limit,
        hooks: config.hooks.iter().map(|hook| hook.stage).collect(),
        evidence: config.capture.is_some(),
        baseline_after: config.baseline_after,
        on_leak: config.on_leak,
        trend_unit: trend::UNIT,
        hook_timeout: config.hook_timeout,
        cooldown: config.cooldown,
        max_captures: config.max_captures,
        grace: config.grace,
        exit_code: config.exit_code,
        remap_exit: config.remap_exit.clone(),
        leftovers: config.leftovers,
        leftover_timeout: config.leftover_timeout,
        dry_run: config.dry_run,
        // Where a look costs milliseconds, the tree would stand still for nothing else.
        brake: config.brake && reading_pause.is_zero(),
        cores: schedule::usable_cores(),
        reading_pause,
    }
}

/// The one start-up line, and what is worth a warning.
#[inline(never)]
fn announce(config: &Config, app: &App, choice: Option<&Choice>) {
    let version = env!("CARGO_PKG_VERSION");
    let own = process::own_id();
    let name = config.command.first().map(|name| name.to_string_lossy()).unwrap_or_default();
    let Some(choice) = choice else {
        log::info!("{version}, process {own}, runs {name} as process {}; memory is not watched", app.id());
        return;
    };
    let limit = effective_limit(config, choice);
    let mut ladder = String::new();
    for stage in Stage::LADDER {
        let threshold = config.thresholds.of(stage);
        ladder.push_str(&format!(", {stage} {}", threshold));
        if let (Threshold::Percent(_) | Threshold::Below(_), Some(bytes)) =
            (threshold, limit.and_then(|limit| threshold.bytes(limit)))
        {
            ladder.push_str(&format!(" ({})", Size(bytes)));
        }
        if stage == Stage::Stop && config.stop_when == StopWhen::Urgent && threshold != Threshold::Off {
            ladder.push_str(" when urgent");
        }
    }
    let limit = match limit {
        Some(limit) if choice.limit.is_none() && config.soft_limit.is_none() => {
            format!("no limit, the machine has {}", Size(limit))
        }
        Some(limit) => format!("limit {}", Size(limit)),
        None => "no limit".to_owned(),
    };
    let hooks = match config.hooks.len() {
        0 => "no hook".to_owned(),
        1 => "1 hook".to_owned(),
        count => format!("{count} hooks"),
    };
    let evidence = config.capture.map_or_else(
        || "no evidence".to_owned(),
        |recipes| format!("evidence {}", Armed::of(recipes, "/".as_ref()).text()),
    );
    let dry_run = if config.dry_run { ", dry run" } else { "" };
    log::info!(
        "{version}, process {own}, runs {name} as process {}: {}, {limit}{ladder}; {evidence}; {hooks}{dry_run}, folder {}",
        app.id(),
        choice.description,
        config.dir.display()
    );
    if let Some(why) = &choice.why_not {
        log::warn!("{why}; memory is watched by what is there: {}", choice.description);
    }
    log::debug!("{} usable cores", schedule::usable_cores());
    if choice.oom_group == Some(true) {
        log::info!("memory.oom.group is set: the kernel's OOM killer would take memini along");
    }
    if let Some(shmem) = choice.shmem.filter(|shmem| *shmem > 0)
        && limit_share(shmem, choice) > 0.1
    {
        log::warn!("{} of tmpfs and shared memory are in use at the start already", Size(shmem));
    }
    if !config.hooks.iter().any(needs_folder)
        && let Err(why) = check_dir(&config.dir)
    {
        log::warn!("{why}; incidents are in this log only");
    }
}

fn limit_share(bytes: u64, choice: &Choice) -> f64 {
    choice.limit.filter(|limit| *limit > 0).map_or(0.0, |limit| bytes as f64 / limit as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // bench/race, both cores busy: one interrupted reading switched the brake off and made memini look six times a second.
    #[test]
    fn a_reading_that_was_interrupted_does_not_make_memini_slow() {
        let paused = |micros: &[u64]| {
            let mut costs = micros.iter().copied().cycle();
            pause_after(|| Duration::from_micros(costs.next().unwrap()))
        };
        for (costs, millis) in [(&[5][..], 0), (&[3000, 5], 0), (&[3000, 4000], 150), (&[9000, 8000], 250)] {
            assert_eq!(paused(costs), Duration::from_millis(millis), "{costs:?}");
        }
    }
}
