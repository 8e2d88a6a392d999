//! Reads: right although the engine changes between two calls.
//!
//! Each call to the engine sees one state, but a read often needs two. Three facts make the
//! whole see one state too: a revision and its successor are neighbours, so one scan finds both;
//! a data id is never used again, so the value that is found is the right one; and when a value
//! is gone, so is the revision that had it, so the read starts again.

use std::ops::Bound;

use bytes::Bytes;
use neo_api::{
    At, BackendError, BackendResult, DataId, FetchedRevision, KvEngine, LastIds, Loaded, Oid,
    Order, PageLimit, Partition, PendingObject, Record, Revision, RevisionId, Space, Tid,
    TransactionRecord, TxnId, UnfinishedTransaction,
};

use super::key;
use super::value::{self, Rev, Value};

const ASCENDING: Order = Order::Ascending;

/// A revision that was looked for among those of an object.
enum Found {
    Rev {
        serial: Tid,
        rev: Rev,
        next_serial: Option<Tid>,
    },
    NotYet,
    Unknown,
    /// The object changed meanwhile: look again.
    Changed,
}

pub(super) fn load<E: KvEngine>(
    engine: &E,
    partition: Partition,
    oid: Oid,
    at: At,
) -> BackendResult<Loaded> {
    let mut lost = None;
    loop {
        let (serial, rev, next_serial) = match find(engine, partition, oid, at)? {
            Found::Rev {
                serial,
                rev,
                next_serial,
            } => (serial, rev, next_serial),
            Found::NotYet => return Ok(Loaded::NotYet),
            Found::Unknown => return Ok(Loaded::Unknown),
            Found::Changed => continue,
        };
        let Some(id) = rev.data else {
            return Ok(Loaded::Deleted {
                serial,
                next_serial,
            });
        };
        if let Some(record) = record(engine, id)? {
            let data_serial = rev.data_serial;
            return Ok(Loaded::Found(Revision {
                serial,
                next_serial,
                record,
                data_serial,
            }));
        }
        if lost.replace(id) == Some(id) {
            return Err(lost_value(RevisionId { tid: serial, oid }, id));
        }
    }
}

fn find<E: KvEngine>(engine: &E, p: Partition, oid: Oid, at: At) -> BackendResult<Found> {
    use Bound::{Excluded, Included, Unbounded};
    let first = |from, to, order| -> BackendResult<Option<(Tid, Rev)>> {
        Ok(neighbours(engine, p, oid, (from, to), order, 1)?
            .first()
            .copied())
    };
    let least = || first(Unbounded, Unbounded, Order::Ascending);
    match at {
        At::Latest => {
            let last = first(Unbounded, Unbounded, Order::Descending)?;
            Ok(last.map_or(Found::Unknown, |(serial, rev)| Found::Rev {
                serial,
                rev,
                next_serial: None,
            }))
        }
        At::Before(tid) => {
            let below = match tid {
                Tid(0) => None,
                tid => first(Unbounded, Excluded(tid), Order::Descending)?,
            };
            let Some((serial, _)) = below else {
                return Ok(match least()? {
                    None => Found::Unknown,
                    Some((serial, _)) if serial >= tid => Found::NotYet,
                    Some(_) => Found::Changed,
                });
            };
            // Seen together, these two prove that it is the newest below `tid`.
            let two = neighbours(engine, p, oid, (Included(serial), Unbounded), ASCENDING, 2)?;
            Ok(match two[..] {
                [(first, rev)] if first == serial => Found::Rev {
                    serial,
                    rev,
                    next_serial: None,
                },
                [(first, rev), (next, _)] if first == serial && next >= tid => Found::Rev {
                    serial,
                    rev,
                    next_serial: Some(next),
                },
                _ => Found::Changed,
            })
        }
        At::Exact(serial) => {
            let two = neighbours(engine, p, oid, (Included(serial), Unbounded), ASCENDING, 2)?;
            if let Some(&(first, rev)) = two.first() {
                let next_serial = two.get(1).map(|(tid, _)| *tid);
                return Ok(if first == serial {
                    Found::Rev {
                        serial,
                        rev,
                        next_serial,
                    }
                } else {
                    Found::NotYet
                });
            }
            // When the last one up to it is another, it was absent at that very moment.
            if let Some((last, _)) = first(Unbounded, Included(serial), Order::Descending)? {
                return Ok(if last == serial {
                    Found::Changed
                } else {
                    Found::NotYet
                });
            }
            Ok(if least()?.is_none() {
                Found::Unknown
            } else {
                Found::Changed
            })
        }
    }
}

pub(super) fn neighbours<E: KvEngine>(
    engine: &E,
    partition: Partition,
    oid: Oid,
    (from, to): (Bound<Tid>, Bound<Tid>),
    order: Order,
    limit: usize,
) -> BackendResult<Vec<(Tid, Rev)>> {
    let range = key::revisions_of(partition, oid, from, to);
    let found = engine.scan(Space::Objects, range, order, limit)?;
    decode(&found, |key, value| {
        Ok((key::tid_of_object(key)?, Rev::decode(value)?))
    })
}

fn decode<R>(
    rows: &[(Bytes, Bytes)],
    row: impl Fn(&[u8], &Bytes) -> BackendResult<R>,
) -> BackendResult<Vec<R>> {
    rows.iter().map(|(key, value)| row(key, value)).collect()
}

pub(super) fn record<E: KvEngine>(engine: &E, id: DataId) -> BackendResult<Option<Record>> {
    let Some(bytes) = engine.get(Space::Data, &key::data(id))? else {
        return Ok(None);
    };
    match value::decode_value(&bytes)? {
        Value::Own(record) => Ok(Some(record)),
        Value::Shared(sharing) => {
            let bytes = engine.get(Space::Shared, &key::shared(sharing.id))?;
            let data = bytes.as_ref().map(value::decode_shared).transpose()?;
            Ok(data.map(|data| sharing.record(data)))
        }
    }
}

pub(super) fn lost_value(id: RevisionId, data: DataId) -> BackendError {
    BackendError::Corrupt(format!(
        "revision {} of object {} has no value {data}",
        id.tid, id.oid
    ))
}

pub(super) fn last_serials<E: KvEngine>(
    engine: &E,
    oids: &[(Partition, Oid)],
) -> BackendResult<Vec<Option<Tid>>> {
    let last = |&(partition, oid): &(Partition, Oid)| {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let last = neighbours(engine, partition, oid, all, Order::Descending, 1)?;
        Ok(last.first().map(|(tid, _)| *tid))
    };
    oids.iter().map(last).collect()
}

pub(super) fn transaction<E: KvEngine>(
    engine: &E,
    partition: Partition,
    tid: Tid,
) -> BackendResult<Option<TransactionRecord>> {
    let bytes = engine.get(Space::Transactions, &key::transaction(partition, tid))?;
    bytes
        .map(|bytes| value::decode_transaction(tid, &bytes))
        .transpose()
}

fn history<E: KvEngine>(
    engine: &E,
    partition: Partition,
    min: RevisionId,
    max: Tid,
    limit: usize,
) -> BackendResult<Vec<(RevisionId, Rev)>> {
    if min.tid > max {
        return Ok(Vec::new());
    }
    let range = key::history_between(partition, min, max);
    let found = engine.scan(Space::History, range, Order::Ascending, limit)?;
    decode(&found, |key, value| {
        Ok((key::id_of_history(key)?, Rev::decode(value)?))
    })
}

pub(super) fn revisions<E: KvEngine>(
    engine: &E,
    partition: Partition,
    min: RevisionId,
    max: Tid,
    limit: usize,
) -> BackendResult<Vec<RevisionId>> {
    let found = history(engine, partition, min, max, limit)?;
    Ok(found.into_iter().map(|(id, _)| id).collect())
}

pub(super) fn fetch<E: KvEngine>(
    engine: &E,
    partition: Partition,
    min: RevisionId,
    max: Tid,
    limit: PageLimit,
) -> BackendResult<Vec<FetchedRevision>> {
    let mut lost = None;
    'again: loop {
        let mut page = Vec::new();
        let mut bytes = 0_usize;
        for (id, rev) in history(engine, partition, min, max, limit.entries)? {
            let record = match rev.data {
                None => None,
                Some(data) => match record(engine, data)? {
                    Some(record) => Some(record),
                    None if lost.replace((id, data)) == Some((id, data)) => {
                        return Err(lost_value(id, data));
                    }
                    None => continue 'again,
                },
            };
            bytes = bytes.saturating_add(record.as_ref().map_or(0, |record| record.data.len()));
            page.push(FetchedRevision {
                id,
                record,
                data_serial: rev.data_serial,
            });
            if bytes >= limit.bytes {
                break;
            }
        }
        return Ok(page);
    }
}

/// To be called while nothing is written.
pub(super) fn final_tid<E: KvEngine>(
    engine: &E,
    partition: Partition,
    txn: TxnId,
) -> BackendResult<Option<Tid>> {
    let name = key::transaction_name(partition, txn);
    let Some(tid) = engine.get(Space::Transactions, &name)? else {
        return Ok(None);
    };
    let unfinished = engine.get(Space::Unfinished, &key::unfinished(txn))?;
    if unfinished.is_some() {
        return Ok(None);
    }
    value::decode_tid(&tid).map(Some)
}

pub(super) fn unfinished<E: KvEngine>(
    engine: &E,
    after: Option<TxnId>,
    limit: usize,
) -> BackendResult<Vec<UnfinishedTransaction>> {
    // A transaction has one row or two. Among the first 2n rows there are n whole ones at least:
    // either each has two rows, or there are more than n and only the last can lack one.
    let rows = limit.saturating_mul(2);
    let range = key::unfinished_after(after);
    let mut found: Vec<UnfinishedTransaction> = Vec::new();
    for (key, value) in engine.scan(Space::Unfinished, range, Order::Ascending, rows)? {
        let (txn, is_record) = key::txn_of_unfinished(&key)?;
        if !is_record {
            let tid = value::decode_lock(&value)?;
            found.push(UnfinishedTransaction {
                txn,
                tid,
                record: None,
            });
        } else if let Some(last) = found.last_mut().filter(|last| last.txn == txn) {
            last.record = Some(value::decode_unfinished(&value)?);
        } else {
            return Err(BackendError::Corrupt(format!(
                "metadata of {txn}, which is not there"
            )));
        }
    }
    found.truncate(limit);
    Ok(found)
}

pub(super) fn unfinished_objects<E: KvEngine>(
    engine: &E,
    txn: TxnId,
    after: Option<Oid>,
    limit: usize,
) -> BackendResult<Vec<PendingObject>> {
    let range = key::pending_after(txn, after);
    let found = engine.scan(Space::Pending, range, Order::Ascending, limit)?;
    decode(&found, |key, value| {
        let (oid, data) = (key::oid_of_pending(key)?, value::decode_pending(value)?);
        Ok(PendingObject { oid, data })
    })
}

pub(super) fn loose_data<E: KvEngine>(
    engine: &E,
    after: Option<(TxnId, DataId)>,
    limit: usize,
) -> BackendResult<Vec<(TxnId, DataId)>> {
    let found = engine.scan(
        Space::Loose,
        key::loose_after(after),
        Order::Ascending,
        limit,
    )?;
    decode(&found, |key, _| key::id_of_loose(key))
}

pub(super) fn next_data_id<E: KvEngine>(engine: &E) -> BackendResult<DataId> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let last = engine.scan(Space::Data, all, Order::Descending, 1)?;
    let last = last.first().map(|(key, _)| key::id_of_data(key));
    // Bytes that others have may have come with a value that is gone.
    let shared = engine.scan(Space::Shared, key::all_shared(), Order::Descending, 1)?;
    let shared = shared.first().map(|(key, _)| key::id_of_shared(key));
    let greatest = last.transpose()?.max(shared.transpose()?);
    let next = greatest.unwrap_or(DataId(0)).0.checked_add(1);
    next.map(DataId)
        .ok_or_else(|| BackendError::Unsupported("more data ids".to_owned()))
}

/// To be called while nothing is written.
pub(super) fn last_ids<E: KvEngine>(engine: &E, partition: Partition) -> BackendResult<LastIds> {
    let tids = |order| -> BackendResult<[Option<Tid>; 2]> {
        let range = key::transactions_between(partition, Tid(0), Tid(u64::MAX));
        let transaction = engine.scan(Space::Transactions, range, order, 1)?;
        let min = RevisionId {
            tid: Tid(0),
            oid: Oid(0),
        };
        let range = key::history_between(partition, min, Tid(u64::MAX));
        let revision = engine.scan(Space::History, range, order, 1)?;
        Ok([
            transaction
                .first()
                .map(|(key, _)| key::tid_of_transaction(key))
                .transpose()?,
            revision
                .first()
                .map(|(key, _)| key::id_of_history(key))
                .transpose()?
                .map(|id| id.tid),
        ])
    };
    let objects = key::objects_in(partition);
    let last = engine.scan(Space::Objects, objects, Order::Descending, 1)?;
    let [last_transaction, last_revision] = tids(Order::Descending)?;
    Ok(LastIds {
        first_tid: tids(Order::Ascending)?.into_iter().flatten().min(),
        last_transaction,
        last_revision,
        last_oid: last
            .first()
            .map(|(key, _)| key::oid_of_object(key))
            .transpose()?,
    })
}
