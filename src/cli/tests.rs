use super::*;
fn none(_: &str) -> Option<OsString> {
    None
}
#[test]
fn smoke() {
    for l in [
        "java -Xmx1g --warn 9",
        "-- -weird",
        "ls --foo",
        "ls -- foo",
        "-- -- foo",
        "--stop-t 5% ls",
        "--stop-at -64MiB ls",
        "-gw ls",
        "-gws ls",
        "-vv -g -- ls",
        "-p TERM -e 143 -e 1 ls",
        "--dry-run=false ls",
        "--dry-run=x ls",
        "--verbose=3 ls",
        "--dir --stop-at 5%",
        "--dir",
        "--stop-at",
        "-",
        "- foo",
        "--stop-at=",
        "check",
        "check --json",
        "--limit 1g check --limit 2g --dir X",
        "-g -- check",
        "check foo",
        "check -- foo",
        "-x",
        "-gx ls",
        "",
        "--",
        "--stop-at -- check",
        "-e143 ls",
        "-pTERM ls",
        "--grce 5s ls",
        "--help --bogus",
        "--json ls",
        "--limit=-5 ls",
        "--foo=bar x",
        "---",
        "--=x",
        "-g=true ls",
        "-gw=false ls",
        "-vvq ls",
    ] {
        let mut a = vec![OsString::from("memini")];
        a.extend(l.split_whitespace().map(OsString::from));
        match parse(a, &none) {
            Ok(Invocation::Run(c)) => println!(
                "{l:30} => run {:?} {:?} g{} w{} {:?}",
                c.command, c.thresholds.stop, c.group, c.warn_on_reap, c.log_level
            ),
            Ok(o) => println!("{l:30} => {o:?}"),
            Err(f) => println!("{l:30} => {f}"),
        }
    }
    println!("{}", help::short());
    println!("{}", help::long());
    println!("{}", help::version());
}
