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

/// A memory cgroup (v1) with a limit. When it is dropped, whoever is still in it is killed, and it is removed.
pub struct Group {
    path: PathBuf,
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
        let path = own_group(controller).join(format!("memini-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| {
            panic!(
                "cannot make the {controller} cgroup {}: {error}. These tests need root and a writable {controller} \
                 controller of cgroup v1; tests/run leaves them out where there is none",
                path.display()
            )
        });
        Self { path }
    }

    /// Writes one of its files.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path.join(file);
        fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {text} to {}: {error}", path.display()));
    }

    /// Sets the limit, and that of memory and swap together where there is one.
    pub fn limit(&self, mib: u64) {
        let bytes = (mib * MIB).to_string();
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

    /// How often the kernel's OOM killer has killed here.
    pub fn oom_kills(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("memory.oom_control")).expect("memory.oom_control");
        let line =
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")).expect("oom_kill in memory.oom_control");
        line.parse().expect("a number of kills")
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
fn own_group(controller: &str) -> PathBuf {
    let needed = "these tests need root and the controllers of cgroup v1; tests/run leaves them out without them";
    let membership = fs::read_to_string("/proc/self/cgroup").expect("/proc/self/cgroup");
    let group = membership
        .lines()
        .find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then(|| path.to_owned())
        })
        .unwrap_or_else(|| panic!("no {controller} controller in /proc/self/cgroup: {needed}"));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc/self/mountinfo");
    let mount = mounts
        .lines()
        .find_map(|line| {
            let (fields, kind) = line.split_once(" - ")?;
            let mut kind = kind.split(' ');
            let is_it = kind.next() == Some("cgroup") && kind.nth(1)?.split(',').any(|name| name == controller);
            let point = fields.split(' ').nth(4)?;
            is_it.then(|| PathBuf::from(point))
        })
        .unwrap_or_else(|| panic!("the {controller} controller is not mounted: {needed}"));
    let own = mount.join(group.trim_start_matches('/'));
    // In a container the path is often that of the host, while the mount shows the own group as its root.
    if own.is_dir() { own } else { mount }
}
