//! The conformance suite sees what it is for: a backend that breaks a promise fails a case.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use neo_api::{
    At, BackendInfo, BackendResult, CurrentPage, DataId, Durability, FetchedRevision, HistoryEntry,
    LastIds, Loaded, ObsoletePage, Oid, Order, PackOrder, PageLimit, Partition, PartitionTable,
    PendingObject, RevisionId, StorageBackend, Tid, TransactionRecord, TxnId,
    UnfinishedTransaction, WriteBatch,
};
use neo_backends::{KvBackend, MemoryEngine};
use neo_testkit::conformance::backend::{BackendFactory, history, listings, loads, packing};

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// None: the suite must be content.
    Nothing,
    LoadsBackwards,
    LoadsEverything,
    LoadsOneLess,
    NewestIncludesBefore,
    NewestWithoutDeletions,
    HistoryAscending,
    HistoryIncludesBefore,
    HistoryWithoutDeletions,
    HistoryWithoutRepetitions,
    HistoryShortPage,
    TransactionsIgnoreOrder,
    TransactionsOnePageOnly,
    CurrentTellsDeletions,
    CurrentIgnoresTid,
    CurrentExcludesTid,
    CurrentSkipsEmptyPages,
    CurrentEndsEarly,
    CurrentWithoutValues,
    CurrentIgnoresMin,
    BytesUnknown,
    BytesInKibibytes,
    ObsoleteKeepsDeletions,
    ObsoleteTakesTheNewest,
    ObsoleteIgnoresTid,
    ObsoleteNewestFirst,
    ObsoleteEndsEarly,
    ObsoleteWithoutLimit,
    OrdersIncludeAfter,
    OrdersOfAllObjects,
    OrdersWithoutLimit,
}

#[derive(Debug)]
struct Mutant {
    inner: KvBackend<MemoryEngine>,
    mutation: Mutation,
}

impl Mutant {
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
        self.inner.info()
    }

    async fn config(&self, key: &str) -> BackendResult<Option<Bytes>> {
        self.inner.config(key).await
    }

    async fn partition_table(&self) -> BackendResult<Option<PartitionTable>> {
        self.inner.partition_table().await
    }

    async fn load(&self, partition: Partition, oid: Oid, at: At) -> BackendResult<Loaded> {
        self.inner.load(partition, oid, at).await
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
        self.inner.last_serials(oids).await
    }

    async fn transaction(
        &self,
        partition: Partition,
        tid: Tid,
    ) -> BackendResult<Option<TransactionRecord>> {
        self.inner.transaction(partition, tid).await
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
        self.inner.revisions(partition, min, max, limit).await
    }

    async fn fetch(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: PageLimit,
    ) -> BackendResult<Vec<FetchedRevision>> {
        self.inner.fetch(partition, min, max, limit).await
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
        self.inner.final_tid(partition, txn).await
    }

    async fn unfinished(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>> {
        self.inner.unfinished(after, limit).await
    }

    async fn unfinished_objects(
        &self,
        txn: TxnId,
        after: Option<Oid>,
        limit: usize,
    ) -> BackendResult<Vec<PendingObject>> {
        self.inner.unfinished_objects(txn, after, limit).await
    }

    async fn loose_data(
        &self,
        after: Option<(TxnId, DataId)>,
        limit: usize,
    ) -> BackendResult<Vec<(TxnId, DataId)>> {
        self.inner.loose_data(after, limit).await
    }

    async fn next_data_id(&self) -> BackendResult<DataId> {
        self.inner.next_data_id().await
    }

    async fn last_ids(&self, partition: Partition) -> BackendResult<LastIds> {
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
        self.inner.apply(batch, durability)
    }

    async fn close(&self) -> BackendResult<()> {
        self.inner.close().await
    }
}

impl BackendFactory for Mutation {
    type Guard = ();

    fn open(&self) -> ((), Arc<dyn StorageBackend>) {
        let info = BackendInfo::new("Mutant", false);
        let inner = KvBackend::inline(MemoryEngine::default(), info);
        let mutation = *self;
        ((), Arc::new(Mutant { inner, mutation }))
    }
}

/// The cases that a backend fails.
fn failed(mutation: Mutation) -> Vec<&'static str> {
    type Case = fn(&Mutation);
    let cases: [(&str, Case); 13] = [
        ("many", loads::many_at_once),
        ("newest of many", loads::the_newest_of_many),
        ("newest first", history::revisions_of_an_object_newest_first),
        ("history pages", history::a_history_page_by_page),
        ("repetition", history::a_repetition_outlives_what_it_repeats),
        ("as they were", history::objects_as_they_were),
        ("object pages", history::objects_page_by_page),
        ("bounds", listings::transactions_within_bounds_in_order),
        ("pages", listings::transactions_page_by_page),
        ("bytes", listings::bytes_grow_with_what_is_stored),
        ("obsolete", packing::what_is_newest_at_the_tid_stays),
        ("obsolete pages", packing::packing_page_by_page),
        ("orders", packing::orders_of_committed_transactions),
    ];
    let fails = |case: Case| catch_unwind(AssertUnwindSafe(|| case(&mutation))).is_err();
    let failed = cases.into_iter().filter(|(_, case)| fails(*case));
    failed.map(|(name, _)| name).collect()
}

#[test]
fn each_broken_promise_is_found_out() {
    use Mutation as M;
    assert_eq!(failed(M::Nothing), [""; 0]);
    for (mutation, by) in [
        (M::LoadsBackwards, "many"),
        (M::LoadsEverything, "many"),
        (M::LoadsOneLess, "many"),
        (M::NewestIncludesBefore, "newest of many"),
        (M::NewestWithoutDeletions, "newest of many"),
        (M::HistoryAscending, "newest first"),
        (M::HistoryIncludesBefore, "newest first"),
        (M::HistoryWithoutDeletions, "newest first"),
        (M::HistoryWithoutRepetitions, "newest first"),
        (M::HistoryShortPage, "history pages"),
        (M::TransactionsIgnoreOrder, "bounds"),
        (M::TransactionsOnePageOnly, "pages"),
        (M::CurrentTellsDeletions, "as they were"),
        (M::CurrentIgnoresTid, "as they were"),
        (M::CurrentExcludesTid, "as they were"),
        (M::CurrentSkipsEmptyPages, "object pages"),
        (M::CurrentEndsEarly, "object pages"),
        (M::CurrentWithoutValues, "as they were"),
        (M::CurrentIgnoresMin, "object pages"),
        (M::BytesUnknown, "bytes"),
        (M::BytesInKibibytes, "bytes"),
        (M::ObsoleteKeepsDeletions, "obsolete"),
        (M::ObsoleteTakesTheNewest, "obsolete pages"),
        (M::ObsoleteIgnoresTid, "obsolete"),
        (M::ObsoleteNewestFirst, "obsolete"),
        (M::ObsoleteEndsEarly, "obsolete pages"),
        (M::ObsoleteWithoutLimit, "obsolete pages"),
        (M::OrdersIncludeAfter, "orders"),
        (M::OrdersOfAllObjects, "orders"),
        (M::OrdersWithoutLimit, "orders"),
    ] {
        assert!(
            failed(mutation).contains(&by),
            "{mutation:?}: {:?}",
            failed(mutation)
        );
    }
}
