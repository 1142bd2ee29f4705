//! `__worker record`: writes `incident.json`, and at the end the termination message and the report.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde_json::Value;

use crate::capture::sentences;
use crate::capture::snapshot::Composition;
use crate::capture::suspects::Findings;
use crate::config::Keeping;
use crate::incident::folder::Folder;
use crate::incident::record::{Found, Record};
use crate::incident::{digest, history, report, retention};
use crate::recorder::reader;
use crate::supervisor::report::Report;

/// The longest file of evidence that is read back.
const LONGEST_EVIDENCE: u64 = 8 << 20;

/// How many of them are.
const MOST_EVIDENCE: usize = 8;

/// What the report needs, in the app's group. Measured with a journal that is full, and rounded up. Bytes.
const COST_OF_REPORT: u64 = 8 << 20;

/// What the history needs, in the app's group: the recorder's file, and what is read of it. Measured with a full recorder of the
/// largest size, and rounded up. Bytes.
const COST_OF_HISTORY: u64 = 8 << 20;

/// The words after `__worker record`: folder, incident, the journal's descriptor and length, entries lost, the recorder's
/// descriptor (empty without one), how much is kept, and the file for the termination message (empty while the incident goes on).
pub fn run(words: &[OsString]) -> Option<()> {
    let [dir, name, journal, length, lost, recorder, keeping, termination_log] = words else { return None };
    let journal = journal.to_str()?.parse().ok()?;
    let length = length.to_str()?.parse().ok()?;
    let lost = lost.to_str()?.parse().ok()?;
    let keeping = serde_json::from_str(keeping.to_str()?).ok()?;
    let journal = match read_journal(journal, length) {
        Ok(journal) => journal,
        Err(error) => {
            Report::Failed(&format!("cannot read the journal: {error}; the incident is not recorded")).send();
            return Some(());
        }
    };
    let (dir, name) = (Path::new(dir), name.to_str()?);
    let recorder = recorder.to_str()?.parse().ok();
    // When the app has ended there is room, and nobody else would tell it later.
    let is_last = !termination_log.is_empty();
    let recorder = recorder.filter(|_| is_last || has_room(COST_OF_HISTORY));
    write(dir, name, &journal, lost, recorder, termination_log);
    tidy(dir, name, &keeping);
    Some(())
}

/// After it is written: the last words may have little time.
fn tidy(dir: &Path, name: &str, keeping: &Keeping) {
    // Where the folder cannot be opened, that was said.
    let Ok(left) = retention::tidy(dir, name, keeping, 0) else { return };
    for complaint in left.complaints {
        Report::Warning(&complaint).send();
    }
}

fn write(dir: &Path, name: &str, journal: &str, lost: u64, recorder: Option<i32>, termination_log: &OsStr) {
    let is_last = !termination_log.is_empty();
    let mut record = Record::new(journal, lost, Vec::new());
    let opened = Folder::of_incident(dir, name).and_then(|folder| Ok((folder.enter("artifacts".as_ref())?, folder)));
    let place = match &opened {
        Ok((artifacts, folder)) => {
            record.keep(digest::artifacts(artifacts, 0, |name, bytes| record.told_digest(name, bytes)));
            if let Some(found) = best(&record, folder.path()) {
                record.tell(found);
            }
            folder.path().display().to_string()
        }
        Err(error) => {
            Report::Warning(&format!("{error}; the incident is in this log only")).send();
            "none, the folder could not be written".to_owned()
        }
    };
    // PID 1 does not wait for long, and a machine may be slow: what matters most comes first.
    let is_saved = !is_last || opened.as_ref().is_ok_and(|(_, folder)| save(folder, &record).is_some());
    if is_last {
        write_termination_log(Path::new(termination_log), &record.message(&place));
    }
    let Some((artifacts, folder)) = opened.ok().filter(|_| is_saved) else { return };
    record.keep(digest::artifacts(&artifacts, digest::MOST, |name, bytes| record.told_digest(name, bytes)));
    record.remember(recorder.map(history_in).unwrap_or_default());
    if let Some(json) = save(&folder, &record).filter(|_| record.outcome() != "open") {
        write_report(&folder, &json);
    }
}

/// The record, if it could be written.
fn save(folder: &Folder, record: &Record) -> Option<String> {
    let json = record.json();
    match folder.replace("incident.json", json.as_bytes()) {
        Ok(()) => {
            Report::Written.send();
            Some(json)
        }
        Err(error) => {
            let path = folder.path().join("incident.json");
            let path = path.display();
            Report::Warning(&format!("cannot write {path}: {error}; the incident is in this log only")).send();
            None
        }
    }
}

/// Whether so many bytes are left below the limit.
fn has_room(bytes: u64) -> bool {
    super::capture::composition().is_none_or(|Composition { usage, limit, clean, .. }| {
        limit.is_none_or(|limit| limit.saturating_sub(usage.saturating_sub(clean)) >= bytes)
    })
}

/// What the recorder has kept. The record is worth having without it: whatever is wrong with the file is told by who finds it.
fn history_in(descriptor: i32) -> Value {
    let file = crate::sys::descriptors::duplicate(descriptor).map(File::from);
    file.ok().and_then(|file| reader::read(&file).ok()).map_or(Value::Null, |recorded| history::of(&recorded))
}

/// The report for people. It can be had at any time of `memini report`: what speaks against it now is no great loss.
pub(super) fn write_report(folder: &Folder, json: &str) {
    if !has_room(COST_OF_REPORT) {
        return;
    }
    let page = match report::Story::of(json) {
        Ok(story) => report::html::page(&story),
        Err(why) => {
            Report::Warning(&format!("{why}; there is no report of this incident")).send();
            return;
        }
    };
    if let Err(error) = folder.replace("report.html", page.as_bytes()) {
        let path = folder.path().join("report.html");
        let path = path.display();
        Report::Warning(&format!("cannot write {path}: {error}; 'memini report' makes one elsewhere")).send();
    }
}

/// The newest evidence that looked into a process; the last look may have found one that was leaving already. Else the newest
/// of all.
fn best(record: &Record, folder: &Path) -> Option<Found> {
    let mut newest = None;
    for file in record.evidence_files().take(MOST_EVIDENCE) {
        let Some(findings) = findings(&folder.join(file)) else { continue };
        let is_deep = findings.suspects.iter().any(|suspect| suspect.rung > 0);
        let lines = sentences::lines(&findings);
        let Ok(findings) = serde_json::to_value(findings) else { continue };
        let found = Found { file: file.to_owned(), lines, findings };
        if is_deep {
            return Some(found);
        }
        newest.get_or_insert(found);
    }
    newest
}

/// What the evidence of this file says. Without it, the file itself is still among the artifacts.
fn findings(path: &Path) -> Option<Findings> {
    #[derive(serde::Deserialize)]
    struct Answer {
        findings: Findings,
    }
    let mut text = Vec::new();
    File::open(path).ok()?.take(LONGEST_EVIDENCE).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).map(|Answer { findings }| findings).ok()
}

fn read_journal(descriptor: i32, length: usize) -> std::io::Result<String> {
    // Both numbers are memini's own; a worker that was started by hand shall do no harm all the same.
    let mut bytes = vec![0; length.min(1 << 20)];
    let journal = File::from(crate::sys::descriptors::duplicate(descriptor)?);
    journal.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes to the file if it is there: Kubernetes mounts it, elsewhere it is missing and that is all right.
fn write_termination_log(path: &Path, message: &str) {
    let opened = OpenOptions::new()
        .write(true)
        .truncate(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW)
        .open(path);
    let result = match opened {
        Ok(mut file) => file.write_all(message.as_bytes()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        let path = path.display();
        Report::Warning(&format!("cannot write {path}: {error}; the termination message is lost")).send();
    }
}
