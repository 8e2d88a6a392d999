//! What was committed, from either end: transactions, and the revisions of an object.

use neo_api::{
    BackendError, BackendResult, HistoryEntry, Oid, Order, PageLimit, Partition, Tid,
    TransactionRecord,
};
use rusqlite::params;

use super::error::{Doing, clamp, uint};
use super::read::Reader;
use super::row::{get, metadata, order as pack_order, txn};

impl Reader {
    pub(super) fn transactions(
        &self,
        partition: Partition,
        min: Tid,
        max: Tid,
        order: Order,
        limit: PageLimit,
    ) -> BackendResult<Vec<TransactionRecord>> {
        const DOING: &str = "reading transactions";
        let Ok(min) = i64::try_from(min.0) else {
            return Ok(Vec::new());
        };
        let mut query = self.query(match order {
            Order::Ascending => {
                "SELECT tid, reign, ttid, packed, user, description, extension, oids, pack FROM trans
                 WHERE partition = ?1 AND tid BETWEEN ?2 AND ?3 ORDER BY tid LIMIT ?4"
            }
            Order::Descending => {
                "SELECT tid, reign, ttid, packed, user, description, extension, oids, pack FROM trans
                 WHERE partition = ?1 AND tid BETWEEN ?2 AND ?3 ORDER BY tid DESC LIMIT ?4"
            }
        })?;
        let key = params![partition.0, min, clamp(max.0), clamp(limit.entries as u64)];
        let mut rows = query.query(key).doing(DOING)?;
        let (mut page, mut bytes) = (Vec::new(), 0_usize);
        while let Some(row) = rows.next().doing(DOING)? {
            let (meta, oids) = metadata(row, 4)?;
            let txn = match (get(row, 1)?, get(row, 2)?) {
                (Some(reign), Some(ttid)) => Some(txn(reign, ttid)?),
                _ => None,
            };
            let tid = Tid(uint(get(row, 0)?)?);
            let record = TransactionRecord {
                tid,
                txn,
                meta,
                oids,
                packed: get(row, 3)?,
                pack: pack_order(row, 8)?,
            };
            bytes = bytes.saturating_add(record.weight());
            page.push(record);
            if bytes >= limit.bytes {
                break;
            }
        }
        Ok(page)
    }

    pub(super) fn history(
        &self,
        partition: Partition,
        oid: Oid,
        before: Tid,
        limit: usize,
    ) -> BackendResult<Vec<HistoryEntry>> {
        const DOING: &str = "reading the history of an object";
        let (Ok(oid), Some(last)) = (i64::try_from(oid.0), before.0.checked_sub(1)) else {
            return Ok(Vec::new());
        };
        // The length of a value is known without its pages.
        let mut query = self.query(
            "SELECT o.tid, o.data_tid, o.data_id, CASE WHEN d.shared IS NULL THEN length(d.value)
                 ELSE (SELECT length(s.value) FROM shared_value s WHERE s.id = d.shared) END
             FROM obj o LEFT JOIN data d ON d.id = o.data_id
             WHERE o.partition = ?1 AND o.oid = ?2 AND o.tid <= ?3
             ORDER BY o.tid DESC LIMIT ?4",
        )?;
        let key = params![partition.0, oid, clamp(last), clamp(limit as u64)];
        let mut rows = query.query(key).doing(DOING)?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next().doing(DOING)? {
            let serial = Tid(uint(get(row, 0)?)?);
            let data_serial: Option<i64> = get(row, 1)?;
            let (data, bytes): (Option<i64>, Option<u32>) = (get(row, 2)?, get(row, 3)?);
            if let (Some(data), None) = (data, bytes) {
                let lost = format!("revision {serial} of object {oid:016x} has no value {data}");
                return Err(BackendError::Corrupt(lost));
            }
            entries.push(HistoryEntry {
                serial,
                data_serial: data_serial.map(uint).transpose()?.map(Tid),
                bytes,
            });
        }
        Ok(entries)
    }
}
