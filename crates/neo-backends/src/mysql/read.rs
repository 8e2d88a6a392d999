//! Reads of single objects and ids: each sees one state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use neo_api::{
    At, BackendError, BackendResult, DataId, HistoryEntry, LastIds, Loaded, Oid, Partition,
    PartitionTable, Revision, RevisionId, Tid, TxnId,
};

use super::error::Broken;
use super::link::{Link, Role, Row};
use super::row::{Found, VALUE};
use super::script::hex;
use super::{MySqlSettings, table};

/// Pause between attempts to connect again.
pub(super) const RETRY: Duration = Duration::from_millis(200);
/// Objects whose values one text asks for.
const LOADS_MAX: usize = 16;
/// Objects whose serials one text asks for.
const SERIALS_MAX: usize = 1000;

/// A connection that reads.
#[derive(Debug)]
pub(super) struct Reader {
    link: Link,
    patience: Duration,
    broken: Arc<Broken>,
}

impl Reader {
    pub(super) fn open(settings: &MySqlSettings, broken: &Arc<Broken>) -> BackendResult<Self> {
        let mut link = Link::new(settings, Role::Reader)?;
        link.connect()?;
        Ok(Self {
            link,
            patience: Duration::from_secs(settings.reconnect_s),
            broken: Arc::clone(broken),
        })
    }

    /// Reads; where the connection is lost, over another one.
    pub(super) fn read<R>(
        &mut self,
        read: impl Fn(&mut Link) -> BackendResult<R>,
    ) -> BackendResult<R> {
        let begun = Instant::now();
        loop {
            self.broken.check()?;
            let was_connected = self.link.is_connected();
            let outcome = if was_connected {
                read(&mut self.link)
            } else {
                self.link.connect().and_then(|()| read(&mut self.link))
            };
            let error = match outcome {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            // It may have failed between the statements of a transaction.
            self.link.disconnect();
            if !error.is_retryable() {
                return Err(error);
            }
            // The server may be there again since long.
            if was_connected {
                continue;
            }
            if begun.elapsed() >= self.patience {
                return Err(error);
            }
            tracing::warn!(%error, "the server is away: trying again");
            self.link.pause(RETRY);
        }
    }
}

/// What `read` sees in several texts is one state.
pub(super) fn unchanged<R>(
    link: &mut Link,
    read: impl FnOnce(&mut Link) -> BackendResult<R>,
) -> BackendResult<R> {
    link.ask("beginning to read", "START TRANSACTION READ ONLY")?;
    let found = read(link)?;
    link.ask("ending to read", "COMMIT")?;
    Ok(found)
}

/// The rows of the only query.
pub(super) fn rows(link: &mut Link, what: &'static str, text: &str) -> BackendResult<Vec<Row>> {
    Ok(link.ask(what, text)?.pop().unwrap_or_default())
}

pub(super) fn config(link: &mut Link, key: &str) -> BackendResult<Option<Bytes>> {
    let name = hex(key.as_bytes());
    let text = format!("SELECT value FROM config WHERE name = {name}");
    let mut rows = rows(link, "reading configuration", &text)?;
    rows.first_mut().map(|row| row.bytes(0)).transpose()
}

pub(super) fn partition_table(link: &mut Link) -> BackendResult<Option<PartitionTable>> {
    unchanged(link, table::read)
}

/// Bytes of the tables, as the engine estimates them.
pub(super) fn bytes(link: &mut Link) -> BackendResult<u64> {
    let sets = link.ask(
        "reading the size",
        "ANALYZE NO_WRITE_TO_BINLOG TABLE data, piece, shared, obj, trans;
         SELECT CAST(SUM(DATA_LENGTH + INDEX_LENGTH) AS UNSIGNED) FROM information_schema.TABLES
         WHERE TABLE_SCHEMA = DATABASE()",
    )?;
    let size = |sets: &[Vec<Row>]| {
        let row = sets.last().and_then(|rows| rows.first());
        let size = row.map(|row| row.maybe(0)).transpose()?.flatten();
        Ok::<_, BackendError>(size.unwrap_or(0))
    };
    let mut bytes: u64 = size(&sets)?;
    // What RocksDB has in memory still, and tells only those who may know of all databases.
    let memory = link.ask(
        "reading the size",
        "SELECT CAST(SUM(VALUE) AS UNSIGNED) FROM information_schema.ROCKSDB_CFSTATS
         WHERE STAT_TYPE = 'CUR_SIZE_ALL_MEM_TABLES' AND EXISTS
             (SELECT 1 FROM information_schema.TABLES
              WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'neo' AND ENGINE = 'ROCKSDB')",
    );
    match memory {
        Ok(sets) => bytes = bytes.saturating_add(size(&sets)?),
        Err(BackendError::Failed { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(bytes)
}

fn load_text(partition: Partition, oid: Oid, at: At) -> String {
    let (from, to) = match at {
        At::Latest => (0, u64::MAX),
        At::Before(Tid(0)) => (1, 0),
        At::Before(tid) => (0, tid.0 - 1),
        At::Exact(tid) => (tid.0, tid.0),
    };
    let (part, oid) = (partition.0, oid.0);
    format!(
        "SELECT o.tid, (SELECT MIN(n.tid) FROM obj n
             WHERE n.part = {part} AND n.oid = {oid} AND n.tid > o.tid), {VALUE}, COALESCE(s.value, d.value)
         FROM obj o LEFT JOIN data d ON d.id = o.data_id LEFT JOIN shared s ON s.id = d.shared
         WHERE o.part = {part} AND o.oid = {oid} AND o.tid BETWEEN {from} AND {to}
         ORDER BY o.tid DESC LIMIT 1"
    )
}

/// What a row of [`load_text`] has; `None` when more than the row is needed.
fn loaded(link: &mut Link, row: &mut Row, oid: Oid, whole: bool) -> BackendResult<Option<Loaded>> {
    let serial = Tid(row.int(0)?);
    let next_serial = row.maybe(1)?.map(Tid);
    let found = Found::read(row, 2, RevisionId { tid: serial, oid })?;
    let Some(value) = found.value else {
        return Ok(Some(Loaded::Deleted {
            serial,
            next_serial,
        }));
    };
    if value.is_in_pieces() && !whole {
        return Ok(None);
    }
    let inline = row.bytes(7)?;
    Ok(Some(Loaded::Found(Revision {
        serial,
        next_serial,
        record: value.record(link, inline)?,
        data_serial: found.data_serial,
    })))
}

pub(super) fn load(
    link: &mut Link,
    partition: Partition,
    oid: Oid,
    at: At,
) -> BackendResult<Loaded> {
    let text = load_text(partition, oid, at);
    let found = rows(link, "loading", &text)?;
    finish_load(link, found, (partition, oid, at))
}

/// Nearly always the first answer is all that is needed.
fn finish_load(
    link: &mut Link,
    mut found: Vec<Row>,
    (partition, oid, at): (Partition, Oid, At),
) -> BackendResult<Loaded> {
    if let Some(row) = found.first_mut()
        && let Some(loaded) = loaded(link, row, oid, false)?
    {
        return Ok(loaded);
    }
    unchanged(link, |link| {
        let text = load_text(partition, oid, at);
        if let Some(row) = rows(link, "loading", &text)?.first_mut() {
            let loaded = loaded(link, row, oid, true)?;
            return loaded.ok_or_else(|| BackendError::Corrupt("a value is cut".to_owned()));
        }
        let (part, oid) = (partition.0, oid.0);
        let text = format!("SELECT 1 FROM obj WHERE part = {part} AND oid = {oid} LIMIT 1");
        let is_known = !rows(link, "loading", &text)?.is_empty();
        Ok(if is_known {
            Loaded::NotYet
        } else {
            Loaded::Unknown
        })
    })
}

/// The first objects, until their values have so many bytes.
pub(super) fn load_many(
    link: &mut Link,
    objects: &[(Partition, Oid, At)],
    bytes: usize,
) -> BackendResult<Vec<Loaded>> {
    let (mut all, mut brought) = (Vec::new(), 0);
    for some in objects.chunks(LOADS_MAX) {
        let texts = some
            .iter()
            .map(|&(partition, oid, at)| load_text(partition, oid, at));
        let text = texts.collect::<Vec<_>>().join(";");
        let sets = link.ask("loading", &text)?;
        if sets.len() != some.len() {
            return Err(BackendError::Corrupt("an answer is missing".to_owned()));
        }
        for (found, object) in sets.into_iter().zip(some) {
            let loaded = finish_load(link, found, *object)?;
            brought += loaded.value_bytes();
            all.push(loaded);
            if brought >= bytes {
                return Ok(all);
            }
        }
    }
    Ok(all)
}

/// Entries of a history, from rows of `tid, data_tid, data_id, bytes`.
pub(super) fn history_entries(oid: Oid, rows: &[Row]) -> BackendResult<Vec<HistoryEntry>> {
    let entry = |row: &Row| {
        let serial = Tid(row.int(0)?);
        let (data, bytes) = (row.maybe(2)?, row.maybe(3)?);
        if let (Some(data), None) = (data, bytes) {
            let lost = format!("revision {serial} of object {oid} has no value {data}");
            return Err(BackendError::Corrupt(lost));
        }
        let bytes = bytes.map(u32::try_from).transpose();
        Ok(HistoryEntry {
            serial,
            data_serial: row.maybe(1)?.map(Tid),
            bytes: bytes.map_err(|error| BackendError::Corrupt(error.to_string()))?,
        })
    };
    rows.iter().map(entry).collect()
}

pub(super) fn history_text(partition: Partition, oid: Oid, before: Tid, limit: usize) -> String {
    format!(
        "SELECT o.tid, o.data_tid, o.data_id, d.bytes
         FROM obj o LEFT JOIN data d ON d.id = o.data_id
         WHERE o.part = {} AND o.oid = {} AND o.tid < {} ORDER BY o.tid DESC LIMIT {limit}",
        partition.0, oid.0, before.0
    )
}

pub(super) fn newest_before(
    link: &mut Link,
    objects: &[(Partition, Oid, Tid)],
) -> BackendResult<Vec<Option<HistoryEntry>>> {
    let mut all = Vec::with_capacity(objects.len());
    for some in objects.chunks(SERIALS_MAX) {
        let texts = some.iter();
        let texts = texts.map(|&(partition, oid, before)| history_text(partition, oid, before, 1));
        let text = texts.collect::<Vec<_>>().join(";");
        let sets = link.ask("reading histories", &text)?;
        for (rows, (_, oid, _)) in sets.iter().zip(some) {
            all.push(history_entries(*oid, rows)?.first().copied());
        }
    }
    Ok(all)
}

pub(super) fn last_serials(
    link: &mut Link,
    oids: &[(Partition, Oid)],
) -> BackendResult<Vec<Option<Tid>>> {
    let read = |link: &mut Link| {
        let mut all = Vec::with_capacity(oids.len());
        for some in oids.chunks(SERIALS_MAX) {
            let texts = some.iter().map(|(partition, oid)| {
                format!(
                    "SELECT MAX(tid) FROM obj WHERE part = {} AND oid = {}",
                    partition.0, oid.0
                )
            });
            let text = texts.collect::<Vec<_>>().join(";");
            for rows in link.ask("reading last serials", &text)? {
                let last = rows.first().map(|row| row.maybe(0)).transpose()?;
                all.push(last.flatten().map(Tid));
            }
        }
        Ok(all)
    };
    match oids.len() {
        0 => Ok(Vec::new()),
        1 => read(link),
        _ => unchanged(link, read),
    }
}

pub(super) fn final_tid(
    link: &mut Link,
    partition: Partition,
    txn: TxnId,
) -> BackendResult<Option<Tid>> {
    let (part, reign, ttid) = (partition.0, txn.reign.0, txn.ttid.0);
    let text = format!(
        "SELECT MAX(tid) FROM trans WHERE part = {part} AND ttid = {ttid} AND reign = {reign}
         AND NOT EXISTS (SELECT 1 FROM unfinished WHERE reign = {reign} AND ttid = {ttid})"
    );
    let found = rows(link, "reading a final tid", &text)?;
    let tid = found.first().map(|row| row.maybe(0)).transpose()?;
    Ok(tid.flatten().map(Tid))
}

pub(super) fn next_data_id(link: &mut Link) -> BackendResult<DataId> {
    // Bytes that others have may have come with a value that is gone.
    let text = "SELECT MAX(id) FROM data UNION ALL SELECT MAX(id) FROM shared";
    let found = rows(link, "reading the last data id", text)?;
    let all = found.iter().map(|row| row.maybe(0));
    let all = all.collect::<BackendResult<Vec<Option<u64>>>>()?;
    let next = all.into_iter().flatten().max().unwrap_or(0).checked_add(1);
    let next = next.ok_or_else(|| BackendError::Unsupported("more data ids".to_owned()))?;
    Ok(DataId(next))
}

pub(super) fn last_ids(link: &mut Link, partition: Partition) -> BackendResult<LastIds> {
    let part = partition.0;
    let text = format!(
        "SELECT (SELECT MIN(tid) FROM trans WHERE part = {part}),
             (SELECT MIN(tid) FROM obj FORCE INDEX (history) WHERE part = {part}),
             (SELECT MAX(tid) FROM trans WHERE part = {part}),
             (SELECT MAX(tid) FROM obj FORCE INDEX (history) WHERE part = {part}),
             (SELECT MAX(oid) FROM obj FORCE INDEX (PRIMARY) WHERE part = {part})"
    );
    let found = rows(link, "reading the last ids", &text)?;
    let Some(row) = found.first() else {
        return Ok(LastIds::default());
    };
    let (first, first_revision) = (row.maybe(0)?, row.maybe(1)?);
    Ok(LastIds {
        first_tid: [first, first_revision].into_iter().flatten().min().map(Tid),
        last_transaction: row.maybe(2)?.map(Tid),
        last_revision: row.maybe(3)?.map(Tid),
        last_oid: row.maybe(4)?.map(Oid),
    })
}
