//! Small GGUFs written here: every type, the permutation, the tokenizer, truncation and mutation.

use std::collections::BTreeMap;

use half::f16;
use tch::Kind as TensorKind;

use super::gguf::{Gguf, Kind, TensorInfo};
use super::names::{permuted, unpermuted};
use super::tensors::decode;
use super::{ImportError, import};
use crate::formats::gguf_writer::{self, Header};
use crate::formats::huggingface::{Directory, Quantisation, load, named_tensors};

/// GPT-2's printable stand-ins for the 256 bytes, in order.
fn byte_tokens() -> Vec<String> {
    let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    alphabet.into_iter().map(String::from).collect()
}

/// A model of one layer: hidden 8, 2 heads of width 4, 1 kv head, feed-forward 12.
fn model(architecture: &str) -> Vec<u8> {
    let mut header = Header::default();
    header.text("general.architecture", architecture);
    for (key, value) in [
        ("embedding_length", 8u32),
        ("feed_forward_length", 12),
        ("block_count", 1),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("context_length", 64),
    ] {
        header.number(&format!("{architecture}.{key}"), value);
    }
    header.float(&format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-5);
    header.text("tokenizer.ggml.model", "gpt2");
    header.text("tokenizer.ggml.pre", "smollm");
    let mut tokens = byte_tokens();
    tokens.extend(["ab".to_owned(), "<|end|>".to_owned()]);
    header.texts("tokenizer.ggml.tokens", tokens.iter().map(String::as_str));
    header.texts("tokenizer.ggml.merges", ["a b"].into_iter());
    let types: Vec<i32> = (0..tokens.len()).map(|id| if id == 257 { 3 } else { 1 }).collect();
    header.integers("tokenizer.ggml.token_type", &types);
    header.number("tokenizer.ggml.eos_token_id", 257);
    let mut sizes = vec![];
    let mut tensor = |name: &str, shape: &[usize]| {
        header.tensor(name, shape, gguf_writer::Kind::F32);
        sizes.push(shape.iter().product::<usize>());
    };
    tensor("token_embd.weight", &[258, 8]);
    tensor("output_norm.weight", &[8]);
    for (name, rows, columns) in [
        ("attn_q", 8, 8),
        ("attn_k", 4, 8),
        ("attn_v", 4, 8),
        ("attn_output", 8, 8),
        ("ffn_gate", 12, 8),
        ("ffn_up", 12, 8),
        ("ffn_down", 8, 12),
    ] {
        tensor(&format!("blk.0.{name}.weight"), &[rows, columns]);
        if architecture == "qwen2" && ["attn_q", "attn_k", "attn_v"].contains(&name) {
            tensor(&format!("blk.0.{name}.bias"), &[rows]);
        }
    }
    tensor("blk.0.attn_norm.weight", &[8]);
    tensor("blk.0.ffn_norm.weight", &[8]);
    let mut writer = header.begin(vec![]).unwrap();
    for size in sizes {
        writer.tensor(&(0..size).map(|index| index as f32 / 64.0).collect::<Vec<_>>()).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_model_of_each_family_loads_after_its_import() {
    for architecture in ["llama", "qwen2"] {
        let folder = tempfile::tempdir().unwrap();
        let (file, output) = (folder.path().join("m.gguf"), folder.path().join("hf"));
        std::fs::write(&file, model(architecture)).unwrap();
        let imported = import(&file, &output).unwrap();
        assert_eq!((imported.model_type.as_str(), imported.vocabulary), (architecture, 258));
        let loaded = load(&Directory(output), Quantisation::None).unwrap();
        assert_eq!(loaded.stop, [257]);
        assert_eq!(loaded.model.layers[0].projections[0].bias.is_some(), architecture == "qwen2");
        let ids = loaded.tokenizer.encode("ab 12<|end|>", false).unwrap().get_ids().to_vec();
        assert_eq!((ids[0], ids.last(), ids.len()), (256, Some(&257), 5));
        let tensors: BTreeMap<_, _> = named_tensors(&loaded.model);
        let q = &tensors["model.layers.0.self_attn.q_proj.weight"];
        let first = Vec::<f32>::try_from(q.select(1, 0).to_kind(TensorKind::Float)).unwrap();
        let rows: Vec<f32> = first.iter().map(|value| value * 8.0).collect();
        let permuted = [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
        let plain = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        assert_eq!(rows, if architecture == "llama" { permuted } else { plain });
    }
}

#[test]
fn unpermuting_undoes_the_converter() {
    // The converter: reshape(heads, 2, half, in), swap the middle axes.
    let (heads, half, columns) = (3, 4, 2);
    let rows = heads * 2 * half;
    let original: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
    let mut turned = vec![0f32; original.len()];
    for head in 0..heads {
        for side in 0..2 {
            for pair in 0..half {
                let (from, to) = (head * 2 * half + side * half + pair, head * 2 * half + pair * 2 + side);
                turned[to * columns..(to + 1) * columns]
                    .copy_from_slice(&original[from * columns..(from + 1) * columns]);
            }
        }
    }
    assert_eq!(unpermuted(&turned, heads, rows, columns), original);
    assert_eq!(permuted(&original, heads, rows, columns), turned);
}

#[test]
fn every_type_is_decoded_as_ggml_defines_it() {
    let values = |kind, data: &[u8]| decode(&TensorInfo { shape: vec![32], kind, data });
    let half = |value: f32| f16::from_f32(value).to_le_bytes().to_vec();
    assert_eq!(values(Kind::F16, &half(0.5)), [0.5]);
    assert_eq!(values(Kind::Bf16, &[0x80, 0x3f]), [1.0]);
    let q8 = values(Kind::Q8_0, &[half(0.5), (0..32).map(|i| (i as i8 - 16) as u8).collect()].concat());
    assert_eq!((q8[0], q8[16], q8[31]), (-8.0, 0.0, 7.5));
    let nibbles: Vec<u8> = (0..16).map(|i| i | ((15 - i) << 4)).collect();
    let q40 = values(Kind::Q4_0, &[half(2.0), nibbles.clone()].concat());
    assert_eq!((q40[0], q40[8], q40[15], q40[16], q40[31]), (-16.0, 0.0, 14.0, 14.0, -16.0));
    let q41 = values(Kind::Q4_1, &[half(2.0), half(-1.0), nibbles].concat());
    assert_eq!((q41[0], q41[15], q41[16], q41[31]), (-1.0, 29.0, 29.0, -1.0));
}

#[test]
fn truncated_and_mutated_files_are_errors_never_panics() {
    let whole = model("llama");
    assert!(Gguf::parse(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(Gguf::parse(&whole[..length]).is_err(), "cut at {length}");
    }
    for at in 0..whole.len().min(6_000) {
        for bit in [1u8, 0x80] {
            let mut mutated = whole.clone();
            mutated[at] ^= bit;
            // Whatever comes out, it comes out.
            let _ = Gguf::parse(&mutated);
        }
    }
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.gguf");
    let replaced = |from: &[u8], to: &[u8]| {
        let mut bytes = model("llama");
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    for (bytes, word) in [(replaced(b"gpt2", b"bert"), "bert"), (replaced(b"smollm", b"poetry"), "poetry")] {
        std::fs::write(&file, bytes).unwrap();
        let error = import(&file, &folder.path().join("hf")).unwrap_err();
        assert!(matches!(&error, ImportError::Unsupported { .. }) && error.to_string().contains(word), "{error}");
    }
    std::fs::write(&file, b"PK\x03\x04").unwrap();
    assert!(import(&file, &folder.path().join("hf")).unwrap_err().to_string().contains("not a GGUF"));
}
