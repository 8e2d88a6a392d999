//! Reads: each is one statement, or one transaction, and so sees one state.

use std::sync::Arc;

use bytes::Bytes;
use neo_api::{
    At, BackendError, BackendResult, Cell, CellState, DataId, LastIds, Loaded, NodeId, Oid,
    Partition, PartitionTable, Ptid, Reign, TableVersion, Tid, TxnId,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::error::{Doing, clamp, uint};
use super::row::{SOON, bytes, get, loaded, with_value};
use super::small::{self, Small};
use super::{Broken, SqliteSettings, schema};
use crate::lock;

/// A connection that reads.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) conn: Connection,
    broken: Arc<Broken>,
}

impl Reader {
    pub(super) fn open(settings: &SqliteSettings, broken: &Arc<Broken>) -> BackendResult<Self> {
        let path = lock::resolve_file(&settings.path)?;
        // One beside those of the threads.
        let readers = settings.readers.max(1) as u64 + 1;
        let conn = schema::open_reader(&path, settings.cache_bytes / 2 / readers)?;
        Ok(Self {
            conn,
            broken: Arc::clone(broken),
        })
    }

    pub(super) fn query(&self, sql: &str) -> BackendResult<CachedStatement<'_>> {
        self.broken.check()?;
        self.conn.prepare_cached(sql).doing("preparing a statement")
    }

    /// What `read` sees in several statements is one state.
    pub(super) fn unchanged<R>(&self, read: impl FnOnce() -> BackendResult<R>) -> BackendResult<R> {
        let transaction = self
            .conn
            .unchecked_transaction()
            .doing("beginning to read")?;
        let result = read()?;
        transaction.finish().doing("ending to read")?;
        Ok(result)
    }

    /// Bytes of the pages in use, those in the log included.
    pub(super) fn bytes(&self) -> BackendResult<u64> {
        let mut query = self.query(
            "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count",
        )?;
        let pages = query.query_row([], |row| row.get::<_, i64>(0));
        let pages = pages.doing("reading the size")?.unsigned_abs();
        Ok(pages.saturating_mul(schema::page_bytes(&self.conn)?))
    }

    pub(super) fn config(&self, key: &str) -> BackendResult<Option<Bytes>> {
        let mut query = self.query("SELECT value FROM config WHERE key = ?1")?;
        let value = query.query_row([key], |row| Ok(bytes(row.get_ref(0)?.as_blob()?)));
        value.optional().doing("reading configuration")
    }

    pub(super) fn partition_table(&mut self) -> BackendResult<Option<PartitionTable>> {
        self.unchanged(|| self.read_table())
    }

    fn read_table(&self) -> BackendResult<Option<PartitionTable>> {
        const DOING: &str = "reading the partition table";
        let mut query = self.query("SELECT value FROM meta WHERE key = ?1")?;
        let mut number = |key: &str| -> BackendResult<Option<u64>> {
            let found = query
                .query_row([key], |row| row.get(0))
                .optional()
                .doing(DOING)?;
            found.map(uint).transpose()
        };
        let (Some(np), Some(reign), Some(ptid), Some(replicas)) = (
            number("np")?,
            number("reign")?,
            number("ptid")?,
            number("replicas")?,
        ) else {
            return Ok(None);
        };
        // Databases of earlier versions do not have it.
        let last_storage = number("last_storage")?.unwrap_or(0);
        let damaged = |what: String| BackendError::Corrupt(format!("partition table: {what}"));
        let np = u16::try_from(np).map_err(|_| damaged(format!("{np} partitions")))?;
        let mut table = PartitionTable {
            version: TableVersion {
                reign: Reign(reign),
                ptid: Ptid(ptid),
            },
            replicas: u32::try_from(replicas).map_err(|error| damaged(error.to_string()))?,
            last_storage: u32::try_from(last_storage)
                .map_err(|error| damaged(error.to_string()))?,
            rows: vec![Vec::new(); usize::from(np)],
        };
        let mut query = self.query("SELECT * FROM pt ORDER BY partition, nid")?;
        let mut rows = query.query([]).doing(DOING)?;
        while let Some(row) = rows.next().doing(DOING)? {
            let (partition, nid): (u32, u32) = (get(row, 0)?, get(row, 1)?);
            let state: u8 = get(row, 2)?;
            let cell = Cell {
                nid: NodeId::try_from(nid).map_err(|error| damaged(error.to_string()))?,
                state: CellState::try_from(state).map_err(|error| damaged(error.to_string()))?,
                assigned: TableVersion {
                    reign: Reign(uint(get(row, 3)?)?),
                    ptid: Ptid(uint(get(row, 4)?)?),
                },
            };
            let cells = table.rows.get_mut(partition as usize);
            cells
                .ok_or_else(|| damaged(format!("partition {partition}")))?
                .push(cell);
        }
        table.check().map_err(|error| damaged(error.to_string()))?;
        Ok(Some(table))
    }

    pub(super) fn load(&self, partition: Partition, oid: Oid, at: At) -> BackendResult<Loaded> {
        if i64::try_from(oid.0).is_err() {
            return Ok(Loaded::Unknown);
        }
        let (from, to) = match at {
            At::Latest => (0, i64::MAX),
            At::Before(tid) => (0, tid.0.checked_sub(1).map_or(-1, clamp)),
            At::Exact(tid) => match i64::try_from(tid.0) {
                Ok(tid) => (tid, tid),
                Err(_) => (0, -1),
            },
        };
        let sql = with_value(
            "SELECT o.tid, (SELECT n.tid FROM obj n
                 WHERE n.partition = ?1 AND n.oid = ?2 AND n.tid > o.tid ORDER BY n.tid LIMIT 1),",
            "FROM obj o LEFT JOIN data d ON d.id = o.data_id
             WHERE o.partition = ?1 AND o.oid = ?2 AND o.tid BETWEEN ?3 AND ?4
             ORDER BY o.tid DESC LIMIT 1",
        );
        let key = params![partition.0, clamp(oid.0), from, to];
        let found = {
            let mut query = self.query(&sql)?;
            let mut rows = query.query(key).doing("loading")?;
            match rows.next().doing("loading")? {
                Some(row) => Some(loaded(row, oid)?),
                None => None,
            }
        };
        match found {
            Some(loaded) => Ok(loaded),
            None => self.absent(partition, oid, at),
        }
    }

    /// Why a revision was not found. The object may have changed meanwhile; then it is looked for
    /// again.
    fn absent(&self, partition: Partition, oid: Oid, at: At) -> BackendResult<Loaded> {
        let sql = "SELECT min(tid), max(tid = ?3) FROM obj WHERE partition = ?1 AND oid = ?2";
        let exact = match at {
            At::Exact(tid) => i64::try_from(tid.0).unwrap_or(-1),
            _ => -1,
        };
        let mut query = self.query(sql)?;
        let key = params![partition.0, clamp(oid.0), exact];
        let (least, is_there): (Option<i64>, Option<bool>) = query
            .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))
            .doing("loading")?;
        drop(query);
        let Some(least) = least else {
            return Ok(Loaded::Unknown);
        };
        let changed = match at {
            At::Latest => true,
            At::Before(tid) => uint(least)? < tid.0,
            At::Exact(_) => is_there == Some(true),
        };
        if changed {
            self.load(partition, oid, at)
        } else {
            Ok(Loaded::NotYet)
        }
    }

    pub(super) fn last_serials(
        &self,
        oids: &[(Partition, Oid)],
    ) -> BackendResult<Vec<Option<Tid>>> {
        let read = || {
            let sql = "SELECT tid FROM obj WHERE partition = ?1 AND oid = ?2
                       ORDER BY tid DESC LIMIT 1";
            let mut query = self.query(sql)?;
            let mut last = |&(partition, oid): &(Partition, Oid)| {
                let Ok(oid) = i64::try_from(oid.0) else {
                    return Ok(None);
                };
                let key = [i64::from(partition.0), oid];
                let tid = query.query_row(key, |row| row.get(0)).optional();
                tid.doing("reading a last serial")?
                    .map(|tid| Ok(Tid(uint(tid)?)))
                    .transpose()
            };
            oids.iter().map(&mut last).collect()
        };
        if oids.len() == 1 {
            read()
        } else {
            self.unchanged(read)
        }
    }

    pub(super) fn final_tid(&self, partition: Partition, txn: TxnId) -> BackendResult<Option<Tid>> {
        let (Ok(reign), Ok(ttid)) = (i64::try_from(txn.reign.0), i64::try_from(txn.ttid.0)) else {
            return Ok(None);
        };
        self.unchanged(|| {
            if self.small(txn)?.is_some() {
                return Ok(None);
            }
            let mut query = self.query(
                "SELECT max(tid) FROM
                 (SELECT max(tid) AS tid FROM trans INDEXED BY trans_name
                      WHERE partition = ?1 AND late = ?3 AND reign = ?2
                  UNION ALL
                  SELECT max(tid) FROM trans
                      WHERE partition = ?1 AND tid BETWEEN ?3 + 1 AND ?4
                      AND ttid = ?3 AND reign = ?2)
                 WHERE NOT EXISTS (SELECT 1 FROM unfinished WHERE reign = ?2 AND ttid = ?3)",
            )?;
            let key = [
                i64::from(partition.0),
                reign,
                ttid,
                ttid.saturating_add(SOON),
            ];
            let tid: Option<i64> = query
                .query_row(key, |row| row.get(0))
                .doing("reading a final tid")?;
            tid.map(|tid| Ok(Tid(uint(tid)?))).transpose()
        })
    }

    /// A transaction that has voted, if it is small.
    pub(super) fn small(&self, txn: TxnId) -> BackendResult<Option<Small>> {
        let mut found = None;
        small::each_parcel(&self.conn, |_, parcel| {
            for entry in parcel {
                let entry = entry?;
                if entry.txn == txn {
                    found = Some(entry.decode()?);
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    pub(super) fn next_data_id(&mut self) -> BackendResult<DataId> {
        // Bytes that others have may have come with a value that is gone.
        let mut query = self.query(
            "SELECT max((SELECT coalesce(max(id), 0) FROM data),
                 (SELECT coalesce(max(id), 0) FROM shared))",
        )?;
        let last: i64 = query
            .query_row([], |row| row.get(0))
            .doing("reading the last data id")?;
        let next = last.checked_add(1);
        let next = next.ok_or_else(|| BackendError::Unsupported("more data ids".to_owned()))?;
        Ok(DataId(uint(next)?))
    }

    pub(super) fn last_ids(&self, partition: Partition) -> BackendResult<LastIds> {
        let mut query = self.query(
            "SELECT (SELECT min(tid) FROM trans WHERE partition = ?1),
                    (SELECT min(tid) FROM obj INDEXED BY obj_history WHERE partition = ?1),
                    (SELECT max(tid) FROM trans WHERE partition = ?1),
                    (SELECT max(tid) FROM obj INDEXED BY obj_history WHERE partition = ?1),
                    (SELECT max(oid) FROM obj WHERE partition = ?1)",
        )?;
        let ids = query.query_row([partition.0], |row| {
            Ok([
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
            ])
        });
        let ids: [Option<i64>; 5] = ids.doing("reading the last ids")?;
        let mut found = [None; 5];
        for (id, found) in ids.into_iter().zip(&mut found) {
            *found = id.map(uint).transpose()?;
        }
        let [first, first_revision, last, last_revision, last_oid] = found;
        Ok(LastIds {
            first_tid: [first, first_revision].into_iter().flatten().min().map(Tid),
            last_transaction: last.map(Tid),
            last_revision: last_revision.map(Tid),
            last_oid: last_oid.map(Oid),
        })
    }
}
