//! Values that are kept once for all that are equal.
//!
//! The bytes lie apart, under the data id that they came with first, and are counted. They are found
//! by their checksum, and compared: a checksum can be the same by chance, or on purpose. The count is
//! in a row of its own: when one less has the bytes, that must not take room for them once more.

use neo_api::{BackendError, BackendResult, Record};
use rusqlite::params;

use super::error::clamp;
use super::plan::Plan;
use crate::limits::SHARED_COMPARED_MAX;

impl Plan<'_> {
    /// Where the bytes of a new value are, if others may have the same.
    pub(super) fn share_bytes(&self, id: i64, record: &Record) -> BackendResult<Option<i64>> {
        let min = self.dedup_bytes_min;
        if min.is_none_or(|min| record.data.len() < min as usize) {
            return Ok(None);
        }
        // It may be the same write again.
        let before = self.row("SELECT shared FROM data WHERE id = ?1", [id], |row| {
            row.get(0)
        })?;
        self.unshare_bytes(before.flatten())?;
        let (checksum, data) = (&record.checksum.0[..], &record.data[..]);
        let known = self.row(
            "SELECT s.id FROM
                (SELECT id FROM shared WHERE checksum = ?1 ORDER BY id LIMIT ?3) s
             JOIN shared_value v ON v.id = s.id WHERE v.value = ?2 LIMIT 1",
            params![checksum, data, clamp(SHARED_COMPARED_MAX as u64)],
            |row| row.get(0),
        )?;
        match known {
            Some(known) => {
                let add = "UPDATE shared SET count = count + 1 WHERE id = ?1";
                self.run(add, [known])?;
                Ok(Some(known))
            }
            None => {
                let add = "INSERT INTO shared VALUES (?1, 1, ?2)";
                self.run(add, params![id, checksum])?;
                let add = "INSERT INTO shared_value VALUES (?1, ?2)";
                self.run(add, params![id, data])?;
                Ok(Some(id))
            }
        }
    }

    /// One less has these bytes; with the last they go.
    pub(super) fn unshare_bytes(&self, shared: Option<i64>) -> BackendResult<()> {
        let Some(id) = shared else {
            return Ok(());
        };
        let left = self.row(
            "UPDATE shared SET count = count - 1 WHERE id = ?1 RETURNING count",
            [id],
            |row| row.get::<_, i64>(0),
        )?;
        match left {
            None => Err(BackendError::Corrupt(format!(
                "nobody knows who has the value {id}"
            ))),
            Some(..=0) => {
                self.run("DELETE FROM shared WHERE id = ?1", [id])?;
                self.run("DELETE FROM shared_value WHERE id = ?1", [id])?;
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }
}
