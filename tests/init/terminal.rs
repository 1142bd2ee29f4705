//! Terminals: the keys reach the app, job control works above and below memini.

use crate::support::app::{python, words};
use crate::support::memini::binary;
use crate::support::terminal::{INTERRUPT, SUSPEND, Terminal};
use crate::support::{process, wait_for, wait_until};

/// memini's own words before an app's.
fn under_memini(options: &[&str], app: Vec<String>) -> Vec<String> {
    [words(&[binary().to_str().unwrap(), "-q"]), words(options), words(&["--"]), app].concat()
}

/// The same as one line for a shell.
fn typed(options: &[&str], app: &[String]) -> String {
    let line = under_memini(options, app.to_vec());
    shlex::try_join(line.iter().map(String::as_str)).unwrap()
}

/// On a terminal as PID 1 of a container, and as an ordinary session's leader.
fn containers(words: &[String]) -> [Terminal; 2] {
    [Terminal::start_as_init(words), Terminal::start(words)]
}

const MODES: [&[&str]; 2] = [&[], &["-g"]];

#[test]
fn the_app_has_the_foreground_of_the_terminal() {
    let app = "
assert os.tcgetpgrp(0) == os.getpgrp() == os.getpid()
say('got', sys.stdin.readline().strip(), '.')
os._exit(5)
";
    for mut terminal in containers(&under_memini(&[], python(app))) {
        terminal.press("keys\n");
        terminal.screen.wait_for("got keys .");
        assert_eq!(terminal.end().code(), Some(5));
    }
}

#[test]
fn ctrl_c_reaches_the_app_once() {
    let app = "
block()
say('ready')
assert take()[0] == signal.SIGINT
# What memini might send as well would come before the answer to this.
os.kill(os.getppid(), signal.SIGUSR1)
assert take(ALL)[0] == signal.SIGUSR1
assert pending() == [], pending()
os._exit(6)
";
    for options in MODES {
        for mut terminal in containers(&under_memini(options, python(app))) {
            terminal.screen.wait_for("ready");
            terminal.press(INTERRUPT);
            assert_eq!(terminal.end().code(), Some(6), "{}", terminal.screen.text());
        }
    }
}

#[test]
fn ctrl_z_does_not_hang_a_container_without_a_shell() {
    let app = "
signal.signal(signal.SIGCONT, lambda *_: say('continued', '.'))
say('ready')
say('got', read_line(), '.')
os._exit(7)
";
    for mut terminal in containers(&under_memini(&[], python(app))) {
        terminal.screen.wait_for("ready");
        terminal.press(SUSPEND);
        terminal.screen.wait_for("continued .");
        terminal.press("keys\n");
        terminal.screen.wait_for("got keys .");
        assert_eq!(terminal.end().code(), Some(7));
    }
}

#[test]
fn ctrl_z_stops_the_job_of_a_shell_and_fg_continues_it() {
    let app = "
signal.signal(signal.SIGCONT, lambda *_: say('continued', '.'))
say('app', os.getpid())
say('memini', os.getppid())
say('got', read_line(), '.')
os._exit(9)
";
    for options in MODES {
        let folder = tempfile::tempdir().unwrap();
        let mut terminal = Terminal::with_shell();
        terminal.press(&script(folder.path(), "job", &typed(options, &python(app))));
        let [app, memini] = ["app", "memini"].map(|key| terminal.value(key).parse().unwrap());
        terminal.press(SUSPEND);
        terminal.screen.wait_for("Stopped");
        for pid in [app, memini] {
            wait_until("both are stopped", || process::state(pid) == Some('T'));
        }
        terminal.press("echo shell-$((20+3))\n");
        terminal.screen.wait_for("shell-23");
        terminal.press("fg\n");
        terminal.screen.wait_for("continued .");
        terminal.press("keys\n");
        terminal.screen.wait_for("got keys .");
        terminal.press("echo code-$?.\n");
        terminal.screen.wait_for("code-9.");
    }
}

#[test]
fn a_stopped_job_goes_on_in_the_background_with_bg() {
    let app = "
signal.signal(signal.SIGCONT, lambda *_: (say('continued', os.tcgetpgrp(0) == os.getpgrp(), '.'), os._exit(0)))
say('ready')
while True: doze()
";
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::with_shell();
    terminal.press(&script(folder.path(), "job", &typed(&[], &python(app))));
    terminal.screen.wait_for("ready");
    terminal.press(SUSPEND);
    terminal.screen.wait_for("Stopped");
    terminal.press("bg\n");
    terminal.screen.wait_for("continued False .");
    terminal.press("wait; echo shell-$((20+3))\n");
    terminal.screen.wait_for("shell-23");
}

#[test]
fn a_background_job_leaves_the_terminal_to_the_shell() {
    let app = "
# The shell's prompt may stand in this line already.
say('\\napp', os.getpid())
say('memini', os.getppid())
say('got', sys.stdin.readline().strip(), '.')
os._exit(0)
";
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::with_shell();
    let command = script(folder.path(), "job", &typed(&[], &python(app)));
    terminal.press(&format!("{} &\n", command.trim_end()));
    let [app, memini]: [u32; 2] = ["app", "memini"].map(|key| terminal.value(key).parse().unwrap());
    // It wants to read, and the kernel stops it with SIGTTIN; memini stops as well, so that the shell sees it.
    for pid in [app, memini] {
        wait_until("both are stopped", || process::state(pid) == Some('T'));
    }
    terminal.press("echo shell-$((20+3))\n");
    terminal.screen.wait_for("shell-23");
    terminal.press("jobs -s\n");
    terminal.screen.wait_for("Stopped");
    terminal.press("fg\n");
    wait_until("the app goes on", || process::state(app) == Some('S'));
    terminal.press("keys\n");
    terminal.screen.wait_for("got keys .");
}

#[test]
fn a_background_job_that_is_brought_to_the_front_while_it_runs_gets_the_terminal() {
    let app = "
block(set_of(signal.SIGUSR1))
say('\\napp', os.getpid())
take(set_of(signal.SIGUSR1))
say('got', sys.stdin.readline().strip(), '.')
os._exit(0)
";
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::with_shell();
    let command = script(folder.path(), "job", &typed(&[], &python(app)));
    terminal.press(&format!("{} &\n", command.trim_end()));
    let app: u32 = terminal.value("app").parse().unwrap();
    terminal.press("fg\n");
    // The shell says nothing to a job that runs; that one has the foreground is all there is to see.
    let shell = terminal.pid();
    wait_until("the job is in the foreground", || !in_foreground(shell));
    process::send(app, libc::SIGUSR1);
    terminal.press("keys\n");
    terminal.screen.wait_for("got keys .");
}

#[test]
fn after_the_app_the_shell_has_the_terminal_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::with_shell();
    for code in [0, 1, 137] {
        let app = python(&format!("os._exit({code})"));
        terminal.press(&script(folder.path(), "job", &typed(&[], &app)));
        terminal.press(&format!("echo code-$?-{code}.\n"));
        terminal.screen.wait_for(&format!("code-{code}-{code}."));
    }
    terminal.press("exit 4\n");
    assert_eq!(terminal.end().code(), Some(4));
}

#[test]
fn a_shell_under_memini_has_job_control() {
    let shell = words(&["bash", "--norc", "--noprofile", "--noediting", "-i"]);
    for mut terminal in containers(&under_memini(&[], shell)) {
        terminal.screen.wait_for("PROMPT>");
        terminal.press("sleep 1000 &\n");
        terminal.press("jobs\n");
        terminal.screen.wait_for("Running");
        terminal.press("fg\n");
        // The shell shows what it brings to the front; from then on the key is for that.
        terminal.screen.find("the command in the front", |text| {
            text.rsplit_once("fg").filter(|(_, after)| after.contains("sleep 1000")).map(|_| ())
        });
        let shell = terminal.pid();
        let sleeper = wait_for("a process named sleep", || {
            process::descendants(shell).into_iter().find(|pid| process::name(*pid).is_some_and(|name| name == "sleep"))
        });
        wait_until("sleep has the foreground", || in_foreground(sleeper));
        terminal.press(SUSPEND);
        terminal.screen.wait_for("Stopped");
        terminal.press("echo shell-$((20+3))\n");
        terminal.screen.wait_for("shell-23");
        assert!(!terminal.screen.text().contains("no job control"), "{}", terminal.screen.text());
        assert!(!terminal.screen.text().contains("cannot set terminal"), "{}", terminal.screen.text());
        // `exit` would first ask what is to become of the stopped job.
        terminal.press("kill -KILL $$\n");
        assert_eq!(terminal.end().code(), Some(137));
    }
}

/// Whether the process's group is the one in its terminal's foreground (fields pgrp and tpgid of /proc/PID/stat).
fn in_foreground(pid: u32) -> bool {
    process::file(pid, "stat").is_some_and(|stat| {
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
        fields[2] == fields[5]
    })
}

#[test]
fn a_hangup_of_the_terminal_is_forwarded() {
    let app = "
block()
say('ready')
number, _ = take(set_of(signal.SIGHUP))
os._exit(100 + number)
";
    for options in MODES {
        for mut terminal in containers(&under_memini(options, python(app))) {
            terminal.screen.wait_for("ready");
            terminal.hang_up();
            assert_eq!(terminal.end().code(), Some(101));
        }
    }
}

#[test]
fn a_terminal_that_is_not_the_controlling_one_is_left_alone() {
    // Standard input is a terminal, but of no session: tcsetpgrp(3) says ENOTTY, and the app runs all the same.
    let app = "
say('got', sys.stdin.readline().strip(), '.')
os._exit(8)
";
    let inner = under_memini(&[], python(app));
    let mut terminal = Terminal::start(&[words(&["setsid", "--wait"]), inner].concat());
    terminal.press("keys\n");
    terminal.screen.wait_for("got keys .");
    assert_eq!(terminal.end().code(), Some(8));
}

/// Writes the line to a file and returns what to type to run it: terminals take no long lines.
fn script(folder: &std::path::Path, name: &str, line: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\nexec {line}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}\n", path.display())
}
