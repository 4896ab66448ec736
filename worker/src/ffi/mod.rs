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
pub(crate) mod lanes;
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

/// Lets every buffer from a mebibyte on have pages of its own, which go back when it is freed: else those that come and go
/// while a model is loaded leave holes between the weights, as large as the model once more.
pub fn map_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: changes a parameter of the allocator; called before any other thread runs.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}
