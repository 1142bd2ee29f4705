//! PID 1's side: what it sees and does, put into the map as it happens. Nothing here waits, allocates or calls the kernel, but
//! for [`Writer::keep_up`], which is for a moment between two looks.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

use super::format::{
    CELL_HEAD, EVENT_WORDS, Layout, NAME, NAME_WORDS, PULSE, RINGS, Ring, SAMPLE_WORDS, checksum, halves, milliseconds,
};
use super::told::{Bucket, Event, Kind, Pulse};
use crate::cgroup::reading::Events;
use crate::engine::event::Glimpse;

/// A page's words.
const PAGE: usize = 1024;

/// The same once more within this time is told by a number, not by an event of its own: somebody may send signals by the
/// thousand.
const AGAIN: u64 = 1000;

/// What the map of the recorder can do besides being written to.
pub trait Pages {
    /// Has this word's page fetched, without waiting.
    fn expect(&self, word: usize);
    /// Has it in memory.
    fn touch(&self, word: usize);
    /// Lets it go.
    fn release(&self, word: usize);
}

impl Pages for crate::sys::map::SharedWords {
    fn expect(&self, word: usize) {
        Self::expect(self, word);
    }

    fn touch(&self, word: usize) {
        Self::touch(self, word);
    }

    fn release(&self, word: usize) {
        Self::release(self, word);
    }
}

/// Where the writer is in a part of the file, and which pages it has of it.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    start: usize,
    slots: usize,
    words: usize,
    /// The page of the last cell that was written.
    page: usize,
    /// The page that is there already for the next cells.
    ready: usize,
    /// Where the next look for pages is to be made from.
    at: usize,
}

impl Cursor {
    const fn new(start: usize, slots: usize, words: usize) -> Self {
        Self { start, slots, words, page: 0, ready: 0, at: start }
    }

    /// The first word of the cell of this number.
    fn word(&self, number: u32) -> Option<usize> {
        let slot = usize::try_from(number).ok()?.checked_rem(self.slots)?;
        slot.checked_mul(self.words)?.checked_add(self.start)
    }

    /// Has the pages that are written to and that will be next; lets go of the one that is left behind.
    fn keep_up(&mut self, map: &impl Pages) {
        let page = self.at / PAGE;
        let end = self.start.saturating_add(self.slots.saturating_mul(self.words));
        let next = self.at.saturating_add(PAGE);
        let next = if next < end { next } else { self.start };
        if page != self.page {
            // The pulse stands on the page of the first events, and is written to at each look.
            if self.page != 0 && self.page != PULSE / PAGE {
                map.release(self.page.saturating_mul(PAGE));
            }
            self.page = page;
            map.expect(next);
        }
        let is_late = self.at.checked_rem(PAGE).is_some_and(|offset| offset >= PAGE / 2);
        if is_late && self.ready != next / PAGE && next / PAGE != page {
            self.ready = next / PAGE;
            map.touch(next);
        }
    }
}

/// The recorder of a run.
#[derive(Debug)]
pub struct Writer<M> {
    map: M,
    rings: [(Ring, Cursor); RINGS],
    buckets: [Option<Bucket>; RINGS],
    events: Cursor,
    next_event: u32,
    last_event: Option<Event>,
    pulse: Pulse,
}

impl<M: Pages + Deref<Target = [AtomicU32]>> Writer<M> {
    /// Writes to this map, which has this layout and was not written to but for its header.
    pub fn new(map: M, layout: &Layout) -> Self {
        let rings = layout.rings.map(|ring| (ring, Cursor::new(ring.start, ring.slots, SAMPLE_WORDS)));
        let mut this = Self {
            map,
            rings,
            buckets: [None; RINGS],
            events: Cursor::new(layout.first_event, layout.events, EVENT_WORDS),
            next_event: 0,
            last_event: None,
            pulse: Pulse::default(),
        };
        // The pages that are written to first are there from now on.
        this.map.touch(PULSE);
        for (_, cursor) in this.rings {
            this.map.touch(cursor.start);
        }
        this.keep_up();
        this
    }

    /// Memory was looked at.
    pub fn look(&mut self, since_start: Duration, look: &Glimpse, events: Option<Events>) {
        let now = milliseconds(since_start);
        let stage = self.pulse.stage;
        let second = u32::try_from(since_start.as_secs()).unwrap_or(u32::MAX);
        if self.buckets[0].is_none_or(|bucket| bucket.number() != second) {
            self.turn();
            self.buckets[0] = Some(Bucket::new(second));
        }
        if let Some(bucket) = &mut self.buckets[0] {
            bucket.take(look, stage);
        }
        self.write_sample(0);
        let pulse = &mut self.pulse;
        (pulse.since_start, pulse.usage, pulse.limit, pulse.rate) = (now, look.usage, look.limit, look.rate);
        pulse.gauged = look.gauged.unwrap_or(pulse.gauged);
        pulse.trending = look.trending;
        if let Some(events) = events {
            (pulse.max, pulse.oom, pulse.oom_kill) = (events.max, events.oom, Some(events.oom_kill));
        }
        self.write_pulse();
    }

    /// A second is over: the coarser slots take what was seen in it.
    fn turn(&mut self) {
        let [finest, coarser @ ..] = &mut self.buckets;
        let Some(finest) = finest.take() else { return };
        for (bucket, (ring, _)) in coarser.iter_mut().zip(self.rings.iter().skip(1)) {
            let Some(number) = finest.number().checked_div(ring.period) else { continue };
            if bucket.is_none_or(|bucket| bucket.number() != number) {
                *bucket = Some(Bucket::new(number));
            }
            if let Some(bucket) = bucket {
                bucket.merge(&finest);
            }
        }
        for ring in 1..RINGS {
            self.write_sample(ring);
        }
    }

    fn write_sample(&mut self, ring: usize) {
        let Some((_, cursor)) = self.rings.get_mut(ring) else { return };
        let Some(bucket) = self.buckets.get(ring).and_then(Option::as_ref) else { return };
        let Some(word) = cursor.word(bucket.number()) else { return };
        cursor.at = word.saturating_add(SAMPLE_WORDS).saturating_sub(1);
        write(&self.map, word, SAMPLE_WORDS, bucket.words());
    }

    fn write_pulse(&self) {
        let words = self.pulse.words();
        write(&self.map, PULSE, words.len().saturating_add(CELL_HEAD), &words);
    }

    /// What time it is, in milliseconds since 1970; asked for once in a while.
    pub fn tell_time(&mut self, since_start: Duration, unix: u64) {
        (self.pulse.unix, self.pulse.unix_at) = (unix, milliseconds(since_start));
        self.write_pulse();
    }

    /// Something happened.
    pub fn event(&mut self, since_start: Duration, event: Event) {
        let now = milliseconds(since_start);
        match event.kind {
            Kind::StageBegan | Kind::StageEnded => self.pulse.stage = event.stage,
            Kind::Braked => self.pulse.brakes = self.pulse.brakes.saturating_add(event.values[0]),
            Kind::LateWake => self.pulse.late = event.values[1],
            _ => {}
        }
        let mut event = Event { number: self.next_event, since_start: now, ..event };
        match self.last_event {
            Some(last) if is_again(&last, &event) => {
                let [signal, sender, times, first] = last.values;
                let values = [signal, sender, times.saturating_add(1), first];
                event = Event { number: last.number, since_start: last.since_start, values, ..last };
            }
            _ => self.next_event = self.next_event.saturating_add(1),
        }
        self.last_event = Some(event);
        if let Some(word) = self.events.word(event.number) {
            self.events.at = word.saturating_add(EVENT_WORDS).saturating_sub(1);
            write(&self.map, word, EVENT_WORDS, &event.words());
        }
        self.write_pulse();
    }

    /// An incident was opened, and is called so; with an empty name it is over.
    pub fn incident(&mut self, name: &str) {
        let mut words = [0; NAME_WORDS - CELL_HEAD];
        let text = words.len().saturating_sub(1).saturating_mul(4).min(name.len());
        let parts = name.as_bytes().chunks(4).map(|part| {
            let mut word = [0; 4];
            word.iter_mut().zip(part).for_each(|(place, byte)| *place = *byte);
            u32::from_le_bytes(word)
        });
        let length = u32::try_from(text).unwrap_or(0);
        for (place, word) in words.iter_mut().zip(std::iter::once(length).chain(parts)) {
            *place = word;
        }
        write(&self.map, NAME, NAME_WORDS, &words);
    }

    /// memini ends, with this exit code.
    pub fn exit(&mut self, since_start: Duration, code: u8) {
        self.turn();
        self.pulse.since_start = milliseconds(since_start);
        self.pulse.exit = Some(code);
        self.write_pulse();
    }

    /// Has the pages that are needed next, and lets go of others: some system calls, once in a page of cells.
    pub fn keep_up(&mut self) {
        for cursor in self.rings.iter_mut().map(|(_, cursor)| cursor).chain([&mut self.events]) {
            cursor.keep_up(&self.map);
        }
    }

    /// Where it writes.
    pub fn map(&self) -> &M {
        &self.map
    }

    /// The stage, as far as it was told.
    #[cfg(test)]
    pub const fn stage(&self) -> crate::engine::settings::Stage {
        self.pulse.stage
    }
}

/// Whether it is the same signal from the same sender as a moment ago.
fn is_again(last: &Event, event: &Event) -> bool {
    let [signal, sender, ..] = last.values;
    let [another, other, ..] = event.values;
    (last.kind, event.kind) == (Kind::Signal, Kind::Signal)
        && (signal, sender) == (another, other)
        && event.since_start.saturating_sub(last.since_start) < AGAIN
}

/// Writes a cell so that whoever reads it meanwhile finds out: the number is odd before anything else changes, and even, with
/// a checksum over the new content, after all has changed.
fn write(map: &[AtomicU32], start: usize, words: usize, content: &[u32]) {
    let Some([sequence, low, high, places @ ..]) = map.get(start..start.saturating_add(words)) else { return };
    let odd = u32::from_le(sequence.load(Ordering::Relaxed)) | 1;
    // 0 would be a cell that was never written.
    let even = match odd.wrapping_add(1) {
        0 => 2,
        even => even,
    };
    let sum = checksum(std::iter::once(even).chain(content.iter().copied()));
    sequence.store(odd.to_le(), Ordering::Relaxed);
    fence(Ordering::Release);
    for (place, word) in places.iter().zip(content) {
        place.store(word.to_le(), Ordering::Relaxed);
    }
    let [first, second] = halves(sum);
    low.store(first.to_le(), Ordering::Relaxed);
    high.store(second.to_le(), Ordering::Relaxed);
    sequence.store(even.to_le(), Ordering::Release);
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::hint::black_box;
    use std::time::Instant;

    use super::super::format::USUAL;
    use super::*;
    use crate::cgroup::reading::Stat;
    use crate::sys::map::SharedWords;
    use crate::sys::strict;

    /// Of a recorder of the usual size, in a file on a disk.
    fn writer() -> Writer<SharedWords> {
        let layout = Layout::of(USUAL);
        let file = tempfile::tempfile().unwrap();
        file.set_len(layout.bytes).unwrap();
        let map = SharedWords::map(file.into(), usize::try_from(layout.bytes).unwrap()).unwrap();
        Writer::new(map, &layout)
    }

    /// Knows which pages were let go of.
    struct Watched {
        words: Vec<AtomicU32>,
        released: RefCell<BTreeSet<usize>>,
    }

    impl Deref for Watched {
        type Target = [AtomicU32];

        fn deref(&self) -> &[AtomicU32] {
            &self.words
        }
    }

    impl Pages for Watched {
        fn expect(&self, _: usize) {}

        fn touch(&self, _: usize) {}

        fn release(&self, word: usize) {
            self.released.borrow_mut().insert(word / PAGE);
        }
    }

    /// Regression test: it went with the first events.
    #[test]
    fn the_page_of_the_pulse_is_never_let_go_of() {
        let layout = Layout::of(USUAL);
        let words = (0..layout.bytes / 4).map(|_| AtomicU32::new(0)).collect();
        let mut writer = Writer::new(Watched { words, released: RefCell::default() }, &layout);
        for number in 0..1000 {
            let now = Duration::from_secs(number);
            writer.look(now, &glimpse(number), None);
            writer.event(now, signal(number));
            writer.keep_up();
        }
        let released = writer.map().released.borrow();
        assert!(released.len() > 3 && !released.contains(&(PULSE / PAGE)), "{released:?}");
    }

    fn glimpse(number: u64) -> Glimpse {
        let gauged = (300 << 20) + ((number * 7919) & 0xF_FFFF);
        let stat = Stat { anon: gauged, file: 5 << 20, shmem: 1 << 20, ..Stat::default() };
        let limit = Some(1 << 30);
        Glimpse { usage: gauged + (5 << 20), gauged: Some(gauged), limit, stat: Some(stat), ..Glimpse::default() }
    }

    fn signal(number: u64) -> Event {
        Event::new(Kind::Signal, [15, number, 1, 0])
    }

    #[test]
    fn what_happens_is_recorded_without_a_system_call() {
        let mut writer = writer();
        let is_quiet = strict::calls_nothing(|| {
            let events = Some(Events { oom_kill: 1, ..Events::default() });
            for number in 0..20_000u64 {
                writer.look(Duration::from_millis(number * 700), &glimpse(number), events);
            }
            writer.event(Duration::from_secs(14_000), signal(1));
            writer.tell_time(Duration::from_secs(14_000), 1);
            writer.incident("2026-11-28T00-00-00Z-web-1");
            writer.exit(Duration::from_secs(14_000), 75);
        });
        assert!(is_quiet, "the kernel was called");
        // What does call it is found out.
        assert!(!strict::calls_nothing(|| writer.map().expect(PAGE)));
    }

    /// What it costs PID 1: prints nanoseconds, with pages that are let go of and fetched as PID 1 does it.
    #[test]
    #[ignore = "measures; bench/recorder runs it"]
    fn cost() {
        let mut writer = writer();
        let mut now = Duration::ZERO;
        let mut rounds =
            |name: &str, count: u64, step: Duration, what: &mut dyn FnMut(&mut Writer<SharedWords>, Duration, u64)| {
                let mut spent = Vec::new();
                for number in 0..count {
                    now += step;
                    let began = Instant::now();
                    what(&mut writer, black_box(now), number);
                    spent.push(began.elapsed().as_nanos());
                    writer.keep_up();
                }
                spent.sort_unstable();
                let at = |share: usize| spent[(spent.len() - 1) * share / 1000];
                let mean = spent.iter().sum::<u128>() as f64 / spent.len() as f64;
                println!("cost {name}|{mean:.0}|{}|{}|{}", at(500), at(990), at(999));
            };
        let look =
            &mut |writer: &mut Writer<_>, now, number| writer.look(now, &glimpse(number), Some(Events::default()));
        rounds("a look, 1000 a second", 1_000_000, Duration::from_millis(1), look);
        rounds("a look, one a second", 200_000, Duration::from_secs(1), look);
        let event = &mut |writer: &mut Writer<_>, now, number| writer.event(now, signal(number));
        rounds("an event", 100_000, Duration::from_millis(10), event);
        // The clock's own part in it.
        rounds("nothing", 1_000_000, Duration::ZERO, &mut |_, now, _| {
            black_box(now);
        });
    }
}
