//! All that a screen and its JSON show of a run, derived once from its recorder.

use std::time::Duration;

use serde_json::Value;

use super::processes::Processes;
use crate::cli::parse_threshold;
use crate::config::Reach;
use crate::engine::settings::{Stage, Threshold};
use crate::recorder::ending::Ending;
use crate::recorder::reader::{History, Slot};
use crate::recorder::told::{Event, Kind, Sample};
use crate::text::plain;

/// How far a chart can go back, chosen by itself; milliseconds.
const LENGTHS: [u64; 13] = [
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    20 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    24 * HOUR,
    48 * HOUR,
];

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// A century is no forecast.
const FARTHEST: f64 = 3.15e9;

/// A look that is older than this is told of. Milliseconds; memini looks once a second at least.
const OLD: u64 = 5000;

/// Whether the run goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It does; memini's process id, if it can be seen from here.
    Running(Option<i32>),
    /// It does not: how it ended, in one sentence.
    Ended(Ending, String),
}

/// A run at a moment.
#[derive(Clone, Debug)]
pub struct Picture<'a> {
    /// What was recorded.
    pub history: &'a History,
    /// Whether it goes on.
    pub state: State,
    /// Where the recorder is; empty in memory.
    pub recorder: String,
    /// What else is to be said, a sentence each.
    pub remarks: Vec<String>,
    /// Who holds how much; `None` where nobody can be looked at.
    pub processes: Option<Processes>,
    /// Milliseconds since 1970.
    pub now: u64,
    /// How far back the chart goes.
    pub reach: Reach,
    /// The samples, in their order.
    pub slots: Vec<Slot>,
}

impl<'a> Picture<'a> {
    /// Of a run.
    pub fn new(history: &'a History, state: State, recorder: &str, now: u64, reach: Reach) -> Self {
        Self {
            history,
            state,
            recorder: plain(recorder),
            remarks: Vec::new(),
            processes: None,
            now,
            reach,
            slots: history.slots(),
        }
    }

    /// Whether it goes on.
    pub const fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// The command line, its words made plain.
    pub fn command(&self) -> Vec<String> {
        let words = self.history.run.pointer("/app/command").and_then(Value::as_array);
        words.into_iter().flatten().filter_map(Value::as_str).map(plain).collect()
    }

    /// A part of what the run is, made plain.
    pub fn told(&self, key: &str) -> String {
        plain(self.history.told(key))
    }

    /// The app's process id, as memini sees it.
    pub fn app_pid(&self) -> Option<u64> {
        self.history.run.pointer("/app/pid").and_then(Value::as_u64)
    }

    /// Milliseconds since 1970 of a moment that is told in milliseconds since memini's start.
    pub fn unix(&self, since_start: u64) -> Option<u64> {
        Some(self.history.started()?.saturating_add(since_start))
    }

    /// How long it has run, or had; milliseconds.
    pub fn up_for(&self) -> u64 {
        let seen = self.history.pulse.since_start;
        seen.saturating_add(if self.is_running() { self.age() } else { 0 })
    }

    /// How long ago the last look was; milliseconds.
    pub fn age(&self) -> u64 {
        self.unix(self.history.pulse.since_start).map_or(0, |seen| self.now.saturating_sub(seen))
    }

    /// The same, where it is worth telling.
    pub fn old(&self) -> Option<Duration> {
        (self.is_running() && self.age() > OLD).then(|| Duration::from_millis(self.age()))
    }

    /// Whether memory was looked at at all.
    pub fn has_looked(&self) -> bool {
        self.history.pulse.since_start > 0
    }

    /// What is left below the limit; bytes.
    pub fn room(&self) -> Option<u64> {
        let pulse = &self.history.pulse;
        pulse.limit.map(|limit| limit.saturating_sub(pulse.gauged))
    }

    /// What is in use of the limit, in percent.
    pub fn percent(&self) -> Option<f64> {
        let pulse = &self.history.pulse;
        let limit = pulse.limit.filter(|limit| *limit > 0)?;
        Some(pulse.gauged as f64 / limit as f64 * 100.0)
    }

    /// Seconds until the limit at this rate; `None`: never, or so late that it says nothing.
    pub fn seconds_to_limit(&self, rate: f64) -> Option<f64> {
        let room = self.room()?;
        let seconds = room as f64 / rate;
        (rate > 0.0 && seconds < FARTHEST).then_some(seconds)
    }

    /// The name of the gauge.
    pub fn gauge(&self) -> &'static str {
        let gauge = self.history.run.pointer("/settings/gauge").and_then(Value::as_str);
        ["working-set", "usage"].into_iter().find(|name| gauge == Some(*name)).unwrap_or("unreclaimable")
    }

    /// When the stages begin, as far as that was recorded.
    pub fn thresholds(&self) -> [(Stage, Threshold); 4] {
        let settings = self.history.run.get("settings");
        Stage::LADDER.map(|stage| {
            let told = settings.and_then(|settings| settings.get(format!("{stage}_at"))).and_then(Value::as_str);
            (stage, told.and_then(|text| parse_threshold(text).ok()).unwrap_or(Threshold::Off))
        })
    }

    /// Since when the present stage has been, in milliseconds since memini's start: since it began, or since a higher one was
    /// over.
    pub fn stage_since(&self) -> Option<u64> {
        let is_change = |event: &&Event| matches!(event.kind, Kind::StageBegan | Kind::StageEnded);
        let last = self.history.events.iter().rev().find(is_change)?;
        (last.stage == self.history.pulse.stage).then_some(last.since_start)
    }

    /// The newest sample.
    pub fn last(&self) -> Option<&Sample> {
        self.slots.last().map(|slot| &slot.sample)
    }

    /// How far back the chart goes; milliseconds.
    pub fn length(&self) -> u64 {
        match self.reach {
            Reach::TenMinutes => 10 * MINUTE,
            Reach::ThreeHours => 3 * HOUR,
            Reach::TwoDays => 48 * HOUR,
            Reach::Auto => {
                let seen = self.end();
                LENGTHS.into_iter().find(|length| *length >= seen).unwrap_or(48 * HOUR)
            }
        }
    }

    /// The last moment of the chart, in milliseconds since memini's start.
    pub fn end(&self) -> u64 {
        self.history.pulse.since_start.max(self.slots.last().map_or(0, |slot| slot.start))
    }
}
