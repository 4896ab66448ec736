//! NCCL, opened at run time: the functions that one all-reduce of integers needs, non-blocking.
//!
//! Invariants: a communicator is aborted at most once and not used after; the library stays open.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tch::Tensor;

use super::cuda_stream::Stream;
use super::library::{Opened, Scope};

/// Bytes of what ranks need to find each other.
pub(crate) const UNIQUE_ID_BYTES: usize = 128;
/// The first version with a non-blocking start.
const VERSION_MIN: c_int = 21400;

const SUCCESS: c_int = 0;
const IN_PROGRESS: c_int = 7;
const INT32: c_int = 2;
const SUM: c_int = 0;

type RawCommunicator = *mut c_void;

#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueId([u8; UNIQUE_ID_BYTES]);

/// `ncclConfig_t` of 2.14; a later library takes the rest from its defaults.
#[repr(C)]
struct Config {
    size: usize,
    magic: u32,
    version: u32,
    blocking: c_int,
}

/// Whether a call that was started is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is, with success.
    Done,
    /// Not yet.
    GoesOn,
}

/// The opened library.
pub struct NcclLibrary {
    unique_id: unsafe extern "C" fn(*mut UniqueId) -> c_int,
    join: unsafe extern "C" fn(*mut RawCommunicator, c_int, UniqueId, c_int, *mut Config) -> c_int,
    all_reduce:
        unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, RawCommunicator, *mut c_void) -> c_int,
    async_error: unsafe extern "C" fn(RawCommunicator, *mut c_int) -> c_int,
    finalize: unsafe extern "C" fn(RawCommunicator) -> c_int,
    destroy: unsafe extern "C" fn(RawCommunicator) -> c_int,
    abort: unsafe extern "C" fn(RawCommunicator) -> c_int,
    describe: unsafe extern "C" fn(c_int) -> *const c_char,
    last_error: unsafe extern "C" fn(RawCommunicator) -> *const c_char,
    /// Its version, 22205 for 2.22.5.
    pub version: i32,
    /// Where it was found.
    pub path: PathBuf,
}

impl NcclLibrary {
    /// Opens NCCL: the one that libtorch has opened, else the first of the candidates.
    pub fn open(candidates: &[PathBuf]) -> Result<NcclLibrary, String> {
        let library = Opened::open(Path::new("libnccl.so.2"), Scope::AlreadyOpen)
            .or_else(|_| Opened::first(candidates, Scope::Local))?;
        Self::of(library)
    }

    /// Opens this file and no other.
    #[cfg(test)]
    pub(crate) fn open_file(path: &Path) -> Result<NcclLibrary, String> {
        Self::of(Opened::open(path, Scope::Local)?)
    }

    fn of(library: Opened) -> Result<NcclLibrary, String> {
        // SAFETY: the types are those of nccl.h since 2.14; an older library is refused before anything else is called.
        unsafe {
            let get_version: unsafe extern "C" fn(*mut c_int) -> c_int = library.function("ncclGetVersion")?;
            let mut version = 0;
            if get_version(&mut version) != SUCCESS || version < VERSION_MIN {
                let path = library.path.display();
                return Err(format!("{path} is NCCL version {version}; {VERSION_MIN} (2.14) or later is needed"));
            }
            Ok(NcclLibrary {
                unique_id: library.function("ncclGetUniqueId")?,
                join: library.function("ncclCommInitRankConfig")?,
                all_reduce: library.function("ncclAllReduce")?,
                async_error: library.function("ncclCommGetAsyncError")?,
                finalize: library.function("ncclCommFinalize")?,
                destroy: library.function("ncclCommDestroy")?,
                abort: library.function("ncclCommAbort")?,
                describe: library.function("ncclGetErrorString")?,
                last_error: library.function("ncclGetLastError")?,
                version,
                path: library.path,
            })
        }
    }

    /// A new group's id, for rank 0 to hand around.
    pub(crate) fn unique_id(&self) -> Result<[u8; UNIQUE_ID_BYTES], String> {
        let mut id = UniqueId([0; UNIQUE_ID_BYTES]);
        // SAFETY: writes the id.
        let code = unsafe { (self.unique_id)(&mut id) };
        self.progress_of(code, std::ptr::null_mut()).map(|_| id.0)
    }

    fn progress_of(&self, code: c_int, communicator: RawCommunicator) -> Result<Progress, String> {
        match code {
            SUCCESS => Ok(Progress::Done),
            IN_PROGRESS => Ok(Progress::GoesOn),
            // SAFETY: both give constant or thread-owned texts; a null communicator is allowed.
            code => Err(unsafe {
                let text = |text: *const c_char| match text.is_null() {
                    true => String::new(),
                    false => CStr::from_ptr(text).to_string_lossy().trim().to_owned(),
                };
                let (kind, detail) = (text((self.describe)(code)), text((self.last_error)(communicator)));
                if detail.is_empty() { kind } else { format!("{kind}: {detail}") }
            }),
        }
    }
}

/// This rank's end of a group.
pub(crate) struct Communicator {
    library: Arc<NcclLibrary>,
    /// Taken by whoever aborts it.
    raw: Mutex<Option<Raw>>,
}

struct Raw(RawCommunicator);

// SAFETY: a communicator is not bound to a thread; calls are made under the lock.
unsafe impl Send for Raw {}

impl Communicator {
    /// Starts to join; [`Communicator::progress`] says when all ranks have.
    pub(crate) fn join(
        library: Arc<NcclLibrary>,
        id: &[u8; UNIQUE_ID_BYTES],
        rank: u32,
        world_size: u32,
    ) -> Result<Communicator, String> {
        let int = |value: u32| c_int::try_from(value).map_err(|_| format!("{value} ranks are too many"));
        let (rank, world_size) = (int(rank)?, int(world_size)?);
        let mut config =
            Config { size: size_of::<Config>(), magic: 0xcafe_beef, version: VERSION_MIN as u32, blocking: 0 };
        let mut raw = std::ptr::null_mut();
        // SAFETY: the config has the size it states; the communicator is written even while the call goes on.
        let code = unsafe { (library.join)(&mut raw, world_size, UniqueId(*id), rank, &mut config) };
        library.progress_of(code, raw)?;
        if raw.is_null() {
            return Err("NCCL gave no communicator".to_owned());
        }
        Ok(Communicator { library, raw: Mutex::new(Some(Raw(raw))) })
    }

    /// Whether what was started last is over.
    pub(crate) fn progress(&self) -> Result<Progress, String> {
        self.with(|raw| {
            let mut state = IN_PROGRESS;
            // SAFETY: the communicator has not been aborted, `state` is ours.
            let code = unsafe { (self.library.async_error)(raw, &mut state) };
            self.library.progress_of(code, raw)?;
            self.library.progress_of(state, raw)
        })
    }

    /// Starts to sum int32 in place; done when [`Communicator::progress`] and then the stream say so. The tensor must live
    /// until then, or until the abort.
    pub(crate) fn all_reduce_i32(&self, staging: &Tensor, stream: &Stream) -> Result<(), String> {
        assert!(staging.kind() == tch::Kind::Int && staging.is_contiguous(), "staging is contiguous int32");
        let (words, count) = (staging.data_ptr(), staging.numel());
        self.with(|raw| {
            // SAFETY: `count` words in memory that the communicator's device reaches; in place is allowed.
            let code = unsafe { (self.library.all_reduce)(words, words, count, INT32, SUM, raw, stream.handle()) };
            self.library.progress_of(code, raw).map(|_| ())
        })
    }

    /// Starts to leave in order: what was sent to peers is handed over first. Then [`Communicator::progress`] and
    /// [`Communicator::destroy`].
    pub(crate) fn finalize(&self) -> Result<(), String> {
        // SAFETY: the communicator has not been aborted.
        self.with(|raw| self.library.progress_of(unsafe { (self.library.finalize)(raw) }, raw).map(|_| ()))
    }

    /// Frees a communicator that was left in order.
    pub(crate) fn destroy(&self) {
        self.end(self.library.destroy, "destroying");
    }

    /// Ends everything, here and at the peers. Does nothing the second time.
    pub(crate) fn abort(&self) {
        self.end(self.library.abort, "aborting");
    }

    fn end(&self, call: unsafe extern "C" fn(RawCommunicator) -> c_int, what: &str) {
        let raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Raw(raw)) = raw {
            // SAFETY: taken out above, so nobody uses or frees it again.
            let code = unsafe { call(raw) };
            if let Err(reason) = self.library.progress_of(code, std::ptr::null_mut()) {
                tracing::debug!(reason, "{what} a communicator");
            }
        }
    }

    fn with<T>(&self, call: impl FnOnce(RawCommunicator) -> Result<T, String>) -> Result<T, String> {
        let raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        match &*raw {
            Some(Raw(raw)) => call(*raw),
            None => Err("the communicator was aborted".to_owned()),
        }
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        self.abort();
    }
}
