//! What memini's own processes say to one another: reports of workers, and the journal that an incident's record is made
//! of. A worker may be killed in the middle of a word, and a hook's output is any text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memini_fuzz::incident::record::{Artifact, LONGEST_MESSAGE, Record};
use memini_fuzz::supervisor::report::Report;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    for line in text.lines() {
        let said = match Report::parse(line) {
            Some(Report::Group(id)) => format!("group {id}"),
            Some(Report::Tail(text)) => format!("tail {text}"),
            Some(Report::Output(bytes, file)) => format!("output {bytes} {file}"),
            Some(Report::Found(text)) => format!("found {text}"),
            Some(Report::SoFar(text)) => format!("so-far {text}"),
            Some(Report::Told(text)) => format!("told {text}"),
            Some(Report::LeftOut(text)) => format!("left-out {text}"),
            Some(Report::Digest(bytes, digest, file)) => format!("digest {bytes} {digest} {file}"),
            Some(Report::Holds(id)) => format!("holds {id}"),
            Some(Report::Code(code)) => format!("code {code}"),
            Some(Report::Signal(number)) => format!("signal {number}"),
            Some(Report::Warning(text)) => format!("warning {text}"),
            Some(Report::Failed(text)) => format!("failed {text}"),
            Some(Report::Ready | Report::Written) | None => continue,
        };
        assert_eq!(Report::parse(&said), Report::parse(line));
    }

    let record = Record::new(&text, 3, vec![Artifact { name: "capture-1.log".to_owned(), bytes: 17, sha256: None }]);
    let json = record.json();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["schema"], "memini.incident/1");
    assert!(value["timeline_entries_lost"].as_u64().unwrap() >= 3);
    let known = ["open", "recovered", "stopped", "killed", "oom-killed", "exited"];
    assert!(known.contains(&record.outcome()));
    let message = record.message("/tmp/memini/incidents/1");
    assert!(message.len() <= LONGEST_MESSAGE, "{}", message.len());
    assert!(!record.headline().is_empty());
});
