//! The loop: what is marked dirty, the pass, runs and daemons, what is shown.
//!
//! An event wakes a pass and never tells it what to do; start, poll, file event and command are one code path.

pub mod board;
pub mod core;
pub mod daemons;
pub mod events;
pub mod fire;
pub mod handle;
pub mod hooks;
pub mod ledger;
pub mod links;
pub mod message;
pub mod metrics;
pub mod runs;
pub mod schedule;
pub mod statuses;
pub mod trust;
pub mod window;

mod announced;
mod circles;
mod command;
mod dev;
mod doubt;
mod fall_back;
mod history;
mod kv;
mod nested;
mod outcome;
mod pass;
mod perform;
mod rewrite;
mod source_loop;
mod status;
mod telling;
mod timing;
mod trouble;
mod units;
mod upstream;

pub use pass::{MOST_ROUNDS, file_read};
pub use source_loop::{SourceLoop, chance};
pub use status::unready;
pub use trouble::held_back;
