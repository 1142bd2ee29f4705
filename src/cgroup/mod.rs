//! Reads the kernel's memory accounting: cgroup v2, v1, hybrid, and which of them applies here.
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

pub mod choose;
pub mod combined;
pub mod discovery;
#[cfg(test)]
pub mod fake;
pub mod file;
pub mod held;
pub mod host;
pub mod machine;
pub mod parse;
pub mod reading;
pub mod source;
#[cfg(test)]
pub mod tree_of_files;
pub mod v1;
pub mod v2;
