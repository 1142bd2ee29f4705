//! What /proc tells of a process that may be a JVM.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::capture::census::Refusal;
use crate::cgroup::parse;
use crate::sys::guise::Guise;

/// How much of a file of /proc is read at the most; `environ` may have megabytes.
const MOST: u64 = 4 << 20;

/// Among so many of its threads are all that a JVM begins with: a collector may have hundreds.
const FIRST_THREADS: usize = 4096;

/// The symbol that every HotSpot exports for debuggers, also one that is linked into its launcher.
const HOTSPOT_SYMBOL: &[u8] = b"\0gHotSpotVMStructs\0";

/// A process, by its folder in /proc: what is read through it is never that of a later process of the same number.
#[derive(Debug)]
pub struct Target {
    /// Its number here.
    pub pid: i32,
    folder: OwnedFd,
}

/// A part of /proc/PID/status. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `R`, `S`, `T`, `Z`, …
    pub state: u8,
    /// Its number in its own PID namespace.
    pub own_pid: i32,
    /// Real, effective, saved and file system user.
    pub users: [u32; 4],
    /// The same for the group.
    pub groups: [u32; 4],
    /// Signals that it catches.
    pub caught: u64,
    /// Capabilities that it may use, and those that it could take up.
    pub effective: u64,
    /// See `effective`.
    pub permitted: u64,
    /// Threads.
    pub threads: u64,
    /// Resident memory.
    pub resident: u64,
}

impl Status {
    /// Reads what is there; a line without sense is left out.
    pub fn parse(text: &[u8]) -> Self {
        // Whose it is must be told: who is not known must not be taken for root.
        let mut status = Self { users: [u32::MAX; 4], groups: [u32::MAX; 4], ..Self::default() };
        for line in text.split(|byte| *byte == b'\n') {
            let Ok(line) = str::from_utf8(line) else { continue };
            let Some((key, value)) = line.split_once(':') else { continue };
            let mut words = value.split_ascii_whitespace();
            let first = words.clone().next().unwrap_or_default();
            let kilobytes = || first.parse::<u64>().unwrap_or(0).saturating_mul(1024);
            let mask = || u64::from_str_radix(first, 16).unwrap_or(0);
            match key {
                "State" => status.state = first.bytes().next().unwrap_or(b'?'),
                "NStgid" => status.own_pid = words.next_back().and_then(|id| id.parse().ok()).unwrap_or(0),
                "Uid" => status.users = four(words),
                "Gid" => status.groups = four(words),
                "SigCgt" => status.caught = mask(),
                "CapEff" => status.effective = mask(),
                "CapPrm" => status.permitted = mask(),
                "Threads" => status.threads = first.parse().unwrap_or(0),
                "VmRSS" => status.resident = kilobytes(),
                _ => {}
            }
        }
        status
    }

    /// The effective user.
    pub const fn user(&self) -> u32 {
        self.users[1]
    }

    /// The effective group.
    pub const fn group(&self) -> u32 {
        self.groups[1]
    }

    /// Whether it handles SIGQUIT; else that signal would end it.
    pub const fn catches_quit(&self) -> bool {
        self.caught & 0x4 != 0
    }

    /// Whether `other` could look through this process's descriptors: the kernel wants the same user throughout, and
    /// no capability that the other has not (ptrace(2), "Ptrace access mode checking").
    pub fn is_open_to(&self, other: &Self) -> bool {
        let users = [self.users[0], self.users[1], self.users[2]];
        let groups = [self.groups[0], self.groups[1], self.groups[2]];
        users == [other.users[3]; 3] && groups == [other.groups[3]; 3] && self.permitted & !other.effective == 0
    }
}

fn four<'a>(words: impl Iterator<Item = &'a str>) -> [u32; 4] {
    // A user that cannot be read is nobody's: it must not be taken for root.
    let mut ids = [u32::MAX; 4];
    for (place, word) in ids.iter_mut().zip(words) {
        *place = word.parse().unwrap_or(u32::MAX);
    }
    ids
}

/// What kind of process it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    HotSpot,
    OpenJ9,
    Other,
}

impl Target {
    /// Opens the process's folder.
    ///
    /// # Errors
    /// [`Refusal::NotMine`] where there is no such process.
    pub fn open(pid: i32) -> Result<Self, Refusal> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = nix::fcntl::open(format!("/proc/{pid}").as_str(), flags, Mode::empty());
        folder.map(|folder| Self { pid, folder }).map_err(|_| Refusal::NotMine)
    }

    /// Makes sure that it is a HotSpot JVM.
    ///
    /// # Errors
    /// [`Refusal::NotMine`] if it is none; [`Refusal::Cannot`] if it seems to be one but nobody lets us look.
    pub fn check_kind(&self) -> Result<(), Refusal> {
        let pid = self.pid;
        match self.kind() {
            Ok(Kind::HotSpot) => Ok(()),
            Ok(Kind::OpenJ9) => Err(Refusal::Cannot(format!(
                "process {pid} is an OpenJ9 JVM, which does not speak HotSpot's attach protocol; its heap is not looked at"
            ))),
            Ok(Kind::Other) => Err(Refusal::NotMine),
            // The command line is everybody's to read, so that a JVM of another user is not passed over in silence.
            Err(error) if self.is_called_java() => Err(Refusal::Cannot(format!(
                "cannot read /proc/{pid}/maps: {error}; the heap of this JVM is not looked at"
            ))),
            Err(_) => Err(Refusal::NotMine),
        }
    }

    fn kind(&self) -> io::Result<Kind> {
        let mut kind = Kind::Other;
        self.each_mapped(|path| {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            if name.starts_with(b"libj9vm") {
                kind = Kind::OpenJ9;
            } else if name == b"libjvm.so" && kind == Kind::Other {
                kind = Kind::HotSpot;
            }
        })?;
        if kind == Kind::Other && self.exports_hotspot().unwrap_or(false) {
            kind = Kind::HotSpot;
        }
        Ok(kind)
    }

    /// Whether it runs JDK 8: that has `lib/amd64/server/libjvm.so`, later ones have `lib/server/libjvm.so`.
    pub fn is_of_jdk_8(&self) -> bool {
        let mut is_old = false;
        let told = self.each_mapped(|path| {
            let mut names = path.rsplit(|byte| *byte == b'/');
            let name = names.next();
            is_old |= name == Some(b"libjvm.so") && names.nth(1).is_some_and(|folder| folder != b"lib");
        });
        told.is_ok() && is_old
    }

    /// Calls `look` with the path of each mapped file, or what else stands at the end of the line.
    fn each_mapped(&self, mut look: impl FnMut(&[u8])) -> io::Result<()> {
        let mut maps = BufReader::new(self.file("maps")?);
        let mut line = Vec::new();
        loop {
            line.clear();
            if maps.by_ref().take(8192).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let path = line.trim_ascii_end();
            look(path.strip_suffix(b" (deleted)").unwrap_or(path));
        }
    }

    /// Whether the executable itself exports HotSpot's symbols, as one does that is linked statically with it.
    fn exports_hotspot(&self) -> io::Result<bool> {
        use std::os::unix::fs::FileExt;
        let file = File::from(self.opened("exe", OFlag::empty())?);
        let mut header = [0; 64];
        file.read_exact_at(&mut header, 0)?;
        // 64 bits, little endian: elsewhere nobody links it so.
        if !header.starts_with(b"\x7fELF\x02\x01") {
            return Ok(false);
        }
        let (start, size, count) = (number(&header, 40, 8), number(&header, 58, 2), number(&header, 60, 2));
        if size < 64 {
            return Ok(false);
        }
        for section in 0..count {
            let mut entry = [0; 64];
            let Some(at) = section.checked_mul(size).and_then(|offset| offset.checked_add(start)) else { break };
            file.read_exact_at(&mut entry, at)?;
            // The symbols for the dynamic linker; sh_link is the section of their names.
            if number(&entry, 4, 4) != 11 {
                continue;
            }
            let Some(at) = number(&entry, 40, 4).checked_mul(size).and_then(|offset| offset.checked_add(start)) else {
                break;
            };
            file.read_exact_at(&mut entry, at)?;
            return holds(&file, number(&entry, 24, 8), number(&entry, 32, 8), HOTSPOT_SYMBOL);
        }
        Ok(false)
    }

    fn is_called_java(&self) -> bool {
        let words = self.read("cmdline").unwrap_or_default();
        let program = words.split(|byte| *byte == 0).next().unwrap_or_default();
        program == b"java" || program.ends_with(b"/java")
    }

    /// Whether it was started with this option, on its command line or by a variable that JVMs read.
    pub fn has_option(&self, option: &[u8]) -> bool {
        let separators = |byte: &u8| matches!(byte, 0 | b' ' | b'\t' | b'\n');
        let is_in = |text: &[u8]| text.split(separators).any(|word| word == option);
        if is_in(&self.read("cmdline").unwrap_or_default()) {
            return true;
        }
        let variables: [&[u8]; 3] = [b"JAVA_TOOL_OPTIONS=", b"JDK_JAVA_OPTIONS=", b"_JAVA_OPTIONS="];
        let environment = self.read("environ").unwrap_or_default();
        let mut entries = environment.split(|byte| *byte == 0);
        entries.any(|entry| variables.iter().any(|variable| entry.strip_prefix(*variable).is_some_and(is_in)))
    }

    /// Reads its status.
    ///
    /// # Errors
    /// ESRCH, ENOENT if it is gone.
    pub fn status(&self) -> io::Result<Status> {
        let mut status = Status::parse(&self.read("status")?);
        if status.own_pid == 0 {
            // Kernels without PID namespaces do not have the line.
            status.own_pid = self.pid;
        }
        Ok(status)
    }

    /// When it started, in clock ticks since the machine did.
    ///
    /// # Errors
    /// ESRCH if it is gone.
    pub fn started(&self) -> io::Result<u64> {
        let stat = self.read("stat")?;
        let started = parse::process_stat(&stat).ok().and_then(|stat| stat.started);
        started.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// What is resident in which of its mappings.
    ///
    /// # Errors
    /// EACCES where it may not be looked at, ESRCH if it is gone.
    pub fn mappings(&self) -> io::Result<impl BufRead> {
        self.file("smaps").map(|file| BufReader::with_capacity(64 << 10, file))
    }

    /// The names of its first threads, those that it began with among them.
    pub fn thread_names(&self) -> Vec<Vec<u8>> {
        let path = format!("/proc/self/fd/{}/task", self.folder.as_raw_fd());
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let threads = entries.filter_map(|entry| entry.file_name().into_string().ok()).take(FIRST_THREADS);
        let names = threads.filter_map(|thread| self.read(&format!("task/{thread}/comm")).ok());
        names.map(|name| name.trim_ascii_end().to_owned()).collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        self.file(name)?.take(MOST).read_to_end(&mut text)?;
        Ok(text)
    }

    fn file(&self, name: &str) -> io::Result<File> {
        self.opened(name, OFlag::O_NOFOLLOW).map(File::from)
    }

    /// Opens what belongs to the process. In a container root usually lacks CAP_SYS_PTRACE and may not look at a process
    /// of another user; that user itself may, and root may act for it.
    fn opened(&self, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | flags;
        let error = match openat(self.folder.as_fd(), path, flags, Mode::empty()) {
            Err(error @ (Errno::EACCES | Errno::EPERM)) if path != "status" => error,
            result => return Ok(result?),
        };
        let Ok(status) = self.status() else { return Err(error.into()) };
        match Guise::of(status.user(), status.group()) {
            Ok(Some(_as_target)) => Ok(openat(self.folder.as_fd(), path, flags, Mode::empty())?),
            Ok(None) | Err(_) => Err(error.into()),
        }
    }

    /// Opens a folder as the process sees it: `cwd`, `root/tmp`.
    ///
    /// # Errors
    /// EACCES where it may not be looked at, ENOENT where there is none.
    pub fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        self.opened(path, OFlag::O_DIRECTORY)
    }
}

/// A little-endian number of at most 8 bytes; 0 for what is not there.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let part = bytes.get(at..at.saturating_add(length)).unwrap_or_default();
    part.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Whether a part of a file holds these bytes.
fn holds(file: &File, mut at: u64, length: u64, bytes: &[u8]) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let end = at.saturating_add(length.min(MOST));
    let mut buffer = [0; 16 * 1024];
    while at < end {
        let count = file.read_at(&mut buffer, at)?;
        let part = buffer.get(..count).unwrap_or_default();
        if part.windows(bytes.len()).any(|window| window == bytes) {
            return Ok(true);
        }
        // The end of one part and the beginning of the next may hold it together.
        let step = count.saturating_sub(bytes.len().saturating_sub(1));
        if step == 0 {
            break;
        }
        at = at.saturating_add(step as u64);
    }
    Ok(false)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_number_in_the_innermost_namespace_counts() {
        let text = b"Name:\tjava\nState:\tS (sleeping)\nNStgid:\t812\t17\t1\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n\
            Threads:\t23\nVmRSS:\t  2048 kB\nSigCgt:\t0000000101005ccd\nCapEff:\t00ff\n";
        let status = Status::parse(text);
        assert_eq!((status.own_pid, status.user(), status.group(), status.state), (1, 2, 6, b'S'));
        assert_eq!((status.threads, status.resident, status.effective), (23, 2 << 20, 0xff));
        assert!(status.catches_quit());
    }

    #[test]
    fn garbage_is_nobody() {
        let status = Status::parse(b"Uid:\tx\nGid\nSigCgt:\tzz\n\xff\xfe:\n:::\nNStgid:\n");
        assert_eq!(status.user(), u32::MAX);
        assert!(!status.catches_quit());
        let nobody = Status::parse(b"");
        assert_eq!((nobody.own_pid, nobody.user(), nobody.group()), (0, u32::MAX, u32::MAX));
    }

    #[test]
    fn who_has_more_capabilities_is_not_open() {
        let own = Status { permitted: 3, users: [1; 4], groups: [1; 4], ..Status::default() };
        for (effective, users, open) in [(3, [1; 4], true), (7, [1; 4], true), (1, [1; 4], false), (3, [2; 4], false)] {
            let other = Status { effective, users, groups: [1; 4], ..Status::default() };
            assert_eq!(own.is_open_to(&other), open);
        }
    }

    #[test]
    fn a_program_whose_file_is_cut_or_lies_about_its_sections_is_no_jvm() {
        let folder = tempfile::tempdir().unwrap();
        let whole = std::fs::read("/bin/sleep").unwrap();
        let sections = usize::try_from(number(&whole, 40, 8)).unwrap();
        let mut beyond = whole.clone();
        beyond[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
        beyond[58..62].fill(0xff);
        let mut ring = whole.clone();
        // Each section is described by the file's own beginning.
        ring[40..48].fill(0);
        let without = whole[..sections].to_vec();
        for (name, bytes) in
            [("cut", without), ("half", whole[..sections + 100].to_vec()), ("beyond", beyond), ("ring", ring)]
        {
            let program = folder.path().join(name);
            std::fs::write(&program, bytes).unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let mut child = std::process::Command::new(&program).arg("1000").spawn().unwrap();
            let target = Target::open(child.id().cast_signed()).unwrap();
            assert_eq!(target.check_kind(), Err(Refusal::NotMine), "{name}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn the_folder_of_a_process_is_never_that_of_a_later_one() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let target = Target::open(child.id().cast_signed()).unwrap();
        assert!(target.started().is_ok() && target.status().is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(target.started().is_err() && target.status().is_err() && target.mappings().is_err());
        assert!(!target.has_option(b"1000") && target.thread_names().is_empty());
    }

    #[test]
    fn this_process_is_no_jvm() {
        let pid = std::process::id().cast_signed();
        assert_eq!(Target::open(pid).unwrap().check_kind(), Err(Refusal::NotMine));
        assert_eq!(Target::open(i32::MAX).unwrap_err(), Refusal::NotMine);
    }
}
