//! The trainer on libtorch: what a member of the fleet drives.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use polya_datasets::tokens::{self, Tag};
use polya_proto::v1::{
    Class, Continuation, Done, GenerateWork, HoldoutWork, Lease, MicrobatchStatistics, Plan, Settings,
};
use tch::Device;
use worker_member::trainer::{
    AbortHandle, Membership, Rendezvous, Shadow, StateDigest, StateFiles, Trainer, TrainerError, TrainerFactory,
};

use crate::adamw::AdamW;
use crate::adapters::{Layout, LoraSet, Slot};
use crate::builtin::{self, Builtin};
use crate::collectives::{Aborts, Backend, NcclLibrary, all_reduce_i32};
use crate::decode::{Prepared, prepare};
use crate::device::{self, DeviceName};
use crate::formats::adapter_folder;
use crate::formats::huggingface::{self, Directory, LoadError, Pretrained, Quantisation};
use crate::formats::peft::{self, Description};
use crate::generate::{Report, Request, Sampling, generate};
use crate::step::batch::{self, Weighing};
use crate::step::class;
use crate::step::exact_sum::{self, Quantised};
use crate::step::loss::Loss;
use crate::step::microbatch;
use crate::step::optimiser::TrainingState;

/// Loads the base that a run names: the built-in one, or a directory.
pub fn load_base(path: &str, quantisation: Quantisation) -> Result<Pretrained, LoadError> {
    match path {
        "" | builtin::NAME => huggingface::load(&Builtin, quantisation),
        path => huggingface::load(&Directory(PathBuf::from(path)), quantisation),
    }
}

/// Makes [`LibtorchTrainer`]s.
pub struct LibtorchFactory;

impl TrainerFactory for LibtorchFactory {
    fn build(&self, settings: &Settings) -> Result<Box<dyn Trainer>, TrainerError> {
        caught(|| Ok(Box::new(LibtorchTrainer::new(settings)?) as Box<dyn Trainer>))
    }
}

/// What moves the words between workers: NCCL between GPUs, Gloo between processors.
fn backend(device: Device) -> Result<Backend, TrainerError> {
    if device == Device::Cpu {
        return Ok(Backend::Gloo);
    }
    let library = NcclLibrary::open(&device::nccl_candidates())
        .map_err(|error| TrainerError::Refused(format!("NCCL, which sums between GPUs, cannot be used: {error}")))?;
    tracing::info!(version = library.version, path = %library.path.display(), "NCCL opened");
    Ok(Backend::Nccl { library: Arc::new(library), device })
}

/// Operators of tch panic on an error of libtorch; at the trainer's edge that becomes an error of its own.
fn caught<T>(work: impl FnOnce() -> Result<T, TrainerError>) -> Result<T, TrainerError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(TrainerError::Fatal(text.unwrap_or_else(|| "libtorch failed".to_owned())))
    })
}

/// The processor's name.
pub fn processor() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    model.unwrap_or("an unknown processor").to_owned()
}

/// How the settings want the base held.
fn quantisation(settings: &Settings) -> Result<Quantisation, TrainerError> {
    let name = &settings.quantisation;
    let refused = || TrainerError::Refused(format!("quantisation `{name}` is not nf4 or none"));
    Quantisation::of_name(name).ok_or_else(refused)
}

/// The adapters' numbers at step 0: fresh ones from the seed, over them what `adapter.path` holds.
fn initial(layout: &Layout, settings: &Settings) -> Result<Vec<f32>, TrainerError> {
    let mut values = layout.initial(settings.seed);
    if !settings.adapter_path.is_empty() {
        adapter_folder::start_from(Path::new(&settings.adapter_path), layout, &mut values)
            .map_err(|error| TrainerError::Refused(format!("adapter.path: {error}")))?;
    }
    Ok(values)
}

/// Model, adapters and the exact sum of one worker.
pub struct LibtorchTrainer {
    settings: Settings,
    base: Pretrained,
    backend: Backend,
    tags: [Tag; 4],
    layout: Layout,
    loss: Loss,
    adamw: AdamW,
    state: TrainingState,
    /// The committed adapters as leaves.
    adapters: LoraSet,
    shadow: Option<TrainingState>,
    held: BTreeMap<u32, Quantised>,
    sum: Vec<i32>,
    aborts: Aborts,
    /// The base's weights for decoding, while an evaluation is on.
    prepared: OnceCell<Prepared>,
}

impl LibtorchTrainer {
    /// Loads the base that the settings name.
    fn new(settings: &Settings) -> Result<Self, TrainerError> {
        let refused = |reason: String| TrainerError::Refused(reason);
        let device = settings.device.parse::<DeviceName>().and_then(DeviceName::open);
        let place = device.map_err(|error| refused(format!("worker.device = {}: {error}", settings.device)))?;
        let mut base =
            load_base(&settings.base_path, quantisation(settings)?).map_err(|error| refused(error.to_string()))?;
        base.model = base.model.placed(place);
        Self::on(base, settings)
    }

    /// On a base that is loaded already.
    pub(crate) fn on(base: Pretrained, settings: &Settings) -> Result<Self, TrainerError> {
        let refused = |reason: String| TrainerError::Refused(reason);
        set_threads(settings.threads.max(1)).map_err(refused)?;
        crate::ffi::keep_freed_memory();
        let tags = tokens::tags(&base.tokenizer).map_err(|error| refused(error.to_string()))?;
        let rank = i64::from(settings.adapter_rank.max(1));
        let layout = Layout::new(&base.model.config, rank, settings.adapter_alpha, settings.adapter_verification);
        let names = [0, 1, 2, 3].map(|stage: usize| i64::from(tags[stage].name_token()));
        let state = TrainingState::new(initial(&layout, settings)?);
        Ok(LibtorchTrainer {
            loss: Loss { label_smoothing: settings.label_smoothing, transition: settings.loss_transition, names },
            adamw: AdamW {
                beta1: settings.beta1,
                beta2: settings.beta2,
                epsilon: settings.epsilon,
                weight_decay: settings.weight_decay,
            },
            adapters: LoraSet::new(layout.clone(), &state.parameters, true).to_device(base.model.norm.device()),
            backend: backend(base.model.norm.device())?,
            sum: vec![0; layout.parameters()],
            settings: settings.clone(),
            shadow: None,
            held: BTreeMap::new(),
            aborts: Aborts::default(),
            prepared: OnceCell::new(),
            base,
            tags,
            layout,
            state,
        })
    }

    /// Tokens of a sequence in a pack: its shadow tag is one of them.
    pub(crate) fn packed_length(&self, sequence: usize) -> usize {
        sequence + if self.settings.adapter_verification { self.tags[3].line.len() - 1 } else { 0 }
    }

    /// Ids of the VERIFY tag's line.
    pub(crate) fn verify_tag(&self) -> &[u32] {
        &self.tags[3].line
    }

    /// The adapters' tensors, in the order of their numbers.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.layout.slots.iter()
    }

    /// Rows of the embedding.
    pub(crate) fn vocabulary(&self) -> i64 {
        self.base.model.config.vocabulary
    }

    fn files(&self, state: &TrainingState) -> Result<StateFiles, TrainerError> {
        let written = peft::write(&self.layout, &self.description()?, state);
        written.map_err(|error| TrainerError::Fatal(error.to_string()))
    }

    fn digest(&self, state: &TrainingState) -> Result<StateDigest, TrainerError> {
        let digest = peft::digest(&self.layout, &self.description()?, state);
        digest.map_err(|error| TrainerError::Fatal(error.to_string()))
    }

    fn description(&self) -> Result<Description, TrainerError> {
        let base = if self.settings.base_path.is_empty() { builtin::NAME } else { &self.settings.base_path };
        Ok(Description {
            base: base.to_owned(),
            quantisation: quantisation(&self.settings)?,
            prompt: self.settings.prompt_form.clone(),
            dropout: self.settings.adapter_dropout,
            verify: self.tags[3].clone(),
        })
    }

    fn commit(&mut self, state: TrainingState) {
        let adapters = LoraSet::new(self.layout.clone(), &state.parameters, true);
        self.adapters = adapters.to_device(self.base.model.norm.device());
        self.state = state;
        self.shadow = None;
        self.clear();
    }

    fn gradient(&mut self, plan: &Plan, lease: &Lease) -> Result<Done, TrainerError> {
        let fatal = |reason: String| TrainerError::Fatal(reason);
        let weighing = Weighing::of_plan(plan, self.settings.loss_mode == "uniform");
        let key = (self.settings.seed, plan.step);
        self.prepared.take(); // evaluation is over; activations need the room
        let shadow = self.settings.adapter_verification;
        let prepared = batch::prepare(&lease.samples, &self.tags, weighing, shadow, key)
            .map_err(|error| fatal(error.to_string()))?;
        let found = microbatch::gradient(
            &self.base.model,
            &self.adapters,
            &prepared,
            (&self.loss, weighing),
            self.settings.adapter_dropout,
            (2f64.powi(plan.loss_scale_log2), self.settings.recompute_layers as usize),
        );
        let mut statistics = found.statistics;
        let mut words = vec![0i32; self.layout.parameters()];
        let mut square = 0.0;
        for (index, slot) in self.layout.slots.iter().enumerate() {
            let values = &found.values[slot.range.clone()];
            let exponent = plan.exponents.get(index).copied().unwrap_or(polya_proto::EXPONENT_UNKNOWN);
            let words = &mut words[slot.range.clone()];
            statistics.magnitudes.push(exact_sum::take(values, plan.loss_scale_log2, exponent, plan.bits, words));
            if lease.measure {
                square += values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            }
        }
        let digest = exact_sum::digest(self.settings.seed, &words);
        self.held.insert(lease.microbatch, Quantised { words, digest });
        Ok(Done {
            step: lease.step,
            attempt: lease.attempt,
            microbatch: lease.microbatch,
            digest,
            statistics: Some(statistics),
            gradient_norm_bits: (square.sqrt() * 2f64.powi(-plan.loss_scale_log2)).to_bits(),
        })
    }
}

/// Sets the run's number of threads, and looks inside a parallel region whether it is so.
fn set_threads(threads: u32) -> Result<(), String> {
    tch::set_num_threads(threads as i32);
    match crate::ffi::arithmetic::threads_in_parallel() {
        Some(found) if found == threads => Ok(()),
        Some(found) => Err(format!(
            "worker.threads = {threads}, but a parallel region here has {found} threads; results would depend on it: \
             lift the limit on this machine's threads, or set worker.threads={found} for the run"
        )),
        None => Err("libtorch brings no OpenMP runtime whose threads could be counted; use the build that \
                     scripts/libtorch fetches"
            .to_owned()),
    }
}

impl Trainer for LibtorchTrainer {
    fn class(&mut self) -> Result<Class, TrainerError> {
        let settings = &self.settings;
        let digest = caught(|| {
            class::digest(&self.base.model, &self.layout, (&self.loss, &self.tags), settings)
                .map_err(|error| TrainerError::Fatal(error.to_string()))
        })?;
        let (arithmetic, threads) = (crate::ffi::arithmetic::words(), settings.threads.max(1));
        let words = format!("{arithmetic}, {}, device {}, threads {threads}", processor(), settings.device);
        Ok(Class { digest: digest.to_vec(), words })
    }

    fn initial_state(&mut self) -> Result<StateDigest, TrainerError> {
        let state = TrainingState::new(initial(&self.layout, &self.settings)?);
        self.commit(state);
        self.digest(&self.state)
    }

    fn load(&mut self, step: u64, files: &StateFiles) -> Result<StateDigest, TrainerError> {
        let state = peft::read(&self.layout, files).map_err(|error| TrainerError::Fatal(error.to_string()))?;
        if state.step != step {
            let reason = format!("the state is of step {}, not {step}", state.step);
            return Err(TrainerError::Fatal(reason));
        }
        self.commit(state);
        self.digest(&self.state)
    }

    fn save(&self) -> Result<StateFiles, TrainerError> {
        self.files(&self.state)
    }

    fn committed_digest(&self) -> Result<StateDigest, TrainerError> {
        self.digest(&self.state)
    }

    fn compute(&mut self, plan: &Plan, lease: &Lease) -> Result<Done, TrainerError> {
        caught(|| self.gradient(plan, lease))
    }

    fn keep(&mut self, microbatch: u32) -> Result<(), TrainerError> {
        let held = self.held.remove(&microbatch);
        let held = held.ok_or_else(|| TrainerError::Fatal(format!("microbatch {microbatch} was not computed here")))?;
        exact_sum::add(&mut self.sum, &held.words);
        Ok(())
    }

    fn discard(&mut self, microbatch: u32) {
        self.held.remove(&microbatch);
    }

    fn clear(&mut self) {
        self.held.clear();
        self.sum.fill(0);
    }

    fn reduce(
        &mut self,
        plan: &Plan,
        membership: &Membership,
        rendezvous: Arc<dyn Rendezvous>,
    ) -> Result<Shadow, TrainerError> {
        let own_digest = exact_sum::digest(self.settings.seed, &self.sum);
        let patience = Duration::from_millis(self.settings.collective_limit_ms);
        let reduced = all_reduce_i32(&self.backend, self.sum.clone(), membership, rendezvous, &self.aborts, patience)
            .map_err(|error| TrainerError::Broken { group: membership.group, reason: error.to_string() })?;
        let sum_digest = exact_sum::digest(self.settings.seed, &reduced);
        let ranges: Vec<_> = self.layout.slots.iter().map(|slot| slot.range.clone()).collect();
        let gradient = exact_sum::dequantise(&reduced, &plan.exponents, &ranges);
        let rate = f64::from_bits(plan.learning_rate_bits);
        let (next, gradient_norm) = self.state.stepped(&self.adamw, rate, self.settings.clip_norm, gradient);
        let state_digest = self.digest(&next)?;
        self.shadow = Some(next);
        Ok(Shadow { sum_digest, state_digest, gradient_norm, own_digest })
    }

    fn flip(&mut self) -> Result<(), TrainerError> {
        let shadow = self.shadow.take().ok_or_else(|| TrainerError::Fatal("there is no shadow to flip".to_owned()))?;
        self.commit(shadow);
        Ok(())
    }

    fn abort_handle(&self) -> Arc<dyn AbortHandle> {
        Arc::new(self.aborts.clone())
    }

    fn generate(&mut self, adapters: bool, work: &GenerateWork) -> Result<Vec<Continuation>, TrainerError> {
        let prompts: Vec<Vec<u32>> = work.prompts.iter().map(|prompt| prompt.ids.clone()).collect();
        caught(|| {
            let tokenizer = &self.base.tokenizer;
            let hand_over = adapters && self.settings.adapter_verification;
            let request = Request {
                prompts: &prompts,
                tag: if hand_over { &self.tags[3].line } else { &[] },
                stop: &self.base.stop,
                max_tokens: work.max_tokens as usize,
                context: self.base.model.config.context as usize,
                batch: work.batch as usize,
                refill: true,
                vocabulary: tokenizer.get_vocab_size(true) as i64,
                sampling: Sampling::Greedy,
            };
            let prepared = self.prepared.get_or_init(|| prepare(&self.base.model));
            let mut decoder = prepared.decoder(&self.base.model, adapters.then_some(&self.adapters));
            let mut report = Report::new(prompts.len());
            let generated = generate(decoder.as_mut(), &request, &mut |event| report.take(event));
            report.end(&generated);
            let texts = generated.continuations.into_iter().map(|ids| {
                let text = tokenizer.decode(&ids, false).map_err(|error| TrainerError::Fatal(error.to_string()))?;
                Ok(Continuation { ids, text })
            });
            texts.collect()
        })
    }

    fn holdout(&mut self, adapters: bool, work: &HoldoutWork) -> Result<MicrobatchStatistics, TrainerError> {
        let weighing = Weighing { uniform: false, stages: [1.0; 4], samples: 1.0, learned_tokens: 1.0 };
        let shadow = self.settings.adapter_verification;
        let prepared = batch::prepare(&work.samples, &self.tags, weighing, shadow, (0, 0))
            .map_err(|error| TrainerError::Fatal(error.to_string()))?;
        let loss = (&self.loss, weighing);
        caught(|| Ok(microbatch::evaluate(&self.base.model, &self.adapters, &prepared, loss, adapters)))
    }
}
