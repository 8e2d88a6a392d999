//! Reads: each is one statement, or one transaction, and so sees one state.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use neo_api::{
    At, BackendError, BackendResult, Cell, CellState, Checksum, Compression, DataId,
    FetchedRevision, LastIds, Loaded, NodeId, Oid, PageLimit, Partition, PartitionTable,
    PendingObject, Ptid, Record, Reign, Revision, RevisionId, TableVersion, Tid, TransactionMeta,
    TransactionRecord, TxnId, UnfinishedTransaction,
};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::error::{Doing, clamp, uint};
use super::{Broken, SqliteSettings, lock, pending, schema};

/// A connection that reads.
#[derive(Debug)]
pub(super) struct Reader {
    conn: Connection,
    broken: Arc<Broken>,
}

/// Of all queries that give a revision with its value, the columns after its key.
const VALUE: &str = "o.data_id, o.data_tid, d.compression, d.checksum, d.value";

impl Reader {
    pub(super) fn open(settings: &SqliteSettings, broken: &Arc<Broken>) -> BackendResult<Self> {
        let path = lock::resolve(&settings.path)?;
        let readers = settings.readers.max(1) as u64;
        let conn = schema::open_reader(&path, settings.cache_bytes / 2 / readers)?;
        Ok(Self {
            conn,
            broken: Arc::clone(broken),
        })
    }

    fn query(&self, sql: &str) -> BackendResult<CachedStatement<'_>> {
        self.broken.check()?;
        self.conn.prepare_cached(sql).doing("preparing a statement")
    }

    /// What `read` sees in several statements is one state.
    fn unchanged<R>(&self, read: impl FnOnce() -> BackendResult<R>) -> BackendResult<R> {
        let transaction = self
            .conn
            .unchecked_transaction()
            .doing("beginning to read")?;
        let result = read()?;
        transaction.finish().doing("ending to read")?;
        Ok(result)
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
        let damaged = |what: String| BackendError::Corrupt(format!("partition table: {what}"));
        let np = u16::try_from(np).map_err(|_| damaged(format!("{np} partitions")))?;
        let mut table = PartitionTable {
            version: TableVersion {
                reign: Reign(reign),
                ptid: Ptid(ptid),
            },
            replicas: u32::try_from(replicas).map_err(|error| damaged(error.to_string()))?,
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
        let sql = const_format(
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

    pub(super) fn transactions(
        &self,
        partition: Partition,
        min: Tid,
        max: Tid,
        limit: PageLimit,
    ) -> BackendResult<Vec<TransactionRecord>> {
        const DOING: &str = "reading transactions";
        let Ok(min) = i64::try_from(min.0) else {
            return Ok(Vec::new());
        };
        let mut query = self.query(
            "SELECT tid, reign, ttid, packed, user, description, extension, oids FROM trans
             WHERE partition = ?1 AND tid BETWEEN ?2 AND ?3 ORDER BY tid LIMIT ?4",
        )?;
        let key = params![partition.0, min, clamp(max.0), clamp(limit.entries as u64)];
        let mut rows = query.query(key).doing(DOING)?;
        let (mut page, mut bytes) = (Vec::new(), 0_usize);
        while let Some(row) = rows.next().doing(DOING)? {
            let (meta, oids) = metadata(row, 4)?;
            bytes = bytes.saturating_add(
                meta.user.len() + meta.description.len() + meta.extension.len() + oids.len() * 8,
            );
            let txn = match (get(row, 1)?, get(row, 2)?) {
                (Some(reign), Some(ttid)) => Some(txn(reign, ttid)?),
                _ => None,
            };
            let tid = Tid(uint(get(row, 0)?)?);
            page.push(TransactionRecord {
                tid,
                txn,
                meta,
                oids,
                packed: get(row, 3)?,
            });
            if bytes >= limit.bytes {
                break;
            }
        }
        Ok(page)
    }

    pub(super) fn revisions(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: usize,
    ) -> BackendResult<Vec<RevisionId>> {
        const DOING: &str = "listing revisions";
        let Some((tid, oid)) = first(min) else {
            return Ok(Vec::new());
        };
        let mut query = self.query(
            "SELECT tid, oid FROM obj INDEXED BY obj_history
             WHERE partition = ?1 AND (tid, oid) >= (?2, ?3) AND tid <= ?4
             ORDER BY tid, oid LIMIT ?5",
        )?;
        let key = params![partition.0, tid, oid, clamp(max.0), clamp(limit as u64)];
        let mut rows = query.query(key).doing(DOING)?;
        let mut page = Vec::new();
        while let Some(row) = rows.next().doing(DOING)? {
            page.push(revision_id(row)?);
        }
        Ok(page)
    }

    pub(super) fn fetch(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: PageLimit,
    ) -> BackendResult<Vec<FetchedRevision>> {
        const DOING: &str = "fetching revisions";
        let Some((tid, oid)) = first(min) else {
            return Ok(Vec::new());
        };
        let sql = const_format(
            "SELECT o.tid, o.oid,",
            "FROM obj o INDEXED BY obj_history LEFT JOIN data d ON d.id = o.data_id
             WHERE o.partition = ?1 AND (o.tid, o.oid) >= (?2, ?3) AND o.tid <= ?4
             ORDER BY o.tid, o.oid LIMIT ?5",
        );
        let mut query = self.query(&sql)?;
        let key = params![
            partition.0,
            tid,
            oid,
            clamp(max.0),
            clamp(limit.entries as u64)
        ];
        let mut rows = query.query(key).doing(DOING)?;
        let (mut page, mut bytes) = (Vec::new(), 0_usize);
        while let Some(row) = rows.next().doing(DOING)? {
            let id = revision_id(row)?;
            let (record, data_serial) = value(row, id)?;
            bytes = bytes.saturating_add(record.as_ref().map_or(0, |record| record.data.len()));
            page.push(FetchedRevision {
                id,
                record,
                data_serial,
            });
            if bytes >= limit.bytes {
                break;
            }
        }
        Ok(page)
    }

    pub(super) fn final_tid(&self, partition: Partition, txn: TxnId) -> BackendResult<Option<Tid>> {
        let mut query = self.query(
            "SELECT tid FROM trans WHERE partition = ?1 AND reign = ?2 AND ttid = ?3
             AND NOT EXISTS (SELECT 1 FROM unfinished WHERE reign = ?2 AND ttid = ?3)
             ORDER BY tid DESC LIMIT 1",
        )?;
        let (Ok(reign), Ok(ttid)) = (i64::try_from(txn.reign.0), i64::try_from(txn.ttid.0)) else {
            return Ok(None);
        };
        let key = [i64::from(partition.0), reign, ttid];
        let tid = query
            .query_row(key, |row| row.get(0))
            .optional()
            .doing("reading a final tid")?;
        tid.map(|tid| Ok(Tid(uint(tid)?))).transpose()
    }

    pub(super) fn unfinished(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>> {
        const DOING: &str = "listing unfinished transactions";
        let mut query = self.query(
            "SELECT reign, ttid, tid, user, description, extension, oids FROM unfinished
             WHERE (reign, ttid) > (?1, ?2) ORDER BY reign, ttid LIMIT ?3",
        )?;
        let (reign, ttid) = after.map_or((-1, -1), |txn| (clamp(txn.reign.0), clamp(txn.ttid.0)));
        let mut rows = query
            .query([reign, ttid, clamp(limit as u64)])
            .doing(DOING)?;
        let mut page = Vec::new();
        while let Some(row) = rows.next().doing(DOING)? {
            let has_record = row.get_ref(6).doing(DOING)? != ValueRef::Null;
            let record = has_record.then(|| metadata(row, 3)).transpose()?;
            let tid: Option<i64> = get(row, 2)?;
            let tid = tid
                .map(|tid| Ok::<_, BackendError>(Tid(uint(tid)?)))
                .transpose()?;
            let txn = txn(get(row, 0)?, get(row, 1)?)?;
            page.push(UnfinishedTransaction { txn, tid, record });
        }
        Ok(page)
    }

    pub(super) fn unfinished_objects(
        &self,
        txn: TxnId,
        after: Option<Oid>,
        limit: usize,
    ) -> BackendResult<Vec<PendingObject>> {
        let key = [clamp(txn.reign.0), clamp(txn.ttid.0)];
        self.unchanged(|| self.merge_parcels(key, after, limit))
    }

    /// The first objects of all parcels, the last of those with the same oid.
    fn merge_parcels(
        &self,
        [reign, ttid]: [i64; 2],
        after: Option<Oid>,
        limit: usize,
    ) -> BackendResult<Vec<PendingObject>> {
        const DOING: &str = "listing objects of an unfinished transaction";
        let mut query = self.query(
            "SELECT seq, least FROM pending WHERE reign = ?1 AND ttid = ?2 AND greatest > ?3",
        )?;
        let least = after.map_or(-1, |oid| clamp(oid.0));
        let parcels = query.query_map([reign, ttid, least], |row| Ok((row.get(1)?, row.get(0)?)));
        let parcels: rusqlite::Result<Vec<(i64, i64)>> = parcels.doing(DOING)?.collect();
        let mut parcels = parcels.doing(DOING)?;
        parcels.sort_unstable();
        let mut query =
            self.query("SELECT objects FROM pending WHERE reign = ?1 AND ttid = ?2 AND seq = ?3")?;
        let mut merged: BTreeMap<Oid, (i64, PendingObject)> = BTreeMap::new();
        for (least, seq) in parcels {
            let full = merged.len() >= limit;
            if full
                && merged
                    .last_key_value()
                    .is_none_or(|(last, _)| last.0 < clamp_up(least))
            {
                break;
            }
            let objects = query.query_row([reign, ttid, seq], |row| {
                Ok(pending::unpack(row.get_ref(0)?.as_blob()?, after, limit))
            });
            for object in objects.doing(DOING)?? {
                let entry = merged.entry(object.oid).or_insert((seq, object));
                if entry.0 <= seq {
                    *entry = (seq, object);
                }
            }
            while merged.len() > limit {
                merged.pop_last();
            }
        }
        Ok(merged.into_values().map(|(_, object)| object).collect())
    }

    pub(super) fn loose_data(
        &self,
        after: Option<(TxnId, DataId)>,
        limit: usize,
    ) -> BackendResult<Vec<(TxnId, DataId)>> {
        const DOING: &str = "listing loose values";
        let mut query = self.query(
            "SELECT reign, ttid, id FROM loose WHERE (reign, ttid, id) > (?1, ?2, ?3)
             ORDER BY reign, ttid, id LIMIT ?4",
        )?;
        let [reign, ttid, id] = after.map_or([-1; 3], |(txn, id)| {
            [clamp(txn.reign.0), clamp(txn.ttid.0), clamp(id.0)]
        });
        let mut rows = query
            .query([reign, ttid, id, clamp(limit as u64)])
            .doing(DOING)?;
        let mut page = Vec::new();
        while let Some(row) = rows.next().doing(DOING)? {
            page.push((
                txn(get(row, 0)?, get(row, 1)?)?,
                DataId(uint(get(row, 2)?)?),
            ));
        }
        Ok(page)
    }

    pub(super) fn next_data_id(&mut self) -> BackendResult<DataId> {
        let mut query = self.query("SELECT max(id) FROM data")?;
        let last: Option<i64> = query
            .query_row([], |row| row.get(0))
            .doing("reading the last data id")?;
        let next = last.unwrap_or(0).checked_add(1);
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
            last_tid: last.max(last_revision).map(Tid),
            last_oid: last_oid.map(Oid),
        })
    }
}

fn const_format(before: &str, after: &str) -> String {
    format!("{before} {VALUE} {after}")
}

fn bytes(blob: &[u8]) -> Bytes {
    Bytes::copy_from_slice(blob)
}

fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, column: usize) -> BackendResult<T> {
    row.get(column).doing("reading a row")
}

fn txn(reign: i64, ttid: i64) -> BackendResult<TxnId> {
    Ok(TxnId {
        reign: Reign(uint(reign)?),
        ttid: Tid(uint(ttid)?),
    })
}

/// Where a listing from `min` starts; `None` past all that SQLite can keep.
fn first(min: RevisionId) -> Option<(i64, i64)> {
    let tid = i64::try_from(min.tid.0).ok()?;
    match i64::try_from(min.oid.0) {
        Ok(oid) => Some((tid, oid)),
        Err(_) => Some((tid.checked_add(1)?, 0)),
    }
}

fn clamp_up(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn revision_id(row: &Row<'_>) -> BackendResult<RevisionId> {
    Ok(RevisionId {
        tid: Tid(uint(get(row, 0)?)?),
        oid: Oid(uint(get(row, 1)?)?),
    })
}

/// A row of `tid, next tid` and the columns of [`VALUE`].
fn loaded(row: &Row<'_>, oid: Oid) -> BackendResult<Loaded> {
    let serial = Tid(uint(get(row, 0)?)?);
    let next: Option<i64> = get(row, 1)?;
    let next_serial = next.map(uint).transpose()?.map(Tid);
    let (record, data_serial) = value(row, RevisionId { tid: serial, oid })?;
    Ok(match record {
        None => Loaded::Deleted {
            serial,
            next_serial,
        },
        Some(record) => Loaded::Found(Revision {
            serial,
            next_serial,
            record,
            data_serial,
        }),
    })
}

/// The columns of [`VALUE`], after two others.
fn value(row: &Row<'_>, id: RevisionId) -> BackendResult<(Option<Record>, Option<Tid>)> {
    const DOING: &str = "reading a value";
    let Some(data) = get::<Option<i64>>(row, 2)? else {
        return Ok((None, None));
    };
    let data_serial: Option<i64> = get(row, 3)?;
    let Some(compression) = get::<Option<u8>>(row, 4)? else {
        let RevisionId { tid, oid } = id;
        let lost = format!("revision {tid} of object {oid} has no value {data}");
        return Err(BackendError::Corrupt(lost));
    };
    let record = Record {
        compression: Compression::try_from(compression)
            .map_err(|error| BackendError::Corrupt(error.to_string()))?,
        checksum: Checksum(get(row, 5)?),
        data: bytes(
            row.get_ref(6)
                .doing(DOING)?
                .as_blob()
                .map_err(rusqlite::Error::from)
                .doing(DOING)?,
        ),
    };
    Ok((Some(record), data_serial.map(uint).transpose()?.map(Tid)))
}

/// `user, description, extension, oids`, from a column on.
fn metadata(row: &Row<'_>, at: usize) -> BackendResult<(TransactionMeta, Vec<Oid>)> {
    let blob = |column: usize| -> BackendResult<&[u8]> {
        let value = row.get_ref(column).doing("reading metadata")?;
        value
            .as_blob()
            .map_err(rusqlite::Error::from)
            .doing("reading metadata")
    };
    let meta = TransactionMeta {
        user: bytes(blob(at)?),
        description: bytes(blob(at + 1)?),
        extension: bytes(blob(at + 2)?),
    };
    let (oids, rest) = blob(at + 3)?.as_chunks();
    if !rest.is_empty() {
        return Err(BackendError::Corrupt(
            "oids of a transaction cannot be read".to_owned(),
        ));
    }
    Ok((meta, oids.iter().copied().map(Oid::from_bytes).collect()))
}
