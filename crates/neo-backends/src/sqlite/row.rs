//! Rows, read without trust.

use bytes::Bytes;
use neo_api::{
    BackendError, BackendResult, Checksum, Compression, Loaded, Oid, PackOrder, Record, Reign,
    Revision, RevisionId, Tid, TransactionMeta, TxnId,
};
use rusqlite::Row;

use super::error::{Doing, uint};
use crate::pack;

/// Of all queries that give a revision with its value, the columns after its key.
const VALUE: &str = "o.data_id, o.data_tid, d.compression, d.checksum,
    CASE WHEN d.shared IS NULL THEN d.value
    ELSE (SELECT s.value FROM shared_value s WHERE s.id = d.shared) END";

/// A tid is soon after a ttid up to here: 10 s. Nearly all transactions commit within it, and so
/// need no entry in an index of names; to find one is to look at those that committed within it.
pub(super) const SOON: i64 = (1 << 32) / 6;

/// A query of revisions with their values, which come after two columns.
pub(super) fn with_value(before: &str, after: &str) -> String {
    format!("{before} {VALUE} {after}")
}

pub(super) fn bytes(blob: &[u8]) -> Bytes {
    Bytes::copy_from_slice(blob)
}

pub(super) fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, column: usize) -> BackendResult<T> {
    row.get(column).doing("reading a row")
}

pub(super) fn txn(reign: i64, ttid: i64) -> BackendResult<TxnId> {
    Ok(TxnId {
        reign: Reign(uint(reign)?),
        ttid: Tid(uint(ttid)?),
    })
}

pub(super) fn revision_id(row: &Row<'_>) -> BackendResult<RevisionId> {
    Ok(RevisionId {
        tid: Tid(uint(get(row, 0)?)?),
        oid: Oid(uint(get(row, 1)?)?),
    })
}

/// A row of `tid, next tid` and the columns of [`VALUE`].
pub(super) fn loaded(row: &Row<'_>, oid: Oid) -> BackendResult<Loaded> {
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
pub(super) fn value(row: &Row<'_>, id: RevisionId) -> BackendResult<(Option<Record>, Option<Tid>)> {
    const DOING: &str = "reading a value";
    let data_serial: Option<i64> = get(row, 3)?;
    let data_serial = data_serial.map(uint).transpose()?.map(Tid);
    let Some(data) = get::<Option<i64>>(row, 2)? else {
        return Ok((None, data_serial));
    };
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
    Ok((Some(record), data_serial))
}

/// `user, description, extension, oids`, from a column on.
pub(super) fn metadata(row: &Row<'_>, at: usize) -> BackendResult<(TransactionMeta, Vec<Oid>)> {
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

/// What a transaction orders, from a column that is NULL when it does not.
pub(super) fn order(row: &Row<'_>, column: usize) -> BackendResult<Option<PackOrder>> {
    const DOING: &str = "reading an order to pack";
    let bytes = row.get_ref(column).doing(DOING)?.as_blob_or_null();
    let bytes = bytes.map_err(rusqlite::Error::from).doing(DOING)?;
    bytes.map(pack::decode_order).transpose()
}
