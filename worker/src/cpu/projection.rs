//! One projection: the frozen matrix and what the adapters add, forward and backward.

use super::operand::{Frozen, Right, View};
use super::product::{Onto, product};
use super::scratch::Scratch;
use super::vector;
use crate::adapters::LoraSet;
use crate::adapters::dropout::{Dropout, Mask};
use crate::ffi::view;
use crate::model::{Site, Transformer};

/// A model with adapters on a pack of rows.
pub(crate) struct Adapted<'a> {
    pub(crate) model: &'a Transformer,
    pub(crate) set: &'a LoraSet,
    pub(crate) dropout: &'a Dropout,
    /// For each adapter the rows that it acts on, ascending.
    pub(crate) rows: [Vec<u32>; 2],
}

/// What the backward pass needs of a projection: for each adapter `scale · A(dropout(x))`, `[rows, rank]`.
pub(crate) type Low = Vec<Vec<f32>>;

/// Gradients of the adapters, in the layout's order.
pub(crate) type Gradients<'a> = &'a mut [f32];

/// One adapter's two matrices at a site.
struct Pair<'a> {
    a: &'a [f32],
    b: &'a [f32],
    a_at: std::ops::Range<usize>,
    b_at: std::ops::Range<usize>,
    mask: Option<Mask>,
    rows: &'a [u32],
}

impl Adapted<'_> {
    /// Input and output width.
    pub(crate) fn widths(&self, site: Site) -> (usize, usize) {
        let (input, output) = self.model.config.projection_shape(site.kind);
        (input as usize, output as usize)
    }

    fn rank(&self) -> usize {
        self.set.layout.rank as usize
    }

    fn scale(&self) -> f32 {
        (self.set.layout.alpha / self.set.layout.rank as f64) as f32
    }

    /// The adapters that act on any row.
    fn pairs(&self, site: Site) -> impl Iterator<Item = Pair<'_>> {
        let adapters = (0..self.set.layout.adapters).filter(|adapter| !self.rows[*adapter].is_empty());
        adapters.map(move |adapter| {
            let index = self.set.index(adapter, site);
            let slots = &self.set.layout.slots;
            Pair {
                a: view::floats(&self.set.tensors[index]),
                b: view::floats(&self.set.tensors[index + 1]),
                a_at: slots[index].range.clone(),
                b_at: slots[index + 1].range.clone(),
                mask: self.dropout.at(site, adapter),
                rows: &self.rows[adapter],
            }
        })
    }

    fn frozen(&self, site: Site) -> Frozen<'_> {
        Frozen::of_weight(&self.model.layers[site.layer].projections[site.kind as usize].weight)
    }

    /// `W x + b` and the adapters on top.
    pub(crate) fn forward(&self, site: Site, x: &[f32], scratch: &mut Scratch) -> (Vec<f32>, Low) {
        let (input, output) = self.widths(site);
        let tokens = x.len() / input;
        let mut y = scratch.take(tokens * output);
        let mut onto = Onto::Nothing;
        if let Some(bias) = &self.model.layers[site.layer].projections[site.kind as usize].bias {
            let bias = view::floats(bias);
            y.chunks_exact_mut(output).for_each(|row| row.copy_from_slice(bias));
            onto = Onto::Sum;
        }
        product(View::new(x, input), &Right::Frozen(self.frozen(site)), &mut y, onto);
        let mut lows = Low::new();
        for pair in self.pairs(site) {
            let dropped = self.dropped(&pair, x, input, scratch);
            let mut low = scratch.take(pair.rows.len() * self.rank());
            let a = Right::View(View::new(pair.a, input).transposed());
            product(View::new(dropped.as_deref().unwrap_or(x), input), &a, &mut low, Onto::Nothing);
            dropped.into_iter().for_each(|buffer| scratch.give(buffer));
            vector::affine(&mut low, self.scale(), 0.0);
            let (view, b) = (View::new(&low, self.rank()), Right::View(View::new(pair.b, self.rank()).transposed()));
            if pair.rows.len() == tokens {
                product(view, &b, &mut y, Onto::Sum);
            } else {
                let mut part = scratch.take(pair.rows.len() * output);
                product(view, &b, &mut part, Onto::Nothing);
                for (row, part) in pair.rows.iter().zip(part.chunks_exact(output)) {
                    vector::add(&mut y[*row as usize * output..][..output], part);
                }
                scratch.give(part);
            }
            lows.push(low);
        }
        (y, lows)
    }

    /// The gradient of the adapters, and that of `x` added to `dx` where it is wanted.
    pub(crate) fn backward(
        &self,
        site: Site,
        (x, lows): (&[f32], &Low),
        upstream: &[f32],
        gradients: Gradients,
        mut dx: Option<&mut [f32]>,
        scratch: &mut Scratch,
    ) {
        let (input, output) = self.widths(site);
        let tokens = x.len() / input;
        if let Some(dx) = dx.as_deref_mut() {
            product(View::new(upstream, output), &Right::Frozen(self.frozen(site).backward()), dx, Onto::Sum);
        }
        for (pair, low) in self.pairs(site).zip(lows) {
            let rows = pair.rows.len();
            let picked = (rows < tokens).then(|| {
                let mut picked = scratch.take(rows * output);
                for (row, to) in pair.rows.iter().zip(picked.chunks_exact_mut(output)) {
                    to.copy_from_slice(&upstream[*row as usize * output..][..output]);
                }
                picked
            });
            let g = View::new(picked.as_deref().unwrap_or(upstream), output);
            let low = Right::View(View::new(low, self.rank()));
            product(g.transposed(), &low, &mut gradients[pair.b_at.clone()], Onto::Nothing);
            let mut d_low = scratch.take(rows * self.rank());
            product(g, &Right::View(View::new(pair.b, self.rank())), &mut d_low, Onto::Nothing);
            vector::affine(&mut d_low, self.scale(), 0.0);
            let d_low_view = View::new(&d_low, self.rank());
            let dropped = self.dropped(&pair, x, input, scratch);
            let x = Right::View(View::new(dropped.as_deref().unwrap_or(x), input));
            product(d_low_view.transposed(), &x, &mut gradients[pair.a_at.clone()], Onto::Nothing);
            dropped.into_iter().for_each(|buffer| scratch.give(buffer));
            if let Some(dx) = dx.as_deref_mut() {
                let a = Right::View(View::new(pair.a, input));
                if pair.mask.is_none() && rows == tokens {
                    product(d_low_view, &a, dx, Onto::Sum);
                } else {
                    let mut back = scratch.take(rows * input);
                    product(d_low_view, &a, &mut back, Onto::Nothing);
                    match pair.mask {
                        Some(mask) => vector::add_dropped(&back, input, pair.rows, mask, &self.dropout.keys, dx),
                        None => {
                            for (row, back) in pair.rows.iter().zip(back.chunks_exact(input)) {
                                vector::add(&mut dx[*row as usize * input..][..input], back);
                            }
                        }
                    }
                    scratch.give(back);
                }
            }
            scratch.give(d_low);
            picked.into_iter().for_each(|buffer| scratch.give(buffer));
        }
    }

    /// The adapter's rows of `x` with dropout; none: they are `x` itself.
    fn dropped(&self, pair: &Pair, x: &[f32], input: usize, scratch: &mut Scratch) -> Option<Vec<f32>> {
        if pair.mask.is_none() && pair.rows.len() * input == x.len() {
            return None;
        }
        let mut out = scratch.take(pair.rows.len() * input);
        match pair.mask {
            Some(mask) => vector::dropped(x, input, pair.rows, mask, &self.dropout.keys, &mut out),
            None => {
                for (row, out) in pair.rows.iter().zip(out.chunks_exact_mut(input)) {
                    out.copy_from_slice(&x[*row as usize * input..][..input]);
                }
            }
        }
        Some(out)
    }
}
