//! Written pages: given back to the kernel while a file grows, since they are charged to the cgroup of who wrote them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Asks the kernel to start writing this part of the file to the disk, without waiting for it.
///
/// # Errors
/// ESPIPE for what is no file; EIO, ENOSPC of an earlier write.
pub fn start_writing(file: BorrowedFd<'_>, offset: i64, length: i64) -> io::Result<()> {
    sync_range(file, offset, length, libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits until this part of the file is on the disk, and lets its pages go.
///
/// # Errors
/// As [`start_writing`].
pub fn let_go(file: BorrowedFd<'_>, offset: i64, length: i64) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_range(file, offset, length, flags)?;
    // SAFETY: plain numbers; advice changes no content.
    let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, length, libc::POSIX_FADV_DONTNEED) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

fn sync_range(file: BorrowedFd<'_>, offset: i64, length: i64, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: plain numbers.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
