//! PID 1's log: lines on standard error that are written whole or not at all, and never waited for.
//!
//! A full pipe must not stop an init, and a closed one must not end it. A line that cannot be written now is dropped
//! and counted, and the next line that goes through tells the count.

use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::Serialize;

use crate::config::LogFormat;
use crate::sys::output;
use crate::text::{Line, PlainJson};

/// The longest line. Below PIPE_BUF (4096), so that a pipe takes it whole.
const LONGEST: usize = 2048;
/// The longest message in it.
const MESSAGE: usize = 1536;

struct Sink {
    format: LogFormat,
    dropped: AtomicU32,
}

static TEXT: Sink = Sink { format: LogFormat::Text, dropped: AtomicU32::new(0) };
static JSON: Sink = Sink { format: LogFormat::Json, dropped: AtomicU32::new(0) };

/// Where standard error is a terminal: an own description of it.
static TERMINAL: OnceLock<OwnedFd> = OnceLock::new();

/// Directs everything that is logged from here on to the sink.
pub fn install(format: LogFormat, level: LevelFilter) {
    let sink = match format {
        LogFormat::Text => &TEXT,
        LogFormat::Json => &JSON,
    };
    if let Some(terminal) = output::own_terminal(std::io::stderr().as_fd()) {
        let _ = TERMINAL.set(terminal);
    }
    // It fails only when a logger is set already, and then that one serves.
    let _ = log::set_logger(sink);
    log::set_max_level(level);
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: &'a str,
    level: &'static str,
    message: &'a str,
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

impl Sink {
    /// Whether the line was written.
    fn write(&self, level: Level, message: &str) -> bool {
        let mut line = match self.format {
            LogFormat::Text => text(message),
            LogFormat::Json => json(level, message),
        };
        line.end_with(b"\n");
        let error = std::io::stderr();
        let descriptor = TERMINAL.get().map_or_else(|| error.as_fd(), AsFd::as_fd);
        output::write_now(descriptor, line.as_bytes()).is_ok()
    }
}

/// The message as one line, whatever is in it.
fn text(message: &str) -> Line<LONGEST> {
    let mut line = Line::new();
    let _ = line.write_str("memini: ");
    line.add_plain(message);
    line
}

/// The message as one JSON object. One whose escapes would make it too long is shortened until it fits.
fn json(level: Level, message: &str) -> Line<LONGEST> {
    let mut time = Line::<40>::new();
    let _ = write!(time, "{}", humantime::format_rfc3339_millis(SystemTime::now()));
    let mut message = message;
    loop {
        let mut line = Line::new();
        let object = JsonLine { time: time.as_str(), level: name(level), message };
        let mut serializer = serde_json::Serializer::with_formatter(&mut line, PlainJson);
        if object.serialize(&mut serializer).is_ok() || message.is_empty() {
            return line;
        }
        let half = (0..=message.len() / 2).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message = message.get(..half).unwrap_or_default();
    }
}

impl Log for Sink {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            let mut note = Line::<80>::new();
            let _ = write!(note, "{dropped} log lines were dropped: standard error took no more");
            if self.write(Level::Warn, note.as_str()) {
                self.dropped.fetch_sub(dropped, Ordering::Relaxed);
            }
        }
        let mut message = Line::<MESSAGE>::new();
        let _ = write!(message, "{}", record.args());
        if !self.write(record.level(), message.as_str()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_is_json_however_much_must_be_escaped() {
        let message = "\u{1}é\"\\".repeat(400);
        let line = json(Level::Warn, &message);
        let value: serde_json::Value = serde_json::from_slice(line.as_bytes()).unwrap();
        assert_eq!(value["level"], "warn");
        assert!(message.starts_with(value["message"].as_str().unwrap()));
        assert!(line.as_bytes().len() > LONGEST / 4);
    }

    #[test]
    fn a_line_does_not_act_on_a_terminal() {
        let message = "\u{9b}2J\u{202e}\n\u{2028}é";
        let line = json(Level::Info, message);
        assert!(!line.as_str().contains(crate::text::acts), "{}", line.as_str());
        let value: serde_json::Value = serde_json::from_slice(line.as_bytes()).unwrap();
        assert_eq!(value["message"], message);
        assert_eq!(text(message).as_str(), "memini: ?2J???é");
    }
}
