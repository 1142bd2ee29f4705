//! `memini incidents`: what there is in the folder, the newest first. Changes nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::report;
use super::style::{self, Line, Place, Style, Tone, cut, width};
use crate::incident::{SCHEMA, retention};
use crate::text::plain;
use crate::units::Size;

/// How deep the folder of an incident is looked into, and how many files in it are counted.
const DEEPEST: u32 = 16;
const MOST_FILES: u32 = 100_000;

/// What is not written to a terminal is as wide as it is.
const ENDLESS: usize = 1000;

/// What `memini incidents` was asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Answer with one JSON object.
    pub json: bool,
    /// The folder, absolute or as it was given.
    pub dir: PathBuf,
}

/// All of them.
#[derive(Debug, Serialize)]
struct Answer {
    schema: &'static str,
    dir: String,
    incidents: Vec<Row>,
}

/// One of them. What is not known, or makes no sense, is missing.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Row {
    name: String,
    began: Option<String>,
    outcome: Option<String>,
    summary: Option<String>,
    /// The most that counted; bytes.
    highest: Option<u64>,
    /// The limit at that time; bytes.
    limit: Option<u64>,
    /// The first one.
    suspect: Option<String>,
    /// What the folder takes on the disk.
    bytes: u64,
    /// Why it cannot be read.
    problem: Option<String>,
}

/// Answers: the text, with a newline at its end.
///
/// # Errors
/// In one line, why the folder cannot be read.
#[inline(never)]
pub fn incidents(question: &Question) -> Result<String, String> {
    let incidents = rows(&question.dir)?;
    let dir = plain(&question.dir.display().to_string());
    if question.json {
        let answer = serde_json::to_string(&Answer { schema: "memini.incidents/1", dir, incidents });
        return answer.map(|text| text + "\n").map_err(|error| format!("cannot be written as JSON: {error}"));
    }
    if incidents.is_empty() {
        let why = if question.dir.is_dir() { "memory was never high" } else { "there is no such folder" };
        return Ok(format!("no incidents in {dir}: {why}\n"));
    }
    let place = Place::of_output();
    let mut style = Style::of(place, &style::variable);
    if !place.is_terminal && style::variable("COLUMNS").is_none() {
        style.width = ENDLESS;
    }
    Ok(table(&incidents, &style, place.is_terminal))
}

fn rows(dir: &Path) -> Result<Vec<Row>, String> {
    let incidents = dir.join("incidents");
    let cannot = |error: io::Error| format!("cannot read {}: {error}; no incident can be listed", incidents.display());
    let entries = match fs::read_dir(&incidents) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot(error)),
    };
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let entry = entry.map_err(cannot)?;
        // What somebody else has put there is nothing of ours.
        let name = PathBuf::from(entry.file_name());
        if retention::is_incident(&name) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.push(name);
        }
    }
    // By name, which is by time.
    names.sort_by(|one, other| other.cmp(one));
    Ok(names.iter().map(|name| row(&incidents.join(name))).collect())
}

fn row(folder: &Path) -> Row {
    let name = folder.file_name().map(|name| plain(&name.to_string_lossy())).unwrap_or_default();
    let bytes = size(folder, DEEPEST, &mut { MOST_FILES });
    let row = Row { name, bytes, ..Row::default() };
    let path = folder.join("incident.json");
    // A link may lead anywhere.
    let is_link = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
    let text = if is_link { Err(io::Error::other("it is a symbolic link")) } else { report::read(&path) };
    let incident = text.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "incident.json is not written yet, or never was".to_owned(),
        _ => format!("cannot read incident.json: {error}"),
    });
    match incident.and_then(|text| read(&text)) {
        Ok(told) => Row { name: row.name, bytes: row.bytes, ..told },
        Err(problem) => Row { problem: Some(plain(&problem)), ..row },
    }
}

fn read(text: &str) -> Result<Row, String> {
    let incident: Value = serde_json::from_str(text).map_err(|error| format!("it is no incident.json: {error}"))?;
    if incident.get("schema").and_then(Value::as_str) != Some(SCHEMA) {
        return Err(format!("incident.json does not say that it is a {SCHEMA}"));
    }
    let said = |key: &str| incident.get(key).and_then(Value::as_str).map(plain);
    let samples = incident.get("timeline").and_then(Value::as_array).into_iter().flatten();
    let levels = samples.filter_map(|entry| {
        let sample = entry.get("sample")?;
        Some((sample.get("gauged")?.as_u64()?, sample.get("limit").and_then(Value::as_u64)))
    });
    let highest = levels.max_by_key(|(gauged, _)| *gauged);
    Ok(Row {
        began: said("began"),
        outcome: said("outcome"),
        summary: said("summary"),
        highest: highest.map(|(gauged, _)| gauged),
        limit: highest.and_then(|(_, limit)| limit),
        suspect: incident.pointer("/evidence/suspects/0").and_then(suspect),
        ..Row::default()
    })
}

/// `+9.4 MiB __main__.data: list [python3 7]`
fn suspect(suspect: &Value) -> Option<String> {
    let what = plain(suspect.get("what")?.as_str()?);
    let growth = suspect.get("growth").and_then(Value::as_i64);
    let amount = match growth {
        Some(growth) => {
            let sign = if growth < 0 { '-' } else { '+' };
            format!("{sign}{} ", Size(growth.unsigned_abs()))
        }
        None => {
            suspect.get("bytes").and_then(Value::as_u64).map(|bytes| format!("{} ", Size(bytes))).unwrap_or_default()
        }
    };
    let comm = suspect.pointer("/process/comm").and_then(Value::as_str).map(plain);
    let pid = suspect.pointer("/process/pid").and_then(Value::as_i64);
    let whose = comm.zip(pid).map(|(comm, pid)| format!(" [{comm} {pid}]")).unwrap_or_default();
    Some(format!("{amount}{what}{whose}"))
}

/// What everything in a folder takes on the disk; bytes. No link is followed.
fn size(folder: &Path, levels: u32, left: &mut u32) -> u64 {
    let mut sum = 0_u64;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some(rest) = left.checked_sub(1) else { break };
        *left = rest;
        let Ok(metadata) = entry.metadata() else { continue };
        sum = sum.saturating_add(metadata.blocks().saturating_mul(512));
        if metadata.is_dir() && levels > 0 {
            sum = sum.saturating_add(size(&entry.path(), levels - 1, left));
        }
    }
    sum
}

impl Row {
    /// `98% of 256 MiB`
    fn level(&self) -> String {
        match (self.highest, self.limit.filter(|limit| *limit > 0)) {
            (Some(highest), Some(limit)) => {
                format!("{:.0}% of {}", highest as f64 / limit as f64 * 100.0, Size(limit))
            }
            (Some(highest), None) => Size(highest).to_string(),
            (None, _) => String::new(),
        }
    }

    fn tone(&self) -> Tone {
        match self.outcome.as_deref() {
            Some("recovered" | "exited") => Tone::Good,
            Some("open") => Tone::Warning,
            Some("killed" | "oom-killed") => Tone::Danger,
            _ => Tone::Plain,
        }
    }
}

/// A line each. `hints`: a person reads it.
fn table(rows: &[Row], style: &Style, hints: bool) -> String {
    let widest = |of: &dyn Fn(&Row) -> String, least: usize| {
        rows.iter().filter(|row| row.problem.is_none()).map(|row| width(&of(row))).max().unwrap_or(0).max(least)
    };
    let outcome = |row: &Row| row.outcome.clone().unwrap_or_default();
    let name = rows.iter().map(|row| width(&row.name)).max().unwrap_or(0);
    let (outcomes, levels) = (widest(&outcome, 7), widest(&Row::level, 7));
    let stops = [name + 2, name + outcomes + 4, name + outcomes + levels + 6, name + outcomes + levels + 16];
    let mut lines = Vec::new();
    let mut head = Line::new().with(Tone::Faint, "incident (UTC)");
    for (stop, title) in stops.into_iter().zip(["outcome", "highest", "on disk", "first suspect"]) {
        head.pad_to(stop);
        head.add(Tone::Faint, title);
    }
    lines.push(head);
    for row in rows {
        let mut line = Line::new().with(Tone::Strong, &row.name);
        line.pad_to(stops[0]);
        if let Some(problem) = &row.problem {
            lines.push(line.with(Tone::Danger, problem));
            continue;
        }
        line.add(row.tone(), &outcome(row));
        line.pad_to(stops[1]);
        line.add(Tone::Plain, &row.level());
        line.pad_to(stops[2]);
        line.add(Tone::Plain, &Size(row.bytes).to_string());
        line.pad_to(stops[3]);
        let room = style.width.saturating_sub(line.width());
        match &row.suspect {
            Some(suspect) => line.add(Tone::Plain, &cut(suspect, room, style.pick("…", "~"))),
            None => line.add(Tone::Faint, "none"),
        }
        lines.push(line);
    }
    let mut text: String = lines.iter().map(|line| line.render(style) + "\n").collect();
    if hints {
        let hint = Line::new().with(Tone::Faint, "'memini report INCIDENT' shows one");
        text.extend([hint.render(style), "\n".to_owned()]);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;

    const WIDE: Style = Style { width: 120, height: None, unicode: true, colours: false };

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn incident(&self, name: &str, text: &str) {
            let folder = self.0.path().join("incidents").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("incident.json"), text).unwrap();
        }

        fn table(&self, style: &Style) -> Vec<String> {
            table(&rows(self.0.path()).unwrap(), style, false).lines().map(str::to_owned).collect()
        }
    }

    fn incident(outcome: &str, gauged: u64) -> String {
        json!({
            "schema": SCHEMA,
            "outcome": outcome,
            "began": "2026-11-22T05:45:01.000Z",
            "of a later version": [1, {"a": null}],
            "timeline": [
                {"event": "stage-began", "sample": {"gauged": 60 << 20, "limit": 100 << 20}},
                {"event": "stage-began", "sample": {"gauged": gauged << 20, "limit": 100 << 20}},
                {"event": "exit"},
            ],
            "evidence": {"suspects": [{
                "what": "__main__.data: list", "growth": 50 << 20, "bytes": 70 << 20, "process": {"pid": 7, "comm": "python3"},
            }]},
        })
        .to_string()
    }

    #[test]
    fn the_newest_comes_first_and_says_how_it_went() {
        let folder = Folder::new();
        folder.incident("2026-11-22T05-45-01Z-web-1", &incident("oom-killed", 99));
        folder.incident("2026-11-23T05-45-01Z-web-2", &incident("recovered", 85));
        folder.incident("notes", "no incident");
        fs::write(folder.0.path().join("incidents/2026-11-24T05-45-01Z-web-3"), "a file").unwrap();
        let lines = folder.table(&WIDE);
        let short: Vec<String> =
            lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let suspect = "+50 MiB __main__.data: list [python3 7]";
        let [head, newest, oldest] = &short[..] else { panic!("{lines:?}") };
        assert_eq!(head, "incident (UTC) outcome highest on disk first suspect");
        assert!(newest.starts_with("2026-11-23T05-45-01Z-web-2 recovered 85% of 100 MiB "), "{newest}");
        assert!(oldest.starts_with("2026-11-22T05-45-01Z-web-1 oom-killed 99% of 100 MiB "), "{oldest}");
        assert!(newest.ends_with(suspect) && oldest.ends_with(suspect), "{lines:?}");
        // Columns are columns.
        let column = |line: &str| line.find("+50").unwrap();
        assert_eq!(column(&lines[1]), column(&lines[2]));
    }

    #[test]
    fn what_is_broken_says_so_and_the_others_are_still_listed() {
        let folder = Folder::new();
        for (number, text, why) in [
            (1, "", "it is no incident.json: EOF while parsing a value at line 1 column 0"),
            (2, "{\"schema\": ", "it is no incident.json: EOF"),
            (3, "{}", "incident.json does not say that it is a memini.incident/1"),
            (4, r#"{"schema":"memini.incident/2"}"#, "incident.json does not say that it is a memini.incident/1"),
            (5, "\u{1b}[2J\n", "it is no incident.json: "),
        ] {
            let name = format!("2026-11-22T05-45-0{number}Z-web-1");
            folder.incident(&name, text);
            let lines = folder.table(&WIDE);
            let line = lines.iter().find(|line| line.starts_with(&name)).unwrap();
            assert!(line.contains(why) && !line.contains('\u{1b}'), "{line}");
            assert_eq!(lines.len(), number + 1);
        }
        let link = folder.0.path().join("incidents/2026-11-22T05-45-09Z-web-1");
        fs::create_dir(&link).unwrap();
        assert!(folder.table(&WIDE)[1].ends_with("incident.json is not written yet, or never was"));
        symlink("/etc/passwd", link.join("incident.json")).unwrap();
        assert!(folder.table(&WIDE)[1].ends_with("cannot read incident.json: it is a symbolic link"));
        fs::remove_file(link.join("incident.json")).unwrap();
        nix::unistd::mkfifo(&link.join("incident.json"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(folder.table(&WIDE)[1].ends_with("cannot read incident.json: it is not a file"));
    }

    #[test]
    fn wrong_kinds_of_values_are_as_good_as_none_and_names_do_no_harm() {
        let folder = Folder::new();
        let hostile = json!({
            "schema": SCHEMA, "outcome": 7, "began": [], "timeline": {"a": 1},
            "evidence": {"suspects": [{"what": "a\u{1b}[2J\nmemini: forged\u{202e}", "bytes": u64::MAX, "process": {"pid": "x"}}]},
        });
        folder.incident("2026-11-22T05-45-01Z-web-1", &hostile.to_string());
        let lines = folder.table(&WIDE);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with("16 EiB a\\u{1b}[2J\\nmemini: forged\\u{202e}"), "{lines:?}");
        assert!(!lines[1].contains(char::is_control));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let folder = Folder::new();
        folder.incident("2026-11-22T05-45-01Z-a-host-with-a-very-long-name-1", &incident("recovered", 85));
        folder.incident("2026-11-22T05-45-02Z-web-1", "");
        for columns in [40, 60, 80, 200] {
            let lines = folder.table(&Style { width: columns, ..WIDE });
            assert!(lines.iter().all(|line| width(line) <= columns), "{lines:?}");
        }
    }

    #[test]
    fn none_is_an_answer_and_a_folder_that_cannot_be_read_is_none() {
        let folder = Folder::new();
        let ask = |dir: &Path, json: bool| incidents(&Question { json, dir: dir.to_owned() });
        let dir = folder.0.path();
        assert_eq!(ask(dir, false), Ok(format!("no incidents in {}: memory was never high\n", dir.display())));
        let gone = dir.join("gone");
        assert_eq!(ask(&gone, false), Ok(format!("no incidents in {}: there is no such folder\n", gone.display())));
        fs::write(dir.join("incidents"), "").unwrap();
        let why = ask(dir, false).unwrap_err();
        assert!(why.starts_with("cannot read ") && why.ends_with("; no incident can be listed"), "{why}");
        fs::remove_file(dir.join("incidents")).unwrap();
        folder.incident("2026-11-22T05-45-01Z-web-1", &incident("recovered", 85));
        let answer: Value = serde_json::from_str(&ask(dir, true).unwrap()).unwrap();
        assert_eq!(
            (&answer["schema"], &answer["incidents"][0]["limit"]),
            (&json!("memini.incidents/1"), &json!(100 << 20))
        );
    }
}
