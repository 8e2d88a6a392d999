//! What a batch does, and what readers see of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use neo_api::{Durability, KvEngine, KvOp, Space};

use super::EngineFactory;
use super::tools::{Model, all, apply, buffered, delete, get, number, put, synced, to_number};

/// A batch is there when `apply` returns, buffered or synced; one that is empty is allowed.
pub fn a_batch_is_visible_whatever_its_durability<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    for n in 1..=60 {
        let durability = if n % 3 == 0 {
            Durability::Synced
        } else {
            Durability::Buffered
        };
        apply(
            &engine,
            vec![put(Space::Config, b"n", number(n))],
            durability,
        );
        assert_eq!(get(&engine, Space::Config, b"n"), Some(number(n)));
        apply(&engine, Vec::new(), durability);
        assert_eq!(all(&engine, Space::Config), [(Bytes::from("n"), number(n))]);
    }
}

/// One batch writes to as many spaces as it likes.
pub fn a_batch_has_writes_of_all_spaces<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    let mut model = Model::default();
    for n in 0..20_u8 {
        let mut ops: Vec<KvOp> = Space::ALL
            .map(|space| put(space, &[n], space.name()))
            .into();
        ops.extend(Space::ALL.map(|space| delete(space, &[n.wrapping_sub(3)])));
        model.apply(&ops);
        buffered(&engine, ops);
        assert!(Model::of(&engine) == model, "after {n}");
    }
}

/// Of the writes of one key in a batch the last counts.
pub fn a_later_write_of_a_key_wins<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    let key = |n: u8| [b'k', n];
    for (before, n) in [(false, 0), (true, 10)] {
        if before {
            buffered(
                &engine,
                (n..n + 4)
                    .map(|n| put(Space::Data, &key(n), "old"))
                    .collect(),
            );
        }
        buffered(
            &engine,
            vec![
                put(Space::Data, &key(n), "one"),
                put(Space::Data, &key(n), "two"),
                put(Space::Data, &key(n + 1), "one"),
                delete(Space::Data, &key(n + 1)),
                delete(Space::Data, &key(n + 2)),
                put(Space::Data, &key(n + 2), "three"),
                put(Space::Data, &key(n + 3), "one"),
                delete(Space::Data, &key(n + 3)),
                put(Space::Data, &key(n + 3), "four"),
            ],
        );
        let found = [n, n + 1, n + 2, n + 3].map(|n| get(&engine, Space::Data, &key(n)));
        let expected = [Some("two"), None, Some("three"), Some("four")];
        assert_eq!(found, expected.map(|value| value.map(Bytes::from)));
    }
}

/// A value takes the place of a longer or shorter one, with nothing left of that.
pub fn a_value_is_replaced_as_a_whole<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    let sizes = [10, 100_000, 3, 1 << 20, 70_000, 0, 5_000, 4_999, 8_000];
    for (n, size) in (0_u8..).zip(sizes) {
        let value = Bytes::from(vec![n; size]);
        buffered(&engine, vec![put(Space::Data, b"key", value.clone())]);
        assert!(
            get(&engine, Space::Data, b"key") == Some(value.clone()),
            "{size} bytes"
        );
        assert!(
            all(&engine, Space::Data) == [(Bytes::from("key"), value)],
            "{size} bytes"
        );
    }
    synced(&engine, vec![delete(Space::Data, b"key")]);
    assert!(Model::of(&engine) == Model::default());
}

/// To delete what is not there is no error, and the rest of the batch counts.
pub fn deleting_what_is_not_there<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    let ops = vec![
        delete(Space::Data, b"none"),
        put(Space::Data, b"key", "value"),
        delete(Space::Objects, b"key"),
    ];
    buffered(&engine, ops);
    assert_eq!(
        all(&engine, Space::Data),
        [(Bytes::from("key"), Bytes::from("value"))]
    );
}

/// Keys that each batch of the writer sets.
const KEYS: u8 = 24;

/// The n-th batch of the writer: every key of two spaces has the number, and one of them a list that
/// moves.
fn step(n: u64) -> Vec<KvOp> {
    let mut ops: Vec<KvOp> = (0..KEYS)
        .flat_map(|key| [Space::Objects, Space::Loose].map(|s| put(s, &[key], number(n))))
        .collect();
    ops.push(put(Space::Data, &n.to_be_bytes(), vec![n as u8; 5_000]));
    ops.push(delete(Space::Data, &n.wrapping_sub(2).to_be_bytes()));
    ops
}

/// Runs a reader, again and again, beside a writer of so many batches, and once after it.
fn beside_the_writer<E: KvEngine>(engine: &E, batches: u64, mut read: impl FnMut() + Send) {
    let ended = AtomicBool::new(false);
    buffered(engine, step(1));
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let last = ended.load(Ordering::SeqCst);
                read();
                if last {
                    return;
                }
            }
        });
        let writer = scope.spawn(|| {
            for n in 2..=batches {
                let durability = if n % 50 == 0 {
                    Durability::Synced
                } else {
                    Durability::Buffered
                };
                apply(engine, step(n), durability);
            }
        });
        let outcome = writer.join();
        ended.store(true, Ordering::SeqCst);
        outcome.expect("the batches are written");
    });
}

/// Beside the writer, a scan sees all of a batch or nothing of it, in either space.
pub fn a_reader_sees_whole_batches<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    beside_the_writer(&engine, 400, || {
        for space in [Space::Objects, Space::Loose] {
            let found = all(&engine, space);
            assert_eq!(found.len(), usize::from(KEYS));
            let first = to_number(&found[0].1);
            let is_whole = found.iter().all(|(_, value)| to_number(value) == first);
            assert!(is_whole, "{found:?}");
        }
        let list: Vec<u64> = all(&engine, Space::Data)
            .iter()
            .map(|(key, _)| to_number(key))
            .collect();
        let is_pair = |list: &[u64]| matches!(list, [a, b] if a + 1 == *b);
        assert!(list == [1] || is_pair(&list), "{list:?}");
    });
}

/// Beside the writer, a call never sees a state before the one that an earlier call saw: of no key
/// and no space.
pub fn a_reader_never_goes_back<F: EngineFactory>(factory: &F) {
    let (_guard, engine) = factory.open();
    let mut last = 0;
    beside_the_writer(&engine, 400, || {
        for key in [KEYS - 1, 0, 7] {
            for space in [Space::Loose, Space::Objects] {
                let value = get(&engine, space, &[key]);
                let n = to_number(&value.expect("the key is always there"));
                assert!(n >= last, "{n} after {last}");
                last = n;
            }
        }
        let found = all(&engine, Space::Objects);
        let n = to_number(&found[0].1);
        assert!(n >= last, "{n} after {last}");
        last = n;
    });
    assert_eq!(last, 400);
}
