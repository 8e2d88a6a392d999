//! The storage: connection, reads, oids.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use neo_api::{Oid, Tid};
use neo_client::blocking::Client;
use neo_client::{CompressionSetting, Error, Lookup};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

use crate::convert::{oid, oid_bytes, tid, tid_bytes};
use crate::error::{FORKED, no_such_object, of_kind, raise};
use crate::history::Readers;
use crate::iterator::TransactionIterator;
use crate::shared::{Listener, Resolver, Shared};
use crate::transaction::Pending;

/// What `loadBefore` gives: data, serial, and the serial of the next revision.
type Before<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
);

enum State {
    New,
    Open(Client),
    Closed,
}

/// What `neozodb.Storage` is built on: the methods of ZODB's `IStorage` that wait for nodes.
#[pyclass(subclass, frozen, weakref, module = "neozodb._neozodb")]
pub(crate) struct BaseStorage {
    state: Mutex<State>,
    pub(crate) shared: Arc<Shared>,
    /// Transactions that have begun, by the address of ZODB's transaction, which is kept alive.
    pub(crate) pending: Mutex<HashMap<usize, Pending>>,
    pub(crate) readers: Readers,
    /// In a child process, where a thread of the parent may hold any of the locks for ever.
    is_forked: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BaseStorage {
    /// The client, while the storage is open.
    pub(crate) fn client(&self, py: Python<'_>) -> PyResult<Client> {
        if self.is_forked() {
            return Err(of_kind(py, "closed", FORKED));
        }
        match &*lock(&self.state) {
            State::Open(client) => Ok(client.clone()),
            State::New => Err(of_kind(py, "closed", "the storage was not opened")),
            State::Closed => Err(of_kind(py, "closed", "the storage is closed")),
        }
    }

    /// Whether it is the parent's.
    pub(crate) fn is_forked(&self) -> bool {
        self.is_forked.load(Ordering::Relaxed)
    }

    /// Waits without the interpreter.
    pub(crate) fn wait<T: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&Client) -> neo_client::Result<T> + Send,
    ) -> PyResult<T> {
        let client = self.client(py)?;
        py.detach(|| f(&client)).map_err(|error| raise(py, &error))
    }

    /// A look at the past; where a pack may have removed what was there, there is nothing.
    pub(crate) fn look_up(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&Client) -> neo_client::Result<Lookup> + Send,
    ) -> PyResult<Lookup> {
        self.wait(py, |client| match f(client) {
            Err(Error::PackedAway { .. }) => Ok(Lookup::NotYet),
            result => result,
        })
    }
}

fn found<'py>(py: Python<'py>, oid: Oid, lookup: Lookup) -> PyResult<Option<Before<'py>>> {
    match lookup {
        Lookup::Found {
            data,
            serial,
            next_serial,
        } => Ok(Some((
            PyBytes::new(py, &data),
            tid_bytes(py, serial),
            next_serial.map(|next| tid_bytes(py, next)),
        ))),
        Lookup::NotYet => Ok(None),
        Lookup::Deleted { .. } | Lookup::Unknown => Err(no_such_object(py, oid)),
    }
}

#[pymethods]
impl BaseStorage {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(
        _class: &Bound<'_, PyType>,
        _arguments: &Bound<'_, PyAny>,
        _keywords: Option<&Bound<'_, PyAny>>,
    ) -> Self {
        Self {
            state: Mutex::new(State::New),
            shared: Arc::default(),
            pending: Mutex::default(),
            readers: Readers::default(),
            is_forked: AtomicBool::new(false),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.shared.traverse(&visit)
    }

    fn __clear__(&self) {
        if self.is_forked() {
            return;
        }
        drop(self.shared.set_database(None));
    }

    /// Connects, and waits until the cluster serves, at most `timeout` seconds.
    ///
    /// `compression` is None for none, 0 for LZ4, or the level of zlib, 1 to 9.
    #[pyo3(signature = (
        masters, cluster, *, cache_size, read_only, compression, timeout, dynamic_master_list,
        ignore_wrong_checksum, weak
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are named in Python")]
    fn _open(
        &self,
        py: Python<'_>,
        masters: Vec<String>,
        cluster: String,
        cache_size: usize,
        read_only: bool,
        compression: Option<u32>,
        timeout: f64,
        dynamic_master_list: Option<PathBuf>,
        ignore_wrong_checksum: bool,
        weak: Py<PyAny>,
    ) -> PyResult<()> {
        let compression = match compression {
            None => CompressionSetting::Off,
            Some(0) => CompressionSetting::Lz4,
            Some(level @ 1..=9) => CompressionSetting::Zlib { level },
            Some(level) => {
                let words = format!("levels of zlib are 1 to 9, not {level}");
                return Err(PyValueError::new_err(words));
            }
        };
        let timeout = Duration::try_from_secs_f64(timeout)
            .map_err(|error| PyValueError::new_err(format!("wait is {timeout}: {error}")))?;
        self.shared.set_storage(weak);
        let mut builder = Client::builder(cluster)
            .masters(masters)
            .ignore_wrong_checksum(ignore_wrong_checksum)
            .cache_bytes(cache_size)
            .read_only(read_only)
            .compression(compression)
            .connect_timeout(timeout)
            .resolver(Arc::new(Resolver(Arc::clone(&self.shared))))
            .invalidation_listener(Arc::new(Listener(Arc::clone(&self.shared))));
        if let Some(path) = dynamic_master_list {
            builder = builder.dynamic_master_list(path);
        }
        let client = py
            .detach(|| builder.connect_blocking())
            .map_err(|error| match error {
                // There is no transaction yet: an argument is wrong.
                Error::Misuse(words) => PyValueError::new_err(words),
                error => raise(py, &error),
            })?;
        *lock(&self.state) = State::Open(client);
        Ok(())
    }

    /// Tells whom invalidations go to: ZODB's wrapper of the storage, or None.
    fn _register(&self, database: Option<Py<PyAny>>) {
        let before = self.shared.set_database(database);
        drop(before);
    }

    /// In a child process after a fork: the connections and the driver's thread are the parent's.
    fn _forked(&self) {
        self.is_forked.store(true, Ordering::Relaxed);
        if let Ok(mut state) = self.state.try_lock()
            && let State::Open(client) = std::mem::replace(&mut *state, State::Closed)
        {
            // Dropping it would talk to a driver that does not run here.
            std::mem::forget(client);
        }
        if let Ok(mut pending) = self.pending.try_lock() {
            std::mem::forget(std::mem::take(&mut *pending));
        }
    }

    /// Ends the connections. May be called twice.
    fn close(&self, py: Python<'_>) {
        if self.is_forked() {
            return;
        }
        let state = std::mem::replace(&mut *lock(&self.state), State::Closed);
        let pending = std::mem::take(&mut *lock(&self.pending));
        self.readers.clear();
        py.detach(|| {
            drop(pending);
            if let State::Open(client) = state {
                client.close();
            }
        });
        drop(self.shared.set_database(None));
    }

    /// Makes sure that `lastTransaction` is at least what was committed before the call.
    fn _sync(&self, py: Python<'_>) -> PyResult<()> {
        self.wait(py, Client::sync).map(drop)
    }

    /// The tid of the last transaction whose invalidations were delivered.
    #[pyo3(name = "lastTransaction")]
    fn last_transaction<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let client = self.client(py)?;
        self.shared.wait_until_told(py)?;
        Ok(tid_bytes(py, client.last_tid()))
    }

    /// An oid that nobody was given before.
    fn new_oid<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.wait(py, Client::new_oid).map(|oid| oid_bytes(py, oid))
    }

    /// The newest revision: data and serial.
    #[pyo3(signature = (oid, version = ""))]
    fn load<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = oid_argument)] oid: Oid,
        version: &str,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        // Scripts still give it; it says nothing.
        let _ = version;
        match self.wait(py, |client| client.load(oid))? {
            Some(object) => Ok((PyBytes::new(py, &object.data), tid_bytes(py, object.serial))),
            None => Err(no_such_object(py, oid)),
        }
    }

    /// The newest revision with a serial below `tid`: data, serial, and the serial of the next
    /// one; None when there is none that early.
    #[pyo3(name = "loadBefore")]
    fn load_before<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = oid_argument)] oid: Oid,
        #[pyo3(from_py_with = tid_argument)] tid: Tid,
    ) -> PyResult<Option<Before<'py>>> {
        let lookup = self.look_up(py, |client| client.load_before(oid, tid))?;
        found(py, oid, lookup)
    }

    /// The data of exactly this revision.
    #[pyo3(name = "loadSerial")]
    fn load_serial<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = oid_argument)] oid: Oid,
        #[pyo3(from_py_with = tid_argument)] serial: Tid,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let lookup = self.look_up(py, |client| client.load_serial(oid, serial))?;
        match found(py, oid, lookup)? {
            Some((data, ..)) => Ok(data),
            None => Err(no_such_object(py, oid)),
        }
    }

    /// Transactions with `start <= tid <= stop`, ascending.
    fn _iterate(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = tid_argument)] start: Tid,
        #[pyo3(from_py_with = tid_argument)] stop: Tid,
    ) -> PyResult<TransactionIterator> {
        let transactions = self.wait(py, |client| client.iterate(start..=stop))?;
        Ok(TransactionIterator::new(transactions))
    }
}

/// An argument that is an oid.
pub(crate) fn oid_argument(argument: &Bound<'_, PyAny>) -> PyResult<Oid> {
    oid(argument.cast::<PyBytes>()?.as_bytes())
}

/// An argument that is the serial that a change starts from: None, and 0, for a new object.
pub(crate) fn serial_argument(argument: &Bound<'_, PyAny>) -> PyResult<Tid> {
    if argument.is_none() {
        return Ok(Tid::ZERO);
    }
    tid_argument(argument)
}

/// An argument that is a tid.
pub(crate) fn tid_argument(argument: &Bound<'_, PyAny>) -> PyResult<Tid> {
    tid(argument.cast::<PyBytes>()?.as_bytes())
}

/// ZODB has had no versions for long: the argument stays empty.
pub(crate) fn no_version(version: &Bound<'_, PyAny>) -> PyResult<()> {
    if !version.is_truthy()? {
        return Ok(());
    }
    Err(PyValueError::new_err("versions are not supported by ZODB"))
}
