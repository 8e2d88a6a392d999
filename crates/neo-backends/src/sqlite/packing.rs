//! What a pack removes, and the orders to pack.

use neo_api::{BackendResult, ObsoletePage, Oid, PackOrder, Partition, RevisionId, Tid};
use rusqlite::params;

use super::error::{Doing, clamp, uint};
use super::read::Reader;
use super::row::get;
use crate::pack;

impl Reader {
    pub(super) fn obsolete(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        limit: usize,
    ) -> BackendResult<ObsoletePage> {
        const DOING: &str = "listing what a pack removes";
        let Ok(min) = i64::try_from(min.0) else {
            return Ok(ObsoletePage::default());
        };
        let mut query = self.query(
            "SELECT oid, tid, data_id IS NULL FROM obj WHERE partition = ?1 AND oid >= ?2
             ORDER BY oid, tid LIMIT ?3",
        )?;
        let key = params![partition.0, min, clamp(pack::rows(limit) as u64)];
        let mut rows = query.query(key).doing(DOING)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().doing(DOING)? {
            let id = RevisionId {
                tid: Tid(uint(get(row, 1)?)?),
                oid: Oid(uint(get(row, 0)?)?),
            };
            let is_deletion = get(row, 2)?;
            found.push(pack::Row { id, is_deletion });
        }
        Ok(pack::obsolete(&found, at, limit))
    }

    pub(super) fn pack_orders(
        &self,
        partition: Partition,
        after: Tid,
        limit: usize,
    ) -> BackendResult<Vec<(Tid, PackOrder)>> {
        const DOING: &str = "listing orders to pack";
        let mut query = self.query(
            "SELECT tid, pack FROM trans INDEXED BY trans_pack
             WHERE partition = ?1 AND tid > ?2 AND pack IS NOT NULL ORDER BY tid LIMIT ?3",
        )?;
        let key = params![partition.0, clamp(after.0), clamp(limit as u64)];
        let mut rows = query.query(key).doing(DOING)?;
        let mut orders = Vec::new();
        while let Some(row) = rows.next().doing(DOING)? {
            let tid = Tid(uint(get(row, 0)?)?);
            let order = super::row::order(row, 1)?;
            orders.push((tid, order.ok_or_else(|| pack::lost_order(partition, tid))?));
        }
        Ok(orders)
    }
}
