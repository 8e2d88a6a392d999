//! The limits of a batch, checked before anything is written.

use neo_api::{
    BackendError, BackendResult, METADATA_BYTES_MAX, OBJECT_BYTES_MAX, Oid, PartitionTable,
    TRANSACTION_OIDS_MAX, Tid, TransactionMeta, WriteBatch, WriteOp,
};

/// Most oids of a call, and most objects of one operation.
pub(crate) const OIDS_MAX: usize = 10_000;
const CONFIG_KEY_BYTES_MAX: usize = 64;
const CONFIG_VALUE_BYTES_MAX: usize = 1 << 20;

/// Refuses a batch that no backend takes.
pub(crate) fn check(batch: &WriteBatch) -> BackendResult<()> {
    batch.ops.iter().try_for_each(check_op)
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
        WriteOp::PutUnfinishedObjects { objects, .. } => {
            most("objects in one operation", objects.len(), OIDS_MAX)
        }
        WriteOp::PutUnfinished {
            record: Some((meta, oids)),
            ..
        } => check_meta(meta, oids),
        WriteOp::LockUnfinished { tid, .. } => check_tid(*tid),
        WriteOp::PutObject { id, .. } => check_tid(id.tid),
        WriteOp::PutTransaction { record, .. } => {
            check_tid(record.tid)?;
            check_meta(&record.meta, &record.oids)
        }
        _ => Ok(()),
    }
}

/// Refuses a table that makes no sense.
pub(crate) fn check_table(table: &PartitionTable) -> BackendResult<()> {
    table.check().or_else(|error| refuse(error.to_string()))
}

fn check_meta(meta: &TransactionMeta, oids: &[Oid]) -> BackendResult<()> {
    for text in [&meta.user, &meta.description, &meta.extension] {
        most("bytes of metadata", text.len(), METADATA_BYTES_MAX)?;
    }
    most("oids in a transaction", oids.len(), TRANSACTION_OIDS_MAX)
}

fn check_tid(tid: Tid) -> BackendResult<()> {
    if tid > Tid::MAX {
        return refuse(format!("tid {tid}, above {}", Tid::MAX));
    }
    Ok(())
}

/// Refuses more than `max` of something.
pub(crate) fn most(what: &str, n: usize, max: usize) -> BackendResult<()> {
    if n > max {
        return refuse(format!("{n} {what}, above {max}"));
    }
    Ok(())
}

pub(crate) fn refuse<T>(what: String) -> BackendResult<T> {
    Err(BackendError::Unsupported(what))
}
