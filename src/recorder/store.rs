//! The recorder's file on the disk: found, put aside, made, locked. In a worker, as all of it may be slow.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::fstatfs;

use super::format::Layout;
use super::reader::{self, History};
use crate::incident::folder::Folder;
use crate::sys::map;

/// The first one's name; the others have a number.
const NAME: &str = "recorder";

/// What the names of those begin with, after [`NAME`], that are being made.
const UNFINISHED: &str = ".new-";

/// One that is older than this has been left by a worker that was killed; it takes some milliseconds.
const LEFT: Duration = Duration::from_secs(60);

/// How many runs can record in one folder at the same time.
const MOST: u8 = 9;

/// How often a file is looked at again that somebody has put aside in between.
const TRIES: u32 = 5;

/// File systems in which a store to a mapped page waits for nobody else: no network, and no program of somebody's. The numbers
/// of statfs(2): ext2 to ext4, XFS, Btrfs, tmpfs, ramfs, overlayfs, F2FS, ZFS, bcachefs.
const LOCAL: [u32; 9] =
    [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x8584_58F6, 0x794C_7630, 0xF2F5_2010, 0x2FC1_2FC1, 0xCA45_1A4E];

/// What was there of the last run.
#[derive(Debug)]
pub enum Last {
    /// Nothing.
    None,
    /// A run that is over.
    Run(Box<History>, File),
    /// A file that is no recorder, and why; it is put aside.
    Refused(String),
}

/// A folder in which a run is to be recorded.
#[derive(Debug)]
pub struct Store {
    folder: Folder,
}

/// The place for a run: a name that nobody else uses now.
#[derive(Debug)]
pub struct Place<'a> {
    store: &'a Store,
    number: u8,
    name: String,
    /// The lock of the last run's file: as long as it is held nobody else takes the name.
    last: Option<Flock<File>>,
}

impl Store {
    /// In DIR.
    ///
    /// # Errors
    /// Where that cannot be opened or made.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let this = Self { folder: Folder::base(dir).map_err(|error| error.to_string())? };
        this.tidy();
        Ok(this)
    }

    /// What was never finished goes.
    fn tidy(&self) {
        for (name, _) in self.folder.files() {
            let is_unfinished = name.strip_prefix(NAME).is_some_and(|rest| rest.starts_with(UNFINISHED));
            let age = || self.folder.modified(&name).and_then(|time| time.elapsed().ok());
            if is_unfinished && age().is_some_and(|age| age > LEFT) {
                let _ = self.folder.remove(&name);
            }
        }
    }

    /// Finds a place, and what is left there of the last run.
    ///
    /// # Errors
    /// Where there is none: whole sentences.
    pub fn find(&self) -> Result<(Place<'_>, Last), String> {
        (1..=MOST)
            .find_map(|number| self.try_place(number).transpose())
            .unwrap_or_else(|| Err(format!("{MOST} others record in {}", self.folder.path().display())))
    }

    /// `None`: somebody else records there.
    fn try_place(&self, number: u8) -> Result<Option<(Place<'_>, Last)>, String> {
        let name = &name(number);
        let complain = |error: &dyn std::fmt::Display| format!("cannot use {}: {error}", self.path(name));
        for _ in 0..TRIES {
            let file = match self.folder.open_to_write(name) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let place = Place { store: self, number, name: name.to_owned(), last: None };
                    return Ok(Some((place, Last::None)));
                }
                Err(error) => return Err(complain(&error)),
            };
            let status = fstat(&file).map_err(|error| complain(&error))?;
            if status.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
                return Err(complain(&"it is no file"));
            }
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => return Err(complain(&error)),
            };
            // Whoever had it has put it aside meanwhile.
            if self.folder.inode(name) != Some((status.st_dev, status.st_ino)) {
                continue;
            }
            let last = match reader::read(&file) {
                Ok(history) => {
                    let copy = file.try_clone().map_err(|error| complain(&error))?;
                    Last::Run(Box::new(history), copy)
                }
                Err(why) => Last::Refused(format!("cannot read {}: {why}; it is put aside", self.path(name))),
            };
            return Ok(Some((Place { store: self, number, name: name.to_owned(), last: Some(file) }, last)));
        }
        Ok(None)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

fn name(number: u8) -> String {
    if number == 1 { NAME.to_owned() } else { format!("{NAME}.{number}") }
}

impl Place<'_> {
    /// Its path.
    pub fn path(&self) -> String {
        self.store.path(&self.name)
    }

    /// The how manyth it is of those that record in this folder: 1 for the usual name.
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// Puts the last run's file aside and makes a new one with this header: all of it on the disk, and locked. The lock belongs
    /// to the open file, not to this process: it lasts as long as any copy of the descriptor is open, unless it is dropped.
    ///
    /// Nobody sees a file under the name that is not whole and locked: it is made under another one.
    ///
    /// # Errors
    /// ENOSPC and what else may be wrong with a disk; EEXIST where somebody else was faster, who has the name now.
    pub fn make(self, layout: &Layout, header: &[u8], is_refused: bool) -> io::Result<Flock<File>> {
        let folder = &self.store.folder;
        // Containers that share the folder may have the same process numbers, but not the same moment.
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let unfinished = format!("{NAME}{UNFINISHED}{moment}");
        let file = folder.create_shared(&unfinished)?;
        let made = self.fill_and_name(&unfinished, file, layout, header, is_refused);
        if made.is_err() {
            let _ = folder.remove(&unfinished);
        }
        made
    }

    fn fill_and_name(
        &self,
        unfinished: &str,
        file: File,
        layout: &Layout,
        header: &[u8],
        is_refused: bool,
    ) -> io::Result<Flock<File>> {
        let folder = &self.store.folder;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?;
        fill(&file, layout, header)?;
        if self.last.is_some() {
            let aside = format!("{}.{}", self.name, if is_refused { "refused" } else { "previous" });
            folder.rename(&self.name, &aside)?;
        }
        folder.rename_to_free(unfinished, &self.name)?;
        Ok(file)
    }
}

fn fill(mut file: &File, layout: &Layout, header: &[u8]) -> io::Result<()> {
    // C libraries disagree about its width; it has 32 bits.
    let kind = fstatfs(file)?.filesystem_type().0 as u32;
    if !LOCAL.contains(&kind) {
        return Err(io::Error::other(format!("its file system ({kind:#x}) is not known to be a local one")));
    }
    let size = i64::try_from(layout.bytes).map_err(io::Error::other)?;
    // Some file systems cannot; what is written below takes the blocks in any case.
    match fallocate(file.as_fd(), FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(Errno::EOPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let mut content = header.to_vec();
    content.resize(usize::try_from(layout.bytes).map_err(io::Error::other)?, 0);
    // A page at a time, and read back so: what is written or read at once makes a large folio of the page cache, and newer kernels
    // (seen on 6.18) map all of it when one page is touched. It would count for PID 1, and be locked.
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
    for page in content.chunks(4096) {
        file.write_all(page)?;
    }
    // A disk that is full may say so only now.
    file.sync_data()
}

/// Memory in place of a file: gone with the last who has it open.
///
/// # Errors
/// Where there is none to be had.
pub fn in_memory(layout: &Layout, header: &[u8]) -> io::Result<OwnedFd> {
    let descriptor = map::anonymous(c"memini-recorder", layout.bytes)?;
    let file = File::from(descriptor.try_clone()?);
    std::os::unix::fs::FileExt::write_all_at(&file, header, 0)?;
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const LAYOUT: u64 = 64 << 10;

    fn try_make(place: Place<'_>) -> io::Result<Flock<File>> {
        let layout = Layout::of(LAYOUT);
        place.make(&layout, &layout.header("{}").unwrap(), false)
    }

    fn make(place: Place<'_>) -> Flock<File> {
        try_make(place).unwrap()
    }

    /// Regression test: whoever came a moment later found a file that was not whole yet and not locked, and put it aside; and
    /// whoever could not have the name removed what was under it.
    #[test]
    fn of_many_that_start_at_the_same_moment_none_loses_anything() {
        const STARTERS: usize = 6;
        let top = tempfile::tempdir().unwrap();
        let barrier = Barrier::new(STARTERS);
        let start = || {
            barrier.wait();
            let store = Store::open(top.path()).unwrap();
            loop {
                let (place, last) = store.find().unwrap();
                assert!(!matches!(last, Last::Refused(_)), "{last:?}");
                match try_make(place) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    made => return made.unwrap(),
                }
            }
        };
        let store = Store::open(top.path()).unwrap();
        for _round in 0..10 {
            let made: Vec<_> = std::thread::scope(|scope| {
                let starters: Vec<_> = (0..STARTERS).map(|_| scope.spawn(start)).collect();
                starters.into_iter().map(|starter| starter.join().unwrap()).collect()
            });
            let inodes: Vec<_> = made.iter().map(|file| fstat(&**file).unwrap().st_ino).collect();
            let named = |number| store.folder.inode(&name(number)).map(|(_, inode)| inode);
            let found: Vec<_> = (1..=MOST).filter_map(named).collect();
            assert_eq!(inodes.iter().filter(|inode| found.contains(inode)).count(), STARTERS, "{inodes:?} {found:?}");
            assert!(store.folder.files().iter().all(|(name, _)| !name.contains(UNFINISHED)));
        }
    }

    #[test]
    fn what_somebody_is_making_is_left_alone_and_what_was_left_unfinished_goes() {
        let top = tempfile::tempdir().unwrap();
        let file = |name: &str, age: u64| {
            let file = File::create(top.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        file("recorder.new-1", 3600);
        file("recorder.new-2", 1);
        file("recorder.newest", 3600);
        let names: Vec<_> = Store::open(top.path()).unwrap().folder.files().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["recorder.new-2", "recorder.newest"]);
    }

    #[test]
    fn the_second_takes_another_name_and_the_next_one_finds_what_is_left() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::open(&top.path().join("memini")).unwrap();
        let (place, last) = store.find().unwrap();
        assert!(matches!(last, Last::None) && place.number() == 1);
        let first = make(place);
        let (place, last) = store.find().unwrap();
        assert!(matches!(last, Last::None) && place.number() == 2, "{last:?}");
        assert!(place.path().ends_with("/recorder.2"));
        let second = make(place);
        drop(first);
        let (place, last) = store.find().unwrap();
        assert!(matches!(last, Last::Run(..)) && place.number() == 1, "{last:?}");
        // As long as that is looked at, nobody else does.
        assert!(store.find().unwrap().0.path().ends_with("/recorder.3"));
        let third = make(place);
        drop((second, third));
        let mut names: Vec<_> = store.folder.files();
        names.sort();
        let all = LAYOUT;
        let expected = [("recorder", all), ("recorder.2", all), ("recorder.previous", all)];
        assert_eq!(names, expected.map(|(name, size)| (name.to_owned(), size)));
    }

    #[test]
    fn what_is_no_recorder_is_put_aside_and_what_is_no_file_is_left_alone() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("memini");
        let store = Store::open(&dir).unwrap();
        std::fs::write(dir.join("recorder"), "precious").unwrap();
        let (place, last) = store.find().unwrap();
        let Last::Refused(why) = last else { panic!("{last:?}") };
        assert!(why.ends_with("/recorder: it is no recorder; it is put aside"), "{why}");
        let layout = Layout::of(LAYOUT);
        drop(place.make(&layout, &layout.header("{}").unwrap(), true).unwrap());
        assert_eq!(std::fs::read_to_string(dir.join("recorder.refused")).unwrap(), "precious");

        std::fs::remove_file(dir.join("recorder")).unwrap();
        std::os::unix::fs::symlink(dir.join("recorder.refused"), dir.join("recorder")).unwrap();
        assert!(store.find().is_err());
        std::fs::remove_file(dir.join("recorder")).unwrap();
        std::fs::create_dir(dir.join("recorder")).unwrap();
        assert!(store.find().is_err());
        assert_eq!(std::fs::read_to_string(dir.join("recorder.refused")).unwrap(), "precious");
    }

    #[test]
    fn memory_serves_where_there_is_no_file() {
        let layout = Layout::of(LAYOUT);
        let file = File::from(in_memory(&layout, &layout.header("{}").unwrap()).unwrap());
        assert_eq!(reader::read(&file).unwrap().events.len(), 0);
        assert!(file.set_len(0).is_err());
    }
}
