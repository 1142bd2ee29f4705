//! The most of a while: a maximum that forgets.

use std::time::Duration;

use super::time::Moment;

/// The highest value of the last span, or of at most two.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peak<T> {
    since: Moment,
    now: T,
    before: T,
}

impl<T: Copy + Ord + Default> Peak<T> {
    /// Takes a value; what is older than `span` is on its way to be forgotten.
    pub fn add(&mut self, now: Moment, value: T, span: Duration) {
        let age = now.since(self.since);
        if age >= span {
            let before = if age < span.saturating_mul(2) { self.now } else { T::default() };
            *self = Self { since: now, now: T::default(), before };
        }
        self.now = self.now.max(value);
    }

    /// The highest of the span before the present one.
    pub const fn earlier(&self) -> T {
        self.before
    }

    /// The highest.
    pub fn highest(&self) -> T {
        self.now.max(self.before)
    }
}
