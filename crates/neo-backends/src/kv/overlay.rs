//! A batch as it grows: what its operations wrote, over what the engine has.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use neo_api::{BackendResult, DataId, KeyRange, KvBatch, KvEngine, KvOp, Order, Space};

/// Reads see the writes of the same batch; nothing reaches the engine before [`Overlay::finish`].
#[derive(Debug)]
pub(super) struct Overlay<'a, E> {
    engine: &'a E,
    /// `None` removes the key.
    changes: BTreeMap<(Space, Vec<u8>), Option<Bytes>>,
    /// Values that came with this batch, for nobody, and that no revision has yet.
    pub(super) fresh: BTreeSet<DataId>,
    /// Values with so many bytes are kept once for all that are equal.
    pub(super) shared_bytes_min: usize,
}

impl<'a, E: KvEngine> Overlay<'a, E> {
    pub(super) const fn new(engine: &'a E, shared_bytes_min: usize) -> Self {
        Self {
            engine,
            shared_bytes_min,
            changes: BTreeMap::new(),
            fresh: BTreeSet::new(),
        }
    }

    pub(super) fn put(&mut self, space: Space, key: Vec<u8>, value: Bytes) {
        self.changes.insert((space, key), Some(value));
    }

    pub(super) fn delete(&mut self, space: Space, key: Vec<u8>) {
        self.changes.insert((space, key), None);
    }

    pub(super) fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        match self.changes.get(&(space, key.to_vec())) {
            Some(change) => Ok(change.clone()),
            None => self.engine.get(space, key),
        }
    }

    /// Whether any value is shared: then one that goes has to be looked at.
    pub(super) fn has_shared(&self) -> BackendResult<bool> {
        if self.shared_bytes_min < usize::MAX {
            return Ok(true);
        }
        let all = (Bound::Unbounded, Bound::Unbounded);
        let any = self.engine.scan(Space::Shared, all, Order::Ascending, 1)?;
        Ok(!any.is_empty())
    }

    /// All of a range, in order.
    pub(super) fn scan(
        &self,
        space: Space,
        range: KeyRange,
    ) -> BackendResult<BTreeMap<Vec<u8>, Bytes>> {
        let stored = self
            .engine
            .scan(space, range.clone(), Order::Ascending, usize::MAX)?;
        let mut found: BTreeMap<Vec<u8>, Bytes> = stored
            .into_iter()
            .map(|(key, value)| (key.to_vec(), value))
            .collect();
        let first = match &range.0 {
            Bound::Unbounded => Vec::new(),
            Bound::Included(key) | Bound::Excluded(key) => key.clone(),
        };
        let is_before_end = |key: &Vec<u8>| match &range.1 {
            Bound::Unbounded => true,
            Bound::Included(end) => key <= end,
            Bound::Excluded(end) => key < end,
        };
        for ((_, key), change) in self
            .changes
            .range((space, first)..)
            .take_while(|((s, key), _)| *s == space && is_before_end(key))
        {
            if !range.contains(key) {
                continue;
            }
            match change {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
        Ok(found)
    }

    /// What has to be written, each key once.
    pub(super) fn finish(self) -> KvBatch {
        let op = |((space, key), change)| match change {
            Some(value) => KvOp::Put(space, key, value),
            None => KvOp::Delete(space, key),
        };
        KvBatch {
            ops: self.changes.into_iter().map(op).collect(),
        }
    }
}
