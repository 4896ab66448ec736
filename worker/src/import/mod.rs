//! A GGUF file of the Llama or Qwen2 family to a Hugging Face directory.
//!
//! Source: ggml's docs/gguf.md and ggml-quants; llama.cpp's converter for the order of rows.

mod config;
pub mod gguf;
pub(crate) mod names;
mod tensors;
pub(crate) mod tokenizer;

use std::path::{Path, PathBuf};

use gguf::Gguf;

/// A GGUF that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The bytes are not a whole GGUF.
    #[error("{path}: {error}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        error: gguf::GgufError,
    },
    /// It is a GGUF, but not one that is served.
    #[error("{path}: {reason}")]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// What is not served.
        reason: String,
    },
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// `llama` or `qwen2`.
    pub model_type: String,
    /// Tensors.
    pub tensors: usize,
    /// Bytes of model.safetensors.
    pub bytes: u64,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
}

/// Writes config.json, model.safetensors (fp16), tokenizer.json, tokenizer_config.json and generation_config.json.
pub fn import(input: &Path, output: &Path) -> Result<Imported, ImportError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| ImportError::Io { path, error }
    };
    let bytes = std::fs::read(input).map_err(io(input))?;
    let gguf = Gguf::parse(&bytes).map_err(|error| ImportError::Format { path: input.to_owned(), error })?;
    let unsupported = |reason: String| ImportError::Unsupported { path: input.to_owned(), reason };
    let config = config::config(&gguf).map_err(unsupported)?;
    let tokenizer = tokenizer::files(&gguf).map_err(unsupported)?;
    std::fs::create_dir_all(output).map_err(io(output))?;
    let weights = output.join("model.safetensors");
    let size = tensors::write(&gguf, &config, &weights).map_err(|error| match error {
        tensors::WriteError::Io(error) => ImportError::Io { path: weights.clone(), error },
        tensors::WriteError::Content(reason) => unsupported(reason),
    })?;
    let json = config.to_json(tokenizer.end);
    let texts = [("config.json", &json), ("generation_config.json", &tokenizer.generation)];
    for (name, json) in texts
        .into_iter()
        .chain([("tokenizer.json", &tokenizer.tokenizer), ("tokenizer_config.json", &tokenizer.config)])
    {
        let path = output.join(name);
        std::fs::write(&path, format!("{json:#}\n")).map_err(io(&path))?;
    }
    Ok(Imported {
        model_type: config.model_type,
        tensors: gguf.tensors.len(),
        bytes: size,
        vocabulary: tokenizer.vocabulary,
    })
}

#[cfg(test)]
mod tests;
