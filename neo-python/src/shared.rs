//! What the client's driver calls in Python: invalidations, and the merge of conflicts.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use bytes::Bytes;
use neo_api::{ConflictResolver, ConflictingChange};
use neo_client::{Invalidation, InvalidationListener};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::convert::{oid_bytes, tid_bytes};
use crate::pack::SIGNALS;

thread_local! {
    /// What the last merge on this thread, which waits for the vote, raised.
    static CONFLICT: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// What the last merge on this thread raised.
pub(crate) fn take_conflict() -> Option<PyErr> {
    CONFLICT.take()
}

/// What the storage shares with its client.
#[derive(Default)]
pub(crate) struct Shared {
    /// What `registerDB` was given.
    database: Mutex<Option<Py<PyAny>>>,
    /// A weak reference to the storage: its `tryToResolveConflict` merges.
    storage: Mutex<Option<Py<PyAny>>>,
    telling: Telling,
}

/// While ZODB is told of a transaction, nobody learns the last tid. A connection that is opened after
/// the others were told, and gets the tid before, would never hear of the transaction.
#[derive(Default)]
struct Telling {
    /// The thread that tells: it may ask, and gets the tid before.
    by: Mutex<Option<ThreadId>>,
    ended: Condvar,
}

impl Telling {
    fn begin(&self) {
        *lock(&self.by) = Some(thread::current().id());
    }

    fn end(&self) {
        *lock(&self.by) = None;
        self.ended.notify_all();
    }

    fn is_by_another(by: Option<ThreadId>) -> bool {
        by.is_some_and(|by| by != thread::current().id())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Sets whom invalidations are told to; gives who was told before, to be dropped with no lock
    /// held.
    pub(crate) fn set_database(&self, database: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        std::mem::replace(&mut *lock(&self.database), database)
    }

    /// For the collector of cycles: the database holds the storage. What is locked is in use.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.database.try_lock() {
            Ok(database) => visit.call(&*database),
            Err(_) => Ok(()),
        }
    }

    /// ZODB is about to be told of a transaction.
    pub(crate) fn begin_telling(&self) {
        self.telling.begin();
    }

    /// Waits until ZODB has been told of what is committed, and the last tid shows it.
    pub(crate) fn wait_until_told(&self, py: Python<'_>) -> PyResult<()> {
        let telling = &self.telling;
        while Telling::is_by_another(*lock(&telling.by)) {
            py.detach(|| {
                let by = lock(&telling.by);
                let is_told = telling
                    .ended
                    .wait_timeout_while(by, SIGNALS, |by| Telling::is_by_another(*by));
                drop(is_told);
            });
            // Whoever waits for ever can be interrupted.
            py.check_signals()?;
        }
        Ok(())
    }

    pub(crate) fn set_storage(&self, weak: Py<PyAny>) {
        *lock(&self.storage) = Some(weak);
    }

    fn database<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        lock(&self.database).as_ref().map(|it| it.bind(py).clone())
    }

    fn storage<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let weak = lock(&self.storage).as_ref().map(|it| it.clone_ref(py))?;
        weak.bind(py).call0().ok().filter(|it| !it.is_none())
    }
}

/// Calls what ZODB must hear of, whatever the user does: the thread that waits runs it, and that may be
/// the one which Ctrl-C interrupts. Then it is called again, and the interrupt comes afterwards. ZODB
/// can be told twice.
pub(crate) fn uninterrupted(
    py: Python<'_>,
    call: impl Fn() -> PyResult<Py<PyAny>>,
) -> PyResult<Py<PyAny>> {
    let result = call();
    let is_interrupt = |error: &PyErr| error.is_instance_of::<PyKeyboardInterrupt>(py);
    if !result.as_ref().is_err_and(is_interrupt) {
        return result;
    }
    let result = call();
    py.import("_thread")?.call_method0("interrupt_main")?;
    result
}

/// Tells ZODB what others changed, in order, before `lastTransaction` shows it.
#[derive(Debug)]
pub(crate) struct Listener(pub(crate) Arc<Shared>);

impl InvalidationListener for Listener {
    fn invalidated(&self, invalidation: &Invalidation) {
        self.0.begin_telling();
        // An interpreter that ends has no caches.
        Python::try_attach(|py| {
            let Some(database) = self.0.database(py) else {
                return;
            };
            let told = uninterrupted(py, || match invalidation {
                // The callback of `tpc_finish` has told it.
                Invalidation::Objects { own: true, .. } => Ok(py.None()),
                Invalidation::Objects { tid, oids, .. } => {
                    let oids = PyList::new(py, oids.iter().map(|oid| oid_bytes(py, *oid)))?;
                    let told = database.call_method1("invalidate", (tid_bytes(py, *tid), oids));
                    Ok(told?.unbind())
                }
                _ => Ok(database.call_method0("invalidateCache")?.unbind()),
            });
            if let Err(error) = told {
                error.write_unraisable(py, Some(&database));
            }
        });
    }

    fn shown(&self) {
        self.0.telling.end();
    }
}

/// Merges with the application's classes: `_p_resolveConflict`.
#[derive(Debug)]
pub(crate) struct Resolver(pub(crate) Arc<Shared>);

impl ConflictResolver for Resolver {
    fn resolve(&self, change: &ConflictingChange) -> Option<Bytes> {
        let committed = change.committed.as_ref()?;
        Python::try_attach(|py| {
            let storage = self.0.storage(py)?;
            let merged = storage.call_method1(
                "tryToResolveConflict",
                (
                    oid_bytes(py, change.oid),
                    tid_bytes(py, change.committed_serial),
                    tid_bytes(py, change.base_serial),
                    PyBytes::new(py, &change.new),
                    PyBytes::new(py, committed),
                ),
            );
            let merged = match merged {
                Ok(merged) => merged,
                Err(conflict) => {
                    CONFLICT.set(Some(conflict));
                    return None;
                }
            };
            let bytes = merged.cast::<PyBytes>().ok()?;
            Some(Bytes::copy_from_slice(bytes.as_bytes()))
        })?
    }
}
