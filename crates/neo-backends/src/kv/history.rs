//! What was committed, from either end: transactions, and the revisions of an object; and what a
//! pack removes of it.

use std::ops::Bound;

use neo_api::{
    BackendResult, HistoryEntry, KvEngine, ObsoletePage, Oid, Order, PackOrder, PageLimit,
    Partition, RevisionId, Space, Tid, TransactionRecord,
};

use super::read::{lost_value, neighbours, record, transaction};
use super::{key, value};
use crate::pack;

/// Most transactions that are read at once: their size is known only when they were read.
const TRANSACTIONS_MAX: usize = 64;

pub(super) fn transactions<E: KvEngine>(
    engine: &E,
    partition: Partition,
    mut min: Tid,
    mut max: Tid,
    order: Order,
    limit: PageLimit,
) -> BackendResult<Vec<TransactionRecord>> {
    let mut page = Vec::new();
    let mut bytes = 0_usize;
    while page.len() < limit.entries && min <= max {
        let range = key::transactions_between(partition, min, max);
        let ask = TRANSACTIONS_MAX.min(limit.entries - page.len());
        let found = engine.scan(Space::Transactions, range, order, ask)?;
        let is_last = found.len() < ask;
        let mut end = None;
        for (key, value) in found {
            let tid = key::tid_of_transaction(&key)?;
            bytes = bytes.saturating_add(value.len());
            page.push(value::decode_transaction(tid, &value)?);
            if bytes >= limit.bytes {
                return Ok(page);
            }
            end = Some(tid);
        }
        let next = end.filter(|_| !is_last).and_then(|tid| match order {
            Order::Ascending => tid.checked_next(),
            Order::Descending => tid.0.checked_sub(1).map(Tid),
        });
        match (next, order) {
            (None, _) => break,
            (Some(next), Order::Ascending) => min = next,
            (Some(next), Order::Descending) => max = next,
        }
    }
    Ok(page)
}

pub(super) fn of_object<E: KvEngine>(
    engine: &E,
    partition: Partition,
    oid: Oid,
    before: Tid,
    limit: usize,
) -> BackendResult<Vec<HistoryEntry>> {
    if before == Tid::ZERO {
        return Ok(Vec::new());
    }
    let range = (Bound::Unbounded, Bound::Excluded(before));
    let mut lost = None;
    'again: loop {
        let mut entries = Vec::new();
        for (serial, rev) in neighbours(engine, partition, oid, range, Order::Descending, limit)? {
            let bytes = match rev.data {
                None => None,
                Some(data) => match record(engine, data)? {
                    // Values have 64 MiB at most.
                    Some(record) => Some(record.data.len() as u32),
                    None if lost.replace((serial, data)) == Some((serial, data)) => {
                        return Err(lost_value(RevisionId { tid: serial, oid }, data));
                    }
                    // The revision went with its value.
                    None => continue 'again,
                },
            };
            entries.push(HistoryEntry {
                serial,
                data_serial: rev.data_serial,
                bytes,
            });
        }
        return Ok(entries);
    }
}

/// One call of the engine, and so one state.
pub(super) fn obsolete<E: KvEngine>(
    engine: &E,
    partition: Partition,
    min: Oid,
    at: Tid,
    limit: usize,
) -> BackendResult<ObsoletePage> {
    let range = key::objects_from(partition, min);
    let found = engine.scan(Space::Objects, range, Order::Ascending, pack::rows(limit))?;
    let row = |(key, bytes): &(bytes::Bytes, bytes::Bytes)| {
        let (tid, oid) = (key::tid_of_object(key)?, key::oid_of_object(key)?);
        let id = RevisionId { tid, oid };
        let is_deletion = value::Rev::decode(bytes)?.data.is_none();
        Ok(pack::Row { id, is_deletion })
    };
    let rows = found.iter().map(row).collect::<BackendResult<Vec<_>>>()?;
    Ok(pack::obsolete(&rows, at, limit))
}

/// To be called while nothing is written.
pub(super) fn pack_orders<E: KvEngine>(
    engine: &E,
    partition: Partition,
    after: Tid,
    limit: usize,
) -> BackendResult<Vec<(Tid, PackOrder)>> {
    let range = key::pack_orders_after(partition, after);
    let found = engine.scan(Space::Transactions, range, Order::Ascending, limit)?;
    let order = |(key, _): &(bytes::Bytes, bytes::Bytes)| {
        let tid = key::tid_of_transaction(key)?;
        let order = transaction(engine, partition, tid)?.and_then(|record| record.pack);
        Ok((tid, order.ok_or_else(|| pack::lost_order(partition, tid))?))
    };
    found.iter().map(order).collect()
}
