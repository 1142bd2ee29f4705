//! Looking at another user's process: in a container root usually lacks CAP_SYS_PTRACE and may not; that user itself may, and
//! root may act for it.

use std::io;

use crate::process::folder::Folder;
use crate::sys::guise::Guise;

/// Does this; where it is refused, once more as the process's own user.
///
/// # Errors
/// Of the first time, where nobody else may be acted for.
pub fn stand_in<T>(folder: &Folder, process: i32, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let error = match act() {
        Err(error) if is_refusal(&error) => error,
        other => return other,
    };
    let Some((user, group)) = owner(folder, process) else { return Err(error) };
    match Guise::of(user, group) {
        Ok(Some(_as_owner)) => act().map_err(|_| error),
        Ok(None) | Err(_) => Err(error),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// What speaks against looking into this file of a process, in brackets; empty where that is not known, or where it is no
/// question of permissions.
pub fn why(folder: &Folder, process: i32, file: &str, error: &io::Error) -> String {
    if !is_refusal(error) {
        return String::new();
    }
    // Yama's rules: 2 wants a capability of everybody, 3 lets nobody (Documentation/admin-guide/LSM/Yama.rst). They are for what
    // could change the process.
    let scope = std::fs::read_to_string(folder.path().join("sys/kernel/yama/ptrace_scope")).unwrap_or_default();
    match scope.trim() {
        _ if file != "mem" => {}
        "2" => return " (kernel.yama.ptrace_scope is 2, which takes CAP_SYS_PTRACE)".to_owned(),
        "3" => return " (kernel.yama.ptrace_scope is 3, which forbids it to everybody)".to_owned(),
        _ => {}
    }
    let own = i32::try_from(std::process::id()).ok().and_then(|own| owner(folder, own));
    match owner(folder, process) {
        Some((user, _)) if own.is_some_and(|(own, _)| own != user) => {
            format!(" (it runs as user {user}, and there is no CAP_SYS_PTRACE)")
        }
        Some(_) => " (it may not be dumped, or has a capability more)".to_owned(),
        None => String::new(),
    }
}

/// Its effective user and group.
fn owner(folder: &Folder, process: i32) -> Option<(u32, u32)> {
    let mut buffer = [0; 2048];
    let status = folder.read(process, "status", &mut buffer).ok()?;
    let id = |key: &[u8]| {
        let mut lines = status.split(|byte| *byte == b'\n');
        let line = lines.find_map(|line| line.strip_prefix(key))?;
        std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    Some((id(b"Uid:")?, id(b"Gid:")?))
}
