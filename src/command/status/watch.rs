//! `--watch`: the screen again and again.
//!
//! It is drawn over the last one, line by line, on the terminal's own screen, with the cursor where it belongs: the kernel ends
//! whoever is in a container together with PID 1, and there is no moment in which a terminal could be put back. So there is
//! nothing to be put back, and what stays is how it stood at the end.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::command::style::{self, Place, Style};
use crate::sys::mask::SignalDescriptor;
use crate::sys::poll::{Interest, Wait};
use crate::sys::process::{kill, own_id};
use crate::sys::signal::Signal;

use super::picture::State;
use super::{Question, View, json, screen};

/// How often it is looked whether the run has ended.
const GLANCE: Duration = Duration::from_millis(100);

/// What makes it end: the others are none of its business.
const ENDS: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];

/// Shows the screen until the run ends, or until a signal comes. Every signal is blocked. The exit code.
///
/// # Errors
/// In one line, why there is nothing to be shown (any more).
#[inline(never)]
pub fn watch(question: &Question, every: Duration) -> Result<u8, String> {
    let signals = SignalDescriptor::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let mut view = View::open(question)?;
    let mut glass = Glass::new(question.json);
    loop {
        let history = view.source.read()?;
        let picture = view.picture(&history, question.reach);
        let is_over = match &picture.state {
            State::Running(_) => None,
            State::Ended(_, sentence) => Some(crate::text::plain(sentence)),
        };
        let shown = if question.json {
            glass.add(&json::json(&picture))
        } else {
            glass.show(|style| screen::draw(&picture, style))
        };
        shown.map_err(|error| format!("cannot write: {error}"))?;
        if let Some(sentence) = is_over {
            if !question.json {
                glass.add(&format!("{sentence}\n")).map_err(|error| format!("cannot write: {error}"))?;
            }
            return Ok(0);
        }
        let due = Instant::now() + every;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            match wait(&signals, left.min(GLANCE)) {
                Some(Signal::WINCH) => {
                    glass.is_resized = true;
                    break;
                }
                Some(Signal::TSTP) => {
                    // As the terminal's driver would have done.
                    let _ = kill(own_id(), Signal::STOP);
                    glass.forget();
                    break;
                }
                Some(signal) if ENDS.contains(&signal) => return Ok(0),
                _ => {}
            }
            if left.is_zero() || view.source.has_ended() {
                break;
            }
        }
    }
}

/// Waits so long at the most; a signal that came.
fn wait(signals: &SignalDescriptor, span: Duration) -> Option<Signal> {
    let mut wait = Wait::new();
    wait.add(signals.as_fd(), Interest::Read, ());
    let _ = wait.wait(Some(span));
    let mut came = Vec::new();
    signals.take(|arrival| came.push(arrival.signal));
    // What ends it comes first, then what changes the screen.
    let find = |wanted: &[Signal]| came.iter().copied().find(|signal| wanted.contains(signal));
    find(&ENDS).or_else(|| find(&[Signal::WINCH, Signal::TSTP]))
}

/// Where it is written to.
struct Glass {
    /// Whether it is a terminal on which lines can be written over.
    obeys: bool,
    /// How many lines are on it.
    lines: usize,
    /// What was drawn does not stand as it was drawn any more.
    is_resized: bool,
}

impl Glass {
    fn new(json: bool) -> Self {
        let place = Place::of_output();
        let obeys = !json && style::obeys(place, &style::variable);
        Self { obeys, lines: 0, is_resized: false }
    }

    /// The next screen begins below.
    fn forget(&mut self) {
        self.lines = 0;
    }

    /// Adds this below.
    fn add(&mut self, text: &str) -> io::Result<()> {
        self.lines = 0;
        put(text)
    }

    /// Shows the next screen in place of the last one.
    fn show(&mut self, draw: impl FnOnce(&Style) -> Vec<String>) -> io::Result<()> {
        let style = style::of_output();
        if !self.obeys {
            let text = draw(&Style { height: None, ..style }).join("\n");
            let between = if self.lines > 0 { "\n" } else { "" };
            self.lines = 1;
            return put(&format!("{between}{text}\n"));
        }
        let lines = draw(&style);
        let text = over(self.lines, &lines, std::mem::take(&mut self.is_resized));
        self.lines = lines.len();
        put(&text)
    }
}

/// What writes these lines over so many older ones. ECMA-48: CUU goes up, EL clears to the end of the line, ED to that of the
/// screen. After a change of the window's size nobody knows where the old lines are: all is cleared.
fn over(old: usize, lines: &[String], is_resized: bool) -> String {
    let mut text = String::new();
    if is_resized {
        text.push_str("\u{1b}[H\u{1b}[2J");
    } else if old > 0 {
        let _ = write!(text, "\r\u{1b}[{old}A");
    }
    for line in lines {
        text.extend([line, "\u{1b}[K\n"]);
    }
    text.push_str("\u{1b}[J");
    text
}

fn put(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_written_over_the_last_one_and_nothing_is_to_be_put_back() {
        let lines = ["one".to_owned(), "two".to_owned()];
        for (old, is_resized, text) in [
            (0, false, "one\u{1b}[K\ntwo\u{1b}[K\n\u{1b}[J"),
            (3, false, "\r\u{1b}[3Aone\u{1b}[K\ntwo\u{1b}[K\n\u{1b}[J"),
            (3, true, "\u{1b}[H\u{1b}[2Jone\u{1b}[K\ntwo\u{1b}[K\n\u{1b}[J"),
        ] {
            assert_eq!(over(old, &lines, is_resized), text);
            // No other screen, no hidden cursor, no other mode.
            assert!(!text.contains("\u{1b}[?"));
        }
    }
}
