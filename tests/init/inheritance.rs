//! The app gets what memini was given: mask, dispositions, environment, working folder.

use crate::support::app::{python, shell};
use crate::support::memini::{Memini, Place};
use crate::support::{process, wait_until};

/// Becomes the rest of its words, with these signals ignored and those blocked (comma-separated numbers), and the rest
/// as a shell would leave it.
const LAUNCHER: &str = "
ignored, blocked = [[int(number) for number in word.split(',') if number] for word in sys.argv[1:3]]
for number in set(range(1, 65)) - UNBLOCKABLE - {32, 33}:
    signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
block(set_of(*blocked))
os.execvp(sys.argv[3], sys.argv[3:])
";

/// Everything about signals that survives exec, as the app has it.
const LOOK: &[&str] = &["grep", "-E", "^(Sig|Shd)(Pnd|Blk|Ign)|^SigCgt", "/proc/self/status"];

fn launcher(ignored: &str, blocked: &str) -> Vec<String> {
    let mut words = python(LAUNCHER);
    words.extend([ignored.to_owned(), blocked.to_owned()]);
    words
}

#[test]
fn the_app_starts_with_the_mask_and_dispositions_that_memini_was_given() {
    let every: Vec<_> = (1..=64).filter(|number| ![9, 19, 32, 33].contains(number)).map(|n| n.to_string()).collect();
    let every = every.join(",");
    let cases = [
        ("", "", "nothing"),
        ("1", "", "nohup"),
        ("13", "", "SIGPIPE ignored"),
        ("17", "", "SIGCHLD ignored"),
        ("", "13", "SIGPIPE blocked"),
        ("", "15,17,40", "some blocked"),
        ("2,3,64", "2,34", "some of each"),
        (&every, "", "all ignored"),
        ("", &every, "all blocked"),
        (&every, &every, "all of both"),
    ];
    for place in Place::ALL {
        for (ignored, blocked, what) in cases {
            let bare = Memini::at(place).launched_by(launcher(ignored, blocked)).run_bare(LOOK.to_vec()).expect(0);
            assert_eq!(bare.output.lines().count(), 5, "{bare:?}");
            for options in [&[][..], &["-g"]] {
                let memini = Memini::at(place).options(options).launched_by(launcher(ignored, blocked));
                assert_eq!(memini.run(LOOK.to_vec()).expect(0).output, bare.output, "{what}, {place:?}, {options:?}");
            }
        }
    }
}

#[test]
fn the_exit_code_is_known_even_if_memini_was_started_with_sigchld_ignored() {
    for place in Place::ALL {
        Memini::at(place).launched_by(launcher("17", "")).run(shell("exit 7")).expect(7);
        Memini::at(place).launched_by(launcher("17", "17")).run(shell("kill -KILL $$")).expect(137);
    }
}

#[test]
fn a_signal_that_memini_was_told_to_ignore_is_ignored_by_the_app() {
    // nohup memini app: the terminal goes, the app stays.
    for place in Place::ALL {
        let app = shell("echo ready; exec sleep 1000");
        let mut memini = Memini::at(place).launched_by(launcher("1", "")).start(app);
        memini.output.wait_for("ready\n");
        memini.signal(libc::SIGHUP);
        memini.signal(libc::SIGTERM);
        memini.finish().expect(143);
    }
}

#[test]
fn the_environment_is_passed_on_unchanged() {
    let environment =
        "exec env -i PATH=\"$PATH\" EMPTY= SPACE='a b' LINES='a\nb' LISTEN_PID=12345 MEMINI_QUIET=1 \"$@\"";
    for place in Place::ALL {
        let bare = Memini::at(place).launched_by_shell(environment).run_bare(["env"]).expect(0);
        let under = Memini::at(place).launched_by_shell(environment).run(["env"]).expect(0);
        assert_eq!(under.output, bare.output);
        assert!(under.output.contains("SPACE=a b\n"), "{under:?}");
    }
}

#[test]
fn listen_pid_names_the_app_where_it_named_memini_and_stays_otherwise() {
    let app = "test \"$LISTEN_PID\" = $$ && test \"$LISTEN_FDS $OTHER\" = '2 x'";
    let launcher = "LISTEN_FDS=2 LISTEN_PID=$$ OTHER=x; export LISTEN_FDS LISTEN_PID OTHER; exec \"$@\"";
    for place in Place::ALL {
        Memini::at(place).launched_by_shell(launcher).run(shell(app)).expect(0);
        let other = Memini::at(place).with(|command| _ = command.env("LISTEN_PID", "4194305"));
        assert_eq!(other.run(shell("echo $LISTEN_PID")).expect(0).output, "4194305\n");
        let none = Memini::at(place).with(|command| _ = command.env_remove("LISTEN_PID"));
        assert_eq!(none.run(shell("echo ${LISTEN_PID-unset}")).expect(0).output, "unset\n");
    }
}

#[test]
fn the_app_stays_in_the_working_folder_and_memini_leaves_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    for place in Place::ALL {
        let memini = Memini::at(place).with(|command| _ = command.current_dir(&folder));
        let mut memini = memini.start(shell("echo in $(readlink /proc/self/cwd); exec sleep 1000"));
        assert_eq!(memini.output.value("in"), folder.to_str().unwrap());
        let pid = memini.pid();
        wait_until("memini leaves the folder", || {
            process::link(pid, "cwd").is_some_and(|path| path.as_os_str() == "/")
        });
        memini.signal(libc::SIGTERM);
        memini.finish().expect(143);
    }
}

#[test]
fn the_app_leads_a_process_group_of_its_own() {
    for place in Place::ALL {
        let script = "assert os.getpgrp() == os.getpid(); assert os.getsid(0) != os.getpid()";
        Memini::at(place).run(python(script)).expect(0);
    }
}
