//! Order, visibility, and what survives.

use std::sync::Arc;

use bytes::Bytes;
use neo_api::{
    At, BackendError, DataId, Durability, ObjectData, Oid, Order, PageLimit, PartitionTable,
    Partitioning, RevisionId, StorageBackend, Tid, WriteBatch, WriteOp,
};

use super::capabilities::is_declared;
use super::tools::{
    Db, P0, id, loose, object, pend, put_transaction, run, same, store, transaction, txn, value,
    vote, with,
};
use super::{BackendFactory, Capability};

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

fn reopened<F: BackendFactory>(factory: &F, guard: &F::Guard) -> Arc<dyn StorageBackend> {
    let backend = factory.reopen(guard);
    let backend = backend.expect("it is declared persistent, and reopen() has nothing");
    backend.expect("the database opens again")
}

/// All that was applied is there after `close`.
pub fn synced_survives_closing<F: BackendFactory>(factory: &F) {
    if !is_declared(factory, Capability::Persistent) {
        return;
    }
    let (guard, backend) = factory.open();
    run(async {
        let db = Db(backend);
        fill(&db).await;
        db.apply(Vec::new()).await;
        db.0.close().await.expect("the backend closes");
    });
    for _ in 0..2 {
        let backend = reopened(factory, &guard);
        run(async {
            let db = Db(backend);
            check_filled(&db).await;
            db.0.close().await.expect("the backend closes");
        });
    }
}

/// All that was synced is there when the backend was dropped without `close`.
pub fn synced_survives_without_closing<F: BackendFactory>(factory: &F) {
    if !is_declared(factory, Capability::Persistent) {
        return;
    }
    let (guard, backend) = factory.open();
    run(async {
        let db = Db(backend);
        fill(&db).await;
    });
    for _ in 0..2 {
        let backend = reopened(factory, &guard);
        run(async { check_filled(&Db(backend)).await });
    }
}

/// A database that is open can't be opened; once closed or dropped it can.
pub fn one_node_at_a_time<F: BackendFactory>(factory: &F) {
    if !is_declared(factory, Capability::Persistent) {
        return;
    }
    let (guard, backend) = factory.open();
    match factory.reopen(&guard) {
        None => panic!("it is declared persistent, and reopen() has nothing"),
        Some(Ok(_)) => panic!("a database was opened twice"),
        Some(Err(error)) => {
            assert!(matches!(error, BackendError::InUse(_)), "{error:?}");
            run(async { Db(backend).apply(store(10, 1, "a").into()).await });
            let again = reopened(factory, &guard);
            run(async { again.close().await }).expect("it closes");
            // Closed, though not dropped.
            let once_more = reopened(factory, &guard);
            run(async { assert_eq!(Db(once_more).see(1, At::Latest).await, "10.. a") });
        }
    }
}
