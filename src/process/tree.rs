//! Source: the process tree, where no cgroup tells what the app uses.
//!
//! A reading scans all of /proc for parents and reads one more file for each process of the tree: about 10 µs for each
//! process of the namespace and 15 µs for each of the tree, so 3 ms on a desktop with 300 processes. What processes
//! share (a forked child's pages, shared memory) is counted once for each: the sum errs on the high side.

use std::path::{Path, PathBuf};

use super::list::List;
use super::memory;
use crate::cgroup::machine::Machine;
use crate::cgroup::parse::{Fault, Flaw, ProcessMemory};
use crate::cgroup::reading::{Level, Reading, Scope, Stat};
use crate::cgroup::source::{Cause, Depth, ReadError, Source};

/// The descendants of memini, summed up.
#[derive(Debug)]
pub struct Tree {
    list: List,
    machine: Machine,
}

impl Tree {
    /// Opens `/proc` below `root`.
    ///
    /// # Errors
    /// Where /proc is not mounted, belongs to another PID namespace or cannot be read.
    pub fn open(root: &Path) -> Result<Self, ReadError> {
        Ok(Self { list: List::open(root)?, machine: Machine::open(root)? })
    }

    /// The files that are read.
    pub fn files(&self) -> Vec<PathBuf> {
        let folder = self.list.folder().path();
        ["PID/stat", "PID/status", "meminfo"].iter().map(|name| folder.join(name)).collect()
    }

    /// Reads the tree as a level without a limit. The details cost nothing more, and are left out of a fast reading
    /// only because nobody expects them there.
    ///
    /// # Errors
    /// Where /proc cannot be read any more, or holds no sense. A process that ends meanwhile counts nothing.
    pub fn level(&mut self, depth: Depth) -> Result<Level, ReadError> {
        self.machine.refresh();
        let sum = self.sum()?;
        let stat =
            Stat { anon: sum.anon, file: sum.file.saturating_add(sum.shmem), shmem: sum.shmem, ..Stat::default() };
        Ok(Level {
            scope: Scope::Tree,
            usage: sum.resident(),
            limit: None,
            swap_usage: sum.swap,
            swap_capacity: sum.swap.saturating_add(self.machine.swap_room()),
            stat: (depth == Depth::Full).then_some(stat),
        })
    }

    fn sum(&mut self) -> Result<ProcessMemory, ReadError> {
        self.list.descendants()?;
        let (folder, processes) = self.list.last();
        let mut sum = ProcessMemory::default();
        for process in processes {
            match memory::of(folder, process.pid) {
                Ok(memory) => sum = add(sum, memory),
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    let path = folder.path().join(format!("{}/status", process.pid));
                    return Err(ReadError { path, cause: Cause::Io(error) });
                }
            }
        }
        self.plausible(&sum)?;
        Ok(sum)
    }

    /// Shared pages count once for each process, so that only a single process's share is bounded by the machine; a
    /// sum beyond 2^62 is nonsense all the same.
    fn plausible(&self, sum: &ProcessMemory) -> Result<(), ReadError> {
        if sum.resident() < 1 << 62 && sum.swap < 1 << 62 {
            return Ok(());
        }
        let what = Fault { line: 1, flaw: Flaw::Impossible(sum.resident()) }.flaw.to_string();
        Err(ReadError { path: self.list.folder().path().to_path_buf(), cause: Cause::Content { line: 1, what } })
    }
}

fn add(sum: ProcessMemory, memory: ProcessMemory) -> ProcessMemory {
    ProcessMemory {
        anon: sum.anon.saturating_add(memory.anon),
        file: sum.file.saturating_add(memory.file),
        shmem: sum.shmem.saturating_add(memory.shmem),
        swap: sum.swap.saturating_add(memory.swap),
    }
}

/// What happens to processes in passing: they end, or become somebody else's and are hidden.
fn is_passing(error: &std::io::Error) -> bool {
    use nix::libc::{EACCES, ENOENT, EPERM, ESRCH};
    matches!(error.raw_os_error(), Some(ENOENT | ESRCH | EACCES | EPERM))
}

impl Source for Tree {
    fn read(&mut self, depth: Depth, reading: &mut Reading) -> Result<(), ReadError> {
        let level = self.level(depth)?;
        reading.clear();
        let _ = reading.push(level);
        Ok(())
    }

    fn describe(&self) -> &str {
        "process tree"
    }
}
