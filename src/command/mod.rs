//! One file a verb.

pub mod capture;
pub mod check;
mod dump;
pub mod evidence;
pub mod guardian;
pub mod hook;
pub mod incidents;
pub mod record;
pub mod recorder;
mod releaser;
pub mod report;
pub mod run;
mod running;
pub mod status;
mod style;
pub mod worker;
