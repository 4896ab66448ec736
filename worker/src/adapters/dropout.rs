//! Dropout from a counter: a mask is a function of (seed, step, sample, position, place in the model, channel) alone,
//! so it is the same whoever computes it, in whatever pack. The attempt is left out: a Retry drops the same.

use tch::{Device, Tensor};

use crate::kernels::gpu;
use crate::model::{ProjectionKind, Site};

/// Keys of the tokens of a pack, one each.
#[derive(Debug, Clone)]
pub struct Dropout {
    /// Probability that an input is dropped.
    pub probability: f64,
    /// One a token.
    pub keys: Vec<u64>,
}

/// Mixes a key; splitmix64's finaliser.
pub fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Key of one token: run seed, step, sample id, position in the sample, shadow or real.
pub fn token_key(seed: u64, step: u64, sample: &str, position: u64, shadow: bool) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(sample.as_bytes()).as_bytes()[..8]);
    let sample = u64::from_le_bytes(first);
    mix(mix(mix(seed) ^ step) ^ mix(sample ^ mix(2 * position + u64::from(shadow))))
}

/// Which inputs of one place are dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask {
    place: u64,
    threshold: u32,
    kept: f32,
}

impl Mask {
    /// Key of the place, threshold below which an input is dropped, and the value of one that is kept.
    pub(crate) fn constants(self) -> (u64, u32, f32) {
        (self.place, self.threshold, self.kept)
    }

    /// What keys the columns of a token's row.
    pub(crate) fn row(self, key: u64) -> u32 {
        mix(key ^ self.place) as u32
    }

    /// 0 where the input is dropped, 1 / (1 - p) where it is kept.
    #[inline(always)]
    pub(crate) fn factor(self, row: u32, column: u32) -> f32 {
        if scramble(row ^ column.wrapping_mul(0x9e37_79b1)) >= self.threshold { self.kept } else { 0.0 }
    }
}

impl Dropout {
    /// The mask of a place; none: nothing is dropped.
    pub(crate) fn at(&self, site: Site, adapter: usize) -> Option<Mask> {
        if self.probability <= 0.0 {
            return None;
        }
        let place = (site.layer * ProjectionKind::ALL.len() + site.kind as usize) * 2 + adapter;
        Some(Mask {
            place: mix(place as u64 ^ 0x6472_6f70),
            threshold: (self.probability * f64::from(u32::MAX)) as u32,
            kept: (1.0 / (1.0 - self.probability)) as f32,
        })
    }

    /// The keys as a tensor, for masks that are made on a GPU.
    pub(crate) fn keys_on(&self, device: Device) -> Tensor {
        let keys: Vec<i64> = self.keys.iter().map(|key| *key as i64).collect();
        Tensor::from_slice(&keys).to_device(device)
    }

    /// The mask where it is needed: made by a kernel if the keys are on a GPU. Panics as tch's operators do.
    #[expect(clippy::panic, reason = "tch's own operators panic on errors of a GPU; the trainer's edge catches both")]
    pub(crate) fn mask_on(&self, keys: Option<&Tensor>, site: Site, adapter: usize, width: i64) -> Tensor {
        match (keys, self.at(site, adapter)) {
            (Some(keys), Some(mask)) => gpu::dropout_mask(keys, mask.constants(), width)
                .unwrap_or_else(|reason| panic!("dropout mask: {reason}")),
            _ => self.mask(site, adapter, width),
        }
    }

    /// `[T, width]`: 0 where an input is dropped, 1 / (1 - p) where it is kept.
    pub fn mask(&self, site: Site, adapter: usize, width: i64) -> Tensor {
        let width = width as usize;
        let mut factors = vec![1f32; self.keys.len() * width];
        if let Some(mask) = self.at(site, adapter) {
            for (factors, key) in factors.chunks_exact_mut(width).zip(&self.keys) {
                let row = mask.row(*key);
                for (column, factor) in (0u32..).zip(factors) {
                    *factor = mask.factor(row, column);
                }
            }
        }
        Tensor::from_slice(&factors).view([-1, width as i64])
    }
}

/// murmur3's 32-bit finaliser: no branches, so that a row vectorises.
#[inline(always)]
fn scramble(mut h: u32) -> u32 {
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_dropped_inputs_is_the_probability_and_the_mask_depends_on_the_token_alone() {
        let keys: Vec<u64> = (0..400).map(|position| token_key(1, 2, "sample", position, false)).collect();
        let site = Site { layer: 1, kind: ProjectionKind::Up };
        let all = Dropout { probability: 0.05, keys: keys.clone() }.mask(site, 0, 128);
        let dropped = f64::try_from(all.eq(0.0).mean(tch::Kind::Double)).unwrap();
        assert!((dropped - 0.05).abs() < 0.005, "{dropped}");
        let alone = Dropout { probability: 0.05, keys: keys[300..].to_vec() }.mask(site, 0, 128);
        assert!(alone.equal(&all.narrow(0, 300, 100)));
        assert!(!all.equal(&Dropout { probability: 0.05, keys }.mask(site, 1, 128)));
    }
}
