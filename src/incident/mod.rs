//! What an incident is: its journal in memory while it lasts, its folder on disk.

pub mod digest;
pub mod folder;
pub mod journal;
pub mod record;
pub mod report;
pub mod retention;
#[cfg(test)]
#[path = "../../tests/support/schema.rs"]
mod schema;

/// The version of `incident.json`.
pub const SCHEMA: &str = "memini.incident/1";
