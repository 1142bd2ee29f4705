//! Where CPython keeps what: offsets in bytes, by version.
//!
//! They are those of the structures in CPython's `Include/` for 64-bit Linux, the same on x86-64 and arm64, taken with
//! `offsetof` from the headers of 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0. From 3.13 on the runtime
//! publishes those of its innermost structures itself (`_Py_DebugOffsets`).

use super::memory::{Memory, Reach};

/// A version of CPython, as in `PY_VERSION_HEX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 3.
    pub major: u8,
    /// The language's version.
    pub minor: u8,
    /// The release; `None` where only the language's is known.
    pub micro: Option<u8>,
}

impl Version {
    /// From `PY_VERSION_HEX`: `0x030b02f0` is 3.11.2.
    pub fn from_hex(hex: u64) -> Option<Self> {
        let [level, micro, minor, major, 0, 0, 0, 0] = hex.to_le_bytes() else { return None };
        // 0xA, 0xB, 0xC or 0xF for alpha, beta, candidate and final.
        ((2..=9).contains(&major) && level >= 0xA0).then_some(Self { major, minor, micro: Some(micro) })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)?;
        self.micro.map_or(Ok(()), |micro| write!(out, ".{micro}"))
    }
}

/// How an instance keeps its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// In a dict, wherever `tp_dictoffset` says (up to 3.10).
    Dict,
    /// In values before the object, or in a dict; two words (3.11).
    ValuesOrDict,
    /// The same in one word, told apart by its lowest bit (3.12).
    Tagged,
    /// In values behind the object, which a dict may share (from 3.13 on).
    Inline,
}

/// The offsets of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `_PyRuntimeState.interpreters.head`.
    pub interpreters: u64,
    /// `PyInterpreterState.next`.
    pub next_interpreter: u64,
    /// `struct _gc_runtime_state`: in the interpreter, or in the runtime itself (3.8).
    pub collector: u64,
    /// Whether the collector is the runtime's (3.8).
    pub one_collector: bool,
    /// `collecting`, in the collector. The number of long-lived objects is [`Layout::LONG_LIVED`] behind it.
    pub collecting: u64,
    /// `PyInterpreterState.modules`, later `imports.modules`.
    pub modules: u64,
    /// The interpreter's first thread.
    pub threads: u64,
    /// `PyThreadState.frame`, `cframe` or `current_frame`.
    pub frame: u64,
    /// `_PyCFrame.current_frame`, where the thread has such a one.
    pub c_frame: Option<u64>,
    /// In a frame: its code.
    pub frame_code: u64,
    /// In a frame: the frame that called it.
    pub frame_previous: u64,
    /// In a frame: its local variables.
    pub frame_locals: u64,
    /// In a code object: the names of its local variables, a tuple.
    pub code_names: u64,
    /// In a code object: its (qualified) name.
    pub code_name: u64,
    /// `PyHeapTypeObject.ht_qualname`.
    pub qualname: u64,
    /// `PyHeapTypeObject.ht_cached_keys`.
    pub cached_keys: u64,
    /// In a tuple: its first item.
    pub tuple_items: u64,
    /// The size of an ASCII string's head; that of others is [`Layout::compact`].
    pub ascii: u64,
    /// The size of another compact string's head.
    pub compact: u64,
    /// In a function: module, qualified name, closure, default arguments.
    pub function: [u64; 4],
    /// In a generator or coroutine: its qualified name.
    pub generator_name: u64,
    /// How instances keep their attributes.
    pub attributes: Attributes,
    /// Whether a dict's keys begin with the logarithms of their sizes (from 3.11 on).
    pub short_keys: bool,
    /// Whether the number of references is 32 bits, negative for what is never freed (from 3.12 on).
    pub immortals: bool,
}

impl Layout {
    /// In the collector: where `generations[0]` may be, of three. Python 3.13.5 as Debian builds it has them at a multiple of 4.
    pub const GENERATIONS: [u64; 2] = [24, 20];
    /// The size of `struct gc_generation`.
    pub const GENERATION: u64 = 24;
    /// In the collector: where `permanent_generation` may be, behind the three.
    pub const PERMANENT: [u64; 2] = [96, 104];
    /// From `collecting` to the number of objects that survived the last full collection (3.14: of all objects).
    pub const LONG_LIVED: u64 = 24;

    /// In `_Py_DebugOffsets`: whether the runtime has no interpreter lock, and so no lists of objects.
    pub const FREE_THREADED: u64 = 16;

    /// The table of this version. From 3.13 on, [`Layout::with_debug_offsets`] has the last word.
    pub fn of(minor: u8) -> Option<Self> {
        let old = Self {
            interpreters: 32,
            next_interpreter: 0,
            collector: 616,
            one_collector: false,
            collecting: 200,
            modules: 856,
            threads: 8,
            frame: 24,
            c_frame: None,
            frame_code: 32,
            frame_previous: 24,
            frame_locals: 352,
            code_names: 72,
            code_name: 112,
            qualname: 864,
            cached_keys: 872,
            tuple_items: 24,
            ascii: 48,
            compact: 72,
            function: [104, 40, 72, 56],
            generator_name: 56,
            attributes: Attributes::Dict,
            short_keys: false,
            immortals: false,
        };
        let older = Self { frame_locals: 360, function: [88, 104, 48, 32], ..old };
        let new = Self {
            interpreters: 40,
            collector: 648,
            modules: 888,
            threads: 16,
            frame: 56,
            c_frame: Some(8),
            frame_previous: 48,
            frame_locals: 72,
            code_names: 96,
            code_name: 128,
            generator_name: 40,
            attributes: Attributes::ValuesOrDict,
            short_keys: true,
            ..old
        };
        let newer = Self {
            collector: 112,
            modules: 944,
            threads: 72,
            c_frame: Some(0),
            frame_code: 0,
            frame_previous: 8,
            qualname: 872,
            cached_keys: 880,
            ascii: 40,
            compact: 56,
            generator_name: 32,
            attributes: Attributes::Tagged,
            immortals: true,
            ..new
        };
        let newest = Self {
            interpreters: 632,
            next_interpreter: 7264,
            collector: 7400,
            modules: 7656,
            threads: 7344,
            frame: 72,
            c_frame: None,
            attributes: Attributes::Inline,
            ..newer
        };
        Some(match minor {
            8 => Self { one_collector: true, collector: 344, modules: 56, qualname: 864, ..older },
            9 => Self { qualname: 856, cached_keys: 864, ..older },
            10 => Self { generator_name: 48, ..old },
            11 => new,
            12 => newer,
            13 => newest,
            14 => Self {
                interpreters: 808,
                next_interpreter: 7272,
                collector: 7408,
                collecting: 192,
                modules: 7688,
                frame_locals: 80,
                tuple_items: 32,
                ..newest
            },
            _ => return None,
        })
    }

    /// Takes the offsets that the runtime at this address tells itself.
    pub fn with_debug_offsets(mut self, memory: &mut Memory, runtime: u64, minor: u8) -> Option<Self> {
        let words: [u64; 88] = memory.words(runtime, Reach::Far)?;
        let get = |at: usize| words.get(at).copied().filter(|offset| *offset < 1 << 24);
        // 3.14 has put another word before these, and others between the rest.
        let (shift, collecting) = if minor == 13 { (0, 72) } else { (1, 82) };
        self.interpreters = get(5)?;
        self.next_interpreter = get(8)?;
        self.threads = get(9)?;
        self.collector = get(10usize.wrapping_add(shift))?;
        self.modules = get(11usize.wrapping_add(shift))?;
        self.collecting = get(collecting)?;
        Some(self)
    }
}

/// Offsets that are the same in all versions.
pub mod object {
    /// What the collector keeps before each object: two words.
    pub const HEAD: u64 = 16;
    /// `PyTypeObject.tp_name`, followed by `tp_basicsize` and `tp_itemsize`.
    pub const TYPE_NAME: u64 = 24;
    /// `tp_flags`.
    pub const TYPE_FLAGS: u64 = 168;
    /// `tp_base`, followed by `tp_dict`.
    pub const TYPE_BASE: u64 = 256;
    /// `tp_dictoffset`.
    pub const TYPE_DICT_OFFSET: u64 = 288;
}

/// What lies behind the heads of arrays.
pub mod array {
    /// `PyArrayObject` of NumPy 1 and 2: `data`, `nd`, `dimensions`, `strides`, then the object whose memory it shows,
    pub const NUMPY_BASE: u64 = 48;
    /// and what its items are.
    pub const NUMPY_ITEMS: u64 = 56;
    /// `PyArray_Descr.kind`, a character; `O` for objects.
    pub const NUMPY_KIND: u64 = 24;
    /// An array has no more dimensions (`NPY_MAXDIMS`).
    pub const NUMPY_DIMENSIONS: u64 = 64;
}

/// Bits of `tp_flags`.
pub mod flag {
    /// Instances have values inline (from 3.13 on).
    pub const INLINE_VALUES: u64 = 1 << 2;
    /// Instances have two words more before them (from 3.12 on).
    pub const MANAGED_WEAKREF: u64 = 1 << 3;
    /// Instances have two words more before them (from 3.11 on).
    pub const MANAGED_DICT: u64 = 1 << 4;
    /// The type was made at run time.
    pub const HEAP_TYPE: u64 = 1 << 9;
    /// Its instances are in the collector's lists.
    pub const COLLECTED: u64 = 1 << 14;
    /// Subclasses of int, list, tuple, bytes, str, dict, BaseException and type.
    pub const SUBCLASS: [u64; 8] = [1 << 24, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30, 1 << 31];
    /// A subclass of type: its instances are types.
    pub const TYPE: u64 = 1 << 31;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_their_number() {
        let table = [(0x030b_02f0, Some("3.11.2")), (0x030e_08f0, Some("3.14.8")), (0x030d_00a1, Some("3.13.0"))];
        for (hex, expected) in table {
            assert_eq!(Version::from_hex(hex).map(|version| version.to_string()).as_deref(), expected);
        }
        for hex in [0, 1, u64::MAX, 0x0100_030b_02f0, 0x030b_0200] {
            assert_eq!(Version::from_hex(hex), None, "{hex:x}");
        }
    }

    #[test]
    fn a_runtime_that_tells_its_offsets_has_the_last_word() {
        // What 3.13.0 and 3.14.8 say, of which the first ones are: cookie, version, free-threaded, size, finalizing,
        // interpreters' head; size, id, next, threads' head, …
        let table: [(u8, &[u64], usize); 2] = [
            (13, &[0, 0, 0, 283_320, 608, 632, 194_968, 7272, 7264, 7344, 7400, 7656, 7640], 72),
            (14, &[0, 0, 0, 316_616, 784, 808, 225_864, 7280, 7272, 7344, 7360, 7408, 7688], 82),
        ];
        for (minor, told, collecting) in table {
            let mut words = [0; 100];
            words[..told.len()].copy_from_slice(told);
            let expected = Layout::of(minor).unwrap();
            words[collecting] = expected.collecting;
            let mut pieces = crate::capture::python::memory::fake::Pieces::default();
            pieces.put(0x50_0000, &words);
            let mut memory = Memory::new(Box::new(pieces));
            // These releases are those that the table was made from.
            assert_eq!(expected.with_debug_offsets(&mut memory, 0x50_0000, minor), Some(expected), "3.{minor}");
            assert_eq!(expected.with_debug_offsets(&mut memory, 0x60_0000, minor), None, "3.{minor}");
        }
    }

    #[test]
    fn versions_that_nobody_has_looked_at_have_no_layout() {
        for minor in 0..=255 {
            assert_eq!(Layout::of(minor).is_some(), (8..=14).contains(&minor), "{minor}");
        }
    }
}
