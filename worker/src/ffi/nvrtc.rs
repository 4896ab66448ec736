//! NVRTC: CUDA C++ to machine code at run time. Needs no GPU.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

use super::library::{Opened, Scope};

type Program = *mut c_void;
type Text = *const c_char;

/// What came out of one compilation.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Machine code for the architecture that was asked for.
    pub(crate) cubin: Vec<u8>,
    /// The virtual machine's text that it was made from: what tests read.
    #[cfg(test)]
    pub(crate) ptx: String,
}

/// The opened compiler.
pub(crate) struct Nvrtc {
    create: unsafe extern "C" fn(*mut Program, Text, Text, c_int, *const Text, *const Text) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, *const Text) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    log: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    #[cfg(test)]
    ptx_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    #[cfg(test)]
    ptx: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    describe: unsafe extern "C" fn(c_int) -> Text,
    /// Where it was found.
    pub(crate) path: PathBuf,
}

impl Nvrtc {
    /// Opens the first of the candidates.
    pub(crate) fn open(candidates: &[PathBuf]) -> Result<Nvrtc, String> {
        let library = Opened::first(candidates, Scope::Local)?;
        open_builtins(&library.path);
        // SAFETY: the types are those of nvrtc.h, unchanged since CUDA 11.1.
        unsafe {
            Ok(Nvrtc {
                create: library.function("nvrtcCreateProgram")?,
                compile: library.function("nvrtcCompileProgram")?,
                destroy: library.function("nvrtcDestroyProgram")?,
                log_size: library.function("nvrtcGetProgramLogSize")?,
                log: library.function("nvrtcGetProgramLog")?,
                cubin_size: library.function("nvrtcGetCUBINSize")?,
                cubin: library.function("nvrtcGetCUBIN")?,
                #[cfg(test)]
                ptx_size: library.function("nvrtcGetPTXSize")?,
                #[cfg(test)]
                ptx: library.function("nvrtcGetPTX")?,
                describe: library.function("nvrtcGetErrorString")?,
                path: library.path,
            })
        }
    }

    /// Compiles one source; an error holds the compiler's messages.
    pub(crate) fn compile(&self, name: &str, source: &str, options: &[String]) -> Result<Compiled, String> {
        let text = |text: &str| CString::new(text).map_err(|_| format!("{name}: the text holds a zero byte"));
        let (source, file) = (text(source)?, text(name)?);
        let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>, _>>()?;
        let pointers: Vec<Text> = options.iter().map(|option| option.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).map_err(|_| "too many options".to_owned())?;
        let mut program = Destroyed { nvrtc: self, program: std::ptr::null_mut() };
        // SAFETY: all texts end with a zero and live through the call; there are no headers.
        let created = unsafe {
            let none = std::ptr::null();
            (self.create)(&mut program.program, source.as_ptr(), file.as_ptr(), 0, none, none)
        };
        self.check(created)?;
        // SAFETY: the program was made above, the options live through the call.
        let compiled = unsafe { (self.compile)(program.program, count, pointers.as_ptr()) };
        if let Err(error) = self.check(compiled) {
            let log = self.bytes(program.program, self.log_size, self.log)?;
            return Err(format!("{name}: {error}\n{}", String::from_utf8_lossy(&log).trim_end_matches('\0')));
        }
        let cubin = self.bytes(program.program, self.cubin_size, self.cubin)?;
        Ok(Compiled {
            cubin,
            #[cfg(test)]
            ptx: String::from_utf8_lossy(&self.bytes(program.program, self.ptx_size, self.ptx)?)
                .trim_end_matches('\0')
                .to_owned(),
        })
    }

    fn bytes(
        &self,
        program: Program,
        size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
        read: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    ) -> Result<Vec<u8>, String> {
        let mut count = 0;
        // SAFETY: the program lives, `count` is ours.
        self.check(unsafe { size(program, &mut count) })?;
        let mut bytes = vec![0u8; count];
        // SAFETY: the buffer has the size that was just asked for.
        self.check(unsafe { read(program, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }

    fn check(&self, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: gives a constant text for every code.
        Err(unsafe { CStr::from_ptr((self.describe)(code)) }.to_string_lossy().into_owned())
    }
}

/// NVRTC asks the loader for its built-in functions by name alone, and its own folder is not searched: opened here first,
/// they are found. Where there is no such file the compiler says so itself.
fn open_builtins(nvrtc: &Path) {
    let folder = nvrtc.parent().filter(|folder| folder.is_absolute());
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("libnvrtc-builtins.so")) {
        if let Err(reason) = Opened::open(&entry.path(), Scope::Local) {
            tracing::debug!(reason, "opening NVRTC's built-in functions");
        }
    }
}

/// A program that is destroyed on every way out.
struct Destroyed<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Drop for Destroyed<'_> {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: made by `create`, destroyed once.
            unsafe { (self.nvrtc.destroy)(&mut self.program) };
        }
    }
}
