//! A heap dump as a JVM writes it into a pipe: whatever comes, in whatever pieces, is counted the same, keeps its length, and
//! what is redacted becomes zero and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memini_fuzz::capture::census::Group;
use memini_fuzz::capture::jvm::hprof::{Scan, Tables};
use memini_fuzz::is_one_line;

struct Read {
    bytes: Vec<u8>,
    groups: Vec<Group>,
    /// How far it went, where it had to end, and whether that is between two records.
    end: (u64, Option<u64>, bool),
}

fn read(data: &[u8], piece: usize, redact: bool, is_file: bool) -> Read {
    let mut tables = Tables::new(redact);
    let mut scan = if is_file { Scan::file() } else { Scan::records() };
    let mut bytes = data.to_vec();
    let mut flaw = None;
    for part in bytes.chunks_mut(piece) {
        match scan.feed(&mut tables, part) {
            Ok(border) => assert!(border <= part.len()),
            Err(found) => {
                assert!(is_one_line(found.what) && found.at <= data.len() as u64, "{found:?}");
                flaw = Some(found.at);
                break;
            }
        }
    }
    Read { bytes, groups: tables.groups(), end: (scan.seen(), flaw, scan.is_between_records()) }
}

fuzz_target!(|data: &[u8]| {
    for is_file in [true, false] {
        let whole = read(data, data.len().max(1), true, is_file);
        for piece in [1, 7, 64] {
            let pieces = read(data, piece, true, is_file);
            assert_eq!((&pieces.groups, pieces.end), (&whole.groups, whole.end), "in pieces of {piece}");
            assert!(pieces.bytes == whole.bytes, "in pieces of {piece}");
        }
        assert!(whole.bytes.iter().zip(data).all(|(after, before)| after == before || *after == 0));
        assert!(whole.groups.iter().all(|group| is_one_line(&group.name)), "{:?}", whole.groups);
        let kept = read(data, data.len().max(1), false, is_file);
        assert!(kept.bytes == data && kept.groups == whole.groups);
    }
});
