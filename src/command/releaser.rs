//! `__worker release`: continues what `memini capture` holds still, should that be killed in the middle of a look.
//!
//! What memini's own workers hold, PID 1 lets go on. Here there is nobody else.

use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::supervisor::report::WORKER;
use crate::sys::process::{Handle, ProcessId};
use crate::sys::signal::Signal;

/// Where it is told who is held. As long as this program lives, and no longer, this end of the pipe is open.
static RELEASER: Mutex<Option<ChildStdin>> = Mutex::new(None);

/// Tells it who is about to be stopped, or with `None` that nobody is any more. Starts it at the first time.
///
/// # Errors
/// Where it cannot be started or is gone: then nobody may be stopped.
pub fn tell(process: Option<ProcessId>) -> io::Result<()> {
    if cfg!(test) {
        // The tests' own program has no workers.
        return Ok(());
    }
    let mut releaser = RELEASER.lock().unwrap_or_else(PoisonError::into_inner);
    if releaser.is_none() {
        // In a group of its own: Ctrl-C is not meant for it.
        let child = Command::new("/proc/self/exe")
            .args([WORKER, "release"])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child =
            child.map_err(|error| io::Error::new(error.kind(), format!("nobody could let it go on: {error}")))?;
        *releaser = child.stdin;
    }
    let line = format!("{}\n", process.map_or(0, ProcessId::get));
    releaser.as_mut().map_or(Ok(()), |pipe| pipe.write_all(line.as_bytes()))
}

/// The worker: reads until its maker has ended, however it did, and lets go on who is held then.
pub fn run(words: &[OsString]) -> Option<()> {
    if !words.is_empty() {
        return None;
    }
    let mut held = None;
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        held = line.parse().ok().and_then(ProcessId::new).and_then(|process| Handle::open(process).ok());
    }
    if let Some(held) = held {
        let _ = held.signal(Signal::CONT);
    }
    Some(())
}
