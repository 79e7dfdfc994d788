//! Runs with real children, one file per part of the contract.
mod bench;
mod confined;
mod ending;
mod javascript;
mod kept;
mod node;
mod overhead;
mod programs;
mod python;
mod ruby;
mod streams;
mod survivors;
