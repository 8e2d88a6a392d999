//! A backend with one thing wrong in what it tells.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use neo_api::{
    At, BackendInfo, BackendResult, CurrentPage, DataId, Durability, FetchedRevision, HistoryEntry,
    LastIds, Loaded, ObsoletePage, Oid, Order, PackOrder, PageLimit, Partition, PartitionTable,
    PendingObject, RevisionId, StorageBackend, Tid, TransactionRecord, TxnId,
    UnfinishedTransaction, WriteBatch, WriteOp,
};
use neo_backends::KvBackend;

use super::mutation::Mutation;
use super::power::Powered;

#[derive(Debug)]
pub(crate) struct Mutant {
    pub(crate) inner: KvBackend<Powered>,
    pub(crate) mutation: Mutation,
    /// Most bytes that it takes.
    pub(crate) limit: Option<u64>,
    pub(crate) is_full: AtomicBool,
    /// Batches so far.
    pub(crate) batches: AtomicU64,
    /// Buffered operations that wait for a batch that is synced.
    pub(crate) waiting: Mutex<Vec<WriteOp>>,
    /// Revisions that were put, and what value of its own each has.
    pub(crate) values: Mutex<BTreeMap<RevisionId, Option<DataId>>>,
}

impl Mutant {
    pub(crate) fn new(engine: Powered, mutation: Mutation, limit: Option<u64>) -> Self {
        let info = BackendInfo::new("Mutant", true);
        Self {
            inner: KvBackend::inline(engine, info),
            mutation,
            limit,
            is_full: AtomicBool::new(false),
            batches: AtomicU64::new(0),
            waiting: Mutex::default(),
            values: Mutex::default(),
        }
    }

    /// An object as it was at a tid, if it is deleted then.
    async fn deletion(&self, partition: Partition, oid: Oid, at: Tid) -> Option<FetchedRevision> {
        let before = at.checked_next().unwrap_or(at);
        match self.inner.load(partition, oid, At::Before(before)).await {
            Ok(Loaded::Deleted { serial: tid, .. }) => Some(FetchedRevision {
                id: RevisionId { tid, oid },
                record: None,
                data_serial: None,
            }),
            _ => None,
        }
    }
}

#[async_trait]
impl StorageBackend for Mutant {
    fn info(&self) -> BackendInfo {
        let mut info = self.inner.info();
        info.persistent = self.mutation != Mutation::SaysItIsNotPersistent;
        info
    }

    async fn config(&self, key: &str) -> BackendResult<Option<Bytes>> {
        let value = self.inner.config(key).await?;
        let is_kept =
            |value: &Bytes| !value.is_empty() || self.mutation != Mutation::EmptyConfigIsNone;
        Ok(value.filter(is_kept))
    }

    async fn partition_table(&self) -> BackendResult<Option<PartitionTable>> {
        self.inner.partition_table().await
    }

    async fn load(&self, partition: Partition, oid: Oid, at: At) -> BackendResult<Loaded> {
        let mut loaded = self.inner.load(partition, oid, at).await?;
        match (self.mutation, &mut loaded) {
            (Mutation::UnknownIsNotYet, Loaded::Unknown) => return Ok(Loaded::NotYet),
            (Mutation::DeletionsAreUnknown, Loaded::Deleted { .. }) => return Ok(Loaded::Unknown),
            (Mutation::GreatestOidIsUnknown, _) if oid.0 >= i64::MAX as u64 => {
                return Ok(Loaded::Unknown);
            }
            (Mutation::NoSuccessors, Loaded::Found(found)) => found.next_serial = None,
            (Mutation::RepetitionsAreOriginals, Loaded::Found(found)) => found.data_serial = None,
            (Mutation::SuccessorsOfOthers, Loaded::Found(found)) if found.next_serial.is_none() => {
                let next = [(partition, Oid(oid.0.saturating_add(1)))];
                let next = self.inner.last_serials(&next).await?;
                found.next_serial = next[0].filter(|next| *next > found.serial);
            }
            (Mutation::AnswersLate, _) => tokio::task::yield_now().await,
            _ => {}
        }
        Ok(loaded)
    }

    async fn load_many(
        &self,
        objects: &[(Partition, Oid, At)],
        mut bytes: usize,
    ) -> BackendResult<Vec<Loaded>> {
        if self.mutation == Mutation::LoadsEverything {
            bytes = usize::MAX;
        }
        let mut found = self.inner.load_many(objects, bytes).await?;
        match self.mutation {
            Mutation::LoadsBackwards => found.reverse(),
            Mutation::LoadsOneLess if found.len() > 1 => found.truncate(found.len() - 1),
            _ => {}
        }
        Ok(found)
    }

    async fn newest_before(
        &self,
        objects: &[(Partition, Oid, Tid)],
    ) -> BackendResult<Vec<Option<HistoryEntry>>> {
        let mut objects = objects.to_vec();
        if self.mutation == Mutation::NewestIncludesBefore {
            for (_, _, before) in &mut objects {
                *before = before.checked_next().unwrap_or(*before);
            }
        }
        let mut found = self.inner.newest_before(&objects).await?;
        if self.mutation == Mutation::NewestWithoutDeletions {
            for entry in &mut found {
                *entry = entry.filter(|entry| entry.bytes.is_some());
            }
        }
        Ok(found)
    }

    async fn last_serials(&self, oids: &[(Partition, Oid)]) -> BackendResult<Vec<Option<Tid>>> {
        let mut serials = self.inner.last_serials(oids).await?;
        if self.mutation == Mutation::SerialsBackwards {
            serials.reverse();
        }
        Ok(serials)
    }

    async fn transaction(
        &self,
        partition: Partition,
        tid: Tid,
    ) -> BackendResult<Option<TransactionRecord>> {
        let mut record = self.inner.transaction(partition, tid).await?;
        if let Some(record) = record.as_mut()
            && self.mutation == Mutation::TransactionsWithoutExtension
        {
            record.meta.extension = Bytes::new();
        }
        Ok(record)
    }

    async fn transactions(
        &self,
        partition: Partition,
        min: Tid,
        max: Tid,
        mut order: Order,
        limit: PageLimit,
    ) -> BackendResult<Vec<TransactionRecord>> {
        let down = order == Order::Descending;
        if down && self.mutation == Mutation::TransactionsIgnoreOrder {
            order = Order::Ascending;
        }
        let page = self.inner.transactions(partition, min, max, order, limit);
        let mut page = page.await?;
        if down && self.mutation == Mutation::TransactionsOnePageOnly {
            page.truncate(64);
        }
        Ok(page)
    }

    async fn history(
        &self,
        partition: Partition,
        oid: Oid,
        mut before: Tid,
        limit: usize,
    ) -> BackendResult<Vec<HistoryEntry>> {
        if self.mutation == Mutation::HistoryIncludesBefore {
            before = before.checked_next().unwrap_or(before);
        }
        let page = self.inner.history(partition, oid, before, limit);
        let mut page = page.await?;
        match self.mutation {
            Mutation::HistoryAscending => page.reverse(),
            Mutation::HistoryWithoutDeletions => page.retain(|entry| entry.bytes.is_some()),
            Mutation::HistoryWithoutRepetitions => {
                for entry in &mut page {
                    entry.data_serial = None;
                }
            }
            Mutation::RepetitionsHaveNoSize => {
                for entry in page.iter_mut().filter(|entry| entry.data_serial.is_none()) {
                    entry.bytes = entry.bytes.map(|_| 0);
                }
            }
            Mutation::HistoryShortPage if page.len() > 2 => page.truncate(2),
            _ => {}
        }
        Ok(page)
    }

    async fn bytes(&self) -> BackendResult<u64> {
        match self.mutation {
            Mutation::BytesUnknown => Ok(0),
            Mutation::BytesInKibibytes => Ok(self.inner.bytes().await? / 1024),
            _ => self.inner.bytes().await,
        }
    }

    async fn current(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        values: bool,
        limit: PageLimit,
    ) -> BackendResult<CurrentPage> {
        let (min, at, values) = match self.mutation {
            Mutation::CurrentIgnoresMin => (Oid(min.0.saturating_sub(1)), at, values),
            Mutation::CurrentIgnoresTid => (min, Tid(u64::MAX), values),
            Mutation::CurrentExcludesTid => (min, Tid(at.0 - 1), values),
            Mutation::CurrentWithoutValues => (min, at, false),
            _ => (min, at, values),
        };
        let page = self.inner.current(partition, min, at, values, limit);
        let mut page = page.await?;
        match self.mutation {
            Mutation::CurrentTellsDeletions => {
                for oid in (min.0..min.0.saturating_add(60)).map(Oid) {
                    page.revisions
                        .extend(self.deletion(partition, oid, at).await);
                }
            }
            Mutation::CurrentSkipsEmptyPages if page.revisions.is_empty() => page.next = None,
            Mutation::CurrentEndsEarly => page.next = None,
            _ => {}
        }
        Ok(page)
    }

    async fn revisions(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: usize,
    ) -> BackendResult<Vec<RevisionId>> {
        let mut page = self.inner.revisions(partition, min, max, limit).await?;
        match self.mutation {
            Mutation::RevisionsByOid => page.sort_unstable_by_key(|id| (id.oid, id.tid)),
            Mutation::RevisionsShortPage if page.len() > 2 => page.truncate(2),
            Mutation::PagesMove if self.batches.load(Ordering::SeqCst).is_multiple_of(2) => {
                let first = usize::from(!page.is_empty());
                page.rotate_left(first);
            }
            _ => {}
        }
        Ok(page)
    }

    async fn fetch(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        mut limit: PageLimit,
    ) -> BackendResult<Vec<FetchedRevision>> {
        if self.mutation == Mutation::FetchIgnoresBytes {
            limit.bytes = usize::MAX;
        }
        let mut page = self.inner.fetch(partition, min, max, limit).await?;
        for fetched in &mut page {
            match self.mutation {
                Mutation::FetchWithoutValues => fetched.record = None,
                Mutation::FetchWithoutRepetitions => fetched.data_serial = None,
                _ => {}
            }
        }
        Ok(page)
    }

    async fn obsolete(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        limit: usize,
    ) -> BackendResult<ObsoletePage> {
        let (at, limit) = match self.mutation {
            Mutation::ObsoleteIgnoresTid => (Tid::MAX, limit),
            Mutation::ObsoleteWithoutLimit => (at, 1_000),
            _ => (at, limit),
        };
        let mut page = self.inner.obsolete(partition, min, at, limit).await?;
        match self.mutation {
            Mutation::ObsoleteNewestFirst => page.revisions.reverse(),
            Mutation::ObsoleteEndsEarly => page.next = None,
            Mutation::ObsoleteTakesTheNewest => {
                if let Some(last) = page.revisions.last().copied() {
                    let before = at.checked_next().unwrap_or(at);
                    let newest = self.inner.load(partition, last.oid, At::Before(before));
                    if let Loaded::Found(newest) = newest.await? {
                        let (tid, oid) = (newest.serial, last.oid);
                        page.revisions.push(RevisionId { tid, oid });
                    }
                }
            }
            Mutation::ObsoleteKeepsDeletions => {
                let mut kept = Vec::new();
                for id in page.revisions {
                    let (oid, at) = (id.oid, At::Exact(id.tid));
                    let loaded = self.inner.load(partition, oid, at).await?;
                    if matches!(loaded, Loaded::Found(_)) {
                        kept.push(id);
                    }
                }
                page.revisions = kept;
            }
            _ => {}
        }
        Ok(page)
    }

    async fn pack_orders(
        &self,
        partition: Partition,
        mut after: Tid,
        mut limit: usize,
    ) -> BackendResult<Vec<(Tid, PackOrder)>> {
        match self.mutation {
            Mutation::OrdersIncludeAfter => after = Tid(after.0.saturating_sub(1)),
            Mutation::OrdersWithoutLimit => limit = 1_000,
            _ => {}
        }
        let mut page = self.inner.pack_orders(partition, after, limit).await?;
        if self.mutation == Mutation::OrdersOfAllObjects {
            for (_, order) in &mut page {
                order.oids = None;
            }
        }
        Ok(page)
    }

    async fn final_tid(&self, partition: Partition, txn: TxnId) -> BackendResult<Option<Tid>> {
        match self.mutation {
            Mutation::NoFinalTids => Ok(None),
            _ => self.inner.final_tid(partition, txn).await,
        }
    }

    async fn unfinished(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>> {
        let mut page = self.inner.unfinished(after, limit).await?;
        match self.mutation {
            Mutation::NamesBackwards => page.reverse(),
            Mutation::LocksAreForgotten => {
                for found in &mut page {
                    found.tid = None;
                }
            }
            _ => {}
        }
        Ok(page)
    }

    async fn unfinished_objects(
        &self,
        mut txn: TxnId,
        after: Option<Oid>,
        limit: usize,
    ) -> BackendResult<Vec<PendingObject>> {
        if self.mutation == Mutation::ObjectsOfTheFirst {
            let all = self.inner.unfinished(None, 1).await?;
            txn = all.first().map_or(txn, |first| first.txn);
        }
        let mut page = self.inner.unfinished_objects(txn, after, limit).await?;
        if self.mutation == Mutation::ObjectsBackwards {
            page.reverse();
        }
        Ok(page)
    }

    async fn loose_data(
        &self,
        after: Option<(TxnId, DataId)>,
        limit: usize,
    ) -> BackendResult<Vec<(TxnId, DataId)>> {
        let mut page = self.inner.loose_data(after, limit).await?;
        match self.mutation {
            Mutation::NothingIsLoose => page.clear(),
            Mutation::LooseBackwards => page.reverse(),
            _ => {}
        }
        Ok(page)
    }

    async fn next_data_id(&self) -> BackendResult<DataId> {
        let next = self.inner.next_data_id().await?;
        Ok(match self.mutation {
            Mutation::NextDataIdIsTheLast => DataId(next.0 - 1),
            _ => next,
        })
    }

    async fn last_ids(&self, mut partition: Partition) -> BackendResult<LastIds> {
        if self.mutation == Mutation::LastIdsOfAnother {
            partition = Partition(0);
        }
        self.inner.last_ids(partition).await
    }

    fn apply<'a, 'f>(
        &'a self,
        batch: WriteBatch,
        durability: Durability,
    ) -> Pin<Box<dyn Future<Output = BackendResult<()>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        if self.mutation == Mutation::AppliesWhenPolled {
            return Box::pin(async move { self.inner.apply(batch, durability).await });
        }
        let outcome = self.applied(batch, durability);
        Box::pin(async { outcome })
    }

    async fn close(&self) -> BackendResult<()> {
        match self.mutation {
            Mutation::AnswersAfterClose => Ok(()),
            _ => self.inner.close().await,
        }
    }
}
