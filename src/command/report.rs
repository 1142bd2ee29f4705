//! `memini report`: an incident for people.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::Form;
use crate::incident::report::text::{self, text};
use crate::incident::report::{Story, html};
use crate::incident::{digest, history, retention};

/// The longest `incident.json`: a journal has 64 KiB, and a history of a recorder's some hundred.
const LONGEST: u64 = 16 << 20;

/// What `memini report` was asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// `--format`.
    pub form: Form,
    /// An incident's name, its folder, or a folder with incidents.
    pub which: Option<PathBuf>,
    /// `--dir`, absolute.
    pub dir: PathBuf,
}

/// Why there is no report, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing to be shown.
    Nothing(String),
    /// There is an incident, and it cannot be read.
    Broken(String),
}

/// Answers: the report, with a newline at its end.
///
/// # Errors
/// There is no such incident, or it cannot be read and why.
#[inline(never)]
pub fn report(question: &Question) -> Result<String, Refusal> {
    let folder = find(question)?;
    let path = folder.join("incident.json");
    let cannot = |why: &dyn std::fmt::Display| format!("cannot read {}: {why}", path.display());
    let given = read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Refusal::Nothing(cannot(&error)),
        _ => Refusal::Broken(cannot(&error)),
    })?;
    // Of what cannot be read it is told where it stands in the file.
    let broken = |why: String| Refusal::Broken(cannot(&Story::of(&given).err().unwrap_or(why)));
    let mut incident: Value = serde_json::from_str(&given).map_err(|error| broken(error.to_string()))?;
    look_at_artifacts(&mut incident, &folder);
    let json = history::print(incident);
    let story = Story::of(&json).map_err(broken)?;
    Ok(match question.form {
        Form::Html => html::page(&story),
        Form::Markdown => text(&story, text::Form::Markdown),
        Form::Text => text(&story, text::Form::Lines),
        Form::Json => json,
    })
}

/// The folder of the incident.
fn find(question: &Question) -> Result<PathBuf, Refusal> {
    let Some(which) = &question.which else { return newest(&question.dir) };
    // A name is looked for among the incidents first: that is what a log line and a listing show.
    let named = question.dir.join("incidents").join(which);
    if which.components().count() == 1 && retention::is_incident(which) && named.is_dir() {
        return Ok(named);
    }
    if which.file_name().is_some_and(|name| name == "incident.json") && which.is_file() {
        return Ok(which.parent().map_or_else(PathBuf::new, Path::to_owned));
    }
    if which.join("incidents").is_dir() {
        return newest(which);
    }
    if !which.is_dir() {
        let dir = question.dir.display();
        return Err(Refusal::Nothing(format!("there is no incident {} (in {dir})", which.display())));
    }
    Ok(which.clone())
}

/// The newest of those below this folder.
fn newest(dir: &Path) -> Result<PathBuf, Refusal> {
    let incidents = dir.join("incidents");
    let none = || {
        let dir = dir.display();
        Refusal::Nothing(format!("there is no incident in {dir}: memory was never high, or --dir was another one"))
    };
    let entries = match fs::read_dir(&incidents) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(none()),
        Err(error) => return Err(Refusal::Broken(format!("cannot read {}: {error}", incidents.display()))),
    };
    let names = entries.flatten().map(|entry| PathBuf::from(entry.file_name()));
    // One that has just begun is not written yet.
    let written = |name: &PathBuf| incidents.join(name).join("incident.json").is_file();
    // By name, which is by time.
    let newest = names.filter(|name| retention::is_incident(name)).filter(written).max();
    newest.map(|name| incidents.join(name)).ok_or_else(none)
}

pub(super) fn read(path: &Path) -> std::io::Result<String> {
    let file = open(path)?;
    let mut text = String::new();
    file.take(LONGEST.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(std::io::Error::other("it is too long for one"));
    }
    Ok(text)
}

/// A FIFO in its place must not be waited for.
fn open(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("it is not a file")) }
}

/// Says which artifacts were removed since, and adds digests of those that were too large for that while the incident went on.
fn look_at_artifacts(incident: &mut Value, folder: &Path) {
    let artifacts = incident.get_mut("artifacts").and_then(Value::as_array_mut);
    for artifact in artifacts.into_iter().flatten().filter_map(Value::as_object_mut) {
        let name = artifact.get("file").and_then(Value::as_str).and_then(|file| file.strip_prefix("artifacts/"));
        // Nothing that leads out of the folder.
        let Some(name) = name.filter(|name| !name.contains('/')) else { continue };
        let path = folder.join("artifacts").join(name);
        let found = fs::symlink_metadata(&path);
        if found.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            artifact.insert("missing".into(), true.into());
            continue;
        }
        let is_link = found.is_ok_and(|metadata| metadata.is_symlink());
        if is_link || name.ends_with(".partial") || artifact.get("sha256").is_some_and(Value::is_string) {
            continue;
        }
        if let Ok(sha256) = open(&path).and_then(digest::of) {
            artifact.insert("sha256".into(), sha256.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn incident(&self, name: &str, text: &str) -> PathBuf {
            let folder = self.0.path().join("incidents").join(name);
            fs::create_dir_all(folder.join("artifacts")).unwrap();
            fs::write(folder.join("incident.json"), text).unwrap();
            folder
        }

        fn ask(&self, which: Option<&Path>) -> Result<String, Refusal> {
            let which = which.map(Path::to_owned);
            report(&Question { form: Form::Text, which, dir: self.0.path().to_owned() })
        }
    }

    fn incident(summary: &str) -> String {
        format!(
            r#"{{"schema":"memini.incident/1","summary":"{summary}","artifacts":[{{"file":"artifacts/a","bytes":1}}]}}"#
        )
    }

    #[test]
    fn the_newest_is_shown_or_the_one_that_is_named() {
        let place = Place::new();
        let first = place.incident("2026-11-22T05-45-01Z-web-1", &incident("the first"));
        place.incident("2026-11-22T06-45-01Z-web-2", &incident("the second"));
        place.incident("notes", &incident("no incident"));
        fs::create_dir_all(place.0.path().join("incidents/2026-11-22T07-45-01Z-web-3")).unwrap();
        for (which, summary) in [
            (None, "the second\n"),
            (Some(Path::new("2026-11-22T05-45-01Z-web-1")), "the first\n"),
            (Some(&*first), "the first\n"),
            (Some(&*first.join("incident.json")), "the first\n"),
            (Some(place.0.path()), "the second\n"),
        ] {
            let text = place.ask(which).unwrap();
            assert!(text.starts_with(summary), "{which:?}: {text}");
        }
    }

    #[test]
    fn what_is_missing_or_broken_is_one_line() {
        let place = Place::new();
        let dir = place.0.path().display().to_string();
        let none = format!("there is no incident in {dir}: memory was never high, or --dir was another one");
        assert_eq!(place.ask(None), Err(Refusal::Nothing(none)));
        let why = place.ask(Some(Path::new("gone")));
        assert_eq!(why, Err(Refusal::Nothing(format!("there is no incident gone (in {dir})"))));
        let broken = |refusal: Refusal| match refusal {
            Refusal::Broken(why) => why,
            Refusal::Nothing(why) => panic!("nothing: {why}"),
        };
        for (name, text, why) in [
            ("2026-11-22T05-45-01Z-web-1", "", "incident.json: it is no incident.json: EOF"),
            ("2026-11-22T05-45-02Z-web-1", "{", "incident.json: it is no incident.json: EOF"),
            ("2026-11-22T05-45-03Z-web-1", "{}", "incident.json: it does not say that it is a memini.incident/1"),
            (
                "2026-11-22T05-45-04Z-web-1",
                r#"{"schema":"memini.incident/1","timeline":7}"#,
                "incident.json: it is no incident.json: invalid type: integer `7`, expected a sequence at line 1 column 42",
            ),
        ] {
            place.incident(name, text);
            let said = broken(place.ask(None).unwrap_err());
            assert!(said.starts_with("cannot read ") && said.contains(why) && !said.contains('\n'), "{said}");
        }
        let folder = place.incident("2026-11-22T05-45-05Z-web-1", "");
        fs::remove_file(folder.join("incident.json")).unwrap();
        let said = place.ask(Some(&folder)).unwrap_err();
        assert!(matches!(&said, Refusal::Nothing(why) if why.contains("No such file or directory")), "{said:?}");
        nix::unistd::mkfifo(&folder.join("incident.json"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(broken(place.ask(Some(&folder)).unwrap_err()).ends_with("it is not a file"));
    }

    #[test]
    fn files_without_a_digest_get_one_and_nothing_outside_is_read() {
        let place = Place::new();
        let folder =
            place.incident("2026-11-22T05-45-01Z-web-1", &incident("x").replace("artifacts/a", "artifacts/../x"));
        fs::write(folder.join("x"), "x").unwrap();
        assert!(!place.ask(None).unwrap().contains("SHA-256"));
        fs::write(folder.join("incident.json"), incident("x")).unwrap();
        assert!(!place.ask(None).unwrap().contains("SHA-256"), "there is no such file");
        fs::write(folder.join("artifacts/a"), "abc").unwrap();
        assert!(place.ask(None).unwrap().contains("SHA-256 ba7816bf"));
    }

    #[test]
    fn a_heap_dump_that_was_removed_since_is_not_recommended() {
        let place = Place::new();
        let digest = "0".repeat(64);
        let dump = format!(r#"{{"file":"artifacts/heap-2-1.hprof.gz","bytes":1,"sha256":"{digest}"}}"#);
        let artifacts = incident("x").replace(r#"{"file":"artifacts/a","bytes":1}"#, &dump);
        let folder = place.incident("2026-11-22T05-45-01Z-web-1", &artifacts);
        let ask =
            |form| report(&Question { form, which: Some(folder.clone()), dir: place.0.path().to_owned() }).unwrap();
        for form in [Form::Text, Form::Markdown, Form::Html] {
            let text = ask(form);
            let told = (text.contains("ParseHeapDump.sh"), text.contains("not there any more"), text.contains(&digest));
            assert_eq!(told, (false, true, true), "{text}");
        }
        assert!(ask(Form::Json).contains(r#""missing": true"#), "{}", ask(Form::Json));
        fs::write(folder.join("artifacts/heap-2-1.hprof.gz"), "x").unwrap();
        for form in [Form::Text, Form::Markdown, Form::Html] {
            let text = ask(form);
            let told = (text.matches("ParseHeapDump.sh").count(), text.contains("not there any more"));
            assert_eq!(told, (2, false), "{text}");
        }
        assert!(!ask(Form::Json).contains("missing"));
    }
}
