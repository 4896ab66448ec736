//! Kernels for NVIDIA GPUs: NF4 and dropout, in CUDA C++ compiled at start for the device that is found.
//!
//! [`source`] is the text, [`launch`] describes a launch from checked tensors, [`gpu`] has it executed, [`reference`] has the
//! twin of each kernel on a CPU. [`check`] compares the two bit for bit: on a GPU in `worker selftest`, in the
//! tests with the same text compiled for a CPU.

pub mod check;
pub(crate) mod gpu;
pub(crate) mod launch;
pub mod reference;
pub(crate) mod source;

#[cfg(test)]
mod tests;
