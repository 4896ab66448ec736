//! Decoding with its cache, and computing everything anew.

use anyhow::Result;
use tch::{Device, Tensor};

use super::{Comparison, Subject, doubles};
use crate::decode::tensors::TensorDecoder;
use crate::decode::{Decoder, Piece, prepare};
use crate::formats::huggingface::Pretrained;
use crate::generate::mask_of;
use crate::model::PackedBatch;
use crate::quantization::floats;

/// Logits over the end of each sample, with every decoder, unquantised and in NF4: the text up to VERIFY is read at
/// once, then two tokens a time, one of the rows forgetting and reading again what the hand-over does.
pub(super) fn cached(subject: &Subject) -> Result<Comparison> {
    let _guard = tch::no_grad_guard();
    let adapters = subject.adapters(false);
    let (mut found, mut expected) = (vec![], vec![]);
    for base in [&subject.base, &subject.packed] {
        let prepared = prepare(&base.model);
        let decoders: [Box<dyn Decoder + '_>; 2] = [
            prepared.decoder(&base.model, Some(&adapters)),
            Box::new(TensorDecoder::new(&base.model, Some(&adapters))),
        ];
        for mut decoder in decoders {
            for logits in with_cache(subject, decoder.as_mut()) {
                found.extend(doubles(&floats(&logits)));
            }
            for sample in &subject.samples {
                expected.extend(anew(subject, base, &adapters, &sample.ids));
            }
        }
    }
    let detail = format!("{} logits", found.len());
    Ok(Comparison { found, expected, tolerance: 2e-5, detail })
}

/// The logits behind each whole sample.
fn with_cache(subject: &Subject, decoder: &mut dyn Decoder) -> Vec<Tensor> {
    let mut last = |sample: &polya_proto::v1::Sample| {
        let (tag, ids) = (sample.verify_tag_start as usize, &sample.ids);
        let row = decoder.open();
        // Generation writes the tag with the adapter off, and reads it again with the adapter on.
        let _ = decoder.feed(&[Piece { row, ids: &ids[..tag + 1], verify_from: tag + 1 }]);
        decoder.truncate(row, tag);
        let mut logits = None;
        for piece in ids[tag..].chunks(2) {
            logits = Some(decoder.feed(&[Piece { row, ids: piece, verify_from: 0 }]).copy());
        }
        decoder.close(row);
        logits.expect("a sample goes on behind its tag")
    };
    subject.samples.iter().map(&mut last).collect()
}

fn anew(subject: &Subject, base: &Pretrained, adapters: &crate::adapters::LoraSet, ids: &[u32]) -> Vec<f64> {
    let batch = PackedBatch::of_sequences(&[ids], Device::Cpu);
    let on = adapters.on(&mask_of(ids, &subject.tags[3].line), None);
    let hidden = base.model.hidden(&batch, Some(&on));
    doubles(&floats(&base.model.logits(&hidden.narrow(0, ids.len() as i64 - 1, 1))))
}
