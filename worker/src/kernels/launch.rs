//! Launches, described: which kernel, how many threads, which arguments. Made here only, from tensors whose types and
//! sizes were checked, so that whoever executes one may trust its pointers.

use tch::{Kind, Tensor};

use crate::quantization::{double, nf4};

/// Names of all kernels.
pub(crate) const KERNELS: [&str; 4] =
    ["nf4_dequantise_f16", "nf4_dequantise_f32", "nf4_multiply_f16", "dropout_mask_f16"];

/// Weights that one thread expands.
const RUN: usize = 8;
/// Rows of x that share a pass over the weights.
const ROWS: usize = 4;
/// Threads of a block.
const THREADS: u32 = 256;
/// Blocks at most: a few for each multiprocessor of the largest cards, each then takes several turns.
const BLOCKS_MAX: usize = 2048;

/// One argument, as the kernel declares it.
#[derive(Debug)]
pub(crate) enum Argument {
    /// A pointer to the first element.
    Tensor(Tensor),
    I32(i32),
    I64(i64),
    U32(u32),
    U64(u64),
    F32(f32),
}

/// What to launch.
#[derive(Debug)]
pub(crate) struct Launch {
    /// One of [`KERNELS`].
    pub(crate) kernel: &'static str,
    /// Blocks in x and y.
    pub(crate) grid: [u32; 2],
    /// Threads of a block.
    pub(crate) threads: u32,
    /// In the kernel's order.
    pub(crate) arguments: Vec<Argument>,
}

/// The parts of a packed matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed<'a> {
    pub(crate) packed: &'a Tensor,
    pub(crate) scale_codes: &'a Tensor,
    pub(crate) nested: &'a Tensor,
    pub(crate) offset: f32,
}

impl Packed<'_> {
    fn check(&self, count: usize) {
        let blocks = count.div_ceil(nf4::BLOCK);
        check(self.packed, Kind::Uint8, count.div_ceil(2));
        check(self.scale_codes, Kind::Uint8, blocks);
        check(self.nested, Kind::Float, blocks.div_ceil(double::BLOCK));
    }
}

/// Expands a packed matrix into `out`, fp16 or fp32.
pub(crate) fn nf4_dequantise(weight: Packed, out: &Tensor) -> Launch {
    let count = out.numel();
    weight.check(count);
    let kernel = if out.kind() == Kind::Half { "nf4_dequantise_f16" } else { "nf4_dequantise_f32" };
    check(out, if out.kind() == Kind::Half { Kind::Half } else { Kind::Float }, count);
    let arguments = vec![
        pointer(weight.packed),
        pointer(weight.scale_codes),
        pointer(weight.nested),
        Argument::F32(weight.offset),
        Argument::I64(count as i64),
        pointer(out),
    ];
    Launch { kernel, grid: [blocks(count.div_ceil(RUN)), 1], threads: THREADS, arguments }
}

/// Whether [`nf4_multiply`] serves a matrix with so many columns.
pub(crate) fn can_multiply(input: i64) -> bool {
    input % RUN as i64 == 0
}

/// `y = x W^T` for a few rows: `x` `[rows, input]`, `y` `[rows, output]`, both fp16.
pub(crate) fn nf4_multiply(x: &Tensor, weight: Packed, y: &Tensor) -> Launch {
    let ((rows, input), (_, output)) = (shape(x), shape(y));
    assert!(can_multiply(input as i64), "{input} columns are no multiple of {RUN}");
    weight.check(input * output);
    check(x, Kind::Half, rows * input);
    check(y, Kind::Half, rows * output);
    let arguments = vec![
        pointer(x),
        pointer(weight.packed),
        pointer(weight.scale_codes),
        pointer(weight.nested),
        Argument::F32(weight.offset),
        Argument::I64(input as i64),
        Argument::I64(output as i64),
        Argument::I32(rows as i32),
        pointer(y),
    ];
    // Four warps a block, a column each.
    let grid = [output.div_ceil(4) as u32, rows.div_ceil(ROWS) as u32];
    Launch { kernel: "nf4_multiply_f16", grid, threads: 128, arguments }
}

/// The dropout mask `[rows, width]` fp16 of one place; `keys` int64, one a row.
pub(crate) fn dropout_mask(keys: &Tensor, place: u64, threshold: u32, kept: f32, mask: &Tensor) -> Launch {
    let (rows, width) = shape(mask);
    check(keys, Kind::Int64, rows);
    check(mask, Kind::Half, rows * width);
    let arguments = vec![
        pointer(keys),
        Argument::I64(rows as i64),
        Argument::I64(width as i64),
        Argument::U64(place),
        Argument::U32(threshold),
        Argument::F32(kept),
        pointer(mask),
    ];
    Launch { kernel: "dropout_mask_f16", grid: [blocks(rows * width), 1], threads: THREADS, arguments }
}

fn blocks(threads: usize) -> u32 {
    threads.div_ceil(THREADS as usize).clamp(1, BLOCKS_MAX) as u32
}

fn pointer(tensor: &Tensor) -> Argument {
    Argument::Tensor(tensor.shallow_clone())
}

fn shape(matrix: &Tensor) -> (usize, usize) {
    let (rows, columns) = matrix.size2().expect("a matrix has two dimensions");
    (rows as usize, columns as usize)
}

/// Panics as tch's operators do where a tensor does not fit: the trainer's edge catches both.
fn check(tensor: &Tensor, kind: Kind, count: usize) {
    assert!(
        tensor.kind() == kind && tensor.numel() == count && tensor.is_contiguous(),
        "a kernel wants {count} contiguous {kind:?}, not {:?} {:?}",
        tensor.kind(),
        tensor.size()
    );
}
