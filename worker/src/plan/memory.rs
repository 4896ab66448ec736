//! Peak memory of a worker, added up from what it holds. CPUs: fp32 activations of `cpu`; GPUs: fp16 ones of libtorch's
//! graph (docs/architecture.md, "The step on a CPU").

use super::Workload;
use crate::adapters::Layout;
use crate::bench::roofline::projection_weights;
use crate::cpu::head::LOGITS_MAX;

/// Bits of an NF4 weight with its doubly quantised scales.
const NF4_BITS: f64 = 4.0 + 8.0 / 64.0 + 32.0 / (64.0 * 256.0);
const MIB: f64 = 1_048_576.0;
/// Tokenizer, and what of the libraries is only touched when it is used.
const FIRST_USE_MIB: f64 = 16.0;

/// Where a worker computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    /// In this process; MiB that it takes before anything is loaded.
    Cpu {
        /// Program and libraries.
        program_mib: f64,
    },
    /// On a GPU.
    Gpu,
}

/// The name of the part that is no tensor: the program and its libraries, on a GPU what CUDA itself takes.
pub const PROGRAM: &str = "program";

/// Parts of the peak, in MiB, largest things by name.
pub fn parts(work: &Workload, place: Place, recomputed: usize) -> Vec<(&'static str, f64)> {
    let config = &work.config;
    let layout = Layout::new(config, work.rank, 1.0, work.adapters == 2);
    let parameters = layout.parameters() as f64;
    let head_rows = (config.vocabulary * config.hidden) as f64 * if config.tied { 1.0 } else { 2.0 };
    let kept_layers = config.layers.saturating_sub(recomputed) as f64;
    let (number, program, projection) = match place {
        Place::Cpu { program_mib } => (4.0, (program_mib + FIRST_USE_MIB) * MIB, 4.0),
        // The CUDA context, cuBLAS and the kernels.
        Place::Gpu => (2.0, 512.0 * MIB, 2.0),
    };
    let base = projection_weights(config) * if work.nf4 { NF4_BITS / 8.0 } else { projection };
    let inputs = work.tokens * config.hidden as f64 * 4.0 * config.layers as f64;
    let layer = kept_by_layer(work) * number;
    let again = if recomputed > 0 { layer } else { 0.0 };
    let logits = logits(work) * if place == Place::Gpu { 3.0 } else { 1.0 };
    let working = working(work, number) + again;
    // Gradient and words while a microbatch is quantised; a copy of the sum, gradient and shadow while the step is made,
    // when activations are gone, and in a process's own memory the state's files, which are written before they are sent.
    let files = if place == Place::Gpu { 0.0 } else { 12.0 };
    let (backward, optimiser) = (8.0 * parameters, (20.0 + files) * parameters);
    let pass = inputs + layer * kept_layers + logits.max(working) + backward;
    let evaluation = if place == Place::Gpu { 0.0 } else { evaluation(work) };
    vec![
        (PROGRAM, program / MIB),
        ("base", (base + head_rows * work.embedding_bytes) / MIB),
        ("adapters and moments", 20.0 * parameters / MIB),
        ("activations", (inputs + layer * kept_layers) / MIB),
        ("logits or one layer's backward", logits.max(working) / MIB),
        ("gradient", backward / MIB),
        ("optimiser beyond the backward pass", (optimiser - pass).max(0.0) / MIB),
        ("evaluation beyond the step", (evaluation - pass.max(optimiser)).max(0.0) / MIB),
    ]
}

/// The peak in MiB.
pub fn peak(work: &Workload, place: Place, recomputed: usize) -> f64 {
    parts(work, place, recomputed).iter().map(|(_, mib)| mib).sum()
}

/// The fewest recomputed layers with which the peak is at most `limit_mib`; none: not even with all of them.
pub fn fitting(work: &Workload, place: Place, limit_mib: f64) -> Option<usize> {
    (0..=work.config.layers).find(|recomputed| peak(work, place, *recomputed) <= limit_mib)
}

/// The most tokens of a microbatch that fit with every layer recomputed.
pub fn tokens_fitting(work: &Workload, place: Place, limit_mib: f64) -> Option<f64> {
    let scaled = |tokens: f64| Workload {
        tokens,
        learned: work.learned * tokens / work.tokens,
        verified: work.verified * tokens / work.tokens,
        ..work.clone()
    };
    let steps = (1..=64).rev().map(|part| (work.tokens * f64::from(part) / 64.0).floor());
    steps
        .filter(|tokens| *tokens >= work.longest)
        .find(|tokens| peak(&scaled(*tokens), place, work.config.layers) <= limit_mib)
}

/// Numbers that a layer keeps for its backward pass beside its input.
fn kept_by_layer(work: &Workload) -> f64 {
    let config = &work.config;
    let (q, kv) = ((config.heads * config.head_dim) as f64, (config.kv_heads * config.head_dim) as f64);
    let low = 7.0 * work.rank as f64;
    let a_token =
        2.0 * q + 2.0 * kv + config.heads as f64 + config.hidden as f64 + 2.0 * config.intermediate as f64 + low;
    a_token * work.tokens + low * work.verified
}

/// Bytes of the logits that exist at once.
fn logits(work: &Workload) -> f64 {
    let all = work.learned * work.config.vocabulary as f64;
    let chunks = (all / LOGITS_MAX as f64).ceil().max(1.0);
    4.0 * (all / chunks + 3.0 * work.tokens * work.config.hidden as f64)
}

/// Bytes of an evaluation on a CPU: the weights once more as decoding reads them, keys and values of all rows. Activations
/// and gradients are gone by then.
fn evaluation(work: &Workload) -> f64 {
    if work.decoded == 0.0 {
        return 0.0;
    }
    let config = &work.config;
    let channels = config.kv_heads as usize * (config.head_dim as usize).next_multiple_of(16);
    decoding_weights(work) + 8.0 * (config.layers * channels) as f64 * work.decoded
}

/// Bytes of the weights as decoding reads them: NF4 with a scale in fp32 a block, else the bits of the files.
pub fn decoding_weights(work: &Workload) -> f64 {
    let config = &work.config;
    let projection = if work.nf4 { 4.5 / 8.0 } else { work.embedding_bytes };
    projection_weights(config) * projection + (config.vocabulary * config.hidden) as f64 * work.embedding_bytes
}

/// Bytes that come and go in a layer: gate, dropped inputs and their gradients, norms, attention's.
fn working(work: &Workload, number: f64) -> f64 {
    let config = &work.config;
    let (q, kv) = ((config.heads * config.head_dim) as f64, (config.kv_heads * config.head_dim) as f64);
    let a_token = 4.0 * config.intermediate as f64 + 6.0 * config.hidden as f64 + 3.0 * q + 4.0 * kv;
    a_token * work.tokens * number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;
    use crate::decode::prepare;
    use crate::formats::huggingface::{Quantisation, load_model};

    #[test]
    fn the_weights_as_decoding_reads_them_are_counted_to_a_hundredth() {
        for quantisation in [Quantisation::Nf4, Quantisation::None] {
            let model = load_model(&Builtin, quantisation).unwrap();
            let work = Workload {
                config: model.config.clone(),
                nf4: quantisation == Quantisation::Nf4,
                embedding_bytes: 2.0,
                rank: 16,
                adapters: 2,
                tokens: 1024.0,
                longest: 300.0,
                squared_lengths: 300_000.0,
                learned: 700.0,
                verified: 300.0,
                decoded: 64.0 * 400.0,
            };
            let (counted, there) = (decoding_weights(&work), prepare(&model).bytes() as f64);
            assert!((counted / there - 1.0).abs() < 0.01, "{quantisation:?}: {counted} counted, {there} there");
            let part = |work: &Workload| parts(work, Place::Cpu { program_mib: 50.0 }, 0).last().unwrap().1;
            assert!(part(&work) > 0.0 && part(&Workload { decoded: 0.0, ..work }) == 0.0);
        }
    }
}
