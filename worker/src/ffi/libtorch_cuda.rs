//! The CUDA half of libtorch, opened beside the half that the binary is linked against.

use std::ffi::{CStr, c_char, c_int};
use std::path::{Path, PathBuf};

use super::library::{Opened, Scope};

/// cuBLAS reads it when it starts; without it some products have no fixed result.
const WORKSPACE: &str = "CUBLAS_WORKSPACE_CONFIG";

unsafe extern "C" {
    fn polya_reproducible(message: *mut c_char, size: usize) -> c_int;
    fn polya_cuda_peak(device: c_int, bytes: *mut usize, message: *mut c_char, size: usize) -> c_int;
    #[cfg(test)]
    fn polya_reproducible_state() -> u32;
}

/// Sets what CUDA's libraries read from the environment. Must be called before the process has a second thread.
pub fn prepare_environment() {
    if std::env::var_os(WORKSPACE).is_none() {
        // SAFETY: called at the start of `main`, so nobody reads the environment at the same time.
        unsafe { std::env::set_var(WORKSPACE, ":4096:8") };
    }
}

/// Brings the CUDA kernels in. Everything that registers itself with libtorch does so while this runs.
pub(crate) fn open(path: &Path) -> Result<(), String> {
    Opened::open(path, Scope::Global).map(|_| ())
}

/// The file of the libtorch_cpu that this process runs, as the kernel of the system names it.
pub(crate) fn running() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().filter_map(|line| line.split_once('/')).map(|(_, path)| format!("/{path}"));
    path.map(PathBuf::from).find(|path| path.file_name().is_some_and(|name| name == "libtorch_cpu.so"))
}

/// One result for one input, from here on, in the whole process.
pub(crate) fn make_reproducible() -> Result<(), String> {
    let mut message = [0 as c_char; 512];
    // SAFETY: the shim catches every exception and ends the message inside the buffer.
    let code = unsafe { polya_reproducible(message.as_mut_ptr(), message.len()) };
    answer(code, &message)
}

/// The most bytes that tensors have taken on a GPU at once.
pub(crate) fn peak_bytes(device: usize) -> Result<u64, String> {
    let (mut bytes, mut message) = (0, [0 as c_char; 512]);
    // SAFETY: as above; `bytes` is ours.
    let code = unsafe { polya_cuda_peak(device as c_int, &mut bytes, message.as_mut_ptr(), message.len()) };
    answer(code, &message).map(|()| bytes as u64)
}

fn answer(code: c_int, message: &[c_char]) -> Result<(), String> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the shims end the message with a zero inside the buffer.
    Err(unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::alone::in_a_process_of_its_own;
    use super::*;

    #[test]
    fn every_setting_of_reproducible_arithmetic_is_made() {
        // The other tests' attention needs what these settings turn off.
        in_a_process_of_its_own("ffi::libtorch_cuda::tests::every_setting_of_reproducible_arithmetic_is_made", || {
            make_reproducible().unwrap();
            // SAFETY: reads settings.
            assert_eq!(unsafe { polya_reproducible_state() }, (1 << 13) - 1);
        });
    }

    #[test]
    fn without_cuda_the_memory_of_a_gpu_is_an_error_and_the_running_libtorch_is_known() {
        assert!(peak_bytes(0).is_err());
        let path = running().unwrap();
        assert!(path.is_file() && path.ends_with("libtorch_cpu.so"), "{}", path.display());
    }
}
