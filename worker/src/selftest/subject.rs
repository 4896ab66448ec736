//! What is checked: the built-in base with adapters that do something, and a few samples.

use anyhow::Result;
use polya_datasets::plant::{BUILT_IN_KINDS, plant};
use polya_datasets::synthesize::{STEPS, synthesize};
use polya_datasets::tokens::{self, Tag};
use polya_proto::v1;

use crate::adapters::{Layout, LoraSet};
use crate::builtin;
use crate::formats::huggingface::{Pretrained, Quantisation};
use crate::model::Placement;
use crate::step::batch::{Prepared, Weighing, prepare};
use crate::step::check::wire;
use crate::step::loss::Loss;
use crate::step::microbatch;
use crate::trainer::load_base;

/// A model, adapters and samples.
pub struct Subject {
    /// What is checked.
    pub place: Placement,
    /// fp32.
    pub base: Pretrained,
    /// NF4.
    pub packed: Pretrained,
    /// The stages' tags.
    pub tags: [Tag; 4],
    /// Shapes of the adapters.
    pub layout: Layout,
    /// The adapters' numbers.
    pub values: Vec<f32>,
    /// Right and corrective samples.
    pub samples: Vec<v1::Sample>,
}

impl Subject {
    /// Loads and makes it.
    pub fn new(place: Placement) -> Result<Self> {
        let base = load_base(builtin::NAME, Quantisation::None)?;
        let tags = tokens::tags(&base.tokenizer)?;
        let end = tokens::end_of_text(&base.tokenizer)?;
        let layout = Layout::new(&base.model.config, 8, 16.0, true);
        let mut values = layout.initial(3);
        // As after some training: with B = 0 adapters would do nothing.
        for (index, value) in values.iter_mut().enumerate().filter(|(_, value)| **value == 0.0) {
            *value = ((index * 37 % 101) as f32 / 101.0 - 0.5) * 0.1;
        }
        let right = (0..3).map(|index| synthesize(8, index, 1..=2));
        let planted = (3..8).filter_map(|index| plant(&synthesize(8, index, STEPS), &BUILT_IN_KINDS, 1).ok());
        let encode = |trajectory| tokens::encode(&base.tokenizer, &tags[3], end, &trajectory);
        let samples: Vec<tokens::Sample> = right.chain(planted.take(2)).map(encode).collect::<Result<_, _>>()?;
        Ok(Subject {
            place,
            packed: load_base(builtin::NAME, Quantisation::Nf4)?,
            samples: samples.into_iter().map(wire).collect(),
            base,
            tags,
            layout,
            values,
        })
    }

    pub(super) fn adapters(&self, gradients: bool) -> LoraSet {
        LoraSet::new(self.layout.clone(), &self.values, gradients)
    }

    pub(super) fn prepare(&self, samples: &[v1::Sample]) -> Result<Prepared> {
        Ok(prepare(samples, &self.tags, WEIGHING, true, (1, 1))?)
    }

    pub(super) fn loss(&self) -> Loss {
        let names = [0, 1, 2, 3].map(|stage: usize| i64::from(self.tags[stage].name_token()));
        Loss { label_smoothing: 0.1, transition: 0.0, names }
    }

    /// Gradient of a microbatch, in the order of the layout, and its loss.
    pub(super) fn gradient(&self, samples: &[v1::Sample], dropout: f64, recompute: bool) -> Result<(Vec<f32>, f64)> {
        let (prepared, adapters) = (self.prepare(samples)?, self.adapters(true));
        let (loss, recomputed) = (self.loss(), if recompute { usize::MAX } else { 0 });
        let loss = (&loss, WEIGHING);
        let found = microbatch::gradient(&self.base.model, &adapters, &prepared, loss, dropout, (1.0, recomputed));
        Ok((found.values, found.loss))
    }
}

/// The published weights of the stages.
pub(super) const WEIGHING: Weighing =
    Weighing { uniform: false, stages: [0.15, 0.35, 0.35, 0.15], samples: 5.0, learned_tokens: 500.0 };
