//! What every layer may lean on: the clock, shutdown, telemetry, printable text.

pub mod clock;
pub mod lifecycle;
pub mod manager;
pub mod telemetry;
pub mod text;
