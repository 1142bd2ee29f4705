//! The flight recorder: a file of fixed size with the history of a run, which survives whatever becomes of memini.
//!
//! PID 1 writes it as it goes: a store to mapped memory, no system call, no allocation, no wait. What is slow or may fail is
//! done by a worker, once and at the start ([`crate::command::recorder`]): it finds the file of the last run and says how that
//! ended ([`ending`]), puts it aside, makes the new one with all its blocks on the disk, locks it, and hands PID 1 the
//! descriptor. The lock lasts as long as PID 1 does, so that whoever reads can tell a run that goes on from one that ended.
//!
//! The file ([`mod@format`]): a header that is written once, a *pulse* (the last look of all), the events, and three rings of
//! samples: every second for 10 minutes, every 10 seconds for 3 hours, every minute for 48 hours. All but the header are
//! *cells*: a sequence number that is odd while the cell is being written, a checksum over number and content, the content.
//! Who reads ([`reader`]) copies the file and leaves out each cell whose checksum does not hold, so that there are no torn
//! reads, no lock, and nothing that a reader could do to the writer; and a hostile file is only bytes to it.
//!
//! What it costs: a file that is mapped is page cache, and what is locked of it counts as unreclaimable. So PID 1 lets go of
//! each page that it has left behind ([`writer`]) and has the next one fetched ahead: some 40 KiB of the file are its own at any
//! time, the rest is clean page cache that the kernel takes back when it likes. After the kernel has written a page to the disk,
//! the next store to it is a page fault, in which the file system may make PID 1 wait: on a disk that takes its time, for
//! moments; so only local file systems are written to ([`store`]), and where there is none, memory that is gone with memini.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod ending;
pub mod format;
pub mod reader;
pub mod sentence;
pub mod store;
pub mod told;
pub mod writer;
