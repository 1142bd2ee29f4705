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
        let mut changed = self.own.read(depth, &self.machine)?;
        // A group without a limit is looked at in full readings only, which is once a second: a new limit is seen then.
        for group in self.ancestors.iter_mut().filter(|group| depth == Depth::Full || group.limit.is_some()) {
            changed |= group.read(depth, &self.machine)?;
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
    /// As last read; what is said of swap stands from one full reading to the next.
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

    /// Reads usage, limit and, in full, swap; true if the limit is another than before.
    fn read(&mut self, depth: Depth, machine: &Machine) -> Result<bool, ReadError> {
        let limit = machine.reachable(self.limit_file.read::<NUMBER, _>(parse::v1_limit)?);
        let changed = self.limit != limit;
        if self.level.scope == Scope::Own || limit.is_some() {
            let usage = self.usage.read::<NUMBER, _>(parse::number)?;
            self.level.usage = machine.plausible(usage, &self.usage)?;
        }
        if depth == Depth::Full {
            // The counter of both goes on while a page leaves memory for swap: the difference is what left.
            self.level.swap_usage = self.read_memsw(machine)?.map_or(0, |both| both.saturating_sub(self.level.usage));
            self.swap_room = swap_room(limit, self.memsw_limit, self.level.swap_usage);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::discovery::discover;
    use crate::cgroup::tree_of_files::{
        GIB, MEMINFO_SWAP, MIB, Root, V1_NONE, assert_bad_files_cost_a_reading, v1_stat,
    };

    const OWN: &str = "sys/fs/cgroup/memory/a/b";
    const PARENT: &str = "sys/fs/cgroup/memory/a";

    fn nested() -> Root {
        let root = Root::new("4:memory:/a/b\n", &["/ /sys/fs/cgroup/memory cgroup rw,memory"]);
        root.v1_group(OWN, 100 * MIB, 256 * MIB, 256 * MIB);
        root.v1_group(PARENT, 150 * MIB, V1_NONE, V1_NONE);
        root.v1_group("sys/fs/cgroup/memory", GIB, V1_NONE, V1_NONE);
        root
    }

    fn open(root: &Root) -> V1 {
        let discovery = discover(root.path());
        V1::open(root.path(), discovery.own.as_deref().unwrap(), &discovery).unwrap()
    }

    fn read(source: &mut V1, depth: Depth) -> Reading {
        let mut reading = Reading::new();
        source.read(depth, &mut reading).unwrap();
        reading
    }

    #[test]
    fn a_fast_reading_has_usage_and_limit_only() {
        let reading = read(&mut open(&nested()), Depth::Usage);
        let level = Level { usage: 100 * MIB, limit: Some(256 * MIB), ..Level::default() };
        assert_eq!(reading.levels(), [level]);
        assert_eq!(reading.events, None);
    }

    #[test]
    fn a_full_reading_has_the_details() {
        let reading = read(&mut open(&nested()), Depth::Full);
        assert_eq!(reading.levels()[0].stat.unwrap().anon, 1002);
        assert_eq!(reading.events, Some(Events { oom_kill: 7, ..Events::default() }));
    }

    #[test]
    fn a_limit_of_a_group_that_cannot_be_seen_stands_in_memory_stat() {
        let root = Root::new("4:memory:/docker/1f\n", &["/docker/1f /sys/fs/cgroup/memory cgroup rw,memory"]);
        root.v1_group("sys/fs/cgroup/memory", MIB, V1_NONE, 64 * MIB);
        let mut source = open(&root);
        assert_eq!(read(&mut source, Depth::Usage).levels()[0].limit, Some(64 * MIB));
        assert!(source.limit().unwrap().1.ends_with("memory.stat"));
        root.write("sys/fs/cgroup/memory/memory.stat", &v1_stat(32 * MIB));
        assert_eq!(read(&mut source, Depth::Full).levels()[0].limit, Some(32 * MIB));
        assert_eq!(read(&mut source, Depth::Usage).levels()[0].limit, Some(32 * MIB));
    }

    #[test]
    fn limits_that_change_live_are_seen_by_the_next_reading() {
        let root = nested();
        let mut source = open(&root);
        assert_eq!(read(&mut source, Depth::Usage).levels()[0].limit, Some(256 * MIB));
        root.v1_group(OWN, 100 * MIB, 512 * MIB, 512 * MIB);
        assert_eq!(read(&mut source, Depth::Usage).levels()[0].limit, Some(512 * MIB), "raised");
        root.v1_group(PARENT, 150 * MIB, 200 * MIB, 200 * MIB);
        root.v1_group(OWN, 100 * MIB, 512 * MIB, 200 * MIB);
        assert_eq!(read(&mut source, Depth::Full).levels()[0].limit, Some(200 * MIB), "lowered above");
        let reading = read(&mut source, Depth::Usage);
        let parent = Level { scope: Scope::Ancestor(1), usage: 150 * MIB, limit: Some(200 * MIB), ..Level::default() };
        assert_eq!(reading.levels()[1..], [parent]);
        assert_eq!(source.limit().unwrap().0, 200 * MIB);
        root.v1_group(PARENT, 150 * MIB, V1_NONE, V1_NONE);
        root.v1_group(OWN, 100 * MIB, 17 * GIB, 17 * GIB);
        let reading = read(&mut source, Depth::Usage);
        assert_eq!((reading.levels().len(), reading.levels()[0].limit), (1, None), "above MemTotal");
    }

    #[test]
    fn groups_above_one_without_use_hierarchy_do_not_limit() {
        let root = nested();
        root.v1_group(PARENT, 150 * MIB, 200 * MIB, 200 * MIB);
        root.write(&format!("{PARENT}/memory.use_hierarchy"), "0\n");
        assert_eq!(read(&mut open(&root), Depth::Usage).levels().len(), 1);
    }

    #[test]
    fn swap_is_what_memory_and_swap_together_leave_beside_memory() {
        let root = nested();
        root.write(&format!("{OWN}/memory.memsw.usage_in_bytes"), &format!("{}\n", 110 * MIB));
        root.write(&format!("{OWN}/memory.memsw.limit_in_bytes"), &format!("{V1_NONE}\n"));
        let swap = |root: &Root| {
            let level = read(&mut open(root), Depth::Full).levels()[0];
            (level.swap_usage, level.swap_capacity)
        };
        assert_eq!(swap(&root), (0, 0), "a machine without swap");
        root.write("proc/meminfo", MEMINFO_SWAP);
        assert_eq!(swap(&root), (10 * MIB, 10 * MIB + 3 * GIB), "no second limit");
        root.write(&format!("{OWN}/memory.memsw.limit_in_bytes"), &format!("{}\n", 300 * MIB));
        assert_eq!(swap(&root), (10 * MIB, 44 * MIB), "300 − 256");
        root.write(&format!("{OWN}/memory.memsw.limit_in_bytes"), &format!("{}\n", 256 * MIB));
        assert_eq!(swap(&root), (10 * MIB, 10 * MIB), "docker's --memory-swap equal to --memory");
        root.write(&format!("{OWN}/memory.memsw.limit_in_bytes"), &format!("{}\n", 300 * MIB));
        root.write(&format!("{OWN}/memory.swappiness"), "0\n");
        assert_eq!(swap(&root), (10 * MIB, 10 * MIB), "swappiness 0: nothing more");
    }

    #[test]
    fn a_bad_file_costs_a_reading_leaves_the_last_one_and_heals() {
        let cases = [
            ("memory.usage_in_bytes", ""),
            ("memory.usage_in_bytes", "10485"),
            ("memory.usage_in_bytes", "-1\n"),
            ("memory.usage_in_bytes", "max\n"),
            ("memory.usage_in_bytes", "9223372036854771712\n"),
            ("memory.limit_in_bytes", "-1\n"),
            ("memory.limit_in_bytes", "99999999999999999999\n"),
            ("memory.limit_in_bytes", ""),
            ("memory.stat", "total_rss 5\n"),
            ("memory.stat", "hierarchical_memory_limit x\n"),
            ("memory.oom_control", "\n"),
        ];
        let root = nested();
        let mut source = open(&root);
        assert_bad_files_cost_a_reading(&root, OWN, &mut source, &cases);
    }

    /// A group that is removed and made again: its open files give ENODEV for ever.
    #[test]
    #[ignore = "needs root and a v1 memory hierarchy"]
    fn a_removed_group_is_an_error_and_one_made_again_is_read_again() {
        let root = Path::new("/");
        let mut discovery = discover(root);
        assert!(discovery.hierarchy.is_v1(), "{discovery:?}");
        let own = discovery.own.clone().unwrap().join(format!("memini-test-{}", std::process::id()));
        discovery.ancestors.clear();
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("memory.limit_in_bytes"), "67108864").unwrap();
        let mut source = V1::open(root, &own, &discovery).unwrap();
        assert_eq!(read(&mut source, Depth::Full).levels()[0].limit, Some(64 * MIB));
        std::fs::remove_dir(&own).unwrap();
        for depth in [Depth::Usage, Depth::Full, Depth::Usage] {
            let error = source.read(depth, &mut Reading::new()).unwrap_err();
            assert!(error.path.starts_with(&own), "{error}");
        }
        std::fs::create_dir(&own).unwrap();
        let healed = source.read(Depth::Full, &mut Reading::new());
        std::fs::remove_dir(&own).unwrap();
        healed.unwrap();
    }
}
