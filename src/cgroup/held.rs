//! What the whole machine holds: a bound for what a group may have gained, without asking the group.
//!
//! To read `memory.stat` makes the kernel add up what each core has counted, and with such fresh numbers its reclaim treats
//! the page cache differently: an app that lives in a cache at its limit was measured to do 5 to 10% less work while
//! somebody read the file a hundred times a second (Linux 6.18). `/proc/meminfo` costs memini 6 µs, and nobody else anything.

use std::path::Path;

use super::file::{KernelFile, TABLE};
use super::parse;

/// `/proc/meminfo`, if it can be used.
#[derive(Debug)]
pub struct Held {
    meminfo: Option<KernelFile>,
}

impl Held {
    /// Opens it below `root`.
    pub fn open(root: &Path) -> Self {
        Self { meminfo: KernelFile::open_optional(root.join("proc/meminfo")).map(KernelFile::warmed) }
    }

    /// Bytes that reclaim could not free.
    pub fn read(&mut self) -> Option<u64> {
        self.meminfo.as_mut()?.read::<TABLE, _>(parse::meminfo).ok()?.held
    }
}
