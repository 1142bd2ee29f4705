//! memini: a container init that captures heap evidence and lets the app leave before the OOM killer fires.
#![allow(dead_code)]

mod cgroup;
mod cli;
mod config;
mod engine;
mod sys;

fn main() {}
