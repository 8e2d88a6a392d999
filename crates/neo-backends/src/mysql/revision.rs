//! What is done to committed revisions and their values.

use neo_api::{BackendError, ObjectData, Oid, Tid};

use super::error::Failure;
use super::plan::{Key, Plan, Rev};

impl Plan<'_> {
    pub(super) fn put_object(&mut self, key: Key, data: ObjectData) -> Result<(), Failure> {
        let old = self.rev(key)?;
        let mut new = match data {
            ObjectData::Deleted => Rev::default(),
            ObjectData::Value(data) => Rev {
                data: Some(data.0),
                ..Rev::default()
            },
            ObjectData::SameAs(tid) => self.repeat(key, tid)?,
        };
        let is_same = old.is_some_and(|old| old.data == new.data);
        new.shared |= is_same && old.is_some_and(|old| old.shared);
        self.set_rev(key, Some(new));
        if let ObjectData::Value(data) = data {
            let Some(was_nobodys) = self.claim(data.0)? else {
                return Err(BackendError::Corrupt(format!("there is no value {data}")).into());
            };
            if !was_nobodys && !is_same {
                self.share(key, data.0)?;
            }
        }
        match old {
            Some(old) if !is_same => self.release(key, old),
            _ => Ok(()),
        }
    }

    /// The revision that repeats another one.
    fn repeat(&mut self, key: Key, tid: Tid) -> Result<Rev, Failure> {
        let (part, oid, own) = key;
        let missing = BackendError::Missing { oid: Oid(oid), tid };
        if tid.0 == own {
            return Err(missing.into());
        }
        let source = (part, oid, tid.0);
        let found = self.rev(source)?.ok_or(missing)?;
        // A deletion has nothing to share.
        let shared = found.data.is_some();
        if shared && !found.shared {
            self.set_rev(source, Some(Rev { shared, ..found }));
        }
        Ok(Rev {
            data: found.data,
            data_tid: Some(tid.0),
            shared,
        })
    }

    /// Marks the revisions of an object that have a value, when there are several.
    fn share(&mut self, (part, oid, _): Key, data: u64) -> Result<(), Failure> {
        let sharing = self.tids((part, oid), "data_id", data, "")?;
        if sharing.len() > 1 {
            for tid in sharing {
                let key = (part, oid, tid);
                if let Some(rev) = self.rev(key)? {
                    self.set_rev(
                        key,
                        Some(Rev {
                            shared: true,
                            ..rev
                        }),
                    );
                }
            }
        }
        Ok(())
    }

    pub(super) fn delete_object(&mut self, key: Key) -> Result<(), Failure> {
        let Some(gone) = self.rev(key)? else {
            return Ok(());
        };
        self.set_rev(key, None);
        // A deletion shares nothing, and may be repeated all the same.
        if gone.shared || gone.data.is_none() {
            self.repoint(key, gone.data_tid)?;
        }
        self.release(key, gone)
    }

    /// A revision is gone: those that repeat it repeat what it repeats, or the oldest of them.
    fn repoint(&mut self, (part, oid, gone): Key, repeats: Option<u64>) -> Result<(), Failure> {
        let repeating = self.tids((part, oid), "data_tid", gone, "")?;
        let heir = repeats.or_else(|| repeating.first().copied());
        for tid in repeating {
            let key = (part, oid, tid);
            if let Some(rev) = self.rev(key)? {
                let data_tid = heir.filter(|heir| *heir != tid);
                self.set_rev(key, Some(Rev { data_tid, ..rev }));
            }
        }
        Ok(())
    }

    /// Removes the value of a revision that is gone, unless another one has it.
    fn release(&mut self, (part, oid, _): Key, gone: Rev) -> Result<(), Failure> {
        let Some(data) = gone.data else {
            return Ok(());
        };
        if gone.shared
            && !self
                .tids((part, oid), "data_id", data, "LIMIT 1")?
                .is_empty()
        {
            return Ok(());
        }
        self.delete_value(data);
        Ok(())
    }

    /// Tids of the revisions of an object that have something in a column, the oldest first.
    fn tids(
        &mut self,
        (part, oid): (u32, u64),
        column: &str,
        value: u64,
        limit: &str,
    ) -> Result<Vec<u64>, Failure> {
        let rows = self.select(&format!(
            "SELECT tid FROM obj WHERE part = {part} AND oid = {oid} AND {column} = {value}
             ORDER BY tid {limit}"
        ))?;
        let tids = rows.iter().map(|row| row.int(0));
        Ok(tids.collect::<Result<_, BackendError>>()?)
    }
}
