//! memini: a container init that captures heap evidence and lets the app leave before the OOM killer fires.
#![cfg_attr(not(test), no_main)]
#![allow(dead_code)]

mod cgroup;
mod cli;
mod config;
mod engine;
mod process;
mod sys;

use std::ffi::OsString;

fn start(_arguments: Vec<OsString>) -> u8 {
    0
}
