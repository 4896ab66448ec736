//! The reasoning adapter merged into the base: `W + (alpha / rank) (B A)` in fp32, one matrix at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use safetensors::Dtype;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::{Source, Written, write_file};
use crate::adapters::{LoraSet, NAMES};
use crate::formats::adapter_folder;
use crate::formats::huggingface::{Quantisation, named_tensors};
use crate::formats::safetensors::{Entry, Writer};
use crate::model::{FrozenWeight, ProjectionKind, Site, Transformer};
use crate::trainer::load_base;

/// Writes the merged model and, as an activated LoRA, the verification adapter.
pub(super) fn write(source: &Source, to: &Path, half: bool) -> Result<Written> {
    let (model, set) = (&source.base.model, &source.adapters.set);
    Merged::new(model, set).write(&to.join("model.safetensors"), half)?;
    let config = source.files.read("config.json")?.context("the base has no config.json")?;
    let mut config: Value = serde_json::from_slice(&config).context("config.json")?;
    if let Some(map) = config.as_object_mut() {
        map.remove("quantization_config");
        let key = if map.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        map.insert(key.to_owned(), if half { "float16" } else { "float32" }.into());
    }
    write_file(&to.join("config.json"), format!("{config:#}\n").as_bytes())?;
    source.write_beside(to)?;
    let reloaded = load_base(&to.display().to_string(), Quantisation::None)?;
    let plain = "AutoModelForCausalLM.from_pretrained(here, dtype=torch.float32)";
    let (load, words, adapters) = if source.has_verification() {
        source.copy_adapter(1, to, Quantisation::None)?; // the merged weights are dense
        let found = adapter_folder::load(&to.join(NAMES[1]), &reloaded.model.config, false)?;
        let words = "`verification/` is an activated LoRA beside it that begins at the tag `#### VERIFY ####`.";
        (format!("model = PeftModel.from_pretrained({plain}, here / \"verification\").eval()"), words, Some(found.set))
    } else {
        (format!("model = {plain}.eval()"), "There is no second adapter.", None)
    };
    Ok(Written {
        logits: source.prompt.logits(&reloaded.model, adapters.as_ref(), true),
        expected: source.prompt.logits(model, Some(set), true),
        load,
        how: format!(
            "The reasoning adapter is merged into the weights. {words} This compares with parity.safetensors:"
        ),
        notes: vec![],
    })
}

/// A model's tensors with the reasoning adapter in them, made when asked for.
pub(super) struct Merged<'a> {
    model: &'a Transformer,
    adapters: &'a LoraSet,
    plain: BTreeMap<String, Tensor>,
    sites: BTreeMap<String, Site>,
}

impl<'a> Merged<'a> {
    /// Of a base and its adapters.
    pub(super) fn new(model: &'a Transformer, adapters: &'a LoraSet) -> Self {
        let mut plain = named_tensors(model);
        let sites = (0..model.layers.len())
            .flat_map(|layer| ProjectionKind::ALL.map(|kind| Site { layer, kind }))
            .map(|site| (format!("{}.weight", site.name()), site))
            .collect::<BTreeMap<_, _>>();
        plain.retain(|name, _| !sites.contains_key(name));
        Merged { model, adapters, plain, sites }
    }

    /// All names with their shapes.
    pub(super) fn shapes(&self) -> BTreeMap<&str, Vec<i64>> {
        let plain = self.plain.iter().map(|(name, tensor)| (name.as_str(), tensor.size()));
        let projections = self.sites.iter().map(|(name, site)| {
            let (input, output) = self.model.config.projection_shape(site.kind);
            (name.as_str(), vec![output, input])
        });
        plain.chain(projections).collect()
    }

    /// A tensor by its Hugging Face name, fp32.
    pub(super) fn tensor(&self, name: &str) -> Option<Tensor> {
        let Some(site) = self.sites.get(name) else {
            return self.plain.get(name).map(|tensor| tensor.to_kind(Kind::Float));
        };
        let _guard = tch::no_grad_guard();
        let weight = match &self.model.layers[site.layer].projections[site.kind as usize].weight {
            FrozenWeight::Dense(weight) => weight.to_kind(Kind::Float),
            FrozenWeight::Nf4(weight) => weight.dequantise(),
        };
        let layout = &self.adapters.layout;
        let of_site = layout.slots.iter().position(|slot| slot.adapter == 0 && slot.site == *site)?;
        let (a, b) = (&self.adapters.tensors[of_site], &self.adapters.tensors[of_site + 1]);
        Some(weight + b.matmul(a) * (layout.alpha / layout.rank as f64))
    }

    /// Writes model.safetensors.
    fn write(&self, path: &Path, half: bool) -> Result<()> {
        let (kind, dtype) = if half { (Kind::Half, Dtype::F16) } else { (Kind::Float, Dtype::F32) };
        let shapes = self.shapes();
        let entries: Vec<Entry> = shapes.iter().map(|(name, shape)| Entry::new(*name, dtype, shape)).collect();
        let write = || {
            let mut writer = Writer::new(BufWriter::new(File::create(path)?), &[], &entries)?;
            for name in shapes.keys() {
                let tensor = self.tensor(name).expect("every name of the shapes has its tensor");
                writer.write_tensor(&tensor, kind)?;
            }
            writer.finish()?.0.into_inner().map_err(|error| error.into_error())?.sync_all()
        };
        write().with_context(|| path.display().to_string())
    }
}
