//! Chooses the source: the cgroup where it has a limit or is ours alone, else the process tree.

use std::path::{Path, PathBuf};

use super::combined::Combined;
use super::discovery::{self, Discovery};
use super::host::Host;
use super::reading::Reading;
use super::source::{Cause, Depth, ReadError, Source};
use super::v1::V1;
use super::v2::V2;
use crate::process::list::{self, List};
use crate::process::tree::Tree;

/// What was chosen and what there is to know about it.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Where the cgroups are.
    pub discovery: Discovery,
    /// As the source describes itself; empty if there is none.
    pub description: String,
    /// The files that are read.
    pub files: Vec<PathBuf>,
    /// The lowest limit that the kernel enforces, in bytes, as first read.
    pub limit: Option<u64>,
    /// The file that holds it.
    pub limit_file: Option<PathBuf>,
    /// `memory.oom.group` of the own group: whether the OOM killer takes memini along. `None` where there is no such
    /// file (v1, Linux before 4.19).
    pub oom_group: Option<bool>,
    /// tmpfs and shared memory that the group (or tree) holds at the start, in bytes: it survives a restart of the
    /// container, so that it may be the reason why the next run has no room.
    pub shmem: Option<u64>,
    /// Whether the own group may hold processes that are neither memini nor below it.
    pub shared: bool,
    /// Whether the process tree is a level of its own.
    pub tree: bool,
    /// Why there is no source, or no better one.
    pub why_not: Option<String>,
    /// Whether anything can be read.
    pub readable: bool,
    /// The first reading, in full.
    pub first: Reading,
}

/// Opens the source that fits here. `root` is `/` unless in a test; `soft_limit` says whether the user gave one.
///
/// Always gives a source; where nothing can be read it is one that only fails, and [`Choice::readable`] is false.
pub fn open(root: &Path, soft_limit: bool) -> (Box<dyn Source>, Choice) {
    let mut choice = Choice { discovery: discovery::discover(root), ..Choice::default() };
    choice.why_not = choice.discovery.why_not.clone();
    choice.shared = choice.discovery.own.as_deref().is_none_or(|own| is_shared(root, own, &choice.discovery));
    let mut source = choose(root, soft_limit, &mut choice);
    if let Some(own) = &choice.discovery.own {
        choice.oom_group = std::fs::read(own.join("memory.oom.group")).ok().map(|text| text.trim_ascii() == b"1");
    }
    source.describe().clone_into(&mut choice.description);
    match source.read(Depth::Full, &mut choice.first) {
        Ok(()) => choice.readable = true,
        Err(error) => choice.why_not = Some(choice.why_not.unwrap_or_else(|| error.to_string())),
    }
    choice.shmem = choice.first.levels().first().and_then(|level| level.stat).map(|stat| stat.shmem);
    (source, choice)
}

/// What the own group holds, read once, and the lowest limit; `None` where the kernel enforces none. Unlike [`open`] it looks
/// at no process, of which a machine may have thousands.
pub fn limited(root: &Path) -> Option<(Reading, u64)> {
    let mut cgroup = open_cgroup(root, &discovery::discover(root))?.ok()?;
    let (limit, _) = cgroup.limit?;
    let mut reading = Reading::new();
    cgroup.source.read(Depth::Full, &mut reading).ok()?;
    Some((reading, limit))
}

fn choose(root: &Path, soft_limit: bool, choice: &mut Choice) -> Box<dyn Source> {
    let cgroup = match open_cgroup(root, &choice.discovery) {
        Some(Ok(cgroup)) => Some(cgroup),
        Some(Err(error)) => {
            choice.why_not = Some(error.to_string());
            None
        }
        None => None,
    };
    let host = if soft_limit { None } else { Host::open(root).ok() };
    let Some(cgroup) = cgroup else { return tree_alone(root, host, choice) };
    let limited = cgroup.limit.is_some();
    // Without a limit of the kernel's, a group that others live in says nothing about the app; with one it does, but a
    // soft limit is meant for the app.
    let wants_tree = choice.shared && (soft_limit || !limited);
    let tree = if wants_tree { open_tree(root, choice) } else { None };
    match tree {
        Some(tree) if !limited => tree_as_base(tree, host, choice),
        tree => {
            choice.tree = tree.is_some();
            choice.files = cgroup.files;
            (choice.limit, choice.limit_file) = cgroup.limit.unzip();
            Box::new(Combined::new(cgroup.source, tree, host))
        }
    }
}

fn open_tree(root: &Path, choice: &mut Choice) -> Option<Tree> {
    Tree::open(root).map_err(|error| choice.why_not = Some(error.to_string())).ok()
}

fn tree_alone(root: &Path, host: Option<Host>, choice: &mut Choice) -> Box<dyn Source> {
    let why_not = choice.why_not.take();
    match Tree::open(root) {
        Ok(tree) => {
            choice.why_not = why_not;
            tree_as_base(tree, host, choice)
        }
        Err(error) => {
            choice.why_not = Some(why_not.map_or_else(|| error.to_string(), |why| format!("{why}; {error}")));
            Box::new(Nothing(root.join("proc")))
        }
    }
}

fn tree_as_base(tree: Tree, host: Option<Host>, choice: &mut Choice) -> Box<dyn Source> {
    choice.tree = true;
    choice.files = tree.files();
    Box::new(Combined::new(Box::new(tree), None, host))
}

/// Whether the group may hold processes that are none of ours. (It does not list this one if memory is charged to a
/// group above the own one, which then holds siblings.) The app may run already.
fn is_shared(root: &Path, own: &Path, discovery: &Discovery) -> bool {
    let me = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let Some(members) = discovery::members(own).filter(|members| members.contains(&me)) else { return true };
    // 0 is a process outside of the PID namespace; PID 1 answers for all that are inside.
    if members.contains(&0) {
        return true;
    }
    if me == 1 { hides_outsiders(own, discovery) } else { members.len() > 1 && has_foreigners(root, me, &members) }
}

/// v1 leaves processes outside of the PID namespace out of its lists, so that PID 1 always seems to be alone with its
/// own. It can be believed where the group is all that is mounted, as containers have it. (Only the root group, which is
/// everybody's, has a `release_agent`.)
fn hides_outsiders(own: &Path, discovery: &Discovery) -> bool {
    discovery.hierarchy.is_v1() && (!discovery.ancestors.is_empty() || own.join("release_agent").exists())
}

fn has_foreigners(root: &Path, me: i32, members: &[i32]) -> bool {
    let Ok(mut list) = List::open(root) else { return true };
    if list.descendants().is_err() {
        return true;
    }
    let (folder, ours) = list.last();
    members.iter().any(|member| {
        // What has ended is nobody's.
        *member != me && ours.iter().all(|process| process.pid != *member) && list::look_at(folder, *member).is_some()
    })
}

/// A cgroup source with what only its own type tells.
struct Cgroup {
    source: Box<dyn Source>,
    limit: Option<(u64, PathBuf)>,
    files: Vec<PathBuf>,
}

fn open_cgroup(root: &Path, discovery: &Discovery) -> Option<Result<Cgroup, ReadError>> {
    let own = discovery.own.as_deref()?;
    Some(if discovery.hierarchy.is_v1() { open_v1(root, own, discovery) } else { open_v2(root, own, discovery) })
}

fn open_v1(root: &Path, own: &Path, discovery: &Discovery) -> Result<Cgroup, ReadError> {
    let mut source = V1::open(root, own, discovery)?;
    source.read(Depth::Full, &mut Reading::new())?;
    let limit = source.limit().map(|(limit, file)| (limit, file.to_path_buf()));
    Ok(Cgroup { limit, files: source.files(), source: Box::new(source) })
}

fn open_v2(root: &Path, own: &Path, discovery: &Discovery) -> Result<Cgroup, ReadError> {
    let mut source = V2::open(root, own, discovery)?;
    source.read(Depth::Full, &mut Reading::new())?;
    let limit = source.limit().map(|(limit, file)| (limit, file.to_path_buf()));
    Ok(Cgroup { limit, files: source.files(), source: Box::new(source) })
}

/// The source where there is none.
struct Nothing(PathBuf);

impl Source for Nothing {
    fn read(&mut self, _depth: Depth, _reading: &mut Reading) -> Result<(), ReadError> {
        let cause = Cause::Io(std::io::Error::from(std::io::ErrorKind::NotFound));
        Err(ReadError { path: self.0.clone(), cause })
    }

    fn describe(&self) -> &str {
        "none"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::reading::Scope;
    use crate::cgroup::tree_of_files::{GIB, MIB, Root, V1_NONE};

    /// A v2 group with this limit, that we are in with others or alone, and a tree of one child of 7 MiB.
    fn machine(limit: &str, shared: bool) -> Root {
        let root = Root::new("0::/\n", &["/ /sys/fs/cgroup cgroup2 rw"]);
        root.v2_group("sys/fs/cgroup", 100 * MIB, limit);
        root.write("sys/fs/cgroup/memory.oom.group", "1\n");
        let me = std::process::id();
        if shared {
            root.write("sys/fs/cgroup/cgroup.procs", &format!("0\n{me}\n"));
        }
        let stat = format!("4000000 (app) S {me} 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 9 9\n");
        root.write("proc/4000000/stat", &stat);
        root.write("proc/4000000/status", "RssAnon:\t 4096 kB\nRssFile:\t 1024 kB\nRssShmem:\t 2048 kB\n");
        root
    }

    fn scopes(root: &Root, soft_limit: bool) -> Vec<Scope> {
        let (mut source, choice) = open(root.path(), soft_limit);
        assert!(choice.readable, "{choice:?}");
        let mut reading = Reading::new();
        source.read(Depth::Usage, &mut reading).unwrap();
        let scopes = |reading: &Reading| reading.levels().iter().map(|level| level.scope).collect::<Vec<_>>();
        assert_eq!(scopes(&choice.first), scopes(&reading));
        scopes(&reading)
    }

    #[test]
    fn what_a_limited_group_holds_is_read_without_a_look_at_processes() {
        let root = machine("209715200", true);
        let (reading, limit) = limited(root.path()).unwrap();
        let own = reading.levels().iter().find(|level| level.scope == Scope::Own).unwrap();
        let (_, choice) = open(root.path(), false);
        let expected = choice.first.levels().iter().find(|level| level.scope == Scope::Own).unwrap();
        assert_eq!((own.usage, own.stat, Some(limit)), (expected.usage, expected.stat, choice.limit));
        assert!(limited(machine("max", true).path()).is_none());
    }

    #[test]
    fn the_source_follows_from_limit_company_and_soft_limit() {
        use Scope::{Host, Own, Tree};
        let limit = "268435456";
        let cases = [
            (limit, false, false, vec![Own]),
            (limit, false, true, vec![Own]),
            (limit, true, false, vec![Own]),
            (limit, true, true, vec![Own, Tree]),
            ("max", false, false, vec![Own, Host]),
            ("max", false, true, vec![Own]),
            ("max", true, false, vec![Tree, Host]),
            ("max", true, true, vec![Tree]),
        ];
        for (limit, shared, soft_limit, expected) in cases {
            let found = scopes(&machine(limit, shared), soft_limit);
            assert_eq!(found, expected, "limit {limit}, shared {shared}, soft limit {soft_limit}");
        }
    }

    #[test]
    fn the_choice_tells_where_the_limit_comes_from() {
        let root = machine("268435456", false);
        let (source, choice) = open(root.path(), false);
        assert_eq!((choice.limit, choice.limit_file), (Some(256 * MIB), Some(root.at("sys/fs/cgroup/memory.max"))));
        assert_eq!(
            (choice.oom_group, choice.shmem, choice.shared, choice.tree),
            (Some(true), Some(1006), false, false)
        );
        assert_eq!(choice.description, format!("cgroup v2 {}", root.at("sys/fs/cgroup").display()));
        assert!(source.events().is_some());
    }

    #[test]
    fn the_machine_is_the_room_only_while_no_level_has_a_limit() {
        let root = machine("max", false);
        let (mut source, choice) = open(root.path(), false);
        let host = Level { scope: Scope::Host, usage: 8 * GIB, limit: Some(16 * GIB), ..Level::default() };
        assert_eq!(choice.first.levels()[1], host);
        root.write("sys/fs/cgroup/memory.max", "268435456\n");
        let mut reading = Reading::new();
        source.read(Depth::Usage, &mut reading).unwrap();
        assert_eq!(reading.levels().len(), 1, "a limit came live");
    }

    use crate::cgroup::reading::Level;

    #[test]
    fn without_a_cgroup_the_tree_is_read_and_the_reason_told() {
        let root = machine("max", false);
        std::fs::remove_dir_all(root.at("sys")).unwrap();
        let (_, choice) = open(root.path(), true);
        assert_eq!((choice.description.as_str(), choice.readable), ("process tree", true));
        assert_eq!(choice.first.levels()[0].usage, 7 * MIB);
        assert!(choice.why_not.unwrap().contains("cannot be seen below"));
    }

    #[test]
    fn without_a_readable_tree_the_cgroup_alone_is_read() {
        let root = machine("max", true);
        std::fs::remove_file(root.at("proc/self")).unwrap();
        std::fs::create_dir(root.at("proc/self")).unwrap();
        for name in ["cgroup", "mountinfo"] {
            std::fs::copy(root.at(&format!("proc/{}/{name}", std::process::id())), root.at("proc/self").join(name))
                .unwrap();
        }
        let (_, choice) = open(root.path(), true);
        assert_eq!((by_cgroup(&choice), choice.tree), (true, false));
        assert!(choice.why_not.unwrap().contains("proc/self"));
    }

    #[test]
    fn where_nothing_can_be_read_the_source_only_fails() {
        let (mut source, choice) = open(Path::new("/nowhere"), false);
        assert!(!choice.readable);
        assert_eq!(choice.description, "none");
        assert!(choice.why_not.unwrap().starts_with("cannot read /nowhere/proc/self/cgroup"));
        assert!(source.read(Depth::Usage, &mut Reading::new()).is_err());
    }

    #[test]
    fn an_unusable_cgroup_gives_way_to_the_tree() {
        let root = machine("268435456", false);
        root.write("sys/fs/cgroup/memory.stat", "garbage");
        let (_, choice) = open(root.path(), true);
        assert_eq!(choice.description, "process tree");
        assert!(choice.why_not.unwrap().contains("memory.stat line 1"));
    }

    #[test]
    fn company_is_who_lives_and_is_not_ours() {
        let me = std::process::id();
        let foreign = "4000001 (x) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 9 9\n";
        let cases = [
            (format!("{me}\n"), false, "alone"),
            (format!("{me}\n4000000\n"), false, "with the own child"),
            (format!("{me}\n4000001\n"), true, "with a stranger"),
            (format!("{me}\n4000009\n"), false, "with one that has ended"),
            (format!("0\n{me}\n"), true, "with one from outside of the namespace"),
            ("4000000\n".to_owned(), true, "not in it"),
            (String::new(), true, "a group above the own one"),
            ("garbage\n".to_owned(), true, "unreadable"),
        ];
        for (procs, expected, what) in cases {
            let root = machine("268435456", false);
            root.write("proc/4000001/stat", foreign);
            root.write("sys/fs/cgroup/cgroup.procs", &procs);
            assert_eq!(open(root.path(), false).1.shared, expected, "{what}");
        }
    }

    /// `unshare --pid` beside a large neighbour: with --limit, the neighbour's memory got the app killed.
    #[test]
    fn pid_1_is_alone_in_a_v1_group_only_where_nothing_else_is_mounted() {
        for (cgroup, mount, own, release_agent, expected) in [
            ("4:memory:/x\n", "/x /memory cgroup rw,memory", "memory", false, false),
            ("4:memory:/\n", "/ /memory cgroup rw,memory", "memory", false, false),
            ("4:memory:/\n", "/ /memory cgroup rw,memory", "memory", true, true),
            ("4:memory:/x\n", "/ /memory cgroup rw,memory", "memory/x", false, true),
        ] {
            let root = Root::new(cgroup, &[mount]);
            root.v1_group("memory", 100 * MIB, V1_NONE, V1_NONE);
            root.v1_group(own, 100 * MIB, V1_NONE, V1_NONE);
            if release_agent {
                root.write("memory/release_agent", "");
            }
            let discovery = discovery::discover(root.path());
            let own = discovery.own.clone().unwrap();
            assert_eq!(hides_outsiders(&own, &discovery), expected, "{cgroup} {mount} {release_agent}");
        }
        let root = machine("max", false);
        let discovery = discovery::discover(root.path());
        assert!(!hides_outsiders(&discovery.own.clone().unwrap(), &discovery), "v2 lists them as 0");
    }

    #[test]
    fn v1_is_chosen_alike() {
        let root = Root::new("4:memory:/x\n", &["/ /memory cgroup rw,memory"]);
        root.v1_group("memory/x", MIB, 64 * MIB, 64 * MIB);
        root.v1_group("memory", MIB, V1_NONE, V1_NONE);
        let (source, choice) = open(root.path(), false);
        assert_eq!((choice.limit, choice.oom_group), (Some(64 * MIB), None));
        assert!(source.describe().starts_with("cgroup v1 "));
        assert!(source.events().is_none());
    }

    /// Whether a cgroup is what is read first.
    fn by_cgroup(choice: &Choice) -> bool {
        choice.first.levels().first().is_some_and(|level| level.scope == Scope::Own)
    }
}
