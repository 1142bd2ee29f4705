//! Whether `--dir` can be what it is for.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::units;

/// Whether the folder is, or could become, one that memini can write to. Nothing is made. The error is the whole
/// sentence, with the path.
pub fn check_dir(dir: &Path) -> Result<(), String> {
    let dir = units::path(dir.as_os_str()).map_err(|why| format!("--dir {}: {why}", dir.display()))?;
    let wrong = |why: &str| Err(format!("--dir {}: {why}", dir.display()));
    match fs::symlink_metadata(&dir) {
        Ok(metadata) if metadata.is_symlink() => {
            wrong("is a symbolic link, which memini does not follow; name a folder")
        }
        Ok(metadata) if !metadata.is_dir() => wrong("is not a folder"),
        Ok(_) => writable(&dir).or_else(|why| wrong(&format!("cannot be written to: {why}"))),
        Err(why) if why.kind() == ErrorKind::NotFound => {
            let parent = dir.ancestors().skip(1).find(|parent| parent.exists()).unwrap_or(Path::new("/"));
            if !parent.is_dir() {
                return wrong(&format!("cannot be made: {} is not a folder", parent.display()));
            }
            writable(parent).or_else(|why| wrong(&format!("cannot be made in {}: {why}", parent.display())))
        }
        Err(why) => wrong(&format!("cannot be looked at: {why}")),
    }
}

/// Asks the kernel, which also knows of read-only mounts and of capabilities.
fn writable(dir: &Path) -> Result<(), std::io::Error> {
    access(dir, AccessFlags::W_OK | AccessFlags::X_OK).map_err(std::io::Error::from)
}
