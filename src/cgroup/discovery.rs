//! Which hierarchy carries the memory controller here, and where the own group and its visible ancestors are.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use super::parse::{self, Fault, Membership};

/// The hierarchy that carries the memory controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hierarchy {
    /// cgroup v2 alone.
    V2,
    /// cgroup v1 alone.
    V1,
    /// Both are mounted, and memory is on v1.
    HybridV1,
    /// Both are mounted, and memory is on v2.
    HybridV2,
    /// None that could be read.
    #[default]
    None,
}

impl Hierarchy {
    /// Whether memory is on a v1 hierarchy.
    pub const fn is_v1(self) -> bool {
        matches!(self, Self::V1 | Self::HybridV1)
    }
}

impl fmt::Display for Hierarchy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V2 => "v2",
            Self::V1 => "v1",
            Self::HybridV1 => "hybrid (memory on v1)",
            Self::HybridV2 => "hybrid (memory on v2)",
            Self::None => "none",
        })
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Which hierarchy carries the memory controller.
    pub hierarchy: Hierarchy,
    /// The own group's path as `/proc/self/cgroup` tells it.
    pub membership: Option<PathBuf>,
    /// Where the hierarchy is mounted.
    pub mount_point: Option<PathBuf>,
    /// The folder of the group that the own memory is charged to.
    pub own: Option<PathBuf>,
    /// The folders above it, the parent first, the mount point last.
    pub ancestors: Vec<PathBuf>,
    /// Why there is no own group.
    pub why_not: Option<String>,
}

impl Discovery {
    fn none(membership: Option<PathBuf>, why: impl Into<String>) -> Self {
        Self { membership, why_not: Some(why.into()), ..Self::default() }
    }

    /// What the own group is called in the kernel: no other one, and none that takes its place later, is called so while the
    /// machine runs. Empty if there is none.
    pub fn group(&self) -> String {
        let status = self.own.as_deref().and_then(|own| std::fs::metadata(own).ok());
        status.map(|status| format!("{}:{}", status.dev(), status.ino())).unwrap_or_default()
    }
}

/// Looks at `/proc/self/cgroup`, `/proc/self/mountinfo` and the mounts, all below `root` (`/` unless in a test).
///
/// The controller decides, never that some file system is mounted: on hybrid machines both are, and a v1 hierarchy
/// that carries `memory` leaves nothing of it to v2.
pub fn discover(root: &Path) -> Discovery {
    let (cgroup, mountinfo) = match (read(root, "proc/self/cgroup"), read(root, "proc/self/mountinfo")) {
        (Ok(cgroup), Ok(mountinfo)) => (cgroup, mountinfo),
        (Err(why), _) | (_, Err(why)) => return Discovery::none(None, why),
    };
    match (groups(&cgroup), mounts(root, &mountinfo)) {
        (Ok(groups), Ok(mounts)) => choose(root, &groups, &mounts),
        (Err(fault), _) => Discovery::none(None, unusable(root, "proc/self/cgroup", fault)),
        (_, Err(fault)) => Discovery::none(None, unusable(root, "proc/self/mountinfo", fault)),
    }
}

fn read(root: &Path, path: &str) -> Result<Vec<u8>, String> {
    let path = root.join(path);
    std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn unusable(root: &Path, path: &str, fault: Fault) -> String {
    format!("cannot use {} line {}: {}", root.join(path).display(), fault.line, fault.flaw)
}

/// Where the process is.
#[derive(Debug, Default)]
struct Groups {
    v1: Option<PathBuf>,
    v2: Option<PathBuf>,
}

fn groups(text: &[u8]) -> Result<Groups, Fault> {
    let mut groups = Groups::default();
    for membership in parse::memberships(text) {
        let membership: Membership<'_> = membership?;
        let path = || Some(PathBuf::from(OsString::from_vec(membership.path.to_vec())));
        if membership.is_v2() {
            groups.v2 = path();
        } else if membership.has(b"memory") {
            groups.v1 = path();
        }
    }
    Ok(groups)
}

/// What a cgroup mount holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    V1Memory,
    V1Other,
    V2,
}

#[derive(Debug)]
struct Mount {
    carries: Carries,
    /// The group that is at the mount point.
    root: PathBuf,
    point: PathBuf,
}

fn mounts(root: &Path, text: &[u8]) -> Result<Vec<Mount>, Fault> {
    let mut mounts = Vec::new();
    for mount in parse::mounts(text) {
        let mount = mount?;
        let carries = match mount.fs_type {
            b"cgroup2" => Carries::V2,
            b"cgroup" if mount.has(b"memory") => Carries::V1Memory,
            b"cgroup" => Carries::V1Other,
            _ => continue,
        };
        let point = below(root, &path(mount.point));
        mounts.push(Mount { carries, root: path(mount.root), point });
    }
    Ok(mounts)
}

fn path(escaped: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(parse::unescape(escaped).collect()))
}

/// An absolute path, below another root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn choose(root: &Path, groups: &Groups, mounts: &[Mount]) -> Discovery {
    let mounted = |carries| mounts.iter().any(|mount| mount.carries == carries);
    let any_v1 = mounted(Carries::V1Memory) || mounted(Carries::V1Other);
    if let Some(group) = &groups.v1 {
        if !mounted(Carries::V1Memory) {
            let why = "the memory controller is on a v1 hierarchy that is not mounted here";
            return Discovery::none(Some(group.clone()), why);
        }
        let hierarchy = if mounted(Carries::V2) { Hierarchy::HybridV1 } else { Hierarchy::V1 };
        return locate(root, hierarchy, group, mounts.iter().filter(|mount| mount.carries == Carries::V1Memory));
    }
    match &groups.v2 {
        Some(group) if mounted(Carries::V2) => {
            let hierarchy = if any_v1 { Hierarchy::HybridV2 } else { Hierarchy::V2 };
            locate(root, hierarchy, group, mounts.iter().filter(|mount| mount.carries == Carries::V2))
        }
        Some(group) => Discovery::none(Some(group.clone()), "cgroup v2 is not mounted here"),
        None => Discovery::none(None, "no hierarchy of this machine carries the memory controller"),
    }
}

/// Finds the own group below one of the mounts of its hierarchy. Of several the one that shows most of the groups
/// above counts, since each of them may hold a limit.
fn locate<'m>(root: &Path, hierarchy: Hierarchy, group: &Path, mounts: impl Iterator<Item = &'m Mount>) -> Discovery {
    let mut best: Option<Discovery> = None;
    let mut reasons = Vec::new();
    for mount in mounts {
        match locate_below(root, hierarchy, group, mount) {
            Ok(found) if best.as_ref().is_none_or(|best| found.ancestors.len() > best.ancestors.len()) => {
                best = Some(found);
            }
            Ok(_) => {}
            Err(why) => reasons.push(why),
        }
    }
    best.unwrap_or_else(|| Discovery::none(Some(group.to_path_buf()), reasons.join("; ")))
}

fn locate_below(root: &Path, hierarchy: Hierarchy, group: &Path, mount: &Mount) -> Result<Discovery, String> {
    let folder = own_folder(root, group, mount)?;
    let usage = if hierarchy.is_v1() { "memory.usage_in_bytes" } else { "memory.current" };
    let mut upwards = folder.ancestors().take_while(|folder| folder.starts_with(&mount.point));
    // On v2 memory is charged to the nearest group for which the controller is switched on; the root has no files.
    // On v1 each group has them, and any other group than the own would count others.
    let own = if hierarchy.is_v1() {
        upwards.next().filter(|folder| folder.join(usage).exists())
    } else {
        upwards.find(|folder| folder.join(usage).exists())
    };
    let own = own.ok_or_else(|| format!("no {usage} in {}", folder.display()))?.to_path_buf();
    Ok(Discovery {
        hierarchy,
        membership: Some(group.to_path_buf()),
        mount_point: Some(mount.point.clone()),
        own: Some(own),
        ancestors: upwards.map(Path::to_path_buf).collect(),
        why_not: None,
    })
}

/// The folder of the own group. Where the names do not match (the mount belongs to another cgroup namespace), it is
/// the folder whose `cgroup.procs` lists this process.
fn own_folder(root: &Path, group: &Path, mount: &Mount) -> Result<PathBuf, String> {
    let by_name = folder_below(mount, &mount.root, group);
    if let Some(folder) = by_name.filter(|folder| folder.is_dir()) {
        return Ok(folder);
    }
    let mut candidates = folder_below(mount, Path::new("/"), group).into_iter().chain([mount.point.clone()]);
    candidates
        .find(|folder| lists_us(root, folder))
        .or_else(|| search(root, &mount.point, levels_above(&mount.root)?, group.strip_prefix("/").ok()?))
        .ok_or_else(|| format!("the own group {} cannot be seen below {}", group.display(), mount.point.display()))
}

/// How far the mount's root is above that of the cgroup namespace: 2 for `/../..`, which is how a private namespace sees
/// the host's mount. The names in between are not told.
fn levels_above(mount_root: &Path) -> Option<usize> {
    let mut parts = mount_root.components().skip(1);
    let count = parts.clone().count();
    (count > 0 && parts.all(|part| part == Component::ParentDir)).then_some(count)
}

/// Looks through all groups so many levels below `top` for the one where `rest` leads to a group that lists us.
fn search(root: &Path, top: &Path, levels: usize, rest: &Path) -> Option<PathBuf> {
    let Some(below) = levels.checked_sub(1) else {
        let folder: PathBuf = top.components().chain(rest.components()).collect();
        return Some(folder).filter(|folder| lists_us(root, folder));
    };
    let folders = std::fs::read_dir(top).ok()?.filter_map(Result::ok);
    folders
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| search(root, &entry.path(), below, rest))
}

/// The folder of `group` if the group `top` is at the mount point.
fn folder_below(mount: &Mount, top: &Path, group: &Path) -> Option<PathBuf> {
    let rest = group.strip_prefix(top).ok()?;
    let is_plain = rest.components().all(|part| matches!(part, Component::Normal(_)));
    // By parts: joining an empty rest would leave a slash at the end.
    is_plain.then(|| mount.point.components().chain(rest.components()).collect())
}

fn lists_us(root: &Path, folder: &Path) -> bool {
    let Some(me) = own_id(root) else { return false };
    members(folder).is_some_and(|members| members.contains(&me))
}

/// This process as `/proc/self` names it, which is as the mounted /proc's PID namespace does.
fn own_id(root: &Path) -> Option<i32> {
    let target = std::fs::read_link(root.join("proc/self")).ok()?;
    std::str::from_utf8(target.as_os_str().as_bytes()).ok()?.parse().ok()
}

/// The processes in a group (0: outside of this PID namespace); `None` if they cannot be read.
pub fn members(folder: &Path) -> Option<Vec<i32>> {
    let text = std::fs::read_to_string(folder.join("cgroup.procs")).ok()?;
    text.lines().map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tree_of_files::{MIB, Root, V1_NONE};

    /// The kind, the own folder and the ancestors, relative to the root.
    fn found(root: &Root) -> (Hierarchy, String, Vec<String>) {
        let discovery = discover(root.path());
        let short = |path: &PathBuf| path.strip_prefix(root.path()).unwrap().display().to_string();
        let own = discovery.own.as_ref().map(short).unwrap_or_else(|| discovery.why_not.clone().unwrap());
        (discovery.hierarchy, own, discovery.ancestors.iter().map(short).collect())
    }

    #[test]
    fn docker_on_v2_shows_the_own_group_at_the_mount_point() {
        let root = Root::new("0::/\n", &["/ /sys/fs/cgroup cgroup2 rw"]);
        root.v2_group("sys/fs/cgroup", MIB, "max");
        assert_eq!(found(&root), (Hierarchy::V2, "sys/fs/cgroup".into(), vec![]));
    }

    #[test]
    fn a_nested_group_on_v2_shows_all_groups_above_it() {
        let root = Root::new("0::/kubepods.slice/pod.slice/c\n", &["/ /sys/fs/cgroup cgroup2 rw"]);
        root.v2_group("sys/fs/cgroup/kubepods.slice", MIB, "max");
        root.v2_group("sys/fs/cgroup/kubepods.slice/pod.slice", MIB, "max");
        root.v2_group("sys/fs/cgroup/kubepods.slice/pod.slice/c", MIB, "max");
        let above = ["sys/fs/cgroup/kubepods.slice/pod.slice", "sys/fs/cgroup/kubepods.slice", "sys/fs/cgroup"];
        let own = "sys/fs/cgroup/kubepods.slice/pod.slice/c".to_string();
        assert_eq!(found(&root), (Hierarchy::V2, own, above.map(String::from).to_vec()));
    }

    #[test]
    fn on_v2_memory_is_charged_to_the_nearest_group_that_has_the_controller() {
        let root = Root::new("0::/a/b\n", &["/ /sys/fs/cgroup cgroup2 rw"]);
        root.v2_group("sys/fs/cgroup/a", MIB, "max");
        root.write("sys/fs/cgroup/a/b/cgroup.procs", "1\n");
        assert_eq!(found(&root).1, "sys/fs/cgroup/a");
    }

    #[test]
    fn the_root_group_of_v2_has_no_memory_files() {
        let root = Root::new("0::/\n", &["/ /sys/fs/cgroup cgroup2 rw"]);
        root.write("sys/fs/cgroup/cgroup.procs", "1\n");
        let (hierarchy, why, _) = found(&root);
        assert_eq!(hierarchy, Hierarchy::None);
        assert!(why.starts_with("no memory.current in"), "{why}");
    }

    #[test]
    fn docker_on_v1_mounts_the_own_group_and_names_it_from_the_hosts_root() {
        let root = Root::new("4:memory:/docker/1f\n", &["/docker/1f /sys/fs/cgroup/memory cgroup rw,memory"]);
        root.v1_group("sys/fs/cgroup/memory", MIB, V1_NONE, V1_NONE);
        assert_eq!(found(&root), (Hierarchy::V1, "sys/fs/cgroup/memory".into(), vec![]));
    }

    #[test]
    fn a_nested_group_on_v1_shows_all_groups_above_it() {
        let root = Root::new("4:cpu,memory:/a/b:c\n", &["/ /sys/fs/cgroup/memory cgroup rw,cpu,memory"]);
        root.v1_group("sys/fs/cgroup/memory/a/b:c", MIB, V1_NONE, V1_NONE);
        let above = ["sys/fs/cgroup/memory/a", "sys/fs/cgroup/memory"].map(String::from);
        assert_eq!(found(&root), (Hierarchy::V1, "sys/fs/cgroup/memory/a/b:c".into(), above.to_vec()));
    }

    #[test]
    fn the_controller_decides_on_a_hybrid_machine() {
        let mounts = ["/ /sys/fs/cgroup/unified cgroup2 rw", "/ /sys/fs/cgroup/memory cgroup rw,memory"];
        let root = Root::new("4:memory:/x\n0::/x\n", &mounts);
        root.v1_group("sys/fs/cgroup/memory/x", MIB, V1_NONE, V1_NONE);
        root.write("sys/fs/cgroup/unified/x/cgroup.procs", "");
        assert_eq!(found(&root).0, Hierarchy::HybridV1);
        assert_eq!(found(&root).1, "sys/fs/cgroup/memory/x");

        let mounts = ["/ /sys/fs/cgroup/unified cgroup2 rw", "/ /sys/fs/cgroup/cpu cgroup rw,cpu"];
        let root = Root::new("4:cpu:/x\n0::/x\n", &mounts);
        root.v2_group("sys/fs/cgroup/unified/x", MIB, "max");
        assert_eq!(found(&root).0, Hierarchy::HybridV2);
        assert_eq!(found(&root).1, "sys/fs/cgroup/unified/x");
    }

    #[test]
    fn of_several_mounts_the_one_that_shows_most_ancestors_counts() {
        let mounts = ["/a/b /sys/fs/cgroup cgroup2 rw", "/ /host/cgroup cgroup2 rw", "/other /x cgroup2 rw"];
        let root = Root::new("0::/a/b\n", &mounts);
        for folder in ["sys/fs/cgroup", "host/cgroup/a/b", "host/cgroup/a"] {
            root.v2_group(folder, MIB, "max");
        }
        assert_eq!(found(&root).1, "host/cgroup/a/b");
    }

    #[test]
    fn mount_points_with_blanks_are_found() {
        let root = Root::new("0::/\n", &["/ /my\\040cgroups cgroup2 rw"]);
        root.v2_group("my cgroups", MIB, "max");
        assert_eq!(found(&root).1, "my cgroups");
    }

    #[test]
    fn a_group_outside_of_the_namespace_is_taken_only_where_it_lists_us() {
        for (path, mount_root) in [("/../../x", "/"), ("/", "/../.."), ("/x/../y", "/")] {
            let root = Root::new(&format!("0::{path}\n"), &[&format!("{mount_root} /sys/fs/cgroup cgroup2 rw")]);
            root.v2_group("sys/fs/cgroup", MIB, "max");
            assert_eq!(found(&root).1, "sys/fs/cgroup", "{path}");
            root.write("sys/fs/cgroup/cgroup.procs", "1\n2\n");
            assert_eq!(found(&root).0, Hierarchy::None, "{path}");
            assert!(found(&root).1.contains("cannot be seen below"), "{path}");
        }
    }

    #[test]
    fn a_path_above_the_namespace_matches_a_mount_from_above() {
        let root = Root::new("0::/../x\n", &["/.. /sys/fs/cgroup cgroup2 rw"]);
        root.v2_group("sys/fs/cgroup/x", MIB, "max");
        assert_eq!(found(&root).1, "sys/fs/cgroup/x");
    }

    #[test]
    fn a_private_namespace_that_has_the_hosts_mount_is_searched_for_the_group_that_lists_us() {
        for (path, inside) in [("/", ""), ("/in/side", "/in/side")] {
            let root = Root::new(&format!("0::{path}\n"), &["/../.. /sys/fs/cgroup cgroup2 rw"]);
            root.v2_group(&format!("sys/fs/cgroup/pods/c{inside}"), MIB, "max");
            for other in ["pods/d", "system", "pods/c/deeper"] {
                root.write(&format!("sys/fs/cgroup/{other}/cgroup.procs"), "1\n");
            }
            assert_eq!(found(&root).1, format!("sys/fs/cgroup/pods/c{inside}"));
            root.write(&format!("sys/fs/cgroup/pods/c{inside}/cgroup.procs"), "1\n");
            assert!(found(&root).1.contains("cannot be seen below"), "{path}");
        }
    }

    #[test]
    fn where_there_is_nothing_the_reason_is_told() {
        let cases: [(&str, &[&str], &str); 5] = [
            ("4:memory:/x\n0::/\n", &["/ /sys/fs/cgroup cgroup2 rw"], "a v1 hierarchy that is not mounted"),
            ("0::/\n", &[], "cgroup v2 is not mounted"),
            ("3:cpu:/\n", &[], "no hierarchy of this machine carries the memory controller"),
            ("garbage\n", &[], "line 1: not of the form \"ID:CONTROLLERS:PATH\""),
            ("4:memory:/x\n", &["/ /memory cgroup rw,memory"], "cannot be seen below"),
        ];
        for (cgroup, mounts, expected) in cases {
            let (hierarchy, why, _) = found(&Root::new(cgroup, mounts));
            assert_eq!(hierarchy, Hierarchy::None);
            assert!(why.contains(expected), "{cgroup:?}: {why}");
        }
        let discovery = discover(Path::new("/nowhere"));
        assert!(discovery.why_not.unwrap().starts_with("cannot read /nowhere/proc/self/cgroup: No such file"));
    }
}
