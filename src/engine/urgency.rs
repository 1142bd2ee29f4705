//! Whether the app must be stopped: "level says may, urgency says must".

use std::time::Duration;

use super::event::StopReason;
use super::levels::View;
use super::peak::Peak;
use super::rate::{seconds_until, span};
use super::settings::{Settings, Stage, StopWhen};
use super::time::Moment;
use crate::cgroup::reading::Scope;

/// Beside the grace period: for the last hooks, and for being wrong about the rate.
const MARGIN: Duration = Duration::from_secs(5);

/// Growth must go on for this long, or for an eighth of the time that is left, before it is believed.
const CONFIRM: f64 = 1.0;

/// With so little time left nobody could shut down in it, and growth is sudden: half of the room is spent on certainty. A
/// heap that is touched at the start, as fast as can be, up to 95%, is told from a leak by nothing but its end.
const TOO_LITTLE: f64 = 0.5;

/// Sudden growth must have gone on until now: looked at over so long.
const RECENT: Duration = Duration::from_millis(8);

/// What must have been gained meanwhile, as a share of what the rate foretold. A single step gains nothing after it.
const BELIEVED: f64 = 0.25;

/// Only what passes the peak of at least this long is growth; below it, it is the next tooth of a saw, which the short
/// average alone would take for a leak again and again.
const MEMORY: Duration = Duration::from_secs(30);

/// The least room to shut down in: a share of the limit, and bytes.
const FLOOR_SHARE: u64 = 50;
const FLOOR_BYTES: u64 = 16 << 20;

/// The limit will be reached before anybody could look again and do something about it.
const IMMINENT: f64 = 0.5;

/// Growth that would be urgent if it went on.
#[derive(Clone, Copy, Debug)]
struct Claim {
    made: Moment,
    until: Moment,
    gauged: u64,
    rate: f64,
    /// Bytes to be gained before sudden growth is believed; 0 for growth that is not sudden.
    half: u64,
    /// Where it stood a moment ago, and one before that.
    marks: [(Moment, u64); 2],
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    None,
    /// Wait and see whether it really grows.
    Wait,
    /// Stop the app.
    Stop(StopReason),
}

/// Decides about the stop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Urgency {
    claim: Option<Claim>,
    /// The highest that was gauged in the last half minute to minute.
    peak: Peak<u64>,
    scope: Scope,
}

impl Urgency {
    /// Whether the app must be stopped now. Below the stop threshold it never must. `leaks`: the trend says so.
    pub fn need(&mut self, now: Moment, view: &View, leaks: bool, settings: &Settings) -> Need {
        let may = view.reached >= Stage::Stop && view.steps.of(Stage::Stop).is_some();
        let (claim, peak) = (self.claim.take(), self.peak(now, view));
        let (true, Some(limit), Some(room)) = (may, view.sample.limit, view.sample.room) else { return Need::None };
        if settings.stop_when == StopWhen::Level {
            return Need::Stop(StopReason::Level);
        }
        if room < FLOOR_BYTES.max(limit / FLOOR_SHARE) {
            return Need::Stop(StopReason::Floor);
        }
        // Where an ancestor's limit counts, its height is the neighbours' as well.
        if leaks && !matches!(view.level.scope, Scope::Ancestor(_)) {
            return Need::Stop(StopReason::Leak);
        }
        let enough = settings.grace.saturating_add(MARGIN).as_secs_f64();
        if view.sample.time_to_limit.is_none_or(|seconds| seconds >= enough) {
            return Need::None;
        }
        match claim {
            Some(claim) if claim.is_open(now, view.sample.gauged) => {
                self.claim = Some(claim.with(now, view.sample.gauged))
            }
            Some(claim) if claim.holds(now, view, room, enough) => {
                return Need::Stop(StopReason::Urgent);
            }
            // Urgent by the rate, but not by what came of it: a step that the averages have not forgotten yet, or a tooth.
            _ if view.sample.gauged < peak => return Need::None,
            _ => self.claim = Some(Claim::new(now, view, room)),
        }
        Need::Wait
    }

    /// The peak before this reading.
    fn peak(&mut self, now: Moment, view: &View) -> u64 {
        if self.scope != view.level.scope {
            *self = Self { scope: view.level.scope, ..Self::default() };
        }
        let before = self.peak.highest();
        self.peak.add(now, view.sample.gauged, MEMORY);
        before
    }

    /// When a claim is to be looked at.
    pub fn deadline(&self) -> Option<Moment> {
        self.claim.map(|claim| claim.until)
    }
}

impl Claim {
    fn new(now: Moment, view: &View, room: u64) -> Self {
        // The highest rate tells how little time there may be; it is also the one that must prove true.
        let rate = view.fastest;
        let left = seconds_until(room, rate).unwrap_or(f64::INFINITY);
        let half = if left < TOO_LITTLE { room / 2 } else { 0 };
        let gauged = view.sample.gauged;
        let until = now.after(span((left / 8.0).min(CONFIRM)));
        Self { made: now, until, gauged, rate, half, marks: [(now, gauged); 2] }
    }

    /// It goes on: so much is gauged now.
    fn with(mut self, now: Moment, gauged: u64) -> Self {
        let [_, last] = self.marks;
        if now.since(last.0) >= RECENT {
            self.marks = [last, (now, gauged)];
        }
        self
    }

    /// Whether it is too early to say: growth is sudden, goes on, and leaves more than half of the room.
    fn is_open(&self, now: Moment, gauged: u64) -> bool {
        now < self.until || (gauged.saturating_sub(self.gauged) < self.half && self.goes_on(now, gauged))
    }

    fn goes_on(&self, now: Moment, gauged: u64) -> bool {
        let [(then, before), _] = self.marks;
        gauged.saturating_sub(before) as f64 >= self.rate * now.since(then).as_secs_f64() * BELIEVED
    }

    /// Whether enough of the growth came true, and what came true is urgent in itself: an average of 30 s still tells of
    /// a start-up that was fast, when the app only creeps.
    /// Sudden growth must also go on still.
    fn holds(&self, now: Moment, view: &View, room: u64, enough: f64) -> bool {
        let seconds = now.since(self.made).as_secs_f64();
        let gained = view.sample.gauged.saturating_sub(self.gauged) as f64;
        let left = seconds_until(room, gained / seconds);
        let is_over = self.half > 0 && !self.goes_on(now, view.sample.gauged);
        !is_over && gained >= self.rate * seconds * BELIEVED && left.is_some_and(|left| left < enough)
    }
}

/// Whether the app must be killed now. Below the kill threshold it never must. `grace_left` is what the app still has if
/// it is being stopped.
pub fn must_kill(view: &View, settings: &Settings, grace_left: Option<Duration>) -> bool {
    let may = view.reached >= Stage::Kill;
    let imminent = view.seconds_left < IMMINENT;
    let outrun = match (grace_left, view.sample.time_to_limit) {
        (Some(left), Some(seconds)) => seconds < left.as_secs_f64(),
        _ => false,
    };
    may && (settings.stop_when == StopWhen::Level || imminent || outrun)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::Sample;
    use crate::engine::gauge::Gauged;
    use crate::engine::ladder::Steps;

    const MIB: u64 = 1 << 20;

    fn at(millis: u64) -> Moment {
        Moment::default().after(Duration::from_millis(millis))
    }

    /// A level of 1000 MiB with so many MiB gauged that grows by so many a second.
    fn view(gauged: u64, rate: f64) -> View {
        let (limit, gauged, rate) = (1000 * MIB, gauged * MIB, rate * MIB as f64);
        let (steps, _) = Steps::resolve(&Settings::default().thresholds, limit);
        let room = limit - gauged;
        let time_to_limit = seconds_until(room, rate);
        View {
            sample: Sample { gauged, limit: Some(limit), room: Some(room), rate, time_to_limit, ..Sample::default() },
            level: Gauged::default(),
            steps,
            reached: steps.reached(gauged),
            held: steps.held(gauged),
            seconds_left: time_to_limit.unwrap_or(f64::INFINITY),
            fastest: rate,
        }
    }

    fn needs(views: &[(u64, View)]) -> Vec<Need> {
        let mut urgency = Urgency::default();
        views.iter().map(|(millis, view)| urgency.need(at(*millis), view, false, &Settings::default())).collect()
    }

    #[test]
    fn below_the_stop_threshold_nothing_is_ever_stopped() {
        let level = Settings { stop_when: StopWhen::Level, ..Settings::default() };
        for settings in [Settings::default(), level] {
            let mut urgency = Urgency::default();
            for millis in [0, 1000, 2000] {
                assert_eq!(urgency.need(at(millis), &view(919, 9e9), true, &settings), Need::None);
                assert!(!must_kill(&view(969, 9e9), &settings, Some(Duration::from_secs(9))));
            }
        }
    }

    #[test]
    fn growth_that_goes_on_is_urgent_after_a_second() {
        let rate = 5.0;
        assert_eq!(
            needs(&[(0, view(930, rate)), (500, view(932, rate)), (999, view(934, rate)), (1000, view(935, rate))]),
            [Need::Wait, Need::Wait, Need::Wait, Need::Stop(StopReason::Urgent)]
        );
    }

    #[test]
    fn what_creeps_after_a_fast_start_is_not_urgent_for_its_past() {
        // The averages say 5 MiB/s, 13 s until the limit; it grows by 2 MiB/s, which leaves half a minute.
        let creep: Vec<_> = (0..4).map(|second| (second * 1000, view(935 + 2 * second, 5.0))).collect();
        assert_eq!(needs(&creep), [Need::Wait; 4]);
        let growth: Vec<_> = (0..2).map(|second| (second * 1000, view(935 + 5 * second, 5.0))).collect();
        assert_eq!(needs(&growth), [Need::Wait, Need::Stop(StopReason::Urgent)]);
    }

    #[test]
    fn the_less_time_is_left_the_shorter_the_wait() {
        let rate = 700.0;
        assert_eq!(
            needs(&[(0, view(930, rate)), (49, view(964, rate)), (50, view(965, rate))]),
            [Need::Wait, Need::Wait, Need::Stop(StopReason::Urgent)]
        );
        let rate = 70.0;
        assert_eq!(
            needs(&[(0, view(930, rate)), (124, view(938, rate)), (125, view(939, rate))]),
            [Need::Wait, Need::Wait, Need::Stop(StopReason::Urgent)]
        );
    }

    #[test]
    fn sudden_growth_that_has_ended_is_no_reason_to_stop() {
        let climb = |end: u64| {
            let millis = (0..=117).step_by(3);
            millis.map(|millis| (millis, view((930 + millis * 3 / 10).min(end), 300.0))).collect::<Vec<_>>()
        };
        assert_eq!(needs(&climb(1000)).last(), Some(&Need::Stop(StopReason::Urgent)));
        assert_eq!(needs(&climb(950)).last(), Some(&Need::Wait), "nothing was added for 50 ms");
    }

    #[test]
    fn a_step_is_no_growth_whatever_the_averages_say() {
        let mut urgency = Urgency::default();
        for millis in 0..60_000 {
            let need = urgency.need(
                at(millis),
                &view(930, 400.0 * (-(millis as f64) / 30_000.0).exp()),
                false,
                &Settings::default(),
            );
            assert!(!matches!(need, Need::Stop(_)), "{millis}");
        }
        assert!(urgency.deadline().is_some());
        assert_eq!(urgency.need(at(61_000), &view(930, 1.0), false, &Settings::default()), Need::None);
        assert_eq!(urgency.deadline(), None);
    }

    #[test]
    fn the_teeth_of_a_saw_are_no_growth_as_long_as_they_stay_below_their_peak() {
        // 91% to 95%, 4 MiB in each tenth of a second: 700 ms before the limit at the highest point, each second.
        let mut urgency = Urgency::default();
        for tenth in 0..3000 {
            let tooth = if tenth == 0 { 10 } else { tenth % 11 };
            let need = urgency.need(at(tenth * 100), &view(910 + 4 * tooth, 40.0), false, &Settings::default());
            assert!(!matches!(need, Need::Stop(_)), "{tenth}");
        }
        let needs = [0, 100, 200].map(|millis| {
            urgency.need(at(300_000 + millis), &view(951 + millis / 25, 40.0), false, &Settings::default())
        });
        assert_eq!(needs, [Need::Wait, Need::Wait, Need::Stop(StopReason::Urgent)]);
    }

    #[test]
    fn a_peak_is_forgotten_after_a_minute() {
        let mut peak = Peak::<u64>::default();
        for (millis, gauged, highest) in [
            (0, 900, 900),
            (29_000, 100, 900),
            (30_000, 100, 900),
            (59_000, 200, 900),
            (60_000, 50, 200),
            (200_000, 7, 7),
        ] {
            peak.add(at(millis), gauged, MEMORY);
            assert_eq!(peak.highest(), highest, "{millis}");
        }
    }

    #[test]
    fn calm_is_a_limit_farther_away_than_grace_and_margin() {
        // 70 MiB of room, 15 s to leave: 4.67 MiB/s.
        assert_eq!(needs(&[(0, view(930, 4.6))]), [Need::None]);
        assert_eq!(needs(&[(0, view(930, 4.7))]), [Need::Wait]);
        assert_eq!(needs(&[(0, view(930, 0.0)), (1, view(930, -5.0))]), [Need::None; 2]);
    }

    #[test]
    fn above_the_stop_threshold_a_leak_is_reason_enough() {
        let need = |view: &View| Urgency::default().need(at(0), view, true, &Settings::default());
        assert_eq!(need(&view(920, 0.0)), Need::Stop(StopReason::Leak));
        assert_eq!(need(&view(919, 0.0)), Need::None);
        let mut of_all = view(920, 0.0);
        of_all.level.scope = Scope::Ancestor(1);
        assert_eq!(need(&of_all), Need::None, "who knows whose growth that is");
    }

    #[test]
    fn too_little_room_is_reason_enough_at_once() {
        assert_eq!(needs(&[(0, view(981, 0.0))]), [Need::Stop(StopReason::Floor)]);
        assert_eq!(needs(&[(0, view(980, 0.0))]), [Need::None]);
    }

    #[test]
    fn the_plain_threshold_is_for_those_who_want_it() {
        let settings = Settings { stop_when: StopWhen::Level, ..Settings::default() };
        assert_eq!(Urgency::default().need(at(0), &view(920, -1.0), false, &settings), Need::Stop(StopReason::Level));
        assert!(must_kill(&view(970, -1.0), &settings, None));
    }

    #[test]
    fn a_stop_that_is_switched_off_is_never_needed() {
        let mut view = view(990, 50.0);
        let mut thresholds = Settings::default().thresholds;
        thresholds.stop = crate::engine::settings::Threshold::Off;
        (view.steps, _) = Steps::resolve(&thresholds, 1000 * MIB);
        assert_eq!(Urgency::default().need(at(0), &view, true, &Settings::default()), Need::None);
    }

    #[test]
    fn a_kill_wants_an_imminent_end_or_an_outrun_grace_period() {
        let settings = Settings::default();
        for (gauged, rate, grace_left, kills) in [
            (975, 0.0, None, false),
            (975, 49.0, None, false),
            (975, 51.0, None, true),
            (975, 5.1, Some(5), true),
            (975, 4.9, Some(5), false),
            (975, 0.0, Some(5), false),
        ] {
            let kill = must_kill(&view(gauged, rate), &settings, grace_left.map(Duration::from_secs));
            assert_eq!(kill, kills, "{gauged} {rate} {grace_left:?}");
        }
    }
}
