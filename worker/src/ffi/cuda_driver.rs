//! CUDA's driver, opened at run time: which GPUs there are, and our own kernels on them.
//!
//! Launches go to libtorch's current stream, in the device's primary context, which libtorch uses too.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::OnceLock;

use super::arguments::Arguments;
use super::cuda_stream::Stream;
use super::library::{Opened, Scope};
use crate::kernels::launch::{KERNELS, Launch};

/// The driver's library; it comes with the driver and nothing else.
pub(crate) const LIBRARY: &str = "libcuda.so.1";

const MAJOR: c_int = 75;
const MINOR: c_int = 76;

type Handle = *mut c_void;
/// Function; grid and block in x, y and z; shared memory; stream; arguments; more.
type LaunchKernel = unsafe extern "C" fn(
    Handle,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    Handle,
    *mut *mut c_void,
    *mut *mut c_void,
) -> c_int;

/// One GPU, as the driver sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Gpu {
    /// From 0, among the visible ones.
    pub index: u32,
    /// The product's name.
    pub name: String,
    /// Compute capability, as in sm_75.
    pub capability: (i32, i32),
    /// Bytes of memory.
    pub memory: u64,
}

/// The opened driver.
pub(crate) struct Driver {
    device: unsafe extern "C" fn(*mut c_int, c_int) -> c_int,
    count: unsafe extern "C" fn(*mut c_int) -> c_int,
    name: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int,
    attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int,
    memory: unsafe extern "C" fn(*mut usize, c_int) -> c_int,
    primary_context: unsafe extern "C" fn(*mut Handle, c_int) -> c_int,
    set_context: unsafe extern "C" fn(Handle) -> c_int,
    load: unsafe extern "C" fn(*mut Handle, *const c_void) -> c_int,
    function: unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> c_int,
    launch: LaunchKernel,
    stream_query: unsafe extern "C" fn(Handle) -> c_int,
    describe: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int,
}

impl Driver {
    /// The driver of this machine, opened and started once. The error says what is missing.
    pub(crate) fn get() -> Result<&'static Driver, String> {
        static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();
        DRIVER.get_or_init(Driver::open).as_ref().map_err(Clone::clone)
    }

    fn open() -> Result<Driver, String> {
        let library = Opened::open(Path::new(LIBRARY), Scope::Global)
            .map_err(|reason| format!("there is no NVIDIA driver ({reason})"))?;
        // SAFETY: the types are those of cuda.h; the names with _v2 are what its macros stand for since CUDA 4.
        let (driver, start) = unsafe {
            let start: unsafe extern "C" fn(c_uint) -> c_int = library.function("cuInit")?;
            let driver = Driver {
                device: library.function("cuDeviceGet")?,
                count: library.function("cuDeviceGetCount")?,
                name: library.function("cuDeviceGetName")?,
                attribute: library.function("cuDeviceGetAttribute")?,
                memory: library.function("cuDeviceTotalMem_v2")?,
                primary_context: library.function("cuDevicePrimaryCtxRetain")?,
                set_context: library.function("cuCtxSetCurrent")?,
                load: library.function("cuModuleLoadData")?,
                function: library.function("cuModuleGetFunction")?,
                launch: library.function("cuLaunchKernel")?,
                stream_query: library.function("cuStreamQuery")?,
                describe: library.function("cuGetErrorString")?,
            };
            (driver, start)
        };
        // SAFETY: takes flags, which must be 0.
        driver.check("cuInit", unsafe { start(0) }).map_err(|reason| format!("the NVIDIA driver: {reason}"))?;
        Ok(driver)
    }

    /// The visible GPUs.
    pub(crate) fn gpus(&self) -> Result<Vec<Gpu>, String> {
        let mut count = 0;
        // SAFETY: writes one number.
        self.check("cuDeviceGetCount", unsafe { (self.count)(&mut count) })?;
        (0..count).map(|index| self.gpu(index)).collect()
    }

    fn gpu(&self, index: c_int) -> Result<Gpu, String> {
        let (mut device, mut major, mut minor, mut memory) = (0, 0, 0, 0usize);
        let mut name = [0 as c_char; 256];
        // SAFETY: each call writes what it is given room for; the name ends with a zero inside its buffer.
        let name = unsafe {
            self.check("cuDeviceGet", (self.device)(&mut device, index))?;
            self.check("cuDeviceGetAttribute", (self.attribute)(&mut major, MAJOR, device))?;
            self.check("cuDeviceGetAttribute", (self.attribute)(&mut minor, MINOR, device))?;
            self.check("cuDeviceTotalMem", (self.memory)(&mut memory, device))?;
            self.check("cuDeviceGetName", (self.name)(name.as_mut_ptr(), 255, device))?;
            CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned()
        };
        Ok(Gpu { index: index as u32, name, capability: (major, minor), memory: memory as u64 })
    }

    /// Loads machine code on a device; it stays.
    pub(crate) fn load(&'static self, index: u32, cubin: &[u8]) -> Result<Module, String> {
        let (mut device, mut context, mut module) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the handles are written by the driver; the image is a whole cubin, copied by the call.
        unsafe {
            self.check("cuDeviceGet", (self.device)(&mut device, index as c_int))?;
            self.check("cuDevicePrimaryCtxRetain", (self.primary_context)(&mut context, device))?;
            self.check("cuCtxSetCurrent", (self.set_context)(context))?;
            self.check("cuModuleLoadData", (self.load)(&mut module, cubin.as_ptr().cast()))?;
        }
        let mut functions = BTreeMap::new();
        for kernel in KERNELS {
            let name = CString::new(kernel).map_err(|error| error.to_string())?;
            let mut function = std::ptr::null_mut();
            // SAFETY: the module was loaded above.
            self.check(kernel, unsafe { (self.function)(&mut function, module, name.as_ptr()) })?;
            functions.insert(kernel, function);
        }
        Ok(Module { driver: self, context, functions })
    }

    /// Whether everything that was queued in a stream is done.
    pub(crate) fn is_done(&self, stream: Handle) -> Result<bool, String> {
        const NOT_READY: c_int = 600;
        // SAFETY: a stream of libtorch's, which lives as long as the process.
        match unsafe { (self.stream_query)(stream) } {
            NOT_READY => Ok(false),
            code => self.check("cuStreamQuery", code).map(|()| true),
        }
    }

    fn check(&self, what: &str, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        let mut text = std::ptr::null();
        // SAFETY: writes a pointer to a constant text, or null for an unknown code.
        let reason = unsafe {
            (self.describe)(code, &mut text);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        Err(format!("{what}: error {code} {reason}"))
    }
}

/// Our kernels on one device.
pub(crate) struct Module {
    driver: &'static Driver,
    context: Handle,
    functions: BTreeMap<&'static str, Handle>,
}

// SAFETY: handles of the driver are not bound to threads.
unsafe impl Send for Module {}
// SAFETY: as above; launching takes no lock of ours.
unsafe impl Sync for Module {}

impl Module {
    /// Queues a launch in a stream of this device. Later work in that stream sees its result.
    pub(crate) fn launch(&self, launch: &Launch, stream: &Stream) -> Result<(), String> {
        let function = self.functions.get(launch.kernel).ok_or_else(|| format!("no kernel {}", launch.kernel))?;
        let mut arguments = Arguments::of(launch);
        let mut pointers = arguments.pointers();
        let [x, y] = launch.grid;
        // SAFETY: a launch has the kernel's own arguments, from tensors whose memory libtorch keeps until the stream is
        // past this point; the driver copies the values during the call.
        unsafe {
            self.driver.check("cuCtxSetCurrent", (self.driver.set_context)(self.context))?;
            let (threads, shared) = (launch.threads, 0);
            let code = (self.driver.launch)(
                *function,
                x,
                y,
                1,
                threads,
                1,
                1,
                shared,
                stream.handle(),
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            );
            self.driver.check(launch.kernel, code)
        }
    }
}
