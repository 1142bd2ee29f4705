//! The only unsafe code: system calls that no library offers as PID 1 needs them.

pub mod directory;
pub mod signal;
