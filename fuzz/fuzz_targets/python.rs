//! The memory of a process that looks like a Python: the file's head, its tables, the runtime, and every object are what somebody
//! else has put there. Whatever it is, the look ends when its time is up.
#![no_main]

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use memini_fuzz::capture::python::heap::Heap;
use memini_fuzz::capture::python::layout::{Layout, Version};
use memini_fuzz::capture::python::locate::{Image, Python, within};
use memini_fuzz::capture::python::memory::{Memory, Source};
use memini_fuzz::capture::python::types::Types;
use memini_fuzz::capture::python::{Limits, look};
use memini_fuzz::number;

/// Where the memory is, and how long: the data, again and again.
const BASE: u64 = 0x40_0000;
const LENGTH: u64 = 1 << 16;

/// What a look into it, or at the clock, takes.
const MOMENT: Duration = Duration::from_millis(2);

struct Garbage {
    bytes: Vec<u8>,
    begin: Instant,
    moments: Cell<u32>,
}

impl Garbage {
    /// Words that mostly lead to each other: of each, the lowest bits say where, unless its highest byte is set.
    fn new(data: &[u8]) -> Self {
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            match u64::from_le_bytes(word) {
                number if number >> 56 == 0 && number > 0xFFFF => BASE + number % LENGTH / 8 * 8,
                number => number & (u64::MAX >> 8),
            }
        };
        let words: Vec<u8> = data.chunks(8).flat_map(|bytes| word(bytes).to_le_bytes()).collect();
        let bytes = words.iter().copied().cycle().take(LENGTH as usize).collect();
        Self { bytes, begin: Instant::now(), moments: Cell::new(0) }
    }

    fn pass(&self) {
        self.moments.set(self.moments.get() + 1);
    }
}

impl Source for Garbage {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.pass();
        let room =
            (BASE + LENGTH).checked_sub(address).filter(|room| address >= BASE && *room > 0 && !self.bytes.is_empty());
        let room = usize::try_from(room.ok_or(io::ErrorKind::InvalidInput)?).unwrap();
        let length = buffer.len().min(room);
        let from = (address - BASE) as usize;
        buffer[..length].copy_from_slice(&self.bytes[from..from + length]);
        Ok(length)
    }

    fn now(&self) -> Instant {
        self.pass();
        self.begin + MOMENT * self.moments.get()
    }
}

fuzz_target!(|data: &[u8]| {
    let (seed, data) = number(data);
    let minor = 8 + (seed % 7) as u8;
    let layout = Layout::of(minor).unwrap();
    let python = Python {
        version: Version { major: 3, minor, micro: None },
        runtime: BASE + (seed >> 8) % LENGTH / 8 * 8,
        layout,
    };
    let mut heap = Heap { memory: Memory::new(Box::new(Garbage::new(data))), layout, types: Types::default() };
    let found = look(&mut heap, &python, &Limits::default(), Duration::from_millis(20), seed & 1 << 63 != 0);
    assert!((0.0..=1.0).contains(&found.share), "{}", found.share);
    assert!(found.groups.len() <= Limits::default().groups && found.holders.len() <= Limits::default().holders);

    // A file of this name whose head says what it likes. Where it is a Python by its name alone, it is waited for.
    let mut bytes = data.to_vec();
    bytes.splice(..bytes.len().min(16), *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut memory = Memory::new(Box::new(Garbage::new(&bytes)));
    let image = Image { path: "/usr/lib/libpypython".to_owned(), start: BASE, data: vec![(BASE, BASE + LENGTH)] };
    let _ = within(&mut memory, &[image]);
});
