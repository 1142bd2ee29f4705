//! Values as users write them: thresholds, sizes, durations, signals, numbers, words.
//!
//! Each function says in its error what was wrong and what to write instead; who gave the value is added by the caller.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;

use crate::config::Recipes;
use crate::engine::settings::Threshold;
use crate::recorder::format::{LARGEST, SMALLEST};
use crate::sys::signal::Signal;

/// The longest duration, ten years of 365.25 days: far beyond any use, and no sum of a few overflows a clock.
const LONGEST: Duration = Duration::from_secs(315_576_000);
/// As many as ten years have in nanoseconds.
const MOST_DIGITS: usize = 18;
/// More than anybody writes, and too little for numbers of so many digits to add up to 64 bits of seconds.
const LONGEST_TEXT: usize = 128;

const THRESHOLD_HINT: &str = "use 80%, 400MiB, -64MiB or off";
const SIZE_HINT: &str = "use 256MiB, 1.5GiB, 256m or a number of bytes";
const DURATION_HINT: &str = "use 30s, 5min or 500ms";
const SIGNAL_HINT: &str = "use TERM, SIGTERM, 15 or RTMIN+3";

/// `80%`, `400MiB`, `-64MiB` or `off`. A number without a unit is refused: it may be meant as percent, and 80 bytes
/// would stop every app.
pub fn threshold(text: &str) -> Result<Threshold, String> {
    let text = text.trim();
    let wrong = |why: &str| Err(format!("{why}; {THRESHOLD_HINT}"));
    if text.eq_ignore_ascii_case("off") {
        return Ok(Threshold::Off);
    }
    if let Some(number) = text.strip_suffix('%') {
        return match decimal(number.trim_end()) {
            Some(percent) if percent > 100.0 => wrong("above 100%"),
            Some(percent) if percent > 0.0 => Ok(Threshold::Percent(percent)),
            Some(_) => wrong("not above 0%"),
            None => wrong("not a threshold"),
        };
    }
    let (size, below) = text.strip_prefix('-').map_or((text, false), |size| (size, true));
    if decimal(size).is_some() {
        return wrong("a threshold needs a unit");
    }
    match bytes(size) {
        Ok(0) => wrong("no bytes at all"),
        Ok(below_limit) if below => Ok(Threshold::Below(below_limit)),
        Ok(level) => Ok(Threshold::Bytes(level)),
        Err(NoSize::Syntax) => wrong("not a threshold"),
        Err(NoSize::TooLarge) => wrong("too large"),
    }
}

/// A size above 0, in bytes: `256MiB`, `1.5GiB`, `400MB` (powers of 1000), `123456`, and, as Docker has it, a single
/// letter for powers of 1024: `256m`, `1g`.
pub fn size(text: &str) -> Result<u64, String> {
    match bytes(text.trim()) {
        Ok(0) => Err(format!("no bytes at all; {SIZE_HINT}")),
        Ok(bytes) => Ok(bytes),
        Err(NoSize::Syntax) => Err(format!("not a size; {SIZE_HINT}")),
        Err(NoSize::TooLarge) => Err(format!("too large; {SIZE_HINT}")),
    }
}

/// A number of bytes with a unit, or 0.
pub fn size_or_none(text: &str) -> Result<u64, String> {
    if text.trim() == "0" { Ok(0) } else { size(text) }
}

/// The recorder's size, or `off`.
pub fn recorder(text: &str) -> Result<Option<u64>, String> {
    if text.trim().eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    match size(text) {
        Ok(bytes) if (SMALLEST..=LARGEST).contains(&bytes) => Ok(Some(bytes)),
        Ok(_) => Err("use 64KiB to 1MiB, or off".to_owned()),
        Err(why) => Err(why),
    }
}

enum NoSize {
    Syntax,
    TooLarge,
}

fn bytes(text: &str) -> Result<u64, NoSize> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start();
    if decimal(number).is_none() || (unit.is_empty() && number.contains('.')) {
        return Err(NoSize::Syntax);
    }
    let unit = match unit {
        "" => "B".to_owned(),
        // bytesize reads these as powers of 1000; nobody who writes `docker run --memory 256m` means that.
        letter if letter.len() == 1 && !letter.eq_ignore_ascii_case("b") => format!("{letter}iB"),
        other => other.to_owned(),
    };
    let ByteSize(bytes) = format!("{number}{unit}").parse().map_err(|_| NoSize::Syntax)?;
    // bytesize saturates. The kernel's own counters end at i64::MAX.
    if bytes > i64::MAX as u64 { Err(NoSize::TooLarge) } else { Ok(bytes) }
}

/// Digits with at most one point among them: no sign, exponent, `inf` or `nan`, which `f64` would read.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

/// `30s`, `5min`, `1h 30min`, at most ten years.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if decimal(text).is_some() {
        return Err(format!("a duration needs a unit; {DURATION_HINT}"));
    }
    // humantime panics where its sum passes 64 bits of seconds by less than a second: it never gets that far.
    let longest_number = text.split(|letter: char| !letter.is_ascii_digit()).map(str::len).max();
    if longest_number > Some(MOST_DIGITS) {
        return Err("more than ten years".to_owned());
    }
    if text.len() > LONGEST_TEXT {
        return Err(format!("not a duration; {DURATION_HINT}"));
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => Err("more than ten years".to_owned()),
        Err(_) => Err(format!("not a duration; {DURATION_HINT}")),
    }
}

/// A duration above 0.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("no time at all; {DURATION_HINT}")),
        duration => Ok(duration),
    }
}

/// A duration above 0, or `off`.
pub fn age(text: &str) -> Result<Option<Duration>, String> {
    if text.trim().eq_ignore_ascii_case("off") { Ok(None) } else { positive_duration(text).map(Some) }
}

/// How often something is shown again. More often than people can see costs the app's group for nothing.
pub fn interval(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_millis(100);
    match positive_duration(text)? {
        duration if duration < SHORTEST => Err("less than 100ms; use 2s".to_owned()),
        duration => Ok(duration),
    }
}

/// A signal by name or number.
pub fn signal(text: &str) -> Result<Signal, String> {
    Signal::parse(text.trim()).ok_or_else(|| format!("not a signal; {SIGNAL_HINT}"))
}

/// `FROM:TO`; `None` for TO = 0.
pub fn rewrite(text: &str) -> Result<(Signal, Option<Signal>), String> {
    let (from, to) = text.split_once(':').ok_or("not FROM:TO; use TERM:QUIT, or HUP:0 to drop it")?;
    let named = |part: &str| signal(part).map_err(|why| format!("'{part}' is {why}"));
    let from = named(from)?;
    if from == Signal::KILL || from == Signal::STOP {
        return Err(format!("{from} cannot be caught, so it cannot be rewritten"));
    }
    Ok((from, if to.trim() == "0" { None } else { Some(named(to)?) }))
}

/// The exit code when memini stopped the app.
pub fn exit_code(text: &str) -> Result<u8, String> {
    const HINT: &str = "use 1 to 255, but not 125 to 127, 137 or 139";
    let meaning = match text.trim().parse::<u8>() {
        Ok(125) => "memini's own failure",
        Ok(126) => "a command that cannot be executed",
        Ok(127) => "a command that was not found",
        Ok(137) => "a death by SIGKILL",
        Ok(139) => "a death by SIGSEGV",
        Ok(0) => "success",
        Ok(code) => return Ok(code),
        Err(_) => return Err(format!("not an exit code; {HINT}")),
    };
    Err(format!("means {meaning}; {HINT}"))
}

/// An exit code of the app's.
pub fn any_exit_code(text: &str) -> Result<u8, String> {
    text.trim().parse().map_err(|_| "not an exit code; use 0 to 255".to_owned())
}

/// How many frames of a stack.
pub fn frames(text: &str) -> Result<u32, String> {
    let frames = text.trim().parse().ok().filter(|frames| (1..=100).contains(frames));
    frames.ok_or_else(|| "not a number of frames; use 1 to 100".to_owned())
}

/// A number of things.
pub fn count(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("not a number; use 0 to {}", u32::MAX))
}

/// A number of things of which there is at least one.
pub fn positive_count(text: &str) -> Result<u32, String> {
    let wrong = || format!("not a number of at least 1; use 1 to {}", u32::MAX);
    text.trim().parse().ok().filter(|count| *count > 0).ok_or_else(wrong)
}

/// Yes or no.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("neither true nor false; use true, false, 1, 0, yes, no, on or off".to_owned()),
    }
}

/// How often an option counts as given.
pub fn repetitions(text: &str) -> Result<u8, String> {
    match text.trim().parse() {
        Ok(number) => Ok(number),
        Err(_) => switch(text).map(u8::from).map_err(|_| "not a number; use 0, 1 or 2".to_owned()),
    }
}

/// One of a few words.
pub fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let text = text.trim();
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let known = match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    };
    Err(format!("not known; use {known}"))
}

/// What `--capture` says: `auto`, `off`, or names of recipes.
pub fn recipes(text: &str) -> Result<Option<Recipes>, String> {
    match text.trim() {
        "auto" => return Ok(Some(Recipes::ALL)),
        "off" => return Ok(None),
        _ => {}
    }
    let mut recipes = Recipes::NONE;
    for name in text.split(',') {
        let known = Recipes::NAMES.iter().find(|(known, _)| *known == name.trim());
        let Some((_, recipe)) = known else {
            return Err(format!("{:?} is not known; use auto, off, or some of proc, python and jvm", name.trim()));
        };
        recipes = recipes.and(*recipe);
    }
    Ok(Some(recipes))
}

/// A path, made absolute here and now, without `.` and slashes at its end: a link is then seen to be one.
pub fn path(text: &OsStr) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("an empty path".to_owned());
    }
    let absolute = std::path::absolute(Path::new(text)).map_err(|why| format!("no working directory: {why}"))?;
    Ok(absolute.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read() {
        for (text, threshold) in [
            ("80%", Threshold::Percent(80.0)),
            ("62.5%", Threshold::Percent(62.5)),
            (" 100 % ", Threshold::Percent(100.0)),
            ("0.001%", Threshold::Percent(0.001)),
            ("400MiB", Threshold::Bytes(400 << 20)),
            ("1g", Threshold::Bytes(1 << 30)),
            ("7B", Threshold::Bytes(7)),
            ("-64MiB", Threshold::Below(64 << 20)),
            ("-64m", Threshold::Below(64 << 20)),
            ("off", Threshold::Off),
            ("Off", Threshold::Off),
        ] {
            assert_eq!(super::threshold(text), Ok(threshold), "{text}");
        }
    }

    #[test]
    fn what_is_no_threshold_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "not a threshold"),
            ("lots", "not a threshold"),
            ("%", "not a threshold"),
            ("nan%", "not a threshold"),
            ("inf%", "not a threshold"),
            ("1e1%", "not a threshold"),
            ("+5%", "not a threshold"),
            ("-80%", "not a threshold"),
            ("--64MiB", "not a threshold"),
            ("1.2.3%", "not a threshold"),
            ("80%%", "not a threshold"),
            ("0%", "not above 0%"),
            ("0.0%", "not above 0%"),
            ("100.01%", "above 100%"),
            ("999999999999999999999999999999%", "above 100%"),
            ("80", "a threshold needs a unit"),
            ("-64", "a threshold needs a unit"),
            ("0MiB", "no bytes at all"),
            ("-0MiB", "no bytes at all"),
            ("99999999999999TiB", "too large"),
        ] {
            assert_eq!(threshold(text), Err(format!("{why}; {THRESHOLD_HINT}")), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_as_docker_users_write_them() {
        for (text, bytes) in [
            ("123456", 123_456),
            ("400MiB", 400 << 20),
            ("400 MiB", 400 << 20),
            ("400mib", 400 << 20),
            ("400MB", 400_000_000),
            ("1.5GiB", 3 << 29),
            ("256m", 256 << 20),
            ("256M", 256 << 20),
            ("256Mi", 256 << 20),
            ("1g", 1 << 30),
            ("0.5g", 1 << 29),
            ("64k", 64 << 10),
            ("12b", 12),
            ("2t", 2 << 40),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "not a size"),
            ("MiB", "not a size"),
            ("lots", "not a size"),
            ("-1MiB", "not a size"),
            ("+1MiB", "not a size"),
            ("nan", "not a size"),
            ("infMiB", "not a size"),
            ("1e400MiB", "not a size"),
            ("1.5", "not a size"),
            ("1..5MiB", "not a size"),
            ("0x10", "not a size"),
            ("400Mib it", "not a size"),
            ("400MiBs", "not a size"),
            ("1w", "not a size"),
            ("1é", "not a size"),
            ("１MiB", "not a size"),
            ("0", "no bytes at all"),
            ("0.1B", "no bytes at all"),
            ("9223372036854775808", "too large"),
            ("99999999999999999999999", "too large"),
            ("8EiB", "too large"),
            ("16777216TiB", "too large"),
        ] {
            assert_eq!(size(text), Err(format!("{why}; {SIZE_HINT}")), "{text:?}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_an_end() {
        for (text, millis) in
            [("30s", 30_000), ("5min", 300_000), ("5m", 300_000), ("500ms", 500), ("1h 30m", 5_400_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("10years"), Ok(LONGEST));
        assert_eq!(duration("315576000000000000ns"), Ok(LONGEST));
        // The last but one was found by fuzzing: humantime panics at it.
        for text in [
            "3650000days",
            "11years",
            "99999999999999999999s",
            "18446744073709551615h",
            "500ms 18446744073709551615s 500ms",
            "999999999999999999s 999999999999999999s 500ms",
        ] {
            assert_eq!(duration(text), Err("more than ten years".to_owned()), "{text}");
        }
        let endless = "1s ".repeat(100);
        for text in ["", "s", "soon", "-5s", "5parsecs", "nan s", &endless] {
            assert_eq!(duration(text), Err(format!("not a duration; {DURATION_HINT}")), "{text:?}");
        }
        for text in ["0", "30", "1.5"] {
            assert_eq!(duration(text), Err(format!("a duration needs a unit; {DURATION_HINT}")), "{text:?}");
        }
    }

    #[test]
    fn exit_codes_that_mean_something_else_are_refused() {
        for code in 0..=300u32 {
            let taken = [0, 125, 126, 127, 137, 139].contains(&code) || code > 255;
            assert_eq!(exit_code(&code.to_string()).is_err(), taken, "{code}");
            assert_eq!(any_exit_code(&code.to_string()).is_err(), code > 255, "{code}");
        }
    }

    #[test]
    fn thresholds_are_shown_as_they_are_written() {
        for text in ["80%", "62.5%", "400MiB", "-64MiB", "1GiB", "7B", "400000001B", "off"] {
            assert_eq!(threshold(text).unwrap().to_string(), text);
        }
    }
}
