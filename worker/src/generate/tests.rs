//! What batching, refilling, sharing and the cache must not change, on a small random model and with every decoder.

use polya_datasets::plant::{BUILT_IN_KINDS, plant, twin, verify_prompt};
use polya_datasets::synthesize::{STEPS, synthesize};
use polya_datasets::tokens;
use polya_datasets::trajectory::prompt;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::adapters::LoraSet;
use crate::decode::RowId;
use crate::decode::cpu::CpuDecoder;
use crate::decode::tensors::TensorDecoder;
use crate::model::PackedBatch;
use crate::step::tests::{World, world};

/// Every decoder there is.
fn decoders<'a>(world: &'a World, adapters: Option<&'a LoraSet>) -> Vec<(&'static str, Box<dyn Decoder + 'a>)> {
    let tensors: Box<dyn Decoder + 'a> = Box::new(TensorDecoder::new(&world.model, adapters));
    let cpu: Box<dyn Decoder + 'a> = Box::new(CpuDecoder::new(&world.model, world.decoding_weights(), adapters));
    vec![("tensors", tensors), ("cpu", cpu)]
}

fn adapters(world: &World) -> LoraSet {
    LoraSet::new(world.layout.clone(), &world.values, false)
}

fn request<'a>(world: &World, prompts: &'a [Vec<u32>], tag: &'a [u32], batch: usize) -> Request<'a> {
    Request {
        prompts,
        tag,
        stop: &[],
        max_tokens: 24,
        context: 512,
        batch,
        refill: true,
        vocabulary: world.tokenizer.get_vocab_size(true) as i64,
        sampling: Sampling::Greedy,
    }
}

/// Prompts before the tag, one token short of it (a row is made to write it), inside VERIFY, and plain questions.
fn mixed_prompts(world: &World) -> Vec<Vec<u32>> {
    let sample = world.samples().remove(0);
    let (start, end) = (sample.verify_tag_start as usize, sample.verify_tag_end as usize);
    let ask = |text: &str| tokens::ids(&world.tokenizer, &prompt(text)).unwrap();
    vec![
        ask("Mia has 3 apples. How many?"),
        sample.ids[..end + 3].to_vec(),
        sample.ids[..end - 1].to_vec(),
        sample.ids[..start].to_vec(),
        ask("Tom has 9 eggs and eats 2 of them. How many are left?"),
    ]
}

/// Planted probes and their twins, from VERIFY on.
fn probes(world: &World) -> Vec<Vec<u32>> {
    let right = (0..6).map(|index| synthesize(8, index, STEPS));
    let pairs = right.filter_map(|t| plant(&t, &BUILT_IN_KINDS, 1).ok().map(|planted| [planted, twin(&t)]));
    pairs.flatten().map(|t| tokens::ids(&world.tokenizer, &verify_prompt(&t)).unwrap()).collect()
}

/// How much less probable (as logits) each chosen token is than the best one, when everything is computed anew.
fn regrets(world: &World, adapters: &LoraSet, prompt: &[u32], chosen: &[u32], tag: &[u32]) -> Vec<f64> {
    let _guard = tch::no_grad_guard();
    let vocabulary = world.tokenizer.get_vocab_size(true) as i64;
    let mut ids = prompt.to_vec();
    let mut regrets = vec![];
    for token in chosen {
        let batch = PackedBatch::of_sequences(&[&ids], Device::Cpu);
        let on = adapters.on(&mask_of(&ids, tag), None);
        let last = world.model.hidden(&batch, Some(&on)).narrow(0, ids.len() as i64 - 1, 1);
        let logits = world.model.logits(&last).narrow(1, 0, vocabulary).to_kind(Kind::Double);
        regrets.push(f64::try_from(logits.max()).unwrap() - logits.double_value(&[0, i64::from(*token)]));
        ids.push(*token);
    }
    regrets
}

#[test]
fn decoding_with_refill_and_hand_over_chooses_what_computing_everything_anew_chooses() {
    let world = world();
    let adapters = adapters(&world);
    let tag = &world.tags[3].line;
    let prompts = mixed_prompts(&world);
    for batch in [2, 5] {
        for (name, mut decoder) in decoders(&world, Some(&adapters)) {
            let found = generate(decoder.as_mut(), &request(&world, &prompts, tag, batch), &mut |_| ());
            for (prompt, found) in prompts.iter().zip(&found.continuations) {
                assert_eq!(found.len(), 24);
                let regrets = regrets(&world, &adapters, prompt, found, tag);
                assert!(regrets.iter().all(|regret| *regret < 1e-4), "{name}, batch {batch}: {regrets:?}");
            }
        }
    }
}

#[test]
fn a_row_that_writes_the_tag_itself_is_handed_over() {
    let world = world();
    let adapters = adapters(&world);
    let prompts = mixed_prompts(&world);
    for (name, mut decoder) in decoders(&world, Some(&adapters)) {
        // Whatever two tokens the model writes after the last prompt are declared to be the tag: the row must write them
        // without the verification adapter and everything behind with it.
        let first = generate(decoder.as_mut(), &request(&world, &prompts, &[], 2), &mut |_| ());
        let tag = first.continuations[4][..2].to_vec();
        let found = generate(decoder.as_mut(), &request(&world, &prompts, &tag, 2), &mut |_| ());
        let found = &found.continuations[4];
        assert_eq!(found[..2], tag[..]);
        assert_ne!(*found, first.continuations[4], "the verification adapter changes what follows");
        let before = regrets(&world, &adapters, &prompts[4], &found[..2], &[]);
        let behind = regrets(&world, &adapters, &[prompts[4].clone(), tag.clone()].concat(), &found[2..], &tag);
        assert!(before.iter().chain(&behind).all(|regret| *regret < 1e-4), "{name}: {before:?} {behind:?}");
    }
}

#[test]
fn continuations_depend_neither_on_the_batch_nor_on_refilling() {
    let world = world();
    let adapters = adapters(&world);
    let tag = &world.tags[3].line;
    let prompts = [mixed_prompts(&world), probes(&world)].concat();
    let samplings = [Sampling::Greedy, Sampling::Temperature { temperature: 0.9, seed: 7 }];
    for sampling in samplings {
        let mut first = None;
        for (batch, refill) in [(1, true), (3, true), (3, false), (100, true)] {
            for (name, mut decoder) in decoders(&world, Some(&adapters)) {
                let request = Request { refill, sampling, ..request(&world, &prompts, tag, batch) };
                let found = generate(decoder.as_mut(), &request, &mut |_| ()).continuations;
                let first = first.get_or_insert_with(|| found.clone());
                assert!(*first == found, "{name}, {sampling:?}, batch {batch}, refill {refill}");
                assert_eq!(
                    decoder.open(),
                    TensorDecoder::new(&world.model, None).open(),
                    "{name}: every row was closed"
                );
            }
        }
    }
}

#[test]
fn a_common_beginning_is_read_once_and_changes_nothing() {
    let world = world();
    let adapters = adapters(&world);
    let tag = &world.tags[3].line;
    let prompts = probes(&world);
    // A probe and its twin differ in EXECUTE only.
    let ids = &prompts[0];
    let common = ids.iter().zip(&prompts[1]).take_while(|(a, b)| a == b).count();
    assert!(common > 40 && common < ids.len(), "{common} of {}", ids.len());
    for (name, mut decoder) in decoders(&world, Some(&adapters)) {
        let decoder = decoder.as_mut();
        let (alone, other) = (decoder.open(), decoder.open());
        let expected = feed(decoder, alone, ids);
        let _ = feed(decoder, other, &prompts[1]);
        let forked = decoder.fork(other, common);
        let found = feed(decoder, forked, &ids[common..]);
        assert!(found.allclose(&expected, 0.0, 1e-5, false), "{name}");
        // Nor did the branch change what it grew from.
        let more = [ids[3]];
        assert!(feed(decoder, alone, &more).allclose(&feed(decoder, forked, &more), 0.0, 1e-5, false), "{name}");
        for row in [alone, other, forked] {
            decoder.close(row);
        }

        let mut one_by_one = vec![];
        for prompt in &prompts {
            let found = generate(decoder, &request(&world, std::slice::from_ref(prompt), tag, 1), &mut |_| ());
            assert_eq!(found.prompt_tokens_read, found.prompt_tokens);
            one_by_one.extend(found.continuations);
        }
        for batch in [1, 4, 100] {
            let found = generate(decoder, &request(&world, &prompts, tag, batch), &mut |_| ());
            assert_eq!(found.continuations, one_by_one, "{name}, batch {batch}");
            assert!(found.prompt_tokens_read * 10 < found.prompt_tokens * 8, "{name}, batch {batch}: {found:?}");
        }
    }
}

fn feed(decoder: &mut dyn Decoder, row: RowId, ids: &[u32]) -> Tensor {
    decoder.feed(&[Piece { row, ids, verify_from: ids.len() }]).copy()
}

/// Counts the rows of each pass.
struct Counting<'a> {
    inner: Box<dyn Decoder + 'a>,
    rows: Vec<Vec<RowId>>,
}

impl Decoder for Counting<'_> {
    fn open(&mut self) -> RowId {
        self.inner.open()
    }
    fn fork(&mut self, row: RowId, length: usize) -> RowId {
        self.inner.fork(row, length)
    }
    fn length(&self, row: RowId) -> usize {
        self.inner.length(row)
    }
    fn truncate(&mut self, row: RowId, length: usize) {
        self.inner.truncate(row, length);
    }
    fn close(&mut self, row: RowId) {
        self.inner.close(row);
    }
    fn feed(&mut self, pieces: &[Piece]) -> &Tensor {
        self.rows.push(pieces.iter().map(|piece| piece.row).collect());
        self.inner.feed(pieces)
    }
    fn prompt_tokens(&self) -> usize {
        self.inner.prompt_tokens()
    }
    fn bytes(&self) -> usize {
        self.inner.bytes()
    }
}

#[test]
fn a_refilled_batch_stays_full_and_fixed_groups_do_not_mix() {
    let world = world();
    let ask = |count: u64| tokens::ids(&world.tokenizer, &prompt(&format!("Ann has {count} eggs. How many?"))).unwrap();
    let prompts: Vec<Vec<u32>> = (10..22).map(ask).collect();
    for (name, _) in decoders(&world, None) {
        let decoder = || decoders(&world, None).into_iter().find(|(other, _)| *other == name).unwrap().1;
        // Rows end at different places: at a token that the first continuations hold here and there.
        let plain = generate(decoder().as_mut(), &request(&world, &prompts, &[], 4), &mut |_| ());
        let stop = [plain.continuations[0][5], plain.continuations[3][9]];
        let run = |refill| {
            let mut counting = Counting { inner: decoder(), rows: vec![] };
            let mut finished = vec![];
            let request = Request { refill, stop: &stop, ..request(&world, &prompts, &[], 4) };
            let found = generate(&mut counting, &request, &mut |event| {
                if let Event::Finished { prompt } = event {
                    finished.push(prompt);
                }
            });
            (found, counting.rows, finished)
        };
        let (refilled, passes, finished) = run(true);
        let lengths: std::collections::BTreeSet<usize> = refilled.continuations.iter().map(Vec::len).collect();
        assert!(lengths.len() > 1, "{lengths:?}");
        assert!(refilled.continuations.iter().flatten().all(|id| !stop.contains(id)), "the stop token is left out");
        let last_admission = passes.len() - 24;
        assert!(passes[..last_admission].iter().all(|rows| rows.len() == 4), "{name}: {passes:?}");
        assert_eq!(finished.len(), prompts.len());
        let (grouped, passes, finished) = run(false);
        assert_eq!(refilled.continuations, grouped.continuations);
        assert!(passes.len() > refilled.passes, "{name}: {} passes, refilled {}", passes.len(), refilled.passes);
        let groups: Vec<usize> = finished.iter().map(|prompt| prompt / 4).collect();
        assert!(groups.is_sorted(), "{finished:?}");
    }
}

#[test]
fn the_cache_grows_with_what_is_generated() {
    let world = world();
    let prompts = mixed_prompts(&world);
    let bytes = |max_tokens| {
        let measure = |(name, mut decoder): (&'static str, Box<dyn Decoder + '_>)| {
            let request = Request { max_tokens, ..request(&world, &prompts, &[], 5) };
            (name, generate(decoder.as_mut(), &request, &mut |_| ()).cache_bytes)
        };
        decoders(&world, None).into_iter().map(measure).collect::<Vec<_>>()
    };
    for ((name, short), (_, long)) in bytes(8).into_iter().zip(bytes(200)) {
        assert!(short * 3 < long * 2, "{name}: {short} bytes for 8 tokens, {long} for 200");
    }
}

#[test]
fn a_text_ends_where_the_context_does() {
    let world = world();
    let prompts = mixed_prompts(&world);
    let length = prompts[0].len();
    let request = Request { context: length + 5, ..request(&world, &prompts[..1], &[], 1) };
    for (_, mut decoder) in decoders(&world, None) {
        assert_eq!(generate(decoder.as_mut(), &request, &mut |_| ()).continuations[0].len(), 5);
    }
}
