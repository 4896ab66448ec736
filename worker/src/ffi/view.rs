//! The memory of CPU tensors as slices.

use tch::{Device, Kind, Tensor};

/// The numbers of a contiguous CPU tensor of fp32. Panics for any other: callers have made the tensor so.
pub(crate) fn floats(tensor: &Tensor) -> &[f32] {
    slice(tensor, &[Kind::Float])
}

/// The same to write to: of a tensor whose memory nobody reads while it is borrowed.
pub(crate) fn floats_mut(tensor: &mut Tensor) -> &mut [f32] {
    let numbers = slice::<f32>(tensor, &[Kind::Float]);
    let (start, length) = (numbers.as_ptr().cast_mut(), numbers.len());
    // SAFETY: `slice` has checked that the tensor holds so many numbers; libtorch's memory may be written to, and the tensor
    // is borrowed alone.
    unsafe { std::slice::from_raw_parts_mut(start, length) }
}

/// The bytes of a contiguous CPU tensor of uint8.
pub(crate) fn bytes(tensor: &Tensor) -> &[u8] {
    slice(tensor, &[Kind::Uint8])
}

/// The bits of a contiguous CPU tensor of fp16 or bf16.
pub(crate) fn halves(tensor: &Tensor) -> &[u16] {
    slice(tensor, &[Kind::Half, Kind::BFloat16])
}

/// The ids of a contiguous CPU tensor of int64.
pub(crate) fn integers(tensor: &Tensor) -> &[i64] {
    slice(tensor, &[Kind::Int64])
}

fn slice<'a, T>(tensor: &'a Tensor, kinds: &[Kind]) -> &'a [T] {
    assert!(kinds.contains(&tensor.kind()), "a tensor of {:?} is no tensor of {kinds:?}", tensor.kind());
    assert!(tensor.device() == Device::Cpu && tensor.is_contiguous(), "the tensor is contiguous and on the CPU");
    if tensor.numel() == 0 {
        return &[];
    }
    // SAFETY: a contiguous CPU tensor holds `numel` elements of its kind from `data_ptr` on, aligned for it; they live as
    // long as the tensor, and nothing writes to a frozen weight, a leaf or a batch while it is borrowed.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<T>(), tensor.numel()) }
}
