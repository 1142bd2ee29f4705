//! A census of a CPython process (3.8 to 3.14), read from outside through `/proc/PID/mem`.
//!
//! The process stands still meanwhile, for a few tenths of a second at the most, and is not changed in any other way. What
//! CPython's collector keeps in its lists (instances, containers, functions) is counted one by one. Strings, numbers
//! and the like are in no list: they are estimated from a sample of what the containers refer to.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

pub mod heap;
pub mod helper;
pub mod layout;
pub mod locate;
pub mod marshal;
pub mod memory;
mod paths;
mod remote;
mod stop;
#[cfg(test)]
mod tests;
pub mod types;
mod walk;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use self::heap::{Heap, Object, Run};
use self::layout::Layout;
use self::locate::{Found, Python};
use self::memory::Reach;
use self::paths::Paths;
pub use self::stop::OnHold;
use self::stop::Stopped;
use self::types::{ByAddress, Estimate, Kind, Types};
use self::walk::{Broken, Dice, Large, List, Tally};
use super::census::{Census, Group, Holder, Refusal};
use crate::process::folder::Folder;
use crate::process::list;
use crate::sys::process::ProcessId;

/// How far a census may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For how long the process may stand still.
    pub pause: Duration,
    /// How many types are told.
    pub groups: usize,
    /// How many containers are told.
    pub holders: usize,
    /// For how long it is waited for that it stands still: a thread in a system call that cannot be interrupted stops when
    /// that ends.
    pub patience: Duration,
    /// When the process that is meant has started; `None`: it is the one that has the number now.
    pub start: Option<u64>,
    /// Who sees to it that the process goes on.
    pub on_hold: OnHold,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(300),
            groups: 50,
            holders: 20,
            patience: Duration::from_millis(100),
            start: None,
            on_hold: |_| Ok(()),
        }
    }
}

/// Interpreters of one process that are looked at.
const MOST_INTERPRETERS: usize = 16;

/// How often a process is let go and stopped again because its collector is at work just then.
const TRIES: u32 = 5;

/// For how long it goes on at least, between two times that it was to be stopped and was not.
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// How many items of a container are looked at to tell what all take.
const ITEMS_LOOKED_AT: u64 = 48;

/// An object of this size is a large one; bytes.
const LARGE: u64 = 64 << 10;

/// A nameless container with fewer items is not worth another walk.
const WORTH_A_SEARCH: u64 = 1000;

/// And of a heavy one, of which there are few.
const HEAVY_ITEMS_LOOKED_AT: u64 = 200;

/// How many objects are looked at that may belong to another one, how many of those that one refers to, and how deep.
const BELONGINGS: u64 = 128;
const BRANCHES: u64 = 16;
const DEEPEST: usize = 24;

/// Of so many references, those are sorted out beforehand that lead to nothing that could belong to anybody.
const FEW: u64 = 24;

/// What belongs to somebody else for the most part is left out.
const LEAST_SHARE: f64 = 0.01;

/// A class with fewer instances is not looked into.
const FEWEST_INSTANCES: u64 = 100;

/// Until when of the pause the walk, the paths, the owners, the containers and the sample must be done; percent. The rest is for
/// stopping all threads, and for letting them go.
const WALK: u32 = 55;
const PATHS: u32 = 70;
const OWNERS: u32 = 80;
const HOLDERS: u32 = 86;
const SAMPLE: u32 = 94;
/// And when nothing is looked at any more, be it in the middle; but the names of the types, which are few, whose numbers would be
/// worth nothing without them.
const ALL: u32 = 100;
const TYPES: u32 = 130;

/// Looks at a process and tells what its Python objects are, and who holds them.
///
/// It is stopped for no longer than `limits.pause`, and goes on afterwards in any case, unless it stood still before.
///
/// # Errors
/// [`Refusal::NotMine`] if it is no Python; [`Refusal::Cannot`] where its memory cannot be read, its version is not
/// known, or it ends or becomes another program meanwhile.
pub fn census(process: ProcessId, limits: &Limits) -> Result<Census, Refusal> {
    let folder = Folder::open(Path::new("/")).map_err(|error| Refusal::Cannot(format!("{error}; no census")))?;
    // Before anything is opened: it is all the same process's then, or it is noticed below.
    let start = list::started(&folder, process).map_err(|_| Refusal::NotMine)?;
    let gone = || Refusal::Cannot(format!("process {process} ended while it was looked at; no census"));
    if limits.start.is_some_and(|meant| meant != start) {
        return Err(gone());
    }
    let Found { memory, python, others } = locate::find(&folder, process)?;
    let mut heap = Heap { memory, layout: python.layout, types: Types::default() };
    let lost = || {
        let same = list::started(&folder, process).is_ok_and(|now| now == start);
        if same && list::look_at(&folder, process.get()).is_some() {
            Refusal::Cannot(format!("process {process} became another program while it was looked at; no census"))
        } else {
            gone()
        }
    };
    let mut pause = Duration::ZERO;
    for attempt in 1..=TRIES {
        let stopped = match Stopped::hold(&folder, process, start, limits.patience, limits.on_hold) {
            Ok(stopped) => stopped,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => return Err(gone()),
            Err(error) => {
                // On a busy machine its threads may have come late. They have stood still for that long, too.
                pause = pause.saturating_add(limits.patience);
                if error.kind() == io::ErrorKind::TimedOut && attempt < TRIES && pause < limits.pause {
                    std::thread::sleep(BETWEEN_TRIES);
                    continue;
                }
                return Err(Refusal::Cannot(format!("cannot stop process {process}: {error}; no census")));
            }
        };
        heap.memory.forget();
        if !heap.memory.is_alive(python.runtime) {
            drop(stopped);
            return Err(lost());
        }
        let collecting = is_collecting(&mut heap, &python);
        if collecting && attempt < TRIES && !stopped.stood_before() {
            // The lists are being rearranged. Most collections are over in a moment.
            pause = pause.saturating_add(stopped.release());
            std::thread::sleep(Duration::from_millis(5).saturating_mul(1u32.wrapping_shl(attempt)));
            continue;
        }
        let anonymous = locate::anonymous(&folder, process);
        // It stands already.
        let allowed = limits.pause.saturating_sub(pause).saturating_sub(stopped.held());
        let mut found = look(&mut heap, &python, limits, allowed, collecting);
        explain(&mut found, anonymous);
        if !others.is_empty() {
            found.remarks.push(format!(
                "there is more than one Python in this process; what that of {} holds was not looked at",
                others.join(", ")
            ));
        }
        let held = stopped.still_stands(&folder);
        found.pause = pause.saturating_add(stopped.release());
        if !held {
            if !heap.memory.is_alive(python.runtime) {
                return Err(lost());
            }
            found.remarks.push("somebody else let the process go on while it was read: it may be inexact".to_owned());
        }
        return Ok(found);
    }
    Err(Refusal::Cannot(format!("process {process} does nothing but collect garbage; no census")))
}

fn is_collecting(heap: &mut Heap, python: &Python) -> bool {
    interpreters(heap, python).into_iter().any(|interpreter| {
        let collecting = collector(python, interpreter).wrapping_add(python.layout.collecting);
        heap.memory.word(collecting).is_some_and(|collecting| collecting & 0xFFFF_FFFF != 0)
    })
}

fn collector(python: &Python, interpreter: u64) -> u64 {
    let layout = &python.layout;
    if layout.one_collector { python.runtime } else { interpreter }.wrapping_add(layout.collector)
}

fn interpreters(heap: &mut Heap, python: &Python) -> Vec<u64> {
    let mut found = Vec::new();
    let mut at = heap.memory.word(python.runtime.wrapping_add(python.layout.interpreters)).unwrap_or(0);
    while at != 0 && found.len() < MOST_INTERPRETERS && !found.contains(&at) {
        found.push(at);
        at = heap.memory.word(at.wrapping_add(python.layout.next_interpreter)).unwrap_or(0);
    }
    found
}

/// Everything that is done while the process stands.
pub fn look(heap: &mut Heap, python: &Python, limits: &Limits, pause: Duration, collecting: bool) -> Census {
    let start = heap.memory.now();
    let moment = |percent: u32| {
        let part = pause.saturating_mul(percent).checked_div(100).unwrap_or_default();
        start.checked_add(part).unwrap_or(start)
    };
    heap.memory.read_until(Some(moment(ALL)));
    let mut remarks = Vec::new();
    let mut tally = Tally::default();
    let interpreters = interpreters(heap, python);
    let lists = lists(heap, python, &interpreters, collecting, &mut remarks);
    walk(heap, &lists, moment(WALK), &mut tally, &mut remarks);
    let mut paths = Paths::default();
    let mut whole = true;
    for interpreter in &interpreters {
        let mut visit = |heap: &mut Heap, of: &Object, is_namespace: bool| {
            let body = heap.body(of, Reach::Far);
            // A dict of strings, say, is in no list. One that is may not have been seen.
            if !heap.is_tracked(of) {
                tally.count(heap, of, &body);
            } else if tally.more {
                tally.count_missed(heap, of, &body);
            }
            if !is_namespace {
                tally.weigh(heap, of, &body, moment(PATHS));
            }
        };
        whole &= paths.find(heap, python, *interpreter, moment(PATHS), &mut visit);
    }
    if collecting {
        remarks.push("a garbage collection was under way: some objects may be missing".to_owned());
    }
    let owners = owners(heap, &lists, &tally, &paths, moment(OWNERS));
    let holders = holders(heap, &tally, &paths, &owners, limits, moment(HOLDERS));
    if !whole && holders.iter().any(|holder| holder.name.is_empty()) {
        remarks.push("there was no time to find the names of all containers".to_owned());
    }
    let loose = loose(heap, &tally, &paths, moment(SAMPLE));
    let share = share(&tally, &loose, &mut remarks);
    let heavy = heavy(heap, &tally, &paths, moment(SAMPLE));
    let classes = classes(heap, limits, share, moment(SAMPLE));
    heap.memory.read_until(Some(moment(TYPES)));
    let (groups, counted) = groups(heap, limits, share, &loose, &heavy);
    heap.memory.read_until(None);
    remarks.push(
        "objects without references of their own (str, bytes, int, …) are estimated from a sample of the containers' items"
            .to_owned(),
    );
    Census {
        runtime: format!("CPython {}", python.version),
        heap: Some(counted),
        groups,
        outside: Vec::new(),
        classes,
        holders,
        share,
        pause: Duration::ZERO,
        remarks,
        ..Census::default()
    }
}

/// The collector's lists, the shortest first.
fn lists(
    heap: &mut Heap,
    python: &Python,
    interpreters: &[u64],
    collecting: bool,
    remarks: &mut Vec<String>,
) -> Vec<List> {
    let mut lists = Vec::new();
    for interpreter in interpreters {
        let Some([young, middle, old, permanent]) =
            locate::generations(&mut heap.memory, &python.layout, python.runtime, *interpreter)
        else {
            remarks.push("the collector's lists of one interpreter were not found".to_owned());
            continue;
        };
        let collector = collector(python, *interpreter);
        let counted = collector.wrapping_add(python.layout.collecting).wrapping_add(Layout::LONG_LIVED);
        let [total, pending] = heap.memory.words::<2>(counted, Reach::Far).unwrap_or_default();
        let long_lived = if python.version.minor >= 14 { total } else { total.saturating_add(pending) };
        // How many were made since the last collection: all there are, for who has switched it off.
        let new = heap.memory.word(young.wrapping_add(16)).map(|limits| limits >> 32).unwrap_or_default();
        let both_ways = !collecting;
        let list = |head, expected: u64| List { head, expected, both_ways };
        lists.extend([list(permanent, 0), list(middle, 0), list(young, new), list(old, long_lived)]);
        if python.layout.one_collector {
            break;
        }
    }
    lists.sort_by_key(|list| list.expected);
    lists
}

/// Counts what is in the lists. What the short ones leave over of the time is the long ones'.
fn walk(heap: &mut Heap, lists: &[List], until: Instant, tally: &mut Tally, remarks: &mut Vec<String>) {
    let mut left = u32::try_from(lists.len()).unwrap_or(u32::MAX);
    for list in lists {
        let now = heap.memory.now();
        let part = until.saturating_duration_since(now).checked_div(left).unwrap_or_default();
        left = left.saturating_sub(1);
        let before = tally.seen;
        let walked = walk::each(heap, *list, now.checked_add(part).unwrap_or(until), &mut |heap, of| {
            let body = heap.body(of, Reach::Near);
            tally.count_listed(heap, of, &body);
        });
        match walked {
            Ok(()) => {}
            Err(Broken::Torn) => {
                remarks
                    .push("a list of the collector's could not be followed to its end: objects are missing".to_owned());
            }
            Err(Broken::Late) => {
                tally.more = true;
                let seen = tally.seen.wrapping_sub(before);
                tally.expected = tally.expected.saturating_add(list.expected.min(1 << 32).saturating_sub(seen));
            }
        }
    }
}

/// Which share of the listed objects was seen.
fn share(tally: &Tally, loose: &Loose, remarks: &mut Vec<String>) -> f64 {
    if !tally.more {
        return 1.0;
    }
    let [few, many] = loose.listed;
    let [few_seen, many_seen] = loose.listed_seen;
    let ([_, asked], [_, asked_seen]) = (loose.asked, loose.asked_seen);
    let share = if asked >= ENOUGH && asked_seen >= ENOUGH_SEEN {
        // Large containers lead to objects that were seen and to others, evenly.
        many_seen / many
    } else if tally.expected > 0 {
        tally.seen as f64 / (tally.seen as f64 + tally.expected as f64)
    } else if few + many > 0.0 {
        // What was seen leads to its neighbours, and those were mostly seen, too: there is more than this tells.
        (few_seen + many_seen) / (few + many)
    } else {
        1.0
    };
    let share = share.clamp(0.001, 1.0);
    remarks.push(format!(
        "{} objects were looked at in the time there was, about {:.0}% of all, the oldest and the newest: counts and bytes are extrapolated",
        tally.seen,
        share * 100.0
    ));
    share
}

/// The names of large containers that no short path leads to, by their addresses: the instances are looked through once
/// more, for which has one as an attribute.
fn owners(heap: &mut Heap, lists: &[List], tally: &Tally, paths: &Paths, until: Instant) -> ByAddress<String> {
    let mut found = ByAddress::default();
    let large = tally.largest.iter().filter(|large| large.items >= WORTH_A_SEARCH);
    let mut nameless: Vec<u64> = large.map(|large| large.address).filter(|address| !paths.knows(*address)).collect();
    nameless.sort_unstable();
    nameless.dedup();
    for list in lists.iter().rev() {
        if found.len() >= nameless.len() || heap.memory.now() >= until {
            break;
        }
        // Cut short, it has found what it could.
        let _ = walk::each(heap, *list, until, &mut |heap, of| paths::owned(heap, of, &nameless, &mut found));
    }
    found
}

/// The largest containers with their names.
fn holders(
    heap: &mut Heap,
    tally: &Tally,
    paths: &Paths,
    owners: &ByAddress<String>,
    limits: &Limits,
    until: Instant,
) -> Vec<Holder> {
    let by_items = |large: &Large| std::cmp::Reverse((large.items, large.address));
    let mut largest = tally.largest.clone();
    largest.sort_by_key(by_items);
    // Few items may take much: of those that are told, a third are the heaviest.
    let mut heaviest = tally.heaviest.clone();
    heaviest.sort_by_key(|large| std::cmp::Reverse((large.bytes, large.address)));
    heaviest.retain(|heavy| !largest.iter().take(limits.holders).any(|large| large.address == heavy.address));
    heaviest.truncate(limits.holders.checked_div(3).unwrap_or_default());
    for heavy in &mut heaviest {
        // What it takes with its items is told below.
        let of = heap.object(heavy.address, Reach::Far);
        heavy.bytes = of.map(|of| heap.body(&of, Reach::Far).bytes).unwrap_or_default();
    }
    largest.truncate(limits.holders.saturating_sub(heaviest.len()));
    largest.append(&mut heaviest);
    largest.sort_by_key(by_items);
    let mut dice = Dice::default();
    largest
        .into_iter()
        .map(|large| {
            let name = paths.name(heap, large.address).or_else(|| owners.get(&large.address).cloned());
            let name = name.unwrap_or_default();
            let is_weighed = heap.memory.now() < until && !paths.is_namespace(large.address);
            let of_items = if is_weighed { items_bytes(heap, &large, &mut dice) } else { 0 };
            let kind = match large.kind {
                Kind::List => "list",
                Kind::Tuple => "tuple",
                Kind::Dict => "dict",
                Kind::Set => "set",
                Kind::Deque => "deque",
                _ => "container",
            };
            let bytes = large.bytes.saturating_add(of_items);
            let address = format!("{:#x}", large.address);
            Holder { name, kind: kind.to_owned(), items: large.items, bytes, address }
        })
        .collect()
}

/// What a container's items take, by some of them.
fn items_bytes(heap: &mut Heap, large: &Large, dice: &mut Dice) -> u64 {
    let Some(of) = heap.object(large.address, Reach::Far) else { return 0 };
    let body = heap.body(&of, Reach::Far);
    let Some(run) = body.runs.iter().flatten().next() else { return 0 };
    let looks = ITEMS_LOOKED_AT.min(run.total);
    let (mut sum, mut looked_at) = (0.0, 0u64);
    for number in 0..looks {
        if heap.memory.is_late() {
            break;
        }
        looked_at = looked_at.saturating_add(1);
        let Some(item) = dice.item(run, number, looks).and_then(|place| heap.reference(run, place)) else { continue };
        sum += belongings(heap, item, None, BELONGINGS, dice);
    }
    if looked_at == 0 {
        return 0;
    }
    (sum / looked_at as f64 * run.held as f64) as u64
}

/// What an object takes with what it refers to, as far as these belong to it: of what is shared, a share.
///
/// With `own`, the object is one of this type, counted in full, and others of its type belong to themselves. About `effort`
/// objects are looked at: a few of those that each refers to, and each of these stands for those that were left out.
fn belongings(heap: &mut Heap, address: u64, own: Option<usize>, effort: u64, dice: &mut Dice) -> f64 {
    Belongings { heap, own, dice, above: Vec::with_capacity(DEEPEST), spent: 0 }.of(address, effort)
}

struct Belongings<'a> {
    heap: &'a mut Heap,
    own: Option<usize>,
    dice: &'a mut Dice,
    /// The way to what is looked at: rings are left at once.
    above: Vec<u64>,
    /// How many objects were looked at.
    spent: u64,
}

impl Belongings<'_> {
    fn of(&mut self, address: u64, effort: u64) -> f64 {
        if effort == 0 || self.above.len() >= DEEPEST || self.above.contains(&address) {
            return 0.0;
        }
        self.spent = self.spent.saturating_add(1);
        let Some(of) = self.heap.object(address, Reach::Far) else { return 0.0 };
        let is_first = self.above.is_empty();
        if matches!(of.kind, Kind::Type | Kind::Module) || (!is_first && self.own == Some(of.number)) {
            return 0.0;
        }
        let share = if is_first && self.own.is_some() { 1.0 } else { self.heap.share(&of) };
        if share < LEAST_SHARE {
            return 0.0;
        }
        let body = self.heap.body(&of, Reach::Far);
        let runs = if of.kind == Kind::Function { self.heap.bound(&of) } else { body.runs };
        let mut few = Vec::new();
        for run in runs.iter().flatten().filter(|run| run.total <= FEW) {
            few.extend((0..run.total).filter_map(|at| {
                let item = self.heap.memory.word(run.address(at)?)?;
                self.partly_owned(item)
            }));
        }
        let many = || runs.iter().flatten().filter(|run| run.total > FEW);
        let groups = (many().count() as u64).saturating_add(u64::from(!few.is_empty()));
        let effort = effort.saturating_sub(1).checked_div(groups).unwrap_or(0);
        // The rest of the effort is for what is below these.
        let looks = (effort >> 2).clamp(1, BRANCHES);
        self.above.push(address);
        let mut sum = body.bytes as f64;
        let count = few.len() as u64;
        let run = Run { base: 0, stride: 8, side: 1, count, total: count, held: count };
        sum += self.sample(&run, looks, effort, |_, at| few.get(usize::try_from(at >> 3).ok()?).copied());
        for run in many() {
            sum += self.sample(run, looks, effort, |this, place| {
                let item = this.heap.reference(run, place)?;
                this.partly_owned(item)
            });
        }
        self.above.pop();
        sum * share
    }

    /// What belongs to the references of a run, by so many of them.
    fn sample(&mut self, run: &Run, looks: u64, effort: u64, read: impl Fn(&mut Self, u64) -> Option<u64>) -> f64 {
        let looks = looks.min(run.total);
        let end = self.spent.saturating_add(effort);
        let mut sum = 0.0;
        for number in 0..looks {
            // What one leaves over is for those that follow.
            let left = end.saturating_sub(self.spent);
            let each = left.checked_div(looks.saturating_sub(number)).unwrap_or(0);
            if let Some(item) = self.dice.item(run, number, looks).and_then(|place| read(self, place)) {
                sum += self.of(item, each);
            }
        }
        if looks == 0 { 0.0 } else { sum / looks as f64 * run.held as f64 }
    }

    /// What this reference leads to, if some of it may belong to who refers to it.
    fn partly_owned(&mut self, reference: u64) -> Option<u64> {
        // The lowest bit of a frame's variable may tell how it is counted.
        let address = reference & !1;
        let of = self.heap.object(address, Reach::Far)?;
        (self.heap.share(&of) >= LEAST_SHARE).then_some(address)
    }
}

/// How many references of large containers must be looked at so that these tell the share.
const ENOUGH: u64 = 50;
/// And so many of them must have been seen: by one or none, a small share cannot be told from a tenth of it.
const ENOUGH_SEEN: u64 = 5;

/// What the samples have led to.
#[derive(Clone, Copy, Debug, Default)]
struct Loose {
    /// Which share of each there was time for: of what few and of what many refer to.
    looked_at: [f64; 2],
    /// How many references to objects of the lists were looked at that are asked about.
    asked: [u64; 2],
    /// And how many of these objects were seen on the walk.
    asked_seen: [u64; 2],
    /// How many objects of the lists each stands for, of those that are asked about.
    listed: [f64; 2],
    /// How many of these were seen on the walk.
    listed_seen: [f64; 2],
}

impl Loose {
    /// Takes what the sample of this number says of an object of the lists.
    fn meet(&mut self, which: usize, weight: f64, seen: bool) {
        if let Some(asked) = self.asked.get_mut(which) {
            *asked = asked.saturating_add(1);
        }
        if let Some(asked_seen) = self.asked_seen.get_mut(which).filter(|_| seen) {
            *asked_seen = asked_seen.saturating_add(1);
        }
        for (sum, weight) in [(&mut self.listed, weight), (&mut self.listed_seen, if seen { weight } else { 0.0 })] {
            if let Some(sum) = sum.get_mut(which) {
                *sum += weight;
            }
        }
    }
}

/// What is counted on the way.
struct Taking<'a> {
    loose: Loose,
    tally: &'a Tally,
    paths: &'a Paths,
    /// Which sample it is.
    which: usize,
}

/// Counts what is in no list, by the samples.
fn loose(heap: &mut Heap, tally: &Tally, paths: &Paths, until: Instant) -> Loose {
    let mut taking = Taking { loose: Loose::default(), tally, paths, which: 0 };
    let mut looked_at = [0usize; 2];
    let samples = [&tally.few, &tally.many];
    // Neighbours are read together. In rounds, so that those there is no time for are not all of one region.
    let places = samples.map(|sample| {
        let mut places = sample.places.clone();
        places.sort_unstable();
        places
    });
    'rounds: for round in 0..ROUNDS {
        for ((which, (places, sample)), looked_at) in places.iter().zip(samples).enumerate().zip(&mut looked_at) {
            taking.which = which;
            for place in places.iter().skip(round).step_by(ROUNDS) {
                if heap.memory.is_past(until, *looked_at & 31 == 0) {
                    break 'rounds;
                }
                *looked_at = looked_at.saturating_add(1);
                let Some(address) = heap.memory.word(*place) else { continue };
                take(heap, &mut taking, address & !1, sample.weight(), 2);
            }
        }
    }
    for ((share, looked_at), places) in taking.loose.looked_at.iter_mut().zip(looked_at).zip(&places) {
        *share = if places.is_empty() { 1.0 } else { looked_at as f64 / places.len() as f64 };
    }
    taking.loose
}

/// In how many rounds the sample is looked at.
const ROUNDS: usize = 4;

/// Counts one reference's share of an object that is in no list, and of what that refers to.
fn take(heap: &mut Heap, taking: &mut Taking<'_>, address: u64, weight: f64, depth: u32) {
    let Some(of) = heap.object(address, Reach::Far) else { return };
    // Types and modules are in lists, or not in the heap at all.
    if matches!(of.kind, Kind::Type | Kind::Module) {
        return;
    }
    let mut weight = weight * heap.share(&of);
    if weight <= 0.0 {
        return;
    }
    if heap.is_tracked(&of) {
        if let Some(seen) = taking.tally.which.has(address) {
            taking.loose.meet(taking.which, weight, seen);
        }
        return;
    }
    if taking.paths.knows(address) && matches!(of.kind, Kind::Dict | Kind::Tuple) {
        return;
    }
    let body = heap.body(&of, Reach::Far);
    // There are few large objects, and most of them are come by in other ways: one that a sample leads to by chance stands for
    // no others.
    if body.bytes >= LARGE || body.runs.iter().flatten().any(|run| run.total >= walk::MANY) {
        weight = weight.min(1.0);
    }
    if let Some(estimate) = heap.types.get_mut(of.number).and_then(|found| found.loose.get_mut(taking.which)) {
        estimate.add(weight, weight * body.bytes as f64);
    }
    if depth == 0 {
        return;
    }
    for run in body.runs.iter().flatten() {
        let looks = run.count.min(4);
        for at in 0..looks {
            if let Some(item) = run.address(at).and_then(|place| heap.memory.word(place)) {
                let weight = weight * run.total as f64 / looks as f64;
                take(heap, taking, item, weight, depth.saturating_sub(1));
            }
        }
    }
}

/// By the number of their type, the items of the heaviest containers that are in no list: where a few take much, an even
/// sample of all references has hardly come by them.
fn heavy(heap: &mut Heap, tally: &Tally, paths: &Paths, until: Instant) -> HashMap<usize, Estimate> {
    let mut found: HashMap<usize, Estimate> = HashMap::new();
    let mut dice = Dice::default();
    for large in &tally.heaviest {
        let Some(of) = heap.object(large.address, Reach::Far) else { continue };
        let body = heap.body(&of, Reach::Far);
        let Some(run) = body.runs.iter().flatten().next() else { continue };
        let looks = run.total.min(HEAVY_ITEMS_LOOKED_AT);
        for number in 0..looks {
            if heap.memory.now() >= until {
                return found;
            }
            let Some(item) = dice.item(run, number, looks).and_then(|place| heap.reference(run, place)) else {
                continue;
            };
            let Some(item) = heap.object(item, Reach::Far) else { continue };
            let weight = heap.share(&item) * run.held as f64 / looks as f64;
            if weight <= 0.0 || item.kind == Kind::Type || heap.is_tracked(&item) || paths.knows(item.address) {
                continue;
            }
            let bytes = heap.body(&item, Reach::Far).bytes;
            found.entry(item.number).or_default().add(weight, weight * bytes as f64);
        }
    }
    found
}

/// What belongs to the instances of a class, by some of them.
fn classes(heap: &mut Heap, limits: &Limits, share: f64, until: Instant) -> Vec<Group> {
    let mut found: Vec<(u64, usize)> = heap
        .types
        .all()
        .iter()
        .enumerate()
        .filter(|(_, found)| found.seen >= FEWEST_INSTANCES && !found.some.is_empty())
        .map(|(number, found)| (found.seen, number))
        .collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.truncate(limits.groups);
    let mut dice = Dice::default();
    let mut classes = Vec::new();
    for (seen, number) in found {
        if heap.memory.now() >= until {
            break;
        }
        let Some((address, some)) = heap.types.get(number).map(|found| (found.address, found.some.clone())) else {
            continue;
        };
        let of_each = some.iter().map(|instance| belongings(heap, *instance, Some(number), BELONGINGS, &mut dice));
        let sum: f64 = of_each.sum();
        let instances = seen as f64 / share;
        let bytes = sum / some.len().max(1) as f64 * instances;
        // What is in no module belongs to the language: methods, coroutines.
        if let Some(name) = heap.type_name(address).filter(|name| bytes >= 1.0 && name.contains('.')) {
            classes.push(Group { name, instances: instances.round() as u64, bytes: bytes.round() as u64 });
        }
    }
    classes.sort_by(|one, other| (other.bytes, &one.name).cmp(&(one.bytes, &other.name)));
    classes
}

/// The types that take most, by name, and what all take together; bytes.
fn groups(
    heap: &mut Heap,
    limits: &Limits,
    share: f64,
    loose: &Loose,
    heavy: &HashMap<usize, Estimate>,
) -> (Vec<Group>, u64) {
    let scale = |estimate: Estimate, of: f64| if of > 0.0 { estimate.over(of) } else { estimate };
    let [few_looked_at, many_looked_at] = loose.looked_at;
    let mut found: Vec<(u64, Estimate)> = heap
        .types
        .all()
        .iter()
        .enumerate()
        .map(|(number, found)| {
            let [few, many] = found.loose;
            let mut sum = scale(Estimate { objects: found.seen as f64, bytes: found.bytes as f64 }, share);
            let few = scale(scale(few, few_looked_at), share);
            let many = scale(many, many_looked_at);
            let mut loose = Estimate { objects: few.objects + many.objects, bytes: few.bytes + many.bytes };
            if let Some(heavy) = heavy.get(&number).filter(|heavy| heavy.bytes > loose.bytes) {
                loose = Estimate { objects: heavy.objects.max(loose.objects), bytes: heavy.bytes };
            }
            sum.add(loose.objects, loose.bytes);
            (found.address, sum)
        })
        .filter(|(_, sum)| sum.objects >= 0.5)
        .collect();
    let counted = found.iter().map(|(_, sum)| sum.bytes).sum::<f64>().round() as u64;
    found.sort_by(|(_, one), (_, other)| other.bytes.total_cmp(&one.bytes));
    // Several types may have the same name, and so one of the later ones may belong to one of the first.
    found.truncate(limits.groups.saturating_mul(4));
    let mut by_name: HashMap<String, Estimate> = HashMap::new();
    for (address, sum) in found {
        let name = heap.type_name(address).unwrap_or_else(|| "?".to_owned());
        if heap.memory.is_late() {
            break;
        }
        by_name.entry(name).or_default().add(sum.objects, sum.bytes);
    }
    let mut groups: Vec<Group> = by_name
        .into_iter()
        .map(|(name, sum)| Group { name, instances: sum.objects.round() as u64, bytes: sum.bytes.round() as u64 })
        .collect();
    groups.sort_by(|one, other| (other.bytes, &one.name).cmp(&(one.bytes, &other.name)));
    groups.truncate(limits.groups);
    (groups, counted)
}

/// Says so if most of the process's memory is something else than what was counted.
fn explain(census: &mut Census, anonymous: Option<u64>) {
    let counted: u64 = census.groups.iter().map(|group| group.bytes).fold(0, u64::saturating_add);
    if let Some(anonymous) = anonymous
        && counted < anonymous >> 1
    {
        let [counted, anonymous] = [counted, anonymous].map(|bytes| bytes >> 20);
        census.remarks.push(format!(
            "the objects that were counted take {counted} of {anonymous} MiB of anonymous memory: the rest is in buffers of libraries, \
             in objects that no known container refers to, or free inside the allocator"
        ));
    }
}
