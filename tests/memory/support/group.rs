//! A memory cgroup of the test's own, made below the one that the test itself lives in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long leftovers of a test may take to die.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a signal, by the name without SIG. A process that has ended hears nothing.
pub fn send(signal: &str, id: i32) {
    let arguments = [format!("-{signal}"), id.to_string()];
    let _ = Command::new("kill").args(arguments).stderr(Stdio::null()).status();
}

/// One mebibyte.
pub const MIB: u64 = 1 << 20;

/// Which hierarchy has the memory controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// A memory cgroup with a limit. When it is dropped, whoever is still in it is killed, and it is removed.
pub struct Group {
    path: PathBuf,
    version: Version,
}

impl Group {
    /// Makes a group. The name must be the test's own.
    pub fn new(name: &str, limit_mib: u64) -> Self {
        let group = Self::unlimited(name);
        group.limit(limit_mib);
        group
    }

    /// Makes a group without a limit.
    pub fn unlimited(name: &str) -> Self {
        Self::of("memory", name)
    }

    /// Makes a group of another controller.
    pub fn of(controller: &str, name: &str) -> Self {
        let (version, own) = own_group(controller);
        Self::make(own.join(format!("memini-test-{}-{name}", std::process::id())), version)
    }

    /// Makes a group without a limit below this one, in which no process may be (v2).
    pub fn below(&self, name: &str) -> Self {
        if self.version == Version::V2 {
            self.set("cgroup.subtree_control", "+memory");
        }
        Self::make(self.path.join(name), self.version)
    }

    /// Makes a folder below this group for which the memory controller is not switched on (v2): its processes are charged
    /// here.
    pub fn below_without_controller(&self, name: &str) -> Self {
        let path = self.path.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Self { path, version: self.version }
    }

    fn make(path: PathBuf, version: Version) -> Self {
        fs::create_dir(&path).unwrap_or_else(|error| {
            panic!(
                "cannot make the cgroup {}: {error}. These tests need root and a writable controller; \
                 tests/run leaves them out where there is none",
                path.display()
            )
        });
        let group = Self { path, version };
        if version == Version::V2 && group.path.join("memory.swap.max").exists() {
            group.set("memory.swap.max", "0");
        }
        group
    }

    /// Writes to one of its files.
    pub fn set(&self, file: &str, text: &str) {
        let path = self.path.join(file);
        fs::write(&path, text).unwrap_or_else(|error| panic!("cannot set {} to {text}: {error}", path.display()));
    }

    /// Sets the limit. Nothing of it may be swapped.
    pub fn limit(&self, mib: u64) {
        let bytes = (mib * MIB).to_string();
        if self.version == Version::V2 {
            return self.set("memory.max", &bytes);
        }
        // The limit with swap is never below the one without: which comes first depends on the direction.
        let memory = self.path.join("memory.limit_in_bytes");
        let both = self.path.join("memory.memsw.limit_in_bytes");
        let raised = fs::write(&both, &bytes).is_ok();
        fs::write(&memory, &bytes).unwrap_or_else(|error| panic!("cannot set {}: {error}", memory.display()));
        if !raised && both.exists() {
            fs::write(&both, &bytes).unwrap_or_else(|error| panic!("cannot set {}: {error}", both.display()));
        }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number in one of its files.
    pub fn number(&self, file: &str) -> u64 {
        let path = self.path.join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        text.trim().parse().unwrap_or_else(|error| panic!("{}: {error}: {text:?}", path.display()))
    }

    /// A counter or size in one of its files of `KEY NUMBER` lines.
    pub fn entry(&self, file: &str, key: &str) -> u64 {
        let path = self.path.join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in {}: {text}", path.display()))
    }

    /// How often the kernel's OOM killer has killed here.
    pub fn oom_kills(&self) -> u64 {
        match self.version {
            Version::V1 => self.entry("memory.oom_control", "oom_kill"),
            Version::V2 => self.entry("memory.events", "oom_kill"),
        }
    }

    /// How often usage ran into the limit.
    pub fn failures(&self) -> u64 {
        match self.version {
            Version::V1 => self.number("memory.failcnt"),
            Version::V2 => self.entry("memory.events", "max"),
        }
    }

    /// What is charged now.
    pub fn usage(&self) -> u64 {
        match self.version {
            Version::V1 => self.number("memory.usage_in_bytes"),
            Version::V2 => self.number("memory.current"),
        }
    }

    /// The most that was ever charged; `None` where the kernel does not tell (v2 before Linux 5.19).
    pub fn peak(&self) -> Option<u64> {
        match self.version {
            Version::V1 => Some(self.number("memory.max_usage_in_bytes")),
            Version::V2 => self.path.join("memory.peak").exists().then(|| self.number("memory.peak")),
        }
    }

    /// Who lives in it.
    pub fn members(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        // Nobody dies who is frozen.
        let _ = fs::OpenOptions::new()
            .write(true)
            .open(self.path.join("freezer.state"))
            .and_then(|mut state| std::io::Write::write_all(&mut state, b"THAWED"));
        while fs::remove_dir(&self.path).is_err() && Instant::now() < deadline {
            for member in self.members() {
                kill(member);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn kill(id: i32) {
    // 0 would be the own process group: a member that lives outside of the PID namespace reads so.
    if id > 0 {
        send("KILL", id);
    }
}

/// The folder of the group that this process lives in.
fn own_group(controller: &str) -> (Version, PathBuf) {
    let needed = "these tests need root and a controller of cgroups; tests/run leaves them out without it";
    let membership = fs::read_to_string("/proc/self/cgroup").expect("/proc/self/cgroup");
    let groups = membership.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let v1 = |controllers: &str| controllers.split(',').any(|name| name == controller);
    let (version, group) = groups
        .clone()
        .find_map(|(controllers, path)| v1(controllers).then_some((Version::V1, path)))
        .or_else(|| {
            groups.clone().find_map(|(controllers, path)| controllers.is_empty().then_some((Version::V2, path)))
        })
        .unwrap_or_else(|| panic!("no {controller} controller in /proc/self/cgroup: {needed}"));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc/self/mountinfo");
    let mount = mounts
        .lines()
        .find_map(|line| {
            let (fields, kind) = line.split_once(" - ")?;
            let mut kind = kind.split(' ');
            let carries = match (version, kind.next()?) {
                (Version::V1, "cgroup") => v1(kind.nth(1)?),
                (version, kind) => version == Version::V2 && kind == "cgroup2",
            };
            carries.then_some(PathBuf::from(fields.split(' ').nth(4)?))
        })
        .unwrap_or_else(|| panic!("the {controller} controller is not mounted: {needed}"));
    let own = mount.join(group.trim_start_matches('/'));
    // In a container the path is often that of the host, while the mount shows the own group as its root.
    (version, if own.is_dir() { own } else { mount })
}

/// What /proc/PID/status says of this, in bytes: `VmRSS:`, say.
pub fn status(id: i32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/status")).expect("memini's status");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("a number") << 10
}
