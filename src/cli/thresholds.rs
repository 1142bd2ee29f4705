//! Whether the thresholds make a ladder.

use super::units::{size_text, threshold_text};
use crate::engine::settings::{Stage, Threshold, Thresholds};

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
        Err(format!("{} {why} of the limit {}", self.option(), size_text(limit)))
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
        format!("--{}-at {}", self.stage, threshold_text(self.threshold))
    }

    /// With the bytes where the text does not say them.
    fn resolved(&self, limit: Option<u64>) -> String {
        match limit.and_then(|limit| self.threshold.bytes(limit)) {
            Some(bytes) if !matches!(self.threshold, Threshold::Bytes(_)) => {
                format!("{} ({})", self.option(), size_text(bytes))
            }
            _ => self.option(),
        }
    }
}

fn not_above(higher: &Step, lower: &Step, limit: Option<u64>) -> String {
    let of = limit.map(|limit| format!(" of the limit {}", size_text(limit))).unwrap_or_default();
    format!("{} is not above {}{of}; thresholds must ascend, or be off", higher.resolved(limit), lower.resolved(limit))
}
