//! `__worker evidence`: looks at the app's processes, compares with what was seen before, and says who has grown.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::capture::census::{Census, Refusal};
use crate::capture::jvm::attach::Deadline;
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

/// No process is looked into with less time than this.
const LEAST_TIME: Duration = Duration::from_millis(30);

/// A quarter of a look's time, and no more than this, is for starting, comparing and writing.
const MOST_REST: Duration = Duration::from_secs(1);

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
    let end = End::of(order.time);
    let recipes = allowed(order)?;
    let mut seen = Seen::open(order.seen).map_err(|error| format!("cannot read what was seen before: {error}"))?;
    let pids = tree(order.app)?;
    let mut snapshot = Snapshot::from_outside(&pids, composition());
    snapshot.stage.clone_from(&order.stage);
    if snapshot.processes.is_empty() {
        return Err("no process could be looked at".to_owned());
    }
    if order.incident.is_none() {
        seen.begin_anew(&snapshot);
    }
    let mut faults = Vec::new();
    if recipes != Recipes::NONE {
        tell_so_far(order, &seen, &snapshot);
        faults = look_deeper(order, recipes, &pids, end, &seen, &mut snapshot);
    }
    let findings = seen.compare(&snapshot);
    for line in sentences::lines(&findings).iter().take(TOLD) {
        Report::Found(line).send();
    }
    let refused = snapshot.processes.iter().filter_map(|look| look.no_census.as_deref());
    for why in refused.chain(faults.iter().map(String::as_str)) {
        Report::LeftOut(&plain(why)).send();
    }
    let kept = seen.keep(&snapshot).map_err(|error| format!("cannot keep what was seen: {error}"));
    let Some(incident) = &order.incident else { return kept };
    if let Err(why) = kept {
        Report::Warning(&format!("{why}; it is missing where later looks are compared with earlier ones")).send();
    }
    // Without it there is still the log, and what the next look is compared with.
    let answer = Answer { snapshot: &snapshot, findings: &findings, heap_dump: None, so_far: false };
    if let Err(why) = keep(order, incident, &answer, Folder::replace) {
        Report::Warning(&why).send();
    }
    if order.stage == "capture" && recipes.jvm {
        dump::take(order, incident, &snapshot, &findings, end.left());
    }
    Ok(())
}

/// What the kernel knows is there within a moment; a census may take long, and the worker may be killed before it ends. Nothing
/// that is told here is the last word, and nothing that fails here a reason to end.
fn tell_so_far(order: &Order, seen: &Seen, snapshot: &Snapshot) {
    let findings = seen.compare(snapshot);
    for line in sentences::lines(&findings).iter().take(TOLD) {
        Report::SoFar(line).send();
    }
    let _ = seen.keep(snapshot);
    if let Some(incident) = &order.incident {
        let answer = Answer { snapshot, findings: &findings, heap_dump: None, so_far: true };
        let _ = keep(order, incident, &answer, Folder::replace_soon);
    }
}

/// Returns, a sentence each, what was not to be had.
fn look_deeper(
    order: &Order,
    recipes: Recipes,
    pids: &[i32],
    end: End,
    seen: &Seen,
    snapshot: &mut Snapshot,
) -> Vec<String> {
    let faults = RefCell::new(Vec::new());
    let is_late = Cell::new(false);
    let file = file_of_helper(&order.dir);
    let tracing = order.frames.map(|frames| {
        let tracing = Tracing::of_look(frames, order.room).shared(pids, IN_DEPTH).brought(&file, tell_of_hold);
        Tracing { until: tracing.until.min(end.0.at()), ..tracing }
    });
    let in_time = |census: &dyn Fn() -> Result<Census, Refusal>| {
        if end.left() < LEAST_TIME {
            is_late.set(true);
            return Err(Refusal::NotMine);
        }
        census()
    };
    let python = |identity: Identity| {
        in_time(&|| {
            let Some(tracing) = tracing else { return python_census(identity, end) };
            let (census, fault) = tracing.add(identity.pid, python_census(identity, end));
            faults.borrow_mut().extend(fault);
            census
        })
    };
    let jvm = |identity: Identity| in_time(&|| jvm_census(identity, end));
    let mut wanted: Vec<Recipe<'_>> = Vec::new();
    if recipes.python {
        wanted.push(&python);
    }
    if recipes.jvm {
        wanted.push(&jvm);
    }
    snapshot.look_deeper(seen.looks.first(), &wanted);
    let mut faults = faults.take();
    if is_late.get() {
        let late = "there was no time to look into all processes: of the others the kernel's numbers must do";
        faults.push(late.to_owned());
    }
    faults
}

/// When a look must be over.
#[derive(Clone, Copy, Debug)]
struct End(Deadline);

impl End {
    /// In so long a time, less what all else takes.
    fn of(time: Duration) -> Self {
        Self(Deadline::after(time.saturating_sub((time / 4).min(MOST_REST))))
    }

    fn left(self) -> Duration {
        self.0.left().unwrap_or_default()
    }

    /// For one process: the first has grown most, and the others are to have a part, too.
    fn for_one(self) -> Duration {
        let left = self.left();
        left.saturating_sub(left / 4)
    }
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
    has_room_to_look(order.room)?;
    if order.recipes != Recipes::NONE
        && let Err(why) = has_room_for_census(order.room)
    {
        Report::LeftOut(&why).send();
        return Ok(Recipes::NONE);
    }
    Ok(order.recipes)
}

/// Whether what is left below the limit is enough to look at the processes.
///
/// # Errors
/// In one line, why not.
pub(super) fn has_room_to_look(room: Option<u64>) -> Result<(), String> {
    match room {
        Some(room) if room < COST_OF_LOOK => {
            Err(format!("a look at the processes may need {}, and {} are left", Size(COST_OF_LOOK), Size(room)))
        }
        _ => Ok(()),
    }
}

/// Whether it is enough to look into them.
///
/// # Errors
/// In one line, why not.
pub(super) fn has_room_for_census(room: Option<u64>) -> Result<(), String> {
    match room {
        Some(room) if room < COST_OF_CENSUS => Err(format!(
            "a census may need {}, and {} are left: the kernel's numbers must do",
            Size(COST_OF_CENSUS),
            Size(room)
        )),
        _ => Ok(()),
    }
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

fn python_census(identity: Identity, end: End) -> Result<Census, Refusal> {
    let Some(process) = ProcessId::new(identity.pid) else { return Err(Refusal::NotMine) };
    let limits = python::Limits { start: Some(identity.start), on_hold: tell_of_hold, ..Default::default() };
    python::census(process, &python::Limits { pause: limits.pause.min(end.for_one()), ..limits })
}

fn jvm_census(identity: Identity, end: End) -> Result<Census, Refusal> {
    let limits = jvm::histogram::Limits { start: Some(identity.start), ..Default::default() };
    jvm::histogram::census(identity.pid, jvm::histogram::Limits { time: limits.time.min(end.for_one()), ..limits })
}

/// PID 1 lets a process go on that a worker has stopped, if that dies meanwhile.
fn tell_of_hold(process: Option<ProcessId>) -> io::Result<()> {
    Report::Holds(process.map_or(0, ProcessId::get)).send();
    Ok(())
}

/// The incident's own copy, for people.
fn keep(
    order: &Order,
    incident: &str,
    answer: &Answer<'_>,
    write: impl FnOnce(&Folder, &str, &[u8]) -> io::Result<()>,
) -> Result<(), String> {
    let name = format!("evidence-{}-{}.json", order.stage, order.run);
    let folder = Folder::of_incident(&order.dir, incident).and_then(|folder| folder.enter("artifacts".as_ref()));
    let folder = folder.map_err(|error| format!("{error}; what was found is in this log only"))?;
    let text = serde_json::to_string(answer).map_err(|error| format!("cannot be written as JSON: {error}"))?;
    let path = folder.path().join(&name);
    write(&folder, &name, text.as_bytes())
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
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        (&file).take(MOST_KEPT as u64).read_to_end(&mut text)?;
        // A worker that was killed in the middle may have left half a line, or half a character.
        let looks = String::from_utf8_lossy(&text).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(Self { file, looks })
    }

    fn compare(&self, look: &Snapshot) -> Findings {
        let all: Vec<&Snapshot> = self.looks.iter().chain([look]).collect();
        find(&all)
    }

    /// This is the baseline: what was seen before, and held more, was a peak, and nothing to be compared with. Nor is a baseline that
    /// has failed.
    fn begin_anew(&mut self, baseline: &Snapshot) {
        let most = baseline.whole();
        self.looks.retain(|look| look.stage != baseline.stage && look.whole() <= most);
    }

    /// Keeps this one, too. The first look stays, as what all others are compared with; of the others the newest.
    fn keep(&self, newest: &Snapshot) -> io::Result<()> {
        let newest = newest.lean();
        let all = self.looks.iter().chain([&newest]);
        let mut lines: Vec<String> = all.map(serde_json::to_string).collect::<Result<_, _>>()?;
        let length =
            |lines: &[String]| lines.iter().fold(0usize, |sum, line| sum.saturating_add(line.len()).saturating_add(1));
        while lines.len() > MOST_LOOKS || (lines.len() > 2 && length(&lines) > MOST_KEPT) {
            lines.remove(1);
        }
        if length(&lines) > MOST_KEPT {
            let (needed, most) = (Size(length(&lines) as u64), Size(MOST_KEPT as u64));
            return Err(io::Error::other(format!("with the first look it takes {needed}, and {most} may be kept")));
        }
        let text = lines.join("\n") + "\n";
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::capture::proc::Process;
    use crate::capture::proc::memory::{Kind, Memory};
    use crate::capture::snapshot::Look;

    fn times(seen: &Seen) -> Vec<u64> {
        seen.looks.iter().map(|look| look.taken_ms).collect()
    }

    #[test]
    fn what_was_seen_is_kept_but_not_without_end() {
        let keeper = crate::supervisor::evidence::keeper().unwrap();
        for taken_ms in 0..10u64 {
            let seen = Seen::open(keeper.as_raw_fd()).unwrap();
            let times = times(&seen);
            let newest = taken_ms.saturating_sub(MOST_LOOKS as u64 - 1).max(1)..taken_ms;
            let wanted: Vec<u64> = (taken_ms > 0).then_some(0).into_iter().chain(newest).collect();
            assert_eq!(times, wanted);
            seen.keep(&Snapshot { taken_ms, ..Snapshot::default() }).unwrap();
        }
        // As a worker leaves it that is killed while it writes.
        let file = File::from(keeper.try_clone().unwrap());
        let length = fs::metadata(format!("/proc/self/fd/{}", keeper.as_raw_fd())).unwrap().len();
        file.set_len(length - 5).unwrap();
        assert_eq!(Seen::open(keeper.as_raw_fd()).unwrap().looks.len(), MOST_LOOKS - 1);
    }

    #[test]
    fn half_a_character_costs_no_more_than_its_line() {
        let keeper = crate::supervisor::evidence::keeper().unwrap();
        let seen = Seen::open(keeper.as_raw_fd()).unwrap();
        seen.keep(&Snapshot { taken_ms: 7, ..Snapshot::default() }).unwrap();
        let mut file = &seen.file;
        file.write_all(b"{\"stage\":\"caf\xc3").unwrap();
        assert_eq!(times(&Seen::open(keeper.as_raw_fd()).unwrap()), [7]);
    }

    #[test]
    fn the_newest_look_goes_before_those_between_and_one_that_does_not_fit_is_told() {
        let keeper = crate::supervisor::evidence::keeper().unwrap();
        let keep = |taken_ms, length| {
            let stage = "x".repeat(length);
            Seen::open(keeper.as_raw_fd()).unwrap().keep(&Snapshot { taken_ms, stage, ..Snapshot::default() })
        };
        for (taken_ms, length, kept) in
            [(1, 400 << 10, &[1][..]), (2, 400 << 10, &[1, 2]), (3, 500 << 10, &[1, 3]), (4, 1 << 10, &[1, 3, 4])]
        {
            keep(taken_ms, length).unwrap();
            assert_eq!(times(&Seen::open(keeper.as_raw_fd()).unwrap()), kept);
        }
        let why = keep(5, 700 << 10).unwrap_err().to_string();
        assert!(why.contains("1.1 MiB, and 1 MiB"), "{why}");
        assert_eq!(times(&Seen::open(keeper.as_raw_fd()).unwrap()), [1, 3, 4]);
    }

    #[test]
    fn a_peak_is_nothing_to_compare_with_once_there_is_a_baseline() {
        let keeper = crate::supervisor::evidence::keeper().unwrap();
        let look = |taken_ms, stage: &str, held: u64| {
            let memory = Memory { kinds: [(Kind::Anonymous, held)].into(), ..Memory::default() };
            let process = Process { memory: Some(memory), ..Process::default() };
            let processes = vec![Look { process, ..Look::default() }];
            Snapshot { taken_ms, stage: stage.into(), processes, ..Snapshot::default() }
        };
        for (taken_ms, stage, held) in [(1, "trace", 10 << 20), (2, "capture", 600 << 20), (3, "normal", 10 << 20)] {
            Seen::open(keeper.as_raw_fd()).unwrap().keep(&look(taken_ms, stage, held)).unwrap();
        }
        let mut seen = Seen::open(keeper.as_raw_fd()).unwrap();
        let baseline = look(4, "normal", 200 << 20);
        seen.begin_anew(&baseline);
        seen.keep(&baseline).unwrap();
        assert_eq!(times(&Seen::open(keeper.as_raw_fd()).unwrap()), [1, 4]);
    }

    #[test]
    fn a_look_ends_before_it_is_cut_and_each_process_leaves_time_for_the_next() {
        for milliseconds in [0, 300, 30_000] {
            let time = Duration::from_millis(milliseconds);
            let end = End::of(time);
            let left = end.left();
            assert!(left <= time.saturating_sub((time / 4).min(MOST_REST)), "{left:?} of {time:?}");
            assert!(end.for_one() <= left - left / 4);
        }
        assert!(End::of(Duration::MAX).left() > Duration::from_secs(86_400) / 2);
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
            time: Duration::from_secs(30),
            recipes: Recipes::ALL,
            heavy: crate::config::Heavy {
                when: crate::config::When::Auto,
                max_pause: Duration::ZERO,
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
