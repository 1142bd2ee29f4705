//! The last looks at memory: where the kernel was faster, they tell why.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::time::Moment;

/// How many are kept.
const KEPT: usize = 6;

/// One look at memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Look {
    /// When, in microseconds since the start: milliseconds would not tell enough.
    #[serde(rename = "at_us", serialize_with = "since_start")]
    pub at: Moment,
    /// What thresholds are compared with, or its bound; bytes.
    pub gauged: u64,
    /// How many microseconds later than planned.
    pub late_us: u32,
    /// Whether the tree was stopped for it.
    pub braked: bool,
}

fn since_start<S: Serializer>(at: &Moment, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(micros(at.since(Moment::default())))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// The last looks, the oldest first.
pub type LastLooks = [Option<Look>; KEPT];

/// Keeps them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looks {
    kept: LastLooks,
    late: Duration,
}

impl Looks {
    /// The next look comes so late.
    pub(super) fn is_late(&mut self, late: Duration) {
        self.late = late;
    }

    pub(super) fn take(&mut self, now: Moment, gauged: u64, braked: bool) {
        self.kept.rotate_left(1);
        if let Some(last) = self.kept.last_mut() {
            let late_us = u32::try_from(micros(std::mem::take(&mut self.late))).unwrap_or(u32::MAX);
            *last = Some(Look { at: now, gauged, late_us, braked });
        }
    }

    pub(super) const fn last(&self) -> LastLooks {
        self.kept
    }
}
