//! The built-in evidence on cgroup v2: what the kernel tells there, compared with the first look, names who has grown.
//! The machine has neither a Python nor a JVM; those are looked at on cgroup v1.

use crate::support::{Group, MIB, Memini};

#[test]
fn who_has_grown_is_named_by_the_kernels_numbers() {
    let group = Group::new("grown", 128);
    let options = ["--baseline-after", "0s", "-v", "--stop-when", "level"];
    let mut session = Memini::new(&group).options(&options).app(&[]).start();
    session.sees("the processes were looked at");
    session.tell("to 90");
    session.sees_times("the processes were looked at", 2);
    session.begin("grow 10");
    let ended = session.end();
    ended.assert_code(75);
    let incident = ended.incident();
    let evidence = &incident.json["evidence"];
    let first = &evidence["suspects"][0];
    assert_eq!(evidence["is_conclusive"], true, "{evidence}\n{}", ended.log);
    assert_eq!((first["place"].as_str(), first["rung"].as_u64()), (Some("private memory"), Some(0)), "{evidence}");
    assert!(first["growth"].as_u64().unwrap() > 60 * MIB, "{evidence}");
    assert!(ended.log.contains(" in ") && ended.log.contains(": 100% private memory of app (pid "), "{}", ended.log);
    assert_eq!(group.oom_kills(), 0);
}
