//! An app that grows until it has to leave.

use crate::support::{Group, Memini};

#[test]
fn a_slow_leak_leaves_before_the_kernel_would_kill() {
    let group = Group::new("slow-leak", 64);
    let memini = Memini::new(&group);
    let log = memini.place().join("termination-log");
    std::fs::write(&log, "what stood there before").unwrap();
    let ended = memini
        .options(&["--termination-log", log.to_str().unwrap()])
        .hook("capture=sh -c 'echo evidence of {pid} at {stage}'")
        .app(&["grow 20"])
        .start()
        .end();
    eprintln!("{}", ended.log);
    eprintln!("{:#}", ended.incident().json);
    eprintln!("{}", std::fs::read_to_string(&log).unwrap());
    ended.assert_code(75);
    assert_eq!(group.oom_kills(), 0);
}
