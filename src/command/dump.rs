//! The heap dump, at the capture stage or on demand: taken where it is called for and paid for, and else refused with the
//! numbers.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::sys::statvfs::statvfs;
use serde::Serialize;

use crate::capture::census::Refusal;
use crate::capture::jvm::dump::{self, Dump, Wishes};
use crate::capture::snapshot::{Look, Snapshot};
use crate::capture::suspects::Findings;
use crate::config::{Dumping, Heavy, Keeping, When};
use crate::incident::folder::{Folder, FolderError};
use crate::incident::{self, digest, retention};
use crate::supervisor::evidence::Order;
use crate::supervisor::report::Report;
use crate::text::plain;
use crate::units::{Size, Span};

/// What a dump through a FIFO takes besides the JVM, in the app's group: 22 MiB were measured on a heap of 375 MiB. Bytes.
const COST: u64 = 32 << 20;

/// How much of a heap is dumped, compressed and written a second; bytes. Measured on two noisy cores, and rounded down.
const SPEED: u64 = 100 << 20;

/// The folder in DIR for what is taken on demand. Incidents, and what is kept of them, are beside it.
const CAPTURES: &str = "captures";

/// A dump that is wanted.
struct Wanted<'a> {
    look: &'a Look,
    /// By how much memory has grown since an earlier look, if there was one; bytes.
    growth: Option<i64>,
    /// What is left below the limit; bytes.
    room: Option<u64>,
    /// How long it is until the worker is killed.
    time: Duration,
    heavy: Heavy,
    keeping: Keeping,
    /// The file's name.
    name: &'a str,
    /// What shares the disk with it, as a sentence begins: `all incidents together take`.
    beside: &'a str,
}

/// Takes a dump of the JVM that holds most, if it may. `time` is what is left of the look's.
pub fn take(order: &Order, incident: &str, snapshot: &Snapshot, findings: &Findings, time: Duration) {
    if order.heavy.when == When::Off {
        return;
    }
    let Some(look) = largest(snapshot) else { return };
    let name = format!("heap-{}-{}.hprof.gz", look.process.identity.pid, order.run);
    let wanted = Wanted {
        look,
        growth: findings.growth,
        room: order.room,
        time,
        heavy: order.heavy,
        keeping: order.keeping,
        name: &name,
        beside: "all incidents together take",
    };
    let destination = |needed| {
        let folder = Folder::of_incident(&order.dir, incident).and_then(|folder| folder.enter("artifacts".as_ref()))?;
        Ok((folder, make_room(order, incident, needed)?))
    };
    match wanted.take(destination) {
        Ok((_, dump)) => {
            Report::Found(&told(look, &format!("artifacts/{name}"), &dump)).send();
            tell_digest(order, incident, &name);
        }
        Err(Refusal::NotMine) => {}
        Err(Refusal::Cannot(why)) => Report::LeftOut(&refused(look, &why)).send(),
    }
}

/// A dump that was taken on demand.
#[derive(Clone, Debug, Serialize)]
pub struct Taken {
    /// Of this process.
    pub pid: i32,
    /// Where it is.
    pub path: PathBuf,
    /// How long the file is. Bytes.
    pub bytes: u64,
    /// How long the dump was that the JVM wrote. Bytes.
    pub raw: u64,
    /// Whether all of it is there.
    pub whole: bool,
    /// For how long the JVM stood still, at the most.
    pub pause: Duration,
    /// Of the file, in hexadecimal; `None` if it could not be read.
    pub sha256: Option<String>,
    /// What a reader must know, a sentence each.
    pub remarks: Vec<String>,
    /// All this for people.
    #[serde(skip)]
    pub line: String,
}

/// Takes a dump of the JVM that holds most into the folder [`CAPTURES`] of DIR, under the same conditions. What lies there already
/// is nobody's to remove: whoever asked for it comes for it.
///
/// # Errors
/// In one line, why there is none.
pub fn on_demand(dumping: &Dumping, snapshot: &Snapshot, findings: &Findings) -> Result<Taken, String> {
    let look = largest(snapshot)
        .ok_or_else(|| "no heap dump: none of these processes is a JVM whose classes could be counted".to_owned())?;
    let pid = look.process.identity.pid;
    let name = format!("heap-{pid}-{}.hprof.gz", incident::stamp(SystemTime::now()));
    let room = snapshot.composition.and_then(|group| group.room());
    let wanted = Wanted {
        look,
        growth: findings.growth,
        room,
        time: Duration::MAX,
        heavy: dumping.heavy,
        keeping: dumping.keeping,
        name: &name,
        beside: "what is there already takes",
    };
    let destination = |_| {
        let folder = Folder::base(&dumping.dir).and_then(|folder| folder.enter(CAPTURES.as_ref()))?;
        let bytes = folder.bytes();
        Ok((folder, bytes))
    };
    let (folder, dump) = wanted.take(destination).map_err(|refusal| refused(look, &refusal.to_string()))?;
    let path = folder.path().join(&name);
    let sha256 = folder.open(&name).and_then(digest::of).ok();
    let mut line = told(look, &path.display().to_string(), &dump);
    for remark in sha256.iter().map(|sum| format!("SHA-256 {sum}")).chain(dump.remarks.iter().cloned()) {
        line.push_str("\n    ");
        line.push_str(&remark);
    }
    let Dump { size: bytes, raw, whole, pause, remarks, .. } = dump;
    Ok(Taken { pid, path, bytes, raw, whole, pause, sha256, remarks, line })
}

/// The JVM that holds most.
fn largest(snapshot: &Snapshot) -> Option<&Look> {
    snapshot.processes.iter().find(|look| heap(look).is_some())
}

/// The heap of a process that can be dumped.
fn heap(look: &Look) -> Option<u64> {
    look.census.as_ref().filter(|census| !census.runtime.starts_with("CPython ")).and_then(|census| census.heap)
}

fn who(look: &Look) -> String {
    format!("{} (pid {})", plain(&look.process.comm), look.process.identity.pid)
}

fn refused(look: &Look, why: &str) -> String {
    format!("no heap dump of {}: {why}", who(look))
}

impl Wanted<'_> {
    /// Takes it if it may be taken. `destination` makes so much room, and says where the dump goes and what lies there already,
    /// in bytes.
    fn take(
        &self,
        destination: impl FnOnce(u64) -> Result<(Folder, u64), FolderError>,
    ) -> Result<(Folder, Dump), Refusal> {
        let refuse = |why: String| Refusal::Cannot(why);
        let held = heap(self.look).unwrap_or(0);
        if self.heavy.when == When::Auto && self.growth.is_some_and(|growth| growth <= 0) {
            return Err(refuse("memory does not grow; --heavy on takes one all the same".to_owned()));
        }
        let room = self.room.unwrap_or(u64::MAX);
        if room < COST {
            return Err(refuse(format!("it may need {}, and {} are left", Size(COST), Size(room))));
        }
        let pause = Duration::from_secs_f64(held as f64 / SPEED as f64);
        if pause > self.heavy.max_pause {
            let longest = Span(self.heavy.max_pause);
            let pause = Span(pause);
            return Err(refuse(format!(
                "a heap of {} would stand still for {pause}, and --max-pause is {longest}",
                Size(held)
            )));
        }
        if pause > self.time {
            return Err(refuse(format!(
                "a heap of {} would stand still for {}, and {} are left of --hook-timeout",
                Size(held),
                Span(pause),
                Span(self.time)
            )));
        }
        // What compresses best is text, what compresses least is not more than it was.
        let needed = held / 2;
        let (folder, kept) = destination(needed).map_err(|error| refuse(error.to_string()))?;
        let left = self.keeping.total.saturating_sub(kept);
        if left < needed {
            return Err(refuse(format!(
                "it may take {} of the disk, {} {}, and --max-total is {}",
                Size(needed),
                self.beside,
                Size(kept),
                Size(self.keeping.total)
            )));
        }
        let disk = statvfs(folder.path()).map_err(|error| refuse(error.to_string()))?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        let reserve = self.keeping.free;
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
            live: self.heavy.live,
            redact: self.heavy.redact,
            cap: self.keeping.artifact.min(free.saturating_sub(reserve)).min(left),
            time: self.heavy.max_pause.min(self.time),
            reserve,
            start: Some(self.look.process.identity.start),
        };
        let dump = dump::dump(self.look.process.identity.pid, &folder, self.name, wishes)?;
        Ok((folder, dump))
    }
}

fn told(look: &Look, file: &str, dump: &Dump) -> String {
    let whole = if dump.whole { "" } else { ", cut off" };
    format!(
        "heap dump of {}: {file}, {} ({} as the JVM wrote it{whole}), it stood still for {}",
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
