//! A database through a storage backend: all of neo but the network and the nodes.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use neo_api::{
    At, BackendResult, DataId, Durability, Loaded, ObjectData, Oid, PageLimit, Partition,
    PendingObject, Record, Reign, RevisionId, StorageBackend, Tid, TransactionMeta,
    TransactionRecord, TxnId, WriteBatch, WriteOp,
};
use tokio::runtime::{Builder, Runtime};

use super::subject::{PARTITIONS, Revision, Subject, Transaction};

/// Of what is read at once, as replication does.
const PAGE: PageLimit = PageLimit {
    entries: 1_000,
    bytes: 4 << 20,
};
/// Revisions that a pack looks at, and removes, at once.
const PACK: usize = 1_000;

/// A backend, called from one thread.
#[derive(Debug)]
pub(super) struct Neo {
    runtime: Runtime,
    backend: Arc<dyn StorageBackend>,
    /// What the next batch says of the transactions before.
    unlock: Vec<WriteOp>,
}

impl Neo {
    /// Opens a database by an adapter.
    pub(super) fn open(adapter: &str, database: &str) -> Result<Self> {
        let backend = match adapter {
            #[cfg(feature = "fjall")]
            "Fjall" => super::fjall::open(database)?,
            _ => neo_backends::open(adapter, database)?,
        };
        Ok(Self {
            runtime: Builder::new_current_thread().build()?,
            backend,
            unlock: Vec::new(),
        })
    }

    fn apply(&self, ops: Vec<WriteOp>, durability: Durability) -> Result<()> {
        let applied = self.backend.apply(WriteBatch::from(ops), durability);
        Ok(self.runtime.block_on(applied)?)
    }

    fn wait<R>(&self, future: impl Future<Output = BackendResult<R>>) -> Result<R> {
        Ok(self.runtime.block_on(future)?)
    }
}

fn partition(id: u64) -> Partition {
    Partition((id % PARTITIONS) as u32)
}

fn put_data(revision: &Revision, owner: Option<TxnId>) -> WriteOp {
    WriteOp::PutData {
        id: DataId(revision.data),
        owner,
        record: Record::raw(revision.value.clone()),
    }
}

fn put_object(revision: &Revision) -> WriteOp {
    WriteOp::PutObject {
        partition: partition(revision.oid),
        id: RevisionId {
            tid: Tid(revision.tid),
            oid: Oid(revision.oid),
        },
        data: ObjectData::Value(DataId(revision.data)),
    }
}

fn put_transaction(tid: u64, txn: Option<TxnId>, oids: Vec<Oid>) -> WriteOp {
    let record = TransactionRecord {
        tid: Tid(tid),
        txn,
        meta: TransactionMeta::default(),
        oids,
        packed: false,
        pack: None,
    };
    WriteOp::PutTransaction {
        partition: partition(tid),
        record,
    }
}

fn oids(transaction: &Transaction) -> Vec<Oid> {
    transaction.iter().map(|r| Oid(r.oid)).collect()
}

impl Subject for Neo {
    fn fill(&mut self, transaction: Transaction) -> Result<()> {
        let Some(first) = transaction.first() else {
            return Ok(());
        };
        let mut ops = Vec::with_capacity(2 * transaction.len() + 1);
        for revision in &transaction {
            ops.push(put_data(revision, None));
            ops.push(put_object(revision));
        }
        ops.push(put_transaction(first.tid, None, oids(&transaction)));
        self.apply(ops, Durability::Buffered)
    }

    fn sync(&mut self) -> Result<()> {
        let unlock = std::mem::take(&mut self.unlock);
        self.apply(unlock, Durability::Synced)
    }

    fn commit(&mut self, group: Vec<Transaction>) -> Result<()> {
        let mut vote = std::mem::take(&mut self.unlock);
        let mut lock = Vec::with_capacity(group.len());
        for transaction in group {
            let Some(first) = transaction.first() else {
                continue;
            };
            let tid = Tid(first.tid);
            let txn = TxnId {
                reign: Reign(1),
                ttid: tid,
            };
            let pending = |revision: &Revision| PendingObject {
                oid: Oid(revision.oid),
                data: ObjectData::Value(DataId(revision.data)),
            };
            let objects = transaction.iter().map(pending).collect();
            vote.extend(transaction.iter().map(|r| put_data(r, Some(txn))));
            vote.push(WriteOp::PutUnfinishedObjects { txn, objects });
            let record = (TransactionMeta::default(), oids(&transaction)).into();
            vote.push(WriteOp::PutUnfinished {
                txn,
                record: Some(record),
            });
            lock.push(WriteOp::LockUnfinished { txn, tid });
            self.unlock.extend(transaction.iter().map(put_object));
            let put = put_transaction(first.tid, Some(txn), oids(&transaction));
            self.unlock.push(put);
            self.unlock.push(WriteOp::DropUnfinished { txn });
        }
        self.apply(vote, Durability::Synced)?;
        self.apply(lock, Durability::Synced)
    }

    fn load(&mut self, oid: u64) -> Result<usize> {
        let loaded = self.backend.load(partition(oid), Oid(oid), At::Latest);
        let Loaded::Found(found) = self.wait(loaded)? else {
            bail!("object {oid} is not there");
        };
        Ok(found.record.data.len())
    }

    fn scan(&mut self) -> Result<u64> {
        let mut bytes = 0;
        for partition in (0..PARTITIONS as u32).map(Partition) {
            let mut min = RevisionId {
                tid: Tid::ZERO,
                oid: Oid::ZERO,
            };
            loop {
                let page = self.backend.fetch(partition, min, Tid::MAX, PAGE);
                let page = self.wait(page)?;
                let Some(last) = page.last() else {
                    break;
                };
                min = RevisionId {
                    oid: Oid(last.id.oid.0 + 1),
                    ..last.id
                };
                let records = page.iter().filter_map(|found| found.record.as_ref());
                bytes += records.map(|record| record.data.len() as u64).sum::<u64>();
            }
        }
        Ok(bytes)
    }

    fn pack(&mut self) -> Result<Option<u64>> {
        let mut removed = 0;
        for partition in (0..PARTITIONS as u32).map(Partition) {
            let mut min = Some(Oid::ZERO);
            while let Some(from) = min {
                let page = self.backend.obsolete(partition, from, Tid::MAX, PACK);
                let page = self.wait(page)?;
                ensure!(page.next != Some(from), "a pack does not get on");
                min = page.next;
                removed += page.revisions.len() as u64;
                let delete = |id| WriteOp::DeleteObject { partition, id };
                let ops: Vec<WriteOp> = page.revisions.into_iter().map(delete).collect();
                if !ops.is_empty() {
                    self.apply(ops, Durability::Synced)?;
                }
            }
        }
        Ok(Some(removed))
    }

    fn close(mut self: Box<Self>) -> Result<()> {
        self.sync()?;
        self.wait(self.backend.close())
    }
}
