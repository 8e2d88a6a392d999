//! Objects as they were at some tid.

use std::ops::Bound;

use neo_api::{
    BackendResult, CurrentPage, FetchedRevision, KvEngine, Oid, Order, PageLimit, Partition,
    RevisionId, Space, Tid,
};

use super::key;
use super::read::{lost_value, neighbours, record};

/// To be called while nothing is written.
pub(super) fn page<E: KvEngine>(
    engine: &E,
    partition: Partition,
    min: Oid,
    at: Tid,
    values: bool,
    limit: PageLimit,
) -> BackendResult<CurrentPage> {
    let mut page = CurrentPage::default();
    let mut next = Some(min);
    let mut bytes = 0_usize;
    for _ in 0..limit.entries {
        let oid = match next {
            Some(min) => first_object(engine, partition, min)?,
            None => None,
        };
        let Some(oid) = oid else {
            return Ok(page);
        };
        next = oid.checked_next();
        let Some(revision) = as_of(engine, partition, oid, at, values)? else {
            continue;
        };
        bytes = bytes.saturating_add(revision.record.as_ref().map_or(0, |r| r.data.len()));
        page.revisions.push(revision);
        if bytes >= limit.bytes {
            break;
        }
    }
    page.next = next;
    Ok(page)
}

fn first_object<E: KvEngine>(
    engine: &E,
    partition: Partition,
    min: Oid,
) -> BackendResult<Option<Oid>> {
    let range = key::objects_from(partition, min);
    let found = engine.scan(Space::Objects, range, Order::Ascending, 1)?;
    let oid = found.first().map(|(key, _)| key::oid_of_object(key));
    oid.transpose()
}

fn as_of<E: KvEngine>(
    engine: &E,
    partition: Partition,
    oid: Oid,
    at: Tid,
    values: bool,
) -> BackendResult<Option<FetchedRevision>> {
    let range = (Bound::Unbounded, Bound::Included(at));
    let found = neighbours(engine, partition, oid, range, Order::Descending, 1)?;
    let Some((tid, rev)) = found.first().copied() else {
        return Ok(None);
    };
    let Some(data) = rev.data else {
        return Ok(None);
    };
    let id = RevisionId { tid, oid };
    let record = if values {
        Some(record(engine, data)?.ok_or_else(|| lost_value(id, data))?)
    } else {
        None
    };
    Ok(Some(FetchedRevision {
        id,
        record,
        data_serial: rev.data_serial,
    }))
}
