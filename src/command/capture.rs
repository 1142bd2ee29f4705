//! `memini capture`: evidence on demand, beside a running memini or without one. Changes nothing, but for a heap dump that is
//! asked for.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::capture::census::{Census, Refusal};
use crate::capture::proc::Identity;
use crate::capture::proc::memory::Kind;
use crate::capture::sentences::{self, Signed};
use crate::capture::snapshot::{Composition, IN_DEPTH, Look, Recipe, SCHEMA, Snapshot};
use crate::capture::suspects::{Findings, Suspect, find};
use crate::capture::{jvm, python};
use crate::cgroup::choose;
use crate::cgroup::reading::Scope;
use crate::config::Dumping;
use crate::process::list::List;
use crate::sys::process::ProcessId;
use crate::text::{plain, plain_json};
use crate::units::{Size, Span};

use super::dump::{self, Taken};
use super::evidence::{has_room_for_census, has_room_to_look};
use super::releaser;
use super::running::Running;

/// How many types and containers of a process are shown.
const SHOWN: usize = 8;

/// The longest file of an earlier snapshot.
const LONGEST: u64 = 64 << 20;

/// What `memini capture` was asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Answer with one JSON object.
    pub json: bool,
    /// Whose evidence; empty: all that the memini which is PID 1 runs.
    pub pids: Vec<i32>,
    /// An earlier answer, to compare with.
    pub since: Option<PathBuf>,
    /// The heap dump that is to be taken, too.
    pub dumping: Option<Dumping>,
}

/// The answer as one object: a snapshot that can be compared with a later one, and what it says.
#[derive(Serialize)]
pub(super) struct Answer<'a> {
    #[serde(flatten)]
    pub(super) snapshot: &'a Snapshot,
    pub(super) findings: &'a Findings,
    /// What was dumped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) heap_dump: Option<Taken>,
    /// The look goes on, or was cut: only what the kernel knows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) so_far: bool,
}

/// Answers: the text, with a newline at its end; and in one line, why there is no heap dump though one was asked for.
///
/// # Errors
/// In one line, what cannot be done and why.
#[inline(never)]
pub fn capture(question: &Question) -> Result<(String, Option<String>), String> {
    let before = question.since.as_deref().map(earlier).transpose()?;
    let pids = whose(&question.pids)?;
    let composition = composition();
    let recipes = affordable(composition.as_ref())?;
    let snapshot = Snapshot::take(&pids, composition, before.as_ref(), recipes);
    if snapshot.processes.is_empty() {
        return Err("there is no process to look at: it has ended".to_owned());
    }
    let findings = match &before {
        Some(before) => find(&[before, &snapshot]),
        None => find(&[&snapshot]),
    };
    let dump = question.dumping.as_ref().map(|dumping| dump::on_demand(dumping, &snapshot, &findings)).transpose();
    let (dump, complaint) = match dump {
        Ok(dump) => (dump, None),
        Err(why) => (None, Some(why)),
    };
    if question.json {
        let answer = Answer { snapshot: &snapshot, findings: &findings, heap_dump: dump, so_far: false };
        let text = serde_json::to_string(&answer).map_err(|error| format!("cannot be written as JSON: {error}"))?;
        return Ok((plain_json(&text) + "\n", complaint));
    }
    let mut text = text(&snapshot, &findings);
    if let Some(dump) = dump {
        let _ = write!(text, "\n{}\n", dump.line);
    }
    Ok((text, complaint))
}

/// The recipes that there is room for: what is taken here is charged to the group that memini is in, mostly the app's.
fn affordable(composition: Option<&Composition>) -> Result<&'static [Recipe<'static>], String> {
    let room = composition.and_then(Composition::room);
    has_room_to_look(room).map_err(|why| format!("{why}; nothing is looked at, or it might call the OOM killer"))?;
    if let Err(why) = has_room_for_census(room) {
        let _ = writeln!(std::io::stderr(), "memini: {why}");
        return Ok(&[]);
    }
    Ok(&[&python_census, &jvm_census])
}

fn python_census(identity: Identity) -> Result<Census, Refusal> {
    let Some(process) = ProcessId::new(identity.pid) else { return Err(Refusal::NotMine) };
    let limits = python::Limits { start: Some(identity.start), on_hold: releaser::tell, ..Default::default() };
    python::census(process, &limits)
}

fn jvm_census(identity: Identity) -> Result<Census, Refusal> {
    let limits = jvm::histogram::Limits { start: Some(identity.start), ..Default::default() };
    jvm::histogram::census(identity.pid, limits)
}

fn earlier(path: &Path) -> Result<Snapshot, String> {
    let cannot = |why: String| format!("cannot compare with {}: {why}", path.display());
    let length = fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if length > LONGEST {
        return Err(cannot(format!("it has {}, and an answer of 'memini capture --json' never has", Size(length))));
    }
    let text = fs::read(path).map_err(|error| cannot(error.to_string()))?;
    let snapshot: Snapshot = serde_json::from_slice(&text).map_err(|error| cannot(error.to_string()))?;
    if snapshot.schema != SCHEMA {
        return Err(cannot(format!("it says that it is {:?}, not {SCHEMA}", snapshot.schema)));
    }
    Ok(snapshot)
}

/// The processes: those that were named and what descends from them, or all that PID 1 runs, if that is memini.
fn whose(named: &[i32]) -> Result<Vec<i32>, String> {
    let mut list = List::open("/".as_ref()).map_err(|error| format!("{error}; nothing can be looked at"))?;
    let me = std::process::id().cast_signed();
    if named.is_empty() {
        let Some(init) = Running::init("/".as_ref()) else {
            return Err("whose? PID 1 is not memini here: give process ids, as in 'memini capture 1'".to_owned());
        };
        return init.tree();
    }
    let everybody = list.everybody().map_err(|error| format!("{error}; nothing can be looked at"))?;
    // The list leaves out who asks.
    if let Some(pid) = named.iter().find(|pid| **pid != me && !everybody.iter().any(|process| process.pid == **pid)) {
        return Err(format!("there is no process {pid}"));
    }
    let mut chosen: Vec<i32> = named.to_vec();
    let mut next = 0;
    while let Some(parent) = chosen.get(next).copied() {
        let children = everybody.iter().filter(|process| process.parent == parent).map(|process| process.pid);
        let new: Vec<i32> = children.filter(|pid| *pid != me && !chosen.contains(pid)).collect();
        chosen.extend(new);
        next = next.saturating_add(1);
    }
    Ok(chosen)
}

/// The own group's.
pub(super) fn composition() -> Option<Composition> {
    let (reading, limit) = match choose::limited("/".as_ref()) {
        Some((reading, limit)) => (reading, Some(limit)),
        // Whether such a group tells anything depends on who else lives in it.
        None => {
            let (_, choice) = choose::open("/".as_ref(), false);
            (choice.first, choice.limit)
        }
    };
    let level = reading.levels().iter().find(|level| level.scope == Scope::Own)?;
    let stat = level.stat?;
    let held = stat.file_dirty.saturating_add(stat.file_writeback);
    Some(Composition {
        usage: level.usage,
        limit,
        anon: stat.anon,
        shmem: stat.shmem,
        clean: stat.inactive_file.saturating_add(stat.active_file).saturating_sub(held),
        slab_unreclaimable: stat.slab_unreclaimable,
        kernel_stack: stat.kernel_stack,
        pagetables: stat.pagetables,
        sock: stat.sock,
    })
}

/// For people: the answer first, then what it rests on.
fn text(snapshot: &Snapshot, findings: &Findings) -> String {
    let mut text = String::new();
    let held = snapshot.processes.iter().fold(0, |sum: u64, look| sum.saturating_add(look.process.held()));
    let place = plain(&findings.place);
    let _ = match (snapshot.composition, findings.growth) {
        (_, Some(growth)) => writeln!(text, "{} in {}: {place}", Signed(growth), Span(findings.span)),
        (Some(Composition { usage, limit: Some(limit), .. }), None) => {
            writeln!(text, "the group uses {} of {}: {place}", Size(usage), Size(limit))
        }
        _ => writeln!(text, "{} in {} processes: {place}", Size(held), snapshot.process_count),
    };
    if findings.growth.is_some() && !findings.is_conclusive && !findings.suspects.is_empty() {
        text.push_str("nothing of it explains enough to be called the cause\n");
    }
    for suspect in &findings.suspects {
        suspect_line(&mut text, suspect);
    }
    for look in snapshot.processes.iter().take(IN_DEPTH) {
        process(&mut text, look);
    }
    let others = snapshot.process_count.saturating_sub(snapshot.processes.len().min(IN_DEPTH) as u64);
    if others > 0 {
        let _ = writeln!(text, "\nand {others} smaller processes");
    }
    for mount in &snapshot.mounts {
        let _ = write!(text, "\n{}: {} in memory, {} files\n", plain(&mount.path), Size(mount.used), mount.files);
        for (name, bytes) in &mount.largest {
            let _ = writeln!(text, "{:>12}  {}", Size(*bytes).to_string(), plain(name));
        }
    }
    text
}

/// As in the log, with the amounts below each other.
fn suspect_line(text: &mut String, suspect: &Suspect) {
    let _ = writeln!(text, "{:>12}  {}", sentences::amount(suspect), sentences::who(suspect));
}

fn process(text: &mut String, look: &Look) {
    let process = &look.process;
    let _ = write!(text, "\n{} {}: ", plain(&process.comm), process.identity.pid);
    let Some(memory) = &process.memory else {
        text.push_str("its memory may not be read\n");
        return;
    };
    let kinds: Vec<String> = memory
        .kinds
        .iter()
        .filter(|(_, bytes)| **bytes > 0)
        .map(|(kind, bytes)| format!("{} {}", Size(*bytes), kind_name(*kind)))
        .collect();
    let _ =
        writeln!(text, "holds {} ({}), {}", Size(process.held()), kinds.join(", "), number(process.threads, "thread"));
    if let Some(descriptors) = &process.descriptors {
        let kinds: Vec<String> = descriptors.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let _ = writeln!(text, "    {} descriptors: {}", descriptors.count, plain(&kinds.join(", ")));
        for (bytes, place) in [(descriptors.deleted_bytes, "on disk"), (descriptors.deleted_memory, "in memory")] {
            if bytes > 0 {
                let _ = writeln!(text, "    deleted files that are still open hold {} {place}", Size(bytes));
            }
        }
    }
    if let Some(why) = &look.no_census {
        let _ = writeln!(text, "    no census: {}", plain(why));
    }
    let Some(census) = &look.census else { return };
    let heap = census.heap.map(|heap| format!(", heap {}", Size(heap))).unwrap_or_default();
    let share = if census.share < 1.0 { format!(", {:.0}% looked at", census.share * 100.0) } else { String::new() };
    let _ = writeln!(text, "    {}{heap}{share}; stood still for {}", plain(&census.runtime), Span(census.pause));
    for holder in census.holders.iter().take(SHOWN) {
        let name = if holder.name.is_empty() { "without a name" } else { &holder.name };
        let _ = writeln!(
            text,
            "{:>12}  {}: {}, {} items",
            Size(holder.bytes).to_string(),
            plain(name),
            holder.kind,
            holder.items
        );
    }
    for group in census.groups.iter().take(SHOWN) {
        let _ = writeln!(
            text,
            "{:>12}  {}, {} objects",
            Size(group.bytes).to_string(),
            plain(&group.name),
            group.instances
        );
    }
    for remark in &census.remarks {
        let _ = writeln!(text, "    {}", plain(remark));
    }
}

/// `1 thread`, `2 threads`.
fn number(count: u64, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Heap => "malloc's heap",
        Kind::Stack => "main stack",
        Kind::Anonymous => "anonymous",
        Kind::Shared => "shared",
        Kind::File => "private copies of files",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pids: &[i32], since: Option<PathBuf>, json: bool) -> Result<String, String> {
        let answer = capture(&Question { json, pids: pids.to_vec(), since, dumping: None });
        answer.map(|(text, complaint)| {
            assert_eq!(complaint, None);
            text
        })
    }

    #[test]
    fn who_is_asked_for_is_shown_with_what_it_holds() {
        let me = std::process::id().cast_signed();
        let text = ask(&[me], None, false).unwrap();
        assert!(text.contains(&format!(" {me}: holds ")), "{text}");
        assert!(text.contains(" descriptors: "), "{text}");
    }

    #[test]
    fn an_answer_can_be_compared_with_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("then.json");
        let me = std::process::id().cast_signed();
        fs::write(&path, ask(&[me], None, true).unwrap()).unwrap();
        let held = vec![1u8; 300 << 20];
        let text = ask(&[me], Some(path), false).unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with('+') && first.contains("private memory of "), "{text}");
        assert!(text.lines().nth(1).unwrap().contains("  anonymous memory, "), "{text}");
        assert_eq!(std::hint::black_box(held)[0], 1);
    }

    #[test]
    fn what_there_is_no_room_for_is_left_out() {
        let group = |room: u64| {
            let (limit, usage, clean) = (Some(256 << 20), (256 << 20) - room + 5, 5);
            Composition { limit, usage, clean, ..Composition::default() }
        };
        for (composition, recipes) in [
            (None, Some(2)),
            (Some(Composition::default()), Some(2)),
            (Some(group(16 << 20)), Some(2)),
            (Some(group((16 << 20) - 1)), Some(0)),
            (Some(group(8 << 20)), Some(0)),
            (Some(group((8 << 20) - 1)), None),
            (Some(Composition { usage: 300 << 20, ..group(0) }), None),
        ] {
            assert_eq!(affordable(composition.as_ref()).ok().map(<[_]>::len), recipes, "{composition:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_said_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let me = std::process::id().cast_signed();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            Some(path)
        };
        for (pids, since, why) in [
            (vec![me], Some(folder.path().join("missing")), "cannot compare with "),
            (vec![me], file("empty", ""), "cannot compare with "),
            (
                vec![me],
                file(
                    "other",
                    r#"{"schema":"x","taken_ms":1,"composition":null,"process_count":0,"processes":[],"mounts":[]}"#,
                ),
                r#"it says that it is "x", not memini.snapshot/1"#,
            ),
            (vec![i32::MAX], None, "there is no process 2147483647"),
        ] {
            let error = ask(&pids, since, false).unwrap_err();
            assert!(error.contains(why) && !error.contains('\n'), "{error}");
        }
    }
}
