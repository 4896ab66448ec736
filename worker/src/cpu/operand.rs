//! What a product can be made of: strided fp32, 16-bit and NF4 matrices, each of them copied (and expanded) into panels.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use tch::{Kind, Tensor};

use crate::ffi::view;
use crate::model::FrozenWeight;
use crate::quantization::{Nf4Weight, double, nf4};

/// An fp32 matrix; `data[row * rows_apart + column * columns_apart]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) rows_apart: usize,
    pub(crate) columns_apart: usize,
}

impl<'a> View<'a> {
    /// Rows without gaps.
    pub(crate) fn new(data: &'a [f32], columns: usize) -> Self {
        View { data, rows: data.len() / columns, columns, rows_apart: columns, columns_apart: 1 }
    }

    /// Rows `first..first + rows` and columns `column..column + columns` of it.
    pub(crate) fn part(self, first: usize, rows: usize, column: usize, columns: usize) -> Self {
        let data = &self.data[first * self.rows_apart + column * self.columns_apart..];
        View { data, rows, columns, ..self }
    }

    /// Rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        View {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            rows_apart: self.columns_apart,
            columns_apart: self.rows_apart,
        }
    }

    /// Writes `W` rows from `row` on, columns `from..`, side by side: `panel[p][i] = self[row + i][from + p]`; rows beyond
    /// the matrix are zero.
    pub(crate) fn pack_rows<const W: usize>(&self, row: usize, from: usize, panel: &mut [[f32; W]]) {
        let whole = row + W <= self.rows;
        if self.columns_apart == 1 && whole {
            let rows: [&[f32]; W] =
                std::array::from_fn(|i| &self.data[(row + i) * self.rows_apart + from..][..panel.len()]);
            interleave(&rows, panel);
        } else if self.rows_apart == 1 && whole {
            for (p, out) in panel.iter_mut().enumerate() {
                out.copy_from_slice(&self.data[row + (from + p) * self.columns_apart..][..W]);
            }
        } else {
            let height = W.min(self.rows - row);
            for (p, out) in panel.iter_mut().enumerate() {
                *out = [0.0; W];
                for (i, value) in out[..height].iter_mut().enumerate() {
                    *value = self.data[(row + i) * self.rows_apart + (from + p) * self.columns_apart];
                }
            }
        }
    }
}

/// `panel[p][i] = rows[i][p]`.
fn interleave<const W: usize>(rows: &[&[f32]; W], panel: &mut [[f32; W]]) {
    let rows: [&[f32]; W] = rows.map(|row| &row[..panel.len()]);
    for (p, out) in panel.iter_mut().enumerate() {
        *out = std::array::from_fn(|i| rows[i][p]);
    }
}

/// The storage of a frozen matrix `[out, in]`, row by row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Storage<'a> {
    Float(&'a [f32]),
    Half(&'a [u16]),
    Brain(&'a [u16]),
    Nf4 { packed: &'a [u8], scale_codes: &'a [u8], nested: &'a [f32], offset: f32 },
}

/// A frozen matrix as the right side of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frozen<'a> {
    storage: Storage<'a>,
    out: usize,
    input: usize,
    /// `x W^T` (of inputs), else `y W` (of outputs' gradients).
    forward: bool,
}

/// The right side of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right<'a> {
    View(View<'a>),
    Frozen(Frozen<'a>),
}

impl<'a> Frozen<'a> {
    /// Of a projection's weight.
    pub(crate) fn of_weight(weight: &'a FrozenWeight) -> Self {
        match weight {
            FrozenWeight::Dense(tensor) => Self::of_tensor(tensor),
            FrozenWeight::Nf4(weight) => Self::of_nf4(weight),
        }
    }

    /// Of packed codes.
    pub(crate) fn of_nf4(weight: &'a Nf4Weight) -> Self {
        let storage = Storage::Nf4 {
            packed: view::bytes(&weight.packed),
            scale_codes: view::bytes(&weight.scale_codes),
            nested: view::floats(&weight.nested),
            offset: weight.offset,
        };
        Frozen { storage, out: weight.shape.0 as usize, input: weight.shape.1 as usize, forward: true }
    }

    /// Of a matrix of fp32, fp16 or bf16.
    pub(crate) fn of_tensor(tensor: &'a Tensor) -> Self {
        let (out, input) = tensor.size2().expect("a weight has two dimensions");
        let storage = match tensor.kind() {
            Kind::Half => Storage::Half(view::halves(tensor)),
            Kind::BFloat16 => Storage::Brain(view::halves(tensor)),
            _ => Storage::Float(view::floats(tensor)),
        };
        Frozen { storage, out: out as usize, input: input as usize, forward: true }
    }

    /// The factor of the backward product.
    pub(crate) fn backward(self) -> Self {
        Frozen { forward: false, ..self }
    }

    /// Rows (the summed dimension) and columns of the factor.
    pub(crate) fn size(&self) -> (usize, usize) {
        if self.forward { (self.input, self.out) } else { (self.out, self.input) }
    }

    /// Values of the flat matrix from `start` on.
    pub(crate) fn expand(&self, start: usize, values: &mut [f32]) {
        let end = start + values.len();
        match self.storage {
            Storage::Float(data) => values.copy_from_slice(&data[start..end]),
            Storage::Half(data) => data[start..end].reinterpret_cast::<half::f16>().convert_to_f32_slice(values),
            Storage::Brain(data) => {
                for (value, bits) in values.iter_mut().zip(&data[start..end]) {
                    *value = f32::from_bits(u32::from(*bits) << 16);
                }
            }
            Storage::Nf4 { packed, scale_codes, nested, offset } => {
                let code = double::code();
                let scale =
                    |block: usize| code[usize::from(scale_codes[block])] * nested[block / double::BLOCK] + offset;
                nf4::expand(packed, scale, start, values);
            }
        }
    }

    /// `panel[p][j] = factor[from + p][column + j]`; columns beyond the factor are zero. `room` is scratch.
    fn pack<const W: usize>(&self, from: usize, column: usize, panel: &mut [[f32; W]], room: &mut Vec<f32>) {
        let depth = panel.len();
        let width = W.min(self.size().1 - column);
        if self.forward {
            room.resize(W * depth, 0.0);
            for (j, row) in room.chunks_exact_mut(depth).enumerate() {
                if j < width {
                    self.expand((column + j) * self.input + from, row);
                } else {
                    row.fill(0.0);
                }
            }
            let rows: [&[f32]; W] = std::array::from_fn(|j| &room[j * depth..][..depth]);
            interleave(&rows, panel);
        } else {
            for (p, out) in panel.iter_mut().enumerate() {
                self.expand((from + p) * self.input + column, &mut out[..width]);
                out[width..].fill(0.0);
            }
        }
    }
}

impl Right<'_> {
    /// Rows (the summed dimension) and columns.
    pub(crate) fn size(&self) -> (usize, usize) {
        match self {
            Right::View(view) => (view.rows, view.columns),
            Right::Frozen(frozen) => frozen.size(),
        }
    }

    /// `panel[p][j] = factor[from + p][column + j]`.
    pub(crate) fn pack<const W: usize>(&self, from: usize, column: usize, panel: &mut [[f32; W]], room: &mut Vec<f32>) {
        match self {
            Right::View(view) => view.transposed().pack_rows(column, from, panel),
            Right::Frozen(frozen) => frozen.pack(from, column, panel, room),
        }
    }
}
