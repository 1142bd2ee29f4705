//! One file a verb.

pub mod capture;
pub mod check;
pub mod evidence;
pub mod guardian;
pub mod hook;
pub mod record;
pub mod run;
pub mod worker;
