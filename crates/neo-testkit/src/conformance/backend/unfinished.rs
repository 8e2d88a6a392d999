//! Transactions between store and unlock, and their values.

use neo_api::{At, DataId, ObjectData, Oid, Tid, WriteOp};

use super::BackendFactory;
use super::tools::{
    P0, data, loose, object, pend, put_transaction, same, store, transaction, txn, value, vote,
    with,
};

/// Two transactions grow, are locked and end without touching each other.
pub fn two_interleaved_transactions<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let (a, b) = (txn(1, 10), txn(1, 20));
        db.apply(vec![loose(1, a, "a1"), loose(2, b, "b1")]).await;
        db.apply(vec![pend(b, &[(2, value(2))]), vote(b, "bob")])
            .await;
        db.apply(vec![
            loose(3, a, "a2"),
            pend(a, &[(1, value(1)), (3, value(3))]),
        ])
        .await;
        assert_eq!(db.unfinished().await, "1/10=- 1/20=-(bob:2)");
        db.apply(vec![WriteOp::LockUnfinished {
            txn: b,
            tid: Tid(25),
        }])
        .await;
        db.apply(vec![vote(a, "ann")]).await;
        assert_eq!(db.unfinished().await, "1/10=-(ann:2) 1/20=25(bob:2)");
        assert_eq!(db.pending(a).await, [(1, value(1)), (3, value(3))]);
        assert_eq!(db.pending(b).await, [(2, value(2))]);
        let record = db.0.unfinished(Some(a), 1).await.expect("lists")[0]
            .record
            .clone();
        assert_eq!(
            record,
            Some((super::tools::meta("bob"), vec![Oid(1), Oid(2)]).into())
        );
        db.apply(vec![
            object(25, 2, value(2)),
            put_transaction(transaction(25, Some(b))),
            WriteOp::DropUnfinished { txn: b },
        ])
        .await;
        assert_eq!(db.unfinished().await, "1/10=-(ann:2)");
        assert_eq!(db.pending(b).await, []);
        assert_eq!(db.pending(a).await.len(), 2);
        assert_eq!(db.loose().await, [(a, DataId(1)), (a, DataId(3))]);
        db.apply(vec![
            WriteOp::DropUnfinished { txn: a },
            WriteOp::DeleteData {
                ids: vec![DataId(1), DataId(3)],
            },
        ])
        .await;
        assert_eq!(db.unfinished().await, "");
        assert_eq!(db.loose().await, []);
        assert_eq!(db.see(2, At::Latest).await, "25.. b1");
        assert_eq!(db.see(1, At::Latest).await, "unknown");
    });
}

/// A ttid alone names nothing: two reigns may have the same.
pub fn the_same_ttid_in_two_reigns<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let (a, b) = (txn(1, 10), txn(2, 10));
        db.apply(vec![
            pend(a, &[(1, ObjectData::Deleted)]),
            pend(b, &[(1, same(5))]),
        ])
        .await;
        db.apply(vec![loose(1, a, "a"), loose(2, b, "b")]).await;
        db.apply(vec![WriteOp::LockUnfinished {
            txn: b,
            tid: Tid(30),
        }])
        .await;
        assert_eq!(db.unfinished().await, "1/10=- 2/10=30");
        assert_eq!(db.pending(a).await, [(1, ObjectData::Deleted)]);
        assert_eq!(db.pending(b).await, [(1, same(5))]);
        db.apply(vec![WriteOp::DropUnfinished { txn: a }]).await;
        assert_eq!(db.unfinished().await, "2/10=30");
        assert_eq!(db.loose().await, [(b, DataId(2))]);
    });
}

/// An oid that is given twice keeps the last, within an operation, a batch and across batches.
pub fn the_last_of_an_oid_is_kept<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let t = txn(1, 1);
        db.apply(vec![pend(
            t,
            &[(5, value(1)), (3, value(2)), (5, value(3))],
        )])
        .await;
        assert_eq!(db.pending(t).await, [(3, value(2)), (5, value(3))]);
        db.apply(vec![
            pend(t, &[(4, value(4))]),
            pend(t, &[(3, same(9)), (1, value(5))]),
        ])
        .await;
        let expected = [(1, value(5)), (3, same(9)), (4, value(4)), (5, value(3))];
        assert_eq!(db.pending(t).await, expected);
        db.apply(vec![
            pend(t, &[(4, ObjectData::Deleted)]),
            pend(t, &[(4, value(6))]),
        ])
        .await;
        assert_eq!(db.pending(t).await[2], (4, value(6)));
        // One that is dropped and comes again has nothing of before.
        let again = vec![
            WriteOp::DropUnfinished { txn: t },
            pend(t, &[(8, value(7))]),
        ];
        db.apply(again).await;
        assert_eq!(db.pending(t).await, [(8, value(7))]);
        assert_eq!(db.unfinished().await, "1/1=-");
    });
}

/// The objects of a large transaction, given in any order, are listed in order of oid, page by
/// page.
pub fn many_objects_page_by_page<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let t = txn(1, 1);
        const N: u64 = 25_000;
        // 7919 is prime and no divisor of N, so that every oid comes, far from in order.
        let oids: Vec<u64> = (0..N).map(|n| n * 7919 % N).collect();
        for chunk in oids.chunks(4000) {
            let objects: Vec<_> = chunk.iter().map(|oid| (oid * 2, value(oid + 1))).collect();
            db.apply(vec![pend(t, &objects)]).await;
        }
        db.apply(vec![
            pend(txn(1, 2), &[(1, value(1))]),
            pend(txn(1, 0), &[(1, value(1))]),
        ])
        .await;
        for limit in [1000, 7001, 100_000] {
            let mut after = None;
            let mut next = 0;
            loop {
                let page =
                    db.0.unfinished_objects(t, after, limit)
                        .await
                        .expect("lists");
                assert!(page.len() == limit || next + page.len() as u64 == N);
                for found in &page {
                    assert_eq!((found.oid, found.data), (Oid(next * 2), value(next + 1)));
                    next += 1;
                }
                after = page.last().map(|object| object.oid);
                if page.is_empty() {
                    break;
                }
            }
            assert_eq!(next, N);
        }
        let odd =
            db.0.unfinished_objects(t, Some(Oid(1)), 1)
                .await
                .expect("lists");
        assert_eq!(odd[0].oid, Oid(2));
        let last =
            db.0.unfinished_objects(t, Some(Oid(u64::MAX)), 1)
                .await
                .expect("lists");
        assert_eq!(last, []);
        db.apply(vec![WriteOp::DropUnfinished { txn: t }]).await;
        assert_eq!(db.pending(t).await, []);
    });
}

/// Unfinished transactions are listed in order of (reign, ttid), page by page, with and without
/// metadata.
pub fn names_page_by_page<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let names = [(1, 5), (1, 9), (2, 1), (2, 5), (3, 0), (10, 3), (10, 4)];
        for (n, (reign, ttid)) in names.iter().enumerate() {
            let txn = txn(*reign, *ttid);
            let op = if n % 3 == 0 {
                pend(txn, &[(1, value(1))])
            } else {
                vote(txn, "u")
            };
            db.apply(vec![op]).await;
        }
        for limit in 1..=names.len() + 1 {
            let mut after = None;
            let mut seen = Vec::new();
            loop {
                let page = db.0.unfinished(after, limit).await.expect("lists");
                assert!(page.len() <= limit);
                let Some(last) = page.last() else { break };
                after = Some(last.txn);
                seen.extend(page);
            }
            let got: Vec<_> = seen.iter().map(|t| (t.txn.reign.0, t.txn.ttid.0)).collect();
            assert_eq!(got, names);
            for (n, found) in seen.iter().enumerate() {
                assert_eq!(found.record.is_some(), n % 3 != 0, "{}", found.txn);
            }
        }
        // Metadata can be taken back, and the lock stays.
        let t = txn(10, 4);
        db.apply(vec![
            vote(t, "u"),
            WriteOp::LockUnfinished {
                txn: t,
                tid: Tid(70),
            },
        ])
        .await;
        db.apply(vec![WriteOp::PutUnfinished {
            txn: t,
            record: None,
        }])
        .await;
        let last = db.0.unfinished(Some(txn(10, 3)), 9).await.expect("lists");
        assert_eq!((last[0].tid, &last[0].record), (Some(Tid(70)), &None));
    });
}

/// A lock of a transaction that is not there does not make it.
pub fn locking_what_is_not_there<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(vec![WriteOp::LockUnfinished {
            txn: txn(1, 1),
            tid: Tid(5),
        }])
        .await;
        assert_eq!(db.unfinished().await, "");
        db.apply(vec![vote(txn(1, 1), "u")]).await;
        assert_eq!(db.unfinished().await, "1/1=-(u:2)");
        // Nor is one locked that comes after it in the same batch.
        let (txn, tid) = (txn(1, 2), Tid(6));
        let lock = WriteOp::LockUnfinished { txn, tid };
        db.apply(vec![lock, pend(txn, &[(1, value(1))])]).await;
        assert_eq!(db.unfinished().await, "1/1=-(u:2) 1/2=-");
    });
}

/// A dropped transaction's values stay, and are loose no more.
pub fn dropping_keeps_the_values<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let t = txn(1, 1);
        db.apply(vec![
            loose(1, t, "a"),
            loose(2, t, "b"),
            pend(t, &[(1, value(1))]),
        ])
        .await;
        db.apply(vec![WriteOp::DropUnfinished { txn: t }]).await;
        assert_eq!(db.loose().await, []);
        assert_eq!(db.unfinished().await, "");
        db.apply(vec![object(10, 1, value(1)), object(10, 2, value(2))])
            .await;
        assert_eq!(db.see(1, At::Latest).await, "10.. a");
        assert_eq!(db.see(2, At::Latest).await, "10.. b");
        db.apply(vec![super::tools::delete(10, 1)]).await;
        assert_eq!(db.see(2, At::Latest).await, "10.. b");
    });
}

/// A value with an owner is loose until a revision claims it or it is deleted, whether or not its
/// owner is there; one without is not.
pub fn loose_values_until_claimed<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let t = txn(1, 1);
        db.apply(vec![
            loose(1, t, "a"),
            loose(2, t, "b"),
            loose(3, t, "c"),
            data(4, "d"),
        ])
        .await;
        let all = [(t, DataId(1)), (t, DataId(2)), (t, DataId(3))];
        assert_eq!(db.loose().await, all);
        db.apply(vec![pend(t, &[(1, value(1))]), vote(t, "u")])
            .await;
        assert_eq!(db.loose().await, all);
        db.apply(vec![object(10, 2, value(2))]).await;
        assert_eq!(db.loose().await, [all[0], all[2]]);
        db.apply(vec![WriteOp::DeleteData {
            ids: vec![DataId(3)],
        }])
        .await;
        assert_eq!(db.loose().await, [all[0]]);
        // A revision that is already there claims as well.
        db.apply(vec![
            object(10, 1, ObjectData::Deleted),
            object(10, 1, value(1)),
        ])
        .await;
        assert_eq!(db.loose().await, []);
        assert_eq!(db.see(1, At::Latest).await, "10.. a");
    });
}

/// Loose values are listed in order of (name, id), page by page.
pub fn loose_values_page_by_page<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let mut expected = Vec::new();
        let mut ops = Vec::new();
        for n in (1..=40).rev() {
            let t = txn(n % 3 + 1, n % 5);
            ops.push(loose(n, t, "x"));
            expected.push((t, DataId(n)));
        }
        expected.sort_unstable();
        db.apply(ops).await;
        for limit in [1, 7, 40, 1000] {
            let mut seen = Vec::new();
            loop {
                let after = seen.last().copied();
                let page = db.0.loose_data(after, limit).await.expect("lists");
                assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                seen.extend(page);
            }
            assert_eq!(seen, expected);
        }
    });
}

/// A commit as a node makes it: values as they come, the vote, the lock, the unlock in two
/// batches of which the second is applied twice.
pub fn a_commit_from_store_to_unlock<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "old").into()).await;
        let t = txn(4, 15);
        db.apply(vec![loose(1, t, "new")]).await;
        db.apply(vec![loose(2, t, "more")]).await;
        let objects = [(1, value(1)), (2, value(2)), (3, ObjectData::Deleted)];
        db.apply(vec![vote(t, "u"), pend(t, &objects)]).await;
        assert_eq!(db.see(1, At::Latest).await, "10.. old");
        db.apply(vec![WriteOp::LockUnfinished {
            txn: t,
            tid: Tid(20),
        }])
        .await;
        let pending = db.0.unfinished_objects(t, None, 100).await.expect("lists");
        let put = |o: &neo_api::PendingObject| object(20, o.oid.0, o.data);
        db.apply(pending[..1].iter().map(put).collect()).await;
        assert_eq!(db.see(1, At::Latest).await, "20.. new");
        assert_eq!(db.unfinished().await, "4/15=20(u:2)");
        assert_eq!(db.loose().await, [(t, DataId(2))]);
        let mut rest: Vec<WriteOp> = pending.iter().map(put).collect();
        rest.push(put_transaction(transaction(20, Some(t))));
        rest.push(WriteOp::DropUnfinished { txn: t });
        db.apply(rest.clone()).await;
        db.apply(rest).await;
        assert_eq!(db.see(1, At::Latest).await, "20.. new");
        assert_eq!(db.see(1, At::Before(Tid(20))).await, "10..20 old");
        assert_eq!(db.see(2, At::Latest).await, "20.. more");
        assert_eq!(db.see(3, At::Latest).await, "20.. deleted");
        assert_eq!(db.unfinished().await, "");
        assert_eq!(db.loose().await, []);
        assert_eq!(db.0.final_tid(P0, t).await.expect("tells"), Some(Tid(20)));
    });
}
