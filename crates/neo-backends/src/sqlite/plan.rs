//! What each operation does to the tables.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use neo_api::{
    BackendResult, CellChange, CellState, DataId, ObjectData, Oid, Partition, PartitionTable,
    TableVersion, TransactionRecord, TxnId, VotedRecord, WriteBatch, WriteOp,
};
use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, params};

use super::SqliteSettings;
use super::error::{self, Doing, int};
use super::row::SOON;
use super::small::{OBJECTS_MAX, RECORD_BYTES_MAX};
use super::unfinished::Unfinished;
use super::vote::Fresh;
use crate::{limits, pack};

/// A batch while it is applied.
pub(super) struct Plan<'a> {
    conn: &'a Connection,
    /// Values with so many bytes are kept once for all that are equal.
    pub(super) dedup_bytes_min: Option<u32>,
    often: Often<'a>,
    pub(super) unfinished: &'a mut Unfinished,
    pub(super) fresh: BTreeMap<DataId, Fresh>,
    /// How many of them are promised.
    pub(super) promised: usize,
    /// Transactions that are not small by what the batch brings.
    pub(super) oversized: BTreeSet<TxnId>,
    /// Which values the batch gives to others, sorted.
    promises: Vec<(DataId, TxnId)>,
}

/// Statements that a batch runs very often.
#[derive(Default)]
pub(super) struct Often<'a> {
    pub(super) data: Option<CachedStatement<'a>>,
    pub(super) object: Option<CachedStatement<'a>>,
    pub(super) transaction: Option<CachedStatement<'a>>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        conn: &'a Connection,
        settings: &SqliteSettings,
        unfinished: &'a mut Unfinished,
        batch: &WriteBatch,
    ) -> Self {
        let oversized = oversized(batch);
        let is_large = |txn| oversized.contains(&txn) || unfinished.large.contains(&txn);
        let promises = promises(batch, is_large);
        Self {
            conn,
            dedup_bytes_min: settings.dedup_bytes_min,
            often: Often::default(),
            unfinished,
            fresh: BTreeMap::new(),
            promised: 0,
            oversized,
            promises,
        }
    }

    /// Writes what was left to the end of the batch.
    pub(super) fn finish(&mut self) -> BackendResult<()> {
        self.break_promises()?;

        let conn = self.conn;
        self.unfinished.flush(|id, transactions| {
            let sql = match transactions {
                Some(_) => "INSERT OR REPLACE INTO voted VALUES (?1, ?2)",
                None => "DELETE FROM voted WHERE id = ?1",
            };
            let mut statement = conn.prepare_cached(sql).doing("preparing a statement")?;
            let written = match transactions {
                Some(bytes) => statement.execute(params![id, bytes]),
                None => statement.execute([id]),
            };
            written.doing("writing").map(drop)
        })
    }

    /// Whether a later operation of the batch makes a value part of a small transaction.
    pub(super) fn is_promised(&self, id: DataId, txn: TxnId) -> bool {
        self.promises.binary_search(&(id, txn)).is_ok()
    }

    /// Runs a statement that is kept for the batch; tells how many rows it changed.
    pub(super) fn run_often(
        &mut self,
        kept: impl for<'o> FnOnce(&'o mut Often<'a>) -> &'o mut Option<CachedStatement<'a>>,
        sql: &str,
        params: impl Params,
    ) -> BackendResult<usize> {
        let kept = kept(&mut self.often);
        let statement = match kept {
            Some(statement) => statement,
            None => kept.insert(
                self.conn
                    .prepare_cached(sql)
                    .doing("preparing a statement")?,
            ),
        };
        statement.execute(params).doing("writing")
    }

    /// Runs a statement; tells how many rows it changed.
    pub(super) fn run(&self, sql: &str, params: impl Params) -> BackendResult<usize> {
        let mut statement = self
            .conn
            .prepare_cached(sql)
            .doing("preparing a statement")?;
        statement.execute(params).doing("writing")
    }

    /// The first row of what a statement gives, if any.
    pub(super) fn row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> BackendResult<Option<T>> {
        let mut statement = self
            .conn
            .prepare_cached(sql)
            .doing("preparing a statement")?;
        statement
            .query_row(params, read)
            .optional()
            .doing("reading for a write")
    }

    pub(super) fn op(&mut self, op: &WriteOp) -> BackendResult<()> {
        match op {
            WriteOp::SetConfig { key, value } => self.set_config(key, value.as_ref()),
            WriteOp::SetPartitionTable(table) => self.set_table(table),
            WriteOp::ChangeCells {
                version,
                replicas,
                changes,
            } => self.change_cells(*version, *replicas, changes),
            WriteOp::PutData { id, owner, record } => self.put_data(*id, *owner, record),
            WriteOp::DeleteData { ids } => ids.iter().try_for_each(|id| self.delete_data(*id)),
            WriteOp::PutUnfinishedObjects { txn, objects } => {
                self.put_unfinished_objects(*txn, objects)
            }
            WriteOp::PutUnfinished { txn, record } => self.put_unfinished(*txn, record.as_ref()),
            WriteOp::LockUnfinished { txn, tid } => self.lock_unfinished(*txn, *tid),
            WriteOp::DropUnfinished { txn } => self.drop_unfinished(*txn),
            WriteOp::PutObject {
                partition,
                id,
                data,
            } => self.put_object(*partition, *id, *data),
            WriteOp::DeleteObject { partition, id } => self.delete_object(*partition, *id),
            WriteOp::PutTransaction { partition, record } => {
                self.put_transaction(*partition, record)
            }
            WriteOp::DeleteTransaction { partition, tid } => {
                let key = [i64::from(partition.0), error::clamp(tid.0)];
                self.run("DELETE FROM trans WHERE partition = ?1 AND tid = ?2", key)?;
                Ok(())
            }
            op => limits::refuse(format!("the operation {op:?}")),
        }
    }

    fn set_config(&self, key: &str, value: Option<&Bytes>) -> BackendResult<()> {
        match value {
            Some(value) => self.run(
                "INSERT OR REPLACE INTO config VALUES (?1, ?2)",
                params![key, &value[..]],
            ),
            None => self.run("DELETE FROM config WHERE key = ?1", [key]),
        }?;
        Ok(())
    }

    fn set_table(&self, table: &PartitionTable) -> BackendResult<()> {
        self.run("DELETE FROM pt", [])?;
        let np = table.rows.len() as i64;
        self.run("INSERT OR REPLACE INTO meta VALUES ('np', ?1)", [np])?;
        self.run("DELETE FROM meta WHERE key = 'last_storage'", [])?;
        self.set_version(table)?;
        for (partition, row) in table.iter() {
            for cell in row {
                self.put_cell(&CellChange {
                    partition,
                    cell: *cell,
                })?;
            }
        }
        Ok(())
    }

    /// All but the cells. The greatest storage node does not get smaller.
    fn set_version(&self, table: &PartitionTable) -> BackendResult<()> {
        self.run(
            "INSERT OR REPLACE INTO meta VALUES ('reign', ?1), ('ptid', ?2), ('replicas', ?3)",
            [
                int(table.version.reign.0)?,
                int(table.version.ptid.0)?,
                i64::from(table.replicas),
            ],
        )?;
        self.run(
            "INSERT INTO meta VALUES ('last_storage', ?1)
            ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
            [i64::from(table.last_storage)],
        )?;
        Ok(())
    }

    fn put_cell(&self, change: &CellChange) -> BackendResult<()> {
        let cell = &change.cell;
        let (partition, nid) = (
            i64::from(change.partition.0),
            i64::from(u32::from(cell.nid)),
        );
        if cell.state == CellState::Discarded {
            self.run(
                "DELETE FROM pt WHERE partition = ?1 AND nid = ?2",
                [partition, nid],
            )?;
            return Ok(());
        }
        let assigned = &cell.assigned;
        self.run(
            "INSERT OR REPLACE INTO pt VALUES (?1, ?2, ?3, ?4, ?5)",
            [
                partition,
                nid,
                i64::from(u8::from(cell.state)),
                int(assigned.reign.0)?,
                int(assigned.ptid.0)?,
            ],
        )?;
        Ok(())
    }

    fn change_cells(
        &self,
        version: TableVersion,
        replicas: u32,
        changes: &[CellChange],
    ) -> BackendResult<()> {
        let np = self.row("SELECT value FROM meta WHERE key = 'np'", [], |row| {
            row.get(0)
        })?;
        let Some(np) = np.and_then(|np: i64| usize::try_from(np).ok()) else {
            return limits::refuse("a change of a partition table that was not stored".to_owned());
        };
        // Whether they make sense depends on the number of partitions alone.
        let mut table = PartitionTable {
            version,
            replicas,
            last_storage: 0,
            rows: vec![Vec::new(); np],
        };
        table
            .apply(version, replicas, changes)
            .or_else(|error| limits::refuse(error.to_string()))?;
        self.set_version(&table)?;
        changes.iter().try_for_each(|change| self.put_cell(change))
    }

    fn put_transaction(
        &mut self,
        partition: Partition,
        record: &TransactionRecord,
    ) -> BackendResult<()> {
        let (reign, ttid) = name(record.txn)?;
        let tid = int(record.tid.0)?;
        let late = ttid.filter(|ttid| !(1..=SOON).contains(&(tid - ttid)));
        let meta = &record.meta;
        self.run_often(
            |often| &mut often.transaction,
            "INSERT OR REPLACE INTO trans VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                partition.0,
                tid,
                reign,
                ttid,
                late,
                record.packed,
                &meta.user[..],
                &meta.description[..],
                &meta.extension[..],
                oid_bytes(&record.oids),
                record.pack.as_ref().map(pack::encode_order)
            ],
        )?;
        Ok(())
    }
}

fn oversized(batch: &WriteBatch) -> BTreeSet<TxnId> {
    let oversized = batch.ops.iter().filter_map(|op| match op {
        WriteOp::PutUnfinishedObjects { txn, objects } => {
            (objects.len() > OBJECTS_MAX).then_some(*txn)
        }
        WriteOp::PutUnfinished { txn, record } => {
            let bytes = record.as_ref().map_or(0, VotedRecord::weight);
            (bytes > RECORD_BYTES_MAX).then_some(*txn)
        }
        _ => None,
    });
    oversized.collect()
}

fn promises(batch: &WriteBatch, is_large: impl Fn(TxnId) -> bool) -> Vec<(DataId, TxnId)> {
    let mut promises = Vec::new();
    for op in &batch.ops {
        if let WriteOp::PutUnfinishedObjects { txn, objects } = op
            && !is_large(*txn)
        {
            let values = objects.iter().filter_map(|object| match object.data {
                ObjectData::Value(id) => Some((id, *txn)),
                _ => None,
            });
            promises.extend(values);
        }
    }
    promises.sort_unstable();
    promises
}

/// Reign and ttid of a transaction that may have no name.
pub(super) fn name(txn: Option<TxnId>) -> BackendResult<(Option<i64>, Option<i64>)> {
    let reign = txn.map(|txn| int(txn.reign.0)).transpose()?;
    let ttid = txn.map(|txn| int(txn.ttid.0)).transpose()?;
    Ok((reign, ttid))
}

pub(super) fn oid_bytes(oids: &[Oid]) -> Value {
    Value::Blob(oids.iter().flat_map(|oid| oid.to_bytes()).collect())
}
