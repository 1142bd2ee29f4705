//! One kernel file, kept open and read again and again.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::parse::Fault;
use super::source::{Cause, ReadError};

/// Enough for a file of one number.
pub const NUMBER: usize = 32;

/// Enough for any `memory.stat`, `memory.events` or `/proc/meminfo`: the largest today take about 3 KiB.
pub const TABLE: usize = 8192;

/// A file that stays open: opening costs six times as much as reading, and memory that is charged to the group.
#[derive(Debug)]
pub struct KernelFile {
    path: PathBuf,
    file: Option<File>,
}

impl KernelFile {
    /// Opens the file.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn open(path: PathBuf) -> Result<Self, ReadError> {
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file: Some(file) }),
            Err(error) => Err(ReadError { path, cause: Cause::Io(error) }),
        }
    }

    /// Opens a file that not every kernel has; `None` if it cannot be opened.
    pub fn open_optional(path: PathBuf) -> Option<Self> {
        Self::open(path).ok()
    }

    /// Has the kernel make now what it keeps for reading this file: a buffer of 4 KiB that is charged to the group. A first
    /// read while the group is full would call the OOM killer, with memini itself among those that it may kill.
    pub fn warmed(self) -> Self {
        if let Some(file) = &self.file {
            // What cannot be read now may be later, and says so then.
            let _ = pread(file, &mut [0]);
        }
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open descriptor.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Reads the file and what `parse` makes of it, through a buffer of `SIZE` bytes on the stack.
    ///
    /// # Errors
    /// Where the kernel refuses, even after opening the file anew (the group of an open file may have been removed and
    /// made again, ENODEV), or where the text holds no sense.
    pub fn read<const SIZE: usize, T>(&mut self, parse: impl Fn(&[u8]) -> Result<T, Fault>) -> Result<T, ReadError> {
        let mut buffer = [0; SIZE];
        let length = self.fill(&mut buffer).map_err(|error| self.refused(error))?;
        let text = buffer.get(..length).unwrap_or_default();
        parse(text).map_err(|fault| self.senseless(fault))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(file) = &self.file
            && let Ok(length) = pread(file, buffer)
        {
            return Ok(length);
        }
        self.file = None;
        let file = File::open(&self.path)?;
        let length = pread(&file, buffer)?;
        self.file = Some(file);
        Ok(length)
    }

    fn refused(&self, error: io::Error) -> ReadError {
        ReadError { path: self.path.clone(), cause: Cause::Io(error) }
    }

    /// The error for a value of this file that was read well but cannot be true.
    pub fn senseless(&self, fault: Fault) -> ReadError {
        let cause = Cause::Content { line: fault.line, what: fault.flaw.to_string() };
        ReadError { path: self.path.clone(), cause }
    }
}

/// One read from the start: kernel files are made whole for it, and further reads might belong to another moment.
fn pread(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::parse;
    use super::*;

    #[test]
    fn a_file_that_vanishes_is_an_error_with_its_path() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let path = PathBuf::from(format!("/proc/{}/oom_score", child.id()));
        let mut file = KernelFile::open(path.clone()).unwrap();
        file.read::<NUMBER, _>(parse::number).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        for _ in 0..2 {
            let error = file.read::<NUMBER, _>(parse::number).unwrap_err();
            assert_eq!(error.path, path);
            assert!(matches!(error.cause, Cause::Io(_)), "{error}");
        }
    }

    #[test]
    fn a_file_that_comes_back_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        std::fs::write(&path, "1\n").unwrap();
        let mut file = KernelFile::open(path.clone()).unwrap();
        // As after ENODEV with the path gone.
        file.file = None;
        std::fs::remove_file(&path).unwrap();
        assert!(file.read::<NUMBER, _>(parse::number).is_err());
        std::fs::write(&path, "2\n").unwrap();
        assert_eq!(file.read::<NUMBER, _>(parse::number).unwrap(), 2);
    }

    #[test]
    fn a_file_larger_than_expected_is_cut_off_and_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        std::fs::write(&path, format!("{:0>100}\n", 1)).unwrap();
        let mut file = KernelFile::open(path).unwrap();
        assert!(file.read::<NUMBER, _>(parse::number).is_err());
    }
}
