//! One microbatch, in reading order: [`batch`] packs the samples, [`loss`] says what is learned, [`microbatch`] runs
//! forward and backward, [`exact_sum`] quantises and adds, [`optimiser`] steps into the shadow.
//! [`class`] is the same once before any step: what this machine's arithmetic makes of a fixed microbatch.

pub mod batch;
pub mod check;
pub mod class;
pub mod exact_sum;
pub mod loss;
pub mod microbatch;
pub mod optimiser;

#[cfg(test)]
pub(crate) mod tests;
