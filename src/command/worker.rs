//! The hidden verbs: memini run again by PID 1 to do what may be slow or go wrong.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::{evidence, guardian, hook, record, recorder, releaser};
use crate::injected;
use crate::supervisor::report::Report;

/// Runs the hidden verb. A panic in a worker must not print a backtrace into the app's output: it is told to PID 1.
#[inline(never)]
pub fn run(arguments: &[OsString]) -> u8 {
    std::panic::set_hook(Box::new(|info| Report::Failed(&format!("internal error: {info}").replace('\n', " ")).send()));
    let outcome = std::panic::catch_unwind(|| {
        let (verb, rest) = arguments.split_first()?;
        injected::panic_at(verb);
        match verb.as_bytes() {
            b"hook" => hook::run(rest),
            b"evidence" => evidence::run(rest),
            b"unrecord" => evidence::unrecord(rest),
            b"record" => record::run(rest),
            b"recorder" => recorder::run(rest),
            b"guardian" => guardian::run(rest),
            b"release" => releaser::run(rest),
            _ => None,
        }
    });
    match outcome {
        Ok(Some(())) => 0,
        Ok(None) => {
            Report::Failed("a worker cannot be started by hand").send();
            125
        }
        Err(_) => 125,
    }
}
