//! What each operation does to the tables.

use std::collections::BTreeMap;

use bytes::Bytes;
use neo_api::{
    BackendError, BackendResult, CellChange, CellState, DataId, ObjectData, Oid, Partition,
    PartitionTable, Record, RevisionId, TableVersion, Tid, TransactionMeta, TransactionRecord,
    TxnId, WriteOp,
};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Params, params};

use super::error::{self, Doing, int};
use super::pending;
use crate::limits;

/// A batch while it is applied.
pub(super) struct Plan<'a> {
    conn: &'a Connection,
    /// Values that came with this batch, for whom, and that no revision has yet.
    fresh: BTreeMap<DataId, Option<TxnId>>,
}

impl<'a> Plan<'a> {
    pub(super) const fn new(conn: &'a Connection) -> Self {
        Self {
            conn,
            fresh: BTreeMap::new(),
        }
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
    fn row<T>(
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
                self.begin(*txn)?;
                let Some(parcel) = pending::pack(objects)? else {
                    return Ok(());
                };
                self.run(
                    "INSERT INTO pending SELECT ?1, ?2, 1 + coalesce(max(seq), 0), ?3, ?4, ?5
                     FROM pending WHERE reign = ?1 AND ttid = ?2",
                    params![
                        int(txn.reign.0)?,
                        int(txn.ttid.0)?,
                        parcel.least,
                        parcel.greatest,
                        parcel.bytes
                    ],
                )?;
                Ok(())
            }
            WriteOp::PutUnfinished { txn, record } => self.put_unfinished(*txn, record.as_ref()),
            WriteOp::LockUnfinished { txn, tid } => {
                self.run(
                    "UPDATE unfinished SET tid = ?3 WHERE reign = ?1 AND ttid = ?2",
                    [int(txn.reign.0)?, int(txn.ttid.0)?, int(tid.0)?],
                )?;
                Ok(())
            }
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
        self.set_version(table.version, table.replicas)?;
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

    fn set_version(&self, version: TableVersion, replicas: u32) -> BackendResult<()> {
        self.run(
            "INSERT OR REPLACE INTO meta VALUES ('reign', ?1), ('ptid', ?2), ('replicas', ?3)",
            [
                int(version.reign.0)?,
                int(version.ptid.0)?,
                i64::from(replicas),
            ],
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
            rows: vec![Vec::new(); np],
        };
        table
            .apply(version, replicas, changes)
            .or_else(|error| limits::refuse(error.to_string()))?;
        self.set_version(version, replicas)?;
        changes.iter().try_for_each(|change| self.put_cell(change))
    }

    fn put_data(&mut self, id: DataId, owner: Option<TxnId>, record: &Record) -> BackendResult<()> {
        let at = int(id.0)?;
        let (reign, ttid) = name(owner)?;
        self.run(
            "INSERT OR REPLACE INTO data VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                at,
                reign,
                ttid,
                u8::from(record.compression),
                &record.checksum.0[..],
                &record.data[..]
            ],
        )?;
        if let (Some(reign), Some(ttid)) = (reign, ttid) {
            self.run(
                "INSERT OR REPLACE INTO loose VALUES (?1, ?2, ?3)",
                [reign, ttid, at],
            )?;
        }
        self.fresh.insert(id, owner);
        Ok(())
    }

    fn delete_data(&mut self, id: DataId) -> BackendResult<()> {
        self.fresh.remove(&id);
        let at = error::clamp(id.0);
        let owner = self.row(
            "DELETE FROM data WHERE id = ?1 RETURNING reign, ttid",
            [at],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if let Some((Some(reign), Some(ttid))) = owner {
            self.not_loose([reign, ttid, at])?;
        }
        Ok(())
    }

    fn not_loose(&self, key: [i64; 3]) -> BackendResult<bool> {
        let sql = "DELETE FROM loose WHERE reign = ?1 AND ttid = ?2 AND id = ?3";
        Ok(self.run(sql, key)? == 1)
    }

    /// Makes a value not loose any more; tells whether it is known to have been nobody's.
    fn claim(&mut self, id: DataId) -> BackendResult<bool> {
        let at = int(id.0)?;
        let fresh = self.fresh.remove(&id);
        let owner = match fresh {
            Some(owner) => name(owner)?,
            None => self
                .row("SELECT reign, ttid FROM data WHERE id = ?1", [at], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .ok_or_else(|| BackendError::Corrupt(format!("there is no value {id}")))?,
        };
        let was_loose = match owner {
            (Some(reign), Some(ttid)) => self.not_loose([reign, ttid, at])?,
            _ => false,
        };
        Ok(was_loose || fresh.is_some())
    }

    /// Creates an unfinished transaction unless it is there.
    fn begin(&self, txn: TxnId) -> BackendResult<()> {
        let key = [int(txn.reign.0)?, int(txn.ttid.0)?];
        self.run(
            "INSERT OR IGNORE INTO unfinished (reign, ttid) VALUES (?1, ?2)",
            key,
        )?;
        Ok(())
    }

    fn put_unfinished(
        &self,
        txn: TxnId,
        record: Option<&(TransactionMeta, Vec<Oid>)>,
    ) -> BackendResult<()> {
        let (meta, oids) = record.map(|(meta, oids)| (meta, oids)).unzip();
        let blob = |bytes: fn(&TransactionMeta) -> &Bytes| meta.map(|m| &bytes(m)[..]);
        self.run(
            "INSERT INTO unfinished (reign, ttid, user, description, extension, oids)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET user = excluded.user, description = excluded.description,
                 extension = excluded.extension, oids = excluded.oids",
            params![
                int(txn.reign.0)?,
                int(txn.ttid.0)?,
                blob(|meta| &meta.user),
                blob(|meta| &meta.description),
                blob(|meta| &meta.extension),
                oids.map(|oids| oid_bytes(oids)),
            ],
        )?;
        Ok(())
    }

    fn drop_unfinished(&self, txn: TxnId) -> BackendResult<()> {
        let key = [error::clamp(txn.reign.0), error::clamp(txn.ttid.0)];
        self.run("DELETE FROM unfinished WHERE reign = ?1 AND ttid = ?2", key)?;
        self.run("DELETE FROM pending WHERE reign = ?1 AND ttid = ?2", key)?;
        self.run("DELETE FROM loose WHERE reign = ?1 AND ttid = ?2", key)?;
        Ok(())
    }

    fn put_object(
        &mut self,
        partition: Partition,
        id: RevisionId,
        data: ObjectData,
    ) -> BackendResult<()> {
        let key = [i64::from(partition.0), int(id.oid.0)?, int(id.tid.0)?];
        let new = match data {
            ObjectData::Deleted => Rev::default(),
            ObjectData::Value(data) => Rev {
                data: Some(int(data.0)?),
                ..Rev::default()
            },
            ObjectData::SameAs(tid) => self.repeat(key, id, tid)?,
        };
        // Nearly always the revision is new: that is found out by adding it.
        let added = self.run(
            "INSERT INTO obj VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            params![key[0], key[1], key[2], new.data, new.data_tid, new.shared],
        )? == 1;
        let old = if added {
            None
        } else {
            Some(self.replace(key, new)?)
        };
        if let ObjectData::Value(data) = data {
            let again = old.is_some_and(|old| old.data == new.data);
            if !self.claim(data)? && !again {
                self.share(key, new)?;
            }
        }
        match old {
            Some(old) if old.data != new.data => self.release(key, old),
            _ => Ok(()),
        }
    }

    /// Writes over a revision that is there; gives what it was.
    fn replace(&self, key: [i64; 3], new: Rev) -> BackendResult<Rev> {
        let sql = "SELECT data_id, data_tid, shared FROM obj
                   WHERE partition = ?1 AND oid = ?2 AND tid = ?3";
        let old = self.row(sql, key, Rev::read)?;
        let old = old.ok_or_else(|| BackendError::Corrupt("a revision comes and goes".into()))?;
        let shared = new.shared || (old.shared && old.data == new.data);
        self.run(
            "UPDATE obj SET data_id = ?4, data_tid = ?5, shared = ?6
             WHERE partition = ?1 AND oid = ?2 AND tid = ?3",
            params![key[0], key[1], key[2], new.data, new.data_tid, shared],
        )?;
        Ok(old)
    }

    /// Marks the revisions that have the value of `rev`, when there are several.
    fn share(&self, [partition, oid, _]: [i64; 3], rev: Rev) -> BackendResult<()> {
        let sharing = self.row(
            "SELECT count(*) FROM obj WHERE partition = ?1 AND oid = ?2 AND data_id = ?3",
            params![partition, oid, rev.data],
            |row| row.get::<_, i64>(0),
        )?;
        if sharing.is_some_and(|n| n > 1) {
            self.run(
                "UPDATE obj SET shared = 1 WHERE partition = ?1 AND oid = ?2 AND data_id = ?3",
                params![partition, oid, rev.data],
            )?;
        }
        Ok(())
    }

    /// The revision that repeats another one.
    fn repeat(
        &self,
        [partition, oid, own]: [i64; 3],
        id: RevisionId,
        tid: Tid,
    ) -> BackendResult<Rev> {
        let missing = BackendError::Missing { oid: id.oid, tid };
        let Ok(source) = i64::try_from(tid.0) else {
            return Err(missing);
        };
        if source == own {
            return Err(missing);
        }
        let key = [partition, oid, source];
        let sql = "SELECT data_id, data_tid, shared FROM obj
                   WHERE partition = ?1 AND oid = ?2 AND tid = ?3";
        let found = self.row(sql, key, Rev::read)?.ok_or(missing)?;
        if found.data.is_some() && !found.shared {
            self.run(
                "UPDATE obj SET shared = 1 WHERE partition = ?1 AND oid = ?2 AND tid = ?3",
                key,
            )?;
        }
        Ok(Rev {
            data: found.data,
            data_tid: Some(source),
            // A deletion has nothing to share.
            shared: found.data.is_some(),
        })
    }

    fn delete_object(&self, partition: Partition, id: RevisionId) -> BackendResult<()> {
        let key = [
            i64::from(partition.0),
            error::clamp(id.oid.0),
            error::clamp(id.tid.0),
        ];
        let sql = "DELETE FROM obj WHERE partition = ?1 AND oid = ?2 AND tid = ?3
                   RETURNING data_id, data_tid, shared";
        match self.row(sql, key, Rev::read)? {
            Some(gone) => self.release(key, gone),
            None => Ok(()),
        }
    }

    /// Removes the value of a revision that is gone, unless another one has it.
    fn release(&self, [partition, oid, _]: [i64; 3], gone: Rev) -> BackendResult<()> {
        let Some(data) = gone.data else {
            return Ok(());
        };
        if gone.shared {
            let sql = "SELECT 1 FROM obj
                       WHERE partition = ?1 AND oid = ?2 AND data_id = ?3 LIMIT 1";
            if self.row(sql, [partition, oid, data], |_| Ok(()))?.is_some() {
                return Ok(());
            }
        }
        self.run("DELETE FROM data WHERE id = ?1", [data])?;
        Ok(())
    }

    fn put_transaction(
        &self,
        partition: Partition,
        record: &TransactionRecord,
    ) -> BackendResult<()> {
        let (reign, ttid) = name(record.txn)?;
        let meta = &record.meta;
        self.run(
            "INSERT OR REPLACE INTO trans VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                partition.0,
                int(record.tid.0)?,
                reign,
                ttid,
                record.packed,
                &meta.user[..],
                &meta.description[..],
                &meta.extension[..],
                oid_bytes(&record.oids)
            ],
        )?;
        Ok(())
    }
}

/// A row of `obj`, without its key.
#[derive(Debug, Clone, Copy, Default)]
struct Rev {
    data: Option<i64>,
    data_tid: Option<i64>,
    shared: bool,
}

impl Rev {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            data: row.get(0)?,
            data_tid: row.get(1)?,
            shared: row.get(2)?,
        })
    }
}

/// Reign and ttid of a transaction that may have no name.
fn name(txn: Option<TxnId>) -> BackendResult<(Option<i64>, Option<i64>)> {
    let reign = txn.map(|txn| int(txn.reign.0)).transpose()?;
    let ttid = txn.map(|txn| int(txn.ttid.0)).transpose()?;
    Ok((reign, ttid))
}

fn oid_bytes(oids: &[Oid]) -> Value {
    Value::Blob(oids.iter().flat_map(|oid| oid.to_bytes()).collect())
}
