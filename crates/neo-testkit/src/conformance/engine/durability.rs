//! What survives, and who may open a database.

use neo_api::{BackendError, Durability, KvEngine, KvOp, Space};

use super::EngineFactory;
use super::tools::{
    Model, apply, buffered, crashed, delete, get, number, opened, put, synced, to_number,
};

/// The n-th batch, from 1: it counts, adds, replaces and removes, in several spaces.
fn step(n: u64) -> Vec<KvOp> {
    let key = |n: u64| n.to_be_bytes();
    vec![
        put(Space::Config, b"n", number(n)),
        put(Space::Data, &key(n), vec![n as u8; n as usize * 97 % 9_000]),
        put(Space::Objects, &key(n % 7), number(n)),
        delete(Space::Data, &key(n.wrapping_sub(10))),
        put(Space::Loose, &key(n), ""),
    ]
}

fn after(n: u64) -> Model {
    let mut model = Model::default();
    for n in 1..=n {
        model.apply(&step(n));
    }
    model
}

/// How many batches an engine has: some number of them, and each whole.
fn survivors(engine: &impl KvEngine) -> u64 {
    let n = get(engine, Space::Config, b"n").map_or(0, |n| to_number(&n));
    assert!(Model::of(engine) == after(n), "not what {n} batches make");
    n
}

/// Dropped after a `Synced` batch, an engine has all when it is opened again.
pub fn synced_survives_the_end<F: EngineFactory>(factory: &F) {
    let (guard, mut engine) = factory.open();
    for round in 1..=3 {
        for n in round * 10 - 9..round * 10 {
            buffered(&engine, step(n));
        }
        synced(&engine, step(round * 10));
        drop(engine);
        let Some(reopened) = opened(factory.reopen(&guard)) else {
            return;
        };
        assert_eq!(survivors(&reopened), round * 10);
        engine = reopened;
    }
}

/// After a crash there is every batch that was acknowledged as `Synced`, and all before it.
pub fn synced_survives_a_crash<F: EngineFactory>(factory: &F) {
    let (guard, mut engine) = factory.open();
    let mut n = 0;
    for _ in 0..12 {
        for _ in 0..5 {
            n += 1;
            buffered(&engine, step(n));
        }
        n += 1;
        synced(&engine, step(n));
        let least = n;
        n += 1;
        buffered(&engine, step(n));
        let Some(reopened) = crashed(factory, &guard, engine) else {
            return;
        };
        let found = survivors(&reopened);
        assert!((least..=n).contains(&found), "{found} of {least} to {n}");
        (engine, n) = (reopened, found);
    }
}

/// An empty `Synced` batch makes durable what is before it.
pub fn an_empty_synced_batch_keeps_what_was_before<F: EngineFactory>(factory: &F) {
    let (guard, mut engine) = factory.open();
    for round in 1..=5 {
        buffered(&engine, step(round * 2 - 1));
        buffered(&engine, step(round * 2));
        synced(&engine, Vec::new());
        let Some(reopened) = crashed(factory, &guard, engine) else {
            return;
        };
        assert_eq!(survivors(&reopened), round * 2);
        engine = reopened;
    }
}

/// After a crash a prefix of the batches is there: none without those before it.
pub fn a_prefix_survives_a_crash<F: EngineFactory>(factory: &F) {
    for batches in 1..=20 {
        let (guard, engine) = factory.open();
        for n in 1..=batches {
            let durability = if n % 9 == 0 {
                Durability::Synced
            } else {
                Durability::Buffered
            };
            apply(&engine, step(n), durability);
        }
        let Some(reopened) = crashed(factory, &guard, engine) else {
            return;
        };
        let found = survivors(&reopened);
        assert!(
            found <= batches && found >= batches - batches % 9,
            "{found}"
        );
    }
}

/// After a crash a batch is there as a whole, or nothing of it, however large it is.
pub fn a_batch_survives_as_a_whole<F: EngineFactory>(factory: &F) {
    for round in 0..6 {
        let (guard, engine) = factory.open();
        let value = |n: u8| put(Space::Data, &[n], vec![n; 30_000]);
        synced(&engine, vec![put(Space::Config, b"n", number(0))]);
        let mut ops: Vec<KvOp> = (0..40 + round).map(value).collect();
        let count = ops.len();
        ops.push(delete(Space::Config, b"n"));
        buffered(&engine, ops);
        let Some(reopened) = crashed(factory, &guard, engine) else {
            return;
        };
        let found = super::tools::all(&reopened, Space::Data).len();
        match get(&reopened, Space::Config, b"n") {
            Some(_) => assert_eq!(found, 0, "parts of a batch"),
            None => assert_eq!(found, count, "parts of a batch"),
        }
    }
}

/// What is open can't be opened, and is as it was after the attempt.
pub fn one_node_at_a_time<F: EngineFactory>(factory: &F) {
    let (guard, engine) = factory.open();
    synced(&engine, step(1));
    for n in 2..5 {
        match factory.reopen(&guard) {
            None => return println!("skipped: nothing of this engine survives"),
            Some(second) => {
                let is_refused = matches!(&second, Err(BackendError::InUse(_)));
                assert!(is_refused, "opened while it is open: {second:?}");
            }
        }
        synced(&engine, step(n));
        assert_eq!(survivors(&engine), n);
    }
}

/// As soon as an engine is dropped, its database may be opened.
pub fn the_end_frees_the_database<F: EngineFactory>(factory: &F) {
    let (guard, mut engine) = factory.open();
    for n in 1..=30 {
        synced(&engine, step(n));
        drop(engine);
        let Some(reopened) = opened(factory.reopen(&guard)) else {
            return;
        };
        engine = reopened;
    }
}
