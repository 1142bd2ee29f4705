//! The heap dump: the JVM writes it into a pipe, and what comes out is counted, stripped of contents where that is
//! wanted, compressed and kept. No room on the disk is needed for the raw dump, and no page cache.
//!
//! | JDK | way |
//! |---|---|
//! | 8 to 16 | these insist on making the file themselves: it goes to the JVM's /tmp first |
//! | 17 to 21 | through a pipe, or a FIFO |
//! | 22 and later | names and classes through one pipe, objects through a second; see [`Pair`] |
//!
//! A path to a pipe without a name, `/proc/PID/fd/N`, is better than a FIFO: to open it never waits, and fails once
//! memini is gone. Who opens a FIFO without a reader waits for one, in vain if memini was killed in between. But the
//! kernel lets only those through who have memini's rights.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use flate2::write::GzEncoder;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, mkfifoat, symlinkat, unlinkat};

use super::attach::{Answer, Deadline, Jvm, cannot, quoted};
use super::histogram::{Heap, Version};
use super::hprof::{Flaw, Scan, Tables};
use super::kept::{Pages, member, padding};
use super::target::Target;
use crate::capture::census::{Group, Refusal};
use crate::incident::folder::Folder;
use crate::sys::pages;
use crate::sys::poll::{Interest, Wait};
use crate::units::Size;

/// How much is read at once. A pipe holds 64 KiB.
const CHUNK: usize = 64 * 1024;
/// The room for what the JVM still holds back of the first part when the second begins: its buffer, 1 MiB.
const GAP: usize = (1 << 20) + (64 << 10);
/// How much may come late of the first part; compressed. Stacks of virtual threads come there.
const MOST_LATE: usize = 8 << 20;
/// How long the JVM may take to say how it went, once its dump has ended.
const LAST_WORD: Duration = Duration::from_secs(5);
/// How long it usually takes to say so, at the most.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often the pages of a file that the JVM writes are given back.
const GLANCE: Duration = Duration::from_millis(20);
/// What a dump has besides objects; generously. Bytes.
const BESIDES: u64 = 64 << 20;
/// The end of each dump: its tag, no time, no length.
const END: [u8; 9] = [0x2C, 0, 0, 0, 0, 0, 0, 0, 0];

/// What kind of dump.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// Only what is reachable. That costs a full collection of garbage before.
    pub live: bool,
    /// Contents of primitive fields and arrays become zero. What is left are names, sizes and who refers to whom.
    pub redact: bool,
    /// The dump is cut off at about so many bytes, compressed.
    pub cap: u64,
    /// The dump is cut off after so long a time; the JVM stands still meanwhile. One that writes to its own disk goes on
    /// to the end all the same.
    pub time: Duration,
    /// So much of the disk that a JVM writes to by itself stays free. Bytes.
    pub reserve: u64,
    /// When the process that is meant has started; `None`: it is the one that has the number now.
    pub start: Option<u64>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { live: false, redact: false, cap: 1 << 30, time: Duration::from_secs(60), reserve: 0, start: None }
    }
}

/// A dump that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Dump {
    /// The runtime and its version.
    pub runtime: String,
    /// How long the file is. Bytes.
    pub size: u64,
    /// How long the dump was that the JVM wrote. Bytes.
    pub raw: u64,
    /// Whether all of it is there.
    pub whole: bool,
    /// What is in it by type, the most bytes first.
    pub groups: Vec<Group>,
    /// For how long the JVM stood still, at the most.
    pub pause: Duration,
    /// What a reader must know, a sentence each.
    pub remarks: Vec<String>,
}

/// Takes a heap dump and keeps it in the folder under this name, which should end in `.hprof.gz`.
///
/// # Errors
/// [`Refusal::NotMine`] for another kind of process, [`Refusal::Cannot`] with cause and consequence. Nothing is left
/// then, neither in the folder nor in the JVM's /tmp.
pub fn dump(pid: i32, folder: &Folder, name: &str, wishes: Wishes) -> Result<Dump, Refusal> {
    let jvm = Jvm::attach(pid, wishes.start, Deadline::after(wishes.time.saturating_add(LAST_WORD)))?;
    let partial = format!("{name}.partial");
    let unwritable = |error: io::Error| {
        Refusal::Cannot(format!("cannot write {}: {error}; there is no heap dump", folder.path().join(name).display()))
    };
    let file = folder.create(&partial).map_err(unwritable)?;
    if fstatfs(&file).is_ok_and(|system| is_in_memory(system.filesystem_type())) {
        let _ = folder.remove(&partial);
        return Err(unwritable(io::Error::other("it is on a tmpfs, whose content takes memory")));
    }
    let taken = take(&jvm, file, wishes);
    let renamed = taken.and_then(|dump| folder.rename(&partial, name).map(|()| dump).map_err(unwritable));
    if renamed.is_err() {
        let _ = folder.remove(&partial);
    }
    renamed
}

fn is_in_memory(kind: FsType) -> bool {
    /// linux/magic.h
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
    kind == TMPFS_MAGIC || kind == RAMFS_MAGIC
}

fn take(jvm: &Jvm, file: File, wishes: Wishes) -> Result<Dump, Refusal> {
    clear(jvm);
    let version = Version::parse(&jvm.command("VM.version")?);
    let feature = version.feature().unwrap_or(0);
    let mut place = Place::make(jvm)?;
    let end = Deadline::after(wishes.time);
    let keeper = Keeper::new(file, wishes);
    let reachable = may_reach_us(jvm);
    let mut taken = match feature {
        22.. if reachable => through_pair(jvm, &mut place, keeper, wishes, end),
        17..=21 => through_one(jvm, &mut place, keeper, wishes, end, reachable),
        _ => by_disk(jvm, &mut place, keeper, wishes, end),
    }?;
    taken.runtime = version.runtime();
    Ok(taken)
}

fn may_reach_us(jvm: &Jvm) -> bool {
    let own =
        Target::open(crate::sys::process::own_id().get()).and_then(|own| own.status().map_err(|_| Refusal::NotMine));
    // In another PID namespace our number means nothing, or somebody else.
    jvm.status().own_pid == jvm.pid() && own.is_ok_and(|own| own.is_open_to(jvm.status()))
}

/// A private folder in the JVM's /tmp, its own, in which both meet. It goes with everything in it.
struct Place<'a> {
    jvm: &'a Jvm,
    name: String,
    /// Locked, so that nobody takes it for one that was left.
    folder: Flock<OwnedFd>,
}

impl<'a> Place<'a> {
    fn make(jvm: &'a Jvm) -> Result<Self, Refusal> {
        use std::hash::{BuildHasher, Hasher};
        let fail = |cause: &str| cannot(jvm.pid(), &format!("no folder for its dump can be made in its /tmp: {cause}"));
        let _as_target = jvm.guise()?;
        // Who has guessed the name has won nothing: then it is not ours, and not used.
        let name = format!("{PREFIX}{:016x}", std::hash::RandomState::new().build_hasher().finish());
        mkdirat(jvm.temporary(), name.as_str(), Mode::S_IRWXU).map_err(|error| fail(error.desc()))?;
        let folder = open_place(jvm, &name).map_err(|error| fail(error.desc()))?;
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(folder) => Ok(Self { jvm, name, folder }),
            Err((_, error)) => Err(fail(error.desc())),
        }
    }

    /// As the JVM sees it.
    fn path(&self) -> String {
        format!("/tmp/{}/heap", self.name)
    }

    /// Makes a FIFO and opens it for reading.
    fn fifo(&self) -> Result<Channel, Refusal> {
        let _as_target = self.jvm.guise()?;
        mkfifoat(&*self.folder, "heap", Mode::S_IRUSR | Mode::S_IWUSR).map_err(|error| self.fail(error.desc()))?;
        let reader = open_fifo(&self.folder).map_err(|error| self.fail(error.desc()))?;
        Ok(Channel { reader, writer: None })
    }

    /// Makes a pipe that can be opened for writing under this name.
    fn pipe(&self, name: &str) -> Result<Channel, Refusal> {
        let (reader, writer) = crate::sys::spawn::pipe().map_err(|error| self.fail(&error.to_string()))?;
        let _as_target = self.jvm.guise()?;
        let path = format!("/proc/{}/fd/{}", crate::sys::process::own_id(), reader.as_raw_fd());
        symlinkat(path.as_str(), &*self.folder, name).map_err(|error| self.fail(error.desc()))?;
        Ok(Channel { reader: File::from(reader), writer: Some(writer) })
    }

    fn fail(&self, cause: &str) -> Refusal {
        cannot(self.jvm.pid(), &format!("no pipe for its dump can be made in /tmp/{}: {cause}", self.name))
    }

    /// Makes the paths in it lead nowhere, at once: what the JVM has not opened yet it can neither open nor make any
    /// more. To be called before the pipes are closed.
    fn vanish(&mut self) {
        let Ok(_as_target) = self.jvm.guise() else { return };
        let other = format!("{}.gone", self.name);
        if renameat(self.jvm.temporary(), self.name.as_str(), self.jvm.temporary(), other.as_str()).is_ok() {
            self.name = other;
        }
    }

    /// Opens the file that the JVM writes, if it is there, and takes its name away: nobody finds it any more, and it is gone when
    /// both have closed it, even if memini is killed. The JVM keeps it open to its end.
    fn seize(&self) -> nix::Result<File> {
        let _as_target = self.jvm.guise().map_err(|_| Errno::EPERM)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&*self.folder, "heap", flags, Mode::empty())?;
        // If it cannot be, it goes with the folder.
        let _ = unlinkat(&*self.folder, "heap", UnlinkatFlags::NoRemoveDir);
        Ok(File::from(file))
    }
}

/// Removes what a memini that was killed has left in the JVM's /tmp, and lets a JVM go on that still waits to open a FIFO there. To
/// be done at each look: what was left may take the room without which there is no next dump.
pub(super) fn clear(jvm: &Jvm) {
    let Ok(_as_target) = jvm.guise() else { return };
    let path = format!("/proc/self/fd/{}", jvm.temporary().as_raw_fd());
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let Ok(folder) = open_place(jvm, name) else { continue };
        // Between its making and its locking it must not be taken for one that was left.
        let age = entry.metadata().ok().and_then(|status| status.modified().ok()?.elapsed().ok());
        if age.is_none_or(|age| age < ABANDONED) {
            continue;
        }
        // Who still uses it holds its lock.
        if let Ok(folder) = Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            drop(Place { jvm, name: name.to_owned(), folder });
        }
    }
}

/// So long after the last change in it, a folder that nobody has locked was left.
const ABANDONED: Duration = Duration::from_secs(60);

/// What the names of these folders begin with.
const PREFIX: &str = ".memini-";

/// Opens a folder in the JVM's /tmp, if it is private to the JVM's user.
fn open_place(jvm: &Jvm, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = openat(jvm.temporary(), name, flags, Mode::empty())?;
    let status = fstat(&folder)?;
    if status.st_uid == jvm.status().user() && status.st_mode & 0o077 == 0 { Ok(folder) } else { Err(Errno::EPERM) }
}

/// Opens the FIFO for reading, without waiting. Whoever waits to write to it goes on.
fn open_fifo(folder: &OwnedFd) -> nix::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fifo = openat(folder, "heap", flags, Mode::empty())?;
    let kind = SFlag::from_bits_truncate(fstat(&fifo)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFIFO { Ok(File::from(fifo)) } else { Err(Errno::EEXIST) }
}

/// One way from the JVM to memini.
struct Channel {
    reader: File,
    /// Held until the JVM has it open too, so that it does not look ended before.
    writer: Option<OwnedFd>,
}

/// What came through a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nobody has it open: nothing more, or nothing yet.
    End,
}

impl Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Came> {
        match self.reader.read(buffer) {
            Ok(0) => Ok(Came::End),
            Ok(count) => {
                self.writer = None;
                Ok(Came::Bytes(count))
            }
            Err(error) if is_passing(&error) => Ok(Came::Nothing),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let _as_target = self.jvm.guise();
        let _ = open_fifo(&self.folder);
        for name in ["heap", "heap.p0"] {
            let _ = unlinkat(&*self.folder, name, UnlinkatFlags::NoRemoveDir);
        }
        let _ = unlinkat(self.jvm.temporary(), self.name.as_str(), UnlinkatFlags::RemoveDir);
    }
}

/// Why a dump was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Size,
    Time,
    Flaw(Flaw),
}

/// Reads what comes, and keeps it.
struct Keeper {
    tables: Tables,
    output: GzEncoder<Pages>,
    redact: bool,
    cap: u64,
    raw: u64,
    /// Where the dump made no sense any more: from there on it is kept as it is.
    flaw: Option<Flaw>,
}

impl Keeper {
    fn new(file: File, wishes: Wishes) -> Self {
        Self {
            tables: Tables::new(wishes.redact),
            output: member(Pages::new(file)),
            redact: wishes.redact,
            cap: wishes.cap,
            raw: 0,
            flaw: None,
        }
    }

    /// Reads a chunk; what may not be kept is made zero in it. Returns how much of it ends with a whole record.
    fn look(&mut self, scan: &mut Scan, bytes: &mut [u8]) -> Result<usize, Cut> {
        self.raw = self.raw.saturating_add(bytes.len() as u64);
        if self.flaw.is_some() {
            return Ok(bytes.len());
        }
        match scan.feed(&mut self.tables, bytes) {
            Ok(border) => Ok(border),
            // Nobody knows any more what is a secret.
            Err(flaw) if self.redact => Err(Cut::Flaw(flaw)),
            Err(flaw) => {
                self.flaw = Some(flaw);
                Ok(bytes.len())
            }
        }
    }

    fn is_full(&self) -> bool {
        self.output.get_ref().at() >= self.cap
    }

    /// Reads a chunk and keeps all of it.
    fn keep(&mut self, scan: &mut Scan, bytes: &mut [u8]) -> io::Result<Option<Cut>> {
        if let Err(cut) = self.look(scan, bytes) {
            return Ok(Some(cut));
        }
        self.output.write_all(bytes)?;
        Ok(self.is_full().then_some(Cut::Size))
    }

    /// Ends the file, and tells of it.
    fn end(self, cut: Option<Cut>, told: &Told, whole: bool, pause: Duration) -> io::Result<Dump> {
        let size = self.output.finish()?.finish()?;
        let mut remarks = Vec::new();
        match cut {
            Some(Cut::Size) => remarks.push(format!("cut off at {}: the dump is not whole", Size(self.cap))),
            Some(Cut::Time) => remarks.push("cut off when its time was over: the dump is not whole".to_owned()),
            Some(Cut::Flaw(flaw)) => remarks.push(format!("cut off at byte {}: {}", flaw.at, flaw.what)),
            None if !whole => remarks.push(format!("the dump is not whole: the JVM says {}", told.said)),
            None => {}
        }
        if let Some(flaw) = self.flaw {
            remarks.push(format!("what is behind byte {} was kept but not counted: {}", flaw.at, flaw.what));
        }
        if self.redact {
            remarks.push("contents of primitive fields and arrays are zeroed; literals of the code are not".to_owned());
        }
        Ok(Dump {
            runtime: String::new(),
            size,
            raw: self.raw,
            whole: whole && cut.is_none() && self.flaw.is_none(),
            groups: self.tables.groups(),
            pause,
            remarks,
        })
    }
}

/// What the JVM said at the end.
struct Told {
    said: String,
    success: bool,
}

impl Told {
    /// JVMs answer 0 for failures as well, so the text counts.
    fn new(answer: Result<String, Refusal>) -> Self {
        match answer {
            Ok(text) => {
                let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
                Self { said: quoted(line), success: text.contains("Heap dump file created") }
            }
            Err(refusal) => Self { said: refusal.to_string(), success: false },
        }
    }
}

fn request(place: &Place<'_>, live: bool, overwrite: bool) -> String {
    let all = if live { "" } else { "-all " };
    let overwrite = if overwrite { "-overwrite " } else { "" };
    format!("GC.heap_dump {all}{overwrite}{}", place.path())
}

fn lost(jvm: &Jvm, error: &io::Error) -> Refusal {
    cannot(jvm.pid(), &format!("its dump cannot be kept: {error}"))
}

fn through_one(
    jvm: &Jvm,
    place: &mut Place<'_>,
    mut keeper: Keeper,
    wishes: Wishes,
    end: Deadline,
    reachable: bool,
) -> Result<Dump, Refusal> {
    let mut channel = if reachable { place.pipe("heap") } else { place.fifo() }?;
    let mut answer = jvm.ask("jcmd", [&request(place, wishes.live, true), "", ""])?;
    let asked = answer.asked();
    let mut scan = Scan::file();
    let mut buffer = vec![0; CHUNK];
    let cut = loop {
        let ready = match ready(&[&channel], &answer, end) {
            Ok(ready) if ready.is_empty() => break Ok(Some(Cut::Time)),
            Ok(ready) => ready,
            Err(error) => break Err(error),
        };
        match channel.read(&mut buffer) {
            Ok(Came::End) if scan.seen() > 0 => break Ok(None),
            // It has not even begun, and says why.
            Ok(Came::End | Came::Nothing) if ready.contains(&ANSWER) && answer.has_ended() => break Ok(None),
            Ok(Came::End | Came::Nothing) => {}
            Ok(Came::Bytes(count)) => match keeper.keep(&mut scan, buffer.get_mut(..count).unwrap_or_default()) {
                Ok(None) => {}
                other => break other,
            },
            Err(error) => break Err(error),
        }
    };
    let pause = asked.elapsed();
    if !matches!(cut, Ok(None)) {
        place.vanish();
    }
    // The JVM gets EPIPE for the rest, says that the dump is incomplete, and goes on.
    drop(channel);
    let cut = cut.map_err(|error| lost(jvm, &error))?;
    conclude(jvm, place, keeper, answer, cut, scan.is_between_records(), pause)
}

/// Waits for the last word, and ends the file.
fn conclude(
    jvm: &Jvm,
    place: &Place<'_>,
    keeper: Keeper,
    mut answer: Answer,
    cut: Option<Cut>,
    at_border: bool,
    pause: Duration,
) -> Result<Dump, Refusal> {
    if !answer.ends_within(PATIENCE) {
        // It may have been on its way into the FIFO when that was closed.
        let _as_target = jvm.guise()?;
        let _ = open_fifo(&place.folder);
    }
    let told = Told::new(answer.within(LAST_WORD).text());
    if keeper.raw == 0 {
        return Err(cannot(jvm.pid(), &format!("it writes no dump but says {}", told.said)));
    }
    let whole = told.success && at_border;
    keeper.end(cut, &told, whole, pause).map_err(|error| lost(jvm, &error))
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The number of the answer among what can be ready.
const ANSWER: usize = usize::MAX;

/// Waits until one of the channels, by its place, or the answer can be read; empty when the time is over.
fn ready(channels: &[&Channel], answer: &Answer, end: Deadline) -> io::Result<Vec<usize>> {
    loop {
        let Some(left) = end.left() else { return Ok(Vec::new()) };
        let mut wait = Wait::new();
        let channels = channels.iter().enumerate();
        channels.for_each(|(place, channel)| wait.add(channel.reader.as_fd(), Interest::Read, place));
        wait.add(answer.stream().as_fd(), Interest::Read, ANSWER);
        wait.wait(Some(left))?;
        let ready: Vec<usize> = wait.ready().collect();
        if !ready.is_empty() {
            return Ok(ready);
        }
    }
}

/// The two parts of a dump of JDK 22 or later.
///
/// These write names and classes to the path that they are given, and the objects to `PATH.p0`, which they append to the
/// former at the end. A plain file there would have the size of the heap, and would be charged to the cgroup. A FIFO
/// there would be worse: the JVM opens it within a safepoint, and if memini were killed just then, the app would hang
/// for ever. So it leads to a pipe without a name. Once that is open, an empty file takes its place, so that there is
/// nothing to append.
///
/// Of the first part the last stretch, up to the JVM's buffer, comes only after the second. Its place in the file is
/// left free and filled then: readers want names before objects.
struct Pair {
    keeper: Keeper,
    /// Of the first part, what is behind its last whole record.
    held: Vec<u8>,
    /// The first part when the second has begun: where its place is, and what has come of it.
    late: Option<(u64, GzEncoder<Vec<u8>>)>,
}

impl Pair {
    /// A chunk of the first part.
    fn first(&mut self, scan: &mut Scan, bytes: &mut [u8]) -> io::Result<Option<Cut>> {
        let border = match self.keeper.look(scan, bytes) {
            Ok(border) => border,
            Err(cut) => return Ok(Some(cut)),
        };
        match &mut self.late {
            None => {
                if border > 0 {
                    self.keeper.output.write_all(&self.held)?;
                    self.held.clear();
                }
                let (whole, rest) = bytes.split_at_checked(border).unwrap_or((bytes, &[]));
                self.keeper.output.write_all(whole)?;
                self.held.extend_from_slice(rest);
            }
            Some((_, late)) => {
                self.held.extend_from_slice(bytes);
                // The mark at the end of the dump stays where it belongs.
                let ripe = self.held.len().saturating_sub(END.len());
                late.write_all(self.held.get(..ripe).unwrap_or_default())?;
                self.held.drain(..ripe);
                if late.get_ref().len() > MOST_LATE {
                    return Ok(Some(Cut::Size));
                }
            }
        }
        Ok(self.keeper.is_full().then_some(Cut::Size))
    }

    /// The second part begins.
    fn divide(mut self) -> io::Result<Self> {
        let Keeper { tables, output, redact, cap, raw, flaw } = self.keeper;
        let mut pages = output.finish()?;
        let gap = pages.leave(GAP as u64);
        self.keeper = Keeper { tables, output: member(pages), redact, cap, raw, flaw };
        self.late = Some((gap, member(Vec::new())));
        Ok(self)
    }

    /// Puts the parts together.
    fn join(self) -> io::Result<Keeper> {
        let Self { mut keeper, held, late } = self;
        let Some((gap, mut late)) = late else {
            keeper.output.write_all(&held)?;
            return Ok(keeper);
        };
        let is_end = held == END;
        if !is_end {
            late.write_all(&held)?;
        }
        let mut late = late.finish()?;
        let room = GAP.saturating_sub(late.len());
        match padding(room).filter(|_| room < GAP) {
            Some(filling) => late.extend(filling),
            None => {
                // There is too much of it; it is behind the objects then.
                let Keeper { tables, output, redact, cap, raw, flaw } = keeper;
                let mut pages = output.finish()?;
                pages.write_all(&late)?;
                keeper = Keeper { tables, output: member(pages), redact, cap, raw, flaw };
                late = padding(GAP).unwrap_or_default();
            }
        }
        keeper.output.get_ref().fill(gap, &late)?;
        if is_end {
            keeper.output.write_all(&END)?;
        }
        Ok(keeper)
    }
}

fn through_pair(
    jvm: &Jvm,
    place: &mut Place<'_>,
    keeper: Keeper,
    wishes: Wishes,
    end: Deadline,
) -> Result<Dump, Refusal> {
    let fail = |error: io::Error| lost(jvm, &error);
    let (mut first, mut second) = (place.pipe("heap")?, place.pipe("heap.p0")?);
    let mut answer = jvm.ask("jcmd", [&request(place, wishes.live, true), "", ""])?;
    let asked = answer.asked();
    let mut pair = Pair { keeper, held: Vec::new(), late: None };
    let (mut names, mut objects) = (Scan::file(), Scan::records());
    let mut buffer = vec![0; CHUNK];
    // When the second part had ended. The first one ends after it, but what is left in the second pipe is read then.
    let mut pause: Option<Duration> = None;
    let mut first_has_ended = false;
    let cut = loop {
        if first_has_ended && pause.is_some() {
            break Ok(None);
        }
        let open: &[&Channel] = if pause.is_some() { &[&first] } else { &[&first, &second] };
        let ready = match ready(open, &answer, end) {
            Ok(ready) if ready.is_empty() => break Ok(Some(Cut::Time)),
            Ok(ready) => ready,
            Err(error) => break Err(error),
        };
        // What the JVM wrote first is read first: all that is there of the first part precedes the second.
        match first.read(&mut buffer) {
            Ok(Came::Bytes(count)) => match pair.first(&mut names, buffer.get_mut(..count).unwrap_or_default()) {
                Ok(None) => continue,
                other => break other,
            },
            Ok(Came::End) if names.seen() > 0 => first_has_ended = true,
            Ok(Came::End | Came::Nothing) if ready == [ANSWER] && answer.has_ended() => break Ok(None),
            Ok(Came::End | Came::Nothing) => {}
            Err(error) => break Err(error),
        }
        if pause.is_some() || !(ready.contains(&1) || first_has_ended) {
            continue;
        }
        match second.read(&mut buffer) {
            Ok(Came::Bytes(count)) => {
                if pair.late.is_none() {
                    pair = match pair.divide() {
                        Ok(pair) => pair,
                        Err(error) => {
                            place.vanish();
                            return Err(fail(error));
                        }
                    };
                    replace_with_empty(place)?;
                }
                match pair.keeper.keep(&mut objects, buffer.get_mut(..count).unwrap_or_default()) {
                    Ok(None) => {}
                    other => break other,
                }
            }
            Ok(Came::End) => pause = Some(asked.elapsed()),
            // The JVM has never opened it.
            Ok(Came::Nothing) if first_has_ended => break Ok(None),
            Ok(Came::Nothing) => {}
            Err(error) => break Err(error),
        }
    };
    if !matches!(cut, Ok(None)) {
        // Else it might make a plain file where the second pipe was.
        place.vanish();
    }
    let pause = pause.unwrap_or_else(|| asked.elapsed());
    let at_border = names.is_between_records() && objects.is_between_records();
    drop((first, second));
    let cut = cut.map_err(fail)?;
    let keeper = pair.join().map_err(fail)?;
    conclude(jvm, place, keeper, answer, cut, at_border, pause)
}

fn replace_with_empty(place: &Place<'_>) -> Result<(), Refusal> {
    let _as_target = place.jvm.guise()?;
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    unlinkat(&*place.folder, "heap.p0", UnlinkatFlags::NoRemoveDir)
        .and_then(|()| openat(&*place.folder, "heap.p0", flags, Mode::S_IRUSR | Mode::S_IWUSR))
        .map(drop)
        .map_err(|error| place.fail(error.desc()))
}

/// Lets the JVM write to its disk, and reads that. It needs room for the whole heap there for a while.
fn by_disk(
    jvm: &Jvm,
    place: &mut Place<'_>,
    mut keeper: Keeper,
    wishes: Wishes,
    end: Deadline,
) -> Result<Dump, Refusal> {
    let pid = jvm.pid();
    let system = fstatfs(&*place.folder).map_err(|error| lost(jvm, &error.into()))?;
    if is_in_memory(system.filesystem_type()) {
        return Err(cannot(pid, "it can only dump to disk, and its /tmp is on a tmpfs, whose content takes memory"));
    }
    // All that is resident, where it does not tell its heap.
    let heap = Heap::parse(&jvm.command("GC.heap_info").unwrap_or_default());
    let needed = heap.used.unwrap_or(jvm.status().resident).saturating_mul(3).wrapping_div(2).saturating_add(BESIDES);
    let free = system.blocks_available().saturating_mul(u64::try_from(system.block_size()).unwrap_or(0));
    if free < needed.saturating_add(wishes.reserve) {
        let (free, needed, reserve) = (Size(free), Size(needed), Size(wishes.reserve));
        let told = format!("{needed} are needed, and {reserve} are to stay free (--keep-free)");
        return Err(cannot(pid, &format!("it can only dump to disk, and its /tmp has {free} free: {told}")));
    }
    let mut answer = jvm.ask("jcmd", [&request(place, wishes.live, false), "", ""])?;
    let asked = answer.asked();
    let mut seized = None;
    while !answer.ends_within(GLANCE) && end.left().is_some() {
        seized = seized.or_else(|| place.seize().ok());
        if let Some(raw) = &seized {
            // The pages of the growing file.
            let _ = pages::let_go(raw.as_fd(), 0, 0);
        }
    }
    let pause = asked.elapsed();
    let told = Told::new(answer.text());
    let mut raw = match seized.map_or_else(|| place.seize(), Ok) {
        Ok(raw) => raw,
        Err(Errno::ENOENT) => return Err(cannot(pid, &format!("it writes no dump but says {}", told.said))),
        Err(error) => return Err(lost(jvm, &error.into())),
    };
    let mut scan = Scan::file();
    let mut buffer = vec![0; CHUNK];
    let mut let_go = 0u64;
    let cut = loop {
        match raw.read(&mut buffer) {
            Ok(0) => break None,
            Ok(count) => {
                let bytes = buffer.get_mut(..count).unwrap_or_default();
                let kept = keeper.keep(&mut scan, bytes).map_err(|error| lost(jvm, &error))?;
                if kept.is_some() {
                    break kept;
                }
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(lost(jvm, &error)),
        }
        if scan.seen().saturating_sub(let_go) > 8 << 20 {
            let_go = scan.seen();
            let _ = pages::let_go(raw.as_fd(), 0, i64::try_from(let_go).unwrap_or(0));
        }
    };
    if keeper.raw == 0 {
        return Err(cannot(pid, &format!("it writes no dump but says {}", told.said)));
    }
    let whole = told.success && scan.is_between_records();
    keeper.end(cut, &told, whole, pause).map_err(|error| lost(jvm, &error))
}
