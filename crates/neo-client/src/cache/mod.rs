//! The cache of revisions: (oid, `[serial, next_serial)`) intervals.
//!
//! A hit takes the lock of one shard, for the time of a look-up. Nothing else is done under it: no
//! load, no decompression, no walk over many entries; an invalidation locks for one object at a
//! time, and a resync makes all current entries of a shard old by changing one number.

mod shard;

#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use neo_api::{Compression, Loaded, Oid, Record, Tid};

use crate::core::{Event, Validity};
use shard::Shard;

/// Smaller values are copied out of the buffer that they came in.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// What is cached of a revision.
#[derive(Debug, Clone)]
pub enum Value {
    /// The value itself.
    Plain(Bytes),
    /// As stored, compressed: the first who wants it replaces it by the value.
    Stored(Record),
    /// The object is deleted.
    Deleted,
}

impl Value {
    /// What is to be cached of a record.
    fn of(record: &Record) -> Self {
        // A slice of a large buffer would keep the whole of it.
        let data = if record.data.len() <= COPIED_BYTES_MAX {
            Bytes::copy_from_slice(&record.data)
        } else {
            record.data.clone()
        };
        match record.compression {
            Compression::None => Self::Plain(data),
            Compression::Zlib | Compression::Lz4 => Self::Stored(Record {
                data,
                compression: record.compression,
                checksum: record.checksum,
            }),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Plain(data) => data.len(),
            Self::Stored(record) => record.data.len(),
            Self::Deleted => 0,
        }
    }
}

/// A cached revision.
#[derive(Debug, Clone)]
pub struct Hit {
    pub serial: Tid,
    /// `None`: it is the newest. Only meaningful when `next_is_known`.
    pub next_serial: Option<Tid>,
    /// Whether more than "valid at the asked tid" is known.
    pub next_is_known: bool,
    pub value: Value,
}

/// Bytes that an entry costs beside its value.
const ENTRY_BYTES: usize = 128;

/// Shards have at least this size, so that large values fit.
const SHARD_BYTES_MIN: usize = 4 << 20;

/// The cache.
#[derive(Debug)]
pub struct Cache {
    /// A power of two of them.
    shards: Box<[Mutex<Shard>]>,
}

impl Cache {
    /// A cache of at most so many bytes, entries' overhead included. 0: nothing is kept.
    pub fn new(bytes: usize) -> Self {
        let wanted = (bytes / SHARD_BYTES_MIN).clamp(1, 64);
        // The power of two at or below it.
        let count = 1usize << wanted.ilog2();
        let shards = (0..count).map(|_| Mutex::new(Shard::new(bytes / count)));
        Self {
            shards: shards.collect(),
        }
    }

    fn shard(&self, oid: Oid) -> MutexGuard<'_, Shard> {
        // The high bits of a product depend on all bits of the oid.
        let hash = oid.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let at = usize::try_from(hash).unwrap_or(0) & (self.shards.len() - 1);
        // A shard is whole between any two of its operations, so that a panic of another thread
        // does no harm.
        self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes from what the core tells all that concerns the cache. Readers rely on the order: first
    /// this, then the last tid.
    pub fn learn(&self, event: &Event) {
        match event {
            Event::Loaded {
                oid,
                loaded,
                validity,
                ..
            } => self.insert_loaded(*oid, loaded, || *validity),
            Event::Invalidated { tid, oids } => {
                for oid in oids {
                    self.invalidate(*oid, *tid);
                }
            }
            Event::Committed {
                tid,
                changed,
                newest,
                ..
            } => {
                for (oid, record) in changed {
                    self.invalidate(*oid, *tid);
                    if let Some(record) = record.as_ref().filter(|_| *newest) {
                        self.insert(*oid, *tid, Value::of(record), Validity::Current);
                    }
                }
            }
            Event::Resynced { known, .. } => self.resync(*known),
            Event::Cleared { .. } => self.clear(),
            Event::Ready { .. }
            | Event::NotReady { .. }
            | Event::Routes(_)
            | Event::Masters(_)
            | Event::Reply { .. } => {}
        }
    }

    /// The revision that a read before `before` finds. `before` must be at most the last tid + 1.
    pub fn get(&self, oid: Oid, before: Tid) -> Option<Hit> {
        self.shard(oid).get(oid, before)
    }

    /// The revision of exactly this serial.
    pub fn get_exact(&self, oid: Oid, serial: Tid) -> Option<Hit> {
        self.shard(oid).get_exact(oid, serial)
    }

    /// Keeps what was loaded. `validity` is asked when no invalidation can come between.
    pub fn insert_loaded(&self, oid: Oid, loaded: &Loaded, validity: impl FnOnce() -> Validity) {
        let (serial, value) = match loaded {
            Loaded::Found(found) => (found.serial, Value::of(&found.record)),
            Loaded::Deleted { serial, .. } => (*serial, Value::Deleted),
            Loaded::NotYet | Loaded::Unknown => return,
        };
        let mut shard = self.shard(oid);
        shard.insert(oid, serial, value, validity());
    }

    /// Keeps a revision. `validity` must hold as of the last invalidation that was applied.
    pub fn insert(&self, oid: Oid, serial: Tid, value: Value, validity: Validity) {
        self.shard(oid).insert(oid, serial, value, validity);
    }

    /// The value of a revision that is kept as stored.
    pub fn unpack(&self, oid: Oid, serial: Tid, record: &Record, value: &Bytes) {
        self.shard(oid).unpack(oid, serial, record, value);
    }

    /// The object changed: its current revision ends at `tid`.
    pub fn invalidate(&self, oid: Oid, tid: Tid) {
        self.shard(oid).invalidate(oid, tid);
    }

    /// Changes after `known` were missed: what is current is valid up to it, and nothing is known
    /// beyond.
    pub fn resync(&self, known: Tid) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.resync(known);
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            let old = {
                let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let empty = Shard::new(shard.bytes_max());
                std::mem::replace(&mut *shard, empty)
            };
            // Freed without the lock.
            drop(old);
        }
    }

    /// Bytes in use, overhead included.
    pub fn bytes(&self) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).bytes())
            .sum()
    }
}
