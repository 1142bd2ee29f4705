//! What a worker is told that takes the built-in evidence, and where it keeps what it has seen.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::config::{Heavy, Keeping, Recipes};
use crate::sys::process::ProcessId;

/// A look that is to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The folder for incidents.
    pub dir: &'a Path,
    /// The incident's name; empty for the baseline, which belongs to none.
    pub incident: &'a str,
    /// The number of the run.
    pub run: u32,
    /// The app.
    pub app: ProcessId,
    /// The stage.
    pub stage: &'a str,
    /// What is left below the limit; bytes.
    pub room: Option<u64>,
    /// How long the look may take: then it is cut.
    pub time: Duration,
    /// What is to be taken.
    pub recipes: Recipes,
    /// How a dump of everything is taken.
    pub heavy: Heavy,
    /// How much is kept.
    pub keeping: Keeping,
    /// How many frames Python's helpers record; `None`: there are none.
    pub frames: Option<u32>,
    /// What was seen before.
    pub seen: BorrowedFd<'a>,
}

impl Request<'_> {
    /// As the worker gets it.
    pub fn words(&self) -> Vec<OsString> {
        let recipes = Recipes::NAMES.iter().filter(|(_, recipe)| self.recipes.and(*recipe) == self.recipes);
        let recipes: Vec<&str> = recipes.map(|(name, _)| *name).collect();
        vec![
            "evidence".into(),
            self.dir.into(),
            self.incident.into(),
            self.run.to_string().into(),
            self.app.to_string().into(),
            self.stage.into(),
            self.room.map_or_else(String::new, |room| room.to_string()).into(),
            self.time.as_millis().to_string().into(),
            recipes.join(",").into(),
            serde_json::to_string(&self.heavy).unwrap_or_default().into(),
            serde_json::to_string(&self.keeping).unwrap_or_default().into(),
            self.frames.map_or_else(String::new, |frames| frames.to_string()).into(),
            self.seen.as_raw_fd().to_string().into(),
        ]
    }
}

/// The same on the worker's side.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    /// The folder for incidents.
    pub dir: PathBuf,
    /// The incident's name; `None` for the baseline.
    pub incident: Option<String>,
    /// The number of the run.
    pub run: u32,
    /// The app.
    pub app: i32,
    /// The stage.
    pub stage: String,
    /// What is left below the limit; bytes.
    pub room: Option<u64>,
    /// How long the look may take: then it is cut.
    pub time: Duration,
    /// What is to be taken.
    pub recipes: Recipes,
    /// How a dump of everything is taken.
    pub heavy: Heavy,
    /// How much is kept.
    pub keeping: Keeping,
    /// How many frames Python's helpers record; `None`: there are none, or nothing is to be recorded.
    pub frames: Option<u32>,
    /// The descriptor of what was seen before.
    pub seen: i32,
}

impl Order {
    /// Reads the words after the verb.
    pub fn parse(words: &[OsString]) -> Option<Self> {
        let [dir, incident, run, app, stage, room, time, recipes, heavy, keeping, frames, seen] = words else {
            return None;
        };
        let recipe = |name: &str| Recipes::NAMES.iter().find(|(known, _)| *known == name).map(|(_, recipe)| *recipe);
        Some(Self {
            dir: dir.into(),
            incident: Some(incident.to_str()?.to_owned()).filter(|name| !name.is_empty()),
            run: run.to_str()?.parse().ok()?,
            app: app.to_str()?.parse().ok()?,
            stage: stage.to_str()?.to_owned(),
            room: room.to_str()?.parse().ok(),
            time: Duration::from_millis(time.to_str()?.parse().ok()?),
            recipes: recipes.to_str()?.split(',').filter_map(recipe).fold(Recipes::NONE, Recipes::and),
            heavy: serde_json::from_str(heavy.to_str()?).ok()?,
            keeping: serde_json::from_str(keeping.to_str()?).ok()?,
            frames: frames.to_str()?.parse().ok(),
            seen: seen.to_str()?.parse().ok()?,
        })
    }
}

/// Memory for what workers see. PID 1 only holds it open, so that it lasts as long as the run; what is written to it is charged to
/// the group.
///
/// # Errors
/// EMFILE, ENOMEM, or ENOSYS before Linux 3.17.
pub fn keeper() -> io::Result<OwnedFd> {
    Ok(memfd_create(c"memini-seen", MFdFlags::MFD_CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::config::When;

    #[test]
    fn a_worker_is_told_what_it_was_asked_for() {
        let seen = keeper().unwrap();
        let heavy = Heavy { when: When::On, max_pause: Duration::from_millis(1500), redact: true, live: false };
        let keeping = Keeping { incidents: 5, dumps: 1, age: None, artifact: 7, total: 9, free: 0 };
        for (incident, room, recipes, frames) in [
            ("", None, Recipes::NONE, None),
            ("one", Some(7), Recipes::ALL, Some(1)),
            ("two", Some(0), Recipes { jvm: true, ..Recipes::NONE }, None),
        ] {
            let request = Request {
                dir: Path::new("/evi dence"),
                incident,
                run: 3,
                app: ProcessId::new(2).unwrap(),
                stage: "trace",
                room,
                time: Duration::from_millis(300),
                recipes,
                heavy,
                keeping,
                frames,
                seen: seen.as_fd(),
            };
            let words = request.words();
            let order = Order {
                dir: "/evi dence".into(),
                incident: Some(incident.to_owned()).filter(|name| !name.is_empty()),
                run: 3,
                app: 2,
                stage: "trace".into(),
                room,
                time: Duration::from_millis(300),
                recipes,
                heavy,
                keeping,
                frames,
                seen: seen.as_raw_fd(),
            };
            assert_eq!((words[0].to_str(), Order::parse(&words[1..])), (Some("evidence"), Some(order)));
            assert_eq!(Order::parse(&words[2..]), None);
        }
    }
}
