//! What the kernel knows about any process: where its memory is, what it has open, how many threads it runs.
//!
//! The process is only read, never stopped. All of it is bounded: a process may have a hundred thousand mappings, descriptors
//! and names, and what is kept of them must not matter to a container that is short of memory.

pub mod descriptors;
pub mod memory;
pub mod systemv;
pub mod tmpfs;

use std::io;

use procfs::process;
use serde::{Deserialize, Serialize};

use descriptors::{Descriptors, Tables};
use memory::Memory;

/// Which process: numbers are given again, but not with the same start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did.
    pub start: u64,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Which one.
    pub identity: Identity,
    /// Its parent's number.
    pub parent: i32,
    /// Its name for itself, at most 15 bytes.
    pub comm: String,
    /// The program's file; its arguments may hold secrets, and are left out.
    pub program: Option<String>,
    /// How many threads.
    pub threads: u64,
    /// Where its memory is; `None` where that may not be read.
    pub memory: Option<Memory>,
    /// What it has open; `None` where that may not be read.
    pub descriptors: Option<Descriptors>,
}

impl Process {
    /// Looks at one; `sockets` is for all that are looked at together.
    ///
    /// # Errors
    /// Where there is no such process, or no more.
    pub fn look_at(pid: i32, sockets: &mut Tables) -> io::Result<Self> {
        let io_error = |error: procfs::ProcError| io::Error::other(error.to_string());
        let process = process::Process::new(pid).map_err(io_error)?;
        let stat = process.stat().map_err(io_error)?;
        let status = process.status().ok();
        let page_tables = status.as_ref().and_then(|status| status.vmpte).unwrap_or(0).saturating_mul(1024);
        Ok(Self {
            identity: Identity { pid, start: stat.starttime },
            parent: stat.ppid,
            threads: status.as_ref().map_or(0, |status| status.threads),
            comm: stat.comm,
            program: process.exe().ok().map(|path| path.display().to_string()),
            memory: Memory::of(pid).ok().map(|memory| Memory { page_tables, ..memory }),
            descriptors: Descriptors::of(&process, sockets).ok(),
        })
    }
}
