//! Continuations of prompts, with the hand-over to the verification adapter at the VERIFY tag.
//!
//! Keys and values made before VERIFY do not depend on the verification adapter. When a row's tag is complete, its
//! tokens are forgotten and fed again with the adapter on; everything before stays. Source: docs/architecture.md, "The
//! dual adapter".

use tch::{Kind, Tensor};

use crate::model::decode::Cache;
use crate::model::{Adapters, PackedBatch, Transformer};

/// Adapters for rows of tokens: `verify` says for each token whether the verification adapter is on.
pub trait AdapterSource {
    /// The adapters with this mask (1 or 0 a token).
    fn with_mask(&self, verify: &[f32]) -> Box<dyn Adapters + '_>;
}

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most probable one, the lowest id among equals.
    Greedy,
    /// From the softmax at a temperature; each row has its own counter-based source.
    Temperature {
        /// Divides the logits.
        temperature: f64,
        /// Keys the source.
        seed: u64,
    },
}

/// What to generate.
pub struct Request<'a> {
    /// Token ids of the prompts.
    pub prompts: &'a [Vec<u32>],
    /// Ids of the VERIFY tag line.
    pub tag: &'a [u32],
    /// Tokens that end a row.
    pub stop: &'a [u32],
    /// No row gets longer.
    pub max_tokens: usize,
    /// Rows decoded together.
    pub batch: usize,
    /// Ids from here on are padding of the embedding and never chosen.
    pub vocabulary: i64,
    /// How to choose.
    pub sampling: Sampling,
}

struct Row {
    index: usize,
    out: Vec<u32>,
    position: i64,
    verify: bool,
    /// Tag tokens that are fed again before the next choice counts.
    again: Vec<u32>,
    done: bool,
}

/// Continuations in the prompts' order, without the stop token.
pub fn generate(model: &Transformer, adapters: Option<&dyn AdapterSource>, request: &Request) -> Vec<Vec<u32>> {
    let _guard = tch::no_grad_guard();
    let mut order: Vec<usize> = (0..request.prompts.len()).collect();
    order.sort_by_key(|index| (request.prompts[*index].len(), *index));
    let mut results = vec![Vec::new(); request.prompts.len()];
    for chunk in order.chunks(request.batch.max(1)) {
        for (index, out) in generate_batch(model, adapters, request, chunk) {
            results[index] = out;
        }
    }
    results
}

fn generate_batch(
    model: &Transformer,
    adapters: Option<&dyn AdapterSource>,
    request: &Request,
    indices: &[usize],
) -> Vec<(usize, Vec<u32>)> {
    let prompts: Vec<&[u32]> = indices.iter().map(|index| request.prompts[*index].as_slice()).collect();
    let batch = PackedBatch::of_sequences(&prompts, model.embedding.device());
    let masks: Vec<Vec<f32>> = prompts.iter().map(|prompt| mask_of(prompt, request.tag)).collect();
    let mut rows: Vec<Row> = indices
        .iter()
        .zip(&prompts)
        .zip(&masks)
        .map(|((index, prompt), mask)| Row {
            index: *index,
            out: vec![],
            position: prompt.len() as i64,
            verify: mask.last() == Some(&1.0),
            again: vec![],
            done: false,
        })
        .collect();
    let on = adapters.map(|source| source.with_mask(&masks.concat()));
    let room = request.max_tokens as i64 + 2 * request.tag.len() as i64 + 1;
    let (mut cache, mut hidden) = Cache::of_prompts(model, &batch, room, on.as_deref());
    let mut finished = Vec::with_capacity(rows.len());
    let mut steps_left = room - 1;
    loop {
        let chosen = choose(model, &hidden, request, &rows);
        for (row_index, (row, token)) in (0i64..).zip(rows.iter_mut().zip(&chosen)) {
            advance(row, row_index, *token, request, adapters.is_some(), &mut cache);
        }
        retire(&mut rows, &mut cache, &mut finished);
        if rows.is_empty() || steps_left == 0 {
            break;
        }
        steps_left -= 1;
        let feed: Vec<(i64, i64)> = rows.iter_mut().map(next_input).collect();
        let ids: Vec<i64> = feed.iter().map(|(id, _)| *id).collect();
        let positions: Vec<i64> = feed.iter().map(|(_, position)| *position).collect();
        let mask: Vec<f32> = rows.iter().map(|row| f32::from(u8::from(row.verify))).collect();
        let on = adapters.map(|source| source.with_mask(&mask));
        hidden = cache.step(model, &ids, &positions, on.as_deref());
    }
    finished.extend(rows.into_iter().map(|row| (row.index, row.out)));
    finished
}

/// 1 from the first token of the last complete tag on.
pub fn mask_of(ids: &[u32], tag: &[u32]) -> Vec<f32> {
    let start = match tag.is_empty() {
        true => None,
        false => ids.windows(tag.len()).rposition(|window| window == tag),
    };
    (0..ids.len()).map(|index| f32::from(u8::from(start.is_some_and(|start| index >= start)))).collect()
}

/// Takes a chosen token into a row: stops it, or hands over to the verification adapter when the tag is complete.
fn advance(row: &mut Row, row_index: i64, token: u32, request: &Request, hand_over: bool, cache: &mut Cache) {
    if row.done || !row.again.is_empty() {
        return; // still feeding the tag again: this choice does not count
    }
    if request.stop.contains(&token) {
        row.done = true;
        return;
    }
    row.out.push(token);
    if hand_over && !row.verify && !request.tag.is_empty() && row.out.ends_with(request.tag) {
        row.verify = true;
        row.again = request.tag.iter().rev().copied().collect();
        // All but the last tag token have been fed with the adapter off.
        let fed = request.tag.len() as i64 - 1;
        cache.forget(row_index, fed);
        row.position -= fed;
    }
    row.done |= row.out.len() >= request.max_tokens;
}

/// The token a row is fed next, and its position.
fn next_input(row: &mut Row) -> (i64, i64) {
    let id = row.again.pop().or(row.out.last().copied()).unwrap_or(0);
    row.position += 1;
    (i64::from(id), row.position - 1)
}

/// Takes finished rows out; the cache is cut once half of it is idle, since cutting copies it.
fn retire(rows: &mut Vec<Row>, cache: &mut Cache, finished: &mut Vec<(usize, Vec<u32>)>) {
    let alive: Vec<i64> = (0i64..).zip(rows.iter()).filter(|(_, row)| !row.done).map(|(index, _)| index).collect();
    if alive.is_empty() {
        finished.extend(rows.drain(..).map(|row| (row.index, row.out)));
    } else if alive.len() * 4 <= rows.len() * 3 {
        cache.keep(&alive);
        let (done, live): (Vec<Row>, Vec<Row>) = rows.drain(..).partition(|row| row.done);
        finished.extend(done.into_iter().map(|row| (row.index, row.out)));
        *rows = live;
    }
}

fn choose(model: &Transformer, hidden: &Tensor, request: &Request, rows: &[Row]) -> Vec<u32> {
    let logits = model.logits(hidden).narrow(1, 0, request.vocabulary);
    match request.sampling {
        Sampling::Greedy => {
            let best = logits.argmax(-1, false);
            let best = Vec::<i64>::try_from(&best).expect("argmax is a row of int64");
            best.into_iter().map(|id| id as u32).collect()
        }
        Sampling::Temperature { temperature, seed } => {
            let shares = (logits / temperature).softmax(-1, Kind::Double).cumsum(-1, Kind::Double);
            let draws: Vec<f64> = rows.iter().map(|row| draw(seed, row.index as u64, row.out.len() as u64)).collect();
            let below = shares
                .lt_tensor(&Tensor::from_slice(&draws).to_device(shares.device()).unsqueeze(1))
                .sum_dim_intlist([-1i64].as_slice(), false, Kind::Int64);
            let ids = Vec::<i64>::try_from(&below).expect("a sum is a row of int64");
            ids.into_iter().map(|id| id.min(request.vocabulary - 1) as u32).collect()
        }
    }
}

/// A number in [0, 1) from its key.
fn draw(seed: u64, row: u64, token: u64) -> f64 {
    let mut random = polya_datasets::synthesize::Random::new([seed, row, token]);
    (random.next() >> 11) as f64 / (1u64 << 53) as f64
}
