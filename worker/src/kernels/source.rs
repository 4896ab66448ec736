//! The kernels' text: CUDA C++ in `source/`, with the tables of [`crate::quantization`] written before it, so that there
//! is one copy of each.

use std::fmt::Write;

use crate::quantization::{double, nf4};

const DEVICE: &str = include_str!("source/device.cuh");
const KERNELS: [&str; 2] = [include_str!("source/nf4.cu"), include_str!("source/dropout.cu")];

/// All kernels as one text for NVRTC.
pub(crate) fn text() -> String {
    format!("{DEVICE}\n{}", body())
}

/// Tables and kernels, without what stands for the device.
pub(crate) fn body() -> String {
    let mut text = table("NF4_CODE", &nf4::CODE) + &table("SCALE_CODE", double::code());
    KERNELS.iter().for_each(|kernel| text.push_str(kernel));
    text
}

/// What NVRTC is told: rounding as written, no fused multiply-add but where the text says so.
pub(crate) fn options(major: i32, minor: i32) -> Vec<String> {
    [&format!("--gpu-architecture=sm_{major}{minor}"), "--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true"]
        .map(str::to_owned)
        .to_vec()
}

/// A table of fp32 in their shortest decimal form, which reads back to the same bits.
fn table(name: &str, values: &[f32]) -> String {
    let mut text = format!("__device__ const float {name}[{}] = {{", values.len());
    for value in values {
        let _ = write!(text, "{value:e}f, ");
    }
    text + "};\n"
}
