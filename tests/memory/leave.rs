//! An app that grows until it has to leave.

use std::fs;

use serde_json::json;

use crate::support::{ABOVE_STOP, Group, MIB, Memini};

/// What the app does, what memini says about it, and how the incident is called.
const GROWTH: &[(&str, &[&str], &str, &str)] = &[
    ("leaves", &["grow 20"], "sending SIGTERM to the app", "stopped"),
    (
        "ignores",
        &["ignore SIGTERM", "recorded", ABOVE_STOP, "pause"],
        "the app did not leave within 200 ms: killing it",
        "killed",
    ),
    ("ignores-and-grows", &["ignore SIGTERM", "grow 20"], "killing the app", "killed"),
    ("grows-on-term", &["on SIGTERM grow 40", "recorded", ABOVE_STOP, "pause"], "killing the app", "killed"),
    ("children", &["ignore SIGTERM", "fork grow 8", "fork grow 8", "grow 4"], "killing the app", "killed"),
    ("breeds", &["ignore SIGTERM", "breed 30"], "killing the app", "killed"),
    ("daemon", &["ignore SIGTERM", "daemon grow 20", "pause"], "killing the app", "killed"),
];

fn every_growth_ends_before_the_kernel_kills(as_init: bool) {
    for (name, instructions, said, outcome) in GROWTH {
        let group = Group::new(&format!("{name}-{as_init}"), 64);
        // Who only ignores the signal shall not be killed for the last steps of its growth.
        let options: &[_] =
            if *name == "ignores" { &["--grace", "200ms", "--kill-at", "off"] } else { &["--grace", "30s"] };
        let memini = Memini::new(&group).options(options).app(instructions);
        let memini = if as_init { memini } else { memini.not_as_init() };
        let ended = memini.start().end();
        assert_eq!(group.oom_kills(), 0, "{name}: {}", ended.log);
        ended.assert_code(75).assert_says(said).assert_says("exit code 75; the evidence is in ");
        let incident = ended.incident();
        assert_eq!(incident.json["outcome"], *outcome, "{name}: {:#}", incident.json);
        assert_eq!(group.members(), Vec::<i32>::new(), "{name}: nobody is left behind");
        assert!(group.peak().is_none_or(|peak| peak > 58 * MIB), "{name}: it did not grow");
    }
}

#[test]
fn as_init_every_growth_ends_before_the_kernel_kills() {
    every_growth_ends_before_the_kernel_kills(true);
}

#[test]
fn as_one_process_among_others_every_growth_ends_before_the_kernel_kills() {
    every_growth_ends_before_the_kernel_kills(false);
}

#[test]
fn a_slow_leak_leaves_an_incident_that_tells_the_whole_story() {
    let group = Group::new("story", 64);
    let memini = Memini::new(&group).options(&["--capture", "off"]).hook("capture=sh -c 'echo evidence'");
    let ended = memini.app(&["grow 20"]).start().end();
    ended.assert_code(75);
    let incident = ended.incident();
    incident.assert_private();
    let json = &incident.json;
    assert_eq!(json["schema"], "memini.incident/1");
    assert_eq!(incident.folder.file_name().unwrap().to_str(), json["id"].as_str());
    assert_eq!((json["outcome"].as_str(), json["exit_code"].as_u64()), (Some("stopped"), Some(75)));
    assert_eq!(json["timeline_entries_lost"], 0);

    let wanted =
        ["trace", "capture", "hook-started", "hook-ended", "stop", "stopping", "terminating", "app-exited", "exit"];
    let events = incident.events();
    let order: Vec<_> = events.iter().filter(|event| wanted.contains(&event.as_str())).collect();
    assert_eq!(order, wanted, "{events:?}");
    let times: Vec<_> = json["timeline"].as_array().unwrap().iter().map(|entry| entry["seconds"].as_f64()).collect();
    assert!(times.is_sorted(), "{times:?}");

    for (stage, percent) in [("trace", 60), ("capture", 80), ("stop", 92)] {
        let sample = &incident.event(stage)["sample"];
        let [gauged, anon, limit] = [&sample["gauged"], &sample["composition"]["anon"], &sample["limit"]]
            .map(|number| number.as_u64().unwrap_or_else(|| panic!("{stage}: {sample:#}")));
        assert_eq!(limit, 64 * MIB);
        assert!(gauged * 100 >= limit * percent && gauged < limit, "{stage}: {gauged}");
        assert!(anon > gauged / 2 && anon <= gauged, "{stage}: {anon} of {gauged}");
    }
    let holds = |stage: &str| {
        let list = json["processes"].as_array().unwrap();
        let entry =
            list.iter().find(|entry| entry["stage"] == stage).unwrap_or_else(|| panic!("no {stage}: {list:#?}"));
        (entry["list"][0]["rss_anon"].as_u64().unwrap(), entry["count"].as_u64().unwrap())
    };
    let (at_capture, at_stop) = (holds("capture"), holds("stop"));
    assert!(at_capture.0 > 45 * MIB && at_stop.0 > 50 * MIB, "who held it: {at_capture:?} {at_stop:?}");
    assert_eq!((at_capture.1, at_stop.1), (1, 1), "memini's own workers are none of the app's processes");

    let [hook] = incident.hooks() else { panic!("{json:#}") };
    assert_eq!((&hook["stage"], &hook["command"]), (&json!("capture"), &json!("sh -c 'echo evidence'")));
    assert_eq!((&hook["end"]["code"], hook["seconds"].is_f64()), (&json!(0), true));
    assert_eq!(incident.output(), b"evidence\n");
    assert_eq!(json["artifacts"][0]["file"], hook["output"]);
    assert_eq!(json["artifacts"][0]["bytes"], 9);
    ended.assert_says("hook 1 | evidence").assert_says("hook 1 ended after ");
}

#[test]
fn the_termination_message_says_what_happened_in_a_few_lines() {
    let group = Group::new("message", 64);
    let memini = Memini::new(&group);
    let log = memini.place().join("termination-log");
    fs::write(&log, "x".repeat(10_000)).unwrap();
    let padding = "x".repeat(6000);
    let ended = memini
        .options(&["--termination-log", log.to_str().unwrap()])
        .hook("capture=sh -c 'exit 3'")
        .app(&["grow 20", &padding])
        .start()
        .end();
    ended.assert_code(75);
    let message = fs::read_to_string(&log).unwrap();
    assert!(message.len() <= 4096, "{}", message.len());
    let folder = ended.incident().folder;
    for part in [
        "memini stopped ",
        " of 64 MiB (9",
        &format!("evidence: {}\n", folder.display()),
        "exit code: 75\n",
        " trace: ",
        " capture: ",
        " stop: ",
        "memory: anon 5",
        "process 2 ",
        "hook capture: exit 3, ",
    ] {
        assert!(message.contains(part), "no {part:?} in\n{message}");
    }
}

#[test]
fn without_a_termination_log_none_is_made() {
    let group = Group::new("no-message", 64);
    let memini = Memini::new(&group);
    let log = memini.place().join("termination-log");
    let ended = memini.options(&["--termination-log", log.to_str().unwrap()]).app(&["grow 30"]).start().end();
    ended.assert_code(75).assert_silent("termination-log");
    assert!(!log.exists());
}

#[test]
fn the_stop_signal_and_the_exit_code_are_the_users() {
    let group = Group::new("signal", 64);
    let options = ["--stop-signal", "USR1", "--exit-code", "99"];
    let ended = Memini::new(&group)
        .options(&options)
        .app(&["on SIGUSR1 exit 3", "recorded", ABOVE_STOP, "pause"])
        .start()
        .end();
    ended.assert_code(99).assert_says("sending SIGUSR1 to the app");
    assert_eq!(ended.incident().event("app-exited")["exit"]["code"], 3);
}
