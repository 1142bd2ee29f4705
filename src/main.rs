//! memini: a container init that captures heap evidence and lets the app leave before the OOM killer fires.
#![cfg_attr(not(test), no_main)]

mod capture;
mod cgroup;
mod cli;
mod command;
mod config;
mod engine;
mod incident;
mod injected;
mod process;
mod recorder;
mod supervisor;
mod sys;
mod text;
mod units;

use std::ffi::OsString;
use std::io::Write;

use cli::Invocation;

/// memini's `main`: reads the command line, and does what it says. Called with every signal blocked.
///
/// The commands are never inlined here: each would take its room on the stack, page by page, at every start.
#[cfg_attr(test, allow(dead_code))]
fn start(arguments: Vec<OsString>) -> u8 {
    sys::descriptors::fill_standard();
    match cli::parse(arguments, &|name| std::env::var_os(name)) {
        Ok(Invocation::Run(config)) => command::run::run(*config),
        Ok(Invocation::Worker(words)) => {
            sys::mask::restore();
            sys::process::set_name(c"memini-worker");
            command::worker::run(&words)
        }
        Ok(Invocation::Check { json, soft_limit, dir, gauge }) => {
            sys::mask::restore();
            log_simply();
            let question = command::check::Question { json, soft_limit, gauge, dir };
            let (answer, code) = command::check::check(std::path::Path::new("/"), &question);
            print(&answer, code)
        }
        Ok(Invocation::Capture { json, pids, since, dumping }) => {
            sys::mask::restore();
            log_simply();
            match command::capture::capture(&command::capture::Question { json, pids, since, dumping }) {
                Ok((answer, None)) => print(&answer, 0),
                Ok((answer, Some(why))) => {
                    print(&answer, 0);
                    let _ = writeln!(std::io::stderr(), "memini: {}", text::plain(&why));
                    command::run::FAILURE
                }
                Err(why) => {
                    let _ = writeln!(std::io::stderr(), "memini: {}", text::plain(&why));
                    command::run::FAILURE
                }
            }
        }
        Ok(Invocation::Status { json, watch, reach, which, dir }) => {
            use command::status::{Place, Question, status, watch as watch_status};
            let place = which.map_or(Place::Here(dir), Place::Named);
            let question = Question { json, watch, reach, place };
            // Signals stay blocked where they are waited for.
            let Some(every) = watch else {
                sys::mask::restore();
                return told(status(&question), NOTHING);
            };
            match watch_status(&question, every) {
                Ok(code) => code,
                Err(why) => told(Err(why), NOTHING),
            }
        }
        Ok(Invocation::Incidents { json, dir }) => {
            sys::mask::restore();
            told(command::incidents::incidents(&command::incidents::Question { json, dir }), NOTHING)
        }
        Ok(Invocation::Report { form, which, dir }) => {
            sys::mask::restore();
            log_simply();
            use command::report::{Question, Refusal, report};
            match report(&Question { form, which, dir }) {
                Ok(text) => print(&text, 0),
                Err(Refusal::Nothing(why)) => told(Err(why), NOTHING),
                Err(Refusal::Broken(why)) => told(Err(why), command::run::FAILURE),
            }
        }
        Ok(Invocation::Print(text)) => print(&text, 0),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "memini: {}", failure.message);
            failure.code
        }
    }
}

/// Warnings of the rooms that a one-shot command asks go to standard error. It fails only when a logger is set already.
fn log_simply() {
    let logger = simple_logger::SimpleLogger::new().with_level(log::LevelFilter::Warn);
    let _ = logger.init();
}

/// The exit code where there is nothing to be shown.
const NOTHING: u8 = 1;

/// The answer, or why there is none: in one line, whatever is in it.
fn told(answer: Result<String, String>, failure: u8) -> u8 {
    match answer {
        Ok(answer) => print(&answer, 0),
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "memini: {}", text::plain(&why));
            failure
        }
    }
}

/// Writes this to standard output, for a command that ends with it.
fn print(text: &str, code: u8) -> u8 {
    sys::mask::restore();
    let mut output = std::io::stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    if written.is_ok() { code } else { command::run::FAILURE }
}
