//! The GPU kernels beside a plain copy on the same card: memory bounds them all, so the copy's rate is their ceiling.

use tch::{Device, Kind, Tensor};

use super::roofline::fastest;
use super::{Figures, peak_rss_mib};
use crate::adapters::dropout::{Dropout, token_key};
use crate::device::peak_vram_mib;
use crate::kernels::check::Run;
use crate::kernels::gpu;
use crate::kernels::launch::{self, Launch};
use crate::model::{ModelConfig, Placement, ProjectionKind, Site};
use crate::quantization::Nf4Weight;

/// Bytes of the copy: more than the caches of any card.
const COPIED: i64 = 256 << 20;
/// Tokens of the dropout mask.
const TOKENS: i64 = 1024;

/// Times every kernel of a step and of decoding on matrices of a model. Errors are sentences of the driver's.
pub fn measure(config: &ModelConfig, gpu: Device) -> Result<Figures, String> {
    measure_with(config, Placement::of(gpu), (COPIED, TOKENS), &|launch| gpu::run(launch, gpu))
}

fn measure_with(
    config: &ModelConfig,
    place: Placement,
    (copied, tokens): (i64, i64),
    run: Run,
) -> Result<Figures, String> {
    let _guard = tch::no_grad_guard();
    let site = Site { layer: 0, kind: ProjectionKind::Up };
    let (input, output) = config.projection_shape(site.kind);
    let device = place.device;
    let weight = Nf4Weight::quantise(&Tensor::randn([output, input], (Kind::Float, Device::Cpu))).copied_to(device);
    let packed = weight.bytes() as f64;
    let halves = |rows: i64, columns: i64| Tensor::randn([rows, columns], (Kind::Float, device)).to_kind(Kind::Half);
    let dense = halves(output, input);
    let (x, y) = (halves(16, input), halves(16, output));
    let mask = halves(tokens, input);
    let keys = (0..tokens as u64).map(|position| token_key(1, 2, "sample", position, false)).collect();
    let dropout = Dropout { probability: 0.05, keys };
    let (place_of_mask, threshold, kept) = dropout.at(site, 0).ok_or("nothing is dropped")?.constants();
    let keys = dropout.keys_on(device);
    // A name of the rate, one of its share, the bytes that must be moved, and the launch.
    let kernels: [([&'static str; 2], f64, Launch); 4] = [
        (
            ["dequantise_gb_per_s", "dequantise_share_of_copy"],
            packed + bytes(&dense),
            launch::nf4_dequantise(weight.parts(), &dense),
        ),
        (
            ["multiply_1_row_gb_per_s", "multiply_1_row_share_of_copy"],
            packed,
            launch::nf4_multiply(&x.narrow(0, 0, 1), weight.parts(), &y.narrow(0, 0, 1)),
        ),
        (
            ["multiply_16_rows_gb_per_s", "multiply_16_rows_share_of_copy"],
            packed,
            launch::nf4_multiply(&x, weight.parts(), &y),
        ),
        (
            ["dropout_gb_per_s", "dropout_share_of_copy"],
            bytes(&mask),
            launch::dropout_mask(&keys, place_of_mask, threshold, kept, &mask),
        ),
    ];
    let copy = {
        let from = Tensor::zeros([copied], (Kind::Uint8, device));
        let mut to = from.zeros_like();
        2.0 * copied as f64 / fastest(place, || to.copy_(&from))
    };
    let mut more = vec![("copy_gb_per_s", copy / 1e9)];
    let mut expanding = None;
    for ([rate_name, share_name], bytes, launch) in &kernels {
        // Compiled by the first launch; what fails does so here.
        run(launch)?;
        let seconds = fastest(place, || run(launch));
        more.extend([(*rate_name, bytes / seconds / 1e9), (*share_name, bytes / seconds / copy)]);
        expanding.get_or_insert(seconds);
    }
    Ok(Figures {
        tokens_per_s: None,
        seconds_per_step: expanding.unwrap_or(f64::NAN),
        peak_rss_mib: peak_rss_mib(),
        peak_vram_mib: peak_vram_mib(device),
        gemm_roofline_fraction: None,
        more,
    })
}

fn bytes(tensor: &Tensor) -> f64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::emulation::Emulation;
    use crate::model::shapes;

    #[test]
    fn every_kernel_has_a_rate_and_a_share_of_the_copys() {
        // Emulated threads are slow: a matrix of 8 rows.
        let config = ModelConfig { hidden: 64, intermediate: 8, ..shapes::named("tiny").unwrap() };
        let cpu = Emulation::compile().unwrap();
        let figures = measure_with(&config, Placement::CPU, (1 << 20, 8), &|launch| cpu.launch(launch)).unwrap();
        let of = |name: &str| figures.more.iter().find(|(other, _)| *other == name).unwrap().1;
        for kernel in ["dequantise", "multiply_1_row", "multiply_16_rows", "dropout"] {
            let (rate, share) = (of(&format!("{kernel}_gb_per_s")), of(&format!("{kernel}_share_of_copy")));
            assert!(rate > 0.0 && (share * of("copy_gb_per_s") / rate - 1.0).abs() < 1e-6, "{kernel}: {rate}, {share}");
        }
    }
}
