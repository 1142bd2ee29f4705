//! The log never holds memini up and never ends it.

use std::io::{PipeReader, Read, Write};

use crate::support::app::{python, shell};
use crate::support::memini::{Memini, Place};
use crate::support::transcript::Transcript;

/// An app that sends signals through memini, of which -vv makes a line each, until its input ends.
const TALKER: &str = "
block()
say('ready')
for line in sys.stdin:
    for _ in range(int(line)):
        os.kill(os.getppid(), signal.SIGUSR1)
        assert take()[0] == signal.SIGUSR1
    say('done', line.strip(), '.')
os._exit(21)
";

/// A pipe that takes no more, and how many bytes are in it.
fn full_pipe() -> (PipeReader, std::io::PipeWriter, usize) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let size = 4096;
    let flag = nix::fcntl::FcntlArg::F_SETPIPE_SZ(size);
    let size = usize::try_from(nix::fcntl::fcntl(&writer, flag).unwrap()).unwrap();
    writer.write_all(&vec![b'x'; size]).unwrap();
    (reader, writer, size)
}

#[test]
fn a_closed_standard_error_ends_nothing() {
    for place in Place::ALL {
        for closed in ["2>&-", "2>/dev/full"] {
            let memini = Memini::at(place).options(["-vv"]).launched_by_shell(&format!("exec \"$@\" {closed}"));
            memini.run(shell("exit 12")).expect(12);
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let memini = Memini::at(place).options(["-vv"]).with(|command| _ = command.stderr(writer));
        memini.run(shell("exit 13")).expect(13);
    }
}

#[test]
fn a_standard_error_that_is_full_for_the_whole_life_holds_nothing_up() {
    for place in Place::ALL {
        let (mut reader, writer, size) = full_pipe();
        let memini = Memini::at(place).options(["-vv"]).with(|command| {
            command.stderr(writer).stdin(std::process::Stdio::piped());
        });
        let mut running = memini.start(python(TALKER));
        running.output.wait_for("ready\n");
        running.write_input("50\n");
        running.output.wait_for("done 50 .");
        running.close_input();
        running.finish().expect(21);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), size, "{}", String::from_utf8_lossy(&rest));
    }
}

#[test]
fn a_terminal_that_nobody_reads_holds_nothing_up() {
    // A terminal says that it can be written to as long as one byte fits, and has a line wait for the rest.
    for place in Place::ALL {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let memini = Memini::at(place).options(["-vv"]).with(|command| {
            command.stderr(terminal.slave).stdin(std::process::Stdio::piped());
        });
        let mut running = memini.start(python(TALKER));
        running.output.wait_for("ready\n");
        running.write_input("1000\n");
        running.output.wait_for("done 1000 .");
        running.close_input();
        running.finish().expect(21);
        drop(terminal.master);
    }
}

#[test]
fn lines_that_were_dropped_are_counted_in_the_next_one_that_goes_through() {
    for format in ["text", "json"] {
        let (mut reader, writer, size) = full_pipe();
        let memini = Memini::at(Place::Init).options(["-vv", "--log-format", format]).with(|command| {
            command.stderr(writer).stdin(std::process::Stdio::piped());
        });
        let mut running = memini.start(python(TALKER));
        running.output.wait_for("ready\n");
        running.write_input("10\n");
        running.output.wait_for("done 10 .");
        reader.read_exact(&mut vec![0; size]).unwrap();
        running.write_input("1\n");
        let log = Transcript::of(reader);
        let line = log.find("a count of dropped lines", |text| {
            text.lines().find(|line| line.contains("log lines were dropped")).map(str::to_owned)
        });
        let number = number_before(&line, " log lines were dropped");
        assert!(number >= 10, "{line}");
        running.close_input();
        running.finish().expect(21);
    }
}

/// The number that stands before these words.
fn number_before(line: &str, words: &str) -> u32 {
    let before = line.split(words).next().unwrap();
    let digits = before.rsplit(|letter: char| !letter.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap_or_else(|_| panic!("no number: {line}"))
}

#[test]
fn json_lines_are_json_whatever_the_app_is_called() {
    for name in ["sh", "/no/such/\"quoted\"\\name", "/no/such/line\nfeed\u{1}\u{1b}[31m", "/no/such/é✓"] {
        let memini = Memini::at(Place::Init).options(["-vv", "--log-format", "json"]);
        let finished = memini.run([name, "-c", "kill -USR1 $PPID; exit 3"]);
        assert!(finished.log.lines().count() >= 2, "{finished:?}");
        for line in finished.log.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let levels = ["error", "warn", "info", "debug", "trace"];
            assert!(levels.contains(&value["level"].as_str().unwrap()), "{line}");
            let time = value["time"].as_str().unwrap();
            assert!(humantime::parse_rfc3339(time).is_ok(), "{line}");
            assert!(!value["message"].as_str().unwrap().is_empty(), "{line}");
        }
    }
}

#[test]
fn text_lines_are_single_lines_that_begin_with_the_name() {
    let finished = Memini::at(Place::Init).options(["-vv"]).run(["/no/such/line\nfeed\u{1b}[31m"]).expect(127);
    for line in finished.log.lines() {
        assert!(line.starts_with("memini: "), "{line:?}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}

#[test]
fn quiet_says_nothing_while_all_is_well() {
    for place in Place::ALL {
        for options in [&["-qq"][..], &["-q", "--no-watch"]] {
            assert_eq!(Memini::at(place).options(options).run(shell("exit 1")).expect(1).log, "");
        }
        let named = Memini::at(place).with(|command| _ = command.env("MEMINI_QUIET", "2"));
        assert_eq!(named.run(shell("exit 1")).expect(1).log, "");
    }
}

#[test]
fn one_line_says_at_the_start_what_holds() {
    let finished = Memini::at(Place::Init).options(["--limit", "1PiB"]).run(shell("exit 0")).expect(0);
    let line = finished.log.lines().find(|line| line.contains("runs sh as process 2")).unwrap();
    for part in ["process 1,", ", limit ", "trace 60%", "capture 80%", "stop 92%", "kill 97%"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}
