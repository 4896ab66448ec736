//! Matrices as decoding on CPUs reads them: panels of sixteen outputs, all inputs of a panel one after the other.
//!
//! Numbers keep their value: sixteen bits where that is exact, NF4 as its codes, else fp32. A panel is expanded to fp32
//! where it is multiplied ([`multiply_add`](crate::ffi::lanes::multiply_add)).

use half::{bf16, f16};
use tch::{Kind, Tensor};

use crate::ffi::lanes::{Lanes, Short, Stored};
use crate::quantization::{Nf4Weight, double, floats, nf4};

/// An `[outputs, inputs]` matrix.
pub(super) struct Panels {
    outputs: usize,
    /// Padded to a multiple of sixteen with zeros.
    inputs: usize,
    values: Values,
}

/// `[panels, inputs, 16]`
enum Values {
    Full(Vec<Lanes>),
    Half(Vec<Short<f16>>),
    Brain(Vec<Short<bf16>>),
    /// Eight bytes an input, and a scale each lane and block of inputs.
    Nf4 {
        codes: Vec<[u8; 8]>,
        scales: Vec<Lanes>,
    },
}

impl Panels {
    /// Of a matrix in row-major order.
    pub(super) fn new(values: &[f32], outputs: usize) -> Self {
        let columns = values.len() / outputs.max(1);
        let inputs = columns.next_multiple_of(16);
        let at = |place: usize| {
            let (lane, k, panel) = (place % 16, place / 16 % inputs, place / 16 / inputs);
            let row = panel * 16 + lane;
            if row < outputs && k < columns { values[row * columns + k] } else { 0.0 }
        };
        let vectors = (0..outputs.div_ceil(16) * inputs * 16).step_by(16);
        let values = if values.iter().all(|value| f16::from_f32(*value).to_f32() == *value) {
            let short = |place| Short(std::array::from_fn(|lane| f16::from_f32(at(place + lane))));
            Values::Half(vectors.map(short).collect())
        } else if values.iter().all(|value| bf16::from_f32(*value).to_f32() == *value) {
            let short = |place| Short(std::array::from_fn(|lane| bf16::from_f32(at(place + lane))));
            Values::Brain(vectors.map(short).collect())
        } else {
            Values::Full(vectors.map(|place| Lanes(std::array::from_fn(|lane| at(place + lane)))).collect())
        };
        Panels { outputs, inputs, values }
    }

    /// Of a tensor `[outputs, inputs]`.
    pub(super) fn of_tensor(tensor: &Tensor) -> Self {
        Panels::new(&floats(tensor), tensor.size()[0] as usize)
    }

    /// Of a packed matrix; its blocks must not reach over the end of a row.
    pub(super) fn of_nf4(weight: &Nf4Weight) -> Self {
        let (outputs, inputs) = (weight.shape.0 as usize, weight.shape.1 as usize);
        if !inputs.is_multiple_of(nf4::BLOCK) {
            return Panels::of_tensor(&weight.dequantise());
        }
        let bytes = |tensor: &Tensor| Vec::<u8>::try_from(&tensor.to_kind(Kind::Uint8)).expect("bytes are flat");
        let (packed, scale_codes, nested) = (bytes(&weight.packed), bytes(&weight.scale_codes), floats(&weight.nested));
        let code_of = |row: usize, k: usize| {
            let place = row * inputs + k;
            packed[place / 2] >> (4 * (1 - place % 2)) & 15
        };
        let scale_of = |row: usize, block: usize| {
            let place = row * (inputs / nf4::BLOCK) + block;
            double::code()[usize::from(scale_codes[place])] * nested[place / double::BLOCK] + weight.offset
        };
        let (mut codes, mut scales) = (vec![], vec![]);
        for panel in 0..outputs.div_ceil(16) {
            let row = |lane: usize| Some(panel * 16 + lane).filter(|row| *row < outputs);
            let code = |lane, k| row(lane).map_or(7, |row| code_of(row, k));
            for k in 0..inputs {
                codes.push(std::array::from_fn(|pair| code(2 * pair, k) << 4 | code(2 * pair + 1, k)));
            }
            for block in 0..inputs / nf4::BLOCK {
                scales.push(Lanes(std::array::from_fn(|lane| row(lane).map_or(0.0, |row| scale_of(row, block)))));
            }
        }
        Panels { outputs, inputs, values: Values::Nf4 { codes, scales } }
    }

    /// How many panels.
    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(16)
    }

    /// Outputs that are not padding.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        match &self.values {
            Values::Full(values) => 64 * values.len(),
            Values::Half(values) => 32 * values.len(),
            Values::Brain(values) => 32 * values.len(),
            Values::Nf4 { codes, scales } => 8 * codes.len() + 64 * scales.len(),
        }
    }

    /// A panel.
    pub(super) fn panel(&self, panel: usize) -> Stored<'_> {
        let vectors = panel * self.inputs..(panel + 1) * self.inputs;
        match &self.values {
            Values::Full(values) => Stored::Full(&values[vectors]),
            Values::Half(values) => Stored::Half(&values[vectors]),
            Values::Brain(values) => Stored::Brain(&values[vectors]),
            Values::Nf4 { codes, scales } => {
                let blocks = self.inputs / nf4::BLOCK;
                let scales = &scales[panel * blocks..(panel + 1) * blocks];
                Stored::Nf4 { codes: &codes[vectors], scales, block: nf4::BLOCK, code: &nf4::CODE }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// The matrix that panels stand for.
    fn unpacked(panels: &Panels, columns: usize) -> Vec<f32> {
        let mut values = vec![0.0; panels.outputs * columns];
        for panel in 0..panels.outputs.div_ceil(16) {
            let mut buffer = vec![];
            for (k, vector) in panels.panel(panel).expanded(&mut buffer).iter().enumerate().take(columns) {
                for (lane, value) in vector.0.iter().enumerate().filter(|(lane, _)| panel * 16 + lane < panels.outputs)
                {
                    values[(panel * 16 + lane) * columns + k] = *value;
                }
            }
        }
        values
    }

    #[test]
    fn every_form_keeps_the_numbers_bit_for_bit() {
        tch::manual_seed(4);
        let random = Tensor::randn([40, 192], (Kind::Float, Device::Cpu));
        let full = Panels::of_tensor(&random);
        assert!(matches!(full.values, Values::Full(_)));
        let half = random.to_kind(Kind::Half).to_kind(Kind::Float);
        let brain = random.to_kind(Kind::BFloat16).to_kind(Kind::Float) * 2f64.powi(-100);
        let packed = Nf4Weight::quantise(&random);
        let (in_half, in_brain, in_nf4) =
            (Panels::of_tensor(&half), Panels::of_tensor(&brain), Panels::of_nf4(&packed));
        assert!(matches!(in_half.values, Values::Half(_)) && matches!(in_brain.values, Values::Brain(_)));
        assert!(matches!(in_nf4.values, Values::Nf4 { .. }));
        let odd = random.narrow(1, 0, 20).contiguous();
        let odd_nf4 = Nf4Weight::quantise(&odd);
        for (panels, tensor) in [
            (full, random.shallow_clone()),
            (in_half, half),
            (in_brain, brain),
            (in_nf4, packed.dequantise()),
            (Panels::of_tensor(&odd), odd),
            (Panels::of_nf4(&odd_nf4), odd_nf4.dequantise()),
        ] {
            assert_eq!(unpacked(&panels, tensor.size()[1] as usize), floats(&tensor));
        }
    }

    #[test]
    fn sixteen_bits_take_half_and_nf4_four_and_a_half_bits_a_weight() {
        let half = Tensor::randn([64, 128], (Kind::Half, Device::Cpu)).to_kind(Kind::Float);
        assert_eq!(Panels::of_tensor(&half).bytes(), 2 * 64 * 128);
        assert_eq!(Panels::of_nf4(&Nf4Weight::quantise(&half)).bytes() * 16, 9 * 64 * 128);
    }
}
