//! The all-reduce of the exact sum over Gloo, between local threads that each are a rank.

use std::sync::Arc;
use std::time::{Duration, Instant};

use polya_proto::v1::Group;
use worker_member::trainer::{Membership, Rendezvous};

use super::{Figures, peak_rss_mib};
use crate::collectives::{Aborts, Backend, CollectiveError, LocalRendezvous, all_reduce_i32};

const PATIENCE: Duration = Duration::from_secs(60);

/// Sums `words` integers over `ranks`, `steps` times; every time a new group, as a run does it.
pub fn measure(words: usize, ranks: u32, steps: u64) -> Result<Figures, CollectiveError> {
    let rendezvous: Arc<dyn Rendezvous> = Arc::new(LocalRendezvous::default());
    let mut sums: Vec<Vec<i32>> = (0..ranks).map(|rank| vec![rank as i32 + 1; words]).collect();
    let start = Instant::now();
    for generation in 0..steps {
        let reduce = |(rank, sum): (u32, &mut Vec<i32>)| {
            let group = Group { epoch: 1, generation };
            let membership = Membership { group, rank, world_size: ranks, host: "127.0.0.1".to_owned() };
            all_reduce_i32(&Backend::Gloo, sum, &membership, rendezvous.clone(), &Aborts::default(), PATIENCE)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..ranks).zip(&mut sums).map(|one| scope.spawn(|| reduce(one))).collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap_or(Err(CollectiveError::Spent)));
            joined.collect::<Result<Vec<()>, _>>()
        })?;
    }
    let seconds = start.elapsed().as_secs_f64() / steps as f64;
    let bytes = (4 * words) as f64;
    Ok(Figures {
        tokens_per_s: None,
        seconds_per_step: seconds,
        peak_rss_mib: peak_rss_mib(),
        gemm_roofline_fraction: None,
        more: vec![("words", words as f64), ("mib_per_s", bytes / 1_048_576.0 / seconds)],
    })
}
