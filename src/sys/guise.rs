//! Acting as somebody else for a moment: some peers ask the kernel who is calling and talk to their own user only.

use std::io;

/// As long as this lives, the calling thread acts as another user. The thread, not the process: the system calls are
/// made without the C library, which would change every thread and so what the others are doing just now.
#[derive(Debug)]
pub struct Guise {
    user: libc::c_long,
    group: libc::c_long,
    dumpable: bool,
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
        // SAFETY: this option has no arguments.
        let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) } == 1;
        let own = Self { user: own_user.into(), group: own_group.into(), dumpable };
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
        if self.dumpable {
            // A change of user hides the process's own folder in /proc from everybody but root with all its privileges,
            // and does so for good.
            // SAFETY: this option takes a plain number.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
        }
    }
}

fn effective(call: libc::c_long, id: libc::c_long) -> io::Result<()> {
    // SAFETY: plain numbers.
    let result = unsafe { libc::syscall(call, SAME, id, SAME) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_user_is_no_guise() {
        // SAFETY: these have no arguments and cannot fail.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        assert!(Guise::of(user, group).unwrap().is_none());
    }

    #[test]
    fn only_this_thread_is_somebody_else_and_only_for_a_while() {
        // SAFETY: has no arguments and cannot fail.
        let user = || unsafe { libc::geteuid() };
        let own = user();
        let ((ask, asked), (tell, answer)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let other = std::thread::spawn(move || asked.recv().map(|()| tell.send(user())));
        match Guise::of(65_534, 65_534) {
            Ok(guise) => {
                assert_eq!(user(), 65_534);
                ask.send(()).unwrap();
                assert_eq!(answer.recv().unwrap(), own);
                drop(guise);
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
        }
        assert_eq!(user(), own);
        drop(ask);
        let _ = other.join();
    }
}
