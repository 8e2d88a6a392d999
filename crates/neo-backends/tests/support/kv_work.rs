//! Batches by number, and what is there after the first n of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use neo_api::{KvBatch, KvEngine, KvOp, Order, Space};

/// All that is in an engine.
pub(crate) type Contents = BTreeMap<(Space, Vec<u8>), Bytes>;

fn key(n: u64) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn value(n: u64) -> Bytes {
    // Small ones, and now and then one in pieces.
    let bytes = if n % 7 == 3 { 40_000 } else { n as usize % 900 };
    vec![n as u8; bytes].into()
}

/// The n-th batch, from 1: it counts, adds to several spaces, replaces a value by a shorter or
/// longer one, and removes an old one.
pub(crate) fn batch(n: u64) -> KvBatch {
    let count = Bytes::copy_from_slice(&n.to_be_bytes());
    let mut ops = vec![
        KvOp::Put(Space::Data, key(n), value(n)),
        KvOp::Put(Space::Unfinished, key(n % 5), value(n)),
        KvOp::Put(Space::Config, b"count".to_vec(), count),
    ];
    ops.extend((0..n % 30).map(|i| KvOp::Put(Space::Objects, key(i * 1000 + n), value(i))));
    if n > 20 {
        ops.push(KvOp::Delete(Space::Data, key(n - 20)));
    }
    KvBatch { ops }
}

/// What is there after n batches.
pub(crate) fn after(n: u64) -> Contents {
    let mut contents = Contents::new();
    for n in 1..=n {
        for op in batch(n).ops {
            match op {
                KvOp::Put(space, key, value) => contents.insert((space, key), value),
                KvOp::Delete(space, key) => contents.remove(&(space, key)),
            };
        }
    }
    contents
}

pub(crate) fn contents(engine: &impl KvEngine) -> Contents {
    let mut contents = Contents::new();
    for space in Space::ALL {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let pairs = engine
            .scan(space, all, Order::Ascending, usize::MAX)
            .unwrap();
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| ((space, key.to_vec()), value));
        contents.extend(pairs);
    }
    contents
}

/// How many batches an engine has.
pub(crate) fn count(engine: &impl KvEngine) -> u64 {
    let count = engine.get(Space::Config, b"count").unwrap();
    count.map_or(0, |count| u64::from_be_bytes((*count).try_into().unwrap()))
}

/// That the engine has some number of batches, whole: which.
pub(crate) fn check(engine: &impl KvEngine) -> u64 {
    let count = count(engine);
    let (found, expected) = (contents(engine), after(count));
    assert!(
        found == expected,
        "after {count} batches there are {:?}, and not {:?}",
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    count
}
