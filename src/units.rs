//! Sizes and times as people read them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last moment that RFC 3339 has a form for, the end of the year 9999: the time since 1970.
pub const LAST_MOMENT: Duration = Duration::from_millis(253_402_300_799_999);

/// The moment that is so many milliseconds after 1970; `None` where RFC 3339 has no form for it. What is read from files is not
/// checked, and formatting another one would be a panic.
pub fn moment(unix_ms: u64) -> Option<SystemTime> {
    let since = Duration::from_millis(unix_ms);
    UNIX_EPOCH.checked_add(since).filter(|_| since <= LAST_MOMENT)
}

/// The same for people: `2026-11-22T05:45:01Z`.
pub fn clock(unix_ms: u64) -> Option<String> {
    Some(humantime::format_rfc3339_seconds(moment(unix_ms)?).to_string())
}

/// Bytes, in binary units: `205 MiB`, `1.5 GiB`, `512 B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut value = self.0 as f64;
        let mut units = UNITS.iter();
        let mut unit = units.next().unwrap_or(&"");
        // 1023.5 of a unit would be rounded to 1024.
        while value >= 1023.5 {
            let Some(next) = units.next() else { break };
            unit = next;
            value /= 1024.0;
        }
        let tenths = (value * 10.0).round();
        let digits = usize::from(tenths < 1000.0 && tenths % 10.0 != 0.0);
        write!(out, "{value:.digits$} {unit}")
    }
}

/// Bytes in the largest unit that leaves no rest, so that nothing is lost: `400MiB`, `1000B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExactSize(pub u64);

impl fmt::Display for ExactSize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let unit = UNITS.into_iter().find(|(unit, _)| self.0.is_multiple_of(*unit));
        let (unit, name) = unit.unwrap_or((1, "B"));
        write!(out, "{}{name}", self.0.checked_div(unit).unwrap_or(self.0))
    }
}

/// A size by which something grows or shrinks in a second: `+19.1 MiB/s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub f64);

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0.0 { '-' } else { '+' };
        write!(out, "{sign}{}/s", Size(self.0.abs() as u64))
    }
}

/// A time: `35 ms`, `1.2 s`, `4 min 10 s`, `2 h 5 min`, `3 d 7 h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let whole = self.0.as_secs();
        if seconds < 0.001 && seconds > 0.0 {
            write!(out, "{:.1} ms", seconds * 1000.0)
        } else if seconds < 0.9995 {
            write!(out, "{:.0} ms", seconds * 1000.0)
        } else if whole < 60 {
            if self.0.subsec_nanos() == 0 { write!(out, "{whole} s") } else { write!(out, "{seconds:.1} s") }
        } else if whole < 3600 {
            write!(out, "{} min {} s", whole / 60, whole % 60)
        } else if whole < 2 * 86400 {
            write!(out, "{} h {} min", whole / 3600, whole / 60 % 60)
        } else {
            write!(out, "{} d {} h", whole / 86400, whole / 3600 % 24)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1_048_500, "1 MiB"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (256 << 20, "256 MiB"),
            (214_748_364, "205 MiB"),
            (20_000_000, "19.1 MiB"),
            ((1 << 30) - 1, "1 GiB"),
            (1 << 30, "1 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn rates_have_a_sign() {
        assert_eq!(Rate(20_000_000.0).to_string(), "+19.1 MiB/s");
        assert_eq!(Rate(-1024.0).to_string(), "-1 KiB/s");
    }

    #[test]
    fn times_read_as_people_say_them() {
        for (span, text) in [
            (Duration::ZERO, "0 ms"),
            (Duration::from_micros(300), "0.3 ms"),
            (Duration::from_millis(35), "35 ms"),
            (Duration::from_millis(1200), "1.2 s"),
            (Duration::from_secs(10), "10 s"),
            (Duration::from_secs(250), "4 min 10 s"),
            (Duration::from_secs(7500), "2 h 5 min"),
            (Duration::from_secs(86400), "24 h 0 min"),
            (Duration::from_secs(3 * 86400 + 7 * 3600 + 59), "3 d 7 h"),
        ] {
            assert_eq!(Span(span).to_string(), text);
        }
    }
}
