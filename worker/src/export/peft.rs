//! The adapters as PEFT folders.

use std::path::Path;

use anyhow::Result;

use super::{Source, Written};
use crate::formats::adapter_folder;

/// Copies the adapters of the checkpoint, which are PEFT folders already.
pub(super) fn write(source: &Source, to: &Path) -> Result<Written> {
    for index in &source.adapters.present {
        source.copy_adapter(*index, to, source.run.quantisation()?)?;
    }
    source.write_beside(to)?;
    let mut load = "import sys; model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(sys.argv[1], \
                    dtype=torch.float32), here / \"reasoning\", adapter_name=\"reasoning\").eval()"
        .to_owned();
    if source.has_verification() {
        // The activated adapter decides where it is on, then both are made active.
        load.push_str(
            "; model.load_adapter(here / \"verification\", adapter_name=\"verification\"); \
             model.set_adapter(\"verification\"); model.base_model.set_adapter([\"reasoning\", \"verification\"])",
        );
    }
    let found = adapter_folder::load(to, &source.base.model.config, false)?;
    Ok(Written {
        logits: source.prompt.logits(&source.base.model, Some(&found.set), true),
        expected: source.prompt.logits(&source.base.model, Some(&source.adapters.set), true),
        load,
        how: format!(
            "Adapters for `{}`: `reasoning` is on everywhere, `verification`, where there is one, is an activated LoRA that \
             begins at the tag `#### VERIFY ####`. With the base's directory as its argument this loads them and compares \
             with parity.safetensors (the base's own weights, fp32):",
            source.run.base()
        ),
        notes: vec![],
    })
}
