//! Whether a process is CPython, which version, and where its runtime is.

use std::io::{self, BufRead, BufReader};
use std::time::Duration;

use super::layout::{Layout, Version};
use super::memory::{Memory, Reach};
use crate::capture::census::Refusal;
use crate::capture::owner;
use crate::process::folder::Folder;
use crate::sys::process::ProcessId;

/// How many mappings are looked at. The kernel allows a process 65,530 unless told otherwise (`vm.max_map_count`).
const MOST_MAPPINGS: usize = 100_000;

/// How much of a library's writable data is searched, bytes: that of a CPython is one to two megabytes.
const MOST_DATA: u64 = 16 << 20;

/// How often the lists of a running process are looked for.
const LOOKS: u32 = 10;

/// A CPython that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Python {
    /// Its version.
    pub version: Version,
    /// The address of `_PyRuntime`.
    pub runtime: u64,
    /// Its offsets.
    pub layout: Layout,
}

/// A line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    writable: bool,
    offset: u64,
    path: String,
}

/// A program or library in memory: where its file's beginning is mapped, and its writable data, `.bss` included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its path.
    pub path: String,
    /// Where its beginning is.
    pub start: u64,
    /// Where its writable data is.
    pub data: Vec<(u64, u64)>,
}

impl Image {
    /// The last part of the path, without what the kernel adds for a file that was removed.
    fn name(&self) -> &str {
        let path = self.path.strip_suffix(" (deleted)").unwrap_or(&self.path);
        path.rsplit('/').next().unwrap_or(path)
    }
}

/// A process in which a CPython was found.
pub struct Found {
    /// Its memory.
    pub memory: Memory,
    /// The one that is looked at.
    pub python: Python,
    /// The files of others that are in it too: each library has a runtime of its own.
    pub others: Vec<String>,
}

/// Opens the memory of a process if it may be a Python.
///
/// # Errors
/// [`Refusal::NotMine`] for what is none, [`Refusal::Cannot`] for one that may not be looked at or is not known.
pub fn find(folder: &Folder, process: ProcessId) -> Result<Found, Refusal> {
    let images = match images(folder, process) {
        Ok(images) => images,
        Err(error) if is_called_python(folder, process) => return Err(unreadable(folder, process, "maps", &error)),
        Err(_) => return Err(Refusal::NotMine),
    };
    if images.is_empty() {
        return Err(Refusal::NotMine);
    }
    if let Some(other) = images.iter().find(|image| image.name().contains("pypy")) {
        return Err(Refusal::Cannot(format!("{} is PyPy, whose heap memini cannot read; no census", other.path)));
    }
    let file = match owner::stand_in(folder, process.get(), || folder.open_file(process.get(), "mem")) {
        Ok(file) => file,
        // A process of another kind with another owner is no news.
        Err(_) if !images.iter().any(|image| looks_like_python(image.name())) => return Err(Refusal::NotMine),
        Err(error) => return Err(unreadable(folder, process, "mem", &error)),
    };
    let mut memory = Memory::new(Box::new(file));
    let (python, others) = within(&mut memory, &images)?;
    Ok(Found { memory, python, others })
}

/// Whether it says so in its command line, which everybody may read.
fn is_called_python(folder: &Folder, process: ProcessId) -> bool {
    let mut buffer = [0; 4096];
    let line = folder.read(process.get(), "cmdline", &mut buffer).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).take(2).map(String::from_utf8_lossy);
    words.any(|word| word.rsplit('/').next().is_some_and(looks_like_python))
}

/// A Python that may not be looked at.
fn unreadable(folder: &Folder, process: ProcessId, file: &str, error: &io::Error) -> Refusal {
    let (path, why) = (folder.path().display(), owner::why(folder, process.get(), file, error));
    Refusal::Cannot(format!("cannot read {path}/{process}/{file}: {error}{why}; no census of this Python"))
}

fn looks_like_python(name: &str) -> bool {
    name.starts_with("python") || name.starts_with("libpython")
}

/// The program, and what is called libpython.
fn images(folder: &Folder, process: ProcessId) -> io::Result<Vec<Image>> {
    let (maps, program) = owner::stand_in(folder, process.get(), || {
        let maps = folder.open_file(process.get(), "maps")?;
        Ok((maps, std::fs::read_link(folder.path().join(process.to_string()).join("exe"))?))
    })?;
    images_in(BufReader::new(maps), &program.to_string_lossy())
}

/// The same, from the text of `maps`. The kernel writes a line break in a path as `\012`.
pub fn images_in(maps: impl BufRead, program: &str) -> io::Result<Vec<Image>> {
    let mut images: Vec<Image> = Vec::new();
    // What follows the writable data of a library without a name of its own is its .bss.
    let mut last: Option<(usize, u64)> = None;
    for line in maps.split(b'\n').take(MOST_MAPPINGS) {
        let Some(mapping) = mapping(&line?) else { continue };
        let bss = last.filter(|(_, end)| *end == mapping.start && matches!(mapping.path.as_str(), "" | "[heap]"));
        let at = if mapping.path.is_empty() || mapping.path == "[heap]" {
            bss.map(|(at, _)| at)
        } else if let Some(at) = images.iter().position(|image| image.path == mapping.path) {
            Some(at)
        } else {
            let image = Image { path: mapping.path.clone(), start: mapping.start, data: Vec::new() };
            let wanted = mapping.path == program || image.name().starts_with("libpy");
            (wanted && mapping.offset == 0 && images.len() < 16).then(|| {
                images.push(image);
                images.len().saturating_sub(1)
            })
        };
        if let Some(image) = at.and_then(|at| images.get_mut(at))
            && mapping.writable
            && mapping.path != "[heap]"
            && image.data.len() < 16
        {
            image.data.push((mapping.start, mapping.end));
        }
        last = at.map(|at| (at, mapping.end));
    }
    Ok(images)
}

/// `55d0c0a00000-55d0c0a6b000 rw-p 00545000 fe:00 1234  /usr/bin/python3.11`
fn mapping(line: &[u8]) -> Option<Mapping> {
    let line = String::from_utf8_lossy(line);
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let offset = fields.next()?;
    let path = fields.nth(2).unwrap_or_default().trim_start();
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        writable: permissions.as_bytes().get(1) == Some(&b'w'),
        offset: hex(offset)?,
        path: path.to_owned(),
    })
}

/// The Python of these images, and the files of all others.
pub fn within(memory: &mut Memory, images: &[Image]) -> Result<(Python, Vec<String>), Refusal> {
    let mut why = Refusal::NotMine;
    let mut found: Option<Python> = None;
    let mut others = Vec::new();
    // A libpython first: the program that has it is a small one.
    let (libraries, programs): (Vec<_>, Vec<_>) = images.iter().partition(|image| image.name().starts_with("libpy"));
    for image in libraries.into_iter().chain(programs) {
        let symbols = Symbols::of(memory, image);
        let runtime = symbols.as_ref().and_then(|symbols| symbols.address(memory, "_PyRuntime"));
        if runtime.is_none() && !looks_like_python(image.name()) {
            continue;
        }
        match look(memory, image, symbols.as_ref(), runtime) {
            // A program may have the library's symbol as its own.
            Ok(python) if found.is_none_or(|first| first.runtime == python.runtime) => found = Some(python),
            Ok(_) => others.push(image.path.clone()),
            Err(_) if found.is_some() => {}
            Err(cannot) => why = Refusal::Cannot(cannot),
        }
    }
    found.map(|python| (python, others)).ok_or(why)
}

fn look(memory: &mut Memory, image: &Image, symbols: Option<&Symbols>, runtime: Option<u64>) -> Result<Python, String> {
    let path = &image.path;
    let version = version(memory, image, symbols, runtime)
        .ok_or_else(|| format!("{path} looks like Python, but of no version that can be told; no census"))?;
    let unknown = || format!("{path} is CPython {version}; memini knows 3.8 to 3.14; no census");
    let table = if version.major == 3 { Layout::of(version.minor) } else { None }.ok_or_else(unknown)?;
    let runtime = runtime.or_else(|| search(memory, image, &table, version.minor));
    let runtime = runtime
        .ok_or_else(|| format!("{path} is CPython {version}, but its runtime was not found in memory; no census"))?;
    let layout = if version.minor < 13 {
        table
    } else if memory.word(runtime.wrapping_add(Layout::FREE_THREADED)).is_some_and(|free_threaded| free_threaded != 0) {
        return Err(format!("{path} is a free-threaded CPython {version}, whose objects are in no list; no census"));
    } else {
        table
            .with_debug_offsets(memory, runtime, version.minor)
            .ok_or_else(|| format!("CPython {version} of {path} does not tell its offsets; no census"))?
    };
    // It runs meanwhile, and may be just rearranging its lists, or just beginning.
    for _ in 0..LOOKS {
        if let Some(interpreter) = memory.word(runtime.wrapping_add(layout.interpreters))
            && generations(memory, &layout, runtime, interpreter).is_some()
        {
            return Ok(Python { version, runtime, layout });
        }
        std::thread::sleep(Duration::from_millis(20));
        memory.forget();
    }
    Err(format!("CPython {version} of {path} is not running yet, or not any more, or is built unusually; no census"))
}

/// The list heads of all generations, the permanent one last, if they are where the layout says.
pub fn generations(memory: &mut Memory, layout: &Layout, runtime: u64, interpreter: u64) -> Option<[u64; 4]> {
    let collector = if layout.one_collector { runtime } else { interpreter }.wrapping_add(layout.collector);
    let heads = Layout::GENERATIONS.map(|offset| {
        let first = collector.wrapping_add(offset);
        [0u64, 1, 2].map(|at| first.wrapping_add(Layout::GENERATION.wrapping_mul(at)))
    });
    let [first, second, third] = heads.into_iter().find(|heads| heads.iter().all(|head| is_head(memory, *head)))?;
    let permanent = Layout::PERMANENT.map(|offset| collector.wrapping_add(offset));
    let permanent = permanent.into_iter().find(|head| is_head(memory, *head))?;
    (interpreter != 0).then_some([first, second, third, permanent])
}

/// Whether this is the head of a list of the collector's: its last one's next is the head, or its next one's previous.
/// While a collection runs only one of these may be so.
fn is_head(memory: &mut Memory, head: u64) -> bool {
    let Some([next, previous]) = memory.words::<2>(head, Reach::Far) else { return false };
    let (next, previous) = (next & !3, previous & !3);
    if (next == head) != (previous == head) || next == 0 || previous == 0 {
        return false;
    }
    let mut leads_back = |place: u64| memory.word(place).map(|back| back & !3 == head);
    match (leads_back(previous), leads_back(next.wrapping_add(8))) {
        (Some(last), Some(first)) => last || first,
        _ => false,
    }
}

/// From the symbol `Py_Version`, or what the runtime tells of itself, or the text that `sys.version` is made of, or the
/// file's name.
fn version(memory: &mut Memory, image: &Image, symbols: Option<&Symbols>, runtime: Option<u64>) -> Option<Version> {
    if let Some(address) = symbols.and_then(|symbols| symbols.address(memory, "Py_Version"))
        && let Some(version) = memory.word(address).and_then(Version::from_hex)
    {
        return Some(version);
    }
    if let Some([COOKIE, version]) = runtime.and_then(|runtime| memory.words::<2>(runtime, Reach::Far)) {
        return Version::from_hex(version);
    }
    let digits = image.name().trim_start_matches("lib").strip_prefix("python").unwrap_or_default();
    let named = version_in(digits.as_bytes());
    let mut found = None;
    each_part(memory, image, |_, part| {
        found = part.windows(2).enumerate().find_map(|(at, pair)| {
            let text = if matches!(pair, b"2." | b"3.") { part.get(at..)? } else { return None };
            let version = version_in(text).filter(|version| version.micro.is_some())?;
            // `3.9.18 (main, May  9 2026, 12:00:00) \n[GCC 12.2.0]`
            let head = text.get(..64)?;
            let close = head.iter().position(|byte| *byte == b')')?;
            let clock = head.get(..close)?.iter().filter(|byte| **byte == b':').count() >= 2;
            let agrees = named.is_none_or(|named| (named.major, named.minor) == (version.major, version.minor));
            (clock && agrees).then_some(version)
        });
        found.is_some()
    });
    found.or(named)
}

/// The number at the beginning of a text: `3.11.2 (main`, `3.9.so.1.0`, `3.8`.
fn version_in(text: &[u8]) -> Option<Version> {
    let text = text.get(..text.len().min(16))?;
    let mut parts = text.splitn(3, |byte| *byte == b'.');
    let whole = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<u8>().ok();
    let leading = |part: &[u8]| whole(part.split(|byte| !byte.is_ascii_digit()).next()?);
    let major = whole(parts.next()?)?;
    let minor = leading(parts.next()?)?;
    Some(Version { major, minor, micro: parts.next().and_then(leading) })
}

/// `xdebugpy`: what a runtime that tells its own offsets begins with.
pub const COOKIE: u64 = u64::from_le_bytes(*b"xdebugpy");

/// Looks for the runtime of a program without symbols in its writable data.
fn search(memory: &mut Memory, image: &Image, layout: &Layout, minor: u8) -> Option<u64> {
    let mut candidates = Vec::new();
    each_part(memory, image, |start, part| {
        for (at, pair) in part.chunks_exact(8).zip(part.get(8..).unwrap_or_default().chunks_exact(8)).enumerate() {
            let found = if minor >= 13 {
                pair.0 == COOKIE.to_le_bytes()
            } else {
                // `head` and `main` of the interpreters: in nearly all programs there is but one.
                pair.0 == pair.1 && pair.0 != [0; 8] && pair.0.ends_with(&[0, 0])
            };
            if found && candidates.len() < 10_000 {
                candidates.push(start.wrapping_add(u64::try_from(at).unwrap_or(0).wrapping_mul(8)));
            }
        }
        false
    });
    candidates.into_iter().find_map(|at| {
        if minor >= 13 {
            return Some(at);
        }
        let runtime = at.wrapping_sub(layout.interpreters);
        let interpreter = memory.word(at)?;
        generations(memory, layout, runtime, interpreter).map(|_| runtime)
    })
}

/// Calls `visit` with the writable data of an image, in parts that overlap by 64 bytes, until it says that it is done.
fn each_part(memory: &Memory, image: &Image, mut visit: impl FnMut(u64, &[u8]) -> bool) {
    let mut buffer = vec![0; 256 << 10];
    let mut left = MOST_DATA;
    for (start, end) in &image.data {
        let mut at = *start;
        while at < *end && left > 0 {
            let length = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
            let read = memory.scan(at, buffer.get_mut(..length).unwrap_or_default());
            if read < 64 || visit(at, buffer.get(..read).unwrap_or_default()) {
                if read < 64 {
                    break;
                }
                return;
            }
            let step = if read < buffer.len() { read } else { read.saturating_sub(64) };
            let step = u64::try_from(step).unwrap_or(u64::MAX);
            at = at.saturating_add(step);
            left = left.saturating_sub(step);
        }
    }
}

/// The dynamic symbols of an image, as its loader sees them: in memory, so that it does not matter what has become of
/// the file (elf(5)).
#[derive(Clone, Copy, Debug, Default)]
struct Symbols {
    bias: u64,
    symbols: u64,
    strings: u64,
    table: u64,
}

impl Symbols {
    fn of(memory: &mut Memory, image: &Image) -> Option<Self> {
        let [ident, _, _, _, headers, _, _, counts] = memory.words::<8>(image.start, Reach::Far)?;
        // 64 bits, little endian.
        if ident & 0xFFFF_FFFF_FFFF != u64::from_le_bytes(*b"\x7fELF\x02\x01\0\0") {
            return None;
        }
        let count = (counts & 0xFFFF).min(64);
        let (mut bias, mut dynamic) = (None, None);
        for at in 0..count {
            let header = image.start.wrapping_add(headers).wrapping_add(at.wrapping_mul(56));
            let [kind, _, address] = memory.words::<3>(header, Reach::Far)?;
            match kind & 0xFFFF_FFFF {
                1 if bias.is_none() => bias = Some(image.start.wrapping_sub(address & !4095)),
                2 => dynamic = Some(address),
                _ => {}
            }
        }
        let bias = bias?;
        let dynamic = dynamic?.wrapping_add(bias);
        let mut found = Self { bias, ..Self::default() };
        for at in 0..256u64 {
            let [tag, value] = memory.words::<2>(dynamic.wrapping_add(at.wrapping_mul(16)), Reach::Far)?;
            // glibc's loader makes addresses of these, musl's leaves them as they are.
            let address = if value < bias { value.wrapping_add(bias) } else { value };
            match tag {
                0 => break,
                5 => found.strings = address,
                6 => found.symbols = address,
                0x6fff_fef5 => found.table = address,
                _ => {}
            }
        }
        (found.symbols != 0 && found.strings != 0 && found.table != 0).then_some(found)
    }

    /// Looks a symbol up in the hash table that linkers write today (`DT_GNU_HASH`).
    fn address(&self, memory: &mut Memory, name: &str) -> Option<u64> {
        let hash = name.bytes().fold(5381u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(byte.into()));
        let [counts, more] = memory.words::<2>(self.table, Reach::Far)?;
        let (buckets, first, bloom) = (counts & 0xFFFF_FFFF, counts >> 32, more & 0xFFFF_FFFF);
        let table = self.table.wrapping_add(16).wrapping_add(bloom.wrapping_mul(8));
        let bucket = u64::from(hash).checked_rem(buckets)?;
        let half = |memory: &mut Memory, at: u64| {
            let bytes = memory.bytes(at, 4, Reach::Far)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let mut index = u64::from(half(memory, table.wrapping_add(bucket.wrapping_mul(4)))?);
        let chain = table.wrapping_add(buckets.wrapping_mul(4));
        for _ in 0..10_000 {
            let link = half(memory, chain.wrapping_add(index.checked_sub(first)?.wrapping_mul(4)))?;
            if link | 1 == hash | 1 {
                let symbol = self.symbols.wrapping_add(index.wrapping_mul(24));
                let [names, value] = memory.words::<2>(symbol, Reach::Far)?;
                let text = memory.text(self.strings.wrapping_add(names & 0xFFFF_FFFF), 64)?;
                if text == name && value != 0 {
                    return Some(value.wrapping_add(self.bias));
                }
            }
            if link & 1 == 1 {
                return None;
            }
            index = index.wrapping_add(1);
        }
        None
    }
}

/// Anonymous memory of a process, for what is estimated; bytes.
pub fn anonymous(folder: &Folder, process: ProcessId) -> Option<u64> {
    crate::process::memory::of(folder, process.get()).ok().map(|memory| memory.anon.saturating_add(memory.swap))
}

#[cfg(test)]
mod tests {
    use super::super::memory::fake::Pieces;
    use super::*;

    #[test]
    fn the_data_of_a_library_is_found_with_its_bss_and_without_the_heap() {
        let maps = "\
55aaaa000000-55aaaa001000 r--p 00000000 fe:00 11 /usr/bin/python3.9
55aaaa004000-55aaaa005000 rw-p 00003000 fe:00 11 /usr/bin/python3.9
55aaaa005000-55aaaa026000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000040000 r--p 00000000 fe:00 12                         /usr/lib/libpython3.9.so.1.0 (deleted)
7f0000240000-7f0000280000 rw-p 00240000 fe:00 12                         /usr/lib/libpython3.9.so.1.0 (deleted)
7f0000280000-7f00002a0000 rw-p 00000000 00:00 0 
7f00002a0000-7f00002b0000 rw-p 00000000 00:00 0 
7f0000300000-7f0000340000 r--p 00000000 fe:00 13                         /usr/lib/libc.so.6
garbage
";
        let images = images_in(maps.as_bytes(), "/usr/bin/python3.9").unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(images[0].data, [(0x55aaaa004000, 0x55aaaa005000)]);
        assert_eq!((images[1].name(), images[1].start), ("libpython3.9.so.1.0", 0x7f0000000000));
        assert_eq!(images[1].data[..2], [(0x7f0000240000, 0x7f0000280000), (0x7f0000280000, 0x7f00002a0000)]);
    }

    #[test]
    fn versions_are_read_from_names_and_texts() {
        for (text, expected) in [
            ("3.9.18 (main, May", Some("3.9.18")),
            ("3.11", Some("3.11")),
            ("3.9.so.1.0", Some("3.9")),
            ("3.14.0rc1 (main", Some("3.14.0")),
            ("3.13t", Some("3.13")),
            ("3", None),
            ("", None),
            ("3.x", None),
            ("300.1.1", None),
        ] {
            let found = version_in(text.as_bytes()).map(|version| version.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    /// Nothing but zeros, behind a head.
    struct Endless(Vec<u8>, std::rc::Rc<std::cell::Cell<u64>>);

    impl super::super::memory::Source for Endless {
        fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
            self.1.set(self.1.get() + buffer.len() as u64);
            for (at, byte) in (address..).zip(buffer.iter_mut()) {
                *byte = usize::try_from(at - 0x40_0000).ok().and_then(|at| self.0.get(at).copied()).unwrap_or(0);
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn of_a_hundred_gigabytes_that_seem_to_be_its_data_no_more_than_that_of_a_python_is_read() {
        let read = std::rc::Rc::default();
        let mut memory = Memory::new(Box::new(Endless(b"\x7fELF\x02\x01".to_vec(), std::rc::Rc::clone(&read))));
        let image = Image { path: "/usr/bin/python3.11".into(), start: 0x40_0000, data: vec![(0x50_0000, 100 << 30)] };
        assert!(matches!(within(&mut memory, &[image]), Err(Refusal::Cannot(_))));
        // Once for the version and once for the runtime, and what is looked at beside them.
        assert!(read.get() < 3 * MOST_DATA, "{}", read.get());
    }

    #[test]
    fn a_file_that_is_cut_anywhere_has_no_symbols_and_does_no_harm() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let cuts = (0..80).chain((80..8192).step_by(61)).chain([program.len() / 2]);
        for cut in cuts {
            let pieces = Pieces(vec![(0x40_0000, program[..cut].to_vec())]);
            let mut memory = Memory::new(Box::new(pieces));
            let image = Image { path: "python3".into(), start: 0x40_0000, data: vec![(0x40_0000, 0x40_1000)] };
            let _ = Symbols::of(&mut memory, &image).and_then(|symbols| symbols.address(&mut memory, "_PyRuntime"));
            assert!(matches!(within(&mut memory, &[image]), Err(Refusal::Cannot(_))), "{cut}");
        }
    }

    #[test]
    fn an_image_whose_tables_refer_to_themselves_has_no_symbols() {
        // Each word is an address of the same page: program headers, dynamic section and hash table are all the same.
        let mut pieces = Pieces::default();
        let mut words = [0x40_0000u64; 512];
        words[0] = u64::from_le_bytes(*b"\x7fELF\x02\x01\0\0");
        pieces.put(0x40_0000, &words);
        let mut memory = Memory::new(Box::new(pieces));
        let image = Image { path: "python3".into(), start: 0x40_0000, data: vec![(0x40_0000, 0x40_1000)] };
        assert!(Symbols::of(&mut memory, &image).is_none());
        assert!(matches!(within(&mut memory, &[image]), Err(Refusal::Cannot(_))));
    }
}
