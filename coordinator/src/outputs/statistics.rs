//! `statistics/*.parquet`: one row a (step, stage). Written in parts, each whole or absent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow_array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, UInt64Array};
use coordinator_core::record::Commit;
use coordinator_core::statistics::{Statistics, UNIT};
use parquet::arrow::ArrowWriter;

const STAGES: [&str; 4] = ["understand", "plan", "execute", "verify"];

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Step.
    pub step: u64,
    /// 0 to 3.
    pub stage: usize,
    /// Learned tokens.
    pub tokens: u64,
    /// Mean unsmoothed cross-entropy, nats.
    pub loss: Option<f64>,
    /// Share of tokens predicted right.
    pub accuracy: Option<f64>,
    /// w_s.
    pub weight: f64,
    /// Mean transition term a sample.
    pub transition: f64,
    /// l2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// log2 of the loss scale.
    pub scale: i32,
}

/// The four rows of a step.
pub fn rows(commit: &Commit, weights: [f32; 4], lr: f64, scale: i32) -> Vec<Row> {
    let mut total = Statistics::default();
    commit.microbatches.values().for_each(|part| total.add(&part.statistics));
    let samples = f64::from(total.samples.max(1));
    let row = |stage: usize| {
        let of = total.stages[stage];
        Row {
            step: commit.step,
            stage,
            tokens: of.tokens,
            loss: total.mean_loss(stage),
            accuracy: (of.tokens > 0).then(|| of.correct as f64 / of.tokens as f64),
            weight: f64::from(weights[stage]),
            transition: total.transition as f64 * UNIT / samples,
            grad_norm: f64::from_bits(commit.gradient_norm_bits),
            lr,
            scale,
        }
    };
    (0..4).map(row).collect()
}

/// Writes rows as `statistics/step-FIRST-LAST.parquet`; nothing for no rows.
pub fn write(run_dir: &Path, rows: &[Row]) -> Result<Option<PathBuf>> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(None) };
    let folder = run_dir.join("statistics");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let path = folder.join(format!("step-{:06}-{:06}.parquet", first.step, last.step));
    let numbers =
        |of: fn(&Row) -> f64| -> ArrayRef { Arc::new(rows.iter().map(|row| Some(of(row))).collect::<Float64Array>()) };
    let optional =
        |of: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<Float64Array>()) };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("step", Arc::new(rows.iter().map(|row| Some(row.step)).collect::<UInt64Array>())),
        ("stage", Arc::new(rows.iter().map(|row| Some(STAGES[row.stage])).collect::<StringArray>())),
        ("tokens", Arc::new(rows.iter().map(|row| Some(row.tokens)).collect::<UInt64Array>())),
        ("loss", optional(|row| row.loss)),
        ("accuracy", optional(|row| row.accuracy)),
        ("weight", numbers(|row| row.weight)),
        ("transition", numbers(|row| row.transition)),
        ("grad_norm", numbers(|row| row.grad_norm)),
        ("lr", numbers(|row| row.lr)),
        ("scale", Arc::new(rows.iter().map(|row| Some(row.scale)).collect::<Int32Array>())),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let temporary = path.with_extension("tmp");
    let file = std::fs::File::create(&temporary).with_context(|| temporary.display().to_string())?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    std::fs::rename(&temporary, &path).with_context(|| path.display().to_string())?;
    Ok(Some(path))
}
