//! The init, seen from outside: the real binary, in PID namespaces of its own and as an ordinary process, on real
//! terminals, with real signals.

#[path = "../support/mod.rs"]
mod support;

mod command_line;
mod descriptors;
mod early;
mod exit;
mod inheritance;
mod leftovers;
mod log;
mod nested;
mod orphans;
mod resources;
mod signals;
mod terminal;
