//! The all-reduce of the exact sum over Gloo, beside the plain one in fp32 of data-parallel trainers: seconds, bytes, and
//! how far each is from the true sum. Ranks are local threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator_core::plan::exponents;
use polya_proto::v1::Group;
use worker_member::trainer::{Membership, Rendezvous};

use super::{Figures, peak_rss_mib};
use crate::adapters::dropout::mix;
use crate::collectives::{Aborts, Backend, CollectiveError, LocalRendezvous, all_reduce_i32};
use crate::ffi::gloo::RawGroup;
use crate::step::exact_sum;

const PATIENCE: Duration = Duration::from_secs(60);
const HOST: &str = "127.0.0.1";
/// Microbatches of the step whose sum is compared.
const MICROBATCHES: u32 = 8;

/// Sums `words` numbers over `ranks`, `steps` times in each way.
pub fn measure(words: usize, ranks: u32, steps: u64) -> Result<Figures, CollectiveError> {
    let gradients = Gradients { words };
    let (exact_seconds, exact_sum) = exact(&gradients, ranks, steps)?;
    let (plain_seconds, plain_sum) = plain(&gradients, ranks, steps)?;
    let bytes = (4 * words) as f64;
    Ok(Figures {
        tokens_per_s: None,
        seconds_per_step: exact_seconds,
        peak_rss_mib: peak_rss_mib(),
        peak_vram_mib: 0.0,
        gemm_roofline_fraction: None,
        more: vec![
            ("words", words as f64),
            ("bytes_a_rank", bytes),
            ("mib_per_s", bytes / 1_048_576.0 / exact_seconds),
            ("plain_fp32_seconds_per_step", plain_seconds),
            ("plain_fp32_bytes_a_rank", bytes),
            ("relative_error", gradients.error_of(&exact_sum)),
            ("plain_fp32_relative_error", gradients.error_of(&plain_sum)),
        ],
    })
}

/// As a run does it: every time a new group, and a copy that is thrown away if it fails.
fn exact(gradients: &Gradients, ranks: u32, steps: u64) -> Result<(f64, Vec<f32>), CollectiveError> {
    let bits = exponents::bits(MICROBATCHES);
    let exponent = exponents::exponent(gradients.magnitude(), bits);
    let mut sums: Vec<Vec<i32>> = (0..ranks).map(|rank| gradients.exact_sum(rank, ranks, (exponent, bits))).collect();
    let own = sums.clone();
    let rendezvous: Arc<dyn Rendezvous> = Arc::new(LocalRendezvous::default());
    let mut seconds = 0.0;
    for generation in 0..steps {
        sums.clone_from(&own);
        let start = Instant::now();
        on_each_rank(&mut sums, |rank, sum| {
            let group = Group { epoch: 1, generation };
            let membership = Membership { group, rank, world_size: ranks, host: HOST.to_owned() };
            let (staging, aborts) = (std::mem::take(sum), Aborts::default());
            *sum = all_reduce_i32(&Backend::Gloo, staging, &membership, rendezvous.clone(), &aborts, PATIENCE)?;
            Ok(())
        })?;
        seconds += start.elapsed().as_secs_f64();
    }
    let whole = 0..gradients.words;
    Ok((seconds / steps as f64, exact_sum::dequantise(&sums[0], &[exponent], std::slice::from_ref(&whole))))
}

/// As others do it: one group for all steps, in place.
fn plain(gradients: &Gradients, ranks: u32, steps: u64) -> Result<(f64, Vec<f32>), CollectiveError> {
    let failed = |reason| CollectiveError::Reduce { words: gradients.words, reason };
    let mut sums: Vec<Vec<f32>> = (0..ranks).map(|rank| gradients.plain_sum(rank, ranks)).collect();
    if ranks < 2 {
        return Ok((0.0, sums.swap_remove(0)));
    }
    let own = sums.clone();
    let rendezvous = LocalRendezvous::default();
    let mut groups: Vec<Option<RawGroup>> = (0..ranks).map(|_| None).collect();
    on_each_rank(&mut groups, |rank, group| {
        *group = Some(RawGroup::connect(&rendezvous, rank, ranks, HOST, PATIENCE).map_err(failed)?);
        Ok(())
    })?;
    let mut seconds = 0.0;
    for _ in 0..steps {
        sums.clone_from(&own);
        let start = Instant::now();
        on_each_rank(&mut sums, |rank, sum| {
            let group = groups[rank as usize].as_ref().ok_or(CollectiveError::Spent)?;
            group.all_reduce_f32(sum).map_err(failed)
        })?;
        seconds += start.elapsed().as_secs_f64();
    }
    Ok((seconds / steps as f64, sums.swap_remove(0)))
}

fn on_each_rank<T: Send>(
    parts: &mut [T],
    work: impl Fn(u32, &mut T) -> Result<(), CollectiveError> + Sync,
) -> Result<(), CollectiveError> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..).zip(parts).map(|(rank, part)| scope.spawn(move || work(rank, part))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(CollectiveError::Spent)))
    })
}

/// Gradients of the microbatches of one step: made up, over seven powers of two, the same at each call.
struct Gradients {
    words: usize,
}

impl Gradients {
    fn of(&self, microbatch: u32) -> Vec<f32> {
        let value = |index: u64| {
            let bits = mix(u64::from(microbatch) << 40 | index);
            let uniform = (bits >> 40) as f32 / 8_388_608.0 - 1.0;
            uniform * 2f32.powi(-((bits & 7) as i32) - 8)
        };
        (0..self.words as u64).map(value).collect()
    }

    /// Of a rank: every so many-th microbatch is its own.
    fn of_rank(&self, rank: u32, ranks: u32) -> impl Iterator<Item = Vec<f32>> + '_ {
        (0..MICROBATCHES).filter(move |k| k % ranks == rank).map(|k| self.of(k))
    }

    fn magnitude(&self) -> i32 {
        (0..MICROBATCHES).map(|k| exact_sum::magnitude(&self.of(k))).max().unwrap_or(0)
    }

    fn exact_sum(&self, rank: u32, ranks: u32, (exponent, bits): (i32, u32)) -> Vec<i32> {
        let (mut sum, mut words) = (vec![0; self.words], vec![0; self.words]);
        for values in self.of_rank(rank, ranks) {
            exact_sum::quantise(&values, exponent, bits, &mut words);
            exact_sum::add(&mut sum, &words);
        }
        sum
    }

    fn plain_sum(&self, rank: u32, ranks: u32) -> Vec<f32> {
        let mut sum = vec![0f32; self.words];
        for values in self.of_rank(rank, ranks) {
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        sum
    }

    /// Relative l2 distance from the sum in fp64.
    fn error_of(&self, found: &[f32]) -> f64 {
        let mut truth = vec![0f64; self.words];
        for k in 0..MICROBATCHES {
            truth.iter_mut().zip(self.of(k)).for_each(|(sum, value)| *sum += f64::from(value));
        }
        let square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|number| number * number).sum::<f64>();
        let distance = square(&mut truth.iter().zip(found).map(|(truth, found)| truth - f64::from(*found)));
        (distance / square(&mut truth.iter().copied())).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_sum_the_same_gradients() {
        let figures = measure(10_000, 3, 2).unwrap();
        let figure = |name| figures.more.iter().find(|(known, _)| *known == name).unwrap().1;
        let (exact, plain) = (figure("relative_error"), figure("plain_fp32_relative_error"));
        assert!(exact > 0.0 && exact < 1e-6 && plain > 0.0 && plain < 1e-6, "{exact:e} {plain:e}");
        assert!(figures.seconds_per_step > 0.0 && figure("plain_fp32_seconds_per_step") > 0.0);
    }
}
