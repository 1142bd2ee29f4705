//! Trees of kernel files for the tests: a root folder with `proc/` and `sys/` as some machine would show them.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::reading::Reading;
use super::source::{Depth, Source};

/// A root folder that goes away with the test.
pub struct Root(TempDir);

/// `/proc/meminfo` of a machine with 16 GiB and no swap.
pub const MEMINFO: &str = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n\
    SwapTotal:             0 kB\nSwapFree:              0 kB\n";

/// The same with 4 GiB of swap, 3 GiB of them free.
pub const MEMINFO_SWAP: &str = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n\
    SwapTotal:       4194304 kB\nSwapFree:        3145728 kB\n";

/// One GiB.
pub const GIB: u64 = 1 << 30;
/// One MiB.
pub const MIB: u64 = 1 << 20;

impl Root {
    /// A machine where this process is in these groups and these file systems are mounted (lines of `ROOT POINT TYPE
    /// OPTIONS`).
    pub fn new(cgroup: &str, mounts: &[&str]) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        root.write("proc/meminfo", MEMINFO);
        root.write("proc/sys/vm/swappiness", "60\n");
        let me = std::process::id();
        root.write(&format!("proc/{me}/cgroup"), cgroup);
        let mountinfo: String = (30..).zip(mounts).map(|(id, words)| mount_line(id, words)).collect();
        root.write(&format!("proc/{me}/mountinfo"), &mountinfo);
        std::os::unix::fs::symlink(me.to_string(), root.path().join("proc/self")).unwrap();
        root
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path below it.
    pub fn at(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// Writes a file, and its folders.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A v2 group that this process is in or above.
    pub fn v2_group(&self, path: &str, current: u64, max: &str) {
        self.write(&format!("{path}/memory.current"), &format!("{current}\n"));
        self.write(&format!("{path}/memory.max"), &format!("{max}\n"));
        self.write(&format!("{path}/memory.stat"), V2_STAT);
        self.write(&format!("{path}/memory.events"), "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n");
        self.write(&format!("{path}/cgroup.procs"), &format!("{}\n", std::process::id()));
    }

    /// A v1 group.
    pub fn v1_group(&self, path: &str, usage: u64, limit: u64, hierarchical: u64) {
        self.write(&format!("{path}/memory.usage_in_bytes"), &format!("{usage}\n"));
        self.write(&format!("{path}/memory.limit_in_bytes"), &format!("{limit}\n"));
        self.write(&format!("{path}/memory.stat"), &v1_stat(hierarchical));
        self.write(&format!("{path}/memory.use_hierarchy"), "1\n");
        self.write(&format!("{path}/memory.swappiness"), "60\n");
        self.write(&format!("{path}/memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n");
        self.write(&format!("{path}/cgroup.procs"), &format!("{}\n", std::process::id()));
    }
}

/// v1's "no limit".
pub const V1_NONE: u64 = 0x7FFF_FFFF_FFFF_F000;

/// A `memory.stat` of v2.
pub const V2_STAT: &str = "anon 1001\nfile 1002\nkernel 9\nkernel_stack 1003\npagetables 1004\nsec_pagetables 0\n\
    percpu 0\nsock 1005\nvmalloc 0\nshmem 1006\nfile_mapped 8\nfile_dirty 1007\nfile_writeback 1008\n\
    inactive_anon 1\nactive_anon 2\ninactive_file 1009\nactive_file 1010\nunevictable 1014\nslab_reclaimable 1011\n\
    slab_unreclaimable 1012\nslab 2023\nworkingset_refault_anon 3\nworkingset_refault_file 1013\n";

/// A `memory.stat` of v1 with this hierarchical limit.
pub fn v1_stat(hierarchical: u64) -> String {
    format!(
        "cache 1\nrss 2\nhierarchical_memory_limit {hierarchical}\nhierarchical_memsw_limit {V1_NONE}\n\
         total_cache 1001\ntotal_rss 1002\ntotal_shmem 1003\ntotal_dirty 1004\ntotal_writeback 1005\n\
         total_workingset_refault_file 1006\ntotal_inactive_file 1007\ntotal_active_file 1008\ntotal_unevictable 1009\n"
    )
}

fn mount_line(id: usize, words: &str) -> String {
    let [root, point, kind, options] = words.split(' ').collect::<Vec<_>>()[..] else { panic!("{words}") };
    format!("{id} 1 0:{id} {root} {point} rw,nosuid shared:{id} - {kind} {kind} {options}\n")
}

/// Puts each text in its file's place, in the folder `own`, one after the other: the reading fails and names the file, the
/// last good one stays as it was, and all is well again once the file is.
pub fn assert_bad_files_cost_a_reading(root: &Root, own: &str, source: &mut dyn Source, cases: &[(&str, &str)]) {
    let mut good = Reading::new();
    source.read(Depth::Full, &mut good).unwrap();
    for (name, text) in cases {
        let path = format!("{own}/{name}");
        let healthy = fs::read_to_string(root.at(&path)).unwrap();
        root.write(&path, text);
        let mut reading = good;
        let error = source.read(Depth::Full, &mut reading).unwrap_err();
        assert_eq!(error.path, root.at(&path), "{name} {text:?}: {error}");
        assert_eq!(reading.levels(), good.levels(), "{name} {text:?}");
        root.write(&path, &healthy);
        let mut healed = Reading::new();
        source.read(Depth::Full, &mut healed).unwrap();
        assert_eq!(healed.levels(), good.levels(), "{name} after {text:?}");
    }
}
