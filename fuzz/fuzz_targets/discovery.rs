//! `/proc/self/cgroup` and `/proc/self/mountinfo`, one after the other with a NUL byte between them: whatever stands in
//! them, no folder outside of a mount of theirs is ever read.
#![no_main]

use std::path::{Component, Path};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use memini_fuzz::cgroup::discovery::discover;
use memini_fuzz::cgroup::parse;
use tempfile::TempDir;

/// A machine with a group of each kind, and this process in it.
fn machine() -> &'static Path {
    static ROOT: OnceLock<TempDir> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let root = TempDir::new_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
        let make = |folder: &str, file: &str| {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
            std::fs::write(root.path().join(folder).join(file), "7\n").unwrap();
        };
        make("proc/7", "cgroup");
        std::os::unix::fs::symlink("7", root.path().join("proc/self")).unwrap();
        for group in ["", "/a", "/a/b", "/with blank"] {
            make(&format!("cg2{group}"), "memory.current");
            make(&format!("cg2{group}"), "cgroup.procs");
            make(&format!("cg1{group}"), "memory.usage_in_bytes");
            make(&format!("cg1{group}"), "cgroup.procs");
        }
        root
    });
    root.path()
}

/// As the kernel escapes a path for mountinfo.
fn escape(path: &[u8]) -> Vec<u8> {
    let escaped = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
        byte => vec![*byte],
    };
    path.iter().flat_map(escaped).collect()
}

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (cgroup, rest) = data.split_at(end);
    let mountinfo = rest.get(1..).unwrap_or_default();
    for membership in parse::memberships(cgroup).flatten() {
        assert!(membership.path.starts_with(b"/") && !membership.path.contains(&b'\n'));
        assert!(!(membership.is_v2() && membership.has(b"memory")));
    }
    for mount in parse::mounts(mountinfo).flatten() {
        assert!(![mount.root, mount.point, mount.fs_type].iter().any(|word| word.contains(&b' ')));
    }
    let restored: Vec<u8> = parse::unescape(&escape(data)).collect();
    assert_eq!(restored, data, "an escaped path is another one");
    assert!(parse::unescape(data).count() <= data.len());

    let root = machine();
    std::fs::write(root.join("proc/7/cgroup"), cgroup).unwrap();
    std::fs::write(root.join("proc/7/mountinfo"), mountinfo).unwrap();
    let found = discover(root);
    assert!(found.own.is_some() || found.why_not.is_some(), "{found:?}");
    for folder in found.own.iter().chain(&found.ancestors) {
        let point = found.mount_point.as_ref().unwrap();
        assert!(folder.starts_with(point) && point.starts_with(root), "{found:?}");
        let below = folder.strip_prefix(point).unwrap();
        assert!(below.components().all(|part| matches!(part, Component::Normal(_))), "{found:?}");
    }
});
