//! memini ends as the app did.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::app::{python, shell, words};
use crate::support::memini::{Memini, Place};

#[test]
fn every_exit_code_is_passed_on() {
    for place in Place::ALL {
        for code in 0..=255 {
            Memini::at(place).run(shell(&format!("exit {code}"))).expect(code);
        }
    }
}

/// Python, and posix_spawn(3) before it, leave some signals ignored.
const DEFAULT: &str = "
for number in (signal.SIGPIPE, signal.SIGXFSZ, 32, 33):
    default(number)
os.execvp(sys.argv[1], sys.argv[1:])
";

#[test]
fn a_death_by_any_signal_is_128_and_its_number() {
    // What does not end a process: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
    let harmless = [17, 18, 19, 20, 21, 22, 23, 28];
    for place in Place::ALL {
        for number in (1..=64).filter(|number| !harmless.contains(number)) {
            let script = format!("ulimit -c 0; kill -{number} $$; exec sleep 1000");
            Memini::at(place).launched_by(python(DEFAULT)).run(shell(&script)).expect(128 + number);
        }
    }
}

#[test]
fn chosen_exit_codes_become_success() {
    let cases: [(&[&str], &str, i32); 6] = [
        (&["-e", "143"], "kill -TERM $$", 0),
        (&["-e", "3", "-e", "4"], "exit 4", 0),
        (&["-e", "3", "-e", "4"], "exit 3", 0),
        (&["-e", "3"], "exit 4", 4),
        (&["--remap-exit=255"], "exit 255", 0),
        (&["-e", "0"], "exit 0", 0),
    ];
    for (options, script, code) in cases {
        for place in Place::ALL {
            Memini::at(place).options(options).run(shell(script)).expect(code);
        }
    }
}

/// A file with this content and mode.
fn file(folder: &Path, name: &str, content: &str, mode: u32) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_command_that_cannot_run_says_so_with_126_or_127_and_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap().to_owned();
    let plain = file(folder.path(), "plain", "echo hello\n", 0o644);
    let interpreter = file(folder.path(), "interpreter", "#!/no/such/interpreter\n", 0o755);
    let cases = [
        ("/no/such/file".to_owned(), 127, "No such file or directory"),
        ("no-such-name".to_owned(), 127, "No such file or directory"),
        (format!("{plain}/below"), 127, ""),
        (interpreter, 127, "No such file or directory"),
        (directory, 126, "Permission denied"),
        (plain, 126, "Permission denied"),
        ("./".to_owned(), 126, "Permission denied"),
    ];
    for place in Place::ALL {
        for (name, code, why) in &cases {
            let finished = Memini::at(place).options(["-q"]).run([name]).expect(*code);
            let line = finished.log.trim_end();
            assert!(!line.contains('\n'), "{line}");
            assert!(line.starts_with("memini: cannot run ") && line.contains(name) && line.contains(why), "{line}");
        }
    }
}

#[test]
fn a_script_without_an_interpreter_is_run_by_the_shell_as_execvp_does() {
    let folder = tempfile::tempdir().unwrap();
    let script = file(folder.path(), "script", "echo \"$# $2 $0\"; exit 7\n", 0o755);
    for place in Place::ALL {
        let finished = Memini::at(place).run([script.as_str(), "one", "two words"]).expect(7);
        assert_eq!(finished.output, format!("2 two words {script}\n"));
        let path = format!("/nowhere:{}", folder.path().display());
        let finished = Memini::at(place).launched_by_shell(&format!("PATH={path}; export PATH; exec \"$@\""));
        assert_eq!(finished.run(["script", "", "b"]).expect(7).output, format!("2 b {script}\n"));
    }
}

#[test]
fn a_name_is_looked_up_in_path_past_what_cannot_be_run() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["first", "second", "third"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::create_dir(folder.path().join("first/app")).unwrap();
    file(&folder.path().join("second"), "app", "#!/bin/sh\nexit 1\n", 0o644);
    file(&folder.path().join("third"), "app", "#!/bin/sh\nexit 33\n", 0o755);
    file(&folder.path().join("second"), "forbidden", "#!/bin/sh\n", 0o644);
    let at = folder.path().display();
    let path = format!("PATH={at}/none:{at}/first:{at}/second:{at}/third; export PATH; exec \"$@\"");
    for place in Place::ALL {
        Memini::at(place).launched_by_shell(&path).run(["app"]).expect(33);
        Memini::at(place).launched_by_shell(&path).run(["forbidden"]).expect(126);
        Memini::at(place).launched_by_shell(&path).run(["missing"]).expect(127);
    }
}

#[test]
fn arguments_reach_the_app_as_they_are() {
    let app = words(&["printf", "%s|", "", "a b", "--", "-g", "--stop-at", "$x", "'", "é\n"]);
    for place in Place::ALL {
        let finished = Memini::at(place).run(app.clone()).expect(0);
        assert_eq!(finished.output, "|a b|--|-g|--stop-at|$x|'|é\n|");
    }
}
