//! Values that are kept once for all that are equal.
//!
//! The bytes lie apart, under the data id that they came with first, and are counted. They are found
//! by their checksum, and compared: a checksum can be the same by chance, or on purpose. Data ids are
//! never used again, so whoever has read where the bytes are finds these or none.

use neo_api::{BackendError, BackendResult, Checksum, DataId, KvEngine, Record, Space};

use super::key;
use super::overlay::Overlay;
use super::value::{self, Sharing, Value};
use crate::limits::SHARED_COMPARED_MAX;

impl<E: KvEngine> Overlay<'_, E> {
    /// Writes a value.
    pub(super) fn put_value(&mut self, id: DataId, record: &Record) -> BackendResult<()> {
        let encoded = if record.data.len() >= self.shared_bytes_min {
            // It may be the same write again.
            self.delete_value(id)?;
            value::encode_sharing(&Sharing {
                compression: record.compression,
                checksum: record.checksum,
                id: self.share(id, record)?,
            })
        } else {
            value::encode_record(record)
        };
        self.put(Space::Data, key::data(id), encoded);
        Ok(())
    }

    /// Counts one more that has these bytes; gives where they are.
    fn share(&mut self, id: DataId, record: &Record) -> BackendResult<DataId> {
        let known = self.scan(Space::Shared, key::shared_counts(record.checksum))?;
        for (key, count) in known.into_iter().take(SHARED_COMPARED_MAX) {
            let known = key::id_of_shared_count(&key)?;
            if self.shared(known)?.as_ref() == Some(&record.data) {
                let count = value::decode_count(&count)? + 1;
                self.put(Space::Shared, key, value::encode_count(count));
                return Ok(known);
            }
        }
        let data = value::encode_shared(&record.data);
        self.put(Space::Shared, key::shared(id), data);
        let key = key::shared_count(record.checksum, id);
        self.put(Space::Shared, key, value::encode_count(1));
        Ok(id)
    }

    fn shared(&self, id: DataId) -> BackendResult<Option<bytes::Bytes>> {
        let found = self.get(Space::Shared, &key::shared(id))?;
        found.as_ref().map(value::decode_shared).transpose()
    }

    /// Removes a value, and its bytes with the last that has them.
    pub(super) fn delete_value(&mut self, id: DataId) -> BackendResult<()> {
        if self.has_shared()?
            && let Some(bytes) = self.get(Space::Data, &key::data(id))?
            && let Value::Shared(sharing) = value::decode_value(&bytes)?
        {
            self.unshare(sharing.checksum, sharing.id)?;
        }
        self.delete(Space::Data, key::data(id));
        Ok(())
    }

    fn unshare(&mut self, checksum: Checksum, id: DataId) -> BackendResult<()> {
        let key = key::shared_count(checksum, id);
        let count = self.get(Space::Shared, &key)?;
        let count = count.as_ref().map(value::decode_count).transpose()?;
        let lost = || BackendError::Corrupt(format!("nobody knows who has the value {id}"));
        match count.ok_or_else(lost)? {
            0 | 1 => {
                self.delete(Space::Shared, key);
                self.delete(Space::Shared, key::shared(id));
            }
            more => self.put(Space::Shared, key, value::encode_count(more - 1)),
        }
        Ok(())
    }
}
