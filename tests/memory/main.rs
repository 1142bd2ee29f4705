//! Memory: real groups of cgroup v1 with a limit, real growth, and the kernel's own counters as the judge.
//!
//! Needs root and the memory controller of cgroup v1. Each test has a group of its own, and runs memini as PID 1 of a
//! PID namespace unless it says otherwise.
#![allow(missing_docs, reason = "tests are named as sentences")]

mod evidence;
mod healthy;
mod hooks;
mod inputs;
mod killed;
mod leave;
mod recorder;
mod server;
#[path = "../support/mod.rs"]
mod shared;
mod sources;
mod status;
mod support;
