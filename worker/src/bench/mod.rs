//! Measurements of this machine: one training step, generation, the all-reduce, the kernels of packed weights; each beside
//! what its matrix products alone, or a plain copy, would take here.

pub mod decoding;
pub mod kernels;
pub mod reduction;
pub mod roofline;
pub mod training;

use crate::builtin::Builtin;
use crate::formats::huggingface::{LoadError, Pretrained, Quantisation, load};
use crate::model::ModelConfig;
use crate::model::shapes;

/// What a measurement says.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Tokens that went through the model a second; none where there are none.
    pub tokens_per_s: Option<f64>,
    /// Wall seconds of one step, the mean over all.
    pub seconds_per_step: f64,
    /// Largest resident set of the process so far.
    pub peak_rss_mib: f64,
    /// The most that tensors took on the GPU at once, MiB; 0 on a processor.
    pub peak_vram_mib: f64,
    /// Share of the time that the matrix products would take at this machine's own rate; none without products.
    pub gemm_roofline_fraction: Option<f64>,
    /// What else there is to say.
    pub more: Vec<(&'static str, f64)>,
}

/// A model with random weights of some shape; its tokenizer is the built-in one, which every shape has rows for.
pub fn random_base(config: ModelConfig, quantisation: Quantisation) -> Result<Pretrained, LoadError> {
    let Pretrained { tokenizer, stop, .. } = load(&Builtin, Quantisation::None)?;
    Ok(Pretrained { model: shapes::random(config, quantisation, 1), tokenizer, stop })
}

/// Largest resident set of this process so far, in MiB, as Linux counts it; NaN elsewhere.
pub fn peak_rss_mib() -> f64 {
    in_mib("/proc/self/status", "VmHWM:")
}

/// A line of a file of /proc that holds kB, in MiB; NaN where there is none.
pub fn in_mib(file: &str, key: &str) -> f64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}
