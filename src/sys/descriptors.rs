//! Descriptors that memini was given but does not use: they are the app's.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Closes memini's copies of every inherited descriptor above 2. The app has its own by now; memini's would keep
/// sockets and pipes open that the app believes closed.
///
/// Whatever survived memini's own exec has no close-on-exec flag, and everything that memini opens has one: that tells
/// them apart.
pub fn close_inherited() {
    let Ok(folder) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<RawFd> = folder
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // SAFETY: fcntl and close take plain numbers. No object of ours owns a descriptor without close-on-exec, so
        // nothing is closed behind its owner's back.
        unsafe {
            let flags = libc::fcntl(number, libc::F_GETFD);
            if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
                libc::close(number);
            }
        }
    }
}

/// Makes sure that descriptors 0, 1 and 2 are open, so that nothing that is opened later is taken for them. What is
/// opened here is memini's own: the app finds them closed, as memini did.
pub fn fill_standard() {
    for number in 0..=2 {
        // SAFETY: plain numbers; open returns the lowest free descriptor, which is `number`, as those below are open.
        // /dev/null may be missing in an empty image; the root folder never is.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) < 0
                && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) < 0
            {
                libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
            }
        }
    }
}

/// A copy of an inherited descriptor, close-on-exec.
///
/// # Errors
/// EBADF if it is not open.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; a copy is made of whatever is there, and it is ours alone.
    unsafe {
        let copy = libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(copy)) }
    }
}
