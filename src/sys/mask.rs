//! The signal mask and the dispositions that memini was started with, and the descriptor it reads signals from.
//!
//! Every signal is blocked for the whole life of PID 1 and read from a signalfd(2): nothing runs asynchronously, and
//! `si_code` says who sent it. The kernel's own faults (SIGSEGV and the like, raised by an instruction of memini's) do not
//! care for the mask and never come out of the descriptor. There is one handler, for SIGBUS, where a file is mapped: see
//! [`super::map`].
//!
//! The system calls are made without the C library, because musl and glibc hide the two or three real-time signals
//! that they use themselves, and an init forwards what it gets.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::signal::Signal;

/// The kernel's signal set: bit N−1 is signal N.
type KernelSet = u64;

const SET_SIZE: usize = size_of::<KernelSet>();

/// The mask that memini was started with.
static INHERITED_MASK: AtomicU64 = AtomicU64::new(0);

/// Whether SIGBUS has a handler. One that somebody sends is blocked by it, to be read from the descriptor.
static GUARDS: AtomicBool = AtomicBool::new(false);

fn change(how: libc::c_int, set: KernelSet) -> io::Result<KernelSet> {
    let mut old: KernelSet = 0;
    // SAFETY: both sets are 8 bytes, as the size argument says, and live through the call.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::c_long::from(how), &raw const set, &raw mut old, SET_SIZE)
    };
    if result == 0 { Ok(old) } else { Err(io::Error::last_os_error()) }
}

/// Blocks every signal that can be blocked and remembers the mask from before. Called once, first of all.
#[cfg_attr(test, allow(dead_code))]
pub fn block_all() {
    if let Ok(old) = change(libc::SIG_BLOCK, KernelSet::MAX) {
        INHERITED_MASK.store(old, Ordering::Relaxed);
    }
}

/// The set of this signal alone; an empty one for what is no signal.
fn set_of(signal: libc::c_int) -> KernelSet {
    let bit = u32::try_from(signal.saturating_sub(1)).ok().and_then(|bit| KernelSet::from(1u8).checked_shl(bit));
    bit.unwrap_or(0)
}

/// Lets one signal through: a fault of memini's own, which it has a handler for.
///
/// # Errors
/// None are known for a signal's number.
pub fn unblock(signal: libc::c_int) -> io::Result<()> {
    // musl's sigaction(2) has let 33 and 34 through, which are its own, and the app's as well: PID 1 would lose them.
    change(libc::SIG_BLOCK, KernelSet::MAX)?;
    change(libc::SIG_UNBLOCK, set_of(signal))?;
    if signal == libc::SIGBUS {
        GUARDS.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Lets a signal wait, or come: in memini's own one-shot commands.
pub fn hold_back(signal: libc::c_int, waits: bool) {
    // There is nothing to be done if it fails, and it cannot: the arguments are constants.
    let _ = change(if waits { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK }, set_of(signal));
}

/// Puts back the mask that memini was started with: in a child before it runs another program, and in memini's own
/// one-shot commands.
pub fn restore() {
    // There is nothing to be done if it fails, and it cannot: the arguments are constants.
    let _ = change(libc::SIG_SETMASK, INHERITED_MASK.load(Ordering::Relaxed));
}

/// What SIGCHLD did when memini was started, put back for the app.
///
/// With "ignore" (a parent's careless `signal(SIGCHLD, SIG_IGN)`) the kernel would reap memini's children itself and
/// their exit codes would be lost, so memini itself runs with the default.
#[derive(Clone, Copy)]
pub struct ChildDisposition(libc::sigaction);

impl std::fmt::Debug for ChildDisposition {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ChildDisposition")
    }
}

impl ChildDisposition {
    /// Sets SIGCHLD to the default and remembers what it was.
    ///
    /// # Errors
    /// None are known for these arguments (sigaction(2)).
    pub fn take() -> io::Result<Self> {
        let mut old = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: an all-zero sigaction is SIG_DFL with an empty mask and no flags.
        let default: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: both pointers are valid for the call; SIG_DFL installs no code.
        let result = unsafe { libc::sigaction(libc::SIGCHLD, &raw const default, old.as_mut_ptr()) };
        if result == 0 {
            // SAFETY: the call succeeded and filled it in; all zero was valid before.
            Ok(Self(unsafe { old.assume_init() }))
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Puts it back. Called in the child before exec, where only "default" and "ignore" survive anyway.
    pub fn restore(&self) {
        // SAFETY: the structure came from the kernel unchanged.
        unsafe { libc::sigaction(libc::SIGCHLD, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// One signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which.
    pub signal: Signal,
    /// `si_code`: 0 and below are from a process (sigaction(2)); positive ones from the kernel.
    pub code: i32,
    /// The sender's process id, where the code says that there is one; 0 from outside the PID namespace.
    pub sender: u32,
}

impl Arrival {
    /// Whether somebody else sent it: a process, or the kernel on behalf of a terminal, a timer or a dead parent.
    ///
    /// Not from outside are the kernel's notes about children, and what a write of memini's own drew (SIGPIPE,
    /// SIGXFSZ: the kernel names the writer itself as the sender).
    pub fn is_from_outside(&self, own_pid: u32) -> bool {
        if self.signal == Signal::CHLD {
            return self.code <= 0;
        }
        !(self.code == libc::SI_USER && self.sender == own_pid)
    }
}

/// The descriptor from which blocked signals are read.
#[derive(Debug)]
pub struct SignalDescriptor(OwnedFd);

/// How many signals one read takes at the most.
const BATCH: usize = 16;

/// How many one call takes at the most: real-time signals queue up by the thousand, and the loop has other things to do
/// in between.
pub const ARRIVALS_AT_ONCE: usize = 4 * BATCH;

impl SignalDescriptor {
    /// A descriptor for every signal, close-on-exec and non-blocking.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM, or ENODEV without the kernel's anonymous inodes (signalfd(2)).
    pub fn new() -> io::Result<Self> {
        let set: KernelSet = KernelSet::MAX;
        // As wide as syscall(2) reads them.
        let (new, flags) = (-1 as libc::c_long, libc::c_long::from(libc::SFD_CLOEXEC | libc::SFD_NONBLOCK));
        // SAFETY: the set is 8 bytes as the size argument says; −1 asks for a new descriptor.
        let result = unsafe { libc::syscall(libc::SYS_signalfd4, new, &raw const set, SET_SIZE, flags) };
        match i32::try_from(result) {
            // SAFETY: the kernel just made this descriptor for us alone.
            Ok(descriptor) if descriptor >= 0 => Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) })),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Calls `handle` for the signals that have arrived, in the kernel's order (lowest number first), at most
    /// [`ARRIVALS_AT_ONCE`]. Never blocks.
    pub fn take(&self, mut handle: impl FnMut(Arrival)) {
        for _ in 0..ARRIVALS_AT_ONCE / BATCH {
            let mut batch = [MaybeUninit::<libc::signalfd_siginfo>::uninit(); BATCH];
            // SAFETY: the buffer is writable for the length given.
            let length = unsafe { libc::read(self.0.as_raw_fd(), batch.as_mut_ptr().cast(), size_of_val(&batch)) };
            let Ok(length) = usize::try_from(length) else { return };
            let count = length.checked_div(size_of::<libc::signalfd_siginfo>()).unwrap_or(0);
            for place in batch.iter().take(count) {
                // SAFETY: the kernel has filled the first `count` structures in.
                let info = unsafe { place.assume_init_ref() };
                if info.ssi_signo == libc::SIGBUS.cast_unsigned() && GUARDS.load(Ordering::Relaxed) {
                    let _ = unblock(libc::SIGBUS);
                }
                if let Some(signal) = i32::try_from(info.ssi_signo).ok().and_then(Signal::from_number) {
                    handle(Arrival { signal, code: info.ssi_code, sender: info.ssi_pid });
                }
            }
            if count < BATCH {
                return;
            }
        }
    }
}

impl AsFd for SignalDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_held_back_waits_and_no_other() {
        let blocked = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim();
            u64::from_str_radix(mask, 16).unwrap()
        };
        let before = blocked();
        hold_back(libc::SIGTSTP, true);
        assert_eq!(blocked(), before | 1 << (libc::SIGTSTP - 1));
        hold_back(libc::SIGTSTP, false);
        assert_eq!(blocked(), before);
    }

    #[test]
    fn what_memini_drew_itself_is_not_is_from_outside() {
        let arrival = |signal, code, sender| Arrival { signal, code, sender };
        assert!(!arrival(Signal::PIPE, libc::SI_USER, 7).is_from_outside(7));
        assert!(arrival(Signal::PIPE, libc::SI_USER, 8).is_from_outside(7));
        assert!(arrival(Signal::PIPE, libc::SI_QUEUE, 0).is_from_outside(7));
        assert!(!arrival(Signal::CHLD, libc::CLD_EXITED, 9).is_from_outside(7));
        assert!(arrival(Signal::CHLD, libc::SI_USER, 9).is_from_outside(7));
        assert!(arrival(Signal::HUP, 0x80, 0).is_from_outside(7));
    }
}
