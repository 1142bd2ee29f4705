//! Source: cgroup v1 (Documentation/admin-guide/cgroup-v1/memory.rst).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::discovery::Discovery;
use super::file::{KernelFile, NUMBER, TABLE};
use super::machine::Machine;
use super::parse::{self, V1Stat};
use super::reading::{Events, Level, Reading, Scope};
use super::source::{Depth, ReadError, Source};

/// How old `hierarchical_memory_limit` may be in a fast reading. It stands in `memory.stat`, eight times as dear as a
/// number, and differs from the limits that are read each time only where groups above cannot be seen.
const HIERARCHICAL_FRESH: Duration = Duration::from_millis(500);

/// The own group and the groups above it, on open descriptors.
#[derive(Debug)]
pub struct V1 {
    description: String,
    machine: Machine,
    own: Group,
    /// The parent first.
    ancestors: Vec<Group>,
    oom_control: Option<KernelFile>,
    swappiness: Option<KernelFile>,
    swaps: bool,
    hierarchical: V1Stat,
    hierarchical_at: Instant,
}

impl V1 {
    /// Opens the files of the discovered groups. `own` is `discovery.own`.
    ///
    /// # Errors
    /// Where one that counts cannot be opened.
    pub fn open(root: &Path, own: &Path, discovery: &Discovery) -> Result<Self, ReadError> {
        let mut group = Group::open(own, Scope::Own)?;
        let hierarchical = group.stat.read::<TABLE, _>(parse::v1_stat)?;
        // A group without use_hierarchy ends the way up: those above it neither count nor limit what is below.
        let enforcing = discovery.ancestors.iter().take_while(|folder| uses_hierarchy(folder));
        Ok(Self {
            description: format!("cgroup v1 {}", own.display()),
            machine: Machine::open(root)?,
            own: group,
            ancestors: enforcing
                .zip(1u8..)
                .map(|(folder, distance)| Group::open(folder, Scope::Ancestor(distance)))
                .collect::<Result<_, _>>()?,
            oom_control: KernelFile::open_optional(own.join("memory.oom_control")),
            swappiness: KernelFile::open_optional(own.join("memory.swappiness")),
            swaps: true,
            hierarchical,
            hierarchical_at: Instant::now(),
        })
    }

    /// The lowest limit of the last reading and the file that holds it.
    pub fn limit(&self) -> Option<(u64, &Path)> {
        let visible = std::iter::once(&self.own)
            .chain(&self.ancestors)
            .filter_map(|group| Some((group.limit?, group.limit_file.path())));
        let hierarchical = self.machine.reachable(self.hierarchical.hierarchical_limit);
        let hidden = hierarchical.map(|limit| (limit, self.own.stat.path()));
        visible.chain(hidden).min_by_key(|(limit, _)| *limit)
    }

    /// The files that are read.
    pub fn files(&self) -> Vec<PathBuf> {
        let groups = std::iter::once(&self.own).chain(&self.ancestors).flat_map(Group::files);
        groups.chain(self.oom_control.iter().chain(&self.swappiness)).map(|file| file.path().to_path_buf()).collect()
    }

    fn read_events(&mut self) -> Result<Option<Events>, ReadError> {
        self.oom_control.as_mut().map(|file| file.read::<TABLE, _>(parse::v1_oom_control)).transpose()
    }

    fn read_stat(&mut self) -> Result<V1Stat, ReadError> {
        let stat = self.own.stat.read::<TABLE, _>(parse::v1_stat)?;
        (self.hierarchical, self.hierarchical_at) = (stat, Instant::now());
        Ok(stat)
    }

    fn read_swappiness(&mut self) -> Result<(), ReadError> {
        if let Some(file) = &mut self.swappiness {
            self.swaps = file.read::<NUMBER, _>(parse::number)? != 0;
        }
        Ok(())
    }

    /// Reads every group; true if one of their limits is another than before.
    fn read_groups(&mut self, depth: Depth) -> Result<bool, ReadError> {
        let mut changed = self.own.read(&self.machine)?;
        for group in &mut self.ancestors {
            changed |= group.read(&self.machine)?;
            group.level.limit = group.limit;
            group.level.stat = match depth {
                Depth::Full if group.limit.is_some() => Some(group.stat.read::<TABLE, _>(parse::v1_stat)?.stat),
                _ => None,
            };
        }
        Ok(changed)
    }

    /// The own level's limit: groups above that cannot be seen from here limit it through `memory.stat` only.
    fn limit_own(&mut self) {
        let hierarchical = self.machine.reachable(self.hierarchical.hierarchical_limit);
        let own = &mut self.own;
        own.level.limit = lower(own.limit, hierarchical);
        let memsw = lower(own.memsw_limit, self.hierarchical.hierarchical_memsw_limit);
        own.swap_room = swap_room(own.level.limit, memsw, own.level.swap_usage);
    }

    /// A level can swap what every group above it and the machine still have room for.
    fn pass_swap_room_down(&mut self) {
        let mut room = if self.swaps && self.machine.has_swap() { self.machine.info().swap_free } else { 0 };
        for group in self.ancestors.iter_mut().rev().chain([&mut self.own]) {
            room = room.min(group.swap_room);
            group.level.swap_capacity = group.level.swap_usage.saturating_add(room);
        }
    }
}

impl Source for V1 {
    fn read(&mut self, depth: Depth, reading: &mut Reading) -> Result<(), ReadError> {
        let mut next = Reading::new();
        if depth == Depth::Full {
            self.machine.refresh();
            self.read_swappiness()?;
            next.events = self.read_events()?;
        }
        let changed = self.read_groups(depth)?;
        self.own.level.stat = match depth {
            Depth::Full => Some(self.read_stat()?.stat),
            Depth::Usage => None,
        };
        if depth == Depth::Usage && (changed || self.hierarchical_at.elapsed() >= HIERARCHICAL_FRESH) {
            self.read_stat()?;
        }
        self.limit_own();
        self.pass_swap_room_down();
        let limited = self.ancestors.iter().filter(|group| group.level.limit.is_some());
        for group in std::iter::once(&self.own).chain(limited) {
            // The levels too many are the farthest ones.
            let _ = next.push(group.level);
        }
        *reading = next;
        Ok(())
    }

    fn describe(&self) -> &str {
        &self.description
    }
}

/// `memory.use_hierarchy` of a group (always 1 since Linux 5.11).
fn uses_hierarchy(folder: &Path) -> bool {
    std::fs::read(folder.join("memory.use_hierarchy")).map_or(true, |text| text.trim_ascii() != b"0")
}

fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// How much more can be swapped before memory and swap together reach their limit; memory alone is bounded by its own.
fn swap_room(limit: Option<u64>, memsw_limit: Option<u64>, swap_usage: u64) -> u64 {
    match (limit, memsw_limit) {
        (Some(limit), Some(memsw)) => memsw.saturating_sub(limit).saturating_sub(swap_usage),
        _ => u64::MAX,
    }
}

/// One group.
#[derive(Debug)]
struct Group {
    usage: KernelFile,
    limit_file: KernelFile,
    stat: KernelFile,
    memsw_usage: Option<KernelFile>,
    memsw_limit_file: Option<KernelFile>,
    /// `memory.limit_in_bytes` as last read.
    limit: Option<u64>,
    /// `memory.memsw.limit_in_bytes` as last read.
    memsw_limit: Option<u64>,
    /// As last read.
    level: Level,
    /// How much more this group lets be swapped.
    swap_room: u64,
}

impl Group {
    fn open(folder: &Path, scope: Scope) -> Result<Self, ReadError> {
        Ok(Self {
            usage: KernelFile::open(folder.join("memory.usage_in_bytes"))?,
            limit_file: KernelFile::open(folder.join("memory.limit_in_bytes"))?,
            stat: KernelFile::open(folder.join("memory.stat"))?,
            // Only where the kernel accounts swap.
            memsw_usage: KernelFile::open_optional(folder.join("memory.memsw.usage_in_bytes")),
            memsw_limit_file: KernelFile::open_optional(folder.join("memory.memsw.limit_in_bytes")),
            limit: None,
            memsw_limit: None,
            level: Level { scope, ..Level::default() },
            swap_room: 0,
        })
    }

    fn files(&self) -> impl Iterator<Item = &KernelFile> {
        let optional = self.memsw_usage.iter().chain(&self.memsw_limit_file);
        [&self.usage, &self.limit_file, &self.stat].into_iter().chain(optional)
    }

    /// Reads usage, limit and swap; true if the limit is another than before.
    fn read(&mut self, machine: &Machine) -> Result<bool, ReadError> {
        let limit = machine.reachable(self.limit_file.read::<NUMBER, _>(parse::v1_limit)?);
        let changed = self.limit != limit;
        if self.level.scope == Scope::Own || limit.is_some() {
            let memsw_usage = self.read_memsw(machine)?;
            let usage = self.usage.read::<NUMBER, _>(parse::number)?;
            self.level.usage = machine.plausible(usage, &self.usage)?;
            // The counter of both goes on while a page leaves memory for swap: the difference is what left.
            self.level.swap_usage = memsw_usage.map_or(0, |both| both.saturating_sub(usage));
            self.swap_room = swap_room(limit, self.memsw_limit, self.level.swap_usage);
        } else {
            self.swap_room = u64::MAX;
        }
        self.limit = limit;
        Ok(changed)
    }

    /// Memory and swap together, where there is any swap.
    fn read_memsw(&mut self, machine: &Machine) -> Result<Option<u64>, ReadError> {
        let files = self.memsw_usage.as_mut().zip(self.memsw_limit_file.as_mut());
        let Some((usage, limit)) = files.filter(|_| machine.has_swap()) else { return Ok(None) };
        self.memsw_limit = limit.read::<NUMBER, _>(parse::v1_limit)?;
        let both = usage.read::<NUMBER, _>(parse::number)?;
        machine.plausible(both, usage).map(Some)
    }
}
