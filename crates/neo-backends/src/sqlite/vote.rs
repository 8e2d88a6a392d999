//! What is done to values and to transactions that have voted.

use bytes::Bytes;
use neo_api::{
    BackendError, BackendResult, DataId, PendingObject, Record, Tid, TransactionMeta, TxnId,
    VotedRecord,
};
use rusqlite::params;

use super::error::{self, int};
use super::pending;
use super::plan::{Plan, name, oid_bytes};
use super::small::{OBJECTS_MAX, Object};
use crate::pack;

/// A value that came with this batch, and that no revision has yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fresh {
    /// It is not loose, or only a small transaction says that it is.
    NoRow,
    /// It is loose: there is a row that says so.
    Row(TxnId),
    /// It is loose, and an operation of this batch will make it part of a small transaction.
    Promised(TxnId),
}

impl Plan<'_> {
    pub(super) fn put_data(
        &mut self,
        id: DataId,
        owner: Option<TxnId>,
        record: &Record,
    ) -> BackendResult<()> {
        let at = int(id.0)?;
        let fresh = match owner {
            None => Fresh::NoRow,
            Some(txn) if self.is_promised(id, txn) => {
                name(owner)?;
                self.promised += 1;
                Fresh::Promised(txn)
            }
            Some(txn) => Fresh::Row(txn),
        };
        let has_row = matches!(fresh, Fresh::Row(_));
        let (reign, ttid) = name(owner.filter(|_| has_row))?;
        let shared = self.share_bytes(at, record)?;
        let value = match shared {
            Some(_) => &[],
            None => &record.data[..],
        };
        let values = params![
            at,
            reign,
            ttid,
            u8::from(record.compression),
            &record.checksum.0[..],
            value,
            shared,
        ];
        self.run_often(
            |often| &mut often.data,
            "INSERT OR REPLACE INTO data VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            values,
        )?;
        if let Fresh::Row(txn) = fresh {
            self.loose_row(id, txn)?;
        }
        self.fresh.insert(id, fresh);
        Ok(())
    }

    fn loose_row(&mut self, id: DataId, txn: TxnId) -> BackendResult<()> {
        let key = [int(txn.reign.0)?, int(txn.ttid.0)?, int(id.0)?];
        self.run("INSERT OR REPLACE INTO loose VALUES (?1, ?2, ?3)", key)?;
        self.unfinished.owners.insert(txn);
        Ok(())
    }

    /// Says by a row that a value is loose, of which only a small transaction told.
    fn tell_loose(&mut self, id: DataId, txn: TxnId) -> BackendResult<()> {
        let key = [int(id.0)?, int(txn.reign.0)?, int(txn.ttid.0)?];
        self.run("UPDATE data SET reign = ?2, ttid = ?3 WHERE id = ?1", key)?;
        self.loose_row(id, txn)?;
        if let Some(fresh) = self.fresh.get_mut(&id) {
            *fresh = Fresh::Row(txn);
        }
        Ok(())
    }

    /// At the end of a batch: what was promised, and did not come.
    pub(super) fn break_promises(&mut self) -> BackendResult<()> {
        if self.promised == 0 {
            return Ok(());
        }
        let promised = |(id, fresh): (&DataId, &Fresh)| match fresh {
            Fresh::Promised(txn) => Some((*id, *txn)),
            _ => None,
        };
        let broken: Vec<_> = self.fresh.iter().filter_map(promised).collect();
        for (id, txn) in broken {
            self.tell_loose(id, txn)?;
        }
        Ok(())
    }

    pub(super) fn delete_data(&mut self, id: DataId) -> BackendResult<()> {
        self.take_fresh(id);
        self.unfinished.claim(id);
        let at = error::clamp(id.0);
        let owner = self.row(
            "DELETE FROM data WHERE id = ?1 RETURNING reign, ttid, shared",
            [at],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let (reign, ttid, shared) = owner.unwrap_or_default();
        if let (Some(reign), Some(ttid)) = (reign, ttid) {
            self.not_loose([reign, ttid, at])?;
        }
        self.unshare_bytes(shared)
    }

    fn not_loose(&self, key: [i64; 3]) -> BackendResult<bool> {
        let sql = "DELETE FROM loose WHERE reign = ?1 AND ttid = ?2 AND id = ?3";
        Ok(self.run(sql, key)? == 1)
    }

    fn take_fresh(&mut self, id: DataId) -> Option<Fresh> {
        let fresh = self.fresh.remove(&id)?;
        if matches!(fresh, Fresh::Promised(_)) {
            self.promised -= 1;
        }
        Some(fresh)
    }

    /// Makes a value not loose any more; tells whether it is known to have been nobody's.
    pub(super) fn claim(&mut self, id: DataId) -> BackendResult<bool> {
        let at = int(id.0)?;
        let fresh = self.take_fresh(id);
        if self.unfinished.claim(id) {
            return Ok(true);
        }
        let owner = match fresh {
            Some(Fresh::Row(txn)) => name(Some(txn))?,
            Some(Fresh::NoRow | Fresh::Promised(_)) => (None, None),
            None => self
                .row("SELECT reign, ttid FROM data WHERE id = ?1", [at], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .ok_or_else(|| BackendError::Corrupt(format!("there is no value {id}")))?,
        };
        let was_loose = match owner {
            (Some(reign), Some(ttid)) => self.not_loose([reign, ttid, at])?,
            _ => false,
        };
        Ok(was_loose || fresh.is_some())
    }

    pub(super) fn put_unfinished_objects(
        &mut self,
        txn: TxnId,
        objects: &[PendingObject],
    ) -> BackendResult<()> {
        name(Some(txn))?;
        if let Some(greatest) = objects.iter().map(|o| o.oid).max() {
            int(greatest.0)?;
        }
        let before = self.unfinished.get(txn).map_or(0, |s| s.objects.len());
        if before + objects.len() > OBJECTS_MAX || self.oversized.contains(&txn) {
            self.enlarge(txn)?;
        }
        if self.unfinished.large.contains(&txn) {
            return self.put_parcel(txn, objects);
        }
        let small = self.unfinished.change_or_create(txn);
        let (mut loose, mut displaced) = (Vec::new(), Vec::new());
        for pending in objects.iter().copied() {
            let mut object = Object {
                pending,
                loose: false,
            };
            if let Some(id) = object.value()
                && let Some(fresh) = self.fresh.get_mut(&id)
                && *fresh == Fresh::Promised(txn)
            {
                *fresh = Fresh::NoRow;
                self.promised -= 1;
                object.loose = true;
                loose.push(id);
            }
            displaced.extend(small.put(object));
        }
        for id in loose {
            self.unfinished.loosen(id, txn);
        }
        for id in displaced {
            if self.unfinished.claim(id) {
                self.tell_loose(id, txn)?;
            }
        }
        Ok(())
    }

    fn put_parcel(&self, txn: TxnId, objects: &[PendingObject]) -> BackendResult<()> {
        let Some(parcel) = pending::pack(objects)? else {
            return Ok(());
        };
        self.run(
            "INSERT INTO pending SELECT ?1, ?2, 1 + coalesce(max(seq), 0), ?3, ?4, ?5
             FROM pending WHERE reign = ?1 AND ttid = ?2",
            params![
                int(txn.reign.0)?,
                int(txn.ttid.0)?,
                parcel.least,
                parcel.greatest,
                parcel.bytes
            ],
        )?;
        Ok(())
    }

    /// Gives a transaction, which may be there or not, rows of its own.
    fn enlarge(&mut self, txn: TxnId) -> BackendResult<()> {
        if !self.unfinished.large.insert(txn) {
            return Ok(());
        }
        let small = self.unfinished.remove(txn).unwrap_or_default();
        let tid = small.tid.map(|tid| int(tid.0)).transpose()?;
        self.run(
            "INSERT INTO unfinished (reign, ttid, tid) VALUES (?1, ?2, ?3)",
            params![int(txn.reign.0)?, int(txn.ttid.0)?, tid],
        )?;
        if small.record.is_some() {
            self.put_record(txn, small.record.as_ref())?;
        }
        let objects: Vec<_> = small.objects.iter().map(|o| o.pending).collect();
        self.put_parcel(txn, &objects)?;
        for id in small.objects.iter().filter_map(Object::loose_value) {
            self.tell_loose(id, txn)?;
        }
        Ok(())
    }

    pub(super) fn put_unfinished(
        &mut self,
        txn: TxnId,
        record: Option<&VotedRecord>,
    ) -> BackendResult<()> {
        name(Some(txn))?;
        if self.oversized.contains(&txn) {
            self.enlarge(txn)?;
        }
        if self.unfinished.large.contains(&txn) {
            return self.put_record(txn, record);
        }
        self.unfinished.change_or_create(txn).record = record.cloned();
        Ok(())
    }

    fn put_record(&self, txn: TxnId, record: Option<&VotedRecord>) -> BackendResult<()> {
        let meta = record.map(|record| &record.meta);
        let blob = |bytes: fn(&TransactionMeta) -> &Bytes| meta.map(|m| &bytes(m)[..]);
        self.run(
            "UPDATE unfinished SET user = ?3, description = ?4, extension = ?5, oids = ?6, pack = ?7,
                 packed = ?8
             WHERE reign = ?1 AND ttid = ?2",
            params![
                int(txn.reign.0)?,
                int(txn.ttid.0)?,
                blob(|meta| &meta.user),
                blob(|meta| &meta.description),
                blob(|meta| &meta.extension),
                record.map(|record| oid_bytes(&record.oids)),
                record
                    .and_then(|record| record.pack.as_ref())
                    .map(pack::encode_order),
                record.map(|record| record.packed),
            ],
        )?;
        Ok(())
    }

    pub(super) fn lock_unfinished(&mut self, txn: TxnId, tid: Tid) -> BackendResult<()> {
        let at = int(tid.0)?;
        if let Some(small) = self.unfinished.change(txn) {
            small.tid = Some(tid);
        } else if self.unfinished.large.contains(&txn) {
            self.run(
                "UPDATE unfinished SET tid = ?3 WHERE reign = ?1 AND ttid = ?2",
                [int(txn.reign.0)?, int(txn.ttid.0)?, at],
            )?;
        }
        Ok(())
    }

    pub(super) fn drop_unfinished(&mut self, txn: TxnId) -> BackendResult<()> {
        if self.promised > 0 {
            for fresh in self.fresh.values_mut() {
                if *fresh == Fresh::Promised(txn) {
                    *fresh = Fresh::NoRow;
                    self.promised -= 1;
                }
            }
        }
        self.unfinished.remove(txn);
        let key = [error::clamp(txn.reign.0), error::clamp(txn.ttid.0)];
        if self.unfinished.large.remove(&txn) {
            self.run("DELETE FROM unfinished WHERE reign = ?1 AND ttid = ?2", key)?;
            self.run("DELETE FROM pending WHERE reign = ?1 AND ttid = ?2", key)?;
        }
        if self.unfinished.owners.remove(&txn) {
            self.run("DELETE FROM loose WHERE reign = ?1 AND ttid = ?2", key)?;
        }
        Ok(())
    }
}
