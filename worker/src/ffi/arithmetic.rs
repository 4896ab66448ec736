//! What this process's arithmetic depends on: libtorch's choice of kernels, and the threads of its OpenMP runtime.

use std::ffi::{CStr, c_char, c_int};

unsafe extern "C" {
    fn polya_arithmetic_words(text: *mut c_char, size: usize);
    fn polya_threads_in_parallel() -> c_int;
}

/// libtorch's version and the instruction set its kernels are chosen for.
pub(crate) fn words() -> String {
    let mut text = [0 as c_char; 256];
    // SAFETY: the shim writes at most `size` bytes and ends them with a zero.
    let text = unsafe {
        polya_arithmetic_words(text.as_mut_ptr(), text.len());
        CStr::from_ptr(text.as_ptr())
    };
    text.to_string_lossy().into_owned()
}

/// Threads that a parallel region of this thread has, counted inside one; none where libtorch has no OpenMP.
pub(crate) fn threads_in_parallel() -> Option<u32> {
    // SAFETY: takes nothing; the region's body writes to the shim's own memory alone.
    let found = unsafe { polya_threads_in_parallel() };
    u32::try_from(found).ok().filter(|threads| *threads > 0)
}
