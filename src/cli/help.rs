//! What `-h`, `--help` and `--version` print. Made only when asked for: a start has no use for it.

use std::fmt::Write as _;

use super::flags::{ALL, Flag, Heading, Takes};

/// The first line, and what `docker info` wants: it looks for ` - git.COMMIT` in the output of the init.
pub fn version() -> String {
    format!("memini {} - git.{}\n", env!("CARGO_PKG_VERSION"), env!("MEMINI_COMMIT"))
}

/// The columns that the help keeps to.
const WIDTH: usize = 96;

const USAGE: &str = "\
Usage: memini [OPTIONS] [--] COMMAND [ARGS]...
       memini [OPTIONS] check [--json] [OPTIONS]
       memini status [--watch[=DURATION]] [--span SPAN] [--json] [DIR|FILE]
       memini capture [--json] [--since FILE] [--heavy on] [PID]...
       memini incidents [--json] [DIR]
       memini report [--format text|md|html|json] [--dir DIR] [INCIDENT|DIR]
";

const ABOUT: &str = "\
Runs COMMAND as a container init: forwards signals, reaps zombies, and watches the memory of its
own cgroup. Hooks take evidence when usage crosses a threshold, and the app is asked to leave
before the kernel's OOM killer would take it.

Options end at COMMAND; what follows is the app's. 'memini check' says what memini sees and may
do here (exit code 0: it can guard, 1: it cannot); an app of that name is run with
'memini -- check'. 'memini status' shows how the memini that runs here stands and how it came to
that, or the last run in DIR. 'memini capture' takes evidence now: of the processes with these
numbers and what descends from them, or beside a running memini of all that it runs.
'memini incidents' lists the incidents in DIR, the newest first, and 'memini report' shows one,
the newest if none is named.

Each option has a variable. An option beats its variable, which beats the default; an empty
variable is none. Switches take true or false, also as --dry-run=false. Of an option given twice
the last one holds.
";

const DETAILS: &str = "\
Hooks:
  memini --hook capture='kill -USR2 {pid}' --hook stop='/bin/dump {dir}' -- COMMAND

  {pid}     the app's process id            {usage}   bytes in use
  {dir}     the folder of this incident     {limit}   bytes that may be in use
  {stage}   the stage that begins           {reason}  threshold, urgent, leak, floor, level

  The same is in the hook's environment as MEMINI_PID and so on. Left alone are ${pid}, which is
  a shell's, and braces around anything but one word; {{pid}} stands for {pid} itself.

Exit codes of a run:
  the app's own; 128+N if signal N ended it
   75  memini stopped the app for memory (--exit-code)
  125  memini's own failure, wrong options included
  126  COMMAND cannot be executed
  127  COMMAND was not found
  137  the kernel's OOM killer was faster (or another SIGKILL)
  Of the commands: 0; 1 where check says no, status and report have nothing to show, and
  incidents cannot read its folder; 125 for wrong options and whatever else went wrong.

Examples:
  memini -- python app.py
  memini --stop-at -64MiB --grace 20s -- java -jar app.jar
  MEMINI_LIMIT=512m MEMINI_GROUP=true memini ./server --port 80
  memini check --json
  docker exec -it CONTAINER /memini status --watch
  docker exec CONTAINER /memini capture
  docker exec CONTAINER /memini report --format html > report.html
";

/// `-h`: a line for each option.
pub fn short() -> String {
    let mut text = format!("{}\n{USAGE}", version());
    let width = ALL.iter().map(|flag| spelling(flag).chars().count()).max().unwrap_or(0);
    for heading in Heading::ALL {
        let _ = write!(text, "\n{}:\n", heading.title());
        for flag in ALL.iter().filter(|flag| flag.heading == heading) {
            let default = if flag.default.is_empty() { String::new() } else { format!(" [{}]", flag.default) };
            let _ = writeln!(text, "{:width$}  {}{default}", spelling(flag), flag.brief);
        }
    }
    text.push_str("\n  -h, --help  this, or all there is to say    -V, --version\n");
    text
}

/// `--help`: everything.
pub fn long() -> String {
    let mut text = format!("{}\n{USAGE}\n{ABOUT}", version());
    for heading in Heading::ALL {
        let _ = write!(text, "\n{}:\n", heading.title());
        for flag in ALL.iter().filter(|flag| flag.heading == heading) {
            let _ = writeln!(text, "{}", spelling(flag));
            wrap(&mut text, &sentences(flag));
            let _ = writeln!(text, "{INDENT}{}", origins(flag));
        }
    }
    let _ = write!(text, "\n{DETAILS}");
    text
}

/// `  -e, --remap-exit N`
fn spelling(flag: &Flag) -> String {
    let text = match flag.short {
        Some(letter) => format!("  -{letter}, --{}", flag.long),
        None => format!("      --{}", flag.long),
    };
    text + &value(flag)
}

/// ` N`, `[=N]`
fn value(flag: &Flag) -> String {
    match (flag.takes, flag.value_name()) {
        (Takes::Optional(..), Some(name)) => format!("[={name}]"),
        (_, Some(name)) => format!(" {name}"),
        (_, None) => String::new(),
    }
}

fn sentences(flag: &Flag) -> String {
    match flag.detail {
        "" => flag.brief.to_owned(),
        detail => format!("{}. {detail}", flag.brief),
    }
}

/// `[default: 30s] [env: MEMINI_HOOK_TIMEOUT]`
fn origins(flag: &Flag) -> String {
    let default = if flag.default.is_empty() { String::new() } else { format!("[default: {}] ", flag.default) };
    format!("{default}[env: {}]", flag.variable())
}

const INDENT: &str = "          ";

/// Appends these words in lines of at most [`WIDTH`] columns.
fn wrap(text: &mut String, words: &str) {
    let mut line = INDENT.to_owned();
    for word in words.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            text.extend([line.trim_end(), "\n"]);
            line.truncate(INDENT.len());
        }
        line.extend([word, " "]);
    }
    text.extend([line.trim_end(), "\n"]);
}

/// The options as a table in Markdown, for the README.
#[cfg(test)]
pub fn table() -> String {
    let mut text = String::from("| option | variable | default | meaning |\n|---|---|---|---|\n");
    for flag in ALL {
        let short = flag.short.map(|letter| format!("`-{letter}` ")).unwrap_or_default();
        let value = value(flag).replace('|', "\\|");
        let repeatable = matches!(flag.takes, Takes::Count | Takes::List(..));
        let default = match flag.default {
            "" if repeatable => "none".to_owned(),
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let _ =
            writeln!(text, "| {short}`--{}{value}` | `{}` | {default} | {} |", flag.long, flag.variable(), flag.brief);
    }
    text
}
