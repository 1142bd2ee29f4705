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

use crate::command::recorder;
use crate::command::running::{self, Held, Inode, Running};
use crate::recorder::ending::Obituary;
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
        let mut found: Vec<(Running, Held, Option<Inode>)> = Vec::new();
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
        let mut sources: Vec<(u64, Self)> = found
            .into_iter()
            .map(|one| {
                let (started, last) = (one.history.started().unwrap_or(0), one.last_seen());
                let source = one.into_source(root);
                (if source.beats { started } else { last }, source)
            })
            .collect();
        // Those whose memini can be seen from here first, then what goes on, the youngest first; then what ended last.
        sources.sort_by_key(|(when, source)| std::cmp::Reverse((source.owner.is_some(), source.beats, *when)));
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
                let obituary = Obituary::new(history, &recorder::now(root, history));
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::json;

    use super::*;
    use crate::cgroup::tree_of_files::Root;
    use crate::command::running::tests::process;
    use crate::engine::event::Glimpse;
    use crate::recorder::ending::Ending;
    use crate::recorder::format::{Layout, SMALLEST};
    use crate::recorder::writer::Writer;
    use crate::sys::map::SharedWords;

    /// A recorder of a run that began so many seconds ago, has been seen for so many, and has ended with this code.
    fn recorder(path: &Path, began: u64, seen: u64, exit: Option<u8>) -> Writer<SharedWords> {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let layout = Layout::of(SMALLEST);
        let started = now() - began * 1000;
        let run = json!({"boot_id": "b", "started_ms": started, "app": {"command": ["app"]}});
        let mut content = layout.header(&run.to_string()).unwrap();
        content.resize(usize::try_from(layout.bytes).unwrap(), 0);
        fs::write(path, content).unwrap();
        let file = File::options().read(true).write(true).open(path).unwrap();
        let map = SharedWords::map(file.into(), usize::try_from(layout.bytes).unwrap()).unwrap();
        let mut writer = Writer::new(map, &layout);
        writer.look(Duration::from_secs(seen), &Glimpse::default(), None);
        if let Some(code) = exit {
            writer.exit(Duration::from_secs(seen), code);
        }
        writer
    }

    /// A machine, and a folder on it.
    fn machine() -> (Root, PathBuf) {
        let root = Root::new("", &[]);
        root.write("proc/sys/kernel/random/boot_id", "b\n");
        let dir = root.at("dir");
        fs::create_dir(&dir).unwrap();
        (root, dir)
    }

    fn here(root: &Root, dir: &Path) -> Result<Source, String> {
        Source::find(root.path(), &Place::Here(dir.to_owned()))
    }

    fn named(root: &Root, path: &Path) -> Result<Source, String> {
        Source::find(root.path(), &Place::Named(path.to_owned()))
    }

    fn state(root: &Root, source: &Source) -> State {
        source.state(root.path(), &source.read().unwrap())
    }

    #[test]
    fn the_memini_that_is_pid_1_is_shown_wherever_it_records() {
        let (root, dir) = machine();
        // In the folder that is looked at by default there is an older run.
        recorder(&dir.join("recorder"), 100, 50, Some(0));
        let elsewhere = root.at("elsewhere/recorder.2");
        recorder(&elsewhere, 100, 100, None);
        process(&root, 1, "memini", &[(5, &elsewhere, "02100002")]);
        let source = here(&root, &dir).unwrap();
        assert_eq!(source.path, elsewhere.display().to_string());
        assert_eq!(state(&root, &source), State::Running(Some(1)));
    }

    #[test]
    fn a_memini_without_a_recorder_says_so_in_one_line() {
        let (root, dir) = machine();
        recorder(&dir.join("recorder"), 100, 50, Some(0));
        process(&root, 1, "memini", &[]);
        let why = here(&root, &dir).unwrap_err();
        assert!(why.starts_with("memini (process 1) records nothing: ") && !why.contains('\n'), "{why}");
    }

    #[test]
    fn of_several_meminis_one_must_be_named_and_a_reader_is_none() {
        let (root, dir) = machine();
        let (one, other) = (root.at("one/recorder"), root.at("other/recorder"));
        let writers = [recorder(&one, 100, 100, None), recorder(&other, 100, 100, None)];
        process(&root, 1, "systemd", &[]);
        process(&root, 7, "memini", &[(5, &one, "02100002")]);
        // As `memini status` itself has it open, and a child that is not born yet.
        process(&root, 8, "memini", &[(5, &other, "02100000")]);
        process(&root, 9, "memini", &[(5, &one, "02100002")]);
        assert_eq!(here(&root, &dir).unwrap().owner.map(|owner| owner.pid), Some(7));
        process(&root, 12, "memini", &[(5, &other, "02100002")]);
        let why = here(&root, &dir).unwrap_err();
        assert_eq!(why, "2 run here, as processes 7, 12: say which one by its folder, as in 'memini status DIR'");
        let source = named(&root, other.parent().unwrap()).unwrap();
        assert_eq!(state(&root, &source), State::Running(Some(12)));
        drop(writers);
    }

    #[test]
    fn without_a_memini_the_last_run_in_the_folder_is_shown_as_ended() {
        let (root, dir) = machine();
        assert_eq!(
            here(&root, &dir).unwrap_err(),
            format!("no memini runs here, and there is no recorder in {}", dir.display())
        );
        recorder(&dir.join("recorder"), 1000, 50, Some(0));
        recorder(&dir.join("recorder.2"), 500, 50, Some(75));
        let source = here(&root, &dir).unwrap();
        assert_eq!(source.path, dir.join("recorder.2").display().to_string());
        assert!(matches!(state(&root, &source), State::Ended(Ending::Exited(75), _)));
        assert!(source.remarks.is_empty());
        // One that somebody has killed long ago says nothing, and is not waited for.
        recorder(&dir.join("recorder.3"), 400, 50, None);
        let source = here(&root, &dir).unwrap();
        assert!(matches!(state(&root, &source), State::Ended(Ending::Killed, _)), "{source:?}");
    }

    #[test]
    fn of_two_in_one_folder_each_can_be_asked_for() {
        let (root, dir) = machine();
        let (one, other) = (dir.join("recorder"), dir.join("recorder.2"));
        let writers = [recorder(&one, 100, 100, None), recorder(&other, 50, 50, None)];
        process(&root, 7, "memini", &[(5, &one, "02100002")]);
        process(&root, 12, "memini", &[(5, &other, "02100002")]);
        let source = named(&root, &dir).unwrap();
        assert_eq!(source.owner.map(|owner| owner.pid), Some(12), "the newest");
        assert_eq!(source.remarks, [format!("another memini records in this folder, too: {}", one.display())]);
        let source = named(&root, &one).unwrap();
        assert_eq!((source.owner.map(|owner| owner.pid), source.remarks.len()), (Some(7), 0));
        drop(writers);
    }

    // As in another container, with which the folder is shared.
    #[test]
    fn a_run_whose_memini_cannot_be_seen_is_known_by_its_pulse() {
        let (root, dir) = machine();
        let (over, ready) = (AtomicBool::new(false), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = recorder(&dir.join("recorder"), 100, 99, None);
                ready.wait();
                let mut millis = 99_000;
                while !over.load(Ordering::Relaxed) {
                    millis += 10;
                    writer.look(Duration::from_millis(millis), &Glimpse::default(), None);
                    std::thread::sleep(GLANCE);
                }
            });
            ready.wait();
            let source = named(&root, &dir);
            let found = source.as_ref().map(|source| state(&root, source));
            over.store(true, Ordering::Relaxed);
            assert_eq!(found, Ok(State::Running(None)));
        });
    }

    #[test]
    fn what_cannot_be_read_is_one_line_with_path_and_cause() {
        let (root, dir) = machine();
        let path = dir.join("recorder");
        let gone = root.at("gone");
        let why = named(&root, &gone).unwrap_err();
        let expected =
            format!("cannot read {}: No such file or directory (os error 2); there is nothing to show", gone.display());
        assert_eq!(why, expected);
        for (content, cause) in [
            (&b"precious"[..], "it is no recorder"),
            (b"memini\0R\x01\0\0\0", "it is cut short"),
            (&[0xff; 2 << 20], "it is no recorder"),
        ] {
            fs::write(&path, content).unwrap();
            let expected = format!("cannot read {}: {cause}; there is nothing to show", path.display());
            assert_eq!(named(&root, &dir).unwrap_err(), expected);
            assert_eq!(named(&root, &path).unwrap_err(), expected);
        }
        // Others are still shown.
        recorder(&dir.join("recorder.2"), 100, 50, Some(0));
        assert!(named(&root, &dir).unwrap().path.ends_with("/recorder.2"));
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        fs::remove_file(dir.join("recorder.2")).unwrap();
        assert!(named(&root, &dir).unwrap_err().contains("it is a pipe"));
    }

    #[test]
    fn what_somebody_else_may_have_put_there_is_not_shown_unless_it_is_named() {
        let (root, dir) = machine();
        recorder(&dir.join("recorder"), 100, 50, Some(0));
        let link = root.at("link");
        symlink(&dir, &link).unwrap();
        assert!(here(&root, &link).unwrap_err().contains("it is a symbolic link"));
        assert!(named(&root, &link).is_ok());
        if geteuid().is_root() {
            chown(&dir, Some(65_534), None).unwrap();
            let why = here(&root, &dir).unwrap_err();
            assert!(why.contains("belongs to user 65534") && !why.contains('\n'), "{why}");
            assert!(named(&root, &dir).is_ok());
        }
    }
}
