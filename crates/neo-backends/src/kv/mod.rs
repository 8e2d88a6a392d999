//! A full [`StorageBackend`] over any [`KvEngine`].
//!
//! Values are written once, under their data id, when they are stored; what a commit moves are
//! small index rows. `key` shows the whole layout.

mod current;
mod history;
mod key;
mod overlay;
mod read;
mod shared;
mod value;
mod write;

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use neo_api::{
    At, BackendInfo, BackendResult, CurrentPage, DataId, Durability, FetchedRevision, HistoryEntry,
    KvBatch, KvEngine, LastIds, Loaded, ObsoletePage, Oid, Order, PackOrder, PageLimit, Partition,
    PartitionTable, PendingObject, RevisionId, Space, StorageBackend, Tid, TransactionRecord,
    TxnId, UnfinishedTransaction, WriteBatch,
};

use crate::limits;
use crate::quick::Quick;
use crate::worker::Worker;

/// A backend that keeps its data in a key-value engine.
///
/// ```
/// use neo_api::BackendInfo;
/// use neo_backends::{KvBackend, MemoryEngine};
///
/// let info = BackendInfo::new("Memory", false);
/// let backend = KvBackend::inline(MemoryEngine::default(), info);
/// ```
#[derive(Debug)]
pub struct KvBackend<E: KvEngine> {
    info: BackendInfo,
    writer: Worker<Handle<E>>,
    /// `None`: reads run where writes do.
    readers: Option<Worker<Handle<E>>>,
    writes: Arc<Writes>,
    /// For single objects, on their callers' threads.
    here: Quick<Handle<E>>,
}

impl<E: KvEngine> KvBackend<E> {
    /// A backend that calls its engine on the caller's thread: every future is ready when it is
    /// first polled. For simulators, and engines that never block.
    #[must_use]
    pub fn inline(engine: E, info: BackendInfo) -> Self {
        let handle = Handle::new(engine);
        Self {
            info,
            writes: Arc::clone(&handle.writes),
            writer: Worker::inline(handle),
            readers: None,
            here: Quick::new(None),
        }
    }

    /// A backend with a thread that writes, and `readers` threads (one at least) that read.
    ///
    /// # Panics
    /// When the system can't start a thread.
    #[must_use]
    pub fn threads(engine: E, info: BackendInfo, readers: usize) -> Self {
        Self::start(&Handle::new(engine), info, readers, Quick::new(None))
    }

    /// The same, for an engine that reads from memory or from a disk of this machine, and waits for
    /// no writer that syncs: single objects are read on the callers' threads as long as that takes
    /// no longer than to wake up another one.
    ///
    /// # Panics
    /// As [`threads`](Self::threads).
    #[must_use]
    pub fn local(engine: E, info: BackendInfo, readers: usize) -> Self {
        let handle = Handle::new(engine);
        let here = Quick::new(Some(handle.clone()));
        Self::start(&handle, info, readers, here)
    }

    fn start(
        handle: &Handle<E>,
        info: BackendInfo,
        readers: usize,
        here: Quick<Handle<E>>,
    ) -> Self {
        let start = |name: &str, n| {
            let handle = handle.clone();
            let name = format!("{}-{name}", info.name.to_lowercase());
            match Worker::threads(&name, n, move |_| Ok::<_, Never>(handle.clone())) {
                Ok(worker) => worker,
                Err(never) => match never {},
            }
        };
        let (writer, readers) = (start("write", 1), start("read", readers));
        Self {
            info,
            writer,
            readers: Some(readers),
            writes: Arc::clone(&handle.writes),
            here,
        }
    }

    /// Keeps values that are equal once, if they have so many bytes (`None`: no values) and are
    /// written from now on: it takes less space where many are, and more work to write. See
    /// [`DEDUP_BYTES_MIN`](crate::DEDUP_BYTES_MIN).
    #[must_use]
    pub fn deduplicating(self, bytes_min: Option<u32>) -> Self {
        let min = bytes_min.map_or(usize::MAX, |min| min as usize);
        self.writes.shared_bytes_min.store(min, Ordering::Relaxed);
        self
    }

    async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Handle<E>) -> BackendResult<R> + Send + 'static,
    ) -> BackendResult<R> {
        self.worker().call(move |handle| read(handle)).await?
    }

    /// Whose threads read.
    fn worker(&self) -> &Worker<Handle<E>> {
        self.readers.as_ref().unwrap_or(&self.writer)
    }
}

enum Never {}

/// What each thread has: the engine, and what tells readers about writes.
#[derive(Debug)]
struct Handle<E> {
    engine: Arc<E>,
    writes: Arc<Writes>,
}

#[derive(Debug)]
struct Writes {
    /// Odd while the engine applies a batch.
    count: AtomicU64,
    /// Held by the one that applies, and by readers that can't do without a standstill.
    running: RwLock<()>,
    /// Values with so many bytes are kept once for all that are equal.
    shared_bytes_min: AtomicUsize,
}

impl<E> Clone for Handle<E> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            writes: Arc::clone(&self.writes),
        }
    }
}

impl<E: KvEngine> Handle<E> {
    fn new(engine: E) -> Self {
        Self {
            engine: Arc::new(engine),
            writes: Arc::new(Writes {
                count: AtomicU64::new(0),
                running: RwLock::new(()),
                shared_bytes_min: AtomicUsize::new(usize::MAX),
            }),
        }
    }

    fn apply(&self, batch: WriteBatch, durability: Durability) -> BackendResult<()> {
        let shared_bytes_min = self.writes.shared_bytes_min.load(Ordering::Relaxed);
        let batch = write::plan(&*self.engine, batch, shared_bytes_min)?;
        let _alone = self
            .writes
            .running
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.writes.count.fetch_add(1, Ordering::SeqCst);
        let result = self.engine.apply(batch, durability);
        self.writes.count.fetch_add(1, Ordering::SeqCst);
        result
    }

    /// Runs a read of several calls so that nothing is written between them: it is tried beside
    /// the writer first, since a batch may wait for the disk.
    fn unchanged<R>(&self, read: impl Fn(&E) -> BackendResult<R>) -> BackendResult<R> {
        let before = self.writes.count.load(Ordering::SeqCst);
        if before.is_multiple_of(2) {
            let result = read(&self.engine);
            if self.writes.count.load(Ordering::SeqCst) == before {
                return result;
            }
        }
        let _still = self
            .writes
            .running
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        read(&self.engine)
    }
}

#[async_trait]
impl<E: KvEngine> StorageBackend for KvBackend<E> {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    async fn config(&self, key: &str) -> BackendResult<Option<Bytes>> {
        // Keys that can't be set aren't asked for: the engine may rely on their length.
        if !key.is_ascii() || key.is_empty() || key.len() > 64 {
            return Ok(None);
        }
        let key = key.to_owned();
        self.read(move |h| h.engine.get(Space::Config, key.as_bytes()))
            .await
    }

    async fn partition_table(&self) -> BackendResult<Option<PartitionTable>> {
        self.read(|h| {
            let bytes = h.engine.get(Space::Config, key::TABLE)?;
            bytes.as_ref().map(value::decode_table).transpose()
        })
        .await
    }

    async fn load(&self, partition: Partition, oid: Oid, at: At) -> BackendResult<Loaded> {
        match self
            .here
            .run(move |h: &mut Handle<E>| read::load(&*h.engine, partition, oid, at))
        {
            Ok(loaded) => loaded,
            Err(load) => self.worker().call(load).await?,
        }
    }

    async fn load_many(
        &self,
        objects: &[(Partition, Oid, At)],
        bytes: usize,
    ) -> BackendResult<Vec<Loaded>> {
        let objects = objects.to_vec();
        self.read(move |h| {
            let load = |&(partition, oid, at): &_| read::load(&*h.engine, partition, oid, at);
            limits::until_bytes(objects.iter().map(load), bytes)
        })
        .await
    }

    async fn newest_before(
        &self,
        objects: &[(Partition, Oid, Tid)],
    ) -> BackendResult<Vec<Option<HistoryEntry>>> {
        let objects = objects.to_vec();
        self.read(move |h| {
            let newest = |&(partition, oid, before): &_| {
                let page = history::of_object(&*h.engine, partition, oid, before, 1)?;
                Ok(page.first().copied())
            };
            objects.iter().map(newest).collect()
        })
        .await
    }

    async fn last_serials(&self, oids: &[(Partition, Oid)]) -> BackendResult<Vec<Option<Tid>>> {
        limits::check_oids(oids)?;
        let oids = oids.to_vec();
        self.read(move |h| {
            if let [_] = oids[..] {
                return read::last_serials(&*h.engine, &oids);
            }
            h.unchanged(|engine| read::last_serials(engine, &oids))
        })
        .await
    }

    async fn transaction(
        &self,
        partition: Partition,
        tid: Tid,
    ) -> BackendResult<Option<TransactionRecord>> {
        self.read(move |h| read::transaction(&*h.engine, partition, tid))
            .await
    }

    async fn transactions(
        &self,
        partition: Partition,
        min: Tid,
        max: Tid,
        order: Order,
        limit: PageLimit,
    ) -> BackendResult<Vec<TransactionRecord>> {
        self.read(move |h| history::transactions(&*h.engine, partition, min, max, order, limit))
            .await
    }

    async fn history(
        &self,
        partition: Partition,
        oid: Oid,
        before: Tid,
        limit: usize,
    ) -> BackendResult<Vec<HistoryEntry>> {
        self.read(move |h| history::of_object(&*h.engine, partition, oid, before, limit))
            .await
    }

    async fn bytes(&self) -> BackendResult<u64> {
        self.read(|h| h.engine.bytes()).await
    }

    async fn current(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        values: bool,
        limit: PageLimit,
    ) -> BackendResult<CurrentPage> {
        self.read(move |h| {
            h.unchanged(|engine| current::page(engine, partition, min, at, values, limit))
        })
        .await
    }

    async fn revisions(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: usize,
    ) -> BackendResult<Vec<RevisionId>> {
        self.read(move |h| read::revisions(&*h.engine, partition, min, max, limit))
            .await
    }

    async fn fetch(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: PageLimit,
    ) -> BackendResult<Vec<FetchedRevision>> {
        self.read(move |h| read::fetch(&*h.engine, partition, min, max, limit))
            .await
    }

    async fn obsolete(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        limit: usize,
    ) -> BackendResult<ObsoletePage> {
        self.read(move |h| history::obsolete(&*h.engine, partition, min, at, limit))
            .await
    }

    async fn pack_orders(
        &self,
        partition: Partition,
        after: Tid,
        limit: usize,
    ) -> BackendResult<Vec<(Tid, PackOrder)>> {
        self.read(move |h| {
            h.unchanged(|engine| history::pack_orders(engine, partition, after, limit))
        })
        .await
    }

    async fn final_tid(&self, partition: Partition, txn: TxnId) -> BackendResult<Option<Tid>> {
        self.read(move |h| h.unchanged(|engine| read::final_tid(engine, partition, txn)))
            .await
    }

    async fn unfinished(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>> {
        self.read(move |h| read::unfinished(&*h.engine, after, limit))
            .await
    }

    async fn unfinished_objects(
        &self,
        txn: TxnId,
        after: Option<Oid>,
        limit: usize,
    ) -> BackendResult<Vec<PendingObject>> {
        self.read(move |h| read::unfinished_objects(&*h.engine, txn, after, limit))
            .await
    }

    async fn loose_data(
        &self,
        after: Option<(TxnId, DataId)>,
        limit: usize,
    ) -> BackendResult<Vec<(TxnId, DataId)>> {
        self.read(move |h| read::loose_data(&*h.engine, after, limit))
            .await
    }

    async fn next_data_id(&self) -> BackendResult<DataId> {
        self.read(|h| read::next_data_id(&*h.engine)).await
    }

    async fn last_ids(&self, partition: Partition) -> BackendResult<LastIds> {
        self.read(move |h| h.unchanged(|engine| read::last_ids(engine, partition)))
            .await
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
            .submit(move |handle| handle.apply(batch, durability));
        Box::pin(async move { reply.await? })
    }

    async fn close(&self) -> BackendResult<()> {
        self.here.close();
        if let Some(readers) = &self.readers {
            readers.close().await?;
        }
        // An engine has no end of its own: what it has is made durable, then it is dropped.
        let flush =
            |handle: &mut Handle<E>| handle.engine.apply(KvBatch::default(), Durability::Synced);
        self.writer.close_with(flush).await?
    }
}
