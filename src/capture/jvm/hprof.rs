//! The form of a heap dump (HPROF binary, 1.0.1 and 1.0.2), read as it passes by: objects are counted by type, and the
//! contents of primitive fields and arrays are made zero where secrets are not wanted. Nothing changes its length.
//!
//! The form is described in the JDK's own `hprof_b_spec.h` and `heapDumper.cpp`.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::histogram::type_name;
use crate::capture::census::Group;

/// How many bytes of strings are remembered, for the names of classes. A JVM with 200,000 symbols has about 8 MB of them.
const MOST_STRINGS: usize = 8 << 20;
/// Symbols have at most 65,535 bytes; a longer record is no symbol and passes by unread.
const LONGEST_STRING: u32 = 70_000;
/// What the JVM keeps of each object besides its fields. Bytes; 12 with compressed class pointers, then filled up.
const HEADER: u64 = 16;
/// No class has that many ancestors; a dump that says so goes round in circles.
const DEEPEST: usize = 1000;

/// Where a dump makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The byte, counted from the beginning of what was fed.
    pub at: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// What is known of the classes, shared by all parts of a dump.
#[derive(Debug)]
pub struct Tables {
    redact: bool,
    /// The size of an identifier: 4 or 8.
    id: usize,
    classes: Vec<Class>,
    by_id: HashMap<u64, usize, BuildHasherDefault<Mix>>,
    strings: Vec<u8>,
    names: Vec<(u64, u32, u16)>,
    /// Arrays by the type of their elements: how many, and their bytes.
    arrays: [(u64, u64); 12],
}

#[derive(Debug, Default)]
struct Class {
    id: u64,
    name: u64,
    parent: u64,
    /// The types of its own fields.
    fields: Box<[u8]>,
    /// Stretches of an object's content: how long, and whether they are primitive. Made when the first object comes.
    plan: Option<Box<[(u32, bool)]>>,
    instances: u64,
    bytes: u64,
}

/// Addresses differ in their middle bits; a multiplication spreads them.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

impl Tables {
    /// Knows nothing yet.
    pub fn new(redact: bool) -> Self {
        Self {
            redact,
            id: 8,
            classes: Vec::new(),
            by_id: HashMap::default(),
            strings: Vec::new(),
            names: Vec::new(),
            arrays: [(0, 0); 12],
        }
    }

    /// What was counted, the most bytes first. Bytes are those of the dump, whose references are as wide as an
    /// identifier: where the JVM compresses them, its own histogram says less.
    pub fn groups(&self) -> Vec<Group> {
        let mut by_name: HashMap<String, (u64, u64)> = HashMap::new();
        let mut add = |name: String, instances: u64, bytes: u64| {
            let group = by_name.entry(name).or_default();
            group.0 = group.0.saturating_add(instances);
            group.1 = group.1.saturating_add(bytes);
        };
        let names: HashMap<u64, &[u8], BuildHasherDefault<Mix>> = self
            .names
            .iter()
            .filter_map(|(id, at, length)| {
                let at = *at as usize;
                Some((*id, self.strings.get(at..at.saturating_add(usize::from(*length)))?))
            })
            .collect();
        for class in self.classes.iter().filter(|class| class.instances > 0) {
            let name = match names.get(&class.name) {
                Some(name) => readable(name),
                None => format!("class {:#x}", class.id),
            };
            add(name, class.instances, class.bytes);
        }
        let primitives = ["", "", "", "", "boolean", "char", "float", "double", "byte", "short", "int", "long"];
        for (name, (instances, bytes)) in primitives.iter().zip(self.arrays) {
            if instances > 0 {
                add(format!("{name}[]"), instances, bytes);
            }
        }
        let mut groups: Vec<Group> =
            by_name.into_iter().map(|(name, (instances, bytes))| Group { name, instances, bytes }).collect();
        groups.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.name.cmp(&other.name)));
        groups
    }

    fn remember(&mut self, id: u64, text: &[u8]) {
        // Signatures of methods and fields are never the name of a class.
        let is_signature = text.first().is_some_and(|byte| *byte == b'(')
            || (text.contains(&b';') && text.first().is_none_or(|byte| *byte != b'['));
        let room = MOST_STRINGS.saturating_sub(self.strings.len());
        if is_signature || text.is_empty() || text.len() > room {
            return;
        }
        if let (Ok(at), Ok(length)) = (u32::try_from(self.strings.len()), u16::try_from(text.len())) {
            self.strings.extend_from_slice(text);
            self.names.push((id, at, length));
        }
    }

    fn class(&mut self, id: u64) -> usize {
        if let Some(place) = self.by_id.get(&id) {
            return *place;
        }
        let place = self.classes.len();
        self.classes.push(Class { id, ..Class::default() });
        self.by_id.insert(id, place);
        place
    }

    fn with_class(&mut self, id: u64, change: impl FnOnce(&mut Class)) {
        let place = self.class(id);
        if let Some(class) = self.classes.get_mut(place) {
            change(class);
        }
    }

    /// Counts an object and tells which stretches of it are primitive; `None` if its class is not known well enough.
    fn instance(&mut self, id: u64, length: u32) -> Option<usize> {
        let place = self.class(id);
        if self.redact && self.classes.get(place)?.plan.is_none() {
            let plan = self.plan(place).unwrap_or_default();
            self.classes.get_mut(place)?.plan = Some(plan);
        }
        let class = self.classes.get_mut(place)?;
        class.instances = class.instances.saturating_add(1);
        class.bytes = class.bytes.saturating_add(aligned(HEADER.saturating_add(length.into())));
        let planned = class.plan.as_ref()?.iter().fold(0u64, |sum, (length, _)| sum.saturating_add((*length).into()));
        (planned == u64::from(length)).then_some(place)
    }

    /// The fields of a class come first, then those of its parent.
    fn plan(&self, place: usize) -> Option<Box<[(u32, bool)]>> {
        let mut plan: Vec<(u32, bool)> = Vec::new();
        let mut class = self.classes.get(place)?;
        for _ in 0..DEEPEST {
            for field in &class.fields {
                let length = u32::try_from(self.width(*field)?).ok()?;
                let primitive = *field != 2;
                match plan.last_mut() {
                    Some((total, same)) if *same == primitive => *total = total.checked_add(length)?,
                    _ => plan.push((length, primitive)),
                }
            }
            if class.parent == 0 {
                return Some(plan.into_boxed_slice());
            }
            class = self.classes.get(*self.by_id.get(&class.parent)?)?;
        }
        None
    }

    /// How many bytes a value of this type takes in the dump.
    fn width(&self, kind: u8) -> Option<usize> {
        match kind {
            2 => Some(self.id),
            4 | 8 => Some(1),
            5 | 9 => Some(2),
            6 | 10 => Some(4),
            7 | 11 => Some(8),
            _ => None,
        }
    }
}

const fn aligned(bytes: u64) -> u64 {
    bytes.saturating_add(7) & !7
}

/// `java/lang/String` is `java.lang.String`; hidden classes have `+0x…` at their end.
fn readable(name: &[u8]) -> String {
    let end = name.windows(3).rposition(|part| part == b"+0x").unwrap_or(name.len());
    let trail: &[u8] = if name.ends_with(b";") && end < name.len() { b";" } else { b"" };
    let mut dotted: Vec<u8> = name.get(..end).unwrap_or(name).to_vec();
    dotted.extend_from_slice(trail);
    dotted.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'.');
    type_name(&dotted)
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Header,
    Record,
    Text,
    LoadClass,
    SubRecord,
    Class,
    /// Entries of the constant pool that are left.
    Constant(u16),
    StaticCount,
    Static(u16),
    FieldCount,
    Fields,
    Instance,
    ObjectArray,
    PrimitiveArray,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Collect so many bytes, then look at them.
    Gather(What, usize),
    /// Let so many bytes pass, zeroed or not, then go on with this.
    Pass(u64, bool, What),
    /// The content of an object of that class: the number of the stretch, and what is left of it.
    Stretch(usize, usize, u32),
}

/// Reads one stream of records.
#[derive(Debug)]
pub struct Scan {
    state: State,
    /// What was gathered so far, where a chunk ended in the middle.
    pending: Vec<u8>,
    /// What is left of the heap segment; `None` between records.
    segment: Option<u64>,
    class: u64,
    seen: u64,
}

impl Scan {
    /// A dump from its beginning.
    pub const fn file() -> Self {
        Self::beginning(State::Gather(What::Header, HEADER_LENGTH))
    }

    /// A stream of records without the beginning.
    pub const fn records() -> Self {
        Self::beginning(State::Gather(What::Record, RECORD_LENGTH))
    }

    const fn beginning(state: State) -> Self {
        Self { state, pending: Vec::new(), segment: None, class: 0, seen: 0 }
    }

    /// How many bytes it was fed.
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether the last byte that it was fed was the last of a record.
    pub fn is_between_records(&self) -> bool {
        matches!(self.state, State::Gather(What::Record, _)) && self.pending.is_empty()
    }

    /// Reads on, and makes zero what is to be so. Returns how many of these bytes end with the end of a record: those
    /// behind belong to one that is not complete yet.
    ///
    /// # Errors
    /// Where they make no sense; what is behind that place is as it was.
    pub fn feed(&mut self, tables: &mut Tables, bytes: &mut [u8]) -> Result<usize, Flaw> {
        let begin = self.seen;
        let mut at = 0usize;
        let mut border = 0;
        while at < bytes.len() {
            let rest = bytes.get_mut(at..).unwrap_or_default();
            let step = match self.state {
                State::Gather(what, need) => {
                    let missing = need.saturating_sub(self.pending.len());
                    let step = missing.min(rest.len());
                    let part = rest.get(..step).unwrap_or_default();
                    self.seen = self.seen.saturating_add(step as u64);
                    if step < missing {
                        self.pending.extend_from_slice(part);
                    } else if self.pending.is_empty() {
                        self.state = self.next(tables, what, part)?;
                    } else {
                        let mut pending = std::mem::take(&mut self.pending);
                        pending.extend_from_slice(part);
                        let state = self.next(tables, what, &pending);
                        // Kept for the next time: no allocation for each chunk.
                        pending.clear();
                        self.pending = pending;
                        self.state = state?;
                    }
                    step
                }
                State::Pass(left, zero, then) => {
                    let step = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if zero {
                        rest.get_mut(..step).unwrap_or_default().fill(0);
                    }
                    self.seen = self.seen.saturating_add(step as u64);
                    let left = left.saturating_sub(step as u64);
                    self.state = if left > 0 { State::Pass(left, zero, then) } else { State::Gather(then, 0) };
                    step
                }
                State::Stretch(class, stretch, left) => {
                    let plan = tables.classes.get(class).and_then(|class| class.plan.as_ref());
                    let zero = plan.and_then(|plan| plan.get(stretch)).is_none_or(|(_, primitive)| *primitive);
                    let step = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if zero {
                        rest.get_mut(..step).unwrap_or_default().fill(0);
                    }
                    self.seen = self.seen.saturating_add(step as u64);
                    let left = left.saturating_sub(u32::try_from(step).unwrap_or(u32::MAX));
                    let following = stretch.saturating_add(1);
                    self.state = match plan.and_then(|plan| plan.get(following)) {
                        _ if left > 0 => State::Stretch(class, stretch, left),
                        Some((length, _)) => State::Stretch(class, following, *length),
                        None => State::Gather(What::SubRecord, 0),
                    };
                    step
                }
            };
            self.settle(tables)?;
            at = at.saturating_add(step);
            if self.is_between_records() {
                border = at;
            }
        }
        debug_assert!(self.seen.saturating_sub(begin) >= at as u64);
        Ok(border)
    }

    /// Gives each thing to gather its length, and passes over those that are empty.
    fn settle(&mut self, tables: &mut Tables) -> Result<(), Flaw> {
        loop {
            let id = tables.id;
            self.state = match self.state {
                State::Pass(0, _, then) => State::Gather(then, 0),
                State::Gather(What::SubRecord, _) if self.segment == Some(0) => {
                    self.segment = None;
                    State::Gather(What::Record, RECORD_LENGTH)
                }
                State::Gather(What::Constant(0), _) => State::Gather(What::StaticCount, 0),
                State::Gather(What::Static(0), _) => State::Gather(What::FieldCount, 0),
                State::Gather(what, 0) => {
                    let length = match what {
                        What::Header => HEADER_LENGTH,
                        What::Record => RECORD_LENGTH,
                        What::SubRecord => 1,
                        What::Constant(_) => 3,
                        What::Static(_) => id.saturating_add(1),
                        What::StaticCount | What::FieldCount => 2,
                        // These are always begun with a length.
                        _ => return Err(self.flaw("a record has no length")),
                    };
                    self.take_from_segment(what, length as u64)?;
                    State::Gather(what, length)
                }
                State::Stretch(class, stretch, 0) => {
                    let plan = tables.classes.get(class).and_then(|class| class.plan.as_ref());
                    let following = stretch.saturating_add(1);
                    match plan.and_then(|plan| plan.get(following)) {
                        Some((length, _)) => State::Stretch(class, following, *length),
                        None => State::Gather(What::SubRecord, 0),
                    }
                }
                _ => return Ok(()),
            };
        }
    }

    fn flaw(&self, what: &'static str) -> Flaw {
        Flaw { at: self.seen, what }
    }

    fn take_from_segment(&mut self, what: What, length: u64) -> Result<(), Flaw> {
        if matches!(what, What::Header | What::Record) {
            return Ok(());
        }
        let left = self.segment.and_then(|left| left.checked_sub(length));
        self.segment = Some(left.ok_or_else(|| self.flaw("a record reaches beyond its segment"))?);
        Ok(())
    }

    /// Something of a heap segment, with its length.
    fn gather(&mut self, what: What, length: usize) -> Result<State, Flaw> {
        self.take_from_segment(what, length as u64)?;
        Ok(State::Gather(what, length))
    }

    fn pass(&mut self, length: u64, zero: bool, then: What) -> Result<State, Flaw> {
        self.take_from_segment(then, length)?;
        Ok(State::Pass(length, zero, then))
    }

    /// Looks at what was gathered.
    fn next(&mut self, tables: &mut Tables, what: What, bytes: &[u8]) -> Result<State, Flaw> {
        let id = tables.id;
        let double = id.saturating_mul(2);
        match what {
            What::Header => {
                if !bytes.starts_with(b"JAVA PROFILE 1.0.") {
                    return Err(self.flaw("it is no heap dump"));
                }
                tables.id = match number(bytes, 19, 4) {
                    4 => 4,
                    8 => 8,
                    _ => return Err(self.flaw("its identifiers are neither 4 nor 8 bytes wide")),
                };
                Ok(State::Gather(What::Record, RECORD_LENGTH))
            }
            What::Record => {
                let length = u32::try_from(number(bytes, 5, 4)).unwrap_or(u32::MAX);
                let wide = length as usize;
                match bytes.first().copied().unwrap_or_default() {
                    0x01 if length <= LONGEST_STRING && wide > id => Ok(State::Gather(What::Text, wide)),
                    0x02 if wide == double.saturating_add(8) => Ok(State::Gather(What::LoadClass, wide)),
                    0x0C | 0x1C => {
                        self.segment = Some(length.into());
                        Ok(State::Gather(What::SubRecord, 0))
                    }
                    0x01..=0x0E | 0x2C => Ok(State::Pass(length.into(), false, What::Record)),
                    _ => Err(self.flaw("there is no such record")),
                }
            }
            What::Text => {
                tables.remember(number(bytes, 0, id), bytes.get(id..).unwrap_or_default());
                Ok(State::Gather(What::Record, RECORD_LENGTH))
            }
            What::LoadClass => {
                let name = number(bytes, id.saturating_add(8), id);
                tables.with_class(number(bytes, 4, id), |class| class.name = name);
                Ok(State::Gather(What::Record, RECORD_LENGTH))
            }
            What::SubRecord => match bytes.first().copied().unwrap_or_default() {
                0xFF | 0x05 | 0x07 => self.pass(id as u64, false, What::SubRecord),
                0x01 => self.pass(double as u64, false, What::SubRecord),
                0x02 | 0x03 | 0x08 => self.pass((id as u64).saturating_add(8), false, What::SubRecord),
                0x04 | 0x06 => self.pass((id as u64).saturating_add(4), false, What::SubRecord),
                0x20 => self.gather(What::Class, id.saturating_mul(7).saturating_add(10)),
                0x21 => self.gather(What::Instance, double.saturating_add(8)),
                0x22 => self.gather(What::ObjectArray, double.saturating_add(8)),
                0x23 => self.gather(What::PrimitiveArray, id.saturating_add(9)),
                _ => Err(self.flaw("there is no such part of a heap")),
            },
            What::Class => {
                self.class = number(bytes, 0, id);
                let parent = number(bytes, id.saturating_add(4), id);
                tables.with_class(self.class, |class| class.parent = parent);
                Ok(State::Gather(What::Constant(short(bytes, id.saturating_mul(7).saturating_add(8))), 0))
            }
            What::Constant(left) => {
                let kind = number(bytes, 2, 1) as u8;
                self.value(tables, kind, What::Constant(left.saturating_sub(1)))
            }
            What::StaticCount => Ok(State::Gather(What::Static(short(bytes, 0)), 0)),
            What::Static(left) => {
                let kind = number(bytes, id, 1) as u8;
                self.value(tables, kind, What::Static(left.saturating_sub(1)))
            }
            What::FieldCount => match usize::from(short(bytes, 0)).saturating_mul(id.saturating_add(1)) {
                0 => Ok(State::Gather(What::SubRecord, 0)),
                length => self.gather(What::Fields, length),
            },
            What::Fields => {
                let entries = bytes.chunks_exact(id.saturating_add(1));
                let fields = entries.filter_map(|entry| entry.last().copied()).collect();
                tables.with_class(self.class, |class| class.fields = fields);
                Ok(State::Gather(What::SubRecord, 0))
            }
            What::Instance => {
                let length = number(bytes, double.saturating_add(4), 4);
                let class = number(bytes, id.saturating_add(4), id);
                let known = tables.instance(class, u32::try_from(length).unwrap_or(u32::MAX));
                if !tables.redact {
                    return self.pass(length, false, What::SubRecord);
                }
                match known {
                    Some(class) => {
                        self.take_from_segment(What::SubRecord, length)?;
                        let plan = tables.classes.get(class).and_then(|class| class.plan.as_ref());
                        match plan.and_then(|plan| plan.first()) {
                            Some((length, _)) => Ok(State::Stretch(class, 0, *length)),
                            None => Ok(State::Gather(What::SubRecord, 0)),
                        }
                    }
                    // References go, too, but no secret stays.
                    None => self.pass(length, true, What::SubRecord),
                }
            }
            What::ObjectArray => {
                let length = number(bytes, id.saturating_add(4), 4).saturating_mul(id as u64);
                tables.with_class(number(bytes, id.saturating_add(8), id), |class| {
                    class.instances = class.instances.saturating_add(1);
                    class.bytes = class.bytes.saturating_add(aligned(HEADER.saturating_add(length)));
                });
                self.pass(length, false, What::SubRecord)
            }
            What::PrimitiveArray => {
                let kind = number(bytes, id.saturating_add(8), 1) as u8;
                let width = tables.width(kind).filter(|_| kind != 2);
                let width = width.ok_or_else(|| self.flaw("an array has elements of no known type"))?;
                let length = number(bytes, id.saturating_add(4), 4).saturating_mul(width as u64);
                if let Some((instances, total)) = tables.arrays.get_mut(usize::from(kind)) {
                    *instances = instances.saturating_add(1);
                    *total = total.saturating_add(aligned(HEADER.saturating_add(length)));
                }
                self.pass(length, tables.redact, What::SubRecord)
            }
        }
    }

    /// The value of a constant or of a static field.
    fn value(&mut self, tables: &Tables, kind: u8, then: What) -> Result<State, Flaw> {
        let width = tables.width(kind).ok_or_else(|| self.flaw("a field is of no known type"))?;
        self.pass(width as u64, tables.redact && kind != 2, then)
    }
}

/// `JAVA PROFILE 1.0.2`, NUL, the size of identifiers, the time.
const HEADER_LENGTH: usize = 31;
/// Tag, time, length.
const RECORD_LENGTH: usize = 9;

/// A big-endian number of at most 8 bytes; 0 for what is not there.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let part = bytes.get(at..at.saturating_add(length)).unwrap_or_default();
    part.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::try_from(number(bytes, at, 2)).unwrap_or_default()
}

#[cfg(test)]
pub mod unit {
    use super::*;
    use proptest::prelude::*;

    /// A dump of one class `app/Session` with a reference, an `int` and, from its parent, a `long`; of three of its
    /// objects, two arrays, a static secret.
    pub fn small() -> Vec<u8> {
        let mut dump = b"JAVA PROFILE 1.0.2\0\0\0\0\x08\0\0\0\0\0\0\0\0".to_vec();
        let record = |dump: &mut Vec<u8>, tag: u8, body: &[u8]| {
            dump.push(tag);
            dump.extend([0; 4]);
            dump.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
            dump.extend(body);
        };
        let id = |number: u64| number.to_be_bytes();
        let text = |number: u64, text: &str| [&id(number)[..], text.as_bytes()].concat();
        record(&mut dump, 0x01, &text(1, "app/Session"));
        record(&mut dump, 0x01, &text(2, "app/Base"));
        record(&mut dump, 0x01, &text(3, "[Lapp/Session;"));
        record(&mut dump, 0x01, &text(4, "(Lapp/Session;)V"));
        for (serial, class, name) in [(1u32, 101, 1), (2, 102, 2), (3, 103, 3)] {
            record(&mut dump, 0x02, &[&serial.to_be_bytes()[..], &id(class), &[0; 4], &id(name)].concat());
        }
        // A trace without frames.
        record(&mut dump, 0x05, &[0; 12]);
        let class = |class: u64, parent: u64, statics: &[u8], fields: &[u8]| {
            let mut part = vec![0x20];
            part.extend(id(class));
            part.extend([0; 4]);
            part.extend(id(parent));
            part.extend([0; 40]);
            part.extend([0, 0, 0, 24, 0, 0]);
            part.extend(statics);
            part.extend(u16::try_from(fields.len()).unwrap().to_be_bytes());
            fields.iter().for_each(|kind| part.extend([&id(9)[..], &[*kind]].concat()));
            part
        };
        let mut heap = vec![0xFF];
        heap.extend(id(500));
        heap.extend([0x01]);
        heap.extend([0; 16]);
        let statics = [&[0, 2][..], &id(9), &[11], b"SECRET08", &id(9), &[2], &id(0xAAAA)].concat();
        heap.extend(class(101, 102, &statics, &[2, 10]));
        heap.extend(class(102, 0, &[0, 0], &[11]));
        for object in 0..3u64 {
            heap.push(0x21);
            heap.extend(id(200 + object));
            heap.extend([0; 4]);
            heap.extend(id(101));
            heap.extend([0, 0, 0, 20]);
            heap.extend(id(0xBEEF));
            heap.extend(b"SECR");
            heap.extend(b"SECRET16");
        }
        heap.push(0x22);
        heap.extend([&id(300)[..], &[0; 4], &[0, 0, 0, 3], &id(103), &id(200), &id(201), &id(202)].concat());
        heap.push(0x23);
        heap.extend([&id(301)[..], &[0; 4], &[0, 0, 0, 7], &[8], b"SECRETS"].concat());
        record(&mut dump, 0x1C, &heap);
        record(&mut dump, 0x1C, &[]);
        record(&mut dump, 0x2C, &[]);
        dump
    }

    fn fed(dump: &[u8], redact: bool, chunk: usize) -> (Tables, Vec<u8>, Result<usize, Flaw>, Scan) {
        let mut tables = Tables::new(redact);
        let mut scan = Scan::file();
        let mut dump = dump.to_vec();
        let mut result = Ok(0);
        for part in dump.chunks_mut(chunk) {
            result = scan.feed(&mut tables, part);
            if result.is_err() {
                break;
            }
        }
        (tables, dump, result, scan)
    }

    fn group(name: &str, instances: u64, bytes: u64) -> Group {
        Group { name: name.to_owned(), instances, bytes }
    }

    #[test]
    fn objects_are_counted_however_the_stream_is_cut() {
        let dump = small();
        for chunk in (1..40).chain([dump.len()]) {
            let (tables, same, result, scan) = fed(&dump, false, chunk);
            result.unwrap();
            assert!(scan.is_between_records());
            assert_eq!(same, dump);
            assert_eq!(
                tables.groups(),
                [group("app.Session", 3, 120), group("app.Session[]", 1, 40), group("byte[]", 1, 24)]
            );
        }
    }

    #[test]
    fn a_redacted_dump_has_its_shape_but_no_contents() {
        let dump = small();
        let plain = dump.iter().filter(|byte| **byte == 0).count();
        for chunk in (1..40).chain([dump.len()]) {
            let (tables, redacted, result, _) = fed(&dump, true, chunk);
            result.unwrap();
            assert!(!redacted.windows(4).any(|part| part == b"SECR"), "chunks of {chunk}");
            assert_eq!(redacted.len(), dump.len());
            // 3 × (4 + 8) of the objects, 8 of the static field, 7 of the array: every other byte is as it was.
            assert_eq!(redacted.iter().filter(|byte| **byte == 0).count() - plain, 3 * 12 + 8 + 7);
            assert_eq!(redacted.windows(2).filter(|part| part == b"\xBE\xEF").count(), 3);
            assert_eq!(redacted.windows(2).filter(|part| part == b"\xAA\xAA").count(), 1);
            assert_eq!(tables.groups(), fed(&redacted, false, 100).0.groups());
        }
    }

    #[test]
    fn an_object_of_an_unknown_class_is_zeroed_as_a_whole() {
        let mut dump = small();
        // Its class now has a parent that is nowhere described.
        let class = dump.windows(9).position(|part| part == b"\x20\0\0\0\0\0\0\0\x65").unwrap();
        dump[class + 20] = 77;
        let (_, redacted, result, _) = fed(&dump, true, 64);
        result.unwrap();
        assert!(!redacted.windows(2).any(|part| part == b"\xBE\xEF"));
        assert!(!redacted.windows(4).any(|part| part == b"SECR"));
    }

    #[test]
    fn classes_that_are_their_own_ancestors_end() {
        let mut dump = small();
        let class = dump.windows(9).position(|part| part == b"\x20\0\0\0\0\0\0\0\x66").unwrap();
        dump[class + 20] = 101;
        fed(&dump, true, 64).2.unwrap();
    }

    #[test]
    fn the_border_of_the_last_whole_record_is_told() {
        let dump = small();
        let mut tables = Tables::new(false);
        let mut scan = Scan::file();
        let mut cut = dump[..40 + 5].to_vec();
        assert_eq!(scan.feed(&mut tables, &mut cut).unwrap(), 31);
        let mut cut = dump[45..61].to_vec();
        // The first record is 9 + 19 bytes long.
        assert_eq!(scan.feed(&mut tables, &mut cut).unwrap(), 31 + 28 - 45);
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_place() {
        let dump = small();
        for (at, value, what) in [
            (0usize, b'X', "it is no heap dump"),
            (22, 5, "its identifiers are neither 4 nor 8 bytes wide"),
            (31, 0x40, "there is no such record"),
        ] {
            let mut dump = dump.clone();
            dump[at] = value;
            assert_eq!(fed(&dump, false, 1000).2.unwrap_err().what, what);
        }
        let segment = dump.windows(2).position(|part| part == b"\x1C\0").unwrap();
        let mut short = dump.clone();
        short[segment + 8] -= 3;
        assert_eq!(fed(&short, false, 1000).2.unwrap_err().what, "a record reaches beyond its segment");
    }

    #[test]
    fn hidden_classes_have_no_address() {
        for (raw, name) in [
            ("java/lang/String", "java.lang.String"),
            ("[Ljava/util/HashMap$Node;", "java.util.HashMap$Node[]"),
            ("App$$Lambda+0x00007f1c0c003000", "App$$Lambda"),
            ("[LApp$$Lambda+0x00007f1c0c003000;", "App$$Lambda[]"),
            ("[[I", "int[][]"),
        ] {
            assert_eq!(readable(raw.as_bytes()), name);
        }
    }

    proptest! {
        #[test]
        fn no_dump_is_a_panic(
            noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            end in any::<prop::sample::Index>(), chunk in 1usize..200, redact: bool,
        ) {
            let mut dump = small();
            for (at, byte) in noise {
                let at = at.index(dump.len());
                dump[at] = byte;
            }
            dump.truncate(end.index(dump.len()) + 1);
            let _ = fed(&dump, redact, chunk).0.groups();
        }
    }
}
