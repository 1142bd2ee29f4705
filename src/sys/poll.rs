//! ppoll(2) over a small fixed registry: descriptors are added with a token each time round, ready tokens come back.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// How many descriptors one wait can take. PID 1 has a signal descriptor, an exec pipe, one for memory events and one a
/// worker.
pub const CAPACITY: usize = 32;

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, or the end of it.
    Read,
    /// An exceptional condition: the kernel has changed a file of a cgroup (cgroup v2, "notify").
    Priority,
}

/// One wait, made anew each time round: no registration to keep in step with the descriptors.
pub struct Wait<'a, Token: Copy> {
    entries: [libc::pollfd; CAPACITY],
    tokens: [Option<Token>; CAPACITY],
    length: usize,
    _descriptors: PhantomData<BorrowedFd<'a>>,
}

impl<'a, Token: Copy> Wait<'a, Token> {
    /// Nothing to wait for yet.
    pub fn new() -> Self {
        Self {
            entries: [libc::pollfd { fd: -1, events: 0, revents: 0 }; CAPACITY],
            tokens: [None; CAPACITY],
            length: 0,
            _descriptors: PhantomData,
        }
    }

    /// Adds a descriptor. One too many is left out: it is then found by the next look that a deadline brings.
    pub fn add(&mut self, descriptor: BorrowedFd<'a>, interest: Interest, token: Token) {
        let events = match interest {
            Interest::Read => libc::POLLIN,
            Interest::Priority => libc::POLLPRI,
        };
        if let (Some(entry), Some(place)) = (self.entries.get_mut(self.length), self.tokens.get_mut(self.length)) {
            *entry = libc::pollfd { fd: descriptor.as_raw_fd(), events, revents: 0 };
            *place = Some(token);
            self.length = self.length.saturating_add(1);
        }
    }

    /// Waits until something is ready or the time has passed; without a time, for ever.
    ///
    /// # Errors
    /// ENOMEM; an interruption is no error, and cannot happen while every signal is blocked.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|span| libc::timespec {
            // 68 years will do, and `libc::time_t` itself is deprecated on musl.
            tv_sec: i32::try_from(span.as_secs()).unwrap_or(i32::MAX).into(),
            tv_nsec: libc::c_long::from(span.subsec_nanos().cast_signed()),
        });
        let pointer = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `length` entries are initialised; the time and the missing mask live through the call.
        let result =
            unsafe { libc::ppoll(self.entries.as_mut_ptr(), self.length as libc::nfds_t, pointer, std::ptr::null()) };
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        for entry in &mut self.entries {
            entry.revents = 0;
        }
        if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
    }

    /// The tokens whose descriptors are ready, closed ones included.
    pub fn ready(&self) -> impl Iterator<Item = Token> + '_ {
        let pairs = self.entries.iter().zip(&self.tokens).take(self.length);
        pairs.filter(|(entry, _)| entry.revents != 0).filter_map(|(_, token)| *token)
    }
}

/// Whether a write of a few bytes would not block: asked before each log line.
pub fn is_writable(descriptor: BorrowedFd<'_>) -> bool {
    let mut entry = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one initialised entry, no waiting.
    let result = unsafe { libc::poll(&raw mut entry, 1, 0) };
    result == 1 && entry.revents & libc::POLLOUT != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn only_what_is_ready_comes_back() {
        let (quiet, _keep) = crate::sys::spawn::pipe().unwrap();
        let (ready, writer) = crate::sys::spawn::pipe().unwrap();
        std::fs::File::from(writer).write_all(b"x").unwrap();
        let mut wait = Wait::new();
        wait.add(quiet.as_fd(), Interest::Read, 1);
        wait.add(ready.as_fd(), Interest::Read, 2);
        wait.wait(Some(Duration::ZERO)).unwrap();
        assert_eq!(wait.ready().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_full_pipe_is_not_writable() {
        let (_reader, writer) = crate::sys::spawn::pipe().unwrap();
        let mut file = std::fs::File::from(writer);
        assert!(is_writable(file.as_fd()));
        let mut written = 0;
        while is_writable(file.as_fd()) {
            written += file.write(&[0; 4096]).unwrap();
        }
        assert!(written >= 4096);
    }
}
