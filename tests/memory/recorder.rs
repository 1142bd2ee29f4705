//! The flight recorder: whatever becomes of memini, the next start tells.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Group, Incident, Memini, Session, records, send, status, wait_until};

/// A folder that runs one after the other use.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::with_prefix("memini-test-").expect("a temporary folder"))
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("memini")
    }

    fn memini<'a>(&self, group: &'a Group) -> Memini<'a> {
        let dir = self.dir();
        Memini::new(group).options(&["--dir", dir.to_str().unwrap(), "--stop-at", "off", "--kill-at", "off"])
    }

    /// Starts the app, and waits until it is recorded.
    fn start(&self, group: &Group, name: &str) -> Session {
        let path = self.dir().join(name);
        let last = fs::metadata(&path).ok().map(|metadata| metadata.ino());
        let session = self.memini(group).app(&[]).start();
        wait_until("a new recorder", || fs::metadata(&path).is_ok_and(|metadata| Some(metadata.ino()) != last));
        records(&path);
        session
    }
}

/// What memory.oom.group does, and what an orchestrator does: SIGKILL to everybody.
fn kill_all(group: &Group, session: Session) {
    let members = group.members();
    assert!(members.len() >= 2, "{members:?}");
    members.into_iter().filter(|id| *id > 0).for_each(|id| send("KILL", id));
    assert!(session.end().was_killed());
}

#[test]
fn a_run_that_was_killed_at_its_limit_is_told_of_and_becomes_an_incident() {
    let group = Group::new("recorder-oom", 200);
    let place = Place::new();
    let mut session = place.start(&group, "recorder");
    session.tell("to 100");
    session.tell("to 197");
    session.sees("capture: memory is at ");
    kill_all(&group, session);

    let session = place.start(&group, "recorder");
    let line = session.sees("the last run of ");
    assert!(line.contains("was killed by the kernel's OOM killer, as far as its last numbers tell, "), "{line}");
    assert!(line.contains(" after 8") || line.contains(" after 9"), "{line}");
    session.finish().assert_code(0);
    let incident = Incident::only(&place.dir());
    assert_eq!((&incident.json["outcome"], &incident.json["exit_code"]), (&json!("oom-killed"), &json!(null)));
    let summary = incident.json["summary"].as_str().unwrap();
    assert!(summary.starts_with("the kernel's OOM killer killed python"), "{summary}");
    assert!(incident.events().contains(&"found-by-next-run".to_owned()), "{:?}", incident.events());
    let artifacts = incident.json["artifacts"].as_array().unwrap();
    assert!(artifacts.iter().any(|artifact| artifact["file"] == "artifacts/recorder"), "{artifacts:?}");
    assert_eq!(fs::metadata(incident.folder.join("artifacts/recorder")).unwrap().len(), 512 << 10);
    incident.assert_private();
}

#[test]
fn a_kill_that_the_kernel_counts_is_certain() {
    let group = Group::new("recorder-certain", 64);
    let place = Place::new();
    let mut session = place.start(&group, "recorder");
    session.tell("to 20");
    // Another one in the group is killed for memory, and memini cannot look any more.
    send("STOP", session.id());
    let killer = group.oom_kills();
    let script = "echo 0 > $GROUP/cgroup.procs; head -c 200m /dev/zero | tail -c 200m >/dev/null";
    let _ = std::process::Command::new("sh").args(["-c", script]).env("GROUP", group.path()).status();
    assert!(group.oom_kills() > killer, "the kernel has killed nobody");
    kill_all(&group, session);
    let session = place.start(&group, "recorder");
    let line = session.sees("the last run of ");
    assert!(line.contains("was killed by the kernel's OOM killer, at "), "{line}");
    session.finish().assert_code(0);
    assert_eq!(Incident::only(&place.dir()).json["outcome"], "oom-killed");
}

#[test]
fn a_run_that_somebody_killed_or_that_ended_is_told_of_and_makes_no_incident() {
    let group = Group::new("recorder-ended", 64);
    let place = Place::new();
    let mut session = place.start(&group, "recorder");
    session.tell("to 20");
    kill_all(&group, session);
    let session = place.start(&group, "recorder");
    session.sees("was killed from outside, at ");
    session.finish().assert_code(0).assert_silent("OOM");
    let session = place.start(&group, "recorder");
    let line = session.sees("the last run of ");
    assert!(line.ends_with(", ended with 0"), "{line}");
    session.finish().assert_code(0);
    assert!(Incident::all(&place.dir()).is_empty());
    let mut names: Vec<_> =
        fs::read_dir(place.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["recorder", "recorder.previous"]);
}

/// Regression test: the record stayed open for ever.
#[test]
fn an_incident_in_which_somebody_killed_the_run_is_ended_by_the_next_one() {
    // So much room that nobody takes it for the kernel's deed.
    let group = Group::new("recorder-cut", 4000);
    let place = Place::new();
    let path = place.dir().join("recorder");
    let mut session = place.memini(&group).options(&["--trace-at", "2%"]).app(&[]).start();
    wait_until("a recorder", || path.exists());
    session.tell("to 100");
    session.sees("trace: memory is at ");
    wait_until("a record", || Incident::all(&place.dir()).len() == 1);
    kill_all(&group, session);
    assert_eq!(Incident::only(&place.dir()).json["outcome"], "open");
    let session = place.start(&group, "recorder");
    let line = session.sees("the last run of ");
    assert!(line.contains("was killed from outside, ") && line.contains("what is left of it is in "), "{line}");
    session.finish().assert_code(0);
    let incident = Incident::only(&place.dir());
    assert_eq!(incident.json["outcome"], "exited");
    let summary = incident.json["summary"].as_str().unwrap();
    assert!(summary.contains(" was killed from outside while its memory was high: "), "{summary}");
}

/// Regression test: they put one another's recorder aside.
#[test]
fn two_that_start_at_the_same_moment_in_one_folder_do_not_disturb_one_another() {
    let (one, other) = (Group::new("recorder-twin", 64), Group::new("recorder-twins", 64));
    for _round in 0..5 {
        let place = Place::new();
        let twins = [&one, &other].map(|group| place.memini(group).app(&[]).start());
        for name in ["recorder", "recorder.2"] {
            let path = place.dir().join(name);
            wait_until("a recorder", || path.exists());
            records(&path);
        }
        for twin in twins {
            twin.finish().assert_code(0).assert_silent("the last run").assert_silent("the recorder is in memory");
        }
    }
}

#[test]
fn two_in_one_folder_do_not_disturb_one_another() {
    let (one, other) = (Group::new("recorder-one", 64), Group::new("recorder-other", 64));
    let place = Place::new();
    let first = place.start(&one, "recorder");
    let second = place.start(&other, "recorder.2");
    second.sees("another memini records in this folder; this one's recorder is ");
    second.finish().assert_code(0).assert_silent("the last run");
    first.finish().assert_code(0);
}

#[test]
fn a_file_that_is_no_recorder_is_refused_with_one_line() {
    let group = Group::new("recorder-refused", 64);
    for (content, why) in [
        (b"precious".to_vec(), "it is no recorder"),
        (b"memini\0R\x01\0\0\0".to_vec(), "it is cut short"),
        (b"memini\0R\xff\0\0\0".repeat(4096), "a newer memini has written it"),
        (vec![0xff; 2 << 20], "it is no recorder"),
    ] {
        let place = Place::new();
        fs::create_dir(place.dir()).unwrap();
        fs::write(place.dir().join("recorder"), &content).unwrap();
        let session = place.start(&group, "recorder");
        let path = place.dir().join("recorder");
        session.sees(&format!("cannot read {}: {why}; it is put aside", path.display()));
        session.finish().assert_code(0);
        assert_eq!(fs::read(place.dir().join("recorder.refused")).unwrap(), content);
    }
}

#[test]
fn without_a_place_on_the_disk_it_is_in_memory_and_says_so() {
    let full = "echo 0 > $GROUP/../cgroup.procs && mkdir $PLACE/memini && \
                mount -t tmpfs -o size=128k none $PLACE/memini && echo 0 > $GROUP/cgroup.procs";
    let read_only = "mkdir $PLACE/memini && mount --bind $PLACE/memini $PLACE/memini && \
                     mount -o remount,ro,bind $PLACE/memini";
    let link = "ln -s /tmp $PLACE/memini";
    for (name, setup, why) in [
        ("full", full, "No space left on device (os error 28)"),
        ("read-only", read_only, "Read-only file system (os error 30)"),
        ("link", link, "it is a symbolic link"),
    ] {
        let group = Group::new(&format!("recorder-{name}"), 64);
        let session = Memini::new(&group).setup(setup).app(&[]).start();
        let line = session.sees("the recorder is in memory");
        assert!(line.contains(why), "{line}");
        session.finish().assert_code(0);
    }
}

#[test]
fn a_link_in_its_place_is_not_followed() {
    let group = Group::new("recorder-link", 64);
    let place = Place::new();
    fs::create_dir(place.dir()).unwrap();
    let victim = place.0.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, place.dir().join("recorder")).unwrap();
    let session = place.memini(&group).app(&[]).start();
    session.sees("the recorder is in memory");
    session.finish().assert_code(0);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

// A store to a page that is gone raises SIGBUS, which would be the end of PID 1, and of the container.
#[test]
fn a_recorder_that_is_cut_short_costs_the_recorder_and_not_the_app() {
    let group = Group::new("recorder-cut", 64);
    let place = Place::new();
    let mut session = place.start(&group, "recorder");
    fs::File::options().write(true).open(place.dir().join("recorder")).unwrap().set_len(0).unwrap();
    session.sees("the recorder's file has gone");
    session.tell("to 20");
    session.finish().assert_code(0).assert_silent("internal error");
}

#[test]
fn sigbus_is_forwarded_like_any_other_signal() {
    let group = Group::new("recorder-bus", 64);
    let place = Place::new();
    let app = "trap 'echo heard >&2; exit 7' BUS; echo ready >&2; while :; do sleep 0.05; done";
    let session = place.memini(&group).command(&["sh", "-c", app]).start();
    records(&place.dir().join("recorder"));
    session.sees("ready");
    send("BUS", session.id());
    session.sees("heard");
    session.end().assert_code(7);
}

// musl's sigaction(2) unblocks 33 and 34 with the first handler: as PID 1 memini lost them as soon as it had a recorder.
#[test]
fn no_signal_is_let_through_by_the_recorders_handler() {
    let group = Group::new("recorder-mask", 64);
    let place = Place::new();
    let session = place.start(&group, "recorder");
    let status = fs::read_to_string(format!("/proc/{}/status", session.id())).unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
    // KILL and STOP cannot be blocked; SIGBUS has the handler.
    let open = [7, 9, 19].into_iter().fold(0, |open: u64, signal| open | 1 << (signal - 1));
    assert_eq!(u64::from_str_radix(blocked, 16).unwrap(), !open);
    session.finish().assert_code(0);
}

#[test]
fn what_is_switched_off_leaves_nothing() {
    let group = Group::new("recorder-off", 64);
    let place = Place::new();
    let mut session = place.memini(&group).options(&["--recorder", "off"]).app(&[]).start();
    session.tell("to 20");
    session.finish().assert_code(0);
    assert!(!place.dir().exists());
}

/// Regression test: around each page of the program that PID 1 has touched the kernel maps fifteen others, and what had run once, in
/// an incident above all, stayed for good. Only the static binary is laid out for it.
#[test]
fn with_a_recorder_pid_1_is_small_idle_and_in_an_incident() {
    if std::env::var_os("MEMINI").is_none() {
        println!("SKIP: MEMINI is not set to the static binary");
        return;
    }
    let group = Group::new("recorder-size", 200);
    let place = Place::new();
    let mut session = place.start(&group, "recorder");
    let id = session.id();
    wait_until("1.25 MiB at the most, idle", || status(id, "VmRSS:") <= 1280 << 10);
    session.tell("to 165");
    session.sees("capture: memory is at ");
    // Anonymous memory has the ballast in it, which is let go as soon as it is wanted.
    wait_until("1 MiB of files at the most, in an incident", || status(id, "RssFile:") <= 1 << 20);
    session.finish().assert_code(0);
}
