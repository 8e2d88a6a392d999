//! Listings of revisions, page by page.

use neo_api::{BackendResult, FetchedRevision, PageLimit, Partition, RevisionId, Tid};
use rusqlite::params;

use super::error::{Doing, clamp};
use super::read::Reader;
use super::row::{revision_id, value, with_value};

impl Reader {
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
}

/// Where a listing from `min` starts; `None` past all that SQLite can keep.
fn first(min: RevisionId) -> Option<(i64, i64)> {
    let tid = i64::try_from(min.tid.0).ok()?;
    match i64::try_from(min.oid.0) {
        Ok(oid) => Some((tid, oid)),
        Err(_) => Some((tid.checked_add(1)?, 0)),
    }
}
