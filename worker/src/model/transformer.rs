//! Qwen2 and Llama from ids to logits, in reading order. Works on packs.
//!
//! Weights say what is computed in: fp32 on a CPU, fp16 on a GPU. Residuals, norms and rotary positions are fp32 in both.
//!
//! Shapes: T tokens of a pack, C hidden, H query heads, G kv heads, D head width, V rows of the embedding.

use tch::{Device, Kind, Tensor};

use super::batch::{PackedBatch, Segment};
use super::config::ModelConfig;
use super::rotary::Rotary;
use crate::quantization::Nf4Weight;

/// The seven projections of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProjectionKind {
    /// `self_attn.q_proj`
    Query,
    /// `self_attn.k_proj`
    Key,
    /// `self_attn.v_proj`
    Value,
    /// `self_attn.o_proj`
    Output,
    /// `mlp.gate_proj`
    Gate,
    /// `mlp.up_proj`
    Up,
    /// `mlp.down_proj`
    Down,
}

impl ProjectionKind {
    /// All of them, in the canonical order.
    pub const ALL: [ProjectionKind; 7] = [
        ProjectionKind::Query,
        ProjectionKind::Key,
        ProjectionKind::Value,
        ProjectionKind::Output,
        ProjectionKind::Gate,
        ProjectionKind::Up,
        ProjectionKind::Down,
    ];

    /// The module's name in a layer.
    pub fn module(self) -> &'static str {
        match self {
            ProjectionKind::Query => "self_attn.q_proj",
            ProjectionKind::Key => "self_attn.k_proj",
            ProjectionKind::Value => "self_attn.v_proj",
            ProjectionKind::Output => "self_attn.o_proj",
            ProjectionKind::Gate => "mlp.gate_proj",
            ProjectionKind::Up => "mlp.up_proj",
            ProjectionKind::Down => "mlp.down_proj",
        }
    }
}

/// A projection's place in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// Layer from 0.
    pub layer: usize,
    /// Which projection.
    pub kind: ProjectionKind,
}

impl Site {
    /// The module's full name, `model.layers.3.self_attn.q_proj`.
    pub fn name(self) -> String {
        format!("model.layers.{}.{}", self.layer, self.kind.module())
    }
}

/// Adds what adapters make of a projection's input.
pub trait Adapters {
    /// `x` `[T, in]`, `y` `[T, out]` of the frozen weight; gives `y` plus the adapters' part.
    fn apply(&self, site: Site, x: &Tensor, y: Tensor) -> Tensor;
}

/// A weight that is not trained.
#[derive(Debug)]
pub enum FrozenWeight {
    /// `[out, in]` fp32.
    Dense(Tensor),
    /// Four bits, dequantised at each use.
    Nf4(Nf4Weight),
}

/// A linear map with a frozen weight.
#[derive(Debug)]
pub struct Projection {
    /// The weight.
    pub weight: FrozenWeight,
    /// `[out]`, where there is one.
    pub bias: Option<Tensor>,
}

/// One layer.
#[derive(Debug)]
pub struct Layer {
    /// `[C]`
    pub attention_norm: Tensor,
    /// In the order of [`ProjectionKind::ALL`].
    pub projections: Vec<Projection>,
    /// `[C]`
    pub mlp_norm: Tensor,
}

/// The whole model.
#[derive(Debug)]
pub struct Transformer {
    /// Shapes and constants.
    pub config: ModelConfig,
    /// `[V, C]`
    pub embedding: Tensor,
    /// The layers.
    pub layers: Vec<Layer>,
    /// `[C]`
    pub norm: Tensor,
    /// `[V, C]`; none: tied to the embedding.
    pub head: Option<Tensor>,
}

/// What all layers of one forward pass share.
pub struct Pass<'a> {
    /// Adapters, where they are on.
    pub adapters: Option<&'a dyn Adapters>,
    rotary: Rotary,
    segments: Vec<(Segment, Option<Tensor>)>,
}

impl<'a> Pass<'a> {
    /// For a pack.
    pub fn new(config: &ModelConfig, batch: &PackedBatch, adapters: Option<&'a dyn Adapters>) -> Self {
        let device = batch.ids.device();
        let rotary = Rotary::new(config, &batch.positions, device);
        let segments = batch.segments.iter().map(|segment| (segment.clone(), segment.mask(device))).collect();
        Pass { adapters, rotary, segments }
    }
}

impl Transformer {
    /// Hidden states `[T, C]` after the last norm.
    pub fn hidden(&self, batch: &PackedBatch, adapters: Option<&dyn Adapters>) -> Tensor {
        let pass = Pass::new(&self.config, batch, adapters);
        let mut x = self.embed(&batch.ids);
        for layer in 0..self.layers.len() {
            x = self.layer(layer, &x, &pass);
        }
        self.last_norm(&x)
    }

    /// `[T]` to `[T, C]`, fp32.
    pub fn embed(&self, ids: &Tensor) -> Tensor {
        self.embedding.index_select(0, ids).to_kind(Kind::Float)
    }

    /// The norm before the head.
    pub fn last_norm(&self, x: &Tensor) -> Tensor {
        rms_norm(x, &self.norm, self.config.norm_epsilon)
    }

    /// Logits `[N, V]` of some rows `[N, C]`.
    pub fn logits(&self, rows: &Tensor) -> Tensor {
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        if head.device() == Device::Cpu && head.kind() != Kind::Float && !rows.requires_grad() {
            return crate::cpu::linear(rows, head);
        }
        rows.matmul(&head.to_kind(rows.kind()).tr())
    }

    /// One layer on a pack, `[T, C]` to `[T, C]`.
    pub fn layer(&self, index: usize, x: &Tensor, pass: &Pass) -> Tensor {
        let (h, g, d) = (self.config.heads, self.config.kv_heads, self.config.head_dim);
        let normed = rms_norm(x, &self.layers[index].attention_norm, self.config.norm_epsilon);
        let project = |kind, x: &Tensor| self.project(Site { layer: index, kind }, x, pass.adapters);
        let q = pass.rotary.apply(&project(ProjectionKind::Query, &normed).view([-1, h, d]));
        let k = pass.rotary.apply(&project(ProjectionKind::Key, &normed).view([-1, g, d]));
        let v = project(ProjectionKind::Value, &normed).view([-1, g, d]);
        let attended = attention(&q, &k, &v, &pass.segments);
        let x = x + project(ProjectionKind::Output, &attended);
        &x + self.feed_forward(index, &x, pass.adapters)
    }

    /// The gated feed-forward of a layer, `down(silu(gate) * up)`, its norm included.
    pub(crate) fn feed_forward(&self, index: usize, x: &Tensor, adapters: Option<&dyn Adapters>) -> Tensor {
        let normed = rms_norm(x, &self.layers[index].mlp_norm, self.config.norm_epsilon);
        let project = |kind, x: &Tensor| self.project(Site { layer: index, kind }, x, adapters);
        let gate = project(ProjectionKind::Gate, &normed).silu();
        let up = project(ProjectionKind::Up, &normed);
        project(ProjectionKind::Down, &(gate * up))
    }

    /// One projection with its adapters.
    pub(crate) fn project(&self, site: Site, x: &Tensor, adapters: Option<&dyn Adapters>) -> Tensor {
        let projection = &self.layers[site.layer].projections[site.kind as usize];
        let mut y = match &projection.weight {
            FrozenWeight::Dense(weight) => x.matmul(&weight.tr()),
            FrozenWeight::Nf4(weight) => weight.linear(x),
        };
        if let Some(bias) = &projection.bias {
            y += bias;
        }
        match adapters {
            Some(adapters) => adapters.apply(site, x, y),
            None => y,
        }
    }
}

/// Root-mean-square norm in fp32, times the weight (Zhang and Sennrich 2019); rounded to the weight's type.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Tensor {
    let scale = ((x * x).mean_dim([-1i64].as_slice(), true, Kind::Float) + epsilon).rsqrt();
    (x * scale * weight).to_kind(weight.kind())
}

/// Attention within each segment. `q` `[T, H, D]`, `k` and `v` `[T, G, D]`; gives `[T, H * D]`.
fn attention(q: &Tensor, k: &Tensor, v: &Tensor, segments: &[(Segment, Option<Tensor>)]) -> Tensor {
    let (heads, kv_heads, width) = (q.size()[1], k.size()[1], q.size()[2]);
    let outputs: Vec<Tensor> = segments
        .iter()
        .map(|(segment, mask)| {
            let length = segment.tokens.end - segment.tokens.start;
            let of = |x: &Tensor| x.narrow(0, segment.tokens.start, length).transpose(0, 1).unsqueeze(0);
            let repeat = |x: &Tensor| {
                let wide = x.unsqueeze(2).expand([1, kv_heads, heads / kv_heads, length, width], false);
                wide.reshape([1, heads, length, width])
            };
            let (q, k, v) = (of(q), repeat(&of(k)), repeat(&of(v)));
            let out = Tensor::scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), 0.0, mask.is_none(), None, false);
            out.squeeze_dim(0).transpose(0, 1).reshape([length, heads * width])
        })
        .collect();
    Tensor::cat(&outputs, 0)
}
