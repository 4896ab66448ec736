//! The control plane's shell: journal, checkpoints, network, local workers, scores. Decisions are `coordinator-core`'s.

pub mod audit;
pub mod checkpoints;
pub mod cli;
pub mod compare;
pub mod config;
pub mod devices;
pub mod driver;
pub mod evaluation;
pub mod exit;
pub mod first_worker;
pub mod journal;
pub mod launcher;
pub mod outputs;
pub mod parent;
pub mod replay;
pub mod report;
pub mod rewind;
pub mod run;
pub mod run_data;
pub mod security;
pub mod service;
pub mod setup;
pub mod status;
pub mod store;
pub mod time;
pub mod wire;
