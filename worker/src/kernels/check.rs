//! Every kernel against its twin, bit for bit: on a GPU in `worker selftest`, and compiled for a CPU in the tests.

use half::f16;
use tch::{Device, Kind, Tensor};

use super::launch::{self, Launch};
use super::reference;
use crate::adapters::dropout::{Dropout, token_key};
use crate::model::{ProjectionKind, Site};
use crate::quantization::{Nf4Weight, double, floats, nf4};

/// How many results of a kernel were not the twin's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The kernel and the size of the problem.
    pub what: String,
    /// Results that differ in any bit; 0 is right.
    pub differing: usize,
    /// Results that were compared.
    pub results: usize,
}

/// Has a launch done; its tensors are on the device that [`compare`] was given.
pub(crate) type Run<'a> = &'a dyn Fn(&Launch) -> Result<(), String>;

/// Every kernel on a GPU.
pub fn compare_on(gpu: Device) -> Result<Vec<Comparison>, String> {
    compare(&|launch| super::gpu::run(launch, gpu), gpu)
}

/// Runs every kernel on small problems with awkward sizes.
pub(crate) fn compare(run: Run, device: Device) -> Result<Vec<Comparison>, String> {
    let mut found = vec![];
    for shape in [[24, 96], [300, 128], [3, 37], [1, 5]] {
        found.extend(dequantise(run, device, shape)?);
    }
    for (rows, input, output) in [(1, 512, 6), (5, 96, 9), (4, 264, 5)] {
        found.push(multiply(run, device, rows, input, output)?);
    }
    found.push(dropout(run, device)?);
    Ok(found)
}

fn dequantise(run: Run, device: Device, shape: [i64; 2]) -> Result<[Comparison; 2], String> {
    let weight = Nf4Weight::quantise(&random(shape, 3));
    let expected = dense(&weight);
    let on_device = weight.copied_to(device);
    let mut results = [Kind::Float, Kind::Half].map(|kind| Tensor::empty(shape, (kind, device)));
    for result in &mut results {
        run(&launch::nf4_dequantise(on_device.parts(), result))?;
    }
    let rounded: Vec<f16> = expected.iter().map(|value| f16::from_f32(*value)).collect();
    let [single, half] = results;
    Ok([
        comparison(format!("nf4_dequantise_f32 {shape:?}"), &bits(&floats(&single)), &bits(&expected)),
        comparison(format!("nf4_dequantise_f16 {shape:?}"), &halves(&half), &rounded),
    ])
}

/// The dense matrix in fp32, by the CPU's own path.
pub(crate) fn dense(weight: &Nf4Weight) -> Vec<f32> {
    let mut values = vec![0f32; (weight.shape.0 * weight.shape.1) as usize];
    let (codes, nested, code) = (bytes(&weight.scale_codes), floats(&weight.nested), double::code());
    let scale = |block: usize| code[usize::from(codes[block])] * nested[block / double::BLOCK] + weight.offset;
    nf4::dequantise(&bytes(&weight.packed), scale, &mut values);
    values
}

fn multiply(run: Run, device: Device, rows: i64, input: i64, output: i64) -> Result<Comparison, String> {
    let weight = Nf4Weight::quantise(&random([output, input], 5));
    let x = random([rows, input], 6).to_kind(Kind::Half);
    let y = Tensor::empty([rows, output], (Kind::Half, device));
    run(&launch::nf4_multiply(&x.to_device(device), weight.copied_to(device).parts(), &y))?;
    let (codes, nested) = (bytes(&weight.scale_codes), floats(&weight.nested));
    let scales = (codes.as_slice(), nested.as_slice(), weight.offset);
    let sizes = (input as usize, output as usize);
    let twin = reference::nf4_multiply(&halves(&x), &bytes(&weight.packed), scales, sizes);
    Ok(comparison(format!("nf4_multiply_f16 {rows} x {input} x {output}"), &halves(&y), &twin))
}

fn dropout(run: Run, device: Device) -> Result<Comparison, String> {
    let keys = (0..70).map(|position| token_key(1, 2, "sample", position, false)).collect();
    let dropout = Dropout { probability: 0.05, keys };
    let site = Site { layer: 3, kind: ProjectionKind::Gate };
    let mask = Tensor::empty([70, 48], (Kind::Half, device));
    let mask_of = dropout.at(site, 1).ok_or("nothing is dropped")?;
    let (place, threshold, kept) = mask_of.constants();
    run(&launch::dropout_mask(&dropout.keys_on(device), place, threshold, kept, &mask))?;
    let expected = dropout.mask(site, 1, 48).to_kind(Kind::Half);
    Ok(comparison("dropout_mask_f16 70 x 48".to_owned(), &halves(&mask), &halves(&expected)))
}

fn comparison<T: PartialEq>(what: String, found: &[T], expected: &[T]) -> Comparison {
    let unequal = found.iter().zip(expected).filter(|(found, expected)| found != expected).count();
    let missing = found.len().abs_diff(expected.len());
    Comparison { what, differing: unequal + missing, results: expected.len() }
}

fn random(shape: [i64; 2], seed: u64) -> Tensor {
    let number = |index: i64| {
        let bits = crate::adapters::dropout::mix(seed << 32 ^ index as u64) >> 40;
        bits as f32 / 8_388_608.0 - 1.0
    };
    Tensor::from_slice(&(0..shape[0] * shape[1]).map(number).collect::<Vec<f32>>()).view(shape)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    Vec::<u8>::try_from(&tensor.to_device(Device::Cpu).view(-1)).expect("packed weights are bytes")
}

fn halves(tensor: &Tensor) -> Vec<f16> {
    Vec::<f16>::try_from(&tensor.to_device(Device::Cpu).contiguous().view(-1)).expect("the results are fp16")
}
