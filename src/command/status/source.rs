//! Which recorder is shown, and whether its run goes on.
//!
//! Nothing here takes a lock: whoever starts finds its place by an exclusive one that it does not wait for, and would find it
//! taken. That a run goes on is known from who has the file open; where that cannot be looked at, from its pulse, which beats
//! once a second at least.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::geteuid;

use crate::command::running::{self, Held, Running};
use crate::recorder::ending::{Now, Obituary};
use crate::recorder::reader::{self, History};

use super::picture::State;

/// A pulse that is older than this does not beat any more, or the machine stands still; milliseconds.
const FRESH: u64 = 5000;

/// How long a pulse is waited for, and how often it is looked at: it beats once a second at least.
const PATIENCE: Duration = Duration::from_millis(2500);
const GLANCE: Duration = Duration::from_millis(20);

/// A memini that has started so shortly ago may not have its recorder yet; it is waited for.
const START: Duration = Duration::from_secs(2);

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the memini that runs here; where there is none, in this folder.
    Here(PathBuf),
    /// In this folder, or this file.
    Named(PathBuf),
}

/// A recorder.
#[derive(Debug)]
pub struct Source {
    /// Where it is; empty in memory.
    pub path: String,
    file: File,
    /// Who writes it, where that can be seen.
    pub owner: Option<Running>,
    /// What its workers have seen.
    pub seen: Option<File>,
    /// It goes on, as far as could be told when it was found.
    beats: bool,
    /// What else is to be said.
    pub remarks: Vec<String>,
}

impl Source {
    /// Finds it. `root` is `/` unless in a test.
    ///
    /// # Errors
    /// In one line, why there is nothing to be shown.
    pub fn find(root: &Path, place: &Place) -> Result<Self, String> {
        match place {
            Place::Here(dir) => Self::here(root, dir),
            Place::Named(path) => Self::named(root, path),
        }
    }

    fn here(root: &Path, dir: &Path) -> Result<Self, String> {
        if let Some(init) = Running::init(root) {
            return match wait_for_recorder(root, init) {
                Ok(Some(held)) => Self::of_owner(init, held),
                Ok(None) => Err(
                    "memini (process 1) records nothing: it runs with --recorder off or --no-watch, or could not; there is \
                     nothing to show"
                        .to_owned(),
                ),
                // Its folder may be everybody's to read.
                Err(error) => Self::in_folder(root, dir, true)
                    .ok()
                    .filter(|found| found.beats)
                    .ok_or_else(|| refused(root, init.pid, &error)),
            };
        }
        let mut refusal = None;
        let mut found: Vec<(Running, Held, Option<(u64, u64)>)> = Vec::new();
        for memini in Running::all(root) {
            match memini.held(root) {
                Ok(held) => {
                    let Some(inode) = held.recorder.as_ref().map(|recorder| running::inode(&recorder.file)) else {
                        continue;
                    };
                    // A child that was not born yet holds what its parent does.
                    if !found.iter().any(|(_, _, known)| *known == inode) {
                        found.push((memini, held, inode));
                    }
                }
                Err(error) => refusal = Some(refused(root, memini.pid, &error)),
            }
        }
        if found.len() > 1 {
            let pids: Vec<String> = found.iter().map(|(memini, ..)| memini.pid.to_string()).collect();
            return Err(format!(
                "{} run here, as processes {}: say which one by its folder, as in 'memini status DIR'",
                found.len(),
                pids.join(", ")
            ));
        }
        match found.pop() {
            Some((memini, held, _)) => Self::of_owner(memini, held),
            None => Self::in_folder(root, dir, true).map_err(|why| match refusal {
                Some(refusal) => refusal,
                None => format!("no memini runs here, and {why}"),
            }),
        }
    }

    fn of_owner(owner: Running, held: Held) -> Result<Self, String> {
        let Held { recorder, seen } = held;
        let recorder = recorder.ok_or_else(|| format!("memini (process {}) records nothing", owner.pid))?;
        let running::Recorder { path, file } = recorder;
        Ok(Self { path, file, owner: Some(owner), seen, beats: true, remarks: Vec::new() })
    }

    fn named(root: &Path, path: &Path) -> Result<Self, String> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Self::in_folder(root, path, false),
            Ok(_) => {
                let (file, history) = read(path)?;
                Ok(Found { path: path.to_owned(), file, history }.into_source(root))
            }
            Err(error) => Err(format!("cannot read {}: {error}; there is nothing to show", path.display())),
        }
    }

    /// The one of several that goes on; else the one that ended last. Somebody else may have put into a folder that everybody
    /// can write to what he likes: `is_default` says that nobody has vouched for it.
    fn in_folder(root: &Path, dir: &Path, is_default: bool) -> Result<Self, String> {
        let cannot = |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", dir.display());
        if is_default {
            match fs::symlink_metadata(dir) {
                Ok(metadata) if metadata.is_symlink() => return Err(cannot(&"it is a symbolic link")),
                Ok(metadata) if ![0, geteuid().as_raw()].contains(&metadata.uid()) => {
                    let owner = metadata.uid();
                    return Err(format!("{} belongs to user {owner}; name it if it is to be trusted", dir.display()));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(&error)),
                _ => {}
            }
        }
        let mut why = None;
        let mut found = Vec::new();
        for path in running::names(dir) {
            match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => _ = why.get_or_insert(cannot(&error)),
                Ok(_) => match read(&path) {
                    Ok((file, history)) => found.push(Found { path, file, history }),
                    Err(error) => _ = why.get_or_insert(error),
                },
            }
        }
        let mut sources: Vec<(u64, Self)> =
            found.into_iter().map(|one| (one.last_seen(), one.into_source(root))).collect();
        // Those whose memini can be seen from here first, then what goes on, then what ended last.
        sources.sort_by_key(|(last, source)| std::cmp::Reverse((source.owner.is_some(), source.beats, *last)));
        let others: Vec<String> =
            sources.iter().skip(1).filter(|(_, source)| source.beats).map(|(_, source)| source.path.clone()).collect();
        let none = || format!("there is no recorder in {}", dir.display());
        let (_, mut source) = sources.into_iter().next().ok_or_else(|| why.unwrap_or_else(none))?;
        if !others.is_empty() {
            source.remarks.push(format!("another memini records in this folder, too: {}", others.join(", ")));
        }
        Ok(source)
    }

    /// What stands in it now.
    ///
    /// # Errors
    /// In one line, where it is damaged or has gone.
    pub fn read(&self) -> Result<History, String> {
        reader::read(&self.file).map_err(|why| format!("cannot read {}: {why}; there is nothing to show", self.name()))
    }

    /// Whether it has ended meanwhile. Costs next to nothing.
    pub fn has_ended(&self) -> bool {
        let is_gone = self.owner.is_some_and(|owner| !owner.goes_on(Path::new("/")));
        is_gone || reader::pulse(&self.file).is_some_and(|pulse| pulse.exit.is_some())
    }

    /// What memini's workers have seen, from the beginning; it may have been kept since this was found.
    pub fn seen_again(&self) -> Option<File> {
        let seen = match &self.seen {
            Some(seen) => seen.try_clone().ok(),
            None => self.owner?.held(Path::new("/")).ok()?.seen,
        };
        let mut seen = seen?;
        io::Seek::rewind(&mut seen).ok()?;
        Some(seen)
    }

    fn name(&self) -> &str {
        if self.path.is_empty() { "the recorder in memory" } else { &self.path }
    }

    /// Whether its run goes on.
    pub fn state(&self, root: &Path, history: &History) -> State {
        match self.owner {
            // One that is about to end has said so.
            Some(owner) if owner.goes_on(root) && history.pulse.exit.is_none() => State::Running(Some(owner.pid)),
            None if self.beats && is_fresh(history, now()) => State::Running(None),
            _ => {
                let obituary = Obituary::new(history, &machine(root, history));
                State::Ended(obituary.ending(), obituary.sentence())
            }
        }
    }
}

/// Waits for what a memini that has just started will have in a moment. `None`: it has no recorder.
fn wait_for_recorder(root: &Path, memini: Running) -> io::Result<Option<Held>> {
    let begun = SystemTime::now();
    loop {
        let held = memini.held(root)?;
        if held.recorder.is_some() {
            return Ok(Some(held));
        }
        let waited = begun.elapsed().unwrap_or(START);
        if waited >= START || memini.age(root).is_none_or(|age| age >= START) || !memini.goes_on(root) {
            return Ok(None);
        }
        std::thread::sleep(GLANCE);
    }
}

fn refused(root: &Path, pid: i32, error: &io::Error) -> String {
    let path = root.join(format!("proc/{pid}/fd"));
    let who = if error.kind() == io::ErrorKind::PermissionDenied {
        "; it takes memini's own user (docker exec --user)"
    } else {
        "; there is nothing to show"
    };
    format!("cannot read {}: {error}{who}", path.display())
}

/// A file that is a recorder.
struct Found {
    path: PathBuf,
    file: File,
    history: History,
}

fn read(path: &Path) -> Result<(File, History), String> {
    let cannot =
        |why: &dyn std::fmt::Display| format!("cannot read {}: {why}; there is nothing to show", path.display());
    let file = running::open(path).map_err(|error| cannot(&error))?;
    let history = reader::read(&file).map_err(|why| cannot(&why))?;
    Ok((file, history))
}

impl Found {
    /// Milliseconds since 1970.
    fn last_seen(&self) -> u64 {
        self.history.started().unwrap_or(0).saturating_add(self.history.pulse.since_start)
    }

    fn into_source(self, root: &Path) -> Source {
        let inode = running::inode(&self.file);
        let mut found = None;
        // Most have ended, and say so: nobody is to be asked.
        let may_go_on = self.history.pulse.exit.is_none();
        for memini in if may_go_on { Running::all(root) } else { Vec::new() } {
            let Ok(held) = memini.held(root) else { continue };
            if held.recorder.as_ref().and_then(|recorder| running::inode(&recorder.file)) == inode {
                found = Some((memini, held.seen));
                break;
            }
        }
        let beats = found.is_some() || (may_go_on && beats(&self.file, &self.history));
        let (owner, seen) = found.unzip();
        let path = self.path.display().to_string();
        Source { path, file: self.file, owner, seen: seen.flatten(), beats, remarks: Vec::new() }
    }
}

/// Whether a pulse that was fresh beats on.
fn beats(file: &File, history: &History) -> bool {
    if !is_fresh(history, now()) {
        return false;
    }
    let begun = SystemTime::now();
    while begun.elapsed().unwrap_or(PATIENCE) < PATIENCE {
        std::thread::sleep(GLANCE);
        match reader::pulse(file) {
            Some(pulse) if pulse.exit.is_some() => return false,
            Some(pulse) if pulse.since_start != history.pulse.since_start => return true,
            _ => {}
        }
    }
    false
}

fn is_fresh(history: &History, now: u64) -> bool {
    let seen = history.started().map(|started| started.saturating_add(history.pulse.since_start));
    seen.is_some_and(|seen| now.abs_diff(seen) < FRESH)
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(0)
}

/// What tells how a run ended. The count of kills is that of the own group, so it counts only if that was the run's.
fn machine(root: &Path, history: &History) -> Now {
    let boot_id = fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
    let namespace = fs::read_link(root.join("proc/self/ns/pid")).unwrap_or_default();
    let is_here = namespace.to_str().is_some_and(|namespace| namespace == history.told("pid_namespace"));
    let oom_kills = || crate::cgroup::choose::open(root, false).1.first.events.map(|events| events.oom_kill);
    Now { boot_id: boot_id.trim().to_owned(), oom_kills: if is_here { oom_kills() } else { None } }
}
