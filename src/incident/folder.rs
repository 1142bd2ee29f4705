//! The folder of an incident, made so that nobody can lead memini astray: no symlink is followed, nothing that belongs
//! to somebody else is used, files are 0600 in folders of 0700.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::sys::directory;

/// How deep a hook may nest folders in its own.
const DEEPEST: u32 = 16;

/// Why there is no folder.
#[derive(Debug)]
pub struct FolderError {
    path: PathBuf,
    cause: FolderCause,
}

#[derive(Debug)]
enum FolderCause {
    System(io::Error),
    Foreign(u32),
}

impl fmt::Display for FolderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.cause {
            FolderCause::System(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                write!(out, "cannot write {path}: it is a symbolic link")
            }
            FolderCause::System(error) => write!(out, "cannot write {path}: {error}"),
            FolderCause::Foreign(owner) => write!(out, "cannot trust {path}: it belongs to user {owner}"),
        }
    }
}

impl std::error::Error for FolderError {}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder of this incident, `DIR/incidents/NAME`, and makes what is missing.
    ///
    /// DIR may be a volume that root has made for everybody (Kubernetes' emptyDir is 0777).
    ///
    /// # Errors
    /// Where a part is a symlink or a file, belongs to another user, or cannot be made.
    pub fn of_incident(dir: &Path, name: &str) -> Result<Self, FolderError> {
        Self::base(dir)?.enter("incidents".as_ref())?.enter(name.as_ref())
    }

    /// Opens DIR and makes it, and its parents, if it is missing.
    ///
    /// # Errors
    /// As [`Folder::of_incident`].
    pub fn base(dir: &Path) -> Result<Self, FolderError> {
        let fail = |error: io::Error| FolderError { path: dir.to_owned(), cause: FolderCause::System(error) };
        if let Some(parent) = dir.parent() {
            std::fs::create_dir_all(parent).map_err(fail)?;
        }
        make(nix::fcntl::AT_FDCWD, dir.as_os_str()).map_err(|error| fail(error.into()))?;
        let descriptor = open_folder(nix::fcntl::AT_FDCWD, dir.as_os_str()).map_err(|error| fail(error.into()))?;
        Self { descriptor, path: dir.to_owned() }.trusted()
    }

    /// Opens a folder in this one and makes it if it is missing.
    ///
    /// # Errors
    /// As [`Folder::of_incident`].
    pub fn enter(&self, name: &OsStr) -> Result<Self, FolderError> {
        let path = self.path.join(name);
        let opened = make(&self.descriptor, name).and_then(|()| open_folder(&self.descriptor, name));
        match opened {
            Ok(descriptor) => Self { descriptor, path }.trusted(),
            Err(error) => Err(FolderError { path, cause: FolderCause::System(error.into()) }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a new file in it. One that exists, or a link in its place, is an error.
    ///
    /// # Errors
    /// EEXIST, ENOSPC, EROFS and what else open(2) may say.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.descriptor, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
    }

    /// Opens a file in it, to be read. A link is an error.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.descriptor, name, flags, Mode::empty())?))
    }

    /// Makes a new file in it, to be read and written by several.
    ///
    /// # Errors
    /// As [`Folder::create`].
    pub fn create_shared(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.descriptor, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
    }

    /// Opens a file in it, to be read and written. A link is an error.
    ///
    /// # Errors
    /// As open(2).
    pub fn open_to_write(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.descriptor, name, flags, Mode::empty())?))
    }

    /// Which file it is that has this name: device and inode.
    pub fn inode(&self, name: &str) -> Option<(u64, u64)> {
        let status = fstatat(&self.descriptor, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some((status.st_dev, status.st_ino))
    }

    /// Gives a file its final name, in place of what is there under it.
    ///
    /// # Errors
    /// As renameat(2).
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.descriptor, from, &self.descriptor, to)?)
    }

    /// Gives a file its final name, unless there is something under it.
    ///
    /// # Errors
    /// As renameat2(2): EEXIST.
    pub fn rename_to_free(&self, from: &str, to: &str) -> io::Result<()> {
        let (old, new) = (CString::new(from)?, CString::new(to)?);
        match directory::rename_to_free(self.descriptor.as_fd(), &old, &new) {
            // A file system, or a kernel, that does not know how.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => match self.inode(to) {
                None => self.rename(from, to),
                Some(_) => Err(Errno::EEXIST.into()),
            },
            result => result,
        }
    }

    /// Removes a file.
    ///
    /// # Errors
    /// As unlinkat(2).
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.descriptor, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Writes a file whole or not at all: under another name first, then renamed.
    ///
    /// # Errors
    /// What writing, syncing or renaming may say; an older file of that name then still stands.
    pub fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.write(name, content, File::sync_all)
    }

    /// The same without waiting for the disk.
    ///
    /// # Errors
    /// What writing or renaming may say.
    pub fn replace_soon(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.write(name, content, |_| Ok(()))
    }

    fn write(&self, name: &str, content: &[u8], finish: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
        let partial = format!("{name}.partial");
        // Left by a worker that was killed in the middle.
        match unlinkat(&self.descriptor, partial.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut file = self.create(&partial)?;
        let written = io::Write::write_all(&mut file, content).and_then(|()| finish(&file));
        let replaced = written.and_then(|()| Ok(renameat(&self.descriptor, partial.as_str(), &self.descriptor, name)?));
        if replaced.is_err() {
            // A disk that is full needs the room.
            let _ = unlinkat(&self.descriptor, partial.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        replaced
    }

    /// The files in it with their sizes, by name; no links, no folders.
    pub fn files(&self) -> Vec<(String, u64)> {
        let is_file = |status: &FileStat| status.st_mode & libc::S_IFMT == libc::S_IFREG;
        let entries = self.entries().into_iter().filter(|(_, status)| is_file(status));
        let told = |(name, status): (OsString, FileStat)| {
            (name.to_string_lossy().into_owned(), u64::try_from(status.st_size).unwrap_or(0))
        };
        let mut files: Vec<_> = entries.map(told).collect();
        files.sort();
        files
    }

    /// The folders in it, by name; no links.
    pub fn folders(&self) -> Vec<String> {
        let is_folder = |status: &FileStat| status.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let names = self.entries().into_iter().filter(|(_, status)| is_folder(status)).map(|(name, _)| name);
        names.filter_map(|name| name.into_string().ok()).collect()
    }

    /// Opens a folder in it that is there.
    ///
    /// # Errors
    /// As [`Folder::of_incident`].
    pub fn open_folder(&self, name: &str) -> Result<Self, FolderError> {
        let path = self.path.join(name);
        match open_folder(&self.descriptor, name.as_ref()) {
            Ok(descriptor) => Self { descriptor, path }.trusted(),
            Err(error) => Err(FolderError { path, cause: FolderCause::System(error.into()) }),
        }
    }

    /// When a file in it was last written to.
    pub fn modified(&self, name: &str) -> Option<SystemTime> {
        let status = fstatat(&self.descriptor, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(status.st_mtime.try_into().ok()?))
    }

    /// What everything in it takes on the disk; bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes_below(DEEPEST)
    }

    fn bytes_below(&self, levels: u32) -> u64 {
        let blocks = |status: &FileStat| u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(512);
        self.entries().iter().fold(0, |sum, (name, status)| {
            let is_folder = status.st_mode & libc::S_IFMT == libc::S_IFDIR;
            let below = name.to_str().filter(|_| is_folder && levels > 0).and_then(|name| self.open_folder(name).ok());
            let below = below.map_or(0, |folder| folder.bytes_below(levels.saturating_sub(1)));
            sum.saturating_add(blocks(status)).saturating_add(below)
        })
    }

    /// Removes a folder with everything in it. Links are removed and not followed.
    ///
    /// # Errors
    /// As unlinkat(2), and where a part of it cannot be trusted.
    pub fn remove_folder(&self, name: &str) -> io::Result<()> {
        let folder = self.open_folder(name).map_err(io::Error::other)?;
        folder.clear(DEEPEST)?;
        Ok(unlinkat(&self.descriptor, name, UnlinkatFlags::RemoveDir)?)
    }

    fn clear(&self, levels: u32) -> io::Result<()> {
        for (name, status) in self.entries() {
            if status.st_mode & libc::S_IFMT != libc::S_IFDIR {
                unlinkat(&self.descriptor, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
                continue;
            }
            let below = levels.checked_sub(1).ok_or_else(|| io::Error::other("its folders are nested too deep"))?;
            let folder = open_folder(&self.descriptor, &name)?;
            let folder =
                Self { descriptor: folder, path: self.path.join(&name) }.trusted().map_err(io::Error::other)?;
            folder.clear(below)?;
            unlinkat(&self.descriptor, name.as_os_str(), UnlinkatFlags::RemoveDir)?;
        }
        Ok(())
    }

    /// What is in it, but for what has just gone.
    fn entries(&self) -> Vec<(OsString, FileStat)> {
        let path = format!("/proc/self/fd/{}", self.descriptor.as_raw_fd());
        let names = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let look = |name: OsString| {
            let status = fstatat(&self.descriptor, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
            Some((name, status))
        };
        names.filter_map(look).collect()
    }

    /// Root may own it: it could read everything anyway, and on volumes with a fixed owner (SMB, vfat) it owns even what
    /// memini has just made.
    fn trusted(self) -> Result<Self, FolderError> {
        match fstat(&self.descriptor) {
            Ok(status) if status.st_uid == 0 || status.st_uid == geteuid().as_raw() => Ok(self),
            Ok(status) => Err(FolderError { path: self.path, cause: FolderCause::Foreign(status.st_uid) }),
            Err(error) => Err(FolderError { path: self.path, cause: FolderCause::System(error.into()) }),
        }
    }
}

fn make(parent: impl AsFd, name: &OsStr) -> nix::Result<()> {
    match mkdirat(parent, name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

fn open_folder(parent: impl AsFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // With O_DIRECTORY a symlink is reported as ENOTDIR, which would read as "it is a file".
    openat(&parent, name, flags, Mode::empty()).map_err(|error| {
        let link = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFLNK);
        if link { Errno::ELOOP } else { error }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn folders_are_private_and_files_too() {
        let top = dir();
        let base = top.path().join("a/b/memini");
        let folder = Folder::of_incident(&base, "one").unwrap();
        folder.replace("incident.json", b"{}").unwrap();
        for (path, mode) in [(base.clone(), 0o700), (base.join("incidents/one"), 0o700)] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
        let file = base.join("incidents/one/incident.json");
        assert_eq!(std::fs::metadata(file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(folder.files(), [("incident.json".to_owned(), 2)]);
    }

    #[test]
    fn a_symlink_is_not_followed_anywhere() {
        let top = dir();
        let elsewhere = top.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let base = top.path().join("memini");
        symlink(&elsewhere, &base).unwrap();
        let error = Folder::of_incident(&base, "one").unwrap_err().to_string();
        assert_eq!(error, format!("cannot write {}: it is a symbolic link", base.display()));

        std::fs::remove_file(&base).unwrap();
        std::fs::create_dir(&base).unwrap();
        symlink(&elsewhere, base.join("incidents")).unwrap();
        assert!(Folder::of_incident(&base, "one").is_err());
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_place_of_a_file_is_replaced_not_written_through() {
        let top = dir();
        let folder = Folder::of_incident(&top.path().join("memini"), "one").unwrap();
        let victim = top.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        symlink(&victim, folder.path().join("incident.json.partial")).unwrap();
        symlink(&victim, folder.path().join("incident.json")).unwrap();
        folder.replace("incident.json", b"{}").unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert!(folder.create("incident.json").is_err());
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_an_error() {
        let top = dir();
        let base = top.path().join("memini");
        std::fs::write(&base, "").unwrap();
        let error = Folder::of_incident(&base, "one").unwrap_err().to_string();
        assert!(error.contains("Not a directory"), "{error}");
    }
}
