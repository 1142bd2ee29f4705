//! memini's parsers, as the fuzz targets reach them: the files of its own source, in rooms of the same names.
//!
//! memini is a program, not a library, so its modules are taken in here by their paths, and only those that read text
//! and what they need for it.
#![allow(dead_code, reason = "a room has more than its parsers")]

#[path = "../../src/cgroup"]
pub mod cgroup {
    pub mod discovery;
    pub mod parse;
    pub mod reading;
    pub mod source;
}

#[path = "../../src/process"]
pub mod process {
    pub mod folder;
    pub mod list;
    pub mod memory;
}

#[path = "../../src/capture/mod.rs"]
pub mod capture;

#[path = "../../src/engine"]
pub mod engine {
    pub mod event;
    pub mod looks;
    pub mod rate;
    pub mod settings;
    pub mod time;
    pub mod trend;
}

#[path = "../../src/recorder/mod.rs"]
pub mod recorder;

#[path = "../../src/sys"]
pub mod sys {
    pub mod descriptors;
    pub mod directory;
    pub mod guise;
    pub mod map;
    pub mod mask;
    pub mod memory;
    pub mod pages;
    pub mod poll;
    pub mod process;
    pub mod signal;
    pub mod socket;
    pub mod spawn;
}

#[path = "../../src/supervisor"]
pub mod supervisor {
    pub mod report;
}

#[path = "../../src/incident"]
pub mod incident {
    pub mod folder;
    pub mod history;
    pub mod record;
    /// As in memini's own room.
    pub const SCHEMA: &str = "memini.incident/1";
}

#[path = "../../src/cli/mod.rs"]
pub mod cli;
#[path = "../../src/config.rs"]
pub mod config;
#[path = "../../src/cli/hook.rs"]
pub mod hook;
#[path = "../../src/cli/units.rs"]
pub mod option_units;
#[path = "../../src/text.rs"]
pub mod text;
#[path = "../../src/units.rs"]
pub mod units;

/// Whether a message can stand in a log: one line, with nothing in it that a terminal would obey.
pub fn is_one_line(message: &str) -> bool {
    !message.is_empty() && !message.chars().any(char::is_control)
}

/// A number, of the first bytes of some data, and the rest of them.
pub fn number(data: &[u8]) -> (u64, &[u8]) {
    match data.split_first_chunk() {
        Some((first, rest)) => (u64::from_le_bytes(*first), rest),
        None => (0, data),
    }
}

/// A reader that gives few bytes at a time, as a pipe may.
pub struct Drops<'a>(pub &'a [u8], pub usize);

impl std::io::Read for Drops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.1.min(self.0.len()).min(buffer.len());
        let (now, later) = self.0.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}
