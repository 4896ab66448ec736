//! The arguments of a launch as `cuLaunchKernel` takes them: a pointer to each.

use std::ffi::c_void;

use crate::kernels::launch::{Argument, Launch};

/// Values that stay in their place while a kernel reads them.
pub(crate) struct Arguments(Vec<u64>);

impl Arguments {
    /// Copies them. A smaller value stands in the first bytes of its word, as a little-endian machine reads it.
    pub(crate) fn of(launch: &Launch) -> Self {
        let word = |argument: &Argument| match argument {
            Argument::Tensor(tensor) => tensor.data_ptr() as u64,
            Argument::I32(value) => u64::from(*value as u32),
            Argument::I64(value) => *value as u64,
            Argument::U32(value) => u64::from(*value),
            Argument::U64(value) => *value,
            Argument::F32(value) => u64::from(value.to_bits()),
        };
        Arguments(launch.arguments.iter().map(word).collect())
    }

    /// One pointer each; valid as long as `self` is borrowed.
    pub(crate) fn pointers(&mut self) -> Vec<*mut c_void> {
        self.0.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect()
    }
}
