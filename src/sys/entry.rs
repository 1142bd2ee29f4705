//! The way in: the C `main`, and before it a constructor that blocks every signal.
//!
//! Rust's own runtime is left out (`no_main`), for three reasons that an init must care about: it sets SIGPIPE to
//! "ignore", which the app would inherit; it installs handlers for SIGSEGV and SIGBUS; and it runs for some hundred
//! microseconds in which PID 1, having no handlers yet, would lose every signal that is sent to it (signal(7): the
//! kernel discards a signal to PID 1 whose disposition is the default, but not one that is blocked).

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

#[cfg(not(test))]
use super::mask;

/// Runs before `main`, and before the C library has done more than to relocate itself.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static BLOCK_SIGNALS_FIRST: extern "C" fn() = {
    extern "C" fn block() {
        mask::block_all();
    }
    block
};

/// Called by the C library.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: the C library hands over `argc` pointers to NUL-terminated strings that live as long as the process.
    let arguments = unsafe { arguments(argc, argv) };
    c_int::from(crate::start(arguments))
}

/// Copies the argument vector.
///
/// # Safety
/// `argv` must point to `argc` valid, NUL-terminated strings.
#[cfg_attr(test, allow(dead_code))]
unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(argc).unwrap_or(0);
    let mut arguments = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: `index` is below `argc`, see above.
        let argument = unsafe { CStr::from_ptr(*argv.add(index)) };
        arguments.push(OsStr::from_bytes(argument.to_bytes()).to_os_string());
    }
    arguments
}
