//! Reading a folder without allocation: readdir(3) keeps a buffer of its own and nix copies each name to the heap.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Puts as many of the folder's next entries into `buffer` as fit, as `struct linux_dirent64` (getdents64(2)); returns
/// the number of bytes, 0 at the end.
///
/// # Errors
/// As getdents64(2): ENOTDIR, EINVAL for a buffer too small.
pub fn next_entries(folder: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which is ours for the time of the call.
    let length = unsafe { libc::syscall(libc::SYS_getdents64, folder.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}
