//! How often a stage may act: the cooldown, the number of captures, and once an incident.

use std::time::Duration;

use super::time::Moment;

/// For a stage that acts at most once an incident and once a cooldown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ration {
    last: Option<Moment>,
    used: bool,
}

impl Ration {
    /// A new incident has begun.
    pub fn renew(&mut self) {
        self.used = false;
    }

    /// Whether the stage has acted in this incident.
    pub const fn is_used(&self) -> bool {
        self.used
    }

    /// Whether the stage may act.
    pub fn allows(&self, now: Moment, cooldown: Duration) -> bool {
        !self.used && self.last.is_none_or(|last| now.since(last) >= cooldown)
    }

    /// The stage acts.
    pub fn spend(&mut self, now: Moment) {
        *self = Self { last: Some(now), used: true };
    }
}

/// What speaks against a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Nothing.
    Open,
    /// The last one is too near: so much of the cooldown is left.
    Cooling(Duration),
    /// All that a run may take are taken.
    UsedUp,
    /// In this incident there is one, and it has hardly grown since.
    NothingNew,
}

/// The captures of one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Captures {
    taken: u32,
    last: Option<Moment>,
    /// Gauged bytes at the last capture of this incident.
    gauged: Option<u64>,
    /// Whether it was said, since the last capture or incident began, that one is skipped.
    told: bool,
}

impl Captures {
    /// A new incident has begun.
    pub fn renew(&mut self) {
        (self.gauged, self.told) = (None, false);
    }

    /// How many were taken.
    pub const fn taken(&self) -> u32 {
        self.taken
    }

    /// Whether there is none in this incident.
    pub const fn none_yet(&self) -> bool {
        self.gauged.is_none()
    }

    /// Whether one may be taken. `news` is by how many bytes it must have grown since the last one of an incident.
    pub fn gate(&self, now: Moment, gauged: u64, news: u64, cooldown: Duration, max: u32) -> Gate {
        if self.gauged.is_some_and(|before| gauged < before.saturating_add(news)) {
            return Gate::NothingNew;
        }
        if self.taken >= max {
            return Gate::UsedUp;
        }
        let left = self.last.map_or(Duration::ZERO, |last| cooldown.saturating_sub(now.since(last)));
        if left.is_zero() { Gate::Open } else { Gate::Cooling(left) }
    }

    /// One is taken.
    pub fn take(&mut self, now: Moment, gauged: u64) {
        *self = Self { taken: self.taken.saturating_add(1), last: Some(now), gauged: Some(gauged), told: false };
    }

    /// Whether it is still to be said that one is skipped; only once.
    pub fn tell(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_ration_is_for_one_incident_and_one_cooldown() {
        let mut ration = Ration::default();
        assert!(ration.allows(at(0), COOLDOWN));
        ration.spend(at(0));
        assert!(ration.is_used() && !ration.allows(at(600), COOLDOWN));
        ration.renew();
        assert!(!ration.allows(at(59), COOLDOWN) && ration.allows(at(60), COOLDOWN));
    }

    #[test]
    fn captures_keep_their_distance_in_time_and_in_bytes() {
        let mut captures = Captures::default();
        let gate = |captures: &Captures, seconds, gauged| captures.gate(at(seconds), gauged, 10, COOLDOWN, 2);
        assert_eq!(gate(&captures, 0, 800), Gate::Open);
        captures.take(at(0), 800);
        assert!(!captures.none_yet());
        assert_eq!(gate(&captures, 600, 809), Gate::NothingNew);
        assert_eq!(gate(&captures, 45, 810), Gate::Cooling(Duration::from_secs(15)));
        assert_eq!(gate(&captures, 60, 810), Gate::Open);
        captures.renew();
        assert!(captures.none_yet());
        assert_eq!(gate(&captures, 59, 800), Gate::Cooling(Duration::from_secs(1)));
        assert_eq!(gate(&captures, 60, 800), Gate::Open);
        captures.take(at(60), 800);
        assert_eq!(gate(&captures, 600, 900), Gate::UsedUp);
        assert_eq!(captures.taken(), 2);
    }

    #[test]
    fn a_skipped_capture_is_told_once_until_the_next_capture_or_incident() {
        let mut captures = Captures::default();
        assert!(captures.tell() && !captures.tell());
        captures.renew();
        assert!(captures.tell() && !captures.tell());
        captures.take(at(0), 1);
        assert!(captures.tell());
    }
}
