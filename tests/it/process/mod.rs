//! Runs with real children, one file per part of the contract.
mod bench;
mod ending;
mod node;
mod overhead;
mod programs;
mod python;
mod streams;
mod survivors;
