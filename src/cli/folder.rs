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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_or_a_place_for_one_is_enough_and_nothing_is_made() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        for dir in [folder.to_owned(), folder.join("a"), folder.join("a/b/c")] {
            assert_eq!(check_dir(&dir), Ok(()), "{}", dir.display());
        }
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    }

    #[test]
    fn files_and_links_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let (file, link, dangling) = (place.path().join("file"), place.path().join("link"), place.path().join("gone"));
        fs::write(&file, "").unwrap();
        symlink(place.path(), &link).unwrap();
        symlink("nowhere", &dangling).unwrap();
        let below = file.join("below");
        let with_slash = std::path::PathBuf::from(format!("{}/", link.display()));
        for (dir, shown, why) in [
            (&file, &file, "is not a folder".to_owned()),
            (&link, &link, "is a symbolic link, which memini does not follow; name a folder".to_owned()),
            (&with_slash, &link, "is a symbolic link, which memini does not follow; name a folder".to_owned()),
            (&dangling, &dangling, "is a symbolic link, which memini does not follow; name a folder".to_owned()),
            (&below, &below, "cannot be looked at: Not a directory (os error 20)".to_owned()),
        ] {
            assert_eq!(check_dir(dir), Err(format!("--dir {}: {why}", shown.display())));
        }
    }

    #[test]
    fn permissions_count_unless_one_is_root() {
        let place = tempfile::tempdir().unwrap();
        let is_root = fs::metadata(place.path()).unwrap().uid() == 0;
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o500)).unwrap();
        for (dir, why) in [
            (place.path().to_owned(), "cannot be written to: ".to_owned()),
            (place.path().join("a/b"), format!("cannot be made in {}: ", place.path().display())),
        ] {
            let denied = format!("--dir {}: {why}Permission denied (os error 13)", dir.display());
            assert_eq!(check_dir(&dir), if is_root { Ok(()) } else { Err(denied) });
        }
    }
}
