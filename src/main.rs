//! memini: a container init that captures heap evidence and lets the app leave before the OOM killer fires.
#![allow(dead_code)]

mod cgroup;
mod config;
mod engine;
mod process;
mod sys;

fn main() {}
