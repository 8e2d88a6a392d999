//! Listings of what did not end: what a node reads when it starts, and after a crash.

use std::collections::BTreeMap;

use neo_api::{
    BackendError, BackendResult, DataId, Oid, PendingObject, Tid, TxnId, UnfinishedTransaction,
    VotedRecord,
};
use rusqlite::types::ValueRef;

use super::error::{Doing, clamp, uint};
use super::pending;
use super::read::Reader;
use super::row::{get, metadata, order, txn};
use super::small::{self, Object};

impl Reader {
    pub(super) fn unfinished(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>> {
        self.unchanged(|| {
            let mut page = self.large(after, limit)?;
            small::each_parcel(&self.conn, |_, parcel| {
                for entry in parcel {
                    let entry = entry?;
                    if Some(entry.txn) > after {
                        page.push(entry.transaction()?);
                    }
                }
                Ok(())
            })?;
            page.sort_unstable_by_key(|unfinished| unfinished.txn);
            page.truncate(limit);
            Ok(page)
        })
    }

    /// The first transactions that have rows of their own.
    fn large(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>> {
        const DOING: &str = "listing unfinished transactions";
        let mut query = self.query(
            "SELECT reign, ttid, tid, user, description, extension, oids, pack, packed
             FROM unfinished
             WHERE (reign, ttid) > (?1, ?2) ORDER BY reign, ttid LIMIT ?3",
        )?;
        let (reign, ttid) = after.map_or((-1, -1), |txn| (clamp(txn.reign.0), clamp(txn.ttid.0)));
        let mut rows = query
            .query([reign, ttid, clamp(limit as u64)])
            .doing(DOING)?;
        let mut page = Vec::new();
        while let Some(row) = rows.next().doing(DOING)? {
            let has_record = row.get_ref(6).doing(DOING)? != ValueRef::Null;
            let record = has_record.then(|| {
                let (meta, oids) = metadata(row, 3)?;
                let packed: Option<bool> = get(row, 8)?;
                Ok::<_, BackendError>(VotedRecord {
                    meta,
                    oids,
                    packed: packed.unwrap_or_default(),
                    pack: order(row, 7)?,
                })
            });
            let record = record.transpose()?;
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
        self.unchanged(|| match self.small(txn)? {
            Some(small) => {
                let objects = small.objects.iter().map(|object| object.pending);
                let objects = objects.filter(|object| Some(object.oid) > after);
                Ok(objects.take(limit).collect())
            }
            None => self.merge_parcels(key, after, limit),
        })
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
        self.unchanged(|| {
            let mut page = self.loose_rows(after, limit)?;
            small::each_parcel(&self.conn, |_, parcel| {
                for entry in parcel {
                    let entry = entry?;
                    let objects = entry.decode()?.objects;
                    let values = objects.iter().filter_map(Object::loose_value);
                    let values = values.map(|id| (entry.txn, id));
                    page.extend(values.filter(|value| Some(*value) > after));
                }
                Ok(())
            })?;
            page.sort_unstable();
            page.truncate(limit);
            Ok(page)
        })
    }

    fn loose_rows(
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

fn clamp_up(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
