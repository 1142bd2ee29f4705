//! Stops a process group at a given moment, whether or not this process has the processor then.
//!
//! Linux has no timer that signals somebody else. It has two things that make one: TCP's pacing holds a segment back until a
//! timer interrupt lets it go (`SO_MAX_PACING_RATE`, `tcp_pace_kick` in the kernel's net/ipv4/tcp_output.c), and a socket signals
//! its owner, any process group that may be signalled, when something arrives (`F_SETOWN`, `F_SETSIG`, `O_ASYNC`; fcntl(2)). A
//! socket that is connected to itself on the loopback is all that it takes: no listener, no privilege, no other process.
//! Measured on 6.18 with four threads that fill two cores: the last of them ran until 7 to 20 µs before the moment.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

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

/// As many bytes as take twice the longest time: a part of the first segment's time is forgiven.
static NOTHING: [u8; 5_000] = [0; 5_000];

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A connection to itself.
#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    /// When the last segment leaves, or left: until then none can be sent after it.
    due: Instant,
    is_pending: bool,
}

impl Line {
    fn open(group: ProcessId) -> io::Result<Self> {
        let flags = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain numbers; the descriptor that comes back is new and ours alone.
        let socket = unsafe { OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_INET, flags, 0))?) };
        let line = Self { socket, due: Instant::now(), is_pending: false };
        line.set(libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, RATE)?;
        line.set(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        line.connect()?;
        for _ in 0..UNPACED {
            line.send(1)?;
            line.drain();
        }
        line.fcntl(libc::F_SETOWN, group.get().wrapping_neg())?;
        line.fcntl(F_SETSIG, Signal::STOP.number())?;
        Ok(line)
    }

    fn set(&self, level: libc::c_int, name: libc::c_int, value: libc::c_uint) -> io::Result<()> {
        let length = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the value is read, and is as long as it is said to be.
        checked(unsafe { libc::setsockopt(self.socket.as_raw_fd(), level, name, (&raw const value).cast(), length) })?;
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

    /// How many bytes have arrived since.
    fn drain(&self) -> usize {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        let mut arrived = 0usize;
        loop {
            // SAFETY: with MSG_TRUNC, TCP throws the bytes away and writes nothing (tcp(7)); hence no buffer.
            let length = unsafe { libc::recv(self.socket.as_raw_fd(), std::ptr::null_mut(), NOTHING.len(), flags) };
            match usize::try_from(length) {
                Ok(length) if length > 0 => arrived = arrived.saturating_add(length),
                _ => return arrived,
            }
        }
    }

    /// Whether nothing is under way any more.
    fn is_idle(&mut self) -> bool {
        if self.is_pending && self.drain() > 0 {
            self.is_pending = false;
        }
        !self.is_pending
    }

    /// The group is stopped after this time; at once where it cannot be later.
    fn start(&mut self, after: Duration) -> io::Result<()> {
        let now = Instant::now();
        let after = after.min(LONGEST);
        // A segment's time is shortened by that for which the connection was quiet, but by no more than a half.
        let quiet = now.saturating_duration_since(self.due).min(after);
        let bytes = after.saturating_add(quiet).as_nanos().checked_div(NANOS_PER_BYTE).unwrap_or_default();
        self.send(usize::try_from(bytes).unwrap_or(usize::MAX).clamp(1, NOTHING.len()))?;
        self.drain();
        self.fcntl(libc::F_SETFL, libc::O_NONBLOCK | libc::O_ASYNC)?;
        self.is_pending = true;
        self.due = now.checked_add(after).unwrap_or(now);
        self.send(1)
    }

    /// It stops nobody any more. Whether it has.
    fn cancel(&mut self) -> bool {
        // Should it fail, which it cannot, the line's end would end it.
        let _ = self.fcntl(libc::F_SETFL, libc::O_NONBLOCK);
        self.is_pending && self.is_idle()
    }
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
    /// What socket(2), connect(2) and fcntl(2) say; [`io::ErrorKind::Unsupported`] where segments are not held back.
    pub fn new(group: ProcessId) -> io::Result<Self> {
        let open = || Line::open(group);
        let mut timer = Self { lines: [open()?, open()?, open()?, open()?], running: None };
        timer.check()?;
        Ok(timer)
    }

    /// Whether the kernel holds a segment back; without the signal.
    fn check(&mut self) -> io::Result<()> {
        let Some(line) = self.lines.first_mut() else { return Ok(()) };
        line.send(NOTHING.len())?;
        line.drain();
        line.send(1)?;
        line.is_pending = true;
        line.due = Instant::now().checked_add(LONGEST).unwrap_or(line.due);
        if line.is_idle() { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
    }

    /// Stops the group after this time (SIGSTOP), and no more at the moment that was set before. Whether that had come already:
    /// then the group is stopped. Where no line is free, what was set before stays.
    pub fn start(&mut self, after: Duration) -> bool {
        // The one that runs tells whether its moment has come, but once.
        let running = self.running;
        let mut others = self.lines.iter_mut().enumerate().filter(|(index, _)| Some(*index) != running);
        let Some((index, line)) = others.find_map(|(index, line)| line.is_idle().then_some((index, line))) else {
            return false;
        };
        let _ = line.start(after);
        // Only now, so that there is no moment without one.
        self.running.replace(index).is_some_and(|before| self.cancel_line(before))
    }

    /// Stops nobody any more. Whether it has.
    pub fn cancel(&mut self) -> bool {
        self.running.take().is_some_and(|running| self.cancel_line(running))
    }

    fn cancel_line(&mut self, index: usize) -> bool {
        self.lines.get_mut(index).is_some_and(Line::cancel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

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
            assert!(!timer.start(Duration::from_millis(2)), "nothing was set before");
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
        timer.start(Duration::from_millis(1));
        for round in 0..20 {
            wait_until(|| state(id) == 'T');
            assert!(timer.start(Duration::from_millis(1)), "{round}");
            crate::sys::process::kill_group(id, Signal::CONT).unwrap();
        }
    }

    #[test]
    fn who_comes_back_in_time_stops_nobody() {
        let spinner = Spinner::start();
        let id = spinner.1;
        let mut timer = StopTimer::new(id).unwrap();
        let mut missed = 0;
        for _ in 0..200 {
            // Each is put off before it comes, unless this test itself is late.
            missed += u32::from(timer.start(LONGEST));
            std::thread::sleep(Duration::from_micros(500));
        }
        missed += u32::from(timer.cancel());
        if missed == 0 {
            // Those that were put off leave their line only now.
            wait_until(|| timer.lines.iter_mut().all(Line::is_idle));
            assert_ne!(state(id), 'T');
        }
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
