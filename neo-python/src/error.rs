//! Errors of the client as the exceptions that ZODB and its users know.

use neo_client::{Error, Oid, Tid};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyAny, PyBytes};

use crate::convert::{oid_bytes, tid_bytes};

/// The committed one, and the one that the transaction started from.
type Serials<'py> = (Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>);

/// `neozodb.errors.make(kind, message, oid, serials)`: the exception of a kind.
fn make(
    py: Python<'_>,
    kind: &str,
    message: String,
    oid: Option<Bound<'_, PyBytes>>,
    serials: Option<Serials<'_>>,
) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let exception = MAKE
        .import(py, "neozodb.errors", "make")
        .and_then(|make| make.call1((kind, message, oid, serials)));
    exception.map_or_else(|error| error, PyErr::from_value)
}

/// The exception for an error of the client.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    raise_with(py, error, None)
}

/// As [`raise`]; `relied` is the serial of the object in conflict that the transaction started from.
pub(crate) fn raise_with(py: Python<'_>, error: &Error, relied: Option<Tid>) -> PyErr {
    let message = error.to_string();
    let (kind, ids) = match *error {
        Error::Conflict { oid, serial } => ("conflict", Some((oid, Some(serial)))),
        Error::ReadConflict { oid, serial } => ("read-conflict", Some((oid, Some(serial)))),
        Error::PackedAway { oid, .. } => ("read-conflict", Some((oid, None))),
        Error::Checksum { oid, .. } => ("checksum", Some((oid, None))),
        Error::NotReady(_) | Error::Timeout(_) => ("unavailable", None),
        Error::IncompleteTransaction(_) => ("incomplete", None),
        Error::Unknown { .. } => ("unknown-outcome", None),
        Error::ReadOnly(_) => ("read-only", None),
        Error::Undo { oid, .. } => ("undo", oid.map(|oid| (oid, None))),
        Error::MissingRevision(_) => ("undo", None),
        Error::Misuse(_) => ("misuse", None),
        Error::Closed => ("closed", None),
        Error::NoSpace(_) => ("no-space", None),
        // What a later version may have.
        ref error if error.is_retryable() => ("unavailable", None),
        _ => ("storage", None),
    };
    let oid = ids.map(|(oid, _)| oid_bytes(py, oid));
    let relied = relied.map(|tid| tid_bytes(py, tid));
    let serials = ids
        .and_then(|(_, serial)| serial)
        .map(|tid| (tid_bytes(py, tid), relied));
    make(py, kind, message, oid, serials)
}

/// `POSKeyError`: no such object, or not with this revision.
pub(crate) fn no_such_object(py: Python<'_>, oid: Oid) -> PyErr {
    make(py, "key", oid.to_string(), Some(oid_bytes(py, oid)), None)
}

/// What is said of a parent's storage in a child process.
pub(crate) const FORKED: &str =
    "the storage was opened before a fork: open another one in the child process";

/// For the tests of the package: an error of each kind that the client has, whether it may be
/// retried, and what is raised for it.
#[pyfunction]
#[pyo3(name = "_errors")]
pub(crate) fn errors(py: Python<'_>) -> Vec<(String, bool, Py<PyAny>)> {
    let told = |error: Error| {
        let raised = raise(py, &error).into_value(py).into_any();
        (error.to_string(), error.is_retryable(), raised)
    };
    Error::one_of_each().into_iter().map(told).collect()
}

/// An error of a kind that the package itself raises.
pub(crate) fn of_kind(py: Python<'_>, kind: &str, message: impl Into<String>) -> PyErr {
    make(py, kind, message.into(), None, None)
}
