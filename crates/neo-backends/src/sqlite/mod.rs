//! A backend in an SQLite file: durable, in this process, nothing to administer.
//!
//! One thread writes; others read beside it, each with a read-only connection of its own, and
//! see the last batch that was committed (write-ahead log). One more moves pages from the log to
//! the file, so that a commit does not wait for it.
//!
//! Beside `PATH` are `PATH-wal` and `PATH-shm` of SQLite, which belong to it while a node is
//! running, `PATH.lock`, which keeps a second node out, and `PATH.reserve`, space for when the disk
//! is full.
//!
//! SQLite has signed integers: oids, ttids and data ids above 2^63 - 1 are refused.

mod check;
mod checkpoint;
mod current;
mod error;
mod history;
mod list;
mod packing;
mod pending;
mod plan;
mod read;
mod recovery;
mod revision;
mod row;
mod schema;
mod shared;
mod small;
mod space;
mod unfinished;
mod vote;
mod write;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use neo_api::{
    At, BackendError, BackendInfo, BackendResult, CurrentPage, DataId, Durability, FetchedRevision,
    HistoryEntry, LastIds, Loaded, ObsoletePage, Oid, Order, PackOrder, PageLimit, Partition,
    PartitionTable, PendingObject, RevisionId, StorageBackend, Tid, TransactionRecord, TxnId,
    UnfinishedTransaction, WriteBatch,
};
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::limits;
use crate::lock;
use crate::quick::Quick;
use crate::worker::Worker;
use check::Patrol;
use read::Reader;
use write::Writer;

/// Settings of an [`SqliteBackend`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SqliteSettings {
    /// The file; created if it does not exist, in a directory that does.
    pub path: PathBuf,
    /// Threads that read; 2. What is quick is read on its caller's thread.
    #[serde(default = "default::readers")]
    pub readers: usize,
    /// Memory for pages of all connections together, in bytes; 48 MiB.
    #[serde(default = "default::cache_bytes")]
    pub cache_bytes: u64,
    /// Most bytes of the file, without its log; new values that would exceed it, or come too near,
    /// are refused as [`BackendError::Full`].
    #[serde(default)]
    pub max_database_bytes: Option<u64>,
    /// Space that is kept for transactions that have voted, on the disk and below
    /// `max_database_bytes` (of which it is a quarter at most), beside what their votes add to it.
    /// 8 MiB: two pages for each of the thousand objects that the longest batch of an unlock
    /// moves. 0 keeps nothing: a full disk may then stop the node.
    #[serde(default = "default::reserve_bytes")]
    pub reserve_bytes: u64,
    /// Whether commits are synced.
    #[serde(default)]
    pub synchronous: Synchronous,
    /// A database that was not closed is checked before it is used again, which reads all of it;
    /// one that has more bytes than this is not. 256 MiB; 0 never checks.
    ///
    /// A crash does not damage a database: the check finds disks and systems that don't keep what
    /// they said they would. Where it is skipped, the checksums of values and the comparison of
    /// replicas remain.
    #[serde(default = "default::quick_check_bytes_max")]
    pub quick_check_bytes_max: u64,
    /// While it is in use, the database is [checked](SqliteBackend::check) so many seconds after it
    /// was opened, and after each check, and what is wrong is logged; `None`, the default: never.
    #[serde(default)]
    pub check_every_s: Option<u32>,
    /// Of values that are equal and have so many bytes, and are written from now on, the bytes are
    /// kept once; `None`, the default: of no values. See
    /// [`DEDUP_BYTES_MIN`](crate::DEDUP_BYTES_MIN).
    #[serde(default)]
    pub dedup_bytes_min: Option<u32>,
}

mod default {
    pub(super) const fn readers() -> usize {
        2
    }

    pub(super) const fn cache_bytes() -> u64 {
        48 << 20
    }

    pub(super) const fn reserve_bytes() -> u64 {
        8 << 20
    }

    pub(super) const fn quick_check_bytes_max() -> u64 {
        256 << 20
    }
}

impl SqliteSettings {
    /// The usual settings for a file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: default::readers(),
            cache_bytes: default::cache_bytes(),
            max_database_bytes: None,
            reserve_bytes: default::reserve_bytes(),
            synchronous: Synchronous::Full,
            quick_check_bytes_max: default::quick_check_bytes_max(),
            check_every_s: None,
            dedup_bytes_min: None,
        }
    }
}

/// Whether [`Durability::Synced`] is what it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// Yes.
    #[default]
    Full,
    /// No: nothing is ever synced. **Unsafe**: a loss of power loses commits and may destroy the
    /// database. It exists to prove that a check of durability sees the difference.
    Off,
}

/// A backend that keeps its data in an SQLite file.
#[derive(Debug)]
pub struct SqliteBackend {
    info: BackendInfo,
    settings: SqliteSettings,
    // Dropped before the writer, which holds the lock.
    patrol: Option<Patrol>,
    here: Quick<Reader>,
    readers: Worker<Reader>,
    writer: Worker<Writer>,
    broken: Arc<Broken>,
}

/// What is wrong with the database, if something is.
#[derive(Debug, Default)]
struct Broken {
    /// Why the backend closed itself, once it did: what is on the disk is unknown until it is
    /// opened again.
    closed: OnceLock<String>,
    /// Whether the file had no room for the pages of the log, the last time.
    full: AtomicBool,
}

impl Broken {
    /// From now on every call is refused: whether the last batches are on the disk is unknown, and
    /// a system that failed to sync may say next time that it did.
    fn set(&self, why: String) {
        error!(why, "the database is closed until it is opened again");
        let _ = self.closed.set(why);
    }

    fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    fn check(&self) -> BackendResult<()> {
        match self.closed.get() {
            None => Ok(()),
            Some(why) => Err(BackendError::Closed(why.clone())),
        }
    }
}

impl SqliteBackend {
    /// Opens a database, with threads that write and read.
    ///
    /// It blocks: while the log of a run that was not closed is read, and while such a database is
    /// [checked](SqliteSettings::quick_check_bytes_max).
    ///
    /// # Errors
    /// [`BackendError::InUse`] when a node has it open; [`BackendError::Incompatible`] when it is
    /// of a newer version or not ours, and then it is left as it was; [`BackendError::Corrupt`]
    /// when it is damaged; others as the system says.
    pub fn open(settings: &SqliteSettings) -> BackendResult<Self> {
        let broken = Arc::new(Broken::default());
        let writer = Writer::open(settings, &broken, true)?;
        let info = info(settings)?;
        let n = settings.readers.max(1);
        let here = Quick::new(Some(Reader::open(settings, &broken)?));
        let reader = {
            let (settings, broken) = (settings.clone(), Arc::clone(&broken));
            move |_| Reader::open(&settings, &broken)
        };
        let readers = Worker::threads("sqlite-read", n, reader)?;
        let patrol = settings.check_every_s.map(|seconds| {
            let every = Duration::from_secs(seconds.max(1).into());
            Patrol::start(Reader::open(settings, &broken)?, every, check::log)
        });
        let writer = Mutex::new(Some(writer));
        let writer = Worker::threads("sqlite-write", 1, move |_| {
            let writer = writer.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok::<_, BackendError>(writer.expect("one thread takes the one writer"))
        })?;
        Ok(Self {
            info,
            settings: settings.clone(),
            patrol: patrol.transpose()?,
            here,
            writer,
            readers,
            broken,
        })
    }

    /// Opens a database that is used on its callers' threads: every future is ready when it is
    /// first polled. For simulators.
    ///
    /// # Errors
    /// As [`SqliteBackend::open`].
    pub fn open_inline(settings: &SqliteSettings) -> BackendResult<Self> {
        let broken = Arc::new(Broken::default());
        let writer = Writer::open(settings, &broken, false)?;
        Ok(Self {
            info: info(settings)?,
            settings: settings.clone(),
            patrol: None,
            writer: Worker::inline(writer),
            here: Quick::new(None),
            readers: Worker::inline(Reader::open(settings, &broken)?),
            broken,
        })
    }

    /// Looks through the whole database while it is in use: what is wrong with it, in words;
    /// nothing, as a rule.
    ///
    /// All that is in use is read, on this thread and in short reads, so that neither writes nor
    /// the log wait for it. Values are compared with their checksums, revisions with the index of the
    /// history. It takes about as long as to read the file.
    ///
    /// # Errors
    /// When it could not be read for another reason than damage.
    pub fn check(&self) -> BackendResult<Vec<String>> {
        self.broken.check()?;
        let reader = Reader::open(&self.settings, &self.broken)?;
        check::run(&reader, |_| true)
    }

    async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Reader) -> BackendResult<R> + Send + 'static,
    ) -> BackendResult<R> {
        self.broken.check()?;
        self.readers.call(read).await?
    }
}

fn info(settings: &SqliteSettings) -> BackendResult<BackendInfo> {
    let mut info = BackendInfo::new("SQLite", true);
    info.topology = lock::topology(&settings.path)?;
    Ok(info)
}

#[async_trait]
impl StorageBackend for SqliteBackend {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    async fn config(&self, key: &str) -> BackendResult<Option<Bytes>> {
        let key = key.to_owned();
        self.read(move |r| r.config(&key)).await
    }

    async fn partition_table(&self) -> BackendResult<Option<PartitionTable>> {
        self.read(Reader::partition_table).await
    }

    async fn load(&self, partition: Partition, oid: Oid, at: At) -> BackendResult<Loaded> {
        self.broken.check()?;
        match self
            .here
            .run(move |r: &mut Reader| r.load(partition, oid, at))
        {
            Ok(loaded) => loaded,
            Err(load) => self.read(load).await,
        }
    }

    async fn load_many(
        &self,
        objects: &[(Partition, Oid, At)],
        bytes: usize,
    ) -> BackendResult<Vec<Loaded>> {
        let objects = objects.to_vec();
        self.read(move |r| {
            let load = |&(partition, oid, at): &_| r.load(partition, oid, at);
            limits::until_bytes(objects.iter().map(load), bytes)
        })
        .await
    }

    async fn newest_before(
        &self,
        objects: &[(Partition, Oid, Tid)],
    ) -> BackendResult<Vec<Option<HistoryEntry>>> {
        let objects = objects.to_vec();
        self.read(move |r| {
            let newest = |&(partition, oid, before): &_| {
                let page = r.history(partition, oid, before, 1)?;
                Ok(page.first().copied())
            };
            objects.iter().map(newest).collect()
        })
        .await
    }

    async fn last_serials(&self, oids: &[(Partition, Oid)]) -> BackendResult<Vec<Option<Tid>>> {
        limits::check_oids(oids)?;
        let oids = oids.to_vec();
        self.read(move |r| r.last_serials(&oids)).await
    }

    async fn transaction(
        &self,
        partition: Partition,
        tid: Tid,
    ) -> BackendResult<Option<TransactionRecord>> {
        let limit = PageLimit::entries(1);
        let page = self
            .read(move |r| r.transactions(partition, tid, tid, Order::Ascending, limit))
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
        self.read(move |r| r.transactions(partition, min, max, order, limit))
            .await
    }

    async fn history(
        &self,
        partition: Partition,
        oid: Oid,
        before: Tid,
        limit: usize,
    ) -> BackendResult<Vec<HistoryEntry>> {
        self.read(move |r| r.history(partition, oid, before, limit))
            .await
    }

    async fn bytes(&self) -> BackendResult<u64> {
        self.read(|r| r.bytes()).await
    }

    async fn current(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        values: bool,
        limit: PageLimit,
    ) -> BackendResult<CurrentPage> {
        self.read(move |r| r.current(partition, min, at, values, limit))
            .await
    }

    async fn revisions(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: usize,
    ) -> BackendResult<Vec<RevisionId>> {
        self.read(move |r| r.revisions(partition, min, max, limit))
            .await
    }

    async fn fetch(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: PageLimit,
    ) -> BackendResult<Vec<FetchedRevision>> {
        self.read(move |r| r.fetch(partition, min, max, limit))
            .await
    }

    async fn obsolete(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        limit: usize,
    ) -> BackendResult<ObsoletePage> {
        self.read(move |r| r.obsolete(partition, min, at, limit))
            .await
    }

    async fn pack_orders(
        &self,
        partition: Partition,
        after: Tid,
        limit: usize,
    ) -> BackendResult<Vec<(Tid, PackOrder)>> {
        self.read(move |r| r.pack_orders(partition, after, limit))
            .await
    }

    async fn final_tid(&self, partition: Partition, txn: TxnId) -> BackendResult<Option<Tid>> {
        self.read(move |r| r.final_tid(partition, txn)).await
    }

    async fn unfinished(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>> {
        self.read(move |r| r.unfinished(after, limit)).await
    }

    async fn unfinished_objects(
        &self,
        txn: TxnId,
        after: Option<Oid>,
        limit: usize,
    ) -> BackendResult<Vec<PendingObject>> {
        self.read(move |r| r.unfinished_objects(txn, after, limit))
            .await
    }

    async fn loose_data(
        &self,
        after: Option<(TxnId, DataId)>,
        limit: usize,
    ) -> BackendResult<Vec<(TxnId, DataId)>> {
        self.read(move |r| r.loose_data(after, limit)).await
    }

    async fn next_data_id(&self) -> BackendResult<DataId> {
        self.read(Reader::next_data_id).await
    }

    async fn last_ids(&self, partition: Partition) -> BackendResult<LastIds> {
        self.read(move |r| r.last_ids(partition)).await
    }

    // Not an `async fn`: batches take effect in the order of the calls, whenever their futures
    // are polled.
    fn apply<'a, 'f>(
        &'a self,
        batch: WriteBatch,
        durability: Durability,
    ) -> Pin<Box<dyn Future<Output = BackendResult<()>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        let reply = self
            .writer
            .submit(move |writer| writer.apply(batch, durability));
        Box::pin(async move { reply.await? })
    }

    async fn close(&self) -> BackendResult<()> {
        // Readers first: the log can be emptied only when nobody reads from it.
        if let Some(patrol) = &self.patrol {
            patrol.stop();
        }
        self.here.close();
        let read = self.readers.close().await;
        self.writer.close_with(Writer::finish).await??;
        Ok(read?)
    }
}
