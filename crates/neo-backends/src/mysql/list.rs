//! Listings of what is committed, page by page. A page is cut to its bytes before they are read: an
//! answer that has begun is read to its end.

use std::collections::BTreeMap;

use bytes::Bytes;
use neo_api::{
    BackendError, BackendResult, CurrentPage, FetchedRevision, HistoryEntry, ObsoletePage, Oid,
    Order, PackOrder, PageLimit, Partition, RevisionId, Tid, TransactionRecord,
};

use super::link::{Link, Row};
use super::pieces;
use super::read::{history_entries, history_text, rows, unchanged};
use super::row::{Found, VALUE, metadata, txn};
use super::script::{BY_KEY, list};
use crate::pack;

/// Values that one text asks for have about so many bytes together, or there is one.
const VALUES_BYTES: usize = 8 << 20;
/// Objects that one text asks for.
const OBJECTS_MAX: usize = 200;

fn revision_id(row: &Row) -> BackendResult<RevisionId> {
    Ok(RevisionId {
        tid: Tid(row.int(0)?),
        oid: Oid(row.int(1)?),
    })
}

/// Where revisions from `min` up to `max` are, in the order of (tid, oid): two ranges of the index.
fn from(min: RevisionId, max: Tid) -> String {
    let (tid, oid, max) = (min.tid.0, min.oid.0, max.0);
    let after = format!("o.tid > {tid} AND o.tid <= {max}");
    if tid <= max {
        format!("((o.tid = {tid} AND o.oid >= {oid}) OR ({after}))")
    } else {
        "FALSE".to_owned()
    }
}

pub(super) fn revisions(
    link: &mut Link,
    partition: Partition,
    min: RevisionId,
    max: Tid,
    limit: usize,
) -> BackendResult<Vec<RevisionId>> {
    let text = format!(
        "SELECT o.tid, o.oid FROM obj o FORCE INDEX (history) WHERE o.part = {} AND {}
         ORDER BY o.tid, o.oid LIMIT {limit}",
        partition.0,
        from(min, max)
    );
    let rows = rows(link, "listing revisions", &text)?;
    rows.iter().map(revision_id).collect()
}

pub(super) fn fetch(
    link: &mut Link,
    partition: Partition,
    min: RevisionId,
    max: Tid,
    limit: PageLimit,
) -> BackendResult<Vec<FetchedRevision>> {
    unchanged(link, |link| {
        let text = format!(
            "SELECT o.tid, o.oid, {VALUE}
             FROM obj o FORCE INDEX (history) LEFT JOIN data d ON d.id = o.data_id
             WHERE o.part = {} AND {} ORDER BY o.tid, o.oid LIMIT {}",
            partition.0,
            from(min, max),
            limit.entries
        );
        let rows = rows(link, "fetching revisions", &text)?;
        let mut page = Vec::new();
        let mut bytes = 0_usize;
        for row in &rows {
            let id = revision_id(row)?;
            let found = Found::read(row, 2, id)?;
            bytes = bytes.saturating_add(found.bytes());
            page.push((id, found));
            if bytes >= limit.bytes {
                break;
            }
        }
        with_values(link, page)
    })
}

/// Reads the values of a page.
fn with_values(
    link: &mut Link,
    page: Vec<(RevisionId, Found)>,
) -> BackendResult<Vec<FetchedRevision>> {
    let mut rest = page.into_iter().peekable();
    let mut fetched = Vec::new();
    while rest.peek().is_some() {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while let Some((_, found)) = rest.peek() {
            bytes += found.bytes();
            if !some.is_empty() && (bytes > VALUES_BYTES || some.len() >= OBJECTS_MAX) {
                break;
            }
            some.extend(rest.next());
        }
        let ids = some.iter().filter_map(|(_, found)| found.value);
        let mut inline = values(link, list(ids.map(|value| value.id)))?;
        for (id, found) in some {
            let record = match found.value {
                None => None,
                Some(value) => {
                    let bytes = inline.get_mut(&value.id).map(|bytes| bytes.clone());
                    Some(value.record(link, bytes.unwrap_or_default())?)
                }
            };
            fetched.push(FetchedRevision {
                id,
                record,
                data_serial: found.data_serial,
            });
        }
    }
    Ok(fetched)
}

/// What the rows of some values have, by id.
fn values(link: &mut Link, ids: String) -> BackendResult<BTreeMap<u64, Bytes>> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let text = format!(
        "SELECT d.id, COALESCE(s.value, d.value)
         FROM data d {BY_KEY} LEFT JOIN shared s ON s.id = d.shared
         WHERE d.id IN ({ids})"
    );
    let rows = rows(link, "reading values", &text)?;
    let pair = |mut row: Row| Ok((row.int(0)?, row.bytes(1)?));
    rows.into_iter().map(pair).collect()
}

pub(super) fn current(
    link: &mut Link,
    partition: Partition,
    min: Oid,
    at: Tid,
    values: bool,
    limit: PageLimit,
) -> BackendResult<CurrentPage> {
    let part = partition.0;
    unchanged(link, |link| {
        let text = format!(
            "SELECT oid FROM obj FORCE INDEX (PRIMARY) WHERE part = {part} AND oid >= {}
             GROUP BY oid ORDER BY oid LIMIT {}",
            min.0, limit.entries
        );
        let oids = rows(link, "listing objects", &text)?;
        let oids: Vec<u64> = oids
            .iter()
            .map(|row| row.int(0))
            .collect::<Result<_, _>>()?;
        let mut next = Some(min);
        let mut page = Vec::new();
        let mut bytes = 0_usize;
        'page: for some in oids.chunks(OBJECTS_MAX) {
            for (found, oid) in as_of(link, part, some, at, values)?.into_iter().zip(some) {
                next = Oid(*oid).checked_next();
                let Some((id, found, is_deletion)) = found else {
                    continue;
                };
                if is_deletion {
                    continue;
                }
                bytes = bytes.saturating_add(found.bytes());
                page.push((id, found));
                if bytes >= limit.bytes {
                    break 'page;
                }
            }
        }
        let is_last = oids.len() < limit.entries && bytes < limit.bytes;
        Ok(CurrentPage {
            revisions: with_values(link, page)?,
            next: if is_last { None } else { next },
        })
    })
}

/// A revision, and whether it is a deletion.
type Newest = Option<(RevisionId, Found, bool)>;

/// Of each object the newest revision up to a tid.
fn as_of(
    link: &mut Link,
    part: u32,
    oids: &[u64],
    at: Tid,
    values: bool,
) -> BackendResult<Vec<Newest>> {
    let texts = oids.iter().map(|oid| {
        let (columns, join) = if values {
            (VALUE, "LEFT JOIN data d ON d.id = o.data_id")
        } else {
            ("NULL, o.data_tid, o.data_id", "")
        };
        format!(
            "SELECT o.tid, o.oid, {columns} FROM obj o {join}
             WHERE o.part = {part} AND o.oid = {oid} AND o.tid <= {} ORDER BY o.tid DESC LIMIT 1",
            at.0
        )
    });
    let text = texts.collect::<Vec<_>>().join(";");
    let sets = link.ask("listing objects", &text)?;
    let newest = |rows: Vec<Row>| {
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let id = revision_id(row)?;
        let found = Found::read(row, 2, id)?;
        let is_deletion = if values {
            found.value.is_none()
        } else {
            row.maybe(4)?.is_none()
        };
        Ok(Some((id, found, is_deletion)))
    };
    sets.into_iter().map(newest).collect()
}

pub(super) fn history(
    link: &mut Link,
    partition: Partition,
    oid: Oid,
    before: Tid,
    limit: usize,
) -> BackendResult<Vec<HistoryEntry>> {
    let text = history_text(partition, oid, before, limit);
    let rows = rows(link, "reading the history of an object", &text)?;
    history_entries(oid, &rows)
}

pub(super) fn transactions(
    link: &mut Link,
    partition: Partition,
    min: Tid,
    max: Tid,
    order: Order,
    limit: PageLimit,
) -> BackendResult<Vec<TransactionRecord>> {
    const DOING: &str = "reading transactions";
    let (part, min, max) = (partition.0, min.0, max.0);
    let order = match order {
        Order::Ascending => "",
        Order::Descending => "DESC",
    };
    let from = format!(
        "FROM trans t LEFT JOIN pack_order p ON p.part = t.part AND p.tid = t.tid
         WHERE t.part = {part} AND t.tid BETWEEN {min} AND {max} ORDER BY t.tid {order}"
    );
    unchanged(link, |link| {
        let text = format!(
            "SELECT LENGTH(t.user) + LENGTH(t.description) + LENGTH(t.extension) + t.oid_bytes
                 + COALESCE(LENGTH(p.value), 0) {from} LIMIT {}",
            limit.entries
        );
        let (mut entries, mut bytes) = (0, 0_usize);
        for row in rows(link, DOING, &text)? {
            bytes = bytes.saturating_add(row.int(0)?);
            entries += 1;
            if bytes >= limit.bytes {
                break;
            }
        }
        let text = format!(
            "SELECT t.tid, t.reign, t.ttid, t.packed, p.value, t.user, t.description, t.extension,
                 t.oid_bytes, t.oids {from} LIMIT {entries}"
        );
        let rows = rows(link, DOING, &text)?;
        let mut page = Vec::with_capacity(rows.len());
        for mut row in rows {
            let tid: u64 = row.int(0)?;
            let whose = (pieces::TRANSACTION, u64::from(part), tid);
            let (meta, oids) = metadata(link, &mut row, 5, whose)?;
            let name = match (row.maybe(1)?, row.maybe(2)?) {
                (Some(reign), Some(ttid)) => Some(txn(reign, ttid)),
                _ => None,
            };
            let order = row.maybe_bytes(4)?;
            page.push(TransactionRecord {
                tid: Tid(tid),
                txn: name,
                meta,
                oids,
                packed: row.int::<u8>(3)? != 0,
                pack: order.map(|order| pack::decode_order(&order)).transpose()?,
            });
        }
        Ok(page)
    })
}

pub(super) fn obsolete(
    link: &mut Link,
    partition: Partition,
    min: Oid,
    at: Tid,
    limit: usize,
) -> BackendResult<ObsoletePage> {
    let text = format!(
        "SELECT tid, oid, data_id FROM obj FORCE INDEX (PRIMARY)
         WHERE part = {} AND oid >= {} ORDER BY oid, tid LIMIT {}",
        partition.0,
        min.0,
        pack::rows(limit)
    );
    let rows = rows(link, "listing what a pack removes", &text)?;
    let row = |row: &Row| {
        Ok::<_, BackendError>(pack::Row {
            id: revision_id(row)?,
            is_deletion: row.maybe(2)?.is_none(),
        })
    };
    let found = rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    Ok(pack::obsolete(&found, at, limit))
}

pub(super) fn pack_orders(
    link: &mut Link,
    partition: Partition,
    after: Tid,
    limit: usize,
) -> BackendResult<Vec<(Tid, PackOrder)>> {
    let text = format!(
        "SELECT tid, value FROM pack_order WHERE part = {} AND tid > {} ORDER BY tid LIMIT {limit}",
        partition.0, after.0
    );
    let rows = rows(link, "listing orders to pack", &text)?;
    let order = |mut row: Row| Ok((Tid(row.int(0)?), pack::decode_order(&row.bytes(1)?)?));
    rows.into_iter().map(order).collect()
}
