//! Views: memory of a block as Python's buffer protocol and DLPack hand it out.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView};

/// Whether a view's holder may write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

/// A range of a block's memory.
pub(crate) struct Memory {
    pub(crate) start: *mut u8,
    pub(crate) len: usize,
    pub(crate) access: Access,
}

// SAFETY: a range and no more; who reads or writes it answers for that, in whatever thread.
unsafe impl Send for Memory {}

/// Fills in `view` with `memory`, which `owner` keeps valid until the view is released.
///
/// # Safety
/// `view` is null or points to a `Py_buffer` of the caller of `__getbuffer__`, and `memory` is valid for its access until
/// `owner` is told of the release.
pub(crate) unsafe fn fill(
    owner: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
    memory: &Memory,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("no view to fill in"));
    }
    let read_only = c_int::from(memory.access == Access::ReadOnly);
    let (start, len) = (memory.start.cast::<c_void>(), memory.len as ffi::Py_ssize_t);
    // SAFETY: the caller answers for `view` and `memory`; the interpreter is attached.
    let failed = unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start, len, read_only, flags) } != 0;
    if failed { Err(PyErr::fetch(owner.py())) } else { Ok(()) }
}

/// The DLPack capsule of `memory` as a one-dimensional tensor of bytes; `view` is a view of it, and keeps it valid.
///
/// A consumer that names a DLPack version of 1 or later is told that read-only memory is read-only; an older one has no
/// field for that, and must not write to it.
pub(crate) fn to_dlpack<'py>(
    view: Bound<'py, PyMemoryView>,
    memory: &Memory,
    max_version: Option<(u32, u32)>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = view.py();
    let shape = Box::new([memory.len as i64]);
    let owned = Box::new(Owned { _view: view.unbind(), shape });
    let tensor = DlTensor {
        data: memory.start.cast(),
        device: CPU,
        dimensions: 1,
        item: DlDataType { code: UNSIGNED_INTEGER, bits: 8, lanes: 1 },
        shape: owned.shape.as_ptr().cast_mut(),
        strides: std::ptr::null_mut(),
        byte_offset: 0,
    };
    let owned = Box::into_raw(owned);
    let (pointer, name) = if max_version.is_some_and(|(major, _)| major >= 1) {
        let flags = if memory.access == Access::ReadOnly { READ_ONLY } else { 0 };
        let managed = DlManagedTensorVersioned { major: 1, minor: 0, owned, deleter: delete_versioned, flags, tensor };
        (Box::into_raw(Box::new(managed)).cast::<c_void>(), c"dltensor_versioned")
    } else {
        let managed = DlManagedTensor { tensor, owned, deleter: delete_unversioned };
        (Box::into_raw(Box::new(managed)).cast::<c_void>(), c"dltensor")
    };
    // SAFETY: the pointer is not null, the name is static, and the destructor accepts both kinds of capsule.
    let capsule = unsafe { ffi::PyCapsule_New(pointer, name.as_ptr(), Some(drop_unused_capsule)) };
    // SAFETY: PyCapsule_New returns a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, capsule) }
}

/// The newest DLPack version that the options of a call of `__dlpack__` name, if any; refuses what only a copy could do.
pub(crate) fn dlpack_version(options: Option<&Bound<'_, PyDict>>) -> PyResult<Option<(u32, u32)>> {
    let option = |name: &str| match options {
        Some(options) => Ok(options.get_item(name)?.filter(|value| !value.is_none())),
        None => Ok::<_, PyErr>(None),
    };
    if let Some(device) = option("dl_device")?
        && device.extract::<(i32, i32)>()? != DLPACK_DEVICE
    {
        return Err(PyBufferError::new_err("a block is in host memory: copy it to the device afterwards"));
    }
    if let Some(copy) = option("copy")?
        && copy.is_truthy()?
    {
        return Err(PyBufferError::new_err("a block is handed out without a copy: copy it afterwards"));
    }
    option("max_version")?.map(|version| version.extract()).transpose()
}

/// The device of every block, as `__dlpack_device__` names it: the host.
pub(crate) const DLPACK_DEVICE: (i32, i32) = (CPU.kind, CPU.id);

// What follows is DLPack's C structures (dlpack.h, versions 0.8 and 1.0), as far as they are needed.

#[repr(C)]
#[derive(Clone, Copy)]
struct DlDevice {
    kind: i32,
    id: i32,
}

const CPU: DlDevice = DlDevice { kind: 1, id: 0 };

#[repr(C)]
struct DlDataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

const UNSIGNED_INTEGER: u8 = 1;

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: DlDevice,
    dimensions: i32,
    item: DlDataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct DlManagedTensor {
    tensor: DlTensor,
    owned: *mut Owned,
    deleter: unsafe extern "C" fn(*mut DlManagedTensor),
}

#[repr(C)]
struct DlManagedTensorVersioned {
    major: u32,
    minor: u32,
    owned: *mut Owned,
    deleter: unsafe extern "C" fn(*mut DlManagedTensorVersioned),
    flags: u64,
    tensor: DlTensor,
}

const READ_ONLY: u64 = 1;

/// What a capsule owns: the view that keeps the memory, and the shape that its tensor points to.
struct Owned {
    _view: Py<PyMemoryView>,
    shape: Box<[i64; 1]>,
}

unsafe extern "C" fn delete_unversioned(managed: *mut DlManagedTensor) {
    if let Some(managed) = NonNull::new(managed) {
        // SAFETY: DLPack's contract: the consumer calls the deleter once; `to_dlpack` made this by Box::into_raw.
        let managed = unsafe { Box::from_raw(managed.as_ptr()) };
        // SAFETY: as above, for what it owns.
        drop_attached(unsafe { Box::from_raw(managed.owned) });
    }
}

unsafe extern "C" fn delete_versioned(managed: *mut DlManagedTensorVersioned) {
    if let Some(managed) = NonNull::new(managed) {
        // SAFETY: DLPack's contract: the consumer calls the deleter once; `to_dlpack` made this by Box::into_raw.
        let managed = unsafe { Box::from_raw(managed.as_ptr()) };
        // SAFETY: as above, for what it owns.
        drop_attached(unsafe { Box::from_raw(managed.owned) });
    }
}

/// Drops a Python reference on whatever thread the consumer calls, whether that holds the interpreter or not.
fn drop_attached(owned: Box<Owned>) {
    // SAFETY: this may be asked at any time.
    if unsafe { ffi::Py_IsInitialized() } == 0 {
        // The interpreter has ended, and its objects with it.
        std::mem::forget(owned);
        return;
    }
    // Torch calls deleters with the interpreter released, also underneath a call of ours, where PyO3 takes it to be
    // held: so it is asked for here in Python's own way, which knows better.
    // SAFETY: the interpreter runs; the state is given back below.
    let state = unsafe { ffi::PyGILState_Ensure() };
    Python::attach(|_| drop(owned));
    // SAFETY: the state comes from the call above, on this thread.
    unsafe { ffi::PyGILState_Release(state) };
}

/// A consumer renames the capsule when it takes the tensor over; one that still has its first name was never used.
unsafe extern "C" fn drop_unused_capsule(capsule: *mut ffi::PyObject) {
    // SAFETY: Python calls this with the capsule it is about to free, attached; the names decide the pointer's type.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, c"dltensor".as_ptr()) == 1 {
            delete_unversioned(ffi::PyCapsule_GetPointer(capsule, c"dltensor".as_ptr()).cast());
        } else if ffi::PyCapsule_IsValid(capsule, c"dltensor_versioned".as_ptr()) == 1 {
            delete_versioned(ffi::PyCapsule_GetPointer(capsule, c"dltensor_versioned".as_ptr()).cast());
        }
    }
}
