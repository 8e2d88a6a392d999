//! Short words for the cases, and the map that an engine is compared with.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use neo_api::{BackendResult, Durability, KeyRange, KvBatch, KvEngine, KvOp, Order, Space};

use super::EngineFactory;

/// What an engine is to be like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model(BTreeMap<(Space, Vec<u8>), Bytes>);

impl Model {
    pub(super) fn apply(&mut self, ops: &[KvOp]) {
        for op in ops.iter().cloned() {
            match op {
                KvOp::Put(space, key, value) => self.0.insert((space, key), value),
                KvOp::Delete(space, key) => self.0.remove(&(space, key)),
            };
        }
    }

    pub(super) fn get(&self, space: Space, key: &[u8]) -> Option<Bytes> {
        self.0.get(&(space, key.to_vec())).cloned()
    }

    /// Looks at every key: what is in a range is not asked of the map.
    pub(super) fn scan(
        &self,
        space: Space,
        (from, to): &KeyRange,
        order: Order,
        limit: usize,
    ) -> Vec<(Bytes, Bytes)> {
        let is_in = |key: &Vec<u8>| {
            let above = match from {
                Bound::Included(from) => key >= from,
                Bound::Excluded(from) => key > from,
                Bound::Unbounded => true,
            };
            let below = match to {
                Bound::Included(to) => key <= to,
                Bound::Excluded(to) => key < to,
                Bound::Unbounded => true,
            };
            above && below
        };
        let found = self
            .0
            .iter()
            .filter(|((s, key), _)| *s == space && is_in(key));
        let found = found.map(|((_, key), value)| (Bytes::from(key.clone()), value.clone()));
        match order {
            Order::Ascending => found.take(limit).collect(),
            Order::Descending => found.rev().take(limit).collect(),
        }
    }

    /// All that an engine has.
    pub(super) fn of(engine: &impl KvEngine) -> Self {
        let mut found = Self::default();
        for space in Space::ALL {
            for (key, value) in all(engine, space) {
                found.0.insert((space, key.to_vec()), value);
            }
        }
        found
    }
}

pub(super) const EVERYTHING: KeyRange = (Bound::Unbounded, Bound::Unbounded);

pub(super) fn put(space: Space, key: &[u8], value: impl Into<Bytes>) -> KvOp {
    KvOp::Put(space, key.to_vec(), value.into())
}

pub(super) fn delete(space: Space, key: &[u8]) -> KvOp {
    KvOp::Delete(space, key.to_vec())
}

pub(super) fn apply(engine: &impl KvEngine, ops: Vec<KvOp>, durability: Durability) {
    let applied = engine.apply(KvBatch { ops }, durability);
    applied.expect("the batch is applied");
}

pub(super) fn buffered(engine: &impl KvEngine, ops: Vec<KvOp>) {
    apply(engine, ops, Durability::Buffered);
}

pub(super) fn synced(engine: &impl KvEngine, ops: Vec<KvOp>) {
    apply(engine, ops, Durability::Synced);
}

pub(super) fn get(engine: &impl KvEngine, space: Space, key: &[u8]) -> Option<Bytes> {
    engine.get(space, key).expect("the key is read")
}

pub(super) fn scan(
    engine: &impl KvEngine,
    space: Space,
    range: KeyRange,
    order: Order,
    limit: usize,
) -> Vec<(Bytes, Bytes)> {
    let found = engine.scan(space, range, order, limit);
    found.expect("the range is listed")
}

pub(super) fn all(engine: &impl KvEngine, space: Space) -> Vec<(Bytes, Bytes)> {
    scan(engine, space, EVERYTHING, Order::Ascending, usize::MAX)
}

/// A number as a value.
pub(super) fn number(n: u64) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

pub(super) fn to_number(value: &Bytes) -> u64 {
    let bytes = value.as_ref().try_into();
    u64::from_be_bytes(bytes.expect("the value is a number"))
}

/// The engine that is opened again, if there can be one.
pub(super) fn opened<E>(engine: Option<BackendResult<E>>) -> Option<E> {
    if engine.is_none() {
        println!("skipped: nothing of this engine survives");
    }
    engine.map(|engine| engine.expect("the database opens again"))
}

pub(super) fn crashed<F: EngineFactory>(
    factory: &F,
    guard: &F::Guard,
    engine: F::Engine,
) -> Option<F::Engine> {
    opened(factory.crash(guard, engine))
}
