//! The past: histories of objects, what can be undone, and all objects as they are now.

use std::sync::{Mutex, PoisonError};

use neo_api::{Oid, Tid};
use neo_client::blocking::{Client, CurrentObjects};
use neo_client::{CurrentObject, Lookup};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::convert::{oid_bytes, tid_bytes};
use crate::error::{no_such_object, raise};
use crate::iterator::TransactionIterator;
use crate::storage::{BaseStorage, oid_argument, tid_argument};

/// A revision: tid, size, user, description, extension.
type Revision<'py> = (
    Bound<'py, PyBytes>,
    u32,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
);

/// An object of `record_iternext`: oid, tid, data, and the oid of the next one.
type Record<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
);

/// Objects that are read one by one: where the reading is.
struct Reader {
    objects: CurrentObjects,
    /// Read already: its oid is what the caller was told to ask for next.
    ahead: CurrentObject,
}

/// The reading that may go on with the next call.
#[derive(Default)]
pub(crate) struct Readers(Mutex<Option<Reader>>);

impl Readers {
    /// The reading that was told to go on with this oid.
    fn take(&self, next: Oid) -> Option<Reader> {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reader.take_if(|reader| reader.ahead.oid == next)
    }

    fn put(&self, reader: Reader) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
    }

    /// Lets go of what was read ahead.
    pub(crate) fn clear(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[pymethods]
impl BaseStorage {
    /// The newest revisions of an object, newest first.
    fn _history<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = oid_argument)] oid: Oid,
        size: usize,
    ) -> PyResult<Vec<Revision<'py>>> {
        let revisions = self.wait(py, |client| {
            let entries = client.history(oid, Tid::MAX).take(size);
            let entries = entries.collect::<Result<Vec<_>, _>>()?;
            let serials: Vec<Tid> = entries.iter().map(|entry| entry.serial).collect();
            let transactions = client.transactions_of(&serials)?;
            Ok(entries.into_iter().zip(transactions).collect::<Vec<_>>())
        })?;
        if revisions.is_empty() && size > 0 {
            return Err(no_such_object(py, oid));
        }
        let told = |(entry, transaction): (neo_api::HistoryEntry, Option<_>)| {
            let meta = transaction
                .map(|transaction: neo_api::TransactionRecord| transaction.meta)
                .unwrap_or_default();
            (
                tid_bytes(py, entry.serial),
                entry.bytes.unwrap_or_default(),
                PyBytes::new(py, &meta.user),
                PyBytes::new(py, &meta.description),
                PyBytes::new(py, &meta.extension),
            )
        };
        Ok(revisions.into_iter().map(told).collect())
    }

    /// Bytes that one copy of the database takes, about.
    #[pyo3(name = "getSize")]
    fn get_size(&self, py: Python<'_>) -> PyResult<u64> {
        self.wait(py, Client::database_bytes)
    }

    /// How many objects there are, with the tid up to which they were counted.
    fn _count<'py>(&self, py: Python<'py>) -> PyResult<(usize, Bound<'py, PyBytes>)> {
        let (count, tid) = self.wait(py, |client| {
            let objects = client.current_objects(Tid::MAX, Oid::ZERO)?;
            let objects = objects.without_values();
            let tid = objects.tid();
            let count = objects
                .map(|object| object.map(|_| 1))
                .sum::<Result<_, _>>()?;
            Ok((count, tid))
        })?;
        Ok((count, tid_bytes(py, tid)))
    }

    /// Transactions from the last to the first.
    fn _undo_log(&self, py: Python<'_>) -> PyResult<TransactionIterator> {
        let transactions = self.wait(py, |client| client.undo_log(Tid::ZERO..=Tid::MAX))?;
        Ok(TransactionIterator::new(transactions))
    }

    /// Takes back what a transaction did; gives None and the oids of what changes by that.
    fn undo<'py>(
        &self,
        transaction_id: &Bound<'py, PyAny>,
        transaction: &Bound<'py, PyAny>,
    ) -> PyResult<(Option<Bound<'py, PyBytes>>, Bound<'py, PyList>)> {
        let py = transaction.py();
        let pending = self.of(transaction)?;
        let undone = tid_argument(transaction_id)?;
        let oids = py.detach(|| pending.undo(undone));
        // That two changes can't be merged is told as an error of the undo.
        drop(crate::shared::take_conflict());
        let oids = oids.map_err(|error| raise(py, &error))?;
        let oids = oids.into_iter().map(|oid| oid_bytes(py, oid));
        Ok((None, PyList::new(py, oids)?))
    }

    /// The newest revision below `before`, in one look-up: data, and serial; for an object that is
    /// deleted then, None and the serial of the deletion; None and zeros where there is none.
    #[pyo3(name = "loadBeforeEx")]
    fn load_before_ex<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = oid_argument)] oid: Oid,
        #[pyo3(from_py_with = tid_argument)] before: Tid,
    ) -> PyResult<(Option<Bound<'py, PyBytes>>, Bound<'py, PyBytes>)> {
        let lookup = self.look_up(py, |client| client.load_before(oid, before))?;
        Ok(match lookup {
            Lookup::Found { data, serial, .. } => {
                (Some(PyBytes::new(py, &data)), tid_bytes(py, serial))
            }
            Lookup::Deleted { serial, .. } => (None, tid_bytes(py, serial)),
            Lookup::NotYet | Lookup::Unknown => (None, tid_bytes(py, Tid::ZERO)),
        })
    }

    /// Brings objects into the cache, as they are before a tid; does not wait for them.
    fn prefetch(
        &self,
        oids: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = tid_argument)] tid: Tid,
    ) -> PyResult<()> {
        let py = oids.py();
        let client = self.client(py)?;
        let wanted = oids.try_iter()?.map(|oid| oid_argument(&oid?));
        let wanted = wanted.collect::<PyResult<Vec<Oid>>>()?;
        py.detach(|| client.prefetch(wanted, tid));
        Ok(())
    }

    /// The first object, or the one that `next` says, of all that exist, by their oids: oid, tid,
    /// data, and what to give as `next` for the one after it, None after the last.
    #[pyo3(signature = (next = None))]
    fn record_iternext<'py>(
        &self,
        py: Python<'py>,
        next: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Record<'py>> {
        let next = next.map(oid_argument).transpose()?;
        let reader = next.and_then(|next| self.readers.take(next));
        let (object, reader) = self.wait(py, |client| {
            let (object, mut objects) = match reader {
                Some(reader) => (Some(reader.ahead), reader.objects),
                None => {
                    let start = next.unwrap_or(Oid::ZERO);
                    let mut objects = client.current_objects(Tid::MAX, start)?;
                    (objects.next().transpose()?, objects)
                }
            };
            let ahead = objects.next().transpose()?;
            Ok((object, ahead.map(|ahead| Reader { objects, ahead })))
        })?;
        let object = object.ok_or_else(|| PyValueError::new_err("there is no object any more"))?;
        let next = reader
            .as_ref()
            .map(|reader| oid_bytes(py, reader.ahead.oid));
        if let Some(reader) = reader {
            self.readers.put(reader);
        }
        let data = object.data.unwrap_or_default();
        Ok((
            oid_bytes(py, object.oid),
            tid_bytes(py, object.serial),
            PyBytes::new(py, &data),
            next,
        ))
    }
}
