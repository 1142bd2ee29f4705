//! The screen and the JSON of runs that are made up.

use serde_json::{Value, json};

use super::picture::{Picture, State};
use super::processes::{Grown, Processes};
use super::{json, screen};
use crate::cgroup::reading::Stat;
use crate::command::style::{Style, width};
use crate::config::Reach;
use crate::engine::event::{Note, Sample as Seen};
use crate::engine::settings::Stage;
use crate::engine::trend::{Trending, Verdict};
use crate::recorder::ending::Ending;
use crate::recorder::format::{
    EVENT_WORDS, HEADER, Layout, NAME, NAME_WORDS, PULSE, PULSE_WORDS, SAMPLE_WORDS, SMALLEST, checksum, halves,
};
use crate::recorder::reader::{self, History};
use crate::recorder::told::{Course, Event, Pulse, Sample};

const MIB: u64 = 1 << 20;
/// 2026-11-22T05:45:01Z, in milliseconds.
const NOW: u64 = 1_795_326_301_000;

/// A service that leaks, under 256 MiB: two hours of it, up to the stage `capture`.
fn leak() -> History {
    let seconds = 7200;
    let level = |second: u64| (90 + second / 60 + second % 600 / 30) * MIB;
    let ring = |period: u64, slots: u64| {
        let last = seconds / period;
        let sample = |number: u64| {
            let seen = (number * period)..((number + 1) * period).min(seconds + 1);
            let course = |more: u64| Course {
                least: seen.clone().map(level).min().unwrap_or(0) + more,
                most: seen.clone().map(level).max().unwrap_or(0) + more,
                last: level(seen.end - 1) + more,
            };
            let stat = Stat {
                anon: course(0).last - 12 * MIB,
                file: 30 * MIB,
                shmem: 4 * MIB,
                kernel_stack: MIB,
                pagetables: 2 * MIB,
                slab_unreclaimable: 3 * MIB,
                sock: 4096,
                ..Stat::default()
            };
            let limit = Course { least: 256 * MIB, most: 256 * MIB, last: 256 * MIB };
            let number = u32::try_from(number).unwrap();
            let (usage, gauged, limit) = (course(26 * MIB), Some(course(0)), Some(limit));
            Sample { number, looks: 9, usage, gauged, limit, stat, ..Sample::default() }
        };
        (u32::try_from(period).unwrap(), (last.saturating_sub(slots - 1)..=last).map(sample).collect())
    };
    let seen =
        |gauged: u64| Seen { usage: gauged * MIB, gauged: gauged * MIB, limit: Some(256 * MIB), ..Seen::default() };
    let at = |second: u64, note: Note| Event { since_start: second * 1000, ..Event::of(&note).unwrap() };
    let events = vec![
        at(300, Note::EvidenceStarted { run: Some(crate::engine::event::Run(1)), stage: Stage::Normal }),
        at(3000, Note::StageBegan { stage: Stage::Trace, from: Stage::Normal, sample: seen(154) }),
        at(3001, Note::EvidenceStarted { run: Some(crate::engine::event::Run(2)), stage: Stage::Trace }),
        at(7000, Note::StageBegan { stage: Stage::Capture, from: Stage::Trace, sample: seen(205) }),
    ];
    let pulse = Pulse {
        since_start: seconds * 1000,
        unix: NOW - 300,
        unix_at: seconds * 1000,
        stage: Stage::Capture,
        usage: level(seconds) + 26 * MIB,
        gauged: level(seconds),
        limit: Some(256 * MIB),
        rate: 17_476.0,
        trending: Trending {
            verdict: Verdict::Leak,
            rate: 20_000.0,
            time_to_limit: None,
            horizon: std::time::Duration::from_secs(3600),
        },
        ..Pulse::default()
    };
    let run = json!({
        "memini": "0.1.0", "hostname": "web-1", "source": "cgroup v2 /sys/fs/cgroup",
        "app": {"command": ["gunicorn", "--workers", "4", "shop.wsgi"], "pid": 7},
        "settings": {"trace_at": "60%", "capture_at": "80%", "stop_at": "92%", "kill_at": "-8MiB", "gauge": "unreclaimable"},
    });
    let rings = vec![ring(1, 600), ring(10, 1080), ring(60, 2880)];
    let incident = Some("2026-11-22T04-35-01Z-web-1-1".to_owned());
    History { run, pulse, incident, rings, events, damaged: 0 }
}

fn grown(pid: i32, name: &str, bytes: u64, growth: i64) -> Grown {
    Grown { pid, name: name.into(), bytes: bytes * MIB, growth: Some(growth * (1 << 20)), is_new: false }
}

fn picture(history: &History) -> Picture<'_> {
    let mut picture = Picture::new(history, State::Running(Some(1)), "/tmp/memini/recorder", NOW, Reach::Auto);
    let list = vec![
        grown(12, "gunicorn", 120, 96),
        grown(13, "gunicorn", 31, 2),
        Grown { is_new: true, ..grown(40, "sh", 1, 1) },
        grown(7, "gunicorn", 20, -1),
    ];
    let since = Some(("baseline".to_owned(), NOW - 6_900_000));
    picture.processes = Some(Processes { since, count: 9, list });
    picture
}

fn style(width: usize) -> Style {
    Style { width, height: None, unicode: true, colours: false }
}

#[test]
fn a_screen_tells_how_it_stands_and_how_it_came_to_that() {
    let history = leak();
    let lines = screen::draw(&picture(&history), &style(80));
    assert_eq!(
        lines,
        [
            "gunicorn --workers 4 shop.wsgi                                            up 2 h",
            "pid 7 · since 2026-11-22 03:45:00 UTC · web-1 · memini 0.1.0",
            "",
            "▕████████████████████████████████████████████████████████████░░░░░░░░╎░░╎░░▏ 82%",
            "Memory      210 MiB of 256 MiB unreclaimable (82.0%), room 46 MiB",
            "Usage       236 MiB, 26 MiB of it could be let go",
            "Stage       capture, since 05:41:40",
            "Growth      +17.1 KiB/s, limit in 46 min",
            "Verdict     leak over 1 h: +19.5 KiB/s, limit in 40 min",
            "Stages at   trace 60%, capture 80%, stop 92%, kill -8MiB",
            "Incident    open: memini report 2026-11-22T04-35-01Z-web-1-1",
            "",
            "Unreclaimable in the last 2 h   █ lowest to highest  ░ below",
            "  256 MiB ┤═════════════════════════════════════════════════════════ limit",
            "          │╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌ kill, stop",
            "          │                                                   ▁▁ ▁▃▅",
            "  192 MiB ┤╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌▂╌╌▂▄▆▂▄▇██▆█╌█ capture 80%",
            "          │                                ▂▂ ▂▄▆▂▄▆██▆█░░█░░░░░░░░░",
            "          │╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌▁▃╌▁▃▅▇▃▅█╌█▇█╌╌█╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌ trace 60%",
            "  128 MiB ┤            ▁▃▃ ▃▅▇▃▅▇██▇█░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
            "          │   ▂▄ ▂▄▆█▄▆█░██░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
            "          │▄▆█░██░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
            "   64 MiB ┤░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
            "          │░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
            "          │░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
            "          │░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
            "        0 └┴─────────────┴─────────────┴─────────────┴─────────────┴",
            "           -2 h       -90 min       -60 min       -30 min        now",
            "",
            "Composition",
            "  anon         198 MiB ███████████▋       page tables    2 MiB ▏",
            "  file cache    26 MiB █▌                 sockets        4 KiB ▏",
            "  shmem          4 MiB ▏                  other          2 MiB ▏",
            "  slab           3 MiB ▏                  swap             0 B",
            "  stacks         1 MiB ▏",
            "",
            "Processes  9, by growth since the baseline at 03:50:01",
            "     +96 MiB of   120 MiB  gunicorn 12",
            "      +2 MiB of    31 MiB  gunicorn 13",
            "      +1 MiB of     1 MiB  sh 40, new",
            "      -1 MiB of    20 MiB  gunicorn 7",
            "",
            "Events  newest first, UTC",
            "  05:41:40  -3 min 20 s  the capture stage began: 205 MiB of 256 MiB (80%)",
            "  04:35:01   -1 h 9 min  memini looked at the processes, for the trace stage",
            "  04:35:00  -1 h 10 min  the trace stage began: 154 MiB of 256 MiB (60%)",
            "  03:50:00  -1 h 55 min  memini looked at the processes, to compare with later",
        ]
    );
}

#[test]
fn where_only_ascii_can_be_shown_there_is_nothing_else() {
    let history = leak();
    let mut picture = picture(&history);
    picture.reach = Reach::TenMinutes;
    let lines = screen::draw(&picture, &Style { unicode: false, ..style(60) });
    assert!(lines.iter().all(|line| line.is_ascii()), "{lines:#?}");
    assert_eq!(
        lines,
        [
            "gunicorn --workers 4 shop.wsgi                        up 2 h",
            "pid 7, since 2026-11-22 03:45:00 UTC, web-1, memini 0.1.0",
            "",
            "[############################################.....|..|.] 82%",
            "Memory      210 MiB of 256 MiB (82.0%), room 46 MiB",
            "Usage       236 MiB, 26 MiB of it could be let go",
            "Stage       capture, since 05:41:40",
            "Growth      +17.1 KiB/s, limit in 46 min",
            "Verdict     leak over 1 h: +19.5 KiB/s, limit in 40 min",
            "Stages at   trace 60%, capture 80%, stop 92%, kill -8MiB",
            "Incident    open: memini report 2026-11-22T04-35-01Z-web-1-1",
            "",
            "Unreclaimable in the last 10 min",
            "  256 MiB |===================================== limit",
            "          |------------------------------------- kill, stop",
            "          |                   _________======##=",
            "  192 MiB |========###########-----------------# capture 80%",
            "          |:::::::::::::::::::::::::::::::::::::",
            "          |------------------------------------- trace 60%",
            "  128 MiB |:::::::::::::::::::::::::::::::::::::",
            "          |:::::::::::::::::::::::::::::::::::::",
            "          |:::::::::::::::::::::::::::::::::::::",
            "   64 MiB |:::::::::::::::::::::::::::::::::::::",
            "          |:::::::::::::::::::::::::::::::::::::",
            "          |:::::::::::::::::::::::::::::::::::::",
            "          |:::::::::::::::::::::::::::::::::::::",
            "        0 ++-----------------+-----------------+",
            "           -10 min        -5 min             now",
            "",
            "Composition",
            "  anon         198 MiB #############################",
            "  file cache    26 MiB ####",
            "  shmem          4 MiB #",
            "  slab           3 MiB #",
            "  stacks         1 MiB #",
            "  page tables    2 MiB #",
            "  sockets        4 KiB #",
            "  other          2 MiB #",
            "  swap             0 B",
            "",
            "Processes  9, by growth since the baseline at 03:50:01",
            "     +96 MiB of   120 MiB  gunicorn 12",
            "      +2 MiB of    31 MiB  gunicorn 13",
            "      +1 MiB of     1 MiB  sh 40, new",
            "      -1 MiB of    20 MiB  gunicorn 7",
            "",
            "Events  newest first, UTC",
            "  05:41:40  -3 min 20 s  the capture stage began: 205 MiB o~",
            "  04:35:01   -1 h 9 min  memini looked at the processes, fo~",
            "  04:35:00  -1 h 10 min  the trace stage began: 154 MiB of ~",
            "  03:50:00  -1 h 55 min  memini looked at the processes, to~",
        ]
    );
}

#[test]
fn a_run_that_is_over_says_how_it_ended_and_expects_nothing() {
    let history = leak();
    let sentence = "the last run of gunicorn, was killed from outside, 3 min after 80%".to_owned();
    let state = State::Ended(Ending::Killed, sentence.clone());
    let picture = Picture::new(&history, state, "", NOW + 86_400_000, Reach::Auto);
    let lines = screen::draw(&picture, &style(80));
    let text = lines.join("\n");
    assert!(lines[0].ends_with("ran for 2 h") && lines.contains(&sentence), "{text}");
    assert!(!text.contains("limit in") && !text.contains(" now") && !text.contains("Processes"), "{text}");
    // Of another day.
    assert!(text.contains("Stage       capture, since 11-22 05:41:40"), "{text}");
    assert!(text.contains("  11-22 05:41:40  -3 min 20 s  the capture stage began"), "{text}");
    let object: Value = serde_json::from_str(&json::json(&picture)).unwrap();
    assert_eq!((&object["state"], &object["ending"]["how"]), (&json!("ended"), &json!("killed")));
    assert_eq!((&object["recorder"], &object["processes"], &object["pid"]), (&json!(null), &json!(null), &json!(null)));
}

#[test]
fn before_the_first_look_that_is_all_there_is_to_say() {
    let history = History { run: json!({"app": {"command": ["sleep"]}}), ..History::default() };
    let picture = Picture::new(&history, State::Running(None), "x", NOW, Reach::Auto);
    let lines = screen::draw(&picture, &style(80));
    assert_eq!(lines.last().unwrap(), "Memory      was not looked at yet");
    let object: Value = serde_json::from_str(&json::json(&picture)).unwrap();
    assert_eq!((&object["started"], &object["composition"]), (&json!(null), &json!(null)));
}

#[test]
fn a_look_that_is_old_and_a_recorder_in_memory_are_told() {
    let history = leak();
    let mut picture = Picture::new(&history, State::Running(None), "", NOW + 60_000, Reach::Auto);
    picture.remarks.push("another memini records in this folder, too".to_owned());
    let text = screen::draw(&picture, &style(80)).join("\n");
    for part in [
        "the last look was 1 min 0 s ago",
        "Recorder    in memory: it is gone with the container",
        "another memini records in this folder, too",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn the_chart_goes_back_as_far_as_the_run_or_as_one_asks() {
    let history = leak();
    for (reach, title) in [
        (Reach::Auto, "Unreclaimable in the last 2 h"),
        (Reach::TenMinutes, "Unreclaimable in the last 10 min"),
        (Reach::ThreeHours, "Unreclaimable in the last 3 h"),
        (Reach::TwoDays, "Unreclaimable in the last 48 h"),
    ] {
        let picture = Picture { reach, ..picture(&history) };
        let lines = screen::draw(&picture, &style(60));
        assert!(lines.iter().any(|line| line == title), "{lines:#?}");
        let object: Value = serde_json::from_str(&json::json(&picture)).unwrap();
        let counts: Vec<_> = ["from", "to", "usage", "gauged", "limit", "anon"]
            .iter()
            .map(|key| object["history"][*key].as_array().unwrap().len())
            .collect();
        // Ten minutes of seconds, then slots of ten of them.
        let expected = if reach == Reach::TenMinutes { 600 } else { 600 + 660 };
        assert!(counts.iter().all(|count| count.abs_diff(expected) < 3), "{reach:?} {counts:?}");
    }
}

#[test]
fn nothing_is_wider_or_higher_than_the_screen() {
    let mut history = leak();
    history.run["app"]["command"] = json!(["名前".repeat(100), "x".repeat(500)]);
    history.run["hostname"] = json!("h".repeat(300));
    let mut picture = picture(&history);
    picture.remarks.push("w".repeat(300));
    if let Some(processes) = &mut picture.processes {
        processes.list[0].name = "名".repeat(200);
    }
    for columns in 40..=200 {
        for height in [None, Some(10), Some(24), Some(30), Some(50)] {
            for unicode in [true, false] {
                let lines = screen::draw(&picture, &Style { width: columns, height, unicode, colours: false });
                assert!(lines.iter().all(|line| width(line) <= columns), "{columns}: {lines:#?}");
                assert!(height.is_none_or(|height| lines.len() < height), "{columns} {height:?}: {}", lines.len());
            }
        }
    }
    // All of it, if short, where a terminal is as it is by default.
    history.run["app"]["command"] = json!(["app"]);
    history.run["hostname"] = json!("web");
    let picture = self::picture(&history);
    let lines = screen::draw(&picture, &Style { height: Some(24), ..style(80) });
    for part in ["Memory ", "Verdict ", "  limit", "Made of ", "Processes", "Events"] {
        let found = lines.iter().any(|line| line.contains(part.trim_start()));
        assert!(found, "no {part:?} in {lines:#?}");
    }
}

#[test]
fn names_of_the_apps_choice_do_no_harm() {
    let mut history = leak();
    let evil = "a\u{1b}[2J\u{9b}31m\r\nmemini: forged\u{202e}\u{200b}";
    history.run = json!({"app": {"command": [evil, {"a": 1}, 7]}, "hostname": evil, "memini": evil, "source": evil,
        "settings": {"trace_at": evil, "gauge": evil}});
    let mut picture = picture(&history);
    picture.recorder = crate::text::plain(evil);
    for colours in [true, false] {
        for line in screen::draw(&picture, &Style { colours, ..style(120) }) {
            let bare = ["0", "1", "2", "31", "32", "33", "36"]
                .iter()
                .fold(line.clone(), |line, code| line.replace(&format!("\u{1b}[{code}m"), ""));
            assert!(!bare.contains(char::is_control) && !bare.contains(['\u{202e}', '\u{200b}']), "{line:?}");
        }
    }
    let text = json::json(&picture);
    assert!(text.ends_with('\n') && text.matches('\n').count() == 1);
    let object: Value = serde_json::from_str(&text).unwrap();
    assert!(!object["hostname"].as_str().unwrap().contains(char::is_control));
}

/// The first words of the rows of the tables in docs/status.md below this heading, as far as the next one.
fn documented(heading: &str) -> Vec<String> {
    let page = include_str!("../../../docs/status.md");
    let part = page.split_once(heading).unwrap().1;
    let part = part.split("\n## ").next().unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let mut names: Vec<String> = rows.flat_map(|(names, _)| names.split("`, `").map(str::to_owned)).collect();
    names.sort();
    names
}

#[test]
fn the_fields_are_those_that_are_documented() {
    let history = leak();
    let object: Value = serde_json::from_str(&json::json(&picture(&history))).unwrap();
    let mut names: Vec<String> = object.as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, documented("\n## `--json`\n"));
    assert_eq!(object["schema"], "memini.status/1");
    assert_eq!(object["thresholds"]["kill"], json!({"at": "-8MiB", "bytes": 248 * MIB}));
    assert_eq!(object["seconds_to_limit"].as_f64().unwrap().round(), 2760.0);
    assert_eq!(object["verdict"]["horizon_seconds"], 3600);
    assert_eq!(object["stage_since"], "2026-11-22T05:41:40Z");
    assert_eq!(object["processes"]["list"][0]["growth"], 96 * MIB);
    assert_eq!(object["events"][3]["text"], "the capture stage began: 205 MiB of 256 MiB (80%)");
}

proptest::proptest! {
    // Somebody may have put the file there: its checksums are right, and its numbers are anything.
    #[test]
    fn a_hostile_recorder_makes_a_screen_like_any(
        pieces in proptest::collection::vec((0..16_384_usize, proptest::collection::vec(proptest::prelude::any::<u32>(), 1..24)), 0..12),
        columns in 40..200_usize,
        zoom in proptest::prelude::any::<bool>(),
    ) {
        let layout = Layout::of(SMALLEST);
        let mut file = layout.header(r#"{"app":{"command":["/bin/app"]},"settings":{"trace_at":"60%","stop_at":"-1MiB"}}"#).unwrap();
        file.resize(usize::try_from(layout.bytes).unwrap(), 0);
        let mut words: Vec<u32> = file.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
        for (place, piece) in pieces {
            let start = HEADER + place % (words.len() - HEADER);
            // What is small makes more sense.
            for (word, number) in words[start..].iter_mut().zip(&piece) {
                *word = if zoom { number % 4096 } else { *number };
            }
        }
        seal(&mut words, PULSE, 1, PULSE_WORDS);
        seal(&mut words, NAME, 1, NAME_WORDS);
        seal(&mut words, layout.first_event, layout.events, EVENT_WORDS);
        for ring in layout.rings {
            seal(&mut words, ring.start, ring.slots, SAMPLE_WORDS);
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let history = reader::parse(&bytes, |_, _| {}).unwrap();
        for state in [State::Running(Some(1)), State::Ended(Ending::Killed, "it ended".into())] {
            for now in [0, NOW, u64::MAX] {
                let picture = Picture::new(&history, state.clone(), "/x", now, Reach::Auto);
                for line in screen::draw(&picture, &style(columns)) {
                    proptest::prop_assert!(width(&line) <= columns && !line.contains(char::is_control), "{}", line);
                }
                let text = json::json(&picture);
                proptest::prop_assert!(serde_json::from_str::<Value>(&text).is_ok_and(|object| object.is_object()));
            }
        }
    }
}

/// Puts the right checksum on each cell that was written to.
fn seal(words: &mut [u32], start: usize, slots: usize, length: usize) {
    for cell in words[start..start + slots * length].chunks_exact_mut(length) {
        if cell.iter().any(|word| *word != 0) {
            cell[0] = (cell[0] & !1).max(2);
            let sum = halves(checksum(std::iter::once(cell[0]).chain(cell[3..].iter().copied())));
            cell[1..3].copy_from_slice(&sum);
        }
    }
}
