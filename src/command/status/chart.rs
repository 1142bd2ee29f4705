//! The chart of a level against limit and thresholds, in the characters of a terminal.
//!
//! A column is a stretch of time. It is filled faintly up to the lowest value that was seen in it, and strongly from there to the
//! highest: what is strong is where memory has moved. The limit is a double line above, and each threshold a dashed one that
//! says at the right what it is. The scale begins at nothing and ends at the limit, so that what is blank is what is left; only
//! where the level is so low that nothing could be told, it ends earlier and says so.

use crate::command::style::{Line, Style, Tone, cut, width};
use crate::engine::settings::{Stage, Threshold};
use crate::recorder::reader::Slot;
use crate::units::Size;

/// A row is divided into so many parts.
const PARTS: u64 = 8;

/// With less than this part of the limit in use, the scale ends below the limit.
const WORTH_ALL: u64 = 5;

/// The least that a scale reaches to.
const LEAST_TOP: u64 = 1 << 20;

/// What a label at the left takes, and the axis beside it.
const LEFT: usize = 11;

/// Where time is told below, at the most.
const TICK: usize = 14;

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Chart<'a> {
    /// What was seen, in the order of time.
    pub slots: &'a [Slot],
    /// The last moment; milliseconds since memini's start.
    pub end: u64,
    /// How far back it goes; milliseconds.
    pub length: u64,
    /// When the stages begin.
    pub thresholds: [(Stage, Threshold); 4],
    /// What the last moment is called.
    pub end_name: &'a str,
}

/// What was seen in the time of a column; bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Column {
    least: u64,
    most: u64,
    limit: Option<u64>,
}

/// A line across.
struct Level {
    row: usize,
    label: String,
    tone: Tone,
}

type Cell = (char, Tone);

impl Chart<'_> {
    /// Draws it, so many rows high without the lines that say what is what.
    pub fn draw(&self, rows: usize, style: &Style) -> Vec<Line> {
        let rows = rows.max(2);
        let first = self.first_and_length();
        let most = self.columns(1, first).first().copied().flatten();
        let limit = most.and_then(|all| all.limit).filter(|limit| *limit > 0);
        let highest = most.map_or(0, |all| all.most);
        let is_zoomed = limit.is_some_and(|limit| highest < limit / WORTH_ALL);
        let top = match limit.filter(|_| !is_zoomed) {
            Some(limit) => limit,
            None => neat(highest.saturating_add(highest / 8).max(LEAST_TOP)),
        };
        let limit_now = self.slots.last().and_then(|slot| slot.sample.limit).map(|limit| limit.last);
        let scale = Scale { top, rows, limit: limit_now };
        let levels = if is_zoomed { Vec::new() } else { self.levels(&scale, limit_now, style) };
        let right = levels.iter().map(|level| width(&level.label) + 1).max().unwrap_or(0).min(style.width / 3);
        let count = style.width.saturating_sub(LEFT + right).max(8);
        let columns = self.columns(count, first);

        let mut lines = Vec::new();
        if let Some(limit) = limit.filter(|_| is_zoomed) {
            lines.push(self.above(limit, limit_now, style));
        }
        for row in (0..=rows).rev() {
            // The row above all is the limit's own.
            if row == rows && (is_zoomed || limit.is_none()) {
                continue;
            }
            let mut line = Line::new();
            let label = scale.label(row);
            line.add(Tone::Faint, &format!("{label:>9} {}", style.pick(if label.is_empty() { '│' } else { '┤' }, '|')));
            for column in &columns {
                let (letter, tone) = self.cell(*column, row, &scale, is_zoomed, style);
                line.add(tone, letter.encode_utf8(&mut [0; 4]));
            }
            let mut labels = levels.iter().filter(|level| level.row == row);
            if let Some(first) = labels.next() {
                let label = cut(&first.label, right.saturating_sub(1), style.pick("…", ""));
                line.add(first.tone, &format!(" {label}"));
            }
            lines.push(line);
        }
        lines.extend(self.time_axis(count, style));
        lines
    }

    fn first_and_length(&self) -> (u64, u64) {
        let length = self.length.max(1000);
        (self.end.saturating_sub(length), length)
    }

    /// What was seen, in so many columns. A slot that lasts longer than a column stands in all that it touches.
    fn columns(&self, count: usize, (_, length): (u64, u64)) -> Vec<Option<Column>> {
        let mut columns: Vec<Option<Column>> = vec![None; count];
        let wide = u128::from(length);
        // Times are taken as distances from the end, as the beginning may be before memini's start.
        let index = |ago: u64| {
            let left = wide.saturating_sub(u128::from(ago));
            usize::try_from(left * count as u128 / wide).unwrap_or(usize::MAX)
        };
        for slot in self.slots {
            let (ago, until) = (self.end.saturating_sub(slot.start), self.end.saturating_sub(slot.end));
            if until >= length {
                continue;
            }
            let (first, last) = (index(ago.min(length)), index(until.saturating_add(1)));
            let sample = &slot.sample;
            let limit = sample.limit.map(|limit| limit.most);
            for place in columns.iter_mut().take(last.saturating_add(1)).skip(first.min(count.saturating_sub(1))) {
                let seen = sample.gauged();
                *place = Some(match *place {
                    None => Column { least: seen.least, most: seen.most, limit },
                    Some(before) => Column {
                        least: before.least.min(seen.least),
                        most: before.most.max(seen.most),
                        limit: before.limit.max(limit),
                    },
                });
            }
        }
        columns
    }

    /// Of the newest column: what stands at the right. One row has one label.
    fn levels(&self, scale: &Scale, limit: Option<u64>, style: &Style) -> Vec<Level> {
        let mut levels: Vec<Level> = Vec::new();
        let Some(limit) = limit else { return levels };
        let mut found: Vec<(usize, String, String, Tone)> =
            vec![(scale.line_above(limit), "limit".to_owned(), "limit".to_owned(), Tone::Strong)];
        for (stage, threshold) in self.thresholds.iter().rev() {
            if let Some(bytes) = threshold.bytes(limit) {
                let long = format!("{stage} {threshold}");
                found.push((scale.row(bytes), stage.to_string(), long, tone(*stage)));
            }
        }
        let room = style.width / 3;
        for (row, short, long, tone) in found {
            match levels.iter_mut().find(|level| level.row == row) {
                Some(level) => {
                    // With another one beside it there is room for names alone.
                    let first = level.label.split(' ').next().unwrap_or_default().trim_end_matches(',').to_owned();
                    let rest: Vec<&str> = level.label.split(", ").skip(1).collect();
                    level.label = [&[&*first], &*rest, &[&*short]].concat().join(", ");
                }
                None => levels.push(Level { row, label: if room > width(&long) { long } else { short }, tone }),
            }
        }
        levels
    }

    /// What is beyond a scale that ends below the limit.
    fn above(&self, limit: u64, limit_now: Option<u64>, style: &Style) -> Line {
        let limit = limit_now.unwrap_or(limit);
        let next = self.thresholds.iter().find_map(|(stage, threshold)| Some((stage, threshold.bytes(limit)?)));
        let next = next.map(|(stage, bytes)| format!(", {stage} at {}", Size(bytes))).unwrap_or_default();
        let arrow = style.pick('↑', '^');
        Line::new().with(Tone::Faint, &format!("{:>9} {arrow} far below the limit of {}{next}", "", Size(limit)))
    }

    fn cell(&self, column: Option<Column>, row: usize, scale: &Scale, is_zoomed: bool, style: &Style) -> Cell {
        // Where nothing was seen, lines run on as they are now.
        let limit = column.map_or(scale.limit, |column| column.limit).filter(|_| !is_zoomed);
        let line = self.line(limit, row, scale, style);
        let Some(column) = column else { return line.unwrap_or((' ', Tone::Plain)) };
        let floor = row as u64 * PARTS;
        let (low, high) = scale.range(column.least, column.most);
        if high <= floor {
            return line.unwrap_or((' ', Tone::Plain));
        }
        if low >= floor.saturating_add(PARTS) {
            // The limit was lower at another time of this column.
            return line.unwrap_or((style.pick('░', ':'), Tone::Faint));
        }
        let part = high.saturating_sub(floor).min(PARTS);
        let blocks = style.pick(['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'], ['_', '_', '_', '=', '=', '#', '#', '#']);
        let letter =
            usize::try_from(part).ok().and_then(|part| blocks.get(part.checked_sub(1)?)).copied().unwrap_or(' ');
        (letter, self.tone_at(column))
    }

    /// What crosses this cell.
    fn line(&self, limit: Option<u64>, row: usize, scale: &Scale, style: &Style) -> Option<Cell> {
        let limit = limit.filter(|limit| *limit > 0)?;
        if scale.line_above(limit) == row {
            return Some((style.pick('═', '='), Tone::Strong));
        }
        let mut stages = self.thresholds.iter().rev();
        let crossed = stages.find(|(_, threshold)| threshold.bytes(limit).is_some_and(|bytes| scale.row(bytes) == row));
        crossed.map(|(stage, _)| (style.pick('╌', '-'), tone(*stage)))
    }

    /// How far up the ladder the highest of a column is.
    fn tone_at(&self, column: Column) -> Tone {
        let Some(limit) = column.limit else { return Tone::Level };
        let mut stages = self.thresholds.iter().rev();
        let reached = stages.find(|(_, threshold)| threshold.bytes(limit).is_some_and(|bytes| column.most >= bytes));
        reached.map_or(Tone::Level, |(stage, _)| tone(*stage))
    }

    fn time_axis(&self, count: usize, style: &Style) -> [Line; 2] {
        let (_, length) = self.first_and_length();
        let parts = if count >= TICK * 4 { neat_parts(length) } else { 2 };
        let places: Vec<usize> = (0..=parts).map(|part| part * (count - 1) / parts).collect();
        let mut axis = format!("{:>9} {}", "0", style.pick('└', '+'));
        axis.extend((0..count).map(|column| match places.contains(&column) {
            true => style.pick('┴', '+'),
            false => style.pick('─', '-'),
        }));
        let mut names = " ".repeat(LEFT);
        for (part, place) in places.iter().enumerate() {
            let left = parts - part;
            let name = match left {
                0 => self.end_name.to_owned(),
                _ => format!("-{}", short(length / parts as u64 * left as u64)),
            };
            let middle = LEFT + place;
            let start = match part {
                0 => LEFT,
                _ if left == 0 => (LEFT + count).saturating_sub(name.len()),
                _ => middle.saturating_sub(name.len() / 2),
            };
            names.push_str(&" ".repeat(start.saturating_sub(names.len())));
            names.push_str(&name);
        }
        [axis, names].map(|text| Line::new().with(Tone::Faint, &text))
    }
}

/// From bytes to rows.
struct Scale {
    top: u64,
    rows: usize,
    /// The limit as it is now; bytes.
    limit: Option<u64>,
}

impl Scale {
    /// In parts of a row from the bottom, not above the top.
    fn parts(&self, bytes: u64) -> u64 {
        let all = self.rows as u64 * PARTS;
        let parts = u128::from(bytes) * u128::from(all) / u128::from(self.top.max(1));
        u64::try_from(parts).unwrap_or(all).min(all)
    }

    /// Where a range begins and ends: at least a part of a row.
    fn range(&self, least: u64, most: u64) -> (u64, u64) {
        let (low, high) = (self.parts(least), self.parts(most));
        let high = high.max(low.saturating_add(1)).min(self.rows as u64 * PARTS);
        (low.min(high.saturating_sub(1)), high)
    }

    /// The row that a level lies in.
    fn row(&self, bytes: u64) -> usize {
        let row = usize::try_from(self.parts(bytes) / PARTS).unwrap_or(0);
        row.min(self.rows.saturating_sub(1))
    }

    /// The row whose lower edge is at a level, or the next one above.
    fn line_above(&self, bytes: u64) -> usize {
        usize::try_from(self.parts(bytes).div_ceil(PARTS)).unwrap_or(self.rows)
    }

    /// What stands at the left of a row: quarters of the whole, at the rows that begin there.
    fn label(&self, row: usize) -> String {
        let step = if self.rows.is_multiple_of(4) { self.rows / 4 } else { self.rows };
        if row == 0 || !row.is_multiple_of(step) {
            return String::new();
        }
        let bytes = u128::from(self.top) * row as u128 / self.rows as u128;
        Size(u64::try_from(bytes).unwrap_or(self.top)).to_string()
    }
}

/// What a stage looks like.
pub const fn tone(stage: Stage) -> Tone {
    match stage {
        Stage::Normal => Tone::Good,
        Stage::Trace | Stage::Capture => Tone::Warning,
        Stage::Stop | Stage::Kill => Tone::Danger,
    }
}

/// The next size that quarters of can be said: a power of two, or one and a half of it.
fn neat(bytes: u64) -> u64 {
    let above = bytes.checked_next_power_of_two().unwrap_or(1 << 63);
    let between = above / 4 * 3;
    if between >= bytes { between } else { above }
}

/// In how many parts a time is to be divided, so that they are whole minutes or hours.
fn neat_parts(length: u64) -> usize {
    match length / 60_000 {
        5 | 10 => 5,
        30 | 180 | 360 => 3,
        _ => 4,
    }
}

/// A time in milliseconds in one unit: `90 s`, `2.5 min`, `45 min`, `12 h`.
pub fn short(milliseconds: u64) -> String {
    let seconds = milliseconds as f64 / 1000.0;
    let (number, unit) = match seconds {
        ..60.0 => (seconds, "s"),
        ..7200.0 => (seconds / 60.0, "min"),
        _ => (seconds / 3600.0, "h"),
    };
    let tenths = (number * 10.0).round() / 10.0;
    if tenths.fract() == 0.0 { format!("{tenths:.0} {unit}") } else { format!("{tenths:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::told::{Course, Sample};

    const MIB: u64 = 1 << 20;

    const LADDER: [(Stage, Threshold); 4] = [
        (Stage::Trace, Threshold::Percent(60.0)),
        (Stage::Capture, Threshold::Percent(80.0)),
        (Stage::Stop, Threshold::Percent(92.0)),
        (Stage::Kill, Threshold::Percent(97.0)),
    ];

    fn slot(second: u64, least: u64, most: u64, limit: Option<u64>) -> Slot {
        let course = |least: u64, most: u64| Course { least: least * MIB, most: most * MIB, last: most * MIB };
        let limit = limit.map(|limit| course(limit, limit));
        let sample =
            Sample { usage: course(least, most), gauged: Some(course(least, most)), limit, ..Sample::default() };
        Slot { start: second * 1000, end: second * 1000 + 1000, sample }
    }

    fn draw(slots: &[Slot], length: u64, rows: usize, width: usize, unicode: bool) -> Vec<String> {
        let chart = Chart { slots, end: 60_000, length, thresholds: LADDER, end_name: "now" };
        let style = Style { width, height: None, unicode, colours: false };
        chart.draw(rows, &style).iter().map(|line| line.render(&style)).collect()
    }

    #[test]
    fn a_saw_tooth_shows_its_range_between_limit_and_nothing() {
        let slots: Vec<Slot> = (0..60).map(|second| slot(second, second, second + 20, Some(100))).collect();
        assert_eq!(
            draw(&slots, 60_000, 8, 60, true),
            [
                "  100 MiB ┤═════════════════════════════════════ limit",
                "          │╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌ kill, stop",
                "   75 MiB ┤╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌▁▂ capture 80%",
                "          │                           ▁▂▃▄▅▆████",
                "   50 MiB ┤╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌▁▂▃▄▅▆▇███████████ trace 60%",
                "          │            ▂▂▄▄▆▇█████████████░░░░░░",
                "   25 MiB ┤    ▁▂▃▄▅▇▇█████████████░░░░░░░░░░░░░",
                "          │▅▆▇█████████████░░░░░░░░░░░░░░░░░░░░░",
                "          │█████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
                "        0 └┴─────────────────┴─────────────────┴",
                "           -1 min          -30 s             now",
            ]
        );
    }

    #[test]
    fn a_level_far_below_the_limit_is_shown_large_and_says_so() {
        let slots: Vec<Slot> = (0..60).map(|second| slot(second, 10, 10 + second % 5, Some(100))).collect();
        let lines = draw(&slots, 60_000, 8, 60, true);
        assert_eq!(lines[0], "          ↑ far below the limit of 100 MiB, trace at 60 MiB");
        assert!(lines.iter().any(|line| line.starts_with("   12 MiB ┤")), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains(['═', '╌'])), "{lines:#?}");
    }

    #[test]
    fn without_a_limit_there_is_no_line_for_one() {
        let slots: Vec<Slot> = (0..60).map(|second| slot(second, 10, 40, None)).collect();
        let lines = draw(&slots, 60_000, 8, 60, true);
        assert!(!lines.iter().any(|line| line.contains(['═', '╌', '↑'])), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("   36 MiB ┤")), "{lines:#?}");
    }

    #[test]
    fn a_limit_that_changes_is_a_step_and_the_scale_takes_all_of_it() {
        let limit = |second| Some(if second < 30 { 100 } else { 50 });
        let slots: Vec<Slot> = (0..60).map(|second| slot(second, 30, 31, limit(second))).collect();
        let lines = draw(&slots, 60_000, 8, 60, true);
        let doubles = |line: &String| line.matches('═').count();
        assert!(lines[0].starts_with("  100 MiB ┤") && (10..25).contains(&doubles(&lines[0])), "{lines:#?}");
        let lower = lines.iter().skip(1).find(|line| doubles(line) > 0).unwrap();
        assert!(lower.ends_with(" limit") && (10..25).contains(&doubles(lower)), "{lines:#?}");
    }

    #[test]
    fn a_moment_between_two_columns_is_not_lost() {
        // One second of an hour, and a column is more than a minute.
        let mut slots: Vec<Slot> = (0..60).map(|second| slot(second, 10, 10, Some(100))).collect();
        slots[30].sample.gauged = Some(Course { least: 10 * MIB, most: 99 * MIB, last: 10 * MIB });
        let chart = Chart { slots: &slots, end: 60_000, length: 3_600_000, thresholds: LADDER, end_name: "now" };
        let style = Style { width: 60, height: None, unicode: true, colours: false };
        let lines: Vec<String> = chart.draw(8, &style).iter().map(|line| line.render(&style)).collect();
        assert!(lines[1].contains('▇') || lines[1].contains('█'), "{lines:#?}");
    }
}
