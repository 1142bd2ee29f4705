//! For tests: what does its work without the kernel.

/// Whether `what` ends without one system call, other than read, write and those that end it: it is done in a child, which the
/// kernel kills at the first one (`SECCOMP_MODE_STRICT`). `what` must not allocate, and what it changes is lost.
pub fn calls_nothing(what: impl FnOnce()) -> bool {
    // SAFETY: between fork and exit the child calls nothing but prctl(2), `what`, which does not allocate, and exit(2) itself: what
    // else exit does would take a system call.
    let child = unsafe {
        let child = libc::fork();
        if child == 0 {
            let is_strict = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) == 0;
            if is_strict {
                what();
            }
            libc::syscall(libc::SYS_exit, i32::from(!is_strict));
        }
        child
    };
    assert!(child > 0, "cannot fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: it is our own child, and `status` is ours.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "{}", std::io::Error::last_os_error());
    assert!(!libc::WIFEXITED(status) || libc::WEXITSTATUS(status) == 0, "strict mode cannot be had here");
    libc::WIFEXITED(status)
}
