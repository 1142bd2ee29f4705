//! One file a verb.

pub mod check;
pub mod hook;
pub mod record;
pub mod run;
pub mod worker;
