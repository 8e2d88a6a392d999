//! What `get`, `scan` and `bytes` tell.

use std::ops::Bound;

use bytes::Bytes;
use neo_api::{KeyRange, KvEngine, OBJECT_BYTES_MAX, Order, Space};

use super::EngineFactory;
use super::tools::{EVERYTHING, Model, all, buffered, delete, get, put, scan, synced};

/// `get` gives the value that was put; what was not put, or was deleted, is not there, which is no
/// error; an empty value is one.
pub fn what_was_put_is_read<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    assert_eq!(get(&engine, Space::Data, b"key"), None);
    buffered(
        &engine,
        vec![
            put(Space::Data, b"key", "value"),
            put(Space::Data, b"empty", ""),
        ],
    );
    assert_eq!(
        get(&engine, Space::Data, b"key"),
        Some(Bytes::from("value"))
    );
    assert_eq!(get(&engine, Space::Data, b"empty"), Some(Bytes::new()));
    for other in [&b"ke"[..], b"key\0", b"keys", b"kez", b"\xff"] {
        assert_eq!(get(&engine, Space::Data, other), None, "{other:?}");
    }
    buffered(&engine, vec![delete(Space::Data, b"key")]);
    assert_eq!(get(&engine, Space::Data, b"key"), None);
    assert_eq!(get(&engine, Space::Data, b"empty"), Some(Bytes::new()));
}

/// Keys have 1 to 64 bytes, any bytes, and none is another.
pub fn keys_of_every_length<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    let mut model = Model::default();
    for byte in [0, 7, 0x7f, 0x80, 0xff] {
        for length in 1..=64 {
            let name = format!("{length} of {byte}");
            let ops = vec![put(Space::Pending, &vec![byte; length], name)];
            model.apply(&ops);
            buffered(&engine, ops);
        }
    }
    assert!(
        Model::of(&engine) == model,
        "{:?}",
        all(&engine, Space::Pending)
    );
    for byte in [0, 7, 0x7f, 0x80, 0xff] {
        for length in 1..=64 {
            let key = vec![byte; length];
            let expected = model.get(Space::Pending, &key);
            assert_eq!(get(&engine, Space::Pending, &key), expected, "{key:?}");
        }
    }
}

/// Values have any size up to 18 bytes more than the largest object.
pub fn values_of_every_size<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    let sizes = [
        0,
        1,
        255,
        256,
        4095,
        4096,
        65_535,
        65_536,
        1 << 20,
        (1 << 20) + 1,
    ];
    let largest = OBJECT_BYTES_MAX + 18;
    for (n, size) in (0_u8..).zip(sizes.into_iter().chain([largest])) {
        let value: Vec<u8> = (0..size).map(|i| (i % 251) as u8 ^ n).collect();
        let value = Bytes::from(value);
        synced(&engine, vec![put(Space::Data, &[n], value.clone())]);
        assert!(
            get(&engine, Space::Data, &[n]) == Some(value.clone()),
            "{size} bytes"
        );
        let range = (Bound::Included(vec![n]), Bound::Included(vec![n]));
        let found = scan(&engine, Space::Data, range, Order::Ascending, 2);
        assert!(
            found == [(Bytes::copy_from_slice(&[n]), value)],
            "{size} bytes"
        );
    }
}

/// A key of one space is not that of another, and a scan stays in its space.
pub fn spaces_are_apart<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    for space in Space::ALL {
        let ops = [&[0][..], b"key", &[0xff; 64]];
        let ops = ops.map(|key| put(space, key, space.name()));
        buffered(&engine, ops.into());
    }
    for space in Space::ALL {
        assert_eq!(get(&engine, space, b"key"), Some(Bytes::from(space.name())));
        for order in [Order::Ascending, Order::Descending] {
            let found = scan(&engine, space, EVERYTHING, order, 100);
            assert_eq!(found.len(), 3, "{space:?}");
            assert!(
                found.iter().all(|(_, value)| value == space.name()),
                "{found:?}"
            );
        }
    }
    for space in Space::ALL {
        buffered(&engine, vec![delete(space, b"key")]);
        assert_eq!(get(&engine, space, b"key"), None);
        let left = Space::ALL
            .iter()
            .filter(|s| get(&engine, **s, b"key").is_some());
        assert_eq!(left.count(), Space::ALL.len() - 1 - space as usize);
    }
}

/// Keys that are hard to order.
const KEYS: [&[u8]; 9] = [
    b"\0",
    b"\0\0",
    b"\0\x01",
    b"\x01",
    b"a",
    b"a\0",
    b"ab",
    b"b",
    b"\xff\xff",
];

fn with_keys<F: EngineFactory>(factory: &F) -> (F::Guard, F::Engine, Model) {
    let (guard, engine) = factory.open();
    let mut model = Model::default();
    // Not in their order, and with neighbours in other spaces.
    for n in 0..KEYS.len() {
        let key = KEYS[n * 4 % KEYS.len()];
        let values = [Space::Objects, Space::History, Space::Transactions];
        let ops: Vec<_> = values.map(|space| put(space, key, space.name())).into();
        model.apply(&ops);
        buffered(&engine, ops);
    }
    (guard, engine, model)
}

/// A scan lists keys in the order of their bytes, or from the greatest.
pub fn a_scan_is_in_the_order_of_bytes<F: EngineFactory>(factory: &F) {
    let (_guard, engine, _) = with_keys(factory);
    let keys = |order| -> Vec<Bytes> {
        let found = scan(&engine, Space::History, EVERYTHING, order, usize::MAX);
        found.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(Order::Ascending), KEYS);
    let mut greatest_first = KEYS;
    greatest_first.reverse();
    assert_eq!(keys(Order::Descending), greatest_first);
}

fn bounds() -> Vec<Bound<Vec<u8>>> {
    let mut bounds = vec![Bound::Unbounded];
    // Those that are there, and some between.
    for key in KEYS
        .into_iter()
        .chain([&b"\0\0\0"[..], b"a\0\0", b"c", b"\xff\xff\xff"])
    {
        bounds.push(Bound::Included(key.to_vec()));
        bounds.push(Bound::Excluded(key.to_vec()));
    }
    bounds
}

/// The least key that a bound is about.
fn key_of(bound: &Bound<Vec<u8>>) -> Option<&[u8]> {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key),
        Bound::Unbounded => None,
    }
}

/// A scan gives the keys within its bounds, which may be keys that are not there; a range may be
/// empty.
pub fn a_scan_keeps_within_its_bounds<F: EngineFactory>(factory: &F) {
    let (_guard, engine, model) = with_keys(factory);
    for from in bounds() {
        for to in bounds() {
            // The lower bound is never above the upper one.
            let is_above = matches!((key_of(&from), key_of(&to)), (Some(a), Some(b)) if a > b);
            if is_above {
                continue;
            }
            let range: KeyRange = (from.clone(), to);
            for order in [Order::Ascending, Order::Descending] {
                let found = scan(&engine, Space::History, range.clone(), order, 100);
                let expected = model.scan(Space::History, &range, order, 100);
                assert_eq!(found, expected, "{range:?} {order:?}");
            }
        }
    }
}

/// A scan gives at most as many as asked, of those that come first in its order: also none, or all.
pub fn a_scan_ends_at_its_limit<F: EngineFactory>(factory: &F) {
    let (_guard, engine, model) = with_keys(factory);
    let ranges = [
        EVERYTHING,
        (
            Bound::Included(b"\0\x01".to_vec()),
            Bound::Excluded(b"b".to_vec()),
        ),
    ];
    for range in ranges {
        for limit in [0, 1, 2, 5, 8, 9, 10, usize::MAX] {
            for order in [Order::Ascending, Order::Descending] {
                let found = scan(&engine, Space::Objects, range.clone(), order, limit);
                let expected = model.scan(Space::Objects, &range, order, limit);
                assert_eq!(found, expected, "{limit} {order:?}");
            }
        }
    }
}

/// `bytes` grows with what is stored, more or less.
pub fn bytes_grow_with_what_is_stored<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    let before = engine.bytes().expect("tells its size");
    for n in 0..40 {
        synced(&engine, vec![put(Space::Data, &[n], vec![n; 100_000])]);
    }
    let grown = engine
        .bytes()
        .expect("tells its size")
        .saturating_sub(before);
    assert!(
        (1_000_000..40_000_000).contains(&grown),
        "{grown} for 4,000,000"
    );
}
