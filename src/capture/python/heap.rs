//! CPython's objects: what they take, and what they refer to.

use super::layout::{Attributes, Layout, array, flag, object};
use super::memory::{Memory, Reach};
use super::types::{Kind, Type, Types};

/// Sizes and counts above this are garbage.
const HUGE: u64 = 1 << 40;

/// More local variables than these are not looked at.
const MOST_LOCALS: u64 = 128;

/// Over how many empty places of a hash table the next item is looked for. A set has three in five filled at the most, and one in
/// seven after it has grown.
const MOST_EMPTY: u64 = 128;

/// An object's first words.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// Where it is.
    pub address: u64,
    /// The number of its type.
    pub number: usize,
    /// What is known of it.
    pub kind: Kind,
    /// `ob_refcnt`, `ob_type`, and what follows.
    pub words: [u64; 6],
}

/// References that lie in memory at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The address of the first one.
    pub base: u64,
    /// From one group to the next, bytes.
    pub stride: u64,
    /// How many lie side by side: 2 for keys and their values.
    pub side: u64,
    /// How many there are.
    pub count: u64,
    /// How many they stand for: more, where others were not looked for.
    pub total: u64,
    /// How many of these hold something: a hash table is mostly empty.
    pub held: u64,
}

impl Run {
    fn plain(base: u64, count: u64) -> Self {
        Self { base, stride: 8, side: 1, count, total: count, held: count }
    }

    /// The address of one of them; of those that others stand for, too.
    pub fn address(&self, at: u64) -> Option<u64> {
        let at = at.checked_rem(self.count)?;
        let (group, side) = (at.checked_div(self.side)?, at.checked_rem(self.side)?);
        self.base.checked_add(group.checked_mul(self.stride)?)?.checked_add(side.checked_mul(8)?)
    }
}

/// What an object takes, and where its references are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Body {
    /// Bytes, with what belongs to it alone: a list's array, a dict's table.
    pub bytes: u64,
    /// How many items it holds, if it is a container.
    pub items: Option<u64>,
    /// Its references.
    pub runs: [Option<Run>; 3],
}

impl Body {
    fn add(&mut self, run: Run) {
        if run.count > 0
            && run.total < HUGE
            && let Some(free) = self.runs.iter_mut().find(|free| free.is_none())
        {
            *free = Some(run);
        }
    }

    fn grow(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes.min(HUGE));
    }
}

/// A dict's table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// What it takes; bytes.
    pub bytes: u64,
    /// The address of the first key.
    pub first: u64,
    /// From one key to the next, bytes. The value lies behind the key, unless the keys are shared.
    pub stride: u64,
    /// How many entries are or were in use.
    pub entries: u64,
    /// How many there may be.
    pub capacity: u64,
    /// How many values an instance with these keys is given room for.
    pub values: u64,
}

/// The names and values of a namespace: a dict, or an instance's attributes.
#[derive(Clone, Copy, Debug)]
pub struct Namespace {
    keys: Table,
    /// Where the values are, if not beside the keys.
    values: Option<u64>,
    /// The dict, if it is one.
    pub dict: Option<u64>,
}

impl Namespace {
    /// How many entries there are to look at; some may be empty.
    pub fn len(&self) -> u64 {
        self.keys.entries
    }

    /// The addresses of a key and of its value.
    pub fn entry(&self, at: u64) -> Option<(u64, u64)> {
        let key = self.keys.first.checked_add(at.checked_mul(self.keys.stride)?)?;
        let value = match self.values {
            Some(values) => values.checked_add(at.checked_mul(8)?)?,
            None => key.checked_add(8)?,
        };
        Some((key, value))
    }
}

/// The local variables of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Locals {
    /// The code object.
    pub code: u64,
    /// The address of the first name.
    pub names: u64,
    /// The address of the first value.
    pub first: u64,
    /// How many there are.
    pub count: u64,
}

/// The objects of a process.
pub struct Heap {
    /// Its memory.
    pub memory: Memory,
    /// Its offsets.
    pub layout: Layout,
    /// Its types.
    pub types: Types,
}

impl Heap {
    /// The object at this address; `None` if there is none.
    pub fn object(&mut self, address: u64, reach: Reach) -> Option<Object> {
        if address & 7 != 0 || address == 0 {
            return None;
        }
        let words = match self.memory.words::<6>(address, reach) {
            Some(words) => words,
            // A small one at the end of what is mapped.
            None => {
                let [references, of] = self.memory.words::<2>(address, reach)?;
                [references, of, 0, 0, 0, 0]
            }
        };
        self.object_with(address, words)
    }

    /// The object with these first words.
    pub fn object_with(&mut self, address: u64, words: [u64; 6]) -> Option<Object> {
        let [_, of, ..] = words;
        let number = self.types.find(&mut self.memory, of)?;
        let kind = self.types.get(number)?.kind;
        Some(Object { address, number, kind, words })
    }

    /// What is referred to at this place of a run; in a hash table that is empty there, by the next one that is not.
    pub fn reference(&mut self, run: &Run, place: u64) -> Option<u64> {
        if run.held >= run.total {
            return self.memory.word(place);
        }
        let first = place.checked_sub(run.base)?.checked_div(run.stride)?;
        (first..first.saturating_add(MOST_EMPTY)).find_map(|at| {
            let place = run.address(at)?;
            self.memory.word(place).filter(|reference| *reference != 0)
        })
    }

    /// The share of an object that one of the references to it stands for: none, if it is never freed.
    pub fn share(&self, of: &Object) -> f64 {
        let [references, ..] = of.words;
        let references =
            if self.layout.immortals { i64::from(references as u32 as i32) } else { references.cast_signed() };
        // One of these is that of the chain in which `lru_cache` has its results, besides the dict's.
        let references = if of.kind == Kind::CachedResult { references.saturating_sub(1).max(1) } else { references };
        // Before there were immortals, None and the like had a great many.
        if references <= 0 { 0.0 } else { 1.0 / references as f64 }
    }

    /// Whether an object is in one of the collector's lists. Types that may also be static are said to be.
    pub fn is_tracked(&mut self, of: &Object) -> bool {
        let collected = self.types.get(of.number).is_some_and(|found| found.has(flag::COLLECTED));
        collected && self.memory.word(of.address.wrapping_sub(object::HEAD)).is_some_and(|next| next & !3 != 0)
    }

    /// What an object takes and refers to.
    pub fn body(&mut self, of: &Object, reach: Reach) -> Body {
        let mut body = Body::default();
        let Some(found) = self.types.get(of.number) else { return body };
        let (flags, basic, item) = (found.flags, found.basic, found.item);
        let (dict_offset, heap_type) = (found.dict_offset, found.has(flag::HEAP_TYPE));
        let [_, _, second, third, fourth, fifth] = of.words;
        let bits = flag::MANAGED_DICT
            | if self.layout.attributes == Attributes::ValuesOrDict { 0 } else { flag::MANAGED_WEAKREF };
        let before = match (flags & flag::COLLECTED != 0, self.layout.short_keys && flags & bits != 0) {
            (true, true) => 32,
            (true, false) => 16,
            (false, true) => 16,
            (false, false) => 0,
        };
        let variable = match of.kind {
            _ if item == 0 => 0,
            // Before 3.12 negative for negative numbers; then the size is kept above three bits.
            Kind::Int if self.layout.immortals => second >> 3,
            Kind::Int => second.cast_signed().unsigned_abs(),
            Kind::Generator | Kind::Frame => 0,
            _ => second,
        };
        if variable < HUGE {
            body.grow(variable.saturating_mul(item));
        }
        body.grow(basic.saturating_add(before));
        let own = of.address;
        match of.kind {
            Kind::List => {
                body.items = Some(second);
                body.grow(fourth.saturating_mul(8));
                body.add(Run::plain(third, second));
            }
            Kind::Tuple => {
                body.items = Some(second);
                body.add(Run::plain(own.wrapping_add(self.layout.tuple_items), second));
            }
            Kind::Dict => self.dict(&mut body, second, fourth, fifth, reach),
            Kind::Set => {
                body.items = Some(third);
                let places = fourth.saturating_add(1);
                if places > 8 {
                    body.grow(places.saturating_mul(16));
                }
                // Of these, some may be marks of what was deleted.
                let held = second.min(places);
                body.add(Run { base: fifth, stride: 16, side: 1, count: places, total: places, held });
            }
            Kind::Deque => deque(&mut body, [second, third, fifth]),
            Kind::Str => {
                body.bytes = 0;
                body.grow(self.string_bytes(of, basic));
            }
            Kind::ByteArray => body.grow(third),
            // How many items there is room for, and in the second half of a word their size.
            Kind::Array => {
                let size = self.memory.word(fifth).map_or(0, |word| word >> 32);
                body.grow(if size <= 16 { fourth.saturating_mul(size) } else { 0 });
            }
            // `struct lru_list_elem`: two links, the hash, then the arguments and the result.
            Kind::CachedResult => body.add(Run::plain(own.wrapping_add(40), 2)),
            Kind::NumPyArray => {
                self.numpy_array(&mut body, of);
            }
            Kind::Generator | Kind::Frame => {
                self.frame(&mut body, of);
            }
            Kind::Instance | Kind::Other | Kind::Cell | Kind::CachedFunction | Kind::Function if basic > 16 => {
                body.add(Run::plain(own.wrapping_add(16), basic.min(1024).saturating_sub(16) >> 3));
            }
            _ => {}
        }
        // A list, say, whose class is written in Python has attributes, too.
        if heap_type && dict_offset > 0 && !matches!(of.kind, Kind::Instance | Kind::Other | Kind::Type) {
            body.add(Run::plain(own.wrapping_add(dict_offset.unsigned_abs()), 1));
        }
        if self.layout.short_keys && flags & flag::MANAGED_DICT != 0 {
            self.attributes(&mut body, of, flags, basic, reach);
        }
        // As the allocators round.
        body.bytes = body.bytes.saturating_add(15) & !15;
        body
    }

    /// An array has its numbers itself, or shows those of another object.
    fn numpy_array(&mut self, body: &mut Body, of: &Object) -> Option<()> {
        let [_, _, data, count, dimensions, strides] = of.words;
        let base = of.address.wrapping_add(array::NUMPY_BASE);
        if self.memory.word(base)? != 0 {
            body.add(Run::plain(base, 1));
            return Some(());
        }
        let (mut bytes, mut items) = (0u64, 1u64);
        for at in (0..(count & 0xFFFF_FFFF).min(array::NUMPY_DIMENSIONS)).map(|at| at.wrapping_mul(8)) {
            let length = self.memory.word(dimensions.wrapping_add(at))?;
            let stride = self.memory.word(strides.wrapping_add(at))?.cast_signed().unsigned_abs();
            bytes = bytes.max(length.saturating_mul(stride));
            items = items.saturating_mul(length);
        }
        body.grow(if items == 0 { 0 } else { bytes });
        let kind = self.memory.word(of.address.wrapping_add(array::NUMPY_ITEMS))?;
        if self.memory.bytes(kind.wrapping_add(array::NUMPY_KIND), 1, Reach::Far)? == b"O" {
            body.add(Run::plain(data, items.min(bytes >> 3)));
        }
        Some(())
    }

    /// The local variables of a frame, or of a generator that waits.
    fn frame(&mut self, body: &mut Body, of: &Object) -> Option<()> {
        let frame = self.frame_of(of)?;
        let locals = self.locals(frame)?;
        body.grow(self.layout.frame_locals.saturating_add(locals.count.saturating_mul(8)));
        body.add(Run::plain(locals.first, locals.count));
        Some(())
    }

    /// What a function alone refers to, of all that a function refers to: what it was made with.
    pub fn bound(&self, of: &Object) -> [Option<Run>; 3] {
        let [_, _, closure, defaults] = self.layout.function;
        let run = |place: u64| Some(Run::plain(of.address.wrapping_add(place), 1));
        [run(closure), run(defaults), None]
    }

    /// The frame of a generator or coroutine that has one; of a frame object its own.
    pub fn frame_of(&self, of: &Object) -> Option<u64> {
        let [_, _, second, third, ..] = of.words;
        let frame = match (of.kind, self.layout.short_keys) {
            (Kind::Frame, false) => of.address,
            (Kind::Frame, true) => third,
            (_, false) => second,
            // A generator ends with its frame, whose local variables are not in its size.
            (_, true) => {
                let basic = self.types.get(of.number)?.basic;
                of.address.checked_add(basic)?.checked_sub(self.layout.frame_locals)?
            }
        };
        (frame != 0).then_some(frame)
    }

    /// What a frame tells of its local variables.
    pub fn locals(&mut self, frame: u64) -> Option<Locals> {
        // The lowest bits tell since 3.14 whether a reference is counted.
        let code = self.memory.word(frame.wrapping_add(self.layout.frame_code))? & !7;
        let names = self.memory.word(code.wrapping_add(self.layout.code_names))?;
        let names = self.object(names, Reach::Far).filter(|names| names.kind == Kind::Tuple)?;
        let [_, _, count, ..] = names.words;
        let names = names.address.wrapping_add(self.layout.tuple_items);
        let first = frame.wrapping_add(self.layout.frame_locals);
        Some(Locals { code, names, first, count: count.min(MOST_LOCALS) })
    }

    fn dict(&mut self, body: &mut Body, used: u64, keys: u64, values: u64, reach: Reach) {
        body.items = Some(used);
        if used == 0 {
            return;
        }
        let Some(table) = self.table(keys, reach) else { return };
        if values == 0 {
            body.grow(table.bytes);
            let count = table.entries.saturating_mul(2);
            body.add(Run { base: table.first, stride: table.stride, side: 2, count, total: count, held: count });
            return;
        }
        // The keys are the class's. The values may be the instance's, which counts them then.
        if self.layout.attributes != Attributes::Inline {
            body.grow(table.values.saturating_mul(8));
        }
        body.add(Run::plain(self.first_value(values), table.entries.min(table.capacity)));
    }

    /// An instance's values or its dict.
    fn attributes(&mut self, body: &mut Body, of: &Object, flags: u64, basic: u64, reach: Reach) {
        let own = of.address;
        match self.layout.attributes {
            Attributes::Dict => {}
            Attributes::Inline => {
                if flags & flag::INLINE_VALUES != 0 {
                    let values = own.wrapping_add(basic);
                    if let Some([head]) = self.memory.words::<1>(values, reach) {
                        let [capacity, size, _, valid, ..] = head.to_le_bytes();
                        body.grow(u64::from(capacity).saturating_mul(9).saturating_add(8));
                        if valid != 0 {
                            body.add(Run::plain(values.wrapping_add(8), size.into()));
                        }
                    }
                }
                body.add(Run::plain(own.wrapping_sub(24), 1));
            }
            Attributes::ValuesOrDict | Attributes::Tagged => {
                let Some([values, dict]) = self.memory.words::<2>(own.wrapping_sub(32), reach) else { return };
                let values = if self.layout.attributes == Attributes::ValuesOrDict {
                    values
                } else if dict & 1 == 1 {
                    dict.wrapping_add(1)
                } else {
                    0
                };
                if values == 0 {
                    body.add(Run::plain(own.wrapping_sub(24), 1));
                    return;
                }
                let count = self.shared_values(of.number);
                body.grow(count.saturating_mul(9).saturating_add(8));
                body.add(Run::plain(values, count));
            }
        }
    }

    /// How many values an instance of this type has room for.
    fn shared_values(&mut self, number: usize) -> u64 {
        let Some(found) = self.types.get(number) else { return 0 };
        if let Some(values) = found.values {
            return values;
        }
        let keys = found.address.wrapping_add(self.layout.cached_keys);
        let keys = self.memory.word(keys).and_then(|keys| self.table(keys, Reach::Far));
        let values = keys.map_or(0, |keys| keys.values.min(30));
        if let Some(found) = self.types.get_mut(number) {
            found.values = Some(values);
        }
        values
    }

    /// Where the values begin that a dict with shared keys refers to.
    fn first_value(&self, values: u64) -> u64 {
        if self.layout.attributes == Attributes::Inline { values.wrapping_add(8) } else { values }
    }

    /// `PyDictKeysObject`.
    pub fn table(&mut self, keys: u64, reach: Reach) -> Option<Table> {
        if self.layout.short_keys {
            let [_, head, usable, entries] = self.memory.words::<4>(keys, reach)?;
            let [size, index, kind, ..] = head.to_le_bytes();
            if size > 40 || index > 43 || kind > 2 || entries > HUGE || usable > HUGE {
                return None;
            }
            let index = 1u64.checked_shl(index.into())?;
            let capacity = 1u64.checked_shl(size.into())?.saturating_mul(2).checked_div(3)?;
            let (stride, hash) = if kind == 0 { (24, 8) } else { (16, 0) };
            let bytes = index.saturating_add(32).saturating_add(capacity.saturating_mul(stride));
            let first = keys.wrapping_add(32).wrapping_add(index).wrapping_add(hash);
            let entries = entries.min(capacity);
            let values = entries.saturating_add(usable).min(capacity);
            return Some(Table { bytes, first, stride, entries, capacity, values });
        }
        let [_, size, _, usable, entries] = self.memory.words::<5>(keys, reach)?;
        if !size.is_power_of_two() || size > HUGE || entries > size || usable > size {
            return None;
        }
        let width = if size <= 0xFF {
            1
        } else if size <= 0xFFFF {
            2
        } else if size <= 0xFFFF_FFFF {
            4
        } else {
            8
        };
        let index = size.saturating_mul(width);
        let capacity = size.saturating_mul(2).checked_div(3)?;
        let bytes = index.saturating_add(40).saturating_add(capacity.saturating_mul(24));
        let first = keys.wrapping_add(40).wrapping_add(index).wrapping_add(8);
        Some(Table { bytes, first, stride: 24, entries: entries.min(capacity), capacity, values: capacity })
    }

    /// A dict's names and values.
    pub fn dict_namespace(&mut self, dict: u64) -> Option<Namespace> {
        let dict = self.object(dict, Reach::Far).filter(|dict| dict.kind == Kind::Dict)?;
        let [_, _, _, _, keys, values] = dict.words;
        let keys = self.table(keys, Reach::Far)?;
        Some(Namespace { keys, values: (values != 0).then(|| self.first_value(values)), dict: Some(dict.address) })
    }

    /// An instance's attributes; for modules and types theirs.
    pub fn namespace(&mut self, of: &Object) -> Option<Namespace> {
        let [_, _, second, ..] = of.words;
        match of.kind {
            Kind::Module => return self.dict_namespace(second),
            Kind::Type => {
                let dict = self.memory.word(of.address.wrapping_add(object::TYPE_BASE).wrapping_add(8))?;
                return self.dict_namespace(dict);
            }
            _ => {}
        }
        let found = self.types.get(of.number)?;
        let (flags, basic, item, offset, of_type) =
            (found.flags, found.basic, found.item, found.dict_offset, found.address);
        let own = of.address;
        if self.layout.short_keys && flags & flag::MANAGED_DICT != 0 {
            let [values, dict] = self.memory.words::<2>(own.wrapping_sub(32), Reach::Far)?;
            let values = match self.layout.attributes {
                Attributes::ValuesOrDict if values != 0 => values,
                Attributes::Tagged if dict & 1 == 1 => dict.wrapping_add(1),
                Attributes::Inline if dict == 0 && flags & flag::INLINE_VALUES != 0 => {
                    own.wrapping_add(basic).wrapping_add(8)
                }
                _ => return self.dict_namespace(dict),
            };
            let keys = self.memory.word(of_type.wrapping_add(self.layout.cached_keys))?;
            let keys = self.table(keys, Reach::Far)?;
            return Some(Namespace { keys, values: Some(values), dict: None });
        }
        let at = if offset > 0 {
            offset.unsigned_abs()
        } else if offset < 0 && offset > -1024 {
            // From the end of an object of variable size.
            let size = second.cast_signed().unsigned_abs();
            let end = basic.checked_add(size.checked_mul(item)?)?.checked_add(7)? & !7;
            end.checked_sub(offset.unsigned_abs())?
        } else {
            return None;
        };
        let dict = self.memory.word(own.checked_add(at)?)?;
        self.dict_namespace(dict)
    }

    fn string_bytes(&self, of: &Object, basic: u64) -> u64 {
        let [_, _, length, _, state, _] = of.words;
        let (kind, compact, ascii) = (state >> 2 & 7, state >> 5 & 1 == 1, state >> 6 & 1 == 1);
        if length > HUGE {
            return basic;
        }
        let head = match (compact, ascii) {
            (true, true) => self.layout.ascii,
            (true, false) => self.layout.compact,
            (false, _) => basic,
        };
        head.saturating_add(length.saturating_add(1).saturating_mul(kind.max(1)))
    }

    /// A string's text, if it is one of less than so many characters (longer ones are cut).
    pub fn string(&mut self, address: u64, longest: u64) -> Option<String> {
        let of = self.object(address, Reach::Far).filter(|of| of.kind == Kind::Str)?;
        let [_, _, length, _, state, _] = of.words;
        let (kind, compact, ascii) = (state >> 2 & 7, state >> 5 & 1 == 1, state >> 6 & 1 == 1);
        if !compact || !matches!(kind, 1 | 2 | 4) {
            return None;
        }
        let head = if ascii { self.layout.ascii } else { self.layout.compact };
        let characters = length.min(longest).min(1000);
        if characters == 0 {
            return Some(String::new());
        }
        let bytes = usize::try_from(characters.saturating_mul(kind)).ok()?;
        let width = usize::try_from(kind).ok()?;
        let bytes = self.memory.bytes(of.address.checked_add(head)?, bytes, Reach::Far)?;
        let mut text: String = bytes
            .chunks_exact(width)
            .map(|unit| {
                let mut wide = [0; 4];
                wide.iter_mut().zip(unit).for_each(|(wide, byte)| *wide = *byte);
                let character = char::from_u32(u32::from_le_bytes(wide)).unwrap_or(char::REPLACEMENT_CHARACTER);
                if character.is_control() { '\u{FFFD}' } else { character }
            })
            .collect();
        if length > characters {
            text.push('…');
        }
        Some(text)
    }

    /// The value that a namespace has for this name.
    pub fn lookup(&mut self, namespace: &Namespace, name: &str) -> Option<u64> {
        let length = u64::try_from(name.len()).ok()?;
        for at in 0..namespace.len().min(4096) {
            let (key, value) = namespace.entry(at)?;
            let Some(key) = self.memory.word(key).filter(|key| *key != 0) else { continue };
            let same_length = self.memory.word(key.wrapping_add(16)) == Some(length);
            if same_length && self.string(key, 64).as_deref() == Some(name) {
                return self.memory.word(value).filter(|value| *value != 0);
            }
        }
        None
    }

    /// A type's name with its module, as in a traceback; those of `builtins` without.
    pub fn type_name(&mut self, address: u64) -> Option<String> {
        let flags = self.memory.word(address.checked_add(object::TYPE_FLAGS)?)?;
        let name = self.memory.word(address.checked_add(object::TYPE_NAME)?)?;
        let name = self.memory.text(name, 100)?;
        if flags & flag::HEAP_TYPE == 0 {
            return Some(name.strip_prefix("builtins.").map_or(name.clone(), str::to_owned));
        }
        let qualname = self.memory.word(address.checked_add(self.layout.qualname)?);
        let qualname = qualname.and_then(|qualname| self.string(qualname, 100)).unwrap_or(name);
        let dict = self.memory.word(address.checked_add(object::TYPE_BASE)?.checked_add(8)?)?;
        let module = self.dict_namespace(dict).and_then(|dict| self.lookup(&dict, "__module__"));
        let module = module.and_then(|module| self.string(module, 100));
        Some(match module.as_deref() {
            None | Some("builtins" | "") => qualname,
            Some(module) => format!("{module}.{qualname}"),
        })
    }

    /// A function's name with its module.
    pub fn function_name(&mut self, address: u64) -> Option<String> {
        let [module, qualname, ..] = self.layout.function;
        let qualname = self.memory.word(address.checked_add(qualname)?)?;
        let qualname = self.string(qualname, 100)?;
        let module = self.memory.word(address.checked_add(module)?)?;
        Some(match self.string(module, 100) {
            Some(module) => format!("{module}.{qualname}"),
            None => qualname,
        })
    }

    /// What is known of a type; by the number in an object.
    pub fn type_of(&self, of: &Object) -> Option<&Type> {
        self.types.get(of.number)
    }
}

fn deque(body: &mut Body, [length, left, index]: [u64; 3]) {
    body.items = Some(length);
    // Blocks of 64 items and two links.
    let blocks = length.saturating_add(63) >> 6;
    body.grow(blocks.max(1).saturating_mul(528));
    let index = index.min(64);
    let count = length.min(64u64.saturating_sub(index));
    let base = left.wrapping_add(8).wrapping_add(index.wrapping_mul(8));
    body.add(Run { base, stride: 8, side: 1, count, total: length, held: length });
}
