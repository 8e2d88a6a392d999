//! Listings of what did not end: what a node reads when it starts, and after a crash.

use neo_api::{
    BackendError, BackendResult, DataId, ObjectData, Oid, PendingObject, Tid, TxnId,
    UnfinishedTransaction, VotedRecord,
};

use super::link::{Link, Row};
use super::pieces;
use super::read::{rows, unchanged};
use super::row::{metadata, txn};
use crate::pack;

pub(super) fn unfinished(
    link: &mut Link,
    after: Option<TxnId>,
    limit: usize,
) -> BackendResult<Vec<UnfinishedTransaction>> {
    let after = after.map_or_else(
        || "TRUE".to_owned(),
        |TxnId { reign, ttid }| {
            format!(
                "((reign = {0} AND ttid > {1}) OR reign > {0})",
                reign.0, ttid.0
            )
        },
    );
    unchanged(link, |link| {
        let text = format!(
            "SELECT reign, ttid, tid, packed, pack_order, user, description, extension,
                 oid_bytes, oids
             FROM unfinished WHERE {after} ORDER BY reign, ttid LIMIT {limit}"
        );
        let rows = rows(link, "listing unfinished transactions", &text)?;
        rows.into_iter().map(|row| read(link, row)).collect()
    })
}

fn read(link: &mut Link, mut row: Row) -> BackendResult<UnfinishedTransaction> {
    let name = txn(row.int(0)?, row.int(1)?);
    let record = match row.maybe(3)? {
        None => None,
        Some(packed) => {
            let whose = (pieces::UNFINISHED, name.reign.0, name.ttid.0);
            let (meta, oids) = metadata(link, &mut row, 5, whose)?;
            let order = row.maybe_bytes(4)?;
            Some(VotedRecord {
                meta,
                oids,
                packed: packed != 0,
                pack: order.map(|order| pack::decode_order(&order)).transpose()?,
            })
        }
    };
    Ok(UnfinishedTransaction {
        txn: name,
        tid: row.maybe(2)?.map(Tid),
        record,
    })
}

pub(super) fn unfinished_objects(
    link: &mut Link,
    txn: TxnId,
    after: Option<Oid>,
    limit: usize,
) -> BackendResult<Vec<PendingObject>> {
    let after = after.map_or_else(String::new, |oid| format!("AND oid > {}", oid.0));
    let text = format!(
        "SELECT oid, kind, n FROM pending WHERE reign = {} AND ttid = {} {after}
         ORDER BY oid LIMIT {limit}",
        txn.reign.0, txn.ttid.0
    );
    let object = |row: &Row| {
        let n = row.int(2)?;
        let data = match row.int::<u8>(1)? {
            0 => ObjectData::Deleted,
            1 => ObjectData::Value(DataId(n)),
            2 => ObjectData::SameAs(Tid(n)),
            kind => {
                let what = format!("an object of an unfinished transaction is of kind {kind}");
                return Err(BackendError::Corrupt(what));
            }
        };
        Ok(PendingObject {
            oid: Oid(row.int(0)?),
            data,
        })
    };
    let rows = rows(link, "listing objects of an unfinished transaction", &text)?;
    rows.iter().map(object).collect()
}

pub(super) fn loose_data(
    link: &mut Link,
    after: Option<(TxnId, DataId)>,
    limit: usize,
) -> BackendResult<Vec<(TxnId, DataId)>> {
    let after = after.map_or_else(
        || "TRUE".to_owned(),
        |(TxnId { reign, ttid }, id)| {
            let (reign, ttid, id) = (reign.0, ttid.0, id.0);
            format!(
                "((reign = {reign} AND ttid = {ttid} AND id > {id})
                  OR (reign = {reign} AND ttid > {ttid}) OR reign > {reign})"
            )
        },
    );
    let text = format!(
        "SELECT reign, ttid, id FROM loose FORCE INDEX (owner) WHERE {after}
         ORDER BY reign, ttid, id LIMIT {limit}"
    );
    let rows = rows(link, "listing loose values", &text)?;
    let value = |row: &Row| Ok((txn(row.int(0)?, row.int(1)?), DataId(row.int(2)?)));
    rows.iter().map(value).collect()
}
