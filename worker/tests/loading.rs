//! Damaged and incomplete models are refused with the file's and the tensor's name.

use std::path::PathBuf;

use tch::Kind;
use worker::builtin::Builtin;
use worker::formats::huggingface::{Files, LoadError, Quantisation, load, named_tensors, safetensors_bytes};

/// The built-in base with one file changed.
struct Changed(&'static str, Vec<u8>);

impl Files for Changed {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LoadError> {
        if name == self.0 { Ok(Some(self.1.clone())) } else { Builtin.read(name) }
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("changed").join(name)
    }
}

fn refusal(name: &'static str, bytes: Vec<u8>) -> String {
    load(&Changed(name, bytes), Quantisation::None).err().map_or(String::new(), |error| error.to_string())
}

#[test]
fn a_truncated_weights_file_is_named() {
    let whole = Builtin.read("model.safetensors").unwrap().unwrap();
    for length in [0, 5, whole.len() / 2, whole.len() - 1] {
        let said = refusal("model.safetensors", whole[..length].to_vec());
        assert!(said.contains("changed/model.safetensors"), "{length}: {said}");
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let base = load(&Builtin, Quantisation::None).unwrap();
    let mut tensors = named_tensors(&base.model);
    let name = "model.layers.3.self_attn.k_proj.weight";
    drop(tensors.remove(name).unwrap());
    let said = refusal("model.safetensors", safetensors_bytes(&tensors, false).unwrap());
    assert!(said.contains("changed/model.safetensors") && said.contains(name), "{said}");
}

#[test]
fn a_configuration_that_does_not_fit_the_weights_is_refused() {
    let text = String::from_utf8(Builtin.read("config.json").unwrap().unwrap()).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["intermediate_size"] = 400.into();
    let said = refusal("config.json", config.to_string().into_bytes());
    assert!(said.contains("mlp."), "{said}");
}

#[test]
fn weights_come_back_from_a_file_as_they_were() {
    let base = load(&Builtin, Quantisation::None).unwrap();
    let tensors = named_tensors(&base.model);
    for half in [false, true] {
        let again = load(&Changed("model.safetensors", safetensors_bytes(&tensors, half).unwrap()), Quantisation::None);
        let found = named_tensors(&again.unwrap().model);
        let equal =
            |name: &String, tensor: &tch::Tensor| found[name].to_kind(Kind::Float).equal(&tensor.to_kind(Kind::Float));
        assert!(tensors.iter().all(|(name, tensor)| equal(name, tensor)), "half {half}");
    }
}
