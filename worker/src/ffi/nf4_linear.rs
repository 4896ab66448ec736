//! Calls the autograd function of `nf4_shim.cpp`, and serves it with the dequantising kernel.

use std::ffi::{CStr, c_char};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::kernels::gpu;
use crate::kernels::launch::{self, Packed};
use crate::quantization::{Nf4Weight, double, nf4};

unsafe extern "C" {
    fn polya_nf4_linear(
        x: *const C_tensor,
        packed: *const C_tensor,
        scale_codes: *const C_tensor,
        nested: *const C_tensor,
        offset: f32,
        out: i64,
        input: i64,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;
}

/// `x W^T`, differentiable in x. Panics where libtorch refuses (a wrong width), as tch's own operators do.
#[expect(clippy::panic, reason = "tch's own operators panic on libtorch's errors; the trainer's edge catches both")]
pub(crate) fn nf4_linear(x: &Tensor, weight: &Nf4Weight) -> Tensor {
    if gpu::multiplies(x) {
        let product = gpu::multiply(x, weight.parts(), weight.shape.0);
        return product.unwrap_or_else(|reason| panic!("product with an NF4 matrix: {reason}"));
    }
    let mut message = [0 as c_char; 512];
    let (out, input) = weight.shape;
    // SAFETY: the four tensors live through the call; the shim catches every exception and writes at most `size` bytes.
    let result = unsafe {
        polya_nf4_linear(
            x.as_ptr(),
            weight.packed.as_ptr(),
            weight.scale_codes.as_ptr(),
            weight.nested.as_ptr(),
            weight.offset,
            out,
            input,
            message.as_mut_ptr(),
            message.len(),
        )
    };
    if result.is_null() {
        // SAFETY: the shim ends the message with a zero inside the buffer.
        let reason = unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned();
        std::panic::panic_any(format!("product with an NF4 matrix: {reason}"));
    }
    // SAFETY: the shim gave a new tensor, owned by nobody else.
    unsafe { Tensor::from_ptr(result) }
}

/// The kernel behind the autograd function on a GPU.
///
/// # Safety
/// The tensors live through the call; `message` has `size` bytes, at least one.
#[unsafe(no_mangle)]
unsafe extern "C" fn polya_nf4_dequantise_gpu(
    packed: *const C_tensor,
    scale_codes: *const C_tensor,
    nested: *const C_tensor,
    offset: f32,
    out: *const C_tensor,
    message: *mut c_char,
    size: usize,
) -> i32 {
    let run = || {
        // SAFETY: the caller, our own shim, passes live tensors; each clone owns its own reference.
        let [packed, scale_codes, nested, out] =
            [packed, scale_codes, nested, out].map(|tensor| unsafe { Tensor::clone_from_ptr(tensor.cast_mut()) });
        let weight = Packed { packed: &packed, scale_codes: &scale_codes, nested: &nested, offset };
        gpu::run(&launch::nf4_dequantise(weight, &out), out.device())
    };
    // No panic may cross into C++.
    let result = std::panic::catch_unwind(run).unwrap_or_else(|_| Err("a tensor does not fit the kernel".to_owned()));
    let Err(reason) = result else { return 0 };
    let text = &reason.as_bytes()[..reason.len().min(size - 1)];
    // SAFETY: the text and its zero fit the buffer.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), message, text.len());
        message.add(text.len()).write(0);
    }
    1
}

/// The kernel behind the autograd function.
///
/// # Safety
/// `packed` holds `ceil(count / 2)` bytes, `scale_codes` one a block of 64, `nested` one fp32 a 256 blocks, `out`
/// `count` fp32; none overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn polya_nf4_dequantise(
    packed: *const u8,
    scale_codes: *const u8,
    nested: *const f32,
    offset: f32,
    count: i64,
    out: *mut f32,
) {
    let count = count as usize;
    let blocks = count.div_ceil(nf4::BLOCK);
    // SAFETY: the caller, our own shim, passes tensors of an `Nf4Weight`, which has these sizes by construction.
    let (packed, codes, nested, out) = unsafe {
        (
            std::slice::from_raw_parts(packed, count.div_ceil(2)),
            std::slice::from_raw_parts(scale_codes, blocks),
            std::slice::from_raw_parts(nested, blocks.div_ceil(double::BLOCK)),
            std::slice::from_raw_parts_mut(out, count),
        )
    };
    let code = double::code();
    nf4::dequantise(packed, |block| code[usize::from(codes[block])] * nested[block / double::BLOCK] + offset, out);
}
