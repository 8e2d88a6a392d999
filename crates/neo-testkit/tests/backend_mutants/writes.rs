//! What a mutant writes, which is not always what it is told.

use std::mem;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use neo_api::{
    At, BackendError, BackendResult, Durability, Loaded, ObjectData, PendingObject, Record, Reign,
    RevisionId, StorageBackend, TxnId, WriteBatch, WriteOp,
};

use super::mutant::Mutant;
use super::mutation::Mutation as M;

/// The result of a future of a backend that runs inline.
fn ready<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("an inline backend is ready")
}

impl Mutant {
    pub(crate) fn applied(&self, batch: WriteBatch, durability: Durability) -> BackendResult<()> {
        self.check_space(&batch)?;
        self.batches.fetch_add(1, Ordering::SeqCst);
        let durability = match self.mutation {
            M::SyncedIsBuffered => Durability::Buffered,
            M::BufferedIsSynced => Durability::Synced,
            _ => durability,
        };
        let mut ops = Vec::new();
        for op in batch.ops {
            ops.extend(self.changed(op)?);
        }
        match self.mutation {
            M::Backwards => ops.reverse(),
            M::OneByOne => {
                for op in ops {
                    self.write(vec![op], durability)?;
                    std::thread::yield_now();
                }
                return Ok(());
            }
            M::BufferedIsLater => {
                let mut waiting = self.waiting.lock().unwrap();
                waiting.append(&mut ops);
                if durability == Durability::Buffered {
                    return Ok(());
                }
                ops = mem::take(&mut *waiting);
            }
            _ => {}
        }
        match self.write(ops, durability) {
            Err(BackendError::Unsupported(_)) if self.mutation == M::TakesWhatIsUnsupported => {
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn write(&self, ops: Vec<WriteOp>, durability: Durability) -> BackendResult<()> {
        ready(self.inner.apply(ops.into(), durability))
    }

    /// As a database has it that keeps some space for what must not be refused.
    fn check_space(&self, batch: &WriteBatch) -> BackendResult<()> {
        let Some(limit) = self.limit.filter(|_| self.mutation != M::LimitIsIgnored) else {
            return Ok(());
        };
        let was_full = self.is_full.load(Ordering::SeqCst);
        let is_refused = match self.mutation {
            M::LocksNeedSpace => was_full,
            M::StaysFull => was_full && batch.brings_values(),
            _ => false,
        };
        let taken = ready(self.inner.bytes())? + batch.weight() as u64;
        if is_refused || batch.brings_values() && taken > limit {
            self.is_full.store(true, Ordering::SeqCst);
            return Err(BackendError::Full);
        }
        Ok(())
    }

    fn changed(&self, op: WriteOp) -> BackendResult<Vec<WriteOp>> {
        Ok(match op {
            WriteOp::PutData {
                id,
                owner,
                mut record,
            } => {
                let short = record.data.len().min(1 << 20);
                record = match self.mutation {
                    M::ValuesAreCut => Record::new(record.compression, record.data.slice(..short)),
                    M::ForgetsCompression => Record::raw(record.data),
                    _ => record,
                };
                vec![WriteOp::PutData { id, owner, record }]
            }
            WriteOp::PutUnfinishedObjects { txn, mut objects } => {
                if self.mutation == M::FirstOfAnOid {
                    objects.reverse();
                }
                let txn = self.named(txn);
                vec![WriteOp::PutUnfinishedObjects { txn, objects }]
            }
            WriteOp::PutUnfinished { txn, mut record } => {
                if let Some(record) = record.as_mut()
                    && self.mutation == M::VotesWithoutOrders
                {
                    record.pack = None;
                }
                let txn = self.named(txn);
                vec![WriteOp::PutUnfinished { txn, record }]
            }
            WriteOp::LockUnfinished { txn, tid } => {
                let txn = self.named(txn);
                let mut ops = vec![WriteOp::LockUnfinished { txn, tid }];
                if self.mutation == M::LocksCreate {
                    let objects = Vec::<PendingObject>::new();
                    ops.insert(0, WriteOp::PutUnfinishedObjects { txn, objects });
                }
                ops
            }
            WriteOp::DropUnfinished { txn } => {
                let txn = self.named(txn);
                let mut ops = vec![WriteOp::DropUnfinished { txn }];
                if self.mutation == M::DropsTakeTheValues {
                    let loose = ready(self.inner.loose_data(None, usize::MAX))?;
                    let own = loose.into_iter().filter(|(owner, _)| *owner == txn);
                    let ids = own.map(|(_, id)| id).collect();
                    ops.push(WriteOp::DeleteData { ids });
                }
                ops
            }
            WriteOp::PutObject {
                partition,
                id,
                data,
            } => {
                if !self.puts(id, data)? {
                    return Ok(Vec::new());
                }
                vec![WriteOp::PutObject {
                    partition,
                    id,
                    data,
                }]
            }
            WriteOp::DeleteObject { partition, id } => {
                let loaded = ready(self.inner.load(partition, id.oid, At::Exact(id.tid)))?;
                let is_there = !matches!(loaded, Loaded::NotYet | Loaded::Unknown);
                let mut ops = vec![WriteOp::DeleteObject { partition, id }];
                match self.mutation {
                    M::DeletionsMustFind if !is_there => {
                        return Err(BackendError::Corrupt("no such revision".to_owned()));
                    }
                    M::DeletionsTakeTheValue => {
                        let value = self.values.lock().unwrap().get(&id).copied().flatten();
                        let ids = value.into_iter().collect();
                        ops.push(WriteOp::DeleteData { ids });
                    }
                    _ => {}
                }
                ops
            }
            WriteOp::ChangeCells { .. } if self.mutation == M::CellsDoNotChange => Vec::new(),
            WriteOp::SetConfig { key, value } if self.mutation == M::ConfigIsCut => {
                let value = value.map(|value| value.slice(..value.len().min(1)));
                vec![WriteOp::SetConfig { key, value }]
            }
            op => vec![op],
        })
    }

    /// Whether a revision is put, of which it is noted.
    fn puts(&self, id: RevisionId, data: ObjectData) -> BackendResult<bool> {
        let value = match data {
            ObjectData::Value(value) => Some(value),
            _ => None,
        };
        let mut values = self.values.lock().unwrap();
        match (self.mutation, values.insert(id, value)) {
            (M::PutsOnce, Some(_)) => Err(BackendError::Corrupt("it is there".to_owned())),
            (M::FirstPutStays, Some(_)) => Ok(false),
            _ => Ok(true),
        }
    }

    fn named(&self, txn: TxnId) -> TxnId {
        match self.mutation {
            M::ReignsAreIgnored => TxnId {
                reign: Reign(1),
                ..txn
            },
            _ => txn,
        }
    }
}
