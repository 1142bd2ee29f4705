//! Stops a process group at a given moment, whether or not this process has the processor then.
//!
//! Linux has no timer that signals somebody else. It has two things that make one: TCP's pacing holds a segment back until a
//! timer interrupt lets it go (`SO_MAX_PACING_RATE`, `tcp_pace_kick` in the kernel's net/ipv4/tcp_output.c), and a socket signals
//! its owner, any process group that may be signalled, when something arrives (`F_SETOWN`, `F_SETSIG`, `O_ASYNC`; fcntl(2)). A
//! socket that is connected to itself on the loopback is all that it takes: no listener, no privilege, no other process.
//! Measured on 6.18 with four threads that fill two cores: the last of them ran until 7 to 20 µs before the moment.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::process::ProcessId;
use super::signal::Signal;

/// Bytes a second: a byte is 4 µs.
const RATE: libc::c_uint = 250_000;
const NANOS_PER_BYTE: u128 = 4_000;

/// Which signal a descriptor sends (include/uapi/asm-generic/fcntl.h); the libc crate does not have it.
const F_SETSIG: libc::c_int = 10;

/// The kernel does not pace the first ten segments of a connection.
const UNPACED: usize = 12;

/// What is set anew before the moment has come keeps its socket until then: a segment cannot be taken back.
const SOCKETS: usize = 4;

/// The longest that a timer runs.
const LONGEST: Duration = Duration::from_millis(10);

/// As many bytes as take the longest time.
static NOTHING: [u8; 2_500] = [0; 2_500];

/// include/uapi/asm-generic/socket.h; the libc crate does not have it everywhere.
const SO_RESERVE_MEM: libc::c_int = 73;
const RESERVED: libc::c_uint = 16 << 10;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What came in since it was last asked.
enum Arrived {
    Bytes(usize),
    /// The connection is broken. The signal may have been sent for that.
    Nothing,
}

/// A connection to itself.
#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    /// A segment is on its way: until it has come nothing can be sent after it.
    is_pending: bool,
    is_broken: bool,
}

impl Line {
    fn open(group: ProcessId) -> io::Result<Self> {
        let flags = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain numbers; the descriptor that comes back is new and ours alone.
        let socket = unsafe { OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_INET, flags, 0))?) };
        let mut line = Self { socket, is_pending: false, is_broken: false };
        line.set(libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, RATE)?;
        line.set(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        // What follows is better had, but can be done without: that an app may listen on the port all the same, a congestion
        // control with no pace of its own, and memory that is charged now and not when none is left (Linux 5.17).
        let _ = line.set(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
        let _ = line.set_bytes(libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"reno");
        let _ = line.set(libc::SOL_SOCKET, SO_RESERVE_MEM, RESERVED);
        line.connect()?;
        for _ in 0..UNPACED {
            line.pass(1)?;
        }
        line.fcntl(libc::F_SETOWN, group.get().wrapping_neg())?;
        line.fcntl(F_SETSIG, Signal::STOP.number())?;
        Ok(line)
    }

    fn set(&self, level: libc::c_int, name: libc::c_int, value: libc::c_uint) -> io::Result<()> {
        self.set_bytes(level, name, &value.to_ne_bytes())
    }

    fn set_bytes(&self, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
        let length = value.len() as libc::socklen_t;
        // SAFETY: the value is read, and is as long as it is said to be.
        checked(unsafe { libc::setsockopt(self.socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) })?;
        Ok(())
    }

    fn fcntl(&self, what: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: plain numbers, for a descriptor of our own.
        checked(unsafe { libc::fcntl(self.socket.as_raw_fd(), what, value) })?;
        Ok(())
    }

    fn connect(&self) -> io::Result<()> {
        let loopback = libc::in_addr { s_addr: u32::from(std::net::Ipv4Addr::LOCALHOST).to_be() };
        let mut own =
            libc::sockaddr_in { sin_family: libc::AF_INET as u16, sin_port: 0, sin_addr: loopback, sin_zero: [0; 8] };
        let mut length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let number = self.socket.as_raw_fd();
        // SAFETY: the address and its length are valid for reading and, in getsockname(2), for writing.
        unsafe {
            checked(libc::bind(number, (&raw const own).cast(), length))?;
            checked(libc::getsockname(number, (&raw mut own).cast(), &raw mut length))?;
            // EINPROGRESS is all that can be told from within the call. Where the loopback does not answer at once, and so is
            // of no use here, the first segment cannot be sent.
            match checked(libc::connect(number, (&raw const own).cast(), length)) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
                _ => Ok(()),
            }
        }
    }

    fn send(&self, bytes: usize) -> io::Result<()> {
        let bytes = NOTHING.get(..bytes).unwrap_or(&NOTHING);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the buffer is valid for reading and as long as it is said to be.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
        if usize::try_from(sent) == Ok(bytes.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn receive(&self) -> Arrived {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        let mut arrived = 0usize;
        loop {
            // SAFETY: with MSG_TRUNC, TCP throws the bytes away and writes nothing (tcp(7)); hence no buffer.
            let length = unsafe { libc::recv(self.socket.as_raw_fd(), std::ptr::null_mut(), NOTHING.len(), flags) };
            match usize::try_from(length) {
                Ok(0) => return Arrived::Nothing,
                Ok(length) => arrived = arrived.saturating_add(length),
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => {
                    return Arrived::Bytes(arrived);
                }
                Err(_) => return Arrived::Nothing,
            }
        }
    }

    /// Sends so many bytes that must be there at once: on a loopback they are, unless something delays them.
    fn pass(&mut self, bytes: usize) -> io::Result<()> {
        self.send(bytes)?;
        match self.receive() {
            Arrived::Bytes(arrived) if arrived == bytes => Ok(()),
            Arrived::Bytes(_) | Arrived::Nothing => {
                // Whatever comes later would be taken for what was set.
                self.is_broken = true;
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    }

    /// Whether what was under way has come, or never will.
    fn has_come(&mut self) -> bool {
        if self.is_pending {
            match self.receive() {
                Arrived::Bytes(0) => {}
                Arrived::Bytes(_) => self.is_pending = false,
                Arrived::Nothing => (self.is_pending, self.is_broken) = (false, true),
            }
        }
        !self.is_pending
    }

    /// The group is stopped after this time.
    fn start(&mut self, after: Duration) -> io::Result<()> {
        // A segment's time is counted from the last one, whoever sent it: the kernel's own acknowledgements are some. This one
        // is sent so that the last one is now.
        self.pass(1)?;
        let bytes = after.min(LONGEST).as_nanos().checked_div(NANOS_PER_BYTE).unwrap_or_default();
        self.pass(usize::try_from(bytes).unwrap_or(usize::MAX).clamp(1, NOTHING.len()))?;
        self.fcntl(libc::F_SETFL, libc::O_NONBLOCK | libc::O_ASYNC)?;
        self.is_pending = true;
        let sent = self.send(1);
        if sent.is_err() {
            let _ = self.cancel();
            self.is_broken = true;
        }
        sent
    }

    /// It stops nobody any more. Whether it has, or may have.
    fn cancel(&mut self) -> bool {
        // Should it fail, which it cannot, the line's end would end it.
        let _ = self.fcntl(libc::F_SETFL, libc::O_NONBLOCK);
        self.is_pending && self.has_come()
    }
}

/// What setting a timer has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// The moment that was set before had come, or may have: the group is stopped.
    pub had_stopped: bool,
    /// Whether the group will be stopped: at the moment that was asked for, or at the one before.
    pub is_set: bool,
}

/// The timer of one process group.
#[derive(Debug)]
pub struct StopTimer {
    lines: [Line; SOCKETS],
    running: Option<usize>,
}

impl StopTimer {
    /// A timer that is not running yet. Takes half a millisecond.
    ///
    /// # Errors
    /// What socket(2), connect(2) and fcntl(2) say; [`io::ErrorKind::Unsupported`] where segments are not held back, or where
    /// the kernel may refuse the signal.
    pub fn new(group: ProcessId) -> io::Result<Self> {
        if !may_signal_everybody() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let open = || Line::open(group);
        let mut timer = Self { lines: [open()?, open()?, open()?, open()?], running: None };
        timer.check()?;
        Ok(timer)
    }

    /// Whether the kernel holds a segment back; without the signal.
    fn check(&mut self) -> io::Result<()> {
        let Some(line) = self.lines.first_mut() else { return Ok(()) };
        line.pass(1)?;
        line.pass(NOTHING.len())?;
        line.send(1)?;
        line.is_pending = true;
        if line.has_come() { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
    }

    /// Whether a moment is set, be it that it has come.
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the moment that was set has come, or may have.
    pub fn has_come(&mut self) -> bool {
        self.running.and_then(|running| self.lines.get_mut(running)).is_some_and(Line::has_come)
    }

    /// Stops the group after this time (SIGSTOP), and no more at the moment that was set before. Where that cannot be, the one
    /// before stays.
    pub fn start(&mut self, after: Duration) -> Set {
        let running = self.running;
        let mut others = self.lines.iter_mut().enumerate().filter(|(index, _)| Some(*index) != running);
        let free = others.find_map(|(index, line)| (line.has_come() && !line.is_broken).then_some((index, line)));
        let started = free.and_then(|(index, line)| line.start(after).is_ok().then_some(index));
        let Some(index) = started else {
            let had_stopped = self.has_come();
            return Set { had_stopped, is_set: running.is_some() && !had_stopped };
        };
        // Only now, so that there is no moment without one.
        let had_stopped = self.running.replace(index).is_some_and(|before| self.cancel_line(before));
        Set { had_stopped, is_set: true }
    }

    /// Stops nobody any more. Whether it has, or may have.
    pub fn cancel(&mut self) -> bool {
        self.running.take().is_some_and(|running| self.cancel_line(running))
    }

    /// What has come is told until it is cancelled.
    fn cancel_line(&mut self, index: usize) -> bool {
        self.lines.get_mut(index).is_some_and(|line| line.cancel() || !line.is_pending)
    }
}

impl Drop for StopTimer {
    /// A worker that is being started has copies of the sockets until its exec.
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Whether the kernel sends the signal to whomever the brake may stop. For that it asks less than kill(2): the owner's user must be
/// that of the process, or root, but the machine's and not that of a user namespace; capabilities do not count.
fn may_signal_everybody() -> bool {
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return true;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};
    use std::time::Instant;

    /// A group that works until it is dropped.
    struct Spinner(Child, ProcessId);

    impl Spinner {
        fn start() -> Self {
            let child = Command::new("sh").args(["-c", "while :; do :; done"]).process_group(0).spawn().unwrap();
            let id = ProcessId::new(child.id().cast_signed()).unwrap();
            Self(child, id)
        }
    }

    impl Drop for Spinner {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn state(id: ProcessId) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.trim_start().chars().next().unwrap()
    }

    fn wait_until(mut what: impl FnMut() -> bool) {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(60), "in vain");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_kernel_stops_the_group_and_it_is_told_afterwards() {
        let spinner = Spinner::start();
        let id = spinner.1;
        let mut timer = StopTimer::new(id).unwrap();
        for _ in 0..20 {
            let set = timer.start(Duration::from_millis(2));
            assert_eq!(set, Set { had_stopped: false, is_set: true }, "nothing was set before");
            wait_until(|| state(id) == 'T');
            assert!(timer.cancel(), "it has come");
            crate::sys::process::kill_group(id, Signal::CONT).unwrap();
            wait_until(|| state(id) != 'T');
        }
    }

    // The tree stayed stopped: the line that had just told was taken again.
    #[test]
    fn what_is_set_anew_tells_that_the_moment_before_had_come() {
        let spinner = Spinner::start();
        let id = spinner.1;
        let mut timer = StopTimer::new(id).unwrap();
        for round in 0..20 {
            timer.start(Duration::from_millis(1));
            wait_until(|| state(id) == 'T');
            // Long enough for all that follows, and put off before it comes.
            let set = timer.start(LONGEST);
            assert_eq!(set, Set { had_stopped: true, is_set: true }, "{round}");
            timer.cancel();
            crate::sys::process::kill_group(id, Signal::CONT).unwrap();
            wait_until(|| state(id) != 'T');
            wait_until(|| timer.lines.iter_mut().all(Line::has_come));
        }
    }

    #[test]
    fn who_comes_back_in_time_stops_nobody() {
        let spinner = Spinner::start();
        let id = spinner.1;
        let mut timer = StopTimer::new(id).unwrap();
        let mut in_time = 0;
        for _ in 0..200 {
            // Each is put off before it comes, unless this test itself is late.
            timer.start(LONGEST);
            if timer.cancel() {
                crate::sys::process::kill_group(id, Signal::CONT).unwrap();
            } else {
                in_time += 1;
            }
        }
        // Those that were put off leave their line only now.
        wait_until(|| timer.lines.iter_mut().all(Line::has_come));
        wait_until(|| state(id) != 'T');
        assert!(in_time > 0);
    }

    // It was up to twice as late: the kernel acknowledges after 40 ms, and what is sent next was taken to follow that.
    #[test]
    fn a_timer_that_has_rested_is_not_later_than_one_that_has_not() {
        let spinner = Spinner::start();
        let id = spinner.1;
        let mut timer = StopTimer::new(id).unwrap();
        let after = Duration::from_millis(8);
        let mut least = Duration::MAX;
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(50));
            let start = Instant::now();
            timer.start(after);
            while !timer.has_come() {}
            least = least.min(start.elapsed());
            timer.cancel();
            crate::sys::process::kill_group(id, Signal::CONT).unwrap();
        }
        // The least of twenty: the machine may be late, but not the timer.
        assert!(least >= after / 2 && least < after * 3 / 2, "{least:?}");
    }

    // What breaks the connection sends the signal as well, and leaves nothing to read.
    #[test]
    fn a_broken_line_counts_as_one_that_has_stopped_the_group() {
        let spinner = Spinner::start();
        let id = spinner.1;
        let mut timer = StopTimer::new(id).unwrap();
        assert!(timer.start(LONGEST).is_set);
        let line = &timer.lines[timer.running.unwrap()];
        // SAFETY: plain numbers, for a descriptor that is open.
        assert_eq!(unsafe { libc::shutdown(line.socket.as_raw_fd(), libc::SHUT_RDWR) }, 0);
        wait_until(|| state(id) == 'T');
        assert!(timer.cancel());
        crate::sys::process::kill_group(id, Signal::CONT).unwrap();
    }

    #[test]
    fn a_timer_that_is_dropped_stops_nobody() {
        let spinner = Spinner::start();
        let id = spinner.1;
        let mut timer = StopTimer::new(id).unwrap();
        timer.start(LONGEST);
        drop(timer);
        crate::sys::process::kill_group(id, Signal::CONT).unwrap();
        // That nothing happens cannot be waited for.
        std::thread::sleep(2 * LONGEST);
        assert_ne!(state(id), 'T');
    }
}
