//! Pure verbs: discover, resolve, hash, diff, decide. No clock, no input or output, nothing asynchronous.

pub mod backoff;
pub mod canonical;
pub mod cascade;
pub mod catalog;
pub mod chain;
pub mod decide;
pub mod diff;
pub mod discover;
pub mod exclude;
pub mod guard;
pub mod hash;
pub mod hook;
pub mod hosted;
pub mod manifest;
pub mod nested;
pub mod params;
pub mod schedule;
pub mod push;
pub mod status;
pub mod stray;
pub mod taskset;
pub mod trace;
pub mod trust;
pub mod turns;
