//! `history` in `incident.json`: what the recorder has kept of the run, thinned with its age so that a record stays small.

use serde::Serialize;
use serde_json::Value;

use crate::recorder::reader::History;
use crate::recorder::told::{Course, Sample};
use crate::text::plain_json;

/// How old a sample may be, in seconds, and how many seconds become one point then. A chart has some hundred pixels: this
/// makes 460 points of the 48 hours that a recorder of the usual size keeps, and 550 of the 96 hours of the largest, about
/// 300 bytes each.
const THINNED: [(u64, u64); 4] = [(120, 1), (600, 4), (3 * 3600, 80), (u64::MAX, 1800)];

/// Points of one interval.
#[derive(Debug, Serialize)]
struct Mesh {
    /// Seconds from one point to the next.
    interval: u64,
    points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Point {
    /// Since memini started, at the end of the interval; kept in milliseconds, written in seconds.
    #[serde(rename = "seconds", serialize_with = "in_seconds")]
    milliseconds: u64,
    /// The least, the most, the last; bytes, as all that follows.
    usage: [u64; 3],
    gauged: [u64; 3],
    limit: Option<u64>,
    composition: Parts,
}

/// By the names of `memory.stat`, of which what is nothing is left out.
#[derive(Clone, Copy, Debug, Serialize)]
struct Parts {
    #[serde(skip_serializing_if = "is_nothing")]
    anon: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    file: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    shmem: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    slab_reclaimable: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    slab_unreclaimable: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    kernel_stack: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pagetables: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    sock: u64,
}

// As serde wants it.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_nothing(bytes: &u64) -> bool {
    *bytes == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn in_seconds<S: serde::Serializer>(milliseconds: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if milliseconds.is_multiple_of(1000) {
        serializer.serialize_u64(milliseconds / 1000)
    } else {
        serializer.serialize_f64(*milliseconds as f64 / 1000.0)
    }
}

/// The history of a run, the finest mesh first; null if nothing was recorded.
pub fn of(recorded: &History) -> Value {
    let mut meshes = THINNED.map(|(_, interval)| Mesh { interval, points: Vec::new() });
    let samples = recorded.samples();
    let newest = samples.last().map_or(0, |(end, _)| *end);
    let mut before = None;
    for (end, sample) in &samples {
        let age = newest.saturating_sub(*end) / 1000;
        let Some(index) = THINNED.iter().position(|(oldest, _)| age < *oldest) else { continue };
        let Some(mesh) = meshes.get_mut(index) else { continue };
        let slot = (index, end.saturating_sub(1) / 1000 / mesh.interval);
        // The present second is not over yet.
        let point = Point::new((*end).min(recorded.pulse.since_start), sample);
        match mesh.points.last_mut() {
            Some(last) if before == Some(slot) => last.take(&point),
            _ => mesh.points.push(point),
        }
        before = Some(slot);
    }
    let told: Vec<&Mesh> = meshes.iter().filter(|mesh| !mesh.points.is_empty()).collect();
    if told.is_empty() { Value::Null } else { serde_json::to_value(told).unwrap_or_default() }
}

impl Point {
    fn new(milliseconds: u64, sample: &Sample) -> Self {
        let course = |course: Course| [course.least, course.most, course.last];
        let stat = &sample.stat;
        Self {
            milliseconds,
            usage: course(sample.usage),
            gauged: course(sample.gauged()),
            limit: sample.limit.map(|limit| limit.last),
            composition: Parts {
                anon: stat.anon,
                file: stat.file,
                shmem: stat.shmem,
                slab_reclaimable: stat.slab_reclaimable,
                slab_unreclaimable: stat.slab_unreclaimable,
                kernel_stack: stat.kernel_stack,
                pagetables: stat.pagetables,
                sock: stat.sock,
            },
        }
    }

    /// Makes it one point with the next: what was lowest and highest in both, and else the later one.
    fn take(&mut self, next: &Self) {
        let both = |[low, high, _]: [u64; 3], [lower, higher, last]: [u64; 3]| [low.min(lower), high.max(higher), last];
        *self = Self { usage: both(self.usage, next.usage), gauged: both(self.gauged, next.gauged), ..*next };
    }
}

/// An incident as it is written: a value a line, but of a history a point a line. With a newline at its end. Names
/// in it do not act on the terminal of who prints the file.
pub fn print(mut incident: Value) -> String {
    let history = incident.as_object_mut().and_then(|fields| fields.shift_remove("history"));
    let mut text = format!("{incident:#}");
    let meshes = history.as_ref().and_then(Value::as_array).filter(|meshes| !meshes.is_empty());
    if let (Some(meshes), Some(end)) = (meshes, text.strip_suffix("\n}").map(str::len)) {
        text.truncate(end);
        text.push_str(",\n  \"history\": [");
        for (index, mesh) in meshes.iter().enumerate() {
            let points = mesh.get("points").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let interval = mesh.get("interval").unwrap_or(&Value::Null);
            text.push_str(if index > 0 { ",\n" } else { "\n" });
            text.push_str(&format!("    {{\"interval\": {interval}, \"points\": ["));
            for (index, point) in points.iter().enumerate() {
                text.push_str(if index > 0 { ",\n" } else { "\n" });
                text.push_str(&format!("      {point}"));
            }
            text.push_str("\n    ]}");
        }
        text.push_str("\n  ]\n}");
    }
    text.push('\n');
    plain_json(&text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cgroup::reading::Stat;
    use crate::recorder::told::Pulse;

    /// A run of so many seconds that grows by 4 KiB a second, as the rings of the usual size keep it.
    fn run(seconds: u32) -> History {
        let ring = |period: u32, slots: u32| {
            let last = seconds.div_ceil(period);
            let sample = |number: u32| {
                let bytes = |second: u32| u64::from(second) << 12;
                let (first, last) = (number * period, ((number + 1) * period).min(seconds) - 1);
                let course = Course { least: bytes(first), most: bytes(last), last: bytes(last) };
                let stat = Stat { anon: u64::MAX >> 10, slab_unreclaimable: 1 << 34, file: 1 << 34, ..Stat::default() };
                Sample { number, looks: 1, usage: course, gauged: Some(course), stat, ..Sample::default() }
            };
            (period, (last.saturating_sub(slots)..last).map(sample).collect())
        };
        let pulse = Pulse { since_start: u64::from(seconds) * 1000 - 250, ..Pulse::default() };
        History { rings: vec![ring(1, 600), ring(10, 1080), ring(60, 2880)], pulse, ..History::default() }
    }

    #[test]
    fn a_run_is_told_without_a_gap_and_the_finer_the_later() {
        for (seconds, meshes) in [
            (1, vec![(1, 1)]),
            (90, vec![(1, 90)]),
            (500, vec![(1, 120), (4, 95)]),
            (7200, vec![(1, 120), (4, 120), (80, 83)]),
            (3 * 86_400, vec![(1, 120), (4, 120), (80, 128), (1800, 91)]),
        ] {
            let history = of(&run(seconds));
            let told: Vec<_> = history
                .as_array()
                .unwrap()
                .iter()
                .map(|mesh| (mesh["interval"].as_u64().unwrap(), mesh["points"].as_array().unwrap().len()))
                .collect();
            assert!(
                told.len() == meshes.len()
                    && told.iter().zip(&meshes).all(|(told, mesh)| told.0 == mesh.0 && told.1.abs_diff(mesh.1) <= 1),
                "{seconds} s: {told:?}"
            );
            let mut points: Vec<&Value> =
                history.as_array().unwrap().iter().rev().flat_map(|mesh| mesh["points"].as_array().unwrap()).collect();
            assert_eq!(points.last().unwrap()["seconds"], json!(f64::from(seconds) - 0.25));
            assert_eq!(points.last().unwrap()["gauged"][2], json!(u64::from(seconds - 1) << 12));
            // Where one ends, the next one begins.
            for pair in points.windows(2) {
                let (high, low) = (pair[0]["gauged"][1].as_u64().unwrap(), pair[1]["gauged"][0].as_u64().unwrap());
                assert_eq!(high + (1 << 12), low, "{seconds} s: {pair:?}");
            }
            points.truncate(1);
            assert!(seconds > 86_400 || points[0]["gauged"][0] == json!(0));
        }
        assert_eq!(of(&History::default()), Value::Null);
    }

    #[test]
    fn three_days_take_less_than_200_kilobytes_and_a_line_a_point() {
        let incident = json!({"schema": "x", "timeline": [1]});
        let mut told = incident.clone();
        told["history"] = of(&run(3 * 86_400));
        let text = print(told.clone());
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), told);
        assert!((50_000..200_000).contains(&text.len()), "{}", text.len());
        let points: usize =
            told["history"].as_array().unwrap().iter().map(|mesh| mesh["points"].as_array().unwrap().len()).sum();
        assert_eq!(text.lines().filter(|line| line.starts_with("      {\"seconds\":")).count(), points);
        // Without one, or with what is none, it is as it was.
        for none in [json!([]), Value::Null] {
            told["history"] = none;
            assert_eq!(print(told.clone()), format!("{incident:#}\n"));
        }
        assert_eq!(print(incident.clone()), format!("{incident:#}\n"));
    }
}
