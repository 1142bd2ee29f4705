//! How much memory one process holds.

use std::io::{self, Read};

use super::folder::Folder;
use crate::cgroup::parse::ProcessMemory;

/// How much of `/proc/PID/status` is read at the most. A process with 65,536 supplementary groups has a line of 700 kB
/// in it, before those that count.
const MOST: usize = 1 << 20;

/// Reads `/proc/PID/status`. All zero for a zombie, whose memory is gone.
///
/// # Errors
/// ENOENT, ESRCH if the process is gone; EACCES, EPERM if it is hidden; InvalidData for a text without sense.
pub fn of(folder: &Folder, process: i32) -> io::Result<ProcessMemory> {
    parse(&mut folder.open_file(process, "status")?)
}

/// Reads line by line through a small buffer; a line that does not fit is not one that counts, and is passed over.
pub fn parse(status: &mut impl Read) -> io::Result<ProcessMemory> {
    let mut memory = ProcessMemory::default();
    let mut buffer = [0; 4096];
    let (mut kept, mut total, mut too_long) = (0usize, 0usize, false);
    while total < MOST {
        let length = status.read(buffer.get_mut(kept..).unwrap_or_default())?;
        total = total.saturating_add(length);
        let filled = kept.saturating_add(length);
        if length == 0 {
            return if filled == 0 { Ok(memory) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let text = buffer.get(..filled).unwrap_or_default();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
        for line in text.get(..whole).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            if !too_long {
                memory.take(line.trim_ascii_end()).map_err(|flaw| io::Error::other(flaw.to_string()))?;
            }
            too_long = false;
        }
        if whole == 0 && filled == buffer.len() {
            (too_long, kept) = (true, 0);
        } else {
            buffer.copy_within(whole..filled, 0);
            kept = filled.saturating_sub(whole);
        }
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_700_kb_does_not_hide_the_memory_behind_it() {
        let groups = "65534 ".repeat(120_000);
        let status = format!("Name:\tx\nGroups:\t{groups}\nVmRSS:\t     900 kB\nRssAnon:\t     700 kB\nThreads:\t1\n");
        let memory = parse(&mut status.as_bytes()).unwrap();
        assert_eq!(memory, ProcessMemory { anon: 700 << 10, ..ProcessMemory::default() });
    }

    #[test]
    fn a_long_line_that_holds_a_key_at_the_edge_of_the_buffer_is_no_key() {
        // The rest of a line that was too long begins where the buffer began anew.
        let status = format!("Groups:\t{}RssAnon:\t 5 kB\nRssFile:\t 2 kB\n", "1".repeat(4096 - 8));
        let memory = parse(&mut status.as_bytes()).unwrap();
        assert_eq!(memory, ProcessMemory { file: 2 << 10, ..ProcessMemory::default() });
    }

    #[test]
    fn what_is_cut_off_or_garbage_is_an_error() {
        for status in ["RssAnon:\t 5 k", "RssAnon:\t-5 kB\n", "VmSwap:\tlots\n", "RssFile:\t99999999999999999999 kB\n"]
        {
            assert!(parse(&mut status.as_bytes()).is_err(), "{status:?}");
        }
    }

    #[test]
    fn a_text_without_end_is_given_up() {
        assert_eq!(parse(&mut io::repeat(b'x')).unwrap(), ProcessMemory::default());
    }
}
