//! What a process has open, by kind.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use procfs::ProcError;
use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};
use serde::{Deserialize, Serialize};

/// How many sockets of a namespace are told apart; each takes some 40 bytes.
const SOCKETS: usize = 65_536;

/// How many different files are kept apart while counting, and how many are named in the end.
const FILES: usize = 512;
const NAMED: usize = 5;

/// The kind of a file that nobody can find any more, and that takes memory until it is closed.
pub const DELETED_MEMORY: &str = "deleted file in memory";

/// The descriptors of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// How many there are.
    pub count: u64,
    /// By kind: `file`, `deleted file`, `pipe`, `eventfd`, `tcp established`, `tcp close-wait`, `unix socket`, …
    pub kinds: BTreeMap<String, u64>,
    /// What deleted files that are still open hold on their disks; bytes.
    pub deleted_bytes: u64,
    /// What those of them hold that are memory; bytes.
    #[serde(default)]
    pub deleted_memory: u64,
    /// The files that are opened most often, and how often.
    pub files: Vec<(String, u64)>,
}

impl Descriptors {
    /// Counts them.
    ///
    /// # Errors
    /// Where they may not be listed.
    pub fn of(process: &Process, tables: &mut Tables) -> io::Result<Self> {
        let mut descriptors = Self::default();
        let mut sockets: Vec<u64> = Vec::new();
        let mut files: HashMap<String, u64> = HashMap::new();
        let mut deleted: HashMap<(u64, u64), (u64, bool)> = HashMap::new();
        let listed = process.fd().map_err(io_error)?;
        let mut refused = None;
        for descriptor in listed {
            let descriptor = match descriptor.map_err(io_error) {
                Ok(descriptor) => descriptor,
                Err(error) => {
                    // One that is closed meanwhile is left out.
                    refused = Some(error).filter(|error| error.kind() == io::ErrorKind::PermissionDenied).or(refused);
                    continue;
                }
            };
            descriptors.count = descriptors.count.saturating_add(1);
            let kind = match descriptor.target {
                FDTarget::Socket(inode) => {
                    sockets.push(inode);
                    continue;
                }
                FDTarget::Path(path) => {
                    let path = path.display().to_string();
                    let mut kind = file_kind(&path);
                    if path.ends_with(" (deleted)") {
                        let link = format!("/proc/{}/fd/{}", process.pid, descriptor.fd);
                        let is_memory = statfs(&link[..]).is_ok_and(|disk| disk.filesystem_type() == TMPFS_MAGIC);
                        if let Ok(data) = std::fs::metadata(&link) {
                            let bytes = data.blocks().saturating_mul(512);
                            deleted.insert((data.dev(), data.ino()), (bytes, is_memory));
                        }
                        kind = if is_memory { DELETED_MEMORY } else { "deleted file" };
                    }
                    if files.len() < FILES || files.contains_key(&path) {
                        let count = files.entry(path).or_default();
                        *count = count.saturating_add(1);
                    }
                    kind.to_owned()
                }
                FDTarget::Pipe(_) => "pipe".to_owned(),
                FDTarget::Net(_) => "namespace".to_owned(),
                FDTarget::MemFD(_) => "memfd".to_owned(),
                FDTarget::AnonInode(name) => name.trim_matches(['[', ']']).to_owned(),
                FDTarget::Other(kind, _) => kind,
                // The path of a file outside of its root may look so; the name is anybody's choice.
                FDTarget::Unknown(..) => "file".to_owned(),
            };
            descriptors.add(kind);
        }
        if let Some(refused) = refused.filter(|_| descriptors.count == 0) {
            return Err(refused);
        }
        if !sockets.is_empty() {
            let table = tables.of(process);
            for inode in &sockets {
                // Neither bound nor connected, or closed by the other side and forgotten: such a socket is in no table.
                descriptors.add((*table.get(inode).unwrap_or(&"socket")).to_owned());
            }
        }
        let sum = |of_memory: bool| {
            let files = deleted.values().filter(|(_, is_memory)| *is_memory == of_memory);
            files.fold(0, |sum: u64, (bytes, _)| sum.saturating_add(*bytes))
        };
        (descriptors.deleted_bytes, descriptors.deleted_memory) = (sum(false), sum(true));
        let mut files: Vec<(String, u64)> = files.into_iter().collect();
        files.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        files.truncate(NAMED);
        descriptors.files = files;
        Ok(descriptors)
    }

    fn add(&mut self, kind: String) {
        let count = self.kinds.entry(kind).or_default();
        *count = count.saturating_add(1);
    }
}

/// The sockets of network namespaces, by their inodes. The kernel tells a socket's kind only there, and takes milliseconds for
/// each table: processes that share a namespace share them.
#[derive(Debug, Default)]
pub struct Tables {
    known: HashMap<PathBuf, HashMap<u64, &'static str>>,
}

impl Tables {
    fn of(&mut self, process: &Process) -> &HashMap<u64, &'static str> {
        let namespace = std::fs::read_link(format!("/proc/{}/ns/net", process.pid));
        let namespace = namespace.unwrap_or_else(|_| PathBuf::from(process.pid.to_string()));
        self.known.entry(namespace).or_insert_with(|| sockets_beside(process))
    }
}

/// All sockets of the process's namespace, or the first so many.
fn sockets_beside(process: &Process) -> HashMap<u64, &'static str> {
    let mut sockets: HashMap<u64, &'static str> = HashMap::new();
    let mut note = |inode: u64, kind| {
        if sockets.len() < SOCKETS {
            sockets.insert(inode, kind);
        }
    };
    for entry in [process.tcp(), process.tcp6()].into_iter().flatten().flatten() {
        note(entry.inode, tcp_kind(&entry.state));
    }
    for entry in [process.udp(), process.udp6()].into_iter().flatten().flatten() {
        note(entry.inode, "udp");
    }
    let unix = File::open(format!("/proc/{}/net/unix", process.pid));
    for inode in unix.into_iter().flat_map(|file| unix_sockets(BufReader::new(file))) {
        note(inode, "unix socket");
    }
    sockets
}

/// The inodes in `/proc/PID/net/unix`. What a socket is called stands there as it is, and need not be text.
pub fn unix_sockets(text: impl BufRead) -> impl Iterator<Item = u64> {
    text.split(b'\n').map_while(Result::ok).filter_map(|line| {
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        std::str::from_utf8(words.nth(6)?).ok()?.parse().ok()
    })
}

/// With its number, where the crate knows one: who is refused may try again as somebody else.
fn io_error(error: ProcError) -> io::Error {
    match error {
        ProcError::PermissionDenied(_) => io::ErrorKind::PermissionDenied.into(),
        ProcError::Io(error, _) => error,
        other => io::Error::other(other.to_string()),
    }
}

fn file_kind(path: &str) -> &'static str {
    match path {
        _ if path.starts_with("/dev/shm/") => "shared memory",
        _ if path.starts_with("/dev/") => "device",
        _ => "file",
    }
}

const fn tcp_kind(state: &TcpState) -> &'static str {
    match state {
        TcpState::Established => "tcp established",
        TcpState::Listen => "tcp listen",
        // The other side has closed, and the app has not.
        TcpState::CloseWait => "tcp close-wait",
        TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv => "tcp connecting",
        TcpState::FinWait1 | TcpState::FinWait2 | TcpState::TimeWait | TcpState::LastAck | TcpState::Closing => {
            "tcp closing"
        }
        TcpState::Close => "tcp closed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;

    #[test]
    fn each_descriptor_is_counted_by_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("often");
        std::fs::write(&path, "x").unwrap();
        let often: Vec<File> = (0..40).map(|_| File::open(&path).unwrap()).collect();
        let gone: Vec<File> = (0..7)
            .map(|number| {
                let path = folder.path().join(format!("gone{number}"));
                std::fs::write(&path, vec![b'x'; 100_000]).unwrap();
                let file = File::open(&path).unwrap();
                std::fs::remove_file(&path).unwrap();
                file
            })
            .collect();
        let lost: Vec<File> = (0..3)
            .filter_map(|_| {
                let mut file = tempfile::tempfile_in("/dev/shm").ok()?;
                std::io::Write::write_all(&mut file, &[b'x'; 100_000]).ok()?;
                Some(file)
            })
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clients: Vec<TcpStream> =
            (0..5).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
        let left: Vec<TcpStream> = (0..5).map(|_| listener.accept().unwrap().0).collect();
        drop(left);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let pair = UnixStream::pair().unwrap();
        let pipe = crate::sys::spawn::pipe().unwrap();
        let now = Descriptors::of(&Process::myself().unwrap(), &mut Tables::default()).unwrap();
        // Other tests run beside this one: there may be more.
        let all = |kind: &str| now.kinds.get(kind).copied().unwrap_or(0);
        let wanted = [
            ("file", 40),
            ("deleted file", 7),
            (DELETED_MEMORY, lost.len() as u64),
            ("tcp listen", 1),
            ("tcp close-wait", 5),
            ("udp", 1),
            ("unix socket", 2),
            ("pipe", 2),
        ];
        for (kind, count) in wanted {
            assert!(all(kind) >= count, "{kind}: {now:?}");
        }
        assert_eq!(now.files.first(), Some(&(path.display().to_string(), 40)));
        assert!(now.deleted_bytes >= 700_000, "{now:?}");
        assert!(now.deleted_memory >= lost.len() as u64 * 100_000, "{now:?}");
        drop((often, gone, lost, clients, udp, pair, pipe));
    }
}
