//! Hooks: what they get, what they leave, and everything that they may do wrong. None of it is the app's business.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{ABOVE_STOP, Ended, Group, Incident, MIB, Memini, Session, records, status, wait_until};

/// An app that is brought to the capture stage, with this hook there; `seen` is in the log once the hook is over.
fn with_hook(group: &Group, options: &[&str], hook: &str, seen: &str) -> Session {
    let mut session = Memini::new(group).options(options).hook(&format!("capture={hook}")).app(&[]).start();
    session.tell("to 55");
    session.sees("capture hook 1 begins: ");
    session.sees(seen);
    session
}

/// memini goes on: the app's memory is still watched, and its exit code arrives.
fn lives(mut session: Session) -> Ended {
    session.tell("to 20");
    session.sees("normal again");
    session.begin("exit 7");
    let ended = session.end();
    ended.assert_code(7).assert_silent("internal error");
    ended
}

#[test]
fn whatever_a_hook_does_costs_log_lines_and_nothing_else() {
    let quick = &["--hook-timeout", "300ms"][..];
    for (name, options, hook, seen, end) in [
        ("fails", &[][..], "sh -c 'exit 3'", "hook 1 ended after ", r#"{"code":3}"#),
        ("killed", &[], "sh -c 'kill -SEGV $$'", "hook 1 ended after ", r#"{"signal":"SIGSEGV"}"#),
        ("missing", &[], "/nowhere/dump", "hook 1 did not run", r#"{"not_started":true}"#),
        ("not-executable", &[], "/etc/passwd", "hook 1 did not run", r#"{"not_started":true}"#),
        ("hangs", quick, "sleep 1000", "hook 1 ended after ", r#"{"signal":"SIGTERM"}"#),
        (
            "deaf",
            quick,
            "sh -c 'trap : TERM; while :; do sleep 1; done'",
            "hook 1 ended after ",
            r#"{"signal":"SIGKILL"}"#,
        ),
        // Again and again: a brake that is put on later continues it.
        ("stops", quick, "sh -c 'while :; do kill -STOP $$; done'", "hook 1 ended after ", r#"{"signal":"SIGKILL"}"#),
        ("forks-away", &[], "sh -c 'setsid sleep 1000 & echo forked'", "holds its output open", r#"{"code":0}"#),
        ("closes", &[], "sh -c 'exec >&- 2>&-; exit 5'", "hook 1 ended after ", r#"{"code":5}"#),
        ("prints-nothing", &[], "true", "hook 1 ended after ", r#"{"code":0}"#),
    ] {
        let group = Group::new(&format!("hook-{name}"), 64);
        let session = with_hook(&group, options, hook, seen);
        let ended = lives(session);
        let incident = ended.incident();
        assert_eq!(incident.hooks()[0]["end"].to_string(), end, "{name}: {:#}", incident.json);
        incident.assert_private();
        assert_eq!(group.oom_kills(), 0, "{name}");
    }
}

#[test]
fn what_a_hook_prints_has_another_name_until_it_is_whole() {
    let group = Group::new("hook-partial", 64);
    let hook = "sh -c 'until ls \"$MEMINI_DIR\" | grep partial; do sleep 0.01; done'";
    let ended = lives(with_hook(&group, &[], hook, "hook 1 ended after "));
    let incident = ended.incident();
    assert_eq!(String::from_utf8(incident.output()).unwrap(), "capture-1.log.partial\n");
    assert_eq!(incident.hooks()[0]["output"], "artifacts/capture-1.log");
    incident.assert_private();
}

#[test]
fn a_hook_that_cannot_run_is_told_with_its_cause() {
    for (name, hook, cause) in [
        ("missing", "/nowhere/dump", "cannot run /nowhere/dump: No such file or directory (os error 2)"),
        ("not-executable", "/etc/passwd", "cannot run /etc/passwd: Permission denied (os error 13)"),
    ] {
        let group = Group::new(&format!("cause-{name}"), 64);
        let session = with_hook(&group, &[], hook, "hook 1 did not run");
        session.sees(&format!("memini: hook 1: {cause}; the hook is left out"));
    }
}

#[test]
fn a_hook_finds_in_words_and_environment_what_it_needs_to_know() {
    let group = Group::new("hook-tokens", 64);
    let hook = "capture=sh -c 'for word in \"$@\"; do echo \"$word\"; done; \
                echo $MEMINI_PID $MEMINI_STAGE $MEMINI_USAGE $MEMINI_LIMIT $MEMINI_REASON $MEMINI_DIR; pwd; cat' \
                sh {pid} {stage} {usage} {limit} {reason} {dir}";
    let mut session = Memini::new(&group).setup("cd $PLACE").hook(hook).app(&[]).start();
    session.tell("to 55");
    session.sees("hook 1 ended after ");
    let place = fs::canonicalize(session.place()).unwrap();
    let ended = lives(session);
    let incident = ended.incident();
    let output = String::from_utf8(incident.output()).unwrap();
    let lines: Vec<_> = output.lines().collect();
    let [pid, stage, usage, limit, reason, dir, variables, cwd] = lines[..] else { panic!("{output}") };
    assert_eq!((pid, stage, limit, reason), ("2", "capture", "67108864", "threshold"));
    assert_eq!(usage.parse().ok(), incident.event("capture")["sample"]["gauged"].as_u64());
    assert_eq!(dir, incident.folder.join("artifacts").to_str().unwrap());
    assert_eq!(variables, [pid, stage, usage, limit, reason, dir].join(" "));
    assert_eq!(cwd, place.to_str().unwrap(), "the working folder is the app's");
}

#[test]
fn the_reason_of_a_stop_reaches_its_hooks() {
    let group = Group::new("hook-reason", 64);
    let ended =
        Memini::new(&group).hook("stop=echo {reason} {stage}").app(&["recorded", ABOVE_STOP, "pause"]).start().end();
    ended.assert_code(75).assert_says("hook 1 | floor stop");
}

#[test]
fn output_without_end_is_cut_and_costs_memini_nothing() {
    let group = Group::new("hook-endless", 64);
    let mut session = Memini::new(&group)
        .options(&["--hook-timeout", "20s", "--capture", "off"])
        .hook("capture=sh -c 'yes endless | head -c 5000000'")
        .hook("trace=yes endless")
        .app(&[])
        .start();
    session.tell("to 42");
    session.sees("trace hook 1 begins: yes endless");
    // Pages of the program come and go, and say nothing of what is kept of an output.
    wait_until("the ballast, a thirty-second of the limit", || anonymous(session.id()) >= 2 * MIB);
    let before = anonymous(session.id());
    session.tell("to 55");
    session.sees("hook 2: it printed 4.8 MiB, of which the first 1 MiB are kept");
    session.sees("hook 2 | endless");
    let after = anonymous(session.id());
    assert!(after < before + (64 << 10), "{before} → {after}");
    // The one without end has not ended; it does so with the app.
    let ended = lives(session);
    let incident = ended.incident();
    for hook in incident.hooks() {
        let size = fs::metadata(incident.folder.join(hook["output"].as_str().unwrap())).unwrap().len();
        assert_eq!(size, hook["output_bytes"].as_u64().unwrap());
        assert!(size <= MIB && (hook["run"] == 1 || size == MIB), "{hook}");
    }
}

#[test]
fn output_that_is_no_text_cannot_forge_lines_and_is_kept_as_it_is() {
    let group = Group::new("hook-binary", 64);
    let hook = r"printf '\000\377\033[2Jmemini: forged\rmore\n%0100000d\n\302\2332J\342\200\256end\n' 7";
    let session = with_hook(&group, &[], hook, "hook 1 ended after ");
    let log = session.log();
    let tail = log.lines().filter(|line| line.starts_with("memini: hook 1 | ")).collect::<Vec<_>>();
    assert!(!log.contains(['\u{1b}', '\r', '\0', '\u{9b}', '\u{202e}']), "{log:?}");
    assert!(tail.iter().any(|line| line.ends_with("| ?2J?end")), "{tail:?}");
    assert!(tail.iter().all(|line| line.len() < 400), "{tail:?}");
    assert!(!tail.is_empty() && !log.lines().any(|line| line.starts_with("memini: forged")), "{log}");
    let ended = lives(session);
    let output = ended.incident().output();
    assert!(output.starts_with(b"\0\xff\x1b[2Jmemini: forged\rmore\n0000") && output.len() > 100_000);
}

#[test]
fn all_hooks_of_a_stage_run_and_those_of_each_stage_in_its_turn() {
    let group = Group::new("hook-many", 64);
    let ended = Memini::new(&group)
        .options(&["--capture", "off"])
        .hook("trace=echo one")
        .hook("capture=echo two")
        .hook("capture=echo three")
        .hook("stop=echo four")
        .app(&["grow 20"])
        .start()
        .end();
    ended.assert_code(75);
    for (run, text) in [(1, "one"), (2, "two"), (3, "three"), (4, "four")] {
        ended.assert_says(&format!("hook {run} | {text}"));
    }
    let incident = ended.incident();
    let stages: Vec<_> = incident.hooks().iter().map(|hook| hook["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["trace", "capture", "capture", "stop"]);
    let files = incident.json["artifacts"].as_array().unwrap();
    assert_eq!(files.len(), 4);
}

#[test]
fn the_last_hooks_do_not_keep_the_app_from_leaving() {
    let group = Group::new("hook-last", 64);
    let options = ["--grace", "500ms", "--hook-timeout", "600s"];
    let ended = Memini::new(&group)
        .options(&options)
        .hook("stop=sleep 1000")
        .app(&["recorded", ABOVE_STOP, "pause"])
        .start()
        .end();
    ended.assert_code(75).assert_says("sending SIGTERM to the app");
    let incident = ended.incident();
    let events = incident.events();
    let at = |name: &str| events.iter().position(|event| event == name);
    assert!(at("hook-started") < at("terminating") && at("terminating") < at("app-exited"), "{events:?}");
    assert!(at("app-exited") < at("hook-overdue"), "it was waited for no longer than it could be: {events:?}");
    assert_eq!(group.oom_kills(), 0);
    assert_eq!(group.members(), Vec::<i32>::new());
}

#[test]
fn the_folder_may_be_read_only() {
    let group = Group::new("dir-readonly", 64);
    let setup =
        "mkdir $PLACE/memini && mount --bind $PLACE/memini $PLACE/memini && mount -o remount,ro,bind $PLACE/memini";
    let mut session = Memini::new(&group).setup(setup).hook("capture=sh -c 'echo ran > $PLACE/ran'").app(&[]).start();
    session.sees("cannot be written to: Read-only file system (os error 30); incidents are in this log only");
    session.tell("to 55");
    session.sees("hook 1 ended after ");
    assert_eq!(fs::read_to_string(session.place().join("ran")).unwrap(), "ran\n");
    session.begin("exit 7");
    session.end().assert_code(7);
}

#[test]
fn a_folder_that_is_not_to_be_trusted_is_not_used() {
    for (name, setup, why) in [
        ("link", "ln -s $PLACE $PLACE/memini", "is a symbolic link"),
        ("foreign", "mkdir $PLACE/memini && chown 1234 $PLACE/memini", "it belongs to user 1234"),
        ("inner-link", "mkdir $PLACE/memini && ln -s $PLACE $PLACE/memini/incidents", "it is a symbolic link"),
    ] {
        let group = Group::new(&format!("dir-{name}"), 64);
        let mut session = Memini::new(&group).setup(setup).hook("capture=echo ran").app(&[]).start();
        session.tell("to 55");
        session.sees("hook 1 | ran");
        session.sees(why);
        session.begin("exit 7");
        let ended = session.end();
        ended.assert_code(7);
        let found: Vec<_> = fs::read_dir(ended.place()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(found, ["memini"], "{name}: nothing was written through it");
    }
}

#[test]
fn a_hook_that_names_the_folder_does_not_run_without_it() {
    for (name, hook) in [("token", "capture=echo ran {dir}/x"), ("variable", "capture=sh -c 'echo ran $MEMINI_DIR/x'")]
    {
        let group = Group::new(&format!("dir-needed-{name}"), 64);
        let setup = "mkdir $PLACE/memini && ln -s $PLACE $PLACE/memini/incidents";
        let mut session = Memini::new(&group).setup(setup).hook(hook).app(&[]).start();
        session.tell("to 55");
        session.sees("it is a symbolic link; the hook needs that folder and is left out");
        session.sees("hook 1 did not run");
        session.begin("exit 7");
        session.end().assert_code(7).assert_silent("hook 1 | ran");
    }
}

#[test]
fn what_a_hook_runs_in_a_process_group_of_its_own_is_spared_with_the_hook() {
    // timeout(1) makes a group for itself; the app's end kills everything else that is left.
    let group = Group::new("hook-group", 64);
    let hook = "sh -c 'timeout 60 sh -c \"touch $PLACE/ready; while kill -0 {pid} 2>/dev/null; do sleep 0.01; done; echo went on\"; \
                echo code $?'";
    let mut session = Memini::new(&group).hook(&format!("capture={hook}")).app(&[]).start();
    session.tell("to 55");
    session.sees("capture hook 1 begins: ");
    session.appears("ready");
    session.begin("exit 7");
    session.sees("hook 1 | went on");
    session.sees("hook 1 | code 0");
    session.end().assert_code(7);
}

#[test]
fn a_folder_that_vanishes_is_made_again() {
    let group = Group::new("dir-vanishes", 64);
    let mut session = Memini::new(&group).hook("capture=echo ran").app(&[]).start();
    session.tell("to 42");
    session.sees("trace: ");
    // The record of the trace stage may be being written just now.
    while fs::remove_dir_all(session.dir()).is_err() && session.dir().exists() {}
    session.tell("to 55");
    session.sees("hook 1 ended after ");
    let ended = lives(session);
    let incident = ended.incident();
    assert_eq!(incident.output(), b"ran\n");
}

#[test]
fn a_full_disk_costs_log_lines() {
    let group = Group::new("dir-full", 64);
    let setup = "mkdir $PLACE/memini && mount -t tmpfs -o size=64k none $PLACE/memini";
    let mut session = Memini::new(&group).setup(setup).hook("capture=head -c 500000 /dev/zero").app(&[]).start();
    session.tell("to 55");
    session.sees("No space left on device (os error 28)");
    session.sees("hook 1 ended after ");
    session.begin("exit 7");
    session.end().assert_code(7);
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn a_dry_run_touches_nothing_but_its_own_folder() {
    let group = Group::new("dry-run", 64);
    let mut session = Memini::new(&group)
        .options(&["--dry-run"])
        .hook("capture=sh -c 'echo ran > $PLACE/ran'")
        .hook("stop=sh -c 'echo ran > $PLACE/ran'")
        .app(&[])
        .start();
    session.tell(ABOVE_STOP);
    session.sees("dry run: would run the capture hook: sh -c 'echo ran > $PLACE/ran'");
    session.sees("dry run: would stop the app, too little room is left to shut down in");
    session.begin("exit 7");
    let ended = session.end();
    ended.assert_code(7).assert_silent("sending SIG").assert_silent("begins");
    assert!(!ended.place().join("ran").exists());
    let incident = ended.incident();
    assert_eq!((&incident.json["outcome"], &incident.json["settings"]["dry_run"]), (&"exited".into(), &true.into()));
    assert_eq!(incident.hooks().len(), 0);
}

#[test]
fn captures_are_rationed() {
    for (name, options, skipped, expected) in [
        ("max", &["--cooldown", "0s", "--max-captures", "2"], "no capture: 2 were taken", 2),
        ("cooldown", &["--cooldown", "1h", "--max-captures", "9"], "no capture now: the cooldown lasts another ", 1),
        ("none", &["--cooldown", "0s", "--max-captures", "0"], "no capture: 0 were taken", 0),
    ] {
        let group = Group::new(&format!("ration-{name}"), 64);
        let mut session = Memini::new(&group).options(options).hook("capture=echo ran").app(&[]).start();
        for incident in 1..=3 {
            session.tell("to 55");
            session.sees_times("capture: memory is at ", incident);
            session.tell("to 20");
            session.recorded(incident, "recovered");
        }
        session.sees(skipped);
        let ended = session.finish();
        ended.assert_code(0);
        let runs = Incident::all(&ended.dir()).iter().map(|incident| incident.hooks().len()).sum::<usize>();
        assert_eq!(runs, expected, "{name}: {}", ended.log);
    }
}

#[test]
fn many_captures_leave_nothing_behind_in_memini() {
    let group = Group::new("many", 256);
    let options =
        ["--trace-at", "off", "--capture-at", "10%", "--cooldown", "0s", "--max-captures", "1000", "--capture", "off"];
    let mut session = Memini::new(&group).options(&options).hook("capture=echo {usage}").app(&[]).start();
    // It comes a moment after the app, and stays.
    records(&session.dir().join("recorder"));
    let mut measures = Vec::new();
    for run in 1..=24 {
        // More than the ballast, which the app counts and memini does not.
        session.tell(&format!("to {}", 30 + 8 * run));
        session.sees(&format!("hook {run} ended after "));
        let anonymous = anonymous(session.id());
        // The ballast comes and goes.
        let ballast = if anonymous >= 4 * MIB { 4 * MIB } else { 0 };
        measures.push((descriptors(session.id()), anonymous - ballast));
    }
    // A worker for the record may run at one moment and not at the other, and has pipes: what stays is the least of many.
    let least =
        |part: &[(usize, u64)]| (part.iter().map(|it| it.0).min().unwrap(), part.iter().map(|it| it.1).min().unwrap());
    let (early, late) = (least(&measures[..12]), least(&measures[12..]));
    assert!(late.0 <= early.0, "descriptors: {measures:?}");
    assert!(late.1 <= early.1 + (64 << 10), "memory: {measures:?}");
    let ended = session.finish();
    ended.assert_code(0);
    assert!(ended.incident().hooks().len() >= 24);
}

#[test]
fn many_incidents_leave_nothing_behind_in_memini() {
    let group = Group::new("incidents", 64);
    let mut session = Memini::new(&group).options(&["--cooldown", "0s"]).app(&[]).start();
    let mut measures = Vec::new();
    for incident in 1..=8 {
        session.tell("to 45");
        session.sees_times("trace: memory is at ", incident);
        session.tell("to 20");
        // The last of its record: from here on the next climb is an incident of its own.
        session.recorded(incident, "recovered");
        measures.push((descriptors(session.id()), anonymous(session.id())));
    }
    let (early, late) = (measures[1], measures[7]);
    assert!(late.0 <= early.0 + 2, "descriptors: {measures:?}");
    assert!(late.1 <= early.1 + (64 << 10), "memory: {measures:?}");
    let ended = session.finish();
    ended.assert_code(0);
    let outcomes: Vec<_> =
        Incident::all(&ended.dir()).iter().map(|incident| incident.json["outcome"].clone()).collect();
    assert_eq!(outcomes, vec!["recovered"; 8]);
}

#[test]
fn as_one_process_among_others_no_worker_and_no_zombie_is_left() {
    let group = Group::new("tidy", 64);
    let mut session = Memini::new(&group)
        .not_as_init()
        .options(&["--hook-timeout", "600s"])
        .hook("capture=sleep 1000")
        .hook("capture=sh -c 'trap : TERM; while :; do sleep 1; done'")
        .hook("capture=echo ran")
        .app(&[])
        .start();
    session.tell("to 55");
    session.sees("hook 3 ended after ");
    session.tell("daemon pause");
    session.tell("fork pause");
    session.begin("exit 7");
    session.end().assert_code(7);
    assert_eq!(group.members(), Vec::<i32>::new());
}

#[test]
fn hooks_run_for_an_app_of_another_folder_mode() {
    let group = Group::new("umask", 64);
    let mut session = Memini::new(&group).setup("umask 000").hook("capture=touch {dir}/mine").app(&[]).start();
    session.tell("to 55");
    session.sees("hook 1 ended after ");
    let ended = lives(session);
    let incident = ended.incident();
    let mode = |name: &str| fs::metadata(incident.folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("artifacts"), mode("incident.json")), (0o700, 0o700, 0o600));
    assert_eq!(mode("artifacts/mine"), 0o666, "what a hook writes itself is its own business");
}

/// Resident bytes of this process that belong to no file and are not shared.
fn anonymous(id: i32) -> u64 {
    status(id, "RssAnon:")
}

fn descriptors(id: i32) -> usize {
    fs::read_dir(format!("/proc/{id}/fd")).expect("memini's descriptors").count()
}
