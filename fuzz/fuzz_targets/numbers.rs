//! Kernel files of one number: exactly what is digits and a newline is accepted, and as the number that it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memini_fuzz::cgroup::parse;
use memini_fuzz::{is_one_line, number};

/// From here on a limit of v1 is none.
const V1_UNLIMITED: u64 = 0x7FFF_FFFF_FFFF_0000;

/// The number as the standard library reads it.
fn expected(text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"\n").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fuzz_target!(|data: &[u8]| {
    let expected = expected(data);
    let found = parse::number(data);
    assert_eq!(found.ok(), expected);
    if let Err(fault) = found {
        assert!(is_one_line(&fault.flaw.to_string()), "{fault:?}");
        assert!(fault.line >= 1 && fault.line <= data.split(|byte| *byte == b'\n').count());
    }
    if data != b"max\n" {
        assert_eq!(parse::number_or_max(data).ok(), expected.map(Some));
    }
    assert_eq!(parse::v1_limit(data).ok(), expected.map(|limit| Some(limit).filter(|limit| *limit < V1_UNLIMITED)));
    if let Ok(Some(percent)) = parse::pressure_full_avg10(data) {
        assert!((0.0..=101.0).contains(&percent), "{percent}");
    }

    let (value, _) = number(data);
    assert_eq!(parse::number(format!("{value}\n").as_bytes()), Ok(value));
    let percent = (value % 10_001) as f32 / 100.0;
    let pressure =
        format!("some avg10=1.00 avg60=0.00 avg300=0.00 total=5\nfull avg10={percent:.2} avg60=0.00 total=1\n");
    let read = parse::pressure_full_avg10(pressure.as_bytes()).unwrap().unwrap();
    assert!((read - percent).abs() < 0.006, "{read} of {pressure}");
});
