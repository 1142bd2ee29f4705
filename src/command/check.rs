//! `memini check`: what memini sees and may do here, for people and machines. Changes nothing.

mod text;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::Serialize;

use crate::capture::probe::Armed;
use crate::cgroup::choose::{self, Choice};
use crate::cgroup::discovery::Hierarchy;
use crate::cgroup::parse;
use crate::cgroup::reading::{Level, Scope};
use crate::cgroup::source::Source;
use crate::cli::check_dir;
use crate::config::Recipes;
use crate::engine::gauge::measure;
use crate::engine::settings::GaugeKind;
use crate::process::list::List;
use crate::sys::schedule::{self, Latency};
use crate::sys::{memory, process};

/// The exit code where memini can guard, and where it cannot.
const CAN: u8 = 0;
const CANNOT: u8 = 1;

/// What `memini check` was asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Answer with one JSON object.
    pub json: bool,
    /// `--limit`, bytes.
    pub soft_limit: Option<u64>,
    /// `--gauge`.
    pub gauge: GaugeKind,
    /// `--dir`.
    pub dir: PathBuf,
}

/// Answers on standard output's behalf: the text, with a newline at its end, and the exit code (0: memini can guard
/// here, 1: it cannot). `root` is `/` unless in a test.
#[inline(never)]
pub fn check(root: &Path, question: &Question) -> (String, u8) {
    answer(root, question, Granted::by_trying())
}

/// What the kernel grants this process. Trying is the only way to know: limits, capabilities and security modules all
/// have a say.
#[derive(Clone, Debug)]
struct Granted {
    /// Why memory cannot be locked, if so.
    lock_problem: Option<String>,
    latency: Latency,
    /// `pid-1`, `subreaper` or `neither`.
    role: &'static str,
}

impl Granted {
    fn by_trying() -> Self {
        Self {
            lock_problem: memory::lock().err().map(|error| error.to_string()),
            latency: schedule::ask_for_low_latency(),
            role: role(),
        }
    }
}

fn answer(root: &Path, question: &Question, granted: Granted) -> (String, u8) {
    let report = Report::new(root, question, granted);
    let answer = if question.json { report.json() } else { text::render(&report) };
    (answer, if report.can_guard { CAN } else { CANNOT })
}

/// All that was found. The names are those of the JSON object; sizes are in bytes.
#[derive(Clone, Debug, Serialize)]
struct Report {
    /// The kind and version of this object.
    schema: &'static str,
    /// Whether memini can guard here.
    can_guard: bool,
    /// Why not.
    reason: Option<String>,
    memory: Memory,
    /// The own group first; what each of them may use.
    levels: Vec<LevelReport>,
    dir: Dir,
    memory_lock: MemoryLock,
    /// `fifo`, `short-slice` or `normal`.
    scheduling: &'static str,
    /// `pid-1`, `subreaper` or `neither`.
    role: &'static str,
    process_tree: ProcessTree,
    evidence: Evidence,
    /// As `uname -r` says.
    kernel: Option<String>,
    /// Cores that memini may run on.
    cores: u32,
    /// Cores that the CPU quota leaves, rounded down, at least 1.
    cores_in_quota: Option<usize>,
}

/// The built-in recipes that may do here what they do.
#[derive(Clone, Debug, Serialize)]
struct Evidence {
    recipes: Vec<&'static str>,
    /// Why one of them is missing.
    problem: Option<String>,
}

/// Where memory is read and what limits it.
#[derive(Clone, Debug, Serialize)]
struct Memory {
    hierarchy: Hierarchy,
    /// The own group in `/proc/self/cgroup`.
    group: Option<String>,
    mount_point: Option<String>,
    /// What is read: `cgroup v2 /sys/fs/cgroup`, `process tree`, `none`.
    source: String,
    /// Why it is nothing better.
    source_note: Option<String>,
    files: Vec<String>,
    /// The lowest limit that the kernel enforces.
    limit: Option<u64>,
    limit_file: Option<String>,
    soft_limit: Option<u64>,
    /// Whether processes may live in the own group that are not below memini.
    shared_group: bool,
    /// `memory.oom.group`.
    oom_group: Option<bool>,
    /// Processes of the group that the kernel's OOM killer has taken since the group was made.
    oom_kills: Option<u64>,
    /// tmpfs and shared memory.
    shmem: Option<u64>,
    /// Whether the kernel wakes memini at each memory event (v2); it looks at intervals in any case.
    wakes_on_events: bool,
    /// Whether swap takes part.
    swap: bool,
}

#[derive(Clone, Debug, Serialize)]
struct LevelReport {
    /// `own group`, `ancestor 1`, …, `process tree`, `machine`.
    name: String,
    usage: u64,
    /// What thresholds are compared with.
    gauged: u64,
    limit: Option<u64>,
    swap_usage: u64,
    swap_capacity: u64,
}

/// The folder for incidents.
#[derive(Clone, Debug, Serialize)]
struct Dir {
    path: String,
    exists: bool,
    /// Why it cannot be used.
    problem: Option<String>,
    /// `ext4`, `overlay`, `tmpfs`, …
    file_system: Option<String>,
    /// Whether what is written there counts as memory in use (tmpfs).
    is_memory: bool,
    free: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct MemoryLock {
    permitted: bool,
    /// RLIMIT_MEMLOCK as the kernel writes it: bytes or `unlimited`.
    limit: Option<String>,
    /// What the limit is compared with: all that memini has mapped.
    mapped: Option<u64>,
    problem: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct ProcessTree {
    readable: bool,
    problem: Option<String>,
    /// The option of that name with which /proc is mounted, if it hides processes.
    hidepid: Option<String>,
}

impl Report {
    fn new(root: &Path, question: &Question, granted: Granted) -> Self {
        let (source, choice) = choose::open(root, question.soft_limit.is_some());
        let reason = reason_against(&choice, question.soft_limit);
        let kernel = read_line(&root.join("proc/sys/kernel/osrelease"));
        Self {
            schema: "memini.check/1",
            can_guard: reason.is_none(),
            reason,
            levels: choice.first.levels().iter().map(|level| LevelReport::new(level, question.gauge)).collect(),
            memory: Memory::new(choice, source.as_ref(), question.soft_limit),
            dir: Dir::new(root, &question.dir),
            memory_lock: MemoryLock::new(root, granted.lock_problem),
            scheduling: scheduling(granted.latency, kernel.as_deref()),
            role: granted.role,
            process_tree: ProcessTree::new(root),
            evidence: Evidence::new(root),
            kernel,
            cores: schedule::usable_cores(),
            cores_in_quota: std::thread::available_parallelism().ok().map(Into::into),
        }
    }

    fn json(&self) -> String {
        // Strings, numbers and truth values: nothing in it could be refused.
        let mut text = crate::text::plain_json(&serde_json::to_string(self).unwrap_or_default());
        text.push('\n');
        text
    }
}

/// Why memini cannot guard, if so: it needs something to read and something that bounds it.
fn reason_against(choice: &Choice, soft_limit: Option<u64>) -> Option<String> {
    if !choice.readable {
        return Some(choice.why_not.clone().unwrap_or_else(|| "nothing tells how much memory is used".to_owned()));
    }
    let bounded = soft_limit.is_some() || choice.first.levels().iter().any(|level| level.limit.is_some());
    (!bounded).then(|| "there is no limit, and the machine does not tell how much memory it has left".to_owned())
}

impl Evidence {
    fn new(root: &Path) -> Self {
        let armed = Armed::of(Recipes::ALL, root);
        let names = Recipes::NAMES.iter().filter(|(_, one)| armed.recipes.has(*one));
        Self { recipes: names.map(|(name, _)| *name).collect(), problem: armed.problem }
    }
}

impl Memory {
    fn new(choice: Choice, source: &dyn Source, soft_limit: Option<u64>) -> Self {
        Self {
            hierarchy: choice.discovery.hierarchy,
            group: choice.discovery.membership.map(text_of),
            mount_point: choice.discovery.mount_point.map(text_of),
            source: choice.description,
            source_note: choice.why_not,
            files: choice.files.into_iter().map(text_of).collect(),
            limit: choice.limit,
            limit_file: choice.limit_file.map(text_of),
            soft_limit,
            shared_group: choice.shared,
            oom_group: choice.oom_group,
            oom_kills: choice.first.events.map(|events| events.oom_kill),
            shmem: choice.shmem,
            wakes_on_events: source.events().is_some(),
            swap: choice.first.levels().iter().any(|level| level.swap_capacity > 0),
        }
    }
}

/// A path as text; bytes that are none are replaced.
fn text_of(path: PathBuf) -> String {
    path.display().to_string()
}

impl LevelReport {
    fn new(level: &Level, gauge: GaugeKind) -> Self {
        let name = match level.scope {
            Scope::Own => "own group".to_owned(),
            Scope::Ancestor(distance) => format!("ancestor {distance}"),
            Scope::Tree => "process tree".to_owned(),
            Scope::Host => "machine".to_owned(),
        };
        Self {
            name,
            usage: level.usage,
            gauged: measure(level, gauge).unwrap_or(level.usage),
            limit: level.limit,
            swap_usage: level.swap_usage,
            swap_capacity: level.swap_capacity,
        }
    }
}

impl Dir {
    fn new(root: &Path, path: &Path) -> Self {
        // What does not exist yet will be made on the file system of what does.
        let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let status = statfs(existing).ok();
        let free = status.map(|status| status.blocks_available().saturating_mul(block_size(&status)));
        Self {
            path: path.display().to_string(),
            exists: path.is_dir(),
            problem: check_dir(path).err(),
            file_system: file_system(root, existing),
            is_memory: status.is_some_and(|status| status.filesystem_type() == TMPFS_MAGIC),
            free,
        }
    }
}

fn block_size(status: &nix::sys::statfs::Statfs) -> u64 {
    u64::try_from(status.block_size()).unwrap_or(0)
}

/// The type of the file system that holds this path: that of the last mount with the longest matching mount point.
fn file_system(root: &Path, path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let mountinfo = fs::read(root.join("proc/self/mountinfo")).ok()?;
    let (_, name) = parse::mounts(&mountinfo)
        .filter_map(Result::ok)
        .map(|mount| (parse::unescape(mount.point).collect::<Vec<u8>>(), mount.fs_type))
        .filter(|(point, _)| path.starts_with(Path::new(OsStr::from_bytes(point))))
        .max_by_key(|(point, _)| point.len())?;
    Some(String::from_utf8_lossy(name).into_owned())
}

impl MemoryLock {
    fn new(root: &Path, problem: Option<String>) -> Self {
        Self {
            permitted: problem.is_none(),
            limit: line_value(&root.join("proc/self/limits"), "Max locked memory"),
            mapped: line_value(&root.join("proc/self/status"), "VmSize:")
                .and_then(|kilobytes| kilobytes.parse::<u64>().ok()?.checked_mul(1024)),
            problem,
        }
    }
}

/// What the scheduler grants. Kernels before 6.12 accept a slice and ignore it.
fn scheduling(granted: Latency, kernel: Option<&str>) -> &'static str {
    match granted {
        Latency::Fifo => "fifo",
        Latency::ShortSlice if kernel.and_then(version).is_some_and(|version| version >= (6, 12)) => "short-slice",
        Latency::ShortSlice | Latency::Normal => "normal",
    }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn role() -> &'static str {
    if process::own_id().get() == 1 {
        "pid-1"
    } else if process::become_subreaper().is_ok() {
        "subreaper"
    } else {
        "neither"
    }
}

impl ProcessTree {
    fn new(root: &Path) -> Self {
        let listed = List::open(root).and_then(|mut list| list.descendants().map(drop));
        Self {
            readable: listed.is_ok(),
            problem: listed.err().map(|error| error.to_string()),
            hidepid: hidepid(&fs::read(root.join("proc/self/mountinfo")).unwrap_or_default()),
        }
    }
}

/// The option hidepid of the mount at /proc, unless it is off.
fn hidepid(mountinfo: &[u8]) -> Option<String> {
    let proc = parse::mounts(mountinfo).filter_map(Result::ok).filter(|mount| mount.point == b"/proc").last()?;
    let mut options = proc.super_options.split(|byte| *byte == b',');
    let value = options.find_map(|option| option.strip_prefix(b"hidepid="))?;
    let value = String::from_utf8_lossy(value);
    (value != "0" && value != "off").then(|| value.into_owned())
}

fn read_line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.to_owned())
}

/// The first word after `key` in a line that begins with it.
fn line_value(path: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tree_of_files::{MEMINFO_SWAP, MIB, Root, V1_NONE};

    fn question(root: &Root) -> Question {
        Question { json: false, soft_limit: None, gauge: GaugeKind::default(), dir: root.at("incidents") }
    }

    /// Nothing is tried here: locked memory and a real-time priority would be the other tests' as well.
    fn granted() -> Granted {
        Granted { lock_problem: Some("no memory".to_owned()), latency: Latency::ShortSlice, role: "subreaper" }
    }

    /// The lines of the answer, with paths as they would be without the test's root folder.
    fn lines_of(root: &Root, question: &Question) -> (Vec<String>, u8) {
        let (text, code) = answer(root.path(), question, granted());
        let short = text.replace(root.path().to_str().unwrap(), "");
        (short.lines().map(str::to_owned).collect(), code)
    }

    fn docker_v2(limit: &str) -> Root {
        let root = Root::new("0::/\n", &["/ /sys/fs/cgroup cgroup2 rw", "/ / overlay rw", "/ /proc proc rw,hidepid=2"]);
        root.v2_group("sys/fs/cgroup", 200 * MIB, limit);
        root.write(
            "sys/fs/cgroup/memory.stat",
            "anon 1\nfile 1\nshmem 1048576\ninactive_file 52428800\nactive_file 52428800\n",
        );
        root.write("sys/fs/cgroup/memory.oom.group", "1\n");
        root.write("proc/sys/kernel/osrelease", "6.1.0-49-cloud-amd64\n");
        let me = std::process::id();
        root.write(
            &format!("proc/{me}/limits"),
            "Max locked memory         8388608              8388608              bytes\n",
        );
        root.write(&format!("proc/{me}/status"), "Name:\tmemini\nVmSize:\t    3072 kB\n");
        root
    }

    #[test]
    fn a_container_with_a_limit_can_be_guarded() {
        let root = docker_v2("268435456");
        let (lines, code) = lines_of(&root, &question(&root));
        for expected in [
            "hierarchy       v2, own group /",
            "source          cgroup v2 /sys/fs/cgroup",
            "reads           /sys/fs/cgroup: memory.current, memory.stat, memory.max, memory.events",
            "limit           256 MiB from /sys/fs/cgroup/memory.max",
            "group           memini's own",
            "oom group       yes: the kernel's OOM killer takes memini along",
            "oom kills       4",
            "swap            none that could be used",
            "shared memory   1 MiB, tmpfs included",
            "events          wake memini (memory.events)",
            "own group       100 MiB of 256 MiB (39%), 200 MiB charged in all",
            "processes       can be read; /proc hides those of other users (hidepid=2)",
            "kernel          6.1.0-49-cloud-amd64",
            "memory lock     not permitted: no memory; RLIMIT_MEMLOCK is 8 MiB for 3 MiB mapped",
            "scheduling      as any other process",
            "role            not PID 1: subreaper",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected:?} in {lines:#?}");
        }
        assert_eq!((lines.last().unwrap().as_str(), code), ("memini can guard here", 0));
    }

    #[test]
    fn the_gauge_that_was_asked_for_is_shown() {
        let root = docker_v2("268435456");
        for (gauge, expected) in
            [(GaugeKind::Unreclaimable, 100), (GaugeKind::WorkingSet, 150), (GaugeKind::Usage, 200)]
        {
            let report = Report::new(root.path(), &Question { gauge, ..question(&root) }, granted());
            assert_eq!(report.levels[0].gauged, expected * MIB, "{gauge:?}");
        }
    }

    #[test]
    fn ancestors_are_shown_with_their_limits_and_usage() {
        let root = Root::new("0::/pod/c\n", &["/ /sys/fs/cgroup cgroup2 rw"]);
        root.write("proc/meminfo", MEMINFO_SWAP);
        root.v2_group("sys/fs/cgroup/pod/c", 100 * MIB, "max");
        root.v2_group("sys/fs/cgroup/pod", 150 * MIB, "209715200");
        let (lines, code) = lines_of(&root, &question(&root));
        let found = |start: &str| lines.iter().find(|line| line.starts_with(start)).unwrap().as_str();
        assert_eq!(found("limit"), "limit           200 MiB from /sys/fs/cgroup/pod/memory.max");
        assert!(found("ancestor 1").starts_with("ancestor 1      150 MiB of 200 MiB (75%)"), "{lines:#?}");
        assert!(found("own group").contains(", no limit"), "{lines:#?}");
        assert_eq!(found("swap"), "swap            yes");
        assert_eq!(code, 0);
    }

    #[test]
    fn without_any_source_the_reason_is_told_on_the_last_line() {
        let root = Root::new("0::/\n", &[]);
        std::fs::remove_dir_all(root.at("proc")).unwrap();
        let (lines, code) = lines_of(&root, &question(&root));
        let verdict = "memini cannot guard here: cannot read /proc/self/cgroup: No such file or directory (os error 2); \
            cannot read /proc/self: No such file or directory (os error 2)";
        assert_eq!((lines.last().unwrap().as_str(), code), (verdict, 1));
    }

    #[test]
    fn a_machine_that_tells_no_limit_at_all_cannot_be_guarded_without_a_soft_one() {
        let root = docker_v2("max");
        root.write("proc/meminfo", "MemTotal: 16777216 kB\n");
        let (lines, code) = lines_of(&root, &question(&root));
        assert!(lines.last().unwrap().starts_with("memini cannot guard here: there is no limit"), "{lines:#?}");
        assert_eq!(code, 1);
        let soft = Question { soft_limit: Some(64 * MIB), ..question(&root) };
        let (lines, code) = lines_of(&root, &soft);
        assert!(lines.contains(&"soft limit      64 MiB (--limit)".to_owned()), "{lines:#?}");
        assert_eq!(code, 0);
    }

    #[test]
    fn json_is_one_object_on_one_line() {
        let root = Root::new("4:memory:/docker/1f\n", &["/docker/1f /sys/fs/cgroup/memory cgroup rw,memory"]);
        root.v1_group("sys/fs/cgroup/memory", MIB, 64 * MIB, V1_NONE);
        let (text, code) = answer(root.path(), &Question { json: true, ..question(&root) }, granted());
        assert_eq!(text.lines().count(), 1);
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&answer["schema"], code), (&"memini.check/1".into(), 0));
        assert_eq!(answer["can_guard"], true);
        assert_eq!(answer["memory"]["hierarchy"], "v1");
        assert_eq!(answer["memory"]["limit"], 64 * MIB);
        assert_eq!(answer["memory"]["oom_kills"], 7);
        assert_eq!(answer["levels"][0]["name"], "own group");
        assert_eq!(answer["memory"]["wakes_on_events"], false);
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_told_and_one_on_tmpfs_is_noted() {
        let root = docker_v2("268435456");
        root.write("file", "");
        let dir = |path: &str| Dir::new(root.path(), &root.at(path));
        assert!(dir("file").problem.unwrap().ends_with("is not a folder"));
        std::os::unix::fs::symlink(root.path(), root.at("link")).unwrap();
        assert!(dir("link").problem.unwrap().contains("is a symbolic link"));
        let new = dir("a/b/c");
        assert_eq!((new.exists, new.problem, new.file_system.as_deref()), (false, None, Some("overlay")));
        assert!(new.free.unwrap() > 0 && !root.at("a").exists());
        let memory = Dir::new(Path::new("/"), Path::new("/dev/shm/memini-check"));
        assert_eq!((memory.is_memory, memory.file_system.as_deref()), (true, Some("tmpfs")));
    }

    #[test]
    fn a_path_with_a_newline_stays_on_its_line() {
        let root = docker_v2("268435456");
        let question = Question { dir: root.at("a\nmemini cannot guard here"), ..question(&root) };
        let (lines, _) = lines_of(&root, &question);
        assert_eq!(lines.iter().filter(|line| line.starts_with("memini ")).count(), 1, "{lines:#?}");
    }

    #[test]
    fn a_short_slice_counts_from_linux_6_12_on() {
        let cases = [
            (Latency::Fifo, Some("4.4.0"), "fifo"),
            (Latency::ShortSlice, Some("6.12.0-rc1"), "short-slice"),
            (Latency::ShortSlice, Some("7.0"), "short-slice"),
            (Latency::ShortSlice, Some("6.9.12"), "normal"),
            (Latency::ShortSlice, Some("strange"), "normal"),
            (Latency::ShortSlice, None, "normal"),
            (Latency::Normal, Some("6.12.0"), "normal"),
        ];
        for (granted, kernel, expected) in cases {
            assert_eq!(scheduling(granted, kernel), expected, "{granted:?} {kernel:?}");
        }
    }

    #[test]
    fn hidepid_is_told_only_where_it_hides() {
        for (options, expected) in [
            ("rw", None),
            ("rw,hidepid=0", None),
            ("rw,hidepid=off", None),
            ("rw,hidepid=invisible", Some("invisible")),
        ] {
            let mountinfo = format!("36 31 0:33 / /proc rw - proc proc {options}\n");
            assert_eq!(hidepid(mountinfo.as_bytes()).as_deref(), expected, "{options}");
        }
    }
}
