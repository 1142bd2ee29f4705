//! Faults of memini's own, for the tests that show what becomes of the app then.

use std::fmt::Debug;

/// With the feature `injected-panic` and the variable of this name: panics where `what` reads as the variable says, as far
/// as that goes. Without the feature this is nothing.
#[cfg(feature = "injected-panic")]
pub fn panic_at(what: &dyn Debug) {
    if let Ok(wanted) = std::env::var("INJECTED_PANIC")
        && format!("{what:?}").starts_with(&wanted)
    {
        std::panic::panic_any(format!("injected at {wanted}"));
    }
}

/// As above.
#[cfg(not(feature = "injected-panic"))]
#[inline(always)]
pub fn panic_at(_what: &dyn Debug) {}
