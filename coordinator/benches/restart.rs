//! Restarting and auditing a long run: a journal of a million steps (or as many as the argument says) is written through the
//! real appender into a folder of memory, then opened and audited. `cargo bench -p coordinator --bench restart -- 1000000`

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use coordinator::journal::{Journal, Records};
use coordinator_core::audit::Auditor;
use coordinator_core::plan::learning_rate::LearningRate;
use coordinator_core::plan::schedule::{Cut, Length, SampleSummary, Schedule};
use coordinator_core::record::{Commit, CommittedMicrobatch, RECORD_VERSION};
use coordinator_core::statistics::Statistics;
use coordinator_core::{Digest, Journal as Fold, Record, Setup};

const MICROBATCHES: u32 = 4;
const TENSORS: usize = 28;
const CHECKPOINT_EVERY: u64 = 50;

fn main() -> Result<()> {
    let steps = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    let memory = Path::new("/dev/shm");
    let folder = tempfile::tempdir_in(if memory.is_dir() { memory } else { Path::new("/tmp") })?;
    let path = folder.path().join("journal");
    let started = Instant::now();
    let setup = setup(steps)?;
    println!("the schedule of {steps} steps: {:.2} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let expected = write(&path, &setup, steps)?;
    println!("written in {:.1} s, {} MiB", started.elapsed().as_secs_f64(), bytes(folder.path())? >> 20);

    let started = Instant::now();
    let (journal, found) = Journal::open(&path, &setup)?;
    println!("restart: {:.3} s, peak memory {} MiB", started.elapsed().as_secs_f64(), peak_mib());
    ensure!(found.fold == expected && !found.refolded, "the fold that was found is not the one that was written");
    drop(journal);

    let started = Instant::now();
    let holdout = BTreeSet::new();
    let mut auditor = Auditor::new(&setup, &holdout);
    for record in Records::open(&path)? {
        auditor.take(&record?);
    }
    let report = auditor.finish();
    println!("audit: {:.1} s, peak memory {} MiB", started.elapsed().as_secs_f64(), peak_mib());
    ensure!(report.faults.is_empty() && report.steps == steps, "{:?}", report.faults.first());
    Ok(())
}

fn setup(steps: u64) -> Result<Setup> {
    let samples = (0..4_000).map(|i| SampleSummary { id: format!("sample-{i:06}"), tokens: 5, learned: 3 }).collect();
    let cut = Cut { seed: 1, tokens_per_microbatch: 5, microbatches_per_step: MICROBATCHES };
    Ok(Setup {
        seed: 1,
        second_computation: 0,
        allow_mixed: false,
        schedule: Schedule::new(samples, cut, Length::Steps(steps))?,
        learning_rate: LearningRate { peak: 1e-3, minimum: 0.0, warmup_steps: 0, steps },
        stage_weights: [0.25; 4],
        dynamic_weights: true,
        scale_log2: 0,
        checkpoint_every: CHECKPOINT_EVERY,
        evaluation_every: 0,
        evaluate: false,
        holdout: false,
        min_workers: 1,
        failure_detection_ms: 2_000,
    })
}

/// Writes the journal of an undisturbed run; gives its fold.
fn write(path: &Path, setup: &Setup, steps: u64) -> Result<Fold> {
    let (mut journal, mut fold) = (Journal::create(path)?, Fold::new(0));
    let mut append = |record: Record, fold: &mut Fold| -> Result<()> {
        journal.seal_if_long(fold)?;
        journal.append(&record)?;
        fold.fold(setup, &record);
        Ok(())
    };
    let zero = Digest([0; 32]);
    let samples = setup.schedule.samples().len() as u64;
    let software = "bench".to_owned();
    let open = Record::Open { version: RECORD_VERSION, config: zero, data: zero, base: zero, samples, steps, software };
    append(open, &mut fold)?;
    append(Record::Epoch { epoch: 1, time_ms: 0 }, &mut fold)?;
    append(Record::Class { digest: zero, words: "bench".to_owned() }, &mut fold)?;
    for step in 1..=steps {
        let part = |k: u32| {
            let magnitudes = (0..TENSORS).map(|tensor| -((tensor as u64 + step / 100) as i32 % 11)).collect();
            let statistics = Statistics { samples: 1, tokens: 5, magnitudes, ..Statistics::default() };
            let digest = u64::from(k).wrapping_mul(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            (k, CommittedMicrobatch { digest, worker: format!("w{}", k % 2), second: None, statistics })
        };
        let microbatches: BTreeMap<u32, CommittedMicrobatch> = (0..MICROBATCHES).map(part).collect();
        let sum_digest = microbatches.values().fold(0u64, |sum, part| sum.wrapping_add(part.digest));
        let commit = Commit {
            step,
            attempt: 0,
            time_ms: step,
            plan: fold.plan(setup, step).hash,
            microbatches,
            sum_digest,
            state: Digest::of(&step.to_le_bytes()),
            gradient_norm_bits: 1.0f64.to_bits(),
        };
        append(Record::Commit(Box::new(commit)), &mut fold)?;
        if step.is_multiple_of(CHECKPOINT_EVERY) {
            append(Record::Checkpoint { step, manifest: Digest::of(&step.to_be_bytes()) }, &mut fold)?;
        }
    }
    Ok(fold)
}

fn bytes(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        total += if entry.file_type()?.is_dir() { bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(total)
}

/// The most memory this process has had.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").context("proc(5)").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kib| kib / 1024)
}
