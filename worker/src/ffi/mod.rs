//! The border to C++: the only `unsafe` of this crate.
#![allow(unsafe_code, reason = "calls into libtorch through the shims")]

#[cfg(test)]
mod alone;
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

/// Keeps what is freed from here on for the next buffer: a step frees and takes the same buffers again and again, and the
/// system's zeroing of new pages for them took up to a fifth of it (docs/benchmarks.md, "The step"). Larger ones than a
/// mebibyte still go back: where they no longer fit between others the peak grows beyond what `worker plan` says. To be
/// called when the model is loaded.
pub(crate) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: changes a parameter of the allocator, which takes its lock for it; what exists stays as it is.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::alone::in_a_process_of_its_own;

    /// Pages that this thread touched for the first time so far.
    fn new_pages() -> i64 {
        // SAFETY: zeros are a value of the struct, and the call fills it.
        unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
            usage.ru_minflt
        }
    }

    fn pages_of_buffers() -> i64 {
        let before = new_pages();
        std::hint::black_box((0..48).map(|_| vec![1u8; 1 << 19]).collect::<Vec<_>>());
        new_pages() - before
    }

    #[test]
    fn a_buffer_that_was_freed_is_taken_again_without_new_pages() {
        in_a_process_of_its_own("ffi::tests::a_buffer_that_was_freed_is_taken_again_without_new_pages", || {
            super::map_large_buffers();
            let mapped: Vec<i64> = (0..4).map(|_| pages_of_buffers()).collect();
            super::keep_freed_memory();
            let kept: Vec<i64> = (0..4).map(|_| pages_of_buffers()).collect();
            assert!(mapped[3] > 1000 && kept[0] > 1000 && kept[3] < 100, "{mapped:?}, then {kept:?}");
        });
    }
}
