//! Who has grown: what each process of the tree holds now, against what it held at memini's first look.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use serde::Serialize;

use crate::capture::proc::Identity;
use crate::capture::snapshot::Snapshot;
use crate::cgroup::parse;
use crate::process::folder::Folder;
use crate::process::memory;
use crate::text::plain;

/// How many processes are looked at, and how many are told of.
const LOOKED_AT: usize = 4096;
const TOLD: usize = 20;

/// How much of what workers have seen is read. They keep no more.
const MOST_SEEN: u64 = 1 << 20;

/// What the first screen is called.
pub const WATCH: &str = "watch";

/// What a process holds: private and shared memory and what is in swap of it, without files that can be read again. What is
/// shared counts in full for each. Bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which process.
    pub identity: Identity,
    /// Its name for itself, made plain.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

/// One moment to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// What it is called: `baseline`, `trace` … (memini's first look, at this stage), or `watch` (the first screen).
    pub name: String,
    /// When; milliseconds since 1970.
    pub taken_ms: u64,
    held: Vec<(Identity, u64)>,
}

impl Earlier {
    /// The first of the looks that memini keeps.
    pub fn kept(seen: File) -> Option<Self> {
        // Whoever shares the descriptor moves its offset; this one is of its own.
        let mut line = String::new();
        BufReader::new(seen.take(MOST_SEEN)).read_line(&mut line).ok()?;
        let first: Snapshot = serde_json::from_str(&line).ok()?;
        let held = first.processes.iter().filter_map(|look| {
            let memory = look.process.memory.as_ref()?;
            // As the sums of /proc/PID/status are counted.
            Some((look.process.identity, memory.resident.saturating_sub(memory.clean).saturating_add(memory.swap)))
        });
        let name = match first.stage.as_str() {
            "normal" | "" => "baseline".to_owned(),
            stage => plain(stage),
        };
        Some(Self { name, taken_ms: first.taken_ms, held: held.collect() })
    }

    /// Whether it is no look of memini's.
    pub fn is_first_screen(&self) -> bool {
        self.name == WATCH
    }

    /// The first screen.
    pub fn first_screen(holders: &[Holder], now: u64) -> Self {
        let held = holders.iter().map(|holder| (holder.identity, holder.bytes)).collect();
        Self { name: WATCH.to_owned(), taken_ms: now, held }
    }
}

/// A process on the screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grown {
    /// Its number.
    pub pid: i32,
    /// Its name for itself.
    pub name: String,
    /// What it holds; bytes.
    pub bytes: u64,
    /// By how much it has grown; bytes. `None`: there is nothing to compare with.
    pub growth: Option<i64>,
    /// It was not there before.
    pub is_new: bool,
}

/// Those that have grown most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processes {
    /// The name of what they are compared with, and when that was; milliseconds since 1970.
    pub since: Option<(String, u64)>,
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub list: Vec<Grown>,
}

impl Processes {
    /// Compares. Without anything to compare with, the largest come first.
    pub fn new(holders: &[Holder], earlier: Option<&Earlier>) -> Self {
        let then = |identity: Identity| {
            let held = &earlier?.held;
            Some(held.iter().find(|(known, _)| *known == identity).map(|(_, bytes)| *bytes))
        };
        let mut list: Vec<Grown> = holders
            .iter()
            .map(|holder| {
                let before = then(holder.identity);
                Grown {
                    pid: holder.identity.pid,
                    name: holder.name.clone(),
                    bytes: holder.bytes,
                    growth: before.map(|before| difference(holder.bytes, before.unwrap_or(0))),
                    is_new: before == Some(None),
                }
            })
            .collect();
        list.sort_by_key(|grown| std::cmp::Reverse((grown.growth, grown.bytes)));
        list.truncate(TOLD);
        let since = earlier.map(|earlier| (earlier.name.clone(), earlier.taken_ms));
        Self { since, count: holders.len(), list }
    }
}

fn difference(now: u64, then: u64) -> i64 {
    let amount = i64::try_from(now.abs_diff(then)).unwrap_or(i64::MAX);
    if now < then { -amount } else { amount }
}

/// What these processes hold. Those that vanish or are hidden are left out.
pub fn holders(folder: &Folder, pids: &[i32]) -> Vec<Holder> {
    pids.iter().take(LOOKED_AT).filter_map(|pid| holder(folder, *pid)).collect()
}

fn holder(folder: &Folder, pid: i32) -> Option<Holder> {
    let sums = memory::of(folder, pid).ok()?;
    let mut buffer = [0; 1024];
    let stat = parse::process_stat(folder.read(pid, "stat", &mut buffer).ok()?).ok()?;
    Some(Holder {
        identity: Identity { pid, start: stat.started? },
        name: plain(&String::from_utf8_lossy(stat.name)),
        bytes: sums.anon.saturating_add(sums.shmem).saturating_add(sums.swap),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;
    use crate::capture::proc::memory::Memory;
    use crate::capture::snapshot::Look;

    fn holder(pid: i32, bytes: u64) -> Holder {
        Holder { identity: Identity { pid, start: 5 }, name: format!("p{pid}"), bytes }
    }

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    }

    fn snapshot(stage: &str, held: &[(i32, u64)]) -> String {
        let mut snapshot = Snapshot { stage: stage.into(), taken_ms: 7, ..Snapshot::default() };
        for (pid, bytes) in held {
            let mut look = Look::default();
            look.process.identity = Identity { pid: *pid, start: 5 };
            // Of which 10 are pages of files.
            look.process.memory = Some(Memory { resident: bytes + 10 - 1, clean: 10, swap: 1, ..Memory::default() });
            snapshot.processes.push(look);
        }
        serde_json::to_string(&snapshot).unwrap()
    }

    #[test]
    fn who_has_grown_most_since_the_first_look_comes_first() {
        let text = [snapshot("normal", &[(1, 100), (2, 500)]), snapshot("trace", &[(1, 1)])].join("\n");
        let earlier = Earlier::kept(file(&text)).unwrap();
        let mut again = holder(4, 60);
        again.identity.start = 6;
        let processes = Processes::new(&[holder(1, 300), holder(2, 450), holder(3, 50), again], Some(&earlier));
        let told: Vec<_> = processes.list.iter().map(|grown| (grown.pid, grown.growth, grown.is_new)).collect();
        assert_eq!(told, [(1, Some(200), false), (4, Some(60), true), (3, Some(50), true), (2, Some(-50), false)]);
        assert_eq!((processes.since, processes.count), (Some(("baseline".to_owned(), 7)), 4));
        assert_eq!(Earlier::kept(file(&snapshot("trace", &[]))).unwrap().name, "trace");
    }

    #[test]
    fn without_a_look_the_largest_come_first_and_nothing_is_said_of_growth() {
        for text in ["", "{", "{}\n", "\u{0}\u{1}"] {
            assert_eq!(Earlier::kept(file(text)), None, "{text:?}");
        }
        let holders: Vec<Holder> = (1..100).map(|pid| holder(pid, pid as u64)).collect();
        let processes = Processes::new(&holders, None);
        assert_eq!((processes.count, processes.list.len(), processes.list[0].pid), (99, TOLD, 99));
        assert!(processes.list.iter().all(|grown| grown.growth.is_none() && !grown.is_new));
        let first = Earlier::first_screen(&holders, 9);
        assert_eq!(Processes::new(&holders, Some(&first)).list[0].growth, Some(0));
    }

    #[test]
    fn a_process_is_told_by_its_own_name_made_plain() {
        let root = crate::cgroup::tree_of_files::Root::new("", &[]);
        root.write("proc/7/stat", "7 (a\u{1b}[2J) b) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 77 0\n");
        root.write("proc/7/status", "RssAnon:\t 4 kB\nRssFile:\t 1 kB\nRssShmem:\t 2 kB\nVmSwap:\t 1 kB\n");
        let folder = Folder::open(root.path()).unwrap();
        let found = holders(&folder, &[7, 8]);
        let wanted = Holder { identity: Identity { pid: 7, start: 77 }, name: "a\\u{1b}[2J) b".into(), bytes: 7 << 10 };
        assert_eq!(found, [wanted]);
    }
}
