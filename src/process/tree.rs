//! Source: the process tree, where no cgroup tells what the app uses.
//!
//! A reading scans all of /proc for parents and reads one more file for each process of the tree: about 10 µs for each
//! process of the namespace and 15 µs for each of the tree, so 3 ms on a desktop with 300 processes. What processes
//! share (a forked child's pages, shared memory) is counted once for each: the sum errs on the high side.

use std::io;
use std::path::{Path, PathBuf};

use super::list::List;
use super::memory;
use crate::cgroup::machine::Machine;
use crate::cgroup::parse::{Flaw, ProcessMemory};
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
            match memory::of(folder, process.pid).and_then(|memory| plausible(memory, &self.machine)) {
                Ok(memory) => sum = add(sum, memory),
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    let path = folder.path().join(format!("{}/status", process.pid));
                    return Err(ReadError { path, cause: Cause::Io(error) });
                }
            }
        }
        Ok(sum)
    }
}

/// Only anonymous memory and swap are bounded by the machine: a page of a file counts as often as it is mapped.
fn plausible(memory: ProcessMemory, machine: &Machine) -> io::Result<ProcessMemory> {
    let private = memory.anon.max(memory.swap);
    if private <= machine.most() { Ok(memory) } else { Err(io::Error::other(Flaw::Impossible(private).to_string())) }
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
fn is_passing(error: &io::Error) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tree_of_files::{GIB, MEMINFO_SWAP, MIB, Root};

    fn machine() -> Root {
        let root = Root::new("", &[]);
        let me = std::process::id();
        for (pid, parent) in [(4_000_000, me), (4_000_001, 4_000_000), (4_000_002, 1)] {
            let stat = format!("{pid} (x) S {parent} 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 9 9\n");
            root.write(&format!("proc/{pid}/stat"), &stat);
            let status = "RssAnon:\t 4096 kB\nRssFile:\t 1024 kB\nRssShmem:\t 2048 kB\nVmSwap:\t 512 kB\n";
            root.write(&format!("proc/{pid}/status"), status);
        }
        root
    }

    #[test]
    fn the_tree_is_the_sum_of_its_processes() {
        let root = machine();
        root.write("proc/meminfo", MEMINFO_SWAP);
        let mut source = Tree::open(root.path()).unwrap();
        let mut reading = Reading::new();
        source.read(Depth::Full, &mut reading).unwrap();
        let stat = Stat { anon: 8 * MIB, file: 6 * MIB, shmem: 4 * MIB, ..Stat::default() };
        let level = Level {
            scope: Scope::Tree,
            usage: 14 * MIB,
            limit: None,
            swap_usage: MIB,
            swap_capacity: MIB + 3 * GIB,
            stat: Some(stat),
        };
        assert_eq!(reading.levels(), [level]);
        source.read(Depth::Usage, &mut reading).unwrap();
        assert_eq!(reading.levels(), [Level { stat: None, ..level }]);
    }

    #[test]
    fn a_process_that_vanishes_counts_nothing_and_garbage_costs_the_reading() {
        let root = machine();
        let mut source = Tree::open(root.path()).unwrap();
        std::fs::remove_file(root.at("proc/4000001/status")).unwrap();
        let mut reading = Reading::new();
        source.read(Depth::Usage, &mut reading).unwrap();
        assert_eq!(reading.levels()[0].usage, 7 * MIB);
        for garbage in ["RssAnon:\t -1 kB\n", "RssAnon:\t 99999999999999999999 kB\n", "RssAnon:\t 5"] {
            root.write("proc/4000000/status", garbage);
            let error = source.read(Depth::Usage, &mut reading).unwrap_err();
            assert_eq!(error.path, root.at("proc/4000000/status"));
            assert_eq!(reading.levels()[0].usage, 7 * MIB, "the last good one");
        }
        for kilobytes in [65 << 20, u64::MAX >> 10] {
            root.write("proc/4000000/status", &format!("RssAnon:\t {kilobytes} kB\n"));
            assert!(source.read(Depth::Usage, &mut reading).is_err(), "{kilobytes} kB");
        }
    }
}
