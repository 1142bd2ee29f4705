//! Reads the kernel's memory accounting: cgroup v2, v1, hybrid, and which of them applies here.

pub mod reading;
pub mod source;
