//! `__worker evidence`: looks at the app's processes, compares with what was seen before, and says who has grown.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::capture::census::{Census, Refusal};
use crate::capture::proc::Identity;
use crate::capture::python::helper::{self, Tracing};
use crate::capture::sentences;
use crate::capture::snapshot::{IN_DEPTH, Recipe, Snapshot};
use crate::capture::suspects::{Findings, find};
use crate::capture::{jvm, python};
use crate::config::Recipes;
use crate::incident::folder::Folder;
use crate::process::list::List;
use crate::supervisor::evidence::Order;
use crate::supervisor::report::Report;
use crate::sys::descriptors;
use crate::sys::process::ProcessId;
use crate::text::plain;
use crate::units::Size;

use super::capture::{Answer, composition};
use super::dump;
use super::running::is_worker;

/// How many lines of what was found stand in the log.
const TOLD: usize = 4;

/// How much of what was seen is kept, all looks together: what is kept is charged to the app's group.
const MOST_KEPT: usize = 1 << 20;

/// How many looks are kept: the first one, and the newest.
const MOST_LOOKS: usize = 4;

/// What a look at the kernel's numbers takes, and what a census takes; bytes, in the app's group. Measured with 20 processes and
/// with a heap of two gigabytes, and rounded up.
const COST_OF_LOOK: u64 = 8 << 20;
const COST_OF_CENSUS: u64 = 16 << 20;

/// Looks, tells, and keeps what was seen.
pub fn run(words: &[std::ffi::OsString]) -> Option<()> {
    let order = Order::parse(words)?;
    match look(&order) {
        Ok(()) => Report::Code(0).send(),
        Err(why) => Report::Failed(&format!("{why}; there is no evidence of the {} stage", order.stage)).send(),
    }
    Some(())
}

fn look(order: &Order) -> Result<(), String> {
    let recipes = allowed(order)?;
    let mut seen = Seen::open(order.seen).map_err(|error| format!("cannot read what was seen before: {error}"))?;
    let pids = tree(order.app)?;
    let faults = RefCell::new(Vec::new());
    let file = file_of_helper(&order.dir);
    let tracing = order
        .frames
        .map(|frames| Tracing::of_look(frames, order.room).shared(&pids, IN_DEPTH).brought(&file, tell_of_hold));
    let python = |identity: Identity| {
        let Some(tracing) = tracing else { return python_census(identity) };
        let (census, fault) = tracing.add(identity.pid, python_census(identity));
        faults.borrow_mut().extend(fault);
        census
    };
    let jvm = |identity: Identity| {
        let limits = jvm::histogram::Limits { start: Some(identity.start), ..Default::default() };
        jvm::histogram::census(identity.pid, limits)
    };
    let mut wanted: Vec<Recipe<'_>> = Vec::new();
    if recipes.python {
        wanted.push(&python);
    }
    if recipes.jvm {
        wanted.push(&jvm);
    }
    let mut snapshot = Snapshot::take(&pids, composition(), seen.looks.first(), &wanted);
    snapshot.stage.clone_from(&order.stage);
    if snapshot.processes.is_empty() {
        return Err("no process could be looked at".to_owned());
    }
    let all: Vec<&Snapshot> = seen.looks.iter().chain([&snapshot]).collect();
    let findings = find(&all);
    for line in sentences::lines(&findings).iter().take(TOLD) {
        Report::Found(line).send();
    }
    let refused = snapshot.processes.iter().filter_map(|look| look.no_census.as_deref());
    for why in refused.chain(faults.borrow().iter().map(String::as_str)) {
        Report::LeftOut(&plain(why)).send();
    }
    if let Some(incident) = &order.incident {
        // Without it there is still the log, and what the next look is compared with.
        if let Err(why) = keep(order, incident, &snapshot, &findings) {
            Report::Warning(&why).send();
        }
    }
    if let (Some(incident), "capture") = (&order.incident, order.stage.as_str())
        && recipes.jvm
    {
        dump::take(order, incident, &snapshot, &findings);
    }
    seen.add(snapshot).map_err(|error| format!("cannot keep what was seen: {error}"))
}

fn file_of_helper(dir: &Path) -> PathBuf {
    std::path::absolute(dir.join(helper::FOLDER).join(helper::FILE)).unwrap_or_default()
}

/// Ends what helpers record in the app's processes.
pub fn unrecord(words: &[std::ffi::OsString]) -> Option<()> {
    let [dir, app] = words else { return None };
    let file = file_of_helper(dir.as_ref());
    match tree(app.to_str()?.parse().ok()?) {
        Ok(pids) => pids.into_iter().for_each(|pid| helper::end(pid, &file, tell_of_hold)),
        Err(why) => Report::Warning(&why).send(),
    }
    Some(())
}

/// What there is room for. A look that calls the OOM killer would be worse than none.
fn allowed(order: &Order) -> Result<Recipes, String> {
    let room = order.room.unwrap_or(u64::MAX);
    if room < COST_OF_LOOK {
        return Err(format!("a look at the processes may need {}, and {} are left", Size(COST_OF_LOOK), Size(room)));
    }
    if room < COST_OF_CENSUS && order.recipes != Recipes::NONE {
        Report::LeftOut(&format!(
            "a census may need {}, and {} are left: the kernel's numbers must do",
            Size(COST_OF_CENSUS),
            Size(room)
        ))
        .send();
        return Ok(Recipes::NONE);
    }
    Ok(order.recipes)
}

/// Everybody whom memini runs, but for memini's own workers and what they have started.
fn tree(app: i32) -> Result<Vec<i32>, String> {
    let cannot = |error| format!("{error}; nothing can be looked at");
    let init = std::os::unix::process::parent_id().cast_signed();
    let mut list = List::open("/".as_ref()).map_err(cannot)?;
    let everybody = list.everybody().map_err(cannot)?;
    let children = |parent: i32| everybody.iter().filter(move |process| process.parent == parent);
    let mut chosen: Vec<i32> = children(init).map(|child| child.pid).filter(|pid| !is_worker(*pid)).collect();
    // The app first: it counts even where memini is gone already, and its children are somebody else's.
    chosen.sort_by_key(|pid| *pid != app);
    if chosen.first() != Some(&app) {
        chosen.insert(0, app);
    }
    let mut next = 0;
    while let Some(parent) = chosen.get(next).copied() {
        chosen.extend(children(parent).map(|child| child.pid));
        next = next.saturating_add(1);
    }
    Ok(chosen)
}

fn python_census(identity: Identity) -> Result<Census, Refusal> {
    let Some(process) = ProcessId::new(identity.pid) else { return Err(Refusal::NotMine) };
    let limits = python::Limits { start: Some(identity.start), on_hold: tell_of_hold, ..Default::default() };
    python::census(process, &limits)
}

/// PID 1 lets a process go on that a worker has stopped, if that dies meanwhile.
fn tell_of_hold(process: Option<ProcessId>) -> io::Result<()> {
    Report::Holds(process.map_or(0, ProcessId::get)).send();
    Ok(())
}

/// The incident's own copy, for people.
fn keep(order: &Order, incident: &str, snapshot: &Snapshot, findings: &Findings) -> Result<(), String> {
    let name = format!("evidence-{}-{}.json", order.stage, order.run);
    let folder = Folder::of_incident(&order.dir, incident).and_then(|folder| folder.enter("artifacts".as_ref()));
    let folder = folder.map_err(|error| format!("{error}; what was found is in this log only"))?;
    let answer = Answer { snapshot, findings, heap_dump: None };
    let text = serde_json::to_string(&answer).map_err(|error| format!("cannot be written as JSON: {error}"))?;
    let path = folder.path().join(&name);
    folder
        .replace(&name, text.as_bytes())
        .map_err(|error| format!("cannot write {}: {error}; what was found is in this log only", path.display()))?;
    Report::Output(text.len() as u64, &format!("artifacts/{name}")).send();
    Ok(())
}

/// What was seen before: a line of JSON each, in memory that PID 1 holds.
struct Seen {
    file: File,
    looks: Vec<Snapshot>,
}

impl Seen {
    fn open(descriptor: i32) -> io::Result<Self> {
        let mut file = File::from(descriptors::duplicate(descriptor)?);
        let mut text = String::new();
        file.seek(SeekFrom::Start(0))?;
        (&file).take(MOST_KEPT as u64).read_to_string(&mut text)?;
        // A worker that was killed in the middle may have left half a line.
        let looks = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(Self { file, looks })
    }

    /// The first look stays, as what all others are compared with; of the others the newest.
    fn add(&mut self, look: Snapshot) -> io::Result<()> {
        self.looks.push(look);
        if self.looks.len() > MOST_LOOKS {
            self.looks.remove(1);
        }
        let mut text = String::new();
        for look in &self.looks {
            let line = serde_json::to_string(look)?;
            if text.len().saturating_add(line.len()) < MOST_KEPT {
                text.push_str(&line);
                text.push('\n');
            }
        }
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_was_seen_is_kept_but_not_without_end() {
        let keeper = crate::supervisor::evidence::keeper().unwrap();
        for taken_ms in 0..10u64 {
            let mut seen = Seen::open(keeper.as_raw_fd()).unwrap();
            let times: Vec<u64> = seen.looks.iter().map(|look| look.taken_ms).collect();
            let newest = taken_ms.saturating_sub(MOST_LOOKS as u64 - 1).max(1)..taken_ms;
            let wanted: Vec<u64> = (taken_ms > 0).then_some(0).into_iter().chain(newest).collect();
            assert_eq!(times, wanted);
            seen.add(Snapshot { taken_ms, ..Snapshot::default() }).unwrap();
        }
        // As a worker leaves it that is killed while it writes.
        let file = File::from(keeper.try_clone().unwrap());
        let length = fs::metadata(format!("/proc/self/fd/{}", keeper.as_raw_fd())).unwrap().len();
        file.set_len(length - 5).unwrap();
        assert_eq!(Seen::open(keeper.as_raw_fd()).unwrap().looks.len(), MOST_LOOKS - 1);
    }

    #[test]
    fn without_room_nothing_is_looked_at() {
        let order = |room| Order {
            dir: "/".into(),
            incident: None,
            run: 1,
            app: 1,
            stage: "trace".into(),
            room,
            recipes: Recipes::ALL,
            heavy: crate::config::Heavy {
                when: crate::config::When::Auto,
                max_pause: std::time::Duration::ZERO,
                redact: false,
                live: false,
            },
            keeping: crate::config::Keeping { incidents: 1, dumps: 1, age: None, artifact: 1, total: 1, free: 0 },
            frames: None,
            seen: 0,
        };
        assert_eq!(allowed(&order(None)), Ok(Recipes::ALL));
        assert_eq!(allowed(&order(Some(COST_OF_CENSUS))), Ok(Recipes::ALL));
        assert_eq!(allowed(&order(Some(COST_OF_CENSUS - 1))), Ok(Recipes::NONE));
        let why = allowed(&order(Some(COST_OF_LOOK - 1))).unwrap_err();
        assert!(why.contains("8 MiB"), "{why}");
    }
}
