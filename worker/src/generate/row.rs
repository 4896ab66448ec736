//! One prompt and its continuation while it grows.

use crate::decode::RowId;

/// A token and whether the verification adapter is on for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) id: u32,
    pub(super) verify: bool,
}

/// A row under way.
#[derive(Debug)]
pub(super) struct Row {
    /// Index of the prompt.
    pub(super) prompt: usize,
    /// Where the decoder keeps it; none while it waits for another row to read what both begin with.
    pub(super) id: Option<RowId>,
    /// The prompt of that other row, and how many tokens both share.
    pub(super) waits_for: Option<(usize, usize)>,
    /// Prompt and continuation.
    pub(super) text: Vec<Token>,
    /// It has its last token.
    pub(super) done: bool,
    prompt_length: usize,
}

impl Row {
    pub(super) fn new(prompt: usize, text: Vec<Token>) -> Self {
        Row { prompt, id: None, waits_for: None, prompt_length: text.len(), text, done: false }
    }

    /// The continuation.
    pub(super) fn out(&self) -> &[Token] {
        &self.text[self.prompt_length..]
    }

    /// What a decoder that holds `held` tokens lacks.
    pub(super) fn rest(&self, held: usize) -> &[Token] {
        &self.text[held..]
    }

    /// Whether some of the last `rest` tokens are of the prompt, none of its continuation being there yet.
    pub(super) fn reads_prompt(&self, rest: usize) -> bool {
        self.out().is_empty() && rest > 0
    }

    /// How many of the first `count` tokens of `rest` are the prompt's.
    pub(super) fn prompt_tokens_of(&self, rest: &[Token], count: usize) -> usize {
        let begin = self.text.len() - rest.len();
        self.prompt_length.saturating_sub(begin).min(count)
    }

    /// Adds a chosen token.
    pub(super) fn push(&mut self, id: u32) {
        let verify = self.verifies();
        self.text.push(Token { id, verify });
    }

    /// Once the tag is complete, turns the verification adapter on from the tag's first token on. Gives how many tokens
    /// stay valid in the decoder.
    pub(super) fn hand_over(&mut self, tag: &[u32]) -> Option<usize> {
        let start = self.text.len().checked_sub(tag.len())?;
        let complete = self.text[start..].iter().map(|token| token.id).eq(tag.iter().copied());
        if tag.is_empty() || self.verifies() || !complete {
            return None;
        }
        self.text[start..].iter_mut().for_each(|token| token.verify = true);
        Some(start)
    }

    fn verifies(&self) -> bool {
        self.text.last().is_some_and(|token| token.verify)
    }
}

/// A prompt's tokens; the verification adapter is on from the last complete tag on.
pub(super) fn marked(ids: &[u32], tag: &[u32]) -> Vec<Token> {
    ids.iter().zip(mask_of(ids, tag)).map(|(id, verify)| Token { id: *id, verify: verify > 0.0 }).collect()
}

/// 1 from the first token of the last complete tag on, else 0.
pub fn mask_of(ids: &[u32], tag: &[u32]) -> Vec<f32> {
    let start = match tag.is_empty() {
        true => None,
        false => ids.windows(tag.len()).rposition(|window| window == tag),
    };
    (0..ids.len()).map(|index| f32::from(u8::from(start.is_some_and(|start| index >= start)))).collect()
}
