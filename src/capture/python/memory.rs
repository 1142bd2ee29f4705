//! The memory of another process, read in windows that are kept for a while.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// Where bytes come from: `/proc/PID/mem`, or a test.
pub trait Source {
    /// Reads what is readable at this address into `buffer`; less than asked for where unmapped memory begins. Nothing at
    /// all, and no error, once the memory is nobody's any more.
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// The time. A test has one of its own, that passes as it reads.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

impl Source for File {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_at(buffer, address)
    }
}

/// How an address was come by, and so what is read along with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The neighbours are likely to be wanted next.
    Near,
    /// A single look somewhere.
    Far,
}

/// The most that one read may ask for, bytes.
pub const LONGEST: usize = 4096;

/// Addresses above this are the kernel's on x86-64 and arm64, or no addresses at all.
const HIGHEST: u64 = 1 << 56;

/// Windows of one size, each in the one place that its address gives. Sizes and numbers are powers of two: a division
/// would take longer than the look.
struct Windows {
    shift: u32,
    mask: usize,
    places: Vec<Window>,
}

struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Windows {
    /// Windows of `1 << shift` bytes, `1 << count` of them. Reserves nothing: a small process fills few.
    fn new(shift: u32, count: u32) -> Self {
        let count = 1usize.wrapping_shl(count.min(16));
        let places = (0..count).map(|_| Window { start: u64::MAX, bytes: Vec::new() }).collect();
        Self { shift, mask: count.wrapping_sub(1), places }
    }

    fn size(&self) -> u64 {
        1u64.wrapping_shl(self.shift)
    }

    #[inline]
    fn place(&self, address: u64) -> usize {
        let number = address.wrapping_shr(self.shift).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_shr(40);
        let number = number as usize;
        number & self.mask
    }

    #[inline]
    fn find(&self, address: u64, length: usize) -> Option<&[u8]> {
        let window = self.places.get(self.place(address))?;
        let from = usize::try_from(address.wrapping_sub(window.start)).ok()?;
        window.bytes.get(from..from.checked_add(length)?)
    }

    /// Reads the window around this address; from its own page on, where what is before it cannot be read.
    fn fill(&mut self, source: &dyn Source, address: u64) -> Option<()> {
        let whole = address & !self.size().wrapping_sub(1);
        let end = whole.checked_add(self.size())?;
        let place = self.place(address);
        let window = self.places.get_mut(place)?;
        for start in [whole, address & !4095] {
            let length = usize::try_from(end.checked_sub(start)?).ok()?;
            window.start = u64::MAX;
            window.bytes.resize(length, 0);
            let read = source.read(start, &mut window.bytes).unwrap_or(0);
            window.bytes.truncate(read);
            if address.checked_sub(start)? < u64::try_from(read).ok()? {
                window.start = start;
                return Some(());
            }
        }
        window.bytes.clear();
        None
    }
}

/// The memory of a process, for as long as it stands still: what was read once is not read again.
///
/// It holds four megabytes at the most.
pub struct Memory {
    source: Box<dyn Source>,
    near: Windows,
    far: Windows,
    joint: Vec<u8>,
    /// How many windows were read: what a walk costs.
    pub fills: u64,
    /// How many of them when somebody last asked for the time.
    fills_then: u64,
    /// From when on nothing is told any more, and whether that moment has come.
    until: Option<Instant>,
    is_late: bool,
    /// How often it was looked for something.
    looks: u32,
}

/// After how many looks at what was read already it is asked for the time.
const STRETCH: u32 = 4096;

impl Memory {
    /// Reads from here.
    pub fn new(source: Box<dyn Source>) -> Self {
        Self {
            source,
            near: Windows::new(16, 5),
            far: Windows::new(12, 9),
            joint: vec![0; LONGEST],
            fills: 0,
            fills_then: 0,
            until: None,
            is_late: false,
            looks: 0,
        }
    }

    /// From this moment on nothing can be read any more, nor is told that was read before. Whoever reads need not look at the clock
    /// at each step: whatever the memory looks like, it comes to its end.
    pub fn read_until(&mut self, until: Option<Instant>) {
        (self.until, self.is_late) = (until, false);
    }

    /// Whether that moment has come.
    pub const fn is_late(&self) -> bool {
        self.is_late
    }

    fn look_at_clock(&mut self) {
        self.is_late = self.until.is_some_and(|until| self.source.now() >= until);
    }

    /// Whether this moment has come, for who asks often: it is looked at the clock if `is_due`, and whenever anything was read since.
    /// Of a process that is swapped out, each page takes its time.
    pub fn is_past(&mut self, until: Instant, is_due: bool) -> bool {
        if !is_due && self.fills == self.fills_then {
            return false;
        }
        self.fills_then = self.fills;
        self.source.now() >= until
    }

    /// Forgets what was read: the process has moved on.
    pub fn forget(&mut self) {
        for windows in [&mut self.near, &mut self.far] {
            windows.places.iter_mut().for_each(|window| window.start = u64::MAX);
        }
    }

    /// So many bytes, at most [`LONGEST`]; `None` where not all of them can be read.
    pub fn bytes(&mut self, address: u64, length: usize, reach: Reach) -> Option<&[u8]> {
        if address >= HIGHEST || length > LONGEST || length == 0 {
            return None;
        }
        self.looks = self.looks.wrapping_add(1);
        if self.looks & STRETCH.wrapping_sub(1) == 0 {
            self.look_at_clock();
        }
        if self.is_late {
            return None;
        }
        let size = if reach == Reach::Near { self.near.size() } else { self.far.size() };
        let room = size.wrapping_sub(address & size.wrapping_sub(1));
        if u64::try_from(length).ok()? <= room {
            return self.within(address, length, reach);
        }
        self.across(address, length, room, reach)
    }

    /// What lies over the edge of a window: the two parts, joined.
    fn across(&mut self, address: u64, length: usize, room: u64, reach: Reach) -> Option<&[u8]> {
        let first = usize::try_from(room).ok()?;
        let mut joint = std::mem::take(&mut self.joint);
        let done = (|| {
            let (head, tail) = joint.get_mut(..length)?.split_at_mut_checked(first)?;
            head.copy_from_slice(self.within(address, head.len(), reach)?);
            tail.copy_from_slice(self.within(address.checked_add(room)?, tail.len(), reach)?);
            Some(())
        })();
        self.joint = joint;
        done.and_then(|()| self.joint.get(..length))
    }

    #[inline]
    fn within(&mut self, address: u64, length: usize, reach: Reach) -> Option<&[u8]> {
        // A far look takes what a near one has left behind.
        let near = self.near.find(address, length).is_some();
        if !near && (reach == Reach::Near || self.far.find(address, length).is_none()) {
            self.look_at_clock();
            if self.is_late {
                return None;
            }
            let windows = if reach == Reach::Near { &mut self.near } else { &mut self.far };
            self.fills = self.fills.wrapping_add(1);
            windows.fill(&*self.source, address)?;
        }
        let windows = if near || reach == Reach::Near { &self.near } else { &self.far };
        windows.find(address, length)
    }

    /// So many words of 8 bytes.
    #[inline]
    pub fn words<const COUNT: usize>(&mut self, address: u64, reach: Reach) -> Option<[u64; COUNT]> {
        let bytes = self.bytes(address, COUNT.checked_mul(8)?, reach)?;
        let mut words = [0; COUNT];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        Some(words)
    }

    /// One word of 8 bytes.
    pub fn word(&mut self, address: u64) -> Option<u64> {
        self.words::<1>(address, Reach::Far).map(|[word]| word)
    }

    /// A text that ends with a NUL, of at most so many bytes; cut there.
    pub fn text(&mut self, address: u64, longest: usize) -> Option<String> {
        let mut text = Vec::new();
        while text.len() < longest {
            // To the end of the page, and no further: the next one need not exist.
            let at = address.checked_add(u64::try_from(text.len()).ok()?)?;
            let room = usize::try_from(4096u64.checked_sub(at & 4095)?).ok()?;
            let part = self.bytes(at, room.min(longest.saturating_sub(text.len())), Reach::Far)?;
            let end = part.iter().position(|byte| *byte == 0);
            text.extend_from_slice(part.get(..end.unwrap_or(part.len()))?);
            if end.is_some() {
                break;
            }
        }
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.source.now()
    }

    /// Whether it is still the memory of anybody. What was opened stays that of the program that ran then: when the process
    /// runs another one, or ends, there is nothing left to be read, here where something was.
    pub fn is_alive(&self, address: u64) -> bool {
        !matches!(self.source.read(address, &mut [0]), Ok(0))
    }

    /// Reads straight from the process, past the windows: for scans.
    pub fn scan(&self, address: u64, buffer: &mut [u8]) -> usize {
        self.source.read(address, buffer).unwrap_or(0).min(buffer.len())
    }
}

#[cfg(test)]
pub mod fake {
    use super::*;

    /// Some mapped pieces, unmapped memory between them.
    #[derive(Clone, Debug, Default)]
    pub struct Pieces(pub Vec<(u64, Vec<u8>)>);

    impl Pieces {
        pub fn put(&mut self, address: u64, words: &[u64]) {
            self.0.push((address, words.iter().flat_map(|word| word.to_le_bytes()).collect()));
        }
    }

    impl Source for Pieces {
        fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
            let mut done = 0;
            'more: while done < buffer.len() {
                let at = address + done as u64;
                for (start, bytes) in &self.0 {
                    if at >= *start && at < start + bytes.len() as u64 {
                        let from = (at - start) as usize;
                        let length = (bytes.len() - from).min(buffer.len() - done);
                        buffer[done..done + length].copy_from_slice(&bytes[from..from + length]);
                        done += length;
                        continue 'more;
                    }
                }
                break;
            }
            if done == 0 { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(done) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::Pieces;
    use super::*;

    fn memory() -> Memory {
        let bytes: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
        Memory::new(Box::new(Pieces(vec![(0x7000_0000_3000, bytes)])))
    }

    #[test]
    fn what_lies_over_the_edge_of_two_windows_is_read_whole() {
        for reach in [Reach::Near, Reach::Far] {
            let mut memory = memory();
            for at in (0..199_000u64).step_by(997) {
                let expected: Vec<u8> = (at..at + 24).map(|at| (at % 251) as u8).collect();
                assert_eq!(memory.bytes(0x7000_0000_3000 + at, 24, reach), Some(&expected[..]), "{at} {reach:?}");
            }
        }
    }

    #[test]
    fn a_window_that_begins_unmapped_is_read_from_its_first_page_on_that_is_there() {
        assert!(memory().bytes(0x7000_0000_3000, 8, Reach::Near).is_some());
        assert_eq!(memory().bytes(0x7000_0000_2ff8, 16, Reach::Near), None);
        assert_eq!(memory().bytes(0x7000_0000_3000 + 200_000 - 4, 8, Reach::Far), None);
    }

    #[test]
    fn no_address_makes_it_panic() {
        let mut memory = memory();
        for address in [0, 1, 7, 4095, u64::MAX, u64::MAX - 7, 1 << 63, HIGHEST - 1] {
            for length in [0, 1, 8, LONGEST, LONGEST + 1, usize::MAX] {
                assert_eq!(memory.bytes(address, length, Reach::Near), None);
                assert_eq!(memory.bytes(address, length, Reach::Far), None);
            }
            assert_eq!(memory.text(address, 100), None);
        }
    }

    #[test]
    fn when_the_time_is_up_nothing_is_told_any_more() {
        let mut memory = memory();
        let mut read = |at: u64| memory.word(0x7000_0000_3000 + at).is_some();
        assert!(read(0) && read(8192));
        let now = Instant::now();
        memory.read_until(Some(now));
        assert_eq!((memory.word(0x7000_0000_3000 + 16384), memory.is_late()), (None, true));
        // Nor what was read before: a ring would be gone round without end.
        assert_eq!(memory.word(0x7000_0000_3000), None);
        memory.read_until(Some(now));
        assert!((0..=STRETCH).any(|_| memory.word(0x7000_0000_3000).is_none()));
        memory.read_until(None);
        assert!(memory.word(0x7000_0000_3000).is_some());
    }

    #[test]
    fn who_asks_often_for_the_time_is_told_it_whenever_something_was_read() {
        let mut memory = memory();
        let now = Instant::now();
        assert!(!memory.is_past(now, false) && memory.is_past(now, true));
        memory.word(0x7000_0000_3000);
        assert!(memory.is_past(now, false) && !memory.is_past(now, false));
    }

    #[test]
    fn a_text_ends_with_its_nul_or_is_cut() {
        let mut memory = Memory::new(Box::new(Pieces(vec![(4096, [&[b'a'; 4093][..], b"bc\0d".as_slice()].concat())])));
        assert_eq!(memory.text(4096 + 4090, 100).as_deref(), Some("aaabc"));
        assert_eq!(memory.text(4096, 10).as_deref(), Some("aaaaaaaaaa"));
        assert_eq!(memory.text(4096 + 4096, 10), None);
    }
}
