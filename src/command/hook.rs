//! `__worker hook`: runs one hook of the user's and keeps what it prints.
//!
//! The hook's time is PID 1's business: it knows the hook's process group and sends the signals. The worker only copies
//! output and waits.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use crate::cli::expand;
use crate::engine::event::Exit;
use crate::incident::folder::Folder;
use crate::supervisor::report::Report;
use crate::sys::poll::{Interest, Wait};
use crate::sys::process::{ProcessId, has_ended, kill_group};
use crate::sys::signal::Signal;

/// How much of a hook's output is kept: a thread dump of a large server has a few hundred KiB.
const LONGEST_OUTPUT: u64 = 1 << 20;

/// How much of its end is shown in the log.
const TAIL: usize = 4096;
const TAIL_LINES: usize = 5;
const TAIL_LINE: usize = 300;

/// How long to wait for the end of the output once the hook itself is gone: something that it started may hold it open.
const DRAIN: Duration = Duration::from_secs(1);

/// The words after `__worker hook`.
struct Arguments<'a> {
    dir: &'a OsStr,
    incident: &'a str,
    label: &'a str,
    pid: &'a str,
    stage: &'a str,
    usage: &'a str,
    limit: &'a str,
    reason: &'a str,
    words: &'a [OsString],
}

impl<'a> Arguments<'a> {
    fn new(words: &'a [OsString]) -> Option<Self> {
        let [dir, incident, label, pid, stage, usage, limit, reason, words @ ..] = words else { return None };
        Some(Self {
            dir,
            incident: incident.to_str()?,
            label: label.to_str()?,
            pid: pid.to_str()?,
            stage: stage.to_str()?,
            usage: usage.to_str()?,
            limit: limit.to_str()?,
            reason: reason.to_str()?,
            words: (!words.is_empty()).then_some(words)?,
        })
    }
}

/// Runs the hook.
pub fn run(words: &[OsString]) -> Option<()> {
    let arguments = Arguments::new(words)?;
    let artifacts = match Folder::of_incident(Path::new(arguments.dir), arguments.incident)
        .and_then(|folder| folder.enter("artifacts".as_ref()))
    {
        Ok(folder) => Some(folder),
        Err(error) => {
            if arguments.words.iter().any(|word| names_folder(&word.to_string_lossy())) {
                Report::Failed(&format!("{error}; the hook needs that folder and is left out")).send();
                return Some(());
            }
            Report::Warning(&format!("{error}; the output of the hook is not kept")).send();
            None
        }
    };
    if let Err(error) = supervise(&arguments, artifacts.as_ref()) {
        let program = arguments.words.first()?.to_string_lossy();
        Report::Failed(&format!("cannot run {program}: {error}; the hook is left out")).send();
    }
    Some(())
}

fn supervise(arguments: &Arguments<'_>, artifacts: Option<&Folder>) -> io::Result<()> {
    let (signals, signals_writer) = crate::sys::spawn::pipe()?;
    signal_hook::low_level::pipe::register(SIGCHLD, signals_writer)?;
    // A signal for all processes of the container (`kill -TERM -1`) is the hook's to act on: its output is kept.
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, std::sync::Arc::default())?;
    }
    let (output, output_writer) = crate::sys::spawn::pipe()?;
    let mut child = start(arguments, artifacts, output_writer)?;
    let group = ProcessId::new(child.id().cast_signed()).ok_or(io::ErrorKind::Other)?;
    Report::Group(group.get()).send();
    let mut keeper = Keeper::new(artifacts, arguments.label);
    let copied = copy(group, output, signals, &mut keeper);
    // What the hook has left running in its group ends with it. In most cases there is nothing. Only then is the hook
    // reaped: as long as it is there, the group is its own.
    let _ = kill_group(group, Signal::KILL);
    let status = child.wait()?;
    copied?;
    keeper.report();
    match exit(status) {
        Exit::Code(code) => Report::Code(code).send(),
        Exit::Signal(signal) => Report::Signal(signal.number()).send(),
    }
    Ok(())
}

/// Whether a hook's words name the incident's folder: without one, `rm -r {dir}/x` would be a different command.
pub fn names_folder(text: &str) -> bool {
    text.contains("{dir}") || text.contains("MEMINI_DIR")
}

fn exit(status: ExitStatus) -> Exit {
    match status.signal().and_then(Signal::from_number) {
        Some(signal) => Exit::Signal(signal),
        None => Exit::Code(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)),
    }
}

fn start(arguments: &Arguments<'_>, artifacts: Option<&Folder>, output: OwnedFd) -> io::Result<Child> {
    let dir = artifacts.map_or(PathBuf::new(), |folder| folder.path().to_owned());
    let dir_text = dir.to_string_lossy();
    let tokens = [
        ("pid", arguments.pid),
        ("dir", &dir_text),
        ("stage", arguments.stage),
        ("usage", arguments.usage),
        ("limit", arguments.limit),
        ("reason", arguments.reason),
    ];
    // Words that are no UTF-8 cannot come from the command line (it refuses them), so nothing is lost here.
    let mut words = arguments.words.iter().map(|word| expand(&word.to_string_lossy(), &tokens));
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
    for (name, value) in tokens {
        let name = format!("MEMINI_{}", name.to_ascii_uppercase());
        // Where there is no folder or no limit, an option of memini's own of that name is not meant either.
        if value.is_empty() {
            command.env_remove(name)
        } else {
            command.env(name, value)
        };
    }
    // Hooks are written for the app's folder. It may be gone with the app, or not be ours to see.
    let folder = format!("/proc/{}/cwd", arguments.pid);
    if let Ok(folder) = std::fs::read_link(&folder).and_then(|path| path.canonicalize()) {
        command.current_dir(folder);
    }
    command.spawn()
}

/// Copies the output until it ends and the hook has ended.
fn copy(hook: ProcessId, output: OwnedFd, signals: OwnedFd, keeper: &mut Keeper<'_>) -> io::Result<()> {
    let mut output = Some(File::from(output));
    let mut signals = File::from(signals);
    let mut ended: Option<Instant> = None;
    loop {
        if ended.is_none() && has_ended(hook) {
            ended = Some(Instant::now());
        }
        let patience = match (ended, &output) {
            (Some(_), None) => return Ok(()),
            (Some(at), Some(_)) => match DRAIN.checked_sub(at.elapsed()) {
                Some(left) => Some(left),
                None => {
                    Report::Warning("the hook has left a process behind that holds its output open").send();
                    return Ok(());
                }
            },
            (None, _) => None,
        };
        let mut wait = Wait::new();
        wait.add(signals.as_fd(), Interest::Read, ());
        if let Some(output) = &output {
            wait.add(output.as_fd(), Interest::Read, ());
        }
        wait.wait(patience)?;
        let mut buffer = [0; 16 * 1024];
        // Emptied, so that the next SIGCHLD is seen; what it says is asked from the child itself.
        let _ = signals.read(&mut buffer);
        if let Some(file) = &mut output {
            match file.read(&mut buffer) {
                Ok(0) => output = None,
                Ok(count) => keeper.keep(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Keeps the output: up to a size in a file, and its end for the log.
///
/// While the hook runs, the file is called `.partial`; so it stays if the worker is killed.
struct Keeper<'a> {
    artifacts: Option<&'a Folder>,
    file: Option<File>,
    name: String,
    written: u64,
    total: u64,
    tail: Vec<u8>,
}

impl<'a> Keeper<'a> {
    fn new(artifacts: Option<&'a Folder>, label: &str) -> Self {
        let name = format!("{label}.log");
        let file = artifacts.and_then(|folder| match folder.create(&format!("{name}.partial")) {
            Ok(file) => Some(file),
            Err(error) => {
                let path = folder.path().join(&name);
                Report::Warning(&format!("cannot write {}: {error}; the output is not kept", path.display())).send();
                None
            }
        });
        Self { artifacts, file, name, written: 0, total: 0, tail: Vec::with_capacity(2 * TAIL) }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        let room = usize::try_from(LONGEST_OUTPUT.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let part = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        if let Some(file) = &mut self.file {
            match file.write_all(part) {
                Ok(()) => self.written += part.len() as u64,
                Err(error) => {
                    Report::Warning(&format!("cannot write {}: {error}; the rest of it is not kept", self.name)).send();
                    self.file = None;
                }
            }
        }
    }

    fn report(&self) {
        let text = String::from_utf8_lossy(&self.tail);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)) {
            Report::Tail(&line.chars().take(TAIL_LINE).collect::<String>()).send();
        }
        if self.total > self.written && self.file.is_some() {
            let (total, kept) = (crate::units::Size(self.total), crate::units::Size(self.written));
            Report::Warning(&format!("it printed {total}, of which the first {kept} are kept")).send();
        }
        let partial = format!("{}.partial", self.name);
        let renamed = match (self.artifacts, self.written) {
            (Some(folder), 1..) => folder.rename(&partial, &self.name),
            (Some(folder), 0) => folder.remove(&partial),
            (None, _) => Ok(()),
        };
        if let Err(error) = renamed
            && self.written > 0
        {
            Report::Warning(&format!("its output is still called {partial}: {error}")).send();
        } else if self.written > 0 {
            Report::Output(self.written, &format!("artifacts/{}", self.name)).send();
        }
    }
}
