//! Memory on cgroup v2: real groups of the unified hierarchy, real swap, a real file system, and the kernel's own
//! counters as the judge.
//!
//! tests/vm/run boots a machine for each kernel and runs these tests in it, as root and in the root group. What the tests
//! of cgroup v1 ask of memory is asked here, too.
#![allow(missing_docs, reason = "tests are named as sentences")]

mod cache;
mod check;
mod clock;
mod events;
mod evidence;
mod groups;
#[path = "../memory/healthy.rs"]
mod healthy;
mod high;
#[path = "../memory/inputs.rs"]
mod inputs;
#[path = "../memory/killed.rs"]
mod killed;
#[path = "../memory/leave.rs"]
mod leave;
mod live;
mod namespaces;
#[path = "../memory/sources.rs"]
mod sources;
#[path = "../memory/support/mod.rs"]
mod support;
mod swap;
mod yama;
