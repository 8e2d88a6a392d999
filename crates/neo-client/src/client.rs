//! The client: connections, oids. Transactions begin here.

use std::sync::Arc;
use std::time::Duration;

use neo_api::{
    Address, ConflictResolver, NodeId, Oid, Partitioning, Tid, TransactionMeta, VotedRecord,
};
use neo_proto::net::{DriverOptions, MasterListFile, run};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::codec::CompressionSetting;
use crate::config::ClientBuilder;
use crate::core::{ClientCore, Command, CoreSettings, Mutations, Reply, ReplyId};
use crate::direct::Direct;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::invalidation::Invalidations;
use crate::shell::{Answer, ClientShell, Commands, Shared};
use crate::transaction::Transaction;

/// A client of a cluster. Clones are the same client; many tasks and threads use it at once.
///
/// When the last clone, snapshot and transaction is gone, what is being committed is finished, and
/// the connections are closed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
/// use neo_client::{Client, Error, Oid};
///
/// /// Adds one to a counter, and returns what it is then.
/// async fn count(client: &Client, counter: Oid) -> Result<usize, Error> {
///     client
///         .transact(|txn| async move {
///             let old = txn.load(counter).await?;
///             let n = old.map_or(0, |object| object.data.len()) + 1;
///             txn.store(counter, vec![b'|'; n]).await?;
///             Ok(n)
///         })
///         .await
/// }
///
/// let counter = client.new_oid().await?;
/// assert_eq!(count(&client, counter).await?, 1);
/// // A clone is the same client, with the same connections and the same cache.
/// let clone = client.clone();
/// assert_eq!(tokio::spawn(async move { count(&clone, counter).await }).await??, 2);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    /// For threads that block.
    pub(crate) direct: Option<Arc<Direct>>,
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
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// # let cluster = neo_testkit::Cluster::builder().tcp().start().await?;
    /// # let master = cluster.masters()[0].to_string();
    /// use std::time::Duration;
    ///
    /// use neo_client::Client;
    ///
    /// let client = Client::builder("test")
    ///     .master(master)
    ///     .cache_bytes(256 << 20)
    ///     .operation_timeout(Duration::from_secs(20))
    ///     .connect()
    ///     .await?;
    /// assert!(!client.is_read_only());
    /// # Ok(()) }
    /// ```
    pub fn builder(cluster: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(cluster)
    }

    /// Connects with the default settings, and waits until the cluster serves.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// # let cluster = neo_testkit::Cluster::builder().tcp().start().await?;
    /// # let master = cluster.masters()[0].to_string();
    /// use neo_client::Client;
    ///
    /// let client = Client::connect("test", [master]).await?;
    /// assert_eq!(client.cluster(), "test");
    /// # Ok(()) }
    /// ```
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

    pub(crate) fn start(
        builder: ClientBuilder,
        masters: Vec<Address>,
        list: Option<MasterListFile>,
    ) -> Result<Self> {
        let core = ClientCore::new(CoreSettings {
            cluster: builder.cluster.clone(),
            masters,
            read_only: builder.read_only,
            ignore_wrong_checksum: builder.ignore_wrong_checksum,
            operation_timeout: builder.operation_timeout,
            seed: builder.env.random(),
            routes: builder.direct,
            mutations: Mutations::default(),
        });
        let shared = Arc::new(Shared::new(builder.cache_bytes, builder.listener));
        let shell = ClientShell {
            shared: Arc::clone(&shared),
            masters: list,
        };
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
        let (runtime, engine) = if builder.own_thread {
            let engine = Engine::start(driver)?;
            (engine.handle().clone(), Some(Arc::downgrade(&engine)))
        } else {
            tokio::spawn(driver);
            (tokio::runtime::Handle::current(), None)
        };
        let direct = builder.direct.then(|| Direct::new(Arc::clone(&shared)));
        if let Some(direct) = &direct {
            runtime.spawn(Direct::keep(Arc::downgrade(direct)));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                direct,
                commands: Commands {
                    sender,
                    runtime,
                    engine,
                },
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
    ///
    /// [Example](Self::connect).
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.inner.cluster
    }

    /// Whether the client promised not to write.
    ///
    /// [Example](Self::builder).
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.inner.read_only
    }

    /// This client's node id, while it is connected; another one after each reconnection.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// assert!(client.nid().is_some());
    /// client.close().await;
    /// assert_eq!(client.nid(), None);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn nid(&self) -> Option<NodeId> {
        self.inner.shared.status().nid
    }

    /// How oids and tids map to partitions, once it was connected.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// # let oid = client.new_oid().await?;
    /// let partitioning = client.partitioning().expect("it is connected");
    /// println!("object {oid} is in partition {} of {}", partitioning.of_oid(oid), partitioning.count());
    /// # assert_eq!(partitioning.count(), 12);
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// let before = client.cached_bytes();
    /// let oid = client.new_oid().await?;
    /// client.transact(|txn| async move { txn.store(oid, vec![7; 5000]).await }).await?;
    /// // What is written is cached, too.
    /// assert!(client.cached_bytes() > before);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.inner.shared.cache.bytes()
    }

    /// Waits until the client can work.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// # let cluster = neo_testkit::Cluster::builder().tcp().start().await?;
    /// # let master = cluster.masters()[0].to_string();
    /// use std::time::Duration;
    ///
    /// use neo_client::Client;
    ///
    /// // Does not wait: the program can start before the cluster.
    /// let client = Client::builder("test").master(master).start()?;
    /// client.wait_ready(Duration::from_secs(5)).await?;
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// let oid = client.new_oid().await?;
    /// let txn = client.begin(Default::default()).await?;
    /// txn.store(oid, neo_client::Tid::ZERO, "x").await?;
    /// let tid = txn.commit().await?;
    /// assert!(client.last_tid() >= tid);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn last_tid(&self) -> Tid {
        self.inner.shared.last_tid()
    }

    /// Asks the master for the last transaction: afterwards [`last_tid`](Self::last_tid), which it
    /// returns, is at least that of anything that was committed, by anybody, before the call.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// # let cluster = neo_testkit::Cluster::builder().start().await?;
    /// # let (client, other) = (cluster.client().await?, cluster.client().await?);
    /// let oid = other.new_oid().await?;
    /// other.transact(|txn| async move { txn.store(oid, "news").await }).await?;
    /// // Invalidations are on their way: without it, it could be a moment too early.
    /// client.sync().await?;
    /// assert!(client.load(oid).await?.is_some());
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::Invalidation;
    ///
    /// let mut changes = client.invalidations();
    /// let oid = client.new_oid().await?;
    /// client.transact(|txn| async move { txn.store(oid, "changed").await }).await?;
    /// match changes.recv().await {
    ///     Some(Invalidation::Objects { oids, .. }) => assert_eq!(*oids, [oid]),
    ///     Some(_) => println!("anything may have changed"),
    ///     None => println!("the client was closed"),
    /// }
    /// # Ok(()) }
    /// ```
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::Error;
    ///
    /// client.close().await;
    /// assert!(matches!(client.new_oid().await, Err(Error::Closed)));
    /// # Ok(()) }
    /// ```
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// let (one, two) = (client.new_oid().await?, client.new_oid().await?);
    /// assert_ne!(one, two);
    /// # Ok(()) }
    /// ```
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

    // --- transactions ---

    /// Begins a transaction. See [`transact`](Self::transact) for the short way.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::{Tid, TransactionMeta};
    ///
    /// let oid = client.new_oid().await?;
    /// let meta = TransactionMeta {
    ///     user: "mary".into(),
    ///     description: "the first object".into(),
    ///     ..TransactionMeta::default()
    /// };
    /// let txn = client.begin(meta.clone()).await?;
    /// txn.store(oid, Tid::ZERO, "hello").await?;
    /// let tid = txn.commit().await?;
    /// let record = client.transaction(tid).await?.expect("it is committed");
    /// assert_eq!((record.meta, record.oids), (meta, vec![oid]));
    /// # Ok(()) }
    /// ```
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::Tid;
    ///
    /// let tid = Tid(client.sync().await?.0 + 1_000_000);
    /// let txn = client.begin_at(Default::default(), tid, false).await?;
    /// let oid = client.new_oid().await?;
    /// txn.store(oid, Tid::ZERO, "as it was").await?;
    /// assert_eq!(txn.commit().await?, tid);
    /// # Ok(()) }
    /// ```
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
