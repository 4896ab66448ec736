//! The border to C++: the only `unsafe` of this crate.
#![allow(unsafe_code, reason = "calls into libtorch through the shims")]

pub(crate) mod gloo;
