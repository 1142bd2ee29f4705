//! What the tests of this layer share: a cgroup of their own, an app that does what it is told, and memini in between.
//! tests/vm and tests/faults share it.
#![allow(dead_code, unused_imports, reason = "each crate of tests needs a part of it")]

pub mod group;
pub mod incident;
#[path = "../../support/schema.rs"]
pub mod schema;
pub mod session;

pub use group::{Group, MIB, send, status};
pub use incident::Incident;
pub use session::{ABOVE_STOP, Ended, Memini, STARTER, Session, neighbour, records, wait_until};
