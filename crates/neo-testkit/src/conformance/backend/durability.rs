//! Order, visibility, atomicity, and what survives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use neo_api::{
    At, BackendError, DataId, Durability, ObjectData, Oid, Order, PageLimit, PartitionTable,
    Partitioning, RevisionId, StorageBackend, Tid, WriteBatch, WriteOp,
};

use super::BackendFactory;
use super::tools::{
    Db, P0, id, loose, object, pend, put_transaction, run, same, store, transaction, txn, value,
    vote, with,
};

/// What was applied is read, buffered or synced.
pub fn a_write_is_read_whatever_its_durability<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        for tid in 1..=50 {
            let durability = if tid % 3 == 0 {
                Durability::Synced
            } else {
                Durability::Buffered
            };
            let batch = WriteBatch::from(Vec::from(store(tid, 1, "x")));
            db.0.apply(batch, durability)
                .await
                .expect("the batch is applied");
            assert_eq!(db.see(1, At::Latest).await, format!("{tid}.. x"));
        }
        db.0.apply(WriteBatch::new(), Durability::Synced)
            .await
            .expect("nothing is applied");
    });
}

/// Batches take effect in the order of the calls, not in that in which their futures are polled.
pub fn batches_keep_the_order_of_their_calls<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let mut applied = Vec::new();
        for n in 0..100_u64 {
            let value = Some(Bytes::from(n.to_string()));
            let op = WriteOp::SetConfig {
                key: "n".into(),
                value,
            };
            let durability = if n % 2 == 0 {
                Durability::Buffered
            } else {
                Durability::Synced
            };
            applied.push(db.0.apply(vec![op].into(), durability));
        }
        for future in applied.into_iter().rev() {
            future.await.expect("the batch is applied");
        }
        let value = db.0.config("n").await.expect("reads");
        assert_eq!(value, Some(Bytes::from_static(b"99")));
    });
}

/// The future of `apply` may be dropped, polled or not: its batch takes effect, and as a whole.
pub fn a_dropped_apply_takes_effect<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        for tid in 1..=20 {
            let mut ops = Vec::new();
            for oid in 1..=50 {
                ops.extend(store(tid, oid, "x"));
            }
            let mut future = db.0.apply(ops.into(), Durability::Synced);
            if tid % 2 == 0 {
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                let _ = future.as_mut().poll(&mut context);
            }
            drop(future);
        }
        db.apply(Vec::new()).await;
        let found =
            db.0.revisions(P0, id(0, 0), Tid::MAX, 10_000)
                .await
                .expect("lists");
        assert_eq!(found.len(), 20 * 50);
    });
}

/// While batches are written, each read sees all of a batch or nothing of it.
pub fn a_reader_sees_whole_batches<F: BackendFactory>(factory: &F) {
    const OBJECTS: u64 = 20;
    let (_guard, backend) = factory.open();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            let db = Db(Arc::clone(&backend));
            let ended = &ended;
            scope.spawn(move || {
                run(async {
                    loop {
                        let last = ended.load(Ordering::SeqCst);
                        read_whole_batches(&db, OBJECTS).await;
                        if last {
                            return;
                        }
                    }
                });
            });
        }
        let writer = Db(Arc::clone(&backend));
        let written = scope.spawn(move || run(write_whole_batches(&writer, OBJECTS)));
        let outcome = written.join();
        ended.store(true, Ordering::SeqCst);
        outcome.expect("the batches are written");
    });
}

/// Every batch adds a revision to all objects, and takes away the one before the last.
async fn write_whole_batches(db: &Db, objects: u64) {
    for tid in 1..=150 {
        let mut ops = vec![put_transaction(transaction(tid, Some(txn(1, tid))))];
        for oid in 0..objects {
            ops.extend(store(tid, oid, &tid.to_string()));
            if tid > 2 {
                ops.push(super::tools::delete(tid - 2, oid));
            }
        }
        if tid > 2 {
            ops.push(WriteOp::DeleteTransaction {
                partition: P0,
                tid: Tid(tid - 2),
            });
        }
        db.0.apply(ops.into(), Durability::Buffered)
            .await
            .expect("the batch is applied");
    }
}

async fn read_whole_batches(db: &Db, objects: u64) {
    let all =
        db.0.revisions(P0, id(0, 0), Tid::MAX, 1000)
            .await
            .expect("lists");
    check_whole(all.iter().map(|id| id.tid).collect(), objects);
    let limit = PageLimit::entries(1000);
    let all =
        db.0.fetch(P0, id(0, 0), Tid::MAX, limit)
            .await
            .expect("fetches");
    for revision in &all {
        let record = revision.record.as_ref().expect("there are no deletions");
        assert_eq!(record.data, revision.id.tid.0.to_string().as_bytes());
    }
    check_whole(
        all.iter().map(|revision| revision.id.tid).collect(),
        objects,
    );
    let oids: Vec<_> = (0..objects).map(|oid| (P0, Oid(oid))).collect();
    let serials = db.0.last_serials(&oids).await.expect("tells last serials");
    assert!(
        serials.windows(2).all(|pair| pair[0] == pair[1]),
        "{serials:?}"
    );
    let ids = db.0.last_ids(P0).await.expect("tells the last ids");
    if let (Some(first), Some(last)) = (ids.first_tid, ids.last_tid()) {
        assert!(last.0 - first.0 <= 1, "{ids:?}");
    }
    let Some(serial) = serials[0] else { return };
    // By now it may be gone, but it is never seen with a successor that isn't its own.
    for at in [At::Latest, At::Before(serial), At::Exact(serial)] {
        match db.load(3, at).await {
            neo_api::Loaded::Found(found) => {
                assert_eq!(found.record.data, found.serial.0.to_string().as_bytes());
                let next = found.next_serial.map(|tid| tid.0);
                assert!(
                    next.is_none_or(|next| next == found.serial.0 + 1),
                    "{found:?}"
                );
            }
            neo_api::Loaded::NotYet => assert_ne!(at, At::Latest),
            other => panic!("{other:?}"),
        }
    }
}

/// One or two tids, each with every object.
fn check_whole(tids: Vec<Tid>, objects: u64) {
    let (first, last) = match (tids.first(), tids.last()) {
        (Some(first), Some(last)) => (*first, *last),
        _ => return,
    };
    assert!(last.0 - first.0 <= 1, "{first} to {last}");
    let of_first = tids.iter().filter(|tid| **tid == first).count() as u64;
    assert_eq!(of_first, objects);
    assert!(
        first == last || tids.len() as u64 == 2 * objects,
        "{tids:?}"
    );
}

/// After `close`, every call is refused with `Closed`.
pub fn after_close_everything_is_refused<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "a").into()).await;
        db.0.close().await.expect("the backend closes");
        let is_closed = |error: Option<BackendError>, what: &str| {
            assert!(
                matches!(error, Some(BackendError::Closed(_))),
                "{what}: {error:?}"
            );
        };
        let b = &db.0;
        is_closed(db.try_apply(store(20, 1, "b").into()).await.err(), "apply");
        is_closed(db.try_apply(Vec::new()).await.err(), "apply of nothing");
        is_closed(b.load(P0, Oid(1), At::Latest).await.err(), "load");
        is_closed(b.config("name").await.err(), "config");
        is_closed(b.partition_table().await.err(), "partition_table");
        is_closed(b.last_serials(&[(P0, Oid(1))]).await.err(), "last_serials");
        is_closed(b.transaction(P0, Tid(1)).await.err(), "transaction");
        let limit = PageLimit::entries(9);
        is_closed(
            b.transactions(P0, Tid(0), Tid(9), Order::Ascending, limit)
                .await
                .err(),
            "transactions",
        );
        is_closed(b.history(P0, Oid(1), Tid(9), 9).await.err(), "history");
        is_closed(
            b.current(P0, Oid(0), Tid(9), true, limit).await.err(),
            "current",
        );
        is_closed(
            b.revisions(P0, id(0, 0), Tid(9), 9).await.err(),
            "revisions",
        );
        is_closed(b.fetch(P0, id(0, 0), Tid(9), limit).await.err(), "fetch");
        is_closed(b.final_tid(P0, txn(1, 1)).await.err(), "final_tid");
        is_closed(b.unfinished(None, 9).await.err(), "unfinished");
        is_closed(
            b.unfinished_objects(txn(1, 1), None, 9).await.err(),
            "unfinished_objects",
        );
        is_closed(b.loose_data(None, 9).await.err(), "loose_data");
        is_closed(b.next_data_id().await.err(), "next_data_id");
        is_closed(b.last_ids(P0).await.err(), "last_ids");
        is_closed(b.close().await.err(), "close");
    });
}

/// Writes something of everything.
async fn fill(db: &Db) {
    let twelve = Partitioning::new(12).expect("12 is a number of partitions");
    let (a, b) = (txn(2, 10), txn(2, 20));
    db.0.apply(
        vec![
            WriteOp::SetPartitionTable(PartitionTable::empty(twelve, 1)),
            WriteOp::SetConfig {
                key: "name".into(),
                value: Some(Bytes::from_static(b"test")),
            },
        ]
        .into(),
        Durability::Buffered,
    )
    .await
    .expect("the batch is applied");
    let mut ops = Vec::from(store(10, 1, "a"));
    ops.push(object(20, 1, same(10)));
    ops.push(object(20, 2, ObjectData::Deleted));
    ops.push(put_transaction(transaction(10, Some(txn(1, 9)))));
    ops.push(loose(1 << 40, a, "loose"));
    ops.push(vote(a, "ann"));
    ops.push(pend(a, &[(5, value(1 << 40)), (6, same(3))]));
    ops.push(pend(b, &[(7, ObjectData::Deleted)]));
    ops.push(WriteOp::LockUnfinished {
        txn: a,
        tid: Tid(30),
    });
    let batch = WriteBatch::from(ops);
    db.0.apply(batch, Durability::Buffered)
        .await
        .expect("the batch is applied");
    // It has nothing to write, and everything before it to make durable.
    db.0.apply(WriteBatch::new(), Durability::Synced)
        .await
        .expect("the batch is applied");
}

async fn check_filled(db: &Db) {
    assert_eq!(db.see(1, At::Latest).await, "20.. a of 10");
    assert_eq!(db.see(1, At::Before(Tid(20))).await, "10..20 a");
    assert_eq!(db.see(2, At::Latest).await, "20.. deleted");
    let all: Vec<RevisionId> =
        db.0.revisions(P0, id(0, 0), Tid::MAX, 9)
            .await
            .expect("lists");
    assert_eq!(all, [id(10, 1), id(20, 1), id(20, 2)]);
    assert_eq!(db.unfinished().await, "2/10=30(ann:2) 2/20=-");
    assert_eq!(
        db.pending(txn(2, 10)).await,
        [(5, value(1 << 40)), (6, same(3))]
    );
    assert_eq!(db.pending(txn(2, 20)).await, [(7, ObjectData::Deleted)]);
    assert_eq!(db.loose().await, [(txn(2, 10), DataId(1 << 40))]);
    assert!(db.0.next_data_id().await.expect("tells") > DataId(1 << 40));
    let record = db.0.transaction(P0, Tid(10)).await.expect("reads");
    assert_eq!(record, Some(transaction(10, Some(txn(1, 9)))));
    assert_eq!(
        db.0.final_tid(P0, txn(1, 9)).await.expect("tells"),
        Some(Tid(10))
    );
    let table =
        db.0.partition_table()
            .await
            .expect("reads")
            .expect("there is a table");
    assert_eq!((table.rows.len(), table.replicas), (12, 1));
    let name = db.0.config("name").await.expect("reads");
    assert_eq!(name, Some(Bytes::from_static(b"test")));
}

fn reopened<F: BackendFactory>(factory: &F, guard: &F::Guard) -> Option<Arc<dyn StorageBackend>> {
    let backend = factory.reopen(guard);
    if backend.is_none() {
        println!("skipped: nothing of this backend survives");
    }
    backend.map(|backend| backend.expect("the database opens again"))
}

/// All that was applied is there after `close`.
pub fn synced_survives_closing<F: BackendFactory>(factory: &F) {
    let (guard, backend) = factory.open();
    run(async {
        let db = Db(backend);
        fill(&db).await;
        db.apply(Vec::new()).await;
        db.0.close().await.expect("the backend closes");
    });
    for _ in 0..2 {
        let Some(backend) = reopened(factory, &guard) else {
            return;
        };
        run(async {
            let db = Db(backend);
            check_filled(&db).await;
            db.0.close().await.expect("the backend closes");
        });
    }
}

/// All that was synced is there when the backend was dropped without `close`.
pub fn synced_survives_without_closing<F: BackendFactory>(factory: &F) {
    let (guard, backend) = factory.open();
    run(async {
        let db = Db(backend);
        fill(&db).await;
    });
    for _ in 0..2 {
        let Some(backend) = reopened(factory, &guard) else {
            return;
        };
        run(async { check_filled(&Db(backend)).await });
    }
}

/// A database that is open can't be opened; once closed or dropped it can.
pub fn one_node_at_a_time<F: BackendFactory>(factory: &F) {
    let (guard, backend) = factory.open();
    match factory.reopen(&guard) {
        None => println!("skipped: nothing of this backend survives"),
        Some(Ok(_)) => panic!("a database was opened twice"),
        Some(Err(error)) => {
            assert!(matches!(error, BackendError::InUse(_)), "{error:?}");
            run(async { Db(backend).apply(store(10, 1, "a").into()).await });
            let again = reopened(factory, &guard).expect("it opens");
            run(async { again.close().await }).expect("it closes");
            // Closed, though not dropped.
            let once_more = reopened(factory, &guard).expect("it opens");
            run(async { assert_eq!(Db(once_more).see(1, At::Latest).await, "10.. a") });
        }
    }
}
