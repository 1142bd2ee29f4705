//! What the kernel knows about any process: where its memory is, what it has open, how many threads it runs.
//!
//! The process is only read, never stopped. All of it is bounded: a process may have a hundred thousand mappings, descriptors
//! and names, and what is kept of them must not matter to a container that is short of memory.

pub mod descriptors;
pub mod memory;
pub mod systemv;
pub mod tmpfs;

use std::io::{self, Read};
use std::path::Path;

use procfs::process;
use serde::{Deserialize, Serialize};

use super::owner;
use crate::process::folder::Folder;
use descriptors::{Descriptors, Tables};
use memory::{Kind, Memory};

/// How much of `/proc/PID/status` is read: a process with 65,536 supplementary groups has a line of 700 kB in it.
const LONGEST_STATUS: u64 = 1 << 20;

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
        let page_tables = page_tables(pid).unwrap_or(0);
        let folder = Folder::open(Path::new("/")).ok();
        let memory = match &folder {
            Some(folder) => owner::stand_in(folder, pid, || Memory::of(pid)).or_else(|_| in_all(folder, pid)),
            None => Memory::of(pid),
        };
        let descriptors = |sockets: &mut Tables| Descriptors::of(&process, sockets);
        let descriptors = match &folder {
            Some(folder) => owner::stand_in(folder, pid, || descriptors(sockets)),
            None => descriptors(sockets),
        };
        Ok(Self {
            identity: Identity { pid, start: stat.starttime },
            parent: stat.ppid,
            threads: u64::try_from(stat.num_threads).unwrap_or(0),
            comm: stat.comm,
            program: process.exe().ok().map(|path| path.display().to_string()),
            memory: memory.ok().map(|memory| Memory { page_tables, ..memory }),
            descriptors: descriptors.ok(),
        })
    }
}

/// What its page tables take; bytes. Its name for itself stands there too, and need not be text.
fn page_tables(pid: i32) -> Option<u64> {
    let mut status = Vec::new();
    let file = std::fs::File::open(format!("/proc/{pid}/status")).ok()?;
    file.take(LONGEST_STATUS).read_to_end(&mut status).ok()?;
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"VmPTE:"))?;
    let kilobytes = std::str::from_utf8(line).ok()?.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
    Some(kilobytes.saturating_mul(1024))
}

/// Its memory where nobody may look at its mappings: the sums are everybody's to read.
fn in_all(folder: &Folder, pid: i32) -> io::Result<Memory> {
    let sums = crate::process::memory::of(folder, pid)?;
    let kinds = [(Kind::Anonymous, sums.anon.saturating_add(sums.swap)), (Kind::Shared, sums.shmem)];
    Ok(Memory {
        resident: sums.anon.saturating_add(sums.file).saturating_add(sums.shmem),
        swap: sums.swap,
        kinds: kinds.into(),
        clean: sums.file,
        ..Memory::default()
    })
}
