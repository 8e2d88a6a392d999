//! What SQLite knows of unfinished transactions is what the key-value adapter knows, whatever the
//! operations and their grouping: small and large transactions, batches that fail, databases that
//! are opened again.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeSet;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use neo_api::{
    BackendInfo, DataId, Durability, ObjectData, Oid, Partition, PendingObject, Record, Reign,
    RevisionId, StorageBackend, Tid, TransactionMeta, TransactionRecord, TxnId, WriteBatch,
    WriteOp,
};
use neo_backends::{KvBackend, MemoryEngine, SqliteBackend, SqliteSettings, Synchronous};
use proptest::prelude::*;

const P: Partition = Partition(0);
const NAMES: u8 = 5;

fn ready<R>(future: impl Future<Output = R>) -> R {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("an inline backend answers at once"),
    }
}

/// What a test does; values are chosen among those that there are by the time.
#[derive(Debug, Clone)]
enum Step {
    Put {
        owner: Option<u8>,
    },
    Objects {
        of: u8,
        objects: Vec<(u8, Option<u8>)>,
        also: u16,
    },
    /// As most votes are: values, and the objects that have them.
    Vote {
        of: u8,
        objects: Vec<u8>,
    },
    Record {
        of: u8,
        user_bytes: Option<u16>,
    },
    Lock {
        of: u8,
    },
    Drop {
        of: u8,
    },
    Delete {
        value: u8,
    },
    Move {
        value: u8,
    },
    Finish {
        of: u8,
        seconds: u8,
    },
    /// The end of a batch.
    Apply,
    /// The same, with an operation that is refused.
    Fail,
    /// The end of a batch and of the process.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let of = 0..NAMES;
    let many = prop_oneof![9 => Just(0_u16), 1 => 900..1100_u16];
    prop_oneof![
        2 => prop::option::weighted(0.8, of.clone()).prop_map(|owner| Step::Put { owner }),
        3 => (of.clone(), prop::collection::vec((0..8_u8, any::<Option<u8>>()), 0..5), many)
            .prop_map(|(of, objects, also)| Step::Objects { of, objects, also }),
        3 => (of.clone(), prop::collection::vec(0..8_u8, 0..4))
            .prop_map(|(of, objects)| Step::Vote { of, objects }),
        3 => (of.clone(), prop::option::weighted(0.8, prop_oneof![
            9 => 0..300_u16, 1 => 3500..17_000_u16])
        ).prop_map(|(of, user_bytes)| Step::Record { of, user_bytes }),
        2 => of.clone().prop_map(|of| Step::Lock { of }),
        2 => of.clone().prop_map(|of| Step::Drop { of }),
        1 => any::<u8>().prop_map(|value| Step::Delete { value }),
        2 => any::<u8>().prop_map(|value| Step::Move { value }),
        1 => (of, 0..20_u8).prop_map(|(of, seconds)| Step::Finish { of, seconds }),
        8 => Just(Step::Apply),
        1 => Just(Step::Fail),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Default)]
struct Batch {
    ops: Vec<WriteOp>,
    /// The last data id that was used, and tid but for those of transactions.
    last: u64,
    /// The last tid of a transaction.
    finished: u64,
    /// Values that are there, and that no revision has.
    values: BTreeSet<DataId>,
}

impl Batch {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn put(&mut self, owner: Option<TxnId>) -> DataId {
        let id = DataId(self.next());
        self.values.insert(id);
        let record = Record::raw(Bytes::from_static(b"value"));
        self.ops.push(WriteOp::PutData { id, owner, record });
        id
    }

    fn value(&self, n: u8) -> Option<DataId> {
        let at = usize::from(n) % self.values.len().max(1);
        self.values.iter().nth(at).copied()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put { owner } => {
                self.put(owner.map(name));
            }
            Step::Objects { of, objects, also } => {
                let data = |value: Option<u8>| value.and_then(|value| self.value(value));
                let some = objects.iter().map(|(oid, value)| PendingObject {
                    oid: Oid(u64::from(*oid)),
                    data: data(*value).map_or(ObjectData::Deleted, ObjectData::Value),
                });
                let more = (0..u64::from(*also)).map(|n| PendingObject {
                    oid: Oid(5 + n),
                    data: ObjectData::SameAs(Tid(n)),
                });
                let objects = some.chain(more).collect();
                let txn = name(*of);
                self.ops
                    .push(WriteOp::PutUnfinishedObjects { txn, objects });
            }
            Step::Vote { of, objects } => {
                let txn = name(*of);
                let objects = objects.iter().map(|oid| PendingObject {
                    oid: Oid(u64::from(*oid)),
                    data: ObjectData::Value(self.put(Some(txn))),
                });
                let objects = objects.collect();
                self.ops
                    .push(WriteOp::PutUnfinishedObjects { txn, objects });
            }
            Step::Record { of, user_bytes } => {
                let record = user_bytes.map(|bytes| (meta(bytes), vec![Oid(1), Oid(7)]).into());
                let txn = name(*of);
                self.ops.push(WriteOp::PutUnfinished { txn, record });
            }
            Step::Lock { of } => {
                let (txn, tid) = (name(*of), Tid(self.next()));
                self.ops.push(WriteOp::LockUnfinished { txn, tid });
            }
            Step::Drop { of } => self.ops.push(WriteOp::DropUnfinished { txn: name(*of) }),
            Step::Delete { value } => {
                let ids: Vec<_> = self.value(*value).into_iter().collect();
                self.values.retain(|id| !ids.contains(id));
                self.ops.push(WriteOp::DeleteData { ids });
            }
            Step::Move { value } => {
                let Some(value) = self.value(*value) else {
                    return;
                };
                self.values.remove(&value);
                let (tid, oid) = (Tid(self.next()), Oid(1));
                self.ops.push(WriteOp::PutObject {
                    partition: P,
                    id: RevisionId { tid, oid },
                    data: ObjectData::Value(value),
                });
            }
            Step::Finish { of, seconds } => {
                self.finished += 1 + u64::from(*seconds) * ((1 << 32) / 60);
                let record = TransactionRecord {
                    tid: Tid(self.finished),
                    txn: Some(name(*of)),
                    meta: meta(3),
                    oids: Vec::new(),
                    packed: false,
                    pack: None,
                };
                self.ops.push(WriteOp::PutTransaction {
                    partition: P,
                    record,
                });
            }
            Step::Apply | Step::Fail | Step::Reopen => {}
        }
    }
}

fn name(n: u8) -> TxnId {
    let n = u64::from(n);
    TxnId {
        reign: Reign(1 + n / 3),
        ttid: Tid(100 - n),
    }
}

fn meta(bytes: u16) -> TransactionMeta {
    TransactionMeta {
        user: Bytes::from(vec![b'u'; usize::from(bytes)]),
        description: Bytes::from_static(b"it is described"),
        extension: Bytes::new(),
    }
}

/// All that can be asked about unfinished transactions, page by page.
fn told(backend: &dyn StorageBackend, page: usize) -> String {
    let mut told = format!("{:?}\n", ready(backend.next_data_id()).unwrap());
    let mut after = None;
    loop {
        let page = ready(backend.unfinished(after, page)).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.txn);
        for unfinished in page {
            told += &format!("{unfinished:?}\n");
        }
    }
    let mut after = None;
    loop {
        let page = ready(backend.loose_data(after, page)).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(*last);
        told += &format!("loose {page:?}\n");
    }
    for txn in (0..NAMES).map(name) {
        let all = ready(backend.unfinished_objects(txn, None, usize::MAX)).unwrap();
        let some = ready(backend.unfinished_objects(txn, Some(Oid(2)), 1 + page)).unwrap();
        let tid = ready(backend.final_tid(P, txn)).unwrap();
        told += &format!("{txn:?}: {tid:?} {all:?} {some:?}\n");
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn unfinished_transactions_are_as_in_memory(
        steps in prop::collection::vec(step(), 1..80),
        page in 1..10_usize,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = SqliteSettings::new(directory.path().join("db"));
        settings.synchronous = Synchronous::Off;
        settings.reserve_bytes = 0;
        settings.quick_check_bytes_max = 0;
        let open = || SqliteBackend::open_inline(&settings).unwrap();
        let mut sqlite = Some(open());
        let memory = KvBackend::inline(MemoryEngine::default(), BackendInfo::new("memory", false));
        let mut batch = Batch::default();
        let mut values = BTreeSet::new();
        for step in &steps {
            batch.step(step);
            if !matches!(step, Step::Apply | Step::Fail | Step::Reopen) {
                continue;
            }
            let mut ops = std::mem::take(&mut batch.ops);
            if matches!(step, Step::Fail) {
                ops.push(WriteOp::PutObject {
                    partition: P,
                    id: RevisionId { tid: Tid(1), oid: Oid(2) },
                    data: ObjectData::SameAs(Tid(1)),
                });
                batch.values.clone_from(&values);
            }
            values.clone_from(&batch.values);
            let write = |backend: &dyn StorageBackend| {
                let ops = WriteBatch::from(ops.clone());
                ready(backend.apply(ops, Durability::Buffered)).is_ok()
            };
            let backend = sqlite.as_ref().unwrap();
            prop_assert_eq!(write(backend), !matches!(step, Step::Fail));
            write(&memory);
            if matches!(step, Step::Reopen) {
                drop(sqlite.take());
                sqlite = Some(open());
            }
            let backend = sqlite.as_ref().unwrap();
            prop_assert_eq!(told(backend, page), told(&memory, page), "after {:?}", ops);
        }
    }
}
