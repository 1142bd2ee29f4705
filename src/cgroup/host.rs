//! The whole machine as a level: the room where no limit applies at all.

use std::path::Path;

use super::file::{KernelFile, TABLE};
use super::parse::{self, Fault, Flaw, MemInfo};
use super::reading::{Level, Scope};
use super::source::ReadError;

/// MemTotal and MemAvailable.
#[derive(Debug)]
pub struct Host {
    meminfo: KernelFile,
}

impl Host {
    /// Opens `/proc/meminfo` below `root`.
    ///
    /// # Errors
    /// Where it cannot be used, or the kernel does not tell MemAvailable (before Linux 3.14).
    pub fn open(root: &Path) -> Result<Self, ReadError> {
        let mut host = Self { meminfo: KernelFile::open(root.join("proc/meminfo"))? };
        host.level()?;
        Ok(host)
    }

    /// Reads the level: MemTotal − MemAvailable of MemTotal.
    ///
    /// # Errors
    /// As [`Host::open`].
    pub fn level(&mut self) -> Result<Level, ReadError> {
        let usage_and_total = |text: &[u8]| usage_and_total(&parse::meminfo(text)?);
        let (usage, total) = self.meminfo.read::<TABLE, _>(usage_and_total)?;
        Ok(Level { scope: Scope::Host, usage, limit: Some(total), ..Level::default() })
    }
}

fn usage_and_total(info: &MemInfo) -> Result<(u64, u64), Fault> {
    let missing = Fault { line: 1, flaw: Flaw::Missing("MemAvailable") };
    let available = info.available.ok_or(missing)?;
    Ok((info.total.saturating_sub(available), info.total))
}
