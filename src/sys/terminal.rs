//! The controlling terminal: who is in its foreground.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::process::ProcessId;

/// The terminal on standard input, if there is one and memini's own process group is in its foreground.
///
/// A background job must not take the terminal away from whoever has it.
pub fn foreground_terminal() -> Option<BorrowedFd<'static>> {
    // SAFETY: memini never closes descriptor 0; if it is not open at all, the calls below say EBADF.
    let input = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
    is_foreground(input).then_some(input)
}

/// Whether memini's own group is in the terminal's foreground. ENOTTY, ENXIO and EBADF mean no.
pub fn is_foreground(terminal: BorrowedFd<'_>) -> bool {
    // SAFETY: plain numbers.
    unsafe {
        let foreground = libc::tcgetpgrp(terminal.as_raw_fd());
        foreground > 0 && foreground == libc::getpgrp()
    }
}

/// Gives the terminal's foreground to a group. SIGTTOU is blocked, so this works from the background as well.
///
/// # Errors
/// ENOTTY without a controlling terminal, EPERM if the group is of another session.
pub fn give(terminal: BorrowedFd<'_>, group: ProcessId) -> io::Result<()> {
    // SAFETY: plain numbers.
    if unsafe { libc::tcsetpgrp(terminal.as_raw_fd(), group.get()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The group in the terminal's foreground.
pub fn foreground_group(terminal: BorrowedFd<'_>) -> Option<ProcessId> {
    // SAFETY: plain numbers.
    ProcessId::new(unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) })
}
