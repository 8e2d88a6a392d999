//! ZODB's two-phase commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use neo_api::{Oid, Tid, TransactionMeta};
use neo_client::blocking::Transaction;
use neo_client::{Error, Lookup};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::convert::{oid_bytes, tid, tid_bytes};
use crate::error::{of_kind, raise, raise_with};
use crate::shared::{take_conflict, uninterrupted};
use crate::storage::{BaseStorage, no_version, oid_argument, serial_argument};

/// A transaction that has begun.
pub(crate) struct Pending {
    /// ZODB's transaction: kept, so that its address is not another's.
    owner: Py<PyAny>,
    transaction: Arc<Transaction>,
    voted: bool,
    /// What its changes and checks start from, for the words of a conflict.
    serials: HashMap<Oid, Tid>,
}

/// The object that two transactions met at.
const fn conflicting(error: &Error) -> Option<Oid> {
    match error {
        Error::Conflict { oid, .. } | Error::ReadConflict { oid, .. } => Some(*oid),
        _ => None,
    }
}

impl BaseStorage {
    fn relies(&self, owner: &Bound<'_, PyAny>, oid: Oid, serial: Tid) {
        self.map(|pending| {
            if let Some(it) = pending.get_mut(&(owner.as_ptr() as usize)) {
                it.serials.insert(oid, serial);
            }
        });
    }

    fn map<T>(&self, f: impl FnOnce(&mut HashMap<usize, Pending>) -> T) -> T {
        f(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The transaction of this storage that ZODB's transaction stands for.
    pub(crate) fn of(&self, owner: &Bound<'_, PyAny>) -> PyResult<Arc<Transaction>> {
        let py = owner.py();
        if self.client(py)?.is_read_only() {
            return Err(of_kind(py, "read-only", "the storage is read-only"));
        }
        self.map(|pending| {
            pending
                .get(&(owner.as_ptr() as usize))
                .map(|it| Arc::clone(&it.transaction))
        })
        .ok_or_else(|| foreign(py))
    }

    fn take(&self, owner: &Bound<'_, PyAny>) -> Option<Pending> {
        self.map(|pending| pending.remove(&(owner.as_ptr() as usize)))
    }
}

fn foreign(py: Python<'_>) -> PyErr {
    of_kind(
        py,
        "transaction",
        "the storage is not in this transaction: tpc_begin comes first",
    )
}

fn restore(
    transaction: &Transaction,
    oid: Oid,
    data: Option<Bytes>,
    repeated: Option<Tid>,
) -> neo_client::Result<()> {
    let client = transaction.client();
    let base = match client.load_before(oid, Tid::MAX)? {
        Lookup::Found { serial, .. } | Lookup::Deleted { serial, .. } => serial,
        Lookup::NotYet | Lookup::Unknown => Tid::ZERO,
    };
    let Some(data) = data else {
        return transaction.delete(oid, base);
    };
    // The hint is not always true: ZODB's own storages look, too.
    if let Some(repeated) = repeated {
        match client.load_serial(oid, repeated) {
            Ok(Lookup::Found { data: there, .. }) if there == data => {
                return transaction.store_same_as(oid, base, repeated);
            }
            Ok(_) | Err(Error::PackedAway { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    transaction.store(oid, base, data)
}

#[pymethods]
impl BaseStorage {
    /// Begins; `tid` imposes the tid. `packed`, then: its status is `p`.
    fn _begin(
        &self,
        owner: &Bound<'_, PyAny>,
        user: &[u8],
        description: &[u8],
        extension: &[u8],
        tid: Option<&[u8]>,
        packed: bool,
    ) -> PyResult<()> {
        let py = owner.py();
        let address = owner.as_ptr() as usize;
        if self.map(|pending| pending.contains_key(&address)) {
            let words = "the storage is in this transaction already";
            return Err(of_kind(py, "transaction", words));
        }
        let meta = TransactionMeta {
            user: Bytes::copy_from_slice(user),
            description: Bytes::copy_from_slice(description),
            extension: Bytes::copy_from_slice(extension),
        };
        let tid = tid.map(self::tid).transpose()?;
        let transaction = self.wait(py, |client| match tid {
            Some(tid) => client.begin_at(meta, tid, packed),
            None => client.begin(meta),
        })?;
        let begun = Pending {
            owner: owner.clone().unbind(),
            transaction: Arc::new(transaction),
            voted: false,
            serials: HashMap::new(),
        };
        let before = self.map(|pending| pending.insert(address, begun));
        drop(before);
        Ok(())
    }

    /// Stores an object that was read with this serial.
    #[pyo3(signature = (oid, serial, data, version, transaction))]
    fn store(
        &self,
        oid: &Bound<'_, PyAny>,
        serial: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        version: &Bound<'_, PyAny>,
        transaction: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = transaction.py();
        let pending = self.of(transaction)?;
        no_version(version)?;
        let (oid, serial) = (oid_argument(oid)?, serial_argument(serial)?);
        let data = Bytes::copy_from_slice(data.cast::<PyBytes>()?.as_bytes());
        self.relies(transaction, oid, serial);
        py.detach(|| pending.store(oid, serial, data))
            .map_err(|error| raise(py, &error))
    }

    /// Stores a revision as it is, without looking for conflicts; `data` is None for a deletion,
    /// `prev_txn` the revision that it may repeat.
    #[pyo3(signature = (oid, serial, data, version, prev_txn, transaction))]
    fn restore(
        &self,
        oid: &Bound<'_, PyAny>,
        serial: &Bound<'_, PyAny>,
        data: Option<&[u8]>,
        version: &Bound<'_, PyAny>,
        prev_txn: Option<&[u8]>,
        transaction: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = transaction.py();
        let pending = self.of(transaction)?;
        no_version(version)?;
        let oid = oid_argument(oid)?;
        // What ZODB gives is the tid of the transaction, which was imposed when it began.
        serial_argument(serial)?;
        let repeated = prev_txn.map(tid).transpose()?;
        let data = data.map(Bytes::copy_from_slice);
        py.detach(|| restore(&pending, oid, data, repeated))
            .map_err(|error| raise(py, &error))
    }

    /// Deletes an object whose newest revision is this one.
    #[pyo3(name = "deleteObject")]
    fn delete_object(
        &self,
        oid: &Bound<'_, PyAny>,
        oldserial: &Bound<'_, PyAny>,
        transaction: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = transaction.py();
        let pending = self.of(transaction)?;
        let (oid, serial) = (oid_argument(oid)?, serial_argument(oldserial)?);
        self.relies(transaction, oid, serial);
        py.detach(|| pending.delete(oid, serial))
            .map_err(|error| raise(py, &error))
    }

    /// Makes sure that this is the newest revision until the transaction ends.
    #[pyo3(name = "checkCurrentSerialInTransaction")]
    fn check_current_serial(
        &self,
        oid: &Bound<'_, PyAny>,
        serial: &Bound<'_, PyAny>,
        transaction: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = transaction.py();
        let pending = self.of(transaction)?;
        let (oid, serial) = (oid_argument(oid)?, serial_argument(serial)?);
        self.relies(transaction, oid, serial);
        py.detach(|| pending.check_current(oid, serial))
            .map_err(|error| raise(py, &error))
    }

    /// Votes; gives the objects whose conflicts were merged.
    fn tpc_vote<'py>(&self, transaction: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let py = transaction.py();
        let pending = self.of(transaction)?;
        // Of an earlier vote on this thread.
        drop(take_conflict());
        let address = transaction.as_ptr() as usize;
        let resolved = py.detach(|| pending.vote()).map_err(|error| {
            let relied = self.map(|pending| {
                let serials = &pending.get(&address)?.serials;
                conflicting(&error).and_then(|oid| serials.get(&oid).copied())
            });
            match take_conflict() {
                // It knows what was in conflict.
                Some(conflict) if error.is_conflict() => conflict,
                _ => raise_with(py, &error, relied),
            }
        })?;
        self.map(|pending| {
            if let Some(it) = pending.get_mut(&address) {
                it.voted = true;
            }
        });
        PyList::new(py, resolved.into_iter().map(|oid| oid_bytes(py, oid)))
    }

    /// Commits. `func` is called with the tid before `lastTransaction` shows it.
    #[pyo3(signature = (transaction, func = None))]
    fn tpc_finish<'py>(
        &self,
        transaction: &Bound<'py, PyAny>,
        func: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = transaction.py();
        // After a close, or a fork, that is what there is to say.
        self.client(py)?;
        let pending = self.take(transaction).ok_or_else(|| foreign(py))?;
        let raised = Arc::new(Mutex::new(None));
        let callback = {
            let raised = Arc::clone(&raised);
            let shared = Arc::clone(&self.shared);
            move |tid: Tid| {
                // The driver ends it, once the tid is shown.
                shared.begin_telling();
                let Some(func) = func else { return };
                // An interpreter that ends has nobody to tell.
                Python::try_attach(|py| {
                    let result = uninterrupted(py, || func.call1(py, (tid_bytes(py, tid),)));
                    // Here, where the interpreter is at hand.
                    drop(func);
                    if let Err(error) = result {
                        *raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                });
            }
        };
        let Pending {
            owner,
            transaction,
            voted,
            serials: _,
        } = pending;
        drop(owner);
        let tid = py
            .detach(|| {
                if !voted {
                    transaction.vote()?;
                }
                let transaction = Arc::into_inner(transaction)
                    .ok_or_else(|| Error::Misuse("another thread stores into it".into()))?;
                transaction.finish_with(callback)
            })
            .map_err(|error| raise(py, &error))?;
        let error = raised.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It is committed; but who gave the callback wants to know.
        error.map_or_else(|| Ok(tid_bytes(py, tid)), Err)
    }

    /// Forgets the transaction; nothing for one that is not this storage's.
    fn tpc_abort(&self, transaction: &Bound<'_, PyAny>) {
        if self.is_forked() {
            return;
        }
        let pending = self.take(transaction);
        transaction.py().detach(|| {
            if let Some(pending) = pending.map(|it| it.transaction)
                && let Some(transaction) = Arc::into_inner(pending)
            {
                transaction.abort();
            }
        });
    }
}
