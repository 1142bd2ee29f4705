//! Writes that never block, on a descriptor whose open file belongs to somebody else.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::poll;

/// pwritev2(2): fail with EAGAIN instead of waiting.
const RWF_NOWAIT: libc::c_int = 0x8;

/// Writes all of a short line (at most PIPE_BUF, 4096 bytes, so that a pipe takes it whole) if that needs no waiting.
///
/// O_NONBLOCK would be simpler, but it would hold for the app as well. Asking poll(2) first is not enough either: the
/// app may fill the pipe between the question and the write. So the kernel is asked to refuse (since 6.4 for pipes);
/// where it does not know how (older kernels, terminals), poll(2) has to do.
///
/// # Errors
/// EAGAIN if it would block; EPIPE, EIO, ENOSPC and the like if nothing can be written at all.
pub fn write_now(descriptor: BorrowedFd<'_>, line: &[u8]) -> io::Result<()> {
    if is_regular_file(descriptor) {
        return write(descriptor, line);
    }
    let part = libc::iovec { iov_base: line.as_ptr().cast_mut().cast(), iov_len: line.len() };
    // SAFETY: one vector that points at readable bytes; −1 means the current position.
    let result =
        unsafe { libc::syscall(libc::SYS_pwritev2, descriptor.as_raw_fd(), &raw const part, 1, -1, -1, RWF_NOWAIT) };
    if result >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS | libc::ESPIPE) => {
            if poll::is_writable(descriptor) {
                write(descriptor, line)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
        _ => Err(error),
    }
}

fn write(descriptor: BorrowedFd<'_>, line: &[u8]) -> io::Result<()> {
    // SAFETY: readable bytes of this length.
    let result = unsafe { libc::write(descriptor.as_raw_fd(), line.as_ptr().cast(), line.len()) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Files take what they are given, and most file systems refuse to promise not to wait.
fn is_regular_file(descriptor: BorrowedFd<'_>) -> bool {
    // SAFETY: an all-zero stat is valid and is filled in by the call.
    unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        libc::fstat(descriptor.as_raw_fd(), &raw mut status) == 0 && status.st_mode & libc::S_IFMT == libc::S_IFREG
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_full_pipe_refuses_instead_of_blocking() {
        let (_reader, writer) = crate::sys::spawn::pipe().unwrap();
        let line = [b'x'; 1000];
        let refused = (0..10_000).find_map(|_| write_now(writer.as_fd(), &line).err()).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_closed_pipe_is_an_error_and_no_death() {
        let (reader, writer) = crate::sys::spawn::pipe().unwrap();
        drop(reader);
        // The test harness ignores SIGPIPE as PID 1 blocks it.
        assert_eq!(write_now(writer.as_fd(), b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
