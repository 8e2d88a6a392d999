//! Unlocks: what was committed moves to its final place, in pages, one transaction after the other.
//!
//! The order is that of the primary, page by page, so that what is here of a partition is all up to
//! the greatest tid that is here, but for that tid itself: a node that was away goes on from there.

use std::ops::Bound;

use neo_api::{
    Durability, ObjectData, Oid, Partition, RevisionId, Tid, TransactionRecord, TxnId, VotedRecord,
    WriteBatch, WriteOp,
};

use super::{Stage, Transactions, Txn};
use crate::core::cells::Cells;
use crate::core::io::{AfterPersist, Io};

/// Revisions written by one batch of an unlock.
pub(crate) const UNLOCK_PAGE: usize = 1_000;

impl Transactions {
    /// The transaction is committed: it is moved to its final place.
    ///
    /// # Errors
    /// When it is not locked.
    pub(crate) fn unlock(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        txn: TxnId,
    ) -> Result<(), String> {
        let t = self.txns.get_mut(&txn);
        let locked = t.and_then(|t| match t.stage {
            Stage::Locked { tid } => Some((t, tid)),
            _ => None,
        });
        let Some((t, tid)) = locked else {
            return Err(format!("transaction {txn} is not locked here"));
        };
        t.stage = Stage::Unlocking {
            tid,
            after: None,
            writing: false,
        };
        self.unlocking.push_back(txn);
        self.continue_unlocks(cells, io);
        Ok(())
    }

    /// A page of an unlock is written.
    pub(crate) fn unlock_persisted(&mut self, cells: &Cells, io: &mut Io<'_>, txn: TxnId) {
        let Some(t) = self.txns.get_mut(&txn) else {
            return;
        };
        let Stage::Unlocking { tid, after, .. } = t.stage else {
            return;
        };
        t.stage = Stage::Unlocking {
            tid,
            after,
            writing: false,
        };
        if t.stores_after(after) {
            self.continue_unlocks(cells, io);
        } else {
            self.unlocked(cells, io, txn);
        }
    }

    /// Goes on with the first one, and with those that follow when its last page is on its way.
    fn continue_unlocks(&mut self, cells: &Cells, io: &mut Io<'_>) {
        while let Some(txn) = self.unlocking.front().copied() {
            if !self.unlock_page(cells, io, txn) {
                return;
            }
            self.unlocking.pop_front();
        }
    }

    /// Writes the next page, unless one is being written; whether none follows.
    fn unlock_page(&mut self, cells: &Cells, io: &mut Io<'_>, txn: TxnId) -> bool {
        let (Some(t), Some(partitioning)) = (self.txns.get_mut(&txn), cells.partitioning()) else {
            return true;
        };
        let Stage::Unlocking {
            tid,
            after,
            writing: false,
        } = t.stage
        else {
            return false;
        };
        let page: Vec<_> = t.objects_after(after).take(UNLOCK_PAGE).collect();
        let after = page.last().map(|(oid, _)| *oid).or(after);
        let mut batch = WriteBatch::new();
        let mut ids = Vec::new();
        for (oid, data) in page {
            let partition = partitioning.of_oid(oid);
            match data {
                // The cell was discarded meanwhile, and leaves nothing.
                ObjectData::Value(id) if !cells.is_writable(partition) => ids.push(id),
                _ if !cells.is_writable(partition) => {}
                // What it repeats may not be here yet: the cell fetches both.
                ObjectData::SameAs(_) if !cells.is_checked(partition) => {
                    self.holes.push((partition, tid));
                }
                _ => batch.push(WriteOp::PutObject {
                    partition,
                    id: RevisionId { tid, oid },
                    data,
                }),
            }
        }
        if !ids.is_empty() {
            batch.push(WriteOp::DeleteData { ids });
        }
        let is_last = !t.stores_after(after);
        if is_last {
            let partition = partitioning.of_tid(tid);
            let record = t.record.take().filter(|_| cells.is_writable(partition));
            if let Some(record) = record {
                batch.push(committed(partition, txn, tid, *record));
            }
            if t.has_rows {
                batch.push(WriteOp::DropUnfinished { txn });
            }
        }
        let writing = !batch.is_empty() || !is_last;
        if writing && let Some(op) = io.jobs.note_commit(txn.reign) {
            batch.push(op);
        }
        t.stage = Stage::Unlocking {
            tid,
            after,
            writing,
        };
        if writing {
            io.persist_surely(batch, Durability::Buffered, AfterPersist::Unlock(txn));
        } else {
            self.unlocked(cells, io, txn);
        }
        is_last
    }

    /// What it wrote is visible to every reader: its locks end.
    fn unlocked(&mut self, cells: &Cells, io: &mut Io<'_>, txn: TxnId) {
        let Some(t) = self.txns.remove(&txn) else {
            return;
        };
        self.repeats.remove(&txn);
        if let Some(tid) = t.stage.tid() {
            self.locked.remove(&tid);
        }
        for (oid, object) in &t.objects {
            self.read_locks.remove(oid);
            if let (Some(tid), true) = (t.stage.tid(), object.value.is_some()) {
                self.serials.committed(*oid, tid);
            }
        }
        self.forget_unchecked(txn, &t.objects);
        self.unlocked = true;
        self.ordered |= t.orders;
        self.note_ended(txn);
        let granted = self.locks.end(txn);
        self.ready.extend(granted);
        self.run_ready(cells, io);
    }

    /// Revisions that were left out of unlocks since the last time: their partitions and tids.
    pub(crate) fn take_holes(&mut self) -> Vec<(Partition, Tid)> {
        std::mem::take(&mut self.holes)
    }
}

impl Txn {
    /// Rows of objects that it stores, after an oid, in order.
    fn objects_after(
        &self,
        after: Option<Oid>,
    ) -> impl Iterator<Item = (Oid, ObjectData)> + use<'_> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.objects.range((from, Bound::Unbounded));
        rest.filter_map(|(oid, object)| Some((*oid, object.data()?)))
    }
}

/// The row of a committed transaction.
pub(crate) fn committed(
    partition: Partition,
    txn: TxnId,
    tid: Tid,
    record: VotedRecord,
) -> WriteOp {
    let record = TransactionRecord {
        tid,
        txn: Some(txn),
        meta: record.meta,
        // Without objects there is nothing that could not be undone; it is not an emptied one.
        packed: record.packed && !record.oids.is_empty(),
        oids: record.oids,
        pack: record.pack,
    };
    WriteOp::PutTransaction { partition, record }
}
