//! What every layer may lean on: the clock, files that a person named, shutdown, telemetry, printable text.

pub mod clock;
pub mod file;
pub mod lifecycle;
pub mod manager;
pub mod telemetry;
pub mod text;
