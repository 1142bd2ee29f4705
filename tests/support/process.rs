//! Processes of the machine, as /proc shows them.

use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// A file of a process, as text; `None` if it is gone.
pub fn file(pid: u32, name: &str) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/{name}")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Where a link of a process leads to.
pub fn link(pid: u32, name: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/{name}")).ok()
}

/// Its name for itself.
pub fn name(pid: u32) -> Option<String> {
    Some(file(pid, "comm")?.trim_end().to_owned())
}

/// The value of a line of /proc/PID/status.
pub fn status(pid: u32, key: &str) -> Option<String> {
    let status = file(pid, "status")?;
    status.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
}

/// `R`, `S`, `T`, `Z`, …
pub fn state(pid: u32) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// The state and the parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = file(pid, "stat")?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// What tells why it does not end: its name, its state, and its signals.
pub fn told(pid: u32) -> String {
    let keys = ["Name", "State", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"];
    let words = keys.map(|key| format!("{key} {}", status(pid, key).unwrap_or_default()));
    format!("{pid} {}", words.join(", "))
}

/// The children of a process, ended ones included.
pub fn children(parent: u32) -> Vec<u32> {
    all().filter(|pid| stat(*pid).is_some_and(|(_, found)| found == parent)).collect()
}

/// The children, their children and so on.
pub fn descendants(ancestor: u32) -> Vec<u32> {
    let mut found = children(ancestor);
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children(*pid));
        next += 1;
    }
    found
}

fn all() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Whether it blocks the signal.
pub fn blocks(pid: u32, number: i32) -> bool {
    is_in(pid, "SigBlk", number)
}

fn is_in(pid: u32, set: &str, number: i32) -> bool {
    let set = status(pid, set).and_then(|digits| u64::from_str_radix(&digits, 16).ok());
    set.is_some_and(|set| set >> (number - 1) & 1 == 1)
}

/// Sends a signal, real-time ones included.
pub fn send(pid: u32, number: i32) {
    match Signal::try_from(number) {
        Ok(named) => signal::kill(Pid::from_raw(pid.try_into().unwrap()), named).unwrap(),
        // The libraries have no name for these.
        Err(_) => {
            assert!(Command::new("kill").arg(format!("-{number}")).arg(pid.to_string()).status().unwrap().success())
        }
    }
}

/// Ends a process that may be gone already.
pub fn end(pid: u32) {
    let _ = signal::kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL);
}
