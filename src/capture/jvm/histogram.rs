//! The census: the class histogram, and what the JVM says of its heap and of the memory beside it.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::time::Duration;

use super::attach::{Answer, Deadline, Jvm, cannot};
use super::outside::Resident;
use crate::capture::census::{Census, Group, Refusal};
use crate::units::Size;

/// No line of a histogram that makes sense is longer: a class name has at most 65,535 bytes, and few have 200.
const LONGEST_LINE: u64 = 128 * 1024;
/// How much of a name is kept. Bytes.
const LONGEST_NAME: usize = 512;
/// How many kinds of memory outside the heap are named in a sentence.
const NAMED: usize = 5;
/// How many stretches of addresses a heap may have.
const MOST_RANGES: usize = 64;

/// What a census may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first look to the last answer. The JVM goes on with what it has begun.
    pub time: Duration,
    /// How many types are told apart; the smallest are left out.
    pub groups: usize,
    /// Count what is reachable only. That costs a full collection of garbage, which takes several times as long.
    pub live: bool,
    /// When the process that is meant has started; `None`: it is the one that has the number now.
    pub start: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(20), groups: 500, live: false, start: None }
    }
}

/// Takes the census of a JVM.
///
/// # Errors
/// [`Refusal::NotMine`] for another kind of process, [`Refusal::Cannot`] with cause and consequence.
pub fn census(pid: i32, limits: Limits) -> Result<Census, Refusal> {
    let jvm = Jvm::attach(pid, limits.start, Deadline::after(limits.time))?;
    super::dump::clear(&jvm);
    census_of(&jvm, limits)
}

/// Takes the census of a JVM that has been attached to.
///
/// # Errors
/// As [`census`].
pub fn census_of(jvm: &Jvm, limits: Limits) -> Result<Census, Refusal> {
    let version = Version::parse(&jvm.command("VM.version").unwrap_or_default());
    // Before the histogram: its numbers are then of the same moment as the process's own.
    let mut heap = Heap::parse(&jvm.command("GC.heap_info").unwrap_or_default());
    if heap.metaspace_committed.is_none() {
        // JDK 25 tells it here; its answer begins with the line that the others have above.
        let told = jvm.command("VM.metaspace basic").unwrap_or_default();
        heap.metaspace_committed = Heap::parse(&told).metaspace_committed;
    }
    let native = native(&jvm.command("VM.native_memory summary").unwrap_or_default());
    let status = jvm.target().status().unwrap_or(*jvm.status());
    let resident = jvm.target().mappings().and_then(|text| Resident::read(text, &heap.ranges)).ok();

    let mut answer = jvm.ask("inspectheap", [if limits.live { "-live" } else { "-all" }, "", ""])?;
    let histogram = histogram(jvm, &mut answer, limits.groups);
    let pause = answer.asked().elapsed();
    let histogram = histogram?;

    let used = heap.used.unwrap_or(histogram.bytes);
    // Where its pages are not known, nobody can tell what is outside either.
    let known = resident.and_then(|resident| Some((resident.heap?, resident)));
    let outside = known.map_or(Vec::new(), |(_, resident)| resident.parts(&heap, &native, &histogram, status.threads));
    let mut remarks = vec![match known {
        Some((held, resident)) => where_it_is(used, held, resident.outside(), &outside),
        None => format!(
            "{} of objects in the heap, {} resident in all, {} threads; what is outside the heap cannot be told",
            Size(used),
            Size(status.resident),
            status.threads
        ),
    }];
    remarks.push(
        "the pause was measured from the request to the end of the answer; the JVM stood still for no longer"
            .to_owned(),
    );
    if !limits.live {
        remarks.push("garbage that is not collected yet is counted, too".to_owned());
    }
    if !histogram.whole {
        remarks.push("the answer was cut short: the smallest types are missing".to_owned());
    }
    if histogram.left_out > 0 {
        remarks.push(format!(
            "{} smaller types, {} together, are left out",
            histogram.left_out,
            Size(histogram.left_out_bytes)
        ));
    }
    Ok(Census {
        runtime: version.runtime(),
        heap: Some(known.map_or(used, |(held, _)| held)),
        groups: histogram.groups,
        outside,
        classes: Vec::new(),
        holders: Vec::new(),
        share: 1.0,
        pause,
        remarks,
        ..Census::default()
    })
}

fn histogram(jvm: &Jvm, answer: &mut Answer, most: usize) -> Result<Histogram, Refusal> {
    let code = answer.code()?;
    if code != 0 {
        return Err(cannot(jvm.pid(), &format!("it refuses the class histogram with code {code}")));
    }
    let (histogram, error) = Histogram::read(&mut *answer, most);
    match error {
        Some(error) if histogram.groups.is_empty() => Err(answer.failure(&error)),
        None if histogram.groups.is_empty() => Err(cannot(jvm.pid(), "its class histogram is empty")),
        _ => Ok(histogram),
    }
}

/// A class histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// By type, the most bytes first.
    pub groups: Vec<Group>,
    /// All types together, those left out included.
    pub instances: u64,
    /// See `instances`.
    pub bytes: u64,
    /// How many lines were left out because there were too many types, and what they take.
    pub left_out: u64,
    /// See `left_out`.
    pub left_out_bytes: u64,
    /// How many classes are loaded.
    pub classes: u64,
    /// How many buffers there are whose content is outside the heap, views of others included.
    pub buffers: u64,
    /// Whether the line with the sum was seen.
    pub whole: bool,
}

impl Histogram {
    /// Reads the text as it comes. Lines of one name, from several class loaders, are put together. What came before an
    /// error is kept.
    pub fn read(text: impl Read, most: usize) -> (Self, Option<io::Error>) {
        let mut text = BufReader::with_capacity(16 * 1024, text);
        let mut histogram = Self::default();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut line = Vec::new();
        let error = loop {
            line.clear();
            match text.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
                Ok(0) => break None,
                Ok(_) => {}
                Err(error) => break Some(error),
            }
            if line.starts_with(b"Total") {
                histogram.whole = true;
                break None;
            }
            let Some(group) = row(&line) else { continue };
            histogram.instances = histogram.instances.saturating_add(group.instances);
            histogram.bytes = histogram.bytes.saturating_add(group.bytes);
            match group.name.as_str() {
                "java.lang.Class" => histogram.classes = group.instances,
                "java.nio.DirectByteBuffer" => histogram.buffers = group.instances,
                _ => {}
            }
            if let Some(known) = places.get(&group.name).and_then(|place| histogram.groups.get_mut(*place)) {
                known.instances = known.instances.saturating_add(group.instances);
                known.bytes = known.bytes.saturating_add(group.bytes);
            } else if histogram.groups.len() < most {
                places.insert(group.name.clone(), histogram.groups.len());
                histogram.groups.push(group);
            } else {
                // The text is sorted by bytes: those that come later are smaller.
                histogram.left_out = histogram.left_out.saturating_add(1);
                histogram.left_out_bytes = histogram.left_out_bytes.saturating_add(group.bytes);
            }
        };
        histogram.groups.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.name.cmp(&other.name)));
        (histogram, error)
    }
}

/// A line such as `   2:         17122         410928  java.lang.String (java.base@17.0.15)`.
fn row(line: &[u8]) -> Option<Group> {
    let line = line.trim_ascii();
    let (rank, rest) = word(line)?;
    rank.strip_suffix(b":").filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))?;
    let (instances, rest) = word(rest)?;
    let (bytes, rest) = word(rest)?;
    let name = type_name(without_module(rest.trim_ascii()));
    (!name.is_empty()).then_some(Group { name, instances: number(instances)?, bytes: number(bytes)? })
}

fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(word, _)| !word.is_empty())
}

/// Digits; too many of them are as much as can be told.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX))
}

/// Without ` (java.base@17.0.15)`. A class may have blanks and brackets in its name (Kotlin's tests do), so only what
/// looks like a module is taken away.
fn without_module(name: &[u8]) -> &[u8] {
    let Some(rest) = name.strip_suffix(b")") else { return name };
    let Some(at) = rest.windows(2).rposition(|pair| pair == b" (") else { return name };
    let module = rest.get(at.saturating_add(2)..).unwrap_or_default();
    let is_module = !module.is_empty()
        && module.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._@+-$".contains(byte) || !byte.is_ascii());
    if is_module { name.get(..at).unwrap_or(name) } else { name }
}

/// As Java writes it: `[B` is `byte[]`, `[[Ljava.lang.String;` is `java.lang.String[][]`. What makes each hidden class
/// unique (`App$$Lambda/0x00007f1c0c003000`) goes, so that two censuses can be compared.
pub fn type_name(name: &[u8]) -> String {
    let dimensions = name.iter().take_while(|byte| **byte == b'[').count();
    let element = name.get(dimensions..).unwrap_or_default();
    let primitive: Option<&[u8]> = match element {
        _ if dimensions == 0 => None,
        b"B" => Some(b"byte"),
        b"C" => Some(b"char"),
        b"D" => Some(b"double"),
        b"F" => Some(b"float"),
        b"I" => Some(b"int"),
        b"J" => Some(b"long"),
        b"S" => Some(b"short"),
        b"Z" => Some(b"boolean"),
        _ => None,
    };
    let element = primitive.unwrap_or_else(|| {
        let object = element.strip_prefix(b"L").and_then(|name| name.strip_suffix(b";"));
        if dimensions == 0 { element } else { object.unwrap_or(element) }
    });
    let element = match element.iter().position(|byte| *byte == b'/') {
        Some(at) if at > 0 && is_address(element.get(at.saturating_add(1)..).unwrap_or_default()) => {
            element.get(..at).unwrap_or(element)
        }
        _ => element,
    };
    let mut text: String = String::from_utf8_lossy(element.get(..LONGEST_NAME).unwrap_or(element))
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect();
    if element.len() > LONGEST_NAME {
        text.push('…');
    }
    // A type has at most 255 dimensions (The Java Virtual Machine Specification, 4.3.2).
    text.push_str(&"[]".repeat(dimensions.min(255)));
    text
}

fn is_address(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    !digits.is_empty() && digits.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'+')
}

/// The answer to `VM.version`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    name: String,
    number: String,
}

impl Version {
    /// `OpenJDK 64-Bit Server VM version 17.0.15+6-Debian-1deb12u1`, then `JDK 17.0.15`; the latter is `JDK 8.0_432` for
    /// 8u432.
    pub fn parse(text: &str) -> Self {
        let mut version = Self { name: "HotSpot".to_owned(), number: String::new() };
        for line in text.lines().map(str::trim) {
            if let Some((name, _)) = line.split_once(" VM version ") {
                let name = name.split(" 64-Bit").next().unwrap_or(name);
                let name = name.split(" Server").next().unwrap_or(name);
                let name: String = name.chars().filter(|letter| !letter.is_control()).take(60).collect();
                if !name.trim().is_empty() {
                    version.name = name;
                }
            } else if let Some(number) = line.strip_prefix("JDK ") {
                let number: String = number.chars().filter(|letter| !letter.is_control()).take(40).collect();
                version.number = number.replacen("8.0_", "8u", 1);
            }
        }
        version
    }

    /// `OpenJDK 17.0.15`.
    pub fn runtime(&self) -> String {
        format!("{} {}", self.name, self.number).trim_end().to_owned()
    }

    /// 8, 11, 17; `None` where it is not told.
    pub fn feature(&self) -> Option<u32> {
        let digits = self.number.split(|letter: char| !letter.is_ascii_digit()).next()?;
        digits.parse().ok()
    }
}

/// The answer to `GC.heap_info`. Bytes; `None` for what it does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// What objects take, garbage included.
    pub used: Option<u64>,
    /// What is set aside for them.
    pub committed: Option<u64>,
    /// Classes and what belongs to them, outside the heap: what is set aside for them.
    pub metaspace_committed: Option<u64>,
    /// The addresses of the heap, where the collector tells them.
    pub ranges: Vec<Range<u64>>,
}

impl Heap {
    /// Every collector has its own form; those with generations have a line for each, which are summed.
    pub fn parse(text: &str) -> Self {
        let mut heap = Self::default();
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with("Metaspace") {
                heap.metaspace_committed = before_word(line, "committed", false);
                // What follows are parts of it.
                break;
            }
            if let Some(range) = range(line).filter(|_| heap.ranges.len() < MOST_RANGES) {
                heap.ranges.push(range);
            }
            let is_generation =
                ["garbage-first heap", "PSYoungGen", "ParOldGen", "PSOldGen", "ZHeap", "DefNew", "Tenured"]
                    .iter()
                    .any(|name| line.starts_with(name))
                    || line.contains("generation ");
            // Shenandoah: `65536K max, 65536K soft max, 4096K committed, 1234K used`.
            let is_reversed = line.ends_with("used") && line.contains("committed, ");
            if !(is_generation || is_reversed) {
                continue;
            }
            let add = |sum: &mut Option<u64>, part: Option<u64>| {
                if let Some(part) = part {
                    *sum = Some(sum.unwrap_or(0).saturating_add(part));
                }
            };
            add(&mut heap.used, before_word(line, "used", is_reversed));
            let committed = ["committed", "capacity", "total"]
                .iter()
                .find_map(|word| before_word(line, word, is_reversed && *word == "committed"));
            add(&mut heap.committed, committed);
        }
        heap
    }
}

/// `[0x00000000f0000000, 0x00000000f8100000, 0x0000000100000000)`: first and last address.
fn range(line: &str) -> Option<Range<u64>> {
    let (_, rest) = line.split_once("[0x")?;
    let (first, rest) = rest.split_once(',')?;
    let (rest, _) = rest.split_once(')')?;
    let last = rest.rsplit(',').next().unwrap_or(rest).trim().strip_prefix("0x")?;
    let range = u64::from_str_radix(first, 16).ok()?..u64::from_str_radix(last, 16).ok()?;
    Some(range).filter(|range| !range.is_empty())
}

/// The size after a word, or the one before it.
fn before_word(line: &str, key: &str, reversed: bool) -> Option<u64> {
    let mut last = "";
    let mut words = line.split([' ', ',', '\t']).filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        if word == key {
            return size(if reversed { last } else { words.next()? });
        }
        last = word;
    }
    None
}

/// `65536K`, `64M`, `123KB`.
fn size(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let shift = match unit.bytes().next() {
        None | Some(b'B') => 0,
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        Some(_) => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// What native memory tracking tells of what the JVM has from malloc(3), by category, the largest first; empty where it is
/// off. What it has mapped besides need not be resident. Bytes.
pub fn native(text: &str) -> Vec<(String, u64)> {
    let mut categories: Vec<(String, u64)> = Vec::new();
    let mut category: Option<String> = None;
    for line in text.lines().map(str::trim_start) {
        if let Some((name, _)) = line.strip_prefix('-').and_then(|rest| rest.split_once(" (reserved=")) {
            category = Some(name.trim().chars().filter(|letter| !letter.is_control()).take(40).collect());
        } else if let Some((amount, _)) = line.strip_prefix("(malloc=").and_then(|rest| rest.split_once(' '))
            && let Some(bytes) = size(amount).filter(|bytes| *bytes > 0 && categories.len() < 64)
            && let Some(name) = category.take()
        {
            categories.push((name, bytes));
        }
    }
    categories.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    categories
}

/// The sentence that comes first: heap, or not heap?
fn where_it_is(used: u64, heap: u64, outside: u64, parts: &[Group]) -> String {
    use std::fmt::Write;
    let mut text =
        format!("objects take {}; resident are {} of heap and {} outside it", Size(used), Size(heap), Size(outside));
    for (place, part) in parts.iter().take(NAMED).filter(|part| part.bytes > 0).enumerate() {
        let lead = if place == 0 { ": " } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{lead}{} {}", part.name, Size(part.bytes));
        let unit = match part.name.as_str() {
            "metaspace" => "classes",
            "thread stacks" => "threads",
            name if name.starts_with("direct buffers") => "direct buffers",
            _ => continue,
        };
        let _ = write!(text, " ({} {unit})", part.instances);
    }
    text
}

#[cfg(test)]
mod unit {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Histogram {
        Histogram::read(text.as_bytes(), 1000).0
    }

    fn group(name: &str, instances: u64, bytes: u64) -> Group {
        Group { name: name.to_owned(), instances, bytes }
    }

    #[test]
    fn the_forms_of_all_versions_are_read() {
        for text in [
            // 8
            "\n num     #instances         #bytes  class name\n----------------------------------------------\n   \
             1:          1523         128000  [C\n   2:            10            640  java.lang.String\nTotal          1533         128640\n",
            // 11, 17, 21, 25
            " num     #instances         #bytes  class name (module)\n-------------------------------------------------------\n   \
             1:          1523         128000  [C (java.base@17.0.15)\n   2:            10            640  \
             java.lang.String (java.base@17.0.15)\nTotal          1533         128640\n",
        ] {
            let histogram = read(text);
            assert_eq!(histogram.groups, [group("char[]", 1523, 128_000), group("java.lang.String", 10, 640)]);
            assert_eq!((histogram.instances, histogram.bytes, histogram.whole), (1533, 128_640, true));
        }
    }

    #[test]
    fn one_name_from_two_class_loaders_is_one_group() {
        let histogram = read("1: 5 50 a.B\n2: 1 45 c.D\n3: 4 40 a.B (app@1)\nTotal 10 135\n");
        assert_eq!(histogram.groups, [group("a.B", 9, 90), group("c.D", 1, 45)]);
    }

    #[test]
    fn names_are_written_as_java_writes_them() {
        for (raw, name) in [
            ("[B", "byte[]"),
            ("[[[J", "long[][][]"),
            ("[Z", "boolean[]"),
            ("[Ljava.lang.String;", "java.lang.String[]"),
            ("[[Lapp.Map$Entry;", "app.Map$Entry[][]"),
            ("B", "B"),
            ("L;", "L;"),
            ("App$$Lambda$14/0x0000000800c03000", "App$$Lambda$14"),
            ("App$$Lambda$14/1096979270", "App$$Lambda$14"),
            ("[LApp$$Lambda/0x00007f1c0c003000;", "App$$Lambda[]"),
            ("App$$Lambda/0x00007f1c0c003000+0x1", "App$$Lambda/0x00007f1c0c003000+0x1"),
            ("odd/name", "odd/name"),
            ("tab\there\u{1b}[2J", "tab?here?[2J"),
        ] {
            assert_eq!(type_name(raw.as_bytes()), name);
        }
        assert_eq!(type_name(&[b'x'; 70_000]).len(), LONGEST_NAME + "…".len());
        assert_eq!(type_name(&[b'['; 70_000]).len(), 510);
        assert_eq!(type_name(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn only_a_module_is_taken_from_the_end_of_a_name() {
        for (line, name) in [
            ("1: 1 16 app.A (app@1.0-SNAPSHOT)", "app.A"),
            ("1: 1 16 app.A (java.base)", "app.A"),
            ("1: 1 16 app.Test$it works (at least here)", "app.Test$it works (at least here)"),
            ("1: 1 16 app.A ()", "app.A ()"),
        ] {
            assert_eq!(row(line.as_bytes()).unwrap().name, name);
        }
    }

    #[test]
    fn lines_without_sense_are_passed_over_and_huge_numbers_do_not_overflow() {
        let most = u64::MAX;
        let text = format!(
            "x\n1: 2\n: 1 2 x\n1: -1 2 x\n1: 99999999999999999999999 {most} a.B\n2: {most} {most} a.B\n3: 1 1\n"
        );
        let histogram = read(&text);
        assert_eq!(histogram.groups, [group("a.B", most, most)]);
        assert!(!histogram.whole);
    }

    #[test]
    fn what_is_too_much_is_counted_but_not_kept() {
        let text: String = (1..=50).map(|rank| format!("{rank}: 1 {} c.C{rank}\n", 100 - rank)).collect();
        let (histogram, error) = Histogram::read(text.as_bytes(), 10);
        assert!(error.is_none());
        assert_eq!((histogram.groups.len(), histogram.left_out, histogram.instances), (10, 40, 50));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "[0-9: a-zA-Z\\[;/().@\n-]{0,200}") {
            let _ = Histogram::read(bytes.as_slice(), 3);
            let _ = Histogram::read(text.as_bytes(), 3);
            let lossy = String::from_utf8_lossy(&bytes);
            for text in [lossy.as_ref(), text.as_str()] {
                let _ = (Heap::parse(text), Version::parse(text).feature(), native(text));
            }
        }
    }

    #[test]
    fn versions_are_named_as_people_name_them() {
        for (text, runtime, feature) in [
            ("OpenJDK 64-Bit Server VM version 17.0.15+6-Debian-1deb12u1\nJDK 17.0.15\n", "OpenJDK 17.0.15", Some(17)),
            ("OpenJDK 64-Bit Server VM version 25.432-b06\nJDK 8.0_432\n", "OpenJDK 8u432", Some(8)),
            (
                "Java HotSpot(TM) 64-Bit Server VM version 21+35-LTS-2513\nJDK 21.0.0\n",
                "Java HotSpot(TM) 21.0.0",
                Some(21),
            ),
            ("OpenJDK Server VM version 11.0.1+1\nJDK 11.0.1\n", "OpenJDK 11.0.1", Some(11)),
            ("", "HotSpot", None),
        ] {
            let version = Version::parse(text);
            assert_eq!((version.runtime().as_str(), version.feature()), (runtime, feature));
        }
    }

    #[test]
    fn every_collector_tells_its_heap() {
        let metaspace =
            " Metaspace       used 101K, committed 320K, reserved 1114112K\n  class space    used 3K, committed 128K\n";
        for (text, used, committed) in [
            (
                " garbage-first heap   total 65536K, used 4020K [0x00, 0x01)\n  region size 1024K, 3 young (3072K)\n",
                4020,
                65536,
            ),
            ("garbage-first heap   total reserved 131072K, committed 65536K, used 5098K [0x00, 0x01)\n", 5098, 65536),
            (
                " PSYoungGen      total 9216K, used 1000K [0x0)\n  eden space 8192K, 15% used [0x0)\n ParOldGen       total 10240K, used 24K [0x0)\n  object space 10240K, 0% used [0x0)\n",
                1024,
                19456,
            ),
            (
                " def new generation   total 9216K, used 1000K [0x0)\n  eden space 8192K,  12% used [0x)\n tenured generation   total 10240K, used 24K [0x0)\n   the space 10240K,   0% used [0x0)\n",
                1024,
                19456,
            ),
            (
                " par new generation   total 9216K, used 1000K [0x0)\n concurrent mark-sweep generation total 10240K, used 24K [0x0)\n",
                1024,
                19456,
            ),
            (" ZHeap           used 20M, capacity 64M, max capacity 512M\n", 20480, 65536),
            (
                "Shenandoah Heap\n 65536K max, 65536K soft max, 4096K committed, 1234K used\n 256 x 256K regions\n",
                1234,
                4096,
            ),
        ] {
            let heap = Heap::parse(&format!("{text}{metaspace}"));
            let told = (heap.used, heap.committed, heap.metaspace_committed);
            assert_eq!(told, (Some(used << 10), Some(committed << 10), Some(320 << 10)), "{text}");
        }
        assert_eq!(Heap::parse("java.lang.IllegalArgumentException: Unknown diagnostic command"), Heap::default());
    }

    #[test]
    fn native_memory_is_told_where_it_is_tracked() {
        let text = "Native Memory Tracking:\n\nTotal: reserved=1413341KB, committed=97397KB\n       malloc: 9MB\n\n\
            -                 Java Heap (reserved=65536KB, committed=65536KB)\n                            (mmap: reserved=65536KB)\n \n\
            -                        GC (reserved=60021KB, committed=60021KB)\n                            (malloc=57KB #2017) \n\
            (mmap: reserved=59964KB, committed=59964KB) \n\
            -                     Other (reserved=153600KB, committed=153600KB)\n                            \
            (malloc=153600KB #150) (at peak)\n";
        let told = native(text);
        assert_eq!(told, [("Other".into(), 153_600 << 10), ("GC".into(), 57 << 10)]);
        assert!(native("Native memory tracking is not enabled\n").is_empty());

        let part = |name: &str, instances, bytes| Group { name: name.to_owned(), instances, bytes };
        let parts =
            [part("direct buffers", 3, 30 << 20), part("thread stacks", 23, 6 << 20), part("compiled code", 0, 0)];
        assert_eq!(
            where_it_is(20 << 20, 64 << 20, 36 << 20, &parts),
            "objects take 20 MiB; resident are 64 MiB of heap and 36 MiB outside it: direct buffers 30 MiB \
             (3 direct buffers), thread stacks 6 MiB (23 threads)"
        );
    }

    #[test]
    fn a_heap_tells_where_it_is() {
        for (line, start, end) in [
            (
                "garbage-first heap   total 65536K, used 4020K [0x00000000f8000000, 0x0000000100000000)",
                0xf800_0000,
                0x1_0000_0000,
            ),
            (
                " garbage-first heap   total 6K, used 4K [0x00000000f8000000, 0x00000000f8100200, 0x0000000100000000)",
                0xf800_0000,
                0x1_0000_0000,
            ),
            (" - [0x00000000c0000000, 0x0000000100000000) ", 0xc000_0000, 0x1_0000_0000),
        ] {
            assert!(Heap::parse(line).ranges.iter().eq(&[(start, end)].map(|(start, end)| start..end)), "{line}");
        }
        for line in
            ["[0x2, 0x1)", "[0x1", "[0x1,", "[0x1, 0x)", "[0x1, 2)", "[0xzz, 0x2)", "Metaspace used 1K [0x1, 0x2)"]
        {
            assert!(Heap::parse(line).ranges.is_empty(), "{line}");
        }
    }
}
