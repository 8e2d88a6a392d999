//! Listings: their bounds, order and limits.

use neo_api::{
    DataId, LastIds, ObjectData, Oid, Order, PageLimit, Partition, RevisionId, Tid, WriteOp,
};

use super::BackendFactory;
use super::tools::{
    Db, P0, P1, data, id, object, put_transaction, same, store, transaction, txn, value, with,
};

async fn fill(db: &Db) {
    let mut ops = Vec::new();
    for (tid, oid) in [(20, 1), (10, 2), (10, 5), (30, 1), (20, 7), (10, 3)] {
        ops.extend(store(tid, oid, "x"));
    }
    ops.push(object(30, 2, ObjectData::Deleted));
    ops.push(WriteOp::PutObject {
        partition: P1,
        id: id(20, 4),
        data: ObjectData::Deleted,
    });
    db.apply(ops).await;
}

async fn revisions(db: &Db, min: RevisionId, max: u64, limit: usize) -> Vec<(u64, u64)> {
    let found =
        db.0.revisions(P0, min, Tid(max), limit)
            .await
            .expect("revisions are listed");
    found.iter().map(|id| (id.tid.0, id.oid.0)).collect()
}

const ALL: [(u64, u64); 7] = [
    (10, 2),
    (10, 3),
    (10, 5),
    (20, 1),
    (20, 7),
    (30, 1),
    (30, 2),
];

/// `revisions` is in order of (tid, oid), its bounds inclusive, deletions included.
pub fn revisions_within_bounds_in_order<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        assert_eq!(revisions(&db, id(0, 0), u64::MAX, 100).await, []);
        fill(&db).await;
        for (min, max, expected) in [
            (id(0, 0), u64::MAX, &ALL[..]),
            (id(10, 2), 30, &ALL[..]),
            (id(10, 3), 20, &ALL[1..5]),
            (id(10, 4), 10, &ALL[2..3]),
            (id(10, u64::MAX), 20, &ALL[3..5]),
            (id(20, 0), 29, &ALL[3..5]),
            (id(20, 2), 20, &ALL[4..5]),
            (id(31, 0), u64::MAX, &[]),
            (id(20, 0), 19, &[]),
            (id(u64::MAX, u64::MAX), u64::MAX, &[]),
        ] {
            assert_eq!(
                revisions(&db, min, max, 100).await,
                expected,
                "{min:?} to {max}"
            );
        }
    });
}

/// `revisions` gives as many as asked, while there are some.
pub fn revisions_page_by_page<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        fill(&db).await;
        for limit in 1..=8 {
            let mut seen = Vec::new();
            let mut min = id(0, 0);
            loop {
                let page = revisions(&db, min, u64::MAX, limit).await;
                assert!(page.len() == limit || page.len() == ALL.len() - seen.len());
                let Some((tid, oid)) = page.last().copied() else {
                    break;
                };
                seen.extend(page);
                min = id(tid, oid + 1);
            }
            assert_eq!(seen, ALL);
        }
    });
}

/// `fetch` gives what `revisions` names, with values, deletions and repetitions.
pub fn fetch_gives_values<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "a").into()).await;
        db.apply(store(20, 1, "b").into()).await;
        db.apply(vec![
            object(30, 1, same(10)),
            object(30, 2, ObjectData::Deleted),
        ])
        .await;
        db.apply(store(40, 0, "").into()).await;
        let all = db.fetch(id(0, 0), u64::MAX, PageLimit::entries(100)).await;
        assert_eq!(
            all,
            ["10/1 a", "20/1 b", "30/1 a of 10", "30/2 deleted", "40/0 "]
        );
        let some = db.fetch(id(20, 1), 30, PageLimit::entries(100)).await;
        assert_eq!(some, all[1..4]);
        assert_eq!(
            db.fetch(id(30, 2), 29, PageLimit::entries(9)).await,
            [""; 0]
        );
        let none =
            db.0.fetch(P1, id(0, 0), Tid::MAX, PageLimit::entries(9))
                .await;
        assert_eq!(none.expect("fetches"), []);
    });
}

/// A page of `fetch` has at most `entries`, ends with the one that reaches `bytes`, and has one
/// at least.
pub fn fetch_stops_at_a_limit<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let mut ops = Vec::new();
        for oid in 1..=6 {
            ops.extend(store(10, oid, "12345678"));
        }
        db.apply(ops).await;
        for (entries, bytes, expected) in [
            (3, usize::MAX, 3),
            (100, 0, 1),
            (100, 1, 1),
            (100, 8, 1),
            (100, 9, 2),
            (100, 16, 2),
            (100, 17, 3),
            (2, 1000, 2),
            (100, 1000, 6),
        ] {
            let page = db
                .fetch(id(0, 0), u64::MAX, PageLimit { entries, bytes })
                .await;
            assert_eq!(page.len(), expected, "{entries} entries, {bytes} bytes");
        }
        let mut seen = 0;
        let mut min = id(0, 0);
        loop {
            let limit = PageLimit {
                entries: 4,
                bytes: 20,
            };
            let page = db.0.fetch(P0, min, Tid::MAX, limit).await.expect("fetches");
            let Some(last) = page.last() else { break };
            (seen, min) = (seen + page.len(), id(10, last.id.oid.0 + 1));
        }
        assert_eq!(seen, 6);
    });
}

async fn tids(db: &Db, min: u64, max: u64, order: Order, limit: PageLimit) -> Vec<u64> {
    let found =
        db.0.transactions(P0, Tid(min), Tid(max), order, limit)
            .await;
    found
        .expect("transactions are listed")
        .iter()
        .map(|t| t.tid.0)
        .collect()
}

/// `transactions` is in order of tid, from either end, its bounds inclusive.
pub fn transactions_within_bounds_in_order<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        for tid in [30, 10, 20] {
            db.apply(vec![put_transaction(transaction(
                tid,
                Some(txn(1, tid - 1)),
            ))])
            .await;
        }
        let record = transaction(15, None);
        db.apply(vec![WriteOp::PutTransaction {
            partition: P1,
            record,
        }])
        .await;
        let any = PageLimit::entries(100);
        for (min, max, expected) in [
            (0, u64::MAX, &[10, 20, 30][..]),
            (10, 30, &[10, 20, 30]),
            (11, 29, &[20]),
            (20, 20, &[20]),
            (21, 29, &[]),
            (30, 10, &[]),
            (31, u64::MAX, &[]),
        ] {
            let up = tids(&db, min, max, Order::Ascending, any).await;
            assert_eq!(up, expected, "{min} to {max}");
            let mut down = tids(&db, min, max, Order::Descending, any).await;
            down.reverse();
            assert_eq!(down, expected, "{max} down to {min}");
        }
    });
}

/// Pages of `transactions` cover all of them, whatever the limit.
pub fn transactions_page_by_page<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let ops = (1..=150).map(|tid| put_transaction(transaction(tid, None)));
        db.apply(ops.collect()).await;
        let whole: Vec<u64> = (1..=150).collect();
        for (entries, bytes) in [(1000, usize::MAX), (7, usize::MAX), (1000, 100), (1000, 0)] {
            let limit = PageLimit { entries, bytes };
            let mut seen = Vec::new();
            let mut min = 0;
            loop {
                let page = tids(&db, min, u64::MAX, Order::Ascending, limit).await;
                assert!(page.len() <= entries && (bytes > 0 || page.len() <= 1));
                let Some(last) = page.last() else { break };
                min = last + 1;
                seen.extend(page);
            }
            assert_eq!(seen, whole, "{limit:?}");
            let mut max = u64::MAX;
            seen.clear();
            loop {
                let page = tids(&db, 0, max, Order::Descending, limit).await;
                assert!(page.len() <= entries && (bytes > 0 || page.len() <= 1));
                let Some(last) = page.last() else { break };
                assert!(*last <= max, "{last} is above {max}");
                max = last - 1;
                seen.extend(page);
            }
            seen.reverse();
            assert_eq!(seen, whole, "from the end: {limit:?}");
        }
        // A page that reached no limit is the last: it must not end before.
        for order in [Order::Ascending, Order::Descending] {
            let mut page = tids(&db, 0, u64::MAX, order, PageLimit::entries(1000)).await;
            page.sort_unstable();
            assert_eq!(page, whole, "{order:?}");
        }
    });
}

/// `last_ids` counts transactions and revisions of the one partition; nothing in an empty one.
pub fn last_ids_of_a_partition<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let ids = async |partition| db.0.last_ids(partition).await.expect("tells the last ids");
        assert_eq!(ids(P0).await, LastIds::default());
        db.apply(store(20, 7, "a").into()).await;
        db.apply(store(30, 2, "b").into()).await;
        let revisions = LastIds {
            first_tid: Some(Tid(20)),
            last_transaction: None,
            last_revision: Some(Tid(30)),
            last_oid: Some(Oid(7)),
        };
        assert_eq!(ids(P0).await, revisions);
        db.apply(vec![
            put_transaction(transaction(10, None)),
            put_transaction(transaction(40, Some(txn(9, 1)))),
        ])
        .await;
        let both = LastIds {
            first_tid: Some(Tid(10)),
            last_transaction: Some(Tid(40)),
            ..revisions
        };
        assert_eq!(ids(P0).await, both);
        assert_eq!(ids(P1).await, LastIds::default());
        assert_eq!(ids(Partition(65_534)).await, LastIds::default());
        let record = transaction(50, None);
        db.apply(vec![WriteOp::PutTransaction {
            partition: P1,
            record,
        }])
        .await;
        let tid = Some(Tid(50));
        let only = LastIds {
            first_tid: tid,
            last_transaction: tid,
            last_revision: None,
            last_oid: None,
        };
        assert_eq!(ids(P1).await, only);
    });
}

/// `next_data_id` is above every id in use, of loose values too.
pub fn next_data_id_is_above_all<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let next = async || db.0.next_data_id().await.expect("tells the next data id");
        let first = next().await;
        db.apply(vec![data(first.0, "a"), data(1 << 40, "b")]).await;
        assert!(next().await > DataId(1 << 40));
        db.apply(vec![super::tools::loose(1 << 41, txn(1, 1), "c")])
            .await;
        assert!(next().await > DataId(1 << 41));
        db.apply(vec![object(10, 1, value(1 << 41))]).await;
        assert!(next().await > DataId(1 << 41));
    });
}

/// The database takes what is stored in it, more or less.
pub fn bytes_grow_with_what_is_stored<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let bytes = async || db.0.bytes().await.expect("tells its size");
        let before = bytes().await;
        for n in 1..=10 {
            let value = format!("{n:050000}").repeat(2);
            db.apply(store(10 + n, n, &value).into()).await;
        }
        let grown = bytes().await - before;
        assert!((500_000..4_000_000).contains(&grown), "{grown}");
    });
}
