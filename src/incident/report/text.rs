//! The report as text for a terminal, and as Markdown for a ticket.

use std::time::Duration;

use super::events::{about, amount, events, level, signed, since, times};
use super::series::Series;
use super::story::{Evidence, Story, Suspect, clock_of, day_and_clock, stage_name};
use super::tree::Tree;
use super::{next, open};
use crate::units::{Rate, Size, Span};

/// Which kind of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Plain lines.
    Lines,
    /// Markdown, as most trackers read it.
    Markdown,
}

/// How many samples are told of many, at equal distances in time, and how many events: the first ones and the last ones.
const SAMPLES: usize = 24;
const EVENTS: usize = 40;
/// How wide a full bar is.
const BAR: usize = 24;

/// The text, with a newline at its end.
pub fn text(story: &Story, form: Form) -> String {
    let mut sheet = Sheet { form, text: String::new() };
    head(&mut sheet, story);
    who_grew(&mut sheet, story);
    what_next(&mut sheet, story);
    memory(&mut sheet, story);
    processes(&mut sheet, story);
    what_happened(&mut sheet, story);
    not_done(&mut sheet, story);
    artifacts(&mut sheet, story);
    sheet.text
}

struct Sheet {
    form: Form,
    text: String,
}

impl Sheet {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn title(&mut self, title: &str) {
        let title = self.prose(title);
        match self.form {
            Form::Lines => self.line(&title),
            Form::Markdown => self.line(&format!("# {title}")),
        }
    }

    fn heading(&mut self, heading: &str) {
        self.line("");
        match self.form {
            Form::Lines => self.line(heading),
            Form::Markdown => {
                self.line(&format!("## {heading}"));
                self.line("");
            }
        }
    }

    fn item(&mut self, item: &str) {
        match self.form {
            Form::Lines => self.line(&format!("  {item}")),
            Form::Markdown => self.line(&format!("- {item}")),
        }
    }

    /// What belongs to the item before.
    fn below(&mut self, line: &str) {
        match self.form {
            Form::Lines => self.line(&format!("      {line}")),
            Form::Markdown => self.line(&format!("  - {line}")),
        }
    }

    /// Lines whose columns matter. After a list, indented lines would be text of its last item: a fence ends it.
    fn columns(&mut self, lines: &[String]) {
        if self.form == Form::Lines {
            lines.iter().for_each(|line| self.line(&format!("  {line}")));
            return;
        }
        let longest = lines.iter().map(|line| longest_marks(line)).max().unwrap_or(0);
        let fence = "`".repeat(longest.saturating_add(1).max(3));
        self.line(&fence);
        lines.iter().for_each(|line| self.line(line));
        self.line(&fence);
    }

    /// A text in which there may be anything.
    fn prose(&self, text: &str) -> String {
        match self.form {
            Form::Lines => text.to_owned(),
            Form::Markdown => escaped(text),
        }
    }

    /// A name, or what to type.
    fn code(&self, text: &str) -> String {
        match self.form {
            Form::Lines => text.to_owned(),
            Form::Markdown => code_span(text),
        }
    }
}

/// So that Markdown shows these letters and does nothing about them, nor does a tracker: what one would make a link of, or somebody
/// who is told of it, stands as code. Escapes do not help there, since links are looked for in what Markdown has made.
fn escaped(text: &str) -> String {
    let is_link = |word: &str| ["@", "#", "://", "www."].iter().any(|sign| word.contains(sign));
    let words = text.split(' ').map(|word| if is_link(word) { code_span(word) } else { escaped_word(word) });
    words.collect::<Vec<_>>().join(" ")
}

fn escaped_word(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '#' | '$') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// Marks that are longer than any within.
fn code_span(text: &str) -> String {
    let marks = "`".repeat(longest_marks(text).saturating_add(1));
    let space = if text.is_empty() || text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{marks}{space}{text}{space}{marks}")
}

/// How many marks stand beside one another.
fn longest_marks(text: &str) -> usize {
    text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0)
}

fn head(sheet: &mut Sheet, story: &Story) {
    sheet.title(&story.summary);
    if sheet.form == Form::Markdown {
        sheet.line("");
    }
    let told = |text: &str, what: String| (!text.is_empty()).then_some(what);
    let mut facts = Vec::new();
    facts.extend(told(&story.id, format!("incident {}", story.id)));
    facts.extend(told(&story.outcome, story.outcome.to_string()));
    facts.extend(story.exit_code.map(|code| format!("exit code {code}")));
    facts.extend(told(&story.began, format!("began {} UTC", day_and_clock(&story.began))));
    facts.extend(story.duration().map(|span| format!("lasted {}", Span(span))));
    facts.extend(story.peak().map(|sample| format!("at the most {}", level(&sample))));
    if !facts.is_empty() {
        let facts = sheet.prose(&facts.join(", "));
        sheet.line(&facts);
    }
}

fn who_grew(sheet: &mut Sheet, story: &Story) {
    sheet.heading("Who grew");
    let Some(evidence) = &story.evidence else {
        sheet.item("Nobody was looked into in this incident.");
        return;
    };
    let place = match evidence.growth {
        Some(growth) => format!("{} in {}: {}", signed(growth), Span(evidence.span), evidence.place),
        None => format!("In use: {}", evidence.place),
    };
    let place = sheet.prose(&place);
    sheet.item(&place);
    if !evidence.is_conclusive && evidence.growth.is_some() && !evidence.suspects.is_empty() {
        sheet.item("Nothing of it explains enough to be called the cause.");
    }
    for suspect in &evidence.suspects {
        let amount = suspect.growth.map_or_else(|| Size(suspect.bytes).to_string(), signed);
        let what = sheet.code(&suspect.what);
        let place = sheet.prose(&details(suspect));
        let amount = if sheet.form == Form::Lines { format!("{amount:>11}") } else { format!("**{amount}**") };
        sheet.item(&format!("{amount}  {what}, {place}"));
        if let Some(path) = path(evidence, suspect) {
            let path = sheet.prose(&path);
            sheet.below(&path);
        }
    }
}

fn details(suspect: &Suspect) -> String {
    let mut text = suspect.place.to_string();
    if let Some(who) = &suspect.process {
        text.push_str(&format!(", {} {}", who.comm, who.pid));
    }
    if let Some(count) = suspect.count {
        text.push_str(&format!(", {} of them", amount(count)));
    }
    if let Some(more) = suspect.count_growth {
        let sign = if more < 0 { '\u{2212}' } else { '+' };
        text.push_str(&format!(" ({sign}{})", amount(more.unsigned_abs())));
    }
    if let Some(rate) = suspect.rate {
        text.push_str(&format!(", {}", Rate(rate)));
    }
    if let Some(up_to) = suspect.up_to {
        text.push_str(&format!(", with what they refer to up to {}", Size(up_to)));
    }
    text
}

/// `baseline 20 MiB → trace 118 MiB → capture 168 MiB`.
fn path(evidence: &Evidence, suspect: &Suspect) -> Option<String> {
    if evidence.looks.len() < 2 || suspect.sizes.len() < 2 {
        return None;
    }
    let told = evidence.looks.iter().zip(&suspect.sizes).map(|(look, size)| {
        let size = size.map_or_else(|| "not known".to_owned(), |bytes| Size(bytes).to_string());
        format!("{} {} {size}", stage_name(&look.stage), clock_of(&look.at))
    });
    Some(told.collect::<Vec<_>>().join(" → "))
}

fn what_next(sheet: &mut Sheet, story: &Story) {
    sheet.heading("What next");
    for step in next::steps(story) {
        let code = step.code.map(|code| format!(" {}", sheet.code(&code))).unwrap_or_default();
        sheet.item(&format!("{}{code}", step.text));
    }
}

fn memory(sheet: &mut Sheet, story: &Story) {
    let series = Series::of(story);
    sheet.heading("Memory");
    if series.points.is_empty() {
        sheet.item("No sample was noted.");
        return;
    }
    let max = series.height().max(1);
    if let Some(since) = since(story, &series) {
        let since = sheet.prose(&since);
        sheet.item(&since);
    }
    let Some(views) = series.views(story.beginning(), &[]) else { return };
    if let Some(whole) = views.whole {
        let (before, calm) = ((whole.0, views.main.0), series.within((whole.0, views.main.0)));
        let low = calm.points.iter().map(|point| point.gauged.low).min().unwrap_or(0);
        let high = calm.points.iter().map(|point| point.gauged.high).max().unwrap_or(0);
        let length = about(Duration::from_secs((before.1 - before.0).max(1.0) as u64));
        let calm = sheet.prose(&format!("In the {length} before: between {} and {}.", Size(low), Size(high)));
        sheet.item(&calm);
    }
    if sheet.form == Form::Markdown {
        sheet.line("");
    }
    let mut lines = Vec::new();
    for point in series.within(views.main).spread(SAMPLES) {
        let whole = point.limit.unwrap_or(max).max(1);
        let share = point.gauged.last as f64 / whole as f64;
        let filled = ((share * BAR as f64) as usize).min(BAR);
        let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled));
        let share = point.limit.map_or_else(String::new, |_| format!("{:.0}%", share * 100.0));
        let (clock, size) = (story.clock_in(point.seconds, views.main), Size(point.gauged.last).to_string());
        lines.push(format!("{clock:8} {size:>9} {share:>5} {bar}"));
    }
    if let Some(limit) = series.limit() {
        let width = story.clock_in(views.main.0, views.main).len().max(8);
        lines.push(format!("{:width$} {:>9}", "limit", Size(limit).to_string()));
    }
    sheet.columns(&lines);
}

fn processes(sheet: &mut Sheet, story: &Story) {
    let tree = Tree::of(story);
    if tree.rows.is_empty() {
        return;
    }
    sheet.heading("Processes");
    let is_compared = tree.moments.len() > 1;
    let mut head: String = tree.moments.iter().map(|moment| format!("{:>11}", moment.stage)).collect();
    if is_compared {
        head.push_str(&format!("{:>12}", "growth"));
    }
    let mut lines = vec![head];
    for row in &tree.rows {
        let size = |size: &Option<u64>| size.map_or_else(|| "–".to_owned(), |bytes| Size(bytes).to_string());
        let mut line: String = row.sizes.iter().map(|bytes| format!("{:>11}", size(bytes))).collect();
        if is_compared {
            line.push_str(&format!("{:>12}", row.growth().map_or_else(|| "–".to_owned(), signed)));
        }
        lines.push(format!("{line}  {}{} {}", "  ".repeat(row.depth.min(8)), row.name, row.pid));
    }
    if tree.others > 0 {
        lines.push(format!("and {} more", tree.others));
    }
    sheet.columns(&lines);
}

fn what_happened(sheet: &mut Sheet, story: &Story) {
    sheet.heading("What happened");
    let events = events(story);
    let half = EVENTS / 2;
    let left_out = events.len().saturating_sub(EVENTS);
    for (index, event) in events.iter().enumerate() {
        if left_out > 0 && (half..half + left_out).contains(&index) {
            if index == half {
                sheet.item(&format!("… {left_out} more"));
            }
            continue;
        }
        let sentence = sheet.prose(&event.sentence);
        sheet.item(&format!("{} {sentence}", event.clock));
    }
    if story.brakes.times > 0 {
        let stopped = Span(Duration::try_from_secs_f64(story.brakes.stopped).unwrap_or_default());
        let often = times(story.brakes.times);
        sheet.item(&format!("To be looked at, the app was stopped {often}, for {stopped} in all"));
    }
}

fn not_done(sheet: &mut Sheet, story: &Story) {
    sheet.heading("What was not done, and why");
    if story.not_done.is_empty() {
        sheet.item("Nothing that was called for was left out.");
    }
    for undone in &story.not_done {
        let text = sheet.prose(&format!("{} {}", clock_of(&undone.at), undone.text));
        sheet.item(text.trim_start());
    }
}

fn artifacts(sheet: &mut Sheet, story: &Story) {
    sheet.heading("Files, and how to open them");
    if story.artifacts.is_empty() {
        sheet.item("There are none.");
    }
    for file in &story.artifacts {
        let opening = open::of_artifact(file);
        let name = sheet.code(&file.file);
        sheet.item(&format!("{name}: {}, {}", Size(file.bytes), opening.what));
        if !file.sha256.is_empty() {
            let digest = sheet.code(&file.sha256);
            sheet.below(&format!("SHA-256 {digest}"));
        }
        if !opening.how.is_empty() {
            let how = sheet.prose(opening.how);
            sheet.below(&how);
        }
        if !opening.command.is_empty() {
            let command = sheet.code(&opening.command);
            sheet.below(&command);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let text = super::text(&Story::of(r#"{"schema":"memini.incident/1"}"#).unwrap(), Form::Lines);
        assert!(text.starts_with("an incident of the app\n\nWho grew\n"), "{text}");
        assert!(!text.contains(", ,") && !text.contains("  UTC"), "{text}");
    }

    #[test]
    fn markdown_shows_what_stands_there_and_does_nothing() {
        for (text, shown) in [
            ("<b>[x](y) *a* | #", "\\<b\\>\\[x\\](y) \\*a\\* \\| `#`"),
            ("fixes #1 of @octocat", "fixes `#1` of `@octocat`"),
            ("http://a.example, www.a.example: a`@b", "`http://a.example,` `www.a.example:` ``a`@b``"),
        ] {
            assert_eq!(escaped(text), shown);
        }
        for (text, span) in [("a", "`a`"), ("", "`  `"), ("a`b", "``a`b``"), ("``", "``` `` ```"), ("<i>", "`<i>`")] {
            assert_eq!(code_span(text), span);
        }
    }

    /// An incident in which every text that is another's choice is this one.
    fn hostile(text: &str) -> Story {
        let sample = |mib: u64| json!({"usage": mib << 20, "gauged": mib << 20, "limit": 512 << 20});
        let entry = |seconds: u64, mib: u64| json!({"event": "stage-began", "stage": text, "at": "2026-11-22T05:45:01.000Z", "seconds": seconds, "sample": sample(mib)});
        let look = json!({"stage": text, "at": format!("2026-11-22T{text}")});
        let suspect =
            json!({"what": text, "place": text, "process": {"pid": 7, "comm": text}, "growth": 5, "sizes": [5, 10]});
        let incident = json!({
            "schema": "memini.incident/1", "id": text, "summary": text, "outcome": text, "began": text,
            "timeline": [entry(1, 100), entry(60, 400), {"event": text, "seconds": 61}],
            "not_done": [{"at": format!("2026-11-22T{text}"), "text": text}], "artifacts": [{"file": text, "sha256": text}],
            "evidence": {"place": text, "growth": 5, "looks": [look, look], "suspects": [suspect],
                "processes": [{"pid": 7, "comm": text, "sizes": [5, 10]}]},
        });
        Story::of(&incident.to_string()).unwrap()
    }

    /// What Markdown would read, without code.
    fn without_code(text: &str) -> String {
        let mut rest = text;
        let mut outside = String::new();
        while let Some(start) = rest.find('`') {
            let (before, marked) = rest.split_at(start);
            outside.push_str(before);
            if before.ends_with('\\') {
                rest = &marked[1..];
                continue;
            }
            let marks = &marked[..marked.find(|letter| letter != '`').unwrap()];
            let inner = &marked[marks.len()..];
            let end = inner
                .match_indices(marks)
                .map(|(at, _)| at)
                .find(|at| !inner[..*at].ends_with('`') && !inner[at + marks.len()..].starts_with('`'));
            rest = &inner[end.unwrap() + marks.len()..];
        }
        outside + rest
    }

    #[test]
    fn in_markdown_no_text_of_anothers_is_markup_a_link_or_a_name_that_is_told() {
        for evil in ["<script>alert(1)</script>", "@octocat", "http://a.example/", "www.a.example", "#1", "x`@y```"] {
            let markdown = text(&hostile(evil), Form::Markdown);
            let outside = without_code(&markdown);
            for sign in ["@", "://", "www.", "#1"] {
                assert!(!outside.contains(sign), "{sign} of {evil}: {markdown}");
            }
            assert!(!outside.replace("\\<", "").contains('<'), "{evil}: {markdown}");
            assert!(markdown.matches(evil).count() > 5, "{evil}: {markdown}");
        }
    }

    #[test]
    fn a_chart_after_a_list_is_code_in_markdown() {
        let markdown = text(&hostile("``` a"), Form::Markdown);
        let lines: Vec<&str> = markdown.lines().collect();
        let fenced = |fence: &str, inner: &str| {
            let within: Vec<&str> = lines.iter().copied().skip_while(|line| *line != fence).skip(1).collect();
            let end = within.iter().position(|line| *line == fence).unwrap();
            assert!(within[..end].iter().any(|line| line.contains(inner)), "{markdown}");
            assert!(within[..end].iter().all(|line| !line.starts_with(fence)), "{markdown}");
        };
        assert!(markdown.contains("- It grew for "), "{markdown}");
        fenced("```", "400 MiB   78% ██");
        fenced("````", "``` a 7");
        let plain = text(&hostile("a"), Form::Lines);
        assert!(plain.contains("\n  05:46:00   400 MiB   78% ██") && !plain.contains('`'), "{plain}");
    }
}
