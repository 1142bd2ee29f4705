//! Which recipes may do here what they do, found out before they are needed.

use std::path::Path;

use crate::config::Recipes;

/// `CAP_SYS_PTRACE`, as a bit of `CapEff`.
const MAY_TRACE: u64 = 1 << 19;

/// The evidence that can be taken here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Armed {
    /// What is switched on and permitted. The kernel's own numbers can be read in any case.
    pub recipes: Recipes,
    /// Why the memory of other processes cannot be read, if so: then there is no `python`.
    pub problem: Option<String>,
}

impl Armed {
    /// Of these recipes; `root` is `/` unless in a test.
    pub fn of(recipes: Recipes, root: &Path) -> Self {
        let problem = reading_problem(root);
        let python = recipes.python && problem.is_none();
        Self { recipes: Recipes { python, ..recipes }, problem: problem.filter(|_| recipes.python) }
    }

    /// `proc, python, jvm`, and what is missing.
    pub fn text(&self) -> String {
        let mut text = "proc".to_owned();
        for (name, _) in Recipes::NAMES.iter().filter(|(_, one)| *one != Recipes::NONE && self.recipes.has(*one)) {
            text.push_str(", ");
            text.push_str(name);
        }
        if let Some(problem) = &self.problem {
            text.push_str(" (not python: ");
            text.push_str(problem);
            text.push(')');
        }
        text
    }
}

/// Why memini may not read another process's memory. Its own children it may: unless the Yama module says no. What is
/// particular to one process (another user's, not dumpable) shows when it is looked at.
fn reading_problem(root: &Path) -> Option<String> {
    let scope = std::fs::read_to_string(root.join("proc/sys/kernel/yama/ptrace_scope")).ok()?;
    match scope.trim().parse::<u8>().ok()? {
        0 | 1 => None,
        2 if may_trace(root) => None,
        2 => Some("kernel.yama.ptrace_scope is 2, and CAP_SYS_PTRACE is missing".to_owned()),
        scope => Some(format!("kernel.yama.ptrace_scope is {scope}")),
    }
}

fn may_trace(root: &Path) -> bool {
    let status = std::fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set & MAY_TRACE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yama_forbids_is_not_armed_and_the_reason_is_told() {
        let root = tempfile::tempdir().unwrap();
        let folders = ["proc/sys/kernel/yama", "proc/self"];
        folders.iter().for_each(|folder| std::fs::create_dir_all(root.path().join(folder)).unwrap());
        let armed = |scope: &str, capabilities: &str, recipes| {
            std::fs::write(root.path().join("proc/sys/kernel/yama/ptrace_scope"), scope).unwrap();
            std::fs::write(root.path().join("proc/self/status"), format!("CapEff:\t{capabilities}\n")).unwrap();
            Armed::of(recipes, root.path()).text()
        };
        let (none, all) = ("0000000000000000", "000001ffffffffff");
        for scope in ["0\n", "1\n", "garbage"] {
            assert_eq!(armed(scope, none, Recipes::ALL), "proc, python, jvm");
        }
        assert_eq!(armed("2\n", all, Recipes::ALL), "proc, python, jvm");
        assert_eq!(
            armed("2\n", none, Recipes::ALL),
            "proc, jvm (not python: kernel.yama.ptrace_scope is 2, and CAP_SYS_PTRACE is missing)"
        );
        assert_eq!(armed("3\n", all, Recipes::ALL), "proc, jvm (not python: kernel.yama.ptrace_scope is 3)");
        // Who does not want it need not be told that it cannot be.
        assert_eq!(armed("3\n", all, Recipes::NONE), "proc");
        std::fs::remove_file(root.path().join("proc/sys/kernel/yama/ptrace_scope")).unwrap();
        assert_eq!(Armed::of(Recipes::ALL, root.path()).text(), "proc, python, jvm");
    }
}
