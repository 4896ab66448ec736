//! The device that a worker computes on. CUDA is opened at run time: the binary is linked against nothing of it.
//!
//! A GPU that was asked for and cannot be used is an error that names what was not found; nothing falls back to the
//! processor.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

use serde::Serialize;
use tch::Device;

use crate::ffi::cuda_driver::Driver;
use crate::ffi::libtorch_cuda;
use crate::model::Placement;

pub use crate::ffi::cuda_driver::Gpu;
pub use crate::ffi::libtorch_cuda::prepare_environment;

/// Names a file or folder with libtorch_cuda.so; searched before all others.
pub const VARIABLE: &str = "POLYA_LIBTORCH_CUDA";
const LIBRARY: &str = "libtorch_cuda.so";

/// A device by name: `cpu`, `cuda` (the first GPU) or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceName(Device);

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No such name.
    #[error("device `{0}` is not cpu, cuda or cuda:N")]
    Name(String),
    /// No driver, or one that does not start.
    #[error("no CUDA: {0}")]
    Driver(String),
    /// Too few GPUs.
    #[error("no CUDA: the driver shows {0} GPUs{visible}, and cuda:{1} is asked for", visible = visible())]
    Gpus(usize, usize),
    /// The CUDA half of libtorch is not there.
    #[error(
        "no CUDA: {library} was not found in {searched}; install it beside libtorch_cpu.so or name it with {variable}",
        library = LIBRARY,
        variable = VARIABLE
    )]
    NotFound {
        /// All folders.
        searched: String,
    },
    /// It is there, and of no use.
    #[error("no CUDA: {path}: {reason}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let wrong = || DeviceError::Name(text.to_owned());
        match text.split_once(':') {
            None if text == "cpu" => Ok(DeviceName(Device::Cpu)),
            None if text == "cuda" => Ok(DeviceName(Device::Cuda(0))),
            Some(("cuda", index)) => index.parse().map(|index| DeviceName(Device::Cuda(index))).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl DeviceName {
    /// Makes the device usable: opens CUDA where it is a GPU.
    pub fn open(self) -> Result<Placement, DeviceError> {
        let Device::Cuda(index) = self.0 else { return Ok(Placement::CPU) };
        let gpus = gpus()?;
        if index >= gpus.len() {
            return Err(DeviceError::Gpus(gpus.len(), index));
        }
        let path = libtorch()?;
        let unusable = |reason: String| DeviceError::Unusable { path: path.clone(), reason };
        libtorch_cuda::make_reproducible().map_err(unusable)?;
        let seen = tch::Cuda::device_count().max(0) as usize;
        if index >= seen {
            return Err(unusable(format!("libtorch sees {seen} of the driver's {} GPUs", gpus.len())));
        }
        Ok(Placement::of(self.0))
    }
}

/// Waits until everything that was queued on a device is done; on the processor it is.
pub fn wait_for(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// The most MiB that tensors have taken on a GPU at once; 0 for the processor, NaN where libtorch does not say.
pub fn peak_vram_mib(device: Device) -> f64 {
    match device {
        Device::Cuda(index) => {
            libtorch_cuda::peak_bytes(index).map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20))
        }
        _ => 0.0,
    }
}

/// The visible GPUs; an error where there is no driver.
pub fn gpus() -> Result<Vec<Gpu>, DeviceError> {
    Driver::get().and_then(Driver::gpus).map_err(DeviceError::Driver)
}

/// What this machine has for computing on GPUs.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// GPUs that a worker could use.
    pub gpus: Vec<Gpu>,
    /// The CUDA half of libtorch.
    pub libtorch_cuda: Option<PathBuf>,
    /// Why there are none, in words.
    pub missing: Option<String>,
}

/// Looks, and starts nothing on any GPU.
pub fn survey() -> Survey {
    let found = gpus().and_then(|gpus| match gpus.is_empty() {
        true => Err(DeviceError::Gpus(0, 0)),
        false => find().map(|path| (gpus, path)),
    });
    match found {
        Ok((gpus, path)) => Survey { gpus, libtorch_cuda: Some(path), missing: None },
        Err(error) => Survey { gpus: vec![], libtorch_cuda: None, missing: Some(error.to_string()) },
    }
}

/// The opened CUDA half of libtorch, once a process.
fn libtorch() -> Result<PathBuf, DeviceError> {
    static OPENED: OnceLock<Result<PathBuf, DeviceError>> = OnceLock::new();
    let open = || {
        let path = find()?;
        let opened = libtorch_cuda::open(&path);
        opened.map(|()| path.clone()).map_err(|reason| DeviceError::Unusable { path, reason })
    };
    OPENED.get_or_init(open).clone()
}

/// Where the opened libtorch_cuda.so is.
pub(crate) fn libtorch_folder() -> Option<PathBuf> {
    libtorch().ok().and_then(|path| path.parent().map(Path::to_owned))
}

/// Files that may be NCCL, in order, for where libtorch has not opened its own.
pub(crate) fn nccl_candidates() -> Vec<PathBuf> {
    let beside = libtorch_folder().map(|folder| folder.join("../../nvidia/nccl/lib/libnccl.so.2"));
    beside.into_iter().chain([PathBuf::from("libnccl.so.2")]).collect()
}

/// The file, if it belongs to the libtorch that runs.
fn find() -> Result<PathBuf, DeviceError> {
    let folders = folders();
    let Some(path) = folders.iter().map(|folder| folder.join(LIBRARY)).find(|path| path.is_file()) else {
        let searched = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(DeviceError::NotFound { searched });
    };
    match belongs(&path) {
        Ok(()) => Ok(path),
        Err(reason) => Err(DeviceError::Unusable { path, reason }),
    }
}

/// Folders that are searched, in order.
fn folders() -> Vec<PathBuf> {
    let mut folders = vec![];
    if let Some(named) = std::env::var_os(VARIABLE).map(PathBuf::from) {
        folders.extend(match named.file_name().is_some_and(|name| name == LIBRARY) {
            true => named.parent().map(Path::to_owned).into_iter().collect::<Vec<_>>(),
            false => vec![named.clone(), named.join("lib")],
        });
        return folders; // a wish is not answered with something else
    }
    folders.extend(libtorch_cuda::running().and_then(|cpu| cpu.parent().map(Path::to_owned)));
    folders.extend(std::env::var_os("LIBTORCH").map(|root| Path::new(&root).join("lib")));
    let roots = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from).into_iter();
    for root in roots.chain(["/usr/local", "/usr"].map(PathBuf::from)) {
        folders.extend(installed_with_pip(&root));
    }
    folders
}

/// `ROOT/lib/python3.*/{site,dist}-packages/torch/lib`, those that exist.
fn installed_with_pip(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join("lib")).into_iter().flatten().flatten();
    let mut pythons: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    pythons.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3")));
    pythons.sort();
    let packages =
        |python: &PathBuf| ["site-packages", "dist-packages"].map(|name| python.join(name).join("torch/lib"));
    pythons.iter().flat_map(packages).filter(|folder| folder.is_dir()).collect()
}

/// Both halves of libtorch must come from one build: their insides fit each other and no other.
fn belongs(path: &Path) -> Result<(), String> {
    let Some(running) = libtorch_cuda::running() else { return Ok(()) };
    let beside = path.with_file_name("libtorch_cpu.so");
    let same_file = |a: &Path, b: &Path| Some(a.canonicalize().ok()? == b.canonicalize().ok()?);
    if path.parent() == running.parent() || same_file(&beside, &running) == Some(true) {
        return Ok(());
    }
    if same_content(&beside, &running).map_err(|error| format!("{}: {error}", beside.display()))? {
        return Ok(());
    }
    let root = path.parent().and_then(Path::parent).unwrap_or(path).display();
    Err(format!(
        "it belongs to another build than {}, which runs here; build against its own: make build LIBTORCH={root}",
        running.display()
    ))
}

fn same_content(a: &Path, b: &Path) -> std::io::Result<bool> {
    let (a, b) = (std::fs::File::open(a)?, std::fs::File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let digest = |file| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).map(|hasher| hasher.finalize())
    };
    Ok(digest(a)? == digest(b)?)
}

fn visible() -> String {
    std::env::var("CUDA_VISIBLE_DEVICES")
        .map_or_else(|_| String::new(), |list| format!(" (CUDA_VISIBLE_DEVICES={list})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_three_names() {
        for (text, device) in [("cpu", Device::Cpu), ("cuda", Device::Cuda(0)), ("cuda:3", Device::Cuda(3))] {
            assert_eq!(text.parse::<DeviceName>().unwrap().0, device);
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1"] {
            assert_eq!(text.parse::<DeviceName>(), Err(DeviceError::Name(text.to_owned())));
        }
    }

    #[test]
    fn the_two_halves_of_libtorch_must_be_of_one_build() {
        let folder = tempfile::tempdir().unwrap();
        let cuda = folder.path().join(LIBRARY);
        let alone = belongs(&cuda).unwrap_err();
        assert!(alone.contains("libtorch_cpu.so"), "{alone}");
        std::fs::write(cuda.with_file_name("libtorch_cpu.so"), "another build").unwrap();
        let other = belongs(&cuda).unwrap_err();
        assert!(other.contains("another build") && other.contains("LIBTORCH="), "{other}");
        std::fs::remove_file(cuda.with_file_name("libtorch_cpu.so")).unwrap();
        std::os::unix::fs::symlink(libtorch_cuda::running().unwrap(), cuda.with_file_name("libtorch_cpu.so")).unwrap();
        assert_eq!(belongs(&cuda), Ok(()));
    }
}
