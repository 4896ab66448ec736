//! Tensors to fp16 safetensors, one at a time: header first, then each tensor as it is decoded.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;

use super::gguf::{Gguf, Kind, TensorInfo};
use super::names::{Name, names, unpermuted};
use crate::formats::safetensors::{Entry, Writer};
use crate::model::ModelConfig;

/// Why the file was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    Io(std::io::Error),
    Content(String),
}

impl From<std::io::Error> for WriteError {
    fn from(error: std::io::Error) -> Self {
        WriteError::Io(error)
    }
}

/// Writes model.safetensors; gives its size.
pub(super) fn write(gguf: &Gguf, config: &ModelConfig, path: &Path) -> Result<u64, WriteError> {
    let names = names(config);
    let mut entries = Vec::with_capacity(names.len());
    for Name { hugging_face, gguf: source, shape, .. } in &names {
        let tensor =
            gguf.tensors.get(source).ok_or_else(|| WriteError::Content(format!("tensor `{source}` is missing")))?;
        if tensor.shape != *shape {
            let reason = format!("tensor `{source}` has shape {:?}, the metadata says {shape:?}", tensor.shape);
            return Err(WriteError::Content(reason));
        }
        entries.push(Entry { name: hugging_face.clone(), dtype: Dtype::F16, shape: shape.clone() });
    }
    let mut writer = Writer::new(BufWriter::new(File::create(path)?), &[], &entries)?;
    for Name { gguf: source, shape, heads, .. } in &names {
        let mut values = decode(&gguf.tensors[source]);
        if *heads > 0 {
            values = unpermuted(&values, *heads, shape[0], shape[1]);
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        writer.write(&bytes)?;
    }
    let (file, size) = writer.finish()?;
    file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    Ok(size)
}

/// A tensor's values.
pub(super) fn decode(tensor: &TensorInfo) -> Vec<f32> {
    let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    let blocks = tensor.data.chunks_exact(tensor.kind.block().1);
    let nibbles = |bytes: &[u8]| -> Vec<f32> {
        let low = bytes.iter().map(|byte| f32::from(byte & 15));
        low.chain(bytes.iter().map(|byte| f32::from(byte >> 4))).collect()
    };
    match tensor.kind {
        Kind::F32 => blocks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Kind::F16 => blocks.map(half).collect(),
        Kind::Bf16 => blocks.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Kind::Q8_0 => blocks
            .flat_map(|block| {
                let scale = half(block);
                block[2..].iter().map(move |byte| f32::from(i8::from_le_bytes([*byte])) * scale).collect::<Vec<_>>()
            })
            .collect(),
        Kind::Q4_0 => blocks
            .flat_map(|block| {
                let scale = half(block);
                nibbles(&block[2..]).into_iter().map(move |q| (q - 8.0) * scale)
            })
            .collect(),
        Kind::Q4_1 => blocks
            .flat_map(|block| {
                let (scale, minimum) = (half(block), half(&block[2..]));
                nibbles(&block[4..]).into_iter().map(move |q| q * scale + minimum)
            })
            .collect(),
    }
}
