//! Where things stand in the file, version 1. Everything is words of 32 bits, the lowest byte first.
//!
//! | words | what |
//! |---|---|
//! | 0–1 | `memini\0R` |
//! | 2 | version |
//! | 3 | bytes of the file |
//! | 4–12 | of each ring: seconds a slot, slots, the word that it begins at |
//! | 13–14 | of the events: slots, the word that they begin at |
//! | 15 | bytes of the text |
//! | 16– | the text: a JSON object, what the run is |
//! | 1022–1023 | checksum of the words before |
//! | 1024 | the pulse, a cell of 32 words |
//! | 1056 | the name of the open incident, a cell of 32 words |
//! | 1088 | the events, cells of 16 words, then the rings, cells of 24 words |
//!
//! A cell: its sequence number (odd while it is being written, 0 if it never was), two words of checksum over the number and
//! what follows, then the content. Sizes in bytes stand in blocks of 4 KiB, so that 32 bits reach to 16 TiB.

use std::time::Duration;

/// `memini\0R`.
const MAGIC: [u32; 2] = [u32::from_le_bytes(*b"memi"), u32::from_le_bytes(*b"ni\0R")];
/// What this memini writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// The header takes a page.
pub const HEADER: usize = 1024;
const TEXT: usize = 16;
/// The most that the text may take; bytes.
pub const LONGEST_TEXT: usize = (HEADER - 2 - TEXT) * 4;

/// Where the pulse begins, and how long it is.
pub const PULSE: usize = HEADER;
/// Words of the pulse.
pub const PULSE_WORDS: usize = 32;
/// Where the name of the open incident stands.
pub const NAME: usize = PULSE + PULSE_WORDS;
/// Words of it.
pub const NAME_WORDS: usize = 32;
const FIRST_EVENT: usize = NAME + NAME_WORDS;
/// Words of an event.
pub const EVENT_WORDS: usize = 16;
/// Words of a sample.
pub const SAMPLE_WORDS: usize = 24;
/// What a cell takes for itself.
pub const CELL_HEAD: usize = 3;

/// How many resolutions there are.
pub const RINGS: usize = 3;
/// Seconds a slot, and slots in a file of the usual size.
const RESOLUTIONS: [(u32, usize); RINGS] = [(1, 600), (10, 1080), (60, 2880)];

/// The usual size, for which [`RESOLUTIONS`] are meant.
pub const USUAL: u64 = 512 << 10;
/// The smallest: a minute, 20 minutes, 5 hours.
pub const SMALLEST: u64 = 64 << 10;
/// The largest. With its ballast and all, memini maps less than the 8 MiB that it may lock by default.
pub const LARGEST: u64 = 1 << 20;

/// One resolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Seconds a slot.
    pub period: u32,
    /// How many slots.
    pub slots: usize,
    /// The word that the first one begins at.
    pub start: usize,
}

/// Where everything stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its size; bytes.
    pub bytes: u64,
    /// The resolutions, the finest first.
    pub rings: [Ring; RINGS],
    /// How many events there is room for.
    pub events: usize,
    /// Where the first one begins.
    pub first_event: usize,
}

impl Layout {
    /// For a file of about this size: whole pages, and within the bounds.
    pub fn of(bytes: u64) -> Self {
        let bytes = bytes.clamp(SMALLEST, LARGEST) & !4095;
        let free = |bytes: u64| words(bytes).saturating_sub(FIRST_EVENT);
        let (all, usual) = (free(bytes), free(USUAL));
        let mut rings = [Ring::default(); RINGS];
        let mut taken = 0_usize;
        for (ring, (period, slots)) in rings.iter_mut().zip(RESOLUTIONS) {
            let slots = slots.saturating_mul(all).checked_div(usual).unwrap_or(0);
            *ring = Ring { period, slots, start: 0 };
            taken = taken.saturating_add(slots.saturating_mul(SAMPLE_WORDS));
        }
        let events = all.saturating_sub(taken) / EVENT_WORDS;
        let mut start = FIRST_EVENT.saturating_add(events.saturating_mul(EVENT_WORDS));
        for ring in &mut rings {
            ring.start = start;
            start = start.saturating_add(ring.slots.saturating_mul(SAMPLE_WORDS));
        }
        Self { bytes, rings, events, first_event: FIRST_EVENT }
    }

    /// The header of a new file, with this text.
    ///
    /// `None` if the text is too long.
    pub fn header(&self, text: &str) -> Option<Vec<u8>> {
        if text.len() > LONGEST_TEXT {
            return None;
        }
        let mut all = MAGIC.to_vec();
        all.extend([VERSION, narrow(self.bytes)]);
        for ring in &self.rings {
            all.extend([ring.period, narrow(ring.slots as u64), narrow(ring.start as u64)]);
        }
        all.extend([narrow(self.events as u64), narrow(self.first_event as u64), narrow(text.len() as u64)]);
        for part in text.as_bytes().chunks(4) {
            let mut word = [0; 4];
            word.iter_mut().zip(part).for_each(|(place, byte)| *place = *byte);
            all.push(u32::from_le_bytes(word));
        }
        all.resize(HEADER.saturating_sub(2), 0);
        let sum = checksum(all.iter().copied());
        all.extend(halves(sum));
        Some(all.into_iter().flat_map(u32::to_le_bytes).collect())
    }

    /// Reads a header, and the text in it. `all` is the whole file.
    ///
    /// # Errors
    /// Why this is no recorder that can be read: half a sentence.
    pub fn parse(all: &[u32]) -> Result<(Self, String), &'static str> {
        let Some((header, rest)) = all.split_at_checked(HEADER) else {
            return Err(if all.starts_with(&MAGIC) { "it is cut short" } else { "it is no recorder" });
        };
        if !header.starts_with(&MAGIC) {
            return Err("it is no recorder");
        }
        let word = |index: usize| header.get(index).copied().unwrap_or(0);
        // What comes before the version stays where it is for ever.
        if word(2) > VERSION {
            return Err("a newer memini has written it");
        }
        let sum = header.get(..HEADER.saturating_sub(2)).map(|words| checksum(words.iter().copied()));
        if sum.map(halves) != Some([word(HEADER.saturating_sub(2)), word(HEADER.saturating_sub(1))]) {
            return Err("its header is damaged");
        }
        let size = |index: usize| usize::try_from(word(index)).unwrap_or(usize::MAX);
        let length = HEADER.saturating_add(rest.len());
        if u64::from(word(3)) != (length as u64).saturating_mul(4) {
            return Err("it is cut short");
        }
        // A checksum can be made by anybody: nothing may lie outside, or take longer to read than the file is.
        let fits = |start: usize, slots: usize, words: usize| {
            let end = slots.checked_mul(words).and_then(|all| all.checked_add(start));
            start >= FIRST_EVENT && slots > 0 && end.is_some_and(|end| end <= length)
        };
        let mut rings = [Ring::default(); RINGS];
        for (index, ring) in rings.iter_mut().enumerate() {
            let first = index.saturating_mul(3).saturating_add(4);
            let at = |offset: usize| first.saturating_add(offset);
            *ring = Ring { period: word(first), slots: size(at(1)), start: size(at(2)) };
            if ring.period == 0 || !fits(ring.start, ring.slots, SAMPLE_WORDS) {
                return Err("its header makes no sense");
            }
        }
        let (events, first_event, bytes) = (size(13), size(14), size(15));
        if !fits(first_event, events, EVENT_WORDS) || bytes > LONGEST_TEXT {
            return Err("its header makes no sense");
        }
        let text: Vec<u8> = header.iter().skip(TEXT).flat_map(|word| word.to_le_bytes()).take(bytes).collect();
        let text = String::from_utf8(text).map_err(|_| "its header makes no sense")?;
        Ok((Self { bytes: u64::from(word(3)), rings, events, first_event }, text))
    }
}

/// How many words so many bytes are.
pub fn words(bytes: u64) -> usize {
    usize::try_from(bytes / 4).unwrap_or(usize::MAX)
}

/// The content of a cell, if it is whole.
pub fn content(cell: &[u32]) -> Option<&[u32]> {
    let (head, content) = cell.split_at_checked(CELL_HEAD)?;
    let [sequence, low, high] = head else { return None };
    let sum = checksum(std::iter::once(*sequence).chain(content.iter().copied()));
    (*sequence != 0 && sequence % 2 == 0 && halves(sum) == [*low, *high]).then_some(content)
}

/// A checksum that an accident does not meet. (Nothing here is safe from somebody who means it.)
pub fn checksum(words: impl Iterator<Item = u32>) -> u64 {
    words.fold(0x9e37_79b9_7f4a_7c15, |sum: u64, word| {
        let mixed = (sum ^ u64::from(word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 32)
    })
}

/// The low half and the high one.
pub const fn halves(number: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// Both halves together.
pub fn whole(low: u32, high: u32) -> u64 {
    u64::from(low) | (u64::from(high) << 32)
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// There is none: no limit, or what was not measured.
pub const NONE: u32 = u32::MAX;

/// Bytes in blocks of 4 KiB, to the nearest; what is there is never nothing.
pub fn blocks(bytes: u64) -> u32 {
    let nearest = u32::try_from(bytes.saturating_add(2048) >> 12).unwrap_or(NONE).min(NONE - 1);
    if bytes > 0 { nearest.max(1) } else { 0 }
}

/// And back.
pub fn bytes(blocks: u32) -> Option<u64> {
    (blocks != NONE).then(|| u64::from(blocks) << 12)
}

/// Milliseconds of a time.
pub fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(layout: &Layout, text: &str) -> Vec<u32> {
        let mut bytes = layout.header(text).unwrap();
        bytes.resize(layout.bytes as usize, 0);
        bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn the_usual_size_holds_what_is_promised_and_every_size_is_used_well() {
        let slots = |layout: Layout| layout.rings.map(|ring| ring.slots);
        assert_eq!(slots(Layout::of(USUAL)), [600, 1080, 2880]);
        for bytes in [0, SMALLEST, 100_000, USUAL, USUAL + 1, 1 << 20, LARGEST, u64::MAX] {
            let layout = Layout::of(bytes);
            let last = layout.rings[2];
            let end = last.start + last.slots * SAMPLE_WORDS;
            assert!(end <= words(layout.bytes) && end + 64 > words(layout.bytes), "{layout:?}");
            assert!(layout.events > 100 && slots(layout).iter().all(|slots| *slots >= 60), "{layout:?}");
            assert_eq!(Layout::parse(&file(&layout, "{}")), Ok((layout, "{}".to_owned())));
        }
    }

    #[test]
    fn what_is_no_recorder_is_refused_with_the_reason() {
        let layout = Layout::of(SMALLEST);
        let good = file(&layout, "é");
        assert_eq!(Layout::parse(&good).unwrap().1, "é");
        let changed = |index: usize, to: u32| {
            let mut file = good.clone();
            file[index] = to;
            let sum = halves(checksum(file[..HEADER - 2].iter().copied()));
            file[HEADER - 2..HEADER].copy_from_slice(&sum);
            file
        };
        let mut damaged = good.clone();
        damaged[20] ^= 1;
        for (file, why) in [
            (Vec::new(), "it is no recorder"),
            (vec![0; 4096], "it is no recorder"),
            (good[..100].to_vec(), "it is cut short"),
            (good[..good.len() - 1].to_vec(), "it is cut short"),
            (damaged, "its header is damaged"),
            (changed(2, VERSION + 1), "a newer memini has written it"),
            (changed(4, 0), "its header makes no sense"),
            (changed(5, u32::MAX), "its header makes no sense"),
            (changed(5, 0), "its header makes no sense"),
            (changed(6, 0), "its header makes no sense"),
            (changed(12, u32::MAX), "its header makes no sense"),
            (changed(14, u32::MAX), "its header makes no sense"),
            (changed(15, u32::MAX), "its header makes no sense"),
            (changed(16, 0xffff_ffff), "its header makes no sense"),
        ] {
            assert_eq!(Layout::parse(&file), Err(why));
        }
        assert_eq!(layout.header(&"x".repeat(LONGEST_TEXT + 1)), None);
    }

    #[test]
    fn a_cell_is_whole_or_nothing() {
        let content_of = [7, 8, 9];
        let sum = halves(checksum([2, 7, 8, 9].into_iter()));
        let cell = [2, sum[0], sum[1], 7, 8, 9];
        assert_eq!(content(&cell), Some(&content_of[..]));
        for index in 0..cell.len() {
            for bit in 0..32 {
                let mut damaged = cell;
                damaged[index] ^= 1 << bit;
                assert_eq!(content(&damaged), None, "{index} {bit}");
            }
        }
        assert_eq!((content(&[]), content(&[0; 24])), (None, None));
    }

    #[test]
    fn bytes_are_kept_to_a_block_and_something_is_never_nothing() {
        for (size, blocks_of, back) in [
            (0, 0, Some(0)),
            (1, 1, Some(4096)),
            (6143, 1, Some(4096)),
            (6144, 2, Some(8192)),
            (1 << 44, NONE - 1, None),
        ] {
            assert_eq!(blocks(size), blocks_of);
            assert!(back.is_none() || bytes(blocks_of) == back);
        }
        assert_eq!((bytes(NONE), blocks(u64::MAX)), (None, NONE - 1));
        assert_eq!(whole(halves(0x0102_0304_0506_0708)[0], halves(0x0102_0304_0506_0708)[1]), 0x0102_0304_0506_0708);
    }
}
