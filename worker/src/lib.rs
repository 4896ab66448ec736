//! .

pub mod collectives;
mod ffi;
