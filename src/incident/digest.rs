//! SHA-256 of artifacts: a copy that was sent round can be told from what memini has written.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use sha2::{Digest, Sha256};

use super::folder::Folder;
use super::record::Artifact;
use crate::sys::pages;

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// After so much the pages of a large file are given back: they are charged to the group. Bytes.
const GIVE_BACK: u64 = 8 << 20;

/// How much is read for digests when a record is written: at the end PID 1 waits for it. Bytes.
pub const MOST: u64 = 32 << 20;

/// The files of a folder with their digests: those that are known, and of the rest what is small, the smallest first, as long as
/// they have no more than `most` bytes together. What lacks one is digested by who reads it.
pub fn artifacts<'a>(folder: &Folder, most: u64, known: impl Fn(&str, u64) -> Option<&'a str>) -> Vec<Artifact> {
    let files = folder.files().into_iter();
    let mut files: Vec<Artifact> = files.map(|(name, bytes)| Artifact { name, bytes, sha256: None }).collect();
    files.sort_by_key(|file| file.bytes);
    let mut left = most;
    for file in &mut files {
        file.sha256 = known(&file.name, file.bytes).map(str::to_owned);
        // One that is not whole may change.
        if file.sha256.is_some() || file.name.ends_with(".partial") || file.bytes > left {
            continue;
        }
        left = left.saturating_sub(file.bytes);
        file.sha256 = folder.open(&file.name).and_then(of).ok();
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files
}

/// The SHA-256 of what is in this file from here on, in hexadecimal.
///
/// # Errors
/// As read(2).
pub fn of(mut file: File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut since = 0u64;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(buffer.get(..count).unwrap_or_default());
        since = since.saturating_add(count as u64);
        if since >= GIVE_BACK {
            // Of what is no file there is nothing to give back.
            let _ = pages::let_go(file.as_fd(), 0, 0);
            since = 0;
        }
    }
    Ok(hexadecimal(&hasher.finalize()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |number: u8| DIGITS.get(usize::from(number & 15)).copied().unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    fn of_bytes(bytes: &[u8]) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        of(file).unwrap()
    }

    #[test]
    fn it_is_what_sha256sum_says() {
        // FIPS 180-4's examples, and the million letters of its appendix.
        for (bytes, digest) in [
            (&b""[..], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (&vec![b'a'; 1_000_000], "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        ] {
            assert_eq!(of_bytes(bytes), digest);
        }
    }

    #[test]
    fn a_large_file_whose_pages_are_given_back_meanwhile_is_read_to_its_end() {
        let bytes: Vec<u8> = (0..(GIVE_BACK as u32 * 5 / 2)).map(|number| (number % 251) as u8).collect();
        assert_eq!(of_bytes(&bytes), hexadecimal(&Sha256::digest(&bytes)));
    }
}
