//! A model's weights and adapters in the form that decoding on CPUs reads.

use crate::adapters::LoraSet;
use crate::ffi::lanes::Lanes;
use crate::model::transformer::Projection;
use crate::model::{FrozenWeight, ProjectionKind, Site, Transformer};
use crate::quantization::floats;

use super::panels::Panels;

/// The frozen weights. Made once for a model, used by every decoder on it.
pub struct Weights {
    pub(super) layers: Vec<LayerWeights>,
    pub(super) norm: Vec<Lanes>,
    pub(super) head: Panels,
}

pub(super) struct LayerWeights {
    pub(super) attention_norm: Vec<Lanes>,
    pub(super) mlp_norm: Vec<Lanes>,
    /// In the order of [`ProjectionKind::ALL`].
    pub(super) projections: Vec<(Panels, Option<Vec<Lanes>>)>,
}

impl Weights {
    /// Rearranges a model's weights.
    pub fn new(model: &Transformer) -> Self {
        let projection = |projection: &Projection| {
            let panels = match &projection.weight {
                FrozenWeight::Dense(weight) => Panels::of_tensor(weight),
                FrozenWeight::Nf4(weight) => Panels::of_nf4(weight),
            };
            (panels, projection.bias.as_ref().map(|bias| lanes(&floats(bias))))
        };
        let layer = |layer: &crate::model::transformer::Layer| LayerWeights {
            attention_norm: lanes(&floats(&layer.attention_norm)),
            mlp_norm: lanes(&floats(&layer.mlp_norm)),
            projections: layer.projections.iter().map(projection).collect(),
        };
        Weights {
            layers: model.layers.iter().map(layer).collect(),
            norm: lanes(&floats(&model.norm)),
            head: Panels::of_tensor(model.head.as_ref().unwrap_or(&model.embedding)),
        }
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        let of_layer = |layer: &LayerWeights| layer.projections.iter().map(|(panels, _)| panels.bytes()).sum::<usize>();
        self.head.bytes() + self.layers.iter().map(of_layer).sum::<usize>()
    }
}

/// A vector of channels, padded with zeros.
fn lanes(values: &[f32]) -> Vec<Lanes> {
    values.chunks(16).map(Lanes::of).collect()
}

/// Both adapters at each projection.
pub(super) struct AdapterWeights {
    /// By layer and projection.
    sites: Vec<Option<SiteAdapters>>,
}

/// `r(x) = scale · B(A x)` of the adapters at one projection, stacked: the low-rank part is A's rows of the reasoning
/// adapter and then those of the verification adapter, each padded to whole vectors.
#[derive(Default)]
pub(super) struct SiteAdapters {
    /// Panels of the low-rank part, by adapter.
    pub(super) parts: [usize; 2],
    pub(super) scale: f32,
    down: Vec<f32>,
    up: Vec<(usize, Vec<f32>)>,
    panels: Option<(Panels, Panels)>,
}

impl AdapterWeights {
    pub(super) fn new(set: &LoraSet, layers: usize) -> Self {
        let mut sites: Vec<Option<SiteAdapters>> = (0..layers * ProjectionKind::ALL.len()).map(|_| None).collect();
        for (slot, tensor) in set.layout.slots.iter().zip(&set.tensors) {
            let site = sites[index(slot.site)].get_or_insert_default();
            site.scale = (set.layout.alpha / set.layout.rank as f64) as f32;
            let rank = if slot.is_b { slot.shape[1] } else { slot.shape[0] } as usize;
            site.parts[slot.adapter] = rank.div_ceil(16);
            let mut values = floats(tensor);
            if slot.is_b {
                site.up.push((rank, values));
            } else {
                values.resize(rank.next_multiple_of(16) * slot.shape[1] as usize, 0.0);
                site.down.extend(values);
            }
        }
        sites.iter_mut().flatten().for_each(SiteAdapters::pack);
        AdapterWeights { sites }
    }

    pub(super) fn at(&self, site: Site) -> Option<&SiteAdapters> {
        self.sites[index(site)].as_ref()
    }
}

fn index(site: Site) -> usize {
    site.layer * ProjectionKind::ALL.len() + site.kind as usize
}

impl SiteAdapters {
    fn pack(&mut self) {
        let low = 16 * self.parts.iter().sum::<usize>();
        let outputs = self.up.first().map_or(0, |(rank, values)| values.len() / rank);
        let mut up = vec![0.0; outputs * low];
        let mut column = 0;
        for (rank, values) in self.up.drain(..) {
            for (row, values) in up.chunks_exact_mut(low).zip(values.chunks_exact(rank)) {
                row[column..column + rank].copy_from_slice(values);
            }
            column += rank.next_multiple_of(16);
        }
        let down = std::mem::take(&mut self.down);
        self.panels = Some((Panels::new(&down, low), Panels::new(&up, outputs)));
    }

    /// A and B.
    pub(super) fn panels(&self) -> (&Panels, &Panels) {
        let (down, up) = self.panels.as_ref().expect("a site is packed when it is made");
        (down, up)
    }
}
