//! Yama (ptrace_scope): who may not look at a process is told what forbids it, and has the kernel's numbers.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::session::{app, binary};

/// What `memini capture` says of this process, run by a program that becomes it.
fn asked(launcher: &[&str], id: u32) -> String {
    let memini = binary();
    let id = id.to_string();
    let words = [launcher, &[memini.to_str().unwrap(), "capture", &id]].concat();
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn where_it_forbids_to_look_there_is_no_census_but_a_line_that_says_so() {
    let place = tempfile::tempdir().unwrap();
    // There is no Python in this machine. One by name is opened, and nothing of Python is found in it.
    let program = place.path().join("python3");
    fs::copy(&app()[0], &program).unwrap();
    // It has no capability that who looks has not: that would be another reason.
    let without = ["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];
    let mut child = Command::new("setpriv")
        .args(without)
        .arg(&program)
        .args(["hold 20", "say ready", "pause"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let without = ["setpriv", without[0], without[1]];
    let opened = "of no version that can be told; no census";
    for (scope, launcher, why) in [
        ("0", &[][..], opened),
        ("2", &[], opened),
        (
            "2",
            &without,
            "/mem: Permission denied (os error 13) (kernel.yama.ptrace_scope is 2, which takes CAP_SYS_PTRACE)",
        ),
        (
            "3",
            &[],
            "/mem: Permission denied (os error 13) (kernel.yama.ptrace_scope is 3, which forbids it to everybody)",
        ),
    ] {
        // The last one stays for good; no other test of this machine looks at anybody.
        fs::write("/proc/sys/kernel/yama/ptrace_scope", scope).unwrap();
        let said = asked(launcher, child.id());
        assert!(said.contains(why), "{scope}: {said}");
        assert!(said.contains(" anonymous") && said.contains("no census: "), "{scope}: {said}");
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        assert!(stat.contains(") S "), "{stat}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
