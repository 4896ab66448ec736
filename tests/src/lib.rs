//! Harness of the end-to-end tests: real processes, real files, no sleeps but between looks at a condition.

pub mod fleet;
pub mod forge;
pub mod held_trainer;
pub mod liar;
pub mod points;
pub mod process;
pub mod seed;
pub mod wait;
