//! All that is known at one moment: the group's composition, every process of the tree, the largest of them in depth.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::census::{Census, Refusal};
use super::proc::descriptors::Tables;
use super::proc::systemv::Segments;
use super::proc::tmpfs::{self, Mount};
use super::proc::{Identity, Process};
use crate::process::folder::Folder;

/// The kind and version of the object.
pub const SCHEMA: &str = "memini.snapshot/1";

/// How many processes are looked at at all, and how many in depth.
const LOOKED_AT: usize = 256;
pub const IN_DEPTH: usize = 5;

/// Where there are more, how many are weighed to find the largest, and for how long.
const WEIGHED: usize = 20_000;
const WEIGHING: Duration = Duration::from_millis(200);

/// How many different programs are told apart of those that are not looked at.
const PROGRAMS: usize = 64;

/// How long the files on tmpfs are looked at.
const MOUNTS: Duration = Duration::from_millis(200);

/// The group's memory by kind; bytes. What a group does not tell is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Composition {
    /// All of it.
    pub usage: u64,
    /// What the kernel enforces.
    pub limit: Option<u64>,
    /// Heaps, stacks.
    pub anon: u64,
    /// tmpfs and shared memory.
    pub shmem: u64,
    /// Page cache that can be let go.
    pub clean: u64,
    /// Kernel objects that cannot be freed.
    pub slab_unreclaimable: u64,
    /// Kernel stacks of threads.
    pub kernel_stack: u64,
    /// Page tables.
    pub pagetables: u64,
    /// Socket buffers.
    pub sock: u64,
}

impl Composition {
    /// What is left below the limit; bytes. `None` without one.
    pub fn room(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.usage.saturating_sub(self.clean)))
    }
}

/// One process, and what its runtime holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// What the kernel knows.
    #[serde(flatten)]
    pub process: Process,
    /// What a recipe found.
    pub census: Option<Census>,
    /// Why there is no census, where one was to be expected.
    pub no_census: Option<String>,
}

/// Processes of one name that were too small to be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smaller {
    /// Their name for themselves.
    pub comm: String,
    /// How many there are.
    pub count: u64,
    /// What they hold that is nobody else's; bytes.
    pub bytes: u64,
}

/// One moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: String,
    /// Milliseconds since 1970, by the machine's clock.
    pub taken_ms: u64,
    /// The stage that it was taken at; `normal`: the baseline. Empty on demand.
    #[serde(default)]
    pub stage: String,
    /// The group's, where it can be read.
    pub composition: Option<Composition>,
    /// How many processes there are.
    pub process_count: u64,
    /// Those that were looked at, the largest first.
    pub processes: Vec<Look>,
    /// The others, by name, as far as they were weighed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub smaller: Vec<Smaller>,
    /// The tmpfs mounts that hold anything.
    pub mounts: Vec<Mount>,
    /// System V memory that no process has attached.
    #[serde(default)]
    pub segments: Segments,
}

/// A recipe's census of this process, and of no later one of its number.
pub type Recipe<'a> = &'a dyn Fn(Identity) -> Result<Census, Refusal>;

impl Snapshot {
    /// Looks at these processes; in depth at those that have grown most since `before`, or at the largest.
    pub fn take(pids: &[i32], composition: Option<Composition>, before: Option<&Self>, recipes: &[Recipe<'_>]) -> Self {
        let mut snapshot = Self::from_outside(pids, composition);
        snapshot.look_deeper(before, recipes);
        snapshot
    }

    /// What the kernel knows of these processes.
    pub fn from_outside(pids: &[i32], composition: Option<Composition>) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut sockets = Tables::default();
        let (largest, smaller) = largest(pids, LOOKED_AT);
        let mut looks: Vec<Look> = largest
            .iter()
            .filter_map(|pid| Process::look_at(*pid, &mut sockets).ok())
            .map(|process| Look { process, ..Look::default() })
            .collect();
        looks.sort_by_key(|look| std::cmp::Reverse(look.process.held()));
        let deadline = Instant::now().checked_add(MOUNTS);
        let first = pids.first().zip(deadline);
        Self {
            schema: SCHEMA.to_owned(),
            taken_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            stage: String::new(),
            composition,
            process_count: pids.len() as u64,
            processes: looks,
            smaller,
            mounts: first.and_then(|(pid, deadline)| tmpfs::mounts(*pid, deadline).ok()).unwrap_or_default(),
            segments: pids.first().and_then(|pid| Segments::of(*pid).ok()).unwrap_or_default(),
        }
    }

    /// Looks in depth at those that have grown most since `before`, or at the largest.
    pub fn look_deeper(&mut self, before: Option<&Self>, recipes: &[Recipe<'_>]) {
        let mut order: Vec<usize> = (0..self.processes.len()).collect();
        if let Some(before) = before {
            let then = before.held();
            order.sort_by_key(|index| {
                let growth = self.processes.get(*index).map(|look| look.process.growth_since(&then));
                std::cmp::Reverse(growth.unwrap_or(0))
            });
        }
        for index in order.into_iter().take(IN_DEPTH) {
            if let Some(look) = self.processes.get_mut(index) {
                look.look_deeper(recipes);
            }
        }
    }

    /// What a later look is compared with, without what only people read.
    #[must_use]
    pub fn lean(&self) -> Self {
        let mut lean = self.clone();
        for look in &mut lean.processes {
            look.no_census = None;
            look.process.program = None;
            look.process.memory.iter_mut().for_each(|memory| memory.largest.clear());
            look.process.descriptors.iter_mut().for_each(|descriptors| descriptors.files.clear());
            look.census.iter_mut().for_each(|census| census.remarks.clear());
        }
        lean.mounts.iter_mut().for_each(|mount| mount.largest.clear());
        lean
    }

    /// What all of them hold; bytes.
    pub fn whole(&self) -> u64 {
        self.processes.iter().fold(0, |sum, look| sum.saturating_add(look.process.held()))
    }

    /// What each process holds.
    pub fn held(&self) -> HashMap<Identity, u64> {
        self.processes.iter().map(|look| (look.process.identity, look.process.held())).collect()
    }

    /// The same process, if it was there.
    pub fn find(&self, identity: Identity) -> Option<&Look> {
        self.processes.iter().find(|look| look.process.identity == identity)
    }
}

/// Those that are to be looked at, and what is known of the others: a leak may be in any of thousands.
fn largest(pids: &[i32], most: usize) -> (Vec<i32>, Vec<Smaller>) {
    if pids.len() <= most {
        return (pids.to_vec(), Vec::new());
    }
    let Ok(folder) = Folder::open(Path::new("/")) else {
        return (pids.iter().copied().take(most).collect(), Vec::new());
    };
    let (began, mut weights) = (Instant::now(), Vec::new());
    for pid in pids.iter().copied().take(WEIGHED) {
        if began.elapsed() > WEIGHING && weights.len() > most {
            break;
        }
        let Ok(memory) = crate::process::memory::of(&folder, pid) else { continue };
        weights.push((pid, memory.anon.saturating_add(memory.swap), memory.shmem));
    }
    weights.sort_by_key(|(_, private, shared)| std::cmp::Reverse(private.saturating_add(*shared)));
    let others = weights.split_off(weights.len().min(most));
    let mut programs: HashMap<String, (u64, u64)> = HashMap::new();
    for (pid, private, _) in others {
        let mut name = [0; 64];
        let Ok(name) = folder.read(pid, "comm", &mut name) else { continue };
        let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
        if programs.len() < PROGRAMS || programs.contains_key(&name) {
            let (count, bytes) = programs.entry(name).or_default();
            (*count, *bytes) = (count.saturating_add(1), bytes.saturating_add(private));
        }
    }
    let smaller = programs.into_iter().map(|(comm, (count, bytes))| Smaller { comm, count, bytes });
    let mut smaller: Vec<Smaller> = smaller.collect();
    smaller.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.comm.cmp(&other.comm)));
    (weights.into_iter().map(|(pid, ..)| pid).collect(), smaller)
}

impl Process {
    /// What it holds that cannot be let go; bytes.
    pub fn held(&self) -> u64 {
        self.memory
            .as_ref()
            .map_or(0, |memory| memory.kinds.values().fold(0, |sum: u64, kind| sum.saturating_add(*kind)))
    }

    fn growth_since(&self, then: &HashMap<Identity, u64>) -> u64 {
        self.held().saturating_sub(then.get(&self.identity).copied().unwrap_or(0))
    }
}

impl Look {
    fn look_deeper(&mut self, recipes: &[Recipe<'_>]) {
        for recipe in recipes {
            match recipe(self.process.identity) {
                Ok(census) => {
                    self.census = Some(census);
                    return;
                }
                Err(Refusal::NotMine) => {}
                Err(Refusal::Cannot(why)) => {
                    self.no_census = Some(why);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::suspects::find;

    #[test]
    fn of_too_many_the_largest_are_looked_at_and_the_others_are_counted() {
        let mut children: Vec<_> =
            (0..3).map(|_| std::process::Command::new("sleep").arg("1000").spawn().unwrap()).collect();
        let mut pids: Vec<i32> = children.iter().map(|child| child.id().cast_signed()).collect();
        // Until its name is another, a child is the same program still.
        let is_itself = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sleep\n";
        while !pids.iter().all(is_itself) {
            std::thread::yield_now();
        }
        let few = largest(&pids, 3);
        pids.push(std::process::id().cast_signed());
        let (looked_at, smaller) = largest(&pids, 1);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(few, (pids[..3].to_vec(), Vec::new()));
        assert_eq!(looked_at, pids[3..]);
        assert_eq!((smaller.len(), &smaller[0].comm[..], smaller[0].count), (1, "sleep", 3));
        assert!(smaller[0].bytes > 0);
    }

    #[test]
    fn what_is_kept_to_compare_with_has_all_that_counts() {
        let me = std::process::id().cast_signed();
        let snapshot = Snapshot::take(&[me], None, None, &[&|_| Err(Refusal::Cannot("why".into()))]);
        let lean = snapshot.lean();
        assert!(serde_json::to_string(&lean).unwrap().len() < serde_json::to_string(&snapshot).unwrap().len());
        assert_eq!(lean.held(), snapshot.held());
        let later = Snapshot { taken_ms: snapshot.taken_ms + 1, ..snapshot.clone() };
        assert_eq!(find(&[&lean, &later]), find(&[&snapshot, &later]));
    }

    #[test]
    fn who_has_grown_most_is_looked_at_in_depth() {
        let mut children: Vec<_> =
            (0..8).map(|_| std::process::Command::new("sleep").arg("1000").spawn().unwrap()).collect();
        let pids: Vec<i32> = children.iter().map(|child| child.id().cast_signed()).collect();
        let first = Snapshot::take(&pids, None, None, &[]);
        assert_eq!((first.processes.len(), first.process_count), (8, 8));
        // As if two of them had held nothing before, and the others a gigabyte.
        let mut before = first.clone();
        for look in &mut before.processes {
            let kinds = &mut look.process.memory.as_mut().unwrap().kinds;
            kinds.clear();
            if !pids[3..5].contains(&look.process.identity.pid) {
                kinds.insert(Default::default(), 1 << 30);
            }
        }
        let asked = std::cell::RefCell::new(Vec::new());
        let recipe = |identity: Identity| {
            asked.borrow_mut().push(identity.pid);
            Err(if identity.pid == pids[3] { Refusal::Cannot("it sleeps".into()) } else { Refusal::NotMine })
        };
        let second = Snapshot::take(&pids, None, Some(&before), &[&recipe]);
        let mut deep = asked.take();
        assert_eq!(deep.len(), IN_DEPTH);
        deep.truncate(2);
        deep.sort_unstable();
        assert_eq!(deep, pids[3..5]);
        let refused = second.processes.iter().find(|look| look.no_census.is_some()).unwrap();
        assert_eq!(refused.process.identity.pid, pids[3]);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(Snapshot::take(&pids, None, None, &[]).processes, []);
    }
}
