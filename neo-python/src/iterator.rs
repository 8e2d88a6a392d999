//! Transactions with what they wrote.

use std::sync::{Mutex, PoisonError};

use neo_api::TransactionRecord;
use neo_client::blocking::Transactions;
use neo_client::{Result, TransactionObject};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::convert::{oid_bytes, tid_bytes};
use crate::error::{FORKED, of_kind, raise};

/// A transaction: tid, user, description, extension, whether it was packed.
type Transaction<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    bool,
);
/// An object of it: oid, data, and the tid of the revision that it repeats.
type Object<'py> = (
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
    Option<Bound<'py, PyBytes>>,
);

struct Stream {
    transactions: Transactions,
    current: Option<TransactionRecord>,
}

/// An iterator over transactions; `objects` gives what the last one wrote.
#[pyclass(frozen, module = "neozodb._neozodb")]
pub(crate) struct TransactionIterator {
    stream: Mutex<Stream>,
    /// Whose it is: after a fork, nobody answers in the child.
    process: u32,
}

impl TransactionIterator {
    pub(crate) fn new(transactions: Transactions) -> Self {
        Self {
            stream: Mutex::new(Stream {
                transactions,
                current: None,
            }),
            process: std::process::id(),
        }
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut Stream) -> Result<T> + Send,
    ) -> PyResult<T> {
        if std::process::id() != self.process {
            return Err(of_kind(py, "closed", FORKED));
        }
        let found =
            py.detach(|| f(&mut self.stream.lock().unwrap_or_else(PoisonError::into_inner)));
        found.map_err(|error| raise(py, &error))
    }
}

fn object<'py>(py: Python<'py>, object: &TransactionObject) -> Object<'py> {
    (
        oid_bytes(py, object.oid),
        object.data.as_ref().map(|data| PyBytes::new(py, data)),
        object.data_serial.map(|tid| tid_bytes(py, tid)),
    )
}

#[pymethods]
impl TransactionIterator {
    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Transaction<'py>>> {
        let next = self.with(py, |stream| {
            let next = stream.transactions.next().transpose();
            if let Ok(next) = &next {
                stream.current.clone_from(next);
            }
            next
        })?;
        Ok(next.map(|transaction| {
            let meta = &transaction.meta;
            (
                tid_bytes(py, transaction.tid),
                PyBytes::new(py, &meta.user),
                PyBytes::new(py, &meta.description),
                PyBytes::new(py, &meta.extension),
                transaction.packed,
            )
        }))
    }

    /// What the transaction wrote that was given last, in the order in which it did.
    fn objects<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let objects = self.with(py, |stream| match stream.current.take() {
            Some(current) => stream.transactions.objects_as_stored(&current),
            None => Ok(Vec::new()),
        })?;
        PyList::new(py, objects.iter().map(|it| object(py, it)))
    }
}
