//! What a JVM says about its heap: the class histogram and the answers of its other commands. Names of classes are the app's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memini_fuzz::capture::jvm::attach::quoted;
use memini_fuzz::capture::jvm::histogram::{Heap, Histogram, Version, native, type_name};
use memini_fuzz::{Drops, is_one_line, number};

fuzz_target!(|data: &[u8]| {
    let (seed, text) = number(data);
    let most = (seed % 8) as usize;
    let (whole, error) = Histogram::read(text, most);
    assert!(error.is_none() && whole.groups.len() <= most);
    for length in [1, 7, 4096] {
        assert_eq!(Histogram::read(Drops(text, length), most).0, whole, "in pieces of {length}");
    }
    assert!(whole.groups.iter().all(|group| is_one_line(&group.name)), "{:?}", whole.groups);
    let told = whole.groups.iter().map(|group| group.bytes).fold(whole.left_out_bytes, u64::saturating_add);
    assert_eq!(told, whole.bytes);
    // Without a bound, every row is told.
    let (all, _) = Histogram::read(text, usize::MAX);
    assert_eq!((all.left_out, all.bytes, all.instances), (0, whole.bytes, whole.instances));

    let name = type_name(text);
    assert!(name.is_empty() || is_one_line(&name), "{name:?}");
    assert!(name.len() < 3000, "{}", name.len());

    let text = String::from_utf8_lossy(text);
    assert!(is_one_line(&quoted(&text)));
    let version = Version::parse(&text);
    assert!(is_one_line(&version.runtime()) && version.runtime().len() < 1000);
    let heap = Heap::parse(&text);
    assert!(heap.ranges.iter().all(|range| range.start < range.end), "{heap:?}");
    let _ = (version.feature(), native(&text));
});
