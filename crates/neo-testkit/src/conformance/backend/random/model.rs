//! What a backend is to be like: maps, and every answer by a look at all of them.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use neo_api::{
    At, BackendInfo, BackendResult, CurrentPage, DataId, Durability, FetchedRevision, HistoryEntry,
    LastIds, Loaded, ObsoletePage, Oid, Order, PackOrder, PageLimit, Partition, PartitionTable,
    PendingObject, Revision, RevisionId, StorageBackend, Tid, TransactionRecord, TxnId,
    UnfinishedTransaction, WriteBatch,
};

use super::state::{Rev, State};

/// A backend with nothing clever in it.
#[derive(Debug, Default)]
pub(in super::super) struct Model(Mutex<State>);

impl Model {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(state: State) -> Self {
        Self(Mutex::new(state))
    }
}

#[async_trait]
impl StorageBackend for Model {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("Model", false)
    }

    async fn config(&self, key: &str) -> BackendResult<Option<Bytes>> {
        Ok(self.state().config.get(key).cloned())
    }

    async fn partition_table(&self) -> BackendResult<Option<PartitionTable>> {
        Ok(self.state().table.clone())
    }

    async fn load(&self, partition: Partition, oid: Oid, at: At) -> BackendResult<Loaded> {
        let state = self.state();
        let all = state.object(partition, oid);
        let found = match at {
            At::Latest => all.len().checked_sub(1),
            At::Before(before) => all.iter().rposition(|(tid, _)| *tid < before),
            At::Exact(exact) => all.iter().position(|(tid, _)| *tid == exact),
        };
        let Some(found) = found else {
            return Ok(if all.is_empty() {
                Loaded::Unknown
            } else {
                Loaded::NotYet
            });
        };
        let (serial, rev) = all[found];
        let next_serial = all.get(found + 1).map(|(tid, _)| *tid);
        Ok(match rev.data {
            Some(data) => Loaded::Found(Revision {
                serial,
                next_serial,
                record: state.data[&data].clone(),
                data_serial: rev.data_serial,
            }),
            None => Loaded::Deleted {
                serial,
                next_serial,
            },
        })
    }

    async fn last_serials(&self, oids: &[(Partition, Oid)]) -> BackendResult<Vec<Option<Tid>>> {
        let state = self.state();
        let last = |(partition, oid): &(Partition, Oid)| {
            let all = state.object(*partition, *oid);
            all.last().map(|(tid, _)| *tid)
        };
        Ok(oids.iter().map(last).collect())
    }

    async fn transaction(
        &self,
        partition: Partition,
        tid: Tid,
    ) -> BackendResult<Option<TransactionRecord>> {
        Ok(self.state().transactions.get(&(partition, tid)).cloned())
    }

    async fn transactions(
        &self,
        partition: Partition,
        min: Tid,
        max: Tid,
        order: Order,
        limit: PageLimit,
    ) -> BackendResult<Vec<TransactionRecord>> {
        let state = self.state();
        let all = state.transactions.iter();
        let is_in = |(p, tid): &(Partition, Tid)| *p == partition && (min..=max).contains(tid);
        let mut found: Vec<_> = all
            .filter(|(key, _)| is_in(key))
            .map(|(_, record)| record.clone())
            .collect();
        if order == Order::Descending {
            found.reverse();
        }
        Ok(page(found, limit, TransactionRecord::weight))
    }

    async fn history(
        &self,
        partition: Partition,
        oid: Oid,
        before: Tid,
        limit: usize,
    ) -> BackendResult<Vec<HistoryEntry>> {
        let state = self.state();
        let all = state.object(partition, oid);
        let below = all.into_iter().rev().filter(|(tid, _)| *tid < before);
        let entry = |(serial, rev): (Tid, Rev)| HistoryEntry {
            serial,
            data_serial: rev.data_serial,
            bytes: rev.data.map(|data| state.data[&data].data.len() as u32),
        };
        Ok(below.take(limit).map(entry).collect())
    }

    async fn current(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        values: bool,
        limit: PageLimit,
    ) -> BackendResult<CurrentPage> {
        let state = self.state();
        let objects = state.objects(partition, min);
        let (mut found, mut bytes) = (CurrentPage::default(), 0);
        for (n, (oid, revisions)) in (1..).zip(&objects) {
            let newest = revisions.iter().rfind(|(tid, _)| *tid <= at);
            if let Some((tid, rev)) = newest.filter(|(_, rev)| rev.data.is_some()) {
                let id = RevisionId {
                    tid: *tid,
                    oid: *oid,
                };
                let revision = state.fetched(id, *rev, values);
                bytes += revision.record.as_ref().map_or(0, |r| r.data.len());
                found.revisions.push(revision);
                if bytes >= limit.bytes {
                    found.next = oid.checked_next();
                    break;
                }
            }
            if n == limit.entries {
                found.next = oid.checked_next();
                break;
            }
        }
        Ok(found)
    }

    async fn revisions(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: usize,
    ) -> BackendResult<Vec<RevisionId>> {
        let found = self.fetch(partition, min, max, PageLimit::entries(limit));
        Ok(found.await?.iter().map(|revision| revision.id).collect())
    }

    async fn fetch(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: PageLimit,
    ) -> BackendResult<Vec<FetchedRevision>> {
        let state = self.state();
        let mut found: Vec<(RevisionId, Rev)> = Vec::new();
        for ((p, oid, tid), rev) in &state.revisions {
            let (oid, tid) = (*oid, *tid);
            if *p == partition && (tid, oid) >= (min.tid, min.oid) && tid <= max {
                found.push((RevisionId { tid, oid }, *rev));
            }
        }
        found.sort_by_key(|(id, _)| (id.tid, id.oid));
        let found = found.into_iter();
        let found = found
            .map(|(id, rev)| state.fetched(id, rev, true))
            .collect();
        Ok(page(found, limit, |revision: &FetchedRevision| {
            revision.record.as_ref().map_or(0, |r| r.data.len())
        }))
    }

    async fn obsolete(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        limit: usize,
    ) -> BackendResult<ObsoletePage> {
        let state = self.state();
        let mut found = ObsoletePage::default();
        let mut seen = 0;
        for (oid, revisions) in &state.objects(partition, min) {
            let old: Vec<_> = revisions.iter().filter(|(tid, _)| *tid <= at).collect();
            let keeps = old.last().is_some_and(|(_, rev)| rev.data.is_some());
            let gone = &old[..old.len() - usize::from(keeps)];
            let ids = gone.iter().map(|(tid, _)| RevisionId {
                tid: *tid,
                oid: *oid,
            });
            seen += revisions.len();
            if seen > limit.max(1) + 1 {
                found.next = Some(*oid);
                if found.revisions.is_empty() {
                    found.revisions.extend(ids.take(limit.max(1)));
                    let is_whole = found.revisions.len() == gone.len();
                    found.next = if is_whole {
                        oid.checked_next()
                    } else {
                        Some(*oid)
                    };
                }
                break;
            }
            found.revisions.extend(ids);
        }
        Ok(found)
    }

    async fn pack_orders(
        &self,
        partition: Partition,
        after: Tid,
        limit: usize,
    ) -> BackendResult<Vec<(Tid, PackOrder)>> {
        let state = self.state();
        let all = state.transactions.iter();
        let after = all.filter(|((p, tid), _)| *p == partition && *tid > after);
        let orders = after.filter_map(|((_, tid), record)| Some((*tid, record.pack.clone()?)));
        Ok(orders.take(limit).collect())
    }

    async fn final_tid(&self, partition: Partition, txn: TxnId) -> BackendResult<Option<Tid>> {
        let state = self.state();
        if state.unfinished.contains_key(&txn) {
            return Ok(None);
        }
        let mut all = state.transactions.iter();
        let named = all.find(|((p, _), record)| *p == partition && record.txn == Some(txn));
        Ok(named.map(|((_, tid), _)| *tid))
    }

    async fn unfinished(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>> {
        let state = self.state();
        let all = state.unfinished.iter();
        let found = all.filter(|(txn, _)| Some(**txn) > after);
        let found = found.map(|(txn, unfinished)| UnfinishedTransaction {
            txn: *txn,
            tid: unfinished.tid,
            record: unfinished.record.clone(),
        });
        Ok(found.take(limit).collect())
    }

    async fn unfinished_objects(
        &self,
        txn: TxnId,
        after: Option<Oid>,
        limit: usize,
    ) -> BackendResult<Vec<PendingObject>> {
        let state = self.state();
        let all = state.unfinished.get(&txn).into_iter();
        let all = all.flat_map(|unfinished| unfinished.objects.iter());
        let found = all.filter(|(oid, _)| Some(**oid) > after);
        let found = found.map(|(oid, data)| PendingObject {
            oid: *oid,
            data: *data,
        });
        Ok(found.take(limit).collect())
    }

    async fn loose_data(
        &self,
        after: Option<(TxnId, DataId)>,
        limit: usize,
    ) -> BackendResult<Vec<(TxnId, DataId)>> {
        let state = self.state();
        let mut all: Vec<_> = state.loose.iter().map(|(id, txn)| (*txn, *id)).collect();
        all.sort_unstable();
        let found = all.into_iter().filter(|loose| Some(*loose) > after);
        Ok(found.take(limit).collect())
    }

    async fn next_data_id(&self) -> BackendResult<DataId> {
        let last = self.state().data.keys().next_back().copied();
        Ok(DataId(last.map_or(0, |id| id.0) + 1))
    }

    async fn last_ids(&self, partition: Partition) -> BackendResult<LastIds> {
        let state = self.state();
        let transactions = state.transactions.keys();
        let tids: Vec<_> = transactions
            .filter_map(|(p, tid)| (*p == partition).then_some(*tid))
            .collect();
        let revisions = state.revisions.keys();
        let ids: Vec<_> = revisions
            .filter_map(|(p, oid, tid)| (*p == partition).then_some((*oid, *tid)))
            .collect();
        let first = tids.iter().chain(ids.iter().map(|(_, tid)| tid));
        Ok(LastIds {
            first_tid: first.min().copied(),
            last_transaction: tids.last().copied(),
            last_revision: ids.iter().map(|(_, tid)| *tid).max(),
            last_oid: ids.iter().map(|(oid, _)| *oid).max(),
        })
    }

    async fn bytes(&self) -> BackendResult<u64> {
        let state = self.state();
        let values = state.data.values().map(|record| record.data.len() as u64);
        Ok(values.sum())
    }

    fn apply<'a, 'f>(
        &'a self,
        batch: WriteBatch,
        _: Durability,
    ) -> Pin<Box<dyn Future<Output = BackendResult<()>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        let mut state = self.state();
        let mut next = state.clone();
        let outcome = next.apply(batch);
        if outcome.is_ok() {
            *state = next;
        }
        Box::pin(async { outcome })
    }

    async fn close(&self) -> BackendResult<()> {
        Ok(())
    }
}

/// A page ends with the entry that reaches a limit.
fn page<T>(all: Vec<T>, limit: PageLimit, weight: impl Fn(&T) -> usize) -> Vec<T> {
    let mut bytes = 0_usize;
    let mut found = Vec::new();
    for entry in all.into_iter().take(limit.entries) {
        bytes += weight(&entry);
        found.push(entry);
        if bytes >= limit.bytes {
            break;
        }
    }
    found
}
