//! The same API for callers that block: threads without a runtime.
//!
//! A thread that waits for an answer runs the client's driver itself, and with it what the client
//! calls, as the listener to invalidations; while none waits, a thread of the client's own does. Not
//! for use inside an async task: it would block the task's thread.
//!
//! ```
//! # let runtime = tokio::runtime::Runtime::new()?;
//! # let cluster = runtime.block_on(neo_testkit::Cluster::builder().tcp().start())?;
//! # let master = cluster.masters()[0].to_string();
//! use neo_client::Tid;
//! use neo_client::blocking::Client;
//!
//! let client = Client::connect("test", [master])?;
//! let oid = client.new_oid()?;
//! client.transact(|txn| txn.store(oid, "hello"))?;
//! // Streams are iterators.
//! let mut transactions = client.iterate(Tid::ZERO..=Tid::MAX)?;
//! while let Some(transaction) = transactions.next().transpose()? {
//!     println!("{} by {:?}", transaction.tid, transaction.meta.user);
//!     for object in transactions.objects() {
//!         assert_eq!(object?.data.as_deref(), Some(&b"hello"[..]));
//!     }
//! }
//! client.close();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod history;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use neo_api::{At, NodeId, Oid, Partitioning, Tid, TransactionMeta, TransactionRecord, TxnId};
use tokio::runtime::Handle;

use crate::config::ClientBuilder;
use crate::error::Result;
use crate::invalidation::{Invalidation, Invalidations as AsyncInvalidations};
use crate::iterator::TransactionObject;
use crate::object::{Lookup, Object};

pub use history::{CurrentObjects, History, Pack, TransactionObjects, Transactions};

/// Wakes a thread up.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future of this crate: they need no runtime, only the client's driver.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

impl crate::Client {
    /// Waits for a future of this client. The thread runs the client's driver meanwhile, unless
    /// another one does, or it is inside a runtime already.
    fn wait<F: Future>(&self, future: F) -> F::Output {
        let engine = self.inner.commands.engine.as_ref();
        match engine.and_then(Weak::upgrade) {
            Some(engine) if Handle::try_current().is_err() => engine.wait(future),
            _ => block_on(future),
        }
    }

    /// Waits for the next one of a stream of this client.
    fn next_of<S: Stream + Unpin>(&self, stream: &mut S) -> Option<S::Item> {
        self.wait(poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)))
    }
}

impl ClientBuilder {
    /// Connects with a driver on a thread of its own, and waits until the cluster serves.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_blocking(self) -> Result<Client> {
        let timeout = self.connect_timeout;
        let client = self.own_thread().direct().start()?;
        client.wait(client.wait_ready(timeout))?;
        Ok(Client(client))
    }
}

/// As [`crate::Client::load`], as of a tid.
fn load_at(client: &crate::Client, oid: Oid, tid: Tid) -> Result<Option<Object>> {
    let before = Tid(tid.0.saturating_add(1));
    match client.cached_object(oid, before)? {
        Some(object) => Ok(object),
        None => fetch(client, oid, At::Before(before)).map(Lookup::object),
    }
}

/// As [`crate::Client::load_before`] and [`crate::Client::load_serial`].
fn look_up(client: &crate::Client, oid: Oid, at: At) -> Result<Lookup> {
    match client.cached_look_up(oid, at)? {
        Some(lookup) => Ok(lookup),
        None => fetch(client, oid, at),
    }
}

/// From a storage node, by this thread if it can.
fn fetch(client: &crate::Client, oid: Oid, at: At) -> Result<Lookup> {
    client
        .load_direct(oid, at)
        .unwrap_or_else(|| client.wait(client.fetch(oid, at)))
}

/// [`crate::Client`], blocking.
#[derive(Debug, Clone)]
pub struct Client(crate::Client);

impl Client {
    /// Connects with the default settings, and waits until the cluster serves.
    ///
    /// # Errors
    /// As [`crate::Client::connect`].
    pub fn connect<A: Into<String>>(
        cluster: impl Into<String>,
        masters: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        crate::Client::builder(cluster)
            .masters(masters)
            .connect_blocking()
    }

    /// See [`crate::Client::builder`]; [`ClientBuilder::connect_blocking`] ends it.
    pub fn builder(cluster: impl Into<String>) -> ClientBuilder {
        crate::Client::builder(cluster)
    }

    /// See [`crate::Client::cluster`].
    #[must_use]
    pub fn cluster(&self) -> &str {
        self.0.cluster()
    }

    /// See [`crate::Client::is_read_only`].
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.0.is_read_only()
    }

    /// See [`crate::Client::nid`].
    #[must_use]
    pub fn nid(&self) -> Option<NodeId> {
        self.0.nid()
    }

    /// See [`crate::Client::partitioning`].
    #[must_use]
    pub fn partitioning(&self) -> Option<Partitioning> {
        self.0.partitioning()
    }

    /// See [`crate::Client::cached_bytes`].
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.0.cached_bytes()
    }

    /// The client itself, for futures that others wait for.
    #[must_use]
    pub const fn as_async(&self) -> &crate::Client {
        &self.0
    }

    /// See [`crate::Client::wait_ready`].
    ///
    /// # Errors
    /// As there.
    pub fn wait_ready(&self, timeout: Duration) -> Result<()> {
        self.0.wait(self.0.wait_ready(timeout))
    }

    /// See [`crate::Client::last_tid`].
    #[must_use]
    pub fn last_tid(&self) -> Tid {
        self.0.last_tid()
    }

    /// See [`crate::Client::sync`].
    ///
    /// # Errors
    /// As there.
    pub fn sync(&self) -> Result<Tid> {
        self.0.wait(self.0.sync())
    }

    /// See [`crate::Client::new_oid`].
    ///
    /// # Errors
    /// As there.
    pub fn new_oid(&self) -> Result<Oid> {
        self.0.wait(self.0.new_oid())
    }

    /// See [`crate::Client::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(&self, oid: Oid) -> Result<Option<Object>> {
        load_at(&self.0, oid, self.0.last_tid())
    }

    /// See [`crate::Client::load_before`].
    ///
    /// # Errors
    /// As there.
    pub fn load_before(&self, oid: Oid, tid: Tid) -> Result<Lookup> {
        look_up(&self.0, oid, At::Before(tid))
    }

    /// See [`crate::Client::load_serial`].
    ///
    /// # Errors
    /// As there.
    pub fn load_serial(&self, oid: Oid, serial: Tid) -> Result<Lookup> {
        look_up(&self.0, oid, At::Exact(serial))
    }

    /// See [`crate::Client::snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.0.snapshot())
    }

    /// See [`crate::Client::snapshot_at`].
    ///
    /// # Errors
    /// As there.
    pub fn snapshot_at(&self, tid: Tid) -> Result<Snapshot> {
        self.0.wait(self.0.snapshot_at(tid)).map(Snapshot)
    }

    /// See [`crate::Client::begin`].
    ///
    /// # Errors
    /// As there.
    pub fn begin(&self, meta: TransactionMeta) -> Result<Transaction> {
        self.0.wait(self.0.begin(meta)).map(Transaction)
    }

    /// See [`crate::Client::begin_at`].
    ///
    /// # Errors
    /// As there.
    pub fn begin_at(&self, meta: TransactionMeta, tid: Tid, packed: bool) -> Result<Transaction> {
        self.0
            .wait(self.0.begin_at(meta, tid, packed))
            .map(Transaction)
    }

    /// See [`crate::Client::transact`].
    ///
    /// # Errors
    /// As there.
    pub fn transact<T>(&self, f: impl FnMut(&Attempt) -> Result<T>) -> Result<T> {
        self.transact_as(TransactionMeta::default(), f)
    }

    /// See [`crate::Client::transact_as`].
    ///
    /// # Errors
    /// As there.
    pub fn transact_as<T>(
        &self,
        meta: TransactionMeta,
        mut f: impl FnMut(&Attempt) -> Result<T>,
    ) -> Result<T> {
        // The closure blocks inside the future, which is polled on this thread alone.
        self.0.wait(self.0.transact_as(meta, |attempt| {
            let result = f(&Attempt(attempt));
            std::future::ready(result)
        }))
    }

    /// See [`crate::Client::transaction`].
    ///
    /// # Errors
    /// As there.
    pub fn transaction(&self, tid: Tid) -> Result<Option<TransactionRecord>> {
        self.0.wait(self.0.transaction(tid))
    }

    /// See [`crate::Client::transactions_of`].
    ///
    /// # Errors
    /// As there.
    pub fn transactions_of(&self, tids: &[Tid]) -> Result<Vec<Option<TransactionRecord>>> {
        self.0.wait(self.0.transactions_of(tids))
    }

    /// See [`crate::Client::import`].
    ///
    /// # Errors
    /// As there.
    pub fn import(&self) -> Result<Import> {
        self.0.wait(self.0.import()).map(Import)
    }

    /// See [`crate::Client::invalidations`].
    #[must_use]
    pub fn invalidations(&self) -> Invalidations {
        Invalidations(self.0.invalidations())
    }

    /// See [`crate::Client::close`].
    pub fn close(&self) {
        self.0.wait(self.0.close());
    }
}

/// [`crate::Snapshot`], blocking.
#[derive(Debug, Clone)]
pub struct Snapshot(crate::Snapshot);

impl Snapshot {
    /// See [`crate::Snapshot::tid`].
    #[must_use]
    pub const fn tid(&self) -> Tid {
        self.0.tid()
    }

    /// See [`crate::Snapshot::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(&self, oid: Oid) -> Result<Option<Object>> {
        load_at(self.0.client(), oid, self.0.tid())
    }

    /// See [`crate::Snapshot::look_up`].
    ///
    /// # Errors
    /// As there.
    pub fn look_up(&self, oid: Oid) -> Result<Lookup> {
        let before = Tid(self.0.tid().0.saturating_add(1));
        look_up(self.0.client(), oid, At::Before(before))
    }
}

/// [`crate::Transaction`], blocking.
#[derive(Debug)]
pub struct Transaction(crate::Transaction);

impl Transaction {
    /// See [`crate::Transaction::name`].
    #[must_use]
    pub const fn name(&self) -> TxnId {
        self.0.name()
    }

    /// See [`crate::Transaction::client`].
    #[must_use]
    pub fn client(&self) -> Client {
        Client(self.0.client().clone())
    }

    /// See [`crate::Transaction::store`].
    ///
    /// # Errors
    /// As there.
    pub fn store(&self, oid: Oid, base_serial: Tid, data: impl Into<Bytes>) -> Result<()> {
        self.0.client().wait(self.0.store(oid, base_serial, data))
    }

    /// See [`crate::Transaction::store_same_as`].
    ///
    /// # Errors
    /// As there.
    pub fn store_same_as(&self, oid: Oid, base_serial: Tid, serial: Tid) -> Result<()> {
        self.0
            .client()
            .wait(self.0.store_same_as(oid, base_serial, serial))
    }

    /// See [`crate::Transaction::undo`].
    ///
    /// # Errors
    /// As there.
    pub fn undo(&self, tid: Tid) -> Result<Vec<Oid>> {
        self.0.client().wait(self.0.undo(tid))
    }

    /// See [`crate::Transaction::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, oid: Oid, serial: Tid) -> Result<()> {
        self.0.client().wait(self.0.delete(oid, serial))
    }

    /// See [`crate::Transaction::check_current`].
    ///
    /// # Errors
    /// As there.
    pub fn check_current(&self, oid: Oid, serial: Tid) -> Result<()> {
        self.0.client().wait(self.0.check_current(oid, serial))
    }

    /// See [`crate::Transaction::vote`].
    ///
    /// # Errors
    /// As there.
    pub fn vote(&self) -> Result<Vec<Oid>> {
        self.0.client().wait(self.0.vote())
    }

    /// See [`crate::Transaction::finish`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(self) -> Result<Tid> {
        let client = self.0.client().clone();
        client.wait(self.0.finish())
    }

    /// See [`crate::Transaction::finish_with`].
    ///
    /// # Errors
    /// As there.
    pub fn finish_with(self, f: impl FnOnce(Tid) + Send + 'static) -> Result<Tid> {
        let client = self.0.client().clone();
        client.wait(self.0.finish_with(f))
    }

    /// See [`crate::Transaction::commit`].
    ///
    /// # Errors
    /// As there.
    pub fn commit(self) -> Result<Tid> {
        let client = self.0.client().clone();
        client.wait(self.0.commit())
    }

    /// See [`crate::Transaction::abort`].
    pub fn abort(self) {
        self.0.abort();
    }
}

/// [`crate::Attempt`], blocking.
#[derive(Debug, Clone)]
pub struct Attempt(crate::Attempt);

impl Attempt {
    /// See [`crate::Attempt::tid`].
    #[must_use]
    pub fn tid(&self) -> Tid {
        self.0.tid()
    }

    /// See [`crate::Attempt::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(&self, oid: Oid) -> Result<Option<Object>> {
        self.0.client().wait(self.0.load(oid))
    }

    /// See [`crate::Attempt::store`].
    ///
    /// # Errors
    /// As there.
    pub fn store(&self, oid: Oid, data: impl Into<Bytes>) -> Result<()> {
        self.0.client().wait(self.0.store(oid, data))
    }

    /// See [`crate::Attempt::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, oid: Oid) -> Result<()> {
        self.0.client().wait(self.0.delete(oid))
    }

    /// See [`crate::Attempt::check_current`].
    ///
    /// # Errors
    /// As there.
    pub fn check_current(&self, oid: Oid) -> Result<()> {
        self.0.client().wait(self.0.check_current(oid))
    }

    /// See [`crate::Attempt::new_oid`].
    ///
    /// # Errors
    /// As there.
    pub fn new_oid(&self) -> Result<Oid> {
        self.0.client().wait(self.0.new_oid())
    }
}

/// [`crate::Import`], blocking.
#[derive(Debug)]
pub struct Import(crate::Import);

impl Import {
    /// See [`crate::Import::last_tid`].
    #[must_use]
    pub const fn last_tid(&self) -> Tid {
        self.0.last_tid()
    }

    /// See [`crate::Import::committed_tid`].
    #[must_use]
    pub const fn committed_tid(&self) -> Tid {
        self.0.committed_tid()
    }

    /// See [`crate::Import::push`].
    ///
    /// # Errors
    /// As there.
    pub fn push(
        &mut self,
        transaction: TransactionRecord,
        objects: impl IntoIterator<Item = TransactionObject>,
    ) -> Result<()> {
        let client = self.0.client().clone();
        client.wait(self.0.push(transaction, objects))
    }

    /// See [`crate::Import::checkpoint`].
    ///
    /// # Errors
    /// As there.
    pub fn checkpoint(&mut self) -> Result<Tid> {
        let client = self.0.client().clone();
        client.wait(self.0.checkpoint())
    }

    /// See [`crate::Import::finish`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(self) -> Result<Tid> {
        let client = self.0.client().clone();
        client.wait(self.0.finish())
    }
}

/// [`crate::Invalidations`], blocking.
#[derive(Debug)]
pub struct Invalidations(AsyncInvalidations);

impl Invalidations {
    /// See [`crate::Invalidations::recv`].
    pub fn recv(&mut self) -> Option<Invalidation> {
        block_on(self.0.recv())
    }

    /// See [`crate::Invalidations::try_recv`].
    pub fn try_recv(&mut self) -> Option<Invalidation> {
        self.0.try_recv()
    }
}
