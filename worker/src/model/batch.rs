//! Several sequences in one row of tokens, attention kept apart.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

/// One sequence of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its tokens in the pack.
    pub tokens: Range<i64>,
    /// The last so many tokens are a shadow copy of the VERIFY tag (0: none): they see the real tokens before the tag
    /// and the shadow before them; nothing real sees them.
    pub shadow: i64,
    /// Real tokens before the VERIFY tag.
    pub before_tag: i64,
}

/// A pack.
#[derive(Debug)]
pub struct PackedBatch {
    /// `[T]` int64.
    pub ids: Tensor,
    /// Position of each token in its sequence; the shadow has the tag's.
    pub positions: Vec<i64>,
    /// The sequences, without gaps.
    pub segments: Vec<Segment>,
}

impl PackedBatch {
    /// Plain causal sequences, one after the other.
    pub fn of_sequences(sequences: &[&[u32]], device: Device) -> Self {
        let ids: Vec<i64> = sequences.iter().flat_map(|ids| ids.iter().map(|id| i64::from(*id))).collect();
        let positions = sequences.iter().flat_map(|ids| 0..ids.len() as i64).collect();
        let mut start = 0;
        let segments = sequences
            .iter()
            .map(|ids| {
                let tokens = start..start + ids.len() as i64;
                start = tokens.end;
                Segment { tokens, shadow: 0, before_tag: 0 }
            })
            .collect();
        PackedBatch { ids: Tensor::from_slice(&ids).to_device(device), positions, segments }
    }

    /// The same pack for a model on another device.
    pub fn to_device(&self, device: Device) -> Self {
        let (positions, segments) = (self.positions.clone(), self.segments.clone());
        PackedBatch { ids: self.ids.to_device(device), positions, segments }
    }

    /// Tokens in the pack.
    pub fn tokens(&self) -> i64 {
        self.positions.len() as i64
    }
}

impl Segment {
    /// The attention mask `[t, t]`, true where a row sees a column; none where it is plainly causal.
    pub fn mask(&self, device: Device) -> Option<Tensor> {
        if self.shadow == 0 {
            return None;
        }
        let length = self.tokens.end - self.tokens.start;
        let real = length - self.shadow;
        let mask = Tensor::ones([length, length], (Kind::Bool, device)).tril(0);
        let _ = mask.narrow(0, real, self.shadow).narrow(1, self.before_tag, real - self.before_tag).fill_(0);
        Some(mask)
    }
}
