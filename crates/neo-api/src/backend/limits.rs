//! The limits of a batch, the same for every backend.

use super::batch::{WriteBatch, WriteOp};
use super::error::{BackendError, BackendResult};
use crate::id::{Oid, Tid};
use crate::object::{OBJECT_BYTES_MAX, TRANSACTION_OIDS_MAX};
use crate::partition_table::PartitionTable;
use crate::transaction::{METADATA_BYTES_MAX, PACK_OIDS_MAX, PackOrder, TransactionMeta};

/// Most objects of one [`WriteOp::PutUnfinishedObjects`], and most oids of one
/// [`last_serials`](super::StorageBackend::last_serials).
pub const OPERATION_OBJECTS_MAX: usize = 10_000;

const CONFIG_KEY_BYTES_MAX: usize = 64;
const CONFIG_VALUE_BYTES_MAX: usize = 1 << 20;

impl WriteBatch {
    /// Refuses a batch that no backend takes; a backend calls it before it writes anything.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`], which says what is above which limit:
    /// - a configuration key that is empty, not ASCII or longer than 64 bytes, or a value above
    ///   1 MiB;
    /// - a value above [`OBJECT_BYTES_MAX`];
    /// - a user, description or extension above [`METADATA_BYTES_MAX`], or more oids of a
    ///   transaction than [`TRANSACTION_OIDS_MAX`], or of a pack order than [`PACK_OIDS_MAX`];
    /// - more objects in one operation than [`OPERATION_OBJECTS_MAX`];
    /// - a tid above [`Tid::MAX`], of a lock, a revision or a transaction;
    /// - a table that does not pass [`PartitionTable::check`].
    pub fn check(&self) -> BackendResult<()> {
        self.ops.iter().try_for_each(check_op)
    }
}

fn check_op(op: &WriteOp) -> BackendResult<()> {
    match op {
        WriteOp::SetConfig { key, value } => {
            let length = value.as_ref().map_or(0, |value| value.len());
            most(
                "bytes in a configuration value",
                length,
                CONFIG_VALUE_BYTES_MAX,
            )?;
            most(
                "bytes in a configuration key",
                key.len(),
                CONFIG_KEY_BYTES_MAX,
            )?;
            if !key.is_ascii() || key.is_empty() {
                return refuse(format!("{key:?} as a configuration key"));
            }
            Ok(())
        }
        WriteOp::SetPartitionTable(table) => check_table(table),
        WriteOp::PutData { record, .. } => {
            most("bytes in a value", record.data.len(), OBJECT_BYTES_MAX)
        }
        WriteOp::PutUnfinishedObjects { objects, .. } => most(
            "objects in one operation",
            objects.len(),
            OPERATION_OBJECTS_MAX,
        ),
        WriteOp::PutUnfinished {
            record: Some(record),
            ..
        } => check_meta(&record.meta, &record.oids, record.pack.as_ref()),
        WriteOp::LockUnfinished { tid, .. } => check_tid(*tid),
        WriteOp::PutObject { id, .. } => check_tid(id.tid),
        WriteOp::PutTransaction { record, .. } => {
            check_tid(record.tid)?;
            check_meta(&record.meta, &record.oids, record.pack.as_ref())
        }
        _ => Ok(()),
    }
}

fn check_table(table: &PartitionTable) -> BackendResult<()> {
    table.check().or_else(|error| refuse(error.to_string()))
}

fn check_meta(meta: &TransactionMeta, oids: &[Oid], pack: Option<&PackOrder>) -> BackendResult<()> {
    for text in [&meta.user, &meta.description, &meta.extension] {
        most("bytes of metadata", text.len(), METADATA_BYTES_MAX)?;
    }
    if let Some(order) = pack {
        let named = order.oids.as_ref().map_or(0, Vec::len);
        most("oids in a pack order", named, PACK_OIDS_MAX)?;
        check_tid(order.at)?;
    }
    most("oids in a transaction", oids.len(), TRANSACTION_OIDS_MAX)
}

fn check_tid(tid: Tid) -> BackendResult<()> {
    if tid > Tid::MAX {
        return refuse(format!("tid {tid}, above {}", Tid::MAX));
    }
    Ok(())
}

fn most(what: &str, n: usize, max: usize) -> BackendResult<()> {
    if n > max {
        return refuse(format!("{n} {what}, above {max}"));
    }
    Ok(())
}

fn refuse(what: String) -> BackendResult<()> {
    Err(BackendError::Unsupported(what))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::{DataId, Reign, TxnId};
    use crate::object::{Checksum, Compression, Record};

    fn check(op: WriteOp) -> Result<(), String> {
        let batch = WriteBatch::from(vec![op]);
        batch.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_at_a_limit_passes_and_what_is_above_is_refused() {
        let value = |length| WriteOp::PutData {
            id: DataId(1),
            owner: None,
            record: Record {
                compression: Compression::None,
                checksum: Checksum([0; 16]),
                data: Bytes::from(vec![0; length]),
            },
        };
        assert_eq!(check(value(OBJECT_BYTES_MAX)), Ok(()));
        assert_eq!(
            check(value(OBJECT_BYTES_MAX + 1)),
            Err("not supported by this database: 67108865 bytes in a value, above 67108864".into())
        );
        let lock = |tid| WriteOp::LockUnfinished {
            txn: TxnId {
                reign: Reign(1),
                ttid: Tid(1),
            },
            tid,
        };
        assert_eq!(check(lock(Tid::MAX)), Ok(()));
        assert!(check(lock(Tid(Tid::MAX.0 + 1))).is_err());
    }
}
