//! The types of a heap's objects: read once each, with what was counted of them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::layout::{flag, object};
use super::memory::{Memory, Reach};

/// How many types are told apart. More come from programs that make classes without end; those are counted together.
const MOST: usize = 1 << 16;

/// What is known of the inside of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// And its subclasses, as in the following.
    List,
    /// Named tuples, too.
    Tuple,
    /// `defaultdict`, `OrderedDict`, `Counter`, too.
    Dict,
    /// `frozenset`, too.
    Set,
    /// `collections.deque`.
    Deque,
    /// Strings.
    Str,
    /// `bytes`.
    Bytes,
    /// `bytearray`.
    ByteArray,
    /// Integers.
    Int,
    /// `array.array`.
    Array,
    /// `numpy.ndarray`.
    NumPyArray,
    /// Classes.
    Type,
    /// Modules.
    Module,
    /// Functions written in Python.
    Function,
    /// What closures refer to their variables through.
    Cell,
    /// What `functools.lru_cache` makes of a function.
    CachedFunction,
    /// One of the results that a cached function with a bound has kept.
    CachedResult,
    /// Generators and coroutines.
    Generator,
    /// Frames (until 3.10 each running function has one).
    Frame,
    /// An object of a class written in Python.
    Instance,
    /// An object of some other type, which may refer to others.
    Other,
    /// An object that leads nowhere.
    Leaf,
}

/// Types whose insides are known, by the name that they have in C.
const KNOWN: [(&str, Kind); 32] = [
    ("set", Kind::Set),
    ("frozenset", Kind::Set),
    ("collections.deque", Kind::Deque),
    ("bytearray", Kind::ByteArray),
    ("array.array", Kind::Array),
    ("numpy.ndarray", Kind::NumPyArray),
    ("module", Kind::Module),
    ("function", Kind::Function),
    ("cell", Kind::Cell),
    ("functools._lru_cache_wrapper", Kind::CachedFunction),
    ("functools._lru_list_elem", Kind::CachedResult),
    ("generator", Kind::Generator),
    ("coroutine", Kind::Generator),
    ("async_generator", Kind::Generator),
    ("frame", Kind::Frame),
    ("builtin_function_or_method", Kind::Leaf),
    ("wrapper_descriptor", Kind::Leaf),
    ("method_descriptor", Kind::Leaf),
    ("classmethod_descriptor", Kind::Leaf),
    ("getset_descriptor", Kind::Leaf),
    ("member_descriptor", Kind::Leaf),
    ("method-wrapper", Kind::Leaf),
    ("weakref", Kind::Leaf),
    ("weakref.ReferenceType", Kind::Leaf),
    ("weakproxy", Kind::Leaf),
    ("code", Kind::Leaf),
    ("NoneType", Kind::Leaf),
    ("float", Kind::Leaf),
    ("complex", Kind::Leaf),
    ("slice", Kind::Leaf),
    ("range", Kind::Leaf),
    ("ellipsis", Kind::Leaf),
];

/// So many objects, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// How many.
    pub objects: f64,
    /// Bytes.
    pub bytes: f64,
}

impl Estimate {
    /// More of them.
    pub fn add(&mut self, objects: f64, bytes: f64) {
        self.objects += objects;
        self.bytes += bytes;
    }

    /// As many as they are when these are this share of them.
    pub fn over(self, share: f64) -> Self {
        Self { objects: self.objects / share, bytes: self.bytes / share }
    }
}

/// One type, and what was counted.
#[derive(Clone, Debug)]
pub struct Type {
    /// Its address.
    pub address: u64,
    /// What is known of its objects.
    pub kind: Kind,
    /// `tp_flags`.
    pub flags: u64,
    /// `tp_basicsize`, bytes.
    pub basic: u64,
    /// `tp_itemsize`, bytes.
    pub item: u64,
    /// `tp_dictoffset`, bytes.
    pub dict_offset: i64,
    /// How many values an instance has that are kept outside of it (3.11, 3.12); read at the first instance.
    pub values: Option<u64>,
    /// Objects in the collector's lists that were seen.
    pub seen: u64,
    /// What they take; bytes.
    pub bytes: u64,
    /// Some of these.
    pub some: Vec<u64>,
    /// Objects in none of its lists, by the samples of what few and of what many refer to.
    pub loose: [Estimate; 2],
}

impl Type {
    /// Whether all of these flags are set.
    pub fn has(&self, flags: u64) -> bool {
        self.flags & flags == flags
    }
}

/// Addresses are as good as random once they are multiplied.
#[derive(Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

/// A map whose keys are addresses.
pub type ByAddress<T> = HashMap<u64, T, BuildHasherDefault<AddressHasher>>;

/// All types seen so far.
#[derive(Default)]
pub struct Types {
    by_address: ByAddress<Option<usize>>,
    all: Vec<Type>,
    last: Option<(u64, usize)>,
}

impl Types {
    /// The number of the type at this address; `None` if there is none, or if there are too many.
    pub fn find(&mut self, memory: &mut Memory, address: u64) -> Option<usize> {
        if let Some((last, number)) = self.last
            && last == address
        {
            return Some(number);
        }
        let number = match self.by_address.get(&address) {
            Some(known) => (*known)?,
            None => self.meet(memory, address)?,
        };
        self.last = Some((address, number));
        Some(number)
    }

    fn meet(&mut self, memory: &mut Memory, address: u64) -> Option<usize> {
        if self.by_address.len() >= MOST {
            return None;
        }
        let number = read(memory, address).map(|new| {
            self.all.push(new);
            self.all.len().wrapping_sub(1)
        });
        self.by_address.insert(address, number);
        number
    }

    /// By its number.
    pub fn get(&self, number: usize) -> Option<&Type> {
        self.all.get(number)
    }

    /// By its number.
    pub fn get_mut(&mut self, number: usize) -> Option<&mut Type> {
        self.all.get_mut(number)
    }

    /// All of them.
    pub fn all(&self) -> &[Type] {
        &self.all
    }
}

fn read(memory: &mut Memory, address: u64) -> Option<Type> {
    if address & 7 != 0 {
        return None;
    }
    let [_, meta, _, _, basic, item] = memory.words::<6>(address, Reach::Far)?;
    // What a type's type says of itself: its instances are types.
    if meta & 7 != 0 || memory.word(meta.checked_add(object::TYPE_FLAGS)?)? & flag::TYPE == 0 {
        return None;
    }
    if basic == 0 || basic > 1 << 20 || item > 1 << 16 {
        return None;
    }
    let flags = memory.word(address.checked_add(object::TYPE_FLAGS)?)?;
    let dict_offset = memory.word(address.checked_add(object::TYPE_DICT_OFFSET)?)?.cast_signed();
    let kind = kind(memory, address, flags)?;
    let loose = [Estimate::default(); 2];
    Some(Type {
        address,
        kind,
        flags,
        basic,
        item,
        dict_offset,
        values: None,
        seen: 0,
        bytes: 0,
        some: Vec::new(),
        loose,
    })
}

fn kind(memory: &mut Memory, address: u64, flags: u64) -> Option<Kind> {
    let by_flag = [Kind::Int, Kind::List, Kind::Tuple, Kind::Bytes, Kind::Str, Kind::Dict, Kind::Instance, Kind::Type];
    for (bit, kind) in flag::SUBCLASS.into_iter().zip(by_flag) {
        if flags & bit != 0 {
            return Some(kind);
        }
    }
    let mut at = address;
    // The base of a class written in Python may be a type written in C. Deeper ones than this are not looked for.
    for _ in 0..16 {
        let flags = memory.word(at.checked_add(object::TYPE_FLAGS)?)?;
        let name = memory.word(at.checked_add(object::TYPE_NAME)?)?;
        let name = memory.text(name, 64)?;
        // A class written in Python has no dot in this name, a type in C that was made at run time has.
        if flags & flag::HEAP_TYPE == 0 || name.contains('.') {
            if let Some((_, kind)) = KNOWN.iter().find(|(known, _)| *known == name) {
                return Some(*kind);
            }
            break;
        }
        at = memory.word(at.checked_add(object::TYPE_BASE)?)?;
        if at == 0 {
            break;
        }
    }
    if flags & flag::HEAP_TYPE != 0 && at != address {
        return Some(Kind::Instance);
    }
    Some(if flags & flag::COLLECTED == 0 { Kind::Leaf } else { Kind::Other })
}
