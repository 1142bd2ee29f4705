//! Reading a folder without allocation: readdir(3) keeps a buffer of its own and nix copies each name to the heap. And renaming
//! as nix has it for glibc alone.

use std::ffi::CStr;
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

/// Gives a file another name in the same folder, unless there is something under that name.
///
/// # Errors
/// As renameat2(2): EEXIST; EINVAL where the file system cannot say so, ENOSYS before Linux 3.15.
pub fn rename_to_free(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    let folder = folder.as_raw_fd();
    // SAFETY: NUL-terminated names that live through the call, and plain numbers.
    let result = unsafe {
        libc::syscall(libc::SYS_renameat2, folder, from.as_ptr(), folder, to.as_ptr(), libc::RENAME_NOREPLACE)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
