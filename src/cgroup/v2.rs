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
            pressure: KernelFile::open_optional(own.join("memory.pressure")).map(KernelFile::warmed),
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
        // Always, so that the descriptor is quiet after any reading: page cache at the limit counts events without end.
        let mut next = Reading::new();
        next.events = self.read_events()?;
        if depth == Depth::Full {
            self.machine.refresh();
            next.pressure_full_avg10 = self.read_pressure();
        }
        self.own.read(depth, &self.machine)?;
        // A group without a limit is looked at in full readings only, which is once a second: a new limit is seen then.
        for group in self.ancestors.iter_mut().filter(|group| depth == Depth::Full || group.level.limit.is_some()) {
            group.read(depth, &self.machine)?;
        }
        if depth == Depth::Full {
            self.pass_swap_room_down();
        }
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
    /// As last read; what is said of swap stands from one full reading to the next.
    level: Level,
    /// How much more this group lets be swapped.
    swap_room: u64,
}

impl Group {
    fn open(folder: &Path, scope: Scope) -> Result<Self, ReadError> {
        Ok(Self {
            current: KernelFile::open(folder.join("memory.current"))?,
            max: KernelFile::open_optional(folder.join("memory.max")),
            stat: KernelFile::open(folder.join("memory.stat"))?.warmed(),
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
        match depth {
            Depth::Usage => Ok(()),
            Depth::Full => self.read_swap(machine),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::discovery::discover;
    use crate::cgroup::tree_of_files::{GIB, MEMINFO_SWAP, MIB, Root, assert_bad_files_cost_a_reading};

    const OWN: &str = "sys/fs/cgroup/pod/c";
    const POD: &str = "sys/fs/cgroup/pod";

    fn pod() -> Root {
        let root = Root::new("0::/pod/c\n", &["/ /sys/fs/cgroup cgroup2 rw"]);
        root.v2_group(OWN, 100 * MIB, "268435456");
        root.v2_group(POD, 150 * MIB, "max");
        root
    }

    fn open(root: &Root) -> V2 {
        let discovery = discover(root.path());
        V2::open(root.path(), discovery.own.as_deref().unwrap(), &discovery).unwrap()
    }

    fn read(source: &mut V2, depth: Depth) -> Reading {
        let mut reading = Reading::new();
        source.read(depth, &mut reading).unwrap();
        reading
    }

    #[test]
    fn a_fast_reading_has_usage_limit_and_events_only() {
        let reading = read(&mut open(&pod()), Depth::Usage);
        let level = Level { usage: 100 * MIB, limit: Some(256 * MIB), ..Level::default() };
        assert_eq!(reading.levels(), [level]);
        assert_eq!((reading.events.map(|events| events.oom_kill), reading.pressure_full_avg10), (Some(4), None));
    }

    #[test]
    fn a_full_reading_has_the_details() {
        let root = pod();
        root.write(&format!("{OWN}/memory.pressure"), "some avg10=2.00 x\nfull avg10=1.50 avg60=0.00\n");
        let reading = read(&mut open(&root), Depth::Full);
        assert_eq!(reading.levels()[0].stat.unwrap().anon, 1001);
        assert_eq!(reading.events, Some(Events { high: 1, max: 2, oom: 3, oom_kill: 4 }));
        assert_eq!(reading.pressure_full_avg10, Some(1.5));
    }

    #[test]
    fn limits_that_change_live_are_seen_by_the_next_reading() {
        let root = pod();
        let mut source = open(&root);
        assert_eq!(read(&mut source, Depth::Usage).levels().len(), 1);
        root.write(&format!("{POD}/memory.max"), "209715200\n");
        assert_eq!(read(&mut source, Depth::Usage).levels().len(), 1, "a new limit waits for a full reading");
        assert_eq!(read(&mut source, Depth::Full).levels().len(), 2);
        let reading = read(&mut source, Depth::Usage);
        let pod = Level { scope: Scope::Ancestor(1), usage: 150 * MIB, limit: Some(200 * MIB), ..Level::default() };
        assert_eq!(reading.levels()[1..], [pod]);
        assert_eq!(source.limit().unwrap(), (200 * MIB, root.at(POD).join("memory.max").as_path()));
        root.write(&format!("{POD}/memory.max"), "max\n");
        root.write(&format!("{OWN}/memory.max"), "max\n");
        let reading = read(&mut source, Depth::Usage);
        assert_eq!((reading.levels().len(), reading.levels()[0].limit), (1, None));
        assert_eq!(source.limit(), None);
    }

    #[test]
    fn a_limit_above_the_machines_memory_is_none() {
        let root = pod();
        root.write(&format!("{OWN}/memory.max"), &format!("{}\n", 16 * GIB));
        assert_eq!(read(&mut open(&root), Depth::Usage).levels()[0].limit, Some(16 * GIB));
        root.write(&format!("{OWN}/memory.max"), &format!("{}\n", 16 * GIB + 4096));
        assert_eq!(read(&mut open(&root), Depth::Usage).levels()[0].limit, None);
    }

    #[test]
    fn swap_is_bounded_by_the_group_by_those_above_and_by_the_machine() {
        let root = pod();
        root.write(&format!("{OWN}/memory.swap.current"), "1048576\n");
        root.write(&format!("{OWN}/memory.swap.max"), "max\n");
        let swap = |root: &Root| {
            let level = read(&mut open(root), Depth::Full).levels()[0];
            (level.swap_usage, level.swap_capacity)
        };
        assert_eq!(swap(&root), (0, 0), "a machine without swap");
        root.write("proc/meminfo", MEMINFO_SWAP);
        assert_eq!(swap(&root), (MIB, MIB + 3 * GIB), "the machine's free swap");
        root.write(&format!("{POD}/memory.swap.current"), "2097152\n");
        root.write(&format!("{POD}/memory.swap.max"), "10485760\n");
        assert_eq!(swap(&root), (MIB, MIB + 8 * MIB), "what the pod has left");
        root.write(&format!("{OWN}/memory.swap.max"), "4194304\n");
        assert_eq!(swap(&root), (MIB, 4 * MIB), "the own limit");
        root.write("proc/sys/vm/swappiness", "0\n");
        assert_eq!(swap(&root), (MIB, MIB), "swappiness 0: nothing more");
        root.write(&format!("{OWN}/memory.swap.max"), "0\n");
        root.write(&format!("{OWN}/memory.swap.current"), "0\n");
        assert_eq!(swap(&root), (0, 0));
    }

    #[test]
    fn a_bad_file_costs_a_reading_leaves_the_last_one_and_heals() {
        let cases = [
            ("memory.current", ""),
            ("memory.current", "10485"),
            ("memory.current", "max\n"),
            ("memory.current", "-1\n"),
            ("memory.current", "garbage\n"),
            ("memory.current", "99999999999999999999999\n"),
            ("memory.current", "18446744073709551615\n"),
            ("memory.current", "68719476737\n"),
            ("memory.max", ""),
            ("memory.max", "\0\0\0\0"),
            ("memory.max", "-1\n"),
            ("memory.max", "ma\n"),
            ("memory.stat", "anon 5\n"),
            ("memory.stat", "anon -5\nfile 1\ninactive_file 1\nactive_file 1\n"),
            ("memory.events", "max x\noom 0\n"),
        ];
        let root = pod();
        let mut source = open(&root);
        assert_bad_files_cost_a_reading(&root, OWN, &mut source, &cases);
    }

    #[test]
    fn an_error_names_file_line_and_reason() {
        let root = pod();
        let mut source = open(&root);
        root.write(&format!("{OWN}/memory.stat"), "anon 5\nfile lots\n");
        let error = source.read(Depth::Full, &mut Reading::new()).unwrap_err();
        let path = root.at(OWN).join("memory.stat");
        assert_eq!(error.to_string(), format!("cannot use {} line 2: \"lots\" is not a number", path.display()));
    }

    #[test]
    fn a_pressure_file_that_is_switched_off_is_no_error() {
        let root = pod();
        root.write(&format!("{OWN}/memory.pressure"), "full avg10=1.50 avg60=0.00\n");
        let mut source = open(&root);
        root.write(&format!("{OWN}/memory.pressure"), "");
        assert_eq!(read(&mut source, Depth::Full).pressure_full_avg10, None);
    }

    #[test]
    fn more_limits_than_a_reading_holds_leave_the_nearest() {
        let path: String = (1..=14).map(|depth| format!("/{depth}")).collect();
        let root = Root::new(&format!("0::{path}\n"), &["/ /sys/fs/cgroup cgroup2 rw"]);
        for folder in Path::new(&path).ancestors().filter(|folder| folder.parent().is_some()) {
            root.v2_group(&format!("sys/fs/cgroup{}", folder.display()), MIB, "1073741824");
        }
        let reading = read(&mut open(&root), Depth::Full);
        let scopes: Vec<_> = reading.levels().iter().map(|level| level.scope).collect();
        assert_eq!(scopes.first(), Some(&Scope::Own));
        assert_eq!(scopes.last(), Some(&Scope::Ancestor(9)));
    }

    #[test]
    fn old_kernels_lack_files_and_are_read_all_the_same() {
        let root = pod();
        std::fs::remove_file(root.at(OWN).join("memory.events")).unwrap();
        let mut source = open(&root);
        let reading = read(&mut source, Depth::Full);
        assert_eq!((reading.events, reading.pressure_full_avg10), (None, None));
        assert!(source.events().is_none());
        assert!(open(&pod()).events().is_some());
    }
}
