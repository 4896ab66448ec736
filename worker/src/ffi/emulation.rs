//! The kernels on a CPU, for tests: their own text compiled by the system's C++ compiler, launched like on a GPU.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::process::Command;

use super::arguments::Arguments;
use super::library::{Opened, Scope};
use crate::kernels::launch::Launch;
use crate::kernels::source;

type Emulate = unsafe extern "C" fn(*const c_char, c_uint, c_uint, c_uint, *mut *mut c_void) -> c_int;

/// The compiled kernels.
pub(crate) struct Emulation(Emulate);

impl Emulation {
    /// Compiles them in a folder of their own.
    pub(crate) fn compile() -> Result<Emulation, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (text, library) = (folder.path().join("kernels.cpp"), folder.path().join("libkernels.so"));
        let (host, launch) =
            (include_str!("../kernels/source/emulation/host.h"), include_str!("../kernels/source/emulation/launch.h"));
        std::fs::write(&text, format!("{host}\n{}\n{launch}", source::body())).map_err(|error| error.to_string())?;
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let done = Command::new(&compiler)
            .args(["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-pthread", "-o"])
            .args([&library, &text])
            .output()
            .map_err(|error| format!("{compiler}: {error}"))?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
        let library = Opened::open(&library, Scope::Local)?;
        // SAFETY: the type of `polya_emulate` in launch.h.
        Ok(Emulation(unsafe { library.function("polya_emulate")? }))
    }

    /// Launches and waits.
    pub(crate) fn launch(&self, launch: &Launch) -> Result<(), String> {
        let name = CString::new(launch.kernel).map_err(|error| error.to_string())?;
        let mut arguments = Arguments::of(launch);
        let mut pointers = arguments.pointers();
        let [x, y] = launch.grid;
        // SAFETY: a launch has the kernel's own arguments, from tensors of this process that live as long as it does.
        let found = unsafe { (self.0)(name.as_ptr(), x, y, launch.threads, pointers.as_mut_ptr()) };
        if found == 1 { Ok(()) } else { Err(format!("no kernel {}", launch.kernel)) }
    }
}
