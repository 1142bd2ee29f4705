//! The memini that runs beside a one-shot command: which process it is, and what it holds open.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::capture::owner;
use crate::process::folder::{self, Folder};
use crate::process::list::{self, List};
use crate::sys::process::ProcessId;

/// memini's name for itself, unless its file is called otherwise (`docker-init`).
const NAME: &str = "memini";

/// What its workers call themselves.
const WORKER: &str = "memini-worker";

/// What a file of the recorder is called in a folder, and in memory.
const RECORDER: &str = "recorder";
const IN_MEMORY: &str = "/memfd:memini-recorder";
/// What a worker has seen, kept for the next one.
const SEEN: &str = "/memfd:memini-seen";

/// How much may be held open that is looked at: PID 1 has some twenty.
const MOST_DESCRIPTORS: usize = 256;

/// A recorder that a process writes to.
#[derive(Debug)]
pub struct Recorder {
    /// Where it is; empty in memory.
    pub path: String,
    /// Opened anew, to be read.
    pub file: File,
}

/// What a memini holds open.
#[derive(Debug, Default)]
pub struct Held {
    /// Its recorder.
    pub recorder: Option<Recorder>,
    /// What its workers have seen of the processes.
    pub seen: Option<File>,
}

/// A memini at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did: numbers are given again, but not with the same start.
    start: u64,
}

impl Running {
    /// PID 1, if that is memini and not who asks.
    pub fn init(root: &Path) -> Option<Self> {
        Self::of(root, 1)
    }

    /// This process, if it is a memini other than the own one and no worker.
    fn of(root: &Path, pid: i32) -> Option<Self> {
        let is_another = pid.cast_unsigned() != std::process::id();
        let process = ProcessId::new(pid).filter(|_| is_another && is_memini(root, pid))?;
        Some(Self { pid, start: list::started(&Folder::open(root).ok()?, process).ok()? })
    }

    /// All that can be seen from here, those of containers below included.
    pub fn all(root: &Path) -> Vec<Self> {
        let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
        let mut pids: Vec<i32> =
            entries.filter_map(|entry| folder::process_id(entry.file_name().as_encoded_bytes())).collect();
        pids.sort_unstable();
        pids.into_iter().filter_map(|pid| Self::of(root, pid)).collect()
    }

    /// Whether it still runs.
    pub fn goes_on(&self, root: &Path) -> bool {
        let process = ProcessId::new(self.pid);
        let started = process.and_then(|process| list::started(&Folder::open(root).ok()?, process).ok());
        started == Some(self.start)
    }

    /// How long it has run; `None` where that is not known.
    pub fn age(&self, root: &Path) -> Option<Duration> {
        let uptime = fs::read_to_string(root.join("proc/uptime")).ok()?;
        let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
        let age = uptime - self.start as f64 / procfs::ticks_per_second() as f64;
        Duration::try_from_secs_f64(age.max(0.0)).ok()
    }

    /// What it holds open.
    ///
    /// # Errors
    /// EACCES where it runs as somebody else, or with more privileges.
    pub fn held(&self, root: &Path) -> io::Result<Held> {
        let folder = Folder::open(root).map_err(io::Error::other)?;
        owner::stand_in(&folder, self.pid, || held(root, self.pid))
    }

    /// Whom it runs: everybody that descends from it, but for its own workers and who asks.
    ///
    /// # Errors
    /// Where /proc cannot be read: a whole sentence.
    pub fn tree(&self) -> Result<Vec<i32>, String> {
        let cannot = |error| format!("{error}; nothing can be looked at");
        let me = std::process::id().cast_signed();
        let mut list = List::open("/".as_ref()).map_err(cannot)?;
        let everybody = list.everybody().map_err(cannot)?;
        let children = |parent: i32| {
            everybody.iter().filter(move |process| process.parent == parent && process.pid != me).map(|child| child.pid)
        };
        let mut chosen: Vec<i32> = children(self.pid).filter(|pid| !is_worker(*pid)).collect();
        let mut next = 0;
        while let Some(parent) = chosen.get(next).copied() {
            chosen.extend(children(parent));
            next = next.saturating_add(1);
        }
        Ok(chosen)
    }
}

/// Whether it is one of memini's workers. A newborn one has its name only a moment later, but the program.
pub fn is_worker(pid: i32) -> bool {
    comm(Path::new("/"), pid).is_some_and(|comm| comm == WORKER) || runs_same_program(&pid.to_string(), "self")
}

fn runs_same_program(one: &str, other: &str) -> bool {
    let program = |pid: &str| fs::metadata(format!("/proc/{pid}/exe")).map(|status| (status.dev(), status.ino()));
    matches!((program(one), program(other)), (Ok(one), Ok(other)) if one == other)
}

fn comm(root: &Path, pid: i32) -> Option<String> {
    Some(fs::read_to_string(root.join(format!("proc/{pid}/comm"))).ok()?.trim_end().to_owned())
}

/// By its name: the program's file may not be looked at by everybody.
fn is_memini(root: &Path, pid: i32) -> bool {
    let Some(comm) = comm(root, pid) else { return false };
    let own = fs::read_link("/proc/self/exe").ok();
    let own = own.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    // The kernel keeps 15 bytes.
    comm == NAME || own.and_then(|name| name.get(..name.len().min(15))).is_some_and(|name| comm == name)
}

fn held(root: &Path, pid: i32) -> io::Result<Held> {
    let descriptors = root.join(format!("proc/{pid}/fd"));
    let mut held = Held::default();
    for entry in fs::read_dir(&descriptors)?.flatten().take(MOST_DESCRIPTORS) {
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let link = link.display().to_string();
        let (path, is_gone) = link.strip_suffix(" (deleted)").map_or((&*link, false), |path| (path, true));
        let is_in_memory = path == IN_MEMORY;
        if is_in_memory || is_recorder(path) {
            let number = entry.file_name();
            if held.recorder.is_none() && writes(root, pid, &number.to_string_lossy()) {
                let path = if is_in_memory { String::new() } else { link.clone() };
                held.recorder = Some(Recorder { path, file: open(&entry.path())? });
            }
        } else if path == SEEN && is_gone {
            held.seen = open(&entry.path()).ok();
        }
    }
    Ok(held)
}

/// Whether this is what memini calls one.
fn is_recorder(path: &str) -> bool {
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == RECORDER || name.strip_prefix("recorder.").is_some_and(|rest| rest.parse::<u32>().is_ok())
}

/// Who only reads one, as this command does, is not who records.
fn writes(root: &Path, pid: i32, descriptor: &str) -> bool {
    let told = fs::read_to_string(root.join(format!("proc/{pid}/fdinfo/{descriptor}"))).unwrap_or_default();
    let flags = told.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE == libc::O_RDWR)
}

/// A file, to be read; nothing that would have to be waited for.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(io::Error::other(if kind.is_fifo() { "it is a pipe" } else { "it is not a file" }))
}

/// Which file it is: device and inode.
pub type Inode = (u64, u64);

/// Which file this is.
pub fn inode(file: &File) -> Option<Inode> {
    file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The names that recorders have in a folder, as [`crate::recorder::store`] gives them.
pub fn names(dir: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    (1..=9).map(|number| dir.join(if number == 1 { RECORDER.to_owned() } else { format!("{RECORDER}.{number}") }))
}

#[cfg(test)]
pub mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::cgroup::tree_of_files::Root;

    /// A process in a tree of files, that holds these files open: name in `fd`, where that leads, and its flags.
    pub fn process(root: &Root, pid: i32, comm: &str, descriptors: &[(u32, &Path, &str)]) {
        root.write(&format!("proc/{pid}/comm"), &format!("{comm}\n"));
        root.write(
            &format!("proc/{pid}/stat"),
            &format!("{pid} ({comm}) S 0 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 77 0\n"),
        );
        fs::create_dir_all(root.at(&format!("proc/{pid}/fd"))).unwrap();
        for (number, target, flags) in descriptors {
            symlink(target, root.at(&format!("proc/{pid}/fd/{number}"))).unwrap();
            root.write(&format!("proc/{pid}/fdinfo/{number}"), &format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t1\n"));
        }
    }

    /// A worker that had just been started, and had no name yet, was taken for one of the app's: what helpers may record was then
    /// shared among one more.
    #[test]
    fn a_worker_is_known_before_it_has_its_name() {
        let mut sleepers = [(); 2].map(|()| std::process::Command::new("sleep").arg("1000").spawn().unwrap());
        let [one, other] = [sleepers[0].id(), sleepers[1].id()].map(|pid| pid.to_string());
        assert!(runs_same_program(&one, &other) && !runs_same_program(&one, "self"));
        assert!(!runs_same_program("none", "none"));
        // This one has the program, and another name.
        assert!(is_worker(std::process::id().cast_signed()) && !is_worker(sleepers[0].id().cast_signed()));
        for sleeper in &mut sleepers {
            sleeper.kill().unwrap();
            sleeper.wait().unwrap();
        }
    }

    #[test]
    fn memini_is_known_by_its_name_and_a_worker_is_none() {
        let root = Root::new("", &[]);
        let own = std::env::current_exe().unwrap();
        let own = own.file_name().unwrap().to_str().unwrap();
        for (pid, comm) in [(1, "memini"), (5, "memini-worker"), (7, "memini"), (8, "bash"), (9, &own[..15])] {
            process(&root, pid, comm, &[]);
        }
        let pids = |found: Vec<Running>| found.iter().map(|one| one.pid).collect::<Vec<_>>();
        assert_eq!(pids(Running::all(root.path())), [1, 7, 9]);
        assert_eq!(Running::init(root.path()).map(|init| (init.pid, init.start)), Some((1, 77)));
        root.write("proc/1/comm", "tini\n");
        assert_eq!(Running::init(root.path()), None);
        let seven = Running::of(root.path(), 7).unwrap();
        assert!(seven.goes_on(root.path()));
        fs::remove_dir_all(root.at("proc/7")).unwrap();
        assert!(!seven.goes_on(root.path()));
    }

    #[test]
    fn the_recorder_is_what_it_has_open_to_write() {
        let root = Root::new("", &[]);
        root.write("dir/recorder", "one");
        root.write("dir/recorder.2", "two");
        root.write("dir/recorder.previous", "three");
        let (one, two, three) = (root.at("dir/recorder"), root.at("dir/recorder.2"), root.at("dir/recorder.previous"));
        for (descriptors, expected) in [
            (&[(3, &*one, "0100000")][..], None),
            (&[(3, &*one, "0100000"), (4, &*two, "02100002")], Some(&two)),
            (&[(3, &*three, "02100002")], None),
            (&[], None),
        ] {
            let _ = fs::remove_dir_all(root.at("proc/1"));
            process(&root, 1, "memini", descriptors);
            let held = Running::init(root.path()).unwrap().held(root.path()).unwrap();
            let found = held.recorder.map(|recorder| recorder.path);
            assert_eq!(found, expected.map(|path| path.display().to_string()));
        }
    }

    #[test]
    fn what_would_have_to_be_waited_for_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("recorder");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(open(&pipe).unwrap_err().to_string(), "it is a pipe");
        assert_eq!(open(folder.path()).unwrap_err().to_string(), "it is not a file");
    }
}
