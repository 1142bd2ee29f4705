//! The timeline as sentences.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::series::Series;
use super::story::{Entry, Sample, Story, stage_name};
use crate::units::{Rate, Size, Span};

/// How much weight something has on the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// One of many.
    Common,
    /// A turn of the story: it is marked in the chart.
    Turn,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Since memini started.
    pub seconds: f64,
    pub clock: String,
    pub weight: Weight,
    /// Its number among the turns, from 1.
    pub number: Option<usize>,
    /// What stands at its mark.
    pub mark: String,
    pub sentence: String,
}

/// How many turns are marked: of more, nobody could tell which is which.
const MOST_MARKED: usize = 12;

/// All that is told.
pub fn events(story: &Story) -> Vec<Event> {
    let mut number = 0;
    let mut events: Vec<Event> = Vec::new();
    let ends = Ends::of(story);
    for (index, entry) in story.timeline.iter().enumerate() {
        let Some((weight, mark, sentence)) = told(entry, story, &ends, index) else { continue };
        let is_marked = weight == Weight::Turn && number < MOST_MARKED;
        number += usize::from(is_marked);
        events.push(Event {
            seconds: entry.seconds(),
            clock: story.clock(entry.seconds()),
            weight,
            number: is_marked.then_some(number),
            mark,
            sentence,
        });
    }
    events
}

/// Where runs end: the kind, the run, the place in the timeline.
struct Ends<'a>(BTreeSet<(&'a str, u64, usize)>);

impl<'a> Ends<'a> {
    fn of(story: &'a Story) -> Self {
        let kinds = ["hook-ended", "evidence-ended", "evidence-cut"];
        let entries = story.timeline.iter().enumerate().filter(|(_, entry)| kinds.contains(&entry.event()));
        Self(entries.filter_map(|(index, entry)| Some((entry.event(), entry.number("run")?, index))).collect())
    }

    /// The first one of this run after this place.
    fn after(&self, kind: &'a str, run: u64, index: usize) -> Option<usize> {
        self.0.range((kind, run, index)..=(kind, run, usize::MAX)).next().map(|(.., index)| *index)
    }
}

fn told(entry: &Entry, story: &Story, ends: &Ends<'_>, index: usize) -> Option<(Weight, String, String)> {
    use Weight::{Common, Turn};
    let stage = entry.text("stage");
    let level = || entry.sample().map(|sample| format!(": {}", level(&sample))).unwrap_or_default();
    let turn = |mark: &str, sentence: String| Some((Turn, mark.to_owned(), sentence));
    let common = |sentence: String| Some((Common, String::new(), sentence));
    // How a run ended stands with its beginning.
    let end = |kind| story.timeline.get(ends.after(kind, entry.number("run")?, index)?);
    match entry.event() {
        "stage-began" => turn(&stage, format!("The {} stage began{}", &*stage, level())),
        "stage-ended" => common(format!("The {} stage was over{}", &*entry.text("from"), level())),
        "stop-not-needed" => common(format!("Above the stop threshold, but it was not urgent{}", level())),
        "stopping" => {
            let reason = match entry.event_reason() {
                "urgent" => "the limit was nearer than the time that it needs to leave",
                "leak" => "the verdict was leak: it would not have become better",
                "floor" => "too little room was left to shut down in",
                "level" => "memory was above the stop threshold (--stop-when level)",
                _ => "memory was high",
            };
            turn("stopping", format!("memini decided to stop the app, since {reason}{}", level()))
        }
        "terminating" => turn("signal", "The app was asked to leave".to_owned()),
        "grace-over" => turn("grace over", "The grace period was over: the app was killed".to_owned()),
        "verdict" => {
            let verdict = entry.text("verdict");
            if &*verdict == "steady" {
                return common(format!("Memory no longer grows: steady, after {}{}", entry.text("from"), level()));
            }
            let mut sentence = format!("Memory had been growing {}", pace(entry.rate()));
            if let Some(horizon) = entry.amount("horizon").and_then(|span| Duration::try_from_secs_f64(span).ok()) {
                sentence.push_str(&format!(" for {}", about(horizon)));
            }
            sentence.push_str(&format!(": {verdict}"));
            if let Some(left) = entry.time_to_limit() {
                sentence.push_str(&format!(", with the limit {} away", about(left)));
            }
            sentence.push_str(&level());
            let weight = if &*verdict == "leak" { Turn } else { Common };
            Some((weight, verdict.to_string(), sentence))
        }
        "found-by-next-run" => turn("last seen", format!("memini's next start found out: {}", entry.text("text"))),
        "signal" => {
            let from = match entry.number("sender") {
                None | Some(0) => "outside".to_owned(),
                Some(sender) => format!("process {sender}"),
            };
            let often = entry.number("times").filter(|times| *times > 1);
            let often = often.map(|count| format!(", {}", times(count))).unwrap_or_default();
            common(format!("{} came from {from}{often}", entry.text("signal")))
        }
        "broken" => common("memini had an error of its own, and went on as a plain init".to_owned()),
        "killing" => {
            turn("killing", format!("The processes were stopped and killed, before the kernel did{}", level()))
        }
        "hook-started" => {
            let index = entry.number("hook").and_then(|index| usize::try_from(index).ok());
            let command = index.and_then(|index| story.configured_hooks.get(index));
            let command = command.map_or_else(String::new, |hook| format!(": {}", hook.command));
            match entry.number("run") {
                None => common(format!("Dry run: the {} hook would have run{command}", &*stage)),
                Some(run) => {
                    let end = end("hook-ended").map_or_else(|| "it has not ended".to_owned(), how_it_ended);
                    common(format!("Hook {run} ran at the {} stage, {end}{command}", &*stage))
                }
            }
        }
        "hook-overdue" => {
            let signal = entry.text("signal");
            common(format!("A hook had run for {}: it was sent {signal}", seconds(entry.amount("after"))))
        }
        "evidence-started" => {
            let what = format!("the processes ({})", stage_name(&stage));
            match (entry.number("run"), end("evidence-ended"), end("evidence-cut")) {
                (None, ..) => common(format!("Dry run: memini would have looked at {what}")),
                (_, Some(end), _) => common(format!("memini looked at {what}, {}", how_it_ended(end))),
                (_, _, Some(cut)) => {
                    common(format!("memini looked at {what}, and was cut after {}", seconds(cut.amount("after"))))
                }
                _ => common(format!("memini began to look at {what}")),
            }
        }
        "capture-skipped" => common("No capture was taken".to_owned()),
        "limit-changed" => {
            let limit =
                |key: &str| entry.number(key).map_or_else(|| "none".to_owned(), |limit| Size(limit).to_string());
            turn("limit", format!("The limit changed from {} to {}", limit("from"), limit("to")))
        }
        "thresholds-unreachable" => {
            common(format!("Under the limit of {} the {} stage cannot begin", size(entry.number("limit")), &*stage))
        }
        "oom-kill" => {
            let times = entry.number("times").unwrap_or(1);
            let what = if times == 1 { "a process".to_owned() } else { format!("{times} processes") };
            turn("OOM kill", format!("The kernel's OOM killer killed {what} of the group"))
        }
        "thrashing" => {
            let refaults = entry
                .amount("refaults")
                .map_or_else(|| "pages ".to_owned(), |count| format!("{count:.0} pages a second "));
            common(format!("Thrashing: {refaults}were read again{}", level()))
        }
        "braked" => {
            let often = times(entry.number("times").unwrap_or(0));
            let stopped = seconds(entry.amount("stopped"));
            common(format!("The app grew too fast to be followed: it was braked {often}, {stopped} in all"))
        }
        "late-wake" => {
            let late = seconds(entry.amount("late"));
            common(format!("memini was woken {late} late: the machine was busy, or the container throttled"))
        }
        "last-looks" => common("The last looks at memory before the kernel's kill were noted".to_owned()),
        "recovered" => turn("recovered", "Memory was back to normal".to_owned()),
        "app-exited" => {
            let by = match (entry.is("oom_killed"), entry.is("stopped")) {
                (true, _) => ", by the kernel's OOM killer",
                (false, true) => ", after memini had stopped it",
                (false, false) => ", by itself",
            };
            turn("end", format!("The app ended{by}: {}", ending(entry.value("exit"))))
        }
        "leftovers-overdue" => common("Processes that outlived the app were killed".to_owned()),
        "exit" => common(format!("memini ended with exit code {}", entry.number("code").unwrap_or(0))),
        "hook-output" | "hook-ended" | "evidence" | "evidence-ended" | "evidence-cut" | "" => None,
        // Of a newer memini.
        other => common(format!("{}{}", super::story::Text::new(other), level())),
    }
}

impl Entry {
    fn event_reason(&self) -> &str {
        self.value("reason").as_str().unwrap_or_default()
    }

    /// Of its sample; bytes a second.
    fn rate(&self) -> f64 {
        self.value("sample").get("rate").and_then(Value::as_f64).unwrap_or(0.0)
    }

    /// Of its sample.
    fn time_to_limit(&self) -> Option<Duration> {
        let seconds = self.value("sample").get("time_to_limit")?.as_f64()?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// `once`, `14 times`.
pub fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// A number with its thousands apart: `1,234,567`.
pub fn amount(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate in the unit in which it is a number that people can imagine: `19 MiB/s`, `1.2 MiB/min`, `300 KiB/h`.
pub fn pace(rate: f64) -> String {
    const LEAST: f64 = 1_048_576.0;
    let (unit, seconds) = match rate.abs() {
        rate if rate >= LEAST => ("s", 1.0),
        rate if rate * 60.0 >= LEAST => ("min", 60.0),
        _ => ("h", 3600.0),
    };
    format!("{}/{unit}", Size((rate.abs() * seconds) as u64))
}

/// A time of which nobody wants to know more than the first of its numbers, if the second one is nothing: `4 h`.
pub fn about(span: Duration) -> String {
    let text = Span(span).to_string();
    let shorter = [" 0 s", " 0 min", " 0 h"].into_iter().find_map(|nothing| text.strip_suffix(nothing));
    shorter.map_or_else(|| text.clone(), str::to_owned)
}

/// `exit code 0`, `ended by SIGTERM`, `it did not run`.
pub fn ending(end: &Value) -> String {
    if let Some(code) = end.get("code").and_then(Value::as_u64) {
        format!("exit code {code}")
    } else if let Some(signal) = end.get("signal").and_then(Value::as_str) {
        format!("ended by {}", super::story::Text::new(signal))
    } else if end.get("not_started").is_some() {
        "it did not run".to_owned()
    } else {
        "no end is known".to_owned()
    }
}

fn how_it_ended(entry: &Entry) -> String {
    let end = entry.value("end");
    let after = seconds(entry.amount("after"));
    match end.get("code").and_then(Value::as_u64) {
        Some(0) => format!("for {after}"),
        _ => format!("for {after} ({})", ending(end)),
    }
}

fn seconds(seconds: Option<f64>) -> String {
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(span) => Span(span).to_string(),
        None => "an unknown time".to_owned(),
    }
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".to_owned(), |bytes| Size(bytes).to_string())
}

/// `236 MiB of 256 MiB (92%)`.
pub fn level(sample: &Sample) -> String {
    match sample.limit {
        Some(limit) => {
            let share = sample.gauged as f64 / limit as f64 * 100.0;
            format!("{} of {} ({share:.0}%)", Size(sample.gauged), Size(limit))
        }
        None => Size(sample.gauged).to_string(),
    }
}

/// Since when it grew, in one sentence; `None` if it hardly did.
pub fn since(story: &Story, series: &Series) -> Option<String> {
    let climb = series.climb()?;
    let span = Duration::try_from_secs_f64(climb.to.0 - climb.from.0).ok()?;
    let span = if span.as_secs() < 10 { span } else { Duration::from_secs(span.as_secs()) };
    let ((began, from), (ended, to)) = (climb.from, climb.to);
    let clock = |seconds: f64| story.clock_in(seconds, (began, ended));
    let (from, to, rate) = (Size(from), Size(to), pace(climb.rate()));
    let times = format!("from {from} at {} to {to} at {}", clock(began), clock(ended));
    // What is older than the history is not known.
    let longer = if series.points.first().is_some_and(|first| first.seconds >= began) { " or longer" } else { "" };
    Some(format!("It grew for {}{longer}, {times}: {rate}.", about(span)))
}

/// By how much something has grown, with its sign: a minus that is as wide as the plus.
pub fn signed(growth: i64) -> String {
    let sign = match growth {
        0 => "",
        ..0 => "\u{2212}",
        _ => "+",
    };
    format!("{sign}{}", Size(growth.unsigned_abs()))
}

/// The same a second.
pub fn rate(rate: f64) -> String {
    Rate(rate).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn story(timeline: Value) -> Story {
        let incident = json!({
            "schema": "memini.incident/1", "timeline": timeline,
            "configured_hooks": [{"stage": "stop", "command": "drain\n{pid}"}],
        });
        Story::of(&incident.to_string()).unwrap()
    }

    #[test]
    fn a_run_is_told_once_with_its_end() {
        let events = events(&story(json!([
            {"event": "stage-began", "stage": "trace", "from": "normal", "seconds": 1.0, "at": "2026-11-22T05:45:01.000Z",
             "sample": {"gauged": 60 << 20, "limit": 100 << 20}},
            {"event": "hook-started", "run": 1, "hook": 0, "stage": "stop", "seconds": 2.0},
            {"event": "evidence-started", "run": 2, "stage": "normal", "seconds": 2.0},
            {"event": "hook-ended", "run": 1, "hook": 0, "end": {"code": 3}, "after": 0.5, "seconds": 2.5},
            {"event": "evidence-cut", "run": 2, "after": 1.5, "seconds": 3.5},
            {"event": "app-exited", "exit": {"signal": "SIGTERM"}, "oom_killed": false, "stopped": true, "seconds": 4.0},
        ])));
        let told: Vec<_> = events.iter().map(|event| (event.number, &event.clock[..], &event.sentence[..])).collect();
        assert_eq!(
            told,
            [
                (Some(1), "05:45:01", "The trace stage began: 60 MiB of 100 MiB (60%)"),
                (None, "05:45:02", "Hook 1 ran at the stop stage, for 500 ms (exit code 3): drain\\n{pid}"),
                (None, "05:45:02", "memini looked at the processes (baseline), and was cut after 1.5 s"),
                (Some(2), "05:45:04", "The app ended, after memini had stopped it: ended by SIGTERM"),
            ]
        );
    }

    #[test]
    fn a_run_ends_with_its_first_end_after_its_beginning() {
        let run = |kind: &str, seconds: f64| json!({"event": kind, "run": 1, "after": seconds, "end": {"code": 0}});
        let events = events(&story(json!([
            run("evidence-ended", 1.0),
            run("evidence-started", 0.0),
            run("hook-ended", 2.0),
            run("evidence-ended", 3.0),
            run("evidence-started", 0.0),
            run("evidence-ended", 4.0),
        ])));
        let told: Vec<_> = events.iter().map(|event| &event.sentence[..]).collect();
        assert_eq!(
            told,
            ["memini looked at the processes (look), for 3 s", "memini looked at the processes (look), for 4 s"]
        );
    }

    /// Searched for entry by entry, their ends and the first moment would take minutes.
    #[test]
    fn a_hundred_thousand_runs_without_an_end_are_told() {
        let timeline: Value =
            (0..100_000).map(|run| json!({"event": "hook-started", "run": run, "seconds": 1})).collect();
        let events = events(&story(timeline));
        assert_eq!((events.len(), &events[99_999].clock[..]), (100_000, ""));
        assert_eq!(events[99_999].sentence, "Hook 99999 ran at the  stage, it has not ended");
    }

    #[test]
    fn a_verdict_is_a_sentence() {
        let sample = json!({"gauged": 300 << 20, "limit": 512 << 20, "rate": 20_000, "time_to_limit": 10_560});
        let events = events(&story(json!([
            {"event": "verdict", "verdict": "growing", "from": "steady", "horizon": 3600, "sample": sample, "seconds": 1},
            {"event": "verdict", "verdict": "leak", "from": "growing", "horizon": 14_400, "sample": sample, "seconds": 2},
            {"event": "verdict", "verdict": "steady", "from": "leak", "horizon": 3600, "sample": {"gauged": 1}, "seconds": 3},
            {"event": "verdict", "verdict": "leak", "from": "growing", "sample": {"rate": 50, "gauged": 1}, "seconds": 4},
            {"event": "stopping", "reason": "leak", "seconds": 5},
        ])));
        let told: Vec<_> = events.iter().map(|event| (event.number, &event.sentence[..])).collect();
        let level = "300 MiB of 512 MiB (59%)";
        let growing =
            format!("Memory had been growing 1.1 MiB/min for 1 h: growing, with the limit 2 h 56 min away: {level}");
        let leak =
            format!("Memory had been growing 1.1 MiB/min for 4 h: leak, with the limit 2 h 56 min away: {level}");
        assert_eq!(
            told,
            [
                (None, &*growing),
                (Some(1), &*leak),
                (None, "Memory no longer grows: steady, after leak: 1 B"),
                (Some(2), "Memory had been growing 176 KiB/h: leak: 1 B"),
                (
                    Some(3),
                    "memini decided to stop the app, since the verdict was leak: it would not have become better"
                ),
            ]
        );
    }

    #[test]
    fn what_the_next_start_has_found_is_told() {
        let events = events(&story(json!([
            {"event": "signal", "signal": "SIGUSR1", "sender": 7, "times": 3, "seconds": 1},
            {"event": "signal", "signal": "SIGTERM", "sender": 0, "times": 1, "seconds": 1},
            {"event": "thrashing", "refaults": null, "seconds": 1},
            {"event": "found-by-next-run", "text": "the last run of a\nb", "seconds": 1},
        ])));
        let told: Vec<_> = events.iter().map(|event| &event.sentence[..]).collect();
        assert_eq!(
            told,
            [
                "SIGUSR1 came from process 7, 3 times",
                "SIGTERM came from outside",
                "Thrashing: pages were read again",
                "memini's next start found out: the last run of a\\nb",
            ]
        );
        assert_eq!(
            [0, 12, 123, 1234, 123_456, 1_234_567].map(amount),
            ["0", "12", "123", "1,234", "123,456", "1,234,567"]
        );
        assert_eq!((signed(0), signed(-1), times(1)), ("0 B".into(), "\u{2212}1 B".into(), "once".into()));
    }

    #[test]
    fn what_a_newer_memini_notes_is_told_by_its_name() {
        let events = events(&story(json!([{"event": "leak\u{1b}", "seconds": 1}, {"seconds": "x"}])));
        assert_eq!(events[0].sentence, "leak\\u{1b}");
    }
}
