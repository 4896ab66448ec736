//! The kernels on a GPU: compiled once a device and process, for exactly that device.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use super::launch::{self, Launch, Packed};
use super::source;
use crate::ffi::cuda_driver::{Driver, Module};
use crate::ffi::cuda_stream::Stream;
use crate::ffi::nvrtc::Nvrtc;

/// Rows from which a dense matrix and a plain product are cheaper than reading four bits for every four rows.
const MULTIPLY_ROWS_MAX: i64 = 16;

/// Queues a launch behind what libtorch has queued on that GPU.
pub(crate) fn run(launch: &Launch, device: Device) -> Result<(), String> {
    let Device::Cuda(index) = device else { return Err(format!("{} is a kernel for GPUs", launch.kernel)) };
    module(index as u32)?.launch(launch, &Stream::current(device)?)
}

fn module(index: u32) -> Result<Arc<Module>, String> {
    static MODULES: Mutex<BTreeMap<u32, Arc<Module>>> = Mutex::new(BTreeMap::new());
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(&index) {
        return Ok(module.clone());
    }
    let driver = Driver::get()?;
    let gpus = driver.gpus()?;
    let gpu = gpus.get(index as usize).ok_or_else(|| format!("there is no cuda:{index}"))?;
    let nvrtc = Nvrtc::open(&nvrtc_candidates()).map_err(|reason| format!("NVRTC, CUDA's compiler: {reason}"))?;
    let started = std::time::Instant::now();
    let compiled =
        nvrtc.compile("kernels.cu", &source::text(), &source::options(gpu.capability.0, gpu.capability.1))?;
    let module = Arc::new(driver.load(index, &compiled.cubin)?);
    let compiler = nvrtc.path.display();
    tracing::info!(gpu = gpu.name, seconds = started.elapsed().as_secs_f64(), %compiler, "kernels compiled");
    modules.insert(index, module.clone());
    Ok(module)
}

/// What came with libtorch first: it knows the GPUs that libtorch knows.
fn nvrtc_candidates() -> Vec<PathBuf> {
    let beside = crate::device::libtorch_folder()
        .into_iter()
        .flat_map(|folder| ["../../nvidia/cu13/lib/libnvrtc.so.13", "libnvrtc.so.13"].map(|name| folder.join(name)));
    let system = ["libnvrtc.so.13", "/usr/local/cuda/lib64/libnvrtc.so.13", "libnvrtc.so"].map(PathBuf::from);
    beside.chain(system).collect()
}

/// Whether a product is one that [`multiply`] serves: few rows, no gradient, fp16 on a GPU.
pub(crate) fn multiplies(x: &Tensor) -> bool {
    let rows = x.size().first().copied().unwrap_or(0);
    let few = x.dim() == 2 && (1..=MULTIPLY_ROWS_MAX).contains(&rows) && launch::can_multiply(x.size()[1]);
    few && matches!(x.device(), Device::Cuda(_)) && x.kind() == Kind::Half && !x.requires_grad()
}

/// `x W^T` for a few rows, without the dense matrix.
pub(crate) fn multiply(x: &Tensor, weight: Packed, output: i64) -> Result<Tensor, String> {
    let x = x.contiguous();
    let y = Tensor::empty([x.size()[0], output], (Kind::Half, x.device()));
    run(&launch::nf4_multiply(&x, weight, &y), x.device()).map(|()| y)
}

/// The dropout mask `[T, width]` fp16 of one place; `keys` one a token, int64 on the GPU.
pub(crate) fn dropout_mask(
    keys: &Tensor,
    (place, threshold, kept): (u64, u32, f32),
    width: i64,
) -> Result<Tensor, String> {
    let mask = Tensor::empty([keys.size()[0], width], (Kind::Half, keys.device()));
    run(&launch::dropout_mask(keys, place, threshold, kept, &mask), keys.device()).map(|()| mask)
}
