//! A backend around another one, which counts what it is asked, and how long that takes: is it the
//! database that is slow?
//!
//! It shows how any backend is wrapped. Every method is forwarded, also those that have a default:
//! a method that is left out takes the default in place of what the inner backend does better. The
//! lint at the implementation makes it an error to forget one.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use neo_api::{
    At, BackendInfo, BackendResult, CurrentPage, DataId, Durability, FetchedRevision, HistoryEntry,
    LastIds, Loaded, ObsoletePage, Oid, Order, PackOrder, PageLimit, Partition, PartitionTable,
    PendingObject, RevisionId, StorageBackend, Tid, TransactionRecord, TxnId,
    UnfinishedTransaction, WriteBatch,
};

/// What is known of one method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Calls that ended.
    pub calls: u64,
    /// How many of them failed.
    pub errors: u64,
    /// How long all took together.
    pub time: Duration,
    /// How long the longest took.
    pub longest: Duration,
}

/// A backend whose calls are counted.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn StorageBackend>,
    figures: Mutex<BTreeMap<&'static str, Figures>>,
}

impl Metered {
    /// Counts what a backend is asked from now on.
    #[must_use]
    pub fn new(inner: Arc<dyn StorageBackend>) -> Self {
        let figures = Mutex::default();
        Self { inner, figures }
    }

    /// The figures of each method that was called.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<&'static str, Figures> {
        let figures = self.figures.lock();
        figures.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn timed<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = BackendResult<T>>,
    ) -> BackendResult<T> {
        let start = Instant::now();
        let result = call.await;
        let took = start.elapsed();
        let mut all = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = all.entry(method).or_default();
        figures.calls += 1;
        figures.errors += u64::from(result.is_err());
        figures.time += took;
        figures.longest = figures.longest.max(took);
        result
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl StorageBackend for Metered {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn config(&self, key: &str) -> BackendResult<Option<Bytes>> {
        self.timed("config", self.inner.config(key)).await
    }

    async fn partition_table(&self) -> BackendResult<Option<PartitionTable>> {
        self.timed("partition_table", self.inner.partition_table())
            .await
    }

    async fn load(&self, partition: Partition, oid: Oid, at: At) -> BackendResult<Loaded> {
        self.timed("load", self.inner.load(partition, oid, at))
            .await
    }

    async fn load_many(
        &self,
        objects: &[(Partition, Oid, At)],
        bytes: usize,
    ) -> BackendResult<Vec<Loaded>> {
        self.timed("load_many", self.inner.load_many(objects, bytes))
            .await
    }

    async fn newest_before(
        &self,
        objects: &[(Partition, Oid, Tid)],
    ) -> BackendResult<Vec<Option<HistoryEntry>>> {
        self.timed("newest_before", self.inner.newest_before(objects))
            .await
    }

    async fn last_serials(&self, oids: &[(Partition, Oid)]) -> BackendResult<Vec<Option<Tid>>> {
        self.timed("last_serials", self.inner.last_serials(oids))
            .await
    }

    async fn transaction(
        &self,
        partition: Partition,
        tid: Tid,
    ) -> BackendResult<Option<TransactionRecord>> {
        self.timed("transaction", self.inner.transaction(partition, tid))
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
        self.timed(
            "transactions",
            self.inner.transactions(partition, min, max, order, limit),
        )
        .await
    }

    async fn history(
        &self,
        partition: Partition,
        oid: Oid,
        before: Tid,
        limit: usize,
    ) -> BackendResult<Vec<HistoryEntry>> {
        self.timed("history", self.inner.history(partition, oid, before, limit))
            .await
    }

    async fn current(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        values: bool,
        limit: PageLimit,
    ) -> BackendResult<CurrentPage> {
        self.timed(
            "current",
            self.inner.current(partition, min, at, values, limit),
        )
        .await
    }

    async fn revisions(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: usize,
    ) -> BackendResult<Vec<RevisionId>> {
        self.timed(
            "revisions",
            self.inner.revisions(partition, min, max, limit),
        )
        .await
    }

    async fn fetch(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: PageLimit,
    ) -> BackendResult<Vec<FetchedRevision>> {
        self.timed("fetch", self.inner.fetch(partition, min, max, limit))
            .await
    }

    async fn obsolete(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        limit: usize,
    ) -> BackendResult<ObsoletePage> {
        self.timed("obsolete", self.inner.obsolete(partition, min, at, limit))
            .await
    }

    async fn pack_orders(
        &self,
        partition: Partition,
        after: Tid,
        limit: usize,
    ) -> BackendResult<Vec<(Tid, PackOrder)>> {
        self.timed(
            "pack_orders",
            self.inner.pack_orders(partition, after, limit),
        )
        .await
    }

    async fn final_tid(&self, partition: Partition, txn: TxnId) -> BackendResult<Option<Tid>> {
        self.timed("final_tid", self.inner.final_tid(partition, txn))
            .await
    }

    async fn unfinished(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>> {
        self.timed("unfinished", self.inner.unfinished(after, limit))
            .await
    }

    async fn unfinished_objects(
        &self,
        txn: TxnId,
        after: Option<Oid>,
        limit: usize,
    ) -> BackendResult<Vec<PendingObject>> {
        self.timed(
            "unfinished_objects",
            self.inner.unfinished_objects(txn, after, limit),
        )
        .await
    }

    async fn loose_data(
        &self,
        after: Option<(TxnId, DataId)>,
        limit: usize,
    ) -> BackendResult<Vec<(TxnId, DataId)>> {
        self.timed("loose_data", self.inner.loose_data(after, limit))
            .await
    }

    async fn next_data_id(&self) -> BackendResult<DataId> {
        self.timed("next_data_id", self.inner.next_data_id()).await
    }

    async fn last_ids(&self, partition: Partition) -> BackendResult<LastIds> {
        self.timed("last_ids", self.inner.last_ids(partition)).await
    }

    async fn bytes(&self) -> BackendResult<u64> {
        self.timed("bytes", self.inner.bytes()).await
    }

    async fn close(&self) -> BackendResult<()> {
        let closed = self.timed("close", self.inner.close()).await;
        for (method, figures) in self.figures() {
            tracing::info!(method, ?figures);
        }
        closed
    }

    // Not an `async fn`: the batch is handed over before this returns, whoever polls and whether or
    // not anybody does.
    fn apply<'a, 'f>(
        &'a self,
        batch: WriteBatch,
        durability: Durability,
    ) -> Pin<Box<dyn Future<Output = BackendResult<()>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        let applied = self.inner.apply(batch, durability);
        Box::pin(self.timed("apply", applied))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use neo_testkit::conformance::backend::OnDisk;

    use super::*;
    use crate::log;

    fn open(path: &Path) -> BackendResult<Arc<dyn StorageBackend>> {
        Ok(Arc::new(Metered::new(log::open(path)?)))
    }

    mod backend {
        neo_testkit::backend_conformance!(super::OnDisk(super::open));
    }

    #[tokio::test]
    async fn calls_and_errors_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let backend = Metered::new(log::open(&directory.path().join("log")).unwrap());
        assert_eq!(backend.figures(), BTreeMap::new());
        backend.bytes().await.unwrap();
        backend.bytes().await.unwrap();
        backend.close().await.unwrap();
        backend.bytes().await.unwrap_err();
        let figures = backend.figures();
        let of = |method| (figures[method].calls, figures[method].errors);
        assert_eq!((of("bytes"), of("close")), ((3, 1), (1, 0)));
        assert!(figures["bytes"].longest <= figures["bytes"].time);
    }
}
