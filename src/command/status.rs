//! `memini status`: one screen about the memini that runs here, or about a run that has ended. Changes nothing.

mod chart;
mod json;
mod picture;
mod processes;
mod screen;
mod source;
mod watch;

use std::path::Path;
use std::time::Duration;

use crate::command::style::{self, Style};
use crate::config::Reach;
use crate::process::folder::Folder;
use crate::recorder::reader::History;

use picture::Picture;
use processes::{Earlier, Processes, holders};
use source::{Source, now};

pub use source::Place;
pub use watch::watch;

/// What `memini status` was asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Answer with one JSON object.
    pub json: bool,
    /// Again and again, so often.
    pub watch: Option<Duration>,
    /// How far back the chart goes.
    pub reach: Reach,
    /// Where to look.
    pub place: Place,
}

/// Answers: the text, with a newline at its end.
///
/// # Errors
/// In one line, why there is nothing to be shown.
#[inline(never)]
pub fn status(question: &Question) -> Result<String, String> {
    let mut view = View::open(question)?;
    let history = view.source.read()?;
    let picture = view.picture(&history, question.reach);
    if question.json {
        return Ok(json::json(&picture));
    }
    let style = Style { height: None, ..style::of_output() };
    Ok(screen::draw(&picture, &style).join("\n") + "\n")
}

/// A recorder that is looked at, once or again and again.
struct View {
    source: Source,
    earlier: Option<Earlier>,
    /// The first screen is something to compare with.
    keeps_first: bool,
}

impl View {
    fn open(question: &Question) -> Result<Self, String> {
        let source = Source::find(Path::new("/"), &question.place)?;
        Ok(Self { source, earlier: None, keeps_first: question.watch.is_some() })
    }

    fn picture<'a>(&mut self, history: &'a History, reach: Reach) -> Picture<'a> {
        let root = Path::new("/");
        let state = self.source.state(root, history);
        let mut picture = Picture::new(history, state, &self.source.path, now(), reach);
        picture.remarks = self.source.remarks.iter().map(|remark| crate::text::plain(remark)).collect();
        if picture.is_running() {
            picture.processes = self.processes();
        }
        picture
    }

    fn processes(&mut self) -> Option<Processes> {
        let pids = self.source.owner?.tree().ok()?;
        let holders = holders(&Folder::open(Path::new("/")).ok()?, &pids);
        // memini's first look may have been taken since the last screen.
        if self.earlier.as_ref().is_none_or(|earlier| earlier.is_first_screen()) {
            let kept = self.source.seen_again().and_then(Earlier::kept);
            self.earlier = kept.or_else(|| self.earlier.take());
        }
        let processes = Processes::new(&holders, self.earlier.as_ref());
        if self.earlier.is_none() && self.keeps_first {
            self.earlier = Some(Earlier::first_screen(&holders, now()));
        }
        Some(processes)
    }
}

#[cfg(test)]
mod tests;
