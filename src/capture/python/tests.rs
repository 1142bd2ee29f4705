use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::*;

#[test]
fn try_it() {
    let Ok(pid) = std::env::var("PYPID") else { return };
    let start = Instant::now();
    let census = census(ProcessId::new(pid.parse().unwrap()).unwrap(), &Limits::default());
    match &census {
        Ok(census) => {
            println!("{} share {} pause {:?} all {:?}", census.runtime, census.share, census.pause, start.elapsed());
            for group in census.groups.iter().take(14) {
                println!("  {:>9} {:>11} {}", group.instances, group.bytes, group.name);
            }
            for holder in &census.holders {
                println!("  > {:>9} {:>11} {} {}", holder.items, holder.bytes, holder.kind, holder.name);
            }
            println!("  {:?}", census.remarks);
        }
        Err(refusal) => println!("{refusal:?}"),
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{:?}", status.lines().find(|line| line.starts_with("VmHWM")));
}
