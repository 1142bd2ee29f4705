//! A real server, Debian's Tomcat, with a web application that leaks, under load and with the defaults.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Group, Memini};

/// How many visitors there are at a time, and how long each of them looks at what it got.
const VISITORS: usize = 4;
const PAUSE: Duration = Duration::from_millis(3);

/// The system with the server, fetched if it is not there.
fn system() -> PathBuf {
    let cache = std::env::var_os("MEMINI_TEST_CACHE").map(PathBuf::from);
    let cache =
        cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").expect("HOME")).join(".cache/memini-tests"));
    let fetch = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fetch");
    let fetched = Command::new(fetch).arg("tomcat").output().expect("tests/fetch");
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    cache.join("tomcat")
}

/// What the server serves: its configuration, which is as short as can be, and the compiled application.
fn furnish(base: &Path, system: &Path) {
    let classes = base.join("webapps/shop/WEB-INF/classes");
    for folder in [&base.join("conf"), &base.join("temp"), &classes] {
        fs::create_dir_all(folder).unwrap();
    }
    let server = r#"<Server port="-1"><Service name="Catalina"><Connector address="127.0.0.1" port="0"/>
        <Engine name="Catalina" defaultHost="localhost"><Host name="localhost" appBase="webapps"/></Engine></Service></Server>"#;
    fs::write(base.join("conf/server.xml"), server).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/memory/java/shop/Shop.java");
    let interface = system.join("usr/share/java/tomcat10-servlet-api.jar");
    let mut javac = Command::new("javac");
    javac.args(["--release", "17", "-d"]).arg(&classes).arg("-cp").arg(interface).arg(source);
    assert!(javac.status().expect("this test needs a JDK").success());
}

/// One visitor: each visit is a new session. Ends when the server has left. Counted is what was asked for, before it is.
fn visit(port: u16, asked: &AtomicU64) {
    while let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
        // The server closes each connection after so many requests.
        let mut stream = BufReader::new(stream);
        loop {
            asked.fetch_add(1, Ordering::SeqCst);
            if request(&mut stream).is_err() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn request(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    stream.get_mut().write_all(b"GET /shop/ HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().map_err(io::Error::other)?;
        }
    }
    stream.read_exact(&mut vec![0; length])
}

/// The classes of a dump, with how many objects there are of each, as somebody else reads it.
fn second_opinion(dump: &Path) -> HashMap<String, u64> {
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jvm/read");
    let output = Command::new(reader).arg(dump).output().expect("tests/jvm/read");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let count = |line: &str| line.rsplit_once(' ').map(|(name, count)| (name.to_owned(), count.parse().unwrap()));
    text.lines().filter_map(count).collect()
}

/// The same as the census tells it.
fn histogram(evidence: &Path) -> HashMap<String, u64> {
    let look: Value = serde_json::from_slice(&fs::read(evidence).unwrap()).unwrap();
    let groups =
        look["processes"].as_array().unwrap().iter().find_map(|process| process["census"]["groups"].as_array());
    let groups = groups.unwrap_or_else(|| panic!("no census in {look:#}")).iter();
    groups.map(|group| (group["name"].as_str().unwrap().to_owned(), group["instances"].as_u64().unwrap())).collect()
}

#[test]
fn of_a_server_under_load_the_applications_own_class_is_named_and_its_heap_is_kept() {
    let system = system();
    let group = Group::new("tomcat", 512);
    let memini = Memini::new(&group);
    furnish(&memini.place().join("base"), &system);
    fs::create_dir(memini.place().join("tmp")).unwrap();
    // Its own /tmp, so that two of them do not meet; and /sys, from which the JVM learns its limit.
    let setup = format!(
        r#"cd {} && mount --bind "$PLACE/base" mnt && mount --bind "$PLACE/tmp" tmp && mount -t proc proc proc &&
        mount --rbind /sys sys && mount --rbind /dev dev"#,
        system.display()
    );
    let system = system.display().to_string();
    // The classic mistake: the heap may become as large as the container. With a large young generation it grows by a
    // jump at each collection, and the last one may leave no time to shut down in.
    let server = "CATALINA_BASE=/mnt JRE_HOME=/usr/lib/jvm/java-17-openjdk-amd64 CATALINA_OPTS='-Xmx512m -Xmn32m' \
                  exec /usr/share/tomcat10/bin/catalina.sh run";
    let session = memini.setup(&setup).command(&["chroot", &system, "sh", "-c", server]).start();
    // `Starting ProtocolHandler ["http-nio-127.0.0.1-auto-1-37821"]`
    let line = session.sees("Starting ProtocolHandler");
    let port = line.trim_end_matches("\"]").rsplit('-').next().and_then(|port| port.parse().ok());
    let port = port.unwrap_or_else(|| panic!("no port in {line}"));
    session.sees("Server startup in");
    let asked = AtomicU64::new(0);
    let ended = std::thread::scope(|scope| {
        for _ in 0..VISITORS {
            scope.spawn(|| visit(port, &asked));
        }
        for stage in ["trace: memory", "capture: memory", "stopping the app"] {
            session.sees(stage);
        }
        session.end()
    });
    ended.assert_code(75).assert_says("the shop closes after").assert_says("Destroying ProtocolHandler");
    let incident = ended.incident();
    let first = &incident.json["evidence"]["suspects"][0];
    assert!(first["what"].as_str().unwrap().starts_with("shop.Shop$"), "{first:#}\n{}", ended.log);
    assert_eq!(incident.json["outcome"], "stopped");
    let files: Vec<&str> = incident.json["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|artifact| artifact["file"].as_str().unwrap())
        .collect();
    let path = |start: &str| match files.iter().find(|file| file.starts_with(start)) {
        Some(file) => incident.folder.join(file),
        None => panic!("no {start} in {files:?}\n{}", ended.log),
    };
    let (evidence, dump) = (path("artifacts/evidence-capture-"), path("artifacts/heap-"));
    // Not cut off, and nothing of it is left in the server's /tmp.
    ended.assert_says("MiB as the JVM wrote it), it stood still for");
    for entry in fs::read_dir(ended.place().join("tmp")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(!name.to_string_lossy().contains("memini"), "{name:?}");
    }
    let (histogram, dump) = (histogram(&evidence), second_opinion(&dump));
    // Each visit between the two has added a session with two items, and some may be half done in either.
    let (sessions, before) = (dump["shop.Shop$Session"], histogram["shop.Shop$Session"]);
    assert!((before..=asked.into_inner()).contains(&sessions), "{before} sessions, then {sessions}");
    assert!(dump["shop.Shop$Item"].abs_diff(2 * sessions) <= 2 * VISITORS as u64, "{} items", dump["shop.Shop$Item"]);
    // What has nothing to do with visits is the same to the last object.
    let compared = histogram.iter().filter(|(name, _)| *name != "java.lang.Class" && !name.contains("$$Lambda"));
    let differences: Vec<_> = compared.filter(|(name, count)| dump.get(*name) != Some(count)).collect();
    assert!(differences.len() * 5 < histogram.len(), "{differences:#?}");
    assert_eq!(group.oom_kills(), 0);
}
