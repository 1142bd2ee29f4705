//! The traces of CPython's tracemalloc as `marshal` writes them (version 4), added up by the lines that have allocated.
//!
//! What is read comes out of a process that may send anything. Every number is checked against what is there, nothing is
//! followed deeper than the form has levels, and what is kept is bounded.

use std::collections::HashMap;
use std::rc::Rc;

use crate::capture::census::Site;

/// How many different stacks are told apart; what is beyond is counted together.
const MOST_STACKS: usize = 50_000;

/// How many files are told apart, and how long their names may be.
const MOST_FILES: usize = 20_000;
const LONGEST_NAME: usize = 512;

/// The callers of a line that are told.
const CALLERS: usize = 8;

/// What `marshal` adds to the type of an object that is referred to again.
const IS_SHARED: u8 = 0x80;

/// What the first number of a trace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// tracemalloc's domain: it is one block.
    Domain,
    /// How many blocks it stands for.
    Blocks,
}

/// What is wrong with what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A line of a file, by the file's number.
type Frame = (u32, u32);

/// Lines and what they hold.
#[derive(Debug, Default)]
pub struct Lines {
    files: HashMap<Rc<str>, u32>,
    names: Vec<Rc<str>>,
    stacks: HashMap<Vec<Frame>, usize>,
    /// Bytes and blocks of each stack; the first is that of all that are too many to be told apart.
    sums: Vec<(u64, u64)>,
}

/// What an earlier object of the same part was.
#[derive(Clone, Copy, Debug)]
enum Earlier {
    Number(i64),
    File(u32),
    Frame(Frame),
    Stack(usize),
    /// It is being read, or is nothing that anybody may refer to.
    Nothing,
}

impl Lines {
    /// Adds a part: a list of traces, each a tuple of a number, bytes, a stack, and perhaps the length of the whole stack.
    ///
    /// # Errors
    /// If it is anything else. What came before the fault is counted.
    pub fn add(&mut self, part: &[u8], first: First) -> Result<(), Malformed> {
        let mut reader = Reader { rest: part, earlier: Vec::new(), lines: self };
        reader.traces(first)?;
        if reader.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// The lines with the most bytes, and what all of them hold: bytes and blocks.
    pub fn largest(&self, count: usize) -> (Vec<Site>, u64, u64) {
        let mut order: Vec<(&Vec<Frame>, (u64, u64))> =
            self.stacks.iter().filter_map(|(stack, index)| self.sums.get(*index).map(|sums| (stack, *sums))).collect();
        order.sort_by(|(one, (bytes, _)), (other, (others, _))| others.cmp(bytes).then_with(|| one.cmp(other)));
        let sites = order.into_iter().take(count).map(|(stack, (bytes, blocks))| {
            let mut frames = stack.iter().map(|(file, line)| {
                let name = usize::try_from(*file).ok().and_then(|file| self.names.get(file));
                format!("{}:{line}", name.map_or("?", |name| name))
            });
            Site { line: frames.next().unwrap_or_default(), callers: frames.take(CALLERS).collect(), bytes, blocks }
        });
        let add = |(bytes, blocks): (u64, u64), more: &(u64, u64)| {
            (bytes.saturating_add(more.0), blocks.saturating_add(more.1))
        };
        let (bytes, blocks) = self.sums.iter().fold((0, 0), add);
        (sites.collect(), bytes, blocks)
    }

    fn file(&mut self, name: &[u8]) -> u32 {
        let name = String::from_utf8_lossy(name.get(..LONGEST_NAME).unwrap_or(name));
        if let Some(file) = self.files.get(&*name) {
            return *file;
        }
        if self.names.len() >= MOST_FILES {
            return u32::MAX;
        }
        let (name, file) = (Rc::from(name), u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(Rc::clone(&name));
        self.files.insert(name, file);
        file
    }

    fn stack(&mut self, stack: Vec<Frame>) -> usize {
        if self.sums.is_empty() {
            self.sums.push((0, 0));
        }
        if let Some(index) = self.stacks.get(&stack) {
            return *index;
        }
        if self.stacks.len() >= MOST_STACKS {
            return 0;
        }
        let index = self.sums.len();
        self.sums.push((0, 0));
        self.stacks.insert(stack, index);
        index
    }

    fn count(&mut self, stack: usize, bytes: u64, blocks: u64) {
        if let Some(sums) = self.sums.get_mut(stack) {
            *sums = (sums.0.saturating_add(bytes), sums.1.saturating_add(blocks));
        }
    }
}

struct Reader<'a, 'l> {
    rest: &'a [u8],
    /// What may be referred to, by its number: the order in which objects begin.
    earlier: Vec<Earlier>,
    lines: &'l mut Lines,
}

impl<'a> Reader<'a, '_> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.bytes(1)?.first().copied().ok_or(Malformed)
    }

    fn word(&mut self) -> Result<u32, Malformed> {
        let bytes = self.bytes(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// A length that what is left can have at all.
    fn length(&mut self) -> Result<usize, Malformed> {
        let length = usize::try_from(self.word()?).map_err(|_| Malformed)?;
        if length > self.rest.len() { Err(Malformed) } else { Ok(length) }
    }

    /// The type of the next object and, if it may be referred to, its number.
    fn kind(&mut self) -> Result<(u8, Option<usize>), Malformed> {
        let kind = self.byte()?;
        if kind & IS_SHARED == 0 {
            return Ok((kind, None));
        }
        self.earlier.push(Earlier::Nothing);
        Ok((kind & !IS_SHARED, self.earlier.len().checked_sub(1)))
    }

    fn remember(&mut self, number: Option<usize>, what: Earlier) {
        if let Some(place) = number.and_then(|number| self.earlier.get_mut(number)) {
            *place = what;
        }
    }

    fn referred(&mut self) -> Result<Earlier, Malformed> {
        let number = usize::try_from(self.word()?).map_err(|_| Malformed)?;
        self.earlier.get(number).copied().ok_or(Malformed)
    }

    /// The length of a tuple, after its type.
    fn tuple(&mut self, kind: u8) -> Result<usize, Malformed> {
        match kind {
            b')' => Ok(self.byte()?.into()),
            b'(' => self.length(),
            _ => Err(Malformed),
        }
    }

    fn traces(&mut self, first: First) -> Result<(), Malformed> {
        let (kind, _) = self.kind()?;
        if kind != b'[' {
            return Err(Malformed);
        }
        for _ in 0..self.length()? {
            let (kind, _) = self.kind()?;
            let length = self.tuple(kind)?;
            let number = self.number()?;
            let bytes = u64::try_from(self.number()?).map_err(|_| Malformed)?;
            let stack = self.stack()?;
            match length {
                3 => {}
                4 => drop(self.number()?),
                _ => return Err(Malformed),
            }
            let blocks = match first {
                First::Domain => 1,
                First::Blocks => u64::try_from(number).map_err(|_| Malformed)?,
            };
            self.lines.count(stack, bytes, blocks);
        }
        Ok(())
    }

    fn stack(&mut self) -> Result<usize, Malformed> {
        let (kind, number) = self.kind()?;
        if kind == b'r' {
            return if let Earlier::Stack(stack) = self.referred()? { Ok(stack) } else { Err(Malformed) };
        }
        let length = self.tuple(kind)?;
        let mut frames = Vec::with_capacity(length.min(CALLERS));
        for _ in 0..length {
            let frame = self.frame()?;
            if frames.len() <= CALLERS {
                frames.push(frame);
            }
        }
        let stack = self.lines.stack(frames);
        self.remember(number, Earlier::Stack(stack));
        Ok(stack)
    }

    fn frame(&mut self) -> Result<Frame, Malformed> {
        let (kind, number) = self.kind()?;
        if kind == b'r' {
            return if let Earlier::Frame(frame) = self.referred()? { Ok(frame) } else { Err(Malformed) };
        }
        if self.tuple(kind)? != 2 {
            return Err(Malformed);
        }
        let file = self.file()?;
        let frame = (file, u32::try_from(self.number()?).map_err(|_| Malformed)?);
        self.remember(number, Earlier::Frame(frame));
        Ok(frame)
    }

    fn file(&mut self) -> Result<u32, Malformed> {
        let (kind, number) = self.kind()?;
        let length = match kind {
            b'r' => return if let Earlier::File(file) = self.referred()? { Ok(file) } else { Err(Malformed) },
            b'z' | b'Z' => self.byte()?.into(),
            b'a' | b'A' | b'u' | b't' => self.length()?,
            _ => return Err(Malformed),
        };
        let name = self.bytes(length)?;
        let file = self.lines.file(name);
        self.remember(number, Earlier::File(file));
        Ok(file)
    }

    fn number(&mut self) -> Result<i64, Malformed> {
        let (kind, number) = self.kind()?;
        let value = match kind {
            b'r' => return if let Earlier::Number(value) = self.referred()? { Ok(value) } else { Err(Malformed) },
            b'i' => self.word()?.cast_signed().into(),
            b'l' => self.long()?,
            _ => return Err(Malformed),
        };
        self.remember(number, Earlier::Number(value));
        Ok(value)
    }

    /// A number in digits of 15 bits. One that is negative is no size, and none of these is more than 2^60.
    fn long(&mut self) -> Result<i64, Malformed> {
        let digits = self.word()?;
        let mut value = 0;
        if digits > 4 {
            return Err(Malformed);
        }
        for digit in 0..digits {
            let bytes = self.bytes(2)?.try_into().map_err(|_| Malformed)?;
            let part = i64::from(u16::from_le_bytes(bytes));
            if part > 0x7FFF {
                return Err(Malformed);
            }
            value |= part.wrapping_shl(digit.saturating_mul(15));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `marshal.dumps([(0, 100, (("app.py", 7), ("main.py", 1)), 2), (0, 5_000_000_000, <the same stack>, 2),
    /// (0, 3, (("é.py", 70_000),), 1)], 4)` of CPython 3.11.
    const PART: &[u8] = &[
        0x5b, 3, 0, 0, 0, // a list of 3
        0x29, 4, 0xe9, 0, 0, 0, 0, 0x69, 100, 0, 0, 0, // (0, 100, and object 0 is the number 0
        0xa9, 2, // object 1: the stack
        0x29, 2, 0x7a, 6, b'a', b'p', b'p', b'.', b'p', b'y', 0x69, 7, 0, 0, 0, //
        0x29, 2, 0x7a, 7, b'm', b'a', b'i', b'n', b'.', b'p', b'y', 0x69, 1, 0, 0, 0, //
        0xe9, 2, 0, 0, 0, // object 2: the number 2
        0x29, 4, 0x72, 0, 0, 0, 0, 0x6c, 3, 0, 0, 0, 0x00, 0x72, 0x0b, 0x54, 4, 0, // (0, 5 000 000 000,
        0x72, 1, 0, 0, 0, 0x72, 2, 0, 0, 0, //
        0x29, 4, 0x72, 0, 0, 0, 0, 0x69, 3, 0, 0, 0, //
        0x29, 1, 0x29, 2, 0x75, 5, 0, 0, 0, 0xc3, 0xa9, b'.', b'p', b'y', 0x69, 0x70, 0x11, 1, 0, //
        0x69, 1, 0, 0, 0,
    ];

    fn site(line: &str, callers: &[&str], bytes: u64, blocks: u64) -> Site {
        Site { line: line.into(), callers: callers.iter().map(|line| (*line).into()).collect(), bytes, blocks }
    }

    #[test]
    fn blocks_are_added_up_by_their_lines() {
        let mut lines = Lines::default();
        lines.add(PART, First::Domain).unwrap();
        lines.add(PART, First::Domain).unwrap();
        let (sites, bytes, blocks) = lines.largest(10);
        let wanted = [site("app.py:7", &["main.py:1"], 10_000_000_200, 4), site("é.py:70000", &[], 6, 2)];
        assert_eq!((&sites[..], bytes, blocks), (&wanted[..], 10_000_000_206, 6));
        assert_eq!(lines.largest(1).0, wanted[..1]);
    }

    #[test]
    fn lines_that_were_added_up_before_stand_for_many_blocks() {
        let mut part = PART.to_vec();
        part[8] = 50;
        let mut lines = Lines::default();
        lines.add(&part, First::Blocks).unwrap();
        assert_eq!(lines.largest(10).2, 150);
    }

    #[test]
    fn what_is_cut_or_followed_by_more_is_refused() {
        for length in 0..PART.len() {
            assert_eq!(Lines::default().add(&PART[..length], First::Domain), Err(Malformed), "{length}");
        }
        let more = [PART, &[0]].concat();
        assert_eq!(Lines::default().add(&more, First::Domain), Err(Malformed));
    }

    #[test]
    fn what_promises_more_than_there_is_takes_nothing() {
        for part in [
            &[0x5b, 0xff, 0xff, 0xff, 0xff][..],
            &[0x5b, 0xff, 0xff, 0xff, 0x7f, 0x29, 3],
            &[0x5b, 1, 0, 0, 0, 0x28, 0xff, 0xff, 0xff, 0x7f],
            // A reference to itself, to what is not there, and to what is something else.
            &[0x5b, 1, 0, 0, 0, 0x29, 3, 0xf2, 0, 0, 0, 0],
            &[0x5b, 1, 0, 0, 0, 0x29, 3, 0x72, 9, 0, 0, 0],
            &[0xdb, 1, 0, 0, 0, 0x29, 3, 0x72, 0, 0, 0, 0],
            // A negative size, one of 2^75, and a digit of 16 bits.
            &[0x5b, 1, 0, 0, 0, 0x29, 3, 0x69, 0, 0, 0, 0, 0x69, 0xff, 0xff, 0xff, 0xff],
            &[0x5b, 1, 0, 0, 0, 0x29, 3, 0x69, 0, 0, 0, 0, 0x6c, 5, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0],
            &[0x5b, 1, 0, 0, 0, 0x29, 3, 0x69, 0, 0, 0, 0, 0x6c, 1, 0, 0, 0, 0xff, 0xff],
        ] {
            assert_eq!(Lines::default().add(part, First::Domain), Err(Malformed), "{part:x?}");
        }
    }

    #[test]
    fn what_is_too_much_to_be_told_apart_is_counted_together() {
        let mut lines = Lines::default();
        for line in 0..=MOST_STACKS {
            let stack = lines.stack(vec![(0, u32::try_from(line).unwrap())]);
            lines.count(stack, 2, 1);
        }
        assert_eq!((lines.stacks.len(), lines.sums[0]), (MOST_STACKS, (2, 1)));
        assert_eq!(lines.largest(0), (vec![], 2 * (MOST_STACKS as u64 + 1), MOST_STACKS as u64 + 1));
        let long = vec![b'x'; 10_000];
        let file = lines.file(&long);
        assert_eq!(lines.names[file as usize].len(), LONGEST_NAME);
    }

    proptest! {
        #[test]
        fn anything_may_be_sent(noise: Vec<u8>) {
            let _ = Lines::default().add(&noise, First::Domain);
        }

        #[test]
        fn what_was_spoilt_on_its_way_is_no_danger(place in 0..PART.len(), byte: u8, first: bool) {
            let mut part = PART.to_vec();
            part[place] = byte;
            let mut lines = Lines::default();
            let _ = lines.add(&part, if first { First::Domain } else { First::Blocks });
            prop_assert!(lines.largest(10).0.len() <= 3);
        }
    }
}
