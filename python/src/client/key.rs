//! [`Key`]: a block's key in Python, and what else may stand for one.

use std::str::FromStr;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// The key of a block: 32 bytes.
///
/// Wherever a key is expected, a `str` or `bytes` may stand for the key of the block of that name.
#[pyclass(module = "chariot_ds._native", frozen, eq, ord, hash)]
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) chariot_types::Key);

#[pymethods]
impl Key {
    #[new]
    #[pyo3(signature = (raw, /), text_signature = "(raw, /)")]
    fn new(raw: &[u8]) -> PyResult<Self> {
        let raw = raw.try_into().map_err(|_| {
            PyValueError::new_err(format!("a key has {} bytes, not {}", chariot_types::Key::LEN, raw.len()))
        })?;
        Ok(Self(chariot_types::Key::from_bytes(raw)))
    }

    /// The key of the block called `name`, a `str` or `bytes` of any length.
    #[staticmethod]
    #[pyo3(signature = (name, /))]
    fn of_name(name: &Bound<'_, PyAny>) -> PyResult<Self> {
        named(name)?
            .map(Self)
            .ok_or_else(|| PyTypeError::new_err(format!("a block's name is a str or bytes, not `{}`", type_name(name))))
    }

    /// The key that 64 hexadecimal digits spell, as `hex()` returns them.
    #[staticmethod]
    #[pyo3(signature = (digits, /))]
    fn from_hex(digits: &str) -> PyResult<Self> {
        chariot_types::Key::from_str(digits).map(Self).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// The key as 64 hexadecimal digits.
    fn hex(&self) -> String {
        self.0.to_string()
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.as_bytes())
    }

    fn __str__(&self) -> String {
        self.hex()
    }

    fn __repr__(&self) -> String {
        format!("Key.from_hex('{}')", self.0)
    }

    fn __getnewargs__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyBytes>,) {
        (self.__bytes__(py),)
    }
}

/// The key that `object` stands for: a `Key` itself, or the name of a block.
pub(crate) fn key(object: &Bound<'_, PyAny>) -> PyResult<chariot_types::Key> {
    if let Some(key) = named(object)? {
        return Ok(key);
    }
    match object.cast::<Key>() {
        Ok(key) => Ok(key.get().0),
        Err(_) => Err(PyTypeError::new_err(format!("a key is a str, bytes or Key, not `{}`", type_name(object)))),
    }
}

/// The keys that the members of an iterable stand for.
pub(crate) fn keys(objects: &Bound<'_, PyAny>) -> PyResult<Vec<chariot_types::Key>> {
    if objects.is_instance_of::<PyString>() || objects.is_instance_of::<PyBytes>() {
        return Err(PyTypeError::new_err("expected an iterable of keys, not a single one"));
    }
    objects.try_iter()?.map(|object| key(&object?)).collect()
}

fn named(object: &Bound<'_, PyAny>) -> PyResult<Option<chariot_types::Key>> {
    if let Ok(name) = object.cast::<PyString>() {
        return Ok(Some(chariot_types::Key::of_name(name.to_str()?.as_bytes())));
    }
    Ok(object.cast::<PyBytes>().ok().map(|name| chariot_types::Key::of_name(name.as_bytes())))
}

/// What an error message calls the type of `object`.
pub(crate) fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
}
