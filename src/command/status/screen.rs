//! One screen for people: how it stands, how it came to that, who has grown, what happened.

use std::time::Duration;

use super::chart::{Chart, short, tone};
use super::picture::{Picture, State};
use super::processes::Grown;
use crate::command::style::{Line, Style, Tone, cut, width, wrap};
use crate::engine::settings::Threshold;
use crate::engine::trend::Verdict;
use crate::recorder::ending::Ending;
use crate::recorder::sentence::Sentence;
use crate::units::{Rate, Size, Span, clock};

/// How much is shown of everything, from what there is where nothing bounds it to what 24 rows have room for.
const MEASURES: [Measure; 5] = [
    Measure { chart: 12, processes: 5, events: 6, is_dense: false },
    Measure { chart: 8, processes: 3, events: 4, is_dense: false },
    Measure { chart: 4, processes: 3, events: 4, is_dense: false },
    Measure { chart: 4, processes: 2, events: 2, is_dense: true },
    Measure { chart: 4, processes: 1, events: 1, is_dense: true },
];

#[derive(Clone, Copy)]
struct Measure {
    /// Rows of the chart. Quarters of them have labels.
    chart: usize,
    processes: usize,
    events: usize,
    /// Without empty lines, and what is told twice is told once.
    is_dense: bool,
}

/// Where the values of the list begin.
const NAMES: usize = 12;

/// Before that there is no verdict but `steady`: the shortest window of [`crate::engine::trend`]; milliseconds.
const FIRST_VERDICT: u64 = 3_600_000;

/// Columns of one part of the composition.
const PART: usize = 38;

/// Draws it: no line is wider than the style says, and if it says how high all may be, there are fewer.
pub fn draw(picture: &Picture<'_>, style: &Style) -> Vec<String> {
    let mut lines = Vec::new();
    for measure in MEASURES {
        lines = Screen { picture, style, measure }.lines();
        if style.height.is_none_or(|height| lines.len() < height) {
            break;
        }
    }
    if let Some(height) = style.height {
        // The last row is the cursor's.
        lines.truncate(height.saturating_sub(1).max(1));
    }
    lines.iter().map(|line| line.render(style)).collect()
}

struct Screen<'a> {
    picture: &'a Picture<'a>,
    style: &'a Style,
    measure: Measure,
}

impl Screen<'_> {
    fn lines(&self) -> Vec<Line> {
        let mut parts = vec![self.head(), self.standing()];
        if !self.picture.slots.is_empty() {
            parts.extend([self.chart(), self.composition()]);
        }
        parts.extend([self.processes(), self.events()]);
        let mut lines: Vec<Line> = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            if !lines.is_empty() && !self.measure.is_dense {
                lines.push(Line::new());
            }
            lines.extend(part);
        }
        lines
    }

    fn sign(&self) -> &'static str {
        self.style.pick("…", "~")
    }

    fn dot(&self) -> &'static str {
        self.style.pick(" · ", ", ")
    }

    /// Who runs, since when.
    fn head(&self) -> Vec<Line> {
        let (picture, columns) = (self.picture, self.style.width);
        let up = format!("{} {}", if picture.is_running() { "up" } else { "ran for" }, rough(picture.up_for()));
        let command = match picture.command().join(" ") {
            command if command.is_empty() => "the app".to_owned(),
            command => command,
        };
        let command = cut(&command, columns.saturating_sub(width(&up) + 2), self.sign());
        let mut first = Line::new().with(Tone::Strong, &command);
        first.pad_to(columns.saturating_sub(width(&up)));
        first.add(Tone::Strong, &up);
        let since = picture.unix(0).and_then(clock).map(|at| format!("since {}", spoken(&at)));
        let parts = [
            picture.app_pid().map(|pid| format!("pid {pid}")),
            since,
            Some(picture.told("hostname")).filter(|name| !name.is_empty()),
            Some(picture.told("memini"))
                .filter(|version| !version.is_empty())
                .map(|version| format!("memini {version}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let mut lines = vec![first];
        // What does not fit is left out from the end.
        let fitting = (1..=parts.len()).rev().map(|count| parts[..count].join(self.dot()));
        lines.extend(
            fitting.into_iter().find(|text| width(text) <= columns).map(|text| Line::new().with(Tone::Faint, &text)),
        );
        if let State::Ended(ending, sentence) = &picture.state {
            let tone = if matches!(ending, Ending::Exited(_)) { Tone::Plain } else { Tone::Danger };
            lines.extend(wrap(sentence, columns, self.sign()).iter().map(|line| Line::new().with(tone, line)));
        }
        for remark in &picture.remarks {
            lines.extend(wrap(remark, columns, self.sign()).iter().map(|line| Line::new().with(Tone::Warning, line)));
        }
        lines
    }

    /// A name and what there is to say, which may take more lines.
    fn entry(&self, name: &str, tone: Tone, text: &str) -> Vec<Line> {
        let room = self.style.width.saturating_sub(NAMES);
        wrap(text, room, self.sign())
            .iter()
            .enumerate()
            .map(|(index, text)| {
                let mut line = Line::new().with(Tone::Faint, if index == 0 { name } else { "" });
                line.pad_to(NAMES);
                line.with(tone, text)
            })
            .collect()
    }

    /// How it stands.
    fn standing(&self) -> Vec<Line> {
        let (picture, pulse) = (self.picture, &self.picture.history.pulse);
        if !picture.has_looked() {
            return self.entry("Memory", Tone::Plain, "was not looked at yet");
        }
        let stage_tone = tone(pulse.stage);
        let mut lines = self.bar(stage_tone);
        let gauge = picture.gauge();
        let level = |gauge: &str| match (pulse.limit, picture.percent()) {
            (Some(limit), Some(percent)) => {
                let room = Size(picture.room().unwrap_or(0));
                format!("{} of {}{gauge} ({percent:.1}%), room {room}", Size(pulse.gauged), Size(limit))
            }
            _ => format!("{}{gauge}, no limit", Size(pulse.gauged)),
        };
        let level = self.longest_that_fits([level(&format!(" {gauge}")), level("")]);
        lines.extend(self.entry("Memory", Tone::Strong, &level));
        if gauge != "usage" {
            let could = pulse.usage.saturating_sub(pulse.gauged);
            let text = format!("{}, {} of it could be let go", Size(pulse.usage), Size(could));
            lines.extend(self.entry("Usage", Tone::Plain, &text));
        }
        let since = picture.stage_since().and_then(|since| picture.unix(since));
        let since = since.and_then(clock).map(|at| format!(", since {}", self.time(&at))).unwrap_or_default();
        lines.extend(self.entry("Stage", stage_tone, &format!("{}{since}", pulse.stage)));
        lines.extend(self.entry("Growth", Tone::Plain, &self.growth(pulse.rate)));
        let trending = &pulse.trending;
        let (verdict_tone, text) = match trending.verdict {
            Verdict::Steady if picture.up_for() < FIRST_VERDICT => {
                (Tone::Plain, format!("steady so far: slow growth is judged after {}", rough(FIRST_VERDICT)))
            }
            Verdict::Steady => (Tone::Good, "steady".to_owned()),
            verdict => {
                let tone = if verdict == Verdict::Leak { Tone::Danger } else { Tone::Warning };
                let over = rough(u64::try_from(trending.horizon.as_millis()).unwrap_or(u64::MAX));
                (tone, format!("{} over {over}: {}", verdict.name(), self.growth(trending.rate)))
            }
        };
        lines.extend(self.entry("Verdict", verdict_tone, &text));
        // The bar and the chart show them, too.
        if !self.measure.is_dense {
            lines.extend(self.entry("Stages at", Tone::Plain, &self.thresholds()));
        }
        if let Some(incident) = &picture.history.incident {
            let text = match picture.is_running() {
                true => format!("open: memini report {incident}"),
                false => format!("memini report {incident}"),
            };
            lines.extend(self.entry("Incident", Tone::Warning, &text));
        }
        if picture.recorder.is_empty() {
            lines.extend(self.entry("Recorder", Tone::Warning, "in memory: it is gone with the container"));
        }
        if let Some(old) = picture.old() {
            let text = format!("the last look was {} ago", Span(Duration::from_secs(old.as_secs())));
            lines.extend(self.entry("", Tone::Danger, &text));
        }
        lines
    }

    /// The level between nothing and the limit, with a mark where each stage begins.
    fn bar(&self, filled: Tone) -> Vec<Line> {
        let Some(limit) = self.picture.history.pulse.limit.filter(|limit| *limit > 0) else { return Vec::new() };
        let percent = self.picture.percent().map(|percent| format!(" {percent:.0}%")).unwrap_or_default();
        let columns = self.style.width.saturating_sub(width(&percent) + 2);
        let place = |bytes: u64| {
            let place = u128::from(bytes) * columns as u128 / u128::from(limit);
            usize::try_from(place).unwrap_or(columns).min(columns)
        };
        let used = place(self.picture.history.pulse.gauged);
        let marks = self.picture.thresholds().map(|(stage, threshold)| (threshold.bytes(limit).map(place), stage));
        let mut line = Line::new().with(Tone::Faint, self.style.pick("▕", "["));
        for column in 0..columns {
            let mark = marks.iter().rev().find(|(place, _)| *place == Some(column));
            match mark {
                _ if column < used => line.add(filled, self.style.pick("█", "#")),
                Some((_, stage)) => line.add(tone(*stage), self.style.pick("╎", "|")),
                None => line.add(Tone::Faint, self.style.pick("░", ".")),
            }
        }
        line.add(Tone::Faint, self.style.pick("▏", "]"));
        line.add(Tone::Strong, &percent);
        vec![line]
    }

    /// `+1.2 MiB/s, limit in 4 min 10 s`
    fn growth(&self, rate: f64) -> String {
        // Of a run that is over there is nothing to be expected.
        let seconds = self.picture.seconds_to_limit(rate).filter(|_| self.picture.is_running());
        let time =
            seconds.map(|seconds| format!(", limit in {}", rough((seconds * 1000.0) as u64))).unwrap_or_default();
        format!("{}{time}", Rate(rate))
    }

    fn thresholds(&self) -> String {
        let limit = self.picture.history.pulse.limit;
        let told = |is_long: bool| {
            let parts = self.picture.thresholds().map(|(stage, threshold)| {
                let bytes = limit.and_then(|limit| threshold.bytes(limit));
                match (threshold, bytes) {
                    (Threshold::Percent(_) | Threshold::Below(_), Some(bytes)) if is_long => {
                        format!("{stage} {threshold} ({})", Size(bytes))
                    }
                    _ => format!("{stage} {threshold}"),
                }
            });
            parts.join(", ")
        };
        self.longest_that_fits([told(true), told(false)])
    }

    /// Beside a name of the list.
    fn longest_that_fits(&self, [long, short]: [String; 2]) -> String {
        let room = self.style.width.saturating_sub(NAMES);
        if width(&long) <= room { long } else { short }
    }

    fn chart(&self) -> Vec<Line> {
        let picture = self.picture;
        let length = picture.length();
        let title = format!("{} in the last {}", capital(picture.gauge()), short(length));
        let title = Line::new().with(Tone::Strong, &title).with(Tone::Faint, &self.legend());
        let chart = Chart {
            slots: &picture.slots,
            end: picture.end(),
            length,
            thresholds: picture.thresholds(),
            end_name: if picture.is_running() { "now" } else { "end" },
        };
        let mut lines = vec![title];
        lines.extend(chart.draw(self.measure.chart, self.style));
        lines
    }

    fn legend(&self) -> String {
        let [range, below] = self.style.pick(["█", "░"], ["#", ":"]);
        let long = format!("   {range} lowest to highest  {below} below");
        if self.style.width >= 72 { long } else { String::new() }
    }

    /// Where the bytes are.
    fn composition(&self) -> Vec<Line> {
        let Some(sample) = self.picture.last() else { return Vec::new() };
        let stat = &sample.stat;
        let mut parts =
            vec![("anon", stat.anon), ("file cache", stat.file.saturating_sub(stat.shmem)), ("shmem", stat.shmem)];
        let kernel = [
            ("slab", stat.slab_unreclaimable.saturating_add(stat.slab_reclaimable)),
            ("stacks", stat.kernel_stack),
            ("page tables", stat.pagetables),
            ("sockets", stat.sock),
        ];
        // Nobody runs without a stack: cgroup v1 and the process tree do not tell what the kernel holds.
        if stat.kernel_stack > 0 {
            parts.extend(kernel);
        }
        let total = |parts: &[(&str, u64)]| parts.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let other = sample.usage.last.saturating_sub(sample.swap).saturating_sub(total(&parts));
        parts.extend([("other", other), ("swap", sample.swap)]);
        let sum = total(&parts);
        if self.measure.is_dense {
            parts.retain(|(_, bytes)| *bytes > 0);
            parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
            let text: Vec<String> = parts.iter().map(|(name, bytes)| format!("{name} {}", Size(*bytes))).collect();
            let room = self.style.width.saturating_sub(NAMES);
            let text = cut(&text.join(", "), room, self.sign());
            return self.entry("Made of", Tone::Plain, &text);
        }
        let columns = (self.style.width / PART).clamp(1, 4);
        let wide = (self.style.width / columns).saturating_sub(2);
        let rows = parts.len().div_ceil(columns);
        let mut lines = vec![Line::new().with(Tone::Strong, "Composition")];
        for row in 0..rows {
            let mut line = Line::new();
            for column in 0..columns {
                let Some((name, bytes)) = parts.get(column * rows + row) else { continue };
                line.pad_to(column * (wide + 2));
                line.add(Tone::Faint, &format!("  {name:<11}"));
                line.add(Tone::Plain, &format!("{:>9} ", Size(*bytes).to_string()));
                line.add(Tone::Level, &self.share(*bytes, sum, wide.saturating_sub(24)));
            }
            lines.push(line);
        }
        lines
    }

    /// A bar for a part of a whole; something is never nothing.
    fn share(&self, bytes: u64, sum: u64, columns: usize) -> String {
        let all = columns as u128 * 8;
        let parts = (u128::from(bytes) * all).checked_div(u128::from(sum)).unwrap_or(0).min(all);
        let parts = if bytes > 0 { parts.max(1) } else { 0 } as usize;
        if !self.style.unicode {
            return "#".repeat(parts.div_ceil(8));
        }
        let mut bar = "█".repeat(parts / 8);
        bar.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get((parts % 8).wrapping_sub(1)));
        bar
    }

    fn processes(&self) -> Vec<Line> {
        let Some(processes) = &self.picture.processes else { return Vec::new() };
        let title = match &processes.since {
            Some((name, taken)) => {
                let at = clock(*taken).map(|at| format!(" at {}", self.time(&at))).unwrap_or_default();
                let what = match name.as_str() {
                    "watch" => "the first screen".to_owned(),
                    "baseline" => "the baseline".to_owned(),
                    stage => format!("the first look ({stage})"),
                };
                format!("by growth since {what}{at}")
            }
            None => "by size, as there is no earlier look".to_owned(),
        };
        let title = format!("  {}, {title}", processes.count);
        let title = cut(&title, self.style.width.saturating_sub("Processes".len()), self.sign());
        let mut lines = vec![Line::new().with(Tone::Strong, "Processes").with(Tone::Faint, &title)];
        lines.extend(processes.list.iter().take(self.measure.processes).map(|grown| self.process(grown)));
        lines
    }

    fn process(&self, grown: &Grown) -> Line {
        let mut line = Line::new();
        if let Some(growth) = grown.growth {
            let sign = if growth < 0 { "-" } else { "+" };
            let text = format!("{sign}{}", Size(growth.unsigned_abs()));
            line.add(if growth > 0 { Tone::Plain } else { Tone::Faint }, &format!("{text:>12}"));
            line.add(Tone::Faint, " of");
        }
        line.add(Tone::Plain, &format!("{:>10}  ", Size(grown.bytes).to_string()));
        line.add(Tone::Plain, &grown.name);
        let new = if grown.is_new { ", new" } else { "" };
        line.add(Tone::Faint, &format!(" {}{new}", grown.pid));
        line
    }

    fn events(&self) -> Vec<Line> {
        let picture = self.picture;
        let news = picture.history.events.iter().rev().filter(|event| Sentence(event).is_news());
        let end = if picture.is_running() { picture.up_for() } else { picture.end() };
        let told = news.take(self.measure.events).map(|event| {
            let at = picture.unix(event.since_start).and_then(clock).map(|at| self.time(&at)).unwrap_or_default();
            (at, format!("-{}", rough(end.saturating_sub(event.since_start))), event)
        });
        let told: Vec<_> = told.collect();
        let (ats, agos) =
            told.iter().fold((0, 0), |(ats, agos), (at, ago, _)| (ats.max(width(at)), agos.max(width(ago))));
        let mut lines: Vec<Line> = Vec::new();
        for (at, ago, event) in told {
            let mut line = Line::new();
            // The time of day is the first to go where there is little room.
            if self.style.width >= 60 {
                line.add(Tone::Faint, &format!("  {at:>ats$}"));
            }
            line.add(Tone::Faint, &format!("  {ago:>agos$}  "));
            let room = self.style.width.saturating_sub(line.width());
            line.add(Tone::Plain, &cut(&Sentence(event).to_string(), room, self.sign()));
            lines.push(line);
        }
        if !lines.is_empty() {
            lines.insert(0, Line::new().with(Tone::Strong, "Events").with(Tone::Faint, "  newest first, UTC"));
        }
        lines
    }

    /// The time of day of a moment that is today or was in the day before the last look; else also the day.
    fn time(&self, at: &str) -> String {
        let today = clock(self.picture.now).unwrap_or_default();
        let (day, time) = at.split_once('T').unwrap_or(("", at));
        let time = time.trim_end_matches('Z');
        if today.starts_with(day) { time.to_owned() } else { format!("{} {time}", day.get(5..).unwrap_or(day)) }
    }
}

/// `2026-11-22 05:45:01 UTC`
fn spoken(at: &str) -> String {
    format!("{} UTC", at.replace('T', " ").trim_end_matches('Z'))
}

/// A time in milliseconds: to the second, and to the minute from ten of them on.
fn rough(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let text = Span(Duration::from_secs(if seconds < 600 { seconds } else { seconds - seconds % 60 })).to_string();
    // `10 min 0 s`, `3 h 0 min`: who rounds says no zeros.
    let text = if text == "0 ms" { "0 s".to_owned() } else { text };
    text.trim_end_matches(" 0 s").trim_end_matches(" 0 min").trim_end_matches(" 0 h").to_owned()
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
