//! Kernel files of many keys: what is read is the same with more keys, is refused when it was cut off, and survives
//! being written and read again.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use memini_fuzz::cgroup::parse::{self, Fault};
use memini_fuzz::cgroup::reading::Stat;
use memini_fuzz::is_one_line;

/// What holds for every table.
fn judge<T: Debug + PartialEq>(data: &[u8], more: &[u8], parse: impl Fn(&[u8]) -> Result<T, Fault>) -> Option<T> {
    match parse(data) {
        Ok(found) => {
            let longer = [data, more].concat();
            assert_eq!(parse(&longer).as_ref(), Ok(&found), "a key that nobody asks for changed it");
            if let [short @ .., _] = data
                && !short.ends_with(b"\n")
            {
                assert!(parse(short).is_err(), "it was cut off");
            }
            Some(found)
        }
        Err(fault) => {
            assert!(is_one_line(&fault.flaw.to_string()), "{fault:?}");
            assert!(fault.line >= 1 && fault.line <= data.split(|byte| *byte == b'\n').count(), "{fault:?}");
            None
        }
    }
}

fn v2_text(stat: &Stat) -> String {
    format!(
        "anon {}\nfile {}\nshmem {}\ninactive_file {}\nactive_file {}\nunevictable {}\nfile_dirty {}\nfile_writeback {}\n\
         slab_reclaimable {}\nslab_unreclaimable {}\nkernel_stack {}\npagetables {}\nsock {}\nworkingset_refault_file {}\n",
        stat.anon,
        stat.file,
        stat.shmem,
        stat.inactive_file,
        stat.active_file,
        stat.unevictable,
        stat.file_dirty,
        stat.file_writeback,
        stat.slab_reclaimable,
        stat.slab_unreclaimable,
        stat.kernel_stack,
        stat.pagetables,
        stat.sock,
        stat.workingset_refault_file
    )
}

fn v1_text(stat: &Stat) -> String {
    format!(
        "total_rss {}\ntotal_cache {}\ntotal_shmem {}\ntotal_inactive_file {}\ntotal_active_file {}\ntotal_unevictable {}\ntotal_dirty {}\n\
         total_writeback {}\ntotal_workingset_refault_file {}\n",
        stat.anon,
        stat.file,
        stat.shmem,
        stat.inactive_file,
        stat.active_file,
        stat.unevictable,
        stat.file_dirty,
        stat.file_writeback,
        stat.workingset_refault_file
    )
}

fuzz_target!(|data: &[u8]| {
    if let Some(stat) = judge(data, b"a_key_of_the_future 1\n", parse::v2_stat) {
        assert_eq!(parse::v2_stat(v2_text(&stat).as_bytes()), Ok(stat));
    }
    if let Some(v1) = judge(data, b"a_key_of_the_future 1\n", parse::v1_stat) {
        let mut text = v1_text(&v1.stat);
        for (key, limit) in [("memory", v1.hierarchical_limit), ("memsw", v1.hierarchical_memsw_limit)] {
            text.extend(limit.map(|limit| format!("hierarchical_{key}_limit {limit}\n")));
        }
        assert_eq!(parse::v1_stat(text.as_bytes()), Ok(v1));
    }
    if let Some(events) = judge(data, b"a_key_of_the_future 1\n", parse::v2_events) {
        let text =
            format!("high {}\nmax {}\noom {}\noom_kill {}\n", events.high, events.max, events.oom, events.oom_kill);
        assert_eq!(parse::v2_events(text.as_bytes()), Ok(events));
    }
    if let Some(events) = judge(data, b"a_key_of_the_future 1\n", parse::v1_oom_control) {
        let text = format!("oom_kill_disable 0\nunder_oom 0\noom_kill {}\n", events.oom_kill);
        assert_eq!(parse::v1_oom_control(text.as_bytes()), Ok(events));
    }
    if let Some(info) = judge(data, b"KeyOfTheFuture:       1 kB\n", parse::meminfo) {
        let kilobytes = |key: &str, bytes: u64| {
            assert_eq!(bytes % 1024, 0, "{key}");
            format!("{key}:{:>15} kB\n", bytes / 1024)
        };
        let mut text = kilobytes("MemTotal", info.total);
        text.extend(info.available.map(|bytes| kilobytes("MemAvailable", bytes)));
        text.push_str(&kilobytes("SwapTotal", info.swap_total));
        text.push_str(&kilobytes("SwapFree", info.swap_free));
        // What is beyond 64 bits is the most that there is: two lines of half of it, and some.
        let held = info.held.map(|bytes| if bytes == u64::MAX { 2 } else { 1 });
        let line = info.held.map(|bytes| kilobytes("AnonPages", bytes / 1024 * 1024));
        text.extend((0..held.unwrap_or(0)).filter_map(|_| line.clone()));
        assert_eq!(parse::meminfo(text.as_bytes()), Ok(info));
    }
    let _ = judge(data, b"\n", parse::pressure_full_avg10);
});
