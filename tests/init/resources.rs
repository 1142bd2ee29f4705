//! memini itself: one thread, no descriptors but its own.

use crate::support::app::shell;
use crate::support::memini::{Memini, Place, binary};
use crate::support::process;

/// memini with these options, running an app that has said so.
fn running(place: Place, options: &[&str]) -> crate::support::memini::Running {
    let memini = Memini::at(place).options(options).start(shell("echo ready; exec sleep 1000"));
    memini.output.wait_for("ready\n");
    memini
}

#[test]
fn it_has_one_thread() {
    for place in Place::ALL {
        for options in [&[][..], &["--no-watch"], &["--hook", "capture=true"]] {
            let mut memini = running(place, options);
            // Its start-up line: by then it has made whatever it makes.
            memini.log.wait_for("runs sh");
            let pid = memini.pid();
            assert_eq!(process::status(pid, "Threads").unwrap(), "1");
            assert_eq!(process::children(pid).len(), 1, "the app and nobody else");
            memini.signal(libc::SIGTERM);
            memini.finish().expect(143);
        }
    }
}

#[test]
fn without_the_watch_it_reads_nothing_about_memory() {
    let mut memini = running(Place::Init, &["--no-watch"]);
    memini.log.wait_for("memory is not watched");
    let pid = memini.pid();
    for number in 0..64 {
        if let Some(path) = process::link(pid, &format!("fd/{number}")) {
            let path = path.to_string_lossy().into_owned();
            assert!(!path.contains("memory") && !path.contains("cgroup"), "{path}");
        }
    }
    memini.signal(libc::SIGTERM);
    memini.finish().expect(143);
}

/// What dockerd makes of `docker-init --version`: the parts are separated by ` - `; the second is `git.COMMIT`, and what
/// stands after `tini version ` in the first is the version. One of them must be there.
fn commit_as_dockerd_reads_it(text: &str) -> Option<&str> {
    let parts: Vec<_> = text.split(" - ").collect();
    let (name, commit) = parts.get(1)?.trim().split_once('.')?;
    (name == "git" && !commit.contains('.') && !commit.is_empty()).then_some(commit)
}

#[test]
fn docker_understands_the_version() {
    for option in ["--version", "-V"] {
        let output = std::process::Command::new(binary()).arg(option).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let commit = commit_as_dockerd_reads_it(&text).unwrap_or_else(|| panic!("{text:?}"));
        assert!(commit.len() == 7, "{text:?}");
        assert!(text.starts_with("memini ") && text.ends_with('\n') && text.lines().count() == 1, "{text:?}");
    }
}
