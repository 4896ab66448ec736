//! The border to C++: the only `unsafe` of this crate.
#![allow(unsafe_code, reason = "calls into libtorch through the shims")]

pub(crate) mod arguments;
pub(crate) mod arithmetic;
pub(crate) mod cuda_driver;
pub(crate) mod cuda_stream;
#[cfg(test)]
pub(crate) mod emulation;
pub(crate) mod gloo;
pub(crate) mod instructions;
pub(crate) mod library;
pub(crate) mod libtorch_cuda;
pub(crate) mod mapped;
pub(crate) mod nccl;
pub(crate) mod nf4_linear;
pub(crate) mod nvrtc;
pub(crate) mod parallel;
pub(crate) mod view;

/// Ends the process at once: other threads may be inside libtorch, whose destructors must not run meanwhile.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}
