//! What is kept of incidents that are over: the first one and the newest, the others for so long, and of all of them together so
//! many bytes.
//!
//! The first one may be the only one of its kind, and the newest tell of now. Heap dumps, which are larger than all the rest,
//! are counted once more, by themselves.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::folder::{Folder, FolderError};
use crate::config::Keeping;

/// Where DIR is shared, an incident of somebody else's that was written to since then may still be open.
const MAY_BE_OPEN: Duration = Duration::from_secs(3600);

/// What is left after tidying up.
#[derive(Debug, Default)]
pub struct Left {
    /// What all incidents take on the disk; bytes.
    pub bytes: u64,
    /// What could not be removed, a sentence each.
    pub complaints: Vec<String>,
}

struct Stored {
    name: String,
    folder: Folder,
    bytes: u64,
    /// How long ago it began or was last written to, whatever is later; by a clock that may have been set, so nothing if that is
    /// still to come.
    age: Duration,
    may_go: bool,
    is_gone: bool,
}

struct Dump {
    written: SystemTime,
    incident: usize,
    name: String,
    bytes: u64,
    may_go: bool,
    is_gone: bool,
}

/// Removes what is too much if so many bytes are to come; of the incident `own` at the most heap dumps. Without a name nobody
/// writes to one yet, and what was written to lately is left alone.
///
/// # Errors
/// Where DIR cannot be opened.
pub fn tidy(dir: &Path, own: &str, keeping: &Keeping, coming: u64) -> Result<Left, FolderError> {
    tidy_at(SystemTime::now(), dir, own, keeping, coming)
}

fn tidy_at(now: SystemTime, dir: &Path, own: &str, keeping: &Keeping, coming: u64) -> Result<Left, FolderError> {
    let base = Folder::base(dir)?;
    if base.inode("incidents").is_none() {
        return Ok(Left::default());
    }
    let mut stock = Stock::of(base.open_folder("incidents")?, own, now);
    stock.keep_so_long(keeping);
    // Dumps after incidents: one that goes with its incident does not count any more.
    stock.keep_so_many_incidents(keeping);
    stock.keep_so_many_dumps(keeping);
    stock.keep_so_many_bytes(keeping.total.saturating_sub(coming));
    Ok(Left { bytes: stock.bytes(), complaints: stock.complaints })
}

struct Stock {
    incidents: Folder,
    /// By name, which is by time.
    stored: Vec<Stored>,
    /// By time.
    dumps: Vec<Dump>,
    complaints: Vec<String>,
}

impl Stock {
    fn of(incidents: Folder, own: &str, now: SystemTime) -> Self {
        let own_host = host(own);
        // What is still to come by this clock may be of now by another one.
        let is_recent =
            |written: SystemTime| now.duration_since(written).is_ok_and(|ago| ago < MAY_BE_OPEN) || written > now;
        let mut stored: Vec<Stored> = Vec::new();
        let mut dumps = Vec::new();
        let mut names = incidents.folders();
        names.sort_unstable();
        for name in names {
            // What somebody else has put there is nothing of ours.
            let Some(owner) = host(&name) else { continue };
            let Ok(folder) = incidents.open_folder(&name) else { continue };
            let (is_own, is_ours) = (name == own, own_host == Some(owner));
            let mut found = dumps_in(&folder);
            // A dump takes its time, and what is told of it is written after it.
            let last_dump = found.iter().map(|dump| dump.written).max();
            let written = folder.modified("incident.json").max(last_dump);
            let may_go = !is_own && (is_ours || written.is_some_and(|written| !is_recent(written)));
            for dump in &mut found {
                dump.incident = stored.len();
                dump.may_go = (is_own || may_go) && !(dump.is_partial() && is_recent(dump.written));
            }
            dumps.append(&mut found);
            let age = began(&name).max(written).and_then(|last| now.duration_since(last).ok()).unwrap_or_default();
            stored.push(Stored { bytes: folder.bytes(), name, folder, age, may_go, is_gone: false });
        }
        dumps.sort_by_key(|dump| dump.written);
        // Whatever others have taken since: the incident that goes on keeps its newest one.
        let is_own = |dump: &&mut Dump| stored.get(dump.incident).is_some_and(|stored| stored.name == own);
        if let Some(newest) = dumps.iter_mut().filter(is_own).rfind(|dump| !dump.is_partial()) {
            newest.may_go = false;
        }
        Self { incidents, stored, dumps, complaints: Vec::new() }
    }

    fn bytes(&self) -> u64 {
        let left = self.stored.iter().filter(|stored| !stored.is_gone);
        left.fold(0, |sum: u64, stored| sum.saturating_add(stored.bytes))
    }

    fn keep_so_long(&mut self, keeping: &Keeping) {
        let Some(longest) = keeping.age else { return };
        for index in 1..self.stored.len().saturating_sub(1) {
            if self.stored.get(index).is_some_and(|stored| stored.age > longest) {
                self.remove(index);
            }
        }
    }

    /// Those that are left, by time.
    fn dumps_left(&self) -> Vec<usize> {
        let is_left =
            |dump: &Dump| !dump.is_gone && self.stored.get(dump.incident).is_some_and(|stored| !stored.is_gone);
        self.dumps.iter().enumerate().filter(|(_, dump)| is_left(dump)).map(|(index, _)| index).collect()
    }

    /// The dumps of the open incident count and may go like all others, but for its newest: it may take several.
    fn keep_so_many_dumps(&mut self, keeping: &Keeping) {
        let left = self.dumps_left();
        let surplus = left.len().saturating_sub(keeping.dumps as usize);
        // With room for one only, that is the newest.
        let first = usize::from(keeping.dumps > 1);
        for index in left.into_iter().skip(first).take(surplus) {
            self.remove_dump(index);
        }
    }

    fn keep_so_many_incidents(&mut self, keeping: &Keeping) {
        let left = self.stored.iter().filter(|stored| !stored.is_gone).count();
        let mut surplus = left.saturating_sub(keeping.incidents as usize);
        for index in usize::from(keeping.incidents > 1)..self.stored.len() {
            if surplus > 0 && self.remove(index) {
                surplus = surplus.saturating_sub(1);
            }
        }
    }

    /// Old heap dumps go first, then old incidents as a whole; the first one stays to the end.
    fn keep_so_many_bytes(&mut self, most: u64) {
        let dumps = self.dumps_left();
        for index in dumps.iter().take(dumps.len().saturating_sub(1)).skip(1) {
            if self.bytes() > most {
                self.remove_dump(*index);
            }
        }
        for index in (1..self.stored.len()).chain([0]) {
            if self.bytes() > most {
                self.remove(index);
            }
        }
    }

    fn remove_dump(&mut self, index: usize) {
        let Some(dump) = self.dumps.get_mut(index).filter(|dump| dump.may_go && !dump.is_gone) else { return };
        let Some(stored) = self.stored.get_mut(dump.incident).filter(|stored| !stored.is_gone) else { return };
        let removed = stored.folder.open_folder("artifacts").map_err(io::Error::other);
        match removed.and_then(|artifacts| artifacts.remove(&dump.name)) {
            Ok(()) => {
                dump.is_gone = true;
                stored.bytes = stored.bytes.saturating_sub(dump.bytes);
            }
            Err(error) => {
                let path = stored.folder.path().join("artifacts").join(&dump.name);
                self.complaints.push(format!("cannot remove {}: {error}; it takes room", path.display()));
            }
        }
    }

    fn remove(&mut self, index: usize) -> bool {
        let Some(stored) = self.stored.get_mut(index).filter(|stored| stored.may_go && !stored.is_gone) else {
            return false;
        };
        match self.incidents.remove_folder(&stored.name) {
            Ok(()) => stored.is_gone = true,
            // Somebody else has tidied up in the same moment.
            Err(_) if self.incidents.inode(&stored.name).is_none() => stored.is_gone = true,
            Err(error) => {
                let path = stored.folder.path().display();
                self.complaints.push(format!("cannot remove {path}: {error}; it takes room"));
            }
        }
        stored.is_gone
    }
}

impl Dump {
    /// It is being written, or was cut off.
    fn is_partial(&self) -> bool {
        self.name.ends_with(".partial")
    }
}

fn dumps_in(incident: &Folder) -> Vec<Dump> {
    let Ok(artifacts) = incident.open_folder("artifacts") else { return Vec::new() };
    let mut files = artifacts.files();
    files.retain(|(name, _)| name.starts_with("heap-") && name.contains(".hprof"));
    let dump = |(name, bytes): (String, u64)| {
        let written = artifacts.modified(&name).unwrap_or(SystemTime::UNIX_EPOCH);
        Dump { written, incident: 0, name, bytes, may_go: false, is_gone: false }
    };
    files.into_iter().map(dump).collect()
}

/// Whether a folder of this name is an incident's.
pub fn is_incident(name: &Path) -> bool {
    name.to_str().and_then(host).is_some()
}

/// The host in `2026-11-22T05-45-01Z-HOSTNAME-1`; `None` for any other name.
fn host(name: &str) -> Option<&str> {
    let (time, rest) = name.split_at_checked("2026-11-22T05-45-01Z-".len())?;
    let (host, count) = rest.rsplit_once('-')?;
    let looks_right = time.bytes().zip("0000-00-00T00-00-00Z-".bytes()).all(|(byte, sample)| match sample {
        b'0' => byte.is_ascii_digit(),
        other => byte == other,
    });
    let is_number = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    (looks_right && is_number).then_some(host)
}

/// When the incident of this name began.
fn began(name: &str) -> Option<SystemTime> {
    let (day, clock) = name.get(..19)?.split_once('T')?;
    humantime::parse_rfc3339(&format!("{day}T{}Z", clock.replace('-', ":"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    struct Place {
        place: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self { place: tempfile::tempdir().unwrap() }
        }

        fn dir(&self) -> std::path::PathBuf {
            self.place.path().join("memini")
        }

        /// An incident of a given hour, with a heap dump of so many megabytes.
        fn incident(&self, hour: u64, host: &str, megabytes: u64) -> String {
            let name = format!("2026-11-22T{hour:02}-00-00Z-{host}-1");
            let folder = Folder::of_incident(&self.dir(), &name).unwrap();
            folder.replace("incident.json", b"{}").unwrap();
            let artifacts = folder.enter("artifacts".as_ref()).unwrap();
            artifacts.replace("evidence-capture-1.json", b"{}").unwrap();
            if megabytes > 0 {
                let mut file = artifacts.create("heap-7-1.hprof.gz").unwrap();
                io::Write::write_all(&mut file, &vec![b'x'; (megabytes * MIB) as usize]).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600)).unwrap();
            }
            name
        }

        fn set_written(&self, incident: &str, file: &str, when: SystemTime) {
            let path = self.dir().join("incidents").join(incident).join(file);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(when).unwrap();
        }

        fn tidy(&self, own: &str, keeping: Keeping, coming: u64) -> Left {
            let left = tidy(&self.dir(), own, &keeping, coming).unwrap();
            assert_eq!(left.complaints, Vec::<String>::new());
            left
        }

        /// The hours of the incidents that are there, and of those with a dump.
        fn left(&self) -> (Vec<u64>, Vec<u64>) {
            let incidents = self.dir().join("incidents");
            let names = Folder::base(&self.dir()).unwrap().enter("incidents".as_ref()).unwrap().folders();
            let hour = |name: &str| name.get(11..13).and_then(|hour| hour.parse().ok()).unwrap_or(99);
            let mut all: Vec<_> = names.iter().map(|name| hour(name)).collect();
            let has_dump = |name: &&String| incidents.join(name).join("artifacts/heap-7-1.hprof.gz").exists();
            let mut dumps: Vec<_> = names.iter().filter(has_dump).map(|name| hour(name)).collect();
            all.sort_unstable();
            dumps.sort_unstable();
            (all, dumps)
        }
    }

    const MANY: Keeping = Keeping { incidents: 100, dumps: 100, age: None, artifact: 1 << 30, total: 1 << 40, free: 0 };

    #[test]
    fn the_first_incident_and_the_newest_are_kept() {
        let place = Place::new();
        let mut own = String::new();
        for hour in 1..=6 {
            own = place.incident(hour, "web", 0);
            place.tidy(&own, Keeping { incidents: 3, ..MANY }, 0);
        }
        assert_eq!(place.left().0, [1, 5, 6]);
        place.tidy(&own, Keeping { incidents: 1, ..MANY }, 0);
        assert_eq!(place.left().0, [6]);
    }

    #[test]
    fn what_is_older_goes_but_for_the_first_and_the_newest_and_what_was_written_to_since() {
        let at = |hour: u64| began(&format!("2026-11-22T{hour:02}-00-00Z-web-1")).unwrap();
        let keeping = Keeping { age: Some(Duration::from_secs(3 * 3600 + 60)), ..MANY };
        for (now, own, age, left) in [
            (8, "", keeping.age, vec![1, 3, 5, 6]),
            // Everything is older, and the newest stays.
            (20, "", keeping.age, vec![1, 6]),
            // The own one goes on, however long.
            (20, "2026-11-22T02-00-00Z-web-1", keeping.age, vec![1, 2, 6]),
            // Nothing is known of a time to come.
            (0, "", keeping.age, vec![1, 2, 3, 4, 5, 6]),
            (20, "", None, vec![1, 2, 3, 4, 5, 6]),
        ] {
            let place = Place::new();
            for hour in 1..=6 {
                let folder = place.dir().join("incidents").join(place.incident(hour, "web", 0));
                let file = std::fs::File::options().write(true).open(folder.join("incident.json")).unwrap();
                // The third one went on for three hours.
                file.set_modified(at(if hour == 3 { 6 } else { hour })).unwrap();
            }
            let tidied = tidy_at(at(now), &place.dir(), own, &Keeping { age, ..keeping }, 0).unwrap();
            assert_eq!((place.left().0, tidied.complaints), (left, Vec::new()), "{now} {own} {age:?}");
        }
    }

    #[test]
    fn before_the_first_incident_no_folder_is_made_for_them() {
        let place = Place::new();
        place.tidy("", MANY, 0);
        assert!(!place.dir().join("incidents").exists());
    }

    #[test]
    fn the_first_dump_and_the_newest_are_kept() {
        let place = Place::new();
        let mut own = String::new();
        for hour in 1..=6 {
            own = place.incident(hour, "web", 1);
            place.tidy(&own, Keeping { dumps: 3, ..MANY }, 0);
        }
        assert_eq!(place.left(), (vec![1, 2, 3, 4, 5, 6], vec![1, 5, 6]));
        place.tidy(&own, Keeping { dumps: 1, ..MANY }, 0);
        assert_eq!(place.left().1, [6]);
    }

    #[test]
    fn dumps_that_went_with_their_incidents_are_not_counted() {
        let keeping = Keeping { dumps: 3, age: Some(Duration::from_secs(4 * 3600 + 1800)), ..MANY };
        for (keeping, incidents, dumps) in [
            // The first incident has no dump, and the second one, which has the first dump, is too old.
            (keeping, vec![1, 4, 5, 6], vec![4, 5, 6]),
            (Keeping { dumps: 2, ..keeping }, vec![1, 4, 5, 6], vec![4, 6]),
            // Or there are too many incidents.
            (Keeping { incidents: 4, age: None, ..keeping }, vec![1, 4, 5, 6], vec![4, 5, 6]),
            // Of too many bytes the first dump that is left is not the one that goes.
            (Keeping { total: 5 * MIB, ..keeping }, vec![1, 4, 5, 6], vec![4, 6]),
        ] {
            let place = Place::new();
            for (hour, megabytes) in [(1, 0), (2, 2), (4, 2), (5, 2), (6, 2)] {
                let name = place.incident(hour, "web", megabytes);
                place.set_written(&name, "incident.json", began(&name).unwrap());
            }
            let now = began("2026-11-22T07-00-00Z-web-1").unwrap();
            let tidied = tidy_at(now, &place.dir(), "2026-11-22T06-00-00Z-web-1", &keeping, 0).unwrap();
            assert_eq!((place.left(), tidied.complaints), ((incidents, dumps), Vec::new()), "{keeping:?}");
        }
    }

    #[test]
    fn dumps_of_others_stay_for_an_hour_and_what_is_being_written_too() {
        let now = SystemTime::now();
        let (lately, before) = (now - Duration::from_secs(60), now - 2 * MAY_BE_OPEN);
        let least = Keeping { dumps: 1, ..MANY };
        // Whose it is, when its record and its dump were written to, what the dump is called, and whether it stays: for another's
        // incident, and for nobody's, as at the start.
        for (host, recorded, written, name, stays) in [
            ("other", lately, lately, "heap-8-1.hprof.gz", (true, true)),
            ("other", lately, lately, "heap-8-1.hprof.gz.partial", (true, true)),
            ("other", lately, before, "heap-8-1.hprof.gz", (true, true)),
            // It is being written, and will be told of afterwards.
            ("other", before, lately, "heap-8-1.hprof.gz.partial", (true, true)),
            ("other", before, before, "heap-8-1.hprof.gz", (false, false)),
            ("other", before, before, "heap-8-1.hprof.gz.partial", (false, false)),
            ("web", lately, lately, "heap-8-1.hprof.gz", (false, true)),
            ("web", lately, lately, "heap-8-1.hprof.gz.partial", (true, true)),
            ("web", before, before, "heap-8-1.hprof.gz.partial", (false, false)),
        ] {
            for (own, stays) in [("2026-11-22T04-00-00Z-web-1", stays.0), ("", stays.1)] {
                let place = Place::new();
                let first = place.incident(1, "third", 1);
                let incident = place.incident(2, host, 0);
                let dump = place.dir().join("incidents").join(&incident).join("artifacts").join(name);
                std::fs::write(&dump, "dump").unwrap();
                place.set_written(&incident, &format!("artifacts/{name}"), written);
                place.set_written(&incident, "incident.json", recorded);
                let newest = place.incident(4, "web", 1);
                for name in [&first, &newest] {
                    place.set_written(name, "incident.json", before);
                }
                place.set_written(&newest, "artifacts/heap-7-1.hprof.gz", now);
                let mut stock =
                    Stock::of(Folder::base(&place.dir()).unwrap().open_folder("incidents").unwrap(), own, now);
                stock.keep_so_many_dumps(&least);
                assert_eq!(dump.exists(), stays, "{host} {name} {own:?} {recorded:?} {written:?}");
            }
        }
    }

    #[test]
    fn the_open_incident_keeps_its_newest_dump_whatever_others_have_taken_since() {
        let place = Place::new();
        let own = place.incident(1, "web", 1);
        for hour in 2..=6 {
            place.incident(hour, "other", 1);
        }
        place.tidy(&own, Keeping { dumps: 1, total: 2 * MIB, ..MANY }, 0);
        assert_eq!(place.left(), (vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn of_too_many_bytes_old_dumps_go_first_and_then_old_incidents() {
        let place = Place::new();
        let names: Vec<String> = (1..=5).map(|hour| place.incident(hour, "web", 2)).collect();
        let own = names.last().unwrap();
        let left = place.tidy(own, Keeping { total: 7 * MIB, ..MANY }, 0);
        assert_eq!(place.left(), (vec![1, 2, 3, 4, 5], vec![1, 4, 5]));
        assert!((6 * MIB..7 * MIB).contains(&left.bytes), "{left:?}");
        let left = place.tidy(own, Keeping { total: 8 * MIB, ..MANY }, 3 * MIB);
        assert_eq!(place.left(), (vec![1, 2, 3, 4, 5], vec![1, 5]));
        assert!(left.bytes <= 5 * MIB, "{left:?}");
        place.tidy(own, Keeping { total: 3 * MIB, ..MANY }, 0);
        assert_eq!(place.left(), (vec![5], vec![5]));
        // What is open is not touched, and what it takes is told.
        let left = place.tidy(own, Keeping { total: MIB, ..MANY }, 0);
        assert_eq!((place.left().0, left.bytes > 2 * MIB), (vec![5], true));
    }

    #[test]
    fn what_somebody_else_may_be_writing_or_has_put_there_stays() {
        let place = Place::new();
        place.incident(1, "web", 0);
        let other = place.incident(2, "other-host", 0);
        let old = place.incident(3, "other", 0);
        let own = place.incident(4, "web", 0);
        let incidents = place.dir().join("incidents");
        let before = SystemTime::now() - 2 * MAY_BE_OPEN;
        let file = std::fs::File::options().write(true).open(incidents.join(&old).join("incident.json")).unwrap();
        file.set_modified(before).unwrap();
        let notes = incidents.join("notes of mine");
        std::fs::create_dir(&notes).unwrap();
        let victim = place.place.path().join("victim");
        std::fs::create_dir(&victim).unwrap();
        std::fs::write(victim.join("file"), "precious").unwrap();
        std::os::unix::fs::symlink(&victim, incidents.join("2026-11-22T00-00-00Z-web-1")).unwrap();
        std::os::unix::fs::symlink(&victim, incidents.join(&old).join("artifacts/link")).unwrap();
        place.tidy(&own, Keeping { incidents: 1, ..MANY }, 0);
        assert!(!incidents.join(&old).exists());
        assert!(incidents.join(&other).exists() && notes.exists() && incidents.join(&own).exists());
        assert_eq!(std::fs::read_to_string(victim.join("file")).unwrap(), "precious");
    }

    #[test]
    fn the_name_of_an_incident_is_known_from_any_other() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_326_301);
        assert_eq!((began("2026-11-22T05-45-01Z-web-1"), began("2026-99-22T05-45-01Z-web-1")), (Some(time), None));
        assert_eq!(host("2026-11-22T05-45-01Z-web-1-12"), Some("web-1"));
        assert_eq!(host("2026-11-22T05-45-01Z--1"), Some(""));
        for name in ["", "2026", "2026-11-22T05-45-01Z-web", "2026-11-22T05-45-01Z-web-x", "x026-11-22T05-45-01Z-web-1"]
        {
            assert_eq!(host(name), None, "{name}");
        }
    }
}
