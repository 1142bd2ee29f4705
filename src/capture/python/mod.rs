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

mod heap;
mod layout;
mod locate;
mod memory;
mod paths;
mod stop;
#[cfg(test)]
mod tests;
mod types;
mod walk;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use self::heap::{Heap, Object};
use self::layout::Layout;
use self::locate::Python;
use self::memory::Reach;
use self::paths::Paths;
use self::stop::Stopped;
use self::types::{Kind, Types};
use self::walk::{Broken, Dice, Large, List, Tally, Unseen};
use super::census::{Census, Group, Holder, Refusal};
use crate::process::folder::Folder;
use crate::sys::process::ProcessId;

/// How far a census may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For how long the process may stand still.
    pub pause: Duration,
    /// How many types are told.
    pub groups: usize,
    /// How many containers are told.
    pub holders: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pause: Duration::from_millis(300), groups: 50, holders: 20 }
    }
}

/// Interpreters of one process that are looked at.
const MOST_INTERPRETERS: usize = 16;

/// How often a process is let go and stopped again because its collector is at work just then.
const TRIES: u32 = 5;

/// How many items of a container are looked at to tell what all take.
const ITEMS_LOOKED_AT: u64 = 48;

/// How much of the pause the walk may take, and until when the paths must be known; percent.
const WALK: u32 = 60;
const PATHS: u32 = 85;

/// Looks at a process and tells what its Python objects are, and who holds them.
///
/// It is stopped for no longer than `limits.pause`, and goes on afterwards in any case, unless it stood still before.
///
/// # Errors
/// [`Refusal::NotMine`] if it is no Python; [`Refusal::Cannot`] where its memory cannot be read, its version is not
/// known, or it ends meanwhile.
pub fn census(process: ProcessId, limits: &Limits) -> Result<Census, Refusal> {
    let folder = Folder::open(Path::new("/")).map_err(|error| Refusal::Cannot(format!("{error}; no census")))?;
    let (memory, python) = locate::find(&folder, process)?;
    let mut heap = Heap { memory, layout: python.layout, types: Types::default() };
    let gone = || Refusal::Cannot(format!("process {process} ended while it was looked at; no census"));
    let mut pause = Duration::ZERO;
    for attempt in 1..=TRIES {
        let stopped = Stopped::hold(&folder, process).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => gone(),
            _ => Refusal::Cannot(format!("cannot stop process {process}: {error}; no census")),
        })?;
        heap.memory.forget();
        let collecting = is_collecting(&mut heap, &python);
        if collecting && attempt < TRIES && !stopped.stood_before() {
            // The lists are being rearranged. Most collections are over in a moment.
            pause = pause.saturating_add(stopped.release());
            std::thread::sleep(Duration::from_millis(5).saturating_mul(1 << attempt));
            continue;
        }
        let allowed = limits.pause.saturating_sub(pause);
        let anonymous = locate::anonymous(&folder, process);
        let mut found = look(&mut heap, &python, limits, allowed, collecting, anonymous);
        let held = stopped.still_stands(&folder);
        found.pause = pause.saturating_add(stopped.release());
        if !held {
            if !locate::is_alive(&folder, process) {
                return Err(gone());
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
fn look(
    heap: &mut Heap,
    python: &Python,
    limits: &Limits,
    pause: Duration,
    collecting: bool,
    anonymous: Option<u64>,
) -> Census {
    let start = Instant::now();
    let moment = |percent: u32| {
        let part = pause.saturating_mul(percent).checked_div(100).unwrap_or_default();
        start.checked_add(part).unwrap_or(start)
    };
    let mut remarks = Vec::new();
    let mut tally = Tally::default();
    let interpreters = interpreters(heap, python);
    walk(heap, python, &interpreters, collecting, moment(WALK), &mut tally, &mut remarks);
    let mut paths = Paths::default();
    let mut whole = true;
    for interpreter in &interpreters {
        let mut visit = |heap: &mut Heap, of: &Object| {
            let body = heap.body(of, Reach::Far);
            tally.count(heap, of, &body);
        };
        whole &= paths.find(heap, python, *interpreter, moment(PATHS), &mut visit);
    }
    let share = share(&tally, anonymous, &mut remarks);
    if collecting {
        remarks.push("a garbage collection was under way: some objects may be missing".to_owned());
    }
    let holders = holders(heap, &tally, &paths, limits, moment(92));
    if !whole && holders.iter().any(|holder| holder.name.is_empty()) {
        remarks.push("there was no time to find the names of all containers".to_owned());
    }
    let looked_at = loose(heap, &tally, &paths, moment(99));
    let groups = groups(heap, limits, share, looked_at);
    remarks.push(
        "objects without references of their own (str, bytes, int, …) are estimated from a sample of the containers' items"
            .to_owned(),
    );
    Census {
        runtime: format!("CPython {}", python.version),
        heap: None,
        groups,
        holders,
        share,
        pause: Duration::ZERO,
        remarks,
    }
}

fn walk(
    heap: &mut Heap,
    python: &Python,
    interpreters: &[u64],
    collecting: bool,
    until: Instant,
    tally: &mut Tally,
    remarks: &mut Vec<String>,
) {
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
        let list = |head, expected: u64| List { head, expected: (expected < 1 << 32).then_some(expected), both_ways };
        lists.extend([list(middle, 0), list(permanent, 0), list(young, new), list(old, long_lived)]);
        if python.layout.one_collector {
            break;
        }
    }
    let mut left = u32::try_from(lists.len()).unwrap_or(u32::MAX);
    for list in lists {
        // What the short lists leave over is the long ones'.
        let now = Instant::now();
        let part = until.saturating_duration_since(now).checked_div(left).unwrap_or_default();
        left = left.saturating_sub(1);
        let before = tally.seen;
        let walked = walk::each(heap, list, now.checked_add(part).unwrap_or(until), &mut |heap, of| {
            let body = heap.body(of, Reach::Near);
            tally.seen = tally.seen.wrapping_add(1);
            tally.count(heap, of, &body);
        });
        let seen = tally.seen.wrapping_sub(before);
        match walked {
            Ok(()) => {}
            Err(Broken::Torn) => {
                remarks.push("a list of the collector's could not be followed to its end: objects are missing".to_owned());
            }
            Err(Broken::Late) => {
                let more = list.expected.and_then(|expected| expected.checked_sub(seen)).filter(|more| *more > 0);
                tally.unseen = match (tally.unseen, more) {
                    (Unseen::Nothing, Some(more)) => Unseen::Objects(more),
                    (Unseen::Objects(others), Some(more)) => Unseen::Objects(others.saturating_add(more)),
                    _ => Unseen::Something,
                };
            }
        }
    }
}

/// Which share of the objects was seen.
fn share(tally: &Tally, anonymous: Option<u64>, remarks: &mut Vec<String>) -> f64 {
    let seen = tally.seen as f64;
    let share = match tally.unseen {
        Unseen::Nothing => return 1.0,
        Unseen::Objects(more) => seen / (seen + more as f64),
        // By the memory of the process, all of which might be objects like those that were seen.
        Unseen::Something => {
            anonymous.filter(|all| *all > tally.bytes).map_or(1.0, |all| tally.bytes as f64 / all as f64)
        }
    };
    remarks.push(format!(
        "{} objects were looked at, about {:.0}% of all, the oldest and the newest: counts and bytes are extrapolated",
        tally.seen,
        share * 100.0
    ));
    share
}

/// The largest containers with their names.
fn holders(heap: &mut Heap, tally: &Tally, paths: &Paths, limits: &Limits, until: Instant) -> Vec<Holder> {
    let mut largest = tally.largest.clone();
    largest.sort_by_key(|large| std::cmp::Reverse((large.items, large.address)));
    largest.truncate(limits.holders);
    let mut dice = Dice::default();
    largest
        .into_iter()
        .map(|large| {
            let name = paths.name(heap, large.address).unwrap_or_default();
            let of_items = if Instant::now() < until { items_bytes(heap, &large, &mut dice) } else { 0 };
            let kind = match large.kind {
                Kind::List => "list",
                Kind::Tuple => "tuple",
                Kind::Dict => "dict",
                Kind::Set => "set",
                Kind::Deque => "deque",
                _ => "container",
            };
            let bytes = large.bytes.saturating_add(of_items);
            Holder { name, kind: kind.to_owned(), items: large.items, bytes }
        })
        .collect()
}

/// What a container's items take, by some of them.
fn items_bytes(heap: &mut Heap, large: &Large, dice: &mut Dice) -> u64 {
    let Some(of) = heap.object(large.address, Reach::Far) else { return 0 };
    let body = heap.body(&of, Reach::Far);
    let Some(run) = body.runs.iter().flatten().next() else { return 0 };
    let looks = ITEMS_LOOKED_AT.min(run.total);
    let mut sum = 0.0;
    for number in 0..looks {
        // One of each equal part.
        let part = run.total.checked_div(looks).unwrap_or(1).max(1);
        let at = number.saturating_mul(part).saturating_add(dice.below(part));
        let Some(item) = run.address(at).and_then(|place| heap.memory.word(place)) else { continue };
        let mut left = 24;
        sum += depth_bytes(heap, item, 3, &mut left);
    }
    if looks == 0 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bytes = (sum / looks as f64 * run.total as f64) as u64;
    bytes
}

/// What an object takes with what it refers to, as far as these belong to it: of what is shared, a share.
fn depth_bytes(heap: &mut Heap, address: u64, depth: u32, left: &mut u32) -> f64 {
    if depth == 0 || *left == 0 {
        return 0.0;
    }
    let Some(of) = heap.object(address, Reach::Far) else { return 0.0 };
    if matches!(of.kind, Kind::Type | Kind::Module | Kind::Function) {
        return 0.0;
    }
    let share = heap.share(&of);
    if share < 0.01 {
        return 0.0;
    }
    *left = left.saturating_sub(1);
    let body = heap.body(&of, Reach::Far);
    let mut sum = body.bytes as f64;
    for run in body.runs.iter().flatten() {
        let looks = run.count.min(8);
        let mut part = 0.0;
        for at in 0..looks {
            if let Some(item) = run.address(at).and_then(|place| heap.memory.word(place)) {
                part += depth_bytes(heap, item, depth.saturating_sub(1), left);
            }
        }
        if looks > 0 {
            sum += part / looks as f64 * run.total as f64;
        }
    }
    sum * share
}

/// Counts what is in no list, by the sample. Which share of it there was time for.
fn loose(heap: &mut Heap, tally: &Tally, paths: &Paths, until: Instant) -> f64 {
    let places = &tally.sample.places;
    let mut looked_at = 0usize;
    // In a mixed order, so that those there is no time for are not all of one kind; a prime is a step that misses none.
    let count = places.len();
    for number in 0..count {
        if number & 31 == 0 && Instant::now() >= until {
            break;
        }
        let at = number.wrapping_mul(7919).checked_rem(count).unwrap_or(0);
        looked_at = looked_at.saturating_add(1);
        let Some(address) = places.get(at).and_then(|place| heap.memory.word(*place)) else { continue };
        take(heap, paths, address & !1, tally.sample.weight(), 2);
    }
    if count == 0 { 1.0 } else { looked_at as f64 / count as f64 }
}

/// Counts one reference's share of an object that is in no list, and of what that refers to.
fn take(heap: &mut Heap, paths: &Paths, address: u64, weight: f64, depth: u32) {
    let Some(of) = heap.object(address, Reach::Far) else { return };
    // Types and modules are in lists, or not in the heap at all.
    if matches!(of.kind, Kind::Type | Kind::Module) || heap.is_tracked(&of) || paths.knows(address) {
        return;
    }
    let weight = weight * heap.share(&of);
    if weight <= 0.0 {
        return;
    }
    let body = heap.body(&of, Reach::Far);
    if let Some(found) = heap.types.get_mut(of.number) {
        found.loose += weight;
        found.loose_bytes += weight * body.bytes as f64;
    }
    if depth == 0 {
        return;
    }
    for run in body.runs.iter().flatten() {
        let looks = run.count.min(4);
        for at in 0..looks {
            if let Some(item) = run.address(at).and_then(|place| heap.memory.word(place)) {
                take(heap, paths, item, weight * run.total as f64 / looks as f64, depth.saturating_sub(1));
            }
        }
    }
}

/// The types that take most, by name.
fn groups(heap: &mut Heap, limits: &Limits, share: f64, looked_at: f64) -> Vec<Group> {
    let scale = |count: f64, of: f64| if of > 0.0 { count / of } else { count };
    let mut found: Vec<(u64, f64, f64)> = heap
        .types
        .all()
        .iter()
        .map(|found| {
            let instances = found.seen as f64 + scale(found.loose, looked_at);
            let bytes = found.bytes as f64 + scale(found.loose_bytes, looked_at);
            (found.address, scale(instances, share), scale(bytes, share))
        })
        .filter(|(_, instances, _)| *instances >= 0.5)
        .collect();
    found.sort_by(|(_, _, one), (_, _, other)| other.total_cmp(one));
    // Several types may have the same name, and so one of the later ones may belong to one of the first.
    found.truncate(limits.groups.saturating_mul(4));
    let mut by_name: HashMap<String, (f64, f64)> = HashMap::new();
    for (address, instances, bytes) in found {
        let name = heap.type_name(address).unwrap_or_else(|| "?".to_owned());
        let sum = by_name.entry(name).or_default();
        *sum = (sum.0 + instances, sum.1 + bytes);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let mut groups: Vec<Group> = by_name
        .into_iter()
        .map(|(name, (instances, bytes))| Group {
            name,
            instances: instances.round() as u64,
            bytes: bytes.round() as u64,
        })
        .collect();
    groups.sort_by(|one, other| (other.bytes, &one.name).cmp(&(one.bytes, &other.name)));
    groups.truncate(limits.groups);
    groups
}
