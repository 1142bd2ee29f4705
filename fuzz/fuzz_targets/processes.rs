//! `/proc/PID/stat`, `/proc/PID/status` and the entries of `/proc` itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memini_fuzz::cgroup::parse;
use memini_fuzz::process::{folder, memory};
use memini_fuzz::{Drops, number};

fuzz_target!(|data: &[u8]| {
    if let Ok(stat) = parse::process_stat(data) {
        assert!(stat.pid >= 0 && stat.parent >= 0 && stat.group >= 0, "{stat:?}");
    }
    // Whatever a process calls itself, it is not taken for another one.
    let (seed, text) = number(data);
    let name = &text[..text.len().min(64)];
    let id = |shift: u32| (seed >> shift & 0x3F_FFFF) as i32;
    let (pid, parent, group, threads) = (id(0), id(21), id(42), seed % 70_000);
    let flags = if seed & 1 == 1 { 0x0020_0040 } else { 0x40_0000 };
    let before = format!("{pid} (");
    let after = format!(") S {parent} {group} 1 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 {threads} 0 9 9 9 9\n");
    let line = [before.as_bytes(), name, after.as_bytes()].concat();
    let stat = parse::process_stat(&line).unwrap();
    assert_eq!((stat.pid, stat.parent, stat.group, stat.threads), (pid, parent, group, threads));
    assert_eq!((stat.name, stat.state, stat.kernel), (name, b'S', seed & 1 == 1));

    // It does not matter in what pieces the kernel gives the text.
    let whole = memory::parse(&mut &*text).ok();
    for length in [1, 7, 4096] {
        assert_eq!(memory::parse(&mut Drops(text, length)).ok(), whole, "in pieces of {length}");
    }

    let mut entries = data;
    while let Some(name) = folder::next_name(&mut entries) {
        assert!(!name.contains(&0));
        if let Some(id) = folder::process_id(name) {
            assert_eq!(id.to_string().as_bytes(), name);
        }
    }
});
