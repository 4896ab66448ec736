//! Products of a frozen matrix and its adapters, panel after panel, with what is done to each panel while it is in the cache.

use std::cell::RefCell;

use super::activations::{Activations, Inputs};
use super::panels::Panels;
use crate::ffi::lanes::{Lanes, multiply_add};
use crate::ffi::parallel::for_each_chunk;

/// `W x + b + B low`.
pub(super) struct Product<'a> {
    pub(super) weight: &'a Panels,
    pub(super) bias: Option<&'a [Lanes]>,
    /// The adapters' low-rank part `scale A x`, and B.
    pub(super) low: Option<(&'a Inputs, &'a Panels)>,
}

impl<'a> Product<'a> {
    /// `W x`.
    pub(super) fn of(weight: &'a Panels) -> Self {
        Product { weight, bias: None, low: None }
    }

    /// Sixteen outputs of every token.
    fn panel(&self, panel: usize, x: &Inputs, y: &mut [Lanes]) {
        y.fill(self.bias.map_or(Lanes::ZERO, |bias| bias[panel]));
        multiply_add(&x.values, self.weight.panel(panel), y);
        if let Some((low, up)) = self.low {
            multiply_add(&low.values, up.panel(panel).first(low.values.len() / low.tokens * 16), y);
        }
    }
}

/// The adapters' low-rank part: `factor(part, token)` times `A x`, of the first `parts` panels of A.
pub(super) fn low(
    down: &Panels,
    parts: usize,
    factor: impl Fn(usize, usize) -> f32 + Sync,
    x: &Inputs,
    room: &mut Activations,
    low: &mut Inputs,
) {
    for_each_chunk(room.resized(parts, x.tokens), x.tokens, |part, y| {
        Product::of(down).panel(part, x, y);
        for (token, vector) in y.iter_mut().enumerate() {
            vector.0.iter_mut().for_each(|value| *value *= factor(part, token));
        }
    });
    low.take(room);
}

/// Products of the same tokens, their outputs one after the other.
pub(super) fn side_by_side(products: &[Product], x: &Inputs, y: &mut Activations) {
    let outputs: usize = products.iter().map(|product| product.weight.panels()).sum();
    for_each_chunk(y.resized(outputs, x.tokens), x.tokens, |mut panel, y| {
        for product in products {
            match panel.checked_sub(product.weight.panels()) {
                None => return product.panel(panel, x, y),
                Some(beyond) => panel = beyond,
            }
        }
    });
}

/// `y += the product`
pub(super) fn add(product: &Product, x: &Inputs, y: &mut Activations) {
    for_each_chunk(&mut y.values, x.tokens, |panel, y| {
        with_room(x.tokens, |more| {
            product.panel(panel, x, more);
            super::activations::add(y, more);
        });
    });
}

/// `silu(gate) * up`
pub(super) fn gated(gate: &Product, up: &Product, x: &Inputs, y: &mut Activations) {
    for_each_chunk(y.resized(gate.weight.panels(), x.tokens), x.tokens, |panel, y| {
        with_room(x.tokens, |factor| {
            gate.panel(panel, x, y);
            up.panel(panel, x, factor);
            super::activations::gate(y, factor);
        });
    });
}

fn with_room(tokens: usize, task: impl FnOnce(&mut [Lanes])) {
    ROOM.with_borrow_mut(|room| {
        if room.len() < tokens {
            room.resize(tokens, Lanes::ZERO);
        }
        task(&mut room[..tokens]);
    });
}

thread_local! {
    /// A panel on its way.
    static ROOM: RefCell<Vec<Lanes>> = const { RefCell::new(vec![]) };
}
