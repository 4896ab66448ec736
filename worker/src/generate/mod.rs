//! Continuations of prompts, with the hand-over to the verification adapter at the VERIFY tag.
//!
//! Rows of any length are decoded together. A row that ends makes room for the next prompt, so that the batch stays full;
//! prompts that begin alike have their common tokens read once. Keys and values made before VERIFY do not depend on the
//! verification adapter: when a row's tag is complete, its tokens are forgotten and fed again with the adapter on;
//! everything before stays. Source: docs/architecture.md, "The dual adapter".

mod admission;
mod report;
mod row;
mod sampling;
#[cfg(test)]
mod tests;

use std::time::Instant;

use tch::Tensor;

use crate::decode::{Decoder, Piece};
use admission::Admission;
use row::Row;

pub use report::Report;
pub use row::mask_of;
pub use sampling::Sampling;

/// What to generate.
pub struct Request<'a> {
    /// Token ids of the prompts, none of them empty.
    pub prompts: &'a [Vec<u32>],
    /// Ids of the VERIFY tag line; empty: no hand-over.
    pub tag: &'a [u32],
    /// Tokens that end a row.
    pub stop: &'a [u32],
    /// No continuation gets longer.
    pub max_tokens: usize,
    /// No prompt with its continuation gets longer.
    pub context: usize,
    /// Rows decoded together.
    pub batch: usize,
    /// A row that ends makes room for the next prompt. Otherwise each `batch` prompts in order are a group of their own:
    /// what then is computed together is a function of the request, as it must be for what feeds training.
    pub refill: bool,
    /// Ids from here on are padding of the embedding and never chosen.
    pub vocabulary: i64,
    /// How the next token is chosen.
    pub sampling: Sampling,
}

/// Something to tell while generating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A prompt's continuation got a token.
    Token {
        /// Which prompt.
        prompt: usize,
        /// The token.
        id: u32,
    },
    /// A prompt's continuation is complete.
    Finished {
        /// Which prompt.
        prompt: usize,
    },
}

/// Continuations and what they cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generated {
    /// In the prompts' order, without the stop token.
    pub continuations: Vec<Vec<u32>>,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// Those of them that were computed; the others were shared.
    pub prompt_tokens_read: usize,
    /// Passes through the model.
    pub passes: usize,
    /// Most bytes that keys and values took.
    pub cache_bytes: usize,
    /// Time that it took.
    pub seconds: f64,
}

/// Continues the prompts. `observe` is told what happens, in the order in which it does.
pub fn generate(decoder: &mut dyn Decoder, request: &Request, observe: &mut dyn FnMut(Event)) -> Generated {
    let started = Instant::now();
    let count = request.prompts.len();
    let continuations = vec![vec![]; count];
    let prompt_tokens = request.prompts.iter().map(Vec::len).sum();
    let mut generated = Generated { continuations, prompt_tokens, ..Generated::default() };
    if request.max_tokens == 0 {
        return generated;
    }
    let all: Vec<usize> = (0..count).collect();
    let group = if request.refill { count } else { request.batch };
    for prompts in all.chunks(group.max(1)) {
        let admission = Admission::new(request, prompts);
        Session { decoder, request, admission, rows: vec![], generated: &mut generated, observe }.run();
    }
    generated.seconds = started.elapsed().as_secs_f64();
    generated
}

/// Rows under way and prompts that wait.
struct Session<'a> {
    decoder: &'a mut dyn Decoder,
    request: &'a Request<'a>,
    admission: Admission<'a>,
    rows: Vec<Row>,
    generated: &'a mut Generated,
    observe: &'a mut dyn FnMut(Event),
}

impl Session<'_> {
    fn run(mut self) {
        loop {
            self.admission.admit(self.decoder, &mut self.rows);
            if self.rows.is_empty() {
                break;
            }
            let chosen = self.pass();
            self.admission.branch(self.decoder, &mut self.rows);
            self.advance(&chosen);
            self.retire();
        }
        self.admission.close(self.decoder);
    }

    /// Feeds the rows what the decoder does not hold of them yet. Gives the rows whose whole text it holds now, and the next
    /// token of each.
    fn pass(&mut self) -> Vec<(usize, u32)> {
        let (mut room, mut fed) = (self.decoder.prompt_tokens(), vec![]);
        for (index, row) in self.rows.iter().enumerate() {
            let Some(id) = row.id else { continue };
            let rest = row.rest(self.decoder.length(id));
            let count = if row.reads_prompt(rest.len()) { rest.len().min(room) } else { rest.len() };
            if count > 0 {
                room = room.saturating_sub(count);
                self.generated.prompt_tokens_read += row.prompt_tokens_of(rest, count);
                fed.push((index, id, &rest[..count], count == rest.len()));
            }
        }
        let ids: Vec<Vec<u32>> =
            fed.iter().map(|(_, _, part, _)| part.iter().map(|token| token.id).collect()).collect();
        let pieces: Vec<Piece> = fed
            .iter()
            .zip(&ids)
            .map(|((_, row, part, _), ids)| {
                let verify_from = part.iter().position(|token| token.verify).unwrap_or(part.len());
                Piece { row: *row, ids, verify_from }
            })
            .collect();
        let complete: Vec<i64> = (0i64..).zip(&fed).filter(|(_, fed)| fed.3).map(|(index, _)| index).collect();
        let rows: Vec<usize> = complete.iter().map(|index| fed[*index as usize].0).collect();
        let place = |row: &usize| (self.rows[*row].prompt as u64, self.rows[*row].out().len() as u64);
        let places: Vec<(u64, u64)> = rows.iter().map(place).collect();
        let logits = self.decoder.feed(&pieces).narrow(1, 0, self.request.vocabulary);
        let chosen = match complete.len() {
            0 => vec![],
            all if all == fed.len() => sampling::choose(&logits, self.request.sampling, &places),
            _ => {
                let complete = Tensor::from_slice(&complete).to_device(logits.device());
                sampling::choose(&logits.index_select(0, &complete), self.request.sampling, &places)
            }
        };
        self.generated.passes += 1;
        self.generated.cache_bytes = self.generated.cache_bytes.max(self.decoder.bytes());
        rows.into_iter().zip(chosen).collect()
    }

    /// Appends the next token of each complete row.
    fn advance(&mut self, chosen: &[(usize, u32)]) {
        let request = self.request;
        for (index, token) in chosen {
            let (row, token) = (&mut self.rows[*index], *token);
            if request.stop.contains(&token) {
                row.done = true;
                continue;
            }
            row.push(token);
            (self.observe)(Event::Token { prompt: row.prompt, id: token });
            row.done = row.out().len() >= request.max_tokens || row.text.len() >= request.context;
            if let (Some(id), Some(length)) = (row.id, row.hand_over(request.tag)) {
                self.decoder.truncate(id, length);
            }
        }
    }

    /// Takes finished rows out.
    fn retire(&mut self) {
        for row in self.rows.extract_if(.., |row| row.done) {
            if let Some(id) = row.id {
                self.decoder.close(id);
            }
            self.generated.continuations[row.prompt] = row.out().iter().map(|token| token.id).collect();
            (self.observe)(Event::Finished { prompt: row.prompt });
        }
    }
}
