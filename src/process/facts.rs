//! Who holds how much: what is noted about the processes of the tree while they stand still, before they are killed.

use std::fmt;

use super::list::{List, Process};
use super::{folder::Folder, memory};
use crate::cgroup::parse::{self, ProcessMemory};
use crate::cgroup::source::ReadError;
use crate::sys::process::ProcessId;

/// How many processes are named.
pub const NAMED: usize = 16;

/// A process's name for itself: at most 15 bytes (TASK_COMM_LEN), any bytes. Shown with what is not printable escaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; 15],
    length: usize,
}

impl Name {
    /// Takes at most 15 bytes.
    pub fn new(text: &[u8]) -> Self {
        let mut name = Self { bytes: [0; 15], length: text.len().min(15) };
        name.bytes.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        name
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().escape_ascii().fmt(out)
    }
}

/// What is known of one process. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its name for itself.
    pub name: Name,
    /// `R`, `S`, `D`, `T`, …
    pub state: u8,
    /// Threads.
    pub threads: u64,
    /// Anonymous memory.
    pub rss_anon: u64,
    /// Mapped files.
    pub rss_file: u64,
    /// tmpfs and shared memory.
    pub rss_shmem: u64,
    /// Swapped out.
    pub swap: u64,
}

impl Fact {
    /// Resident bytes.
    pub const fn rss(&self) -> u64 {
        self.rss_anon.saturating_add(self.rss_file).saturating_add(self.rss_shmem)
    }
}

/// The largest processes of the tree. Fixed size, no allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    largest: [Fact; NAMED],
    named: usize,
    /// How many processes there were, those not named included.
    pub processes: u32,
}

impl Facts {
    /// Looks at every process of the tree but those in these process groups and what descends from them. Those that
    /// vanish or are hidden are left out.
    ///
    /// # Errors
    /// Where /proc cannot be read.
    pub fn gather(list: &mut List, spared: &[ProcessId]) -> Result<Self, ReadError> {
        let others = list.parted(spared)?.others.len();
        let (folder, processes) = list.last();
        let mut facts = Self::default();
        for process in processes.iter().take(others) {
            fact(folder, process).into_iter().for_each(|fact| facts.take(fact));
        }
        let named = facts.named;
        facts.largest.iter_mut().take(named).for_each(|fact| describe(folder, fact));
        Ok(facts)
    }

    /// The largest, by resident memory, the largest first.
    pub fn largest(&self) -> &[Fact] {
        self.largest.get(..self.named).unwrap_or_default()
    }

    /// Puts a fact where it belongs; the smallest of too many falls off.
    fn take(&mut self, fact: Fact) {
        self.processes = self.processes.saturating_add(1);
        let at = self.largest().partition_point(|other| other.rss() >= fact.rss());
        self.named = self.named.saturating_add(1).min(NAMED);
        if let Some(places @ [_, ..]) = self.largest.get_mut(at..self.named) {
            places.rotate_right(1);
            places.iter_mut().take(1).for_each(|place| *place = fact);
        }
    }
}

fn fact(folder: &Folder, process: &Process) -> Option<Fact> {
    let ProcessMemory { anon, file, shmem, swap } = memory::of(folder, process.pid).ok()?;
    Some(Fact {
        pid: process.pid,
        parent: process.parent,
        state: process.state,
        rss_anon: anon,
        rss_file: file,
        rss_shmem: shmem,
        swap,
        ..Fact::default()
    })
}

/// What only those that are named need. Who has vanished meanwhile keeps what it held, and has no name.
fn describe(folder: &Folder, fact: &mut Fact) {
    let mut buffer = [0; 512];
    if let Ok(Ok(stat)) = folder.read(fact.pid, "stat", &mut buffer).map(parse::process_stat) {
        (fact.name, fact.threads) = (Name::new(stat.name), stat.threads);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tree_of_files::Root;

    fn machine(sizes: impl IntoIterator<Item = u64>) -> Root {
        let root = Root::new("", &[]);
        let me = std::process::id();
        for (pid, kilobytes) in (4_000_000..).zip(sizes) {
            let stat = format!("{pid} (w\u{7f}\n\") S {me} 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 3 0 9 9\n");
            root.write(&format!("proc/{pid}/stat"), &stat);
            let status = format!("RssAnon:\t {kilobytes} kB\nRssFile:\t 1 kB\nRssShmem:\t 2 kB\nVmSwap:\t 3 kB\n");
            root.write(&format!("proc/{pid}/status"), &status);
        }
        root
    }

    fn gather(root: &Root) -> Facts {
        Facts::gather(&mut List::open(root.path()).unwrap(), &[]).unwrap()
    }

    #[test]
    fn processes_that_do_not_count_are_left_out() {
        let root = machine([1, 2, 3]);
        let me = std::process::id();
        let worker = format!("4000001 (w) S {me} 4000001 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 3 0 9 9\n");
        root.write("proc/4000001/stat", &worker);
        let mut list = List::open(root.path()).unwrap();
        let facts = Facts::gather(&mut list, &[ProcessId::new(4_000_001).unwrap()]).unwrap();
        let mut pids: Vec<_> = facts.largest().iter().map(|fact| fact.pid).collect();
        pids.sort_unstable();
        assert_eq!((pids, facts.processes), (vec![4_000_000, 4_000_002], 2));
    }

    #[test]
    fn a_fact_holds_all_that_is_known() {
        let facts = gather(&machine([100]));
        let expected = Fact {
            pid: 4_000_000,
            parent: i32::try_from(std::process::id()).unwrap(),
            name: Name::new(b"w\x7f\n\""),
            state: b'S',
            threads: 3,
            rss_anon: 100 << 10,
            rss_file: 1 << 10,
            rss_shmem: 2 << 10,
            swap: 3 << 10,
        };
        assert_eq!((facts.largest(), facts.processes), (&[expected][..], 1));
        assert_eq!(expected.name.to_string(), "w\\x7f\\n\\\"");
        assert_eq!(expected.rss(), 103 << 10);
    }

    #[test]
    fn the_largest_are_named_in_order_and_all_are_counted() {
        // 40 sizes, each once, in no order.
        let facts = gather(&machine((0..40).map(|number| (number * 23) % 40)));
        let sizes: Vec<_> = facts.largest().iter().map(|fact| fact.rss_anon >> 10).collect();
        assert_eq!(sizes, (24..40).rev().collect::<Vec<_>>());
        assert_eq!(facts.processes, 40);
    }

    #[test]
    fn processes_that_vanish_or_hold_garbage_are_left_out() {
        let root = machine([1, 2, 3]);
        std::fs::remove_file(root.at("proc/4000000/status")).unwrap();
        root.write("proc/4000001/status", "RssAnon:\t lots\n");
        let pids: Vec<_> = gather(&root).largest().iter().map(|fact| fact.pid).collect();
        assert_eq!(pids, [4_000_002]);
    }
}
