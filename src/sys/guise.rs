//! Acting as somebody else for a moment: some peers ask the kernel who is calling and talk to their own user only.

use std::io;

/// As long as this lives, the calling thread acts as another user. The thread, not the process: the system calls are
/// made without the C library, which would change every thread and so what the others are doing just now.
#[derive(Debug)]
pub struct Guise {
    user: libc::c_long,
    group: libc::c_long,
}

/// Leaves that number as it is; as wide as syscall(2) reads it.
const SAME: libc::c_long = -1;

impl Guise {
    /// Takes on the effective user and group; `None` where they are the own ones already.
    ///
    /// # Errors
    /// EPERM without CAP_SETUID and CAP_SETGID.
    pub fn of(user: u32, group: u32) -> io::Result<Option<Self>> {
        // SAFETY: these have no arguments and cannot fail.
        let (own_user, own_group) = unsafe { (libc::geteuid(), libc::getegid()) };
        if (own_user, own_group) == (user, group) {
            return Ok(None);
        }
        let own = Self { user: own_user.into(), group: own_group.into() };
        // The group first: the other user may not change it any more.
        effective(libc::SYS_setresgid, group.into())?;
        // Where the user is refused, dropping `own` gives the group back.
        effective(libc::SYS_setresuid, user.into())?;
        Ok(Some(own))
    }
}

impl Drop for Guise {
    fn drop(&mut self) {
        // The real and the saved ids were kept, so this is always allowed; memini must not go on as somebody else.
        let back = effective(libc::SYS_setresuid, self.user).and_then(|()| effective(libc::SYS_setresgid, self.group));
        if back.is_err() {
            std::process::abort();
        }
    }
}

fn effective(call: libc::c_long, id: libc::c_long) -> io::Result<()> {
    // SAFETY: plain numbers.
    let result = unsafe { libc::syscall(call, SAME, id, SAME) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
