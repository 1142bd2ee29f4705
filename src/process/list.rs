//! The processes that memini answers for: its descendants, or as PID 1 everyone in the namespace.

use std::io;
use std::path::Path;

use super::folder::Folder;
use crate::cgroup::parse;
use crate::cgroup::source::ReadError;
use crate::sys::process::ProcessId;

/// How many processes are looked at. Kernels allow more, but each costs some ten microseconds, and who stops or kills
/// a tree looks again until nobody is left.
pub const CAPACITY: usize = 32_768;

/// A process and its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's; 0 if that is outside the PID namespace.
    pub parent: i32,
    /// Its process group's.
    pub group: i32,
    /// `R`, `S`, `D`, `T` (stopped), …
    pub state: u8,
    /// How many of its page faults needed no disk: next to none before it runs.
    pub minor_faults: u64,
    marked: bool,
}

/// The processes of one scan, parted.
#[derive(Debug)]
pub struct Parted<'a> {
    /// Those that were asked for.
    pub inside: &'a [Process],
    /// All others.
    pub others: &'a [Process],
}

/// The table of processes. Its memory is reserved once (and touched only as far as it is filled); scanning allocates
/// nothing.
///
/// The parents in `/proc/PID/stat` are taken, not `/proc/PID/task/*/children`: those are right only while the children
/// are frozen (proc_pid_tid_children(5)) and not in every kernel. A scan costs about ten microseconds for each process
/// of the namespace.
#[derive(Debug)]
pub struct List {
    folder: Folder,
    me: i32,
    processes: Vec<Process>,
}

impl List {
    /// Opens `/proc` below `root`.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn open(root: &Path) -> Result<Self, ReadError> {
        let me = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        Ok(Self { folder: Folder::open(root)?, me, processes: Vec::with_capacity(CAPACITY) })
    }

    /// Where the processes are read.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Scans anew: all descendants of this process, or, if it is PID 1, all other processes of the namespace. Zombies
    /// and the kernel's own threads are left out. A process that begins while the scan runs may be missing: who must
    /// have them all scans again until no new one appears.
    ///
    /// # Errors
    /// Where /proc cannot be read any more.
    pub fn descendants(&mut self) -> Result<&[Process], ReadError> {
        self.descendants_of(self.me)
    }

    /// All processes of the namespace but the own one, and whoever descends from it or not.
    ///
    /// # Errors
    /// As [`List::descendants`].
    pub fn everybody(&mut self) -> Result<&[Process], ReadError> {
        self.descendants_of(1)
    }

    fn descendants_of(&mut self, ancestor: i32) -> Result<&[Process], ReadError> {
        let (me, processes) = (self.me, &mut self.processes);
        processes.clear();
        self.folder.each(|folder, pid| {
            if pid != me
                && let Some(process) = look_at(folder, pid)
            {
                processes.push(process);
            }
            processes.len() < CAPACITY
        })?;
        processes.sort_unstable_by_key(|process| process.pid);
        // PID 1 is the parent of all, be it by adoption.
        if ancestor != 1 {
            mark(processes, |process| process.parent == ancestor);
            processes.retain(|process| process.marked);
        }
        Ok(processes)
    }

    /// Calls `visit` with other processes of the namespace, in the kernel's order, but with no more than so many.
    ///
    /// # Errors
    /// As [`List::descendants`].
    pub fn first(&mut self, at_most: usize, mut visit: impl FnMut(Process)) -> Result<(), ReadError> {
        let (me, mut left) = (self.me, at_most);
        self.folder.each(|folder, pid| {
            if pid != me
                && let Some(process) = look_at(folder, pid)
            {
                visit(process);
                left = left.saturating_sub(1);
            }
            left > 0
        })
    }

    /// As [`List::descendants`], in two parts: those that are in one of these process groups or descend from somebody who
    /// is, and all others.
    ///
    /// # Errors
    /// As [`List::descendants`].
    pub fn parted(&mut self, groups: &[ProcessId]) -> Result<Parted<'_>, ReadError> {
        self.descendants()?;
        let processes = &mut self.processes;
        processes.iter_mut().for_each(|process| process.marked = false);
        if !groups.is_empty() {
            mark(processes, |process| ProcessId::new(process.group).is_some_and(|group| groups.contains(&group)));
        }
        processes.sort_unstable_by_key(|process| (process.marked, process.pid));
        let others = processes.partition_point(|process| !process.marked);
        let (others, inside) = processes.split_at(others);
        Ok(Parted { inside, others })
    }

    /// The folder, and the processes of the last scan.
    pub fn last(&self) -> (&Folder, &[Process]) {
        (&self.folder, &self.processes)
    }
}

/// When this process started: numbers are given again, but not with the same start.
///
/// # Errors
/// ENOENT, ESRCH if there is none; EACCES, EPERM if it is hidden.
pub fn started(folder: &Folder, process: ProcessId) -> io::Result<u64> {
    let mut buffer = [0; 1024];
    let stat = parse::process_stat(folder.read(process.get(), "stat", &mut buffer)?).ok();
    stat.and_then(|stat| stat.started).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// One process; `None` for what is gone, hidden, dead or part of the kernel.
pub fn look_at(folder: &Folder, pid: i32) -> Option<Process> {
    // 64 bytes for the name, and numbers: 19 fields of at most 20 digits.
    let mut buffer = [0; 512];
    let stat = parse::process_stat(folder.read(pid, "stat", &mut buffer).ok()?).ok()?;
    // A zombie with threads is a process that lives on after its first thread's end.
    let dead = matches!(stat.state, b'Z' | b'X') && stat.threads <= 1;
    (!stat.kernel && !dead).then_some(Process {
        pid,
        parent: stat.parent,
        group: stat.group,
        state: stat.state,
        minor_faults: stat.minor_faults,
        marked: false,
    })
}

/// Marks the seeds, and all that descend from them. `processes` are in the order of their numbers.
fn mark(processes: &mut [Process], seed: impl Fn(&Process) -> bool) {
    // A parent mostly has the lower number, so that one or two rounds do.
    loop {
        let mut found = false;
        for at in 0..processes.len() {
            let Some(process) = processes.get(at).filter(|process| !process.marked) else { continue };
            if seed(process) || is_marked(processes, process.parent) {
                processes.iter_mut().skip(at).take(1).for_each(|process| process.marked = true);
                found = true;
            }
        }
        if !found {
            return;
        }
    }
}

fn is_marked(processes: &[Process], pid: i32) -> bool {
    let at = processes.binary_search_by_key(&pid, |process| process.pid);
    at.ok().and_then(|at| processes.get(at)).is_some_and(|process| process.marked)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::cgroup::tree_of_files::Root;

    fn process(root: &Root, pid: i32, parent: i32, name: &str, state: char) {
        let stat = format!("{pid} ({name}) {state} {parent} 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 9 9\n");
        root.write(&format!("proc/{pid}/stat"), &stat);
    }

    fn pids(processes: &[Process]) -> Vec<i32> {
        let mut pids: Vec<_> = processes.iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        pids
    }

    /// 5 → 9 → 3 → 8, a stranger 7, a zombie 11 of 5, a folder that is no process.
    fn machine() -> Root {
        let root = Root::new("", &[]);
        for (pid, parent) in [(5, 1), (9, 5), (3, 9), (8, 3), (7, 1)] {
            process(&root, pid, parent, "x) R 5 (", 'S');
        }
        process(&root, 11, 5, "zombie", 'Z');
        root.write("proc/12/stat", "12 (short");
        root.write("proc/sys/vm/x", "");
        root.write("proc/0013/stat", "13 (x) S 5 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 9 9\n");
        root
    }

    #[test]
    fn what_a_spared_process_runs_is_spared_in_whatever_group_it_is() {
        let root = Root::new("", &[]);
        let me = std::process::id();
        // A worker, its hook in a group of its own, `timeout` in a third one, the orphan of another hook; and the app.
        for (pid, parent, group) in [(50, me, 50), (51, 50, 51), (52, 51, 52), (40, 52, 52), (60, me, 61), (70, me, 70)]
        {
            let stat = format!("{pid} (x) S {parent} {group} 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 9 9\n");
            root.write(&format!("proc/{pid}/stat"), &stat);
        }
        let groups = [50, 61].map(|group| ProcessId::new(group).unwrap());
        let mut list = List::open(root.path()).unwrap();
        let parted = list.parted(&groups).unwrap();
        assert_eq!((pids(parted.inside), pids(parted.others)), (vec![40, 50, 51, 52, 60], vec![70]));
        assert_eq!(list.parted(&[]).unwrap().others.len(), 6);
    }

    #[test]
    fn descendants_are_found_in_any_order_of_numbers() {
        let root = machine();
        let mut list = List::open(root.path()).unwrap();
        assert_eq!(pids(list.descendants_of(5).unwrap()), [3, 8, 9]);
        assert_eq!(pids(list.descendants_of(9).unwrap()), [3, 8], "a second scan starts anew");
        assert_eq!(pids(list.descendants_of(8).unwrap()), [] as [i32; 0]);
    }

    #[test]
    fn pid_1_answers_for_everyone() {
        let root = machine();
        process(&root, 20, 0, "exec'd from outside", 'T');
        let mut list = List::open(root.path()).unwrap();
        assert_eq!(pids(list.descendants_of(1).unwrap()), [3, 5, 7, 8, 9, 20]);
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let root = Root::new("", &[]);
        process(&root, 2, 3, "a", 'S');
        process(&root, 3, 2, "b", 'S');
        let mut list = List::open(root.path()).unwrap();
        assert!(list.descendants_of(7).unwrap().is_empty());
    }

    #[test]
    fn a_proc_that_is_missing_or_of_another_namespace_is_an_error() {
        let error = List::open(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nowhere/proc/self: No such file"), "{error}");
        let root = Root::new("", &[]);
        std::fs::remove_file(root.at("proc/self")).unwrap();
        std::os::unix::fs::symlink("1", root.at("proc/self")).unwrap();
        let error = List::open(root.path()).unwrap_err().to_string();
        assert!(error.ends_with("it belongs to another PID namespace"), "{error}");
    }

    /// A real child that waits until its standard input is closed.
    fn child() -> Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn real_children_are_found_and_their_memory_is_counted() {
        let mut child = child();
        let pid = i32::try_from(child.id()).unwrap();
        let mut list = List::open(Path::new("/")).unwrap();
        assert!(pids(list.descendants().unwrap()).contains(&pid));
        assert!(!pids(list.descendants().unwrap()).contains(&i32::try_from(std::process::id()).unwrap()));
        child.kill().unwrap();
        // Not waited for yet: a zombie holds nothing and is none.
        while list.descendants().unwrap().iter().any(|process| process.pid == pid) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
