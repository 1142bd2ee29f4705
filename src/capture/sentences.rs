//! What was found, in lines for people.

use std::fmt::{self, Write as _};

use super::suspects::{Findings, Suspect};
use crate::text::plain;
use crate::units::{Rate, Size, Span};

/// Where the memory is, and then the suspects, the most likely first.
pub fn lines(findings: &Findings) -> Vec<String> {
    let mut lines = Vec::with_capacity(findings.suspects.len().saturating_add(2));
    lines.push(match findings.growth {
        Some(growth) => format!("{} in {}: {}", Signed(growth), Span(findings.span), plain(&findings.place)),
        None => format!("in use: {}", plain(&findings.place)),
    });
    if findings.growth.is_some() && !findings.is_conclusive && !findings.suspects.is_empty() {
        lines.push("nothing of it explains enough to be called the cause".to_owned());
    }
    lines.extend(findings.suspects.iter().map(line));
    lines
}

/// `+9.4 MiB  __main__.data: list, 12000001 (+9400000), +1.2 MiB/s [heap of CPython 3.11.2, python3 7]`
pub fn line(suspect: &Suspect) -> String {
    let mut amount = amount(suspect);
    // Writing to a String cannot fail.
    if let Some(bytes) = suspect.up_to {
        let _ = write!(amount, ", up to +{} with what it holds", Size(bytes));
    }
    format!("{amount}  {}", who(suspect))
}

/// By how much it has grown, or what it takes.
pub fn amount(suspect: &Suspect) -> String {
    suspect.growth.map_or_else(|| Size(suspect.bytes).to_string(), |growth| Signed(growth).to_string())
}

/// What it is, how many there are, and where.
pub fn who(suspect: &Suspect) -> String {
    let mut text = plain(&suspect.what);
    if let Some(count) = suspect.count {
        let _ = write!(text, ", {count}");
    }
    if let Some(growth) = suspect.count_growth {
        let _ = write!(text, " ({growth:+})");
    }
    if let Some(rate) = suspect.rate.filter(|rate| *rate > 0.0) {
        let _ = write!(text, ", {}", Rate(rate));
    }
    let _ = write!(text, " [{}", plain(&suspect.place));
    if let Some(who) = &suspect.process {
        let _ = write!(text, ", {} {}", plain(&who.comm), who.pid);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::capture::suspects::Who;

    const MIB: i64 = 1 << 20;

    #[test]
    fn where_the_memory_is_comes_first_and_then_who_holds_it() {
        let suspect = Suspect {
            what: "app.cache: dict\u{1b}[2J".into(),
            place: "heap of CPython 3.11.2".into(),
            process: Some(Who { pid: 7, comm: "py\nthon".into() }),
            bytes: 90 << 20,
            growth: Some(50 * MIB),
            count: Some(1000),
            count_growth: Some(-3),
            rate: Some(1_048_576.0),
            ..Suspect::default()
        };
        let mut findings = Findings {
            place: "97% private memory of py\u{202e}\n".into(),
            growth: Some(-MIB),
            span: Duration::from_secs(60),
            suspects: vec![suspect],
            is_conclusive: true,
            ..Findings::default()
        };
        let first = "-1 MiB in 1 min 0 s: 97% private memory of py\\u{202e}\\n".to_owned();
        let second =
            "+50 MiB  app.cache: dict\\u{1b}[2J, 1000 (-3), +1 MiB/s [heap of CPython 3.11.2, py\\nthon 7]".to_owned();
        assert_eq!(lines(&findings), [first.clone(), second.clone()]);
        findings.is_conclusive = false;
        let between = "nothing of it explains enough to be called the cause".to_owned();
        assert_eq!(lines(&findings), [first, between, second]);
        findings.growth = None;
        assert_eq!(lines(&findings)[0], "in use: 97% private memory of py\\u{202e}\\n");
    }
}
