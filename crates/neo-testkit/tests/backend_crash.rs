//! Power cuts: a backend over an engine keeps its promises when only what was synced is left, and
//! whatever of the rest is.

use std::sync::Arc;

use neo_api::{
    BackendError, BackendInfo, BackendResult, Durability, ObjectData, Oid, RevisionId,
    StorageBackend, Tid, WriteBatch, WriteOp,
};
use neo_backends::{KvBackend, MemoryEngine};
use neo_testkit::CrashEngine;
use neo_testkit::conformance::backend::BackendFactory;

#[path = "support/dump.rs"]
mod dump;
#[path = "support/ops.rs"]
mod ops;

type Engine = Arc<CrashEngine<MemoryEngine>>;

fn backend(engine: Engine) -> KvBackend<Engine> {
    KvBackend::inline(engine, BackendInfo::new("Crash", true))
}

/// Each time a database is opened again, the power was cut, and nothing is left that was not
/// synced.
struct PowerCut;

impl BackendFactory for PowerCut {
    type Guard = Engine;

    fn open(&self) -> (Self::Guard, Arc<dyn StorageBackend>) {
        let engine = Engine::new(CrashEngine::new(MemoryEngine::default()));
        (Arc::clone(&engine), Arc::new(backend(engine)))
    }

    fn reopen(&self, guard: &Self::Guard) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        if Arc::strong_count(guard) > 1 {
            return Some(Err(BackendError::InUse("this engine".to_owned())));
        }
        let restarted = guard.restart(*guard.survivors().start());
        restarted.expect("the memory engine takes its batches");
        Some(Ok(Arc::new(backend(Arc::clone(guard)))))
    }
}

neo_testkit::backend_conformance!(PowerCut);

/// A commit as a storage node makes it, beside the values of another transaction.
fn commit() -> Vec<(Vec<WriteOp>, Durability)> {
    let (a, b) = (ops::txn(1, 10), ops::txn(1, 11));
    let objects = [
        (1, ObjectData::Value(neo_api::DataId(1))),
        (2, ObjectData::SameAs(Tid(5))),
    ];
    vec![
        (ops::store(100, 5, 1, "old"), Durability::Buffered),
        (ops::store(101, 5, 2, "other"), Durability::Synced),
        (vec![ops::data(1, Some(a), "new")], Durability::Buffered),
        (vec![ops::data(2, Some(b), "else")], Durability::Buffered),
        (
            vec![ops::vote(a), ops::pend(a, &objects)],
            Durability::Synced,
        ),
        (
            vec![WriteOp::LockUnfinished {
                txn: a,
                tid: Tid(20),
            }],
            Durability::Synced,
        ),
        (vec![ops::object(20, 1, objects[0].1)], Durability::Buffered),
        (
            vec![
                ops::object(20, 1, objects[0].1),
                ops::object(20, 2, objects[1].1),
                ops::transaction(20, Some(a)),
                WriteOp::DropUnfinished { txn: a },
            ],
            Durability::Buffered,
        ),
        (vec![WriteOp::DropUnfinished { txn: b }], Durability::Synced),
        (vec![ops::delete(5, 2)], Durability::Buffered),
    ]
}

fn apply(backend: &KvBackend<Engine>, ops: Vec<WriteOp>, durability: Durability) -> bool {
    dump::ready(backend.apply(WriteBatch::from(ops), durability)).is_ok()
}

#[test]
fn after_a_power_cut_a_prefix_remains_that_holds_what_was_synced() {
    let batches = commit();
    let states: Vec<String> = (0..=batches.len())
        .map(|n| {
            let fresh = backend(Arc::new(CrashEngine::new(MemoryEngine::default())));
            for (ops, durability) in batches[..n].iter().cloned() {
                assert!(apply(&fresh, ops, durability));
            }
            dump::dump(&fresh)
        })
        .collect();
    let mut restarts = 0;
    for cut in 0..=batches.len() {
        for extra in 0.. {
            let engine = Engine::new(CrashEngine::new(MemoryEngine::default()));
            engine.cut_after(cut);
            let running = backend(Arc::clone(&engine));
            let mut synced = 0;
            for (n, (ops, durability)) in batches.iter().cloned().enumerate() {
                let acknowledged = apply(&running, ops, durability);
                assert_eq!(acknowledged, n < cut);
                if acknowledged && durability == Durability::Synced {
                    synced = n + 1;
                }
            }
            assert_eq!(*engine.survivors().start(), synced);
            let kept = synced + extra;
            if !engine.survivors().contains(&kept) {
                assert_eq!(kept, batches.len().min(cut + 1) + 1);
                break;
            }
            restarts += 1;
            engine.restart(kept).unwrap();
            let restarted = backend(engine);
            assert_eq!(
                dump::dump(&restarted),
                states[kept],
                "cut after {cut}, {kept} kept"
            );
            // Recovery may do again what was not acknowledged, from wherever it is.
            for (ops, durability) in batches[kept..].iter().cloned() {
                assert!(apply(&restarted, ops, durability));
            }
            assert_eq!(dump::dump(&restarted), states[batches.len()]);
        }
    }
    assert!(restarts > 25, "{restarts}");
}

#[test]
fn without_power_nothing_answers() {
    let engine = Engine::new(CrashEngine::new(MemoryEngine::default()));
    let running = backend(Arc::clone(&engine));
    engine.cut_after(0);
    assert!(!apply(
        &running,
        ops::store(1, 5, 1, "x"),
        Durability::Synced
    ));
    let id = RevisionId {
        tid: Tid(0),
        oid: Oid(0),
    };
    let listed = dump::ready(running.revisions(neo_api::Partition(0), id, Tid::MAX, 9));
    assert!(matches!(listed, Err(BackendError::Closed(_))), "{listed:?}");
}
