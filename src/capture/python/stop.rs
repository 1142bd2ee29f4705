//! Holding a process still, and letting it go again whatever happens.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cgroup::parse;
use crate::process::folder::{self, Folder};
use crate::process::list;
use crate::sys::process::{Handle, ProcessId};
use crate::sys::signal::Signal;
use crate::units::Span;

/// Each thread is looked at, but no more than so many: one look takes ten microseconds.
const MOST_THREADS: usize = 1000;

/// Told before a process is stopped, and with `None` when it goes on. An error: nobody could let it go on if this program were
/// killed meanwhile, and so it is not stopped.
pub type OnHold = fn(Option<ProcessId>) -> io::Result<()>;

/// A process that stands still. It goes on when this is dropped, unless it stood still before.
#[derive(Debug)]
pub struct Stopped {
    process: ProcessId,
    handle: Handle,
    since: Option<Instant>,
    on_hold: OnHold,
}

impl Stopped {
    /// Stops the process of this number that has started then, and waits until each of its threads stands, for so long at
    /// the most. `on_hold` is told before, and with `None` when it goes on: somebody else must see to that if this program
    /// is killed meanwhile.
    ///
    /// # Errors
    /// ESRCH if it is gone, even if its number is another one's by now; else where it may not be signalled or has not stopped
    /// in time. It then goes on.
    pub fn hold(
        folder: &Folder,
        process: ProcessId,
        start: u64,
        patience: Duration,
        on_hold: OnHold,
    ) -> io::Result<Self> {
        let handle = Handle::open(process)?;
        // After the handle was had: so both are the same one's.
        if list::started(folder, process)? != start {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        if stands(folder, process)? {
            return Ok(Self { process, handle, since: None, on_hold });
        }
        let since = Instant::now();
        on_hold(Some(process))?;
        let stopped = Self { process, handle, since: Some(since), on_hold };
        stopped.handle.signal(Signal::STOP)?;
        while !stands(folder, process)? {
            if since.elapsed() > patience {
                let patience = Span(patience);
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it has not stopped within {patience}")));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(stopped)
    }

    /// Whether it stood still before, and goes on doing so afterwards.
    pub fn stood_before(&self) -> bool {
        self.since.is_none()
    }

    /// For how long it has stood still because of this.
    pub fn held(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether it has stood still until now.
    pub fn still_stands(&self, folder: &Folder) -> bool {
        stands(folder, self.process).unwrap_or(false)
    }

    /// Lets it go on. How long it has stood still because of this.
    pub fn release(self) -> Duration {
        let since = self.since;
        drop(self);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if self.since.is_some() {
            // Fails only where the process is gone.
            let _ = self.handle.signal(Signal::CONT);
            let _ = (self.on_hold)(None);
        }
    }
}

/// Whether all threads of a process are stopped or dead; an error where none lives.
fn stands(folder: &Folder, process: ProcessId) -> io::Result<bool> {
    let mut threads = 0usize;
    for entry in std::fs::read_dir(task(folder, process))?.take(MOST_THREADS) {
        let Some(thread) = folder::process_id(entry?.file_name().as_encoded_bytes()) else { continue };
        let mut buffer = [0; 512];
        // A thread may end between the two looks.
        let Ok(stat) = folder.read(process.get(), &format!("task/{thread}/stat"), &mut buffer) else { continue };
        match parse::process_stat(stat).map(|stat| stat.state) {
            Ok(b'T' | b't') => threads = threads.saturating_add(1),
            Ok(b'Z' | b'X' | b'x') => {}
            Ok(_) | Err(_) => return Ok(false),
        }
    }
    if threads == 0 { Err(io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(true) }
}

fn task(folder: &Folder, process: ProcessId) -> PathBuf {
    folder.path().join(process.to_string()).join("task")
}
