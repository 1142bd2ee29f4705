//! What the kernel said about memory, as plain numbers. Nothing here decides anything.

use serde::Serialize;

/// How many levels (own group, visible ancestors, process tree, host) a reading can hold. A container in a pod on a
/// node shows one to four; systemd on a desktop shows six.
pub const MAX_LEVELS: usize = 10;

/// The parts of `memory.stat` that memini uses, in bytes unless said otherwise.
///
/// Names mirror cgroup v2 (Documentation/admin-guide/cgroup-v2.rst). On v1 the hierarchical `total_…` keys are taken:
/// `rss` is `anon`, `cache` is `file`, `dirty` is `file_dirty`, `writeback` is `file_writeback`; what v1 does not tell
/// stays 0. For a process tree `anon`, `file` and `shmem` are the sums of RssAnon, RssFile and RssShmem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stat {
    /// Anonymous memory: heaps, stacks.
    pub anon: u64,
    /// Page cache, tmpfs included.
    pub file: u64,
    /// tmpfs and shared anonymous memory; part of `file`, never reclaimable without swap.
    pub shmem: u64,
    /// File pages on the inactive list.
    pub inactive_file: u64,
    /// File pages on the active list.
    pub active_file: u64,
    /// Pages that are locked in memory, of files and others.
    pub unevictable: u64,
    /// File pages that must be written before they can be freed.
    pub file_dirty: u64,
    /// File pages that are being written.
    pub file_writeback: u64,
    /// Kernel objects that can mostly be freed (dentries, inodes).
    pub slab_reclaimable: u64,
    /// Kernel objects that cannot.
    pub slab_unreclaimable: u64,
    /// Kernel stacks: 16 KiB a thread on x86-64.
    pub kernel_stack: u64,
    /// Page tables.
    pub pagetables: u64,
    /// Socket buffers.
    pub sock: u64,
    /// Refaults of file pages since the group was made, in pages: rises fast when a working set is being thrashed.
    pub workingset_refault_file: u64,
}

/// Whose memory a level counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The cgroup that memini runs in.
    #[default]
    Own,
    /// An ancestor of it, 1 = the parent; what it holds may belong to siblings.
    Ancestor(u8),
    /// The process tree under memini, where the cgroup holds more than that.
    Tree,
    /// The whole machine (or virtual machine): MemTotal and MemAvailable; only where there is no limit at all.
    Host,
}

/// One level at which a limit may be enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Whose memory this is.
    pub scope: Scope,
    /// Bytes in use: `memory.current`, `memory.usage_in_bytes`, the sum of RSS, or MemTotal − MemAvailable.
    pub usage: u64,
    /// The limit on them; `None` where nothing is enforced (`max`, or v1's 0x7FFFFFFFFFFFF000 and above).
    pub limit: Option<u64>,
    /// Bytes of this level that are in swap now.
    pub swap_usage: u64,
    /// Bytes of swap that this level could hold at the most, those in use included: the swap limit (v1: memsw limit −
    /// memory limit), cut to what the machine has left. 0 where nothing can be swapped (no swap, swappiness 0).
    pub swap_capacity: u64,
    /// The details; `None` in a fast reading.
    pub stat: Option<Stat>,
}

/// Counters of `memory.events` (v1: `oom_kill` of `memory.oom_control`), since the group was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Usage went over `memory.high`.
    pub high: u64,
    /// Usage was about to go over `memory.max`.
    pub max: u64,
    /// Reclaim failed.
    pub oom: u64,
    /// A process of the group was killed by any kind of OOM killer.
    pub oom_kill: u64,
}

/// Everything that was read in one go. Plain data, fixed size: PID 1 keeps one and has it refilled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    levels: [Level; MAX_LEVELS],
    length: usize,
    /// Counters; `None` where the source has none (process tree), and in a fast reading of v1.
    pub events: Option<Events>,
    /// `full avg10` of `memory.pressure` in percent; `None` in a fast reading or where the kernel does not tell.
    pub pressure_full_avg10: Option<f32>,
    /// What the whole machine holds that reclaim could not free, in bytes; `None` unless it was asked for. By more than this
    /// grows, no group's part of it has grown, unless somebody else has let go of as much in the same moment.
    pub machine_held: Option<u64>,
}

impl Reading {
    /// An empty reading.
    pub const fn new() -> Self {
        const NONE: Level =
            Level { scope: Scope::Own, usage: 0, limit: None, swap_usage: 0, swap_capacity: 0, stat: None };
        Self { levels: [NONE; MAX_LEVELS], length: 0, events: None, pressure_full_avg10: None, machine_held: None }
    }

    /// The levels, the own group (or the tree) first, the host last.
    pub fn levels(&self) -> &[Level] {
        self.levels.get(..self.length).unwrap_or_default()
    }

    /// The levels, to be changed.
    pub fn levels_mut(&mut self) -> &mut [Level] {
        self.levels.get_mut(..self.length).unwrap_or_default()
    }

    /// Adds a level. A level too many is left out and `false` comes back.
    #[must_use]
    pub fn push(&mut self, level: Level) -> bool {
        match self.levels.get_mut(self.length) {
            Some(place) => {
                *place = level;
                self.length = self.length.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// Forgets the levels and counters.
    pub fn clear(&mut self) {
        self.length = 0;
        self.events = None;
        self.pressure_full_avg10 = None;
        self.machine_held = None;
    }
}
