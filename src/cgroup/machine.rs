//! What the machine as a whole has: memory and swap. Limits and swap capacities are measured against it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::file::{KernelFile, NUMBER, TABLE};
use super::parse::{self, Flaw, MemInfo};
use super::source::ReadError;

/// How long an answer is good for: `/proc/meminfo` takes tens of microseconds, and what is taken from it is slow to
/// change (memory and swap added or removed) or a bound only (free swap).
const FRESH: Duration = Duration::from_millis(100);

/// No usage can be more than this many times the machine: charges run ahead of the count, but not by that much.
const PLAUSIBLE: u64 = 4;

/// The machine's memory and swap.
#[derive(Debug)]
pub struct Machine {
    meminfo: KernelFile,
    swappiness: Option<KernelFile>,
    info: MemInfo,
    swaps: bool,
    read_at: Instant,
}

impl Machine {
    /// Reads `/proc/meminfo` and `/proc/sys/vm/swappiness` below `root`.
    ///
    /// # Errors
    /// Where `/proc/meminfo` cannot be used.
    pub fn open(root: &Path) -> Result<Self, ReadError> {
        let mut meminfo = KernelFile::open(root.join("proc/meminfo"))?;
        let info = meminfo.read::<TABLE, _>(parse::meminfo)?;
        let swappiness = KernelFile::open_optional(root.join("proc/sys/vm/swappiness"));
        let mut machine = Self { meminfo, swappiness, info, swaps: true, read_at: Instant::now() };
        machine.swaps = machine.read_swappiness() != Some(0);
        Ok(machine)
    }

    /// Reads anew if the last answer is old. If that fails the last answer stands: it is a bound, not a measurement.
    pub fn refresh(&mut self) {
        if self.read_at.elapsed() < FRESH {
            return;
        }
        if let Ok(info) = self.meminfo.read::<TABLE, _>(parse::meminfo) {
            self.info = info;
        }
        if let Some(swappiness) = self.read_swappiness() {
            self.swaps = swappiness != 0;
        }
        self.read_at = Instant::now();
    }

    fn read_swappiness(&mut self) -> Option<u64> {
        self.swappiness.as_mut()?.read::<NUMBER, _>(parse::number).ok()
    }

    /// Memory and swap, as last read.
    pub fn info(&self) -> &MemInfo {
        &self.info
    }

    /// Whether there is any swap.
    pub fn has_swap(&self) -> bool {
        self.info.swap_total > 0
    }

    /// Bytes of swap that are free; 0 if `vm.swappiness` forbids to swap.
    pub fn swap_room(&self) -> u64 {
        if self.swaps { self.info.swap_free } else { 0 }
    }

    /// A limit above all that the machine has is none: the machine is out of memory before.
    pub fn reachable(&self, limit: Option<u64>) -> Option<u64> {
        limit.filter(|limit| *limit <= self.info.total)
    }

    /// Takes `usage`, which `file` told, if a machine like this can hold it.
    ///
    /// # Errors
    /// If it cannot.
    pub fn plausible(&self, usage: u64, file: &KernelFile) -> Result<u64, ReadError> {
        if usage <= self.most() {
            return Ok(usage);
        }
        Err(file.senseless(parse::Fault { line: 1, flaw: Flaw::Impossible(usage) }))
    }

    /// More bytes than anything on this machine can hold.
    pub fn most(&self) -> u64 {
        self.info.total.saturating_add(self.info.swap_total).saturating_mul(PLAUSIBLE)
    }
}
