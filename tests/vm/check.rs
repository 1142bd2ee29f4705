//! `memini check`, and what it says of a group of each kind.

use std::process::Command;

use crate::support::{Group, STARTER};

/// What `memini check` says in this group, and whether it can guard there.
fn check(group: &Group, options: &[&str]) -> (String, bool) {
    let memini = std::env::var_os("MEMINI").expect("MEMINI");
    let mut command = Command::new("sh");
    command.args(["-c", STARTER, "sh"]).arg(memini).arg("check").args(options);
    let output = command.env("GROUP", group.path()).env("SETUP", ":").output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

#[test]
fn check_says_what_is_true_of_this_kernel() {
    let group = Group::new("check", 64);
    let folder = group.path().display().to_string();
    let (text, can) = check(&group, &[]);
    println!("{text}");
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        format!("hierarchy v2, own group {}", folder.trim_start_matches("/sys/fs/cgroup")),
        format!("source cgroup v2 {folder}"),
        format!("limit 64 MiB from {folder}/memory.max"),
        "group memini's own".to_owned(),
        "oom group no: the kernel's OOM killer takes single processes".to_owned(),
        "oom kills 0".to_owned(),
        "swap none that could be used".to_owned(),
        "events wake memini (memory.events)".to_owned(),
        "memini can guard here".to_owned(),
    ] {
        assert!(lines.contains(&line), "no {line:?} in\n{text}");
    }
    assert!(can);
    let reads = lines.iter().find(|line| line.starts_with("reads ")).expect("what it reads");
    for file in ["memory.current", "memory.max", "memory.stat", "memory.events", "memory.pressure"] {
        assert!(reads.contains(file), "no {file} in {reads}");
    }
}

#[test]
fn check_tells_of_swap_and_of_the_oom_killers_ways() {
    let group = Group::new("check-swap", 64);
    group.set("memory.swap.max", "max");
    group.set("memory.oom.group", "1");
    let (text, can) = check(&group, &[]);
    assert!(can && text.contains("yes: the kernel's OOM killer takes memini along"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("swap ") && line.ends_with(" yes")), "{text}");
}

#[test]
fn the_largest_table_of_this_kernel_is_read_whole() {
    let group = Group::new("table", 64);
    let table = std::fs::read(group.path().join("memory.stat")).unwrap();
    // src/cgroup/file.rs reads so much at once; numbers have up to 20 digits.
    let lines = table.iter().filter(|byte| **byte == b'\n').count();
    assert!(table.len() + lines * 19 < 8192, "{} bytes in {lines} lines", table.len());
}
