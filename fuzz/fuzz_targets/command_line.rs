//! The whole command line and environment: words with a NUL byte between them; those of the form `MEMINI_…=…` are variables.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use libfuzzer_sys::fuzz_target;
use memini_fuzz::cli::{self, Invocation};
use memini_fuzz::engine::settings::{Stage, Threshold};

fuzz_target!(|data: &[u8]| {
    let words = data.split(|byte| *byte == 0);
    let (variables, words): (Vec<_>, Vec<_>) =
        words.partition(|word| word.starts_with(b"MEMINI_") && word.contains(&b'='));
    let mut arguments = vec![OsString::from("memini")];
    arguments.extend(words.iter().map(|word| OsString::from_vec(word.to_vec())));
    let environment = |name: &str| {
        let value = variables.iter().find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        value.map(|value| OsStr::from_bytes(value).to_owned())
    };
    match cli::parse(arguments.clone(), &environment) {
        Ok(Invocation::Run(config)) => {
            // The app's words are the last ones, unchanged.
            assert!(!config.command[0].is_empty());
            assert!(arguments.ends_with(&config.command), "{:?} of {arguments:?}", config.command);
            assert!(config.dir.is_absolute() && config.termination_log.is_absolute());
            assert!(config.hooks.iter().all(|hook| !hook.words.is_empty()));
            // What the start-up line says can be written on a command line.
            let mut again = vec![OsString::from("memini")];
            for stage in Stage::LADDER {
                again.extend([format!("--{stage}-at").into(), config.thresholds.of(stage).to_string().into()]);
                assert!(config.thresholds.of(stage) != Threshold::Percent(0.0));
            }
            again.push("app".into());
            match cli::parse(again, &|_| None) {
                Ok(Invocation::Run(second)) => assert_eq!(second.thresholds, config.thresholds),
                other => panic!("{other:?}"),
            }
        }
        Ok(Invocation::Check { dir, .. }) => assert!(dir.is_absolute()),
        Ok(Invocation::Report { dir, .. }) => assert!(dir.is_absolute()),
        Ok(Invocation::Incidents { dir, .. }) => assert!(dir.is_absolute()),
        Ok(Invocation::Status { watch, .. }) => assert!(watch.is_none_or(|often| !often.is_zero())),
        Ok(Invocation::Capture { pids, .. }) => assert!(pids.iter().all(|pid| *pid > 0)),
        Ok(Invocation::Worker(words)) => assert_eq!(words, arguments[2..]),
        Ok(Invocation::Print(text)) => assert!(!text.is_empty()),
        Err(failure) => {
            assert_eq!(failure.code, 125);
            // One line; what the user has written stands in it as it is.
            let breaks = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
            assert!(!failure.message.is_empty() && breaks(failure.message.as_bytes()) <= breaks(data), "{failure:?}");
        }
    }
});
