//! Greedy generation from random prompts, all rows to the last token.

use super::roofline::{decode_operations, gemm_rate, projection_weights};
use super::{Figures, peak_rss_mib};
use crate::adapters::dropout::mix;
use crate::decode::prepare;
use crate::device::peak_vram_mib;
use crate::formats::huggingface::Pretrained;
use crate::generate::{Request, Sampling, generate};

/// Generates `steps` tokens a row behind `batch` prompts of `sequence` tokens.
pub fn measure(base: &Pretrained, sequence: usize, batch: usize, steps: usize) -> Figures {
    let (config, place) = (&base.model.config, base.model.placement());
    let id =
        |row: usize, position: usize| (mix((row as u64) << 32 ^ position as u64) % config.vocabulary as u64) as u32;
    let prompts: Vec<Vec<u32>> = (0..batch).map(|row| (0..sequence).map(|at| id(row, at)).collect()).collect();
    let request = Request {
        prompts: &prompts,
        tag: &[],
        stop: &[],
        max_tokens: steps,
        context: sequence + steps,
        batch,
        refill: true,
        vocabulary: config.vocabulary,
        sampling: Sampling::Greedy,
    };
    let prepared = prepare(&base.model);
    let found = generate(prepared.decoder(&base.model, None).as_mut(), &request, &mut |_| ());
    let (seconds, peak, peak_vram) = (found.seconds, peak_rss_mib(), peak_vram_mib(place.device));
    let generated: usize = found.continuations.iter().map(Vec::len).sum();
    let rate = |rows: usize| gemm_rate(config, rows as i64, place);
    let prompt = 2.0 * projection_weights(config) * (batch * sequence) as f64 / rate(batch * sequence);
    let decode = decode_operations(config, batch as f64) * steps as f64 / rate(batch);
    Figures {
        tokens_per_s: Some(generated as f64 / seconds),
        seconds_per_step: seconds / steps.max(1) as f64,
        peak_rss_mib: peak,
        peak_vram_mib: peak_vram,
        gemm_roofline_fraction: Some((prompt + decode) / seconds),
        more: vec![("generated_tokens", generated as f64)],
    }
}
