//! How the last run ended, told from what it has recorded and from what the machine says now.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::reader::History;
use super::told::{self, Event, Kind};
use crate::engine::settings::Stage;
use crate::units::{Rate, Size, Span, clock};

/// At the limit: with less room than this part of it, or than would be filled in this time at the last rate.
const NEAR: u64 = 50;
const NEAR_SECONDS: f64 = 2.0;

/// Growth is told of if it was at least this part of the limit.
const WORTH_TELLING: u64 = 20;

/// What was within this part of a growth of where it began, one in so many, stood still.
const STILL: u64 = 100;

/// How much of a growth may be lost again on the way, one part in so many, or of the limit: what a collector gives back.
const DIP: u64 = 4;
const DIP_OF_LIMIT: u64 = 10;

/// How many events of the run stand on the timeline of an incident that is made of it.
const EVENTS_TOLD: usize = 100;

/// What the machine says now.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// How often the kernel's OOM killer has killed in the group that memini runs in.
    pub oom_kills: Option<u64>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// memini ended it, with this code.
    Exited(u8),
    /// The kernel's OOM killer took memini along; `false`: as far as the numbers tell.
    OomKilled {
        /// The kernel's counter says so.
        certain: bool,
    },
    /// The machine was restarted, then or later.
    Machine,
    /// Somebody else killed it.
    Killed,
}

impl Ending {
    /// Of this run.
    pub fn of(history: &History, now: &Now) -> Self {
        let pulse = &history.pulse;
        if let Some(code) = pulse.exit {
            return Self::Exited(code);
        }
        let same_boot = history.told("boot_id") == now.boot_id;
        let risen = pulse.oom_kill.zip(now.oom_kills).is_some_and(|(then, now)| now > then);
        if same_boot && risen {
            return Self::OomKilled { certain: true };
        }
        let is_near = pulse.limit.is_some_and(|limit| {
            let room = limit.saturating_sub(pulse.gauged);
            room <= limit / NEAR || (room as f64) < pulse.rate * NEAR_SECONDS
        });
        match (is_near, same_boot) {
            // A machine that was restarted since then says nothing of what had happened before.
            (true, _) => Self::OomKilled { certain: false },
            (false, false) => Self::Machine,
            (false, true) => Self::Killed,
        }
    }
}

/// What is said of a run that is over.
#[derive(Clone, Debug)]
pub struct Obituary<'a> {
    history: &'a History,
    ending: Ending,
}

impl<'a> Obituary<'a> {
    /// Of this run.
    pub fn new(history: &'a History, now: &Now) -> Self {
        Self { history, ending: Ending::of(history, now) }
    }

    /// How it ended.
    pub const fn ending(&self) -> Ending {
        self.ending
    }

    /// Whether it ended as it should.
    pub const fn is_calm(&self) -> bool {
        matches!(self.ending, Ending::Exited(_))
    }

    /// One sentence, without control characters.
    pub fn sentence(&self) -> String {
        let history = self.history;
        let mut text = format!("the last run of {}", crate::text::plain(history.app()));
        if let Some(at) = self.unix(history.pulse.since_start).and_then(clock) {
            let _ = write!(text, ", last seen at {at} after {}", span(history.pulse.since_start));
        }
        match self.ending {
            Ending::Exited(code) => _ = write!(text, ", ended with {code}"),
            Ending::OomKilled { certain } => {
                text.push_str(", was killed by the kernel's OOM killer");
                if !certain {
                    text.push_str(", as far as its last numbers tell");
                }
            }
            Ending::Machine => text.push_str(", was killed, or ended with the machine, which was restarted"),
            Ending::Killed => text.push_str(", was killed from outside"),
        }
        if !self.is_calm() {
            self.write_level(&mut text);
        }
        text
    }

    fn write_level(&self, text: &mut String) {
        let pulse = &self.history.pulse;
        if let Some(stage) = self.last_stage() {
            let since = pulse.since_start.saturating_sub(stage.since_start);
            let percent = stage.percent().map_or_else(|| stage.stage.to_string(), |percent| format!("{percent:.0}%"));
            let _ = write!(text, ", {} after {percent}", span(since));
        } else if let Some(limit) = pulse.limit.filter(|limit| *limit > 0) {
            let percent = pulse.gauged as f64 / limit as f64 * 100.0;
            let _ = write!(text, ", at {} of {} ({percent:.0}%)", Size(pulse.gauged), Size(limit));
        }
        if let Some((rate, time)) = self.growth() {
            let rate = Rate(rate).to_string();
            let _ = write!(text, "; it grew {} for {}", rate.trim_start_matches('+'), span(time));
        }
    }

    /// The highest stage that had begun and not ended.
    fn last_stage(&self) -> Option<&Event> {
        let began = |event: &&Event| event.kind == Kind::StageBegan && event.stage == self.history.pulse.stage;
        self.history.events.iter().rev().find(began).filter(|event| event.stage > Stage::Normal)
    }

    /// The last growth up to the end, in bytes a second, and for how many milliseconds it had gone on.
    pub fn growth(&self) -> Option<(f64, u64)> {
        let pulse = &self.history.pulse;
        let end = (pulse.since_start, pulse.gauged);
        let dip = (pulse.limit.unwrap_or(0) / DIP_OF_LIMIT).max(1 << 20);
        let samples = self.history.samples();
        let (mut floor, mut first) = (end.1, samples.len());
        for (index, (_, sample)) in samples.iter().enumerate().rev() {
            let level = sample.gauged().last;
            let gained = end.1.saturating_sub(floor);
            if level > floor.saturating_add((gained / DIP).max(dip)) {
                break;
            }
            (floor, first) = (floor.min(level), index);
        }
        // As long as it stood still before, that is no growth.
        let still = floor.saturating_add(end.1.saturating_sub(floor) / STILL);
        let climb = samples.get(first..).unwrap_or_default();
        let lowest = climb.iter().rfind(|(_, sample)| sample.gauged().last <= still);
        let lowest = lowest.map_or(end, |(time, sample)| ((*time).min(end.0), sample.gauged().last));
        let (time, gained) = (end.0.saturating_sub(lowest.0), end.1.saturating_sub(lowest.1));
        let is_much = gained >= (pulse.limit.unwrap_or(0) / WORTH_TELLING).max(1 << 20);
        (is_much && time >= 1000).then(|| (gained as f64 / (time as f64 / 1000.0), time))
    }

    /// The moment, in milliseconds since 1970, that was so long after the run's start.
    fn unix(&self, since_start: u64) -> Option<u64> {
        Some(self.history.started()?.saturating_add(since_start))
    }

    /// The journal of an incident that this run has not lived to write: what it is, what had happened, how it ended.
    pub fn journal(&self, name: &str) -> String {
        let mut header = self.history.run.clone();
        if let Value::Object(header) = &mut header {
            // What is the recorder's alone.
            for own in ["started_ms", "boot_id", "group"] {
                header.shift_remove(own);
            }
            header.insert("id".into(), name.into());
            // There may have been no room for them.
            header.entry("configured_hooks").or_insert_with(|| json!([]));
        }
        let mut text = header.to_string();
        for entry in self.climb().chain(self.last_entries()) {
            let _ = write!(text, "\n{entry}");
        }
        text
    }

    /// What had happened since memory was last normal.
    fn climb(&self) -> impl Iterator<Item = Value> {
        let events = &self.history.events;
        let is_calm = |event: &Event| event.kind == Kind::StageEnded && event.stage == Stage::Normal;
        let climb = events.iter().rposition(is_calm).map_or(0, |last| last.saturating_add(1));
        let first = climb.max(events.len().saturating_sub(EVENTS_TOLD));
        let told = events.iter().skip(first).filter(|event| event.kind != Kind::IncidentBegan);
        told.map(|event| event.json(self.unix(event.since_start).unwrap_or(0)))
    }

    /// What a record that was written up to so many seconds after the start does not have yet, and the end.
    pub fn entries_after(&self, seconds: f64) -> Vec<Value> {
        // The record has milliseconds.
        let is_later = |entry: &Value| entry["seconds"].as_f64().is_some_and(|at| at > seconds + 0.0005);
        self.climb().filter(is_later).chain(self.last_entries()).collect()
    }

    /// What a record is to say of it in one sentence: of this app, which was last seen so.
    pub fn summary(&self, app: &str, measure: &str) -> String {
        match self.ending {
            Ending::OomKilled { .. } => format!("the kernel's OOM killer killed {app}: {measure}"),
            Ending::Machine => {
                format!("{app} was killed, or ended with the machine, while its memory was high: {measure}")
            }
            Ending::Killed => format!("{app} was killed from outside while its memory was high: {measure}"),
            Ending::Exited(_) => format!("{app} ended while its memory was high: {measure}"),
        }
    }

    /// The same in a word.
    pub const fn outcome(&self) -> &'static str {
        match self.ending {
            Ending::OomKilled { .. } => "oom-killed",
            Ending::Machine | Ending::Killed | Ending::Exited(_) => "exited",
        }
    }

    /// The end.
    fn last_entries(&self) -> [Value; 2] {
        let pulse = &self.history.pulse;
        let (unix, seconds) = (self.unix(pulse.since_start).unwrap_or(0), pulse.since_start as f64 / 1000.0);
        let oom_killed = matches!(self.ending, Ending::OomKilled { .. });
        let samples = self.history.samples();
        let stat = samples.last().map(|(_, sample)| sample.stat);
        let sample = told::sample(pulse.usage, pulse.gauged, pulse.limit, pulse.rate, stat);
        let found = json!({
            "unix_ms": unix,
            "seconds": seconds,
            "event": "found-by-next-run",
            "text": self.sentence(),
            "certain": self.ending == Ending::OomKilled { certain: true },
            "sample": sample,
        });
        let exited = json!({
            "unix_ms": unix,
            "seconds": seconds,
            "event": "app-exited",
            "exit": {"signal": "SIGKILL"},
            "oom_killed": oom_killed,
            "stopped": false,
        });
        [found, exited]
    }
}

fn span(milliseconds: u64) -> Span {
    Span(Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::super::told::{Course, Pulse, Sample};
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A run of so many seconds, with a limit of 1000 MiB.
    fn run(seconds: u32, level: impl Fn(u32) -> u64) -> History {
        let samples = (0..seconds).map(|number| {
            let level = level(number) * MIB;
            let course = Course { least: level, most: level, last: level };
            Sample { number, looks: 1, usage: course, gauged: Some(course), ..Sample::default() }
        });
        let pulse = Pulse {
            since_start: u64::from(seconds) * 1000,
            gauged: level(seconds) * MIB,
            limit: Some(1000 * MIB),
            oom_kill: Some(0),
            unix: 1_795_326_301_000,
            ..Pulse::default()
        };
        let run = json!({"boot_id": "b", "app": {"command": ["/usr/bin/app", "--password=x"]}});
        History { run, pulse, rings: vec![(1, samples.collect())], ..History::default() }
    }

    fn now(boot: &str, oom_kills: u64) -> Now {
        Now { boot_id: boot.into(), oom_kills: Some(oom_kills) }
    }

    #[test]
    fn how_a_run_ended_is_told_from_what_it_left() {
        let calm = run(100, |_| 500);
        let exited = History { pulse: Pulse { exit: Some(0), ..calm.pulse }, ..calm.clone() };
        let near = run(100, |_| 985);
        let fast = History { pulse: Pulse { rate: 400e6, ..calm.pulse }, ..calm.clone() };
        for (history, now, ending) in [
            (&exited, now("b", 5), Ending::Exited(0)),
            (&calm, now("b", 0), Ending::Killed),
            (&calm, now("b", 1), Ending::OomKilled { certain: true }),
            (&calm, now("other", 1), Ending::Machine),
            (&near, now("b", 0), Ending::OomKilled { certain: false }),
            (&near, Now { boot_id: "b".into(), oom_kills: None }, Ending::OomKilled { certain: false }),
            // Killed in the night, and the machine was restarted before the next run.
            (&near, now("other", 0), Ending::OomKilled { certain: false }),
            (&fast, now("b", 0), Ending::OomKilled { certain: false }),
        ] {
            assert_eq!(Ending::of(history, &now), ending, "{:?}", history.pulse);
        }
    }

    #[test]
    fn one_sentence_says_it_all_and_no_secret() {
        let mut history = run(600, |second| if second < 360 { 100 } else { 100 + u64::from(second - 360) * 890 / 240 });
        let sample = crate::engine::event::Sample { gauged: 970 * MIB, limit: Some(1000 * MIB), ..Default::default() };
        let note = crate::engine::event::Note::StageBegan { stage: Stage::Kill, from: Stage::Stop, sample };
        let event = Event { since_start: 597_000, ..Event::of(&note).unwrap() };
        history.events.push(event);
        history.pulse.stage = Stage::Kill;
        let obituary = Obituary::new(&history, &now("b", 1));
        assert_eq!(
            obituary.sentence(),
            "the last run of app, last seen at 2026-11-22T05:55:01Z after 10 min 0 s, was killed by the kernel's OOM killer, \
             3 s after 97%; it grew 3.7 MiB/s for 3 min 57 s"
        );
        let journal = obituary.journal("one");
        let record = crate::incident::record::Record::new(&journal, 0, Vec::new());
        assert_eq!(record.outcome(), "oom-killed");
        assert!(record.headline().starts_with("the kernel's OOM killer killed app: 990 MiB of 1000 MiB (99%)"));
        let quiet = History { pulse: Pulse { exit: Some(75), ..history.pulse }, ..history.clone() };
        let sentence = Obituary::new(&quiet, &now("b", 1)).sentence();
        assert!(sentence.ends_with(", ended with 75"), "{sentence}");
    }

    #[test]
    fn growth_is_that_of_the_end() {
        let growth = |level: fn(u32) -> u64| {
            let history = run(600, level);
            Obituary::new(&history, &now("b", 0)).growth().map(|(rate, time)| (rate / MIB as f64, time as f64 / 1000.0))
        };
        let is_about = |growth: Option<(f64, f64)>, rate: f64, time: f64| {
            let (found, took) = growth.unwrap();
            assert!((found / rate - 1.0).abs() < 0.1 && (took / time - 1.0).abs() < 0.1, "{found} {took}");
        };
        assert_eq!(growth(|_| 500), None);
        assert_eq!(growth(|second| 900 - u64::from(second)), None);
        // Up for a minute.
        is_about(growth(|second| if second < 540 { 300 } else { 300 + u64::from(second - 540) * 10 }), 10.0, 60.0);
        // Higher before, and again now.
        is_about(growth(|second| if second < 500 { 900 } else { 300 + u64::from(second - 500) * 5 }), 5.0, 100.0);
        // A saw tooth on the way up.
        is_about(growth(|second| 100 + u64::from(second) + u64::from(second % 10) * 5), 1.0, 600.0);
    }
}
