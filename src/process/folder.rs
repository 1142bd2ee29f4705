//! /proc itself: which processes there are, and their files, on one open descriptor and without allocation.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::cgroup::source::{Cause, ReadError};
use crate::sys::directory;

/// The open folder `/proc`.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    file: File,
}

impl Folder {
    /// Opens `/proc` below `root`, if it is the one of the own PID namespace.
    ///
    /// # Errors
    /// Where it cannot be opened, is not mounted, or belongs to another PID namespace: the numbers in it then are
    /// not those that a signal would reach.
    pub fn open(root: &Path) -> Result<Self, ReadError> {
        let path = root.join("proc");
        match Self::open_own(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err((path, error)) => Err(ReadError { path, cause: Cause::Io(error) }),
        }
    }

    fn open_own(path: &Path) -> Result<File, (PathBuf, io::Error)> {
        let myself = path.join("self");
        let target = std::fs::read_link(&myself).map_err(|error| (myself.clone(), error))?;
        if target.to_str().and_then(|id| id.parse().ok()) != Some(std::process::id()) {
            return Err((myself, io::Error::other("it belongs to another PID namespace")));
        }
        File::open(path).map_err(|error| (path.to_path_buf(), error))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The error for a refusal.
    pub fn refused(&self, error: io::Error) -> ReadError {
        ReadError { path: self.path.clone(), cause: Cause::Io(error) }
    }

    /// Calls `visit` with the number of each process, in the kernel's order, until it says `false`.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn each(&mut self, mut visit: impl FnMut(&Self, i32) -> bool) -> Result<(), ReadError> {
        self.file.rewind().map_err(|error| self.refused(error))?;
        let mut buffer = [0; 4096];
        loop {
            let length =
                directory::next_entries(self.file.as_fd(), &mut buffer).map_err(|error| self.refused(error))?;
            let mut entries = buffer.get(..length).unwrap_or_default();
            if entries.is_empty() {
                return Ok(());
            }
            while let Some(name) = next_name(&mut entries) {
                if let Some(id) = process_id(name)
                    && !visit(self, id)
                {
                    return Ok(());
                }
            }
        }
    }

    /// Opens a file of a process.
    ///
    /// # Errors
    /// ENOENT if the process is gone, EACCES or EPERM if /proc is mounted with hidepid.
    pub fn open_file(&self, process: i32, name: &str) -> io::Result<File> {
        let mut path = [0; 32];
        write!(path.as_mut_slice(), "{process}/{name}\0")?;
        let path = CStr::from_bytes_until_nul(&path).map_err(io::Error::other)?;
        let file = openat(self.file.as_fd(), path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(File::from(file))
    }

    /// Reads the beginning of a file of a process into `buffer`.
    ///
    /// # Errors
    /// As [`Folder::open_file`]; ESRCH if the process ends meanwhile.
    pub fn read<'b>(&self, process: i32, name: &str, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        let length = self.open_file(process, name)?.read(buffer)?;
        Ok(buffer.get(..length).unwrap_or_default())
    }
}

/// Takes the first `struct linux_dirent64` off and returns its name: 8 bytes inode, 8 bytes offset, 2 bytes length of
/// the whole, 1 byte type, the name with a NUL at its end.
pub fn next_name<'b>(entries: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = u16::from_ne_bytes(entries.get(16..18)?.try_into().ok()?);
    let (entry, rest) = entries.split_at_checked(length.into())?;
    *entries = rest;
    entry.get(19..)?.split(|byte| *byte == 0).next()
}

/// The number that a folder of a process is named by.
pub fn process_id(name: &[u8]) -> Option<i32> {
    // No sign, no leading zero: other names in /proc are none of ours.
    if !matches!(name.first(), Some(b'1'..=b'9')) {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok()
}
