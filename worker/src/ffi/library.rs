//! Libraries that are opened at run time: those of a GPU, which the binary is not linked against.

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// An opened library. It stays open: what it started may outlive any handle.
pub(crate) struct Opened {
    handle: NonNull<c_void>,
    /// What it was opened as.
    pub(crate) path: PathBuf,
}

/// Whether other libraries may take symbols from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// They may.
    Global,
    /// Only this program asks it.
    Local,
    /// Only this program asks it, and it must be in the process already.
    AlreadyOpen,
}

impl Opened {
    /// Opens a path, or a name that the system's loader looks for. The error is the loader's.
    pub(crate) fn open(path: &Path, scope: Scope) -> Result<Opened, String> {
        let flags = match scope {
            Scope::Global => libc::RTLD_LAZY | libc::RTLD_GLOBAL,
            Scope::Local => libc::RTLD_LAZY | libc::RTLD_LOCAL,
            Scope::AlreadyOpen => libc::RTLD_LAZY | libc::RTLD_LOCAL | libc::RTLD_NOLOAD,
        };
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| "a path with a zero byte".to_owned())?;
        // SAFETY: the name ends with a zero. The initialisers of CUDA's and libtorch's libraries are made to run in any
        // program, and nothing is ever closed, so no code vanishes under a thread.
        let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
        match NonNull::new(handle) {
            Some(handle) => Ok(Opened { handle, path: path.to_owned() }),
            None => Err(last_error().unwrap_or_else(|| format!("{} is not open", path.display()))),
        }
    }

    /// Opens the first candidate that can be; else says of each why not.
    pub(crate) fn first(candidates: &[PathBuf], scope: Scope) -> Result<Opened, String> {
        let mut reasons = vec![];
        for candidate in candidates {
            match Opened::open(candidate, scope) {
                Ok(opened) => return Ok(opened),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    /// A function of the library.
    ///
    /// # Safety
    /// `F` is the type of that function: a pointer to it.
    pub(crate) unsafe fn function<F: Copy>(&self, name: &str) -> Result<F, String> {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>(), "a function is asked for by a pointer to it");
        let symbol = CString::new(name).map_err(|_| "a name with a zero byte".to_owned())?;
        // SAFETY: the handle is of an open library, the name ends with a zero.
        let address = unsafe { libc::dlsym(self.handle.as_ptr(), symbol.as_ptr()) };
        if address.is_null() {
            return Err(format!("{} has no {name}", self.path.display()));
        }
        // SAFETY: a function's address has the size of its pointer type, which is what the caller says `F` is.
        Ok(unsafe { std::mem::transmute_copy(&address) })
    }
}

/// The loader's own words for what just failed.
fn last_error() -> Option<String> {
    // SAFETY: gives null or a text that stays until this thread's next call to the loader.
    unsafe {
        let text = libc::dlerror();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_an_error_with_every_name_that_was_tried() {
        let candidates = [PathBuf::from("libpolya-none.so.1"), PathBuf::from("/nowhere/libpolya-none.so")];
        let Err(error) = Opened::first(&candidates, Scope::Local) else { panic!("opened a library that is not there") };
        assert!(candidates.iter().all(|path| error.contains(&path.display().to_string())), "{error}");
    }

    #[test]
    fn a_function_that_is_missing_names_library_and_function() {
        let library = Opened::open(Path::new("libc.so.6"), Scope::AlreadyOpen).unwrap();
        // SAFETY: nothing is called.
        let missing = unsafe { library.function::<extern "C" fn()>("polya_none") };
        assert_eq!(missing.err().as_deref(), Some("libc.so.6 has no polya_none"));
    }
}
