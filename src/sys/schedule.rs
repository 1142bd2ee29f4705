//! Asks the scheduler to run memini soon after it is woken, by what is allowed.

use std::io;
use std::time::Duration;

/// struct sched_attr (sched_setattr(2)), first version and the fields that are used here.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SCHED_OTHER: u32 = 0;
const SCHED_FIFO: u32 = 1;

/// Children start with the normal policy again: neither the app nor a worker inherits anything.
const RESET_ON_FORK: u64 = 0x01;

/// The shortest slice that EEVDF takes, in nanoseconds (kernel/sched/syscalls.c): a task with a short slice is picked
/// earlier after a wake-up.
const SLICE: u64 = 100_000;

/// What the scheduler granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// SCHED_FIFO: runs as soon as it is woken.
    Fifo,
    /// A short slice under EEVDF (Linux 6.12 and later).
    ShortSlice,
    /// Nothing: as any other process.
    Normal,
}

impl Latency {
    /// For the start-up line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fifo => "SCHED_FIFO",
            Self::ShortSlice => "short slice",
            Self::Normal => "normal",
        }
    }
}

/// The calling thread, and no flags: as wide as syscall(2) reads them.
const OWN: libc::c_long = 0;
const NO_FLAGS: libc::c_long = 0;

fn set(mut attributes: Attributes) -> io::Result<()> {
    attributes.size = size_of::<Attributes>() as u32;
    // SAFETY: the structure is as long as its own size field says; 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, OWN, &raw const attributes, NO_FLAGS) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for the best that is allowed.
pub fn ask_for_low_latency() -> Latency {
    let fifo = Attributes { policy: SCHED_FIFO, flags: RESET_ON_FORK, priority: 1, ..Attributes::default() };
    if set(fifo).is_ok() {
        return Latency::Fifo;
    }
    // Kernels before 6.12 accept the slice and ignore it.
    if set(other(SLICE)).is_ok() { Latency::ShortSlice } else { Latency::Normal }
}

/// Gives back what was granted.
pub fn ask_for_nothing() {
    // Where it is refused there was nothing to give back.
    let _ = set(other(0));
}

/// The normal policy at the nice value that memini was started with. A slice of 0 is the kernel's own.
fn other(slice: u64) -> Attributes {
    // SAFETY: getpriority(2) takes plain numbers. −1 is a possible answer and as good as any.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    Attributes { policy: SCHED_OTHER, flags: RESET_ON_FORK, nice, runtime: slice, ..Attributes::default() }
}

/// How long this thread has had a processor so far.
pub fn own_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) fills in what it is given a valid pointer to; where it fails, zero stays.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}

/// How many cores this process may run on at the same time (sched_getaffinity(2)); at least 1.
pub fn usable_cores() -> u32 {
    // SAFETY: an all-zero set is valid, and the call writes no more than the size that it is told.
    let count = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return 1;
        }
        libc::CPU_COUNT(&set)
    };
    u32::try_from(count).unwrap_or(1).max(1)
}
