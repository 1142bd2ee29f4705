//! The report of an incident, for people: what happened, who grew, since when, what next.
//!
//! ```text
//! incident.json → Story (every text made plain) → Series, Tree, sentences → a page, Markdown or text
//! ```
//!
//! - **Nothing in a report acts.** Names are the app's own choice. [`Text`](story::Text) is the only kind of text in a [`Story`]: what a
//!   terminal would obey, what breaks lines and what turns writing round is spelled out when it is read. The page is written
//!   through maud, which escapes whatever is put into it; Markdown gets such texts as code. The page has no script, loads
//!   nothing, and forbids both to itself.
//! - **One file.** Style and charts are part of the page. It is read on a phone, in the dark, on paper, without scripts, and
//!   aloud: charts are SVG with a title and a description, and the numbers follow as a table.
//! - **Charts are written here, as SVG through maud.** They take the page's colours (`currentColor`, variables, so dark and
//!   printed pages are right), stretch while their text keeps its size, and can be read aloud. plotters draws in fixed colours
//!   and fixed sizes, without a title; charming needs scripts or a whole engine for them.
//! - **A chart is drawn from a [`Series`](series::Series)**: points with the lowest, highest and last value since the one
//!   before. They are the samples of the timeline, where these three are one, and what a recorder has kept (`history` in
//!   `incident.json`). What is drawn of them is the climb: hours of calm before it would make it a wall.
//! - What is not known is left out or said; an incident of an older memini, or one that was cut off, makes a shorter report.

mod chart;
mod events;
pub mod html;
mod next;
mod open;
mod series;
mod story;
pub mod text;
mod tree;

pub use story::Story;
