//! One microbatch, in reading order: [`batch`] packs the samples, [`loss`] says what is learned, [`microbatch`] runs
//! forward and backward, [`exact_sum`] quantises and adds, [`optimiser`] steps into the shadow.

pub mod batch;
pub mod exact_sum;
pub mod loss;
pub mod microbatch;
pub mod optimiser;

#[cfg(test)]
mod tests;
