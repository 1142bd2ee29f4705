//! The controlling terminal: who is in its foreground.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::process::{self, ProcessId};

/// The standard descriptors. memini never closes them; of one that is not open at all, the calls below say EBADF.
fn standard(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: see above; 0, 1 and 2 only.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// The terminal on standard input, if it is memini's to give away: its own process group is in the foreground, and nobody
/// else of that group needs it.
///
/// A background job must not take the terminal from whoever has it, nor `memini app | less` from `less`. A session's
/// leader (PID 1 of a container) has nobody beside it.
pub fn to_give_away() -> Option<BorrowedFd<'static>> {
    let (input, output) = (standard(libc::STDIN_FILENO), standard(libc::STDOUT_FILENO));
    let alone = process::session_of(None).is_ok_and(|session| session == process::own_id());
    (is_foreground(input) && (alone || is_foreground(output))).then_some(input)
}

/// The terminal in whose foreground memini is, on whichever of the standard descriptors.
pub fn in_foreground() -> Option<BorrowedFd<'static>> {
    [libc::STDIN_FILENO, libc::STDERR_FILENO, libc::STDOUT_FILENO]
        .map(standard)
        .into_iter()
        .find(|it| is_foreground(*it))
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

/// How many columns and rows a terminal has; `None` where this is none, or where it does not know.
pub fn size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure is filled in by the call, and lives through it.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}
