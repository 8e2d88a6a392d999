//! The client: connections, reads, oids. Transactions begin here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use neo_api::{
    Address, At, ConflictResolver, Loaded, NodeId, Oid, Partitioning, Record, Tid, TransactionMeta,
    VotedRecord,
};
use neo_proto::net::{DriverOptions, run};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::cache::{Hit, Value};
use crate::codec::{self, CompressionSetting};
use crate::config::ClientBuilder;
use crate::core::{ClientCore, Command, CoreSettings, Mutations, Reply, ReplyId};
use crate::direct::Direct;
use crate::error::{Error, Result};
use crate::invalidation::Invalidations;
use crate::object::{Lookup, Object, Snapshot};
use crate::shell::{Answer, ClientShell, Commands, Shared};
use crate::transaction::Transaction;

/// A client of a cluster. Clones are the same client; many tasks and threads use it at once.
///
/// When the last clone, snapshot and transaction is gone, what is being committed is finished, and
/// the connections are closed.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    /// For threads that block.
    direct: Option<Arc<Direct>>,
    pub(crate) commands: Commands,
    pub(crate) resolver: Option<Arc<dyn ConflictResolver>>,
    pub(crate) compression: CompressionSetting,
    pub(crate) in_flight_bytes_max: usize,
    pub(crate) transaction_bytes_max: usize,
    pub(crate) attempts_max: u32,
    read_only: bool,
    cluster: String,
    /// One task at a time asks for oids.
    oids: tokio::sync::Mutex<()>,
    /// Resolves when the driver has ended.
    ended: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.commands.send_later(Command::Close);
    }
}

/// Commands on their way to the driver; then callers wait.
const COMMANDS_MAX: usize = 1024;
/// Oids are asked for in blocks of so many.
const OIDS: u32 = 100;

impl Client {
    /// A builder for a client of the cluster of this name.
    pub fn builder(cluster: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(cluster)
    }

    /// Connects with the default settings, and waits until the cluster serves.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    ///
    /// Cancel safe.
    pub async fn connect<A: Into<String>>(
        cluster: impl Into<String>,
        masters: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        Self::builder(cluster).masters(masters).connect().await
    }

    pub(crate) fn start(builder: ClientBuilder, masters: Vec<Address>) -> Result<Self> {
        let core = ClientCore::new(CoreSettings {
            cluster: builder.cluster.clone(),
            masters,
            read_only: builder.read_only,
            operation_timeout: builder.operation_timeout,
            seed: builder.env.random(),
            routes: builder.direct,
            mutations: Mutations::default(),
        });
        let shared = Arc::new(Shared::new(builder.cache_bytes, builder.listener));
        let shell = ClientShell(Arc::clone(&shared));
        let options = DriverOptions {
            transport: builder.transport,
            env: builder.env,
            listener: None,
            session: builder.session,
            span: tracing::error_span!("client", cluster = builder.cluster),
        };
        let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
        let (ending, ended) = oneshot::channel();
        let driver = async move {
            if let Err(failure) = run(core, shell, options, receiver).await {
                tracing::error!(%failure, "the client ended");
            }
            // Nobody may wait for the end.
            let _ = ending.send(());
        };
        let runtime = if builder.own_thread {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Error::Node(format!("no runtime: {error}")))?;
            let handle = runtime.handle().clone();
            std::thread::Builder::new()
                .name("neo-client".into())
                .spawn(move || runtime.block_on(driver))
                .map_err(|error| Error::Node(format!("no thread: {error}")))?;
            handle
        } else {
            tokio::spawn(driver);
            tokio::runtime::Handle::current()
        };
        let direct = builder.direct.then(|| Direct::new(Arc::clone(&shared)));
        if let Some(direct) = &direct {
            runtime.spawn(Direct::keep(Arc::downgrade(direct)));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                direct,
                commands: Commands { sender, runtime },
                resolver: builder.resolver,
                compression: builder.compression,
                in_flight_bytes_max: builder.in_flight_bytes_max.clamp(1, Semaphore::MAX_PERMITS),
                transaction_bytes_max: builder.transaction_bytes_max,
                attempts_max: builder.attempts_max,
                read_only: builder.read_only,
                cluster: builder.cluster,
                oids: tokio::sync::Mutex::new(()),
                ended: tokio::sync::Mutex::new(Some(ended)),
            }),
        })
    }

    // --- state ---

    /// The name of the cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.inner.cluster
    }

    /// Whether the client promised not to write.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.inner.read_only
    }

    /// This client's node id, while it is connected; another one after each reconnection.
    #[must_use]
    pub fn nid(&self) -> Option<NodeId> {
        self.inner.shared.status().nid
    }

    /// How oids and tids map to partitions, once it was connected.
    #[must_use]
    pub fn partitioning(&self) -> Option<Partitioning> {
        self.inner.shared.status().partitioning
    }

    /// The same, for what goes through all partitions.
    pub(crate) fn known_partitioning(&self) -> Result<Partitioning> {
        self.inner.shared.check_open()?;
        self.partitioning()
            .ok_or_else(|| Error::NotReady("the partition table is not known".into()))
    }

    /// Bytes that the cache uses, overhead included.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.inner.shared.cache.bytes()
    }

    /// Waits until the client can work.
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`] after `timeout`, saying what the masters say.
    ///
    /// Cancel safe.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<()> {
        self.ask(|reply| Command::WaitReady { reply, timeout })
            .await?;
        Ok(())
    }

    /// The last transaction that this client has heard of: a look at a number, no round trip. Its
    /// invalidations were delivered; [`load`](Self::load) sees it, and everything before.
    #[must_use]
    pub fn last_tid(&self) -> Tid {
        self.inner.shared.last_tid()
    }

    /// Asks the master for the last transaction: afterwards [`last_tid`](Self::last_tid), which it
    /// returns, is at least that of anything that was committed, by anybody, before the call.
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`].
    ///
    /// Cancel safe.
    pub async fn sync(&self) -> Result<Tid> {
        match self.ask(|reply| Command::Sync { reply }).await? {
            Reply::LastTid(tid) => Ok(tid),
            other => Err(unexpected(&other)),
        }
    }

    /// A subscription to what changes from now on, by this client or another, in order.
    #[must_use]
    pub fn invalidations(&self) -> Invalidations {
        let subscription = self.inner.shared.subscribers.subscribe();
        if self.inner.shared.has_ended() {
            self.inner.shared.subscribers.close();
        }
        subscription
    }

    /// Ends the client: what is being committed is finished, other transactions are aborted, other
    /// calls fail with [`Error::Closed`]. May be called more than once.
    ///
    /// Dropped before it is done, it goes on all the same.
    pub async fn close(&self) {
        self.inner.shared.set_closed();
        if let Some(direct) = &self.inner.direct {
            direct.clear();
        }
        self.inner.commands.send_later(Command::Close);
        let mut ended = self.inner.ended.lock().await;
        if let Some(receiver) = ended.as_mut() {
            // An error: the runtime that it ran on is gone, and the driver with it.
            let _ = receiver.await;
            *ended = None;
        }
    }

    // --- oids ---

    /// An oid that nobody was given before. Mostly without a round trip: they are allocated by 100.
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`]; [`Error::ReadOnly`].
    ///
    /// Cancel safe; an oid may stay unused.
    pub async fn new_oid(&self) -> Result<Oid> {
        self.check_writable()?;
        self.inner.shared.check_open()?;
        loop {
            if let Some(oid) = self.inner.shared.take_oid() {
                return Ok(oid);
            }
            let _one = self.inner.oids.lock().await;
            if let Some(oid) = self.inner.shared.take_oid() {
                return Ok(oid);
            }
            match self
                .ask(|reply| Command::NewOids { reply, count: OIDS })
                .await?
            {
                Reply::Oids { first, count } => self.inner.shared.put_oids(first, count),
                other => return Err(unexpected(&other)),
            }
        }
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.inner.read_only {
            return Err(Error::ReadOnly("the client was made read-only".into()));
        }
        Ok(())
    }

    // --- reads ---

    /// The object as of [`last_tid`](Self::last_tid); `None` when it does not exist, or is deleted.
    /// Without a round trip when it is cached. Reads that belong together are better done with one
    /// [`snapshot`](Self::snapshot).
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`] when no replica answers in time;
    /// [`Error::Checksum`] when no replica has it intact.
    ///
    /// Cancel safe.
    pub async fn load(&self, oid: Oid) -> Result<Option<Object>> {
        self.load_at(oid, self.last_tid()).await
    }

    pub(crate) async fn load_at(&self, oid: Oid, tid: Tid) -> Result<Option<Object>> {
        let before = Tid(tid.0.saturating_add(1));
        match self.cached_object(oid, before)? {
            Some(object) => Ok(object),
            None => Ok(self.fetch(oid, At::Before(before)).await?.object()),
        }
    }

    /// What the cache knows of an object as it is before a tid; `Some(None)`: that there is none.
    pub(crate) fn cached_object(&self, oid: Oid, before: Tid) -> Result<Option<Option<Object>>> {
        self.inner.shared.check_open()?;
        let hit = self.cached(oid, before);
        Ok(hit.and_then(|hit| self.open_hit(oid, hit)))
    }

    /// The newest revision of an object with a serial *below* `tid`. What the client has not heard
    /// of yet is asked of the master first; for a tid in the future that is everything committed.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    ///
    /// Cancel safe.
    pub async fn load_before(&self, oid: Oid, tid: Tid) -> Result<Lookup> {
        match self.cached_look_up(oid, At::Before(tid))? {
            Some(lookup) => Ok(lookup),
            None => self.fetch(oid, At::Before(tid)).await,
        }
    }

    /// What the cache knows of an object, if it knows when that ends.
    pub(crate) fn cached_look_up(&self, oid: Oid, at: At) -> Result<Option<Lookup>> {
        self.inner.shared.check_open()?;
        let hit = match at {
            At::Before(tid) => self.cached(oid, tid),
            At::Exact(serial) => self.inner.shared.cache.get_exact(oid, serial),
            At::Latest => None,
        };
        let hit = hit.filter(|hit| hit.next_is_known);
        Ok(hit.and_then(|hit| self.look_up_hit(oid, hit)))
    }

    /// The revision of an object with exactly this serial; [`Lookup::NotYet`] when the object has
    /// others only.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    ///
    /// Cancel safe.
    pub async fn load_serial(&self, oid: Oid, serial: Tid) -> Result<Lookup> {
        match self.cached_look_up(oid, At::Exact(serial))? {
            Some(lookup) => Ok(lookup),
            None => self.fetch(oid, At::Exact(serial)).await,
        }
    }

    /// The database as of [`last_tid`](Self::last_tid).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.clone(), self.last_tid())
    }

    /// The database as of a tid. One that the client has not heard of is asked of the master.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a tid in the future, at which more may be committed; as
    /// [`sync`](Self::sync).
    ///
    /// Cancel safe.
    pub async fn snapshot_at(&self, tid: Tid) -> Result<Snapshot> {
        self.inner.shared.check_open()?;
        if tid > self.last_tid() {
            let last_tid = self.sync().await?;
            if tid > last_tid {
                let words = format!("{tid} is in the future: the last transaction is {last_tid}");
                return Err(Error::Misuse(words));
            }
        }
        Ok(Snapshot::new(self.clone(), tid))
    }

    /// Only reads up to the last tid may be answered by what is known up to the last tid.
    fn cached(&self, oid: Oid, before: Tid) -> Option<Hit> {
        let shared = &self.inner.shared;
        if before.0 > shared.last_tid().0.saturating_add(1) {
            return None;
        }
        shared.cache.get(oid, before)
    }

    /// `Some(None)`: it is known that there is no value.
    fn open_hit(&self, oid: Oid, hit: Hit) -> Option<Option<Object>> {
        let serial = hit.serial;
        match hit.value {
            Value::Plain(data) => Some(Some(Object { data, serial })),
            Value::Deleted => Some(None),
            Value::Stored(record) => {
                let data = self.unpack(oid, serial, &record)?;
                Some(Some(Object { data, serial }))
            }
        }
    }

    fn look_up_hit(&self, oid: Oid, hit: Hit) -> Option<Lookup> {
        let (serial, next_serial) = (hit.serial, hit.next_serial);
        let data = match hit.value {
            Value::Plain(data) => data,
            Value::Deleted => {
                return Some(Lookup::Deleted {
                    serial,
                    next_serial,
                });
            }
            Value::Stored(record) => self.unpack(oid, serial, &record)?,
        };
        Some(Lookup::Found {
            data,
            serial,
            next_serial,
        })
    }

    fn unpack(&self, oid: Oid, serial: Tid, record: &Record) -> Option<Bytes> {
        let data = codec::decode(record)?;
        self.inner.shared.cache.unpack(oid, serial, record, &data);
        Some(data)
    }

    /// What a thread finds by itself, which can wait; `None`: the driver is to be asked.
    pub(crate) fn load_direct(&self, oid: Oid, at: At) -> Option<Result<Lookup>> {
        let loaded = self.inner.direct.as_ref()?.load(oid, at)?;
        Some(self.loaded(oid, Answer::Loaded(loaded)))
    }

    pub(crate) async fn fetch(&self, oid: Oid, at: At) -> Result<Lookup> {
        let pending = self.inner.shared.wait()?;
        let reply = pending.id;
        let command = Command::Load { reply, oid, at };
        self.inner.commands.send(command).await?;
        self.loaded(oid, pending.answer().await?)
    }

    /// What was found, the value unpacked.
    pub(crate) fn loaded(&self, oid: Oid, answer: Answer) -> Result<Lookup> {
        match answer {
            Answer::Loaded(Loaded::Found(found)) => {
                let data = self
                    .unpack(oid, found.serial, &found.record)
                    // The checksum is right: the client that stored it wrote nonsense.
                    .ok_or(Error::Checksum {
                        oid,
                        tid: found.serial,
                    })?;
                Ok(Lookup::Found {
                    data,
                    serial: found.serial,
                    next_serial: found.next_serial,
                })
            }
            Answer::Loaded(Loaded::Deleted {
                serial,
                next_serial,
            }) => Ok(Lookup::Deleted {
                serial,
                next_serial,
            }),
            Answer::Loaded(Loaded::NotYet) => Ok(Lookup::NotYet),
            Answer::Loaded(Loaded::Unknown) => Ok(Lookup::Unknown),
            other => Err(Error::Node(format!("{other:?} is no answer to a load"))),
        }
    }

    // --- transactions ---

    /// Begins a transaction. See [`transact`](Self::transact) for the short way.
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`]; [`Error::ReadOnly`]; [`Error::TooLarge`] for
    /// metadata beyond 1 MiB each.
    ///
    /// Cancel safe: a transaction whose beginning is not waited for is aborted.
    pub async fn begin(&self, meta: TransactionMeta) -> Result<Transaction> {
        let record = (meta, Vec::new()).into();
        Transaction::begin(self.clone(), record, None).await
    }

    /// Begins a transaction whose tid is imposed, to restore a database: it must be greater than
    /// any, and no other transaction may be pending. `packed` is what its
    /// [`TransactionRecord`](neo_api::TransactionRecord) says there: it can't be undone then.
    ///
    /// # Errors
    /// As [`begin`](Self::begin); [`Error::Denied`] for a tid that can't be.
    ///
    /// Cancel safe, as [`begin`](Self::begin).
    pub async fn begin_at(
        &self,
        meta: TransactionMeta,
        tid: Tid,
        packed: bool,
    ) -> Result<Transaction> {
        let record = VotedRecord {
            meta,
            packed,
            ..VotedRecord::default()
        };
        Transaction::begin(self.clone(), record, Some(tid)).await
    }

    /// Sends a command that is answered by a `Reply`.
    pub(crate) async fn ask(&self, command: impl FnOnce(ReplyId) -> Command) -> Result<Reply> {
        let pending = self.inner.shared.wait()?;
        self.inner.commands.send(command(pending.id)).await?;
        match pending.answer().await? {
            Answer::Reply(reply) => Ok(reply),
            other => Err(Error::Node(format!("{other:?} answers another command"))),
        }
    }
}

pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::Node(format!("{reply:?} answers another command"))
}
