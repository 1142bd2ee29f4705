//! Having a running CPython 3.14 or later run a file, as its own `sys.remote_exec` does (PEP 768).
//!
//! Into the state of each thread the path of the file is written, and that something is to be done before the next instruction.
//! Whichever thread comes to one first runs it; the others are then told that there is nothing to do any more. A thread that
//! waits in a system call comes to one when that ends. All this is written while the process stands still: what it writes itself
//! at the same place could be lost otherwise.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::layout::Layout;
use super::locate::{self, COOKIE};
use super::stop::{OnHold, Stopped};
use crate::process::folder::Folder;
use crate::process::list;
use crate::sys::process::ProcessId;

/// How many threads are asked. The main thread is among them.
const MOST_THREADS: usize = 64;

/// And past how many it is looked for.
const MOST_THREADS_SEEN: usize = 10_000;

/// How many interpreters there may be; the main one is the last.
const MOST_INTERPRETERS: usize = 256;

/// `_PY_EVAL_PLEASE_STOP_BIT` of `eval_breaker`.
const PLEASE_STOP: u64 = 1 << 5;

/// Where `_Py_DebugOffsets` of 3.14 tells this; words.
const THREADS: usize = 9;
const MAIN_THREAD: usize = 10;
const NEXT_THREAD: usize = 24;
const SUPPORT: usize = 89;
const WORDS: usize = 95;

/// Offsets in bytes, and the addresses that they lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offsets {
    /// In the interpreter: its first thread, its main thread, whether this may be done.
    threads: u64,
    main_thread: u64,
    is_enabled: u64,
    /// In a thread: the next one, what is to be done before the next instruction.
    next: u64,
    eval_breaker: u64,
    /// In a thread: whether there is a file to be run, its path, and how long that may be with its NUL.
    pending: u64,
    path: u64,
    longest_path: u64,
}

impl Offsets {
    /// The words of `_Py_DebugOffsets`.
    fn of(words: &[u64; WORDS]) -> Option<Self> {
        let get = |at: usize| words.get(at).copied().filter(|offset| *offset < 1 << 24);
        let [Some(breaker), Some(support), Some(is_enabled), Some(pending), Some(path), Some(longest_path)] =
            [0, 1, 2, 3, 4, 5].map(|at| get(SUPPORT.wrapping_add(at)))
        else {
            return None;
        };
        let found = Self {
            threads: get(THREADS)?,
            main_thread: get(MAIN_THREAD)?,
            is_enabled,
            next: get(NEXT_THREAD)?,
            eval_breaker: breaker,
            pending: support.checked_add(pending)?,
            path: support.checked_add(path)?,
            longest_path,
        };
        // A build without it (`--without-remote-debug`) has zeros here.
        (support > 0 && (2..=1 << 16).contains(&longest_path)).then_some(found)
    }
}

/// A process, and where its interpreter is.
#[derive(Debug)]
struct Target {
    folder: Folder,
    process: ProcessId,
    /// When it was started: its number may be another one's later.
    start: u64,
    memory: File,
    runtime: u64,
    interpreter: u64,
    offsets: Offsets,
}

/// Tells a process to run this file. False: it is no CPython that could be told so.
///
/// # Errors
/// Why it is not to be had, for people.
pub fn run(process: ProcessId, path: &Path, content: &str, on_hold: OnHold) -> Result<bool, String> {
    let Some(target) = Target::find(process)? else { return Ok(false) };
    target.may_read(path, content)?;
    target.tell(path, on_hold)?;
    Ok(true)
}

/// Takes back what no thread has got round to: it would be done at any time later, when nobody wants it any more.
pub fn take_back(process: ProcessId, path: &Path, on_hold: OnHold) {
    let Ok(Some(target)) = Target::find(process) else { return };
    let is_waiting = |thread: &u64| {
        let pending = target.half(thread.wrapping_add(target.offsets.pending));
        pending.is_ok_and(|pending| pending == 1) && target.has_path(*thread, path)
    };
    // Nothing is to stand still for nothing.
    if !target.threads().is_ok_and(|threads| threads.iter().any(is_waiting)) {
        return;
    }
    let Ok(_stopped) = target.hold(on_hold) else { return };
    if !target.word(target.runtime).is_ok_and(|word| word == COOKIE) {
        return;
    }
    for thread in target.threads().unwrap_or_default().iter().filter(|thread| is_waiting(thread)) {
        let _ = target.memory.write_all_at(&0u32.to_le_bytes(), thread.wrapping_add(target.offsets.pending));
    }
}

impl Target {
    fn find(process: ProcessId) -> Result<Option<Self>, String> {
        let folder = Folder::open(Path::new("/")).map_err(|error| error.to_string())?;
        let start = list::started(&folder, process).map_err(|error| error.to_string())?;
        let Ok(locate::Found { memory: mut found, python, .. }) = locate::find(&folder, process) else {
            return Ok(None);
        };
        if python.version.minor < 14 {
            return Ok(None);
        }
        let cannot = |error: io::Error| format!("its memory cannot be written to: {error}");
        let path = folder.path().join(process.to_string()).join("mem");
        let memory = OpenOptions::new().read(true).write(true).open(path).map_err(cannot)?;
        let words = found.words::<WORDS>(python.runtime, super::memory::Reach::Far);
        let offsets = words.and_then(|words| Offsets::of(&words)).ok_or("it was built without remote debugging")?;
        let mut target = Self { folder, process, start, memory, runtime: python.runtime, interpreter: 0, offsets };
        target.interpreter = target.main_interpreter(&python.layout).map_err(cannot)?;
        let enabled = target.half(target.interpreter.wrapping_add(offsets.is_enabled)).map_err(cannot)?;
        if enabled != 1 {
            return Err(
                "remote debugging is switched off in it (PYTHON_DISABLE_REMOTE_DEBUG or -X disable-remote-debug)"
                    .into(),
            );
        }
        Ok(Some(target))
    }

    fn hold(&self, on_hold: OnHold) -> io::Result<Stopped> {
        Stopped::hold(&self.folder, self.process, self.start, super::Limits::default().patience, on_hold)
    }

    fn main_interpreter(&self, layout: &Layout) -> io::Result<u64> {
        let mut at = self.word(self.runtime.wrapping_add(layout.interpreters))?;
        for _ in 0..MOST_INTERPRETERS {
            match self.word(at.wrapping_add(layout.next_interpreter))? {
                0 => break,
                next => at = next,
            }
        }
        Ok(at)
    }

    /// Whether it finds the file and may read it: otherwise it would complain where the app's own errors go.
    fn may_read(&self, path: &Path, content: &str) -> Result<(), String> {
        let length = u64::try_from(path.as_os_str().len()).unwrap_or(u64::MAX);
        if !path.is_absolute() || length >= self.offsets.longest_path {
            return Err(format!("{} is too long for it, or no whole path", path.display()));
        }
        let own = self.folder.path().join(self.process.to_string());
        let seen = own.join("root").join(path.strip_prefix("/").unwrap_or(path));
        if std::fs::read(&seen).ok().as_deref() != Some(content.as_bytes()) {
            return Err(format!("it does not see {}", path.display()));
        }
        let status = std::fs::read_to_string(own.join("status")).map_err(|error| error.to_string())?;
        // Real, effective, saved, and the one that counts for files.
        let user =
            status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(3)?.parse::<u32>().ok());
        let owner = std::fs::metadata(&seen).map(|file| file.uid()).ok();
        if user.is_none() || (user != owner && user != Some(0)) {
            return Err(format!("it runs as another user, who may not read {}", path.display()));
        }
        Ok(())
    }

    fn tell(&self, path: &Path, on_hold: OnHold) -> Result<(), String> {
        let cannot = |error: io::Error| format!("it cannot be told to run anything: {error}");
        let stopped = self.hold(on_hold).map_err(cannot)?;
        if stopped.stood_before() {
            return Err("it stands still, and runs nothing".into());
        }
        // The number may be another process's by now, which has nothing of this here.
        if self.word(self.runtime).map_err(cannot)? != COOKIE {
            return Err("it has ended, or runs another program".into());
        }
        let threads = self.threads().map_err(cannot)?;
        let path = [path.as_os_str().as_bytes(), &[0]].concat();
        threads.iter().try_for_each(|thread| self.tell_thread(*thread, &path)).map_err(cannot)
    }

    /// In the order of CPython: what says that there is something, comes last.
    fn tell_thread(&self, thread: u64, path: &[u8]) -> io::Result<()> {
        let breaker = thread.wrapping_add(self.offsets.eval_breaker);
        let flags = self.word(breaker)?;
        self.memory.write_all_at(path, thread.wrapping_add(self.offsets.path))?;
        self.memory.write_all_at(&1u32.to_le_bytes(), thread.wrapping_add(self.offsets.pending))?;
        self.memory.write_all_at(&(flags | PLEASE_STOP).to_le_bytes(), breaker)
    }

    /// The states of the threads: the main one, and the newest.
    fn threads(&self) -> io::Result<Vec<u64>> {
        let main = self.word(self.interpreter.wrapping_add(self.offsets.main_thread))?;
        let mut found = Vec::new();
        let mut at = self.word(self.interpreter.wrapping_add(self.offsets.threads))?;
        for _ in 0..MOST_THREADS_SEEN {
            if at == 0 {
                return Ok(found);
            }
            if at == main || found.len() < MOST_THREADS {
                found.push(at);
            }
            at = self.word(at.wrapping_add(self.offsets.next))?;
        }
        Err(io::Error::other("its threads have no end"))
    }

    fn has_path(&self, thread: u64, path: &Path) -> bool {
        let mut there = vec![0; path.as_os_str().len()];
        let read = self.memory.read_exact_at(&mut there, thread.wrapping_add(self.offsets.path));
        read.is_ok() && there == path.as_os_str().as_bytes()
    }

    fn word(&self, address: u64) -> io::Result<u64> {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, address)?;
        Ok(u64::from_le_bytes(word))
    }

    fn half(&self, address: u64) -> io::Result<u32> {
        let mut half = [0; 4];
        self.memory.read_exact_at(&mut half, address)?;
        Ok(u32::from_le_bytes(half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_it_has_no_offsets_for_it() {
        let mut words = [0; WORDS];
        assert_eq!(Offsets::of(&words), None);
        for (at, word) in [(THREADS, 7344), (MAIN_THREAD, 7360), (NEXT_THREAD, 8)] {
            words[at] = word;
        }
        words[SUPPORT..].copy_from_slice(&[24, 300, 7000, 0, 4, 512]);
        let found = Offsets::of(&words).unwrap();
        assert_eq!((found.pending, found.path, found.is_enabled, found.next), (300, 304, 7000, 8));
        for (at, nonsense) in [(SUPPORT, 1 << 40), (SUPPORT + 1, 0), (SUPPORT + 5, 1), (THREADS, u64::MAX)] {
            let mut spoilt = words;
            spoilt[at] = nonsense;
            assert_eq!(Offsets::of(&spoilt), None, "{at}");
        }
    }
}
