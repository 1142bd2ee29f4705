//! An incident on disk, as its readers find it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::schema;

/// `incident.json` and the folder that it stands in.
#[derive(Debug)]
pub struct Incident {
    /// DIR/incidents/NAME.
    pub folder: PathBuf,
    /// What `incident.json` says.
    pub json: Value,
}

impl Incident {
    /// All incidents below DIR, the oldest first.
    pub fn all(dir: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(dir.join("incidents")) else { return Vec::new() };
        let mut incidents: Vec<Self> =
            entries.filter_map(|entry| Self::read(entry.expect("an entry").path())).collect();
        incidents.sort_by_key(|incident| incident.json["began"].as_str().map(str::to_owned));
        incidents
    }

    /// `None` if it is not written yet. What is written is whole at any time.
    fn read(folder: PathBuf) -> Option<Self> {
        let text = fs::read_to_string(folder.join("incident.json")).ok()?;
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let faults = schema::faults(&json);
        assert!(faults.is_empty(), "{faults:#?}\n{json:#}");
        Some(Self { folder, json })
    }

    /// The only incident below DIR.
    pub fn only(dir: &Path) -> Self {
        let mut incidents = Self::all(dir);
        assert_eq!(incidents.len(), 1, "{incidents:#?}");
        incidents.remove(0)
    }

    /// The events of the timeline, in order; stages by their name.
    pub fn events(&self) -> Vec<String> {
        let entries = self.json["timeline"].as_array().expect("a timeline");
        let name = |entry: &Value| match entry["event"].as_str().expect("an event's name") {
            "stage-began" => entry["stage"].as_str().expect("a stage").to_owned(),
            other => other.to_owned(),
        };
        entries.iter().map(name).collect()
    }

    /// The first entry of this kind on the timeline.
    pub fn event(&self, name: &str) -> &Value {
        let entries = self.json["timeline"].as_array().expect("a timeline");
        entries
            .iter()
            .find(|entry| entry["event"] == name || (entry["event"] == "stage-began" && entry["stage"] == name))
            .unwrap_or_else(|| panic!("no {name} in {:#}", self.json))
    }

    /// The runs of hooks.
    pub fn hooks(&self) -> &[Value] {
        self.json["hooks"].as_array().expect("a list of hooks")
    }

    /// What the first hook has printed.
    pub fn output(&self) -> Vec<u8> {
        let file = self.hooks()[0]["output"].as_str().unwrap_or_else(|| panic!("no output: {:#}", self.json));
        fs::read(self.folder.join(file)).expect("the output of the hook")
    }

    /// The recorder's history is told, in the order of time: from before the incident began up to a level like this one (MiB) at
    /// the least.
    pub fn assert_history(&self, level: u64) {
        let meshes = self.json["history"].as_array().unwrap_or_else(|| panic!("no history: {:#}", self.json));
        let points: Vec<&Value> =
            meshes.iter().rev().flat_map(|mesh| mesh["points"].as_array().expect("points")).collect();
        let times: Vec<f64> = points.iter().map(|point| point["seconds"].as_f64().expect("a time")).collect();
        assert!(times.is_sorted_by(|one, other| one < other), "{times:?}");
        let began = self.json["timeline"][0]["seconds"].as_f64().expect("a time");
        assert!(times[0] < began + 1.0, "{times:?}, and it began at {began}");
        let highest = points.iter().filter_map(|point| point["gauged"][1].as_u64()).max().unwrap_or(0);
        assert!(highest >> 20 >= level, "{highest}: {:#}", self.json);
        let composed = points.iter().filter(|point| point["composition"]["anon"].as_u64().is_some());
        assert!(composed.count() > 0, "{points:?}");
    }

    /// Files that are whole have the digest that sha256sum(1) finds.
    pub fn assert_digests(&self) {
        for artifact in self.json["artifacts"].as_array().expect("a list") {
            let file = artifact["file"].as_str().expect("a name");
            let found =
                std::process::Command::new("sha256sum").arg(self.folder.join(file)).output().expect("sha256sum");
            let found = String::from_utf8_lossy(&found.stdout);
            let told = artifact["sha256"].as_str();
            assert_eq!(told, found.split_whitespace().next().filter(|_| !file.ends_with(".partial")), "{file}");
        }
    }

    /// Folders are 0700 and files 0600, all of them ours, and nothing half-written is left.
    pub fn assert_private(&self) {
        fn walk(path: &Path) {
            let metadata = fs::symlink_metadata(path).expect("an artifact");
            let mode = if metadata.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{}", path.display());
            assert_eq!(metadata.uid(), 0, "{}", path.display());
            assert!(!path.to_string_lossy().ends_with(".partial"), "{}", path.display());
            if metadata.is_dir() {
                for entry in fs::read_dir(path).expect("a folder") {
                    walk(&entry.expect("an entry").path());
                }
            }
        }
        walk(&self.folder);
        walk(self.folder.parent().expect("incidents"));
    }
}
