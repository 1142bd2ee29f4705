//! Makes `incident.json` and the termination message out of a journal. Runs in a worker.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::SCHEMA;
use crate::recorder::ending::Obituary;
use crate::text::acts;
use crate::units::{self, Rate, Size, Span};

/// What Kubernetes keeps of a termination message.
pub const LONGEST_MESSAGE: usize = 4096;

/// How many of the stages that began are told in the message: the first ones and the last ones of many.
const STAGES_TOLD: usize = 8;

/// What the record says by itself, whatever stands in the journal's header.
const RECORDS_OWN: [&str; 13] = [
    "schema",
    "summary",
    "outcome",
    "exit_code",
    "began",
    "last",
    "evidence",
    "hooks",
    "artifacts",
    "not_done",
    "processes",
    "timeline",
    "history",
];

/// How many lines of what the evidence says stand in the message.
const FINDINGS_TOLD: usize = 4;

/// A file in `artifacts/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifact {
    /// Its name there.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal, if it was computed.
    pub sha256: Option<String>,
}

impl Artifact {
    fn json(&self) -> Value {
        json!({"file": format!("artifacts/{}", self.name), "bytes": self.bytes, "sha256": self.sha256})
    }
}

/// What the built-in evidence says.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The file it stands in, relative to the incident's folder.
    pub file: String,
    /// For programs.
    pub findings: Value,
    /// For people: where the memory is, then the suspects.
    pub lines: Vec<String>,
}

/// The journal of an incident, read back.
#[derive(Debug)]
pub struct Record {
    header: Map<String, Value>,
    entries: Vec<Value>,
    lost: u64,
    files: Vec<Artifact>,
    found: Found,
    history: Value,
}

impl Record {
    /// Reads a journal; `files` are the artifacts on disk.
    ///
    /// A line that is no JSON object is counted with the lost ones: the journal is memini's own, but what is left of it
    /// shall be readable whatever happened to it.
    pub fn new(journal: &str, lost: u64, files: Vec<Artifact>) -> Self {
        let (header, entries, found) = (Map::new(), Vec::new(), Found::default());
        let mut record = Self { header, entries, lost, files, found, history: Value::Null };
        for line in journal.lines() {
            match serde_json::from_str(line) {
                Ok(Value::Object(entry)) if entry.contains_key("event") => record.entries.push(Value::Object(entry)),
                Ok(Value::Object(header)) if record.header.is_empty() => record.header = header,
                _ => record.lost += 1,
            }
        }
        record
    }

    /// The files of the evidence, relative to the incident's folder, the newest first.
    pub fn evidence_files(&self) -> impl Iterator<Item = &str> {
        self.all("evidence").rev().filter_map(|entry| entry.get("file")?.as_str())
    }

    /// The SHA-256 that a worker has told of this file, if it is still as large.
    pub fn told_digest(&self, name: &str, bytes: u64) -> Option<&str> {
        let of_file = |entry: &&Value| {
            text_of(entry, "file").strip_prefix("artifacts/") == Some(name) && number(entry, "bytes") == bytes
        };
        self.all("digest").rfind(of_file)?.get("sha256")?.as_str()
    }

    /// Its artifacts, in place of those that were known.
    pub fn keep(&mut self, files: Vec<Artifact>) {
        self.files = files;
    }

    /// What the best of them says.
    pub fn tell(&mut self, found: Found) {
        self.found = found;
    }

    /// What a recorder has kept, as [`super::history::of`] tells it.
    pub fn remember(&mut self, history: Value) {
        self.history = history;
    }

    /// `incident.json`, with a newline at its end. What a reader asks first comes first.
    pub fn json(&self) -> String {
        let mut header = self.header.clone();
        let mut incident = Map::new();
        incident.insert("schema".into(), SCHEMA.into());
        incident.insert("id".into(), header.shift_remove("id").unwrap_or_default());
        incident.insert("summary".into(), self.headline().into());
        incident.insert("outcome".into(), self.outcome().into());
        incident.insert("exit_code".into(), self.exit_code().map_or(Value::Null, Value::from));
        incident.insert("began".into(), self.entries.first().map_or(Value::Null, when));
        incident.insert("last".into(), self.entries.last().map_or(Value::Null, when));
        // A damaged journal may say what it has no business to say.
        incident.extend(header.into_iter().filter(|(key, _)| !RECORDS_OWN.contains(&key.as_str())));
        incident.insert("evidence".into(), self.evidence());
        incident.insert("hooks".into(), self.runs().map(|started| self.hook(started)).collect());
        incident.insert("artifacts".into(), self.artifacts());
        incident.insert("not_done".into(), self.not_done());
        incident.insert("brakes".into(), self.brakes());
        incident.insert("processes".into(), self.all("processes").map(without_event).collect());
        incident.insert(
            "timeline".into(),
            self.entries.iter().filter(|entry| !is_told_elsewhere(entry)).map(with_time).collect(),
        );
        incident.insert("timeline_entries_lost".into(), self.lost.into());
        if !self.history.is_null() {
            incident.insert("history".into(), self.history.clone());
        }
        let mut incident = Value::Object(incident);
        round(&mut incident);
        super::history::print(incident)
    }

    /// What the evidence says, with the name of its file; null without any.
    fn evidence(&self) -> Value {
        let mut evidence = self.found.findings.clone();
        if let Some(fields) = evidence.as_object_mut() {
            fields.insert("file".into(), self.found.file.clone().into());
        }
        let looks = evidence.get_mut("looks").and_then(Value::as_array_mut);
        for look in looks.into_iter().flatten().filter_map(Value::as_object_mut) {
            let taken = look.shift_remove("taken_ms").and_then(|taken| taken.as_u64());
            look.insert("at".into(), taken.map_or(Value::Null, moment));
        }
        evidence
    }

    /// What was left undone, and why: what workers have told, and what the timeline and the settings say.
    fn not_done(&self) -> Value {
        let settings = self.header.get("settings");
        let setting = |key: &str| settings.and_then(|settings| settings.get(key)?.as_bool());
        let by_setting = [
            ("dry_run", true, "nothing was done about memory: --dry-run"),
            ("capture", false, "the processes were not looked at: --capture off"),
            ("brake", false, "fast growth was not braked: --no-brake"),
        ];
        let wanted = by_setting.into_iter().filter(|(key, value, _)| setting(key) == Some(*value));
        let wanted = wanted.map(|(_, _, text)| json!({"at": null, "text": text}));
        let happened =
            self.entries.iter().filter_map(|entry| Some(json!({"at": when(entry), "text": left_out(entry)?})));
        wanted.chain(happened).collect()
    }

    /// How often, and for how long in all, the app was stopped to be looked at.
    fn brakes(&self) -> Value {
        let times: u64 = self.all("braked").map(|entry| number(entry, "times")).sum();
        let stopped =
            self.all("braked").filter_map(|entry| entry.get("stopped")?.as_f64()).fold(0.0, |all, one| all + one);
        json!({"times": times, "stopped": stopped})
    }

    fn artifacts(&self) -> Value {
        self.files.iter().map(Artifact::json).collect()
    }

    /// How it stands: `open`, `recovered`, `stopped`, `killed`, `oom-killed`, `exited`.
    pub fn outcome(&self) -> &'static str {
        if let Some(exit) = self.all("app-exited").last() {
            let killed = ["killing", "grace-over"].iter().any(|kind| self.has(kind));
            return match (flag(exit, "oom_killed"), flag(exit, "stopped")) {
                (true, _) => "oom-killed",
                (false, true) if killed => "killed",
                (false, true) => "stopped",
                (false, false) => "exited",
            };
        }
        if self.has("recovered") { "recovered" } else { "open" }
    }

    fn has(&self, kind: &str) -> bool {
        self.all(kind).next().is_some()
    }

    fn exit_code(&self) -> Option<u64> {
        self.all("exit").last()?.get("code")?.as_u64()
    }

    /// The message for whoever looks at the dead container: what happened, numbers, where the evidence lies.
    pub fn message(&self, folder: &str) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_message(&mut text, folder);
        // Names are the app's own choice, and must not forge a line or act on who reads it.
        let mut text: String =
            text.chars().map(|letter| if acts(letter) && letter != '\n' { ' ' } else { letter }).collect();
        let mut end = text.len().min(LONGEST_MESSAGE);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text
    }

    fn write_message(&self, text: &mut String, folder: &str) -> std::fmt::Result {
        writeln!(text, "{}", self.headline())?;
        for line in self.found.lines.iter().take(FINDINGS_TOLD) {
            writeln!(text, "{line}")?;
        }
        writeln!(text, "evidence: {folder}")?;
        if let Some(code) = self.exit_code() {
            writeln!(text, "exit code: {code}")?;
        }
        if let Some(parts) = self.decisive().and_then(|sample| sample.get("composition")) {
            writeln!(text, "memory: {}", composition(parts))?;
        }
        let mut lists = self.all("processes").filter_map(|entry| entry.get("list")?.as_array());
        if let Some(list) = lists.rfind(|list| !list.is_empty()) {
            for process in list.iter().take(5) {
                let sizes = ["rss_anon", "rss_file", "rss_shmem", "swap"].map(|key| number(process, key));
                let size = sizes.into_iter().fold(0, u64::saturating_add);
                let name = text_of(process, "comm").replace('\n', " ");
                writeln!(text, "process {} {name}: {}", number(process, "pid"), Size(size))?;
            }
        }
        let stages: Vec<&Value> = self.all("stage-began").collect();
        let left_out = stages.len().saturating_sub(STAGES_TOLD);
        for (index, entry) in stages.into_iter().enumerate() {
            if (STAGES_TOLD / 2..STAGES_TOLD / 2 + left_out).contains(&index) {
                if index == STAGES_TOLD / 2 {
                    writeln!(text, "… {left_out} more")?;
                }
                continue;
            }
            let clock = clock(entry);
            writeln!(text, "{clock} {}: {}", text_of(entry, "stage"), measure(entry.get("sample")))?;
        }
        for started in self.runs() {
            let hook = self.hook(started);
            let took = Span(Duration::from_secs_f64(hook["seconds"].as_f64().unwrap_or(0.0)));
            let output = hook["output"].as_str().map(|file| format!(", {file}")).unwrap_or_default();
            writeln!(text, "hook {}: {}, {took}{output}", text_of(&hook, "stage"), end_of(&hook))?;
        }
        Ok(())
    }

    /// The first line.
    pub fn headline(&self) -> String {
        let command = self.command();
        let reason = self.all("stopping").last().map_or("", |entry| reason(text_of(entry, "reason")));
        let outcome = self.outcome();
        if let ("recovered" | "open", Some((verdict, sample))) = (outcome, self.early_look()) {
            return format!("the memory of {command} grows, the verdict is {verdict}: {}", measure(sample));
        }
        let measure = measure(self.decisive());
        match outcome {
            "oom-killed" => format!("the kernel's OOM killer killed {command}: {measure}"),
            "killed" if self.has("killing") => {
                format!("memini killed {command} before the limit was reached: {measure}")
            }
            "killed" => {
                format!("memini stopped {command} because {reason}, and killed it after the grace period: {measure}")
            }
            "stopped" => format!("memini stopped {command} because {reason}: {measure}"),
            "exited" => format!("{command} ended by itself while its memory was high: {measure}"),
            "recovered" => format!("the memory of {command} was high and went down again: {measure}"),
            _ => format!("the memory of {command} is high: {measure}"),
        }
    }

    /// What the verdict was and rested on, where growth was looked at before any stage had begun.
    fn early_look(&self) -> Option<(&str, Option<&Value>)> {
        let told = self.all("verdict").next().filter(|_| !self.has("stage-began"))?;
        Some((text_of(told, "verdict"), told.get("sample")))
    }

    /// The app's name. Not its arguments: they may hold secrets, and an orchestrator shows the message to more people
    /// than may read the record.
    fn command(&self) -> String {
        let words = self.header.get("app").and_then(|app| app.get("command")?.as_array());
        let path = words.and_then(|words| words.first()?.as_str()).unwrap_or("the app");
        path.rsplit('/').next().unwrap_or(path).replace('\n', " ")
    }

    /// What was seen when it was decided; where nothing was, the highest that was seen.
    fn decisive(&self) -> Option<&Value> {
        let of = |kind| self.all(kind).last()?.get("sample");
        let samples = || self.entries.iter().filter_map(|entry| entry.get("sample"));
        of("killing").or_else(|| of("stopping")).or_else(|| samples().max_by_key(|sample| number(sample, "gauged")))
    }

    fn all<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.entries.iter().filter(move |entry| event(entry) == kind)
    }

    /// The beginnings of hooks that really ran.
    fn runs(&self) -> impl Iterator<Item = &Value> {
        self.all("hook-started").filter(|entry| entry.get("run").is_some_and(Value::is_u64))
    }

    /// One run of a hook, from its beginning, its end and its output.
    fn hook(&self, started: &Value) -> Value {
        let run = started.get("run");
        let of_run = |kind| self.all(kind).rfind(|entry| entry.get("run") == run);
        let ended = of_run("hook-ended");
        let output = of_run("hook-output");
        let index = usize::try_from(number(started, "hook")).unwrap_or(usize::MAX);
        let command = self.header.get("configured_hooks").and_then(|hooks| hooks.get(index)?.get("command"));
        json!({
            "run": run,
            "stage": started.get("stage"),
            "command": command,
            "started": when(started),
            "seconds": ended.and_then(|entry| entry.get("after")).or_else(|| ended.map(|_| &Value::Null)),
            "end": ended.and_then(|entry| entry.get("end")),
            "output": output.and_then(|entry| entry.get("file")),
            "output_bytes": output.and_then(|entry| entry.get("bytes")),
        })
    }
}

/// The digest of an artifact that a record tells, if the file is still as large.
pub fn digest_in<'a>(record: &'a Map<String, Value>, name: &str, bytes: u64) -> Option<&'a str> {
    let all = record.get("artifacts")?.as_array()?.iter();
    let mut of_file = all.filter(|told| text_of(told, "file").strip_prefix("artifacts/") == Some(name));
    of_file.find(|told| number(told, "bytes") == bytes)?.get("sha256")?.as_str()
}

/// A record whose run was killed before it could end it: with what the recorder has that it does not have, the end that the
/// next run has found, and the artifacts that are there now.
pub fn complete(mut record: Map<String, Value>, obituary: &Obituary<'_>, files: &[Artifact], history: Value) -> String {
    let told = record.get("timeline").and_then(Value::as_array);
    let told = told.into_iter().flatten().filter_map(|entry| entry.get("seconds")?.as_f64()).fold(-1.0, f64::max);
    let entries = obituary.entries_after(told);
    let words = record.get("app").and_then(|app| app.get("command")?.as_array());
    let path = words.and_then(|words| words.first()?.as_str()).unwrap_or("the app");
    let name = path.rsplit('/').next().unwrap_or(path).replace('\n', " ");
    // The last thing that was seen is told with the end.
    let sample = entries.iter().rev().find_map(|entry| entry.get("sample"));
    record.insert("summary".into(), obituary.summary(&name, &measure(sample)).into());
    record.insert("outcome".into(), obituary.outcome().into());
    record.insert("last".into(), entries.last().map_or(Value::Null, when));
    record.insert("artifacts".into(), files.iter().map(Artifact::json).collect());
    if let Some(timeline) = record.get_mut("timeline").and_then(Value::as_array_mut) {
        timeline.extend(entries.iter().map(with_time));
    }
    record.insert("history".into(), history);
    let mut record = Value::Object(record);
    round(&mut record);
    super::history::print(record)
}

fn event(entry: &Value) -> &str {
    text_of(entry, "event")
}

fn text_of<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(entry: &Value, key: &str) -> u64 {
    entry.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn flag(entry: &Value, key: &str) -> bool {
    entry.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The entry's moment.
fn when(entry: &Value) -> Value {
    moment(number(entry, "unix_ms"))
}

/// Milliseconds since 1970 as RFC 3339, UTC; null where that has no such form (the year 10000).
fn moment(unix_ms: u64) -> Value {
    units::moment(unix_ms).map(|moment| humantime::format_rfc3339_millis(moment).to_string()).into()
}

/// What has a list of its own.
fn is_told_elsewhere(entry: &Value) -> bool {
    matches!(event(entry), "processes" | "left-out" | "digest")
}

/// If something was not done: what, and why.
fn left_out(entry: &Value) -> Option<String> {
    let seconds = |key: &str| {
        let seconds = entry.get(key).and_then(Value::as_f64).filter(|seconds| (0.0..1e9).contains(seconds));
        Span(Duration::from_secs_f64(seconds.unwrap_or(0.0)))
    };
    Some(match event(entry) {
        "left-out" => text_of(entry, "text").to_owned(),
        "capture-skipped" if entry.get("cooldown_left").and_then(Value::as_f64) == Some(0.0) => {
            format!("no capture: {} were taken, and --max-captures allows no more", number(entry, "taken"))
        }
        "capture-skipped" if entry.get("cooldown_left").is_some_and(Value::is_null) => {
            "no capture: the cooldown was not over, or --max-captures allowed no more".to_owned()
        }
        "capture-skipped" => format!("no capture: the cooldown lasted another {}", seconds("cooldown_left")),
        "evidence-cut" if entry.get("after").is_some_and(Value::is_null) => {
            "a look at the processes was cut: there was no more time".to_owned()
        }
        "evidence-cut" => format!("a look at the processes was cut after {}: there was no more time", seconds("after")),
        "stop-not-needed" => "above the stop threshold the app was not stopped: it was not urgent".to_owned(),
        "thresholds-unreachable" => {
            let limit = Size(number(entry, "limit"));
            format!("under the limit of {limit} the stage {} can never begin", text_of(entry, "stage"))
        }
        _ => return None,
    })
}

/// `05:45:01`.
fn clock(entry: &Value) -> String {
    when(entry).as_str().and_then(|text| text.get(11..19)).unwrap_or_default().to_owned()
}

/// An entry as it stands on the timeline: with a time that people can read in place of the number.
fn with_time(entry: &Value) -> Value {
    let mut result = Map::new();
    result.insert("at".into(), when(entry));
    if let Value::Object(fields) = entry {
        result.extend(
            fields.iter().filter(|(key, _)| *key != "unix_ms").map(|(key, value)| (key.clone(), value.clone())),
        );
    }
    Value::Object(result)
}

/// A list's entry: its kind is the list's name.
fn without_event(entry: &Value) -> Value {
    let mut entry = with_time(entry);
    if let Some(fields) = entry.as_object_mut() {
        fields.shift_remove("event");
    }
    entry
}

/// Nobody measures nanoseconds, or parts of a byte: times have three decimals, and rates none.
fn round(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(round),
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                match value.as_f64().filter(|_| value.is_f64()) {
                    Some(rate) if key == "rate" => *value = (rate.round() as i64).into(),
                    Some(number) => *value = ((number * 1000.0).round() / 1000.0).into(),
                    None => round(value),
                }
            }
        }
        _ => {}
    }
}

/// A reason as the end of a sentence.
fn reason(name: &str) -> &'static str {
    match name {
        "urgent" => "it would have reached the limit before it could leave",
        "leak" => "it leaked",
        "floor" => "too little room was left to shut down in",
        "level" => "it was above the stop threshold",
        _ => "its memory was high",
    }
}

/// `236 MiB of 256 MiB (92%), +19.8 MiB/s, limit in 1.0 s`.
fn measure(sample: Option<&Value>) -> String {
    let Some(sample) = sample else { return "no stage had begun before".into() };
    let gauged = number(sample, "gauged");
    let mut text = Size(gauged).to_string();
    if let Some(limit) = sample.get("limit").and_then(Value::as_u64).filter(|limit| *limit > 0) {
        let _ = write!(text, " of {} ({:.0}%)", Size(limit), gauged as f64 / limit as f64 * 100.0);
    }
    if let Some(rate) = sample.get("rate").and_then(Value::as_f64) {
        let _ = write!(text, ", {}", Rate(rate));
    }
    if let Some(seconds) = sample.get("time_to_limit").and_then(Value::as_f64).filter(|seconds| *seconds < 1e9) {
        let _ = write!(text, ", limit in {}", Span(Duration::from_secs_f64(seconds.max(0.0))));
    }
    text
}

/// `anon 230 MiB, file 3 MiB …`, what is nothing left out.
fn composition(parts: &Value) -> String {
    let Value::Object(parts) = parts else { return String::new() };
    let mut parts: Vec<(&str, u64)> =
        ["anon", "file", "shmem", "slab_unreclaimable", "kernel_stack", "pagetables", "sock"]
            .into_iter()
            .filter_map(|key| Some((key, parts.get(key)?.as_u64()?)))
            .filter(|(_, bytes)| *bytes > 0)
            .collect();
    parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    parts.iter().map(|(key, bytes)| format!("{key} {}", Size(*bytes))).collect::<Vec<_>>().join(", ")
}

/// `exit 0`, `killed by SIGKILL`, `not started`, `not ended`.
fn end_of(hook: &Value) -> String {
    let end = &hook["end"];
    if let Some(code) = end.get("code").and_then(Value::as_u64) {
        format!("exit {code}")
    } else if let Some(signal) = end.get("signal").and_then(Value::as_str) {
        format!("killed by {signal}")
    } else if end.get("not_started").is_some() {
        "not started".into()
    } else {
        "not ended".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"id":"one","memini":"1","app":{"command":["app","--flag"],"pid":7},"configured_hooks":[{"stage":"capture","command":"dump {pid}"}]}"#;

    /// A journal of these events: the name, and the rest of the entry.
    fn record(events: &[(&str, Value)]) -> Record {
        let mut journal = format!("{HEADER}\n");
        for (number, (name, fields)) in events.iter().enumerate() {
            let mut entry = json!({"unix_ms": 1_795_326_301_000_u64 + number as u64, "seconds": number as f64 + 0.123_456, "event": name});
            entry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let _ = writeln!(journal, "{entry}");
        }
        Record::new(&journal, 0, vec![Artifact { name: "capture-1.log".into(), bytes: 5, sha256: None }])
    }

    fn sample(mib: u64) -> Value {
        json!({"gauged": mib << 20, "limit": 100 << 20, "rate": 1_048_576.4, "time_to_limit": 1.23456,
               "composition": {"anon": mib << 20, "file": 0}})
    }

    fn began(stage: &str, mib: u64) -> (&str, Value) {
        ("stage-began", json!({"stage": stage, "sample": sample(mib)}))
    }

    fn exited(signal: &str, oom_killed: bool, stopped: bool) -> (&'static str, Value) {
        ("app-exited", json!({"exit": {"signal": signal}, "oom_killed": oom_killed, "stopped": stopped}))
    }

    #[test]
    fn the_headline_says_what_happened() {
        let stopping = |reason: &str| ("stopping", json!({"reason": reason, "sample": sample(93)}));
        let killing = ("killing", json!({"sample": sample(98)}));
        let grace_over = ("grace-over", json!({}));
        let term = exited("SIGTERM", false, true);
        let killed = exited("SIGKILL", false, true);
        let tail = |mib: u64| format!("{mib} MiB of 100 MiB ({mib}%), +1 MiB/s, limit in 1.2 s");
        for (events, outcome, headline) in [
            (vec![], "open", "the memory of app is high: no stage had begun before".into()),
            (vec![began("trace", 60)], "open", format!("the memory of app is high: {}", tail(60))),
            (
                vec![began("trace", 60), began("capture", 80), ("recovered", json!({}))],
                "recovered",
                format!("the memory of app was high and went down again: {}", tail(80)),
            ),
            (
                vec![
                    (
                        "verdict",
                        json!({"verdict": "leak", "rate": 1048576, "time_to_limit": 1.2, "sample": sample(40)}),
                    ),
                    ("recovered", json!({})),
                ],
                "recovered",
                format!("the memory of app grows, the verdict is leak: {}", tail(40)),
            ),
            (
                vec![began("capture", 80), began("trace", 70), exited("SIGSEGV", false, false)],
                "exited",
                format!("app ended by itself while its memory was high: {}", tail(80)),
            ),
            (
                vec![stopping("floor"), began("stop", 95), term.clone()],
                "stopped",
                format!("memini stopped app because too little room was left to shut down in: {}", tail(93)),
            ),
            (
                vec![stopping("urgent"), grace_over, killed.clone()],
                "killed",
                format!(
                    "memini stopped app because it would have reached the limit before it could leave, and \
                     killed it after the grace period: {}",
                    tail(93)
                ),
            ),
            (
                vec![stopping("level"), killing, killed],
                "killed",
                format!("memini killed app before the limit was reached: {}", tail(98)),
            ),
            (
                vec![stopping("level"), exited("SIGKILL", true, true)],
                "oom-killed",
                format!("the kernel's OOM killer killed app: {}", tail(93)),
            ),
        ] {
            let record = record(&events);
            assert_eq!((record.outcome(), record.headline()), (outcome, headline), "{events:?}");
        }
    }

    #[test]
    fn what_a_reader_asks_first_comes_first_and_numbers_are_readable() {
        let json =
            record(&[began("trace", 60), ("processes", json!({"stage": "trace", "count": 1, "list": []}))]).json();
        let order: Vec<_> = json.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next()).collect();
        let wanted = [
            "schema",
            "id",
            "summary",
            "outcome",
            "exit_code",
            "began",
            "last",
            "memini",
            "app",
            "configured_hooks",
            "evidence",
            "hooks",
            "artifacts",
            "not_done",
            "brakes",
            "processes",
            "timeline",
            "timeline_entries_lost",
        ];
        assert_eq!(order, wanted);
        let value: Value = serde_json::from_str(&json).unwrap();
        let [entry] = value["timeline"].as_array().unwrap().as_slice() else { panic!("{json}") };
        assert_eq!(entry["at"], "2026-11-22T05:45:01.000Z");
        assert_eq!((&entry["seconds"], &entry["sample"]["rate"]), (&json!(0.123), &json!(1_048_576)));
        assert_eq!(entry["sample"]["time_to_limit"], 1.235);
        assert_eq!(value["processes"][0]["at"], "2026-11-22T05:45:01.001Z");
        assert_eq!(value["processes"][0].get("event"), None);
    }

    /// What the supervisor puts before the events.
    fn whole_header() -> Value {
        let settings = json!({
            "trace_at": "60%", "capture_at": "80%", "stop_at": "92%", "kill_at": "97%", "stop_when": "urgent",
            "gauge": "unreclaimable", "soft_limit": null, "grace_seconds": 10.0, "cooldown_seconds": 300.0, "max_captures": 3,
            "capture": true, "heavy": "auto", "max_pause_seconds": 5.0, "helpers": false, "keep_incidents": 20,
            "keep_dumps": 3, "keep_for_seconds": null, "max_artifact": 1, "max_total": 4, "keep_free": 1, "baseline_after_seconds": 300.0,
            "hook_timeout_seconds": 30.0, "exit_code": 75, "brake": false, "dry_run": false,
        });
        json!({
            "id": "one", "memini": "1", "hostname": "web", "app": {"command": ["app"], "pid": 7}, "source": "cgroup v2",
            "settings": settings, "configured_hooks": [{"stage": "stop", "command": "drain"}],
        })
    }

    #[test]
    fn what_is_written_is_what_the_schema_says() {
        use crate::capture::suspects::{Findings, Held, Suspect, Taken};
        use crate::engine::event::{Exit, HookEnd, Note, Run, Sample, StopReason};
        use crate::engine::settings::Stage;
        use crate::engine::trend::Verdict;
        use crate::sys::signal::Signal;

        let stat = crate::cgroup::reading::Stat::default();
        let sample = Sample {
            rate: 1.5,
            time_to_limit: Some(2.5),
            limit: Some(9),
            room: Some(2),
            stat: Some(stat),
            ..Sample::default()
        };
        let (run, end, after) = (Run(1), HookEnd::Ended(Exit::Code(0)), Duration::from_millis(1500));
        let notes = [
            Note::StageBegan { stage: Stage::Trace, from: Stage::Normal, sample },
            Note::StageEnded { stage: Stage::Normal, from: Stage::Trace, sample: Sample::default() },
            Note::StopNotNeeded { sample },
            Note::CaptureSkipped { cooldown_left: after, taken: 1 },
            Note::Stopping { reason: StopReason::Floor, sample },
            Note::Terminating,
            Note::GraceOver,
            Note::Killing { sample },
            Note::HookStarted { run: Some(run), hook: 0, stage: Stage::Stop },
            Note::HookOverdue { run, hook: 0, signal: Signal::KILL, after },
            Note::HookEnded { run, hook: 0, end: HookEnd::NotStarted, after },
            Note::EvidenceStarted { run: None, stage: Stage::Capture },
            Note::EvidenceCut { run, after },
            Note::EvidenceEnded { run, end, after },
            Note::LimitChanged { from: None, to: Some(1) },
            Note::ThresholdsUnreachable { limit: 5, stage: Stage::Kill },
            Note::Verdict { verdict: Verdict::Leak, from: Verdict::Growing, horizon: after, sample },
            Note::OomKill { times: 2 },
            Note::Thrashing { refaults: 5.5, pressure: Some(0.5), sample },
            Note::Braked { times: 3, stopped: after },
            Note::LastLooks { looks: Default::default() },
            Note::LateWake { late: after, times: 1 },
            Note::AppExited { exit: Exit::Signal(Signal::TERM), oom_killed: false, stopped: true },
            Note::LeftoversOverdue,
        ];
        let mut journal = format!("{}\n", whole_header());
        let mut add = |mut entry: Value, number: usize| {
            entry["unix_ms"] = json!(1_795_326_301_000_u64 + number as u64);
            entry["seconds"] = json!(number as f64);
            let _ = writeln!(journal, "{entry}");
        };
        for (number, note) in notes.iter().enumerate() {
            add(serde_json::to_value(note).unwrap(), number);
        }
        let process = json!({"pid": 7, "parent": 1, "comm": "app", "state": "S", "threads": 1, "rss_anon": 1, "rss_file": 1,
                             "rss_shmem": 0, "swap": 0});
        let digest = "0".repeat(64);
        for (number, entry) in [
            json!({"event": "processes", "stage": "stop", "count": 1, "list": [process]}),
            json!({"event": "hook-output", "run": 1, "file": "artifacts/stop-1.log", "bytes": 5}),
            json!({"event": "evidence", "run": 2, "file": "artifacts/evidence-stop-2.json", "bytes": 5}),
            json!({"event": "left-out", "run": 2, "text": "no heap dump"}),
            json!({"event": "digest", "run": 2, "file": "artifacts/heap", "bytes": 7, "sha256": digest}),
            json!({"event": "recovered"}),
            json!({"event": "exit", "code": 75}),
        ]
        .into_iter()
        .enumerate()
        {
            add(entry, 100 + number);
        }
        let mut findings = Findings {
            suspects: vec![Suspect::default()],
            looks: vec![Taken { stage: "normal".into(), taken_ms: 1_795_326_301_000 }],
            processes: vec![Held { sizes: vec![None, Some(1)], ..Held::default() }],
            ..Findings::default()
        };
        (findings.suspects[0].sizes, findings.suspects[0].rate) = (vec![None, Some(5)], Some(1.25));
        let file = |name: &str, bytes| Artifact { name: name.to_owned(), bytes, sha256: None };
        let mut record = Record::new(&journal, 0, vec![file("heap", 7), file("large", 9)]);
        record.tell(Found {
            file: "artifacts/x".into(),
            findings: serde_json::to_value(&findings).unwrap(),
            lines: Vec::new(),
        });
        assert_eq!((record.told_digest("heap", 7), record.told_digest("heap", 8)), (Some(&*digest), None));
        record.keep(vec![Artifact { sha256: Some(digest), ..file("heap", 7) }, file("large", 9)]);
        let value: Value = serde_json::from_str(&record.json()).unwrap();
        assert_eq!(crate::incident::schema::faults(&value), Vec::<String>::new());
        assert_eq!(value["timeline"].as_array().unwrap().len(), notes.len() + 4);
        assert_eq!(value["evidence"]["looks"][0]["at"], "2026-11-22T05:45:01.000Z");
        let texts: Vec<&str> =
            value["not_done"].as_array().unwrap().iter().map(|undone| undone["text"].as_str().unwrap()).collect();
        assert_eq!(
            texts,
            [
                "fast growth was not braked: --no-brake",
                "above the stop threshold the app was not stopped: it was not urgent",
                "no capture: the cooldown lasted another 1.5 s",
                "a look at the processes was cut after 1.5 s: there was no more time",
                "under the limit of 5 B the stage kill can never begin",
                "no heap dump",
            ]
        );
        // What an older memini has not written is no fault, nor is what a recorder has kept.
        let mut older = value.clone();
        for key in ["not_done", "brakes"] {
            older.as_object_mut().unwrap().shift_remove(key);
        }
        for (place, keys) in [
            ("/artifacts/0", &["sha256"][..]),
            ("/evidence", &["looks", "processes"]),
            ("/evidence/suspects/0", &["sizes", "counts"]),
            ("/settings", &["on_leak", "keep_for_seconds", "helpers"]),
        ] {
            let fields = older.pointer_mut(place).unwrap().as_object_mut().unwrap();
            keys.iter().for_each(|key| _ = fields.shift_remove(*key));
        }
        older["history"] = json!([{"interval": 1, "points": [
            {"seconds": 1.5, "usage": [1, 2, 3], "gauged": [1, 2, 3], "limit": null, "composition": {"anon": 1}}]}]);
        assert_eq!(crate::incident::schema::faults(&older), Vec::<String>::new());
        assert!(crate::incident::report::Story::of(&older.to_string()).is_ok());
        // The schema would notice.
        let mut wrong = value.clone();
        wrong["timeline"][0]["new"] = json!(1);
        wrong["outcome"] = json!("lost");
        assert_eq!(crate::incident::schema::faults(&wrong).len(), 2);
    }

    #[test]
    fn what_the_next_start_finds_is_what_the_schema_says() {
        use crate::engine::settings::Stage;
        use crate::recorder::ending::{Now, Obituary};
        use crate::recorder::reader::History;
        use crate::recorder::told::{Course, Event, Kind, Pulse, Sample};

        // Twice: with numbers, and as of a dry run or a hook that was not started.
        let events: Vec<Event> = [[1, 2, 3, 4], [0, 0, u64::MAX, 0]]
            .into_iter()
            .flat_map(|values| {
                Kind::ALL.map(|kind| Event { stage: Stage::Stop, from: 1, values, ..Event::new(kind, [0; 4]) })
            })
            .collect();
        let course = Course { least: 1 << 20, most: 3 << 20, last: 2 << 20 };
        let sample = Sample { number: 4, looks: 1, usage: course, gauged: Some(course), ..Sample::default() };
        let (limit, unix) = (Some(3 << 20), 1_795_326_301_000);
        let pulse = Pulse { since_start: 5000, gauged: 3 << 20, limit, unix, ..Pulse::default() };
        let mut run = whole_header();
        (run["boot_id"], run["started_ms"]) = (json!("b"), json!(1));
        let count = events.len() - 2;
        let mut history = History { run, pulse, events, rings: vec![(1, vec![sample])], ..History::default() };
        let obituary = Obituary::new(&history, &Now { boot_id: "b".into(), oom_kills: None });
        let mut record = Record::new(&obituary.journal("one"), 0, Vec::new());
        record.remember(super::super::history::of(&history));
        let value: Value = serde_json::from_str(&record.json()).unwrap();
        assert_eq!(crate::incident::schema::faults(&value), Vec::<String>::new());
        assert_eq!(value["timeline"].as_array().unwrap().len(), count + 2);
        assert_eq!(value["history"][0]["points"][0]["gauged"], json!([1 << 20, 3 << 20, 2 << 20]));
        // The same of a record that was open: what had happened since it was written (regression test: that was left out), the
        // end, and the newer history.
        let Value::Object(mut open) = value else { panic!("no object") };
        open.insert("history".into(), Value::Null);
        open["timeline"].as_array_mut().unwrap().truncate(count);
        let later = Event { since_start: 4500, stage: Stage::Kill, ..Event::new(Kind::StageBegan, [1, 2, 3, 4]) };
        history.events.push(later);
        let obituary = Obituary::new(&history, &Now { boot_id: "b".into(), oom_kills: None });
        let completed = complete(open, &obituary, &[], super::super::history::of(&history));
        let value: Value = serde_json::from_str(&completed).unwrap();
        assert_eq!(crate::incident::schema::faults(&value), Vec::<String>::new());
        assert_eq!(value["outcome"], "oom-killed");
        let timeline = value["timeline"].as_array().unwrap();
        let last: Vec<_> = timeline.iter().skip(count).map(|entry| (&entry["event"], &entry["seconds"])).collect();
        let all =
            [("stage-began", 4.5), ("found-by-next-run", 5.0), ("app-exited", 5.0)].map(|(a, b)| (json!(a), json!(b)));
        assert_eq!(last, all.each_ref().map(|(event, seconds)| (event, seconds)));
        assert!(value["history"].is_array() && value["last"] == "2026-11-22T05:45:06.000Z", "{completed}");
    }

    #[test]
    fn a_hook_is_put_together_from_its_beginning_its_output_and_its_end() {
        let record = record(&[
            ("hook-started", json!({"run": 1, "hook": 0, "stage": "capture"})),
            ("hook-started", json!({"run": null, "hook": 0, "stage": "stop"})),
            ("hook-output", json!({"run": 1, "file": "artifacts/capture-1.log", "bytes": 5})),
            ("hook-ended", json!({"run": 1, "hook": 0, "end": {"code": 3}, "after": 0.5})),
        ]);
        let value: Value = serde_json::from_str(&record.json()).unwrap();
        let hook = json!({
            "run": 1, "stage": "capture", "command": "dump {pid}", "started": "2026-11-22T05:45:01.000Z", "seconds": 0.5,
            "end": {"code": 3}, "output": "artifacts/capture-1.log", "output_bytes": 5,
        });
        assert_eq!(value["hooks"], json!([hook]));
        assert!(record.message("/folder").contains("hook capture: exit 3, 500 ms, artifacts/capture-1.log\n"));
    }

    #[test]
    fn the_message_tells_neither_arguments_nor_line_breaks_of_names() {
        let header = json!({"app": {"command": ["/bin/the\napp", "--password=secret"]}});
        let list = json!([{"pid": 9, "comm": "a\nexit code: 0\u{1b}[2J\u{9b}\u{202e}\u{2028}\u{200b}"}]);
        let entry = json!({"event": "processes", "list": list});
        let message = Record::new(&format!("{header}\n{entry}\n"), 0, Vec::new()).message("/folder");
        assert!(message.starts_with("the memory of the app is high"), "{message}");
        assert!(!message.contains("secret") && !message.contains(|letter| acts(letter) && letter != '\n'), "{message}");
        assert_eq!(message.lines().count(), 3, "{message}");
    }

    #[test]
    fn many_stages_leave_room_for_who_held_the_memory() {
        let mut events = vec![began("trace", 60); 400];
        events.push(("processes", json!({"list": [{"pid": 7, "comm": "python3", "rss_anon": 5}]})));
        let message = record(&events).message("/folder");
        assert!(message.len() <= LONGEST_MESSAGE);
        assert!(message.contains("\nprocess 7 python3: 5 B\n") && message.contains("\n… 392 more\n"), "{message}");
        assert_eq!(message.matches(" trace: ").count(), STAGES_TOLD);
    }

    #[test]
    fn a_journal_without_its_header_is_read_all_the_same() {
        let entry = json!({"event": "stopping", "reason": "floor", "sample": sample(93)});
        let record = Record::new(&format!("{entry}\n"), 1, Vec::new());
        assert!(record.headline().starts_with("memini stopped the app") || record.outcome() == "open");
        let value: Value = serde_json::from_str(&record.json()).unwrap();
        assert_eq!((value.get("reason"), value["timeline"].as_array().map(Vec::len)), (None, Some(1)));
    }

    #[test]
    fn what_the_evidence_says_comes_right_after_the_headline() {
        let evidence = |run: u32| ("evidence", json!({"run": run, "file": format!("artifacts/evidence-{run}.json")}));
        let mut record = record(&[began("trace", 60), evidence(1), evidence(2)]);
        let files: Vec<_> = record.evidence_files().map(str::to_owned).collect();
        assert_eq!(files, ["artifacts/evidence-2.json", "artifacts/evidence-1.json"]);
        let lines = ["+50 MiB: all of it", "+49 MiB  app.cache: dict"].map(str::to_owned);
        let file = files[0].clone();
        record.tell(Found { file, findings: json!({"place": "all of it"}), lines: lines.to_vec() });
        let value: Value = serde_json::from_str(&record.json()).unwrap();
        assert_eq!(value["evidence"], json!({"place": "all of it", "file": "artifacts/evidence-2.json"}));
        let message = record.message("/folder");
        assert_eq!(message.lines().skip(1).take(2).collect::<Vec<_>>(), lines);
    }

    #[test]
    fn lines_that_are_no_json_are_counted_as_lost() {
        let record = Record::new(&format!("{HEADER}\n{{\"event\":\n7\n"), 2, Vec::new());
        let value: Value = serde_json::from_str(&record.json()).unwrap();
        assert_eq!((&value["timeline_entries_lost"], &value["app"]["pid"]), (&json!(4), &json!(7)));
    }

    #[test]
    fn a_damaged_journal_costs_neither_the_record_nor_its_own_words() {
        // Found by fuzzing: a time after the year 9999 ended the worker, sizes beyond 64 bits did, and a header replaced the
        // schema.
        let header = json!({"id": "one", "schema": "x", "outcome": "stopped", "timeline_entries_lost": 0});
        for (time, at) in [
            (253_402_300_799_999_u64, json!("9999-12-31T23:59:59.999Z")),
            (253_402_300_800_000, Value::Null),
            (u64::MAX, Value::Null),
        ] {
            let entry = json!({"event": "stage-began", "stage": "trace", "sample": sample(60), "unix_ms": time});
            let list = json!([{"pid": 7, "comm": "app", "rss_anon": u64::MAX, "rss_file": time}]);
            let processes = json!({"event": "processes", "list": list});
            let record = Record::new(&format!("{header}\n{entry}\n{processes}\n"), 2, Vec::new());
            let value: Value = serde_json::from_str(&record.json()).unwrap();
            assert_eq!((&value["began"], &value["timeline"][0]["at"]), (&at, &at));
            assert_eq!((&value["schema"], &value["outcome"]), (&json!(SCHEMA), &json!("open")));
            assert_eq!((&value["id"], &value["timeline_entries_lost"]), (&json!("one"), &json!(2)));
            let message = record.message("/folder");
            assert!(message.contains(" trace: ") && message.contains("process 7 app: 16 EiB"), "{message}");
        }
    }

    /// A journal of entries with so many bytes of anonymous memory each.
    fn journal(entries: &[(&str, u64)]) -> String {
        let mut text = r#"{"id":"i","app":{"command":["app"]}}"#.to_owned();
        for (event, anon) in entries {
            let sample = json!({"usage": 10, "gauged": 10, "composition": {"anon": anon}});
            let entry = json!({"event": event, "stage": "stop", "reason": "urgent", "sample": sample});
            text.push_str(&format!("\n{entry}"));
        }
        text
    }

    #[test]
    fn the_message_tells_the_memory_at_the_decision_and_not_of_an_app_that_was_leaving() {
        for (entries, anon) in [
            (&[("stage-began", 3), ("stopping", 5), ("stage-ended", 2)][..], "memory: anon 5 B"),
            (&[("stopping", 5), ("killing", 7), ("stage-ended", 2)], "memory: anon 7 B"),
            (&[("stage-began", 3), ("stage-ended", 2)], "memory: anon 2 B"),
        ] {
            let message = Record::new(&journal(entries), 0, Vec::new()).message("/evidence");
            assert!(message.lines().any(|line| line == anon), "{entries:?}: {message}");
        }
    }
}
