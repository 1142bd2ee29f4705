//! The heap dump at the capture stage: taken where it is called for and paid for, and else refused with the numbers.

use std::time::Duration;

use nix::sys::statvfs::statvfs;

use crate::capture::census::Refusal;
use crate::capture::jvm::dump::{self, Dump, Wishes};
use crate::capture::snapshot::{Look, Snapshot};
use crate::capture::suspects::Findings;
use crate::config::When;
use crate::incident::folder::{Folder, FolderError};
use crate::incident::{digest, retention};
use crate::supervisor::evidence::Order;
use crate::supervisor::report::Report;
use crate::text::plain;
use crate::units::{Size, Span};

/// What a dump through a FIFO takes besides the JVM, in the app's group: 22 MiB were measured on a heap of 375 MiB. Bytes.
const COST: u64 = 32 << 20;

/// How much of a heap is dumped, compressed and written a second; bytes. Measured on two noisy cores, and rounded down.
const SPEED: u64 = 100 << 20;

/// Takes a dump of the JVM that holds most, if it may.
pub fn take(order: &Order, incident: &str, snapshot: &Snapshot, findings: &Findings) {
    if order.heavy.when == When::Off {
        return;
    }
    let Some(look) = snapshot.processes.iter().find(|look| heap(look).is_some()) else { return };
    match try_to(order, incident, look, findings) {
        Ok((name, dump)) => {
            Report::Found(&told(look, &name, &dump)).send();
            tell_digest(order, incident, &name);
        }
        Err(Refusal::NotMine) => {}
        Err(Refusal::Cannot(why)) => Report::LeftOut(&format!("no heap dump of {}: {why}", who(look))).send(),
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
    let folder = Folder::of_incident(&order.dir, incident).and_then(|folder| folder.enter("artifacts".as_ref()));
    let folder = folder.map_err(|error| unwritable(&error))?;
    // What compresses best is text, what compresses least is not more than it was.
    let needed = held / 2;
    let kept = make_room(order, incident, needed).map_err(|error| unwritable(&error))?;
    let left = order.keeping.total.saturating_sub(kept);
    if left < needed {
        return Err(refuse(format!(
            "it may take {} of the disk, all incidents together take {}, and --max-total is {}",
            Size(needed),
            Size(kept),
            Size(order.keeping.total)
        )));
    }
    let disk = statvfs(folder.path()).map_err(|error| unwritable(&error))?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    let reserve = order.keeping.free;
    if free < reserve.saturating_add(needed) {
        return Err(refuse(format!(
            "it may take {} of the disk, {} of {} are free in {}, and {} are to stay so (--keep-free)",
            Size(needed),
            Size(free),
            Size(disk.blocks().saturating_mul(disk.fragment_size())),
            folder.path().display(),
            Size(reserve)
        )));
    }
    let wishes = Wishes {
        live: order.heavy.live,
        redact: order.heavy.redact,
        cap: order.keeping.artifact.min(free.saturating_sub(reserve)).min(left),
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

/// After the dump, when the JVM has gone on: it was not written from its beginning to its end.
fn tell_digest(order: &Order, incident: &str, name: &str) {
    let folder = Folder::of_incident(&order.dir, incident).and_then(|folder| folder.enter("artifacts".as_ref()));
    let Ok(file) = folder.map_err(std::io::Error::other).and_then(|folder| folder.open(name)) else { return };
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    if let Ok(sha256) = digest::of(file) {
        Report::Digest(bytes, &sha256, &format!("artifacts/{name}")).send();
    }
}

/// Removes what is old, so that there is room for one more. Returns what all incidents then take.
fn make_room(order: &Order, incident: &str, needed: u64) -> Result<u64, FolderError> {
    let left = retention::tidy(&order.dir, incident, &order.keeping, needed)?;
    for complaint in left.complaints {
        Report::Warning(&complaint).send();
    }
    Ok(left.bytes)
}
