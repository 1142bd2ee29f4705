//! What to do now.

use super::open;
use super::story::{Story, Suspect};

/// A piece of advice, and what it is about: a name, or what to type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub text: &'static str,
    pub code: Option<String>,
}

/// The next steps, the first one first; at least one.
pub fn steps(story: &Story) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut step = |text, code| steps.push(Step { text, code });
    let suspects = story.evidence.as_ref().map_or(&[][..], |evidence| &evidence.suspects);
    let is_sure = story.evidence.as_ref().is_some_and(|evidence| evidence.is_conclusive);
    match suspects.first() {
        Some(first) if is_sure => step(about(first), Some(first.what.to_string())),
        Some(_) => step(
            "Nothing explains enough of the growth to be called its cause: compare the suspects with what you know of the app.",
            None,
        ),
        None if story.not_done.is_empty() => {
            step("Nobody was looked into. To see who holds what, in the container:", Some("/memini capture".to_owned()))
        }
        None => step("Nobody was looked into: see what was not done, and why.", None),
    }
    let mut files = story.artifacts.iter().filter(|file| !file.missing);
    let dump = files.find(|file| file.file.ends_with(".hprof.gz") || file.file.ends_with(".hprof"));
    if let Some(dump) = dump {
        step(
            "See in the heap dump who refers to them (Eclipse MAT: Leak Suspects):",
            Some(open::of(&dump.file).command),
        );
    }
    let is_python = suspects.iter().any(|suspect| suspect.place.contains("CPython"));
    if is_python && story.setting("helpers").as_bool() == Some(false) {
        step("To have the lines named that allocate, run memini with", Some("--helpers python".to_owned()));
    }
    if &*story.outcome == "oom-killed" {
        step(
            "The kernel was faster than memini. Lower thresholds leave more time:",
            Some("--stop-at, --kill-at".to_owned()),
        );
    }
    steps
}

fn about(suspect: &Suspect) -> &'static str {
    match &*suspect.place {
        "descriptors" => "Find what opens these and does not close them:",
        "stacks" => "Find what starts threads that do not end:",
        "process tree" => "Find what starts these and does not wait for their end:",
        "shared memory" | "the kernel" => "Find who makes so much of this:",
        "private memory" => "No runtime tells more of this than the kernel does. A profiler of its language would:",
        place if place.starts_with("allocations of ") => {
            "Look at the line that allocates, and at who keeps what it makes:"
        }
        place if place.starts_with("outside the heap of ") => {
            "It is not in the heap. Look for what asks the system for this:"
        }
        place if place.starts_with('/') => "Find who writes these files, which are memory:",
        _ => "Find what fills this, and what should take something out of it again:",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_reads_it_knows_what_to_do_next() {
        let suspect = json!({"what": "app.cache: dict", "place": "heap of CPython 3.11.2"});
        let incident = json!({
            "schema": "memini.incident/1",
            "evidence": {"is_conclusive": true, "suspects": [suspect]},
            "settings": {"helpers": false},
            "artifacts": [{"file": "artifacts/heap-2-1.hprof.gz"}],
            "outcome": "oom-killed",
        });
        let steps = steps(&Story::of(&incident.to_string()).unwrap());
        let codes: Vec<_> = steps.iter().filter_map(|step| step.code.as_deref()).collect();
        assert_eq!(codes.len(), 4);
        assert_eq!((codes[0], codes[2]), ("app.cache: dict", "--helpers python"));
        let nothing = super::steps(&Story::of(r#"{"schema":"memini.incident/1"}"#).unwrap());
        assert_eq!(nothing.len(), 1);
    }

    #[test]
    fn a_dump_that_is_gone_is_not_to_be_opened() {
        let named = |artifacts: serde_json::Value| {
            let incident = json!({"schema": "memini.incident/1", "artifacts": artifacts});
            let steps = steps(&Story::of(&incident.to_string()).unwrap());
            steps.into_iter().find(|step| step.text.contains("heap dump")).and_then(|step| step.code)
        };
        let gone = json!({"file": "artifacts/heap-2-1.hprof.gz", "missing": true});
        let there = json!({"file": "artifacts/heap-2-2.hprof.gz", "missing": false});
        assert_eq!(named(json!([gone])), None);
        assert!(named(json!([gone, there])).unwrap().contains("heap-2-2"));
    }
}
