//! Memory of memini's own: locking, the ballast, and maps that a worker can read.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// Since Linux 4.4; the C libraries' headers name it only of late.
const MCL_ONFAULT: libc::c_int = 4;

/// Keeps memini's pages in memory, those that it has touched and those that it will touch: it must run when nothing
/// can be read back.
///
/// # Errors
/// ENOMEM or EPERM where RLIMIT_MEMLOCK does not allow it (the limit is compared with all that is mapped).
pub fn lock() -> io::Result<()> {
    let mut flags = libc::MCL_CURRENT | MCL_ONFAULT;
    // Under MCL_FUTURE a mapping beyond the limit fails, and a failed allocation would end memini: only where there is
    // room for everything that it will ever map.
    if memory_lock_limit() >= ROOM_FOR_FUTURE {
        flags |= libc::MCL_FUTURE;
    }
    // SAFETY: takes flags only.
    let result = unsafe { libc::mlockall(flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// memini maps about 2 MiB, and 4 MiB of ballast.
const ROOM_FOR_FUTURE: u64 = 8 << 20;

/// RLIMIT_MEMLOCK in bytes; 8 MiB since Linux 5.16, 64 KiB before.
fn memory_lock_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is filled in by the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if result == 0 { limit.rlim_cur } else { 0 }
}

/// How much of the stack the start may have used; the kernel leaves a gap of 1 MiB below a stack (`stack_guard_gap`).
const USED_STACK: usize = 128 << 10;

/// Enough for the frames of [`release_stack`] itself and of the call that it makes.
const LIVE_STACK: usize = 8 << 10;

/// Gives pages back that deeper calls have touched on the stack: they would count, and be locked, for good.
#[inline(never)]
pub fn release_stack() {
    let here = 0u8;
    let end = (&raw const here).addr().saturating_sub(LIVE_STACK) & !(PAGE - 1);
    let start = std::ptr::without_provenance_mut(end.saturating_sub(USED_STACK));
    // SAFETY: the range ends below every frame that is live, and nothing else is mapped so near below a stack; what
    // is released reads as zero when the stack grows there again. Where the stack is shorter the call says ENOMEM,
    // having done what it could.
    unsafe { libc::madvise(start, USED_STACK, libc::MADV_DONTNEED) };
}

/// Since Linux 5.18: MADV_DONTNEED also where memory is locked.
const MADV_DONTNEED_LOCKED: libc::c_int = 24;

/// Since Linux 4.4, as MCL_ONFAULT.
const MLOCK_ONFAULT: libc::c_int = 1;

const PAGE: usize = 4096;

/// Gives back what is not in use of the program itself, but for what PID 1 runs when memory is short. The other code and constants
/// stay in the page cache, and count for memini again as soon as they are used. What the start needs, or a worker, would stay mapped
/// for good, and with each page the fifteen around it.
pub fn release_program() {
    // SAFETY: plain numbers.
    let (table, count) = unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM)) };
    let table = std::ptr::with_exposed_provenance::<Header>(usize::try_from(table).unwrap_or(0));
    if table.is_null() || !table.is_aligned() {
        return;
    }
    let headers = (0..usize::try_from(count).unwrap_or(0)).map(|index| {
        // SAFETY: the kernel has told where the program's own table is and how many entries it has (getauxval(3)); it is mapped
        // as long as the program is.
        unsafe { table.add(index).read() }
    });
    // The address of the table, less that which it is linked to, is by how much all of it was moved.
    let linked = headers.clone().find(|header| header.p_type == libc::PT_PHDR).map(|header| header.p_vaddr);
    let moved =
        linked.and_then(|linked| usize::try_from(linked).ok()).map_or(0, |linked| table.addr().wrapping_sub(linked));
    let unwinding = headers.clone().find(|header| header.p_type == libc::PT_GNU_EH_FRAME);
    let unwinding = unwinding.and_then(|header| usize::try_from(header.p_vaddr).ok());
    let kept = kept(unwinding.map(|start| start.wrapping_add(moved)));
    for header in headers.filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let Ok(start) = usize::try_from(header.p_vaddr) else { continue };
        let Ok(length) = usize::try_from(header.p_memsz) else { continue };
        let start = start.wrapping_add(moved);
        let (first, end) = (start & !(PAGE - 1), start.wrapping_add(length));
        let mut from = first;
        for keep in kept.iter().filter(|keep| (first..end).contains(&keep.start)) {
            let_go(from, keep.start);
            from = keep.end;
        }
        let_go(from, end);
    }
    for address in kept.into_iter().flat_map(|keep| keep.step_by(PAGE)) {
        let place: *const u8 = std::ptr::with_exposed_provenance(address);
        // SAFETY: in the program's own code or constants, which are mapped and can be read.
        unsafe { place.read_volatile() };
    }
}

/// Gives back whole pages of a file that nobody can write to, or that are shared with the file. What was locked is locked again
/// as soon as it is touched.
pub(super) fn let_go(start: usize, end: usize) {
    let Some(length) = end.checked_sub(start).filter(|length| *length > 0) else { return };
    let place: *mut libc::c_void = std::ptr::without_provenance_mut(start);
    // SAFETY: what is given back stands in the file, from which it comes back when it is needed.
    unsafe {
        if libc::madvise(place, length, MADV_DONTNEED_LOCKED) == 0
            || libc::madvise(place, length, libc::MADV_DONTNEED) == 0
        {
            return;
        }
        // An older kernel, and it is locked: what is touched from here on is locked again.
        if libc::munlock(place, length) == 0 {
            libc::madvise(place, length, libc::MADV_DONTNEED);
            libc::syscall(libc::SYS_mlock2, place, length, MLOCK_ONFAULT);
        }
    }
}

/// What PID 1 runs when memory is short is in memory before, and locked with the rest: where nothing can be read back, it would
/// come too late. That is the code that resident.ld has put together, and all constants, up to where what unwinds a panic begins.
/// Whole pages, in their order.
#[cfg(resident)]
fn kept(unwinding: Option<usize>) -> [Range<usize>; 2] {
    unsafe extern "C" {
        static memini_resident_start: u8;
        static memini_resident_end: u8;
        static etext: u8;
    }
    let code = (&raw const memini_resident_start).expose_provenance()..(&raw const memini_resident_end).addr();
    let constants = (&raw const etext).expose_provenance()..unwinding.unwrap_or(0);
    [code, constants].map(|Range { start, end }| start & !(PAGE - 1)..end.saturating_add(PAGE - 1) & !(PAGE - 1))
}

#[cfg(not(resident))]
const fn kept(_: Option<usize>) -> [Range<usize>; 0] {
    []
}

#[cfg(target_pointer_width = "64")]
type Header = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "32")]
type Header = libc::Elf32_Phdr;

/// A private or shared mapping, unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    fn new(length: usize, flags: libc::c_int, descriptor: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let descriptor = descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd());
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, descriptor, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).map(|start| Self { start, length }).ok_or_else(io::Error::last_os_error)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap returned; no reference into it can outlive `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Memory that is held so that it can be let go: at the limit, a worker could not even be started.
///
/// Children do not inherit it (MADV_DONTFORK): in a child it would survive the parent's letting go.
#[derive(Debug)]
pub struct Ballast {
    _mapping: Mapping,
}

impl Ballast {
    /// Takes and touches this many bytes.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn take(length: usize) -> io::Result<Self> {
        let mapping = Mapping::new(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None)?;
        // SAFETY: the advice is for our own mapping, which nobody else knows of; every touched byte lies in it.
        unsafe {
            libc::madvise(mapping.start.as_ptr().cast(), length, libc::MADV_DONTFORK);
            for offset in (0..length).step_by(4096) {
                mapping.start.as_ptr().add(offset).write_volatile(1);
            }
        }
        Ok(Self { _mapping: mapping })
    }
}

/// An append-only buffer in a memfd: PID 1 appends without a system call, a worker reads through the descriptor.
#[derive(Debug)]
pub struct SharedBuffer {
    mapping: Mapping,
    descriptor: OwnedFd,
    length: usize,
}

impl SharedBuffer {
    /// A buffer with room for `capacity` bytes; pages are taken as they are written.
    ///
    /// # Errors
    /// EMFILE, ENOMEM, or ENOSYS before Linux 3.17 (memfd_create(2)).
    pub fn new(capacity: usize) -> io::Result<Self> {
        // SAFETY: a NUL-terminated name; the kernel makes a descriptor for us alone.
        let descriptor =
            unsafe { libc::memfd_create(c"memini-journal".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: see above.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let size = libc::off_t::try_from(capacity).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
        // SAFETY: plain numbers.
        if unsafe { libc::ftruncate(descriptor.as_raw_fd(), size) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // Any process of the same user can open it through /proc. Were it shortened, the next touch would be a SIGBUS:
        // the end of PID 1, and of the container.
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: plain numbers.
        if unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let mapping = Mapping::new(capacity, libc::MAP_SHARED, Some(descriptor.as_fd()))?;
        Ok(Self { mapping, descriptor, length: 0 })
    }

    /// How many bytes are in it.
    pub fn length(&self) -> usize {
        self.length
    }

    /// What is still free, to be written to and then kept with [`SharedBuffer::advance`].
    pub fn free(&mut self) -> &mut [u8] {
        let rest = self.mapping.length.saturating_sub(self.length);
        // SAFETY: `length` never exceeds the mapping, so start and rest lie in it, and the seal keeps the file as long as
        // the mapping. `&mut self` keeps it to one holder in this process; a worker reads other bytes, those before
        // `length`.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.start.as_ptr().add(self.length), rest) }
    }

    /// Keeps the first `count` bytes of what was free.
    pub fn advance(&mut self, count: usize) {
        self.length = self.length.saturating_add(count).min(self.mapping.length);
    }
}

impl AsFd for SharedBuffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_is_appended_can_be_read_through_the_descriptor() {
        let mut buffer = SharedBuffer::new(8192).unwrap();
        buffer.free()[..5].copy_from_slice(b"hello");
        buffer.advance(5);
        let file = std::fs::File::from(buffer.as_fd().try_clone_to_owned().unwrap());
        let mut read = [0; 5];
        file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"hello");
        assert_eq!(buffer.free().len(), 8192 - 5);
        buffer.advance(usize::MAX);
        assert!(buffer.free().is_empty());
    }

    #[test]
    fn nobody_can_shorten_the_buffer_under_pid_1() {
        let buffer = SharedBuffer::new(8192).unwrap();
        let path = format!("/proc/self/fd/{}", buffer.as_fd().as_raw_fd());
        let other = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        assert_eq!(other.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn ballast_counts_as_memory_in_use_and_is_let_go() {
        let resident = || -> u64 {
            let statm = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let line = statm.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let before = resident();
        let ballast = Ballast::take(32 << 20).unwrap();
        let held = resident();
        drop(ballast);
        let after = resident();
        // Other tests run beside this one: only the order of magnitude counts.
        assert!(held >= before + (24 << 10), "{before} {held} kB");
        assert!(after + (16 << 10) <= held, "{held} {after} kB");
    }
}
