//! Harness of the end-to-end tests: real processes, real files, no sleeps but between looks at a condition.

pub mod forge;
pub mod process;
pub mod wait;
