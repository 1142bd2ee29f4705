//! Processes: kill, wait, groups, sessions, subreaper.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use serde::{Serialize, Serializer};

use super::signal::Signal;

/// A process id above 0. Groups and "everybody" have their own functions below, so that no arithmetic on a process id
/// can ever reach them by accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(i32);

impl ProcessId {
    /// Checks that this can be a process.
    pub const fn new(id: i32) -> Option<Self> {
        if id > 0 { Some(Self(id)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl std::fmt::Display for ProcessId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal to one process.
///
/// # Errors
/// ESRCH if there is none, EPERM if it may not be signalled.
pub fn kill(process: ProcessId, signal: Signal) -> io::Result<()> {
    // SAFETY: kill(2) takes plain numbers; the process id is above 0.
    check(unsafe { libc::kill(process.get(), signal.number()) })
}

/// One process and no other: not the next one that is given its number, as far as the kernel knows how (pidfd_open(2), since
/// Linux 5.3).
#[derive(Debug)]
pub struct Handle {
    process: ProcessId,
    descriptor: Option<OwnedFd>,
}

impl Handle {
    /// Of the process that has this number now.
    ///
    /// # Errors
    /// ESRCH if there is none.
    pub fn open(process: ProcessId) -> io::Result<Self> {
        // SAFETY: plain numbers.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_open, process.get(), 0) };
        if let Some(descriptor) = RawFd::try_from(result).ok().filter(|descriptor| *descriptor >= 0) {
            // SAFETY: the kernel just made it for us alone, close-on-exec.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            return Ok(Self { process, descriptor: Some(descriptor) });
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Err(error),
            // An old kernel, or a container that may not do so.
            _ => Ok(Self { process, descriptor: None }),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// As [`kill`].
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(descriptor) = &self.descriptor else { return kill(self.process, signal) };
        let nothing: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: a descriptor of our own, plain numbers, and no details of the signal.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor.as_raw_fd(), signal.number(), nothing, 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Sends a signal to each process of a group.
///
/// # Errors
/// ESRCH if there is no such group, EPERM if none of it may be signalled.
pub fn kill_group(leader: ProcessId, signal: Signal) -> io::Result<()> {
    // SAFETY: kill(2) takes plain numbers. `killpg` would do the same, but has a special meaning for group 1.
    check(unsafe { libc::kill(leader.get().wrapping_neg(), signal.number()) })
}

/// Sends a signal to each process of memini's own group, itself included.
///
/// # Errors
/// None are known.
pub fn kill_own_group(signal: Signal) -> io::Result<()> {
    // SAFETY: kill(2) takes plain numbers; 0 means the own group.
    check(unsafe { libc::kill(0, signal.number()) })
}

/// Sends a signal to every process of the PID namespace but memini itself. Only as PID 1: elsewhere this would reach
/// every process of the machine, so it refuses.
///
/// # Errors
/// EPERM unless memini is PID 1, ESRCH if there is no other process.
pub fn kill_everybody(signal: Signal) -> io::Result<()> {
    if own_id().get() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // SAFETY: kill(2) takes plain numbers; as PID 1 of a namespace, −1 means all others of that namespace.
    check(unsafe { libc::kill(-1, signal.number()) })
}

/// memini's own process id.
pub fn own_id() -> ProcessId {
    ProcessId(std::process::id().cast_signed())
}

/// The parent's process id; `None` if it is outside the PID namespace.
pub fn parent_id() -> Option<ProcessId> {
    // SAFETY: getppid(2) has no arguments and cannot fail.
    ProcessId::new(unsafe { libc::getppid() })
}

/// The process group of a process, `None` for memini itself.
///
/// # Errors
/// ESRCH if there is no such process.
pub fn group_of(process: Option<ProcessId>) -> io::Result<ProcessId> {
    // SAFETY: getpgid(2) takes a plain number.
    let group = unsafe { libc::getpgid(process.map_or(0, ProcessId::get)) };
    ProcessId::new(group).ok_or_else(io::Error::last_os_error)
}

/// The session of a process, `None` for memini itself.
///
/// # Errors
/// ESRCH if there is no such process.
pub fn session_of(process: Option<ProcessId>) -> io::Result<ProcessId> {
    // SAFETY: getsid(2) takes a plain number.
    let session = unsafe { libc::getsid(process.map_or(0, ProcessId::get)) };
    ProcessId::new(session).ok_or_else(io::Error::last_os_error)
}

/// Makes this child the leader of a group of its own.
///
/// # Errors
/// EACCES when the child has already run exec: then it has done so itself.
pub fn set_group(child: ProcessId) -> io::Result<()> {
    // SAFETY: setpgid(2) takes plain numbers.
    check(unsafe { libc::setpgid(child.get(), child.get()) })
}

/// Orphans of the tree become memini's children instead of PID 1's (prctl(2), PR_SET_CHILD_SUBREAPER).
///
/// # Errors
/// EINVAL on kernels before 3.4.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this option takes a plain number.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
}

/// The kernel shall send memini this signal when its parent dies (prctl(2), PR_SET_PDEATHSIG).
///
/// # Errors
/// None are known for a valid signal.
pub fn set_parent_death_signal(signal: Signal) -> io::Result<()> {
    // SAFETY: this option takes a plain number.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number(), 0, 0, 0) })
}

/// The name that `ps` shows: workers are run from /proc/self/exe and would be called `exe`.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: the kernel copies at most 16 bytes of a NUL-terminated string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(u8),
    /// By this signal.
    Signal(Signal),
}

impl Exit {
    /// The code that a shell would report: 128 + N for signal N.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => u8::try_from(signal.number()).unwrap_or(0).saturating_add(128),
        }
    }
}

impl Serialize for Exit {
    /// `{"code": 3}` or `{"signal": "SIGTERM"}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Code(code) => serializer.collect_map([("code", code)]),
            Self::Signal(signal) => serializer.collect_map([("signal", signal)]),
        }
    }
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has ended and is reaped.
    Ended(Exit),
    /// It was stopped by this signal.
    Stopped(Signal),
    /// It goes on.
    Continued,
}

/// The next child whose state has changed, without waiting.
///
/// Raw statuses are read here because `nix` loses a death by a real-time signal, and with it the child.
pub fn next_change() -> Option<(ProcessId, Change)> {
    loop {
        let mut status: libc::c_int = 0;
        let flags = libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED;
        // SAFETY: the status is writable; −1 means any child.
        let child = ProcessId::new(unsafe { libc::waitpid(-1, &raw mut status, flags) })?;
        if let Some(change) = decode(status) {
            return Some((child, change));
        }
    }
}

/// Whether any child is left, ended or not.
pub fn has_children() -> bool {
    // SAFETY: an all-zero siginfo is valid; WNOWAIT leaves the child as it is.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) == 0
    }
}

/// Whether this child has ended. It stays as it is, so that its number, and its group's, are not given to anybody else.
pub fn has_ended(child: ProcessId) -> bool {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: an all-zero siginfo is valid; where nothing has happened, it stays so.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let result = libc::waitid(libc::P_PID, child.get().unsigned_abs(), &raw mut info, options);
        result == 0 && info.si_pid() == child.get()
    }
}

fn decode(status: libc::c_int) -> Option<Change> {
    if libc::WIFEXITED(status) {
        return Some(Change::Ended(Exit::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))));
    }
    if libc::WIFSIGNALED(status) {
        return Signal::from_number(libc::WTERMSIG(status)).map(|signal| Change::Ended(Exit::Signal(signal)));
    }
    if libc::WIFSTOPPED(status) {
        return Signal::from_number(libc::WSTOPSIG(status)).map(Change::Stopped);
    }
    libc::WIFCONTINUED(status).then_some(Change::Continued)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_by_a_real_time_signal_is_not_lost() {
        assert_eq!(decode(40), Some(Change::Ended(Exit::Signal(Signal::from_number(40).unwrap()))));
    }

    #[test]
    fn a_handle_is_not_that_of_who_comes_after() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let handle = Handle::open(ProcessId::new(child.id().cast_signed()).unwrap()).unwrap();
        handle.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert_eq!(handle.signal(Signal::CONT).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert!(Handle::open(ProcessId::new(child.id().cast_signed()).unwrap()).is_err());
    }

    #[test]
    fn every_exit_code_is_decoded() {
        for code in 0..=255u8 {
            assert_eq!(decode(i32::from(code) << 8), Some(Change::Ended(Exit::Code(code))));
        }
    }

    #[test]
    fn signalling_everybody_is_refused_to_all_but_pid_1() {
        if own_id().get() != 1 {
            let error = kill_everybody(Signal::CONT).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        }
    }
}
