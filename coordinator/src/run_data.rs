//! What a run trains on and is scored with: trajectories to tokens, samples to schedules, problems to probes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use coordinator_core::Digest;
use coordinator_core::plan::schedule::SampleSummary;
use polya_datasets::evaluation::Bench;
use polya_datasets::plant::{kinds_of, plant};
use polya_datasets::prompt::PromptForm;
use polya_datasets::synthesize::{Random, STEPS, synthesize};
use polya_datasets::tokens::{self, Sample, Tag, TokenError};
use polya_datasets::trajectory::Trajectory;
use polya_datasets::{parquet, split};
use polya_proto::v1;
use tokenizers::Tokenizer;

use crate::config::Config;

const BUILTIN_TOKENIZER: &[u8] = include_bytes!("../../base/tokenizer.json");
/// Seeds of the built-in problems: training and scoring never share one.
const SEED_TRAIN: u64 = 0x7472_6169_6e00_0000;
const SEED_HOLDOUT: u64 = 0x686f_6c64_6f75_7400;
/// Holdout samples on which the loss is measured at each checkpoint.
const HOLDOUT_LOSS_SAMPLES: usize = 128;

/// Everything that is fed to workers.
pub struct RunData {
    /// Training samples, in the schedule's order of indices.
    pub samples: Vec<v1::Sample>,
    /// What the schedule knows of them.
    pub summaries: Vec<SampleSummary>,
    /// Ids that must never be trained on.
    pub holdout_ids: BTreeSet<String>,
    /// Samples for the holdout loss, packed into microbatches.
    pub holdout: Vec<Vec<v1::Sample>>,
    /// What is scored.
    pub bench: Bench,
    /// Hash of everything above that training depends on.
    pub digest: Digest,
    /// Samples left out, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// How questions are asked.
    pub form: PromptForm,
    tokenizer: Tokenizer,
}

/// The tokenizer of the run's base.
pub fn tokenizer(config: &Config) -> Result<Tokenizer> {
    if config.base.path.is_empty() {
        return Tokenizer::from_bytes(BUILTIN_TOKENIZER)
            .map_err(|error| anyhow::anyhow!("built-in tokenizer: {error}"));
    }
    let path = Path::new(&config.base.path).join("tokenizer.json");
    Tokenizer::from_file(&path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// Loads, splits, tokenises and checks. A function of the configuration and its files.
pub fn load(config: &Config) -> Result<RunData> {
    let tokenizer = tokenizer(config)?;
    let tags = tokens::tags(&tokenizer)?;
    let form = PromptForm::of_name(&config.data.prompt, Path::new(&config.base.path)).context("`data.prompt`")?;
    form.check(&tokenizer, &tags[0])?;
    let end = form.end(&tokenizer)?;
    let encoded = |trajectory: &Trajectory| {
        let sample = tokens::encode_as(&form, &tokenizer, &tags[3], end, trajectory);
        fitting(sample, &tags[3], config)
    };
    let (train, holdout) = trajectories(config)?;
    let leaked: BTreeSet<String> = holdout.iter().map(|t| split::problem_key(&t.question)).collect();
    let mut rejected = BTreeMap::new();
    let mut samples = vec![];
    for trajectory in &train {
        if leaked.contains(&split::problem_key(&trajectory.question)) {
            *rejected.entry("the same problem stands in the holdout".to_owned()).or_default() += 1;
            continue;
        }
        match encoded(trajectory) {
            Ok(sample) => samples.push(sample),
            Err(reason) => *rejected.entry(reason).or_default() += 1,
        }
    }
    if samples.is_empty() {
        bail!("no training sample is left ({rejected:?}); see data.train and train.max_length");
    }
    let shadow = shadow_tokens(config, &tags[3]);
    let summary = |sample: &Sample| SampleSummary {
        id: sample.id.clone(),
        tokens: (sample.ids.len() + shadow) as u32,
        learned: sample.learned() as u32,
    };
    let summaries: Vec<SampleSummary> = samples.iter().map(summary).collect();
    let samples: Vec<v1::Sample> = samples.into_iter().map(to_wire).collect();
    let measured: Vec<v1::Sample> = holdout
        .iter()
        .filter_map(|trajectory| encoded(trajectory).ok())
        .take(HOLDOUT_LOSS_SAMPLES)
        .map(to_wire)
        .collect();
    let bench = Bench::of_holdout(&holdout, config.evaluation.samples as usize, config.run.seed);
    Ok(RunData {
        digest: digest(&samples, &holdout),
        holdout_ids: holdout.iter().map(|t| t.id.clone()).collect(),
        holdout: pack(measured, config.batch.tokens_per_microbatch as usize),
        samples,
        summaries,
        bench,
        rejected,
        form,
        tokenizer,
    })
}

/// Training and holdout trajectories.
fn trajectories(config: &Config) -> Result<(Vec<Trajectory>, Vec<Trajectory>)> {
    let seed = config.run.seed;
    let read = |key: &str, path: &str| parquet::read(Path::new(path)).with_context(|| format!("`{key}`"));
    let (train, fresh) = match config.data.train.as_str() {
        "" => {
            let problem = |index| builtin_sample(seed ^ SEED_TRAIN, index, config.data.corrective_fraction);
            let train: Vec<Trajectory> = (0..config.data.synthetic_count).map(problem).collect();
            let count = config.evaluation.samples.max(200);
            let fresh = (0..count + count / 4).map(|index| synthesize(seed ^ SEED_HOLDOUT, index, STEPS));
            (train, Some(fresh.collect()))
        }
        path => (read("data.train", path)?, None),
    };
    let (train, holdout) = match (config.data.holdout.as_str(), fresh) {
        ("", Some(fresh)) => (train, fresh),
        ("", None) => {
            let fraction = config.data.holdout_fraction;
            let is_holdout = |t: &Trajectory| split::is_holdout(&t.question, seed, fraction);
            let (holdout, train) = train.into_iter().partition(is_holdout);
            (train, holdout)
        }
        (path, _) => (train, read("data.holdout", path)?),
    };
    let mut ids = BTreeSet::new();
    if let Some(twice) = train.iter().chain(&holdout).find(|trajectory| !ids.insert(trajectory.id.as_str())) {
        bail!("sample id `{}` stands twice in training and holdout data; ids must be unique", twice.id);
    }
    Ok((train, holdout))
}

/// A built-in problem, with a planted and corrected error in a share of them.
fn builtin_sample(seed: u64, index: u64, corrective: f64) -> Trajectory {
    let right = synthesize(seed, index, STEPS);
    if !Random::new([seed, index, 0x434f_5252]).chance(corrective) {
        return right;
    }
    plant(&right, kinds_of(&right), seed).unwrap_or(right)
}

/// A sample that the run has room for, or why not.
fn fitting(sample: Result<Sample, TokenError>, tag: &Tag, config: &Config) -> Result<Sample, String> {
    let sample = sample.map_err(|error| {
        let text = error.to_string();
        text.split_once(": ").map_or(text.clone(), |(_, reason)| reason.to_owned())
    })?;
    let (length, limit) = (sample.ids.len(), config.train.max_length as usize);
    let packed = length + shadow_tokens(config, tag);
    if length > limit {
        return Err(format!("longer than train.max_length = {limit}"));
    }
    if packed > config.batch.tokens_per_microbatch as usize {
        return Err(format!("longer than batch.tokens_per_microbatch = {}", config.batch.tokens_per_microbatch));
    }
    Ok(sample)
}

/// Tokens of the VERIFY tag's shadow copy in a pack.
fn shadow_tokens(config: &Config, tag: &Tag) -> usize {
    if config.adapter.verification { tag.line.len() - 1 } else { 0 }
}

fn to_wire(sample: Sample) -> v1::Sample {
    let explicit = sample.stages.iter().zip(&sample.weights).any(|(stage, weight)| stage.is_some() && *weight != 1.0);
    v1::Sample {
        stages: sample.stages.iter().map(|stage| stage.map_or(255, |stage| stage.index() as u8)).collect(),
        weight_bits: if explicit { sample.weights.iter().map(|weight| weight.to_bits()).collect() } else { vec![] },
        verify_tag_start: sample.verify_tag.start as u32,
        verify_tag_end: sample.verify_tag.end as u32,
        corrective: sample.corrective,
        id: sample.id,
        ids: sample.ids,
    }
}

fn pack(samples: Vec<v1::Sample>, budget: usize) -> Vec<Vec<v1::Sample>> {
    let mut packs: Vec<Vec<v1::Sample>> = vec![];
    let mut tokens = usize::MAX;
    for sample in samples {
        if tokens.saturating_add(sample.ids.len()) > budget {
            packs.push(vec![]);
            tokens = 0;
        }
        tokens += sample.ids.len() + 16;
        if let Some(pack) = packs.last_mut() {
            pack.push(sample);
        }
    }
    packs
}

/// Hash of ids and tokens of all training samples and of the holdout's ids, in sorted order of ids.
fn digest(samples: &[v1::Sample], holdout: &[Trajectory]) -> Digest {
    let mut lines: Vec<Digest> =
        samples.iter().map(|sample| Digest::of(&prost::Message::encode_to_vec(sample))).collect();
    lines.extend(holdout.iter().map(|trajectory| Digest::of(format!("holdout {}", trajectory.id).as_bytes())));
    lines.sort_unstable();
    let bytes: Vec<u8> = lines.iter().flat_map(|line| line.0).collect();
    Digest::of(&bytes)
}

impl RunData {
    /// Token ids of a text.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        Ok(tokens::ids(&self.tokenizer, text)?)
    }
}
