//! Between ZODB's 8 bytes and numbers.

use neo_api::{Oid, Tid};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

fn number(what: &str, bytes: &[u8]) -> PyResult<u64> {
    let bytes: [u8; 8] = bytes.try_into().map_err(|_| {
        PyValueError::new_err(format!("{what} is 8 bytes, these are {}", bytes.len()))
    })?;
    Ok(u64::from_be_bytes(bytes))
}

/// An oid as ZODB has it.
pub(crate) fn oid(bytes: &[u8]) -> PyResult<Oid> {
    number("an oid", bytes).map(Oid)
}

/// A tid as ZODB has it.
pub(crate) fn tid(bytes: &[u8]) -> PyResult<Tid> {
    number("a tid", bytes).map(Tid)
}

/// An oid for ZODB.
pub(crate) fn oid_bytes<'py>(py: Python<'py>, oid: Oid) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &oid.0.to_be_bytes())
}

/// A tid for ZODB.
pub(crate) fn tid_bytes<'py>(py: Python<'py>, tid: Tid) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &tid.0.to_be_bytes())
}
