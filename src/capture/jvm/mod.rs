//! The recipe for Java: asks a HotSpot JVM by its own attach protocol who holds its heap, and for the heap itself.
//!
//! Nothing is loaded into the JVM; it answers what `jcmd` would ask.
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

pub mod attach;
#[cfg_attr(not(test), allow(dead_code, reason = "no command takes a dump yet"))]
pub mod dump;
pub mod histogram;
pub mod hprof;
mod kept;
pub mod outside;
pub mod target;
#[cfg(test)]
mod tests;
