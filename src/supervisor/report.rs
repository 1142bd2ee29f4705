//! What workers and PID 1 say to one another: lines of text on the worker's standard output, which is a pipe.

use std::io::Write;
use std::time::Duration;

/// The hidden first argument of memini's own workers.
pub const WORKER: &str = "__worker";

/// How long a process is held at the most, to be looked at. A look of 0.3 s is over long before; whoever is later is stuck or
/// stopped itself, and the process is let go on for it.
pub const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// What a worker has to tell PID 1.
#[derive(Debug, PartialEq, Eq)]
pub enum Report<'a> {
    /// `group N`: the hook's process group.
    Group(i32),
    /// `tail TEXT`: one of the last lines of a hook's output.
    Tail(&'a str),
    /// `output BYTES FILE`: where a hook's output stands.
    Output(u64, &'a str),
    /// `found TEXT`: a line of what the evidence says.
    Found(&'a str),
    /// `so-far TEXT`: the same, of what is known before the end. It counts only if nothing is found any more.
    SoFar(&'a str),
    /// `told TEXT`: a line for the log that calls for nothing.
    Told(&'a str),
    /// `left-out TEXT`: what was not done, and why.
    LeftOut(&'a str),
    /// `digest BYTES SHA-256 FILE`: a file that is whole.
    Digest(u64, &'a str, &'a str),
    /// `holds PID`: a process is about to be stopped, to be looked at; 0: it goes on.
    Holds(i32),
    /// `ready`: the guardian stands guard; the recorder is sent.
    Ready,
    /// `written`: the record is on disk.
    Written,
    /// `code N`: the hook ended so.
    Code(u8),
    /// `signal N`: the hook ended by this signal.
    Signal(i32),
    /// `warning TEXT`: something went wrong that the log should tell.
    Warning(&'a str),
    /// `failed TEXT`: nothing could be done at all.
    Failed(&'a str),
}

impl<'a> Report<'a> {
    /// Reads a line.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        Some(match key {
            "ready" => Self::Ready,
            "written" => Self::Written,
            "found" => Self::Found(value),
            "so-far" => Self::SoFar(value),
            "told" => Self::Told(value),
            "left-out" => Self::LeftOut(value),
            "digest" => {
                let (bytes, rest) = value.split_once(' ')?;
                let (digest, file) = rest.split_once(' ')?;
                Self::Digest(bytes.parse().ok()?, digest, file)
            }
            "holds" => Self::Holds(value.parse().ok()?),
            "group" => Self::Group(value.parse().ok()?),
            "tail" => Self::Tail(value),
            "output" => {
                let (bytes, file) = value.split_once(' ')?;
                Self::Output(bytes.parse().ok()?, file)
            }
            "code" => Self::Code(value.parse().ok()?),
            "signal" => Self::Signal(value.parse().ok()?),
            "warning" => Self::Warning(value),
            "failed" => Self::Failed(value),
            _ => return None,
        })
    }

    /// Tells it to PID 1. If PID 1 does not listen any more there is nobody left to tell.
    pub fn send(&self) {
        let mut output = std::io::stdout().lock();
        let _ = output.write_all(self.line().as_bytes()).and_then(|()| output.flush());
    }

    /// One line, whatever is in the text: what is told of the app must not be taken for a report of its own.
    fn line(&self) -> String {
        let line = match self {
            Self::Group(id) => format!("group {id}"),
            Self::Tail(text) => format!("tail {text}"),
            Self::Found(text) => format!("found {text}"),
            Self::SoFar(text) => format!("so-far {text}"),
            Self::Told(text) => format!("told {text}"),
            Self::LeftOut(text) => format!("left-out {text}"),
            Self::Digest(bytes, digest, file) => format!("digest {bytes} {digest} {file}"),
            Self::Holds(id) => format!("holds {id}"),
            Self::Output(bytes, file) => format!("output {bytes} {file}"),
            Self::Ready => "ready".to_owned(),
            Self::Written => "written".to_owned(),
            Self::Code(code) => format!("code {code}"),
            Self::Signal(number) => format!("signal {number}"),
            Self::Warning(text) => format!("warning {text}"),
            Self::Failed(text) => format!("failed {text}"),
        };
        line.replace('\n', "\\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_be_taken_for_a_report_of_its_own() {
        let text = "java\nholds 1\ncode 0";
        let texts = [Report::Found(text), Report::SoFar(text), Report::Warning(text), Report::Failed(text)];
        for report in texts.into_iter().chain([Report::Output(1, text)]) {
            let line = report.line();
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(line.ends_with('\n'));
        }
    }

    #[test]
    fn lines_that_are_no_report_are_passed_over() {
        for line in ["", "group", "group x", "code 256", "output 5", "digest 5 ab", "unknown 1"] {
            assert_eq!(Report::parse(line), None, "{line:?}");
        }
        assert_eq!(Report::parse("tail  two  spaces"), Some(Report::Tail(" two  spaces")));
        assert_eq!(Report::parse("output 17 artifacts/a b.log"), Some(Report::Output(17, "artifacts/a b.log")));
        assert_eq!(Report::parse("digest 17 ab artifacts/a b"), Some(Report::Digest(17, "ab", "artifacts/a b")));
    }
}
