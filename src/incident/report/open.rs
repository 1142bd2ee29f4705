//! How each artifact is opened.

use std::borrow::Cow;

use super::story::Artifact;

/// What can be done with a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// What it is.
    pub what: &'static str,
    /// What to do with it in a program with windows; may be empty.
    pub how: &'static str,
    /// What to type; empty where there is nothing.
    pub command: String,
}

/// One line of Python that lists the suspects of a look.
const SUSPECTS: &str = "import json,sys; [print(s['growth'], s['what'], s['place'], sep='\\t') for s in \
                        json.load(open(sys.argv[1]))['findings']['suspects']]";

/// Of a file that was looked for in vain.
const MISSING: &str = "It is not there any more: removed since, as --keep-dumps or --max-total say, or by hand.";

/// What there is to know about a file of an incident.
pub fn of_artifact(file: &Artifact) -> Opening {
    let opening = of(&file.file);
    if file.missing { Opening { how: MISSING, command: String::new(), ..opening } } else { opening }
}

/// What there is to know about a file of this name.
pub fn of(file: &str) -> Opening {
    let word = quoted(file);
    let opening = |what, how, command: String| Opening { what, how, command };
    let name = file.rsplit('/').next().unwrap_or(file);
    if name.ends_with(".partial") {
        return opening("cut off: it was not written to its end", "", String::new());
    }
    if name == "recorder" {
        return opening(
            "the flight recorder of the run that was killed",
            "What it tells is in this report, and a part of it in incident.json (history).",
            String::new(),
        );
    }
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    if ends(&[".hprof", ".hprof.gz"]) {
        opening(
            "heap of a JVM",
            "Eclipse MAT: File > Open Heap Dump, then Leak Suspects. VisualVM: File > Load.",
            format!("ParseHeapDump.sh {word} org.eclipse.mat.api:suspects"),
        )
    } else if name.starts_with("evidence-") && ends(&[".json"]) {
        opening("what a look at the processes saw", "", format!("python3 -c \"{SUSPECTS}\" {word}"))
    } else if ends(&[".heapsnapshot", ".heapprofile", ".heaptimeline"]) {
        opening("heap of V8", "Chrome DevTools: Memory > Load profile.", String::new())
    } else if ends(&[".cpuprofile"]) {
        opening("profile of V8", "Chrome DevTools: Performance > Load profile.", String::new())
    } else if ends(&[".pprof", ".pb.gz", ".prof"]) {
        opening("profile for pprof", "", format!("go tool pprof -http=: {word}"))
    } else if ends(&[".jfr"]) {
        opening("JDK Flight Recorder", "JDK Mission Control: File > Open File.", format!("jfr summary {word}"))
    } else if ends(&[".core"]) || name.starts_with("core.") || name == "core" {
        opening("core of a process", "", format!("gdb PROGRAM {word}"))
    } else if ends(&[".json"]) {
        opening("JSON", "", format!("python3 -m json.tool {word}"))
    } else if ends(&[".log", ".txt"]) {
        opening("text, as a hook has printed it", "", format!("less {word}"))
    } else if ends(&[".gz"]) {
        opening("compressed", "", format!("gzip -dc {word} | less"))
    } else {
        opening("written by a hook", "", format!("file {word}"))
    }
}

/// As one word of a shell's.
fn quoted(file: &str) -> Cow<'_, str> {
    // What cannot be a word was made plain before.
    shlex::try_quote(file).unwrap_or(Cow::Borrowed("FILE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_has_its_way() {
        for (file, command) in [
            (
                "artifacts/heap-2-1.hprof.gz",
                "ParseHeapDump.sh artifacts/heap-2-1.hprof.gz org.eclipse.mat.api:suspects",
            ),
            ("artifacts/heap.pb.gz", "go tool pprof -http=: artifacts/heap.pb.gz"),
            ("artifacts/a b.json", "python3 -m json.tool 'artifacts/a b.json'"),
            ("artifacts/$(reboot).log", "less 'artifacts/$(reboot).log'"),
            ("artifacts/x.heapsnapshot", ""),
            ("artifacts/recorder", ""),
            ("artifacts/heap-2-1.hprof.gz.partial", ""),
            ("artifacts/anything", "file artifacts/anything"),
        ] {
            assert_eq!(of(file).command, command);
        }
        assert!(of("artifacts/evidence-stop-3.json").command.starts_with("python3 -c "));
    }
}
