//! What happens when there is no space.

use neo_api::{At, BackendError, DataId, Oid, PendingObject, Tid, WriteOp};

use super::capabilities::is_declared;
use super::tools::{Db, loose, object, pend, put_transaction, run, transaction, txn, value, vote};
use super::{BackendFactory, Capability};

const LIMIT: u64 = 8 << 20;

/// Runs a case on a database that has little room, if there is one.
fn with_little_room<F, Fut>(factory: &F, case: impl FnOnce(Db) -> Fut)
where
    F: BackendFactory,
    Fut: Future<Output = ()>,
{
    if is_declared(factory, Capability::LimitedSpace) {
        let opened = factory.open_limited(LIMIT);
        let (_guard, backend) = opened.expect("a limit is declared, and open_limited() has none");
        run(case(Db(backend)));
    }
}

/// Votes of one object each until there is no room: the number of the one that is refused.
async fn fill(db: &Db, from: u64, bytes: usize) -> u64 {
    for n in from.. {
        let t = txn(1, n);
        let text = "x".repeat(bytes);
        let ops = vec![loose(n, t, &text), pend(t, &[(n, value(n))]), vote(t, "u")];
        match db.try_apply(ops).await {
            Ok(()) => {}
            Err(BackendError::Full) => return n,
            Err(error) => panic!("a full database says so, not: {error}"),
        }
        assert!(n < LIMIT, "it never fills");
    }
    unreachable!("numbers do not end")
}

async fn lock(db: &Db, n: u64) {
    let (txn, tid) = (txn(1, n), Tid(n));
    db.apply(vec![WriteOp::LockUnfinished { txn, tid }]).await;
}

/// A transaction that was allowed to vote can be locked and moved, or forgotten, and the node can
/// note what it must, when nothing new fits any more.
pub fn what_was_voted_finishes_when_nothing_new_fits<F: BackendFactory>(factory: &F) {
    with_little_room(factory, async |db| {
        let large = fill(&db, 1, 50_000).await;
        let end = fill(&db, large, 1).await;
        assert!(end > 20, "{end} transactions fit");
        for n in 1..end {
            lock(&db, n).await;
        }
        db.apply(vec![WriteOp::SetConfig {
            key: "mark".into(),
            value: Some(vec![7; 1000].into()),
        }])
        .await;
        for n in 1..end {
            let t = txn(1, n);
            let found = db.0.unfinished_objects(t, None, 10).await.expect("lists");
            let object = |o: &PendingObject| object(n, o.oid.0, o.data);
            let mut ops: Vec<WriteOp> = found.iter().map(object).collect();
            ops.push(put_transaction(transaction(n, Some(t))));
            ops.push(WriteOp::DropUnfinished { txn: t });
            db.apply(ops).await;
        }
        assert_eq!(db.unfinished().await, "");
        for n in 1..end {
            let loaded = db.0.last_serials(&[(super::tools::P0, Oid(n))]).await;
            assert_eq!(loaded.expect("reads go on"), [Some(Tid(n))]);
        }
        assert!(db.see(end - 1, At::Latest).await.ends_with(".. x"));
        // What was refused has left nothing.
        assert_eq!(db.see(end, At::Latest).await, "unknown");
        assert_eq!(db.loose().await, []);
    });
}

/// What is aborted makes room for others.
pub fn what_is_given_up_makes_room<F: BackendFactory>(factory: &F) {
    with_little_room(factory, async |db| {
        let mut from = 1;
        for _ in 0..3 {
            let end = fill(&db, from, 50_000).await;
            assert!(end > from + 10, "{} transactions fit", end - from);
            for n in from..end {
                let ids = vec![DataId(n)];
                let txn = txn(1, n);
                db.apply(vec![
                    WriteOp::DeleteData { ids },
                    WriteOp::DropUnfinished { txn },
                ])
                .await;
            }
            from = end;
        }
    });
}
