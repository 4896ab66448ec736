//! A decoder of tensors: any device of libtorch.
//!
//! A layer's keys are one tensor `[rows, G, columns, D]`, token t of a row in column t. It grows by blocks of columns, so
//! it is as wide as the longest row needs and not as wide as a row might become. G kv heads, D head width.

use tch::{Device, Kind, Tensor};

use super::{Decoder, Piece, RowId, Slots};
use crate::adapters::LoraSet;
use crate::model::rotary::Rotary;
use crate::model::transformer::rms_norm;
use crate::model::{Adapters, ProjectionKind, Site, Transformer};

/// Columns by which the cache grows.
const BLOCK: i64 = 64;

/// Keys and values as tensors on the model's device.
pub struct TensorDecoder<'a> {
    model: &'a Transformer,
    adapters: Option<&'a LoraSet>,
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    /// Tokens that each row holds.
    lengths: Slots<i64>,
    logits: Tensor,
}

impl<'a> TensorDecoder<'a> {
    /// Without rows.
    pub fn new(model: &'a Transformer, adapters: Option<&'a LoraSet>) -> Self {
        let config = &model.config;
        let empty =
            || Tensor::zeros([0, config.kv_heads, 0, config.head_dim], (model.norm.kind(), model.norm.device()));
        let layers = || (0..config.layers).map(|_| empty()).collect();
        TensorDecoder {
            model,
            adapters,
            keys: layers(),
            values: layers(),
            lengths: Slots(vec![]),
            logits: Tensor::new(),
        }
    }

    /// Makes room for all rows and for `columns` tokens in each.
    fn reserve(&mut self, columns: i64) {
        let size = self.keys[0].size();
        let (rows, columns) = (self.lengths.0.len() as i64, (columns + BLOCK - 1) / BLOCK * BLOCK);
        if rows <= size[0] && columns <= size[2] {
            return;
        }
        let shape = [rows.max(size[0]), size[1], columns.max(size[2]), size[3]];
        for tensor in self.keys.iter_mut().chain(&mut self.values) {
            let larger = Tensor::zeros(shape, (tensor.kind(), tensor.device()));
            larger.narrow(0, 0, size[0]).narrow(2, 0, size[2]).copy_(tensor);
            *tensor = larger;
        }
    }
}

impl Decoder for TensorDecoder<'_> {
    fn open(&mut self) -> RowId {
        self.lengths.insert(0)
    }

    fn fork(&mut self, row: RowId, length: usize) -> RowId {
        let new = self.lengths.insert(length as i64);
        self.reserve(length as i64);
        for tensor in self.keys.iter().chain(&self.values) {
            let of = |row: RowId| tensor.get(row.0 as i64).narrow(1, 0, length as i64);
            of(new).copy_(&of(row));
        }
        new
    }

    fn length(&self, row: RowId) -> usize {
        *self.lengths.get(row) as usize
    }

    fn truncate(&mut self, row: RowId, length: usize) {
        let held = self.lengths.get_mut(row);
        *held = (*held).min(length as i64);
    }

    fn close(&mut self, row: RowId) {
        self.lengths.remove(row);
    }

    fn feed(&mut self, pieces: &[Piece]) -> &Tensor {
        let _guard = tch::no_grad_guard();
        let (model, config) = (self.model, &self.model.config);
        let device = model.norm.device();
        let fed = Fed::new(pieces, &self.lengths, device);
        self.reserve(fed.longest);
        let rotary = Rotary::new(config, &fed.positions, device);
        let on = self.adapters.map(|set| set.on(&fed.verify, None));
        let on: Option<&dyn Adapters> = on.as_ref().map(|on| on as &dyn Adapters);
        let at = [Some(&fed.rows), None, Some(&fed.columns)];
        let mut x = model.embed(&fed.ids);
        for layer in 0..config.layers {
            let normed = rms_norm(&x, &model.layers[layer].attention_norm, config.norm_epsilon);
            let heads =
                |kind, count| model.project(Site { layer, kind }, &normed, on).view([-1, count, config.head_dim]);
            let q = rotary.apply(&heads(ProjectionKind::Query, config.heads));
            let k = rotary.apply(&heads(ProjectionKind::Key, config.kv_heads));
            let v = heads(ProjectionKind::Value, config.kv_heads);
            let _ = self.keys[layer].index_put_(&at, &k, false);
            let _ = self.values[layer].index_put_(&at, &v, false);
            let attended = fed.attend(&q, &self.keys[layer], &self.values[layer]);
            x = &x + model.project(Site { layer, kind: ProjectionKind::Output }, &attended, on);
            x = &x + model.feed_forward(layer, &x, on);
        }
        for piece in pieces {
            *self.lengths.get_mut(piece.row) += piece.ids.len() as i64;
        }
        self.logits = model.logits(&model.last_norm(&x.index_select(0, &fed.last)));
        &self.logits
    }

    fn prompt_tokens(&self) -> usize {
        2048
    }

    fn bytes(&self) -> usize {
        let of = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        self.keys.iter().chain(&self.values).map(of).sum()
    }
}

/// What is fed, one token after the other: T tokens of all pieces.
struct Fed {
    /// `[T]`
    ids: Tensor,
    /// `[T]`: where each token's key goes.
    rows: Tensor,
    columns: Tensor,
    positions: Vec<i64>,
    verify: Vec<f32>,
    /// The last token of each piece.
    last: Tensor,
    /// Columns of the longest row afterwards.
    longest: i64,
    /// Pieces of one token: where they stand, their rows, and what they see, `[n, 1, 1, columns]` of 0 and -inf.
    single: Option<(Tensor, Tensor, Tensor)>,
    /// Longer pieces: row, first token, tokens, columns that the last one sees.
    long: Vec<(i64, i64, i64, i64)>,
}

impl Fed {
    fn new(pieces: &[Piece], lengths: &Slots<i64>, device: Device) -> Self {
        let (mut ids, mut rows, mut positions, mut verify, mut last) = (vec![], vec![], vec![], vec![], vec![]);
        let (mut single, mut long, mut longest) = (vec![], vec![], 0);
        for piece in pieces {
            let (row, held, count) = (piece.row.0 as i64, *lengths.get(piece.row), piece.ids.len() as i64);
            let first = ids.len() as i64;
            ids.extend(piece.ids.iter().map(|id| i64::from(*id)));
            rows.extend(piece.ids.iter().map(|_| row));
            positions.extend(held..held + count);
            verify.extend((0..piece.ids.len()).map(|index| f32::from(u8::from(index >= piece.verify_from))));
            last.push(first + count - 1);
            longest = longest.max(held + count);
            match count {
                1 => single.push((first, row, held + 1)),
                _ => long.push((row, first, count, held + count)),
            }
        }
        let on = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        let of_single = |pick: fn(&(i64, i64, i64)) -> i64| on(&single.iter().map(pick).collect::<Vec<_>>());
        let most = single.iter().map(|(_, _, seen)| *seen).max().unwrap_or(0);
        let hidden = Tensor::arange(most, (Kind::Int64, device)).ge_tensor(&of_single(|s| s.2).unsqueeze(1));
        let mask = Tensor::zeros(hidden.size(), (Kind::Float, device)).masked_fill(&hidden, f64::NEG_INFINITY);
        Fed {
            ids: on(&ids),
            rows: on(&rows),
            columns: on(&positions),
            last: on(&last),
            single: (!single.is_empty())
                .then(|| (of_single(|s| s.0), of_single(|s| s.1), mask.unsqueeze(1).unsqueeze(1))),
            positions,
            verify,
            longest,
            long,
        }
    }

    /// Attention of `q` `[T, H, D]` to the cached columns; gives `[T, H * D]`.
    fn attend(&self, q: &Tensor, keys: &Tensor, values: &Tensor) -> Tensor {
        let (tokens, heads, d) = (q.size()[0], q.size()[1], q.size()[2]);
        let g = keys.size()[1];
        let mut output = Tensor::zeros([tokens, heads * d], (q.kind(), q.device()));
        if let Some((at, rows, mask)) = &self.single {
            let columns = mask.size()[3];
            let of = |cache: &Tensor| cache.narrow(2, 0, columns).index_select(0, rows);
            let q = q.index_select(0, at).view([-1, g, heads / g, d]);
            let float = |x: &Tensor| x.to_kind(Kind::Float); // scores of real models overflow fp16
            let scores = float(&q).matmul(&float(&of(keys)).transpose(-1, -2)) * (d as f64).powf(-0.5) + mask;
            let attended = scores.softmax(-1, Kind::Float).matmul(&float(&of(values))).reshape([-1, heads * d]);
            let _ = output.index_copy_(0, at, &attended.to_kind(q.kind()));
        }
        for (row, first, count, seen) in &self.long {
            let of = |cache: &Tensor| {
                let wide = cache.get(*row).narrow(1, 0, *seen).unsqueeze(1).expand([g, heads / g, *seen, d], false);
                wide.reshape([1, heads, *seen, d])
            };
            let q = q.narrow(0, *first, *count).transpose(0, 1).unsqueeze(0);
            let mask = Tensor::ones([*count, *seen], (Kind::Bool, q.device())).tril(seen - count);
            let attended =
                Tensor::scaled_dot_product_attention(&q, &of(keys), &of(values), Some(mask), 0.0, false, None, false);
            let attended = attended.squeeze_dim(0).transpose(0, 1).reshape([*count, heads * d]);
            output.narrow(0, *first, *count).copy_(&attended);
        }
        output
    }
}
