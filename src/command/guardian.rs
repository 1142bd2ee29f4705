//! `__worker guardian`: continues the app should memini die while it is stopped.
//!
//! As PID 1 memini needs none: its death is that of the whole namespace. Elsewhere nobody else would ever continue the app.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::thread;

use nix::fcntl::{F_SETFL, OFlag, fcntl};

use crate::supervisor::newborn;
use crate::supervisor::report::Report;
use crate::sys::descriptors;
use crate::sys::process::{self, ProcessId};
use crate::sys::signal::Signal;

/// The words after `__worker guardian`: the reading end of a pipe whose other end nobody has but memini, and the app's
/// process group.
pub fn run(words: &[OsString]) -> Option<()> {
    let [lifeline, group] = words else { return None };
    let mut lifeline = File::from(descriptors::duplicate(lifeline.to_str()?.parse().ok()?).ok()?);
    let group = ProcessId::new(group.to_str()?.parse().ok()?)?;
    fcntl(&lifeline, F_SETFL(OFlag::empty())).ok()?;
    Report::Ready.send();
    // Nothing is ever written: this ends when memini does, however it does.
    let _ = lifeline.read(&mut [0]);
    // Who runs does not notice it. Again for those that were in the middle of fork(2): their children may be born stopped, and nothing tells
    // when a fork ends.
    for look in 0..newborn::LOOKS {
        if process::kill_group(group, Signal::CONT).is_err() {
            break;
        }
        thread::sleep(newborn::pause(look));
    }
    Some(())
}
