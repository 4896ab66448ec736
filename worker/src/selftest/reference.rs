//! The model and its loss in fp64, by plain loops: what the fast code is compared with. Formulas as in
//! docs/architecture.md, "The dual adapter" and "The loss"; one sequence, no packing, no cache.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use polya_proto::v1;

use super::{Subject, doubles};
use crate::adapters::Slot;
use crate::formats::huggingface::named_tensors;
use crate::model::{ModelConfig, ProjectionKind, Site};
use crate::quantization::floats;

use ProjectionKind::{Down, Gate, Key, Output, Query, Up, Value};

/// A model in fp64.
pub(super) struct Reference<'a> {
    subject: &'a Subject,
    config: &'a ModelConfig,
    weights: BTreeMap<String, Vec<f64>>,
}

/// Rows of numbers, one a token.
type Rows = Vec<Vec<f64>>;

impl<'a> Reference<'a> {
    pub(super) fn new(subject: &'a Subject) -> Self {
        let tensors = named_tensors(&subject.base.model);
        let weights = tensors.into_iter().map(|(name, tensor)| (name, doubles(&floats(&tensor)))).collect();
        Reference { subject, config: &subject.base.model.config, weights }
    }

    /// A sample's share of the step's loss: label smoothing, stage weights, no transition term.
    pub(super) fn loss(&self, sample: &v1::Sample, adapters: &[f64]) -> Result<f64> {
        let (start, length) = (sample.verify_tag_start as usize, sample.ids.len());
        let on: Vec<f64> = (0..length).map(|position| if position >= start { 1.0 } else { 0.0 }).collect();
        // The tag's second to last tokens are predicted without the verification adapter.
        let (real, shadow) =
            (self.logits(&sample.ids, &on, adapters)?, self.logits(&sample.ids, &vec![0.0; length], adapters)?);
        let smoothing = self.subject.loss().label_smoothing;
        let prepared = self.subject.prepare(std::slice::from_ref(sample))?;
        let share = |prediction: &crate::step::batch::Prediction| {
            let row = prediction.row as usize;
            let logits = if row < length { &real[row] } else { &shadow[start + row - length] };
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total = logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln() + largest;
            let mean = total - logits.iter().sum::<f64>() / logits.len() as f64;
            prediction.weight * ((1.0 - smoothing) * (total - logits[prediction.target as usize]) + smoothing * mean)
        };
        Ok(prepared.predictions.iter().map(share).sum())
    }

    fn logits(&self, ids: &[u32], verify: &[f64], adapters: &[f64]) -> Result<Rows> {
        let c = self.config.hidden as usize;
        let embedding = self.weight("model.embed_tokens.weight")?;
        let mut x: Rows = ids.iter().map(|id| embedding[*id as usize * c..][..c].to_vec()).collect();
        for layer in 0..self.config.layers {
            let project = |kind, x: &Rows| self.project(Site { layer, kind }, x, verify, adapters);
            let normed = self.norm(&x, &format!("model.layers.{layer}.input_layernorm.weight"))?;
            let (q, k, v) = (project(Query, &normed)?, project(Key, &normed)?, project(Value, &normed)?);
            add(&mut x, &project(Output, &self.attention(&self.turned(q), &self.turned(k), &v))?);
            let normed = self.norm(&x, &format!("model.layers.{layer}.post_attention_layernorm.weight"))?;
            let (mut gate, up) = (project(Gate, &normed)?, project(Up, &normed)?);
            for (gate, up) in gate.iter_mut().flatten().zip(up.iter().flatten()) {
                *gate = *gate / (1.0 + (-*gate).exp()) * up;
            }
            add(&mut x, &project(Down, &gate)?);
        }
        let normed = self.norm(&x, "model.norm.weight")?;
        let head = if self.config.tied { embedding } else { self.weight("lm_head.weight")? };
        Ok(linear(&normed, head))
    }

    fn weight(&self, name: &str) -> Result<&Vec<f64>> {
        self.weights.get(name).with_context(|| format!("the model has no {name}"))
    }

    /// `W x + b + r_R(x) + m r_V(x)`.
    fn project(&self, site: Site, x: &Rows, verify: &[f64], adapters: &[f64]) -> Result<Rows> {
        let mut y = linear(x, self.weight(&format!("{}.weight", site.name()))?);
        if let Some(bias) = self.weights.get(&format!("{}.bias", site.name())) {
            y.iter_mut().for_each(|y| y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias));
        }
        let layout = &self.subject.layout;
        let slots: Vec<&Slot> = layout.slots.iter().filter(|slot| slot.site == site).collect();
        for pair in slots.chunks_exact(2) {
            let low = linear(x, &adapters[pair[0].range.clone()]);
            let high = linear(&low, &adapters[pair[1].range.clone()]);
            for ((y, high), m) in y.iter_mut().zip(&high).zip(verify) {
                let factor = layout.alpha / layout.rank as f64 * if pair[0].adapter == 1 { *m } else { 1.0 };
                y.iter_mut().zip(high).for_each(|(y, high)| *y += factor * high);
            }
        }
        Ok(y)
    }

    fn norm(&self, x: &Rows, name: &str) -> Result<Rows> {
        let weight = self.weight(name)?;
        let normed = |x: &Vec<f64>| {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            let scale = 1.0 / (mean + self.config.norm_epsilon).sqrt();
            x.iter().zip(weight).map(|(x, weight)| x * scale * weight).collect()
        };
        Ok(x.iter().map(normed).collect())
    }

    /// Rotary positions on halves.
    fn turned(&self, mut x: Rows) -> Rows {
        let (d, half) = (self.config.head_dim as usize, self.config.head_dim as usize / 2);
        for (position, row) in x.iter_mut().enumerate() {
            for head in row.chunks_exact_mut(d) {
                for index in 0..half {
                    let angle = position as f64 * self.config.rope_theta.powf(-2.0 * index as f64 / d as f64);
                    let (a, b) = (head[index], head[index + half]);
                    head[index] = a * angle.cos() - b * angle.sin();
                    head[index + half] = b * angle.cos() + a * angle.sin();
                }
            }
        }
        x
    }

    fn attention(&self, q: &Rows, k: &Rows, v: &Rows) -> Rows {
        let (heads, d) = (self.config.heads as usize, self.config.head_dim as usize);
        let group = heads / self.config.kv_heads as usize;
        let attend = |position: usize| {
            let mut out = vec![0.0; heads * d];
            for head in 0..heads {
                let (of, kv) = (head * d, head / group * d);
                let score = |seen: usize| {
                    let dot: f64 = q[position][of..][..d].iter().zip(&k[seen][kv..][..d]).map(|(q, k)| q * k).sum();
                    dot / (d as f64).sqrt()
                };
                let scores: Vec<f64> = (0..=position).map(score).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
                for (seen, score) in scores.iter().enumerate() {
                    let share = (score - largest).exp() / total;
                    out[of..][..d].iter_mut().zip(&v[seen][kv..][..d]).for_each(|(out, v)| *out += share * v);
                }
            }
            out
        };
        (0..q.len()).map(attend).collect()
    }
}

/// `x W^T` for `W` `[out, in]`.
fn linear(x: &Rows, weight: &[f64]) -> Rows {
    let input = x.first().map_or(1, Vec::len);
    let dot = |x: &[f64], row: &[f64]| x.iter().zip(row).map(|(x, w)| x * w).sum();
    x.iter().map(|x| weight.chunks_exact(input).map(|row| dot(x, row)).collect()).collect()
}

fn add(x: &mut Rows, other: &Rows) {
    x.iter_mut().flatten().zip(other.iter().flatten()).for_each(|(x, other)| *x += other);
}
