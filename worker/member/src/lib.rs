//! A member of the fleet: joins a run, obeys the protocol, drives a [`trainer::Trainer`]. Knows no tensors and no run
//! directory.

pub mod trainer;
