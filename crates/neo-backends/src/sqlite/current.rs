//! Objects as they were at some tid.

use neo_api::{BackendResult, CurrentPage, FetchedRevision, Oid, PageLimit, Partition, Tid};
use rusqlite::{OptionalExtension, params};

use super::error::{Doing, clamp, uint};
use super::read::Reader;
use super::row::{get, revision_id, value, with_value};

const DOING: &str = "listing objects";

impl Reader {
    pub(super) fn current(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        values: bool,
        limit: PageLimit,
    ) -> BackendResult<CurrentPage> {
        self.unchanged(|| {
            let mut page = CurrentPage::default();
            let mut next = Some(min);
            let mut bytes = 0_usize;
            for _ in 0..limit.entries {
                let oid = match next {
                    Some(min) => self.first_object(partition, min)?,
                    None => None,
                };
                let Some(oid) = oid else {
                    return Ok(page);
                };
                next = oid.checked_next();
                let Some(revision) = self.as_of(partition, oid, at, values)? else {
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
        })
    }

    fn first_object(&self, partition: Partition, min: Oid) -> BackendResult<Option<Oid>> {
        let Ok(min) = i64::try_from(min.0) else {
            return Ok(None);
        };
        let sql = "SELECT oid FROM obj WHERE partition = ?1 AND oid >= ?2 ORDER BY oid LIMIT 1";
        let mut query = self.query(sql)?;
        let key = [i64::from(partition.0), min];
        let oid: Option<i64> = query
            .query_row(key, |row| row.get(0))
            .optional()
            .doing(DOING)?;
        Ok(oid.map(uint).transpose()?.map(Oid))
    }

    fn as_of(
        &self,
        partition: Partition,
        oid: Oid,
        at: Tid,
        values: bool,
    ) -> BackendResult<Option<FetchedRevision>> {
        const WHERE: &str = "WHERE o.partition = ?1 AND o.oid = ?2 AND o.tid <= ?3
             ORDER BY o.tid DESC LIMIT 1";
        let sql = if values {
            let from = format!("FROM obj o LEFT JOIN data d ON d.id = o.data_id {WHERE}");
            with_value("SELECT o.tid, o.oid,", &from)
        } else {
            format!("SELECT o.tid, o.oid, o.data_id, o.data_tid FROM obj o {WHERE}")
        };
        let mut query = self.query(&sql)?;
        let key = params![partition.0, clamp(oid.0), clamp(at.0)];
        let mut rows = query.query(key).doing(DOING)?;
        let Some(row) = rows.next().doing(DOING)? else {
            return Ok(None);
        };
        if get::<Option<i64>>(row, 2)?.is_none() {
            return Ok(None);
        }
        let id = revision_id(row)?;
        let (record, data_serial) = if values {
            value(row, id)?
        } else {
            let data_serial: Option<i64> = get(row, 3)?;
            (None, data_serial.map(uint).transpose()?.map(Tid))
        };
        Ok(Some(FetchedRevision {
            id,
            record,
            data_serial,
        }))
    }
}
