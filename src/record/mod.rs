//! The record: what was seen, attempted and deployed, what happened, and the bytes of every version.
//!
//! All SQL stands here, in checked queries. Nothing is decided here and no other adapter is used: the caller brings
//! values and times, and gets them back as they were.

mod along;
mod blobs;
mod commit;
mod cron;
mod deliveries;
mod docs;
mod error;
mod events;
mod history;
mod hosts;
mod kv;
mod open;
mod outbox;
mod prune;
mod rows;
mod runs;
mod sources;
mod store;
mod units;
mod versions;

pub use along::{Along, Writing};
pub use blobs::{Blobs, Swept};
pub use cron::CronState;
pub use deliveries::Noted;
pub use error::StoreError;
pub use hosts::HostState;
pub use kv::KvSet;
pub use outbox::{Said, Telling, Told};
pub use rows::{
    HeldBy, HistoryQuery, Hold, Pruned, Recording, RemovedUnit, RunQuery, SourceRecord, SourceState,
    Suspension, UnitRecord, VersionSummary,
};
pub use store::Store;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
