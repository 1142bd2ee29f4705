//! What an incident is: its journal in memory while it lasts, its folder on disk.

pub mod digest;
pub mod folder;
pub mod history;
pub mod journal;
pub mod record;
pub mod report;
pub mod retention;
#[cfg(test)]
#[path = "../../tests/support/schema.rs"]
mod schema;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::units::LAST_MOMENT;

/// The version of `incident.json`.
pub const SCHEMA: &str = "memini.incident/1";

/// `2026-11-22T05-45-01Z-HOSTNAME-1`: sorts by time, and is a file name on every file system. `place` is that of the run among
/// those that record in the same folder: from the second on (`HOSTNAME.2-1`) it keeps apart who has the same name for the host.
pub fn name(now: SystemTime, hostname: &str, place: u8, count: u32) -> String {
    let time = stamp(now);
    let mut host: String = hostname.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    host.truncate(64);
    let place = if place > 1 { format!(".{place}") } else { String::new() };
    format!("{time}-{host}{place}-{count}")
}

/// `2026-11-22T05-45-01Z`: the same without a place.
pub fn stamp(now: SystemTime) -> String {
    // A recorder may tell of any time; a later one has no such form.
    let now = now.min(UNIX_EPOCH + LAST_MOMENT);
    humantime::format_rfc3339_seconds(now).to_string().replace(':', "-")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_incident_is_named_after_time_and_place() {
        let moment = UNIX_EPOCH + Duration::from_secs(1_795_326_301);
        assert_eq!(name(moment, "web-1", 0, 2), "2026-11-22T05-45-01Z-web-1-2");
        assert_eq!(name(moment, "web", 1, 2), "2026-11-22T05-45-01Z-web-2");
        assert_eq!(name(moment, "web", 3, 2), "2026-11-22T05-45-01Z-web.3-2");
        assert_eq!(name(moment, "../../etc", 1, 1), "2026-11-22T05-45-01Z-etc-1");
    }

    #[test]
    fn whatever_the_clock_is_set_to_an_incident_has_a_name() {
        // The kernel takes no time before 1970 and none that 64 bits of nanoseconds could not hold (settimeofday(2)).
        assert_eq!(name(UNIX_EPOCH, "web", 1, 1), "1970-01-01T00-00-00Z-web-1");
        let last = Duration::from_nanos(i64::MAX.unsigned_abs());
        assert_eq!(name(UNIX_EPOCH + last, "web", 1, 1), "2262-04-11T23-47-16Z-web-1");
        // What stands in a recorder is not checked (regression test: it was a panic).
        let absurd = Duration::from_millis(400_000_000_000_000);
        assert_eq!(name(UNIX_EPOCH + absurd, "web", 1, 1), "9999-12-31T23-59-59Z-web-1");
    }
}
