//! An app that does what it is told, as tests/memory/app.py does, for a machine without Python: one instruction an
//! argument, then one a line of standard input, each of which is answered with `done` and the instruction. At the end of
//! standard input it ends well.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, exit};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;

const MIB: f64 = 1_048_576.0;
/// Large enough for malloc to map it, and to unmap it when it is let go.
const CHUNK: usize = 256 << 10;
const TICK: Duration = Duration::from_millis(10);

/// What an interpreter holds before it does anything: with it, instructions mean the same as for app.py.
const INTERPRETER: usize = 8 << 20;

/// Fast rates are so many times lower than they are told: the machine is emulated, and that much slower at the least.
const SLOWER: f64 = 3.0;
/// Fast, in MiB a second.
const FAST: f64 = 4.0;

/// The first argument of an app that another one has started.
const CHILD: &str = "child";

static HELD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    let interpreter = if arguments.next_if(|argument| argument == CHILD).is_some() { 0 } else { INTERPRETER };
    let _interpreter = vec![1_u8; interpreter];
    arguments.for_each(|instruction| obey(&instruction));
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        obey(line.trim());
        println!("done {}", line.trim());
    }
}

fn obey(instruction: &str) {
    let instruction = expanded(instruction);
    let (verb, rest) = instruction.split_once(' ').unwrap_or((&instruction, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| words.get(index).and_then(|word| word.parse::<f64>().ok());
    let first = || number(0).unwrap_or_else(|| panic!("no number: {instruction}"));
    match verb {
        "hold" => hold((first() * MIB) as usize),
        "to" => to(first()),
        "grow" => grow(first(), number(1).unwrap_or(f64::INFINITY)),
        "ignore" => on(words[0], String::new()),
        "on" => on(words[0], rest.split_once(' ').expect("an instruction").1.to_owned()),
        "write" => write(words[0], number(1).expect("a size") as usize),
        "fill" => fill(words[0], number(1).expect("a rate")),
        "read" => read(words[0]),
        "remove" => fs::remove_file(words[0]).expect("a file to remove"),
        "fork" => drop(another(&[rest, "pause"])),
        // An orphan of a session of its own: who has started it is gone when this is done.
        "daemon" => drop(another(&["session", &format!("orphan {rest}"), "exit 0"]).wait().expect("its end")),
        "orphan" => drop(another(&[rest, "exit 0"])),
        "session" => drop(nix::unistd::setsid()),
        "breed" => breed(first() / SLOWER, &instruction),
        "recorded" => recorded(),
        "victim" => fs::write("/proc/self/oom_score_adj", "1000").expect("oom_score_adj"),
        "pause" => pause(),
        "exit" => exit(first() as i32),
        "say" => println!("{rest}"),
        "" => {}
        _ => panic!("unknown instruction: {instruction}"),
    }
}

/// Replaces `$NAME` by the variable.
fn expanded(text: &str) -> String {
    let variables: HashMap<_, _> = std::env::vars().collect();
    let longest_first = {
        let mut names: Vec<_> = variables.keys().collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        names
    };
    longest_first.into_iter().fold(text.to_owned(), |text, name| text.replace(&format!("${name}"), &variables[name]))
}

fn held() -> std::sync::MutexGuard<'static, Vec<Vec<u8>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Touches memory.
fn hold(size: usize) {
    if size > 0 {
        let memory = vec![1; size];
        held().push(memory);
    }
}

fn group(file: &str) -> String {
    let path = PathBuf::from(std::env::var_os("GROUP").expect("GROUP")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The bytes of the group that reclaim could not free.
fn used() -> i64 {
    let stat = group("memory.stat");
    let entry = |key: &str| {
        let value = stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<i64>().expect("a number"))
    };
    let listed = entry("inactive_file") + entry("active_file");
    // Where something is swapped, `file` also counts what is on its way there.
    let swaps = fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1);
    let counted = if swaps { 0 } else { entry("file") - entry("shmem") - entry("unevictable") };
    let files = listed.max(counted);
    group("memory.current").trim().parse::<i64>().expect("a number") - files
}

/// Grows or shrinks at once until the group uses so much. It looks again and again: others may grow as well.
fn to(mib: f64) {
    let wanted = (mib * MIB) as i64;
    while used() > wanted && !held().is_empty() {
        let mut surplus = used() - wanted;
        while surplus > 0
            && let Some(last) = held().pop()
        {
            surplus -= i64::try_from(last.len()).expect("a size");
        }
    }
    while wanted - used() >= CHUNK as i64 {
        let missing = usize::try_from(wanted - used()).unwrap_or(0).min(1 << 20);
        (0..missing / CHUNK).for_each(|_| hold(CHUNK));
    }
}

/// Grows by so many MiB a second, in even steps, until the app itself holds so many MiB.
fn grow(rate: f64, until: f64) {
    let rate = if rate > FAST { rate / SLOWER } else { rate };
    let (mut began, mut grown) = (Instant::now(), 0.0);
    while grown < until * MIB {
        thread::sleep(TICK);
        let missing = began.elapsed().as_secs_f64() * rate * MIB - grown;
        // After a pause (SIGSTOP, a busy machine) it does not catch up: it would be another rate.
        if missing > 10.0 * rate * MIB * TICK.as_secs_f64() + CHUNK as f64 {
            began = Instant::now().checked_sub(Duration::from_secs_f64(grown / (rate * MIB))).expect("a time");
        } else if missing >= CHUNK as f64 {
            let size = missing as usize / CHUNK * CHUNK;
            hold(size);
            grown += size as f64;
        }
    }
}

/// Does this whenever the signal comes.
fn on(name: &str, instruction: String) {
    let number = match name {
        "SIGTERM" => SIGTERM,
        "SIGUSR1" => SIGUSR1,
        _ => panic!("unknown signal {name}"),
    };
    let (signals, handler) = UnixStream::pair().expect("a pair of sockets");
    pipe::register(number, handler).expect("a handler");
    thread::spawn(move || signals.bytes().for_each(|_| obey(&instruction)));
}

fn write(path: &str, mib: usize) {
    let mut file = File::create(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let block = vec![b'x'; 1 << 20];
    (0..mib).for_each(|_| file.write_all(&block).expect("room on the disk"));
    file.sync_all().expect("a disk");
}

/// Makes a file grow by so many MiB a second, without end.
fn fill(path: &str, rate: f64) {
    let mut file = File::create(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (block, rate) = (vec![b'x'; CHUNK], rate / SLOWER);
    loop {
        thread::sleep(Duration::from_secs_f64(CHUNK as f64 / (rate * MIB)));
        file.write_all(&block).expect("room on the disk");
    }
}

fn read(path: &str) {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut block = vec![0; 256 << 10];
    while file.read(&mut block).expect("a file") > 0 {}
}

/// A child that does this.
fn another(instructions: &[&str]) -> Child {
    let program = std::env::current_exe().expect("the own program");
    Command::new(program).arg(CHILD).args(instructions).spawn().expect("a child")
}

/// Returns when memini's recorder has seen a look: its worker has ended, and takes no memory any more.
fn recorded() {
    let mut sequence = [0; 4];
    let path = expanded("$PLACE/memini/recorder");
    while !File::open(&path).is_ok_and(|file| file.read_exact_at(&mut sequence, 4096).is_ok()) || sequence == [0; 4] {
        thread::sleep(TICK);
    }
}

/// Children without end, each of which holds half a MiB and starts the next one.
fn breed(rate: f64, instruction: &str) {
    hold(1 << 19);
    thread::sleep(Duration::from_secs_f64(0.5 / rate));
    drop(another(&[instruction]));
    pause();
}

fn pause() -> ! {
    loop {
        thread::park();
    }
}
