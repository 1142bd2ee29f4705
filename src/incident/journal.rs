//! The journal of an incident: one JSON object a line, appended by PID 1 to memory that a worker can read.
//!
//! PID 1 writes no file. It appends to a memfd of fixed size, and a worker makes `incident.json` of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::sys::memory::SharedBuffer;

/// Enough for about 150 entries; an incident of a few minutes has ten to thirty.
const CAPACITY: usize = 64 * 1024;

/// What is kept free for how it ends: memory that goes up and down for hours fills the rest.
const RESERVE: usize = 16 * 1024;

/// How much of it the first line may take.
const LONGEST_HEADER: usize = 16 * 1024;

/// Whether an entry may use the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It is one of many.
    Common,
    /// Without it the record would not tell how the incident ended.
    Essential,
}

/// One line.
#[derive(Serialize)]
struct Line<'a, T: Serialize> {
    /// Milliseconds since 1970, UTC.
    unix_ms: u64,
    /// Seconds since memini started.
    seconds: f64,
    #[serde(flatten)]
    entry: &'a T,
}

/// The journal.
#[derive(Debug)]
pub struct Journal {
    buffer: SharedBuffer,
    /// Entries that found no room.
    lost: u32,
}

impl Journal {
    /// A journal that begins with this line of JSON.
    ///
    /// # Errors
    /// EMFILE, ENOMEM, or ENOSYS before Linux 3.17.
    pub fn new(header: &[u8]) -> io::Result<Self> {
        let mut this = Self { buffer: SharedBuffer::new(CAPACITY)?, lost: 0 };
        this.append(CAPACITY.saturating_sub(LONGEST_HEADER), |mut place| {
            io::Write::write_all(&mut place, header)?;
            Ok(place.len())
        });
        Ok(this)
    }

    /// Appends an entry; one that does not fit is counted.
    pub fn note<T: Serialize>(&mut self, since_start: Duration, weight: Weight, entry: &T) {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_millis());
        let line = Line { unix_ms: u64::try_from(unix_ms).unwrap_or(0), seconds: since_start.as_secs_f64(), entry };
        let reserve = if weight == Weight::Essential { 0 } else { RESERVE };
        self.append(reserve, |mut place| {
            serde_json::to_writer(&mut place, &line)?;
            Ok(place.len())
        });
    }

    /// How much a worker may read.
    pub fn length(&self) -> usize {
        self.buffer.length()
    }

    /// How many entries found no room.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// `write` fills the given place and returns how much of it is still free. `reserve` bytes are not touched.
    fn append(&mut self, reserve: usize, write: impl FnOnce(&mut [u8]) -> io::Result<usize>) {
        let place = self.buffer.free();
        let Some(last) = place.len().checked_sub(reserve.saturating_add(1)) else {
            self.lost = self.lost.saturating_add(1);
            return;
        };
        // One byte is kept for the end of the line.
        let written = match place.get_mut(..last) {
            Some(room) => write(room).ok().map(|free| last.saturating_sub(free)),
            None => None,
        };
        match written.and_then(|count| Some((count, place.get_mut(count)?))) {
            Some((count, end)) => {
                *end = b'\n';
                self.buffer.advance(count.saturating_add(1));
            }
            None => self.lost = self.lost.saturating_add(1),
        }
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.buffer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[derive(Serialize)]
    struct Entry {
        event: &'static str,
        text: String,
    }

    fn lines(journal: &Journal) -> Vec<serde_json::Value> {
        let file = std::fs::File::from(journal.as_fd().try_clone_to_owned().unwrap());
        let mut bytes = vec![0; journal.length()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn entries_are_lines_of_json() {
        let mut journal = Journal::new(br#"{"memini":"1"}"#).unwrap();
        journal.note(Duration::from_millis(1500), Weight::Common, &Entry { event: "x", text: "a\nb".into() });
        let lines = lines(&journal);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["seconds"], 1.5);
        assert_eq!(lines[1]["text"], "a\nb");
    }

    #[test]
    fn a_full_journal_loses_the_newest_and_counts_them() {
        let mut journal = Journal::new(b"{}").unwrap();
        let entry = Entry { event: "x", text: "y".repeat(10_000) };
        for _ in 0..10 {
            journal.note(Duration::ZERO, Weight::Common, &entry);
        }
        assert_eq!((lines(&journal).len(), journal.lost()), (1 + 4, 6));
        journal.note(Duration::ZERO, Weight::Common, &Entry { event: "small", text: String::new() });
        assert_eq!((lines(&journal).len(), journal.lost()), (1 + 5, 6), "the reserve is not for common entries");
        journal.note(Duration::ZERO, Weight::Essential, &entry);
        journal.note(Duration::ZERO, Weight::Essential, &Entry { event: "small", text: String::new() });
        assert_eq!((lines(&journal).len(), journal.lost()), (1 + 7, 6));
    }

    #[test]
    fn a_header_leaves_room_for_entries() {
        let mut journal = Journal::new(&vec![b' '; LONGEST_HEADER + 1]).unwrap();
        assert_eq!((journal.length(), journal.lost()), (0, 1));
        journal.note(Duration::ZERO, Weight::Common, &Entry { event: "x", text: String::new() });
        assert_eq!(journal.lost(), 1);
    }
}
