//! All that a small database answers, a line for each question.

use neo_api::{
    At, BackendError, BackendResult, DataId, Oid, Order, PageLimit, Partition, RevisionId,
    StorageBackend, Tid, TxnId,
};

use super::super::tools::{id, txn};
use super::writes::{OIDS, TXNS, partition_of};

macro_rules! ask {
    ($lines:ident, $backend:ident.$read:ident($($arg:expr),*)) => {{
        let answer = $backend.$read($($arg),*).await;
        let answer = told(answer, |answer| format!("{answer:?}"));
        $lines.push(format!("{}{:?}: {answer}", stringify!($read), ($($arg,)*)));
    }};
}

/// What a call came to. Of errors the kind: backends word them as they like.
pub(super) fn told<T>(result: BackendResult<T>, show: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(answer) => show(answer),
        Err(BackendError::Unsupported(_)) => "refused as unsupported".to_owned(),
        Err(error) => format!("failed: {error}"),
    }
}

fn tids() -> impl Iterator<Item = Tid> {
    (0..=70).step_by(5).map(Tid)
}

/// Every answer about what [`writes`](super::writes) can write.
pub(super) async fn all(backend: &dyn StorageBackend) -> Vec<String> {
    let mut lines = Vec::new();
    for key in ["a", "b"] {
        ask!(lines, backend.config(key));
    }
    ask!(lines, backend.partition_table());
    ask!(lines, backend.loose_data(None::<(TxnId, DataId)>, 1000));
    ask!(lines, backend.loose_data(Some((txn(1, 12), DataId(9))), 2));
    ask!(lines, backend.unfinished(None::<TxnId>, 1000));
    ask!(lines, backend.unfinished(Some(txn(1, 12)), 2));
    objects(backend, &mut lines).await;
    for partition in [Partition(0), Partition(1)] {
        listings(backend, partition, &mut lines).await;
        packing(backend, partition, &mut lines).await;
    }
    for (reign, ttid) in TXNS {
        let txn = txn(reign, ttid);
        ask!(lines, backend.final_tid(partition_of(ttid), txn));
        ask!(lines, backend.unfinished_objects(txn, None::<Oid>, 1000));
        ask!(lines, backend.unfinished_objects(txn, Some(Oid(1)), 2));
    }
    lines
}

async fn objects(backend: &dyn StorageBackend, lines: &mut Vec<String>) {
    let all: Vec<_> = OIDS.map(|oid| (partition_of(oid), Oid(oid))).collect();
    ask!(lines, backend.last_serials(&all));
    let mut exact = Vec::new();
    for (partition, oid) in all.iter().copied() {
        ask!(lines, backend.load(partition, oid, At::Latest));
        ask!(
            lines,
            backend.load(partition_of(oid.0 + 1), oid, At::Latest)
        );
        ask!(lines, backend.history(partition, oid, Tid::MAX, 1000));
        ask!(lines, backend.history(partition, oid, Tid(40), 2));
        for tid in tids() {
            ask!(lines, backend.load(partition, oid, At::Before(tid)));
            exact.push((partition, oid, At::Exact(tid)));
        }
    }
    ask!(lines, backend.load_many(&exact, usize::MAX));
    ask!(lines, backend.load_many(&exact, 40));
    for tid in tids() {
        let before: Vec<_> = all.iter().map(|(p, oid)| (*p, *oid, tid)).collect();
        ask!(lines, backend.newest_before(&before));
    }
}

async fn listings(backend: &dyn StorageBackend, partition: Partition, lines: &mut Vec<String>) {
    ask!(lines, backend.last_ids(partition));
    let every = id(0, 0);
    ask!(lines, backend.revisions(partition, every, Tid::MAX, 1000));
    ask!(lines, backend.revisions(partition, id(20, 2), Tid(50), 3));
    let few = PageLimit {
        entries: 7,
        bytes: 20,
    };
    for limit in [PageLimit::entries(1000), few] {
        ask!(lines, backend.fetch(partition, every, Tid::MAX, limit));
        ask!(lines, backend.fetch(partition, id(20, 2), Tid(40), limit));
    }
    for order in [Order::Ascending, Order::Descending] {
        let (min, max) = (Tid(0), Tid::MAX);
        let limit = PageLimit::entries(60);
        ask!(
            lines,
            backend.transactions(partition, min, max, order, limit)
        );
        let (min, max) = (Tid(15), Tid(50));
        let limit = PageLimit::entries(2);
        ask!(
            lines,
            backend.transactions(partition, min, max, order, limit)
        );
    }
    for tid in tids() {
        ask!(lines, backend.transaction(partition, tid));
        for values in [true, false] {
            let limit = PageLimit {
                entries: 2,
                bytes: 12,
            };
            let page = backend.current(partition, Oid(1), tid, values, limit).await;
            // Where the next page begins is the backend's own, as long as nothing is left out.
            let (whole, pages) = current(backend, partition, tid, values, limit).await;
            assert_eq!(whole, pages, "pages of current() at {tid}");
            let page = told(page, |page| format!("{:?}", page.revisions));
            lines.push(format!("current at {tid}: {page} of {whole:?}"));
        }
    }
}

/// Objects at a tid, in one page, and in many.
async fn current(
    backend: &dyn StorageBackend,
    partition: Partition,
    tid: Tid,
    values: bool,
    limit: PageLimit,
) -> (Vec<String>, Vec<String>) {
    let mut found = [Vec::new(), Vec::new()];
    for (found, limit) in found.iter_mut().zip([PageLimit::entries(1000), limit]) {
        let mut next = Some(Oid(0));
        while let Some(min) = next {
            let page = backend.current(partition, min, tid, values, limit).await;
            let page = page.expect("the objects are listed");
            assert!(page.next.is_none_or(|next| next > min), "pages go on");
            found.extend(page.revisions.iter().map(|found| format!("{found:?}")));
            next = page.next;
        }
    }
    let [whole, pages] = found;
    (whole, pages)
}

async fn packing(backend: &dyn StorageBackend, partition: Partition, lines: &mut Vec<String>) {
    for tid in (0..=70).step_by(10).map(Tid) {
        ask!(lines, backend.pack_orders(partition, tid, 2));
        for min in [Oid(0), Oid(3)] {
            let all = backend.obsolete(partition, min, tid, 1000).await;
            let all = all.expect("what is obsolete is listed").revisions;
            for limit in [1, 3] {
                let page = backend.obsolete(partition, min, tid, limit).await;
                let page = page.expect("what is obsolete is listed");
                let few = page.revisions;
                assert!(
                    few.len() <= limit + 1,
                    "{few:?} are more than {limit} and one"
                );
                let is_whole = few == all;
                assert!(
                    is_whole || all.starts_with(&few) && page.next.is_some(),
                    "a page of {limit} from {min} at {tid} is {few:?}, of {all:?}"
                );
            }
            let all: Vec<RevisionId> = all;
            lines.push(format!("obsolete from {min} at {tid}: {all:?}"));
        }
    }
}
