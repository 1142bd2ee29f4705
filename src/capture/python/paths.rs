//! How a container is reached: from modules and running functions, by the names that are in the code.

use std::time::Instant;

use super::heap::{Heap, Namespace, Object};
use super::layout::object;
use super::locate::Python;
use super::memory::Reach;
use super::types::{ByAddress, Kind};

/// How many objects are looked into at the most. Each takes some 64 bytes of ours, and about a microsecond.
const MOST: usize = 100_000;

/// How many entries of a namespace and of any other container are looked at.
const NAMES: u64 = 4096;
const ITEMS: u64 = 128;

/// A container is told by the whole way to it if that has no more steps than this.
const LONGEST_PATH: usize = 4;

/// And by no way at all if that has more.
const MOST_STEPS: usize = 32;

/// What was come by before it has a place among the nodes: a module.
const NO_NODE: u32 = u32::MAX;

/// How many frames of a thread, threads of an interpreter, and modules are looked at.
const FRAMES: usize = 200;
const THREADS: usize = 1000;
const MODULES: u64 = 20_000;

/// What leads from one object to another. Strings are kept by their addresses, and read when they are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    /// A module, by its name.
    Module(u64),
    /// A local variable of the running function with this name.
    Local(u64, u64),
    /// An attribute.
    Attribute(u64),
    /// A slot that has no name but its place in the object; bytes.
    Slot(u64),
    /// A dict's value, by its key.
    Key(u64),
    /// An item, by its number.
    Item(u64),
    /// A variable that a function shares with the one around it.
    Closure,
    /// A default argument.
    Default,
    /// What a cached function has kept.
    Cache,
    /// A module's or an instance's dict.
    Dict,
    /// A part of it that nobody names.
    Part,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    address: u64,
    parent: u32,
    edge: Edge,
    /// Whether the way to it leads from the app's own modules and through no running function: it is there at the next look, too.
    is_lasting: bool,
}

/// The objects that were reached, each by its shortest path from the app's own modules, or else from whatever leads to it.
#[derive(Default)]
pub struct Paths {
    nodes: Vec<Node>,
    /// The places of their nodes.
    known: ByAddress<u32>,
    /// Nodes to which a lasting way was found after they had been expanded: it is one to what is below them, too.
    again: Vec<u32>,
    /// Until when there is time, and whether that is over.
    until: Option<Instant>,
    is_late: bool,
}

/// Where a module comes from: the app's own names are told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Main,
    App,
    Site,
    Standard,
}

impl Paths {
    /// Sets out from the frames of all threads, then from the modules, the app's own ones first, until this moment.
    /// Shows each container to `visit`, and whether it is but the namespace of something. Whether all that can be reached was seen.
    pub fn find(
        &mut self,
        heap: &mut Heap,
        python: &Python,
        interpreter: u64,
        until: Instant,
        visit: &mut impl FnMut(&mut Heap, &Object, bool),
    ) -> bool {
        (self.until, self.is_late) = (Some(until), false);
        let mut next = self.nodes.len();
        self.frames(heap, python, interpreter, visit);
        let mut modules = modules(heap, interpreter.wrapping_add(python.layout.modules));
        modules.sort_by_key(|(origin, ..)| *origin);
        // All modules are known before anything else is: what one has of another is told as that one's.
        for (_, _, module) in &modules {
            self.known.insert(*module, NO_NODE);
        }
        let mut modules = modules.into_iter().peekable();
        loop {
            while let Some(node) = self.nodes.get(next).copied() {
                if self.nodes.len() >= MOST || self.is_late(heap, next & 31 == 0) {
                    return false;
                }
                self.expand(heap, next, node.address, visit);
                next = next.wrapping_add(1);
            }
            let Some((origin, name, module)) = modules.next() else {
                self.expand_again(heap, visit);
                return true;
            };
            self.push_module(origin, name, module);
            while let Some((_, name, module)) = modules.next_if(|(of, ..)| *of == origin) {
                self.push_module(origin, name, module);
            }
        }
    }

    fn is_late(&mut self, heap: &mut Heap, is_due: bool) -> bool {
        self.is_late = self.is_late || self.until.is_some_and(|until| heap.memory.is_past(until, is_due));
        self.is_late
    }

    /// Whether this object was reached.
    pub fn knows(&self, address: u64) -> bool {
        self.known.contains_key(&address)
    }

    /// Whether this is the namespace of a module or an instance: what is in it belongs to the names there.
    pub fn is_namespace(&self, address: u64) -> bool {
        self.node(address).is_some_and(|node| node.edge == Edge::Dict)
    }

    fn node(&self, address: u64) -> Option<&Node> {
        self.known.get(&address).and_then(|at| self.at(*at))
    }

    fn at(&self, place: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(place).ok()?)
    }

    /// The name by which an object is reached; `None` if it is not.
    pub fn name(&self, heap: &mut Heap, address: u64) -> Option<String> {
        let mut node = *self.node(address)?;
        let mut edges = Vec::new();
        let mut name = loop {
            if let Some(own) = own_name(heap, node.address) {
                break own;
            }
            edges.push((node.edge, node.address));
            match node.edge {
                Edge::Module(name) => {
                    edges.pop();
                    break heap.string(name, 100)?;
                }
                Edge::Local(..) => break String::new(),
                _ => {}
            }
            if edges.len() > MOST_STEPS {
                return None;
            }
            node = *self.at(node.parent)?;
        };
        let mut at = node.address;
        let mut of_type = None;
        if edges.len() > LONGEST_PATH
            && let Some((number, owner)) = nearest_owner(heap, &edges, at)
        {
            // Nobody looks for a container by a long way to it, but by the class whose attribute it is.
            of_type = own_type_name(heap, owner);
            if of_type.is_some() {
                edges.truncate(number.saturating_add(1));
                at = owner;
                name = String::new();
            }
        }
        for (edge, below) in edges.into_iter().rev() {
            name = match edge {
                Edge::Module(_) | Edge::Part => name,
                Edge::Local(variable, code) => {
                    let variable = heap.string(variable, 60)?;
                    let function = heap.memory.word(code.checked_add(heap.layout.code_name)?)?;
                    let function = heap.string(function, 100)?;
                    format!("local variable {variable} of {function}")
                }
                Edge::Attribute(key) => format!("{name}.{}", heap.string(key, 60)?),
                Edge::Slot(place) => match slot_name(heap, at, place) {
                    Some(slot) => format!("{name}.{slot}"),
                    None => name,
                },
                Edge::Key(key) => match heap.string(key, 40) {
                    Some(key) => format!("{name}['{key}']"),
                    None => format!("{name}[…]"),
                },
                Edge::Item(number) => format!("{name}[{number}]"),
                Edge::Closure => format!("closure of {name}"),
                Edge::Default => format!("default argument of {name}"),
                Edge::Cache => format!("cache of {name}"),
                Edge::Dict => format!("{name}.__dict__"),
            };
            at = below;
        }
        Some(match of_type {
            Some(of_type) => format!("{} of {of_type}", name.strip_prefix('.').unwrap_or(&name)),
            None => name,
        })
    }

    /// Whether it was reached already, and the way through this parent would be no better one.
    fn needs_no(&self, parent: usize, address: u64) -> bool {
        let Some(place) = self.known.get(&address) else { return false };
        let is_better = self.nodes.get(parent).is_some_and(|parent| parent.is_lasting);
        !is_better || self.at(*place).is_none_or(|node| node.is_lasting)
    }

    fn push_module(&mut self, origin: Origin, name: u64, address: u64) {
        let is_lasting = origin <= Origin::App;
        self.nodes.push(Node { address, parent: NO_NODE, edge: Edge::Module(name), is_lasting });
    }

    /// Whether what this edge of a parent's leads to is there at the next look, too.
    fn is_lasting(&self, parent: usize, edge: Edge) -> bool {
        !matches!(edge, Edge::Local(..)) && self.nodes.get(parent).is_some_and(|parent| parent.is_lasting)
    }

    /// Whether the way to this node is lasting by now. Where somebody on the way to it has become so, all below are.
    fn has_lasting_way(&mut self, place: u32) -> bool {
        let mut next = place;
        for _ in 0..MOST_STEPS {
            match self.at(next) {
                Some(node) if node.is_lasting => {
                    self.mark_lasting(place);
                    return true;
                }
                Some(node) if !matches!(node.edge, Edge::Local(..)) => next = node.parent,
                _ => return false,
            }
        }
        false
    }

    fn mark_lasting(&mut self, mut place: u32) {
        while let Some(node) = usize::try_from(place).ok().and_then(|place| self.nodes.get_mut(place)) {
            if node.is_lasting {
                return;
            }
            node.is_lasting = true;
            let parent = node.parent;
            self.again.push(place);
            place = parent;
        }
    }

    /// With what time is left when all was reached: names that last for what is below those that have got one.
    fn expand_again(&mut self, heap: &mut Heap, visit: &mut impl FnMut(&mut Heap, &Object, bool)) {
        let mut next = 0;
        while let Some(place) = self.again.get(next).and_then(|place| usize::try_from(*place).ok()) {
            if self.is_late(heap, next & 31 == 0) {
                break;
            }
            if let Some(address) = self.nodes.get(place).map(|node| node.address) {
                self.expand(heap, place, address, visit);
            }
            next = next.saturating_add(1);
        }
        self.again.clear();
    }

    /// What was come by through a function that happens to run is told by a lasting way to it, now that there is one: it would have
    /// another name at each look.
    ///
    /// No ring can come of it: who is lasting has only such above it, and so the parent is not below what is not.
    fn prefer(&mut self, place: u32, parent: usize, edge: Edge) {
        // A namespace is its owner's, however else it is reached.
        if !self.is_lasting(parent, edge)
            || self.at(place).is_none_or(|node| node.is_lasting || node.edge == Edge::Dict)
        {
            return;
        }
        let Ok(parent) = u32::try_from(parent) else { return };
        if !self.has_lasting_way(place)
            && let Some(node) = usize::try_from(place).ok().and_then(|place| self.nodes.get_mut(place))
        {
            (node.parent, node.edge, node.is_lasting) = (parent, edge, true);
            self.again.push(place);
        }
    }

    fn push(
        &mut self,
        heap: &mut Heap,
        parent: usize,
        address: u64,
        edge: Edge,
        visit: &mut impl FnMut(&mut Heap, &Object, bool),
    ) {
        if address & 7 != 0 || address == 0 {
            return;
        }
        if let Some(place) = self.known.get(&address) {
            self.prefer(*place, parent, edge);
            return;
        }
        if self.nodes.len() >= MOST || self.is_late(heap, false) {
            return;
        }
        let Some(of) = heap.object(address, Reach::Far) else { return };
        if matches!(
            of.kind,
            Kind::Leaf
                | Kind::Str
                | Kind::Bytes
                | Kind::Int
                | Kind::ByteArray
                | Kind::Array
                | Kind::NumPyArray
                | Kind::CachedResult
                | Kind::Module
        ) {
            return;
        }
        let Ok(place) = u32::try_from(self.nodes.len()) else { return };
        self.known.insert(address, place);
        if matches!(of.kind, Kind::Dict | Kind::Tuple | Kind::List | Kind::Set | Kind::Deque) {
            visit(heap, &of, edge == Edge::Dict);
        }
        let is_lasting = self.is_lasting(parent, edge);
        let parent = u32::try_from(parent).unwrap_or(NO_NODE);
        self.nodes.push(Node { address, parent, edge, is_lasting });
    }

    fn expand(&mut self, heap: &mut Heap, at: usize, address: u64, visit: &mut impl FnMut(&mut Heap, &Object, bool)) {
        let Some(of) = heap.object(address, Reach::Far) else { return };
        let [_, _, second, third, ..] = of.words;
        match of.kind {
            Kind::Module | Kind::Type => {
                if let Some(names) = heap.namespace(&of) {
                    self.names(heap, at, &names, visit);
                }
                return;
            }
            // Its owner has told its values already.
            Kind::Dict if self.nodes.get(at).is_some_and(|node| node.edge == Edge::Dict) => return,
            Kind::Dict => {
                if let Some(names) = heap.dict_namespace(address) {
                    for entry in 0..names.len().min(ITEMS) {
                        let Some((key, value)) = names.entry(entry) else { break };
                        let Some(value) = heap.memory.word(value) else { break };
                        let key = heap.memory.word(key).unwrap_or(0);
                        self.push(heap, at, value, Edge::Key(key), visit);
                    }
                }
            }
            Kind::List | Kind::Tuple => {
                let first = if of.kind == Kind::List { third } else { address.wrapping_add(heap.layout.tuple_items) };
                for number in 0..second.min(ITEMS) {
                    let place = first.wrapping_add(number.wrapping_mul(8));
                    let Some(item) = heap.memory.word(place) else { break };
                    self.push(heap, at, item, Edge::Item(number), visit);
                }
            }
            Kind::Function => {
                let [_, _, closure, defaults] = heap.layout.function;
                for (place, edge) in [(closure, Edge::Closure), (defaults, Edge::Default)] {
                    let tuple = heap.memory.word(address.wrapping_add(place)).unwrap_or(0);
                    self.push_items(heap, at, tuple, edge, visit);
                }
                return;
            }
            Kind::Cell => {
                self.push(heap, at, second, Edge::Part, visit);
                return;
            }
            Kind::Generator | Kind::Frame => {
                if let Some(frame) = heap.frame_of(&of) {
                    self.locals(heap, at, frame, visit);
                }
                return;
            }
            Kind::Instance | Kind::Other | Kind::CachedFunction => self.slots(heap, at, &of, visit),
            _ => {}
        }
        if let Some(names) = heap.namespace(&of) {
            self.names(heap, at, &names, visit);
        }
    }

    fn names(
        &mut self,
        heap: &mut Heap,
        parent: usize,
        names: &Namespace,
        visit: &mut impl FnMut(&mut Heap, &Object, bool),
    ) {
        for at in 0..names.len().min(NAMES) {
            let Some((key, value)) = names.entry(at) else { break };
            let Some(value) = heap.memory.word(value) else { break };
            if value == 0 || self.needs_no(parent, value) {
                continue;
            }
            let key = heap.memory.word(key).unwrap_or(0);
            self.push(heap, parent, value, Edge::Attribute(key), visit);
        }
        if let Some(dict) = names.dict {
            self.push(heap, parent, dict, Edge::Dict, visit);
        }
    }

    fn push_items(
        &mut self,
        heap: &mut Heap,
        parent: usize,
        tuple: u64,
        edge: Edge,
        visit: &mut impl FnMut(&mut Heap, &Object, bool),
    ) {
        let Some(tuple) = heap.object(tuple, Reach::Far).filter(|of| of.kind == Kind::Tuple) else { return };
        let [_, _, count, ..] = tuple.words;
        for number in 0..count.min(ITEMS) {
            let place = tuple.address.wrapping_add(heap.layout.tuple_items).wrapping_add(number.wrapping_mul(8));
            let Some(item) = heap.memory.word(place) else { return };
            self.push(heap, parent, item, edge, visit);
        }
    }

    /// The words of an object that may be references.
    fn slots(&mut self, heap: &mut Heap, parent: usize, of: &Object, visit: &mut impl FnMut(&mut Heap, &Object, bool)) {
        let Some(basic) = heap.type_of(of).map(|found| found.basic) else { return };
        for place in (16..basic.min(512)).step_by(8) {
            let Some(value) = heap.memory.word(of.address.wrapping_add(place)) else { return };
            if value == 0 || value & 7 != 0 || self.needs_no(parent, value) {
                continue;
            }
            let kind = heap.object(value, Reach::Far).map(|value| value.kind);
            let edge = match (of.kind, kind) {
                (_, None) => continue,
                // Its attributes are told by their names.
                (Kind::Instance, Some(Kind::Dict)) if self.is_own_dict(heap, of, place) => continue,
                (Kind::Instance, _) => Edge::Slot(place),
                (Kind::CachedFunction, Some(Kind::Dict)) => Edge::Cache,
                _ => Edge::Part,
            };
            self.push(heap, parent, value, edge, visit);
        }
    }

    fn is_own_dict(&self, heap: &Heap, of: &Object, place: u64) -> bool {
        heap.type_of(of).is_some_and(|found| u64::try_from(found.dict_offset) == Ok(place))
    }

    fn frames(
        &mut self,
        heap: &mut Heap,
        python: &Python,
        interpreter: u64,
        visit: &mut impl FnMut(&mut Heap, &Object, bool),
    ) {
        let layout = python.layout;
        let mut thread = heap.memory.word(interpreter.wrapping_add(layout.threads)).unwrap_or(0);
        // A thread's next one is its second word in all versions.
        for _ in 0..THREADS {
            if thread == 0 {
                return;
            }
            let mut frame = heap.memory.word(thread.wrapping_add(layout.frame)).unwrap_or(0);
            if let Some(current) = layout.c_frame {
                frame = heap.memory.word(frame.wrapping_add(current)).unwrap_or(0);
            }
            for _ in 0..FRAMES {
                if frame == 0 {
                    break;
                }
                if self.is_late(heap, true) {
                    return;
                }
                self.locals(heap, usize::MAX, frame, visit);
                frame = heap.memory.word(frame.wrapping_add(layout.frame_previous)).unwrap_or(0);
            }
            thread = heap.memory.word(thread.wrapping_add(8)).unwrap_or(0);
        }
    }

    /// A frame's local variables.
    fn locals(
        &mut self,
        heap: &mut Heap,
        parent: usize,
        frame: u64,
        visit: &mut impl FnMut(&mut Heap, &Object, bool),
    ) -> Option<()> {
        let locals = heap.locals(frame)?;
        for at in (0..locals.count).map(|at| at.wrapping_mul(8)) {
            let value = heap.memory.word(locals.first.wrapping_add(at))? & !7;
            let name = heap.memory.word(locals.names.wrapping_add(at))?;
            self.push(heap, parent, value, Edge::Local(name, locals.code), visit);
        }
        Some(())
    }
}

/// How many attributes of an instance are looked at.
const ATTRIBUTES: u64 = 64;

/// Which of these containers, in the order of their addresses, are attributes of this instance: `history of app.Session`.
pub fn owned(heap: &mut Heap, of: &Object, containers: &[u64], found: &mut ByAddress<String>) {
    if found.len() >= containers.len() || of.kind != Kind::Instance {
        return;
    }
    let mut told = |heap: &mut Heap, container: u64, name: Option<String>| {
        if let (Some(name), Some(of_type)) = (name, own_type_name(heap, of.address)) {
            found.entry(container).or_insert_with(|| format!("{name} of {of_type}"));
        }
    };
    let wanted = |value: &u64| containers.binary_search(value).is_ok();
    if let Some(names) = heap.namespace(of) {
        for at in 0..names.len().min(ATTRIBUTES) {
            let Some((key, value)) = names.entry(at) else { break };
            let Some(value) = heap.memory.word(value) else { break };
            if wanted(&value) {
                let name = heap.memory.word(key).and_then(|key| heap.string(key, 60));
                told(heap, value, name);
            }
        }
    }
    let Some(basic) = heap.type_of(of).map(|found| found.basic) else { return };
    for place in (16..basic.min(512)).step_by(8) {
        let Some(value) = heap.memory.word(of.address.wrapping_add(place)) else { return };
        if wanted(&value) {
            let name = slot_name(heap, of.address, place);
            told(heap, value, name);
        }
    }
}

/// Among edges from a container upwards, the first that is an attribute of an instance: its number, and that instance.
fn nearest_owner(heap: &mut Heap, edges: &[(Edge, u64)], top: u64) -> Option<(usize, u64)> {
    edges.iter().enumerate().find_map(|(number, (edge, _))| {
        let owner = edges.get(number.saturating_add(1)).map_or(top, |(_, owner)| *owner);
        let attribute = matches!(edge, Edge::Attribute(_) | Edge::Slot(_));
        let of = heap.object(owner, Reach::Far).filter(|of| attribute && of.kind == Kind::Instance)?;
        Some((number, of.address))
    })
}

fn own_type_name(heap: &mut Heap, address: u64) -> Option<String> {
    let of = heap.object(address, Reach::Far)?;
    let of_type = heap.type_of(&of)?.address;
    heap.type_name(of_type)
}

/// The name of what is not told by the path to it: a class or function is known by where it was written.
fn own_name(heap: &mut Heap, address: u64) -> Option<String> {
    let of = heap.object(address, Reach::Far)?;
    match of.kind {
        Kind::Type => heap.type_name(address),
        Kind::Function => heap.function_name(address),
        Kind::CachedFunction => {
            let basic = heap.type_of(&of)?.basic;
            let place = (16..basic.min(256)).step_by(8).find_map(|place| {
                let word = heap.memory.word(address.wrapping_add(place))?;
                heap.object(word, Reach::Far).filter(|word| word.kind == Kind::Function)
            })?;
            heap.function_name(place.address)
        }
        _ => None,
    }
}

/// The name of a slot of an object's class: `__slots__` are described in the class's namespace, by their place.
fn slot_name(heap: &mut Heap, object: u64, place: u64) -> Option<String> {
    let of = heap.object(object, Reach::Far)?;
    let [_, mut class, ..] = of.words;
    for _ in 0..16 {
        let class_object = heap.object(class, Reach::Far).filter(|class| class.kind == Kind::Type)?;
        let names = heap.namespace(&class_object)?;
        for at in 0..names.len().min(NAMES) {
            let (_, value) = names.entry(at)?;
            let Some(descriptor) = heap.memory.word(value).filter(|value| *value != 0) else { continue };
            let Some(of) = heap.object(descriptor, Reach::Far).filter(|of| of.kind == Kind::Leaf) else { continue };
            let name = heap.type_of(&of)?.address.wrapping_add(object::TYPE_NAME);
            let name = heap.memory.word(name)?;
            if heap.memory.text(name, 32).as_deref() != Some("member_descriptor") {
                continue;
            }
            // PyMemberDescrObject.d_member, then PyMemberDef.name, type, offset.
            let member = heap.memory.word(descriptor.wrapping_add(40))?;
            let [name, _, offset] = heap.memory.words::<3>(member, Reach::Far)?;
            if offset == place {
                return heap.memory.text(name, 60);
            }
        }
        class = heap.memory.word(class.wrapping_add(object::TYPE_BASE))?;
    }
    None
}

/// The modules of an interpreter: where each comes from, the address of its name, its own.
fn modules(heap: &mut Heap, place: u64) -> Vec<(Origin, u64, u64)> {
    let mut found = Vec::new();
    let Some(names) = heap.memory.word(place).and_then(|dict| heap.dict_namespace(dict)) else { return found };
    // The string `__file__` is the same one in all modules, or nearly so.
    let mut file_key = None;
    for at in 0..names.len().min(MODULES) {
        let Some((key, value)) = names.entry(at) else { break };
        let (Some(name), Some(module)) = (heap.memory.word(key), heap.memory.word(value)) else { continue };
        let Some(of) = heap.object(module, Reach::Far) else { continue };
        if of.kind != Kind::Module {
            continue;
        }
        let origin = origin(heap, &of, name, &mut file_key);
        found.push((origin, name, module));
    }
    found
}

fn origin(heap: &mut Heap, module: &Object, name: u64, file_key: &mut Option<u64>) -> Origin {
    if heap.string(name, 16).as_deref() == Some("__main__") {
        return Origin::Main;
    }
    let Some(names) = heap.namespace(module) else { return Origin::Standard };
    for at in 0..names.len().min(16) {
        let Some((key, value)) = names.entry(at) else { break };
        let Some(key) = heap.memory.word(key).filter(|key| *key != 0) else { continue };
        let is_file = match file_key {
            Some(known) => *known == key,
            None => heap.string(key, 16).as_deref() == Some("__file__"),
        };
        if !is_file {
            continue;
        }
        *file_key = Some(key);
        let path = heap.memory.word(value).and_then(|path| heap.string(path, 1000)).unwrap_or_default();
        return if path.contains("/site-packages/") || path.contains("/dist-packages/") {
            Origin::Site
        } else if path.is_empty() || path.contains("/lib/python3") {
            Origin::Standard
        } else {
            Origin::App
        };
    }
    Origin::Standard
}
