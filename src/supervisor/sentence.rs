//! What the engine notes, as sentences for the log.

use std::fmt;
use std::time::Duration;

use log::Level as Loudness;

use crate::config::Config;
use crate::engine::event::{Exit, HookEnd, Note, Sample, StopReason};
use crate::engine::settings::Stage;
use crate::engine::trend::Verdict;
use crate::units::{Rate, Size, Span};

/// A note together with what it takes to name things.
pub struct Sentence<'a> {
    /// What is told.
    pub note: &'a Note,
    /// Names of hooks and settings.
    pub config: &'a Config,
}

impl Sentence<'_> {
    /// How loud it is.
    pub fn level(&self) -> Loudness {
        match self.note {
            Note::StageBegan { stage: Stage::Trace, .. }
            | Note::StageEnded { .. }
            | Note::HookStarted { .. }
            | Note::HookEnded { end: HookEnd::Ended(Exit::Code(0)), .. }
            | Note::EvidenceStarted { run: None, .. }
            | Note::LimitChanged { .. }
            | Note::Verdict { verdict: Verdict::Steady | Verdict::Growing, .. }
            | Note::StopNotNeeded { .. }
            | Note::Braked { .. }
            | Note::LastLooks { .. }
            | Note::CaptureSkipped { .. } => Loudness::Info,
            Note::AppExited { oom_killed: false, .. } => Loudness::Debug,
            Note::LateWake { .. } => Loudness::Debug,
            Note::EvidenceStarted { .. } | Note::EvidenceEnded { end: HookEnd::Ended(Exit::Code(0)), .. } => {
                Loudness::Debug
            }
            _ => Loudness::Warn,
        }
    }

    fn hook(&self, index: usize) -> &str {
        self.config.hooks.get(index).map_or("?", |hook| hook.text.as_str())
    }

    /// `would be ` in a dry run.
    fn mood(&self, real: &'static str, dry: &'static str) -> &'static str {
        if self.config.dry_run { dry } else { real }
    }
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.note {
            Note::StageBegan { stage, sample, .. } => write!(out, "{stage}: memory is at {}", Measure(sample)),
            Note::StageEnded { stage, from, sample } => {
                write!(out, "{from} is over, {stage} again: memory is at {}", Level(sample))
            }
            Note::StopNotNeeded { sample } => {
                write!(out, "above the stop threshold, but it is not urgent: memory is at {}", Measure(sample))
            }
            Note::CaptureSkipped { cooldown_left, taken } if cooldown_left.is_zero() => {
                write!(out, "no capture: {taken} were taken, and --max-captures allows no more")
            }
            Note::CaptureSkipped { cooldown_left, .. } => {
                write!(out, "no capture now: the cooldown lasts another {}", Span(*cooldown_left))
            }
            Note::Stopping { reason, sample } => {
                let verb = self.mood("stopping the app", "dry run: would stop the app");
                write!(out, "{verb}, {}: memory is at {}", Reason(*reason), Measure(sample))
            }
            Note::Terminating => {
                let (signal, grace) = (self.config.stop_signal, Span(self.config.grace));
                write!(out, "sending {signal} to the app, which has {grace} to leave")
            }
            Note::GraceOver => {
                write!(out, "the app did not leave within {}: killing it", Span(self.config.grace))
            }
            Note::Killing { sample } => {
                let verb = self.mood("killing the app before the kernel does", "dry run: would kill the app");
                write!(out, "{verb}: memory is at {}", Measure(sample))
            }
            Note::HookStarted { run: Some(run), hook, stage } => {
                write!(out, "{stage} hook {} begins: {}", run.0, self.hook(*hook))
            }
            Note::HookStarted { run: None, hook, stage } => {
                write!(out, "dry run: would run the {stage} hook: {}", self.hook(*hook))
            }
            Note::HookEnded { run, end, after, .. } => match end {
                HookEnd::Ended(exit) => write!(out, "hook {} ended after {}: {}", run.0, Span(*after), Ending(*exit)),
                HookEnd::NotStarted => write!(out, "hook {} did not run", run.0),
            },
            Note::HookOverdue { run, signal, after, .. } => {
                write!(out, "hook {} has run for {}, too long: sending it {signal}", run.0, Span(*after))
            }
            Note::EvidenceStarted { run: Some(_), stage: Stage::Normal } => {
                out.write_str("looking at the processes, to compare with later")
            }
            Note::EvidenceStarted { run: Some(_), stage } => write!(out, "{stage}: looking at the processes"),
            Note::EvidenceStarted { run: None, stage } => {
                write!(out, "dry run: would look at the processes at the {stage} stage")
            }
            Note::EvidenceEnded { end: HookEnd::Ended(Exit::Code(0)), after, .. } => {
                write!(out, "the processes were looked at within {}", Span(*after))
            }
            Note::EvidenceEnded { end: HookEnd::Ended(_), after, .. } => {
                write!(
                    out,
                    "the look at the processes came to no end within {}: what it had found by then is all",
                    Span(*after)
                )
            }
            Note::EvidenceEnded { after, .. } => {
                write!(out, "the look at the processes failed after {}; its evidence is missing", Span(*after))
            }
            Note::EvidenceCut { after, .. } => {
                write!(out, "the look at the processes has taken {}, there is no more time: it is cut", Span(*after))
            }
            Note::Verdict { verdict: Verdict::Steady, from, sample, .. } => {
                write!(out, "the verdict is steady again, after {}: memory is at {}", from.name(), Level(sample))
            }
            Note::Verdict { verdict, horizon, sample, .. } => {
                let (verdict, horizon) = (verdict.name(), Span(*horizon));
                write!(out, "the verdict is {verdict} over {horizon}: memory is at {}", Measure(sample))
            }
            Note::LimitChanged { from, to } => {
                write!(out, "the limit changed from {} to {}", Limit(*from), Limit(*to))
            }
            Note::ThresholdsUnreachable { limit, stage } => {
                write!(out, "under the limit of {} the stage {stage} can never begin; it is left out", Size(*limit))
            }
            Note::OomKill { times: 1 } => {
                write!(out, "the kernel's OOM killer has killed a process of this group")
            }
            Note::OomKill { times } => {
                write!(out, "the kernel's OOM killer has killed {times} processes of this group")
            }
            Note::Thrashing { refaults, pressure, sample } => {
                write!(out, "thrashing: {refaults:.0} pages a second are read again")?;
                if let Some(pressure) = pressure {
                    write!(out, ", {pressure:.0}% of the time everything waits for memory")?;
                }
                write!(out, "; hardly any file cache is left, memory is at {}", Measure(sample))
            }
            Note::Braked { times, stopped } => {
                let s = if *times == 1 { "" } else { "s" };
                let stopped = Span(*stopped);
                write!(out, "the app grew faster than could be followed: braked {times} time{s}, {stopped} in all")
            }
            Note::LastLooks { looks } => {
                let Some(look) = looks.last().copied().flatten() else {
                    return out.write_str("memory was never looked at");
                };
                write!(
                    out,
                    "the last look at memory came {} late and saw {}",
                    Span(Duration::from_micros(look.late_us.into())),
                    Size(look.gauged)
                )
            }
            Note::LateWake { late, times } => {
                write!(out, "woken {} late, {times} times so far: the machine is busy or throttled", Span(*late))
            }
            Note::AppExited { exit, oom_killed: true, .. } => {
                write!(out, "the app was killed by the kernel's OOM killer ({})", Ending(*exit))
            }
            Note::AppExited { exit, .. } => write!(out, "the app has ended: {}", Ending(*exit)),
            Note::LeftoversOverdue => {
                let timeout = Span(self.config.leftover_timeout);
                write!(out, "processes that outlived the app did not end within {timeout}: killing them")
            }
        }
    }
}

/// `236 MiB of 256 MiB (92.2%), +19.8 MiB/s, limit in 1.0 s`.
pub struct Measure<'a>(pub &'a Sample);

impl fmt::Display for Measure<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sample = self.0;
        write!(out, "{}, {}", Level(sample), Rate(sample.rate))?;
        match sample.time_to_limit {
            // A century is no forecast.
            Some(seconds) if seconds < 3.15e9 => {
                write!(out, ", limit in {}", Span(std::time::Duration::from_secs_f64(seconds.max(0.0))))
            }
            _ => Ok(()),
        }
    }
}

/// `236 MiB of 256 MiB (92.2%)`: where a forecast would only confuse.
pub struct Level<'a>(pub &'a Sample);

impl fmt::Display for Level<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sample = self.0;
        write!(out, "{}", Size(sample.gauged))?;
        match sample.limit.filter(|limit| *limit > 0) {
            Some(limit) => {
                let percent = sample.gauged as f64 / limit as f64 * 100.0;
                write!(out, " of {} ({percent:.1}%)", Size(limit))
            }
            None => Ok(()),
        }
    }
}

struct Limit(Option<u64>);

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(limit) => Size(limit).fmt(out),
            None => out.write_str("none"),
        }
    }
}

struct Reason(StopReason);

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.0 {
            StopReason::Urgent => "it would reach the limit before it could leave",
            StopReason::Leak => "it leaks",
            StopReason::Floor => "too little room is left to shut down in",
            StopReason::Level => "it is above the stop threshold",
        })
    }
}

/// How a process ended: `exit code 3`, `ended by SIGKILL`.
pub struct Ending(pub Exit);

impl fmt::Display for Ending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Exit::Code(code) => write!(out, "exit code {code}"),
            Exit::Signal(signal) => write!(out, "ended by {signal}"),
        }
    }
}
