//! One binary for all tests that need more than one module.
#![cfg(test)]

mod api;
mod backup;
mod canary;
mod cli;
mod dev;
mod dicode;
mod errors;
mod faults;
mod gallery;
mod git;
mod hostile;
mod http_backend;
mod kill;
mod layers;
mod loop_back;
mod loop_daemons;
mod loop_dev;
mod loop_nested;
mod loop_pass;
mod loop_trust;
mod loop_webhook;
mod migrations;
mod process;
mod reference_defects;
mod promises;
mod reload;
mod repo;
mod service;
mod sets;
mod store;
mod watch;
mod troubles;
mod world;
mod webhooks;
