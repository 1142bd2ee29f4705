//! The heap dump at the capture stage: taken where it is called for and paid for, and else refused with the numbers.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use nix::sys::statvfs::statvfs;

use crate::capture::census::Refusal;
use crate::capture::jvm::dump::{self, Dump, Wishes};
use crate::capture::snapshot::{Look, Snapshot};
use crate::capture::suspects::Findings;
use crate::config::When;
use crate::incident::folder::Folder;
use crate::supervisor::evidence::Order;
use crate::supervisor::report::Report;
use crate::text::plain;
use crate::units::{Size, Span};

/// What a dump through a FIFO takes besides the JVM, in the app's group: 22 MiB were measured on a heap of 375 MiB. Bytes.
const COST: u64 = 32 << 20;

/// How much of a heap is dumped, compressed and written a second; bytes. Measured on two noisy cores, and rounded down.
const SPEED: u64 = 100 << 20;

/// What stays free on the disk; bytes.
const RESERVE: u64 = 256 << 20;

/// No dump is larger than this; bytes, compressed.
const LARGEST: u64 = 1 << 30;

/// How many dumps are kept below DIR: the first one, and the newest.
const MOST_DUMPS: usize = 3;

/// Takes a dump of the JVM that holds most, if it may.
pub fn take(order: &Order, incident: &str, snapshot: &Snapshot, findings: &Findings) {
    if order.heavy.when == When::Off {
        return;
    }
    let Some(look) = snapshot.processes.iter().find(|look| heap(look).is_some()) else { return };
    match try_to(order, incident, look, findings) {
        Ok((name, dump)) => Report::Found(&told(look, &name, &dump)).send(),
        Err(Refusal::NotMine) => {}
        Err(Refusal::Cannot(why)) => Report::Found(&format!("no heap dump of {}: {why}", who(look))).send(),
    }
}

/// The heap of a process that can be dumped.
fn heap(look: &Look) -> Option<u64> {
    look.census.as_ref().filter(|census| !census.runtime.starts_with("CPython ")).and_then(|census| census.heap)
}

fn who(look: &Look) -> String {
    format!("{} (pid {})", plain(&look.process.comm), look.process.identity.pid)
}

fn try_to(order: &Order, incident: &str, look: &Look, findings: &Findings) -> Result<(String, Dump), Refusal> {
    let refuse = |why: String| Refusal::Cannot(why);
    let held = heap(look).unwrap_or(0);
    if order.heavy.when == When::Auto && findings.growth.is_some_and(|growth| growth <= 0) {
        return Err(refuse("memory does not grow; --heavy on takes one all the same".to_owned()));
    }
    let room = order.room.unwrap_or(u64::MAX);
    if room < COST {
        return Err(refuse(format!("it may need {}, and {} are left", Size(COST), Size(room))));
    }
    let pause = Duration::from_secs_f64(held as f64 / SPEED as f64);
    if pause > order.heavy.max_pause {
        let longest = Span(order.heavy.max_pause);
        let pause = Span(pause);
        return Err(refuse(format!(
            "a heap of {} would stand still for {pause}, and --max-pause is {longest}",
            Size(held)
        )));
    }
    let unwritable = |error: &dyn std::fmt::Display| refuse(error.to_string());
    let base = Folder::base(&order.dir).map_err(|error| unwritable(&error))?;
    make_room(&base);
    let folder = Folder::of_incident(&order.dir, incident).and_then(|folder| folder.enter("artifacts".as_ref()));
    let folder = folder.map_err(|error| unwritable(&error))?;
    let disk = statvfs(folder.path()).map_err(|error| unwritable(&error))?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    // What compresses best is text, what compresses least is not more than it was.
    if free < RESERVE.saturating_add(held / 2) {
        let (needed, place) = (Size(held / 2), folder.path().display().to_string());
        return Err(refuse(format!(
            "it may take {needed} of the disk, {} of {} are free in {place}, and {} are to stay so",
            Size(free),
            Size(disk.blocks().saturating_mul(disk.fragment_size())),
            Size(RESERVE)
        )));
    }
    let wishes = Wishes {
        live: order.heavy.live,
        redact: order.heavy.redact,
        cap: LARGEST.min(free.saturating_sub(RESERVE)),
        time: order.heavy.max_pause,
        start: Some(look.process.identity.start),
    };
    let name = format!("heap-{}-{}.hprof.gz", look.process.identity.pid, order.run);
    let dump = dump::dump(look.process.identity.pid, &folder, &name, wishes)?;
    Ok((name, dump))
}

fn told(look: &Look, name: &str, dump: &Dump) -> String {
    let whole = if dump.whole { "" } else { ", cut off" };
    format!(
        "heap dump of {}: artifacts/{name}, {} ({} as the JVM wrote it{whole}), it stood still for {}",
        who(look),
        Size(dump.size),
        Size(dump.raw),
        Span(dump.pause)
    )
}

/// Removes dumps of earlier incidents: the first one may be the only one of its kind, and the newest tell of now.
fn make_room(base: &Folder) {
    let Ok(incidents) = base.enter("incidents".as_ref()) else { return };
    let mut dumps: Vec<(SystemTime, Rc<Folder>, String)> = Vec::new();
    for entry in std::fs::read_dir(incidents.path()).into_iter().flatten().flatten() {
        // To enter a folder is to make it, if it is missing.
        if !entry.path().join("artifacts").is_dir() {
            continue;
        }
        let opened = incidents.enter(&entry.file_name()).and_then(|folder| folder.enter("artifacts".as_ref()));
        let Ok(folder) = opened.map(Rc::new) else { continue };
        for (name, _) in folder.files() {
            if name.starts_with("heap-") && name.contains(".hprof") {
                let written = std::fs::symlink_metadata(folder.path().join(&name)).and_then(|status| status.modified());
                dumps.push((written.unwrap_or(SystemTime::UNIX_EPOCH), Rc::clone(&folder), name));
            }
        }
    }
    dumps.sort_by_key(|(written, ..)| *written);
    // One more is about to come.
    let surplus = dumps.len().saturating_sub(MOST_DUMPS.saturating_sub(1));
    for (_, folder, name) in dumps.iter().skip(1).take(surplus) {
        if let Err(error) = folder.remove(name) {
            let path = folder.path().join(name);
            Report::Warning(&format!("cannot remove {}: {error}; the disk holds one dump more", path.display())).send();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_dump_and_the_newest_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let base = Folder::base(&place.path().join("memini")).unwrap();
        let left = || {
            let mut left = Vec::new();
            for entry in std::fs::read_dir(base.path().join("incidents")).unwrap() {
                let artifacts = entry.unwrap().path().join("artifacts");
                left.extend(
                    std::fs::read_dir(artifacts).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()),
                );
            }
            left.sort();
            left
        };
        for number in 1..=5u64 {
            make_room(&base);
            let folder = Folder::of_incident(base.path(), &format!("incident-{}", number / 2)).unwrap();
            let artifacts = folder.enter("artifacts".as_ref()).unwrap();
            let file = artifacts.create(&format!("heap-7-{number}.hprof.gz")).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(number)).unwrap();
            if number == 1 {
                artifacts.create("evidence-capture-1.json").unwrap();
            }
        }
        assert_eq!(left(), ["evidence-capture-1.json", "heap-7-1.hprof.gz", "heap-7-4.hprof.gz", "heap-7-5.hprof.gz"]);
    }
}
