//! System V shared memory that no process has attached: it stays until somebody removes it, and is in no process's memory.

use std::fs;
use std::io::{self, BufRead, BufReader};

use serde::{Deserialize, Serialize};

/// The segments that nobody has attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segments {
    /// How many there are.
    pub count: u64,
    /// What they hold, in memory and in swap; bytes.
    pub bytes: u64,
}

impl Segments {
    /// Those that this process sees, if they are also ours: the kernel shows nobody another namespace's.
    ///
    /// # Errors
    /// Where it is in another namespace, or the kernel has no System V memory.
    pub fn of(pid: i32) -> io::Result<Self> {
        if fs::read_link(format!("/proc/{pid}/ns/ipc"))? != fs::read_link("/proc/self/ns/ipc")? {
            return Err(io::Error::other("it is in another namespace"));
        }
        Self::parse(BufReader::new(fs::File::open("/proc/sysvipc/shm")?))
    }

    /// `key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap`, the first line but names.
    ///
    /// # Errors
    /// As read(2).
    pub fn parse(text: impl BufRead) -> io::Result<Self> {
        let mut segments = Self::default();
        for line in text.split(b'\n').skip(1) {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            let mut numbers = line.split_ascii_whitespace().skip(6).map(|word| word.parse::<u64>().ok());
            let attached = numbers.next().flatten();
            let mut rest = numbers.skip(7).map(Option::unwrap_or_default);
            if let (Some(0), Some(resident), Some(swap)) = (attached, rest.next(), rest.next()) {
                segments.count = segments.count.saturating_add(1);
                segments.bytes = segments.bytes.saturating_add(resident).saturating_add(swap);
            }
        }
        Ok(segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_has_attached_counts() {
        let text = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap
         0          1   600               1048576   100   100      0     0     0     0     0  1763857000 1763857001 1763856999               1048576                  4096
         0          2   600               1048576   100   100      2     0     0     0     0  1763857000          0 1763856999               1048576                     0
 -12345678          3   600               1048576   100   100      0     0     0     0     0  1763857000 1763857001 1763856999                     0                     0
garbage 0 0 0 0 0 0
";
        assert_eq!(Segments::parse(text.as_bytes()).unwrap(), Segments { count: 2, bytes: 1_052_672 });
        assert_eq!(Segments::parse(&b""[..]).unwrap(), Segments::default());
    }
}
