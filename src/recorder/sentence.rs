//! What the recorder tells of, as plain sentences.

use std::fmt;
use std::time::Duration;

use super::told::{Event, Kind, exit_text, reason_of, signal_text, stage_of, verdict_of};
use crate::engine::event::StopReason;
use crate::engine::settings::Stage;
use crate::units::{Rate, Size, Span};

/// An event, to be told to a person: lower-case, without a stop at its end.
#[derive(Clone, Copy, Debug)]
pub struct Sentence<'a>(pub &'a Event);

impl Sentence<'_> {
    /// Whether it is worth a line where there is room for few: what follows from something else that has one is not.
    pub const fn is_news(&self) -> bool {
        match self.0.kind {
            Kind::EvidenceEnded => self.0.values[1] != 0,
            Kind::LateWake | Kind::IncidentBegan | Kind::CaptureSkipped => false,
            _ => true,
        }
    }
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.0;
        let [a, b, c, _] = event.values;
        let (stage, level) = (event.stage, Level(event));
        match event.kind {
            Kind::StageBegan => write!(out, "the {stage} stage began: {level}"),
            Kind::StageEnded => match stage_of(event.from) {
                Some(from) => write!(out, "the {from} stage was over, {stage} again: {level}"),
                None => write!(out, "{stage} again: {level}"),
            },
            Kind::Signal => {
                out.write_str(&signal_text(a))?;
                match b {
                    0 => out.write_str(" came from outside")?,
                    sender => write!(out, " came from process {sender}")?,
                }
                if c > 1 { write!(out, ", {c} times") } else { Ok(()) }
            }
            Kind::HookStarted if a == 0 => write!(out, "dry run: the {stage} hook would have run"),
            Kind::HookStarted => write!(out, "hook {a} began, for the {stage} stage"),
            Kind::HookEnded => write!(out, "hook {a} ended: {}", exit_text(c)),
            Kind::HookOverdue => write!(out, "hook {a} took too long and was sent {}", signal_text(c)),
            Kind::EvidenceStarted if a == 0 => {
                write!(out, "dry run: memini would have looked at the processes ({stage})")
            }
            Kind::EvidenceStarted => match stage {
                Stage::Normal => out.write_str("memini looked at the processes, to compare with later"),
                stage => write!(out, "memini looked at the processes, for the {stage} stage"),
            },
            Kind::EvidenceEnded => write!(out, "the look at the processes ended: {}", exit_text(b)),
            Kind::EvidenceCut => out.write_str("the look at the processes took too long and was cut"),
            Kind::Braked => {
                let s = if a == 1 { "" } else { "s" };
                let stopped = Span(Duration::from_millis(b));
                write!(out, "the app grew faster than could be followed: braked {a} time{s}, {stopped} in all")
            }
            Kind::LimitChanged => write!(out, "the limit changed from {} to {}", Limit(a), Limit(b)),
            Kind::LateWake => {
                write!(out, "memini was woken {} late: the machine was busy", Span(Duration::from_micros(a)))
            }
            Kind::OomKill if a == 1 => out.write_str("the kernel's OOM killer killed a process"),
            Kind::OomKill => write!(out, "the kernel's OOM killer killed {a} processes"),
            Kind::Stopping => {
                let why = match reason_of(event.from) {
                    Some(StopReason::Urgent) => ", as the limit was near",
                    Some(StopReason::Leak) => ", as it leaks",
                    Some(StopReason::Floor) => ", as too little room was left to shut down in",
                    Some(StopReason::Level) => ", as it was above the stop threshold",
                    None => "",
                };
                write!(out, "memini began to stop the app{why}: {level}")
            }
            Kind::Terminating => out.write_str("the app was asked to leave"),
            Kind::GraceOver => out.write_str("the grace period was over: the app was killed"),
            Kind::Killing => write!(out, "the app was killed, before the kernel did: {level}"),
            Kind::AppExited => {
                let by = match (b, c) {
                    (0, 0) => "",
                    (0, _) => ", as memini had asked",
                    _ => ", killed by the kernel's OOM killer",
                };
                write!(out, "the app ended{by}: {}", exit_text(a))
            }
            Kind::StopNotNeeded => write!(out, "above the stop threshold, but it is not urgent: {level}"),
            Kind::CaptureSkipped => out.write_str("no capture was taken: there were enough"),
            Kind::ThresholdsUnreachable => write!(out, "the {stage} stage cannot begin under the limit of {}", Size(a)),
            Kind::Thrashing => write!(out, "thrashing, hardly any file cache was left: {level}"),
            Kind::LeftoversOverdue => out.write_str("processes that outlived the app were killed"),
            Kind::IncidentBegan => out.write_str("an incident was opened"),
            Kind::Recovered => out.write_str("memory was back to normal"),
            Kind::Broken => out.write_str("an error of memini's own: it goes on as a plain init"),
            Kind::Verdict => {
                let (from, to) = (verdict_of(event.from >> 4), verdict_of(event.from & 15));
                match to {
                    Some(verdict) => write!(out, "the verdict is {}", verdict.name())?,
                    None => out.write_str("the verdict has changed")?,
                }
                if let Some(from) = from {
                    write!(out, ", after {}", from.name())?;
                }
                let [.., rate] = event.values;
                let rate = f64::from_bits(rate);
                write!(out, ": {level}")?;
                if rate.is_finite() && rate > 0.0 { write!(out, ", {}", Rate(rate)) } else { Ok(()) }
            }
        }
    }
}

/// `205 MiB of 256 MiB (80%)`, of an event whose numbers are a sample.
struct Level<'a>(&'a Event);

impl fmt::Display for Level<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, gauged, limit, _] = self.0.values;
        write!(out, "{}", Size(gauged))?;
        match self.0.percent() {
            Some(percent) => write!(out, " of {} ({percent:.0}%)", Size(limit)),
            None => Ok(()),
        }
    }
}

struct Limit(u64);

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == u64::MAX { out.write_str("none") } else { Size(self.0).fmt(out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn event(kind: Kind, stage: Stage, from: u8, values: [u64; 4]) -> Event {
        Event { stage, from, ..Event::new(kind, values) }
    }

    #[test]
    fn each_kind_has_a_sentence() {
        let seen = [210 * MIB, 205 * MIB, 256 * MIB, 1e6_f64.to_bits()];
        for (kind, stage, from, values, text) in [
            (Kind::StageBegan, Stage::Capture, 1, seen, "the capture stage began: 205 MiB of 256 MiB (80%)"),
            (
                Kind::StageEnded,
                Stage::Trace,
                2,
                seen,
                "the capture stage was over, trace again: 205 MiB of 256 MiB (80%)",
            ),
            (Kind::Signal, Stage::Normal, 0, [15, 0, 1, 0], "SIGTERM came from outside"),
            (Kind::Signal, Stage::Normal, 0, [1, 7, 3, 0], "SIGHUP came from process 7, 3 times"),
            (Kind::HookEnded, Stage::Normal, 0, [2, 0, 3, 0], "hook 2 ended: exit code 3"),
            (Kind::HookEnded, Stage::Normal, 0, [2, 0, u64::MAX, 0], "hook 2 ended: it did not run"),
            (Kind::HookOverdue, Stage::Normal, 0, [2, 0, 9, 0], "hook 2 took too long and was sent SIGKILL"),
            (Kind::LimitChanged, Stage::Normal, 0, [u64::MAX, MIB, 0, 0], "the limit changed from none to 1 MiB"),
            (
                Kind::Braked,
                Stage::Normal,
                0,
                [1, 3, 0, 0],
                "the app grew faster than could be followed: braked 1 time, 3 ms in all",
            ),
            (
                Kind::Stopping,
                Stage::Stop,
                StopReason::Leak as u8,
                [0, MIB, u64::MAX, 0],
                "memini began to stop the app, as it leaks: 1 MiB",
            ),
            (
                Kind::AppExited,
                Stage::Normal,
                0,
                [256 + 9, 1, 0, 0],
                "the app ended, killed by the kernel's OOM killer: ended by SIGKILL",
            ),
            (Kind::AppExited, Stage::Normal, 0, [0, 0, 1, 0], "the app ended, as memini had asked: exit code 0"),
            (
                Kind::Verdict,
                Stage::Normal,
                0x12,
                seen,
                "the verdict is leak, after growing: 205 MiB of 256 MiB (80%), +977 KiB/s",
            ),
        ] {
            assert_eq!(Sentence(&event(kind, stage, from, values)).to_string(), text);
        }
    }

    // A recorder may have been written by anybody.
    #[test]
    fn numbers_without_sense_make_a_sentence_too() {
        for kind in Kind::ALL {
            for value in [0, 1, 1 << 40, u64::MAX] {
                let text = Sentence(&event(kind, Stage::Kill, 0xff, [value; 4])).to_string();
                assert!(text.len() > 10 && !text.contains(char::is_control), "{text:?}");
            }
        }
    }
}
