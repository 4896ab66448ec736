//! Which samples a step holds: a seeded permutation an epoch, packed into microbatches by a token budget, whatever the
//! number of workers. A step never crosses an epoch; the epoch's last step may be shorter.

use crate::digest::Digest;

/// Microbatches that are filled together: enough that little room is left, few enough that an epoch stays shuffled.
const WINDOW: u64 = 64;

/// What the schedule must know of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleSummary {
    /// Unique id.
    pub id: String,
    /// Tokens that go through the model (a shadow copy of the tag included).
    pub tokens: u32,
    /// Tokens that are learned.
    pub learned: u32,
}

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many optimiser steps, over as many epochs as that takes.
    Steps(u64),
    /// So many passes over the data.
    Epochs(u32),
}

/// Constants of the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Keys the permutation.
    pub seed: u64,
    /// Tokens a microbatch may hold.
    pub tokens_per_microbatch: u32,
    /// Microbatches in a whole step.
    pub microbatches_per_step: u32,
}

/// Why data cannot be scheduled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Nothing to train on.
    #[error("there are no training samples")]
    Empty,
    /// A sample is longer than a microbatch.
    #[error(
        "sample `{id}` has {tokens} tokens, a microbatch holds {budget}; raise batch.tokens_per_microbatch or drop it"
    )]
    TooLong {
        /// Which one.
        id: String,
        /// Its tokens.
        tokens: u32,
        /// The budget.
        budget: u32,
    },
    /// Two samples have one id.
    #[error("sample id `{0}` stands twice in the training data; ids must be unique")]
    DoubleId(String),
    /// A constant of the cut is zero.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
}

/// All steps of a run.
#[derive(Debug, Clone)]
pub struct Schedule {
    samples: Vec<SampleSummary>,
    per_step: usize,
    epochs: Vec<Epoch>,
    steps: u64,
}

#[derive(Debug, Clone)]
struct Epoch {
    first_step: u64,
    microbatches: Vec<Vec<u32>>,
}

impl Schedule {
    /// Cuts every epoch of the run.
    pub fn new(samples: Vec<SampleSummary>, cut: Cut, length: Length) -> Result<Self, ScheduleError> {
        check(&samples, cut)?;
        let per_step = cut.microbatches_per_step as usize;
        let mut schedule = Schedule { samples, per_step, epochs: vec![], steps: 0 };
        let goes_on = |schedule: &Schedule| match length {
            Length::Steps(steps) => schedule.steps < steps,
            Length::Epochs(epochs) => schedule.epochs.len() < epochs as usize,
        };
        while goes_on(&schedule) {
            let order = permutation(&schedule.samples, cut.seed, schedule.epochs.len() as u64);
            let microbatches = cut_microbatches(&schedule.samples, &order, cut.tokens_per_microbatch);
            let steps = microbatches.len().div_ceil(per_step) as u64;
            schedule.epochs.push(Epoch { first_step: schedule.steps + 1, microbatches });
            schedule.steps += steps;
        }
        if let Length::Steps(steps) = length {
            schedule.steps = steps;
        }
        Ok(schedule)
    }

    /// Steps of the run.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Share of the token budget of all microbatches of an epoch (from 0) that no token fills.
    pub fn unused(&self, epoch: usize, tokens_per_microbatch: u32) -> f64 {
        let count = self.epochs.get(epoch).map_or(0, |epoch| epoch.microbatches.len()).max(1) as f64;
        let tokens: u64 = self.samples.iter().map(|sample| u64::from(sample.tokens)).sum();
        1.0 - tokens as f64 / (count * f64::from(tokens_per_microbatch))
    }

    /// Microbatches of a step that does not end an epoch.
    pub fn microbatches_per_step(&self) -> usize {
        self.per_step
    }

    /// The samples, by index.
    pub fn samples(&self) -> &[SampleSummary] {
        &self.samples
    }

    /// Microbatches of a step (from 1): sample indices. Empty beyond the run.
    pub fn microbatches(&self, step: u64) -> &[Vec<u32>] {
        let Some(epoch) = self.epochs.iter().rev().find(|epoch| epoch.first_step <= step) else { return &[] };
        if step > self.steps {
            return &[];
        }
        let start = (step - epoch.first_step) as usize * self.per_step;
        let end = (start + self.per_step).min(epoch.microbatches.len());
        epoch.microbatches.get(start..end).unwrap_or(&[])
    }

    /// Which epoch (from 0) a step is in, and whether the step is that epoch's last.
    pub fn epoch_of(&self, step: u64) -> (u64, bool) {
        let index = self.epochs.iter().rposition(|epoch| epoch.first_step <= step).unwrap_or(0);
        let epoch = &self.epochs[index];
        let steps = epoch.microbatches.len().div_ceil(self.per_step) as u64;
        (index as u64, step + 1 == epoch.first_step + steps)
    }
}

fn check(samples: &[SampleSummary], cut: Cut) -> Result<(), ScheduleError> {
    if cut.tokens_per_microbatch == 0 {
        return Err(ScheduleError::Zero("batch.tokens_per_microbatch"));
    }
    if cut.microbatches_per_step == 0 {
        return Err(ScheduleError::Zero("batch.microbatches_per_step"));
    }
    if samples.is_empty() {
        return Err(ScheduleError::Empty);
    }
    let budget = cut.tokens_per_microbatch;
    if let Some(sample) = samples.iter().find(|sample| sample.tokens > budget) {
        return Err(ScheduleError::TooLong { id: sample.id.clone(), tokens: sample.tokens, budget });
    }
    let mut ids: Vec<&str> = samples.iter().map(|sample| sample.id.as_str()).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ScheduleError::DoubleId(pair[0].to_owned())),
        None => Ok(()),
    }
}

/// Sample indices in the order of blake3(seed, epoch, id): no random generator, no order of the input file.
fn permutation(samples: &[SampleSummary], seed: u64, epoch: u64) -> Vec<u32> {
    let key = |sample: &SampleSummary| {
        let mut bytes = Vec::with_capacity(32 + sample.id.len());
        bytes.extend_from_slice(b"polya order 1");
        bytes.extend_from_slice(&seed.to_le_bytes());
        bytes.extend_from_slice(&epoch.to_le_bytes());
        bytes.extend_from_slice(sample.id.as_bytes());
        Digest::of(&bytes)
    };
    let mut order: Vec<(Digest, u32)> = (0u32..).zip(samples).map(|(index, sample)| (key(sample), index)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, index)| index).collect()
}

/// Fills microbatches from one window of the order after the other, so that a sample stays near its place in the epoch.
fn cut_microbatches(samples: &[SampleSummary], order: &[u32], budget: u32) -> Vec<Vec<u32>> {
    let (mut microbatches, mut window, mut tokens) = (vec![], vec![], 0);
    for (at, index) in order.iter().enumerate() {
        window.push(*index);
        tokens += u64::from(samples[*index as usize].tokens);
        let is_last = at + 1 == order.len();
        if tokens >= WINDOW * u64::from(budget) || is_last {
            let mut filled = fill(samples, &window, budget);
            // The last one made is what was left over: it waits for the next window.
            let over = if is_last { vec![] } else { filled.pop().unwrap_or_default() };
            filled.sort_unstable();
            let ids = |places: Vec<usize>| places.into_iter().map(|place| window[place]).collect::<Vec<u32>>();
            microbatches.extend(filled.into_iter().map(ids));
            window = ids(over);
            tokens = window.iter().map(|index| u64::from(samples[*index as usize].tokens)).sum();
        }
    }
    microbatches
}

/// Places in the window by microbatch: long samples first until two more can end it, then the two (or the one) that leave
/// least room. Length decides the company only: places ascend in a microbatch, and microbatches by their first place.
fn fill(samples: &[SampleSummary], window: &[u32], budget: u32) -> Vec<Vec<usize>> {
    let tokens = |place: usize| samples[window[place] as usize].tokens;
    let mut left: Vec<(u32, usize)> = (0..window.len()).map(|place| (tokens(place), place)).collect();
    left.sort_unstable();
    let mut microbatches = vec![];
    while let Some((longest, place)) = left.pop() {
        let (mut places, mut room) = (vec![place], budget - longest);
        while let [.., (second, _), (first, place)] = left[..]
            && first + second < room
        {
            left.pop();
            places.push(place);
            room -= first;
        }
        loop {
            let ending = ending(&left, room);
            if ending.is_empty() {
                break;
            }
            for at in ending {
                let (tokens, place) = left.remove(at);
                places.push(place);
                room -= tokens;
            }
        }
        places.sort_unstable();
        microbatches.push(places);
    }
    microbatches
}

/// Indices, the higher one first, of the one or two samples of an ascending list that fill most of the room.
fn ending(left: &[(u32, usize)], room: u32) -> Vec<usize> {
    let fitting = left.partition_point(|(tokens, _)| *tokens <= room);
    let Some(single) = fitting.checked_sub(1) else { return vec![] };
    let (mut best, mut most) = (vec![single], left[single].0);
    let (mut low, mut high) = (0, single);
    while low < high {
        let sum = left[low].0 + left[high].0;
        if sum > room {
            high -= 1;
        } else {
            if sum > most {
                (best, most) = (vec![high, low], sum);
            }
            low += 1;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples(tokens: &[u32]) -> Vec<SampleSummary> {
        let sample = |(i, &tokens): (usize, &u32)| SampleSummary { id: format!("s{i}"), tokens, learned: tokens / 2 };
        tokens.iter().enumerate().map(sample).collect()
    }

    proptest! {
        #[test]
        fn every_sample_stands_once_in_every_epoch(
            tokens in prop::collection::vec(1u32..60, 1..200), seed: u64, per_step in 1u32..9, epochs in 1u32..4,
        ) {
            let cut = Cut { seed, tokens_per_microbatch: 64, microbatches_per_step: per_step };
            let schedule = Schedule::new(samples(&tokens), cut, Length::Epochs(epochs)).unwrap();
            let mut seen = vec![0u32; tokens.len()];
            for step in 1..=schedule.steps() {
                let microbatches = schedule.microbatches(step);
                prop_assert!(!microbatches.is_empty() && microbatches.len() <= per_step as usize);
                for microbatch in microbatches {
                    let total: u32 = microbatch.iter().map(|&i| tokens[i as usize]).sum();
                    prop_assert!(!microbatch.is_empty() && total <= 64);
                    microbatch.iter().for_each(|&i| seen[i as usize] += 1);
                }
                let (epoch, last) = schedule.epoch_of(step);
                if last {
                    prop_assert!(seen.iter().all(|&count| u64::from(count) == epoch + 1));
                }
            }
            prop_assert!(schedule.microbatches(schedule.steps() + 1).is_empty());
        }
    }

    #[test]
    fn the_order_depends_on_the_ids_not_on_the_file() {
        let cut = Cut { seed: 1, tokens_per_microbatch: 10, microbatches_per_step: 2 };
        let forward = samples(&[5; 20]);
        let backward: Vec<_> = forward.iter().rev().cloned().collect();
        let names = |samples: Vec<SampleSummary>| {
            let schedule = Schedule::new(samples, cut, Length::Steps(7)).unwrap();
            (1..=7)
                .flat_map(|step| schedule.microbatches(step).concat())
                .map(|i| schedule.samples()[i as usize].id.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(forward), names(backward));
    }

    #[test]
    fn little_of_the_budget_is_left_unused_and_long_samples_do_not_come_first() {
        // Lengths as of GSM8K's trajectories: 150 to 450 tokens.
        let lengths: Vec<u32> = (0..5000u64).map(|i| 150 + (i * i * 2654435761 % 300) as u32).collect();
        let cut = Cut { seed: 7, tokens_per_microbatch: 2048, microbatches_per_step: 4 };
        let schedule = Schedule::new(samples(&lengths), cut, Length::Epochs(1)).unwrap();
        let unused = schedule.unused(0, 2048);
        assert!((0.0..0.01).contains(&unused), "{unused}");
        let mean = |steps: std::ops::RangeInclusive<u64>| {
            let indices: Vec<u32> = steps.flat_map(|step| schedule.microbatches(step).concat()).collect();
            indices.iter().map(|i| f64::from(lengths[*i as usize])).sum::<f64>() / indices.len() as f64
        };
        let (first, last) = (mean(1..=10), mean(schedule.steps() - 10..=schedule.steps()));
        assert!((first - last).abs() < 30.0, "{first} {last}");
    }

    #[test]
    fn a_sample_over_the_budget_is_named() {
        let cut = Cut { seed: 1, tokens_per_microbatch: 10, microbatches_per_step: 2 };
        let error = Schedule::new(samples(&[5, 11]), cut, Length::Epochs(1)).unwrap_err();
        assert!(error.to_string().contains("`s1` has 11 tokens"), "{error}");
    }
}
