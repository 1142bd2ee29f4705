//! PID 1's side of an incident: its name, its journal, and when a worker writes it down.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::json;

use super::workers::{Remark, Role, Workers};
use crate::config::{Config, Helpers};
use crate::engine::event::{Note, Run};
use crate::engine::settings::{GaugeKind, OnLeak, Stage, StopWhen};
use crate::engine::time::Moment;
use crate::incident;
use crate::incident::journal::{Journal, Weight};
use crate::process::facts::{Fact, Facts};

/// The least time between two records of an incident that goes on: each costs a process and writes to the disk. It
/// doubles with each one, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How many incidents of one run get a folder. Memory that swings around the trace threshold makes one a minute.
const MOST_INCIDENTS: u32 = 100;

/// How many incidents that are over can wait to be written down.
const MOST_WAITING: usize = 4;

/// How much of the app's command line stands in the record, in bytes: a class path can be longer than all the rest.
const LONGEST_COMMAND: usize = 4096;
/// And in the recorder, whose header is a page.
const LONGEST_RECORDED_COMMAND: usize = 1024;
const MOST_RECORDED_WORDS: usize = 64;
/// How much of a hook's text.
const LONGEST_HOOK: usize = 512;

/// What belongs on an incident's timeline besides the engine's notes.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Extra<'a> {
    /// Where a hook's output stands.
    HookOutput { run: Run, file: &'a str, bytes: u64 },
    /// Where the built-in evidence stands.
    Evidence { run: Run, file: &'a str, bytes: u64 },
    /// What was not done, and why.
    LeftOut { run: Run, text: &'a str },
    /// The SHA-256 of a file that is whole.
    Digest { run: Run, file: &'a str, bytes: u64, sha256: &'a str },
    /// Who holds how much.
    Processes { stage: Stage, count: u32, list: Vec<ProcessEntry> },
    /// The incident is over and the app lives on.
    Recovered {},
    /// memini will end with this code.
    Exit { code: u8 },
}

#[derive(Serialize)]
struct ProcessEntry {
    pid: i32,
    parent: i32,
    comm: String,
    state: char,
    threads: u64,
    rss_anon: u64,
    rss_file: u64,
    rss_shmem: u64,
    swap: u64,
}

impl From<&Fact> for ProcessEntry {
    fn from(fact: &Fact) -> Self {
        Self {
            pid: fact.pid,
            parent: fact.parent,
            comm: String::from_utf8_lossy(fact.name.as_bytes()).into_owned(),
            state: char::from(fact.state),
            threads: fact.threads,
            rss_anon: fact.rss_anon,
            rss_file: fact.rss_file,
            rss_shmem: fact.rss_shmem,
            swap: fact.swap,
        }
    }
}

/// An incident that is open.
#[derive(Debug)]
struct Open {
    name: String,
    /// `None`: the incident is in the log only.
    journal: Option<Journal>,
    /// Something was noted since the last record began.
    unwritten: bool,
    last_written: Option<Moment>,
    pause: Duration,
}

/// The incidents of this run.
///
/// Only one worker writes at a time: two of them could overtake one another, and the older text would stand.
#[derive(Debug)]
pub struct Recording {
    header: serde_json::Value,
    hostname: String,
    count: u32,
    open: Option<Open>,
    /// Incidents that are over and have still to be written down for the last time.
    over: VecDeque<Open>,
    /// The folder of the open incident is on disk.
    is_written: bool,
    /// The worker that runs writes the open incident, and not one that is over.
    writes_open: bool,
    /// memini is about to end: the open incident is to be written down for the last time.
    is_last: bool,
    /// The same, and there is none that is open: those that are over are to be written down.
    finishes: bool,
}

impl Recording {
    /// None yet. `source` is the phrase for where memory is read, `app` the app's process id.
    pub fn new(config: &Config, app: i32, source: &str) -> Self {
        let hostname = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let header = header(config, app, source, &hostname);
        Self {
            header,
            hostname,
            count: 0,
            open: None,
            over: VecDeque::with_capacity(MOST_WAITING),
            is_written: false,
            writes_open: false,
            is_last: false,
            finishes: false,
        }
    }

    /// What the run is, for the recorder: a JSON object, without what may be long.
    pub fn run(&self) -> String {
        let mut run = self.header.clone();
        if let Some(run) = run.as_object_mut() {
            run.shift_remove("id");
        }
        let mut room = LONGEST_RECORDED_COMMAND;
        if let Some(words) = run.pointer_mut("/app/command").and_then(serde_json::Value::as_array_mut) {
            words.iter_mut().for_each(|word| *word = shortened(word.as_str().unwrap_or_default(), &mut room).into());
            words.truncate(MOST_RECORDED_WORDS);
        }
        run.to_string()
    }

    /// The name of the open incident's folder.
    pub fn name(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.name.as_str())
    }

    /// The same, once there is such a folder on disk.
    pub fn written_name(&self) -> Option<&str> {
        self.name().filter(|_| self.is_written)
    }

    /// A worker has told that a record is on disk.
    pub fn written(&mut self) {
        self.is_written |= self.writes_open;
    }

    /// An incident begins. Without memory for a journal there is only the log. `place` is that of the run among those that record
    /// in the folder.
    pub fn begin(&mut self, place: u8) {
        if self.open.is_some() {
            return;
        }
        if self.count == MOST_INCIDENTS {
            log::warn!("{MOST_INCIDENTS} incidents were recorded in this run; further ones are in this log only");
        }
        self.count = self.count.saturating_add(1);
        let name = incident::name(SystemTime::now(), &self.hostname, place, self.count);
        if let Some(header) = self.header.as_object_mut() {
            header.insert("id".into(), name.clone().into());
        }
        let journal = if self.count > MOST_INCIDENTS {
            None
        } else {
            Journal::new(self.header.to_string().as_bytes())
                .map_err(|error| log::warn!("cannot keep a journal: {error}; the incident is in this log only"))
                .ok()
        };
        (self.is_written, self.writes_open) = (false, false);
        self.open = Some(Open { name, journal, unwritten: false, last_written: None, pause: PAUSE });
    }

    fn append<T: Serialize>(&mut self, since_start: Duration, weight: Weight, entry: &T) {
        if let Some(open) = &mut self.open
            && let Some(journal) = &mut open.journal
        {
            journal.note(since_start, weight, entry);
            open.unwritten = true;
        }
    }

    /// Puts a note of the engine's on the timeline.
    pub fn note(&mut self, since_start: Duration, note: &Note) {
        let weight = match note {
            Note::StageBegan { stage, .. } if *stage < Stage::Stop => Weight::Common,
            Note::StageEnded { .. }
            | Note::StopNotNeeded { .. }
            | Note::CaptureSkipped { .. }
            | Note::Verdict { .. }
            | Note::LimitChanged { .. }
            | Note::Braked { .. }
            | Note::LastLooks { .. }
            | Note::LateWake { .. }
            | Note::Thrashing { .. } => Weight::Common,
            _ => Weight::Essential,
        };
        self.append(since_start, weight, note);
        if let (Weight::Essential, Some(open)) = (weight, &mut self.open) {
            open.pause = PAUSE;
        }
    }

    /// Puts down where the output of a hook stands.
    pub fn hook_output(&mut self, since_start: Duration, run: Run, file: &str, bytes: u64) {
        self.append(since_start, Weight::Essential, &Extra::HookOutput { run, file, bytes });
    }

    /// Puts down where the built-in evidence stands.
    pub fn evidence(&mut self, since_start: Duration, run: Run, file: &str, bytes: u64) {
        self.append(since_start, Weight::Essential, &Extra::Evidence { run, file, bytes });
    }

    /// Puts down what a worker has told besides.
    pub fn remarks(&mut self, since_start: Duration, run: Run, remarks: &[Remark]) {
        for remark in remarks {
            let (weight, entry) = match remark {
                Remark::LeftOut(text) => (Weight::Common, Extra::LeftOut { run, text }),
                Remark::Digest { file, bytes, sha256 } => {
                    (Weight::Essential, Extra::Digest { run, file, bytes: *bytes, sha256 })
                }
            };
            self.append(since_start, weight, &entry);
        }
    }

    /// Puts down who holds how much.
    pub fn processes(&mut self, since_start: Duration, stage: Stage, facts: &Facts) {
        let list = facts.largest().iter().map(ProcessEntry::from).collect();
        let weight = if stage >= Stage::Stop { Weight::Essential } else { Weight::Common };
        self.append(since_start, weight, &Extra::Processes { stage, count: facts.processes, list });
    }

    /// The incident is over, and the app lives on.
    pub fn end(&mut self, since_start: Duration) {
        self.append(since_start, Weight::Essential, &Extra::Recovered {});
        if self.over.len() < MOST_WAITING {
            self.over.extend(self.open.take());
        } else {
            log::warn!("the disk is too slow: how an incident went on is in this log only");
            self.open = None;
        }
    }

    /// memini is about to end. False if there is nothing to write.
    pub fn finish(&mut self, since_start: Duration, code: u8) -> bool {
        self.append(since_start, Weight::Essential, &Extra::Exit { code });
        self.is_last = self.open.as_ref().is_some_and(|open| open.journal.is_some());
        self.is_last
    }

    /// memini is about to end, and no incident is open.
    pub fn finish_earlier(&mut self) {
        self.finishes = true;
    }

    /// Whether those that are over are all written down, since that is waited for.
    pub fn is_finished(&self, workers: &Workers) -> bool {
        self.finishes && self.over.is_empty() && !workers.any(|role| matches!(role, Role::Record(_)))
    }

    /// When something is to be written down, if nothing else happens.
    pub fn due(&self, workers: &Workers) -> Option<Moment> {
        // The end of a record's worker wakes the loop by itself.
        if workers.any(|role| matches!(role, Role::Record(_))) {
            return None;
        }
        if !self.over.is_empty() || self.is_last {
            return Some(Moment::default());
        }
        let open = self.open.as_ref().filter(|open| open.unwritten)?;
        Some(open.last_written.map_or(Moment::default(), |at| at.after(open.pause)))
    }

    /// Has written down what is due, by a worker, with what the recorder has kept in `recorder`.
    ///
    /// # Errors
    /// Where the last record cannot be written because no worker can be started: nothing is to be waited for.
    pub fn write_if_due(
        &mut self,
        now: Moment,
        config: &Config,
        recorder: Option<BorrowedFd<'_>>,
        workers: &mut Workers,
    ) -> Result<(), NoLastRecord> {
        if self.due(workers).is_none_or(|due| due > now) {
            return Ok(());
        }
        if let Some(over) = self.over.pop_front() {
            self.writes_open = false;
            start_worker(&over, Role::Record(false), config, recorder, workers);
            return Ok(());
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.unwritten = false;
        open.pause = if open.last_written.is_some() { open.pause.saturating_mul(2).min(LONGEST_PAUSE) } else { PAUSE };
        open.last_written = Some(now);
        self.writes_open = true;
        let is_last = std::mem::take(&mut self.is_last);
        let is_started = start_worker(open, Role::Record(is_last), config, recorder, workers);
        if is_started || !is_last { Ok(()) } else { Err(NoLastRecord) }
    }
}

/// No worker could be started for the last record.
#[derive(Debug)]
pub struct NoLastRecord;

/// Whether a worker now writes this incident down.
fn start_worker(
    incident: &Open,
    role: Role,
    config: &Config,
    recorder: Option<BorrowedFd<'_>>,
    workers: &mut Workers,
) -> bool {
    let termination_log: OsString = match role {
        Role::Record(true) => config.termination_log.clone().into(),
        _ => OsString::new(),
    };
    let Some(journal) = &incident.journal else { return false };
    let words: Vec<OsString> = vec![
        "record".into(),
        config.dir.clone().into(),
        incident.name.clone().into(),
        journal.as_fd().as_raw_fd().to_string().into(),
        journal.length().to_string().into(),
        journal.lost().to_string().into(),
        recorder.map(|recorder| recorder.as_raw_fd().to_string()).unwrap_or_default().into(),
        serde_json::to_string(&config.keeping).unwrap_or_default().into(),
        termination_log,
    ];
    let both = [journal.as_fd(), recorder.unwrap_or(journal.as_fd())];
    let inherited = if recorder.is_some() { &both[..] } else { &both[..1] };
    match workers.start(role, words, inherited) {
        Ok(()) => true,
        Err(error) => {
            log::warn!("cannot start a worker: {error}; the incident is in this log only");
            false
        }
    }
}

/// What is the same for every incident of this run. Never the environment: it holds secrets.
fn header(config: &Config, app: i32, source: &str, hostname: &str) -> serde_json::Value {
    let thresholds = &config.thresholds;
    let hooks: Vec<_> = config
        .hooks
        .iter()
        .map(|hook| json!({"stage": hook.stage.name(), "command": shortened(&hook.text, &mut { LONGEST_HOOK })}))
        .collect();
    let mut room = LONGEST_COMMAND;
    let command: Vec<String> =
        config.command.iter().map(|word| shortened(&word.to_string_lossy(), &mut room)).collect();
    json!({
        "id": null,
        "memini": env!("CARGO_PKG_VERSION"),
        "hostname": hostname,
        "app": {
            "command": command,
            "pid": app,
        },
        "source": source,
        "settings": {
            "trace_at": thresholds.trace.to_string(),
            "capture_at": thresholds.capture.to_string(),
            "stop_at": thresholds.stop.to_string(),
            "kill_at": thresholds.kill.to_string(),
            "stop_when": match config.stop_when {
                StopWhen::Urgent => "urgent",
                StopWhen::Level => "level",
            },
            "gauge": match config.gauge {
                GaugeKind::Unreclaimable => "unreclaimable",
                GaugeKind::WorkingSet => "working-set",
                GaugeKind::Usage => "usage",
            },
            "soft_limit": config.soft_limit,
            "grace_seconds": config.grace.as_secs_f64(),
            "cooldown_seconds": config.cooldown.as_secs_f64(),
            "max_captures": config.max_captures,
            "capture": config.capture.is_some(),
            "heavy": format!("{:?}", config.heavy.when).to_lowercase(),
            "max_pause_seconds": config.heavy.max_pause.as_secs_f64(),
            "helpers": config.helpers != Helpers::NONE,
            "keep_incidents": config.keeping.incidents,
            "keep_dumps": config.keeping.dumps,
            "keep_for_seconds": config.keeping.age.map(|age| age.as_secs_f64()),
            "max_artifact": config.keeping.artifact,
            "max_total": config.keeping.total,
            "keep_free": config.keeping.free,
            "on_leak": match config.on_leak {
                OnLeak::Notice => "notice",
                OnLeak::Capture => "capture",
            },
            "baseline_after_seconds": config.baseline_after.as_secs_f64(),
            "hook_timeout_seconds": config.hook_timeout.as_secs_f64(),
            "exit_code": config.exit_code,
            "brake": config.brake,
            "dry_run": config.dry_run,
        },
        "configured_hooks": hooks,
    })
}

/// As much of a text as there is room for, with a sign where something is left out.
fn shortened(text: &str, room: &mut usize) -> String {
    let end = (0..=text.len().min(*room)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    *room = room.saturating_sub(end);
    let cut = if end < text.len() { "…" } else { "" };
    format!("{}{cut}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_line_is_cut_between_characters() {
        let mut room = 5;
        let words = ["abc", "dé", "fgh"].map(|word| shortened(word, &mut room));
        assert_eq!(words, ["abc", "d…", "f…"]);
    }
}
