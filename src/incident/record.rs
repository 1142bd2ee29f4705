//! Makes `incident.json` and the termination message out of a journal. Runs in a worker.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::SCHEMA;
use crate::units::{Rate, Size, Span};

/// What Kubernetes keeps of a termination message.
pub const LONGEST_MESSAGE: usize = 4096;

/// How many lines of the journal can be told apart from its first one.
#[derive(Debug)]
pub struct Record {
    header: Map<String, Value>,
    entries: Vec<Value>,
    lost: u64,
    files: Vec<(String, u64)>,
}

impl Record {
    /// Reads a journal; `files` are the artifacts on disk.
    ///
    /// A line that is no JSON object is counted with the lost ones: the journal is memini's own, but what is left of it
    /// shall be readable whatever happened to it.
    pub fn new(journal: &str, lost: u64, files: Vec<(String, u64)>) -> Self {
        let mut lines = journal.lines();
        let header = lines.next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        let mut record = Self { header, entries: Vec::new(), lost, files };
        for line in lines {
            match serde_json::from_str(line) {
                Ok(entry @ Value::Object(_)) => record.entries.push(entry),
                _ => record.lost += 1,
            }
        }
        record
    }

    /// `incident.json`, with a newline at its end.
    pub fn json(&self) -> String {
        let mut incident = Map::new();
        incident.insert("schema".into(), SCHEMA.into());
        incident.extend(self.header.clone());
        incident.insert("began".into(), self.entries.first().map_or(Value::Null, when));
        incident.insert("last".into(), self.entries.last().map_or(Value::Null, when));
        incident.insert("outcome".into(), self.outcome().into());
        incident.insert("exit_code".into(), self.exit_code().map_or(Value::Null, Value::from));
        let hooks: Vec<Value> = self.runs().map(|started| self.hook(started)).collect();
        incident.insert("hooks".into(), hooks.into());
        let processes: Vec<&Value> = self.all("processes").collect();
        incident.insert("processes".into(), json!(processes));
        let timeline: Vec<Value> =
            self.entries.iter().filter(|entry| event(entry) != "processes").map(with_time).collect();
        incident.insert("timeline".into(), timeline.into());
        incident.insert("timeline_entries_lost".into(), self.lost.into());
        let artifacts: Vec<Value> = self
            .files
            .iter()
            .map(|(name, bytes)| json!({"file": format!("artifacts/{name}"), "bytes": bytes}))
            .collect();
        incident.insert("artifacts".into(), artifacts.into());
        format!("{:#}\n", Value::Object(incident))
    }

    /// How it stands: `open`, `recovered`, `stopped`, `killed`, `oom-killed`, `exited`.
    pub fn outcome(&self) -> &'static str {
        if let Some(exit) = self.all("app-exited").last() {
            return match (flag(exit, "oom_killed"), flag(exit, "stopped")) {
                (true, _) => "oom-killed",
                (false, true) if self.all("killing").next().is_some() => "killed",
                (false, true) => "stopped",
                (false, false) => "exited",
            };
        }
        if self.all("recovered").next().is_some() { "recovered" } else { "open" }
    }

    fn exit_code(&self) -> Option<u64> {
        self.all("exit").last()?.get("code")?.as_u64()
    }

    /// The message for whoever looks at the dead container: what happened, numbers, where the evidence lies.
    pub fn message(&self, folder: &str) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_message(&mut text, folder);
        let mut end = text.len().min(LONGEST_MESSAGE);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text
    }

    fn write_message(&self, text: &mut String, folder: &str) -> std::fmt::Result {
        writeln!(text, "{}", self.headline())?;
        writeln!(text, "evidence: {folder}")?;
        if let Some(code) = self.exit_code() {
            writeln!(text, "exit code: {code}")?;
        }
        for entry in self.all("stage-began") {
            let clock = clock(entry);
            writeln!(text, "{clock} {}: {}", text_of(entry, "stage"), measure(entry.get("sample")))?;
        }
        if let Some(parts) = self.composition_that_mattered() {
            writeln!(text, "memory: {}", composition(parts))?;
        }
        if let Some(list) = self.all("processes").last().and_then(|entry| entry.get("list")?.as_array()) {
            for process in list.iter().take(5) {
                let size = ["rss_anon", "rss_file", "rss_shmem", "swap"].iter().map(|key| number(process, key)).sum();
                writeln!(text, "process {} {}: {}", number(process, "pid"), text_of(process, "comm"), Size(size))?;
            }
        }
        for started in self.runs() {
            let hook = self.hook(started);
            let took = Span(Duration::from_secs_f64(hook["seconds"].as_f64().unwrap_or(0.0)));
            writeln!(
                text,
                "hook {}: {}, {took}: {}",
                text_of(&hook, "stage"),
                end_of(&hook),
                text_of(&hook, "command")
            )?;
        }
        Ok(())
    }

    /// Where the bytes were when memini stopped or killed the app, else when they were last looked at. What is noted
    /// later tells about an app that was leaving.
    fn composition_that_mattered(&self) -> Option<&Value> {
        let known = |entry: &'_ Value| entry.get("sample").is_some_and(|sample| sample.get("composition").is_some());
        let decided = ["killing", "stopping"].into_iter().find_map(|kind| self.all(kind).rfind(|entry| known(entry)));
        decided.or_else(|| self.entries.iter().rfind(|entry| known(entry)))?.get("sample")?.get("composition")
    }

    /// The first line.
    pub fn headline(&self) -> String {
        let command = self
            .header
            .get("app")
            .and_then(|app| app.get("command")?.as_array())
            .map(|words| words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
            .unwrap_or_default();
        let stopping = self.all("stopping").last();
        let killing = self.all("killing").last();
        let seen =
            killing.or(stopping).or_else(|| self.all("stage-began").last()).and_then(|entry| entry.get("sample"));
        match self.outcome() {
            "oom-killed" => format!("the kernel's OOM killer killed {command}: {}", measure(seen)),
            "killed" => format!("memini killed {command} before the limit was reached: {}", measure(seen)),
            "stopped" => {
                let reason = stopping.map_or("", |entry| text_of(entry, "reason"));
                format!("memini stopped {command} for memory ({reason}): {}", measure(seen))
            }
            "exited" => format!("{command} ended by itself while its memory was high: {}", measure(seen)),
            "recovered" => format!("the memory of {command} was high and went down again: {}", measure(seen)),
            _ => format!("the memory of {command} is high: {}", measure(seen)),
        }
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

/// The entry's moment as RFC 3339, UTC, with milliseconds.
fn when(entry: &Value) -> Value {
    let moment = UNIX_EPOCH + Duration::from_millis(number(entry, "unix_ms"));
    humantime::format_rfc3339_millis(moment).to_string().into()
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

/// `236 MiB of 256 MiB (92%), +19.8 MiB/s, limit in 1.0 s`.
fn measure(sample: Option<&Value>) -> String {
    let Some(sample) = sample else { return "nothing was measured".into() };
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
