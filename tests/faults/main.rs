//! Faults: everything around memini breaks, or memini itself. Each fault is a real one, made with the kernel's own means;
//! what is promised is that it costs log lines, and never the app.
//!
//! Needs root and the controllers memory, pids and freezer of cgroup v1. The tests of memini's own panics need the feature
//! `injected-panic`.
#![allow(missing_docs, reason = "tests are named as sentences")]

#[path = "../memory/support/mod.rs"]
mod support;

#[allow(dead_code, reason = "a part of it serves here")]
#[path = "../support/process.rs"]
mod process;

mod brake;
mod cgroup_files;
mod clocks;
mod folder;
mod held;
mod log;
#[cfg(feature = "injected-panic")]
mod panics;
mod scarce;
mod stubborn;

use std::process::Command;

use support::{Group, Memini, wait_until};

/// The file of a memory cgroup (v1) that memini reads most often.
const USAGE: &str = "memory.usage_in_bytes";

/// An app for users who may run nothing but the system's own programs: told to go, it fills memory until it is ended. (There
/// is no end of a line in /dev/zero, and tail keeps the last ones.)
const FILLER: [&str; 3] = ["sh", "-c", "read go; exec tail /dev/zero"];

/// memini with thresholds that leave much room above them: what is told apart here is not who is faster. Trace begins at
/// 32 of 64 MiB, capture at 38.4, stop at 44.8.
fn memini(group: &Group) -> Memini<'_> {
    let thresholds =
        ["--trace-at", "50%", "--capture-at", "60%", "--stop-at", "70%", "--stop-when", "level", "--capture", "off"];
    Memini::new(group).options(&thresholds)
}

/// Runs a command that must succeed.
fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a shell script in memini's namespaces.
fn run_beside(memini: i32, script: &str) {
    run(&["nsenter", "--mount", "--pid", "--target", &memini.to_string(), "sh", "-c", script]);
}

/// The state of a process: `R`, `S`, `D`, `T`, `t`, `Z`; `None` if it is gone.
fn state(id: i32) -> Option<char> {
    process::state(u32::try_from(id).expect("a process id"))
}

/// The children of a process.
fn children(id: i32) -> Vec<i32> {
    let found = process::children(u32::try_from(id).expect("a process id"));
    found.into_iter().map(|child| i32::try_from(child).expect("a process id")).collect()
}

/// The app of this memini: its first child, which workers only follow.
fn app_of(memini: i32) -> i32 {
    let mut found = Vec::new();
    wait_until("the app", || {
        found = children(memini);
        !found.is_empty()
    });
    found.into_iter().min().expect("the app")
}
