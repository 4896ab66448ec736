//! Projections of checkpoints that bitsandbytes has quantised already: NF4, with or without double quantisation. Source:
//! bitsandbytes' `QuantState.as_dict`.

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use tch::Tensor;

use crate::model::FrozenWeight;
use crate::quantization::{Nf4Weight, double, nf4};

/// What `quant_state.bitsandbytes__nf4` says.
#[derive(Debug, Deserialize)]
struct QuantState {
    quant_type: String,
    blocksize: usize,
    shape: Vec<i64>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

/// Reads a projection; `part` gives the tensor `WEIGHT.NAME`, `packed` is `WEIGHT` itself.
///
/// Double-quantised ones with bitsandbytes' own maps stay packed. Others are dequantised with the maps of the file and held
/// densely: their scales are fp32, which the packed form has no place for.
pub(crate) fn weight<'a>(
    packed: &TensorView,
    part: impl Fn(&str) -> Option<&'a TensorView<'a>>,
    shape: &[i64],
) -> Result<FrozenWeight, String> {
    let required = |name: &str| part(name).ok_or_else(|| format!("`.{name}` is missing"));
    let state = required("quant_state.bitsandbytes__nf4")?;
    let state: QuantState =
        serde_json::from_slice(state.data()).map_err(|error| format!("its quant_state: {error}"))?;
    if state.quant_type != "nf4" || state.blocksize != nf4::BLOCK {
        return Err(format!("{} in blocks of {}; NF4 in blocks of 64 is read", state.quant_type, state.blocksize));
    }
    if state.shape != shape {
        return Err(format!("it has shape {:?}, config.json says {shape:?}", state.shape));
    }
    let count = shape.iter().product::<i64>() as usize;
    let blocks = count.div_ceil(nf4::BLOCK);
    let codes = bytes(packed, count.div_ceil(2))?;
    let map = floats(required("quant_map")?, 16)?;
    let absmax = required("absmax")?;
    if state.nested_blocksize.is_none() {
        let absmax = floats(absmax, blocks)?;
        return Ok(dense(codes, &map, |block| absmax[block], shape));
    }
    if state.nested_blocksize != Some(double::BLOCK) {
        return Err(format!("nested blocks of {:?}; 256 is read", state.nested_blocksize));
    }
    let offset = state.nested_offset.ok_or("its quant_state has no `nested_offset`")?;
    let scale_codes = bytes(absmax, blocks)?;
    let nested = floats(required("nested_absmax")?, blocks.div_ceil(double::BLOCK))?;
    let nested_map = floats(required("nested_quant_map")?, 256)?;
    if map == nf4::CODE && nested_map == *double::code() {
        return Ok(FrozenWeight::Nf4(Nf4Weight {
            packed: Tensor::from_slice(codes),
            scale_codes: Tensor::from_slice(scale_codes),
            nested: Tensor::from_slice(&nested),
            offset,
            shape: (shape[0], shape[1]),
        }));
    }
    let scale = |block: usize| nested_map[usize::from(scale_codes[block])] * nested[block / double::BLOCK] + offset;
    Ok(dense(codes, &map, scale, shape))
}

fn dense(codes: &[u8], map: &[f32], absmax: impl Fn(usize) -> f32, shape: &[i64]) -> FrozenWeight {
    let count = shape.iter().product::<i64>() as usize;
    let code =
        |index: usize| usize::from(if index.is_multiple_of(2) { codes[index / 2] >> 4 } else { codes[index / 2] & 15 });
    let values: Vec<f32> = (0..count).map(|index| map[code(index)] * absmax(index / nf4::BLOCK)).collect();
    FrozenWeight::Dense(Tensor::from_slice(&values).view(shape))
}

fn bytes<'a>(view: &'a TensorView, count: usize) -> Result<&'a [u8], String> {
    if view.dtype() != Dtype::U8 || view.data().len() != count {
        return Err(format!("{:?} {:?}; {count} bytes are expected", view.dtype(), view.shape()));
    }
    Ok(view.data())
}

fn floats(view: &TensorView, count: usize) -> Result<Vec<f32>, String> {
    if view.dtype() != Dtype::F32 || view.data().len() != 4 * count {
        return Err(format!("{:?} {:?}; {count} fp32 are expected", view.dtype(), view.shape()));
    }
    let (numbers, _) = view.data().as_chunks::<4>();
    Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
