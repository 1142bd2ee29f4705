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

    /// Only what was from this moment on.
    pub fn since(&self, seconds: f64) -> Self {
        Self { points: self.points.iter().filter(|point| point.seconds >= seconds).copied().collect() }
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
            parts: parts(&kept.composition, usage.last),
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
        assert_eq!(series.since(150.0).points.len(), 4);
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
