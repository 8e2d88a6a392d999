//! What a model of a backend has, and what each write does to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use neo_api::{
    BackendError, BackendResult, DataId, FetchedRevision, ObjectData, Oid, Partition,
    PartitionTable, Record, RevisionId, Tid, TransactionRecord, TxnId, VotedRecord, WriteBatch,
    WriteOp,
};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) config: BTreeMap<String, Bytes>,
    pub(super) table: Option<PartitionTable>,
    pub(super) data: BTreeMap<DataId, Record>,
    pub(super) loose: BTreeMap<DataId, TxnId>,
    pub(super) unfinished: BTreeMap<TxnId, Unfinished>,
    pub(super) revisions: BTreeMap<(Partition, Oid, Tid), Rev>,
    pub(super) transactions: BTreeMap<(Partition, Tid), TransactionRecord>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unfinished {
    pub(super) tid: Option<Tid>,
    pub(super) record: Option<VotedRecord>,
    pub(super) objects: BTreeMap<Oid, ObjectData>,
}

/// A committed revision; without a value it is a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rev {
    pub(super) data: Option<DataId>,
    pub(super) data_serial: Option<Tid>,
}

impl State {
    /// When it fails, the state is of no use.
    pub(super) fn apply(&mut self, batch: WriteBatch) -> BackendResult<()> {
        batch.check()?;
        batch.ops.into_iter().try_for_each(|op| self.op(op))
    }

    fn op(&mut self, op: WriteOp) -> BackendResult<()> {
        match op {
            WriteOp::SetConfig { key, value } => {
                match value {
                    Some(value) => self.config.insert(key, value),
                    None => self.config.remove(&key),
                };
            }
            WriteOp::SetPartitionTable(table) => self.table = Some(table),
            WriteOp::ChangeCells {
                version,
                replicas,
                changes,
            } => {
                let refused = |words: String| Err(BackendError::Unsupported(words));
                let Some(table) = &mut self.table else {
                    return refused("no table".to_owned());
                };
                let changed = table.apply(version, replicas, &changes);
                changed.or_else(|error| refused(error.to_string()))?;
            }
            WriteOp::PutData { id, owner, record } => {
                self.data.insert(id, record);
                self.loose.extend(owner.map(|owner| (id, owner)));
            }
            WriteOp::DeleteData { ids } => {
                for id in ids {
                    self.data.remove(&id);
                    self.loose.remove(&id);
                }
            }
            WriteOp::PutUnfinishedObjects { txn, objects } => {
                let unfinished = self.unfinished.entry(txn).or_default();
                let objects = objects.iter().map(|object| (object.oid, object.data));
                unfinished.objects.extend(objects);
            }
            WriteOp::PutUnfinished { txn, record } => {
                self.unfinished.entry(txn).or_default().record = record;
            }
            WriteOp::LockUnfinished { txn, tid } => {
                if let Some(unfinished) = self.unfinished.get_mut(&txn) {
                    unfinished.tid = Some(tid);
                }
            }
            WriteOp::DropUnfinished { txn } => {
                self.unfinished.remove(&txn);
                self.loose.retain(|_, owner| *owner != txn);
            }
            WriteOp::PutObject {
                partition,
                id,
                data,
            } => self.put_object(partition, id, data)?,
            WriteOp::DeleteObject { partition, id } => self.delete_object(partition, id),
            WriteOp::PutTransaction { partition, record } => {
                self.transactions.insert((partition, record.tid), record);
            }
            WriteOp::DeleteTransaction { partition, tid } => {
                self.transactions.remove(&(partition, tid));
            }
            op => return Err(BackendError::Unsupported(format!("{op:?}"))),
        }
        Ok(())
    }

    fn put_object(
        &mut self,
        partition: Partition,
        id: RevisionId,
        data: ObjectData,
    ) -> BackendResult<()> {
        let rev = match data {
            ObjectData::Deleted => Rev {
                data: None,
                data_serial: None,
            },
            ObjectData::Value(data) => {
                self.loose.remove(&data);
                Rev {
                    data: Some(data),
                    data_serial: None,
                }
            }
            ObjectData::SameAs(tid) => {
                let source = self.revisions.get(&(partition, id.oid, tid));
                let source = source.filter(|_| tid != id.tid);
                let missing = BackendError::Missing { oid: id.oid, tid };
                Rev {
                    data: source.ok_or(missing)?.data,
                    data_serial: Some(tid),
                }
            }
        };
        let old = self.revisions.insert((partition, id.oid, id.tid), rev);
        self.release(partition, id.oid, old);
        Ok(())
    }

    fn delete_object(&mut self, partition: Partition, id: RevisionId) {
        let Some(gone) = self.revisions.remove(&(partition, id.oid, id.tid)) else {
            return;
        };
        let mut heir = gone.data_serial;
        for ((p, oid, tid), rev) in &mut self.revisions {
            if (*p, *oid) == (partition, id.oid) && rev.data_serial == Some(id.tid) {
                rev.data_serial = heir;
                heir = heir.or(Some(*tid));
            }
        }
        self.release(partition, id.oid, Some(gone));
    }

    /// A value goes with the last revision of its object that has it.
    fn release(&mut self, partition: Partition, oid: Oid, gone: Option<Rev>) {
        let Some(data) = gone.and_then(|rev| rev.data) else {
            return;
        };
        let mut revisions = self.revisions.iter();
        let is_used = revisions
            .any(|((p, o, _), rev)| (*p, *o) == (partition, oid) && rev.data == Some(data));
        if !is_used {
            self.data.remove(&data);
        }
    }

    /// Revisions of an object, oldest first.
    pub(super) fn object(&self, partition: Partition, oid: Oid) -> Vec<(Tid, Rev)> {
        let revisions = self.revisions.iter();
        let of_it = revisions.filter(|((p, o, _), _)| (*p, *o) == (partition, oid));
        of_it.map(|((.., tid), rev)| (*tid, *rev)).collect()
    }

    pub(super) fn fetched(&self, id: RevisionId, rev: Rev, values: bool) -> FetchedRevision {
        let record = rev.data.filter(|_| values);
        FetchedRevision {
            id,
            record: record.map(|data| self.data[&data].clone()),
            data_serial: rev.data_serial,
        }
    }

    /// Revisions of a partition in order of oid.
    pub(super) fn objects(&self, partition: Partition, min: Oid) -> BTreeMap<Oid, Vec<(Tid, Rev)>> {
        let mut objects = BTreeMap::<_, Vec<_>>::new();
        for ((p, oid, tid), rev) in &self.revisions {
            if *p == partition && *oid >= min {
                objects.entry(*oid).or_default().push((*tid, *rev));
            }
        }
        objects
    }
}
