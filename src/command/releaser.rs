//! `__worker release`: continues what `memini capture` holds still, should that be killed in the middle of a look, or take too
//! long for it.
//!
//! What memini's own workers hold, PID 1 lets go on. Here there is nobody else.

use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::supervisor::report::{LONGEST_LOOK, WORKER};
use crate::sys::mask;
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
    let told = releaser.as_mut().map_or(Ok(()), |pipe| pipe.write_all(line.as_bytes()));
    // Ctrl-Z waits until the look is over: whoever is looked at would stand as long as this program does.
    mask::hold_back(libc::SIGTSTP, told.is_ok() && process.is_some());
    told
}

/// The worker: reads until its maker has ended, however it did, and lets go on who is held then.
pub fn run(words: &[OsString]) -> Option<()> {
    if !words.is_empty() {
        return None;
    }
    let (sender, lines) = mpsc::channel();
    let reader = move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    };
    thread::Builder::new().spawn(reader).ok()?;
    stand_by(&lines, LONGEST_LOOK);
    Some(())
}

/// Lets go on who is held for longer than this, and in the end who is held then.
fn stand_by(lines: &Receiver<String>, longest: Duration) {
    let mut held: Option<(Handle, Instant)> = None;
    loop {
        let line = match &held {
            Some((_, since)) => lines.recv_timeout(longest.saturating_sub(since.elapsed())),
            None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if let (Some((process, _)), Err(_)) = (&held, &line) {
            let _ = process.signal(Signal::CONT);
        }
        held = match line {
            Ok(line) => {
                let process = line.parse().ok().and_then(ProcessId::new);
                process.and_then(|process| Handle::open(process).ok()).map(|process| (process, Instant::now()))
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;

    #[test]
    fn who_is_held_goes_on_when_the_look_takes_too_long_and_when_nobody_looks_any_more() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let held = ProcessId::new(child.id().cast_signed()).unwrap();
        let stands = || std::fs::read_to_string(format!("/proc/{held}/stat")).unwrap().contains(") T ");
        for (longest, keeps) in [(Duration::from_millis(1), true), (Duration::from_secs(1000), false)] {
            process::kill(held, Signal::STOP).unwrap();
            while !stands() {
                thread::yield_now();
            }
            let (sender, lines) = mpsc::channel();
            let guard = thread::spawn(move || stand_by(&lines, longest));
            sender.send(held.to_string()).unwrap();
            let sender = Some(sender).filter(|_| keeps);
            while stands() {
                thread::yield_now();
            }
            // Whoever was let go on is not held any more.
            assert!(sender.as_ref().is_none_or(|sender| sender.send("0".to_owned()).is_ok()));
            drop(sender);
            guard.join().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
