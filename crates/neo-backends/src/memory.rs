//! An engine that keeps everything in memory: the one to read first.
//!
//! It is complete: with [`KvBackend`](crate::KvBackend) around it, it serves a cluster. An engine
//! for a database on disk has the same three methods, and honours
//! [`Durability`](neo_api::Durability).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use neo_api::{BackendResult, Durability, KeyRange, KvBatch, KvEngine, KvOp, Order, Space};

/// A map from (space, key) to value, which ends with the process.
///
/// One lock over the whole makes a batch atomic; readers wait for the time that it takes to copy
/// a batch's keys.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    map: RwLock<BTreeMap<(Space, Vec<u8>), Bytes>>,
}

impl MemoryEngine {
    /// What is there now, as an engine of its own: whole batches. Values are not copied.
    ///
    /// A test that takes long to reach a state reaches it once, and begins with a snapshot of it
    /// each time:
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use neo_api::{BackendInfo, StorageBackend};
    /// use neo_backends::{KvBackend, MemoryEngine};
    ///
    /// let engine = Arc::new(MemoryEngine::default());
    /// let prepared = KvBackend::inline(Arc::clone(&engine), BackendInfo::new("Memory", false));
    /// // ... a node writes to `prepared`, and then, as often as it is wanted:
    /// let backend = KvBackend::inline(engine.snapshot(), prepared.info());
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let map = RwLock::new(map.clone());
        Self { map }
    }
}

impl KvEngine for MemoryEngine {
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        Ok(map.get(&(space, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        space: Space,
        (from, to): KeyRange,
        order: Order,
        limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>> {
        if let (Bound::Excluded(from), Bound::Excluded(to)) = (&from, &to)
            && from == to
        {
            // A range may be empty; the map panics on this one.
            return Ok(Vec::new());
        }
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let from = match from {
            Bound::Unbounded => Bound::Included((space, Vec::new())),
            bound => bound.map(|key| (space, key)),
        };
        // No key is longer than 64 bytes, so this is past the last of the space.
        let to = match to {
            Bound::Unbounded => Bound::Excluded((space, vec![0xff; 65])),
            bound => bound.map(|key| (space, key)),
        };
        let copy = |((_, key), value): (&(Space, Vec<u8>), &Bytes)| {
            (Bytes::copy_from_slice(key), value.clone())
        };
        let found = map.range((from, to));
        Ok(match order {
            Order::Ascending => found.take(limit).map(copy).collect(),
            Order::Descending => found.rev().take(limit).map(copy).collect(),
        })
    }

    fn bytes(&self) -> BackendResult<u64> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let pairs = map.iter().map(|((_, key), value)| key.len() + value.len());
        Ok(pairs.sum::<usize>() as u64)
    }

    fn apply(&self, batch: KvBatch, _: Durability) -> BackendResult<()> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        for op in batch.ops {
            match op {
                KvOp::Put(space, key, value) => map.insert((space, key), value),
                KvOp::Delete(space, key) => map.remove(&(space, key)),
            };
        }
        Ok(())
    }
}
