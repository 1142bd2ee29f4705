//! Where a process's memory is, by kind of mapping: `/proc/PID/smaps`, read line by line.
//!
//! The procfs crate keeps every line of every mapping, some 3 kB each. A process with 60,000 mappings is no rarity (glibc's arenas,
//! memory-mapped indexes), and a worker must not take 180 MB to say so.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use serde::{Deserialize, Serialize};

/// How many mappings are named.
const NAMED: usize = 12;

/// How many names of anonymous mappings, and of shared ones, are kept apart.
const NAMES: usize = 64;

/// What a mapping is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What malloc(3) takes first (`[heap]`).
    Heap,
    /// The main thread's stack. Those of other threads are anonymous mappings.
    Stack,
    /// Anonymous: other heaps, threads' stacks.
    #[default]
    Anonymous,
    /// Shared: POSIX and System V shared memory, memfd, tmpfs, shared anonymous memory.
    Shared,
    /// A file; what was written to a private mapping of one is counted as anonymous memory, and what was not can be let go.
    File,
}

/// One of the largest mappings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The kernel's name for it; empty where it has none.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its first address.
    pub start: u64,
    /// How long it is, whether used or not; bytes.
    pub size: u64,
    /// What it holds that cannot be let go, in memory or in swap; bytes.
    pub held: u64,
}

/// The memory of one process. Bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident, what is shared with others counted in full.
    pub resident: u64,
    /// Resident, what is shared counted by its share.
    pub proportional: u64,
    /// In swap.
    pub swap: u64,
    /// What cannot be let go, by kind of mapping, swap included; what is shared by its share.
    pub kinds: BTreeMap<Kind, u64>,
    /// The same by name, of anonymous mappings that have one (prctl(2), `PR_SET_VMA_ANON_NAME`) and of shared ones.
    pub names: BTreeMap<String, u64>,
    /// File pages that can be let go.
    pub clean: u64,
    /// Page tables.
    pub page_tables: u64,
    /// How many mappings there are.
    pub mappings: u64,
    /// The largest, the largest first.
    pub largest: Vec<Mapping>,
}

impl Memory {
    /// Reads it.
    ///
    /// # Errors
    /// As open(2) and read(2) on `/proc/PID/smaps`: EACCES for another user's process, ESRCH if it has ended.
    pub fn of(pid: i32) -> io::Result<Self> {
        Self::parse(BufReader::with_capacity(64 << 10, File::open(format!("/proc/{pid}/smaps"))?))
    }

    /// Reads the text of `/proc/PID/smaps`.
    ///
    /// # Errors
    /// As read(2).
    pub fn parse(text: impl BufRead) -> io::Result<Self> {
        let mut memory = Self::default();
        each(text, |open| memory.take(open))?;
        Ok(memory)
    }

    fn take(&mut self, open: Open) {
        let held = open.held();
        self.mappings = self.mappings.saturating_add(1);
        self.resident = self.resident.saturating_add(open.resident);
        self.proportional = self.proportional.saturating_add(open.proportional);
        self.swap = self.swap.saturating_add(open.swap);
        if open.kind == Kind::File {
            self.clean = self.clean.saturating_add(open.resident.saturating_sub(open.anonymous));
        }
        add(self.kinds.entry(open.kind).or_default(), held);
        let is_named = open.kind == Kind::Shared || open.name.starts_with("[anon:");
        if is_named && held > 0 && (self.names.len() < NAMES || self.names.contains_key(&open.name)) {
            add(self.names.entry(open.name.clone()).or_default(), held);
        }
        let at = self.largest.partition_point(|other| other.held >= held);
        if held > 0 && at < NAMED {
            let Open { name, kind, start, size, .. } = open;
            self.largest.insert(at, Mapping { name, kind, start, size, held });
            self.largest.truncate(NAMED);
        }
    }
}

fn add(sum: &mut u64, bytes: u64) {
    *sum = sum.saturating_add(bytes);
}

/// Reads the text of `/proc/PID/smaps`, a mapping at a time, in the order of their addresses.
///
/// # Errors
/// As read(2).
pub fn each(mut text: impl BufRead, mut take: impl FnMut(Open)) -> io::Result<()> {
    let mut open: Option<Open> = None;
    let mut line = Vec::with_capacity(256);
    loop {
        line.clear();
        if text.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let line = line.trim_ascii_end();
        if let Some(next) = Open::begin(line) {
            if let Some(last) = open.replace(next) {
                take(last);
            }
        } else if let Some(open) = &mut open {
            open.field(line);
        }
    }
    if let Some(last) = open {
        take(last);
    }
    Ok(())
}

/// A mapping as its lines tell it.
#[derive(Debug, Default)]
pub struct Open {
    /// The kernel's name for it; empty where it has none.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its first address.
    pub start: u64,
    /// How long it is, whether used or not; bytes.
    pub size: u64,
    /// What may be done with it: `rw-p`.
    pub permissions: String,
    resident: u64,
    proportional: u64,
    anonymous: u64,
    swap: u64,
}

impl Open {
    /// `55d0c4a00000-55d0c4a21000 rw-p 00000000 00:00 0    [heap]`
    fn begin(line: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(line);
        let mut words = text.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let permissions = words.next()?;
        let name = words.nth(3).unwrap_or_default().trim();
        let kind = kind(name, permissions.ends_with('s'));
        Some(Self {
            name: name.to_owned(),
            kind,
            start,
            size: end.saturating_sub(start),
            permissions: permissions.to_owned(),
            ..Self::default()
        })
    }

    /// `Rss:                 132 kB`
    fn field(&mut self, line: &[u8]) {
        let Some((name, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':')) else { return };
        let place = match name {
            "Rss" => &mut self.resident,
            "Pss" => &mut self.proportional,
            "Anonymous" => &mut self.anonymous,
            "Swap" => &mut self.swap,
            _ => return,
        };
        let kilobytes = value.trim().strip_suffix(" kB").and_then(|number| number.parse::<u64>().ok());
        *place = kilobytes.unwrap_or(0).saturating_mul(1024);
    }

    /// What it holds that cannot be let go, in memory or in swap; bytes.
    pub fn held(&self) -> u64 {
        let resident = match self.kind {
            Kind::Shared => self.proportional,
            Kind::Heap | Kind::Stack | Kind::Anonymous | Kind::File => self.anonymous,
        };
        resident.saturating_add(self.swap)
    }
}

fn kind(name: &str, is_shared: bool) -> Kind {
    match name {
        "[heap]" => Kind::Heap,
        "[stack]" => Kind::Stack,
        "" if is_shared => Kind::Shared,
        name if name.is_empty() || name.starts_with('[') => Kind::Anonymous,
        name if is_shared && is_memory(name) => Kind::Shared,
        _ => Kind::File,
    }
}

/// Whether a shared mapping of this file is memory that nothing but swap could free.
fn is_memory(name: &str) -> bool {
    ["/dev/shm/", "/memfd:", "/SYSV", "/dev/zero", "/run/shm/", "/anon_hugepage"]
        .iter()
        .any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(header: &str, fields: &[(&str, u64)]) -> String {
        let fields: String = fields.iter().map(|(name, kilobytes)| format!("{name}:  {kilobytes} kB\n")).collect();
        format!("{header}\n{fields}VmFlags: rd wr mr mw me ac sd \n")
    }

    #[test]
    fn every_kind_of_mapping_is_counted_where_it_belongs() {
        let text = [
            mapping(
                "55d0c4a00000-55d0c4a21000 rw-p 00000000 00:00 0                          [heap]",
                &[("Rss", 100), ("Pss", 100), ("Anonymous", 96), ("Swap", 8)],
            ),
            mapping(
                "7f0000000000-7f0004000000 rw-p 00000000 00:00 0 ",
                &[("Rss", 4000), ("Pss", 4000), ("Anonymous", 4000), ("Swap", 0)],
            ),
            mapping(
                "7f1000000000-7f1000100000 rw-p 00000000 00:00 0                          [anon:Perl arena]",
                &[("Rss", 50), ("Pss", 50), ("Anonymous", 50)],
            ),
            mapping(
                "7f2000000000-7f2000100000 rw-s 00000000 00:1b 77                         /dev/shm/queue (deleted)",
                &[("Rss", 300), ("Pss", 150), ("Anonymous", 0)],
            ),
            mapping(
                "7f3000000000-7f3000100000 rw-s 00000000 00:01 1024                       /dev/zero (deleted)",
                &[("Rss", 10), ("Pss", 10)],
            ),
            mapping(
                "7f4000000000-7f4000100000 rw-p 00000000 fe:00 99                         /usr/lib/with a space.so",
                &[("Rss", 70), ("Pss", 35), ("Anonymous", 30)],
            ),
            mapping(
                "7f5000000000-7f5000100000 r--s 00000000 fe:00 98                         /var/index",
                &[("Rss", 900), ("Pss", 900)],
            ),
            mapping(
                "7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]",
                &[("Rss", 20), ("Pss", 20), ("Anonymous", 20)],
            ),
        ]
        .concat();
        let memory = Memory::parse(text.as_bytes()).unwrap();
        let kinds =
            [(Kind::Heap, 104), (Kind::Stack, 20), (Kind::Anonymous, 4050), (Kind::Shared, 160), (Kind::File, 30)];
        assert_eq!(memory.kinds, kinds.map(|(kind, kilobytes)| (kind, kilobytes << 10)).into());
        assert_eq!((memory.clean, memory.mappings, memory.swap), ((40 + 900) << 10, 8, 8 << 10));
        let named: Vec<_> = memory.names.iter().map(|(name, bytes)| (&name[..], bytes >> 10)).collect();
        assert_eq!(named, [("/dev/shm/queue (deleted)", 150), ("/dev/zero (deleted)", 10), ("[anon:Perl arena]", 50)]);
        let largest: Vec<_> = memory.largest.iter().map(|mapping| mapping.held >> 10).collect();
        assert_eq!(largest, [4000, 150, 104, 50, 30, 20, 10]);
        assert_eq!(memory.largest[4].name, "/usr/lib/with a space.so");
    }

    #[test]
    fn what_is_cut_off_or_garbage_is_no_error() {
        let text = "55d0c4a00000-55d0c4a21000 rw-p 00000000 00:00 0 [heap]\nRss: 10 kB\nAnonymous: xyz kB\nSwap: 99999999999999999999 kB\n\u{fffd}\nPss";
        let memory = Memory::parse(text.as_bytes()).unwrap();
        assert_eq!((memory.mappings, memory.resident, memory.swap), (1, 10 << 10, 0));
        assert_eq!(Memory::parse(&b""[..]).unwrap(), Memory::default());
    }

    #[test]
    fn no_more_than_so_much_is_kept() {
        let text: String = (0..10_000)
            .map(|number| {
                let header = format!("{:x}-{:x} rw-p 0 00:00 0 [anon:{number}]", number << 12, (number + 1) << 12);
                mapping(&header, &[("Rss", number), ("Anonymous", number)])
            })
            .collect();
        let memory = Memory::parse(text.as_bytes()).unwrap();
        assert_eq!((memory.mappings, memory.names.len(), memory.largest.len()), (10_000, NAMES, NAMED));
        assert_eq!(memory.largest[0].held, 9999 << 10);
        assert_eq!(memory.kinds[&Kind::Anonymous], (0..10_000u64).sum::<u64>() << 10);
    }

    #[test]
    fn ones_own_memory_is_found() {
        let held = vec![1u8; 64 << 20];
        let memory = Memory::of(std::process::id().cast_signed()).unwrap();
        assert!(memory.kinds[&Kind::Anonymous] + memory.kinds.get(&Kind::Heap).unwrap_or(&0) >= held.len() as u64);
        assert!(memory.largest[0].held >= held.len() as u64, "{memory:?}");
        assert_eq!(std::hint::black_box(held)[0], 1);
    }
}
