//! Whole training steps of the real trainer, alone in its group: forward, backward, exact sum, AdamW, digest, flip.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use coordinator_core::plan::exponents;
use coordinator_core::plan::loss_scale::LossScale;
use polya_proto::v1::{Done, Group, Lease, Plan, Sample, Settings};
use polya_proto::{EXPONENT_UNKNOWN, GRADIENT_NOT_FINITE, GRADIENT_ZERO};
use tch::Device;
use worker_member::trainer::{Membership, Trainer, TrainerError};

use super::roofline::{Work, gemm_rate, step_operations};
use super::{Figures, peak_rss_mib};
use crate::adapters::dropout::mix;
use crate::collectives::LocalRendezvous;
use crate::device::peak_vram_mib;
use crate::formats::huggingface::Pretrained;
use crate::model::ModelConfig;
use crate::plan::Workload;
use crate::plan::memory::{self, Place};
use crate::step::exact_sum;
use crate::trainer::LibtorchTrainer;

/// |q| is at most 2^30 with one microbatch a step.
const BITS: u32 = 30;
/// Steps before the clock starts: after the second one every tensor has had a gradient.
const WARM_UP: u64 = 2;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tokens of a sequence.
    pub sequence: usize,
    /// Sequences in a microbatch.
    pub batch: usize,
    /// Steps that are timed.
    pub steps: u64,
    /// Share of a sequence that is not learned.
    pub context_share: f64,
    /// log2 of the loss scale of the first step where products are in fp16; in fp32 there is none.
    pub loss_scale_log2: i32,
    /// As a run would have them.
    pub settings: Settings,
    /// What the process takes before anything is loaded.
    pub program_mib: f64,
}

/// Trains on random tokens and times it.
pub fn measure(base: Pretrained, options: &Options) -> Result<Figures, TrainerError> {
    let (config, place) = (base.model.config.clone(), base.model.placement());
    let is_half = place.kind == tch::Kind::Half;
    let embedding_bytes = base.model.embedding.kind().elt_size_in_bytes() as f64;
    let mut trainer = LibtorchTrainer::on(base, &options.settings)?;
    trainer.initial_state()?;
    let loss_scale = LossScale::starting_at(if is_half { options.loss_scale_log2 } else { 0 });
    let mut run = Run { trainer, options, exponents: vec![], step: 0, loss_scale, overflows: 0 };
    let mut work = Work { tokens: 0.0, squared_lengths: 0.0, learned: 0.0, rank: 0.0, adapted: 0.0 };
    for _ in 0..WARM_UP {
        work = run.step()?;
    }
    let start = Instant::now();
    for _ in 0..options.steps {
        work = run.step()?;
    }
    let seconds = start.elapsed().as_secs_f64() / options.steps as f64;
    let (peak, peak_vram) = (peak_rss_mib(), peak_vram_mib(place.device));
    let exactness = run.exactness()?;
    let (loss_scale_log2, overflows) = (run.loss_scale.log2(), run.overflows);
    drop(run);
    let rate = gemm_rate(&config, work.tokens as i64, place);
    let floor = step_operations(&config, &work) / rate;
    let sequences = (options.batch * options.sequence) as f64;
    Ok(Figures {
        tokens_per_s: Some(sequences / seconds),
        seconds_per_step: seconds,
        peak_rss_mib: peak,
        peak_vram_mib: peak_vram,
        gemm_roofline_fraction: Some(floor / seconds),
        more: vec![
            ("gemm_gflop_per_s", rate / 1e9),
            ("learned_tokens", work.learned),
            ("exactness_seconds", exactness),
            ("exactness_percent", 100.0 * exactness / seconds),
            predicted(config, (place.device, embedding_bytes), &work, options),
            ("loss_scale_log2", f64::from(loss_scale_log2)),
            ("overflows", overflows as f64),
        ],
    })
}

/// What `worker plan` would have said of the peak: of the process, or of the tensors on the GPU.
fn predicted(
    config: ModelConfig,
    (device, embedding_bytes): (Device, f64),
    work: &Work,
    options: &Options,
) -> (&'static str, f64) {
    let settings = &options.settings;
    let layers = config.layers;
    let work = Workload {
        nf4: settings.quantisation == "nf4",
        embedding_bytes,
        rank: i64::from(settings.adapter_rank),
        adapters: if settings.adapter_verification { 2 } else { 1 },
        tokens: work.tokens,
        longest: options.sequence as f64,
        squared_lengths: work.squared_lengths,
        learned: work.learned,
        verified: work.adapted - work.tokens,
        decoded: 0.0,
        config,
    };
    let recomputed = (settings.recompute_layers as usize).min(layers);
    if device == Device::Cpu {
        let place = Place::Cpu { program_mib: options.program_mib };
        return ("predicted_peak_rss_mib", memory::peak(&work, place, recomputed));
    }
    let tensors = memory::parts(&work, Place::Gpu, recomputed).into_iter().filter(|(name, _)| *name != memory::PROGRAM);
    ("predicted_peak_vram_mib", tensors.map(|(_, mib)| mib).sum())
}

struct Run<'a> {
    trainer: LibtorchTrainer,
    options: &'a Options,
    exponents: Vec<i32>,
    step: u64,
    loss_scale: LossScale,
    /// Attempts whose gradient was not finite.
    overflows: u64,
}

impl Run<'_> {
    /// Seconds of a step that a trainer without the exact sum would not spend: magnitudes, quantising, the digests of the
    /// part, of the own sum and of the reduced one, the staging copy, the way back to fp32, and the hash of the state.
    fn exactness(&self) -> Result<f64, TrainerError> {
        let ranges: Vec<_> = self.trainer.slots().map(|slot| slot.range.clone()).collect();
        let count = ranges.last().map_or(0, |range| range.end);
        let values: Vec<f32> = (0..count as u64).map(|index| (mix(index) >> 40) as f32 * 1e-9).collect();
        let seed = self.options.settings.seed;
        let start = Instant::now();
        for _ in 0..self.options.steps {
            let mut words = vec![0; count];
            for (range, exponent) in ranges.iter().zip(&self.exponents) {
                exact_sum::take(&values[range.clone()], 0, *exponent, BITS, &mut words[range.clone()]);
            }
            black_box(exact_sum::digest(seed, &words));
            let mut sum = vec![0; count];
            exact_sum::add(&mut sum, &words);
            black_box(exact_sum::digest(seed, &sum));
            let staging = sum.clone();
            black_box(exact_sum::digest(seed, &staging));
            black_box(exact_sum::dequantise(&staging, &self.exponents, &ranges));
            black_box(self.trainer.committed_digest()?);
        }
        Ok(start.elapsed().as_secs_f64() / self.options.steps as f64)
    }

    /// One step, as often as its gradient does not fit the planned exponents.
    fn step(&mut self) -> Result<Work, TrainerError> {
        self.step += 1;
        let samples = self.samples();
        let learned = samples.iter().map(|s| s.stages[1..].iter().filter(|stage| **stage < 4).count()).sum::<usize>();
        for attempt in 0.. {
            let plan = Plan {
                step: self.step,
                attempt,
                learning_rate_bits: 1e-4f64.to_bits(),
                exponents: self.exponents.clone(),
                stage_weight_bits: [0.15f32, 0.35, 0.35, 0.15].map(f32::to_bits).to_vec(),
                samples: samples.len() as u32,
                learned_tokens: learned as u64,
                microbatches: 1,
                bits: BITS,
                loss_scale_log2: self.loss_scale.log2(),
                ..Plan::default()
            };
            let lease = Lease { step: self.step, attempt, samples: samples.clone(), ..Lease::default() };
            self.trainer.clear();
            let done = self.trainer.compute(&plan, &lease)?;
            if self.overflowed(&done)? {
                continue;
            }
            if self.fits(&done) {
                self.trainer.keep(0)?;
                let group = Group { epoch: 1, generation: self.step };
                let membership = Membership { group, rank: 0, world_size: 1, host: String::new() };
                self.trainer.reduce(&plan, &membership, Arc::new(LocalRendezvous::default()))?;
                self.trainer.flip()?;
                self.loss_scale.committed();
                break;
            }
        }
        let length = self.trainer.packed_length(self.options.sequence) as f64;
        let verified = samples.iter().map(|s| s.ids.len() - s.verify_tag_start as usize).sum::<usize>() as f64;
        let settings = &self.options.settings;
        let tokens = length * samples.len() as f64;
        Ok(Work {
            tokens,
            squared_lengths: length * length * samples.len() as f64,
            learned: learned as f64,
            rank: f64::from(settings.adapter_rank),
            adapted: tokens + if settings.adapter_verification { verified } else { 0.0 },
        })
    }

    /// Whether the gradient is not finite: then the step is made again with half of the loss scale, as in a run.
    fn overflowed(&mut self, done: &Done) -> Result<bool, TrainerError> {
        if !magnitudes(done).contains(&GRADIENT_NOT_FINITE) {
            return Ok(false);
        }
        let halved = LossScale::halved(self.loss_scale.log2());
        let halved = halved
            .ok_or_else(|| TrainerError::Fatal("the gradient is not finite without any loss scale".to_owned()))?;
        self.loss_scale.retried(halved);
        self.overflows += 1;
        Ok(true)
    }

    /// Whether the sum is exact, and the exponents for what comes next.
    fn fits(&mut self, done: &Done) -> bool {
        let magnitudes = magnitudes(done);
        self.exponents.resize(magnitudes.len(), EXPONENT_UNKNOWN);
        let mut fits = true;
        for (exponent, magnitude) in self.exponents.iter_mut().zip(magnitudes).filter(|(_, m)| **m != GRADIENT_ZERO) {
            fits &= *exponent != EXPONENT_UNKNOWN && !exponents::saturates(*magnitude, *exponent, BITS);
            *exponent = exponents::exponent(*magnitude, BITS);
        }
        fits
    }

    /// Random tokens with the stages of a trajectory.
    fn samples(&self) -> Vec<Sample> {
        let (sequence, step) = (self.options.sequence, self.step);
        let tag = self.trainer.verify_tag();
        let context = ((sequence as f64 * self.options.context_share) as usize).clamp(1, sequence - 1);
        // The stages share the rest; VERIFY's tag begins the last quarter of it.
        let verify = (context + (sequence - context) * 3 / 4).clamp(1, sequence - tag.len() - 1);
        let rows = self.trainer.vocabulary() as u64;
        let sample = |index: usize| {
            let random = |position: usize| (mix(step << 40 ^ (index as u64) << 20 ^ position as u64) % rows) as u32;
            let mut ids: Vec<u32> = (0..sequence).map(random).collect();
            ids[verify..verify + tag.len()].copy_from_slice(tag);
            let stage = |position: usize| match position {
                position if position < context => 255,
                position if position >= verify => 3,
                position => ((position - context) * 4 / (sequence - context)).min(2) as u8,
            };
            Sample {
                id: format!("random-{step}-{index}"),
                ids,
                stages: (0..sequence).map(stage).collect(),
                verify_tag_start: verify as u32,
                verify_tag_end: (verify + tag.len()) as u32,
                ..Sample::default()
            }
        };
        (0..self.options.batch).map(sample).collect()
    }
}

fn magnitudes(done: &Done) -> &[i32] {
    done.statistics.as_ref().map_or(&[], |statistics| &statistics.magnitudes)
}

#[cfg(test)]
mod tests {
    use super::super::random_base;
    use super::*;
    use crate::formats::huggingface::Quantisation;
    use crate::model::{Placement, shapes};

    #[test]
    fn an_overflow_in_fp16_halves_the_loss_scale_and_makes_the_step_again() {
        let place = Placement { device: Device::Cpu, kind: tch::Kind::Half };
        let measured = |loss_scale_log2| {
            let mut base = random_base(shapes::named("tiny").unwrap(), Quantisation::Nf4).unwrap();
            base.model = base.model.placed(place);
            let settings = Settings {
                seed: 1,
                quantisation: "nf4".to_owned(),
                adapter_rank: 4,
                adapter_alpha: 8.0,
                loss_mode: "static".to_owned(),
                label_smoothing: 0.1,
                epsilon: 1e-8,
                clip_norm: 1.0,
                ..Settings::default()
            };
            let (sequence, batch, steps) = (48, 1, 2);
            let options =
                Options { sequence, batch, steps, context_share: 0.0, loss_scale_log2, settings, program_mib: 0.0 };
            let more = measure(base, &options).unwrap().more;
            ["loss_scale_log2", "overflows"].map(|name| more.iter().find(|(other, _)| *other == name).unwrap().1)
        };
        assert_eq!(measured(12), [12.0, 0.0]);
        let [scale, overflows] = measured(60);
        assert!(overflows > 10.0 && scale == 60.0 - overflows, "2^{scale} after {overflows} overflows");
    }
}
