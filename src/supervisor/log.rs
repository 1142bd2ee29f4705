//! PID 1's log: lines on standard error that are written whole or not at all, and never waited for.
//!
//! A full pipe must not stop an init, and a closed one must not end it. So each line is written only if poll(2) says
//! that it would not block; else it is dropped and counted, and the next line that goes through tells the count.
//! O_NONBLOCK would be simpler, but it belongs to the open file, which the app shares.

use std::fmt::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use log::{LevelFilter, Log, Metadata, Record};
use serde::Serialize;

use crate::config::LogFormat;
use crate::sys::poll;
use crate::text::Line;

/// The longest line. Below PIPE_BUF (4096), so that a pipe takes it whole.
const LONGEST: usize = 2048;

struct Sink {
    format: LogFormat,
    dropped: AtomicU32,
}

static TEXT: Sink = Sink { format: LogFormat::Text, dropped: AtomicU32::new(0) };
static JSON: Sink = Sink { format: LogFormat::Json, dropped: AtomicU32::new(0) };

/// Directs everything that is logged from here on to the sink.
pub fn install(format: LogFormat, level: LevelFilter) {
    let sink = match format {
        LogFormat::Text => &TEXT,
        LogFormat::Json => &JSON,
    };
    // It fails only when a logger is set already, and then that one serves.
    let _ = log::set_logger(sink);
    log::set_max_level(level);
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: &'a str,
    level: &'a str,
    message: &'a str,
}

impl Sink {
    fn write(&self, level: &str, message: &str) -> bool {
        let error = std::io::stderr();
        if !poll::is_writable(error.as_fd()) {
            return false;
        }
        let mut line = Line::<LONGEST>::new();
        match self.format {
            LogFormat::Text => {
                let _ = write!(line, "memini: {message}");
                line.replace_controls();
            }
            LogFormat::Json => {
                let mut time = Line::<40>::new();
                let _ = write!(time, "{}", humantime::format_rfc3339_millis(SystemTime::now()));
                let json = JsonLine { time: time.as_str(), level, message };
                if serde_json::to_writer(&mut line, &json).is_err() {
                    // Escapes made it too long: half a message is still JSON.
                    line = Line::new();
                    let half = message.chars().take(message.chars().count() / 4).collect::<String>();
                    let _ = serde_json::to_writer(&mut line, &JsonLine { time: time.as_str(), level, message: &half });
                }
            }
        }
        line.end_with(b"\n");
        // Standard error itself buffers nothing and takes a line of this length whole, or says that it cannot.
        nix::unistd::write(error.as_fd(), line.as_bytes()).is_ok()
    }
}

impl Log for Sink {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = record.level().as_str().to_ascii_lowercase();
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            let mut note = Line::<64>::new();
            let _ = write!(note, "{dropped} log lines were dropped: standard error was full");
            if self.write("warn", note.as_str()) {
                self.dropped.fetch_sub(dropped, Ordering::Relaxed);
            }
        }
        let mut message = Line::<{ LONGEST - 256 }>::new();
        let _ = write!(message, "{}", record.args());
        if !self.write(&level, message.as_str()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}
