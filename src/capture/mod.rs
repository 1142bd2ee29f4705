//! Built-in evidence: recipes that look at a process from outside and tell who holds its memory.
//!
//! Everything here runs in workers and one-shot commands, never in PID 1.

pub mod census;
pub mod jvm;
pub mod owner;
pub mod probe;
pub mod proc;
pub mod python;
pub mod sentences;
pub mod snapshot;
pub mod suspects;
