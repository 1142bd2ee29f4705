//! Reads the text of kernel files: pure, without allocation, and safe for any bytes whatsoever.
//!
//! Whole files are expected: the kernel ends each with a newline, so that a text without one was cut off and its last
//! number may have lost digits. Keys that are not asked for are not judged: each kernel adds some.

use std::fmt;

use super::reading::{Events, Stat};

/// From here on a limit of v1 is none: `PAGE_COUNTER_MAX` pages, with 4 KiB or 64 KiB pages
/// (include/linux/page_counter.h).
const V1_UNLIMITED: u64 = 0x7FFF_FFFF_FFFF_0000;

/// Where and why some text holds no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: usize,
    /// Why.
    pub flaw: Flaw,
}

/// Why some text holds no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing there.
    Empty,
    /// No newline at the end: the rest is missing.
    CutOff,
    /// Not a number.
    NotANumber(Word),
    /// A number below zero.
    Negative(Word),
    /// A number beyond 64 bits.
    Overflow(Word),
    /// A number that no machine can have reached.
    Impossible(u64),
    /// A key that every kernel writes is missing.
    Missing(&'static str),
    /// The line is not built like this.
    NotLike(&'static str),
}

impl Flaw {
    const fn at(self, line: usize) -> Fault {
        Fault { line, flaw: self }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => out.write_str("nothing there"),
            Self::CutOff => out.write_str("cut off before the end of the line"),
            Self::NotANumber(word) => write!(out, "\"{word}\" is not a number"),
            Self::Negative(word) => write!(out, "\"{word}\" is below zero"),
            Self::Overflow(word) => write!(out, "\"{word}\" is beyond 64 bits"),
            Self::Impossible(value) => write!(out, "{value} is more than this machine can hold"),
            Self::Missing(key) => write!(out, "no \"{key}\" in it"),
            Self::NotLike(form) => write!(out, "not of the form \"{form}\""),
        }
    }
}

/// The first bytes of what was found, kept for the message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word {
    bytes: [u8; 24],
    length: usize,
}

impl Word {
    fn new(text: &[u8]) -> Self {
        let mut bytes = [0; 24];
        let length = text.len().min(bytes.len());
        bytes.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        Self { bytes, length }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.get(..self.length).unwrap_or_default().escape_ascii().fmt(out)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{self}\"")
    }
}

/// A file of one number: `memory.current`, `memory.usage_in_bytes`.
///
/// # Errors
/// For anything but ASCII digits and a newline.
pub fn number(text: &[u8]) -> Result<u64, Fault> {
    digits(whole(text)?).map_err(|flaw| flaw.at(1))
}

/// A file of one number or `max`, which is `None`: `memory.max`, `memory.swap.max`.
///
/// # Errors
/// As [`number`].
pub fn number_or_max(text: &[u8]) -> Result<Option<u64>, Fault> {
    if text == b"max\n" { Ok(None) } else { number(text).map(Some) }
}

/// A limit of v1; `None` where it stands for "no limit".
///
/// # Errors
/// As [`number`].
pub fn v1_limit(text: &[u8]) -> Result<Option<u64>, Fault> {
    number(text).map(below_v1_unlimited)
}

fn below_v1_unlimited(limit: u64) -> Option<u64> {
    (limit < V1_UNLIMITED).then_some(limit)
}

/// `memory.stat` of v2.
///
/// # Errors
/// If a key that memini uses has no sensible value, or if one that every kernel writes is missing.
pub fn v2_stat(text: &[u8]) -> Result<Stat, Fault> {
    let mut stat = Stat::default();
    let mut needed = Needed::new(["anon", "file", "inactive_file", "active_file"]);
    for line in pairs(text)? {
        let (line, key, value) = line?;
        needed.saw(key);
        let place = match key {
            b"anon" => &mut stat.anon,
            b"file" => &mut stat.file,
            b"shmem" => &mut stat.shmem,
            b"inactive_file" => &mut stat.inactive_file,
            b"active_file" => &mut stat.active_file,
            b"unevictable" => &mut stat.unevictable,
            b"file_dirty" => &mut stat.file_dirty,
            b"file_writeback" => &mut stat.file_writeback,
            b"slab_reclaimable" => &mut stat.slab_reclaimable,
            b"slab_unreclaimable" => &mut stat.slab_unreclaimable,
            b"kernel_stack" => &mut stat.kernel_stack,
            b"pagetables" => &mut stat.pagetables,
            b"sock" => &mut stat.sock,
            // Before Linux 5.9 there was one counter, of file pages.
            b"workingset_refault_file" | b"workingset_refault" => &mut stat.workingset_refault_file,
            _ => continue,
        };
        *place = digits(value).map_err(|flaw| flaw.at(line))?;
    }
    needed.all_seen()?;
    Ok(stat)
}

/// What v1 puts into `memory.stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V1Stat {
    /// The details of the group and all below it, in v2's words.
    pub stat: Stat,
    /// The lowest limit on the way to the root, groups that cannot be seen from here included.
    pub hierarchical_limit: Option<u64>,
    /// The same for memory and swap together; `None` also where swap is not accounted.
    pub hierarchical_memsw_limit: Option<u64>,
}

/// `memory.stat` of v1: the hierarchical `total_…` keys.
///
/// # Errors
/// As [`v2_stat`].
pub fn v1_stat(text: &[u8]) -> Result<V1Stat, Fault> {
    let mut stat = Stat::default();
    let (mut limit, mut memsw_limit) = (u64::MAX, u64::MAX);
    let mut needed = Needed::new(["total_cache", "total_rss", "total_inactive_file", "total_active_file"]);
    for line in pairs(text)? {
        let (line, key, value) = line?;
        needed.saw(key);
        let place = match key {
            b"hierarchical_memory_limit" => &mut limit,
            b"hierarchical_memsw_limit" => &mut memsw_limit,
            b"total_rss" => &mut stat.anon,
            b"total_cache" => &mut stat.file,
            b"total_shmem" => &mut stat.shmem,
            b"total_inactive_file" => &mut stat.inactive_file,
            b"total_active_file" => &mut stat.active_file,
            b"total_unevictable" => &mut stat.unevictable,
            b"total_dirty" => &mut stat.file_dirty,
            b"total_writeback" => &mut stat.file_writeback,
            b"total_workingset_refault_file" | b"total_workingset_refault" => &mut stat.workingset_refault_file,
            _ => continue,
        };
        *place = digits(value).map_err(|flaw| flaw.at(line))?;
    }
    needed.all_seen()?;
    let (hierarchical_limit, hierarchical_memsw_limit) = (below_v1_unlimited(limit), below_v1_unlimited(memsw_limit));
    Ok(V1Stat { stat, hierarchical_limit, hierarchical_memsw_limit })
}

/// `memory.events` of v2.
///
/// # Errors
/// If a counter has no sensible value, or if `max` or `oom` is missing. (`oom_kill` is younger: Linux 4.13.)
pub fn v2_events(text: &[u8]) -> Result<Events, Fault> {
    let mut events = Events::default();
    let mut needed = Needed::new(["max", "oom"]);
    for line in pairs(text)? {
        let (line, key, value) = line?;
        needed.saw(key);
        let place = match key {
            b"high" => &mut events.high,
            b"max" => &mut events.max,
            b"oom" => &mut events.oom,
            b"oom_kill" => &mut events.oom_kill,
            _ => continue,
        };
        *place = digits(value).map_err(|flaw| flaw.at(line))?;
    }
    needed.all_seen()?;
    Ok(events)
}

/// `memory.oom_control` of v1: only `oom_kill` (Linux 4.13) is a counter there.
///
/// # Errors
/// If it has no sensible value, or if this is not that file.
pub fn v1_oom_control(text: &[u8]) -> Result<Events, Fault> {
    let mut events = Events::default();
    let mut needed = Needed::new(["under_oom"]);
    for line in pairs(text)? {
        let (line, key, value) = line?;
        needed.saw(key);
        if key == b"oom_kill" {
            events.oom_kill = digits(value).map_err(|flaw| flaw.at(line))?;
        }
    }
    needed.all_seen()?;
    Ok(events)
}

/// `full avg10` of `memory.pressure`, in percent; `None` if the kernel does not write that line.
///
/// # Errors
/// If it is not a number from 0 to 100 (Documentation/accounting/psi.rst).
pub fn pressure_full_avg10(text: &[u8]) -> Result<Option<f32>, Fault> {
    for (line, words) in lines(whole(text)?) {
        let Some(rest) = words.strip_prefix(b"full ") else { continue };
        let form = || Flaw::NotLike("full avg10=N.NN …").at(line);
        let word = rest.strip_prefix(b"avg10=").and_then(|rest| rest.split(|byte| *byte == b' ').next());
        let word = word.ok_or_else(form)?;
        // Rust reads "inf", "nan" and exponents too; the kernel writes none of them.
        if !word.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
            return Err(Flaw::NotANumber(Word::new(word)).at(line));
        }
        let percent = std::str::from_utf8(word).ok().and_then(|word| word.parse::<f32>().ok()).ok_or_else(form)?;
        // The kernel's fixed-point average may round a hundredth above 100.
        return if percent <= 101.0 { Ok(Some(percent)) } else { Err(form()) };
    }
    Ok(None)
}

/// The parts of `/proc/meminfo` that memini uses, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemInfo {
    /// What the kernel manages.
    pub total: u64,
    /// What could be had without swapping; `None` before Linux 3.14.
    pub available: Option<u64>,
    /// All swap.
    pub swap_total: u64,
    /// Free swap.
    pub swap_free: u64,
    /// What reclaim could not free at once: anonymous memory, tmpfs, locked pages (some of them twice), kernel objects, stacks
    /// and page tables, and file pages that must be written first. `None` where the kernel does not tell of anonymous memory.
    pub held: Option<u64>,
}

/// `/proc/meminfo`.
///
/// # Errors
/// If one of the values has no sense, or if MemTotal is missing.
pub fn meminfo(text: &[u8]) -> Result<MemInfo, Fault> {
    let mut info = MemInfo::default();
    let mut needed = Needed::new(["MemTotal"]);
    let (mut held, mut is_anon_known) = (0u64, false);
    for (line, words) in lines(whole(text)?) {
        let Some((key, value)) = split_once(words, b':') else { continue };
        needed.saw(key);
        let bytes = || kilobytes(value).map_err(|flaw| flaw.at(line));
        match key {
            b"MemTotal" => info.total = bytes()?,
            b"MemAvailable" => info.available = Some(bytes()?),
            b"SwapTotal" => info.swap_total = bytes()?,
            b"SwapFree" => info.swap_free = bytes()?,
            b"AnonPages" | b"Shmem" | b"Unevictable" | b"Slab" | b"KernelStack" | b"PageTables" | b"Dirty"
            | b"Writeback" => {
                is_anon_known |= key == b"AnonPages";
                held = held.saturating_add(bytes()?);
            }
            _ => {}
        }
    }
    needed.all_seen()?;
    info.held = is_anon_known.then_some(held);
    Ok(info)
}

/// One line of `/proc/self/cgroup` (cgroups(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership<'a> {
    /// 0 for v2.
    pub hierarchy: u64,
    /// v1: `cpu,cpuacct`, `memory`, `name=systemd`; empty for v2.
    pub controllers: &'a [u8],
    /// Where the process is, seen from the root of the cgroup namespace.
    pub path: &'a [u8],
}

impl Membership<'_> {
    /// Whether this is the line of the unified hierarchy.
    pub fn is_v2(&self) -> bool {
        self.hierarchy == 0 && self.controllers.is_empty()
    }

    /// Whether this v1 hierarchy carries the controller of that name.
    pub fn has(&self, controller: &[u8]) -> bool {
        self.controllers.split(|byte| *byte == b',').any(|name| name == controller)
    }
}

/// The lines of `/proc/self/cgroup`. A group's name may contain colons but no newline (the kernel refuses that).
pub fn memberships(text: &[u8]) -> impl Iterator<Item = Result<Membership<'_>, Fault>> {
    lines(text).filter(|(_, words)| !words.is_empty()).map(|(line, words)| {
        let form = Flaw::NotLike("ID:CONTROLLERS:PATH").at(line);
        let (hierarchy, rest) = split_once(words, b':').ok_or(form)?;
        let (controllers, path) = split_once(rest, b':').ok_or(form)?;
        let hierarchy = digits(hierarchy).map_err(|flaw| flaw.at(line))?;
        if path.first() == Some(&b'/') { Ok(Membership { hierarchy, controllers, path }) } else { Err(form) }
    })
}

/// One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). Paths are still escaped: see [`unescape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// What of the file system is mounted.
    pub root: &'a [u8],
    /// Where.
    pub point: &'a [u8],
    /// `cgroup`, `cgroup2`, `tmpfs`, …
    pub fs_type: &'a [u8],
    /// Options of the file system: `rw,memory`, `rw,hidepid=2`.
    pub super_options: &'a [u8],
}

impl Mount<'_> {
    /// Whether the file system has this option.
    pub fn has(&self, option: &[u8]) -> bool {
        self.super_options.split(|byte| *byte == b',').any(|name| name == option)
    }
}

/// The lines of `/proc/self/mountinfo`.
pub fn mounts(text: &[u8]) -> impl Iterator<Item = Result<Mount<'_>, Fault>> {
    lines(text).filter(|(_, words)| !words.is_empty()).map(|(line, words)| {
        mount(words).ok_or(Flaw::NotLike("ID PARENT DEV ROOT POINT OPTIONS … - TYPE SOURCE OPTIONS").at(line))
    })
}

fn mount(words: &[u8]) -> Option<Mount<'_>> {
    let mut words = words.split(|byte| *byte == b' ');
    let root = words.nth(3)?;
    let point = words.next()?;
    // Any number of optional fields follows the options and ends with a hyphen.
    words.next()?;
    words.find(|word| *word == b"-")?;
    let fs_type = words.next()?;
    let super_options = words.nth(1)?;
    Some(Mount { root, point, fs_type, super_options })
}

/// The bytes behind the escapes of mountinfo: `\040` is a blank. What is no such escape stays as it is.
pub fn unescape(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (first, after) = rest.split_first()?;
        let (byte, after) = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => (octal([*a, *b, *c]), after),
            _ => (*first, after),
        };
        rest = after;
        Some(byte)
    })
}

fn octal(digits: [u8; 3]) -> u8 {
    digits.iter().fold(0, |value: u8, digit| value.wrapping_shl(3) | (digit & 7))
}

/// The parts of `/proc/PID/stat` that memini uses (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat<'a> {
    /// The process.
    pub pid: i32,
    /// Its name as it gave it to itself: any bytes.
    pub name: &'a [u8],
    /// `R`, `S`, `D`, `Z`, `T`, …
    pub state: u8,
    /// Its parent, 0 if that is outside the PID namespace.
    pub parent: i32,
    /// Its process group, 0 if that is outside the PID namespace.
    pub group: i32,
    /// Whether it is a thread of the kernel.
    pub kernel: bool,
    /// How many threads it has.
    pub threads: u64,
    /// How many of its page faults needed no disk.
    pub minor_faults: u64,
    /// When it started, in clock ticks since the machine did; `None` where the text was cut off before.
    pub started: Option<u64>,
}

/// `PF_KTHREAD` (include/linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// `/proc/PID/stat`. What follows the thread count may be cut off.
///
/// # Errors
/// If it is not built so.
pub fn process_stat(text: &[u8]) -> Result<ProcessStat<'_>, Fault> {
    process_stat_parts(text).ok_or(Flaw::NotLike("PID (NAME) STATE PARENT …").at(1))
}

fn process_stat_parts(text: &[u8]) -> Option<ProcessStat<'_>> {
    let (pid, rest) = split_once(text, b' ')?;
    // A name may hold blanks and parentheses, the fields after it hold neither.
    let end = rest.iter().rposition(|byte| *byte == b')')?;
    let name = rest.get(..end)?.strip_prefix(b"(")?;
    let mut fields = rest.get(end..)?.strip_prefix(b") ")?.split(|byte| *byte == b' ');
    let state = *fields.next()?.first()?;
    let parent = fields.next()?;
    let group = fields.next()?;
    let flags = fields.nth(3)?;
    let minor_faults = fields.next()?;
    let threads = fields.nth(9)?;
    // A field is whole only if another one follows.
    fields.next()?;
    let started = fields.next().filter(|_| fields.next().is_some());
    let id = |word| digits(word).ok().and_then(|number| i32::try_from(number).ok());
    Some(ProcessStat {
        pid: id(pid)?,
        name,
        state,
        parent: id(parent)?,
        group: id(group)?,
        kernel: digits(flags).ok()? & KERNEL_THREAD != 0,
        threads: digits(threads).ok()?,
        minor_faults: digits(minor_faults).ok()?,
        started: started.and_then(|started| digits(started).ok()),
    })
}

/// The parts of `/proc/PID/status` that tell memory (proc_pid_status(5)), in bytes. All zero for a zombie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Anonymous memory (before Linux 4.5, which does not split it: all resident memory).
    pub anon: u64,
    /// Mapped files.
    pub file: u64,
    /// tmpfs and shared memory.
    pub shmem: u64,
    /// Swapped out.
    pub swap: u64,
}

impl ProcessMemory {
    /// Takes one line of `/proc/PID/status`, without its newline, if it tells memory.
    ///
    /// # Errors
    /// If the value has no sense.
    pub fn take(&mut self, words: &[u8]) -> Result<(), Flaw> {
        let Some((key, value)) = split_once(words, b':') else { return Ok(()) };
        let place = match key {
            // VmRSS comes first; RssAnon, where there is one, takes its place.
            b"VmRSS" | b"RssAnon" => &mut self.anon,
            b"RssFile" => &mut self.file,
            b"RssShmem" => &mut self.shmem,
            b"VmSwap" => &mut self.swap,
            _ => return Ok(()),
        };
        *place = kilobytes(value)?;
        Ok(())
    }

    /// Resident bytes.
    pub fn resident(&self) -> u64 {
        self.anon.saturating_add(self.file).saturating_add(self.shmem)
    }
}

/// `/proc/PID/status`, read whole.
///
/// # Errors
/// If a value has no sense or the text was cut off.
#[cfg(test)]
pub fn process_memory(text: &[u8]) -> Result<ProcessMemory, Fault> {
    let mut memory = ProcessMemory::default();
    for (line, words) in lines(whole(text)?) {
        memory.take(words).map_err(|flaw| flaw.at(line))?;
    }
    Ok(memory)
}

/// ` 123 kB`, as /proc writes it, in bytes.
fn kilobytes(value: &[u8]) -> Result<u64, Flaw> {
    let word = value.trim_ascii();
    let word = word.strip_suffix(b" kB").ok_or(Flaw::NotLike("KEY: N kB"))?;
    let number = digits(word)?;
    number.checked_mul(1024).ok_or(Flaw::Overflow(Word::new(word)))
}

/// A number, written in ASCII digits only.
fn digits(word: &[u8]) -> Result<u64, Flaw> {
    if word.is_empty() {
        return Err(Flaw::Empty);
    }
    if !word.iter().all(u8::is_ascii_digit) {
        let below = word.strip_prefix(b"-").is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit));
        return Err(if below { Flaw::Negative(Word::new(word)) } else { Flaw::NotANumber(Word::new(word)) });
    }
    let value = word
        .iter()
        .try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0'))));
    value.ok_or(Flaw::Overflow(Word::new(word)))
}

/// The text without its last newline.
fn whole(text: &[u8]) -> Result<&[u8], Fault> {
    match text {
        [] => Err(Flaw::Empty.at(1)),
        [lines @ .., b'\n'] => Ok(lines),
        _ => Err(Flaw::CutOff.at(text.split(|byte| *byte == b'\n').count())),
    }
}

/// The lines with their numbers.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    (1usize..).zip(text.split(|byte| *byte == b'\n'))
}

/// A line's number, its key and its value.
type Pair<'a> = (usize, &'a [u8], &'a [u8]);

/// The lines of a flat keyed file (`KEY VALUE`), with their numbers.
fn pairs(text: &[u8]) -> Result<impl Iterator<Item = Result<Pair<'_>, Fault>>, Fault> {
    Ok(lines(whole(text)?).map(|(line, words)| {
        let (key, value) = split_once(words, b' ').ok_or(Flaw::NotLike("KEY NUMBER").at(line))?;
        Ok((line, key, value))
    }))
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    let (before, rest) = text.split_at_checked(at)?;
    Some((before, rest.split_first()?.1))
}

/// Keys without which a file is not what it claims to be.
struct Needed<const N: usize>([(&'static str, bool); N]);

impl<const N: usize> Needed<N> {
    fn new(keys: [&'static str; N]) -> Self {
        Self(keys.map(|key| (key, false)))
    }

    fn saw(&mut self, key: &[u8]) {
        self.0.iter_mut().filter(|(name, _)| name.as_bytes() == key).for_each(|(_, seen)| *seen = true);
    }

    fn all_seen(&self) -> Result<(), Fault> {
        match self.0.iter().find(|(_, seen)| !seen) {
            Some((key, _)) => Err(Flaw::Missing(key).at(1)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cgroup::tree_of_files::{MEMINFO_SWAP, V1_NONE, V2_STAT, v1_stat as v1_stat_text};

    fn flaw<T: fmt::Debug>(result: Result<T, Fault>) -> String {
        let fault = result.unwrap_err();
        format!("{}: {}", fault.line, fault.flaw)
    }

    #[test]
    fn a_number_is_digits_and_a_newline_and_nothing_else() {
        assert_eq!(number(b"0\n"), Ok(0));
        assert_eq!(number(b"18446744073709551615\n"), Ok(u64::MAX));
        let bad: [(&[u8], &str); 11] = [
            (b"", "1: nothing there"),
            (b"\n", "1: nothing there"),
            (b"123", "1: cut off before the end of the line"),
            (b"-5\n", "1: \"-5\" is below zero"),
            (b"-\n", "1: \"-\" is not a number"),
            (b"+5\n", "1: \"+5\" is not a number"),
            (b" 5\n", "1: \" 5\" is not a number"),
            (b"18446744073709551616\n", "1: \"18446744073709551616\" is beyond 64 bits"),
            (b"max\n", "1: \"max\" is not a number"),
            (b"1\n2\n", "1: \"1\\n2\" is not a number"),
            (b"\x00\xff\n", "1: \"\\x00\\xff\" is not a number"),
        ];
        for (text, expected) in bad {
            assert_eq!(flaw(number(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn max_and_v1s_largest_number_are_no_limit() {
        assert_eq!(number_or_max(b"max\n"), Ok(None));
        assert_eq!(number_or_max(b"4096\n"), Ok(Some(4096)));
        assert!(number_or_max(b"max").is_err());
        assert_eq!(v1_limit(b"9223372036854771712\n"), Ok(None), "4 KiB pages");
        assert_eq!(v1_limit(b"9223372036854710272\n"), Ok(None), "64 KiB pages");
        assert_eq!(v1_limit(b"9223372036854775807\n"), Ok(None));
        assert_eq!(v1_limit(b"67108864\n"), Ok(Some(67_108_864)));
    }

    #[test]
    fn each_key_of_memory_stat_finds_its_field() {
        let expected = Stat {
            anon: 1001,
            file: 1002,
            shmem: 1006,
            inactive_file: 1009,
            active_file: 1010,
            unevictable: 1014,
            file_dirty: 1007,
            file_writeback: 1008,
            slab_reclaimable: 1011,
            slab_unreclaimable: 1012,
            kernel_stack: 1003,
            pagetables: 1004,
            sock: 1005,
            workingset_refault_file: 1013,
        };
        assert_eq!(v2_stat(V2_STAT.as_bytes()), Ok(expected));
    }

    #[test]
    fn each_total_of_v1s_memory_stat_finds_its_field() {
        let stat = v1_stat(v1_stat_text(4096).as_bytes()).unwrap();
        let expected = Stat {
            anon: 1002,
            file: 1001,
            shmem: 1003,
            inactive_file: 1007,
            active_file: 1008,
            unevictable: 1009,
            file_dirty: 1004,
            file_writeback: 1005,
            workingset_refault_file: 1006,
            ..Stat::default()
        };
        assert_eq!(stat.stat, expected);
        assert_eq!((stat.hierarchical_limit, stat.hierarchical_memsw_limit), (Some(4096), None));
        assert_eq!(v1_stat(v1_stat_text(V1_NONE).as_bytes()).unwrap().hierarchical_limit, None);
    }

    #[test]
    fn a_stat_that_lacks_a_key_of_every_kernel_is_an_error_and_a_younger_key_may_be_missing() {
        let old = b"anon 1\nfile 2\ninactive_file 3\nactive_file 4\nworkingset_refault 5\n";
        let stat = v2_stat(old).unwrap();
        assert_eq!((stat.workingset_refault_file, stat.sock), (5, 0));
        assert_eq!(flaw(v2_stat(b"anon 1\nfile 2\ninactive_file 3\n")), "1: no \"active_file\" in it");
        assert_eq!(flaw(v1_stat(b"total_rss 1\n")), "1: no \"total_cache\" in it");
        let garbage = b"anon 1\nfile x\n";
        assert_eq!(flaw(v2_stat(garbage)), "2: \"x\" is not a number");
        assert_eq!(flaw(v2_stat(b"anon 1\nfile")), "2: cut off before the end of the line");
        assert_eq!(flaw(v2_stat(b"anon 1\nfile\n")), "2: not of the form \"KEY NUMBER\"");
    }

    #[test]
    fn events_are_counted_on_both_versions() {
        let text = b"low 9\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 8\n";
        assert_eq!(v2_events(text), Ok(Events { high: 1, max: 2, oom: 3, oom_kill: 4 }));
        assert_eq!(v2_events(b"low 0\nhigh 0\nmax 2\noom 3\n").unwrap().oom_kill, 0, "before Linux 4.13");
        assert_eq!(flaw(v2_events(b"low 0\n")), "1: no \"max\" in it");
        assert_eq!(v1_oom_control(b"oom_kill_disable 0\nunder_oom 0\noom_kill 4\n").unwrap().oom_kill, 4);
        assert_eq!(v1_oom_control(b"oom_kill_disable 0\nunder_oom 1\n").unwrap().oom_kill, 0);
        assert!(v1_oom_control(b"oom_kill_disable 0\nunder_oom 0\noom_kill -1\n").is_err());
    }

    #[test]
    fn pressure_is_the_full_lines_first_average() {
        let text = b"some avg10=1.00 avg60=2.00 avg300=3.00 total=4\nfull avg10=12.34 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(pressure_full_avg10(text), Ok(Some(12.34)));
        assert_eq!(pressure_full_avg10(b"some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n"), Ok(None));
        for bad in
            ["full avg10=nan x\n", "full avg10=-1.00 x\n", "full avg10=200.00 x\n", "full \n", "full avg10=1e1 x\n"]
        {
            assert!(pressure_full_avg10(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn meminfo_is_in_bytes() {
        let info = meminfo(MEMINFO_SWAP.as_bytes()).unwrap();
        assert_eq!((info.total, info.available), (16 << 30, Some(8 << 30)));
        assert_eq!((info.swap_total, info.swap_free), (4 << 30, 3 << 30));
        assert_eq!(meminfo(b"MemTotal: 1 kB\n").unwrap().available, None);
        let held = b"MemTotal: 9 kB\nDirty: 1 kB\nWriteback: 2 kB\nAnonPages: 4 kB\nMapped: 900 kB\nShmem: 8 kB\nSlab: 16 kB\n\
            SReclaimable: 900 kB\nKernelStack: 32 kB\nPageTables: 64 kB\n";
        assert_eq!(meminfo(held).unwrap().held, Some(127 << 10));
        assert_eq!(meminfo(b"MemTotal: 1 kB\nShmem: 8 kB\n").unwrap().held, None, "that would be a part of it");
        assert_eq!(flaw(meminfo(b"MemFree: 1 kB\n")), "1: no \"MemTotal\" in it");
        assert_eq!(flaw(meminfo(b"MemTotal: 1\n")), "1: not of the form \"KEY: N kB\"");
        assert_eq!(flaw(meminfo(b"MemTotal: 18014398509481985 kB\n")), "1: \"18014398509481985\" is beyond 64 bits");
    }

    #[test]
    fn a_group_may_have_colons_in_its_name() {
        let text = b"4:cpu,memory:/a.slice:cri:1f\n1:name=systemd:/\n0::/x\n";
        let found: Vec<_> = memberships(text).map(Result::unwrap).collect();
        assert_eq!(found[0], Membership { hierarchy: 4, controllers: b"cpu,memory", path: b"/a.slice:cri:1f" });
        assert!(found[0].has(b"memory") && !found[0].has(b"mem") && !found[0].is_v2());
        assert!(!found[1].is_v2() && found[2].is_v2());
        for bad in ["4:memory\n", "x:memory:/\n", "4:memory:relative\n", "\u{0}\n"] {
            assert!(memberships(bad.as_bytes()).any(|line| line.is_err()), "{bad:?}");
        }
    }

    #[test]
    fn mountinfo_has_any_number_of_optional_fields() {
        let text = b"35 31 0:32 /a\\040b /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            36 31 0:33 / /proc rw shared:1 master:2 - proc proc rw,hidepid=2\n";
        let found: Vec<_> = mounts(text).map(Result::unwrap).collect();
        assert_eq!(unescape(found[0].root).collect::<Vec<_>>(), b"/a b");
        assert_eq!((found[0].fs_type, found[0].has(b"memory")), (&b"cgroup"[..], true));
        assert_eq!((found[1].point, found[1].has(b"hidepid=2")), (&b"/proc"[..], true));
        for bad in ["35 31 0:32 / /x rw\n", "35 31 0:32 / /x rw - cgroup\n", "garbage\n"] {
            assert!(mounts(bad.as_bytes()).any(|line| line.is_err()), "{bad:?}");
        }
    }

    #[test]
    fn escapes_that_are_none_stay() {
        let bytes: Vec<u8> = unescape(b"\\134\\377\\400\\08\\").collect();
        assert_eq!(bytes, b"\\\xff\\400\\08\\");
    }

    #[test]
    fn a_process_cannot_lie_about_its_parent_by_its_name() {
        let text = b"42 (a) R 1 (b) S 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 99 ";
        let stat = process_stat(text).unwrap();
        assert_eq!((stat.pid, stat.name, stat.state, stat.parent), (42, &b"a) R 1 (b"[..], b'S', 7));
        assert_eq!((stat.group, stat.threads, stat.kernel, stat.minor_faults), (42, 3, false, 1));
        let kernel = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 4 ";
        assert!(process_stat(kernel).unwrap().kernel);
        for cut in 0..text.len() - "0 99 ".len() {
            assert!(process_stat(&text[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_process_holds_what_its_status_says() {
        let text = b"Name:\tx\\nRssAnon: 9 kB\nVmRSS:\t 6 kB\nRssAnon:\t 1 kB\nRssFile:\t 2 kB\nRssShmem:\t 3 kB\nVmSwap:\t 4 kB\n";
        let memory = process_memory(text).unwrap();
        assert_eq!(memory, ProcessMemory { anon: 1024, file: 2048, shmem: 3072, swap: 4096 });
        assert_eq!(memory.resident(), 6144);
        assert_eq!(process_memory(b"Name:\tx\nVmRSS:\t 6 kB\n").unwrap().anon, 6144, "before Linux 4.5");
        assert_eq!(process_memory(b"State:\tZ (zombie)\n").unwrap(), ProcessMemory::default());
        assert!(process_memory(b"RssAnon:\t 1 kB").is_err());
    }

    proptest! {
        /// Whatever a file holds, the parsers answer.
        #[test]
        fn no_bytes_make_a_parser_panic(text in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[-0-9 :a-z_/()=.\\\\\n]{0,200}".prop_map(String::into_bytes),
        ]) {
            let _ = (number(&text), number_or_max(&text), v1_limit(&text));
            let _ = (v2_stat(&text), v1_stat(&text), v2_events(&text), v1_oom_control(&text));
            let _ = (pressure_full_avg10(&text), meminfo(&text), process_stat(&text), process_memory(&text));
            memberships(&text).for_each(drop);
            mounts(&text).for_each(drop);
            unescape(&text).for_each(drop);
        }

        /// A text that was cut off anywhere is never taken for another value.
        #[test]
        fn a_number_cut_off_is_never_another_number(value: u64, cut in 0usize..20) {
            let text = format!("{value}\n");
            if let Some(part) = text.as_bytes().get(..cut).filter(|part| part.len() < text.len()) {
                prop_assert!(number(part).is_err());
            }
        }
    }
}
