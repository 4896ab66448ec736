//! Decoding with a cache of keys and values: rows of different length, one token a row at a time.
//!
//! A row's keys stand in the first columns after its prompt was read, then one column a step, the same for all rows;
//! a mask says which columns a row sees. Positions are the row's own, so where a key stands does not matter.

use tch::{Device, Kind, Tensor};

use super::batch::PackedBatch;
use super::rotary::Rotary;
use super::transformer::{Adapters, Pass, ProjectionKind, Site, Transformer, rms_norm};

/// Keys and values of some rows.
pub struct Cache {
    /// A layer each: `[B, G, columns, D]`.
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    /// `[B, columns]` fp32: 0 where a row sees a column, -inf elsewhere.
    mask: Tensor,
    /// Columns in use.
    used: i64,
}

impl Cache {
    /// Reads prompts (packed, without padding) and leaves room for `room` more tokens. Gives the cache and the last
    /// hidden state of each row `[B, C]`, after the last norm.
    pub fn of_prompts(
        model: &Transformer,
        batch: &PackedBatch,
        room: i64,
        adapters: Option<&dyn Adapters>,
    ) -> (Self, Tensor) {
        let config = &model.config;
        let rows = batch.segments.len() as i64;
        let longest = batch.segments.iter().map(|s| s.tokens.end - s.tokens.start).max().unwrap_or(0);
        let columns = longest + room;
        let device = batch.ids.device();
        let mask = Tensor::full([rows, columns], f64::NEG_INFINITY, (Kind::Float, device));
        for (row, segment) in (0..).zip(&batch.segments) {
            let _ = mask.get(row).narrow(0, 0, segment.tokens.end - segment.tokens.start).fill_(0.0);
        }
        let empty = || Tensor::zeros([rows, config.kv_heads, columns, config.head_dim], (model.norm.kind(), device));
        let mut cache = Cache { keys: vec![], values: vec![], mask, used: longest };
        let pass = Pass::new(config, batch, adapters);
        let rotary = Rotary::new(config, &batch.positions, device);
        let mut x = model.embed(&batch.ids);
        for index in 0..model.layers.len() {
            let normed = rms_norm(&x, &model.layers[index].attention_norm, config.norm_epsilon);
            let heads = |kind| {
                model.project(Site { layer: index, kind }, &normed, adapters).view([
                    -1,
                    config.kv_heads,
                    config.head_dim,
                ])
            };
            let (k, v) = (rotary.apply(&heads(ProjectionKind::Key)), heads(ProjectionKind::Value));
            let (keys, values) = (empty(), empty());
            for (row, segment) in (0..).zip(&batch.segments) {
                let length = segment.tokens.end - segment.tokens.start;
                let put = |to: &Tensor, from: &Tensor| {
                    let part = from.narrow(0, segment.tokens.start, length).transpose(0, 1);
                    to.get(row).narrow(1, 0, length).copy_(&part);
                };
                put(&keys, &k);
                put(&values, &v);
            }
            cache.keys.push(keys);
            cache.values.push(values);
            x = model.layer(index, &x, &pass);
        }
        let last: Vec<i64> = batch.segments.iter().map(|segment| segment.tokens.end - 1).collect();
        let last = x.index_select(0, &Tensor::from_slice(&last).to_device(x.device()));
        (cache, model.last_norm(&last))
    }

    /// Feeds one token a row. Gives `[B, C]` after the last norm.
    pub fn step(
        &mut self,
        model: &Transformer,
        ids: &[i64],
        positions: &[i64],
        adapters: Option<&dyn Adapters>,
    ) -> Tensor {
        let config = &model.config;
        let (g, d) = (config.kv_heads, config.head_dim);
        let group = config.heads / g;
        let device = self.mask.device();
        let column = self.used;
        self.used += 1;
        let _ = self.mask.narrow(1, column, 1).fill_(0.0);
        let mask = self.mask.narrow(1, 0, self.used).unsqueeze(1).unsqueeze(1);
        let rotary = Rotary::new(config, positions, device);
        let mut x = model.embed(&Tensor::from_slice(ids).to_device(device));
        for index in 0..model.layers.len() {
            let normed = rms_norm(&x, &model.layers[index].attention_norm, config.norm_epsilon);
            let project = |kind| model.project(Site { layer: index, kind }, &normed, adapters);
            let q = rotary.apply(&project(ProjectionKind::Query).view([-1, config.heads, d])).view([-1, g, group, d]);
            let k = rotary.apply(&project(ProjectionKind::Key).view([-1, g, d]));
            let v = project(ProjectionKind::Value).view([-1, g, d]);
            self.keys[index].narrow(2, column, 1).copy_(&k.unsqueeze(2));
            self.values[index].narrow(2, column, 1).copy_(&v.unsqueeze(2));
            let keys = self.keys[index].narrow(2, 0, self.used);
            let values = self.values[index].narrow(2, 0, self.used);
            let float = |x: &Tensor| x.to_kind(Kind::Float); // scores of real models overflow fp16
            let scores = float(&q).matmul(&float(&keys).transpose(-1, -2)) * (d as f64).powf(-0.5) + &mask;
            let attended = scores.softmax(-1, Kind::Float).matmul(&float(&values)).reshape([-1, config.heads * d]);
            let attended = attended.to_kind(normed.kind());
            let output = Site { layer: index, kind: ProjectionKind::Output };
            x = &x + model.project(output, &attended, adapters);
            x = &x + model.feed_forward(index, &x, adapters);
        }
        model.last_norm(&x)
    }

    /// Makes a row forget its last `count` columns: they are fed again with another adapter.
    pub fn forget(&mut self, row: i64, count: i64) {
        let _ = self.mask.get(row).narrow(0, self.used - count, count).fill_(f64::NEG_INFINITY);
    }

    /// Keeps only these rows, in this order.
    pub fn keep(&mut self, rows: &[i64]) {
        let rows = Tensor::from_slice(rows).to_device(self.mask.device());
        for tensor in self.keys.iter_mut().chain(&mut self.values).chain([&mut self.mask]) {
            *tensor = tensor.index_select(0, &rows);
        }
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.mask.device()
    }
}
