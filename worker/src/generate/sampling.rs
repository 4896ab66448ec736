//! Choosing the next token.

use tch::{Kind, Tensor};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most probable one, the lowest id among equals.
    Greedy,
    /// From the softmax at a temperature; each token of each prompt has a draw of its own, whatever is decoded beside it.
    Temperature {
        /// Divides the logits.
        temperature: f64,
        /// Keys the draws.
        seed: u64,
    },
}

/// One token a row of logits `[n, V]`. `places`: prompt and token that each row is about.
pub(super) fn choose(logits: &Tensor, sampling: Sampling, places: &[(u64, u64)]) -> Vec<u32> {
    let chosen = match sampling {
        Sampling::Greedy => logits.argmax(-1, false),
        Sampling::Temperature { temperature, seed } => {
            let shares =
                (logits.to_kind(Kind::Double) / temperature).softmax(-1, Kind::Double).cumsum(-1, Kind::Double);
            let draws: Vec<f64> = places.iter().map(|(prompt, token)| draw(seed, *prompt, *token)).collect();
            let draws = Tensor::from_slice(&draws).to_device(logits.device()).unsqueeze(1);
            let below = shares.le_tensor(&draws).sum_dim_intlist([-1i64].as_slice(), false, Kind::Int64);
            below.clamp_max(logits.size()[1] - 1)
        }
    };
    let ids = Vec::<i64>::try_from(&chosen).expect("a choice is a row of int64");
    ids.into_iter().map(|id| id as u32).collect()
}

/// A number in [0, 1) from its key.
fn draw(seed: u64, prompt: u64, token: u64) -> f64 {
    let mut random = polya_datasets::synthesize::Random::new([seed, prompt, token]);
    (random.next() >> 11) as f64 / (1u64 << 53) as f64
}
