//! Whether the thresholds make a ladder.

use crate::engine::settings::{Stage, Threshold, Thresholds};
use crate::units::Size;

/// Thresholds must ascend, and be within the limit. Without a limit only those are compared that can be without one:
/// shares with shares, sizes with sizes, distances with distances. Call again as soon as the limit is known, bytes.
pub fn check_ascending(thresholds: &Thresholds, limit: Option<u64>) -> Result<(), String> {
    let steps: Vec<Step> = Stage::LADDER
        .into_iter()
        .map(|stage| Step { stage, threshold: thresholds.of(stage) })
        .filter(|step| step.threshold != Threshold::Off)
        .collect();
    for (index, higher) in steps.iter().enumerate() {
        if let Some(limit) = limit {
            higher.check_within(limit)?;
        }
        for lower in steps.iter().take(index).rev() {
            if !higher.is_above(lower, limit) {
                return Err(not_above(higher, lower, limit));
            }
        }
    }
    Ok(())
}

struct Step {
    stage: Stage,
    threshold: Threshold,
}

impl Step {
    fn check_within(&self, limit: u64) -> Result<(), String> {
        if self.threshold.bytes(limit).is_some() {
            return Ok(());
        }
        let why = match self.threshold {
            Threshold::Bytes(_) => "is above 100%",
            _ => "leaves nothing",
        };
        Err(format!("{} {why} of the limit {}", self.option(), Size(limit)))
    }

    /// True also where nobody can tell yet.
    fn is_above(&self, lower: &Self, limit: Option<u64>) -> bool {
        if let Some(limit) = limit {
            return self.threshold.bytes(limit) > lower.threshold.bytes(limit);
        }
        match (self.threshold, lower.threshold) {
            (Threshold::Percent(high), Threshold::Percent(low)) => high > low,
            (Threshold::Bytes(high), Threshold::Bytes(low)) => high > low,
            (Threshold::Below(high), Threshold::Below(low)) => high < low,
            _ => true,
        }
    }

    /// `--stop-at 92%`
    fn option(&self) -> String {
        format!("--{}-at {}", self.stage, self.threshold)
    }

    /// With the bytes where the text does not say them.
    fn resolved(&self, limit: Option<u64>) -> String {
        match limit.and_then(|limit| self.threshold.bytes(limit)) {
            Some(bytes) if !matches!(self.threshold, Threshold::Bytes(_)) => {
                format!("{} ({})", self.option(), Size(bytes))
            }
            _ => self.option(),
        }
    }
}

fn not_above(higher: &Step, lower: &Step, limit: Option<u64>) -> String {
    let of = limit.map(|limit| format!(" of the limit {}", Size(limit))).unwrap_or_default();
    format!("{} is not above {}{of}; thresholds must ascend, or be off", higher.resolved(limit), lower.resolved(limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::units;

    const LIMIT: u64 = 256 << 20;

    fn ladder(texts: [&str; 4]) -> Thresholds {
        let [trace, capture, stop, kill] = texts.map(|text| units::threshold(text).unwrap());
        Thresholds { trace, capture, stop, kill }
    }

    #[test]
    fn ladders_that_ascend_are_accepted() {
        for (texts, limit) in [
            (["60%", "80%", "92%", "97%"], None),
            (["60%", "80%", "92%", "97%"], Some(LIMIT)),
            (["60%", "400MiB", "-64MiB", "97%"], None),
            (["-64MiB", "-32MiB", "-16MiB", "-1MiB"], None),
            (["100MiB", "60%", "-64MiB", "100%"], Some(LIMIT)),
            (["off", "off", "off", "off"], Some(LIMIT)),
            (["97%", "off", "off", "98%"], Some(LIMIT)),
            (["60%", "80%", "92%", "97%"], Some(u64::MAX)),
        ] {
            assert_eq!(check_ascending(&ladder(texts), limit), Ok(()), "{texts:?} of {limit:?}");
        }
    }

    #[test]
    fn ladders_that_do_not_ascend_are_refused_by_both_names() {
        for (texts, limit, message) in [
            (["60%", "60%", "92%", "97%"], None, "--capture-at 60% is not above --trace-at 60%"),
            (["60%", "off", "50%", "97%"], None, "--stop-at 50% is not above --trace-at 60%"),
            (["60%", "400MiB", "50%", "97%"], None, "--stop-at 50% is not above --trace-at 60%"),
            (["off", "1GiB", "400MiB", "off"], None, "--stop-at 400MiB is not above --capture-at 1GiB"),
            (["-32MiB", "-64MiB", "off", "off"], None, "--capture-at -64MiB is not above --trace-at -32MiB"),
            (
                ["220MiB", "80%", "92%", "97%"],
                Some(LIMIT),
                "--capture-at 80% (205 MiB) is not above --trace-at 220MiB of the limit 256 MiB",
            ),
            (
                ["60%", "80%", "-64MiB", "97%"],
                Some(LIMIT),
                "--stop-at -64MiB (192 MiB) is not above --capture-at 80% (205 MiB) of the limit 256 MiB",
            ),
        ] {
            let message = format!("{message}; thresholds must ascend, or be off");
            assert_eq!(check_ascending(&ladder(texts), limit), Err(message), "{texts:?} of {limit:?}");
        }
    }

    #[test]
    fn thresholds_that_the_limit_does_not_reach_are_refused() {
        for (texts, limit, message) in [
            (["60%", "80%", "400MiB", "off"], LIMIT, "--stop-at 400MiB is above 100% of the limit 256 MiB"),
            (["-64MiB", "80%", "92%", "97%"], 32 << 20, "--trace-at -64MiB leaves nothing of the limit 32 MiB"),
            (["-32MiB", "80%", "92%", "97%"], 32 << 20, "--trace-at -32MiB leaves nothing of the limit 32 MiB"),
        ] {
            assert_eq!(check_ascending(&ladder(texts), Some(limit)), Err(message.to_owned()), "{texts:?} of {limit}");
        }
    }
}
