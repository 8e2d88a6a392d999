//! A read over a key-value engine sees all of a batch or nothing of it, wherever between two of
//! its calls the batch comes.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use neo_api::{
    At, BackendInfo, BackendResult, DataId, Durability, KeyRange, KvBatch, KvEngine, ObjectData,
    Oid, Order, PageLimit, Partition, Record, RevisionId, Space, StorageBackend, Tid, WriteBatch,
    WriteOp,
};
use neo_backends::{KvBackend, MemoryEngine};

/// Applies a batch just before the n-th call of a read.
#[derive(Debug, Default)]
struct Meddling {
    inner: MemoryEngine,
    calls: AtomicUsize,
    at: AtomicUsize,
    batch: Mutex<Option<KvBatch>>,
    /// What was applied last.
    seen: Mutex<KvBatch>,
}

impl Meddling {
    fn meddle(&self) {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.at.load(Ordering::SeqCst)
            && let Some(batch) = self.batch.lock().unwrap().take()
        {
            self.inner.apply(batch, Durability::Synced).unwrap();
        }
    }
}

impl KvEngine for Meddling {
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        self.meddle();
        self.inner.get(space, key)
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>> {
        self.meddle();
        self.inner.scan(space, range, order, limit)
    }

    fn apply(&self, batch: KvBatch, durability: Durability) -> BackendResult<()> {
        *self.seen.lock().unwrap() = batch.clone();
        self.inner.apply(batch, durability)
    }
}

fn ready<R>(future: impl Future<Output = R>) -> R {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("an inline backend answers at once"),
    }
}

type Backend = KvBackend<Arc<Meddling>>;

fn store(tid: u64, oid: u64) -> Vec<WriteOp> {
    let id = DataId(tid * 100 + oid);
    let record = Record::raw(Bytes::from(format!("{tid}/{oid}")));
    vec![
        WriteOp::PutData {
            id,
            owner: None,
            record,
        },
        put(tid, oid, ObjectData::Value(id)),
    ]
}

const fn id(tid: u64, oid: u64) -> RevisionId {
    RevisionId {
        tid: Tid(tid),
        oid: Oid(oid),
    }
}

const fn put(tid: u64, oid: u64, data: ObjectData) -> WriteOp {
    WriteOp::PutObject {
        partition: Partition(0),
        id: id(tid, oid),
        data,
    }
}

const fn delete(tid: u64, oid: u64) -> WriteOp {
    WriteOp::DeleteObject {
        partition: Partition(0),
        id: id(tid, oid),
    }
}

fn filled() -> (Arc<Meddling>, Backend) {
    let engine = Arc::new(Meddling::default());
    engine.at.store(usize::MAX, Ordering::SeqCst);
    let backend = KvBackend::inline(Arc::clone(&engine), BackendInfo::new("Test", false));
    let mut ops = Vec::new();
    for (tid, oid) in [(10, 1), (20, 1), (30, 1), (20, 2), (15, 3)] {
        ops.extend(store(tid, oid));
    }
    ready(backend.apply(WriteBatch::from(ops), Durability::Synced)).unwrap();
    (engine, backend)
}

fn changes() -> Vec<Vec<WriteOp>> {
    let same = |tid| ObjectData::SameAs(Tid(tid));
    vec![
        store(25, 1),
        store(40, 1),
        store(5, 1),
        store(10, 4),
        vec![delete(10, 1)],
        vec![delete(20, 1)],
        vec![delete(30, 1)],
        vec![delete(20, 1), delete(30, 1)],
        vec![delete(10, 1), delete(20, 1), delete(30, 1)],
        vec![delete(20, 2), delete(15, 3)],
        [
            vec![delete(20, 1), delete(20, 2)],
            store(21, 1),
            store(22, 2),
        ]
        .concat(),
        [vec![delete(10, 1), delete(20, 1)], store(30, 1)].concat(),
        vec![put(35, 1, same(10)), delete(10, 1)],
        vec![put(20, 1, ObjectData::Deleted)],
        store(20, 1),
        vec![delete(15, 3), put(50, 3, ObjectData::Deleted)],
    ]
}

type Read = Box<dyn Fn(&Backend) -> String>;

fn reads() -> Vec<Read> {
    const P: Partition = Partition(0);
    let mut reads: Vec<Read> = Vec::new();
    for oid in 1..=4 {
        let tids = [0, 5, 10, 11, 15, 20, 25, 30, 31, 50].map(Tid);
        let before = tids.map(At::Before);
        let exact = tids.map(At::Exact);
        for at in before.into_iter().chain(exact).chain([At::Latest]) {
            let read = move |b: &Backend| format!("{:?}", ready(b.load(P, Oid(oid), at)));
            reads.push(Box::new(read));
        }
        for (before, limit) in [(Tid::MAX, 100), (Tid(30), 100), (Tid::MAX, 1)] {
            let read =
                move |b: &Backend| format!("{:?}", ready(b.history(P, Oid(oid), before, limit)));
            reads.push(Box::new(read));
        }
    }
    for (min, max, limit) in [
        (id(0, 0), Tid::MAX, PageLimit::entries(100)),
        (
            id(0, 0),
            Tid::MAX,
            PageLimit {
                entries: 3,
                bytes: 5,
            },
        ),
        (id(20, 1), Tid(20), PageLimit::entries(100)),
    ] {
        reads.push(Box::new(move |b| {
            format!("{:?}", ready(b.fetch(P, min, max, limit)))
        }));
        let entries = limit.entries;
        reads.push(Box::new(move |b| {
            format!("{:?}", ready(b.revisions(P, min, max, entries)))
        }));
    }
    reads
}

#[test]
fn a_batch_between_two_calls_is_seen_whole_or_not() {
    let mut interleavings = 0;
    for change in changes() {
        let (engine, changed) = filled();
        ready(changed.apply(WriteBatch::from(change.clone()), Durability::Synced)).unwrap();
        let batch = engine.seen.lock().unwrap().clone();
        let (_, unchanged) = filled();
        for read in reads() {
            let (before, after) = (read(&unchanged), read(&changed));
            for at in 0.. {
                let (engine, backend) = filled();
                *engine.batch.lock().unwrap() = Some(batch.clone());
                engine.calls.store(0, Ordering::SeqCst);
                engine.at.store(at, Ordering::SeqCst);
                let seen = read(&backend);
                assert!(
                    seen == before || seen == after,
                    "{change:?}\nbefore call {at}: {seen}\nneither {before}\nnor {after}"
                );
                interleavings += 1;
                if engine.batch.lock().unwrap().is_some() {
                    break;
                }
            }
        }
    }
    assert!(interleavings > 1000, "{interleavings}");
}
