//! What a chart is drawn from.

use serde_json::{Map, Value};

use super::story::{Kept, Story};

/// The lowest, the highest and the last value since the point before; bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The lowest.
    pub low: u64,
    /// The highest.
    pub high: u64,
    /// The last.
    pub last: u64,
}

impl Range {
    /// Of a single value.
    pub const fn at(value: u64) -> Self {
        Self { low: value, high: value, last: value }
    }

    fn of([low, high, last]: [u64; 3]) -> Self {
        Self { low: low.min(last), high: high.max(last), last }
    }
}

/// The kinds of memory that are shown, from below to above: what cannot be let go first.
pub const KINDS: [(&str, &str); 7] = [
    ("anon", "private (anon)"),
    ("shmem", "shared and tmpfs"),
    ("slab", "kernel objects (slab)"),
    ("kernel", "stacks and page tables"),
    ("sock", "socket buffers"),
    ("rest", "swap and the rest"),
    ("cache", "page cache"),
];

/// How much of each of [`KINDS`]; bytes.
pub type Parts = [u64; KINDS.len()];

/// One point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Since memini started.
    pub seconds: f64,
    /// All that is charged.
    pub usage: Range,
    /// What thresholds are compared with.
    pub gauged: Range,
    /// The limit that counts.
    pub limit: Option<u64>,
    /// Where the bytes are, if that was seen.
    pub parts: Option<Parts>,
}

/// A growth is worth telling from this part of the limit on, and from so many bytes.
const WORTH_TELLING: u64 = 20;
const WORTH_TELLING_BYTES: u64 = 1 << 20;

/// How much of a climb may be lost again on the way, one part in so many, or of the limit: what a collector gives back.
const DIP: u64 = 4;
const DIP_OF_LIMIT: u64 = 10;

/// A bend in a climb is a beginning if it lies so much, one part in so many of what was gained, below the straight way up; and how
/// often one is looked for.
const KNEE: f64 = 3.0;
const KNEES: usize = 8;

/// How much of its length is shown before a climb, and what a picture of it spans at the least; seconds.
const BEFORE: f64 = 0.3;
const SHORTEST: f64 = 10.0;

/// A picture of a part is worth its place if it is this part of the whole at the most.
const WORTH_A_PICTURE: f64 = 0.5;

/// Turns that lie within this part of a picture at its end, and are so many, are drawn once more.
const CROWDED: f64 = 0.005;
const CROWD: usize = 3;

/// How memory came to its highest point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Climb {
    /// Where it began: seconds since memini started, and bytes.
    pub from: (f64, u64),
    /// The highest point.
    pub to: (f64, u64),
}

impl Climb {
    /// Bytes a second.
    pub fn rate(&self) -> f64 {
        let gained = self.to.1.saturating_sub(self.from.1) as f64;
        gained / (self.to.0 - self.from.0).max(0.001)
    }
}

/// The times that are drawn; seconds since memini started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Views {
    /// The climb and what came of it, or everything.
    pub main: (f64, f64),
    /// Its end once more, where much happened within a short time.
    pub end: Option<(f64, f64)>,
    /// Everything, where the climb is a small part of it.
    pub whole: Option<(f64, f64)>,
}

/// Points in the order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// All of them.
    pub points: Vec<Point>,
}

impl Series {
    /// The samples of the timeline, and between and before them what a recorder has kept.
    pub fn of(story: &Story) -> Self {
        let mut points: Vec<Point> = Vec::new();
        for entry in &story.timeline {
            let Some(sample) = entry.sample() else { continue };
            points.push(Point {
                seconds: entry.seconds(),
                usage: Range::at(sample.usage),
                gauged: Range::at(sample.gauged),
                limit: sample.limit,
                parts: entry.composition().and_then(|stat| parts(stat, sample.usage)),
            });
        }
        // A finer mesh reaches less far back: of a coarser one only what lies before it is needed.
        let mut meshes: Vec<_> = story.history.iter().filter(|mesh| mesh.interval.is_finite()).collect();
        meshes.sort_by(|one, other| one.interval.total_cmp(&other.interval));
        let mut covered = f64::INFINITY;
        for mesh in meshes {
            let before = covered;
            let of_mesh = || mesh.points.iter().filter(move |kept| kept.seconds.is_finite() && kept.seconds < before);
            points.extend(of_mesh().map(Point::from));
            covered = of_mesh().map(|kept| kept.seconds).fold(covered, f64::min);
        }
        points.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        // Several events of one moment show the same sample.
        points.dedup_by(|next, kept| next.seconds == kept.seconds && next.gauged == kept.gauged);
        Self { points }
    }

    /// Only what was within this time, and the last that was known before it.
    pub fn within(&self, (from, to): (f64, f64)) -> Self {
        let first = self.points.partition_point(|point| point.seconds < from);
        let points = self.points.iter().skip(first.saturating_sub(1));
        Self { points: points.take_while(|point| point.seconds <= to).copied().collect() }
    }

    /// The highest points of so many parts of the time, and the first and the last.
    pub fn spread(&self, most: usize) -> Vec<Point> {
        let Some((from, to)) = self.span().filter(|_| self.points.len() > most) else { return self.points.clone() };
        let part =
            |point: &Point| (((point.seconds - from) / (to - from) * most as f64) as usize).min(most.saturating_sub(1));
        let mut chosen: Vec<Point> = self.points.first().copied().into_iter().collect();
        for of_part in self.points.chunk_by(|one, other| part(one) == part(other)) {
            chosen.extend(of_part.iter().max_by_key(|point| point.gauged.last));
        }
        chosen.extend(self.points.last());
        chosen.dedup_by(|next, kept| next.seconds == kept.seconds);
        chosen
    }

    /// How memory came to its highest point; `None` if it hardly rose.
    pub fn climb(&self) -> Option<Climb> {
        // The highest of an interval may lie before finer points within it: only what was last seen has a time.
        let highest = self.points.iter().enumerate().max_by_key(|(_, point)| point.gauged.last)?;
        let (index, top) = (highest.0, (highest.1.seconds, highest.1.gauged.last));
        let limit = self.limit().unwrap_or(0);
        let dip = (limit / DIP_OF_LIMIT).max(WORTH_TELLING_BYTES);
        let mut lowest = top;
        for point in self.points.iter().take(index).rev() {
            let gained = top.1.saturating_sub(lowest.1);
            if point.gauged.last > lowest.1.saturating_add((gained / DIP).max(dip)) {
                break;
            }
            // As long as it stood still before, that is no climb.
            let level = point.gauged.last;
            if level.saturating_add(gained / WORTH_TELLING) < lowest.1 {
                lowest = (point.seconds, level);
            }
        }
        // A long way up that was slow for most of the time began, for who asks, where it became steep.
        for _ in 0..KNEES {
            let (length, gained) = (top.0 - lowest.0, top.1.saturating_sub(lowest.1) as f64);
            let below = |point: &Point| {
                let straight = lowest.1 as f64 + gained * (point.seconds - lowest.0) / length.max(0.001);
                straight - point.gauged.last as f64
            };
            let between =
                self.points.iter().take(index).filter(|point| point.seconds > lowest.0 && point.seconds < top.0);
            let farthest = between.max_by(|one, other| below(one).total_cmp(&below(other)));
            let Some(knee) = farthest.filter(|point| below(point) > gained / KNEE) else { break };
            lowest = (knee.seconds, knee.gauged.last);
        }
        let is_much = top.1.saturating_sub(lowest.1) >= (limit / WORTH_TELLING).max(WORTH_TELLING_BYTES);
        (is_much && lowest.0 < top.0).then_some(Climb { from: lowest, to: top })
    }

    /// What is drawn of an incident that began then and has these turns.
    pub fn views(&self, began: f64, turns: &[f64]) -> Option<Views> {
        let (first, last) = (self.points.first()?.seconds, self.points.last()?.seconds);
        // An app that has ended is looked at no more, and its end belongs to the picture.
        let last = turns.iter().copied().fold(last, f64::max);
        let from = self.climb().map_or(began, |climb| climb.from.0.min(began)).clamp(first, last);
        let before = ((last - from) * BEFORE).max(SHORTEST - (last - from));
        let close = ((from - before).max(first), last);
        let is_part = close.1 - close.0 <= (last - first) * WORTH_A_PICTURE;
        let main = if is_part { close } else { (first, last) };
        let crowded = last - (main.1 - main.0) * CROWDED;
        let crowd: Vec<f64> = turns.iter().copied().filter(|turn| *turn >= crowded).collect();
        let end = crowd.first().filter(|_| crowd.len() >= CROWD).map(|crowd| {
            let before = ((last - crowd) * BEFORE).max(SHORTEST - (last - crowd));
            ((crowd - before).max(main.0), last)
        });
        let end = end.filter(|end| end.1 - end.0 <= (main.1 - main.0) * WORTH_A_PICTURE);
        Some(Views { main, end, whole: is_part.then_some((first, last)) })
    }

    /// Only the points that tell where the bytes are.
    pub fn composed(&self) -> Vec<(f64, Parts)> {
        self.points.iter().filter_map(|point| Some((point.seconds, point.parts?))).collect()
    }

    /// The first and the last moment; `None` without two of them.
    pub fn span(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.points.first()?.seconds, self.points.last()?.seconds);
        (last > first).then_some((first, last))
    }

    /// The newest limit.
    pub fn limit(&self) -> Option<u64> {
        self.points.iter().rev().find_map(|point| point.limit)
    }

    /// The highest of all values and limits.
    pub fn height(&self) -> u64 {
        let of_point = |point: &Point| point.usage.high.max(point.gauged.high).max(point.limit.unwrap_or(0));
        self.points.iter().map(of_point).max().unwrap_or(0)
    }
}

impl From<&Kept> for Point {
    fn from(kept: &Kept) -> Self {
        let usage = Range::of(kept.usage);
        Self {
            seconds: kept.seconds,
            usage,
            gauged: Range::of(kept.gauged),
            limit: kept.limit.filter(|limit| *limit > 0),
            // It was read at some moment of the interval: of the rest, no more than there was all the time.
            parts: parts(&kept.composition, usage.low),
        }
    }
}

/// From the fields of `memory.stat` to what is shown; `None` where there is nothing in them.
fn parts(stat: &Map<String, Value>, usage: u64) -> Option<Parts> {
    let field = |key: &str| stat.get(key).and_then(Value::as_u64).unwrap_or(0);
    let sum = |keys: &[&str]| keys.iter().fold(0, |sum: u64, key| sum.saturating_add(field(key)));
    let (anon, shmem, sock) = (field("anon"), field("shmem"), field("sock"));
    // tmpfs counts as a file.
    let cache = field("file").saturating_sub(shmem);
    let slab = sum(&["slab_reclaimable", "slab_unreclaimable"]);
    let kernel = sum(&["kernel_stack", "pagetables"]);
    let known = [anon, shmem, slab, kernel, sock, cache].into_iter().fold(0, u64::saturating_add);
    (known > 0).then_some([anon, shmem, slab, kernel, sock, usage.saturating_sub(known), cache])
}

/// A threshold as it was given, in bytes under this limit: `80%`, `400MiB`, `-64MiB`; `None` for `off`.
pub fn threshold(text: &str, limit: Option<u64>) -> Option<u64> {
    let size = |text: &str| text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64());
    if let Some(share) = text.strip_suffix('%') {
        let share: f64 = share.parse().ok().filter(|share| (0.0..=100.0).contains(share))?;
        return Some((limit? as f64 * share / 100.0) as u64);
    }
    match text.strip_prefix('-') {
        Some(distance) => limit?.checked_sub(size(distance)?),
        None => size(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn story(timeline: &Value, history: &Value) -> Story {
        let incident = json!({"schema": "memini.incident/1", "timeline": timeline, "history": history});
        Story::of(&incident.to_string()).unwrap()
    }

    fn entry(seconds: f64, gauged: u64) -> Value {
        let composition = json!({"anon": gauged, "file": 30, "shmem": 10, "pagetables": 2, "kernel_stack": 3});
        let sample = json!({"usage": gauged + 40, "gauged": gauged, "limit": 100, "composition": composition});
        json!({"event": "stage-began", "seconds": seconds, "sample": sample})
    }

    #[test]
    fn samples_of_the_timeline_are_points() {
        let timeline = json!([entry(1.0, 60), {"event": "terminating", "seconds": 2}, entry(3.0, 80), entry(3.0, 80)]);
        let series = Series::of(&story(&timeline, &Value::Null));
        assert_eq!(series.points.len(), 2);
        let first = series.points[0];
        assert_eq!((first.gauged, first.limit), (Range::at(60), Some(100)));
        assert_eq!(first.parts, Some([60, 10, 0, 5, 0, 5, 20]));
        assert_eq!((series.span(), series.height(), series.limit()), (Some((1.0, 3.0)), 120, Some(100)));
    }

    #[test]
    fn of_a_recorder_the_finest_mesh_counts_and_coarser_ones_before_it() {
        let kept = |seconds: f64, gauged: [u64; 3]| json!({"seconds": seconds, "usage": gauged, "gauged": gauged});
        let minutes: Vec<_> = [60.0, 120.0, 180.0].map(|at| kept(at, [1, 9, 5])).into();
        let seconds: Vec<_> = [150.0, 151.0, 180.0].map(|at| kept(at, [6, 6, 6])).into();
        let history = json!([{"interval": 60, "points": minutes}, {"interval": 1, "points": seconds}]);
        let series = Series::of(&story(&json!([entry(150.5, 7)]), &history));
        let times: Vec<f64> = series.points.iter().map(|point| point.seconds).collect();
        assert_eq!(times, [60.0, 120.0, 150.0, 150.5, 151.0, 180.0]);
        assert_eq!(series.points[0].gauged, Range { low: 1, high: 9, last: 5 });
        assert_eq!(series.within((150.2, 151.0)).points.len(), 3);
    }

    /// A point a second, in MiB under a limit of 1000.
    fn course(seconds: usize, level: impl Fn(usize) -> u64) -> Series {
        let point = |second: usize| Point {
            seconds: second as f64,
            gauged: Range::at(level(second) << 20),
            limit: Some(1000 << 20),
            ..Point::default()
        };
        Series { points: (0..seconds).map(point).collect() }
    }

    #[test]
    fn a_climb_begins_where_memory_last_stood_still() {
        let up = |second: usize, from: usize| if second < from { 300 } else { 300 + (second - from) as u64 * 5 };
        for (series, from, to) in [
            (course(1000, |second| up(second, 900)), 900.0, 999.0),
            // It gives back a part of it now and then.
            (course(1000, |second| up(second, 800) - (second % 20) as u64), 800.0, 981.0),
            // It had risen slowly for long before, and the calm was no straight line.
            (
                course(1000, |second| {
                    100 + second as u64 / 20 + if second > 940 { (second as u64 - 940) * 10 } else { 0 }
                }),
                940.0,
                999.0,
            ),
            (
                course(1000, |second| {
                    150 + (second as u64 / 9 % 40) + if second > 940 { (second as u64 - 940) * 10 } else { 0 }
                }),
                940.0,
                999.0,
            ),
            // What was highest in a second is not what was seen at its end.
            (
                {
                    let mut series = course(1001, |second| up(second, 900));
                    let last = series.points.last_mut().unwrap();
                    last.gauged = Range { low: 1 << 20, high: 999 << 20, last: 1 << 20 };
                    series
                },
                900.0,
                999.0,
            ),
            // The highest point is not the last one.
            (course(1000, |second| up(if second > 950 { 0 } else { second }, 850)), 850.0, 950.0),
        ] {
            let climb = series.climb().unwrap();
            assert!((climb.from.0 - from).abs() < 25.0 && (climb.to.0 - to).abs() < 25.0, "{climb:?}");
        }
        assert_eq!(course(1000, |_| 500).climb(), None);
        assert_eq!(Series::default().climb(), None);
    }

    #[test]
    fn hours_of_calm_do_not_hide_the_climb_and_a_crowd_is_drawn_once_more() {
        let calm = course(20_000, |second| if second < 19_900 { 300 } else { 300 + (second as u64 - 19_900) * 6 });
        let views = calm.views(19_950.0, &[19_950.0, 19_970.0, 19_990.0]).unwrap();
        assert!(views.main.0 > 19_850.0 && views.main.0 < 19_900.0 && views.main.1 == 19_999.0, "{views:?}");
        assert_eq!((views.whole, views.end), (Some((0.0, 19_999.0)), None));
        // A climb of hours, and everything happens in the last minute.
        let slow = course(20_000, |second| 100 + second as u64 / 25);
        let views = slow.views(12_000.0, &[12_000.0, 19_950.0, 19_970.0, 20_010.0]).unwrap();
        assert_eq!((views.main, views.whole), ((0.0, 20_010.0), None));
        let end = views.end.unwrap();
        assert!(end.0 < 19_950.0 && end.0 > 19_900.0 && end.1 == 20_010.0, "{views:?}");
        // A few points are one picture.
        let short = course(4, |second| 600 + second as u64 * 100);
        assert_eq!(short.views(0.0, &[0.0, 3.0]), Some(Views { main: (0.0, 3.0), end: None, whole: None }));
        assert_eq!(Series::default().views(0.0, &[]), None);
    }

    #[test]
    fn a_few_moments_stand_for_many_points() {
        let series = course(1000, |second| second as u64);
        let times: Vec<f64> = series.spread(5).iter().map(|point| point.seconds).collect();
        assert_eq!(times, [0.0, 199.0, 399.0, 599.0, 799.0, 999.0]);
        let peak = course(1000, |second| if second == 501 { 900 } else { 1 }).spread(5);
        assert!(peak.iter().any(|point| point.seconds == 501.0), "{peak:?}");
        assert_eq!((series.within((0.0, 3.0)).spread(5).len(), Series::default().spread(5).len()), (4, 0));
    }

    #[test]
    fn thresholds_are_where_memini_has_put_them() {
        for (text, bytes) in [
            ("80%", Some(819)),
            ("62.5%", Some(640)),
            ("512B", Some(512)),
            ("2KiB", Some(2048)),
            ("-1KiB", Some(0)),
            ("-2KiB", None),
            ("off", None),
            ("-5%", None),
            ("", None),
        ] {
            assert_eq!(threshold(text, Some(1024)), bytes, "{text}");
        }
        assert_eq!((threshold("80%", None), threshold("1KiB", None)), (None, Some(1024)));
    }
}
