//! A backend on a MariaDB server, in SQL: for who has such servers, with all that looks after them.
//!
//! # Connections
//! One writes, on a thread of its own; others read beside it, each on its own thread. Each has a
//! runtime for nothing but itself. What goes to the server are texts of several statements (`script`):
//! a read is one, or a few in one transaction; a batch is two, what it has to look at and what it
//! changes with the commit (`plan`, `write`). Statements have ids and bytes in hexadecimal digits, and
//! every column is binary: no character set, and no rule of quotation, has a say.
//!
//! # Who has the database
//! The connection that writes holds a lock of the server's (`GET_LOCK`) as long as it lasts: a second
//! node is told that the database is in use. That is not enough: a connection can be lost, and its
//! node not know yet. So the table `neo` has one row, with the owner, a number that is new for each
//! opening, and the number of the last batch. Every batch begins by making that number the next one,
//! if both are what they should be, and fails otherwise. A node whose database was taken by another
//! one so can't write a thing, and closes itself.
//!
//! **Invariant:** a batch and its number are committed together, or neither is.
//!
//! # A connection that is lost
//! Reads are done again over the next one. A batch may be there or not: who connects again reads the
//! row for an update, which waits until the server has ended what the last connection was at. When it
//! has the batch's number, the batch is done, and another commit makes sure that it is durable;
//! otherwise it is done again. A number that is less than
//! one that was acknowledged tells that the server has lost commits, or was put back to an earlier
//! state: the backend closes itself. So it does when the server does not come back in time (see
//! [`MySqlSettings::reconnect_s`]) and a batch may be there.
//!
//! # Durability
//! Every commit is synced, `Buffered` or not: a server has one setting for all. A server that is set
//! to sync less is refused, unless [`MySqlSettings::unsafe_flush`]. Its settings are looked at
//! whenever the connection that writes is made; who changes them on a server that runs is not
//! noticed before.
//!
//! # Space
//! The space is the server's. When it has none, batches are refused as
//! [`Full`](BackendError::Full), also those that bring no values: there is no reserve for
//! them, and the node tries them again. Where a file can't grow, a server may also end.
//!
//! # Tables
//! See `schema`. Values of more than 4 MiB are cut in pieces, so that a server needs to take no longer
//! packets than it does as it is installed.

mod error;
mod link;
mod list;
pub(crate) mod location;
mod pieces;
mod plan;
mod read;
mod recovery;
mod revision;
mod row;
mod schema;
mod script;
mod server;
mod shared;
mod table;
mod write;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::thread;

use async_trait::async_trait;
use bytes::Bytes;
use neo_api::{
    At, BackendError, BackendInfo, BackendResult, CurrentPage, DataId, Durability, FetchedRevision,
    HistoryEntry, LastIds, Loaded, ObsoletePage, Oid, Order, PackOrder, PageLimit, Partition,
    PartitionTable, PendingObject, RevisionId, StorageBackend, Tid, TransactionRecord, TxnId,
    UnfinishedTransaction, WriteBatch,
};

use crate::limits;
use crate::worker::Worker;
use error::Broken;
use link::Link;
use read::Reader;
use writer::Writer;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Server {
    /// A socket of this machine.
    Socket(PathBuf),
    /// A port of some machine. Nothing is encrypted.
    Host {
        /// Its name or address.
        name: String,
        /// Its port.
        port: u16,
    },
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Host { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// Settings of a [`MySqlBackend`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MySqlSettings {
    /// The database, which is there, and has nothing else in it.
    pub database: String,
    /// Who connects; the name of who runs the node, unless it is given.
    pub user: Option<String>,
    /// The password; none.
    pub password: Option<String>,
    /// Where the server is.
    pub server: Server,
    /// The engine of the tables; InnoDB when they are made, and what they have when they are there.
    /// Any that the server has will do, if it has transactions: RocksDB is tested as well.
    pub engine: Option<String>,
    /// Connections that read; 4.
    pub readers: usize,
    /// For how many seconds a connection that is lost is tried to be made again, before a read
    /// fails, or the backend closes itself because it can't know whether a batch was committed; 30.
    pub reconnect_s: u64,
    /// Whether a server will do that may lose commits when it crashes; no.
    pub unsafe_flush: bool,
    /// Of values that are equal and have so many bytes (4 MiB at most), and are written from now on,
    /// the bytes are kept once; of no values. See [`DEDUP_BYTES_MIN`](crate::DEDUP_BYTES_MIN).
    pub dedup_bytes_min: Option<u32>,
}

impl MySqlSettings {
    /// The usual settings for a database on a server.
    #[must_use]
    pub fn new(database: impl Into<String>, server: Server) -> Self {
        Self {
            database: database.into(),
            user: None,
            password: None,
            server,
            engine: None,
            readers: 4,
            reconnect_s: 30,
            unsafe_flush: false,
            dedup_bytes_min: None,
        }
    }
}

impl fmt::Debug for MySqlSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password.
        f.debug_struct("MySqlSettings")
            .field("database", &self.database)
            .field("user", &self.user)
            .field("server", &self.server)
            .field("engine", &self.engine)
            .field("readers", &self.readers)
            .field("reconnect_s", &self.reconnect_s)
            .field("unsafe_flush", &self.unsafe_flush)
            .field("dedup_bytes_min", &self.dedup_bytes_min)
            .finish_non_exhaustive()
    }
}

/// A backend that keeps its data on a MariaDB server.
#[derive(Debug)]
pub struct MySqlBackend {
    info: BackendInfo,
    // Dropped before the writer, which holds the lock.
    readers: Worker<Reader>,
    writer: Worker<Writer>,
    broken: Arc<Broken>,
}

impl MySqlBackend {
    /// Opens a database, with threads that write and read.
    ///
    /// # Errors
    /// [`BackendError::InUse`] when a node has it open;
    /// [`Unavailable`](BackendError::Unavailable) when the server is not there, or takes no
    /// more connections; [`Incompatible`](BackendError::Incompatible) when it is of a newer
    /// version or not ours, and then it is left as it was;
    /// [`Unsupported`](BackendError::Unsupported) when the server can't keep what a backend
    /// promises, with what to set; others as the server says.
    pub fn open(settings: &MySqlSettings) -> BackendResult<Self> {
        let broken = Arc::new(Broken::default());
        let topology = Arc::new(OnceLock::new());
        let writer = {
            let (settings, broken) = (settings.clone(), Arc::clone(&broken));
            let topology = Arc::clone(&topology);
            let open = move |_| {
                let mut writer = Writer::open(&settings, &broken)?;
                // One thread opens it, once.
                let _ = topology.set(writer.topology()?);
                BackendResult::Ok(writer)
            };
            Worker::threads("mysql-write", 1, open)?
        };
        let readers = {
            let (settings, broken) = (settings.clone(), Arc::clone(&broken));
            let n = settings.readers.max(1);
            let open = move |_| Reader::open(&settings, &broken);
            Worker::threads("mysql-read", n, open)?
        };
        let mut info = BackendInfo::new("MySQL", true);
        info.topology = topology.get().cloned().unwrap_or_default();
        Ok(Self {
            info,
            readers,
            writer,
            broken,
        })
    }

    /// Removes the tables of a database that no node has open.
    ///
    /// # Errors
    /// As [`MySqlBackend::open`]: what is not ours is left as it was.
    pub fn erase(settings: &MySqlSettings) -> BackendResult<()> {
        let erase = || Writer::open(settings, &Arc::default())?.erase();
        // A thread of its own: that of the caller may be one of a runtime.
        let ended = thread::scope(|scope| scope.spawn(erase).join());
        ended.unwrap_or_else(|_| Err(BackendError::Closed("erasing it panicked".to_owned())))
    }

    async fn read<R: Send + 'static>(
        &self,
        read: impl Fn(&mut Link) -> BackendResult<R> + Send + 'static,
    ) -> BackendResult<R> {
        self.broken.check()?;
        self.readers.call(move |reader| reader.read(read)).await?
    }
}

#[async_trait]
impl StorageBackend for MySqlBackend {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    async fn config(&self, key: &str) -> BackendResult<Option<Bytes>> {
        let key = key.to_owned();
        self.read(move |link| read::config(link, &key)).await
    }

    async fn partition_table(&self) -> BackendResult<Option<PartitionTable>> {
        self.read(read::partition_table).await
    }

    async fn load(&self, partition: Partition, oid: Oid, at: At) -> BackendResult<Loaded> {
        self.read(move |link| read::load(link, partition, oid, at))
            .await
    }

    async fn load_many(
        &self,
        objects: &[(Partition, Oid, At)],
        bytes: usize,
    ) -> BackendResult<Vec<Loaded>> {
        let objects = objects.to_vec();
        self.read(move |link| read::load_many(link, &objects, bytes))
            .await
    }

    async fn newest_before(
        &self,
        objects: &[(Partition, Oid, Tid)],
    ) -> BackendResult<Vec<Option<HistoryEntry>>> {
        let objects = objects.to_vec();
        self.read(move |link| read::newest_before(link, &objects))
            .await
    }

    async fn last_serials(&self, oids: &[(Partition, Oid)]) -> BackendResult<Vec<Option<Tid>>> {
        limits::check_oids(oids)?;
        let oids = oids.to_vec();
        self.read(move |link| read::last_serials(link, &oids)).await
    }

    async fn transaction(
        &self,
        partition: Partition,
        tid: Tid,
    ) -> BackendResult<Option<TransactionRecord>> {
        let limit = PageLimit::entries(1);
        let page = self
            .read(move |link| {
                list::transactions(link, partition, tid, tid, Order::Ascending, limit)
            })
            .await?;
        Ok(page.into_iter().next())
    }

    async fn transactions(
        &self,
        partition: Partition,
        min: Tid,
        max: Tid,
        order: Order,
        limit: PageLimit,
    ) -> BackendResult<Vec<TransactionRecord>> {
        self.read(move |link| list::transactions(link, partition, min, max, order, limit))
            .await
    }

    async fn history(
        &self,
        partition: Partition,
        oid: Oid,
        before: Tid,
        limit: usize,
    ) -> BackendResult<Vec<HistoryEntry>> {
        self.read(move |link| list::history(link, partition, oid, before, limit))
            .await
    }

    async fn bytes(&self) -> BackendResult<u64> {
        self.read(read::bytes).await
    }

    async fn current(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        values: bool,
        limit: PageLimit,
    ) -> BackendResult<CurrentPage> {
        self.read(move |link| list::current(link, partition, min, at, values, limit))
            .await
    }

    async fn revisions(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: usize,
    ) -> BackendResult<Vec<RevisionId>> {
        self.read(move |link| list::revisions(link, partition, min, max, limit))
            .await
    }

    async fn fetch(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: PageLimit,
    ) -> BackendResult<Vec<FetchedRevision>> {
        self.read(move |link| list::fetch(link, partition, min, max, limit))
            .await
    }

    async fn obsolete(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        limit: usize,
    ) -> BackendResult<ObsoletePage> {
        self.read(move |link| list::obsolete(link, partition, min, at, limit))
            .await
    }

    async fn pack_orders(
        &self,
        partition: Partition,
        after: Tid,
        limit: usize,
    ) -> BackendResult<Vec<(Tid, PackOrder)>> {
        self.read(move |link| list::pack_orders(link, partition, after, limit))
            .await
    }

    async fn final_tid(&self, partition: Partition, txn: TxnId) -> BackendResult<Option<Tid>> {
        self.read(move |link| read::final_tid(link, partition, txn))
            .await
    }

    async fn unfinished(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>> {
        self.read(move |link| recovery::unfinished(link, after, limit))
            .await
    }

    async fn unfinished_objects(
        &self,
        txn: TxnId,
        after: Option<Oid>,
        limit: usize,
    ) -> BackendResult<Vec<PendingObject>> {
        self.read(move |link| recovery::unfinished_objects(link, txn, after, limit))
            .await
    }

    async fn loose_data(
        &self,
        after: Option<(TxnId, DataId)>,
        limit: usize,
    ) -> BackendResult<Vec<(TxnId, DataId)>> {
        self.read(move |link| recovery::loose_data(link, after, limit))
            .await
    }

    async fn next_data_id(&self) -> BackendResult<DataId> {
        self.read(read::next_data_id).await
    }

    async fn last_ids(&self, partition: Partition) -> BackendResult<LastIds> {
        self.read(move |link| read::last_ids(link, partition)).await
    }

    // Not an `async fn`: batches take effect in the order of the calls, whenever their futures
    // are polled.
    fn apply<'a, 'f>(
        &'a self,
        batch: WriteBatch,
        _durability: Durability,
    ) -> Pin<Box<dyn Future<Output = BackendResult<()>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        let reply = self.writer.submit(move |writer| writer.apply(&batch));
        Box::pin(async move { reply.await? })
    }

    async fn close(&self) -> BackendResult<()> {
        let read = self.readers.close().await;
        self.writer.close_with(Writer::finish).await??;
        Ok(read?)
    }
}
