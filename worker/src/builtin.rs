//! The built-in base: its files are part of the program.

use std::path::PathBuf;

use crate::formats::huggingface::{Files, LoadError};

/// What `base.path` calls the built-in base; empty means it too.
pub const NAME: &str = "builtin";

/// The files of the built-in base.
pub struct Builtin;

impl Files for Builtin {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LoadError> {
        let bytes: &[u8] = match name {
            "config.json" => include_bytes!("../../base/config.json"),
            "generation_config.json" => include_bytes!("../../base/generation_config.json"),
            "model.safetensors" => include_bytes!("../../base/model.safetensors"),
            "tokenizer.json" => include_bytes!("../../base/tokenizer.json"),
            "tokenizer_config.json" => include_bytes!("../../base/tokenizer_config.json"),
            _ => return Ok(None),
        };
        Ok(Some(bytes.to_vec()))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("built-in base/{name}"))
    }
}
