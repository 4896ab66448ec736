//! Tokens: counted by the server where it counts, else estimated.

use serde::{Deserialize, Serialize};

/// Tokens of one reply, or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the prompts.
    pub prompt: u64,
    /// Of the replies, the teacher's own thoughts included if the server counts them.
    pub completion: u64,
    /// How many replies came without counts, so that their tokens are estimates.
    pub estimated: u64,
}

impl Usage {
    /// All tokens.
    pub fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// Adds another's.
    pub fn add(&mut self, other: Usage) {
        self.prompt = self.prompt.saturating_add(other.prompt);
        self.completion = self.completion.saturating_add(other.completion);
        self.estimated += other.estimated;
    }

    /// What they cost, at prices for a million tokens; none without prices.
    pub fn cost(&self, price_in: Option<f64>, price_out: Option<f64>) -> Option<f64> {
        let million = |tokens: u64, price: Option<f64>| tokens as f64 / 1e6 * price.unwrap_or(0.0);
        (price_in.is_some() || price_out.is_some())
            .then(|| million(self.prompt, price_in) + million(self.completion, price_out))
    }
}

/// Tokens of a text of so many bytes, rather too many than too few: English has about four bytes a token, formulas and
/// Vietnamese two to three.
pub fn estimate(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_a_million_tokens_price() {
        let mut usage = Usage { prompt: 1_000_000, completion: 250_000, estimated: 0 };
        assert_eq!(usage.cost(Some(2.0), Some(8.0)), Some(4.0));
        assert_eq!((usage.cost(None, Some(8.0)), usage.cost(None, None)), (Some(2.0), None));
        usage.add(Usage { prompt: u64::MAX, completion: 1, estimated: 1 });
        assert_eq!((usage.total(), usage.estimated), (u64::MAX, 1));
    }
}
