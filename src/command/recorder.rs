//! `__worker recorder`: finds the last run's recorder and tells how that run ended, then makes the one of this run.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::Flock;
use serde_json::{Value, json};

use crate::cgroup::{choose, discovery};
use crate::config::Keeping;
use crate::incident::folder::Folder;
use crate::incident::record::{self, Record};
use crate::incident::{digest, history, retention};
use crate::recorder::ending::{Ending, Now, Obituary};
use crate::recorder::format::Layout;
use crate::recorder::reader::History;
use crate::recorder::store::{self, Last, Store};
use crate::supervisor::report::Report;
use crate::sys::{descriptors, socket};

/// The longest `incident.json` that is completed.
const LONGEST_RECORD: u64 = 8 << 20;

/// How often another name is looked for, where several start at the same moment.
const TRIES: u32 = 20;

/// The words after `__worker recorder`: folder, size, the socket's descriptor, how long ago memini started in milliseconds, what
/// the run is (JSON), how much is kept.
pub fn run(words: &[OsString]) -> Option<()> {
    let [dir, size, socket, age, run, keeping] = words else { return None };
    let layout = Layout::of(size.to_str()?.parse().ok()?);
    let socket = descriptors::duplicate(socket.to_str()?.parse().ok()?).ok()?;
    let age = Duration::from_millis(age.to_str()?.parse().ok()?);
    let keeping = serde_json::from_str(keeping.to_str()?).ok()?;
    let Some(header) = header(&layout, run.to_str()?, age) else {
        Report::Failed("what the run is takes too much room; it is not recorded").send();
        return Some(());
    };
    let made = match make(Path::new(dir), &layout, &header, &keeping) {
        Ok((locked, place)) => {
            let descriptor = locked.try_clone().map(OwnedFd::from);
            // PID 1 has it from now on: to drop the lock would be to let go of it.
            std::mem::forget(locked);
            descriptor.map(|descriptor| (descriptor, place))
        }
        Err(why) => {
            Report::Told(&format!("{why}; the recorder is in memory, and nothing tells the next run of this one"))
                .send();
            store::in_memory(&layout, &header).map(|descriptor| (descriptor, 0))
        }
    };
    let sent = made
        .and_then(|(descriptor, place)| socket::send_descriptor(&UnixStream::from(socket), descriptor.as_fd(), place));
    match sent {
        Ok(()) => {
            Report::Ready.send();
            tidy(Path::new(dir), &keeping);
        }
        Err(error) => Report::Failed(&format!("cannot make a recorder: {error}; the run is not recorded")).send(),
    }
    Some(())
}

/// An app that is well writes no incident down, and old ones are to go all the same.
fn tidy(dir: &Path, keeping: &Keeping) {
    let complaints = retention::tidy(dir, "", keeping, 0).map(|left| left.complaints).unwrap_or_default();
    complaints.iter().for_each(|complaint| Report::Warning(complaint).send());
}

/// The header, with what this process can tell of the machine. What is too long is left out.
fn header(layout: &Layout, run: &str, age: Duration) -> Option<Vec<u8>> {
    let Ok(Value::Object(mut run)) = serde_json::from_str(run) else { return None };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started = u64::try_from(now.saturating_sub(age).as_millis()).unwrap_or(0);
    run.insert("started_ms".into(), started.into());
    run.insert("boot_id".into(), boot_id(Path::new("/")).into());
    run.insert("group".into(), discovery::discover(Path::new("/")).group().into());
    for left_out in ["", "configured_hooks", "settings", "source", "app"] {
        run.shift_remove(left_out);
        if let Some(header) = layout.header(&Value::Object(run.clone()).to_string()) {
            return Some(header);
        }
    }
    None
}

/// The file of this run, and which of those it is that record in this folder.
fn make(dir: &Path, layout: &Layout, header: &[u8], keeping: &Keeping) -> Result<(Flock<File>, u8), String> {
    let store = Store::open(dir)?;
    let mut tries = 0..TRIES;
    loop {
        let (place, last) = store.find()?;
        let (path, number) = (place.path(), place.number());
        let made = place.make(layout, header, matches!(last, Last::Refused(_)));
        // Whatever is told of the last run, this one is recorded first.
        match last {
            Last::None => {}
            Last::Refused(why) => Report::Warning(&why).send(),
            Last::Run(history, file) => tell(dir, number, &history, &file, keeping),
        }
        match made {
            Ok(made) => {
                if number > 1 {
                    let text = format!("another memini records in this folder; this one's recorder is {path}");
                    Report::Told(&text).send();
                }
                return Ok((made, number));
            }
            // Somebody who has started at the same moment was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries.next().is_some() => {}
            Err(error) => return Err(format!("cannot write {path}: {error}")),
        }
    }
}

/// What tells how a run ended. The count of kills is that of the own group, so it counts only if that was the run's: another
/// group's tells nothing.
pub fn now(root: &Path, history: &History) -> Now {
    let choice = choose::open(root, false).1;
    let group = choice.discovery.group();
    let is_same = !group.is_empty() && group == history.told("group");
    Now { boot_id: boot_id(root), oom_kills: choice.first.events.filter(|_| is_same).map(|events| events.oom_kill) }
}

fn boot_id(root: &Path) -> String {
    let id = std::fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
    id.trim().to_owned()
}

/// Says how the last run ended, and makes an incident of it if the kernel has killed it, or if there was one.
fn tell(dir: &Path, place: u8, history: &History, file: &File, keeping: &Keeping) {
    let obituary = Obituary::new(history, &now(Path::new("/"), history));
    let sentence = obituary.sentence();
    if obituary.is_calm() {
        Report::Told(&sentence).send();
        return;
    }
    if !matches!(obituary.ending(), Ending::OomKilled { .. }) && history.incident.is_none() {
        Report::Warning(&sentence).send();
        return;
    }
    match keep(dir, place, history, file, &obituary) {
        Ok((name, folder)) => {
            Report::Warning(&format!("{sentence}; what is left of it is in {folder}")).send();
            let complaints = retention::tidy(dir, &name, keeping, 0).map(|left| left.complaints).unwrap_or_default();
            complaints.iter().for_each(|complaint| Report::Warning(complaint).send());
        }
        Err(error) => Report::Warning(&format!("{sentence}; that is in this log only: {error}")).send(),
    }
}

/// The incident: the one that was open, completed, or one of its own. With the recorder itself among the artifacts. Its name
/// and its path.
fn keep(
    dir: &Path,
    place: u8,
    recorded: &History,
    file: &File,
    obituary: &Obituary<'_>,
) -> Result<(String, String), String> {
    let name = recorded.incident.clone().unwrap_or_else(|| {
        let end = recorded.started().unwrap_or(0).saturating_add(recorded.pulse.since_start);
        let end = UNIX_EPOCH.checked_add(Duration::from_millis(end)).unwrap_or(UNIX_EPOCH);
        crate::incident::name(end, recorded.told("hostname"), place, 1)
    });
    let folder = Folder::of_incident(dir, &name).map_err(|error| error.to_string())?;
    let artifacts = folder.enter("artifacts".as_ref()).map_err(|error| error.to_string())?;
    if let Err(error) = copy(file, &artifacts) {
        let path = artifacts.path().join("recorder");
        Report::Warning(&format!("cannot write {}: {error}; the run's history is not kept", path.display())).send();
    }
    let text = match open_record(&folder) {
        Some(record) => {
            let files =
                digest::artifacts(&artifacts, digest::MOST, |name, bytes| record::digest_in(&record, name, bytes));
            record::complete(record.clone(), obituary, &files, history::of(recorded))
        }
        None => {
            let mut record =
                Record::new(&obituary.journal(&name), 0, digest::artifacts(&artifacts, digest::MOST, |_, _| None));
            record.remember(history::of(recorded));
            record.json()
        }
    };
    folder.replace("incident.json", text.as_bytes()).map_err(|error| error.to_string())?;
    super::record::write_report(&folder, &text);
    Ok((name, folder.path().display().to_string()))
}

/// What the last run had written down already.
fn open_record(folder: &Folder) -> Option<serde_json::Map<String, Value>> {
    let mut text = String::new();
    let file = folder.open("incident.json").ok()?;
    io::Read::read_to_string(&mut io::Read::take(file, LONGEST_RECORD), &mut text).ok()?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(record)) if record.get("outcome") == Some(&json!("open")) => Some(record),
        _ => None,
    }
}

fn copy(mut from: &File, artifacts: &Folder) -> io::Result<()> {
    let mut content = Vec::new();
    io::Seek::rewind(&mut from)?;
    io::Read::read_to_end(&mut io::Read::take(from, crate::recorder::format::LARGEST), &mut content)?;
    artifacts.replace("recorder", &content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tree_of_files::Root;

    /// Regression test: the count of whatever group the next run was in said that the kernel had killed the last one.
    #[test]
    fn the_kills_of_another_group_say_nothing() {
        let root = Root::new("0::/one\n", &["/ /sys/fs/cgroup cgroup2 rw"]);
        root.v2_group("sys/fs/cgroup/one", 1 << 20, "104857600");
        root.write("proc/sys/kernel/random/boot_id", "b\n");
        let own = discovery::discover(root.path()).group();
        let of = |group: &str| {
            let history = History { run: json!({"group": group}), ..History::default() };
            (now(root.path(), &history).oom_kills, now(root.path(), &history).boot_id)
        };
        assert_eq!(of(&own), (Some(4), "b".to_owned()));
        assert_eq!((of("1:2").0, of("").0), (None, None));
        // A group that takes its place is another one, though it has the same path.
        std::fs::rename(root.at("sys/fs/cgroup/one"), root.at("old")).unwrap();
        root.v2_group("sys/fs/cgroup/one", 1 << 20, "104857600");
        assert_eq!(of(&own).0, None);
    }
}
