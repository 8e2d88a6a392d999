//! Writes: each operation becomes puts and deletes of an [`Overlay`].

use std::ops::Bound;

use bytes::Bytes;
use neo_api::{
    BackendError, BackendResult, CellChange, DataId, KvBatch, KvEngine, ObjectData, Oid, Partition,
    PendingObject, Record, RevisionId, Space, TableVersion, Tid, TransactionRecord, TxnId,
    WriteBatch, WriteOp,
};

use super::key;
use super::overlay::Overlay;
use super::value::{self, Rev};
use crate::limits;

/// What a batch means to the engine.
pub(super) fn plan<E: KvEngine>(
    engine: &E,
    batch: WriteBatch,
    shared_bytes_min: usize,
) -> BackendResult<KvBatch> {
    batch.check()?;
    let mut plan = Overlay::new(engine, shared_bytes_min);
    for op in batch.ops {
        plan.op(op)?;
    }
    Ok(plan.finish())
}

impl<E: KvEngine> Overlay<'_, E> {
    fn op(&mut self, op: WriteOp) -> BackendResult<()> {
        match op {
            WriteOp::SetConfig {
                key,
                value: Some(value),
            } => {
                self.put(Space::Config, key.into_bytes(), value);
            }
            WriteOp::SetConfig { key, value: None } => {
                self.delete(Space::Config, key.into_bytes());
            }
            WriteOp::SetPartitionTable(table) => {
                self.put(
                    Space::Config,
                    key::TABLE.to_vec(),
                    value::encode_table(&table)?,
                );
            }
            WriteOp::ChangeCells {
                version,
                replicas,
                changes,
            } => {
                self.change_cells(version, replicas, &changes)?;
            }
            WriteOp::PutData { id, owner, record } => self.put_data(id, owner, &record)?,
            WriteOp::DeleteData { ids } => {
                for id in ids {
                    self.claim(id)?;
                    self.delete_value(id)?;
                }
            }
            WriteOp::PutUnfinishedObjects { txn, objects } => {
                self.put_unfinished_objects(txn, &objects)?;
            }
            WriteOp::PutUnfinished { txn, record } => {
                self.begin(txn)?;
                let key = key::unfinished_record(txn);
                match record {
                    Some(record) => {
                        let encoded = value::encode_unfinished(&record);
                        self.put(Space::Unfinished, key, encoded);
                    }
                    None => self.delete(Space::Unfinished, key),
                }
            }
            WriteOp::LockUnfinished { txn, tid } => {
                let key = key::unfinished(txn);
                if self.get(Space::Unfinished, &key)?.is_some() {
                    self.put(Space::Unfinished, key, value::encode_lock(Some(tid)));
                }
            }
            WriteOp::DropUnfinished { txn } => self.drop_unfinished(txn)?,
            WriteOp::PutObject {
                partition,
                id,
                data,
            } => self.put_object(partition, id, data)?,
            WriteOp::DeleteObject { partition, id } => self.delete_object(partition, id)?,
            WriteOp::PutTransaction { partition, record } => {
                self.put_transaction(partition, &record)?;
            }
            WriteOp::DeleteTransaction { partition, tid } => {
                self.delete_transaction(partition, tid)?;
            }
            op => return limits::refuse(format!("the operation {op:?}")),
        }
        Ok(())
    }

    fn change_cells(
        &mut self,
        version: TableVersion,
        replicas: u32,
        changes: &[CellChange],
    ) -> BackendResult<()> {
        let Some(bytes) = self.get(Space::Config, key::TABLE)? else {
            return limits::refuse("a change of a partition table that was not stored".to_owned());
        };
        let mut table = value::decode_table(&bytes)?;
        table
            .apply(version, replicas, changes)
            .or_else(|error| limits::refuse(error.to_string()))?;
        self.put(
            Space::Config,
            key::TABLE.to_vec(),
            value::encode_table(&table)?,
        );
        Ok(())
    }

    fn put_data(&mut self, id: DataId, owner: Option<TxnId>, record: &Record) -> BackendResult<()> {
        self.put_value(id, record)?;
        if let Some(txn) = owner {
            self.put(Space::Loose, key::owner(id), value::encode_owner(txn));
            self.put(Space::Loose, key::loose(txn, id), Bytes::new());
        } else {
            self.fresh.insert(id);
        }
        Ok(())
    }

    /// Makes a value not loose any more; tells whether it is known to have been nobody's.
    fn claim(&mut self, id: DataId) -> BackendResult<bool> {
        if self.fresh.remove(&id) {
            return Ok(true);
        }
        let Some(owner) = self.get(Space::Loose, &key::owner(id))? else {
            return Ok(false);
        };
        let txn = value::decode_owner(&owner)?;
        self.delete(Space::Loose, key::owner(id));
        self.delete(Space::Loose, key::loose(txn, id));
        Ok(true)
    }

    /// Creates an unfinished transaction unless it is there.
    fn begin(&mut self, txn: TxnId) -> BackendResult<()> {
        let key = key::unfinished(txn);
        if self.get(Space::Unfinished, &key)?.is_none() {
            self.put(Space::Unfinished, key, value::encode_lock(None));
        }
        Ok(())
    }

    fn put_unfinished_objects(
        &mut self,
        txn: TxnId,
        objects: &[PendingObject],
    ) -> BackendResult<()> {
        self.begin(txn)?;
        for object in objects {
            let encoded = value::encode_pending(object.data);
            self.put(Space::Pending, key::pending(txn, object.oid), encoded);
        }
        Ok(())
    }

    fn drop_unfinished(&mut self, txn: TxnId) -> BackendResult<()> {
        self.delete(Space::Unfinished, key::unfinished(txn));
        self.delete(Space::Unfinished, key::unfinished_record(txn));
        for key in self
            .scan(Space::Pending, key::pending_after(txn, None))?
            .into_keys()
        {
            self.delete(Space::Pending, key);
        }
        for key in self.scan(Space::Loose, key::loose_of(txn))?.into_keys() {
            let (_, id) = key::id_of_loose(&key)?;
            self.delete(Space::Loose, key::owner(id));
            self.delete(Space::Loose, key);
        }
        Ok(())
    }

    fn revision(&self, partition: Partition, id: RevisionId) -> BackendResult<Option<Rev>> {
        let found = self.get(Space::Objects, &key::object(partition, id))?;
        found.as_ref().map(Rev::decode).transpose()
    }

    fn put_revision(&mut self, partition: Partition, id: RevisionId, rev: &Rev) {
        let encoded = rev.encode();
        self.put(Space::Objects, key::object(partition, id), encoded.clone());
        self.put(Space::History, key::history(partition, id), encoded);
    }

    fn put_object(
        &mut self,
        partition: Partition,
        id: RevisionId,
        data: ObjectData,
    ) -> BackendResult<()> {
        let old = self.revision(partition, id)?;
        let rev = match data {
            ObjectData::Deleted => Rev {
                data: None,
                data_serial: None,
                shared: false,
            },
            ObjectData::Value(data) => {
                let shared = match old {
                    // The same write again, as after an interruption.
                    Some(old) if old.data == Some(data) => {
                        self.claim(data)?;
                        old.shared
                    }
                    _ => self.is_claimed(partition, id.oid, data)?,
                };
                Rev {
                    data: Some(data),
                    data_serial: None,
                    shared,
                }
            }
            ObjectData::SameAs(tid) => self.repeat(partition, id, tid)?,
        };
        self.put_revision(partition, id, &rev);
        match old {
            Some(old) if old.data != rev.data => self.release(partition, id.oid, old),
            _ => Ok(()),
        }
    }

    /// Claims a value for a revision; tells whether another one had it before.
    fn is_claimed(&mut self, partition: Partition, oid: Oid, data: DataId) -> BackendResult<bool> {
        // The others are searched only when they must be: an object may have very many.
        if self.claim(data)? {
            return Ok(false);
        }
        let sharing = self.sharing(partition, oid, data)?;
        for (id, rev) in &sharing {
            if !rev.shared {
                self.put_revision(
                    partition,
                    *id,
                    &Rev {
                        shared: true,
                        ..*rev
                    },
                );
            }
        }
        Ok(!sharing.is_empty())
    }

    /// The revision that repeats another one.
    fn repeat(&mut self, partition: Partition, id: RevisionId, tid: Tid) -> BackendResult<Rev> {
        let source = RevisionId { tid, oid: id.oid };
        let missing = BackendError::Missing { oid: id.oid, tid };
        if tid == id.tid {
            return Err(missing);
        }
        let found = self.revision(partition, source)?.ok_or(missing)?;
        if found.data.is_some() && !found.shared {
            self.put_revision(
                partition,
                source,
                &Rev {
                    shared: true,
                    ..found
                },
            );
        }
        Ok(Rev {
            data: found.data,
            data_serial: Some(tid),
            // A deletion has nothing to share.
            shared: found.data.is_some(),
        })
    }

    fn delete_object(&mut self, partition: Partition, id: RevisionId) -> BackendResult<()> {
        let Some(old) = self.revision(partition, id)? else {
            return Ok(());
        };
        self.delete(Space::Objects, key::object(partition, id));
        self.delete(Space::History, key::history(partition, id));
        // A deletion shares nothing, and may be repeated all the same.
        if old.shared || old.data.is_none() {
            self.repoint(partition, id, old.data_serial)?;
        }
        self.release(partition, id.oid, old)
    }

    /// A revision is gone: those that repeat it repeat what it repeats, or the oldest of them.
    fn repoint(
        &mut self,
        partition: Partition,
        gone: RevisionId,
        repeats: Option<Tid>,
    ) -> BackendResult<()> {
        let mut heir = repeats;
        for (id, rev) in self.revisions_of(partition, gone.oid)? {
            if rev.data_serial == Some(gone.tid) {
                let data_serial = heir;
                self.put_revision(partition, id, &Rev { data_serial, ..rev });
                heir = heir.or(Some(id.tid));
            }
        }
        Ok(())
    }

    /// Removes the value of a revision that is gone, unless another one has it.
    fn release(&mut self, partition: Partition, oid: Oid, gone: Rev) -> BackendResult<()> {
        if let Some(data) = gone.data
            && (!gone.shared || self.sharing(partition, oid, data)?.is_empty())
        {
            self.delete_value(data)?;
        }
        Ok(())
    }

    /// Revisions of an object that have a value.
    fn sharing(
        &self,
        partition: Partition,
        oid: Oid,
        data: DataId,
    ) -> BackendResult<Vec<(RevisionId, Rev)>> {
        let mut sharing = self.revisions_of(partition, oid)?;
        sharing.retain(|(_, rev)| rev.data == Some(data));
        Ok(sharing)
    }

    /// All revisions of an object, oldest first.
    fn revisions_of(
        &self,
        partition: Partition,
        oid: Oid,
    ) -> BackendResult<Vec<(RevisionId, Rev)>> {
        let all = key::revisions_of(partition, oid, Bound::Unbounded, Bound::Unbounded);
        let all = self.scan(Space::Objects, all)?.into_iter();
        let revision = |(key, bytes): (Vec<u8>, Bytes)| {
            let tid = key::tid_of_object(&key)?;
            Ok((RevisionId { tid, oid }, Rev::decode(&bytes)?))
        };
        all.map(revision).collect()
    }

    fn put_transaction(
        &mut self,
        partition: Partition,
        record: &TransactionRecord,
    ) -> BackendResult<()> {
        self.delete_transaction(partition, record.tid)?;
        let key = key::transaction(partition, record.tid);
        self.put(Space::Transactions, key, value::encode_transaction(record));
        if let Some(txn) = record.txn {
            let name = key::transaction_name(partition, txn);
            self.put(Space::Transactions, name, value::encode_tid(record.tid));
        }
        if record.pack.is_some() {
            let key = key::pack_order(partition, record.tid);
            self.put(Space::Transactions, key, Bytes::new());
        }
        Ok(())
    }

    fn delete_transaction(&mut self, partition: Partition, tid: Tid) -> BackendResult<()> {
        let key = key::transaction(partition, tid);
        let Some(bytes) = self.get(Space::Transactions, &key)? else {
            return Ok(());
        };
        self.delete(Space::Transactions, key);
        self.delete(Space::Transactions, key::pack_order(partition, tid));
        if let Some(txn) = value::decode_transaction(tid, &bytes)?.txn {
            let name = key::transaction_name(partition, txn);
            let named = self.get(Space::Transactions, &name)?;
            if named.as_ref().map(value::decode_tid).transpose()? == Some(tid) {
                self.delete(Space::Transactions, name);
            }
        }
        Ok(())
    }
}
