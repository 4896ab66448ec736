//! The parity file of an export: ids, some rows of logits, and a script that compares them in the ecosystem's stack.

use std::path::Path;

use anyhow::{Context, Result};
use polya_datasets::synthesize::{STEPS, synthesize};
use polya_datasets::tokens::{self, Tag};
use safetensors::Dtype;
use tch::{Kind, Tensor};
use tokenizers::Tokenizer;

use crate::adapters::LoraSet;
use crate::formats::safetensors::{Entry, Writer};
use crate::generate::mask_of;
use crate::logits;
use crate::model::Transformer;

/// Rows of logits in the file: enough to lie before, in and behind VERIFY, few enough for a large vocabulary.
const ROWS: usize = 8;

/// A trajectory as ids, and the positions that are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    /// Token ids.
    pub(super) ids: Vec<u32>,
    /// Where VERIFY begins.
    pub(super) verify_from: usize,
    /// Positions, ascending; the last one is the text's last.
    pub(super) rows: Vec<i64>,
}

impl Prompt {
    /// A built-in problem in the tokens of a model.
    pub(super) fn new(tokenizer: &Tokenizer, verify: &Tag) -> Result<Self> {
        let ids = tokens::ids(tokenizer, &synthesize(1, 0, STEPS).canonical().text)?;
        let verify_from = mask_of(&ids, &verify.line).iter().position(|m| *m > 0.0);
        let verify_from = verify_from.context("the VERIFY tag is not found in a trajectory's tokens")?;
        let rows = (1..=ROWS).map(|part| (ids.len() * part / ROWS) as i64 - 1).collect();
        Ok(Prompt { ids, verify_from, rows })
    }

    /// The logits of its rows, `[rows, V]`; `verify`: the verification adapter is on from the tag.
    pub(super) fn logits(&self, model: &Transformer, adapters: Option<&LoraSet>, verify: bool) -> Tensor {
        let _guard = tch::no_grad_guard();
        let hidden = logits::hidden(model, &self.ids, adapters, verify.then_some(self.verify_from));
        model.logits(&hidden.index_select(0, &Tensor::from_slice(&self.rows)))
    }

    /// Writes parity.safetensors: `ids` [T] and `rows` [n] int64, `logits` [n, V] fp32.
    pub(super) fn write(&self, path: &Path, logits: &Tensor) -> Result<()> {
        let entries = [
            Entry::new("ids", Dtype::I64, &[self.ids.len() as i64]),
            Entry::new("rows", Dtype::I64, &[self.rows.len() as i64]),
            Entry::new("logits", Dtype::F32, &logits.size()),
        ];
        let ids: Vec<i64> = self.ids.iter().map(|id| i64::from(*id)).collect();
        let write = || {
            let mut writer = Writer::new(vec![], &[], &entries)?;
            writer.write_tensor(&Tensor::from_slice(&ids), Kind::Int64)?;
            writer.write_tensor(&Tensor::from_slice(&self.rows), Kind::Int64)?;
            writer.write_tensor(logits, Kind::Float)?;
            std::fs::write(path, writer.finish()?.0)
        };
        write().with_context(|| path.display().to_string())
    }
}

/// Relative l2 distance.
pub(super) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    ((a - &b).norm() / b.norm().clamp_min(1e-30)).double_value(&[])
}

/// The three lines that load the export and compare. `load` makes `model`.
pub(super) fn script(load: &str) -> String {
    format!(
        "import torch; from pathlib import Path; from peft import PeftModel; from safetensors.torch import load_file; \
         from transformers import AutoModelForCausalLM; here = Path(__file__).parent\n\
         {load}; parity = load_file(here / \"parity.safetensors\")\n\
         print((model(input_ids=parity[\"ids\"][None]).logits[0, parity[\"rows\"]] - parity[\"logits\"]).norm().item() \
         / parity[\"logits\"].norm().item())\n"
    )
}
