//! Files that are memory: the tmpfs mounts that a process sees, and what is largest on them.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use crate::cgroup::parse;

/// How many files are named of each mount, how many are looked at on all of them, and how deep.
const NAMED: usize = 5;
const LOOKED_AT: usize = 20_000;
const DEEPEST: usize = 16;

/// And how many mounts there may be.
const MOST_MOUNTS: usize = 10_000;

/// One mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, as the process sees it.
    pub path: String,
    /// What is stored there; bytes.
    pub used: u64,
    /// How many files were looked at.
    pub files: u64,
    /// The largest: name and bytes.
    pub largest: Vec<(String, u64)>,
    /// Not all of them were looked at.
    pub is_partial: bool,
}

/// Looks at those that hold anything, until the deadline.
///
/// # Errors
/// Where the process's mounts may not be read.
pub fn mounts(pid: i32, deadline: Instant) -> io::Result<Vec<Mount>> {
    let infos = BufReader::new(fs::File::open(format!("/proc/{pid}/mountinfo"))?);
    let mut root = PathBuf::from(format!("/proc/{pid}/root"));
    if fs::metadata(&root).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        // The app is another user's. Mostly it sees what memini sees; a mount that is not the same is left out below.
        root = "/".into();
    }
    let mut left = LOOKED_AT;
    let mut seen = Vec::new();
    let mut mounts = Vec::new();
    for info in infos.split(b'\n').take(MOST_MOUNTS).map_while(Result::ok).filter_map(|line| Info::parse(&line)) {
        let inside = info.place.strip_prefix("/").unwrap_or(&info.place);
        let path = root.join(inside);
        // One that is hidden below another mount shows that one's files.
        let is_seen = fs::metadata(&path).is_ok_and(|data| {
            let (major, minor) = (nix::sys::stat::major(data.dev()), nix::sys::stat::minor(data.dev()));
            info.device == (major, minor)
        });
        if !is_seen {
            continue;
        }
        let Ok(status) = statvfs(&path) else { continue };
        let used = status.blocks().saturating_sub(status.blocks_free()).saturating_mul(status.fragment_size());
        // One that is mounted in several places is looked at once.
        if used == 0 || seen.contains(&info.device) {
            continue;
        }
        seen.push(info.device);
        let mut mount = Mount { path: info.place.display().to_string(), used, ..Mount::default() };
        mount.look_into(&path, &mut left, deadline);
        mounts.push(mount);
    }
    mounts.sort_unstable_by_key(|mount: &Mount| std::cmp::Reverse(mount.used));
    Ok(mounts)
}

/// A line of `/proc/PID/mountinfo` that tells of a tmpfs.
#[derive(Debug, PartialEq, Eq)]
pub struct Info {
    /// Its numbers.
    pub device: (u64, u64),
    /// Where it is mounted.
    pub place: PathBuf,
}

impl Info {
    /// `25 30 0:22 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw`; a blank in a path is `\040` there, and a path need not be
    /// text.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|byte| *byte == b' ');
        let device = std::str::from_utf8(words.nth(2)?).ok()?;
        let (major, minor) = device.split_once(':')?;
        let place = words.nth(1)?;
        words.find(|word| *word == b"-")?;
        let place = OsString::from_vec(parse::unescape(place).collect());
        let device = (major.parse().ok()?, minor.parse().ok()?);
        (words.next()? == b"tmpfs").then(|| Self { device, place: place.into() })
    }
}

impl Mount {
    fn look_into(&mut self, top: &Path, left: &mut usize, deadline: Instant) {
        let Ok(device) = fs::metadata(top).map(|data| data.dev()) else { return };
        let mut folders = vec![(top.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok) {
                if *left == 0 || Instant::now() >= deadline {
                    self.is_partial = true;
                    return;
                }
                *left = left.saturating_sub(1);
                // Not followed: a link may lead anywhere.
                let Ok(data) = entry.metadata() else { continue };
                if data.is_dir() && data.dev() == device {
                    if depth < DEEPEST {
                        folders.push((entry.path(), depth.saturating_add(1)));
                    } else {
                        self.is_partial = true;
                    }
                } else if data.is_file() && data.dev() == device {
                    let path = entry.path();
                    let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
                    self.take(name, data.blocks().saturating_mul(512));
                }
            }
        }
    }

    fn take(&mut self, name: String, bytes: u64) {
        self.files = self.files.saturating_add(1);
        let at = self.largest.partition_point(|(_, other)| *other >= bytes);
        if bytes > 0 && at < NAMED {
            self.largest.insert(at, (name, bytes));
            self.largest.truncate(NAMED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    #[test]
    fn a_mount_that_another_one_hides_is_not_counted_with_its_files() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: only root may mount");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let script = r#"mount -t tmpfs -o size=64m below "$0" && mount -t tmpfs -o size=64m above "$0" &&
            head -c 8388608 /dev/zero >"$0/file" && echo mounted && read -r line"#;
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n");
        let found = mounts(child.id().cast_signed(), Instant::now() + Duration::from_secs(60)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let found: Vec<_> = found.iter().filter(|mount| mount.path == folder.path().to_str().unwrap()).collect();
        assert_eq!((found.len(), found[0].used, found[0].files), (1, 8 << 20, 1), "{found:?}");
    }

    #[test]
    fn the_largest_files_in_memory_are_named() {
        let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
        for number in 1..=8usize {
            let path = folder.path().join(format!("deep{}", number % 2));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(format!("file{number}")), vec![1; number << 20]).unwrap();
        }
        std::os::unix::fs::symlink("/", folder.path().join("everything")).unwrap();
        let pid = std::process::id().cast_signed();
        let mounts = mounts(pid, Instant::now() + Duration::from_secs(60)).unwrap();
        let mount = mounts.iter().find(|mount| mount.path == "/dev/shm").expect("it is mounted");
        assert!(mount.used >= 36 << 20, "{mount:?}");
        let (name, bytes) = &mount.largest[0];
        assert!(name.ends_with("deep0/file8") && *bytes == 8 << 20, "{mount:?}");
        assert_eq!((mount.largest.len(), mount.is_partial), (NAMED, false));
        let late = super::mounts(pid, Instant::now()).unwrap();
        assert!(late.iter().any(|mount| mount.is_partial));
    }
}
