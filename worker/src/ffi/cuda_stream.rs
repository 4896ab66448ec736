//! The stream in which libtorch queues its work: whatever else runs on the GPU goes there too, in order.

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::Device;

use super::cuda_driver::Driver;
use super::nccl::Progress;

unsafe extern "C" {
    /// 0 and the handle, or another number and a message of at most `size` bytes.
    fn polya_cuda_stream(device: c_int, handle: *mut *mut c_void, message: *mut c_char, size: usize) -> c_int;
}

/// A stream, or the processor, where everything is done when a call returns.
pub(crate) enum Stream {
    /// No queue.
    Host,
    /// A `cudaStream_t`.
    Cuda(*mut c_void),
}

// SAFETY: a stream's handle may be used from any thread; it is libtorch's and lives as long as the process.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// The one that libtorch uses now, on this thread.
    pub(crate) fn current(device: Device) -> Result<Stream, String> {
        let Device::Cuda(index) = device else { return Ok(Stream::Host) };
        let (mut handle, mut message) = (std::ptr::null_mut(), [0 as c_char; 512]);
        // SAFETY: the shim catches every exception and ends the message inside the buffer.
        let code = unsafe { polya_cuda_stream(index as c_int, &mut handle, message.as_mut_ptr(), message.len()) };
        if code == 0 {
            return Ok(Stream::Cuda(handle));
        }
        // SAFETY: as above.
        Err(unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// What CUDA calls it; null for the processor (and for CUDA's default stream).
    pub(crate) fn handle(&self) -> *mut c_void {
        match self {
            Stream::Host => std::ptr::null_mut(),
            Stream::Cuda(handle) => *handle,
        }
    }

    /// Whether what was queued is done.
    pub(crate) fn progress(&self) -> Result<Progress, String> {
        match self {
            Stream::Host => Ok(Progress::Done),
            Stream::Cuda(handle) => {
                Ok(if Driver::get()?.is_done(*handle)? { Progress::Done } else { Progress::GoesOn })
            }
        }
    }
}
