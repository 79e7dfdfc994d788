//! kindling keeps what runs equal to what is written in git, or in a working copy while somebody develops.
//!
//! The modules stand in the order of their layers: a module uses only modules above it in this list, and the
//! adapters (`observe`, `act`, `record`, `forge`) never use each other. `tests/it/layers.rs` holds this.

pub mod support;
pub mod model;
pub mod config;
pub mod plan;
pub mod observe;
pub mod act;
pub mod record;
pub mod forge;
pub mod reconcile;
pub mod api;
pub mod app;
pub mod cli;
