//! The engine decides. It is pure: no system call, no clock, no file; time and events come in, commands go out.
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

pub mod event;
pub mod settings;
pub mod time;

use event::{Command, Event};
use settings::Settings;
use time::Moment;

/// The state machine of one run of one app.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
}

impl Engine {
    /// An engine at `now`, before the first reading. The app is being started.
    pub fn new(settings: Settings, _now: Moment) -> Self {
        Self { settings }
    }

    /// Takes an event, appends what is to be done to `commands`.
    pub fn handle(&mut self, _now: Moment, _event: Event<'_>, _commands: &mut Vec<Command>) {
        let _ = &self.settings;
    }

    /// When to call again with [`Event::Deadline`] at the latest; `None`: only when something happens.
    pub fn deadline(&self) -> Option<Moment> {
        None
    }
}
