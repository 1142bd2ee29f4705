//! What every source of memory readings can do: cgroup v2, cgroup v1, the process tree, and the tests' fake.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use super::reading::Reading;

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Usage and limit of each level: one `pread` a file on open descriptors, a third of a microsecond each.
    Usage,
    /// `memory.stat`, swap, counters and pressure as well.
    Full,
}

/// Something that tells how much memory is used and what the limit is.
pub trait Source {
    /// Reads anew into `reading`.
    ///
    /// # Errors
    /// Where a file that counts could not be read or held no sense (gone, short, garbage, negative, impossibly large).
    /// `reading` then is the last good one, unchanged: nobody decides anything on it, and the caller tries again.
    fn read(&mut self, depth: Depth, reading: &mut Reading) -> Result<(), ReadError>;

    /// A descriptor that becomes ready with POLLPRI when the kernel has counted a memory event (cgroup v2).
    fn events(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// One phrase for the start-up line: `cgroup v2 /sys/fs/cgroup`, `cgroup v1 /sys/fs/cgroup/memory/x`, `process tree`.
    fn describe(&self) -> &str;
}

/// A file that could not be used.
#[derive(Debug)]
pub struct ReadError {
    /// Which file.
    pub path: PathBuf,
    /// What was wrong with it.
    pub cause: Cause,
}

/// What can be wrong with a file.
#[derive(Debug)]
pub enum Cause {
    /// The kernel refused.
    Io(std::io::Error),
    /// It was read, but line `line` (from 1) holds no sense; `what` says why.
    Content {
        /// The line, counted from 1.
        line: usize,
        /// Why: `"-5" is not a number of bytes`.
        what: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Io(error) => write!(out, "cannot read {}: {error}", self.path.display()),
            Cause::Content { line, what } => write!(out, "cannot use {} line {line}: {what}", self.path.display()),
        }
    }
}

impl std::error::Error for ReadError {}
