use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use log::LevelFilter;
use proptest::prelude::*;

use super::flags::{ALL, Flag, Takes};
use super::*;
use crate::config::{Form, Heavy, LogFormat, Reach, When};
use crate::engine::settings::{Leftovers, Stage, StopWhen, Threshold};
use crate::sys::signal::Signal;

fn words(line: &[&str]) -> Vec<OsString> {
    line.iter().map(OsString::from).collect()
}

fn parse_with(line: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, Failure> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let arguments = [&["memini"], line].concat();
    parse(words(&arguments), &|name| variables.get(name).map(OsString::from))
}

#[track_caller]
fn run_with(line: &[&str], variables: &[(&str, &str)]) -> Config {
    match parse_with(line, variables) {
        Ok(Invocation::Run(config)) => *config,
        other => panic!("{line:?} {variables:?} is no run: {other:?}"),
    }
}

#[track_caller]
fn run(line: &[&str]) -> Config {
    run_with(line, &[])
}

#[track_caller]
fn failure_with(line: &[&str], variables: &[(&str, &str)]) -> String {
    match parse_with(line, variables) {
        Err(failure) => {
            assert_eq!(failure.code, 125);
            failure.to_string()
        }
        Ok(invocation) => panic!("{line:?} {variables:?} is accepted: {invocation:?}"),
    }
}

#[test]
fn without_options_the_documented_defaults_hold() {
    let config = run(&["--", "app"]);
    assert_eq!(config.command, ["app"]);
    assert_eq!(config.thresholds, Default::default());
    assert_eq!((config.stop_when, config.gauge), (StopWhen::Urgent, GaugeKind::Unreclaimable));
    assert_eq!((config.soft_limit, config.hooks.len()), (None, 0));
    assert_eq!(config.hook_timeout, Duration::from_secs(30));
    assert_eq!((config.cooldown, config.max_captures), (Duration::from_secs(300), 3));
    assert_eq!((config.grace, config.stop_signal, config.exit_code), (Duration::from_secs(10), Signal::TERM, 75));
    assert_eq!(config.dir, PathBuf::from("/tmp/memini"));
    assert_eq!(config.termination_log, PathBuf::from("/dev/termination-log"));
    assert!(config.watch && !config.dry_run && !config.group && !config.warn_on_reap);
    assert_eq!((config.parent_death_signal, config.remap_exit, config.rewrite), (None, vec![], vec![]));
    assert_eq!((config.leftovers, config.leftover_timeout), (Leftovers::Kill, Duration::from_secs(10)));
    assert_eq!((config.log_level, config.log_format), (LevelFilter::Info, LogFormat::Text));
}

/// What is left of a configuration when only one thing is of interest.
type Shown = fn(&Config) -> String;

/// For each option: a value that is not its default, and how the configuration shows that it arrived.
const ARRIVALS: &[(&str, &str, Shown, &str)] = &[
    ("trace-at", "10%", |config| format!("{:?}", config.thresholds.trace), "Percent(10.0)"),
    ("capture-at", "62.5%", |config| format!("{:?}", config.thresholds.capture), "Percent(62.5)"),
    ("stop-at", "-64MiB", |config| format!("{:?}", config.thresholds.stop), "Below(67108864)"),
    ("kill-at", "off", |config| format!("{:?}", config.thresholds.kill), "Off"),
    ("stop-when", "level", |config| format!("{:?}", config.stop_when), "Level"),
    ("gauge", "working-set", |config| format!("{:?}", config.gauge), "WorkingSet"),
    ("limit", "256m", |config| format!("{:?}", config.soft_limit), "Some(268435456)"),
    ("no-watch", "true", |config| config.watch.to_string(), "false"),
    ("no-brake", "true", |config| config.brake.to_string(), "false"),
    ("dry-run", "true", |config| config.dry_run.to_string(), "true"),
    (
        "hook",
        "stop=echo 'a b'",
        |config| format!("{:?}", config.hooks),
        r#"[Hook { stage: Stop, words: ["echo", "a b"], text: "echo 'a b'" }]"#,
    ),
    ("hook-timeout", "5s", |config| format!("{:?}", config.hook_timeout), "5s"),
    ("cooldown", "0s", |config| format!("{:?}", config.cooldown), "0ns"),
    ("max-captures", "0", |config| config.max_captures.to_string(), "0"),
    ("capture", "proc, jvm", |config| format!("{:?}", config.capture), "Some(Recipes { python: false, jvm: true })"),
    ("heavy", "on", |config| format!("{:?}", config.heavy.when), "On"),
    ("max-pause", "2s", |config| format!("{:?}", config.heavy.max_pause), "2s"),
    ("redact", "true", |config| config.heavy.redact.to_string(), "true"),
    ("live", "true", |config| config.heavy.live.to_string(), "true"),
    ("keep-incidents", "5", |config| config.keeping.incidents.to_string(), "5"),
    ("keep-dumps", "1", |config| config.keeping.dumps.to_string(), "1"),
    ("keep-for", "12h", |config| format!("{:?}", config.keeping.age), "Some(43200s)"),
    ("max-artifact", "100MiB", |config| config.keeping.artifact.to_string(), "104857600"),
    ("max-total", "1GiB", |config| config.keeping.total.to_string(), "1073741824"),
    ("keep-free", "0", |config| config.keeping.free.to_string(), "0"),
    ("baseline-after", "1min", |config| format!("{:?}", config.baseline_after), "60s"),
    ("on-leak", "capture", |config| format!("{:?}", config.on_leak), "Capture"),
    ("helpers", "python", |config| format!("{:?}", config.helpers), "Helpers { python: true }"),
    ("traceback-frames", "7", |config| config.traceback_frames.to_string(), "7"),
    ("dir", "/a/./b/", |config| format!("{:?}", config.dir), r#""/a/b""#),
    ("recorder", "off", |config| format!("{:?}", config.recorder), "None"),
    ("termination-log", "/x", |config| format!("{:?}", config.termination_log), r#""/x""#),
    ("grace", "500ms", |config| format!("{:?}", config.grace), "500ms"),
    ("stop-signal", "RTMIN+3", |config| config.stop_signal.to_string(), "SIGRTMIN+3"),
    ("exit-code", "99", |config| config.exit_code.to_string(), "99"),
    ("group", "true", |config| config.group.to_string(), "true"),
    ("parent-death-signal", "9", |config| format!("{:?}", config.parent_death_signal), "Some(SIGKILL)"),
    ("remap-exit", "143", |config| format!("{:?}", config.remap_exit), "[143]"),
    ("rewrite", "TERM:QUIT", |config| format!("{:?}", config.rewrite), "[(SIGTERM, Some(SIGQUIT))]"),
    ("leftovers", "wait", |config| format!("{:?}", config.leftovers), "Wait"),
    ("leftover-timeout", "1min 30s", |config| format!("{:?}", config.leftover_timeout), "90s"),
    ("warn-on-reap", "true", |config| config.warn_on_reap.to_string(), "true"),
    ("subreaper", "true", |config| config.group.to_string(), "false"),
    ("verbose", "1", |config| config.log_level.to_string(), "DEBUG"),
    ("quiet", "1", |config| config.log_level.to_string(), "WARN"),
    ("log-format", "json", |config| format!("{:?}", config.log_format), "Json"),
];

fn spelled(flag: &Flag, value: &str) -> Vec<String> {
    match flag.takes {
        Takes::Switch | Takes::Count => vec![format!("--{}", flag.long)],
        _ => vec![format!("--{}", flag.long), value.to_owned()],
    }
}

#[test]
fn every_option_arrives_by_flag_and_by_environment() {
    for flag in ALL.iter().filter(|flag| flag.heading != flags::Heading::Commands) {
        let arrival = ARRIVALS.iter().find(|(long, ..)| *long == flag.long);
        let (_, value, shown, expected) = arrival.unwrap_or_else(|| panic!("--{} is not tested", flag.long));

        let mut line = spelled(flag, value);
        line.extend(["--".to_owned(), "app".to_owned()]);
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        assert_eq!(shown(&run(&line)), *expected, "{line:?}");
        assert_eq!(run(&line).command, ["app"], "{line:?}");

        let variable = flag.variable();
        assert_eq!(shown(&run_with(&["app"], &[(&variable, value)])), *expected, "{variable}={value}");
        let default = shown(&run(&["app"]));
        assert_eq!(shown(&run_with(&["app"], &[(&variable, "")])), default, "{variable}, empty");
        assert!(default != *expected || *flag.long == *"subreaper", "--{}: the value is the default", flag.long);
    }
}

#[test]
fn a_flag_beats_the_environment_and_the_last_flag_wins() {
    for (line, variables, shown, expected) in [
        (
            &["--grace", "1s", "app"][..],
            &[("MEMINI_GRACE", "2s")][..],
            (|config| format!("{:?}", config.grace)) as Shown,
            "1s",
        ),
        (&["--grace", "1s", "--grace=3s", "app"], &[], |config| format!("{:?}", config.grace), "3s"),
        (&["--dry-run=false", "app"], &[("MEMINI_DRY_RUN", "yes")], |config| config.dry_run.to_string(), "false"),
        (&["-g", "-g=false", "app"], &[], |config| config.group.to_string(), "false"),
        (
            &["-e", "1", "-e", "2", "app"],
            &[("MEMINI_REMAP_EXIT", "3")],
            |config| format!("{:?}", config.remap_exit),
            "[1, 2]",
        ),
        (&["app"], &[("MEMINI_REMAP_EXIT", "3, 4\n5,")], |config| format!("{:?}", config.remap_exit), "[3, 4, 5]"),
        (
            &["--rewrite", "TERM:INT", "--rewrite", "HUP:0", "--rewrite", "15:3", "app"],
            &[],
            |config| format!("{:?}", config.rewrite),
            "[(SIGHUP, None), (SIGTERM, Some(SIGQUIT))]",
        ),
        (
            &["app"],
            &[("MEMINI_HOOK", "\ncapture=a, b\n  stop=c\n")],
            |config| format!("{:?}", config.hooks.iter().map(|hook| (hook.stage, &*hook.text)).collect::<Vec<_>>()),
            r#"[(Capture, "a, b"), (Stop, "c")]"#,
        ),
        (&["-q", "app"], &[("MEMINI_VERBOSE", "2")], |config| config.log_level.to_string(), "WARN"),
    ] {
        assert_eq!(shown(&run_with(line, variables)), expected, "{line:?} {variables:?}");
    }
}

#[test]
fn verbose_and_quiet_are_one_scale() {
    for (line, variables, level) in [
        (&["-qqq", "app"][..], &[][..], LevelFilter::Error),
        (&["-q", "-q", "app"], &[], LevelFilter::Error),
        (&["-vq", "app"], &[], LevelFilter::Info),
        (&["-vv", "app"], &[], LevelFilter::Trace),
        (&["app"], &[("MEMINI_VERBOSE", "2")], LevelFilter::Trace),
        (&["app"], &[("MEMINI_QUIET", "true")], LevelFilter::Warn),
        (&["app"], &[("MEMINI_QUIET", "2"), ("MEMINI_VERBOSE", "0")], LevelFilter::Error),
    ] {
        assert_eq!(run_with(line, variables).log_level, level, "{line:?} {variables:?}");
    }
}

#[test]
fn options_stop_at_the_name_of_the_command() {
    for (line, command) in [
        (&["java", "-Xmx1g", "--warn", "9"][..], &["java", "-Xmx1g", "--warn", "9"][..]),
        (&["-g", "java", "-Xmx1g", "--warn", "9"], &["java", "-Xmx1g", "--warn", "9"]),
        (&["--", "-weird"], &["-weird"]),
        (&["-g", "--", "-weird"], &["-weird"]),
        (&["ls", "--foo"], &["ls", "--foo"]),
        (&["ls", "--help"], &["ls", "--help"]),
        (&["-g", "ls", "--version"], &["ls", "--version"]),
        (&["ls", "--", "a"], &["ls", "--", "a"]),
        (&["-g", "ls", "--", "a"], &["ls", "--", "a"]),
        (&["--", "--", "a"], &["--", "a"]),
        (&["-g", "--", "--", "a"], &["--", "a"]),
        (&["--", "check"], &["check"]),
        (&["-g", "--", "check", "--json"], &["check", "--json"]),
        (&["ls", "check"], &["ls", "check"]),
        (&["ls", ""], &["ls", ""]),
        (&["-", "a"], &["-", "a"]),
    ] {
        assert_eq!(run(line).command, command, "{line:?}");
    }
}

#[test]
fn what_tini_is_given_is_understood() {
    let config = run(&["-s", "-g", "-v", "-v", "-w", "-p", "SIGKILL", "-e", "143", "-e", "0", "--", "app", "-v"]);
    assert_eq!(config.command, ["app", "-v"]);
    assert!(config.group && config.warn_on_reap);
    assert_eq!(config.parent_death_signal, Some(Signal::KILL));
    assert_eq!(config.remap_exit, [143, 0]);
    assert_eq!(config.log_level, LevelFilter::Trace);

    let clustered = run(&["-sgwvv", "-pKILL", "-e143", "app"]);
    assert!(clustered.group && clustered.warn_on_reap);
    assert_eq!((clustered.parent_death_signal, clustered.remap_exit), (Some(Signal::KILL), vec![143]));
}

#[test]
fn arguments_of_the_app_need_not_be_utf8() {
    let odd = OsString::from_vec(vec![b'-', 0xff, 0xfe]);
    for line in [&["memini", "app"][..], &["memini", "--"], &["memini", "-g", "--"], &["memini", "-g", "app"]] {
        let mut arguments = words(line);
        arguments.push(odd.clone());
        let Ok(Invocation::Run(config)) = parse(arguments, &|_| None) else { panic!("{line:?}") };
        assert_eq!(config.command.last(), Some(&odd), "{line:?}");
    }
}

#[test]
fn a_folder_need_not_be_utf8_but_other_values_must() {
    let odd = OsString::from_vec(vec![b'/', 0xff]);
    let Ok(Invocation::Run(config)) =
        parse(words(&["memini", "app"]), &|name| (name == "MEMINI_DIR").then(|| odd.clone()))
    else {
        panic!("refused")
    };
    assert_eq!(config.dir, PathBuf::from(&odd));
    let failure = parse(words(&["memini", "app"]), &|name| (name == "MEMINI_GRACE").then(|| odd.clone())).unwrap_err();
    assert_eq!(failure.message, "MEMINI_GRACE=/\u{fffd}: not UTF-8");
}

#[test]
fn a_relative_folder_is_made_absolute() {
    assert_eq!(run(&["--dir", "a/b", "app"]).dir, std::env::current_dir().unwrap().join("a/b"));
}

#[test]
fn check_is_a_command_of_meminis_own() {
    for (line, variables, json, limit, dir) in [
        (&["check"][..], &[][..], false, None, "/tmp/memini"),
        (&["check", "--json"], &[], true, None, "/tmp/memini"),
        (&["--limit", "256MiB", "check"], &[], false, Some(256 << 20), "/tmp/memini"),
        (&["check", "--limit", "256MiB", "--dir", "/x", "--json"], &[], true, Some(256 << 20), "/x"),
        (&["--limit", "1g", "--json", "check", "--limit", "2g"], &[], true, Some(2 << 30), "/tmp/memini"),
        (&["check"], &[("MEMINI_LIMIT", "1g"), ("MEMINI_JSON", "on")], true, Some(1 << 30), "/tmp/memini"),
    ] {
        match parse_with(line, variables) {
            Ok(Invocation::Check { json: is_json, soft_limit, dir: folder, gauge }) => {
                assert_eq!((is_json, soft_limit), (json, limit), "{line:?}");
                assert_eq!((folder, gauge), (PathBuf::from(dir), GaugeKind::Unreclaimable), "{line:?}");
            }
            other => panic!("{line:?}: {other:?}"),
        }
    }
}

#[test]
fn a_report_is_asked_for_by_name_folder_or_nothing() {
    for (line, variables, form, which, dir) in [
        (&["report"][..], &[][..], Form::Text, None, "/tmp/memini"),
        (&["report", "one", "--format", "html"], &[], Form::Html, Some("one"), "/tmp/memini"),
        (&["--dir", "/x", "report", "--format=json"], &[], Form::Json, None, "/x"),
        (&["report", "--json"], &[], Form::Json, None, "/tmp/memini"),
        (
            &["report"],
            &[("MEMINI_FORMAT", "md"), ("MEMINI_DIR", "/y"), ("MEMINI_STOP_AT", "?")],
            Form::Markdown,
            None,
            "/y",
        ),
    ] {
        match parse_with(line, variables) {
            Ok(Invocation::Report { form: got, which: named, dir: folder }) => {
                assert_eq!((got, named, folder), (form, which.map(PathBuf::from), PathBuf::from(dir)), "{line:?}");
            }
            other => panic!("{line:?}: {other:?}"),
        }
    }
    assert_eq!(run(&["--", "report"]).command, ["report"]);
}

#[test]
fn a_status_is_asked_for_once_or_again_and_again_here_or_of_a_folder() {
    let seconds = Duration::from_secs;
    for (line, variables, json, watch, reach, which, dir) in [
        (&["status"][..], &[][..], false, None, Reach::Auto, None, "/tmp/memini"),
        (&["status", "--json"], &[("MEMINI_DIR", "/y")], true, None, Reach::Auto, None, "/y"),
        (&["status", "--watch"], &[], false, Some(seconds(2)), Reach::Auto, None, "/tmp/memini"),
        (&["status", "--watch=5s", "--span", "48h"], &[], false, Some(seconds(5)), Reach::TwoDays, None, "/tmp/memini"),
        (&["status", "--watch", "/a"], &[], false, Some(seconds(2)), Reach::Auto, Some("/a"), "/tmp/memini"),
        (&["status", "--dir", "/x"], &[("MEMINI_DIR", "/y")], false, None, Reach::Auto, Some("/x"), "/x"),
        (&["--dir", "/x", "status", "b"], &[("MEMINI_SPAN", "10min")], false, None, Reach::TenMinutes, Some("b"), "/x"),
        (
            &["status"],
            &[("MEMINI_WATCH", "1s"), ("MEMINI_STOP_AT", "?")],
            false,
            Some(seconds(1)),
            Reach::Auto,
            None,
            "/tmp/memini",
        ),
    ] {
        match parse_with(line, variables) {
            Ok(Invocation::Status { json: is_json, watch: every, reach: far, which: named, dir: folder }) => {
                assert_eq!((is_json, every, far), (json, watch, reach), "{line:?}");
                assert_eq!((named, folder), (which.map(PathBuf::from), PathBuf::from(dir)), "{line:?}");
            }
            other => panic!("{line:?}: {other:?}"),
        }
    }
    for (line, dir) in
        [(&["incidents"][..], "/tmp/memini"), (&["incidents", "/a"], "/a"), (&["incidents", "--dir", "/x"], "/x")]
    {
        match parse_with(line, &[]) {
            Ok(Invocation::Incidents { json: false, dir: folder }) => {
                assert_eq!(folder, PathBuf::from(dir), "{line:?}")
            }
            other => panic!("{line:?}: {other:?}"),
        }
    }
    for name in ["status", "incidents"] {
        assert_eq!(run(&["--", name]).command, [name]);
    }
}

#[test]
fn a_heap_is_dumped_on_demand_only_if_the_line_itself_says_so() {
    let variables =
        &[("MEMINI_HEAVY", "on"), ("MEMINI_DIR", "/y"), ("MEMINI_REDACT", "true"), ("MEMINI_MAX_TOTAL", "1GiB")];
    let dumping = |line: &[&str], variables: &[(&str, &str)]| match parse_with(line, variables) {
        Ok(Invocation::Capture { dumping, .. }) => dumping,
        other => panic!("{line:?}: {other:?}"),
    };
    for line in [&["capture"][..], &["capture", "7"], &["--heavy", "off", "capture"], &["--dir", "/x", "capture"]] {
        assert_eq!((dumping(line, &[]), dumping(line, variables)), (None, None), "{line:?}");
    }
    let plain = dumping(&["capture", "7", "--heavy", "on"], &[]).unwrap();
    assert_eq!(
        (plain.dir, plain.heavy.redact, plain.heavy.max_pause),
        ("/tmp/memini".into(), false, Duration::from_secs(5))
    );
    let told = dumping(&["--heavy=on", "--live", "capture", "7", "--max-pause", "1s"], variables).unwrap();
    assert_eq!((told.dir, told.keeping.total), (PathBuf::from("/y"), 1 << 30));
    assert_eq!(told.heavy, Heavy { when: When::On, max_pause: Duration::from_secs(1), redact: true, live: true });
    let idle = "--live is about a heap dump, and 'memini capture' takes one with --heavy on";
    assert_eq!(parse_with(&["capture", "--live"], variables).unwrap_err().message, idle);
}

#[test]
fn a_worker_gets_its_words_as_they_are() {
    let line = ["__worker", "--help", "--", "-x"];
    match parse_with(&line, &[("MEMINI_STOP_AT", "lots")]) {
        Ok(Invocation::Worker(rest)) => assert_eq!(rest, ["--help", "--", "-x"]),
        other => panic!("{other:?}"),
    }
    // Only in that place.
    assert_eq!(run(&["--", "__worker"]).command, ["__worker"]);
}

#[test]
fn each_mistake_has_one_line_that_says_what_to_do() {
    for (line, message) in [
        (&[][..], "memini: no command to run; try 'memini --help'"),
        (&["--"], "memini: no command to run; try 'memini --help'"),
        (&["-g"], "memini: no command to run; try 'memini --help'"),
        (&["-g", "--"], "memini: no command to run; try 'memini --help'"),
        (&[""], "memini: no command to run; try 'memini --help'"),
        (&["--stop-t", "5%", "app"], "memini: unknown option '--stop-t'; did you mean '--stop-at'?"),
        (&["--stop-t=5%", "app"], "memini: unknown option '--stop-t'; did you mean '--stop-at'?"),
        (&["--xyzzy", "app"], "memini: unknown option '--xyzzy'; try 'memini --help'"),
        (&["-x", "app"], "memini: unknown option '-x'; try 'memini --help'"),
        (&["-gx", "app"], "memini: unknown option '-x'; try 'memini --help'"),
        (&["--a\nb\u{1b}[0m"], "memini: unknown option '--a\\nb\\u{1b}[0m'; try 'memini --help'"),
        (&["--dir"], "memini: '--dir' needs a value; try 'memini --help'"),
        (&["--dir", "--stop-at", "5%"], "memini: '--dir' needs a value; try 'memini --help'"),
        (&["--stop-at"], "memini: '--stop-at' needs a value; try 'memini --help'"),
        (&["-p"], "memini: '--parent-death-signal' needs a value; try 'memini --help'"),
        (&["--verbose=3", "app"], "memini: '--verbose' takes no value, but was given '3'; try 'memini --help'"),
        (
            &["--json", "app"],
            "memini: --json belongs to memini's own commands, as in 'memini status'; to run an app, leave it out",
        ),
        (&["--format", "md", "app"], "memini: --format belongs to 'memini report'; to run an app, leave it out"),
        (&["--watch", "app"], "memini: --watch belongs to 'memini status'; to run an app, leave it out"),
        (&["--span", "3h", "app"], "memini: --span belongs to 'memini status'; to run an app, leave it out"),
        (&["report", "--watch"], "memini: --watch belongs to 'memini status'; for 'memini report', leave it out"),
        (&["check", "--since", "x"], "memini: --since belongs to 'memini capture'; for 'memini check', leave it out"),
        (&["status", "--watch=5"], "memini: --watch 5: a duration needs a unit; use 30s, 5min or 500ms"),
        (&["status", "--watch=1ms"], "memini: --watch 1ms: less than 100ms; use 2s"),
        (&["status", "--span", "1h"], "memini: --span 1h: not known; use auto, 10min, 3h or 48h"),
        (
            &["status", "a", "b"],
            "memini: 'memini status' shows one run, and 'b' is one too many; an app of that name is run with \
             'memini -- status'",
        ),
        (&["incidents", "--jsn"], "memini: unknown option '--jsn'; did you mean '--json'?"),
        (&["report", "--format", "pdf"], "memini: --format pdf: not known; use text, md, html or json"),
        (
            &["report", "one", "two"],
            "memini: 'memini report' shows one incident, and 'two' is one too many; an app of that name is run with \
             'memini -- report'",
        ),
        (&["check", "app"], "memini: 'memini check' takes no 'app'; an app of that name is run with 'memini -- check'"),
        (&["check", "--jsn"], "memini: unknown option '--jsn'; did you mean '--json'?"),
        (&["--stop-at", "lots", "app"], "memini: --stop-at lots: not a threshold; use 80%, 400MiB, -64MiB or off"),
        (&["--stop-at=", "app"], "memini: --stop-at '': not a threshold; use 80%, 400MiB, -64MiB or off"),
        (&["--stop-at", "120%", "app"], "memini: --stop-at 120%: above 100%; use 80%, 400MiB, -64MiB or off"),
        (&["--stop-at", "80", "app"], "memini: --stop-at 80: a threshold needs a unit; use 80%, 400MiB, -64MiB or off"),
        (
            &["--stop-at", "50%", "app"],
            "memini: --stop-at 50% is not above --capture-at 80%; thresholds must ascend, or be off",
        ),
        (
            &["--limit", "12parsecs", "app"],
            "memini: --limit 12parsecs: not a size; use 256MiB, 1.5GiB, 256m or a number of bytes",
        ),
        (&["--limit", "-5", "app"], "memini: --limit -5: not a size; use 256MiB, 1.5GiB, 256m or a number of bytes"),
        (&["--limit", "9EiB", "app"], "memini: --limit 9EiB: too large; use 256MiB, 1.5GiB, 256m or a number of bytes"),
        (&["--limit", "0", "app"], "memini: --limit 0: no bytes at all; use 256MiB, 1.5GiB, 256m or a number of bytes"),
        (&["--grace", "10", "app"], "memini: --grace 10: a duration needs a unit; use 30s, 5min or 500ms"),
        (&["--grace", "10parsecs", "app"], "memini: --grace 10parsecs: not a duration; use 30s, 5min or 500ms"),
        (&["--grace", "11years", "app"], "memini: --grace 11years: more than ten years"),
        (&["--keep-for", "0s", "app"], "memini: --keep-for 0s: no time at all; use 30s, 5min or 500ms"),
        (&["--keep-for", "ever", "app"], "memini: --keep-for ever: not a duration; use 30s, 5min or 500ms"),
        (&["--hook-timeout", "0s", "app"], "memini: --hook-timeout 0s: no time at all; use 30s, 5min or 500ms"),
        (
            &["--capture", "java", "app"],
            "memini: --capture java: \"java\" is not known; use auto, off, or some of proc, python and jvm",
        ),
        (
            &["--capture", "", "app"],
            "memini: --capture '': \"\" is not known; use auto, off, or some of proc, python and jvm",
        ),
        (
            &["--capture", "off,jvm", "app"],
            "memini: --capture off,jvm: \"off\" is not known; use auto, off, or some of proc, python and jvm",
        ),
        (
            &["--stop-signal", "TREM", "app"],
            "memini: --stop-signal TREM: not a signal; use TERM, SIGTERM, 15 or RTMIN+3",
        ),
        (&["-p", "65", "app"], "memini: --parent-death-signal 65: not a signal; use TERM, SIGTERM, 15 or RTMIN+3"),
        (&["--rewrite", "TERM", "app"], "memini: --rewrite TERM: not FROM:TO; use TERM:QUIT, or HUP:0 to drop it"),
        (
            &["--rewrite", "KILL:TERM", "app"],
            "memini: --rewrite KILL:TERM: SIGKILL cannot be caught, so it cannot be rewritten",
        ),
        (
            &["--rewrite", "TERM:X", "app"],
            "memini: --rewrite TERM:X: 'X' is not a signal; use TERM, SIGTERM, 15 or RTMIN+3",
        ),
        (
            &["--exit-code", "137", "app"],
            "memini: --exit-code 137: means a death by SIGKILL; use 1 to 255, but not 125 to 127, 137 or 139",
        ),
        (
            &["--exit-code", "256", "app"],
            "memini: --exit-code 256: not an exit code; use 1 to 255, but not 125 to 127, 137 or 139",
        ),
        (&["-e", "256", "app"], "memini: --remap-exit 256: not an exit code; use 0 to 255"),
        (&["--max-captures", "many", "app"], "memini: --max-captures many: not a number; use 0 to 4294967295"),
        (&["--stop-when", "now", "app"], "memini: --stop-when now: not known; use urgent or level"),
        (&["--gauge", "rss", "app"], "memini: --gauge rss: not known; use unreclaimable, working-set or usage"),
        (&["--leftovers", "keep", "app"], "memini: --leftovers keep: not known; use kill, term or wait"),
        (&["--log-format", "xml", "app"], "memini: --log-format xml: not known; use text or json"),
        (
            &["--dry-run=maybe", "app"],
            "memini: --dry-run maybe: neither true nor false; use true, false, 1, 0, yes, no, on or off",
        ),
        (&["--hook", "dump", "app"], "memini: --hook dump: not STAGE=COMMAND; use capture='kill -USR2 {pid}'"),
        (
            &["--hook", "normal=x", "app"],
            "memini: --hook normal=x: unknown stage 'normal'; use trace, capture, stop or kill",
        ),
        (&["--hook", "stop= ", "app"], "memini: --hook stop= : an empty command; use capture='kill -USR2 {pid}'"),
        (
            &["--hook", "stop=echo 'a", "app"],
            "memini: --hook stop=echo 'a: an unclosed quote, or a backslash at the end",
        ),
        (
            &["--hook", "stop=echo {pdi}", "app"],
            "memini: --hook stop=echo {pdi}: unknown token {pdi}; use {pid} {dir} {stage} {usage} {limit} {reason}, \
             or {{pdi}} for these letters themselves",
        ),
        (&["--dir", "", "app"], "memini: --dir '': an empty path"),
    ] {
        assert_eq!(failure_with(line, &[]), message, "{line:?}");
    }
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    for (name, value, message) in [
        ("MEMINI_STOP_AT", "lots", "memini: MEMINI_STOP_AT=lots: not a threshold; use 80%, 400MiB, -64MiB or off"),
        ("MEMINI_GRACE", "10", "memini: MEMINI_GRACE=10: a duration needs a unit; use 30s, 5min or 500ms"),
        ("MEMINI_REMAP_EXIT", "1,x", "memini: MEMINI_REMAP_EXIT=1,x: not an exit code; use 0 to 255"),
        (
            "MEMINI_HOOK",
            "stop=a\nhalt=b",
            "memini: MEMINI_HOOK=stop=a\\nhalt=b: unknown stage 'halt'; use trace, capture, stop or kill",
        ),
        (
            "MEMINI_GROUP",
            "maybe",
            "memini: MEMINI_GROUP=maybe: neither true nor false; use true, false, 1, 0, yes, no, on or off",
        ),
        ("MEMINI_VERBOSE", "very", "memini: MEMINI_VERBOSE=very: not a number; use 0, 1 or 2"),
    ] {
        assert_eq!(failure_with(&["--", "app"], &[(name, value)]), message);
        assert_eq!(failure_with(&["check"], &[(name, value)]), message);
    }
}

fn printed(line: &[&str]) -> String {
    match parse_with(line, &[]) {
        Ok(Invocation::Print(text)) => text,
        other => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn help_and_version_are_printed_whatever_else_is_wrong_with_the_values() {
    assert_eq!(printed(&["-h"]), help::short());
    assert_eq!(printed(&["-gh"]), help::short());
    assert_eq!(printed(&["--stop-at", "lots", "--help"]), help::long());
    assert_eq!(printed(&["check", "--help"]), help::long());
    assert_eq!(printed(&["--version", "app"]), help::version());
    assert_eq!(printed(&["-V"]), help::version());
}

#[test]
fn help_names_every_option_and_every_variable_and_keeps_to_its_columns() {
    let (short, long, table) = (help::short(), help::long(), help::table());
    for flag in ALL {
        for text in [&short, &long, &table] {
            let option = format!("--{}", flag.long);
            assert!(
                text.split(|letter: char| letter != '-' && !letter.is_alphanumeric()).any(|word| word == option),
                "{option}"
            );
        }
        let variable = format!("[env: {}]", flag.variable());
        assert!(long.contains(&variable), "{variable}");
        assert!(long.contains(&format!("[default: {}]", flag.default)) || flag.default.is_empty(), "{variable}");
    }
    for token in hook::TOKENS {
        assert!(long.contains(&format!("{{{token}}}")), "{token}");
    }
    for text in [short, long] {
        for line in text.lines() {
            assert!(line.chars().count() <= 96 && line.trim_end() == line, "{line:?}");
        }
        assert!(!text.contains('\u{1b}'));
    }
}

#[test]
fn the_documented_options_are_the_defined_ones() {
    let page = include_str!("../../docs/options.md");
    assert!(page.contains(&help::table()), "docs/options.md is out of date; print the table with option_table");
}

#[test]
#[ignore = "prints the option table for docs/options.md: cargo test option_table -- --ignored --nocapture"]
fn option_table() {
    println!("{}", help::table());
}

/// The rule by which Docker Engine reads the first line of `docker-init --version`: halves at " - ", the second one
/// "git.COMMIT" with no further dot, or the first one "tini version X".
fn docker_reads(output: &str) -> Option<&str> {
    let (_, second) = output.trim().split_once(" - ")?;
    let second = second.split(" - ").next()?;
    match second.split('.').collect::<Vec<_>>()[..] {
        ["git", commit] if !commit.is_empty() => Some(commit),
        _ => None,
    }
}

#[test]
fn docker_info_can_read_the_version() {
    let version = help::version();
    assert_eq!(version.lines().count(), 1);
    let commit = docker_reads(&version).expect("unknown output format");
    // Docker Engine up to 20.10 cuts its own commit of 7 or 40 letters to this length.
    assert_eq!(commit.len(), 7, "{commit}");
    assert_eq!(docker_reads("memini 0.1.0 - git.a.b"), None);
}

fn described(line: Line) -> String {
    // Without options clap still reports its switches and counters as not given.
    let given = line.options.map(|options| {
        ALL.iter().any(|flag| {
            options.value_source(flag.long).is_some_and(|source| source == clap::parser::ValueSource::CommandLine)
        })
    });
    format!("{:?} {} {:?}", line.command, line.verb == Some(Verb::Check), given.unwrap_or(false))
}

/// Words as they come in practice, and some that do not.
fn word() -> impl Strategy<Value = OsString> {
    let known: Vec<String> = ALL
        .iter()
        .flat_map(|flag| {
            let value = ARRIVALS.iter().find(|(long, ..)| *long == flag.long).map_or("true", |(_, value, ..)| value);
            [format!("--{}", flag.long), value.to_owned(), format!("--{}={value}", flag.long)]
        })
        .chain(["--", "-", "", "check", "-g", "-gwv", "-p", "app", "-h", "__worker"].map(str::to_owned))
        .collect();
    prop_oneof![
        4 => prop::sample::select(known).prop_map(OsString::from),
        1 => prop::collection::vec(1u8.., 0..6).prop_map(OsString::from_vec),
        1 => "-{0,3}[a-z{}$='%0-9. ]{0,8}".prop_map(OsString::from),
    ]
}

proptest! {
    #[test]
    fn the_way_around_clap_leads_to_the_same_place(rest in prop::collection::vec(word(), 0..5)) {
        let mut arguments = words(&["memini"]);
        arguments.extend(rest);
        if !has_options(&arguments) {
            let long_way = Line::with_options(arguments.clone()).unwrap();
            prop_assert_eq!(described(Line::without_options(arguments)), described(long_way));
        }
    }

    #[test]
    fn no_line_and_no_environment_is_too_odd(
        rest in prop::collection::vec(word(), 0..6),
        values in prop::collection::vec(prop::option::weighted(0.1, word()), ALL.len()),
    ) {
        let variables: HashMap<String, Option<OsString>> = ALL.iter().map(Flag::variable).zip(values).collect();
        let mut arguments = words(&["memini"]);
        arguments.extend(rest);
        match parse(arguments.clone(), &|name| variables.get(name).cloned().flatten()) {
            Ok(Invocation::Run(config)) => prop_assert!(arguments.ends_with(&config.command)),
            Ok(_) => {}
            Err(failure) => {
                prop_assert_eq!(failure.code, 125);
                prop_assert!(!failure.message.is_empty() && !failure.message.contains(char::is_control));
            }
        }
    }
}

#[test]
fn no_arguments_at_all_not_even_a_name_is_a_mistake_like_any() {
    assert_eq!(parse(Vec::new(), &|_| None).unwrap_err().message, "no command to run; try 'memini --help'");
}

#[test]
fn stages_can_be_left_out_of_the_ladder() {
    let config = run(&["--trace-at", "off", "--capture-at=OFF", "--stop-at", "10%", "--kill-at=11%", "app"]);
    assert_eq!(
        Stage::LADDER.map(|stage| config.thresholds.of(stage)),
        [Threshold::Off, Threshold::Off, Threshold::Percent(10.0), Threshold::Percent(11.0)]
    );
}
