//! From snapshots to an answer: what has grown, where it is, and who holds it.
//!
//! Every snapshot is taken apart into things that can grow (a process's private memory, a type's objects, a container, sockets
//! in a state, a file in memory). What is there in the newest one is compared with what was there in the oldest. A suspect's
//! weight is the part of the whole growth that it explains; what tells more (a container's name) goes before what tells less
//! (a type, a process).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::proc::Identity;
use super::proc::descriptors::DELETED_MEMORY;
use super::proc::memory::Kind;
use super::snapshot::{Composition, Look, Snapshot};

/// How many suspects are named.
const NAMED: usize = 10;

/// Of how many processes it is told what they held.
const PROCESSES: usize = 32;

/// What a thread takes at the least: the kernel's stack, and the pages of its own that it has touched. Bytes.
const PER_THREAD: u64 = 64 << 10;

/// What an open descriptor takes at the least, in the kernel and in the app. Bytes.
const PER_DESCRIPTOR: u64 = 4 << 10;

/// So many more of them, and half as many again as before, are no coincidence.
const MORE_THREADS: u64 = 20;
const MORE_DESCRIPTORS: u64 = 100;
const MORE_PROCESSES: u64 = 5;

/// So many more objects of a class, and so many others for each of them at the most, are a crowd that it may hold.
const LEAST_CROWD: u64 = 1000;
const MOST_OF_EACH: u64 = 1000;
/// What stands for the name of a container to which no way was found, or for which there was no time.
const NAMELESS: &str = "without a name";
/// What the name of a container begins with that was reached through a function that just ran.
const OF_A_FUNCTION: &str = "local variable ";
/// By how much more it tells that it is a container which may have been there before, untold: still more than what it is made of.
const DOUBTFUL: f64 = 1.2;
/// How many callers of a line are named.
const CALLERS: usize = 3;

/// Growth below this part of all is no suspect, and below this one no answer.
const NOTABLE: f64 = 0.05;
const CONCLUSIVE: f64 = 0.30;

/// Allocators, caches and collectors move an app that is steady by so much, and by this part of what it holds: less is never
/// called all of the growth. A JVM whose compiler was busy with a healthy app had 18 MiB more outside its heap.
const NOISE: u64 = 24 << 20;
const NOISE_PART: u64 = 10;

/// Which process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Its number.
    pub pid: i32,
    /// Its name for itself.
    pub comm: String,
}

/// One thing that has grown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// What it is: `__main__.data: list`, `Grow$CartItem`, `tcp close-wait`, `threads`.
    pub what: String,
    /// Where that is: `heap of CPython 3.11.2`, `anonymous memory`, `/dev/shm`.
    pub place: String,
    /// Whose it is, if it is one process's.
    pub process: Option<Who>,
    /// What it takes now; bytes.
    pub bytes: u64,
    /// By how much that has grown; bytes. `None` if there is nothing to compare with.
    pub growth: Option<i64>,
    /// With what these objects refer to, it may be up to so much more that they hold; bytes. Where a census tells only what
    /// objects take themselves.
    #[serde(default)]
    pub up_to: Option<u64>,
    /// How many there are now, where they can be counted.
    pub count: Option<u64>,
    /// How many more these are.
    pub count_growth: Option<i64>,
    /// Bytes a second.
    pub rate: Option<f64>,
    /// 1: it has grown from each snapshot to the next; 0: it is as often smaller. `None` with fewer than three.
    pub consistency: Option<f64>,
    /// The rung of the ladder that it was seen from: 0 the kernel's numbers, 1 a census, 2 a dump.
    pub rung: u8,
    /// Where more can be read; relative to the incident's folder.
    pub artifact: Option<String>,
    /// What it took at each of the looks; bytes. `None` where nobody could tell.
    #[serde(default)]
    pub sizes: Vec<Option<u64>>,
    /// How many there were at each of them. Empty where they cannot be counted.
    #[serde(default)]
    pub counts: Vec<Option<u64>>,
    /// The part of the growth that it explains, weighed by how much it tells. For the order alone.
    #[serde(skip)]
    pub(super) weight: f64,
    /// Whether it is a suspect for its number alone.
    #[serde(skip)]
    pub(super) is_surge: bool,
}

/// One of the looks that are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// At which stage; `normal`: the baseline. Empty on demand.
    pub stage: String,
    /// Milliseconds since 1970.
    pub taken_ms: u64,
}

/// What one process held at each of the looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its name for itself.
    pub comm: String,
    /// Bytes; `None` where it was not there, or could not be looked at.
    pub sizes: Vec<Option<u64>>,
}

/// What can be said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Where the memory is, in one sentence.
    pub place: String,
    /// How much more than in the first snapshot; bytes.
    pub growth: Option<i64>,
    /// The time between the first and the last.
    pub span: Duration,
    /// Who it may be, the most likely first.
    pub suspects: Vec<Suspect>,
    /// Whether the first of them explains enough to be called the answer.
    pub is_conclusive: bool,
    /// The looks that were compared, the first one first.
    #[serde(default)]
    pub looks: Vec<Taken>,
    /// The largest processes, the largest first.
    #[serde(default)]
    pub processes: Vec<Held>,
}

/// What is followed from one snapshot to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Private(Identity),
    Outside(Identity),
    Part(Identity, String),
    Type(Identity, String),
    Holder(Identity, String),
    Site(Identity, String),
    Threads(Identity),
    Descriptors(Identity, String),
    Program(String),
    /// All those that were too small to be looked at.
    Smaller,
    Shared(String),
    Segments,
    Mount(String),
    Kernel(&'static str),
}

/// How much of it, and how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Amount {
    bytes: u64,
    count: Option<u64>,
}

/// A snapshot, taken apart.
type Amounts = HashMap<Key, Amount>;

/// The names of containers whose places are known, by process, kind and place.
type Names<'a> = HashMap<(Identity, &'a str, &'a str), &'a str>;

/// One name for each container that is followed by its place: which way leads to it may be another one at each look, as other
/// functions run then. The newest of the best ones.
fn names<'a>(snapshots: &[&'a Snapshot]) -> Names<'a> {
    let rank = |name: &str| if name.is_empty() { 0 } else { 1 + u8::from(!name.starts_with(OF_A_FUNCTION)) };
    let mut names = Names::new();
    for look in snapshots.iter().flat_map(|snapshot| &snapshot.processes) {
        let holders = look.census.iter().flat_map(|census| &census.holders);
        for holder in holders.filter(|holder| !holder.address.is_empty()) {
            let best = names.entry((look.process.identity, &holder.kind, &holder.address)).or_insert("");
            if rank(&holder.name) >= rank(best) {
                *best = &holder.name;
            }
        }
    }
    names
}

fn take_apart(snapshot: &Snapshot, names: &Names<'_>) -> Amounts {
    let mut amounts = Amounts::new();
    // What lies on a tmpfs may be others' and charged to them: a machine's, or another container's.
    let shared = snapshot.composition.map_or(u64::MAX, |composition| composition.shmem);
    let mut add = |key, bytes: u64, count: Option<u64>| {
        let amount: &mut Amount = amounts.entry(key).or_default();
        amount.bytes = amount.bytes.saturating_add(bytes);
        amount.count = count.map(|count| amount.count.unwrap_or(0).saturating_add(count));
    };
    for look in &snapshot.processes {
        let id = look.process.identity;
        let private = private(look);
        add(Key::Private(id), private, None);
        add(Key::Program(look.process.comm.clone()), private, Some(1));
        add(Key::Threads(id), look.process.threads.saturating_mul(PER_THREAD), Some(look.process.threads));
        for (kind, count) in look.process.descriptors.iter().flat_map(|descriptors| &descriptors.kinds) {
            let memory = look.process.descriptors.as_ref().filter(|_| kind == DELETED_MEMORY);
            let bytes = memory.map_or(count.saturating_mul(PER_DESCRIPTOR), |descriptors| descriptors.deleted_memory);
            add(Key::Descriptors(id, kind.clone()), bytes, Some(*count));
        }
        for (name, bytes) in look.process.memory.iter().flat_map(|memory| &memory.names) {
            // Files of a mounted tmpfs are counted where they are, mapped or not.
            if !name.starts_with("/dev/shm/") && !name.starts_with("[anon:") {
                add(Key::Shared(name.clone()), shared.min(*bytes), None);
            }
        }
        let Some(census) = &look.census else { continue };
        if let Some(heap) = census.heap.filter(|_| census.outside.is_empty()) {
            add(Key::Outside(id), private.saturating_sub(heap), None);
        }
        for part in &census.outside {
            add(Key::Part(id, part.name.clone()), part.bytes, Some(part.instances).filter(|count| *count > 0));
        }
        // What belongs to a class's instances tells more than what they take themselves.
        let classes: HashSet<&str> = census.classes.iter().map(|class| &class.name[..]).collect();
        let others = census.groups.iter().filter(|group| !classes.contains(&group.name[..]));
        for group in census.classes.iter().chain(others) {
            add(Key::Type(id, group.name.clone()), group.bytes, Some(group.instances));
        }
        for holder in &census.holders {
            let known = names.get(&(id, &holder.kind[..], &holder.address[..]));
            let name = known.copied().unwrap_or(&holder.name);
            let name = if name.is_empty() { NAMELESS } else { name };
            add(Key::Holder(id, format!("{name}: {}", holder.kind)), holder.bytes, Some(holder.items));
        }
        for site in &census.sites {
            let mut name = site.line.clone();
            for caller in site.callers.iter().take(CALLERS) {
                name.push_str(" from ");
                name.push_str(caller);
            }
            add(Key::Site(id, name), site.bytes, Some(site.blocks));
        }
    }
    for program in &snapshot.smaller {
        add(Key::Program(program.comm.clone()), program.bytes, Some(program.count));
        add(Key::Smaller, program.bytes, Some(program.count));
    }
    for mount in &snapshot.mounts {
        add(Key::Mount(mount.path.clone()), shared.min(mount.used), Some(mount.files));
    }
    add(Key::Segments, shared.min(snapshot.segments.bytes), Some(snapshot.segments.count));
    if let Some(composition) = &snapshot.composition {
        for (name, bytes) in kernel(composition) {
            add(Key::Kernel(name), bytes, None);
        }
    }
    amounts
}

/// What the kernel holds on behalf of the group.
const fn kernel(composition: &Composition) -> [(&'static str, u64); 4] {
    [
        ("socket buffers", composition.sock),
        ("page tables", composition.pagetables),
        ("kernel stacks", composition.kernel_stack),
        ("unreclaimable kernel objects", composition.slab_unreclaimable),
    ]
}

/// What nobody else holds, without what memini's own recording takes there: that is outside the heap, and known at its height only.
fn private(look: &Look) -> u64 {
    let kinds = look.process.memory.iter().flat_map(|memory| &memory.kinds);
    let private =
        kinds.filter(|(kind, _)| **kind != Kind::Shared).fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes));
    let Some(census) = look.census.as_ref().filter(|census| census.recording > 0) else { return private };
    let heap = census.heap.unwrap_or(0).min(private);
    heap.saturating_add(private.saturating_sub(heap).saturating_sub(census.recording))
}

/// Compares the newest with the oldest; `snapshots` are in their order. With one there is no growth, only size.
pub fn find(snapshots: &[&Snapshot]) -> Findings {
    let Some((newest, earlier)) = snapshots.split_last() else { return Findings::default() };
    let names = names(snapshots);
    let series: Vec<Amounts> = snapshots.iter().map(|snapshot| take_apart(snapshot, &names)).collect();
    let oldest = earlier.first();
    let milliseconds = oldest.map_or(0, |oldest| newest.taken_ms.saturating_sub(oldest.taken_ms));
    let span = Duration::from_millis(milliseconds);
    let (compares, crowds) = (oldest.is_some(), HashMap::new());
    let times: Vec<u64> = earlier.iter().map(|snapshot| snapshot.taken_ms).collect();
    let first = oldest.copied();
    let mut case = Case { newest, first, all: snapshots, series: &series, times: &times, compares, span, crowds };
    case.crowds = case.crowds();
    case.findings()
}

/// What a class of the app's own may hold: it has grown by this share of those that have grown most in number, and all of them by
/// so many bytes.
struct Crowd {
    share: f64,
    bytes: u64,
}

impl Crowd {
    fn weight(&self, whole: u64) -> f64 {
        (0.75 + 0.1 * self.share) * (self.bytes as f64 / whole.max(1) as f64).min(1.0)
    }
}

/// A container that may have been there before, and was not told.
struct Untold {
    /// How many of its items are new for sure; `None`: perhaps not one.
    more: Option<u64>,
}

struct Case<'a> {
    newest: &'a Snapshot,
    /// The oldest, if there are two.
    first: Option<&'a Snapshot>,
    all: &'a [&'a Snapshot],
    series: &'a [Amounts],
    /// When the earlier ones were taken; milliseconds.
    times: &'a [u64],
    compares: bool,
    span: Duration,
    /// Of processes whose census tells only what objects take themselves: by how many the fastest of the types have grown that
    /// everything is made of, and by how many bytes all types together.
    crowds: HashMap<Identity, (u64, u64)>,
}

/// The part of the whole that is compared: growth where there is any, else size.
fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn difference(now: u64, then: u64) -> i64 {
    i64::try_from(i128::from(now).saturating_sub(i128::from(then))).unwrap_or(i64::MAX)
}

/// The same part of a number that these are of all.
fn part_of(number: i64, these: u64, all: u64) -> i64 {
    let part = i128::from(number).saturating_mul(i128::from(these)).checked_div(i128::from(all));
    part.and_then(|part| i64::try_from(part).ok()).unwrap_or(number)
}

impl Case<'_> {
    fn findings(&self) -> Findings {
        let is_much = self.whole() >= self.noise();
        let whole = self.whole().max(self.noise());
        let mut suspects: Vec<Suspect> = self
            .newest_amounts()
            .filter_map(|(key, amount)| self.suspect(key, amount, whole))
            .filter(|suspect| suspect.weight >= NOTABLE)
            .collect();
        suspects.sort_by(|one, other| {
            other.weight.total_cmp(&one.weight).then_with(|| (&one.place, &one.what).cmp(&(&other.place, &other.what)))
        });
        suspects.truncate(NAMED);
        Findings {
            place: self.place(self.whole()),
            growth: self.compares.then(|| self.whole_growth()),
            span: self.span,
            is_conclusive: self.compares
                && suspects.first().is_some_and(|first| first.weight >= CONCLUSIVE && (first.is_surge || is_much)),
            suspects,
            looks: self.all.iter().map(|look| Taken { stage: look.stage.clone(), taken_ms: look.taken_ms }).collect(),
            processes: self.newest.processes.iter().take(PROCESSES).map(|look| self.held(look)).collect(),
        }
    }

    fn held(&self, look: &Look) -> Held {
        let then = |snapshot: &&Snapshot| {
            let process = &snapshot.find(look.process.identity)?.process;
            process.memory.as_ref().map(|_| process.held())
        };
        Held {
            pid: look.process.identity.pid,
            parent: look.process.parent,
            comm: look.process.comm.clone(),
            sizes: self.all.iter().map(then).collect(),
        }
    }

    /// What there was of it at each of the looks; `None` where nobody could tell.
    fn history(&self, key: &Key) -> Vec<Option<Amount>> {
        let told = |(amounts, snapshot): (&Amounts, &&Snapshot)| {
            let is_known = match key {
                Key::Outside(id) | Key::Part(id, _) | Key::Type(id, _) | Key::Holder(id, _) => {
                    snapshot.find(*id).is_none_or(|look| look.census.is_some())
                }
                Key::Site(id, _) => snapshot
                    .find(*id)
                    .and_then(|look| look.census.as_ref())
                    .is_some_and(|census| census.recorded.is_some()),
                _ => true,
            };
            is_known.then(|| amounts.get(key).cloned().unwrap_or_default())
        };
        self.series.iter().zip(self.all).map(told).collect()
    }

    fn crowds(&self) -> HashMap<Identity, (u64, u64)> {
        let mut crowds: HashMap<Identity, (u64, u64)> = HashMap::new();
        for (key, amount) in self.newest_amounts().filter(|_| self.compares) {
            let Key::Type(id, name) = key else { continue };
            let look = self.newest.find(*id).and_then(|look| look.census.as_ref());
            if self.is_unknown(*id)
                || look.is_none_or(|census| !census.classes.is_empty() || !census.holders.is_empty())
            {
                continue;
            }
            let more = amount.count.unwrap_or(0).saturating_sub(self.oldest(key).count.unwrap_or(0));
            let (most, bytes) = crowds.entry(*id).or_default();
            *most = if is_common(name) { more.max(*most) } else { *most };
            *bytes = bytes.saturating_add(positive(self.growth(key)));
        }
        crowds
    }

    /// A class of the app's own that has grown along with what everything is made of, and by enough to hold it: what its objects
    /// refer to is counted elsewhere.
    fn crowd(&self, key: &Key, more: u64) -> Option<Crowd> {
        let Key::Type(id, name) = key else { return None };
        let (most, bytes) = self.crowds.get(id).filter(|_| is_own(name))?;
        let leads = more >= LEAST_CROWD && more.saturating_mul(MOST_OF_EACH) >= *most;
        // Of several the one that has gained most in numbers.
        let share = more as f64 / more.max(*most).max(1) as f64;
        leads.then_some(Crowd { share, bytes: *bytes })
    }

    fn newest_amounts(&self) -> impl Iterator<Item = (&Key, &Amount)> {
        self.series.last().into_iter().flatten()
    }

    fn oldest(&self, key: &Key) -> Amount {
        let oldest = self.series.first().filter(|_| self.compares);
        oldest.and_then(|oldest| oldest.get(key)).cloned().unwrap_or_default()
    }

    /// By how much it has grown; all of it where there is nothing to compare with.
    fn growth(&self, key: &Key) -> i64 {
        let now = self.series.last().and_then(|amounts| amounts.get(key)).map_or(0, |amount| amount.bytes);
        difference(now, self.oldest(key).bytes)
    }

    /// Places that do not overlap: together they are all that the group holds.
    fn places(&self) -> Vec<(String, i64)> {
        let mut places: HashMap<String, i64> = HashMap::new();
        for (key, _) in self.newest_amounts() {
            let name = match key {
                Key::Private(id) => format!("private memory of {}", self.name(*id)),
                Key::Smaller => "private memory of smaller processes".to_owned(),
                Key::Shared(_) | Key::Segments => "shared memory".to_owned(),
                Key::Mount(path) => format!("files in memory ({path})"),
                Key::Kernel(name) => format!("the kernel's {name}"),
                _ => continue,
            };
            let sum = places.entry(name).or_default();
            *sum = sum.saturating_add(self.growth(key));
        }
        let mut places: Vec<(String, i64)> = places.into_iter().collect();
        places.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        places
    }

    fn whole_growth(&self) -> i64 {
        self.places().iter().fold(0, |sum: i64, (_, growth)| sum.saturating_add(*growth))
    }

    /// What all parts are compared with: what has grown, without what others have let go meanwhile.
    fn whole(&self) -> u64 {
        self.places().iter().fold(0, |sum: u64, (_, growth)| sum.saturating_add(positive(*growth)))
    }

    /// What a steady app may grow by.
    fn noise(&self) -> u64 {
        let held = self.newest.processes.iter().fold(0, |sum: u64, look| sum.saturating_add(look.process.held()));
        (held / NOISE_PART).max(NOISE)
    }

    /// Whether a process was there before, but nobody has looked into it.
    fn is_unknown(&self, id: Identity) -> bool {
        self.first.and_then(|first| first.find(id)).is_some_and(|look| look.census.is_none())
    }

    /// Whether this is a container of a process that was looked into before, and not told then. It may have had too few items.
    fn untold(&self, key: &Key, count: Option<u64>) -> Option<Untold> {
        let Key::Holder(id, _) = key else { return None };
        let census = self.first.and_then(|first| first.find(*id))?.census.as_ref()?;
        if self.series.first().is_some_and(|oldest| oldest.contains_key(key)) {
            return None;
        }
        // Two thirds or more of those that are told are the ones with the most items, in their order: who was not told had no more
        // than these. The others are told for what they take.
        let told = census.holders.len();
        let last = told.saturating_sub(told / 3).saturating_sub(1);
        let most = census.holders.get(last).map_or(0, |holder| holder.items);
        let more = count.map(|count| count.saturating_sub(most)).filter(|more| *more > 0 && census.share >= 1.0);
        Some(Untold { more })
    }

    /// For how long it has been recorded which lines of this process allocate.
    fn recorded(&self, id: Identity) -> Option<Duration> {
        self.newest.find(id)?.census.as_ref()?.recorded
    }

    /// What has grown for so long, as far as there is a snapshot of that time.
    fn whole_since(&self, recorded: Duration) -> u64 {
        let recorded = u64::try_from(recorded.as_millis()).unwrap_or(u64::MAX);
        let began = self.newest.taken_ms.saturating_sub(recorded);
        let before = self.times.iter().rposition(|taken| *taken <= began).unwrap_or(0);
        let then = self.series.get(before).filter(|_| self.compares);
        self.newest_amounts().filter(|(key, _)| is_place(key)).fold(0, |sum: u64, (key, amount)| {
            let before = then.and_then(|then| then.get(key)).map_or(0, |amount| amount.bytes);
            sum.saturating_add(amount.bytes.saturating_sub(before))
        })
    }

    fn name(&self, id: Identity) -> String {
        let comm = self.newest.find(id).map_or("?", |look| look.process.comm.as_str());
        format!("{comm} (pid {})", id.pid)
    }

    fn place(&self, whole: u64) -> String {
        let parts: Vec<String> = self
            .places()
            .into_iter()
            .filter(|(_, growth)| positive(*growth) as f64 >= NOTABLE * whole as f64 && *growth > 0)
            .take(3)
            .map(|(name, growth)| format!("{:.0}% {name}", 100.0 * positive(growth) as f64 / whole.max(1) as f64))
            .collect();
        if parts.is_empty() { "nothing has grown".to_owned() } else { parts.join(", ") }
    }

    fn suspect(&self, key: &Key, amount: &Amount, whole: u64) -> Option<Suspect> {
        let then = self.oldest(key);
        let mut growth = difference(amount.bytes, then.bytes);
        let mut more = amount.count.map(|count| difference(count, then.count.unwrap_or(0)));
        let untold = self.untold(key, amount.count);
        if let Some(Untold { more: new }) = untold {
            let count = amount.count.unwrap_or(0);
            // Where most of the items are new, and nobody knows which of them take much, all counts; what the process has grown by
            // bounds it below.
            let is_most = new.is_some_and(|new| new > count / 2);
            growth = new.filter(|_| !is_most).map_or(growth, |new| part_of(growth, new, count));
            more = new.map(|new| difference(new, 0));
        }
        match key {
            // What there was of it is not known: no more of it can be new than the process has grown by.
            Key::Type(id, _) | Key::Holder(id, _) if self.is_unknown(*id) => {
                growth = growth.min(self.growth(&Key::Private(*id)));
                more = None;
            }
            // It may have had a name when it was looked at before, or have had too few items to be told.
            Key::Holder(id, name) if is_nameless(name) || untold.is_some() => {
                growth = growth.min(self.growth(&Key::Private(*id)));
            }
            Key::Outside(id) if self.is_unknown(*id) => return None,
            _ => {}
        }
        let recorded = if let Key::Site(id, _) = key { self.recorded(*id) } else { None };
        // What a line has allocated is known since then only, and explains what has grown since then.
        let whole = recorded.map_or(whole, |recorded| self.whole_since(recorded)).max(1);
        // An estimate may be too high, but nothing is more than all.
        let part = (positive(growth) as f64 / whole as f64).min(1.0);
        let (identity, what, place, rung) = self.description(key)?;
        let weight = self.weight(key, part, positive(more.unwrap_or(0)), then.count.unwrap_or(0))?;
        let is_doubtful = untold.is_some_and(|untold| untold.more.is_none());
        let weight = if is_doubtful { weight.min(part * DOUBTFUL) } else { weight };
        let crowd = self.crowd(key, positive(more.unwrap_or(0)));
        let crowd_weight = crowd.as_ref().map_or(0.0, |crowd| crowd.weight(whole));
        let is_surge = matches!(key, Key::Threads(_) | Key::Descriptors(..) | Key::Program(_));
        if part < NOTABLE && crowd_weight < NOTABLE && !is_surge {
            return None;
        }
        let seconds = recorded.unwrap_or(self.span).as_secs_f64();
        let history = self.history(key);
        let counted = if amount.count.is_some() { &history[..] } else { &[] };
        Some(Suspect {
            what,
            place,
            process: identity.map(|id| Who {
                pid: id.pid,
                comm: self.newest.find(id).map(|look| look.process.comm.clone()).unwrap_or_default(),
            }),
            bytes: amount.bytes,
            growth: self.compares.then_some(growth),
            up_to: crowd.map(|crowd| crowd.bytes),
            count: amount.count,
            count_growth: more.filter(|_| self.compares),
            rate: (self.compares && seconds > 0.0).then(|| growth as f64 / seconds),
            consistency: self.consistency(key),
            rung,
            artifact: None,
            sizes: history.iter().map(|amount| Some(amount.as_ref()?.bytes)).collect(),
            // What was not there was there no times.
            counts: counted.iter().map(|amount| Some(amount.as_ref()?.count.unwrap_or(0))).collect(),
            weight: weight.max(crowd_weight),
            is_surge,
        })
    }

    /// Whose it is, what, where, and from which rung it was seen.
    fn description(&self, key: &Key) -> Option<(Option<Identity>, String, String, u8)> {
        let runtime = |id: &Identity| {
            let census = self.newest.find(*id).and_then(|look| look.census.as_ref());
            census.map_or_else(|| "the runtime".to_owned(), |census| census.runtime.clone())
        };
        Some(match key {
            Key::Smaller => return None,
            Key::Private(id) => (Some(*id), self.largest_kind(*id), "private memory".into(), 0),
            Key::Outside(id) => {
                (Some(*id), format!("memory outside the heap of {}", runtime(id)), "private memory".into(), 1)
            }
            Key::Part(id, name) => (Some(*id), name.clone(), format!("outside the heap of {}", runtime(id)), 1),
            Key::Type(id, name) => (Some(*id), name.clone(), format!("heap of {}", runtime(id)), 1),
            Key::Holder(id, name) => (Some(*id), name.clone(), format!("heap of {}", runtime(id)), 1),
            Key::Site(id, name) => (Some(*id), name.clone(), format!("allocations of {}", runtime(id)), 1),
            Key::Threads(id) => (Some(*id), "threads".into(), "stacks".into(), 0),
            Key::Descriptors(id, kind) => (Some(*id), kind.clone(), "descriptors".into(), 0),
            Key::Program(comm) => (None, format!("processes of {comm}"), "process tree".into(), 0),
            Key::Shared(name) => (None, name.clone(), "shared memory".into(), 0),
            Key::Segments => (None, "System V segments that nobody has attached".into(), "shared memory".into(), 0),
            Key::Mount(path) => {
                let mount = self.newest.mounts.iter().find(|mount| mount.path == *path)?;
                let what = match mount.largest.first() {
                    Some((name, bytes)) if *bytes >= mount.used / 2 => format!("{}/{name}", path.trim_end_matches('/')),
                    _ => format!("files in {path}"),
                };
                (None, what, path.clone(), 0)
            }
            Key::Kernel(name) => (None, (*name).to_owned(), "the kernel".into(), 0),
        })
    }

    /// What kind of mapping holds most of a process's private memory.
    fn largest_kind(&self, id: Identity) -> String {
        let memory = self.newest.find(id).and_then(|look| look.process.memory.as_ref());
        let kinds = memory.into_iter().flat_map(|memory| &memory.kinds).filter(|(kind, _)| **kind != Kind::Shared);
        match kinds.max_by_key(|(_, bytes)| **bytes).map(|(kind, _)| *kind) {
            Some(Kind::Heap) => "malloc's heap",
            Some(Kind::Stack) => "the main stack",
            Some(Kind::File) => "private copies of files",
            Some(Kind::Anonymous | Kind::Shared) | None => "anonymous memory",
        }
        .to_owned()
    }

    /// The part that it explains, more for what tells more. `None`: it is no suspect.
    fn weight(&self, key: &Key, part: f64, more: u64, before: u64) -> Option<f64> {
        let is_surge = |least: u64| self.compares && more >= least && more >= before / 2;
        let share_of_many = |many: f64| more as f64 / (more as f64 + many);
        Some(match key {
            // A line of a library's leads to nobody who has asked it for memory.
            Key::Site(_, name) if is_library(name) => part,
            // Where it is written what allocates tells most of all.
            Key::Site(..) => part * 1.6,
            // That it is a container tells more than what it is made of.
            Key::Holder(_, name) if is_nameless(name) => part,
            // Its name leads to the line of code. What it holds is an estimate, and may be too low.
            Key::Holder(..) => part * 1.5,
            // A class of the app's own tells more than what all classes are made of.
            Key::Type(_, name) if is_common(name) => part * 0.7,
            Key::Type(..) => part * 1.1,
            // What recording takes is there, too, is known only roughly, and keeps the allocator from giving back what lies below
            // it: it says where, and is not called the cause.
            Key::Outside(id) if self.recorded(*id).is_some() => part * 0.95 * CONCLUSIVE,
            Key::Private(id) if self.recorded(*id).is_some() => part * 0.2,
            // Nor is all of it outside where there was no time for all that is inside.
            Key::Outside(id) if !self.is_whole(*id) => part * 0.5,
            // It says where, and not who.
            Key::Outside(..) | Key::Part(..) => part * 0.9,
            // Only where nothing better is known of it.
            Key::Private(id) if self.has_census(*id) => part * 0.3,
            Key::Private(_) => part * 0.9,
            // Stacks and what threads have there are in the process's private memory: many more of them explain it.
            Key::Threads(_) if is_surge(MORE_THREADS) => part.max(share_of_many(30.0)),
            // It tells whose the files are that a mount's do not show.
            Key::Descriptors(_, kind) if kind == DELETED_MEMORY => part * 1.1,
            Key::Descriptors(..) if is_surge(MORE_DESCRIPTORS) => part.max(0.9 * share_of_many(300.0)),
            Key::Program(_) if is_surge(MORE_PROCESSES) => part * 1.3,
            Key::Threads(_) | Key::Descriptors(..) | Key::Program(_) | Key::Smaller => return None,
            Key::Shared(_) | Key::Segments | Key::Mount(_) => part,
            // What is in the kernel, somebody has opened or started.
            Key::Kernel(_) => part * 0.6,
        })
    }

    /// Whether all objects of a process were looked at.
    fn is_whole(&self, id: Identity) -> bool {
        let census = self.newest.find(id).and_then(|look| look.census.as_ref());
        census.is_none_or(|census| census.share >= 1.0)
    }

    fn has_census(&self, id: Identity) -> bool {
        self.newest.find(id).is_some_and(|look| look.census.is_some())
    }

    fn consistency(&self, key: &Key) -> Option<f64> {
        let bytes: Vec<u64> =
            self.series.iter().map(|amounts| amounts.get(key).map_or(0, |amount| amount.bytes)).collect();
        if bytes.len() < 3 {
            return None;
        }
        let steps: Vec<i64> = bytes
            .windows(2)
            .map(|pair| match pair {
                [then, now] => difference(*now, *then),
                _ => 0,
            })
            .collect();
        let up: i64 = steps.iter().filter(|step| **step > 0).sum();
        let all: i64 = steps.iter().map(|step| step.saturating_abs()).sum();
        Some(if all == 0 { 0.0 } else { up as f64 / all as f64 })
    }
}

/// Places do not overlap: together they are all that the group holds.
const fn is_place(key: &Key) -> bool {
    matches!(key, Key::Private(_) | Key::Smaller | Key::Shared(_) | Key::Mount(_) | Key::Kernel(_))
}

/// Whether lines, each `FILE:LINE`, are none of the app's own: Python's own library, or an installed one.
fn is_library(lines: &str) -> bool {
    lines.split(" from ").all(|line| {
        line.contains("/site-packages/")
            || line.contains("/dist-packages/")
            || line.contains("/lib/python3")
            || line.starts_with("<frozen ")
    })
}

/// Whether this is no container's name.
fn is_nameless(name: &str) -> bool {
    name.strip_prefix(NAMELESS).is_some_and(|rest| rest.starts_with(": "))
}

/// Types that everything is made of.
fn is_common(name: &str) -> bool {
    const COMMON: [&str; 20] = [
        "str",
        "bytes",
        "bytearray",
        "int",
        "float",
        "list",
        "dict",
        "tuple",
        "set",
        "function",
        "cell",
        "type",
        "java.lang.String",
        "java.lang.Object",
        "java.lang.Integer",
        "java.lang.Long",
        "java.util.HashMap$Node",
        "java.util.ArrayList",
        "java.util.HashMap",
        "java.util.concurrent.ConcurrentHashMap$Node",
    ];
    name.ends_with("[]") || COMMON.contains(&name)
}

/// A class that somebody has written who is asked about it: none of the runtime's.
fn is_own(name: &str) -> bool {
    const RUNTIMES: [&str; 5] = ["java.", "javax.", "jdk.", "sun.", "com.sun."];
    !is_common(name) && !RUNTIMES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::census::{Census, Group, Holder, Site};
    use crate::capture::proc::Process;
    use crate::capture::proc::descriptors::Descriptors;
    use crate::capture::proc::memory::Memory;
    use crate::capture::proc::tmpfs::Mount;
    use crate::capture::snapshot::Smaller;

    const MIB: u64 = 1 << 20;

    fn look(pid: i32, comm: &str, private: u64) -> Look {
        let memory = Memory { kinds: [(Kind::Anonymous, private * MIB)].into(), ..Memory::default() };
        let process = Process {
            identity: Identity { pid, start: 7 },
            comm: comm.into(),
            threads: 4,
            memory: Some(memory),
            descriptors: Some(Descriptors::default()),
            ..Process::default()
        };
        Look { process, ..Look::default() }
    }

    fn census(groups: &[(&str, u64, u64)], holders: &[(&str, u64, u64)], heap: Option<u64>) -> Option<Census> {
        let groups = groups.iter().map(|(name, instances, bytes)| Group {
            name: (*name).into(),
            instances: *instances,
            bytes: bytes * MIB,
        });
        let holders = holders.iter().map(|(name, items, bytes)| Holder {
            name: (*name).into(),
            kind: "list".into(),
            items: *items,
            bytes: bytes * MIB,
            address: String::new(),
        });
        let (groups, holders) = (groups.collect(), holders.collect());
        Some(Census {
            runtime: "CPython 3.11".into(),
            heap: heap.map(|heap| heap * MIB),
            groups,
            holders,
            ..Census::default()
        })
    }

    fn snapshot(seconds: u64, processes: Vec<Look>) -> Snapshot {
        Snapshot { taken_ms: seconds * 1000, process_count: processes.len() as u64, processes, ..Snapshot::default() }
    }

    fn top(snapshots: &[&Snapshot]) -> (String, Findings) {
        let findings = find(snapshots);
        (findings.suspects.first().map(|suspect| suspect.what.clone()).unwrap_or_default(), findings)
    }

    #[test]
    fn a_named_container_goes_before_the_types_in_it_and_before_the_process() {
        let at = |seconds, items: u64| {
            let mut grown = look(12, "python3", 40 + items);
            grown.census = census(
                &[("str", items * 1000, items), ("list", 9, 1)],
                &[("__main__.data", items * 1000, items)],
                None,
            );
            snapshot(seconds, vec![grown, look(1, "sh", 2)])
        };
        let (what, findings) = top(&[&at(0, 10), &at(100, 60), &at(200, 310)]);
        assert_eq!(what, "__main__.data: list");
        let first = &findings.suspects[0];
        assert_eq!((first.bytes, first.growth, first.count_growth), (310 * MIB, Some(300 * MIB as i64), Some(300_000)));
        assert_eq!((first.rate, first.consistency, first.rung), (Some(1.5 * MIB as f64), Some(1.0), 1));
        assert_eq!(first.process, Some(Who { pid: 12, comm: "python3".into() }));
        assert_eq!(findings.place, "100% private memory of python3 (pid 12)");
        assert!(findings.is_conclusive);
    }

    #[test]
    fn a_line_goes_before_what_it_fills_and_is_compared_with_what_has_grown_since_it_was_recorded() {
        let at = |seconds, items: u64, sites: &[(&str, u64)], recorded: Option<u64>| {
            let mut grown = look(12, "python3", 40 + items);
            let mut census = census(&[], &[("__main__.data", items * 1000, items)], None).unwrap();
            census.sites = sites
                .iter()
                .map(|(line, bytes)| Site {
                    line: (*line).into(),
                    callers: vec!["main.py:3".into()],
                    bytes: bytes * MIB,
                    blocks: bytes * 9,
                })
                .collect();
            census.recorded = recorded.map(Duration::from_secs);
            grown.census = Some(census);
            snapshot(seconds, vec![grown])
        };
        let looks = [
            at(0, 10, &[], None),
            at(100, 600, &[], None),
            at(300, 700, &[("app.py:7", 95), ("x.py:1", 3)], Some(199)),
        ];
        let (what, findings) = top(&looks.each_ref());
        assert_eq!(what, "app.py:7 from main.py:3");
        let first = &findings.suspects[0];
        assert_eq!(
            (first.growth, first.count, &first.place[..]),
            (Some(95 * MIB as i64), Some(855), "allocations of CPython 3.11")
        );
        assert_eq!(first.rate.unwrap().round(), (95.0 * MIB as f64 / 199.0).round());
        assert_eq!(findings.suspects[1].what, "__main__.data: list");
        assert!(findings.is_conclusive && findings.suspects.iter().all(|suspect| !suspect.what.starts_with("x.py")));
    }

    #[test]
    fn where_there_was_no_time_for_all_nothing_is_said_to_be_outside() {
        let at = |seconds, items: u64, name: &str, share| {
            let mut grown = look(12, "python3", 40 + items);
            grown.census = census(&[("str", items, 8)], &[(name, items, items)], Some(20));
            grown.census.as_mut().unwrap().share = share;
            snapshot(seconds, vec![grown])
        };
        let first = at(0, 60, "__main__.cache", 1.0);
        let (what, findings) = top(&[&first, &at(60, 160, "", 0.6)]);
        assert_eq!(what, "without a name: list");
        // It had a name before: no more of it is new than the process has grown by.
        assert_eq!(findings.suspects[0].growth, Some(100 * MIB as i64));
        // A steady one is not accused because its name was not found again.
        assert!(!top(&[&first, &at(60, 61, "", 0.6)]).1.is_conclusive);
    }

    /// A Python that holds so much and these: name, place, items, mebibytes.
    fn holding(seconds: u64, private: u64, holders: &[(&str, &str, u64, u64)]) -> Snapshot {
        let mut look = look(12, "python3", private);
        let all: Vec<_> = holders.iter().map(|(name, _, items, bytes)| (*name, *items, *bytes)).collect();
        let mut census = census(&[("str", 9, 1)], &all, None).unwrap();
        census.share = 1.0;
        for (holder, (_, place, ..)) in census.holders.iter_mut().zip(holders) {
            holder.address = (*place).into();
        }
        look.census = Some(census);
        snapshot(seconds, vec![look])
    }

    #[test]
    fn a_container_is_the_same_one_whatever_function_leads_to_it() {
        const BY_FUNCTION: &str = "local variable self of handle.server.cache";
        let first = holding(0, 200, &[("app.server.cache", "0x10", 5000, 100), ("app.leak", "0x20", 4000, 10)]);
        let last = holding(60, 300, &[(BY_FUNCTION, "0x10", 5100, 102), ("", "0x20", 44_000, 110)]);
        let findings = find(&[&first, &last]);
        let told: Vec<_> = findings.suspects.iter().map(|found| (&found.what[..], found.count_growth)).collect();
        assert_eq!(told.first(), Some(&("app.leak: list", Some(40_000))), "{told:?}");
        assert!(!told.iter().any(|(what, _)| what.contains("cache")), "{told:?}");
        // The better name is told, whenever it was found.
        let grown = |name, place| holding(60, 300, &[(name, place, 9000, 200)]);
        for (name, place, what, more) in [
            (BY_FUNCTION, "0x10", "app.server.cache: list", 4000),
            ("app.cache", "0x10", "app.cache: list", 4000),
            // What was made anew is elsewhere, and has its name.
            ("app.server.cache", "0x90", "app.server.cache: list", 4000),
        ] {
            let findings = find(&[&first, &grown(name, place)]);
            let first = findings.suspects.first().map(|found| (&found.what[..], found.count_growth));
            assert_eq!(first, Some((what, Some(more))), "{findings:?}");
        }
    }

    #[test]
    fn a_container_that_was_not_told_before_has_not_grown_by_all_that_it_holds() {
        let known = [("app.a", "0x1", 900, 9), ("app.b", "0x2", 500, 3), ("app.leak", "0x3", 400, 20)];
        let first = holding(0, 400, &known);
        let with = |private, name, items, bytes, leak| {
            let [a, b, (of, place, ..)] = known;
            holding(60, private, &[(name, "0x4", items, bytes), a, b, (of, place, 4000, leak)])
        };
        // With so few items it may have been there, and be as large as it was.
        let (what, findings) = top(&[&first, &with(500, "app.table", 450, 300, 110)]);
        assert_eq!(what, "app.leak: list");
        let table = findings.suspects.iter().find(|found| found.what == "app.table: list").unwrap();
        assert_eq!((table.growth, table.count_growth), (Some(100 * MIB as i64), None));
        // With so many most of them are new.
        let (what, findings) = top(&[&first, &with(500, "app.table", 5000, 120, 21)]);
        let table = &findings.suspects[0];
        assert_eq!(
            (&what[..], table.growth, table.count_growth),
            ("app.table: list", Some(100 * MIB as i64), Some(4500))
        );
        // The later ones take more, as each of them holds what comes after it: by number two thirds are new (regression test: it came
        // after the class of its items).
        let mut quadratic = with(470, "app.table", 1500, 45, 21);
        quadratic.processes[0].census.as_mut().unwrap().groups.push(Group {
            name: "app.Queue".into(),
            instances: 1500,
            bytes: 60 * MIB,
        });
        let (what, findings) = top(&[&first, &quadratic]);
        assert_eq!((&what[..], findings.suspects[0].count_growth), ("app.table: list", Some(1000)));
        // In a process that was not there all of it is new.
        let mut later = with(500, "app.table", 450, 300, 110);
        later.processes[0].process.identity.start = 8;
        assert_eq!(find(&[&first, &later]).suspects[0].count_growth, Some(450));
    }

    #[test]
    fn a_librarys_line_and_what_recording_takes_go_behind_the_name_of_who_holds_it() {
        const LIBRARY: &str = "/app/lib/python3.11/site-packages/numpy/_core/numeric.py:385";
        let at = |seconds, items: u64, site: Option<(&str, &[&str])>, heap| {
            // As much again is what recording takes.
            let mut grown = look(12, "python3", 40 + 2 * items);
            let mut census = census(&[], &[("__main__.seen", items, items * 3 / 4)], Some(heap)).unwrap();
            census.sites = site
                .map(|(line, callers)| Site {
                    line: line.into(),
                    callers: callers.iter().map(|caller| (*caller).into()).collect(),
                    bytes: items * MIB,
                    blocks: items,
                })
                .into_iter()
                .collect();
            census.recorded = site.map(|_| Duration::from_secs(seconds));
            census.recording = if site.is_some() { items / 2 * MIB } else { 0 };
            grown.census = Some(census);
            snapshot(seconds, vec![grown])
        };
        let first = at(0, 10, None, 20);
        assert_eq!(top(&[&first, &at(60, 110, Some((LIBRARY, &[])), 120)]).0, "__main__.seen: list");
        // Nobody is accused for what lies outside while it is recorded.
        let outside = at(60, 110, Some(("/app/main.py:7", &[])), 20);
        let mut outside = snapshot(60, outside.processes);
        let census = outside.processes[0].census.as_mut().unwrap();
        (census.holders, census.sites) = (Vec::new(), Vec::new());
        let (what, findings) = top(&[&first, &outside]);
        assert_eq!((&what[..], findings.is_conclusive), ("memory outside the heap of CPython 3.11", false));
        // Who has called it tells again.
        let called = at(60, 110, Some((LIBRARY, &["/app/main.py:7"])), 120);
        assert_eq!(top(&[&first, &called]).0, format!("{LIBRARY} from /app/main.py:7"));
    }

    #[test]
    fn a_class_of_the_apps_own_goes_before_what_all_classes_are_made_of() {
        let at = |seconds, mebibytes: u64| {
            let mut grown = look(9, "java", 100 + 2 * mebibytes);
            grown.census = census(
                &[("byte[]", mebibytes, mebibytes), ("shop.CartItem", mebibytes, mebibytes * 4 / 5)],
                &[],
                Some(50 + 2 * mebibytes),
            );
            snapshot(seconds, vec![grown])
        };
        assert_eq!(top(&[&at(0, 10), &at(60, 200)]).0, "shop.CartItem");
    }

    #[test]
    fn of_a_crowd_the_class_of_the_apps_own_is_named() {
        let at = |seconds, many: u64, other: u64| {
            let mut grown = look(9, "java", 100 + many / 10_000);
            let group = |name: &str, instances, bytes| Group { name: name.into(), instances, bytes };
            grown.census = census(&[], &[], Some((80 * MIB + many * 100) / MIB));
            grown.census.as_mut().unwrap().groups = vec![
                group("byte[]", 50_000 + 4 * many, 10 * MIB + 80 * many),
                group("java.lang.String", 50_000 + 4 * many, 10 * MIB + 20 * many),
                group("java.util.HashMap$Node", 20_000 + many, MIB + 5 * many),
                group("shop.Session", 100 + many, 100 + 24 * many),
                group("shop.Rare", other, other * 24),
                group("jdk.internal.Thing", many, many),
            ];
            snapshot(seconds, vec![grown])
        };
        assert_eq!(top(&[&at(0, 1000, 5), &at(60, 1_000_000, 900)]).0, "shop.Session");
        // Where nothing of the app's own grows, what everything is made of is all that can be said.
        let mut strings = [at(0, 1000, 5), at(60, 1_000_000, 900)];
        for snapshot in &mut strings {
            snapshot.processes[0].census.as_mut().unwrap().groups.retain(|group| group.name != "shop.Session");
        }
        assert_eq!(top(&[&strings[0], &strings[1]]).0, "byte[]");
    }

    #[test]
    fn what_is_outside_the_heap_is_said_to_be_there() {
        let at = |seconds, private| {
            let mut grown = look(9, "java", private);
            grown.census = census(&[("byte[]", 1000, 60)], &[], Some(80));
            snapshot(seconds, vec![grown])
        };
        let (what, findings) = top(&[&at(0, 100), &at(60, 500)]);
        assert_eq!(what, "memory outside the heap of CPython 3.11");
        assert!(findings.is_conclusive);
    }

    #[test]
    fn what_is_outside_the_heap_is_told_by_its_kind_where_that_is_known() {
        let at = |seconds, metaspace, native, threads: u64| {
            let mut grown = look(9, "java", 100 + metaspace + native + threads / 10);
            grown.process.threads = threads;
            grown.census = census(&[("byte[]", 1000, 60)], &[], Some(80));
            let part = |name: &str, instances, bytes| Group { name: name.into(), instances, bytes: bytes * MIB };
            grown.census.as_mut().unwrap().outside = vec![
                part("metaspace", metaspace * 100, metaspace),
                part("direct buffers and other native memory", native, native),
                part("thread stacks", threads, threads / 10),
            ];
            snapshot(seconds, vec![grown])
        };
        let before = at(0, 20, 10, 20);
        for (after, what) in [
            (at(60, 220, 15, 20), "metaspace"),
            (at(60, 25, 400, 20), "direct buffers and other native memory"),
            (at(60, 22, 15, 900), "threads"),
        ] {
            let (first, findings) = top(&[&before, &after]);
            assert_eq!((&first[..], findings.is_conclusive), (what, true));
            let place = if what == "threads" { "stacks" } else { "outside the heap of CPython 3.11" };
            assert_eq!(findings.suspects[0].place, place);
            assert!(findings.suspects[0].count_growth > Some(300));
        }
    }

    #[test]
    fn what_is_no_heap_at_all_is_named_too() {
        let before = snapshot(0, vec![look(5, "app", 50)]);
        let mut threads = snapshot(60, vec![look(5, "app", 90)]);
        threads.processes[0].process.threads = 900;
        assert_eq!(top(&[&before, &threads]).0, "threads");

        let mut sockets = snapshot(60, vec![look(5, "app", 60)]);
        sockets.processes[0].process.descriptors.as_mut().unwrap().kinds = [("tcp close-wait".into(), 4000)].into();
        assert_eq!(top(&[&before, &sockets]).0, "tcp close-wait");

        let mut files = snapshot(60, vec![look(5, "app", 51)]);
        let largest = vec![("queue".into(), 300 * MIB)];
        files.mounts = vec![Mount { path: "/dev/shm".into(), used: 310 * MIB, files: 3, largest, is_partial: false }];
        assert_eq!(top(&[&before, &files]).0, "/dev/shm/queue");

        let many = snapshot(60, (5..45).map(|pid| look(pid, "app", 8)).collect());
        assert_eq!(top(&[&before, &many]).0, "processes of app");

        // They were never among those that are looked at.
        let mut swarm = snapshot(60, vec![look(5, "app", 50)]);
        swarm.smaller = vec![Smaller { comm: "helper".into(), count: 2000, bytes: 900 * MIB }];
        let (what, findings) = top(&[&before, &swarm]);
        assert_eq!(
            (&what[..], &findings.place[..]),
            ("processes of helper", "100% private memory of smaller processes")
        );
        assert_eq!(findings.suspects[0].count_growth, Some(2000));

        let native = snapshot(60, vec![look(5, "app", 400)]);
        let (what, findings) = top(&[&before, &native]);
        assert_eq!((&what[..], findings.suspects[0].growth), ("anonymous memory", Some(350 * MIB as i64)));

        let mut kernel = snapshot(60, vec![look(5, "app", 50)]);
        kernel.composition = Some(Composition { sock: 200 * MIB, ..Composition::default() });
        assert_eq!(top(&[&before, &kernel]).0, "socket buffers");
    }

    #[test]
    fn many_more_threads_go_before_the_memory_that_they_take() {
        let before = snapshot(0, vec![look(5, "app", 50)]);
        let mut after = snapshot(60, vec![look(5, "app", 110)]);
        after.processes[0].process.threads = 504;
        assert_eq!(top(&[&before, &after]).0, "threads");
        // Twenty more do not explain a gigabyte.
        let mut after = snapshot(60, vec![look(5, "app", 1074)]);
        after.processes[0].process.threads = 24;
        assert_eq!(top(&[&before, &after]).0, "anonymous memory");
    }

    #[test]
    fn what_somebody_has_opened_goes_before_what_the_kernel_has_for_it() {
        let before = snapshot(0, vec![look(5, "app", 50)]);
        let mut after = snapshot(60, vec![look(5, "app", 51)]);
        after.processes[0].process.descriptors.as_mut().unwrap().kinds = [("unix socket".into(), 4000)].into();
        after.composition = Some(Composition { slab_unreclaimable: 100 * MIB, ..Composition::default() });
        assert_eq!(top(&[&before, &after]).0, "unix socket");
    }

    #[test]
    fn files_in_memory_that_nobody_can_find_are_told_by_who_has_them_open() {
        let before = snapshot(0, vec![look(5, "app", 50)]);
        let mut after = snapshot(60, vec![look(5, "app", 51)]);
        let descriptors = after.processes[0].process.descriptors.as_mut().unwrap();
        descriptors.kinds = [(DELETED_MEMORY.into(), 3)].into();
        descriptors.deleted_memory = 90 * MIB;
        after.mounts = vec![Mount { path: "/dev/shm".into(), used: 90 * MIB, ..Mount::default() }];
        let (what, findings) = top(&[&before, &after]);
        assert_eq!((&what[..], findings.suspects[0].growth), (DELETED_MEMORY, Some(90 * MIB as i64)));
        assert_eq!(findings.suspects[0].process, Some(Who { pid: 5, comm: "app".into() }));
    }

    #[test]
    fn shared_memory_that_is_in_no_process_is_found() {
        let before = snapshot(0, vec![look(5, "app", 50)]);
        let mut after = before.clone();
        after.segments = crate::capture::proc::systemv::Segments { count: 80, bytes: 80 * MIB };
        let (what, findings) = top(&[&before, &after]);
        assert_eq!(what, "System V segments that nobody has attached");
        assert_eq!(findings.place, "100% shared memory");
    }

    #[test]
    fn files_in_memory_that_are_charged_to_others_are_not_ours() {
        let at = |seconds, used, shmem| {
            let mut here = snapshot(seconds, vec![look(5, "app", 50)]);
            here.composition = Some(Composition { shmem: shmem * MIB, ..Composition::default() });
            here.mounts = vec![Mount { path: "/dev/shm".into(), used: used * MIB, files: 3, ..Mount::default() }];
            here
        };
        let findings = find(&[&at(0, 900, 0), &at(60, 2000, 0)]);
        assert_eq!((findings.suspects.len(), &findings.place[..]), (0, "nothing has grown"));
        let (what, findings) = top(&[&at(0, 900, 0), &at(60, 1000, 100)]);
        assert_eq!((&what[..], findings.suspects[0].growth), ("files in /dev/shm", Some(100 * MIB as i64)));
    }

    #[test]
    fn a_class_is_weighed_with_what_belongs_to_its_instances() {
        let at = |seconds, mebibytes: u64| {
            let mut grown = look(9, "python3", 100 + mebibytes);
            grown.census =
                census(&[("bytes", 9000, mebibytes * 3 / 4), ("app.Upload", 9000, mebibytes / 5)], &[], None);
            let class = Group { name: "app.Upload".into(), instances: 9000, bytes: mebibytes * MIB };
            grown.census.as_mut().unwrap().classes = vec![class];
            snapshot(seconds, vec![grown])
        };
        let (what, findings) = top(&[&at(0, 10), &at(60, 200)]);
        assert_eq!((&what[..], findings.suspects[0].growth), ("app.Upload", Some(190 * MIB as i64)));
    }

    #[test]
    fn what_a_steady_app_moves_by_is_not_called_the_cause() {
        for (before, after, is_conclusive) in [(50, 52, false), (50, 80, true), (2000, 2040, false), (2000, 2300, true)]
        {
            let [before, after] = [(0, before), (60, after)].map(|(at, held)| snapshot(at, vec![look(5, "app", held)]));
            let findings = find(&[&before, &after]);
            assert_eq!(findings.is_conclusive, is_conclusive, "{findings:?}");
            assert!(findings.place.starts_with("100% private memory"), "{findings:?}");
        }
    }

    #[test]
    fn who_was_not_looked_into_before_has_not_grown_by_all_that_it_holds() {
        let worker = |pid, held, items| {
            let mut worker = look(pid, "gunicorn", held);
            worker.census = census(&[("str", items, items)], &[("app.table", items, items)], Some(held - 10));
            worker
        };
        let mut before = snapshot(0, vec![worker(5, 120, 10), worker(6, 400, 380)]);
        before.processes[1].census = None;
        let after = snapshot(60, vec![worker(5, 220, 105), worker(6, 404, 384)]);
        let (_, findings) = top(&[&before, &after]);
        let first = &findings.suspects[0];
        assert_eq!((first.process.as_ref().unwrap().pid, first.growth), (5, Some(95 * MIB as i64)), "{findings:?}");
        let other = findings.suspects.iter().find(|suspect| suspect.process.as_ref().is_some_and(|who| who.pid == 6));
        assert_eq!(other, None, "{findings:?}");
    }

    #[test]
    fn one_moment_alone_shows_sizes_and_accuses_nobody() {
        let (what, findings) = top(&[&snapshot(0, vec![look(5, "app", 400), look(6, "small", 1)])]);
        assert_eq!((&what[..], findings.is_conclusive, findings.growth), ("anonymous memory", false, None));
        assert_eq!(findings.suspects[0].growth, None);
        assert_eq!(find(&[]), Findings::default());
    }

    #[test]
    fn what_shrinks_or_stays_is_no_suspect() {
        let (before, after) = (snapshot(0, vec![look(5, "app", 400)]), snapshot(60, vec![look(5, "app", 300)]));
        for newest in [&after, &before] {
            let findings = find(&[&before, newest]);
            assert_eq!((findings.suspects.len(), &findings.place[..]), (0, "nothing has grown"));
            assert!(!findings.is_conclusive);
        }
    }

    #[test]
    fn a_number_that_is_given_again_is_another_process() {
        let before = snapshot(0, vec![look(5, "app", 400)]);
        let mut after = snapshot(60, vec![look(5, "app", 410)]);
        after.processes[0].process.identity.start = 8;
        assert_eq!(find(&[&before, &after]).suspects[0].growth, Some(410 * MIB as i64));
    }
}
