//! The answer for people: one fact a line, the verdict last.

use std::fmt::Write as _;

use super::{Dir, Evidence, LevelReport, Memory, MemoryLock, ProcessTree, Report};
use crate::text::plain;
use crate::units::Size;

/// Room for the longest name and a gap.
const COLUMN: usize = 16;

/// The whole answer.
pub fn render(report: &Report) -> String {
    let mut lines = Lines::default();
    memory(&mut lines, &report.memory);
    for level in &report.levels {
        lines.add(&level.name, &usage(level));
    }
    lines.add("folder", &folder(&report.dir));
    lines.add("memory lock", &memory_lock(&report.memory_lock));
    lines.add("scheduling", scheduling(report.scheduling));
    lines.add("role", role(report.role));
    lines.add("processes", &processes(&report.process_tree));
    lines.add("evidence", &evidence(&report.evidence));
    lines.add("kernel", report.kernel.as_deref().unwrap_or("unknown"));
    lines.add("cores", &cores(report));
    let reason = report.reason.as_deref();
    lines.0.push_str(&reason.map_or("memini can guard here\n".to_owned(), |reason| {
        format!("memini cannot guard here: {}\n", plain(reason))
    }));
    lines.0
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, fact: &str) {
        let _ = writeln!(self.0, "{name:COLUMN$}{}", plain(fact));
    }
}

fn memory(lines: &mut Lines, memory: &Memory) {
    let group = memory.group.as_ref().map_or_else(String::new, |group| format!(", own group {group}"));
    lines.add("hierarchy", &format!("{}{group}", memory.hierarchy));
    lines.add("source", &memory.source);
    if let Some(note) = &memory.source_note {
        lines.add("", note);
    }
    for (at, line) in by_folder(&memory.files).iter().enumerate() {
        lines.add(if at == 0 { "reads" } else { "" }, line);
    }
    lines.add("limit", &limit(memory));
    if let Some(soft) = memory.soft_limit {
        lines.add("soft limit", &format!("{} (--limit)", Size(soft)));
    }
    lines.add("group", group_company(memory.shared_group));
    lines.add("oom group", oom_group(memory.oom_group));
    if let Some(kills) = memory.oom_kills {
        lines.add("oom kills", &kills.to_string());
    }
    lines.add("swap", if memory.swap { "yes" } else { "none that could be used" });
    if let Some(shmem) = memory.shmem {
        lines.add("shared memory", &format!("{}, tmpfs included", Size(shmem)));
    }
    let events = if memory.wakes_on_events { "wake memini (memory.events)" } else { "none, memini looks at intervals" };
    lines.add("events", events);
}

/// A line for each folder: `/sys/fs/cgroup: memory.current, memory.max`.
fn by_folder(files: &[String]) -> Vec<String> {
    let mut folders: Vec<(&str, String)> = Vec::new();
    for file in files {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        match folders.iter_mut().find(|(known, _)| *known == folder) {
            Some((_, names)) => *names = format!("{names}, {name}"),
            None => folders.push((folder, name.to_owned())),
        }
    }
    folders.into_iter().map(|(folder, names)| format!("{folder}: {names}")).collect()
}

fn limit(memory: &Memory) -> String {
    match (memory.limit, &memory.limit_file) {
        (Some(limit), Some(file)) => format!("{} from {}", Size(limit), file),
        (Some(limit), None) => Size(limit).to_string(),
        (None, _) => "none of the kernel's".to_owned(),
    }
}

const fn group_company(shared: bool) -> &'static str {
    if shared { "may hold processes that are not below memini" } else { "memini's own" }
}

const fn oom_group(oom_group: Option<bool>) -> &'static str {
    match oom_group {
        Some(true) => "yes: the kernel's OOM killer takes memini along",
        Some(false) => "no: the kernel's OOM killer takes single processes",
        None => "unknown to this hierarchy",
    }
}

fn usage(level: &LevelReport) -> String {
    let limit = level.limit.filter(|limit| *limit > 0).map_or_else(
        || ", no limit".to_owned(),
        |limit| format!(" of {} ({:.0}%)", Size(limit), level.gauged as f64 / limit as f64 * 100.0),
    );
    let charged =
        if level.usage == level.gauged { String::new() } else { format!(", {} charged in all", Size(level.usage)) };
    let swap = match level.swap_capacity {
        0 => String::new(),
        capacity => format!(", swap {} of {}", Size(level.swap_usage), Size(capacity)),
    };
    format!("{}{limit}{charged}{swap}", Size(level.gauged))
}

fn folder(dir: &Dir) -> String {
    if let Some(problem) = &dir.problem {
        return problem.clone();
    }
    let state = if dir.exists { "writable" } else { "can be made" };
    let kind = dir.file_system.as_deref().map_or_else(String::new, |name| format!(", {name}"));
    let free = dir.free.map_or_else(String::new, |free| format!(", {} free", Size(free)));
    let memory = if dir.is_memory { "; what is written there counts as memory" } else { "" };
    format!("{} {state}{kind}{free}{memory}", dir.path)
}

fn memory_lock(lock: &MemoryLock) -> String {
    let limit = lock.limit.as_deref().map_or("unknown".to_owned(), |limit| {
        limit.parse().map_or_else(|_| limit.to_owned(), |bytes| Size(bytes).to_string())
    });
    match &lock.problem {
        None => format!("permitted, up to {limit}"),
        Some(problem) => {
            let mapped = lock.mapped.map_or_else(String::new, |mapped| format!(" for {} mapped", Size(mapped)));
            format!("not permitted: {problem}; RLIMIT_MEMLOCK is {limit}{mapped}")
        }
    }
}

fn scheduling(name: &str) -> &str {
    match name {
        "fifo" => "SCHED_FIFO",
        "short-slice" => "short slice",
        _ => "as any other process",
    }
}

fn role(role: &str) -> &str {
    match role {
        "pid-1" => "PID 1",
        "subreaper" => "not PID 1: subreaper",
        other => other,
    }
}

fn processes(tree: &ProcessTree) -> String {
    let hidden = tree
        .hidepid
        .as_deref()
        .map_or_else(String::new, |value| format!("; /proc hides those of other users (hidepid={value})"));
    match &tree.problem {
        None => format!("can be read{hidden}"),
        Some(problem) => format!("{problem}{hidden}"),
    }
}

fn evidence(evidence: &Evidence) -> String {
    let problem = evidence.problem.as_ref().map_or_else(String::new, |problem| format!(" (not python: {problem})"));
    format!("{}{problem}", evidence.recipes.join(", "))
}

fn cores(report: &Report) -> String {
    match report.cores_in_quota {
        Some(quota) if quota < report.cores as usize => format!("{}, {quota} within the CPU quota", report.cores),
        _ => report.cores.to_string(),
    }
}
