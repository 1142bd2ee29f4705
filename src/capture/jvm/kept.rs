//! Where a dump is kept: a gzip file that grows without filling the page cache, and that can have a gap in its middle
//! which is filled in later.
//!
//! gzip, because what reads heap dumps reads `.hprof.gz` as it is.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::sys::pages;

/// How much is written between two times that pages are given back. Bytes.
const STRIDE: u64 = 4 << 20;

/// The smallest and the largest gzip member that holds nothing: header, a comment field of at least 4 bytes, an empty
/// block, check sum (RFC 1952).
const SMALLEST: usize = 26;
const LARGEST: usize = 22 + 65_535;

/// The file, written from its beginning.
#[derive(Debug)]
pub struct Pages {
    file: File,
    at: u64,
    /// Up to here the kernel was asked to write, and up to here it has let go.
    begun: u64,
    gone: u64,
}

impl Pages {
    /// An empty file.
    pub const fn new(file: File) -> Self {
        Self { file, at: 0, begun: 0, gone: 0 }
    }

    /// How many bytes it has. Those in the encoder are not counted yet.
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// Leaves so much room, to be filled later.
    pub const fn leave(&mut self, length: u64) -> u64 {
        let at = self.at;
        self.at = self.at.saturating_add(length);
        at
    }

    /// Fills room that was left.
    ///
    /// # Errors
    /// As write(2).
    pub fn fill(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// Makes sure that everything is on the disk.
    ///
    /// # Errors
    /// As fsync(2).
    pub fn finish(self) -> io::Result<u64> {
        self.file.sync_all()?;
        let _ = pages::let_go(self.file.as_fd(), 0, 0);
        Ok(self.at)
    }

    fn give_back(&mut self) {
        let (Ok(gone), Ok(begun), Ok(at)) = (self.gone.try_into(), self.begun.try_into(), i64::try_from(self.at))
        else {
            return;
        };
        let range = |from: i64, to: i64| (from, to.saturating_sub(from));
        // What was begun the last time is on the disk by now, so hardly anybody waits. A file system that cannot do so
        // costs page cache, nothing else.
        let (offset, length) = range(begun, at);
        let _ = pages::start_writing(self.file.as_fd(), offset, length);
        let (offset, length) = range(gone, begun);
        if length > 0 {
            let _ = pages::let_go(self.file.as_fd(), offset, length);
        }
        self.gone = self.begun;
        self.begun = self.at;
    }
}

impl Write for Pages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, self.at)?;
        self.at = self.at.saturating_add(count as u64);
        if self.at.saturating_sub(self.begun) >= STRIDE {
            self.give_back();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins a gzip member. The fastest level: the JVM stands still meanwhile.
pub fn member<W: Write>(output: W) -> GzEncoder<W> {
    GzEncoder::new(output, Compression::fast())
}

/// gzip members of exactly that length together which hold nothing; `None` if it is too short for one.
pub fn padding(length: usize) -> Option<Vec<u8>> {
    let count = length.div_ceil(LARGEST);
    let each = length.checked_div(count)?;
    let mut longer = length.checked_rem(count)?;
    if each < SMALLEST {
        return None;
    }
    let mut bytes = Vec::with_capacity(length);
    for _ in 0..count {
        let size = each.saturating_add(usize::from(longer > 0));
        longer = longer.saturating_sub(1);
        let extra = u16::try_from(size.saturating_sub(22)).ok()?;
        // FEXTRA set, no time, no level, Unix; one field, `me`.
        bytes.extend([0x1F, 0x8B, 8, 4, 0, 0, 0, 0, 0, 3]);
        bytes.extend(extra.to_le_bytes());
        bytes.extend(b"me");
        bytes.extend(extra.saturating_sub(4).to_le_bytes());
        bytes.resize(bytes.len().saturating_add(usize::from(extra.saturating_sub(4))), 0);
        bytes.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    (bytes.len() == length).then_some(bytes)
}

#[cfg(test)]
mod unit {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_gap_is_filled_and_read_over() {
        for room in [60usize, 100, 65_000, 66_000, 131_114, 131_115, 1 << 20] {
            let mut file = tempfile::tempfile().unwrap();
            let mut first = member(Pages::new(file.try_clone().unwrap()));
            first.write_all(b"first, ").unwrap();
            let mut pages = first.finish().unwrap();
            let gap = pages.leave(room as u64);
            let mut last = member(pages);
            last.write_all(b"last").unwrap();
            let pages = last.finish().unwrap();
            let mut middle = member(Vec::new());
            middle.write_all(b"middle, ").unwrap();
            let mut middle = middle.finish().unwrap();
            middle.extend(padding(room - middle.len()).unwrap());
            pages.fill(gap, &middle).unwrap();
            pages.finish().unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            let mut text = String::new();
            flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
            assert_eq!(text, "first, middle, last");
        }
    }

    #[test]
    fn what_was_written_is_let_go_while_the_file_grows() {
        let file = tempfile::NamedTempFile::new().unwrap();
        if nix::sys::statfs::fstatfs(&file).unwrap().filesystem_type() == nix::sys::statfs::TMPFS_MAGIC {
            println!("skipped: on a tmpfs nothing can be let go");
            return;
        }
        let mut pages = Pages::new(file.reopen().unwrap());
        let part = vec![b'x'; 64 << 10];
        for _ in 0..1024 {
            pages.write_all(&part).unwrap();
        }
        let words = ["--bytes", "--noheadings", "--output", "RES"];
        let cached = std::process::Command::new("fincore").args(words).arg(file.path()).output().unwrap();
        let cached: u64 = String::from_utf8(cached.stdout).unwrap().trim().parse().unwrap();
        assert!(cached <= 3 * STRIDE, "{cached} of {} bytes are in memory", pages.at());
        assert_eq!(pages.finish().unwrap(), 64 << 20);
    }

    #[test]
    fn what_is_too_short_is_no_member() {
        assert_eq!((padding(0), padding(25)), (None, None));
        assert_eq!(padding(26).unwrap().len(), 26);
    }
}
