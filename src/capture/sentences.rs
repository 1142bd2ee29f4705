//! What was found, in lines for people.

use std::fmt::{self, Write as _};

use super::suspects::{Findings, Suspect};
use crate::units::{Rate, Size, Span};

/// Where the memory is, and then the suspects, the most likely first.
pub fn lines(findings: &Findings) -> Vec<String> {
    let mut lines = Vec::with_capacity(findings.suspects.len().saturating_add(2));
    lines.push(match findings.growth {
        Some(growth) => format!("{} in {}: {}", Signed(growth), Span(findings.span), findings.place),
        None => format!("in use: {}", findings.place),
    });
    if findings.growth.is_some() && !findings.is_conclusive && !findings.suspects.is_empty() {
        lines.push("nothing of it explains enough to be called the cause".to_owned());
    }
    lines.extend(findings.suspects.iter().map(line));
    lines
}

/// `+9.4 MiB  __main__.data: list, 12000001 (+9400000), +1.2 MiB/s [heap of CPython 3.11.2, python3 7]`
pub fn line(suspect: &Suspect) -> String {
    let mut text = suspect.growth.map_or_else(|| Size(suspect.bytes).to_string(), |growth| Signed(growth).to_string());
    // Writing to a String cannot fail.
    let _ = write!(text, "  {}", suspect.what.escape_debug());
    if let Some(count) = suspect.count {
        let _ = write!(text, ", {count}");
    }
    if let Some(growth) = suspect.count_growth {
        let _ = write!(text, " ({growth:+})");
    }
    if let Some(rate) = suspect.rate.filter(|rate| *rate > 0.0) {
        let _ = write!(text, ", {}", Rate(rate));
    }
    let _ = write!(text, " [{}", suspect.place.escape_debug());
    if let Some(who) = &suspect.process {
        let _ = write!(text, ", {} {}", who.comm.escape_debug(), who.pid);
    }
    text.push(']');
    text
}

/// Bytes with their sign.
pub struct Signed(pub i64);

impl fmt::Display for Signed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(out, "{sign}{}", Size(self.0.unsigned_abs()))
    }
}
