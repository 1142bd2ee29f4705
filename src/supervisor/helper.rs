//! What the app is given before it starts, with `--helpers`: a folder that Python looks into first.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::capture::python::helper::{FILE, SOURCE};
use crate::config::{Config, Recipes};
use crate::incident::folder::Folder;

const VARIABLE: &[u8] = b"PYTHONPATH=";

/// Makes the folder and returns the variable by which Python finds it. `None` where none is wanted, or where it cannot be made,
/// which is told: the app starts without.
pub fn install(config: &Config) -> Option<CString> {
    // Nobody would ever ask it anything.
    let is_of_use = config.watch && !config.dry_run && config.capture.unwrap_or(Recipes::NONE).python;
    if !config.helpers.python || !is_of_use {
        return None;
    }
    let path = std::env::var_os("PYTHONPATH").unwrap_or_default();
    match make(&config.dir).and_then(|folder| variable(&folder, path.as_bytes())) {
        Ok(variable) => Some(variable),
        Err(why) => {
            log::warn!("{why}; the app gets no helper, and no lines are recorded");
            None
        }
    }
}

/// `DIR/helpers/python`, for memini's own user: whoever could write there could run as the app.
fn make(dir: &Path) -> Result<std::path::PathBuf, String> {
    let folder = Folder::base(dir).and_then(|folder| folder.enter("helpers".as_ref()));
    let folder = folder.and_then(|folder| folder.enter("python".as_ref())).map_err(|error| error.to_string())?;
    let cannot = |error: io::Error| format!("cannot write {}: {error}", folder.path().join(FILE).display());
    // Python keeps what it has compiled beside it, as long as the file stays the same.
    if !is_there(&folder) {
        write(&folder).map_err(cannot)?;
    }
    Ok(folder.path().to_owned())
}

fn is_there(folder: &Folder) -> bool {
    let mut text = Vec::with_capacity(SOURCE.len());
    let file =
        folder.open(FILE).and_then(|file| file.take((SOURCE.len() as u64).saturating_add(1)).read_to_end(&mut text));
    file.is_ok() && text == SOURCE.as_bytes()
}

/// Not synced: what is lost when the machine fails is written again at the next start, and the app is not to wait for a disk.
fn write(folder: &Folder) -> io::Result<()> {
    let partial = format!("{FILE}.partial");
    let _ = folder.remove(&partial);
    folder.create(&partial)?.write_all(SOURCE.as_bytes())?;
    folder.rename(&partial, FILE)
}

fn variable(folder: &Path, path: &[u8]) -> Result<CString, String> {
    let folder = folder.as_os_str().as_bytes();
    if folder.contains(&b':') {
        return Err(format!("PYTHONPATH cannot name {}, which has a colon in it", String::from_utf8_lossy(folder)));
    }
    let separator: &[u8] = if path.is_empty() { b"" } else { b":" };
    CString::new([VARIABLE, folder, separator, path].concat()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_folder_is_the_first_and_nobody_elses() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("memini");
        let folder = make(&dir).unwrap();
        assert_eq!(folder, dir.join("helpers/python"));
        let file = folder.join(FILE);
        let first = fs::metadata(&file).unwrap();
        assert_eq!((first.mode() & 0o777, fs::metadata(&folder).unwrap().mode() & 0o777), (0o600, 0o700));
        assert_eq!(fs::read_to_string(&file).unwrap(), SOURCE);
        // The same file stays; any other is replaced.
        make(&dir).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().ino(), first.ino());
        fs::write(&file, "older").unwrap();
        make(&dir).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), SOURCE);
        let alone = variable(Path::new("/a/b"), b"").unwrap();
        let before = variable(Path::new("/a/b"), b"/c:/d").unwrap();
        assert_eq!((alone.to_bytes(), before.to_bytes()), (&b"PYTHONPATH=/a/b"[..], &b"PYTHONPATH=/a/b:/c:/d"[..]));
        assert!(variable(Path::new("/a:b"), b"").unwrap_err().contains("colon"));
    }

    #[test]
    fn what_stands_in_the_way_is_told() {
        let place = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", place.path().join("helpers")).unwrap();
        assert!(make(place.path()).unwrap_err().contains("symbolic link"));
    }
}
