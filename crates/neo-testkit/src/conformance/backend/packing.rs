//! What a pack removes, what becomes of what is left, and the orders.

use neo_api::{
    At, ObjectData, ObsoletePage, Oid, PackOrder, PageLimit, Partition, RevisionId, Tid,
    VotedRecord, WriteOp,
};

use super::BackendFactory;
use super::tools::{
    Db, P0, P1, delete, id, meta, object, put_transaction, same, store, transaction, txn, with,
};

async fn page(db: &Db, min: u64, at: u64, limit: usize) -> ObsoletePage {
    let page = db.0.obsolete(P0, Oid(min), Tid(at), limit).await;
    page.expect("what is obsolete is listed")
}

fn show(page: &ObsoletePage) -> Vec<String> {
    let line = |id: &RevisionId| format!("{}@{}", id.oid.0, id.tid.0);
    page.revisions.iter().map(line).collect()
}

/// Objects that were changed, deleted, created again, and came late.
async fn past(db: &Db) {
    for (tid, oid) in [(10, 1), (20, 1), (30, 1), (40, 1), (15, 2), (10, 3)] {
        db.apply(store(tid, oid, "x").into()).await;
    }
    let deleted = |tid, oid| object(tid, oid, ObjectData::Deleted);
    db.apply(vec![deleted(20, 3), deleted(20, 4)]).await;
    db.apply(store(50, 3, "again").into()).await;
    db.apply(store(50, 5, "late").into()).await;
    db.apply(vec![WriteOp::PutObject {
        partition: P1,
        id: id(10, 4),
        data: ObjectData::Deleted,
    }])
    .await;
}

/// `obsolete` lists what is before the newest revision at the tid, and that one too when it is a
/// deletion: by object, the oldest first.
pub fn what_is_newest_at_the_tid_stays<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        past(&db).await;
        for (min, at, expected) in [
            (0, 9, &[][..]),
            (0, 19, &[]),
            (0, 20, &["1@10", "3@10", "3@20", "4@20"]),
            (0, 39, &["1@10", "1@20", "3@10", "3@20", "4@20"]),
            (0, 99, &["1@10", "1@20", "1@30", "3@10", "3@20", "4@20"]),
            (
                0,
                u64::MAX,
                &["1@10", "1@20", "1@30", "3@10", "3@20", "4@20"],
            ),
            (3, 99, &["3@10", "3@20", "4@20"]),
            (4, 99, &["4@20"]),
            (5, 99, &[]),
            (u64::MAX, 99, &[]),
        ] {
            let page = page(&db, min, at, 100).await;
            assert_eq!(show(&page), expected, "{min} {at}");
            assert_eq!(page.next, None);
        }
        let other = db.0.obsolete(Partition(7), Oid(0), Tid(99), 9).await;
        assert_eq!(other.expect("lists"), ObsoletePage::default());
    });
}

/// A page of `obsolete` looks at few revisions, however many an object has; who removes what each
/// tells has packed, and what was newest at the tid is so after each page.
pub fn packing_page_by_page<F: BackendFactory>(factory: &F) {
    for limit in [1, 2, 3, 7] {
        with(factory, async |db| {
            past(&db).await;
            let mut ops = Vec::new();
            for tid in 60..90 {
                ops.extend(store(tid, 6, "many"));
            }
            ops.push(object(90, 6, ObjectData::Deleted));
            db.apply(ops).await;
            let (mut gone, mut next) = (Vec::new(), Some(Oid(0)));
            while let Some(min) = next {
                let page = page(&db, min.0, 95, limit).await;
                assert!(page.revisions.len() <= limit + 1, "{page:?}");
                let goes_on = page.next.is_none_or(|next| next > min);
                assert!(goes_on || !page.revisions.is_empty(), "{page:?}");
                let ops = page.revisions.iter().map(|id| delete(id.tid.0, id.oid.0));
                db.apply(ops.collect()).await;
                let newest = db.see(6, At::Before(Tid(96))).await;
                assert!(newest == "90.. deleted" || newest == "unknown", "{newest}");
                gone.extend(show(&page));
                next = page.next;
            }
            let first = ["1@10", "1@20", "1@30", "3@10", "3@20", "4@20"].map(str::to_owned);
            let many = (60..=90).map(|tid| format!("6@{tid}"));
            let expected: Vec<String> = first.into_iter().chain(many).collect();
            assert_eq!(gone, expected, "{limit} at once");
            assert_eq!(db.see(1, At::Latest).await, "40.. x");
            assert_eq!(db.see(6, At::Latest).await, "unknown");
        });
    }
}

/// What repeats a revision that goes repeats what that one repeated, or is an original; a
/// `data_serial` never names what is not there.
pub fn repetitions_of_what_goes<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "a").into()).await;
        db.apply(store(15, 1, "b").into()).await;
        db.apply(vec![object(20, 1, same(10)), object(30, 1, same(20))])
            .await;
        db.apply(vec![object(40, 1, same(10)), object(50, 1, same(20))])
            .await;
        let see = async || {
            let all = db.fetch(id(0, 0), 99, PageLimit::entries(20)).await;
            all.join(", ")
        };
        db.apply(vec![delete(20, 1)]).await;
        let middle = "10/1 a, 15/1 b, 30/1 a of 10, 40/1 a of 10, 50/1 a of 10";
        assert_eq!(see().await, middle);
        db.apply(vec![delete(10, 1)]).await;
        let heir = "15/1 b, 30/1 a, 40/1 a of 30, 50/1 a of 30";
        assert_eq!(see().await, heir);
        db.apply(vec![delete(15, 1), delete(30, 1), delete(50, 1)])
            .await;
        assert_eq!(see().await, "40/1 a");
        db.apply(vec![delete(40, 1)]).await;
        // A deletion is repeated in the same way.
        db.apply(vec![object(60, 1, ObjectData::Deleted)]).await;
        db.apply(vec![object(70, 1, same(60)), object(80, 1, same(60))])
            .await;
        db.apply(vec![delete(60, 1)]).await;
        assert_eq!(see().await, "70/1 deleted, 80/1 deleted of 70");
    });
}

/// What some transactions order, as `tid: at [oids]`.
async fn orders(db: &Db, partition: Partition, after: u64, limit: usize) -> Vec<String> {
    let found = db.0.pack_orders(partition, Tid(after), limit).await;
    let line = |(tid, order): &(Tid, PackOrder)| {
        let oids = order.oids.as_ref();
        let oids = oids.map(|oids| oids.iter().map(|oid| oid.0).collect::<Vec<_>>());
        match oids {
            Some(oids) => format!("{}: {} {oids:?}", tid.0, order.at.0),
            None => format!("{}: {}", tid.0, order.at.0),
        }
    };
    found.expect("orders are listed").iter().map(line).collect()
}

fn ordering(tid: u64, at: u64, oids: Option<Vec<Oid>>) -> WriteOp {
    let mut record = transaction(tid, Some(txn(1, tid)));
    record.pack = Some(PackOrder { at: Tid(at), oids });
    put_transaction(record)
}

/// `pack_orders` lists what committed transactions of a partition order, after a tid.
pub fn orders_of_committed_transactions<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let some = Some(vec![Oid(3), Oid(u64::MAX)]);
        db.apply(vec![
            put_transaction(transaction(10, None)),
            ordering(20, 5, None),
            put_transaction(transaction(30, None)),
            ordering(40, 7, some.clone()),
            ordering(50, 8, Some(Vec::new())),
        ])
        .await;
        let all = ["20: 5", "40: 7 [3, 18446744073709551615]", "50: 8 []"];
        for (after, limit, expected) in [
            (0, 9, &all[..]),
            (19, 9, &all),
            (20, 9, &all[1..]),
            (49, 9, &all[2..]),
            (50, 9, &[]),
            (0, 2, &all[..2]),
            (20, 1, &all[1..2]),
        ] {
            assert_eq!(
                orders(&db, P0, after, limit).await,
                expected,
                "{after} {limit}"
            );
        }
        assert_eq!(orders(&db, P1, 0, 9).await, [""; 0]);
        let record = db.0.transaction(P0, Tid(40)).await.expect("it is read");
        let pack = record.and_then(|record| record.pack);
        assert_eq!(
            pack,
            Some(PackOrder {
                at: Tid(7),
                oids: some
            })
        );
        db.apply(vec![
            put_transaction(transaction(20, None)),
            WriteOp::DeleteTransaction {
                partition: P0,
                tid: Tid(50),
            },
        ])
        .await;
        assert_eq!(orders(&db, P0, 0, 9).await, &all[1..2]);
        let too_many = Some((0..100_001).map(Oid).collect());
        assert!(db.try_apply(vec![ordering(60, 1, too_many)]).await.is_err());
    });
}

/// An order is a part of what a transaction votes, small or large.
pub fn orders_that_are_voted<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let large: Vec<Oid> = (0..100_000).map(Oid).collect();
        for (ttid, oids) in [(10, None), (20, Some(vec![Oid(4)])), (30, Some(large))] {
            let order = PackOrder { at: Tid(5), oids };
            let record = VotedRecord {
                meta: meta("packer"),
                oids: Vec::new(),
                packed: false,
                pack: Some(order.clone()),
            };
            let record = Some(record);
            let name = txn(1, ttid);
            db.apply(vec![WriteOp::PutUnfinished {
                txn: name,
                record: record.clone(),
            }])
            .await;
            let tid = Tid(ttid + 1);
            db.apply(vec![WriteOp::LockUnfinished { txn: name, tid }])
                .await;
            let found = db.0.unfinished(None, 9).await.expect("lists");
            assert!(found.len() == 1 && found[0].record == record && found[0].tid == Some(tid));
            assert_eq!(orders(&db, P0, 0, 9).await, [""; 0]);
            db.apply(vec![WriteOp::DropUnfinished { txn: name }]).await;
        }
    });
}
