//! Writes that never block, on a descriptor whose open file belongs to somebody else.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::poll;

/// pwritev2(2), RWF_NOWAIT: fail with EAGAIN instead of waiting.
const NOWAIT: libc::c_long = 0x8;
/// The current position; and one part. As wide as syscall(2) reads them: an `int` leaves the upper half to chance.
const HERE: libc::c_long = -1;
const ONE: libc::c_long = 1;

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
    let Err(error) = write_unless_it_waits(descriptor, line) else { return Ok(()) };
    match error.raw_os_error() {
        // EPERM: a seccomp filter that does not know the call.
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS | libc::EPERM) => {
            if poll::is_writable(descriptor) {
                write(descriptor, line)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
        _ => Err(error),
    }
}

fn write_unless_it_waits(descriptor: BorrowedFd<'_>, line: &[u8]) -> io::Result<()> {
    let part = libc::iovec { iov_base: line.as_ptr().cast_mut().cast(), iov_len: line.len() };
    let number = libc::c_long::from(descriptor.as_raw_fd());
    // SAFETY: one vector that points at readable bytes; −1 means the current position.
    let result = unsafe { libc::syscall(libc::SYS_pwritev2, number, &raw const part, ONE, HERE, HERE, NOWAIT) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn write(descriptor: BorrowedFd<'_>, line: &[u8]) -> io::Result<()> {
    // SAFETY: readable bytes of this length.
    let result = unsafe { libc::write(descriptor.as_raw_fd(), line.as_ptr().cast(), line.len()) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A description of its own for the terminal on this descriptor, so that O_NONBLOCK can be set without the app noticing.
///
/// Terminals do not know RWF_NOWAIT, and say that they can be written to as long as a single byte fits: nothing else
/// keeps a write from waiting for whoever reads the other side. `None` where it is no terminal, or where /proc is missing.
pub fn own_terminal(descriptor: BorrowedFd<'_>) -> Option<OwnedFd> {
    let number = descriptor.as_raw_fd();
    // SAFETY: plain numbers.
    if unsafe { libc::isatty(number) } != 1 {
        return None;
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let path = format!("/proc/self/fd/{number}");
    OpenOptions::new().write(true).custom_flags(flags).open(path).map(OwnedFd::from).ok()
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
    fn the_kernel_itself_refuses_to_wait_for_a_full_pipe() {
        // Linux before 6.4 does not; then poll(2) has to do, and nothing is told apart here.
        let (_reader, writer) = crate::sys::spawn::pipe().unwrap();
        let errors: Vec<_> =
            (0..10_000).filter_map(|_| write_unless_it_waits(writer.as_fd(), &[b'x'; 100]).err()).collect();
        let first = errors.first().and_then(io::Error::raw_os_error);
        assert!(matches!(first, Some(libc::EAGAIN | libc::EOPNOTSUPP)), "{first:?}");
    }

    #[test]
    fn a_closed_pipe_is_an_error_and_no_death() {
        let (reader, writer) = crate::sys::spawn::pipe().unwrap();
        drop(reader);
        // The test harness ignores SIGPIPE as PID 1 blocks it.
        assert_eq!(write_now(writer.as_fd(), b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
