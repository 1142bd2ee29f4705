//! The only unsafe code: system calls that no library offers as PID 1 needs them. Everything else goes through here.
#![allow(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod descriptors;
pub mod directory;
pub mod entry;
pub mod guise;
pub mod map;
pub mod mask;
pub mod memory;
pub mod output;
pub mod pages;
pub mod poll;
pub mod process;
pub mod schedule;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod stop_timer;
#[cfg(test)]
pub mod strict;
pub mod terminal;
