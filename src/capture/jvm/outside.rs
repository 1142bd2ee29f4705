//! What is outside the heap. The JVM tells where its heap is and what its metaspace takes, the kernel what is resident in
//! which mapping; where native memory tracking is on (`-XX:NativeMemoryTracking=summary`), the JVM tells more.

use std::io::{self, BufRead};
use std::ops::Range;

use super::histogram::{Heap, Histogram};
use crate::capture::census::Group;
use crate::capture::proc::memory::{Kind, Open, each};

/// The zone below a thread's stack that nobody may touch has 4 to 20 pages; what is longer is memory set aside.
const LONGEST_GUARD: u64 = 320 << 10;
/// No stack is longer, and no arena of malloc(3) begins elsewhere than at a multiple of this.
const ARENA: u64 = 64 << 20;

/// What the process holds that cannot be let go, by what it is for. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// The heap, if it was found.
    pub heap: Option<u64>,
    /// Threads' stacks.
    pub stacks: u64,
    /// What the JVM has compiled, and its interpreter.
    pub code: u64,
    /// All other private memory.
    pub rest: u64,
}

impl Resident {
    /// Reads the text of `/proc/PID/smaps`. `ranges` are where the heap is.
    ///
    /// # Errors
    /// As read(2).
    pub fn read(text: impl BufRead, ranges: &[Range<u64>]) -> io::Result<Self> {
        let mut resident = Self::default();
        // Where the last mapping ended, if it may be the guard of a stack.
        let mut guard = None;
        each(text, |mapping| {
            let held = mapping.held();
            let place = match &mapping {
                _ if ranges.iter().any(|range| range.contains(&mapping.start)) || is_shared_heap(&mapping) => {
                    resident.heap.get_or_insert(0)
                }
                Open { kind: Kind::Shared, .. } => return,
                Open { kind: Kind::Stack, .. } => &mut resident.stacks,
                _ if is_stack(&mapping, guard) => &mut resident.stacks,
                Open { kind: Kind::Anonymous, permissions, .. } if permissions.contains('x') => &mut resident.code,
                _ => &mut resident.rest,
            };
            *place = place.saturating_add(held);
            let is_guard = mapping.permissions.starts_with("---") && mapping.size <= LONGEST_GUARD;
            guard = is_guard.then(|| mapping.start.saturating_add(mapping.size));
        })?;
        Ok(resident)
    }

    /// All that is private and outside the heap.
    pub const fn outside(&self) -> u64 {
        self.stacks.saturating_add(self.code).saturating_add(self.rest)
    }

    /// The same by kind, so that two censuses can be compared, the most bytes first.
    pub fn parts(&self, heap: &Heap, native: &[(String, u64)], histogram: &Histogram, threads: u64) -> Vec<Group> {
        let mut rest = self.rest;
        // What was set aside need not be resident: together the parts are no more than there is.
        let mut take = |bytes: u64| {
            let taken = bytes.min(rest);
            rest = rest.saturating_sub(taken);
            taken
        };
        let group = |name: &str, instances, bytes| Group { name: name.to_owned(), instances, bytes };
        let mut parts = vec![
            group("thread stacks", threads, self.stacks),
            group("compiled code", 0, self.code),
            group("metaspace", histogram.classes, take(heap.metaspace_committed.unwrap_or(0))),
        ];
        if native.is_empty() {
            parts.push(group("direct buffers and other native memory", histogram.buffers, rest));
        } else {
            // Before JDK 11 direct buffers are among what is internal.
            let direct = if native.iter().any(|(name, _)| name == "Other") { "Other" } else { "Internal" };
            let elsewhere = ["Java Heap", "Thread", "Code", "Class", "Metaspace", "Shared class space"];
            let bytes = native.iter().find(|(name, _)| name == direct).map_or(0, |(_, bytes)| *bytes);
            parts.push(group("direct buffers", histogram.buffers, take(bytes)));
            for (name, bytes) in native {
                if name != direct && !elsewhere.contains(&name.as_str()) {
                    parts.push(group(&format!("the JVM's own: {name}"), 0, take(*bytes)));
                }
            }
            parts.push(group("other native memory", 0, rest));
        }
        parts.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.name.cmp(&other.name)));
        parts
    }
}

/// ZGC's heap is a file in memory, which the process maps.
fn is_shared_heap(mapping: &Open) -> bool {
    mapping.kind == Kind::Shared && mapping.name.starts_with("/memfd:java_heap")
}

/// Whether it is a thread's stack: right above a guard.
fn is_stack(mapping: &Open, guard: Option<u64>) -> bool {
    mapping.kind == Kind::Anonymous
        && mapping.permissions.starts_with("rw-p")
        && guard == Some(mapping.start)
        && mapping.size <= ARENA
        && !mapping.start.is_multiple_of(ARENA)
}

#[cfg(test)]
mod unit {
    use super::*;

    fn mapping(range: &str, permissions: &str, name: &str, kilobytes: u64) -> String {
        format!(
            "{range} {permissions} 00000000 00:00 0 {name}\nRss: {kilobytes} kB\nPss: {kilobytes} kB\nAnonymous: {kilobytes} kB\n"
        )
    }

    #[test]
    fn mappings_are_told_apart() {
        let text = [
            mapping("55d0c4a00000-55d0c4a21000", "rw-p", "[heap]", 1),
            mapping("e0000000-f0000000", "rw-p", "", 200),
            mapping("f0000000-100000000", "---p", "", 0),
            mapping("7f0000000000-7f0000270000", "rwxp", "", 30),
            // An arena that follows upon another one's last free page, and a stack of a Java thread.
            mapping("7f03fffff000-7f0400000000", "---p", "", 0),
            mapping("7f0400000000-7f0401000000", "rw-p", "", 4000),
            mapping("7f1000000000-7f1000004000", "---p", "", 0),
            mapping("7f1000004000-7f1000100000", "rw-p", "", 50),
            mapping("7f1000100000-7f1000104000", "---p", "", 0),
            mapping("7f1000104000-7f1000200000", "rw-p", "", 60),
            // Set aside, and used beside it.
            mapping("7f2000000000-7f2003f00000", "---p", "", 0),
            mapping("7f2003f00000-7f2004000000", "rw-p", "", 5),
            mapping("7f3000000000-7f3000100000", "rw-s", "/dev/shm/queue", 999),
            mapping("7ffd00000000-7ffd00021000", "rw-p", "[stack]", 7),
        ]
        .concat();
        let heap = 0xe000_0000..0x1_0000_0000;
        let resident = Resident::read(text.as_bytes(), std::slice::from_ref(&heap)).unwrap();
        let expected = Resident { heap: Some(200 << 10), stacks: 117 << 10, code: 30 << 10, rest: 4006 << 10 };
        assert_eq!(resident, expected);
        let without = Resident::read(text.as_bytes(), &[]).unwrap();
        assert_eq!((without.heap, without.rest), (None, 4206 << 10));

        let zgc = mapping("40000000000-40004000000", "rw-s", "/memfd:java_heap (deleted)", 77);
        assert_eq!(Resident::read(zgc.as_bytes(), &[]).unwrap().heap, Some(77 << 10));
    }

    #[test]
    fn the_parts_are_all_that_is_outside() {
        let resident = Resident { heap: Some(1 << 30), stacks: 20, code: 30, rest: 1000 };
        let heap = Heap { metaspace_committed: Some(100), ..Heap::default() };
        let histogram = Histogram { classes: 5, buffers: 7, ..Histogram::default() };
        let part = |name: &str, instances, bytes| Group { name: name.to_owned(), instances, bytes };
        let parts = resident.parts(&heap, &[], &histogram, 9);
        assert_eq!(
            parts,
            [
                part("direct buffers and other native memory", 7, 900),
                part("metaspace", 5, 100),
                part("compiled code", 0, 30),
                part("thread stacks", 9, 20),
            ]
        );
        let native = [("Java Heap", 5000), ("Other", 500), ("GC", 300), ("Thread", 80), ("Symbol", 900)];
        let native = native.map(|(name, bytes)| (name.to_owned(), bytes));
        let parts = resident.parts(&heap, &native, &histogram, 9);
        assert_eq!(parts.iter().map(|part| part.bytes).sum::<u64>(), resident.outside());
        assert_eq!(parts[0], part("direct buffers", 7, 500));
        assert!(parts.contains(&part("the JVM's own: Symbol", 0, 100)));
        assert!(parts.contains(&part("other native memory", 0, 0)));
    }
}
