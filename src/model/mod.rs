//! The nouns of kindling: plain values that every other part speaks in.
//!
//! Nothing here does input or output, reads a clock, is asynchronous or is serialisable: each edge
//! (store, HTTP, files) owns its formats and converts.

pub mod commit_status;
pub mod condition;
pub mod cron;
pub mod delivery;
pub mod event;
pub mod hash;
pub mod history;
pub mod hook;
pub mod id;
pub mod kv;
pub mod limits;
pub mod path;
pub mod problem;
pub mod retention;
pub mod run;
pub mod source;
pub mod spec;
pub mod step;
pub mod time;
pub mod tree;
pub mod unit;
