//! A file, or a memfd, that is shared with other processes: words that are read and written with atomics alone.
//!
//! What is behind a shared map may go away under PID 1: a disk that fails, a file system that finds no block for a copy, somebody
//! who shortens the file. The kernel tells by SIGBUS, which would be the end of PID 1 and of the container. So memory of
//! memini's own takes the map's place at once, the write goes there, and what has happened is told by [`SharedWords::is_lost`].

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::{mask, memory};

const PAGE: usize = 4096;
const WORD: usize = size_of::<AtomicU32>();
const WORDS_OF_PAGE: usize = PAGE / WORD;

/// The map that is watched over: one in a process, as PID 1 has one recorder.
static START: AtomicUsize = AtomicUsize::new(0);
static LENGTH: AtomicUsize = AtomicUsize::new(0);
static LOST: AtomicBool = AtomicBool::new(false);

/// A shared map.
#[derive(Debug)]
pub struct SharedWords {
    start: NonNull<AtomicU32>,
    words: usize,
    descriptor: OwnedFd,
    is_watched: bool,
}

impl SharedWords {
    /// Maps the whole file, which has so many bytes.
    ///
    /// # Errors
    /// As mmap(2): ENODEV where a file system cannot; EINVAL for no bytes.
    pub fn map(descriptor: OwnedFd, bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, descriptor.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, words: bytes / WORD, descriptor, is_watched: false })
    }

    /// Should its file go away, memory takes its place. SIGBUS is not blocked any more from here on; one that somebody sends
    /// still comes out of the descriptor of signals.
    ///
    /// # Errors
    /// EBUSY if there is another such map in this process.
    pub fn watch_over(&mut self) -> io::Result<()> {
        let start = self.start.as_ptr().addr();
        if START.compare_exchange(0, start, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        self.is_watched = true;
        LOST.store(false, Ordering::SeqCst);
        LENGTH.store(self.words.saturating_mul(WORD), Ordering::SeqCst);
        // SAFETY: an all-zero sigaction is valid; the handler only does what signal-safety(7) allows.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_bus as extern "C" fn(_, _, _) as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            if libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        mask::unblock(libc::SIGBUS)
    }

    /// Whether the file went away, so that nobody else sees what is written any more.
    pub fn is_lost(&self) -> bool {
        self.is_watched && LOST.load(Ordering::Relaxed)
    }

    /// Asks the kernel to have this word's page in memory soon, without waiting for it.
    pub fn expect(&self, word: usize) {
        self.advise(word, libc::MADV_WILLNEED);
    }

    /// Has this word's page in memory, to be written to.
    pub fn touch(&self, word: usize) {
        if let Some(word) = self.get(word) {
            // It has to be a store, which the compiler would make a load: around a page that is read for the first time the
            // kernel maps fifteen others.
            word.fetch_or(std::hint::black_box(0), Ordering::Relaxed);
        }
    }

    /// Lets this word's page go: it stays in the file, and costs this process nothing any more. If it was locked, it will be again
    /// with the next store.
    pub fn release(&self, word: usize) {
        if let Some(start) = self.page(word) {
            memory::let_go(start.addr(), start.addr().saturating_add(PAGE));
        }
    }

    fn advise(&self, word: usize, advice: libc::c_int) {
        if let Some(start) = self.page(word) {
            // SAFETY: the page lies in our own map, which is shared: what was written stays in the file.
            unsafe { libc::madvise(start.cast(), PAGE, advice) };
        }
    }

    fn page(&self, word: usize) -> Option<*mut AtomicU32> {
        let first = word.checked_div(WORDS_OF_PAGE)?.checked_mul(WORDS_OF_PAGE)?;
        let end = first.checked_add(WORDS_OF_PAGE)?;
        // SAFETY: the whole page is within the map.
        (end <= self.words).then(|| unsafe { self.start.as_ptr().add(first) })
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU32];

    fn deref(&self) -> &[AtomicU32] {
        // SAFETY: `words` atomics are mapped from `start` on as long as `self` lives; every bit pattern is valid, and what other
        // processes write meanwhile is what atomics are for. Should the file end before the map, see above.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl AsFd for SharedWords {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        if self.is_watched {
            LENGTH.store(0, Ordering::SeqCst);
            START.store(0, Ordering::SeqCst);
        }
        // SAFETY: exactly what mmap returned, or what has taken its place; no reference into it can outlive `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words.saturating_mul(WORD)) };
    }
}

/// What happens at SIGBUS: a fault in the map, another fault, or a signal that somebody has sent.
extern "C" fn on_bus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands over valid structures (SA_SIGINFO). mmap, sigaction and rt_tgsigqueueinfo are system calls and
    // touch nothing of the process's but `errno`, which is put back. The range is the map's own, which nothing else is in.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        if (*info).si_code <= 0 {
            // Somebody has sent it. Blocked from now on, and sent again as it came, it is read like all others.
            let context = context.cast::<libc::ucontext_t>();
            libc::sigaddset(&raw mut (*context).uc_sigmask, libc::SIGBUS);
            let (process, thread) = (libc::getpid(), libc::gettid());
            libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info);
        } else if !replace((*info).si_addr().addr()) {
            // A fault of memini's own: it comes again, and ends it.
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
        *errno = before;
    }
}

/// Whether the fault was in the map, and memory is in its place now.
fn replace(address: usize) -> bool {
    let (start, length) = (START.load(Ordering::SeqCst), LENGTH.load(Ordering::SeqCst));
    if !(start..start.saturating_add(length)).contains(&address) {
        return false;
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_FIXED | libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let place = std::ptr::without_provenance_mut(start);
    // SAFETY: exactly the map's own range, which stays mapped and writable.
    let result = unsafe { libc::mmap(place, length, protection, flags, -1, 0) };
    LOST.store(true, Ordering::SeqCst);
    result != libc::MAP_FAILED
}

/// A memfd of this size that nobody can shorten, for where there is no file.
///
/// # Errors
/// EMFILE, ENOMEM, or ENOSYS before Linux 3.17.
pub fn anonymous(name: &std::ffi::CStr, bytes: u64) -> io::Result<OwnedFd> {
    let size = libc::off_t::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: a NUL-terminated name and plain numbers; the descriptor is made for us alone.
    unsafe {
        let number = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let descriptor = OwnedFd::from_raw_fd(number);
        if libc::ftruncate(number, size) != 0 || libc::fcntl(number, libc::F_ADD_SEALS, seals) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    fn file(bytes: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        file
    }

    #[test]
    fn what_is_written_stands_in_the_file_also_after_a_page_was_let_go() {
        let file = file(3 * 4096);
        let map = SharedWords::map(file.try_clone().unwrap().into(), 3 * 4096).unwrap();
        map[1024].store(7, Ordering::Relaxed);
        map.expect(2048);
        map.touch(2048);
        map.release(1024);
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 4096).unwrap();
        assert_eq!((u32::from_ne_bytes(bytes), map[1024].load(Ordering::Relaxed)), (7, 7));
        // Beyond the end nothing happens.
        map.touch(3072);
        map.release(usize::MAX);
        assert_eq!(map.len(), 3072);
    }

    /// Regression test: a page that was let go was not locked any more when the ring came round to it.
    #[test]
    fn what_was_locked_is_locked_again_when_it_is_written_to() {
        let file = file(3 * 4096);
        let map = SharedWords::map(file.into(), 3 * 4096).unwrap();
        let start = map.start.as_ptr().addr();
        // SAFETY: exactly the map's own range.
        assert_eq!(unsafe { libc::mlock(map.start.as_ptr().cast(), 3 * 4096) }, 0);
        map.touch(1024);
        map.release(1024);
        map.touch(1024);
        let maps = procfs::process::Process::myself().unwrap().smaps().unwrap();
        let is_ours = |map: &&procfs::process::MemoryMap| {
            map.address.0 >= start as u64 && map.address.1 <= (start + 3 * 4096) as u64
        };
        let locked: u64 = maps.iter().filter(is_ours).map(|map| map.extension.map["Locked"]).sum();
        assert_eq!(locked, 12 << 10, "{maps:?}");
    }

    /// In one test, as it is one signal of one process.
    #[test]
    fn a_file_that_goes_away_costs_the_file_and_not_the_process() {
        let file = file(2 * 4096);
        let mut map = SharedWords::map(file.try_clone().unwrap().into(), 2 * 4096).unwrap();
        map.watch_over().unwrap();
        assert!(!map.is_lost());
        let mut other = SharedWords::map(file.try_clone().unwrap().into(), 4096).unwrap();
        assert_eq!(other.watch_over().unwrap_err().raw_os_error(), Some(libc::EBUSY));
        file.set_len(0).unwrap();
        map[1024].store(7, Ordering::Relaxed);
        assert!(map.is_lost());
        assert_eq!(map[1024].load(Ordering::Relaxed), 7);
        drop(map);
        assert!(other.watch_over().is_ok());
    }
}
