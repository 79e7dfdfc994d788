//! One binary for all tests that need more than one module.
#![cfg(test)]

mod cli;
mod errors;
mod faults;
mod git;
mod http_backend;
mod kill;
mod layers;
mod loop_daemons;
mod loop_pass;
mod migrations;
mod process;
mod repo;
mod service;
mod sets;
mod store;
mod world;
