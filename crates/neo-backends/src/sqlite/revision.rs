//! What is done to committed revisions and their values.

use neo_api::{BackendError, BackendResult, ObjectData, Partition, RevisionId, Tid};
use rusqlite::params;

use super::error::{self, int};
use super::plan::Plan;

impl Plan<'_> {
    pub(super) fn put_object(
        &mut self,
        partition: Partition,
        id: RevisionId,
        data: ObjectData,
    ) -> BackendResult<()> {
        let key = [i64::from(partition.0), int(id.oid.0)?, int(id.tid.0)?];
        let new = match data {
            ObjectData::Deleted => Rev::default(),
            ObjectData::Value(data) => Rev {
                data: Some(int(data.0)?),
                ..Rev::default()
            },
            ObjectData::SameAs(tid) => self.repeat(key, id, tid)?,
        };
        // Nearly always the revision is new: that is found out by adding it.
        let added = self.run_often(
            |often| &mut often.object,
            "INSERT INTO obj VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            params![key[0], key[1], key[2], new.data, new.data_tid, new.shared],
        )? == 1;
        let old = if added {
            None
        } else {
            Some(self.replace(key, new)?)
        };
        if let ObjectData::Value(data) = data {
            let again = old.is_some_and(|old| old.data == new.data);
            if !self.claim(data)? && !again {
                self.share(key, new)?;
            }
        }
        match old {
            Some(old) if old.data != new.data => self.release(key, old),
            _ => Ok(()),
        }
    }

    /// Writes over a revision that is there; gives what it was.
    fn replace(&self, key: [i64; 3], new: Rev) -> BackendResult<Rev> {
        let sql = "SELECT data_id, data_tid, shared FROM obj
                   WHERE partition = ?1 AND oid = ?2 AND tid = ?3";
        let old = self.row(sql, key, Rev::read)?;
        let old = old.ok_or_else(|| BackendError::Corrupt("a revision comes and goes".into()))?;
        let shared = new.shared || (old.shared && old.data == new.data);
        self.run(
            "UPDATE obj SET data_id = ?4, data_tid = ?5, shared = ?6
             WHERE partition = ?1 AND oid = ?2 AND tid = ?3",
            params![key[0], key[1], key[2], new.data, new.data_tid, shared],
        )?;
        Ok(old)
    }

    /// Marks the revisions that have the value of `rev`, when there are several.
    fn share(&self, [partition, oid, _]: [i64; 3], rev: Rev) -> BackendResult<()> {
        let sharing = self.row(
            "SELECT count(*) FROM obj WHERE partition = ?1 AND oid = ?2 AND data_id = ?3",
            params![partition, oid, rev.data],
            |row| row.get::<_, i64>(0),
        )?;
        if sharing.is_some_and(|n| n > 1) {
            self.run(
                "UPDATE obj SET shared = 1 WHERE partition = ?1 AND oid = ?2 AND data_id = ?3",
                params![partition, oid, rev.data],
            )?;
        }
        Ok(())
    }

    /// The revision that repeats another one.
    fn repeat(
        &self,
        [partition, oid, own]: [i64; 3],
        id: RevisionId,
        tid: Tid,
    ) -> BackendResult<Rev> {
        let missing = BackendError::Missing { oid: id.oid, tid };
        let Ok(source) = i64::try_from(tid.0) else {
            return Err(missing);
        };
        if source == own {
            return Err(missing);
        }
        let key = [partition, oid, source];
        let sql = "SELECT data_id, data_tid, shared FROM obj
                   WHERE partition = ?1 AND oid = ?2 AND tid = ?3";
        let found = self.row(sql, key, Rev::read)?.ok_or(missing)?;
        if found.data.is_some() && !found.shared {
            self.run(
                "UPDATE obj SET shared = 1 WHERE partition = ?1 AND oid = ?2 AND tid = ?3",
                key,
            )?;
        }
        Ok(Rev {
            data: found.data,
            data_tid: Some(source),
            // A deletion has nothing to share.
            shared: found.data.is_some(),
        })
    }

    pub(super) fn delete_object(&self, partition: Partition, id: RevisionId) -> BackendResult<()> {
        let key = [
            i64::from(partition.0),
            error::clamp(id.oid.0),
            error::clamp(id.tid.0),
        ];
        let sql = "DELETE FROM obj WHERE partition = ?1 AND oid = ?2 AND tid = ?3
                   RETURNING data_id, data_tid, shared";
        match self.row(sql, key, Rev::read)? {
            Some(gone) => {
                // A deletion shares nothing, and may be repeated all the same.
                if gone.shared || gone.data.is_none() {
                    self.repoint(key, gone.data_tid)?;
                }
                self.release(key, gone)
            }
            None => Ok(()),
        }
    }

    /// A revision is gone: those that repeat it repeat what it repeats, or the oldest of them.
    fn repoint(&self, key: [i64; 3], repeats: Option<i64>) -> BackendResult<()> {
        let [partition, oid, gone] = key;
        let heir = match repeats {
            Some(_) => repeats,
            None => {
                let sql = "SELECT tid FROM obj WHERE partition = ?1 AND oid = ?2
                           AND data_tid = ?3 ORDER BY tid LIMIT 1";
                match self.row(sql, key, |row| row.get(0))? {
                    None => return Ok(()),
                    heir => heir,
                }
            }
        };
        self.run(
            "UPDATE obj SET data_tid = nullif(?4, tid)
             WHERE partition = ?1 AND oid = ?2 AND data_tid = ?3",
            params![partition, oid, gone, heir],
        )?;
        Ok(())
    }

    /// Removes the value of a revision that is gone, unless another one has it.
    fn release(&self, [partition, oid, _]: [i64; 3], gone: Rev) -> BackendResult<()> {
        let Some(data) = gone.data else {
            return Ok(());
        };
        if gone.shared {
            let sql = "SELECT 1 FROM obj
                       WHERE partition = ?1 AND oid = ?2 AND data_id = ?3 LIMIT 1";
            if self.row(sql, [partition, oid, data], |_| Ok(()))?.is_some() {
                return Ok(());
            }
        }
        let shared = self.row(
            "DELETE FROM data WHERE id = ?1 RETURNING shared",
            [data],
            |row| row.get(0),
        )?;
        self.unshare_bytes(shared.flatten())
    }
}

/// A row of `obj`, without its key.
#[derive(Debug, Clone, Copy, Default)]
struct Rev {
    data: Option<i64>,
    data_tid: Option<i64>,
    shared: bool,
}

impl Rev {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            data: row.get(0)?,
            data_tid: row.get(1)?,
            shared: row.get(2)?,
        })
    }
}
