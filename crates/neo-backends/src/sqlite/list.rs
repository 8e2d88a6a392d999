//! Listings, page by page.

use std::collections::BTreeMap;

use neo_api::{
    BackendError, BackendResult, DataId, FetchedRevision, Oid, PageLimit, Partition, PendingObject,
    RevisionId, Tid, TransactionRecord, TxnId, UnfinishedTransaction,
};
use rusqlite::params;
use rusqlite::types::ValueRef;

use super::error::{Doing, clamp, uint};
use super::pending;
use super::read::Reader;
use super::row::{get, metadata, revision_id, txn, value, with_value};

impl Reader {
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
        let sql = with_value(
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
