//! What a report tells, read from `incident.json`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::incident::SCHEMA;
use crate::text::plain;
use crate::units::clock;

/// How many moments and how many processes or suspects are told. memini notes ten processes at a moment at the most, and 32 and ten
/// suspects in its evidence; its journal, 64 KiB, has room for some eighty moments.
const MOST_MOMENTS: usize = 200;
const MOST_PROCESSES: usize = 1000;

/// A text that neither acts on a terminal nor breaks a line, whoever has chosen it. `null` is an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// Makes it plain.
    pub fn new(text: &str) -> Self {
        Self(plain(text))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
        Ok(Self::new(&text.unwrap_or_default()))
    }
}

/// `null` as what there is without it.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An incident.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Story {
    schema: Text,
    /// The name of its folder.
    pub id: Text,
    /// What happened, in one sentence with its numbers.
    pub summary: Text,
    /// How it stands.
    pub outcome: Text,
    /// What memini ended with.
    pub exit_code: Option<u64>,
    /// The first moment.
    pub began: Text,
    /// memini's version.
    pub memini: Text,
    /// The container's, often.
    pub hostname: Text,
    /// What was run.
    #[serde(deserialize_with = "or_default")]
    pub app: App,
    /// Where memory was read.
    pub source: Text,
    #[serde(deserialize_with = "or_default")]
    settings: Map<String, Value>,
    /// In the order of the command line.
    #[serde(deserialize_with = "or_default")]
    pub configured_hooks: Vec<Configured>,
    /// `None`: no look was taken.
    pub evidence: Option<Evidence>,
    /// The runs of hooks.
    #[serde(deserialize_with = "or_default")]
    pub hooks: Vec<Hook>,
    /// Its files.
    #[serde(deserialize_with = "or_default")]
    pub artifacts: Vec<Artifact>,
    /// What was left out.
    #[serde(deserialize_with = "or_default")]
    pub not_done: Vec<Undone>,
    /// How often the app was braked.
    #[serde(deserialize_with = "or_default")]
    pub brakes: Brakes,
    /// Who held how much, as memini has noted it itself.
    #[serde(deserialize_with = "or_default")]
    pub processes: Vec<Seen>,
    /// What happened, in order.
    #[serde(deserialize_with = "or_default")]
    pub timeline: Vec<Entry>,
    /// What found no room in the journal.
    #[serde(deserialize_with = "or_default")]
    pub timeline_entries_lost: u64,
    /// What a recorder has kept; the finest mesh may come anywhere.
    #[serde(deserialize_with = "or_default")]
    pub history: Vec<History>,
    /// When memini started: the time since 1970.
    #[serde(skip)]
    start: Option<Duration>,
}

/// What was run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct App {
    /// Its words.
    #[serde(deserialize_with = "or_default")]
    pub command: Vec<Text>,
}

/// A hook, as it was configured.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Configured {
    /// As it was given.
    pub command: Text,
}

/// What the looks at the processes say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// Where the memory is, in one phrase.
    pub place: Text,
    /// Bytes, since the first look.
    pub growth: Option<i64>,
    /// The time since then.
    #[serde(deserialize_with = "or_default")]
    pub span: Duration,
    /// The most likely first.
    #[serde(deserialize_with = "or_default")]
    pub suspects: Vec<Suspect>,
    /// Whether the first of them can be called the cause.
    pub is_conclusive: bool,
    /// What was compared, the first look first.
    #[serde(deserialize_with = "or_default")]
    pub looks: Vec<Look>,
    /// The largest first.
    #[serde(deserialize_with = "or_default")]
    pub processes: Vec<Held>,
}

/// Who may have grown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Suspect {
    /// What it is.
    pub what: Text,
    /// Where that is.
    pub place: Text,
    /// Whose it is, if it is one process's.
    pub process: Option<Who>,
    /// What it takes now.
    pub bytes: u64,
    /// Bytes, since the first look.
    pub growth: Option<i64>,
    /// With what its objects refer to.
    pub up_to: Option<u64>,
    /// How many there are.
    pub count: Option<u64>,
    /// How many more.
    pub count_growth: Option<i64>,
    /// Bytes a second.
    pub rate: Option<f64>,
    /// 1: more at each look.
    pub consistency: Option<f64>,
    /// Bytes at each look; `None` where nobody could tell.
    #[serde(deserialize_with = "or_default")]
    pub sizes: Vec<Option<u64>>,
    /// How many at each look.
    #[serde(deserialize_with = "or_default")]
    pub counts: Vec<Option<u64>>,
}

/// Which process.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Who {
    /// Its number.
    pub pid: i64,
    /// Its name for itself.
    pub comm: Text,
}

/// When it was looked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Look {
    /// At which stage.
    pub stage: Text,
    /// When.
    pub at: Text,
}

/// What a process held at each of the looks.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Held {
    /// Its number.
    pub pid: i64,
    /// Its parent's.
    pub parent: i64,
    /// Its name for itself.
    pub comm: Text,
    /// Bytes at each look.
    #[serde(deserialize_with = "or_default")]
    pub sizes: Vec<Option<u64>>,
}

/// A run of a hook.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// When it ran.
    pub stage: Text,
    /// As it was given.
    pub command: Text,
    /// For how long.
    pub seconds: Option<f64>,
    /// How it ended.
    pub end: Value,
    /// The file with what it printed; empty if there is none.
    pub output: Text,
}

/// A file of the incident.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Artifact {
    /// Relative to the incident's folder.
    pub file: Text,
    /// Its size.
    pub bytes: u64,
    /// In hexadecimal; empty if it is not known.
    pub sha256: Text,
    /// Whether it was looked for and is not there.
    pub missing: bool,
}

/// Something that was not done.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Undone {
    /// When; empty for all the time.
    pub at: Text,
    /// What, and why.
    pub text: Text,
}

/// How often the app was stopped for a moment.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Brakes {
    /// How often.
    pub times: u64,
    /// For how many seconds in all.
    pub stopped: f64,
}

/// Who held how much at one moment.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// When.
    pub at: Text,
    /// At which stage.
    pub stage: Text,
    /// How many processes there were.
    pub count: u64,
    /// The largest of them.
    #[serde(deserialize_with = "or_default")]
    pub list: Vec<Process>,
}

/// One process at that moment.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its number.
    pub pid: i64,
    /// Its parent's.
    pub parent: i64,
    /// Its name for itself.
    pub comm: Text,
    rss_anon: u64,
    rss_shmem: u64,
    swap: u64,
}

impl Process {
    /// What it holds that cannot be let go.
    pub fn held(&self) -> u64 {
        self.rss_anon.saturating_add(self.rss_shmem).saturating_add(self.swap)
    }
}

/// Something that happened.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Entry(Map<String, Value>);

/// One gauged point.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// All that is charged.
    pub usage: u64,
    /// What thresholds are compared with.
    pub gauged: u64,
    /// The limit that counts.
    pub limit: Option<u64>,
}

impl Entry {
    /// A text; empty if there is none.
    pub fn text(&self, key: &str) -> Text {
        Text::new(self.0.get(key).and_then(Value::as_str).unwrap_or_default())
    }

    /// What happened.
    pub fn event(&self) -> &str {
        self.0.get("event").and_then(Value::as_str).unwrap_or_default()
    }

    /// A whole number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.as_u64()
    }

    /// A number that is finite and not below nothing.
    pub fn amount(&self, key: &str) -> Option<f64> {
        self.0.get(key)?.as_f64().filter(|number| (0.0..1e12).contains(number))
    }

    /// Whether this is so.
    pub fn is(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Anything; null if there is none.
    pub fn value(&self, key: &str) -> &Value {
        self.0.get(key).unwrap_or(&Value::Null)
    }

    /// Seconds since memini started.
    pub fn seconds(&self) -> f64 {
        self.amount("seconds").unwrap_or(0.0)
    }

    /// What was seen then.
    pub fn sample(&self) -> Option<Sample> {
        let sample = self.0.get("sample")?.as_object()?;
        let number = |key: &str| sample.get(key).and_then(Value::as_u64);
        Some(Sample {
            usage: number("usage").unwrap_or(0),
            gauged: number("gauged").unwrap_or(0),
            limit: number("limit").filter(|limit| *limit > 0),
        })
    }

    /// Where the bytes of its sample are.
    pub fn composition(&self) -> Option<&Map<String, Value>> {
        self.0.get("sample")?.get("composition")?.as_object()
    }
}

/// What a recorder has kept of one mesh.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct History {
    /// Seconds from one point to the next.
    pub interval: f64,
    /// In the order of time.
    #[serde(deserialize_with = "or_default")]
    pub points: Vec<Kept>,
}

/// One point of it: the lowest, the highest and the last value in the interval that ends here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Since memini started.
    pub seconds: f64,
    /// All that is charged.
    pub usage: [u64; 3],
    /// What thresholds are compared with.
    pub gauged: [u64; 3],
    /// The limit that counts.
    pub limit: Option<u64>,
    /// By the names of `memory.stat`.
    #[serde(deserialize_with = "or_default")]
    pub composition: Map<String, Value>,
}

impl Story {
    /// Reads `incident.json`.
    ///
    /// # Errors
    /// In one line, where it is none.
    pub fn of(json: &str) -> Result<Self, String> {
        let story: Self = serde_json::from_str(json).map_err(|error| format!("it is no incident.json: {error}"))?;
        if &*story.schema == SCHEMA {
            Ok(story.bounded().with_summary().with_start())
        } else if story.schema.starts_with("memini.incident/") {
            Err(format!("it is a {}, and this memini reads {SCHEMA}", story.schema))
        } else {
            Err(format!("it does not say that it is a {SCHEMA}"))
        }
    }

    /// Whatever is missing, a report has a headline.
    fn with_summary(mut self) -> Self {
        if self.summary.is_empty() {
            self.summary = Text::new(&format!("an incident of {}", self.program()));
        }
        self
    }

    /// The settings, as they are shown.
    pub fn settings(&self) -> impl Iterator<Item = (Text, Text)> {
        self.settings.iter().map(|(key, value)| {
            let value = match value {
                Value::String(text) => Text::new(text),
                Value::Null => Text::new("none"),
                other => Text::new(&other.to_string()),
            };
            (Text::new(key), value)
        })
    }

    /// One of them.
    pub fn setting(&self, key: &str) -> &Value {
        self.settings.get(key).unwrap_or(&Value::Null)
    }

    /// The name of the app's program.
    pub fn program(&self) -> &str {
        let path = self.app.command.first().map_or("the app", |word| &**word);
        path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
    }

    /// The summary without its numbers, and the numbers: they stand apart on a page.
    pub fn headline(&self) -> (&str, &str) {
        self.summary.rsplit_once(": ").unwrap_or((&*self.summary, ""))
    }

    /// A record that is not memini's own may have more than anybody could read, and a table of moments by processes grows with both.
    fn bounded(mut self) -> Self {
        self.processes.truncate(MOST_MOMENTS);
        self.processes.iter_mut().for_each(|seen| seen.list.truncate(MOST_PROCESSES));
        if let Some(evidence) = &mut self.evidence {
            evidence.looks.truncate(MOST_MOMENTS);
            evidence.suspects.truncate(MOST_PROCESSES);
            evidence.processes.truncate(MOST_PROCESSES);
            let sizes = evidence.suspects.iter_mut().map(|suspect| &mut suspect.sizes);
            let sizes = sizes.chain(evidence.processes.iter_mut().map(|process| &mut process.sizes));
            sizes.for_each(|sizes| sizes.truncate(MOST_MOMENTS));
        }
        self
    }

    /// Every clock rests on it.
    fn with_start(mut self) -> Self {
        self.start = self.find_start();
        self
    }

    fn find_start(&self) -> Option<Duration> {
        let entry = self.timeline.iter().find(|entry| !entry.text("at").is_empty())?;
        let at = humantime::parse_rfc3339(&entry.text("at")).ok()?.duration_since(UNIX_EPOCH).ok()?;
        at.checked_sub(Duration::try_from_secs_f64(entry.seconds()).ok()?)
    }

    /// `05:45:01` for so many seconds after memini's start, in UTC.
    pub fn clock(&self, seconds: f64) -> String {
        clock_of(&self.moment(seconds))
    }

    /// As [`Story::clock`], within a picture of so long a time: with its day, `11-22 05:45`, where the days differ.
    pub fn clock_in(&self, seconds: f64, (from, to): (f64, f64)) -> String {
        let day = |seconds: f64| self.moment(seconds).get(..10).map(str::to_owned);
        if day(from) == day(to) {
            return self.clock(seconds);
        }
        let moment = self.moment(seconds);
        moment.get(5..16).unwrap_or_default().replace('T', " ")
    }

    /// In RFC 3339; empty where that is not known.
    fn moment(&self, seconds: f64) -> String {
        let since = Duration::try_from_secs_f64(seconds).ok();
        let at = since.and_then(|since| self.start?.checked_add(since));
        at.and_then(|at| clock(u64::try_from(at.as_millis()).ok()?)).unwrap_or_default()
    }

    /// The first moment of the timeline; seconds since memini started.
    pub fn beginning(&self) -> f64 {
        self.timeline.first().map_or(0.0, Entry::seconds)
    }

    /// From the first entry of the timeline to the last.
    pub fn duration(&self) -> Option<Duration> {
        let (first, last) = (self.timeline.first()?, self.timeline.last()?);
        Duration::try_from_secs_f64(last.seconds() - first.seconds()).ok()
    }

    /// The sample at which most was held.
    pub fn peak(&self) -> Option<Sample> {
        self.timeline.iter().filter_map(Entry::sample).max_by_key(|sample| sample.gauged)
    }
}

/// `05:45:01` of a moment as it stands in the record.
pub fn clock_of(at: &str) -> String {
    at.get(11..19).unwrap_or_default().to_owned()
}

/// `2026-11-22 05:45:01` of it.
pub fn day_and_clock(at: &str) -> String {
    match (at.get(..10), at.get(11..19)) {
        (Some(day), Some(clock)) => format!("{day} {clock}"),
        _ => String::new(),
    }
}

/// What a stage is called in a report.
pub fn stage_name(stage: &str) -> &str {
    match stage {
        "normal" => "baseline",
        "" => "look",
        stage => stage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_incident_is_refused_in_one_line() {
        for (text, why) in [
            ("", "it is no incident.json: EOF while parsing a value at line 1 column 0"),
            ("[]", "it does not say that it is a memini.incident/1"),
            ("{}", "it does not say that it is a memini.incident/1"),
            (r#"{"schema":"memini.snapshot/1"}"#, "it does not say that it is a memini.incident/1"),
            (r#"{"schema":"memini.incident/2"}"#, "it is a memini.incident/2, and this memini reads memini.incident/1"),
            (r#"{"schema":"memini.incident/1","timeline":7}"#, "it is no incident.json: invalid type: integer `7`"),
        ] {
            let said = Story::of(text).unwrap_err();
            assert!(said.starts_with(why) && !said.contains('\n'), "{text}: {said}");
        }
    }

    #[test]
    fn nulls_are_as_good_as_nothing_and_what_is_not_known_is_passed_over() {
        let story = Story::of(
            r#"{"schema":"memini.incident/1","id":null,"app":null,"timeline":null,"evidence":null,"new":[1]}"#,
        );
        let story = story.unwrap();
        assert_eq!((&*story.id, story.program(), story.timeline.len()), ("", "the app", 0));
        assert_eq!((story.duration(), story.clock(1.0)), (None, String::new()));
    }

    #[test]
    fn every_text_is_plain_whoever_has_chosen_it() {
        let story = Story::of(
            r#"{"schema":"memini.incident/1","app":{"command":["/bin/a\u001b[2J\n"]},"settings":{"a\nb":"\u202ec"},
               "timeline":[{"at":"2026-11-22T05:45:01.000Z","seconds":3.5,"event":"stopping","reason":"\u0007"}]}"#,
        );
        let story = story.unwrap();
        assert_eq!(story.program(), "a\\u{1b}[2J\\n");
        let (key, value) = story.settings().next().unwrap();
        assert_eq!((&*key, &*value), ("a\\nb", "\\u{202e}c"));
        assert_eq!(&*story.timeline[0].text("reason"), "\\u{7}");
        assert_eq!(story.clock(5.5), "05:45:03");
        assert_eq!(story.clock_in(5.5, (0.0, 9.0)), "05:45:03");
        assert_eq!(story.clock_in(5.5, (0.0, 90_000.0)), "11-22 05:45");
        assert_eq!(story.headline(), ("an incident of a\\u{1b}[2J\\n", ""));
    }
}
