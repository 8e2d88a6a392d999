//! Writes: atomic batches of operations.

use bytes::Bytes;

use crate::id::{DataId, Oid, Partition, Tid, TxnId};
use crate::object::{Record, RevisionId};
use crate::partition_table::{CellChange, PartitionTable, TableVersion};
use crate::transaction::{TransactionRecord, VotedRecord};

/// What must be true when a batch is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// It is visible; a crash may lose it, with everything after it.
    Buffered,
    /// It, and all before it, survives a loss of power.
    Synced,
}

/// Where the value of a revision is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectData {
    /// There is none: the object is deleted, or its creation undone.
    Deleted,
    /// A value written by [`WriteOp::PutData`], before or in the same batch.
    Value(DataId),
    /// The value of the object's revision of exactly this tid, which becomes the `data_serial`; to
    /// repeat a deletion is to delete, and keeps the `data_serial` too.
    SameAs(Tid),
}

/// One object of a transaction that has voted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PendingObject {
    /// Which object.
    pub oid: Oid,
    /// What it becomes.
    pub data: ObjectData,
}

/// One write.
///
/// What [`WriteBatch::check`] refuses is above a limit of every backend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteOp {
    /// Sets a configuration key; `None` removes it. Keys are ASCII, 1 to 64 bytes; values at most
    /// 1 MiB.
    SetConfig {
        /// Name.
        key: String,
        /// Value.
        value: Option<Bytes>,
    },
    /// Replaces the partition table, by one that passes [`PartitionTable::check`].
    SetPartitionTable(PartitionTable),
    /// Changes cells of the stored partition table, which becomes `version`:
    /// [`PartitionTable::apply`]. Refused when none is stored.
    ChangeCells {
        /// The table's version after the change.
        version: TableVersion,
        /// Wanted replicas.
        replicas: u32,
        /// The cells.
        changes: Vec<CellChange>,
    },
    /// Writes a value under an id that was never used.
    ///
    /// With an owner, the value is *loose* until a [`WriteOp::PutObject`] claims it.
    PutData {
        /// Under which id.
        id: DataId,
        /// For which unfinished transaction.
        owner: Option<TxnId>,
        /// The value.
        record: Record,
    },
    /// Removes values, and that they were loose. The caller knows that no revision has them; an id
    /// that is not there is no error.
    DeleteData {
        /// Which.
        ids: Vec<DataId>,
    },
    /// Adds objects to an unfinished transaction, which is created if need be.
    ///
    /// An oid given twice keeps the last.
    PutUnfinishedObjects {
        /// Its name.
        txn: TxnId,
        /// At most [`OPERATION_OBJECTS_MAX`](crate::OPERATION_OBJECTS_MAX).
        objects: Vec<PendingObject>,
    },
    /// Sets the metadata of an unfinished transaction, which is created if need be. Its tid and its
    /// objects stay.
    PutUnfinished {
        /// Its name.
        txn: TxnId,
        /// Metadata and oids, on a node that keeps metadata; `None` removes what is stored.
        record: Option<VotedRecord>,
    },
    /// Notes the final tid of an unfinished transaction; nothing when there is none of that name.
    LockUnfinished {
        /// Its name.
        txn: TxnId,
        /// Its tid.
        tid: Tid,
    },
    /// Forgets an unfinished transaction: what it pends, and that its values were loose. The
    /// values stay.
    DropUnfinished {
        /// Its name.
        txn: TxnId,
    },
    /// Writes a committed revision; one of the same (oid, tid) is replaced.
    ///
    /// Claims the value: it is not loose any more. Fails with `Missing` when the value is
    /// [`ObjectData::SameAs`] a revision that is not there.
    PutObject {
        /// The object's partition.
        partition: Partition,
        /// Which revision.
        id: RevisionId,
        /// Its value.
        data: ObjectData,
    },
    /// Removes a committed revision, and its value unless another revision of the object has the
    /// same; nothing when there is none.
    ///
    /// Those that repeat it (`data_serial`) repeat from now on what it repeats itself; when it
    /// repeats nothing, the oldest of them is an original, and the others repeat that one. So a
    /// `data_serial` names a revision that is there.
    DeleteObject {
        /// The object's partition.
        partition: Partition,
        /// Which revision.
        id: RevisionId,
    },
    /// Writes a committed transaction's metadata; one of the same tid is replaced.
    PutTransaction {
        /// The partition of its tid.
        partition: Partition,
        /// The transaction.
        record: TransactionRecord,
    },
    /// Removes a committed transaction's metadata; nothing when there is none.
    DeleteTransaction {
        /// The partition of its tid.
        partition: Partition,
        /// Which.
        tid: Tid,
    },
}

impl WriteOp {
    /// Whether the operation brings something new, and may be refused for want of space: values,
    /// and what a vote promises. All others finish or undo what was taken before, and must not
    /// fail for it.
    #[must_use]
    pub const fn brings_values(&self) -> bool {
        matches!(
            self,
            Self::PutData { .. } | Self::PutUnfinishedObjects { .. } | Self::PutUnfinished { .. }
        )
    }

    /// About how many bytes the operation writes; for bounds on memory, not for accounts.
    #[must_use]
    pub fn weight(&self) -> usize {
        const ROW: usize = 64;
        ROW + match self {
            Self::SetConfig { value, .. } => value.as_ref().map_or(0, Bytes::len),
            Self::SetPartitionTable(table) => table.rows.iter().map(|r| 16 + 24 * r.len()).sum(),
            Self::ChangeCells { changes, .. } => changes.len() * 32,
            Self::PutData { record, .. } => record.data.len(),
            Self::DeleteData { ids } => ids.len() * 8,
            Self::PutUnfinishedObjects { objects, .. } => objects.len() * 32,
            Self::PutUnfinished { record, .. } => record.as_ref().map_or(0, VotedRecord::weight),
            Self::PutTransaction { record, .. } => record.weight(),
            _ => 0,
        }
    }
}

/// Writes that take effect together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// In the order in which they take effect.
    pub ops: Vec<WriteOp>,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { ops: Vec::new() }
    }

    /// Adds a write.
    pub fn push(&mut self, op: WriteOp) {
        self.ops.push(op);
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Whether an operation of it [brings values](WriteOp::brings_values).
    #[must_use]
    pub fn brings_values(&self) -> bool {
        self.ops.iter().any(WriteOp::brings_values)
    }

    /// About how many bytes it writes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.ops.iter().map(WriteOp::weight).sum()
    }
}

impl From<Vec<WriteOp>> for WriteBatch {
    fn from(ops: Vec<WriteOp>) -> Self {
        Self { ops }
    }
}
