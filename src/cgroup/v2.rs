//! Source: cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::discovery::Discovery;
use super::file::{KernelFile, NUMBER, TABLE};
use super::machine::Machine;
use super::parse;
use super::reading::{Events, Level, Reading, Scope};
use super::source::{Depth, ReadError, Source};

/// The own group and the groups above it, on open descriptors.
#[derive(Debug)]
pub struct V2 {
    description: String,
    machine: Machine,
    own: Group,
    /// The parent first.
    ancestors: Vec<Group>,
    events: Option<KernelFile>,
    pressure: Option<KernelFile>,
}

impl V2 {
    /// Opens the files of the discovered groups. `own` is `discovery.own`.
    ///
    /// # Errors
    /// Where one that counts cannot be opened.
    pub fn open(root: &Path, own: &Path, discovery: &Discovery) -> Result<Self, ReadError> {
        let mut events = KernelFile::open_optional(own.join("memory.events"));
        // The kernel reports changes since the last read (kernfs), so that there has to be one before the first poll.
        events.as_mut().map(|file| file.read::<TABLE, _>(parse::v2_events)).transpose()?;
        // A root of the hierarchy has neither a count nor a limit.
        let ancestors = discovery.ancestors.iter().filter(|folder| folder.join("memory.max").exists());
        Ok(Self {
            description: format!("cgroup v2 {}", own.display()),
            machine: Machine::open(root)?,
            own: Group::open(own, Scope::Own)?,
            ancestors: ancestors
                .zip(1u8..)
                .map(|(folder, distance)| Group::open(folder, Scope::Ancestor(distance)))
                .collect::<Result<_, _>>()?,
            events,
            pressure: KernelFile::open_optional(own.join("memory.pressure")),
        })
    }

    /// The lowest limit of the last reading and the file that holds it.
    pub fn limit(&self) -> Option<(u64, &Path)> {
        let groups = std::iter::once(&self.own).chain(&self.ancestors);
        groups
            .filter_map(|group| Some((group.level.limit?, group.max.as_ref()?.path())))
            .min_by_key(|(limit, _)| *limit)
    }

    /// The files that are read.
    pub fn files(&self) -> Vec<PathBuf> {
        let groups = std::iter::once(&self.own).chain(&self.ancestors).flat_map(Group::files);
        groups.chain(self.events.iter().chain(&self.pressure)).map(|file| file.path().to_path_buf()).collect()
    }

    fn read_events(&mut self) -> Result<Option<Events>, ReadError> {
        self.events.as_mut().map(|file| file.read::<TABLE, _>(parse::v2_events)).transpose()
    }

    /// `memory.pressure` can be switched off live (cgroup.pressure), and nothing is stopped by it: what cannot be read
    /// is not there.
    fn read_pressure(&mut self) -> Option<f32> {
        self.pressure.as_mut()?.read::<TABLE, _>(parse::pressure_full_avg10).ok().flatten()
    }

    /// A level can swap what every group above it and the machine still have room for.
    fn pass_swap_room_down(&mut self) {
        let mut room = self.machine.swap_room();
        for group in self.ancestors.iter_mut().rev().chain([&mut self.own]) {
            room = room.min(group.swap_room);
            group.level.swap_capacity = group.level.swap_usage.saturating_add(room);
        }
    }
}

impl Source for V2 {
    fn read(&mut self, depth: Depth, reading: &mut Reading) -> Result<(), ReadError> {
        let mut next = Reading::new();
        if depth == Depth::Full {
            self.machine.refresh();
            next.events = self.read_events()?;
            next.pressure_full_avg10 = self.read_pressure();
        }
        self.own.read(depth, &self.machine)?;
        for group in &mut self.ancestors {
            group.read(depth, &self.machine)?;
        }
        self.pass_swap_room_down();
        let limited = self.ancestors.iter().filter(|group| group.level.limit.is_some());
        for group in std::iter::once(&self.own).chain(limited) {
            // The levels too many are the farthest ones.
            let _ = next.push(group.level);
        }
        *reading = next;
        Ok(())
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref()?.descriptor()
    }

    fn describe(&self) -> &str {
        &self.description
    }
}

/// One group.
#[derive(Debug)]
struct Group {
    current: KernelFile,
    max: Option<KernelFile>,
    stat: KernelFile,
    swap_current: Option<KernelFile>,
    swap_max: Option<KernelFile>,
    /// As last read.
    level: Level,
    /// How much more this group lets be swapped.
    swap_room: u64,
}

impl Group {
    fn open(folder: &Path, scope: Scope) -> Result<Self, ReadError> {
        Ok(Self {
            current: KernelFile::open(folder.join("memory.current"))?,
            max: KernelFile::open_optional(folder.join("memory.max")),
            stat: KernelFile::open(folder.join("memory.stat"))?,
            swap_current: KernelFile::open_optional(folder.join("memory.swap.current")),
            swap_max: KernelFile::open_optional(folder.join("memory.swap.max")),
            level: Level { scope, ..Level::default() },
            swap_room: 0,
        })
    }

    fn files(&self) -> impl Iterator<Item = &KernelFile> {
        let optional = self.max.iter().chain(&self.swap_current).chain(&self.swap_max);
        [&self.current, &self.stat].into_iter().chain(optional)
    }

    fn read(&mut self, depth: Depth, machine: &Machine) -> Result<(), ReadError> {
        let limit = self.max.as_mut().map(|file| file.read::<NUMBER, _>(parse::number_or_max)).transpose()?;
        self.level.limit = machine.reachable(limit.flatten());
        let is_own = self.level.scope == Scope::Own;
        if is_own || self.level.limit.is_some() {
            let usage = self.current.read::<NUMBER, _>(parse::number)?;
            self.level.usage = machine.plausible(usage, &self.current)?;
            self.level.stat = match depth {
                Depth::Usage => None,
                Depth::Full => Some(self.stat.read::<TABLE, _>(parse::v2_stat)?),
            };
        }
        self.read_swap(machine)
    }

    fn read_swap(&mut self, machine: &Machine) -> Result<(), ReadError> {
        (self.level.swap_usage, self.swap_room) = (0, u64::MAX);
        if !machine.has_swap() {
            return Ok(());
        }
        if let Some(file) = &mut self.swap_current {
            let usage = file.read::<NUMBER, _>(parse::number)?;
            self.level.swap_usage = machine.plausible(usage, file)?;
        }
        if let Some(file) = &mut self.swap_max
            && let Some(max) = file.read::<NUMBER, _>(parse::number_or_max)?
        {
            self.swap_room = max.saturating_sub(self.level.swap_usage);
        }
        Ok(())
    }
}
