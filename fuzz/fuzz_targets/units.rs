//! Sizes, durations, signals, exit codes and the other values of options: what is accepted is printed as something that
//! means the same.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use memini_fuzz::number;
use memini_fuzz::option_units as parse;
use memini_fuzz::sys::signal::Signal;
use memini_fuzz::units::{ExactSize, Rate, Size, Span};

const LONGEST: Duration = Duration::from_secs(3660 * 24 * 3600);

fuzz_target!(|data: &[u8]| {
    if let Ok(path) = parse::path(OsStr::from_bytes(data)) {
        assert!(path.is_absolute());
        assert_eq!(parse::path(path.as_os_str()), Ok(path));
    }
    let (bytes, _) = number(data);
    let _ = (Size(bytes).to_string(), Rate(f64::from_bits(bytes)).to_string(), Rate(bytes as f64).to_string());
    let _ = Span(Duration::from_nanos(bytes)).to_string();
    let exact = bytes & i64::MAX as u64;
    assert_eq!(parse::size(&ExactSize(exact).to_string()).ok(), Some(exact).filter(|bytes| *bytes > 0));

    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(bytes) = parse::size(text) {
        assert!(bytes > 0 && bytes <= i64::MAX as u64);
        assert_eq!(parse::size(&ExactSize(bytes).to_string()), Ok(bytes));
    }
    if let Ok(duration) = parse::duration(text) {
        assert!(duration <= LONGEST, "{duration:?}");
        assert_eq!(parse::duration(&humantime::format_duration(duration).to_string()), Ok(duration));
        assert_eq!(parse::positive_duration(text).is_ok(), duration > Duration::ZERO);
        let _ = Span(duration).to_string();
    }
    if let Ok(signal) = parse::signal(text) {
        assert!((1..=64).contains(&signal.number()), "{signal}");
        // Two have no name: the C libraries keep them for themselves.
        if ![32, 33].contains(&signal.number()) {
            assert_eq!(parse::signal(&signal.to_string()), Ok(signal));
        }
        assert_eq!(parse::signal(&signal.number().to_string()), Ok(signal));
    }
    if let Ok((from, to)) = parse::rewrite(text) {
        let number = |signal: Option<Signal>| signal.map_or(0, Signal::number);
        assert!(![libc::SIGKILL, libc::SIGSTOP].contains(&from.number()));
        assert_eq!(parse::rewrite(&format!("{}:{}", from.number(), number(to))), Ok((from, to)));
    }
    if let Ok(code) = parse::exit_code(text) {
        assert!(![0, 125, 126, 127, 137, 139].contains(&code), "{code}");
        assert_eq!(parse::any_exit_code(text), Ok(code));
    }
    if let Ok(count) = parse::count(text) {
        assert_eq!(parse::count(&count.to_string()), Ok(count));
    }
    let (_, _) = (parse::switch(text), parse::repetitions(text));
    let words = [("urgent", 1), ("level", 2)];
    assert_eq!(parse::choice(text, &words).is_ok(), ["urgent", "level"].contains(&text.trim()));
});
