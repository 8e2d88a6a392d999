//! Readers beside the writer.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use neo_api::{
    At, DataId, Durability, Oid, Order, PageLimit, StorageBackend, Tid, WriteBatch, WriteOp,
};

use super::BackendFactory;
use super::tools::{
    Db, P0, delete, id, loose, meta, object, pend, put_transaction, run, store, transaction, txn,
    value, vote,
};

/// While batches are written, each read sees all of a batch or nothing of it.
pub fn a_reader_sees_whole_batches<F: BackendFactory>(factory: &F) {
    const OBJECTS: u64 = 20;
    let (_guard, backend) = factory.open();
    beside_a_writer(
        &backend,
        async |db| read_whole_batches(&db, OBJECTS).await,
        async |db| write_whole_batches(&db, OBJECTS).await,
    );
}

/// Two readers read until the writer has ended, and once more.
fn beside_a_writer(
    backend: &Arc<dyn StorageBackend>,
    read: impl AsyncFn(Db) + Sync,
    write: impl AsyncFnOnce(Db) + Send,
) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            let db = Db(Arc::clone(backend));
            let (ended, read) = (&ended, &read);
            scope.spawn(move || {
                run(async {
                    loop {
                        let last = ended.load(Ordering::SeqCst);
                        read(db.clone()).await;
                        if last {
                            return;
                        }
                    }
                });
            });
        }
        let db = Db(Arc::clone(backend));
        let written = scope.spawn(move || run(write(db)));
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
                ops.push(delete(tid - 2, oid));
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

/// What is there all the time, and what comes and goes: the even and the odd numbers up to this.
const LAST: u64 = 40;
/// The object whose history is looked at.
const BUSY: u64 = 1000;
/// Entries of a page.
const PAGE: usize = 3;

/// Whoever reads a listing page by page, while something comes and goes, is told all that stays,
/// once and in order.
pub fn pages_while_others_write<F: BackendFactory>(factory: &F) {
    let (_guard, backend) = factory.open();
    let db = Db(Arc::clone(&backend));
    run(async {
        let even = (2..=LAST).step_by(2);
        db.apply(even.flat_map(|n| coming(n, n)).collect()).await;
    });
    beside_a_writer(
        &backend,
        async |db| read_pages(&db).await,
        async |db| {
            for round in 0..30 {
                let odd = || (1..LAST).step_by(2);
                let value = |n| LAST + round * LAST + n;
                let come = odd().flat_map(|n| coming(n, value(n)));
                let go = odd().flat_map(|n| going(n, value(n)));
                for ops in [come.collect::<Vec<WriteOp>>(), go.collect()] {
                    let applied = db.0.apply(WriteBatch::from(ops), Durability::Buffered);
                    applied.await.expect("the batch is applied");
                }
            }
        },
    );
}

/// An entry of each listing, with values of this number.
fn coming(n: u64, data: u64) -> Vec<WriteOp> {
    let order = neo_api::PackOrder {
        at: Tid(1),
        oids: None,
    };
    let record = neo_api::TransactionRecord {
        meta: meta("someone"),
        pack: Some(order),
        ..transaction(n, None)
    };
    let mut ops = vec![put_transaction(record), vote(txn(1, n), "u")];
    ops.push(pend(txn(9, 9), &[(n, value(1))]));
    ops.push(loose(data * 10, txn(2, n), "loose"));
    for (own, oid) in [(1, n), (2, BUSY)] {
        ops.push(super::tools::data(data * 10 + own, "x"));
        ops.push(object(n, oid, value(data * 10 + own)));
    }
    ops
}

/// Takes away what came.
fn going(n: u64, data: u64) -> Vec<WriteOp> {
    vec![
        WriteOp::DeleteTransaction {
            partition: P0,
            tid: Tid(n),
        },
        WriteOp::DropUnfinished { txn: txn(1, n) },
        WriteOp::DeleteData {
            ids: vec![DataId(data * 10)],
        },
        delete(n, n),
        delete(n, BUSY),
    ]
}

async fn read_pages(db: &Db) {
    let b = &db.0;
    let limit = PageLimit::entries(PAGE);
    walk("revisions", |last| async move {
        let min = last.map_or(id(0, 0), |(tid, oid)| id(tid, oid + 1));
        let page = b.revisions(P0, min, Tid::MAX, PAGE).await;
        let page = page.expect("revisions are listed");
        page.iter().map(|id| (id.tid.0, id.oid.0)).collect()
    })
    .await;
    walk("fetch", |last| async move {
        let min = last.map_or(id(0, 0), |(tid, oid)| id(tid, oid + 1));
        let page = b.fetch(P0, min, Tid::MAX, limit).await;
        let page = page.expect("revisions are fetched");
        page.iter().map(|r| (r.id.tid.0, r.id.oid.0)).collect()
    })
    .await;
    walk("transactions", |last: Option<u64>| async move {
        let min = Tid(last.map_or(0, |last| last + 1));
        let page = b.transactions(P0, min, Tid::MAX, Order::Ascending, limit);
        let page = page.await.expect("transactions are listed");
        page.iter().map(|record| record.tid.0).collect()
    })
    .await;
    walk(
        "transactions from the last",
        |last: Option<u64>| async move {
            let max = Tid(last.map_or(LAST, |last| LAST - last - 1));
            let page = b.transactions(P0, Tid(1), max, Order::Descending, limit);
            let page = page.await.expect("transactions are listed");
            page.iter().map(|record| LAST - record.tid.0).collect()
        },
    )
    .await;
    walk("history", |last: Option<u64>| async move {
        let before = Tid(last.map_or(LAST + 1, |last| LAST - last));
        let page = b.history(P0, Oid(BUSY), before, PAGE).await;
        let page = page.expect("the history is listed");
        page.iter().map(|entry| LAST - entry.serial.0).collect()
    })
    .await;
    walk("pack_orders", |last: Option<u64>| async move {
        let page = b.pack_orders(P0, Tid(last.unwrap_or(0)), PAGE).await;
        let page = page.expect("orders are listed");
        page.iter().map(|(tid, _)| tid.0).collect()
    })
    .await;
    walk("unfinished", |last: Option<u64>| async move {
        let page = b.unfinished(last.map(|last| txn(1, last)), PAGE).await;
        let page = page.expect("unfinished transactions are listed");
        let page = page.iter().filter(|found| found.txn.reign.0 == 1);
        page.map(|found| found.txn.ttid.0).collect()
    })
    .await;
    walk("unfinished_objects", |last: Option<u64>| async move {
        let page = b.unfinished_objects(txn(9, 9), last.map(Oid), PAGE).await;
        let page = page.expect("objects are listed");
        page.iter().map(|object| object.oid.0).collect()
    })
    .await;
    walk("loose_data", |last: Option<u64>| async move {
        let after = last.map(|last| (txn(2, last), DataId(u64::MAX)));
        let page = b.loose_data(after, PAGE).await;
        let page = page.expect("loose values are listed");
        page.iter().map(|(txn, _)| txn.ttid.0).collect()
    })
    .await;
    let (mut seen, mut next) = (Vec::new(), Some(Oid(0)));
    while let Some(min) = next {
        let page = b.current(P0, min, Tid::MAX, true, limit).await;
        let page = page.expect("objects are listed");
        seen.extend(page.revisions.iter().map(|revision| revision.id.oid.0));
        next = page.next;
    }
    check_walk("current", &seen);
}

/// The number that an entry has in its listing.
trait Number: Copy + Ord + Debug {
    fn number(self) -> u64;
}

impl Number for u64 {
    fn number(self) -> u64 {
        self
    }
}

impl Number for (u64, u64) {
    fn number(self) -> u64 {
        self.0
    }
}

/// Goes through a listing: each page is what comes behind an entry.
async fn walk<N: Number, Fut: Future<Output = Vec<N>>>(
    what: &str,
    page: impl Fn(Option<N>) -> Fut,
) {
    let mut seen = Vec::new();
    loop {
        let found = page(seen.last().copied()).await;
        let is_last = found.len() < PAGE;
        seen.extend(found);
        if is_last {
            return check_walk(what, &seen);
        }
    }
}

fn check_walk<N: Number>(what: &str, seen: &[N]) {
    assert!(
        seen.is_sorted_by(|one, next| one < next),
        "{what}: not in order, or more than once: {seen:?}"
    );
    // From the last it counts down from an even number to an even number.
    for stays in (2..LAST).step_by(2) {
        let is_told = seen.iter().any(|entry| entry.number() == stays);
        assert!(is_told, "{what}: {stays} was there all the time: {seen:?}");
    }
}
