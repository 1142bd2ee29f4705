//! Charts as SVG that stretches while its text keeps its size: places across are shares of the width, places down are pixels,
//! and only lines and areas lie in a box of their own that is stretched.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::events::Event;
use super::series::{KINDS, Parts, Range, Series, threshold};
use super::story::Story;
use crate::units::Size;

/// How high the drawn part is, and what stands above and below it; pixels.
const HEIGHT: f64 = 220.0;
const ROW: f64 = 24.0;
const AXIS: f64 = 24.0;

/// How far apart two labels are at the least; pixels.
const LINE: f64 = 15.0;

/// How many rows marks take, and how far apart two of a row are at the least: a share of the width that is enough for them on
/// a phone.
const ROWS: usize = 4;
const APART: f64 = 9.0;

/// How many rows the table of a chart has.
const TABLE: usize = 40;

/// How many changes of the limit are told one by one.
const TOLD_LIMITS: usize = 4;

/// A kind of memory is shown by itself from this share of the whole on.
const SHOWN: f64 = 0.01;

/// From numbers to places.
struct Frame {
    from: f64,
    to: f64,
    /// Pixels above the drawn part.
    top: f64,
    max: f64,
}

impl Frame {
    fn new(span: (f64, f64), top: f64, max: u64) -> Self {
        let (from, to) = if span.1 > span.0 { span } else { (span.0 - 1.0, span.0 + 1.0) };
        Self { from, to, top, max: (max as f64).max(1.0) }
    }

    /// Across, in percent.
    fn x(&self, seconds: f64) -> f64 {
        ((seconds - self.from) / (self.to - self.from) * 100.0).clamp(0.0, 100.0)
    }

    /// Down, in pixels of the drawn part.
    fn depth(&self, bytes: f64) -> f64 {
        HEIGHT - (bytes / self.max * HEIGHT).clamp(0.0, HEIGHT)
    }

    /// Down, in pixels of the whole.
    fn y(&self, bytes: f64) -> f64 {
        self.top + self.depth(bytes)
    }

    fn full_height(&self) -> f64 {
        self.top + HEIGHT + AXIS
    }

    /// A path through these places, in the stretched box.
    fn path(&self, places: impl Iterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        for (seconds, bytes) in places {
            let letter = if path.is_empty() { 'M' } else { 'L' };
            // Writing to a String cannot fail.
            let _ = write!(path, "{letter}{:.1} {:.1}", self.x(seconds) * 10.0, self.depth(bytes));
        }
        path
    }

    /// The same, with gaps where nothing is known.
    fn broken_path(&self, places: &[(f64, Option<f64>)]) -> String {
        let parts = places.chunk_by(|one, other| one.1.is_some() == other.1.is_some());
        parts.map(|part| self.path(part.iter().filter_map(|(seconds, bytes)| Some((*seconds, (*bytes)?))))).collect()
    }

    /// The area between an upper and a lower edge.
    fn area(&self, upper: &[(f64, f64)], lower: &[(f64, f64)]) -> String {
        let mut path = self.path(upper.iter().copied().chain(lower.iter().rev().copied()));
        path.push('Z');
        path
    }

    /// The box that is stretched.
    fn stretched(&self, content: &Markup) -> Markup {
        html! {
            svg x="0" y=(px(self.top)) width="100%" height=(px(HEIGHT)) viewBox={ "0 0 1000 " (px(HEIGHT)) }
                preserveAspectRatio="none" {
                (content)
            }
        }
    }

    const fn span(&self) -> (f64, f64) {
        (self.from, self.to)
    }

    fn axis(&self, story: &Story) -> Markup {
        let middle = self.from + (self.to - self.from) / 2.0;
        let bottom = self.top + HEIGHT;
        html! {
            line.axis x1="0" x2="100%" y1=(px(bottom)) y2=(px(bottom)) {}
            @for (seconds, x, anchor) in [(self.from, "0", "start"), (middle, "50%", "middle"), (self.to, "100%", "end")] {
                text.{ (anchor) } x=(x) y=(px(bottom + 17.0)) text-anchor=(anchor) { (story.clock_in(seconds, self.span())) }
            }
        }
    }
}

fn px(pixels: f64) -> String {
    format!("{pixels:.1}")
}

fn percent(share: f64) -> String {
    format!("{share:.2}%")
}

/// What stands beside a line.
struct Label {
    y: f64,
    class: &'static str,
    text: String,
}

/// Labels in a column beside the chart, moved down where they would lie upon one another.
fn labels(mut labels: Vec<Label>, height: f64) -> Markup {
    labels.sort_by(|one, other| one.y.total_cmp(&other.y));
    let mut next = f64::MIN;
    let placed: Vec<(f64, Label)> = labels
        .into_iter()
        .map(|label| {
            let y = label.y.max(next);
            next = y + LINE;
            (y, label)
        })
        .collect();
    html! {
        svg.labels height=(px(height)) aria-hidden="true" {
            @for (y, label) in &placed {
                polyline.leader points={ "2," (px(label.y)) " 6," (px(label.y)) " 10," (px(*y)) } {}
                text.{ (label.class) } x="14" y=(px(y + 4.0)) { (label.text) }
            }
        }
    }
}

/// Memory against its limit and the thresholds in this time, with the turns of the story. `name` tells several of a page apart.
pub fn memory(story: &Story, all: &Series, span: (f64, f64), events: &[Event], name: &str) -> Markup {
    let series = &all.within(span);
    let Some((first, last)) = series.points.first().zip(series.points.last()) else { return html! {} };
    let is_in = |event: &&Event| event.number.is_some() && event.seconds >= span.0 && event.seconds <= span.1;
    let turns: Vec<&Event> = events.iter().filter(is_in).collect();
    let (marks, rows) = marks(&turns, span);
    let limit = series.limit();
    let max = series.height().saturating_add(series.height() / 25);
    let frame = Frame::new(span, rows as f64 * ROW + 6.0, max);
    let gauged = |of: fn(&Range) -> u64| -> Vec<(f64, f64)> {
        series.points.iter().map(|point| (point.seconds, of(&point.gauged) as f64)).collect()
    };
    let line = gauged(|range| range.last);
    let floor = [(first.seconds, 0.0), (last.seconds, 0.0)];
    let is_band = series.points.iter().any(|point| point.gauged.low < point.gauged.high);
    let usage = series.points.iter().map(|point| (point.seconds, point.usage.last as f64));
    let is_usage_apart =
        series.points.iter().any(|point| (point.usage.last.abs_diff(point.gauged.last)) as f64 > frame.max / 50.0);
    let limits = limit_steps(series, span);
    let lines = threshold_steps(story, &limits, &frame);
    let content = html! {
        path.area d=(frame.area(&line, &floor)) {}
        @if is_band {
            path.band d=(frame.area(&gauged(|range| range.high), &gauged(|range| range.low))) {}
        }
        @if is_usage_apart {
            path.usage d=(frame.path(usage)) {}
        }
        @for (stage, steps) in &lines {
            path.threshold.{ (stage) } d=(frame.broken_path(steps)) {}
        }
        path.limit d=(frame.path(limits.iter().copied())) {}
        path.gauged d=(frame.path(line.iter().copied())) {}
    };
    let mut beside: Vec<Label> = lines
        .iter()
        .filter_map(|(stage, steps)| {
            let now = steps.last()?.1?;
            Some(Label { y: frame.y(now), class: stage, text: format!("{stage} {}", Size(now as u64)) })
        })
        .collect();
    beside.extend(limit.map(|limit| Label {
        y: frame.y(limit as f64),
        class: "limit",
        text: format!("limit {}", Size(limit)),
    }));
    beside.push(Label { y: frame.y(0.0), class: "zero", text: "0".to_owned() });
    let dots = series.points.len() <= TABLE;
    let (title, description) = (format!("{name}-title"), format!("{name}-text"));
    html! {
        figure {
            div.frame {
                svg.plot role="img" aria-labelledby={ (title) " " (description) } height=(px(frame.full_height())) {
                    title id=(title) { "Memory against its limit" }
                    desc id=(description) { (describe(story, series, &turns)) }
                    @for mark in &marks {
                        line.mark x1=(percent(mark.x)) x2=(percent(mark.x)) y1=(px(mark.y)) y2=(px(frame.top + HEIGHT)) {}
                    }
                    (frame.stretched(&content))
                    @if dots {
                        @for point in &series.points {
                            circle.dot cx=(percent(frame.x(point.seconds))) cy=(px(frame.y(point.gauged.last as f64))) r="3" {}
                        }
                    }
                    @for mark in &marks {
                        // In a box of its own, whose middle is the place: a rectangle is placed by its corner.
                        svg.mark x=(percent(mark.x)) y=(px(mark.y)) overflow="visible" {
                            rect.mark x=(px(-mark.width() / 2.0)) y="-9" width=(px(mark.width())) height="18" rx="9" {}
                            text.mark x="0" y="4" text-anchor="middle" { (mark.label) }
                        }
                    }
                    (frame.axis(story))
                }
                (labels(beside, frame.full_height()))
            }
            figcaption {
                span.key.gauged { "what counts (" (story.setting("gauge").as_str().unwrap_or("unreclaimable")) ")" }
                @if is_usage_apart {
                    span.key.usage { "all that is charged" }
                }
                span.key.threshold { "where a stage begins" }
                @if !marks.is_empty() {
                    span.key.mark { "numbered below, in “What happened”" }
                }
                @if dots {
                    span.note { "Dots are what was seen; the line between them is not." }
                }
            }
            (memory_table(story, series, frame.span()))
        }
    }
}

/// The limit, which may change on the way, to both ends of the picture.
fn limit_steps(series: &Series, span: (f64, f64)) -> Vec<(f64, f64)> {
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for point in &series.points {
        let Some(limit) = point.limit.map(|limit| limit as f64) else { continue };
        match steps.last().copied() {
            None => steps.push((span.0, limit)),
            Some((_, before)) if before != limit => steps.extend([(point.seconds, before), (point.seconds, limit)]),
            Some(_) => {}
        }
    }
    let last = steps.last().copied();
    steps.extend(last.map(|(_, limit)| (span.1, limit)));
    steps
}

/// A stage, and where it begins: seconds and bytes.
type Steps = (&'static str, Vec<(f64, Option<f64>)>);

/// Where each stage begins, which changes with the limit; those that are higher than the picture are left out.
fn threshold_steps(story: &Story, limits: &[(f64, f64)], frame: &Frame) -> Vec<Steps> {
    let ends = [(frame.from, None), (frame.to, None)];
    let steps = |stage: &'static str| {
        let given = story.setting(&format!("{stage}_at")).as_str()?;
        let place = |(seconds, limit)| (seconds, threshold(given, limit).map(|bytes| bytes as f64));
        let steps: Vec<_> = match limits {
            [] => ends.into_iter().map(place).collect(),
            limits => limits.iter().map(|(seconds, limit)| place((*seconds, Some(*limit as u64)))).collect(),
        };
        let is_seen = |bytes: Option<f64>| bytes.is_some_and(|bytes| bytes <= frame.max);
        steps.iter().any(|(_, bytes)| is_seen(*bytes)).then_some((stage, steps))
    };
    ["trace", "capture", "stop", "kill"].into_iter().filter_map(steps).collect()
}

struct Mark {
    label: String,
    x: f64,
    y: f64,
}

impl Mark {
    fn width(&self) -> f64 {
        // A figure is 6.5 px wide.
        (self.label.chars().count() as f64 * 6.5 + 6.0).max(18.0)
    }
}

/// The turns in rows, so that no two lie upon one another. And how many rows these are. Of more at one place than there are rows,
/// one mark tells the first and the last.
fn marks(turns: &[&Event], span: (f64, f64)) -> (Vec<Mark>, usize) {
    let frame = Frame::new(span, 0.0, 1);
    let number = |event: &Event| event.number.unwrap_or(0);
    let mut groups: Vec<Vec<&Event>> = Vec::new();
    for turn in turns {
        let beside = |group: &&mut Vec<&Event>| {
            group.first().is_some_and(|first| frame.x(turn.seconds) - frame.x(first.seconds) < APART)
        };
        match groups.last_mut().filter(beside) {
            Some(group) => group.push(turn),
            None => groups.push(vec![turn]),
        }
    }
    let labelled = groups.into_iter().flat_map(|group| match group[..] {
        [first, .., last] if group.len() > ROWS => vec![(last.seconds, format!("{}–{}", number(first), number(last)))],
        _ => group.iter().map(|turn| (turn.seconds, number(turn).to_string())).collect(),
    });
    let mut ends = [f64::MIN; ROWS];
    let mut used = 0;
    let mut marks = Vec::with_capacity(turns.len());
    for (seconds, label) in labelled {
        let x = frame.x(seconds);
        let free = ends.iter().position(|end| x - end >= APART);
        // Where all are taken, the one whose last mark is farthest away.
        let farthest =
            || ends.iter().enumerate().min_by(|one, other| one.1.total_cmp(other.1)).map_or(0, |(row, _)| row);
        let row = free.unwrap_or_else(farthest);
        if let Some(end) = ends.get_mut(row) {
            *end = x;
        }
        used = used.max(row + 1);
        marks.push(Mark { label, x, y: row as f64 * ROW + 12.0 });
    }
    (marks, used)
}

/// What somebody hears who does not see the chart.
fn describe(story: &Story, series: &Series, turns: &[&Event]) -> String {
    let mut text = String::new();
    if let (Some(first), Some(last)) = (series.points.first(), series.points.last()) {
        let moment = |seconds: f64| story.clock(seconds);
        let _ = write!(
            text,
            "From {} at {} to {} at {}",
            Size(first.gauged.last),
            moment(first.seconds),
            Size(last.gauged.last),
            moment(last.seconds)
        );
    }
    if let Some(highest) = series.points.iter().max_by_key(|point| point.gauged.high) {
        let _ = write!(text, "; at the most {} at {}", Size(highest.gauged.high), story.clock(highest.seconds));
    }
    describe_limit(&mut text, story, series);
    for turn in turns {
        let _ = write!(text, " {}: {}, {}.", turn.number.unwrap_or(0), turn.mark, turn.clock);
    }
    text
}

/// The limit, and how it changes.
fn describe_limit(text: &mut String, story: &Story, series: &Series) {
    let known = series.points.iter().filter_map(|point| Some((point.seconds, point.limit?)));
    let mut limits: Vec<(f64, u64)> = known.collect();
    limits.dedup_by_key(|(_, limit)| *limit);
    let _ = match limits[..] {
        [] => write!(text, ". There is no limit."),
        [(_, limit)] => write!(text, ". The limit is {}.", Size(limit)),
        [(_, first), ref others @ ..] if others.len() <= TOLD_LIMITS => {
            let changes = others.iter().map(|(at, limit)| format!(", {} from {} on", Size(*limit), story.clock(*at)));
            write!(text, ". The limit is {} at first{}.", Size(first), changes.collect::<String>())
        }
        [(_, first), ref others @ .., (_, last)] => {
            let times = others.len().saturating_add(1);
            write!(
                text,
                ". The limit is {} at first, changes {times} times, and is {} at last.",
                Size(first),
                Size(last)
            )
        }
    };
}

/// So many of them at the most, the first and the last included.
fn chosen<T: Copy>(all: &[T], most: usize) -> Vec<T> {
    let step = all.len().div_ceil(most.max(1)).max(1);
    let last = all.last().filter(|_| all.len() % step != 1 && step > 1);
    all.iter().step_by(step).chain(last).copied().collect()
}

fn memory_table(story: &Story, series: &Series, span: (f64, f64)) -> Markup {
    html! {
        details.numbers {
            summary { "The numbers of this chart" }
            div.wide role="region" aria-label="The numbers of this chart" tabindex="0" {
                table {
                    caption { "Memory against its limit" }
                    thead {
                        tr {
                            th scope="col" { "at" }
                            th scope="col" { "what counts" }
                            th scope="col" { "of the limit" }
                            th scope="col" { "all that is charged" }
                            th scope="col" { "limit" }
                        }
                    }
                    tbody {
                        @for point in series.spread(TABLE) {
                            tr {
                                th scope="row" { (story.clock_in(point.seconds, span)) }
                                td { (Size(point.gauged.last)) }
                                td {
                                    @match point.limit {
                                        Some(limit) => (format!("{:.1}%", point.gauged.last as f64 / limit as f64 * 100.0)),
                                        None => "–",
                                    }
                                }
                                td { (Size(point.usage.last)) }
                                td {
                                    @match point.limit {
                                        Some(limit) => (Size(limit)),
                                        None => "none",
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where the bytes are, one kind upon the other.
pub fn composition(story: &Story, all: &Series, span: (f64, f64), name: &str) -> Markup {
    let (points, shown) = shown(&all.within(span).composed());
    let Some((first, last)) = points.first().zip(points.last()) else { return html! {} };
    let sum = |parts: &Parts| parts.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    let max = points.iter().map(|(_, parts)| sum(parts)).max().unwrap_or(0);
    // What is left when the app has ended tells nothing of it.
    let highest = points.iter().rev().max_by_key(|(_, parts)| sum(parts)).unwrap_or(last);
    let frame = Frame::new((first.0, last.0), 6.0, max.saturating_add(max / 25));
    // A single look fills the whole width.
    let edges: Vec<(f64, Parts)> = match points[..] {
        [(_, only)] => vec![(frame.from, only), (frame.to, only)],
        _ => points.clone(),
    };
    let below = |kind: usize| -> Vec<(f64, f64)> {
        edges.iter().map(|(at, parts)| (*at, parts.iter().take(kind).map(|bytes| *bytes as f64).sum())).collect()
    };
    let content = html! {
        @for kind in &shown {
            path.kind.{ (key(*kind)) } d=(frame.area(&below(kind + 1), &below(*kind))) {}
        }
    };
    let scale = [max, max / 2, 0];
    let beside = scale
        .into_iter()
        .map(|bytes| Label { y: frame.y(bytes as f64), class: "zero", text: Size(bytes).to_string() })
        .collect();
    let (title, description) = (format!("{name}-title"), format!("{name}-text"));
    let of = |parts: &Parts, kind: usize| parts.get(kind).copied().unwrap_or(0);
    html! {
        figure {
            div.frame {
                svg.plot role="img" aria-labelledby={ (title) " " (description) } height=(px(frame.full_height())) {
                    title id=(title) { "Where the memory is" }
                    desc id=(description) {
                        @for kind in shown.iter().rev() {
                            (label(*kind)) ": from " (Size(of(&first.1, *kind))) " to " (Size(of(&highest.1, *kind))) ". "
                        }
                    }
                    @for bytes in scale {
                        line.grid x1="0" x2="100%" y1=(px(frame.y(bytes as f64))) y2=(px(frame.y(bytes as f64))) {}
                    }
                    (frame.stretched(&content))
                    (frame.axis(story))
                }
                (labels(beside, frame.full_height()))
            }
            figcaption {
                // As they lie upon one another.
                @for kind in shown.iter().rev() {
                    span.key.kind.{ (key(*kind)) } {
                        (label(*kind)) " " span.number { (Size(of(&first.1, *kind))) " → " (Size(of(&highest.1, *kind))) }
                    }
                }
            }
            (composition_table(story, &points, &shown, frame.span()))
        }
    }
}

/// What is too little to be seen is added to the rest. The kinds that are left.
fn shown(points: &[(f64, Parts)]) -> (Vec<(f64, Parts)>, Vec<usize>) {
    let sum = |parts: &Parts| parts.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    let max = points.iter().map(|(_, parts)| sum(parts)).max().unwrap_or(0);
    let is_seen = |kind: usize| {
        let highest = points.iter().filter_map(|(_, parts)| parts.get(kind)).max().copied().unwrap_or(0);
        highest as f64 > max as f64 * SHOWN
    };
    let rest = KINDS.iter().position(|(key, _)| *key == "rest").unwrap_or(0);
    let seen: Vec<bool> = (0..KINDS.len()).map(is_seen).collect();
    let mut points = points.to_vec();
    for (_, parts) in &mut points {
        let mut small = 0u64;
        for (kind, (bytes, is_seen)) in parts.iter_mut().zip(&seen).enumerate() {
            if !is_seen && kind != rest {
                small = small.saturating_add(std::mem::take(bytes));
            }
        }
        if let Some(bytes) = parts.get_mut(rest) {
            *bytes = bytes.saturating_add(small);
        }
    }
    let is_left = |kind: &usize| points.iter().any(|(_, parts)| parts.get(*kind).is_some_and(|bytes| *bytes > 0));
    let left = (0..KINDS.len()).filter(is_left).collect();
    (points, left)
}

fn key(kind: usize) -> &'static str {
    KINDS.get(kind).map_or("rest", |(key, _)| key)
}

fn label(kind: usize) -> &'static str {
    KINDS.get(kind).map_or("the rest", |(_, label)| label)
}

fn composition_table(story: &Story, points: &[(f64, Parts)], shown: &[usize], span: (f64, f64)) -> Markup {
    html! {
        details.numbers {
            summary { "The numbers of this chart" }
            div.wide role="region" aria-label="The numbers of this chart" tabindex="0" {
                table {
                    caption { "Where the memory is" }
                    thead {
                        tr {
                            th scope="col" { "at" }
                            @for kind in shown {
                                th scope="col" { (label(*kind)) }
                            }
                        }
                    }
                    tbody {
                        @for (seconds, parts) in chosen(points, TABLE) {
                            tr {
                                th scope="row" { (story.clock_in(seconds, span)) }
                                @for kind in shown {
                                    td { (Size(parts.get(*kind).copied().unwrap_or(0))) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_the_first_and_the_last_and_not_too_many_between() {
        for (count, most) in [(0, 5), (1, 5), (5, 5), (6, 5), (7, 5), (100, 7), (101, 7), (99, 7)] {
            let all: Vec<usize> = (0..count).collect();
            let some = chosen(&all, most);
            assert_eq!((some.first(), some.last()), (all.first(), all.last()), "{count} {most}");
            assert!(some.len() <= most + 1 && some.is_sorted_by(|one, other| one < other), "{some:?}");
        }
    }

    #[test]
    fn marks_of_one_moment_lie_beside_one_another() {
        let turn = |number: usize, seconds: f64| Event {
            seconds,
            clock: String::new(),
            weight: super::super::events::Weight::Turn,
            number: Some(number),
            mark: String::new(),
            sentence: String::new(),
        };
        let turns = [turn(1, 0.0), turn(2, 0.1), turn(3, 50.0), turn(4, 100.0)];
        let (marks, rows) = marks(&turns.iter().collect::<Vec<_>>(), (0.0, 100.0));
        let places: Vec<(f64, f64)> = marks.iter().map(|mark| (mark.x, mark.y)).collect();
        assert_eq!((rows, places), (2, vec![(0.0, 12.0), (0.1, 36.0), (50.0, 12.0), (100.0, 12.0)]));
        // More than there are rows for.
        let crowd: Vec<Event> = (1..=6).map(|number| turn(number, 90.0 + number as f64)).collect();
        let (marks, rows) = super::marks(&crowd.iter().collect::<Vec<_>>(), (0.0, 100.0));
        assert_eq!((rows, marks.len(), &*marks[0].label), (1, 1, "1–6"));
    }

    #[test]
    fn what_is_too_little_to_be_seen_is_added_to_the_rest() {
        let parts = |bytes: [u64; 7]| bytes;
        let (points, left) = shown(&[(0.0, parts([900, 1, 2, 0, 0, 0, 90])), (1.0, parts([900, 0, 2, 0, 0, 1, 50]))]);
        assert_eq!(points[0].1, [900, 0, 0, 0, 0, 3, 90]);
        assert_eq!(left, [0, 5, 6]);
    }

    #[test]
    fn the_limit_is_a_staircase_to_both_ends() {
        let point = |seconds: f64, limit: u64| super::super::series::Point {
            seconds,
            limit: Some(limit),
            ..Default::default()
        };
        let series = Series { points: vec![point(1.0, 5), point(2.0, 5), point(3.0, 9)] };
        assert_eq!(limit_steps(&series, (0.0, 4.0)), [(0.0, 5.0), (3.0, 5.0), (3.0, 9.0), (4.0, 9.0)]);
        assert_eq!(limit_steps(&Series::default(), (0.0, 4.0)), []);
    }

    #[test]
    fn thresholds_change_with_the_limit_and_who_does_not_see_the_chart_hears_of_it() {
        const MIB: u64 = 1 << 20;
        let entry = |seconds: u64, limit: u64| {
            let sample = json!({"usage": 100 * MIB, "gauged": 100 * MIB, "limit": limit * MIB});
            json!({"event": "limit-changed", "at": "2026-11-22T05:45:01.000Z", "seconds": seconds, "sample": sample})
        };
        let told = |timeline: serde_json::Value| {
            let settings = json!({"trace_at": "50%", "capture_at": "150MiB", "stop_at": "-300MiB", "kill_at": "off"});
            let incident = json!({"schema": "memini.incident/1", "timeline": timeline, "settings": settings});
            let story = Story::of(&incident.to_string()).unwrap();
            let series = Series::of(&story);
            let frame = Frame::new((0.0, 20.0), 0.0, 1100 * MIB);
            let steps = threshold_steps(&story, &limit_steps(&series, (0.0, 20.0)), &frame);
            let in_mib = |bytes: Option<f64>| bytes.map(|bytes| bytes as u64 / MIB);
            let steps: Vec<(&str, Vec<_>)> = steps
                .into_iter()
                .map(|(stage, steps)| {
                    (stage, steps.into_iter().map(|(at, bytes)| (at as u64, in_mib(bytes))).collect())
                })
                .collect();
            let svg = memory(&story, &series, (0.0, 20.0), &[], "main").into_string();
            (steps, describe(&story, &series, &[]), svg)
        };
        let (steps, heard, svg) = told(json!([entry(0, 256), entry(10, 1024), entry(20, 1024)]));
        let places = |bytes: [Option<u64>; 4]| [0, 10, 10, 20].into_iter().zip(bytes).collect::<Vec<_>>();
        assert_eq!(
            steps,
            [
                ("trace", places([Some(128), Some(128), Some(512), Some(512)])),
                ("capture", places([Some(150); 4])),
                ("stop", places([None, None, Some(724), Some(724)])),
            ]
        );
        assert!(heard.contains(". The limit is 256 MiB at first, 1 GiB from 05:45:11 on."), "{heard}");
        let path =
            |stage: &str| svg.split(&format!("class=\"threshold {stage}\" d=\"")).nth(1).unwrap().split('"').next();
        assert_eq!(path("trace").unwrap().matches(['M', 'L']).count(), 4, "{svg}");
        assert!(path("stop").unwrap().starts_with("M500.0 "), "{svg}");
        let (steps, heard, _) = told(json!([entry(0, 512), entry(20, 512)]));
        assert_eq!(steps[0], ("trace", vec![(0, Some(256)), (20, Some(256))]));
        assert!(heard.ends_with(". The limit is 512 MiB."), "{heard}");
        let (_, heard, _) = told((0..8).map(|index| entry(index, 100 + index)).collect());
        assert!(
            heard.ends_with(". The limit is 100 MiB at first, changes 7 times, and is 107 MiB at last."),
            "{heard}"
        );
        let (steps, heard, _) = told(json!([entry(0, 0), entry(20, 0)]));
        assert_eq!(steps, [("capture", vec![(0, Some(150)), (20, Some(150))])]);
        assert!(heard.ends_with(". There is no limit."), "{heard}");
    }
}
