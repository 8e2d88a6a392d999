//! Objects of unfinished transactions that are not small: parcels of bytes, not a row each.
//!
//! A parcel is what one operation brought, in order of oid; 17 bytes an object: oid u64, kind u8
//! (0: deleted, 1: value, 2: same as), data id or tid u64, all big-endian. Its least and greatest
//! oid are beside it, so that a reader takes only the parcels that it needs. Of an oid in several
//! parcels, the last counts.

use std::collections::BTreeMap;

use neo_api::{
    BackendError, BackendResult, DataId, ObjectData, Oid, PendingObject, Reign, Tid, TxnId,
};
use rusqlite::Connection;

use super::error::{Doing, int, uint};

pub(super) const OBJECT_BYTES: usize = 17;

/// Where the kind of an object is.
pub(super) const KIND: usize = 8;
pub(super) const VALUE: u8 = 1;

/// Objects in order of oid, each once.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) least: i64,
    pub(super) greatest: i64,
    pub(super) bytes: Vec<u8>,
}

/// Packs objects; `None` when there are none.
pub(super) fn pack(objects: &[PendingObject]) -> BackendResult<Option<Parcel>> {
    let sorted: BTreeMap<Oid, ObjectData> = objects.iter().map(|o| (o.oid, o.data)).collect();
    let (Some((least, _)), Some((greatest, _))) =
        (sorted.first_key_value(), sorted.last_key_value())
    else {
        return Ok(None);
    };
    let (least, greatest) = (int(least.0)?, int(greatest.0)?);
    let mut bytes = Vec::with_capacity(sorted.len() * OBJECT_BYTES);
    for (oid, data) in sorted {
        bytes.extend_from_slice(&pack_object(PendingObject { oid, data }));
    }
    Ok(Some(Parcel {
        least,
        greatest,
        bytes,
    }))
}

/// At most `limit` objects of a parcel with an oid greater than `after`.
pub(super) fn unpack(
    bytes: &[u8],
    after: Option<Oid>,
    limit: usize,
) -> BackendResult<Vec<PendingObject>> {
    let (objects, rest) = bytes.as_chunks::<OBJECT_BYTES>();
    if !rest.is_empty() {
        return Err(damaged());
    }
    let from = objects.partition_point(|object| Some(oid_of(object)) <= after);
    let objects = objects.get(from..).unwrap_or_default();
    objects.iter().take(limit).map(unpack_object).collect()
}

pub(super) fn pack_object(object: PendingObject) -> [u8; OBJECT_BYTES] {
    let (kind, n) = match object.data {
        ObjectData::Deleted => (0, 0),
        ObjectData::Value(DataId(id)) => (VALUE, id),
        ObjectData::SameAs(Tid(tid)) => (2, tid),
    };
    let mut bytes = [kind; OBJECT_BYTES];
    bytes[..KIND].copy_from_slice(&object.oid.to_bytes());
    bytes[KIND + 1..].copy_from_slice(&n.to_be_bytes());
    bytes
}

/// Of each unfinished transaction with rows of its own: bytes of its objects, and of its metadata and oids.
pub(super) fn sizes(conn: &Connection) -> BackendResult<Vec<(TxnId, u64, u64)>> {
    let sql = "SELECT reign, ttid,
            (SELECT coalesce(sum(length(objects)), 0) FROM pending AS p
             WHERE p.reign = u.reign AND p.ttid = u.ttid),
            coalesce(length(user) + length(description) + length(extension) + length(oids)
                + coalesce(length(pack), 0), 0)
        FROM unfinished AS u";
    let mut statement = conn.prepare(sql).doing("preparing a statement")?;
    let rows = statement
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .doing("reading what is unfinished")?;
    rows.map(|row| {
        let (reign, ttid, objects, record) = row.doing("reading what is unfinished")?;
        let txn = TxnId {
            reign: Reign(uint(reign)?),
            ttid: Tid(uint(ttid)?),
        };
        Ok((txn, uint(objects)?, uint(record)?))
    })
    .collect()
}

fn oid_of(object: &[u8; OBJECT_BYTES]) -> Oid {
    let [a, b, c, d, e, f, g, h, ..] = *object;
    Oid::from_bytes([a, b, c, d, e, f, g, h])
}

pub(super) fn unpack_object(object: &[u8; OBJECT_BYTES]) -> BackendResult<PendingObject> {
    let [.., kind, a, b, c, d, e, f, g, h] = *object;
    let n = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let data = match kind {
        0 => ObjectData::Deleted,
        VALUE => ObjectData::Value(DataId(n)),
        2 => ObjectData::SameAs(Tid(n)),
        _ => return Err(damaged()),
    };
    Ok(PendingObject {
        oid: oid_of(object),
        data,
    })
}

fn damaged() -> BackendError {
    BackendError::Corrupt("objects of an unfinished transaction cannot be read".to_owned())
}
