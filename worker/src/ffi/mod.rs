//! The border to C++: the only `unsafe` of this crate.
#![allow(unsafe_code, reason = "calls into libtorch through the shims")]

pub(crate) mod gloo;

/// Ends the process at once: other threads may be inside libtorch, whose destructors must not run meanwhile.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}
pub(crate) mod nf4_linear;
