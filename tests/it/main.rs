//! One binary for all tests that need more than one module.
#![cfg(test)]

mod bursts;
mod cli;
mod cron;
mod dev;
mod dicode;
mod errors;
mod faults;
mod git;
mod hostile;
mod http_backend;
mod kept;
mod kill;
mod layers;
mod loop_circles;
mod loop_cron;
mod loop_dev;
mod loop_daemons;
mod loop_nested;
mod loop_pass;
mod loop_runs;
mod loop_trust;
mod migrations;
mod process;
mod reload;
mod repo;
mod service;
mod sets;
mod store;
mod world;
