//! Reads a recorder, whoever has written it and whether or not it is being written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use super::format::{EVENT_WORDS, LARGEST, Layout, NAME, NAME_WORDS, PULSE, PULSE_WORDS, SAMPLE_WORDS, content};
use super::told::{Event, Pulse, Sample};

/// How often a cell is looked at again that was being written; and how often in all: a file may be damaged all over.
const TRIES: usize = 100;
const ALL_TRIES: usize = 10_000;

/// What was recorded.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What the run is: memini's version, host, app, settings, start. What it says is not checked.
    pub run: Value,
    /// The last that is known.
    pub pulse: Pulse,
    /// The name of the incident that is open.
    pub incident: Option<String>,
    /// Seconds a slot, and the samples in the order of their time: the finest resolution first.
    pub rings: Vec<(u32, Vec<Sample>)>,
    /// In their order.
    pub events: Vec<Event>,
    /// Cells that were damaged, or being written.
    pub damaged: usize,
}

/// Why a file is not read.
#[derive(Debug)]
pub enum Refusal {
    /// It cannot be.
    System(io::Error),
    /// It is none, or not as it should be: half a sentence.
    Content(&'static str),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System(error) => error.fmt(out),
            Self::Content(why) => out.write_str(why),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Reads a file, which may be written to meanwhile.
///
/// # Errors
/// Where it cannot be read, or is no recorder.
pub fn read(file: &File) -> Result<History, Refusal> {
    let length = file.metadata()?.len();
    if length > LARGEST {
        return Err(Refusal::Content("it is no recorder"));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Refusal::Content("it is cut short"),
        _ => Refusal::System(error),
    })?;
    parse(&bytes, |place, cell| {
        let mut bytes = vec![0; cell.len().saturating_mul(4)];
        let offset = (place as u64).saturating_mul(4);
        if file.read_exact_at(&mut bytes, offset).is_ok() {
            cell.iter_mut().zip(numbers(&bytes)).for_each(|(place, word)| *place = word);
        }
    })
}

/// Reads the pulse alone, of a file that was read before. `None` where it is damaged, or is being written just now.
pub fn pulse(file: &File) -> Option<Pulse> {
    let mut bytes = [0; PULSE_WORDS * 4];
    file.read_exact_at(&mut bytes, (PULSE as u64).saturating_mul(4)).ok()?;
    let words: Vec<u32> = numbers(&bytes).collect();
    Pulse::parse(content(&words)?)
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_le_bytes))
}

/// Reads what a file holds. `again` copies a cell anew, given the word that it begins at.
///
/// # Errors
/// Where it is no recorder.
pub fn parse(bytes: &[u8], mut again: impl FnMut(usize, &mut [u32])) -> Result<History, Refusal> {
    let all: Vec<u32> = numbers(bytes).collect();
    if !bytes.len().is_multiple_of(4) {
        return Err(Refusal::Content("it is cut short"));
    }
    let (layout, text) = Layout::parse(&all).map_err(Refusal::Content)?;
    let run = serde_json::from_str(&text).ok().filter(Value::is_object);
    let run = run.ok_or(Refusal::Content("its header makes no sense"))?;
    let mut history = History { run, ..History::default() };
    let mut tries = ALL_TRIES;
    let mut cell = |start: usize, words: usize| -> Option<Vec<u32>> {
        let mut cell = all.get(start..start.saturating_add(words))?.to_vec();
        for _ in 0..TRIES {
            if let Some(content) = content(&cell) {
                return Some(content.to_vec());
            }
            if cell.first() == Some(&0) {
                return None;
            }
            let Some(left) = tries.checked_sub(1) else { break };
            tries = left;
            again(start, &mut cell);
        }
        history.damaged = history.damaged.saturating_add(1);
        None
    };
    let pulse = cell(PULSE, PULSE_WORDS).and_then(|content| Pulse::parse(&content));
    let name = cell(NAME, NAME_WORDS).and_then(|content| name(&content));
    let mut events: Vec<Event> = (0..layout.events)
        .filter_map(|slot| {
            let start = slot.checked_mul(EVENT_WORDS)?.checked_add(layout.first_event)?;
            Event::parse(&cell(start, EVENT_WORDS)?)
        })
        .collect();
    events.sort_by_key(|event| event.number);
    let rings = layout.rings.map(|ring| {
        let read = |slot: usize| {
            let start = slot.checked_mul(SAMPLE_WORDS)?.checked_add(ring.start)?;
            let sample = Sample::parse(&cell(start, SAMPLE_WORDS)?)?;
            // What does not belong there was put there by somebody else.
            let belongs = usize::try_from(sample.number).ok()?.checked_rem(ring.slots)? == slot;
            belongs.then_some(sample)
        };
        let mut samples: Vec<Sample> = (0..ring.slots).filter_map(read).collect();
        samples.sort_by_key(|sample| sample.number);
        // Older ones of a file that wrapped around while it was copied.
        let newest = samples.last().map_or(0, |last| last.number);
        let slots = u32::try_from(ring.slots).unwrap_or(u32::MAX);
        samples.retain(|sample| newest.saturating_sub(sample.number) < slots);
        (ring.period, samples)
    });
    history.pulse = pulse.unwrap_or_default();
    history.incident = name;
    history.events = events;
    history.rings = rings.into();
    Ok(history)
}

/// The name of an incident, which is to become a path: only what memini itself would call one.
fn name(content: &[u32]) -> Option<String> {
    let (length, text) = content.split_first()?;
    let bytes: Vec<u8> = text.iter().flat_map(|word| word.to_le_bytes()).take(usize::try_from(*length).ok()?).collect();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let name = String::from_utf8(bytes).ok()?;
    (!name.is_empty() && name.as_bytes().iter().all(is_plain)).then_some(name)
}

impl History {
    /// A part of what the run is.
    pub fn told(&self, key: &str) -> &str {
        self.run.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The app's name, as a person would say it.
    pub fn app(&self) -> &str {
        let path = self.run.pointer("/app/command/0").and_then(Value::as_str).unwrap_or("the app");
        path.rsplit('/').next().unwrap_or(path)
    }

    /// When memini started, in milliseconds since 1970, as far as that is known.
    pub fn started(&self) -> Option<u64> {
        let told = self.run.get("started_ms").and_then(Value::as_u64);
        // The clock may have been set since then: what was told last holds.
        Some(self.pulse).filter(|pulse| pulse.unix > 0).map(|pulse| pulse.unix.saturating_sub(pulse.unix_at)).or(told)
    }

    /// The samples of the finest resolution that there is for each time, in their order: milliseconds since memini's start
    /// at the end of the slot, and what was seen.
    pub fn samples(&self) -> Vec<(u64, Sample)> {
        self.slots().into_iter().map(|slot| (slot.end, slot.sample)).collect()
    }

    /// The same with the beginning of each slot.
    pub fn slots(&self) -> Vec<Slot> {
        let mut all: Vec<Slot> = Vec::new();
        let mut before = u64::MAX;
        for (period, samples) in &self.rings {
            let length = u64::from(*period).saturating_mul(1000);
            let slots = samples.iter().map(|sample| {
                let start = u64::from(sample.number).saturating_mul(length);
                Slot { start, end: start.saturating_add(length), sample: *sample }
            });
            let mut older: Vec<Slot> = slots.filter(|slot| slot.end <= before).collect();
            before = before.min(older.first().map_or(before, |slot| slot.start));
            older.append(&mut all);
            all = older;
        }
        all
    }
}

/// A sample and its time; milliseconds since memini's start.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// When it began.
    pub start: u64,
    /// When it ends.
    pub end: u64,
    /// What was seen.
    pub sample: Sample,
}

#[cfg(test)]
mod tests {
    use std::ops::Deref;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::super::format::{SMALLEST, USUAL};
    use super::super::told::Kind;
    use super::super::writer::{Pages, Writer};
    use super::*;
    use crate::cgroup::reading::Stat;
    use crate::engine::event::Glimpse;
    use crate::engine::settings::Stage;
    use crate::sys::map::SharedWords;

    /// A map that is memory.
    struct Memory(Vec<AtomicU32>);

    impl Deref for Memory {
        type Target = [AtomicU32];

        fn deref(&self) -> &[AtomicU32] {
            &self.0
        }
    }

    impl Pages for Memory {
        fn expect(&self, _word: usize) {}
        fn touch(&self, word: usize) {
            assert!(word < self.0.len());
        }
        fn release(&self, word: usize) {
            assert!(word < self.0.len());
        }
    }

    const TEXT: &str = r#"{"hostname":"web","started_ms":1000,"app":{"command":["/bin/app","secret"]}}"#;

    fn writer(size: u64) -> Writer<Memory> {
        let layout = Layout::of(size);
        let mut bytes = layout.header(TEXT).unwrap();
        bytes.resize(layout.bytes as usize, 0);
        Writer::new(Memory(numbers(&bytes).map(AtomicU32::new).collect()), &layout)
    }

    fn bytes(writer: &Writer<Memory>) -> Vec<u8> {
        let map: &Memory = writer.map();
        map.iter().flat_map(|word| word.load(std::sync::atomic::Ordering::Relaxed).to_le_bytes()).collect()
    }

    fn history(writer: &Writer<Memory>) -> History {
        parse(&bytes(writer), |_, _| {}).unwrap()
    }

    fn look(mib: u64) -> Glimpse {
        let stat = Some(Stat { anon: mib << 20, ..Stat::default() });
        Glimpse { usage: mib << 20, gauged: Some(mib << 20), limit: Some(1 << 40), stat, ..Glimpse::default() }
    }

    #[test]
    fn a_run_of_three_days_is_told_at_each_resolution() {
        let mut writer = writer(USUAL);
        let end = 3 * 86_400;
        for second in 0..end {
            writer.look(Duration::from_secs(second), &look(second), None);
            if second % 60 == 0 {
                writer.keep_up();
            }
        }
        let history = history(&writer);
        let told: Vec<_> = history.rings.iter().map(|(period, samples)| (*period, samples.len())).collect();
        assert_eq!(told, [(1, 600), (10, 1080), (60, 2880)]);
        let (_, minutes) = &history.rings[2];
        let last = minutes.last().unwrap();
        // What the present second has seen comes to the coarser slots when it is over.
        assert_eq!((last.number, last.looks), (end as u32 / 60 - 1, 59));
        let full = minutes[minutes.len() - 2];
        let from = u64::from(full.number) * 60;
        assert_eq!((full.usage.least >> 20, full.usage.most >> 20, full.looks), (from, from + 59, 60));
        assert_eq!(full.stat.anon >> 20, from + 59);
        // One line of time, without a gap.
        let samples = history.samples();
        assert!(samples.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!((samples.last().unwrap().0, history.damaged), (end * 1000, 0));
        assert!(samples[0].0 <= (end - 48 * 3600 + 60) * 1000);
    }

    #[test]
    fn events_come_back_in_their_order_and_the_same_signal_counts_once() {
        let mut writer = writer(SMALLEST);
        for number in 0..2000 {
            writer.event(Duration::from_secs(number), Event::new(Kind::LateWake, [1, number, 0, 0]));
        }
        for millis in 0..5 {
            let signal = Event::new(Kind::Signal, [15, 7, 1, 0]);
            writer.event(Duration::from_millis(2_000_000 + millis * 300), signal);
        }
        let events = history(&writer).events;
        assert!(events.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
        let signals: Vec<_> =
            events.iter().filter(|event| event.kind == Kind::Signal).map(|event| event.values[2]).collect();
        assert_eq!(signals, [4, 1]);
    }

    #[test]
    fn what_the_run_is_and_how_it_stands_is_told() {
        let mut writer = writer(SMALLEST);
        let sample = crate::engine::event::Sample { gauged: 5, limit: Some(10), ..Default::default() };
        let note = crate::engine::event::Note::StageBegan { stage: Stage::Trace, from: Stage::Normal, sample };
        writer.event(Duration::from_secs(1), Event::of(&note).unwrap());
        assert_eq!(writer.stage(), Stage::Trace);
        writer.look(Duration::from_millis(2500), &look(7), None);
        writer.tell_time(Duration::from_millis(2600), 1_000_000);
        let before = history(&writer);
        assert_eq!((before.app(), before.told("hostname"), before.started()), ("app", "web", Some(997_400)));
        assert_eq!((before.pulse.since_start, before.pulse.exit, before.incident), (2500, None, None));
        assert_eq!(before.rings[0].1[0].stage, Stage::Trace);
        assert_eq!(before.events[0].percent(), Some(50.0));
        let long = "x".repeat(200);
        for (name, read) in [("2026-11-22T05-45-01Z-web-1", true), ("../../etc", false), (&*long, true), ("", false)] {
            writer.incident(name);
            let read = read.then(|| name[..name.len().min(112)].to_owned());
            assert_eq!(history(&writer).incident, read);
        }
        writer.exit(Duration::from_secs(3), 75);
        let after = history(&writer);
        assert_eq!((after.pulse.exit, after.rings[1].1.len()), (Some(75), 1));
    }

    #[test]
    fn no_byte_that_changes_is_believed() {
        let mut writer = writer(SMALLEST);
        for second in 0..300 {
            writer.look(Duration::from_secs(second), &look(second), None);
        }
        let good = bytes(&writer);
        let whole = parse(&good, |_, _| {}).unwrap();
        for index in (0..good.len()).step_by(37) {
            let mut bad = good.clone();
            bad[index] ^= 0x10;
            match parse(&bad, |_, _| {}) {
                Err(_) => assert!(index < 4096, "{index}"),
                Ok(read) => {
                    for ((_, samples), (_, all)) in read.rings.iter().zip(&whole.rings) {
                        assert!(samples.iter().all(|sample| all.contains(sample)), "{index}");
                    }
                }
            }
        }
        for length in [0, 1, 4, 4095, 4096, 8192, good.len() - 1] {
            assert!(parse(&good[..length], |_, _| {}).is_err());
        }
    }

    /// Regression test, found by fuzz/run: what is told of the run begins with this.
    #[test]
    fn a_header_whose_text_is_no_object_is_refused() {
        let layout = Layout::of(SMALLEST);
        for text in ["1e77", "[]", "null", "\"run\"", "{"] {
            let mut bytes = layout.header(text).unwrap();
            bytes.resize(layout.bytes as usize, 0);
            let why = parse(&bytes, |_, _| {}).err().map(|why| why.to_string());
            assert!(why.is_some_and(|why| why.contains("its header makes no sense")), "{text}");
        }
    }

    // Two processes in earnest; a thread would share no less. Each sample that is read is one that was written, whole: all its
    // numbers are the same.
    #[test]
    fn there_are_no_torn_reads_while_it_is_written_at_full_speed() {
        let file = tempfile::tempfile().unwrap();
        let layout = Layout::of(SMALLEST);
        let mut content = layout.header(TEXT).unwrap();
        content.resize(layout.bytes as usize, 0);
        file.write_all_at(&content, 0).unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let map = SharedWords::map(file.try_clone().unwrap().into(), layout.bytes as usize).unwrap();
                let mut writer = Writer::new(map, &layout);
                let mut count = 0_u64;
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    count += 1;
                    // Every look in a slot of its own, so that all its numbers are this one.
                    let stat =
                        Some(Stat { anon: count << 12, file: count << 12, sock: count << 12, ..Stat::default() });
                    let look = Glimpse { usage: count << 12, gauged: Some(count << 12), stat, ..Glimpse::default() };
                    writer.look(Duration::from_secs(count), &look, None);
                    writer.event(Duration::from_secs(count), Event::new(Kind::LateWake, [count, count, count, count]));
                    if count.is_multiple_of(40) {
                        writer.keep_up();
                    }
                }
            });
            let (mut samples, mut events, mut newest) = (0, 0, 0);
            for round in 0.. {
                let history = read(&file).unwrap();
                for sample in &history.rings[0].1 {
                    let size = u64::from(sample.number) << 12;
                    assert_eq!([sample.usage.least, sample.usage.most, sample.gauged().last], [size; 3]);
                    assert_eq!([sample.stat.anon, sample.stat.file, sample.stat.sock], [size; 3]);
                    samples += 1;
                }
                for event in &history.events {
                    assert_eq!(event.values, [event.since_start / 1000; 4]);
                    events += 1;
                }
                assert_eq!(history.pulse.usage, (history.pulse.since_start / 1000) << 12);
                newest = newest.max(history.pulse.since_start);
                if round >= 200 && newest > 100_000_000 {
                    break;
                }
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(samples > 1000 && events > 1000, "{samples} {events}");
        });
    }
}
