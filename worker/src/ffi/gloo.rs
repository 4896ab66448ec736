//! Gloo's all-reduce behind a safe handle: the only callers of `gloo_shim.h`.
//!
//! Invariants: no exception and no panic crosses the border; a [`RawGroup`] is destroyed only when nobody uses it; the
//! words of a running all-reduce belong to that call until gloo has let go of them.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;
use std::time::Duration;

use worker_member::trainer::Rendezvous;

type Sink = extern "C" fn(*mut c_void, *const u8, usize);

#[repr(C)]
struct StoreCallbacks {
    context: *mut c_void,
    set: extern "C" fn(*mut c_void, *const u8, usize, *const u8, usize, Sink, *mut c_void) -> i32,
    get: extern "C" fn(*mut c_void, *const u8, usize, u64, Sink, *mut c_void, *mut c_void) -> i32,
    add: extern "C" fn(*mut c_void, *const u8, usize, i64, *mut i64, Sink, *mut c_void) -> i32,
}

#[repr(C)]
struct OpaqueGroup {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn polya_gloo_connect(
        store: *const StoreCallbacks,
        rank: i32,
        world_size: i32,
        host: *const c_char,
        timeout_ms: u64,
        group: *mut *mut OpaqueGroup,
    ) -> *mut c_char;
    fn polya_gloo_all_reduce_i32(group: *mut OpaqueGroup, words: *mut i32, count: usize) -> *mut c_char;
    fn polya_gloo_all_reduce_f32(group: *mut OpaqueGroup, values: *mut f32, count: usize) -> *mut c_char;
    fn polya_gloo_abort(group: *mut OpaqueGroup) -> *mut c_char;
    fn polya_gloo_destroy(group: *mut OpaqueGroup);
    fn polya_gloo_free(message: *mut c_char);
}

/// A connected full mesh of one group.
pub(crate) struct RawGroup(NonNull<OpaqueGroup>);

// SAFETY: the C++ object is not bound to the thread that made it; `all_reduce_i32` and `abort` may run at the same time
// (the connections have their own locks), and destruction needs the last owner.
unsafe impl Send for RawGroup {}
// SAFETY: as above.
unsafe impl Sync for RawGroup {}

impl RawGroup {
    /// Connects to all other ranks; blocks at most about `timeout` for each of the others.
    pub(crate) fn connect(
        rendezvous: &dyn Rendezvous,
        rank: u32,
        world_size: u32,
        host: &str,
        timeout: Duration,
    ) -> Result<RawGroup, String> {
        let host = CString::new(host).map_err(|_| "the host name holds a zero byte".to_owned())?;
        let rank = i32::try_from(rank).map_err(|_| format!("rank {rank} is too large"))?;
        let world_size = i32::try_from(world_size).map_err(|_| format!("world size {world_size} is too large"))?;
        let context = StoreContext(rendezvous);
        let callbacks = StoreCallbacks {
            context: std::ptr::from_ref(&context).cast_mut().cast(),
            set: store_set,
            get: store_get,
            add: store_add,
        };
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let mut group = std::ptr::null_mut();
        // SAFETY: all pointers are valid during the call; gloo uses the store while it connects and not afterwards.
        let error = unsafe { polya_gloo_connect(&callbacks, rank, world_size, host.as_ptr(), timeout_ms, &mut group) };
        take_error(error)?;
        NonNull::new(group).map(RawGroup).ok_or_else(|| "gloo gave no group".to_owned())
    }

    /// Sums over all ranks in place.
    pub(crate) fn all_reduce_i32(&self, words: &mut [i32]) -> Result<(), String> {
        // SAFETY: the group lives as long as `self`; the words are valid until the call returns, and gloo is done then.
        take_error(unsafe { polya_gloo_all_reduce_i32(self.0.as_ptr(), words.as_mut_ptr(), words.len()) })
    }

    /// The same for fp32, whose sum depends on the order: `worker bench reduce` compares with it.
    pub(crate) fn all_reduce_f32(&self, values: &mut [f32]) -> Result<(), String> {
        // SAFETY: as above.
        take_error(unsafe { polya_gloo_all_reduce_f32(self.0.as_ptr(), values.as_mut_ptr(), values.len()) })
    }

    /// Fails a running all-reduce, closes every connection.
    pub(crate) fn abort(&self) -> Result<(), String> {
        // SAFETY: the group lives as long as `self`, and this call may run beside an all-reduce.
        take_error(unsafe { polya_gloo_abort(self.0.as_ptr()) })
    }
}

impl Drop for RawGroup {
    fn drop(&mut self) {
        // SAFETY: made by `polya_gloo_connect`, destroyed once.
        unsafe { polya_gloo_destroy(self.0.as_ptr()) }
    }
}

/// What the callbacks get as their context: a thin pointer to a wide one.
struct StoreContext<'a>(&'a dyn Rendezvous);

fn take_error(error: *mut c_char) -> Result<(), String> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the shim gives a zero-terminated message that is ours to free.
    let text = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: as above, freed once.
    unsafe { polya_gloo_free(error) };
    Err(text)
}

/// Runs one callback: a failure or a panic goes to `error` as text.
///
/// `context` is the `StoreContext` of the running `connect`; `key` is valid for the call.
fn answer(
    context: *mut c_void,
    key: *const u8,
    key_size: usize,
    take: Sink,
    error: *mut c_void,
    body: impl FnOnce(&dyn Rendezvous, &str) -> Result<(), String>,
) -> i32 {
    // SAFETY: the shim calls with the context and the key it was given, while `connect` runs.
    let (store, key) = unsafe { (&*context.cast::<StoreContext<'_>>(), bytes(key, key_size)) };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let key = std::str::from_utf8(key).map_err(|_| "the key is not UTF-8".to_owned())?;
        body(store.0, key)
    }));
    match result.unwrap_or_else(|_| Err("the rendezvous panicked".to_owned())) {
        Ok(()) => 0,
        Err(text) => {
            take(error, text.as_ptr(), text.len());
            1
        }
    }
}

/// # Safety
/// `data` points to `size` readable bytes, or `size` is 0.
unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if size == 0 {
        return &[];
    }
    // SAFETY: the caller says so.
    unsafe { std::slice::from_raw_parts(data, size) }
}

extern "C" fn store_set(
    context: *mut c_void,
    key: *const u8,
    key_size: usize,
    value: *const u8,
    value_size: usize,
    take: Sink,
    error: *mut c_void,
) -> i32 {
    // SAFETY: the value is valid for the call.
    let value = unsafe { bytes(value, value_size) };
    answer(context, key, key_size, take, error, |store, key| store.set(key, value))
}

extern "C" fn store_get(
    context: *mut c_void,
    key: *const u8,
    key_size: usize,
    wait_ms: u64,
    take: Sink,
    value: *mut c_void,
    error: *mut c_void,
) -> i32 {
    answer(context, key, key_size, take, error, |store, key| {
        let found = store.get(key, wait_ms)?.ok_or_else(|| format!("not there after {wait_ms} ms"))?;
        take(value, found.as_ptr(), found.len());
        Ok(())
    })
}

extern "C" fn store_add(
    context: *mut c_void,
    key: *const u8,
    key_size: usize,
    amount: i64,
    sum: *mut i64,
    take: Sink,
    error: *mut c_void,
) -> i32 {
    answer(context, key, key_size, take, error, |store, key| {
        let value = store.add(key, amount)?;
        // SAFETY: the shim gives a place for the sum.
        unsafe { sum.write(value) };
        Ok(())
    })
}
