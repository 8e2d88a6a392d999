//! Two backends that share no code answer alike, after any sequence of writes.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeSet;

use bytes::Bytes;
use neo_api::{
    BackendInfo, Cell, CellChange, CellState, DataId, Durability, NodeId, NodeType, ObjectData,
    Partition, PartitionTable, Partitioning, Ptid, Reign, StorageBackend, TableVersion, Tid, TxnId,
    WriteBatch, WriteOp,
};
use neo_backends::{KvBackend, MemoryEngine, SqliteBackend, SqliteSettings, Synchronous};
use proptest::prelude::*;

#[path = "support/dump.rs"]
mod dump;
#[path = "support/ops.rs"]
mod ops;

/// An operation, before it is known which values there are.
#[derive(Debug, Clone)]
enum Write {
    Config(bool, Option<u8>),
    Table(u32),
    Cells(Vec<(u32, u32, CellState)>),
    /// A value of its own, for nobody.
    Store {
        tid: u64,
        oid: u64,
    },
    /// The same value for two revisions.
    Twice {
        tid: u64,
        oid: u64,
    },
    /// A loose value.
    Loose(TxnId),
    /// The n-th of the values that are loose becomes a revision's.
    Claim {
        n: usize,
        tid: u64,
        oid: u64,
    },
    /// The n-th of them is removed.
    Discard(usize),
    Same {
        tid: u64,
        oid: u64,
        of: u64,
    },
    Deleted {
        tid: u64,
        oid: u64,
    },
    DeleteObject {
        tid: u64,
        oid: u64,
    },
    Vote(TxnId, bool),
    Pend(TxnId, Vec<(u64, u64)>),
    Lock(TxnId, u64),
    Drop(TxnId),
    Transaction(u64, Option<TxnId>),
    DeleteTransaction(u64),
}

fn write() -> impl Strategy<Value = Write> {
    let tid = || (1..14u64).prop_map(|n| n * 5);
    let oid = || 0..6u64;
    let txn = || (1..3u64, 10..14u64).prop_map(|(reign, ttid)| ops::txn(reign, ttid));
    let state = prop::sample::select(CellState::ALL);
    let cells = prop::collection::vec((0..4u32, 1..4u32, state), 0..4);
    let objects = prop::collection::vec((oid(), 0..9u64), 0..8);
    prop_oneof![
        1 => (any::<bool>(), any::<Option<u8>>()).prop_map(|(key, v)| Write::Config(key, v)),
        1 => (1..4u32).prop_map(Write::Table),
        1 => cells.prop_map(Write::Cells),
        6 => (tid(), oid()).prop_map(|(tid, oid)| Write::Store { tid, oid }),
        2 => (tid(), oid()).prop_map(|(tid, oid)| Write::Twice { tid, oid }),
        4 => txn().prop_map(Write::Loose),
        4 => (0..9usize, tid(), oid()).prop_map(|(n, tid, oid)| Write::Claim { n, tid, oid }),
        1 => (0..9usize).prop_map(Write::Discard),
        5 => (tid(), oid(), tid()).prop_map(|(tid, oid, of)| Write::Same { tid, oid, of }),
        2 => (tid(), oid()).prop_map(|(tid, oid)| Write::Deleted { tid, oid }),
        5 => (tid(), oid()).prop_map(|(tid, oid)| Write::DeleteObject { tid, oid }),
        2 => (txn(), any::<bool>()).prop_map(|(txn, with)| Write::Vote(txn, with)),
        2 => (txn(), objects).prop_map(|(txn, objects)| Write::Pend(txn, objects)),
        2 => (txn(), tid()).prop_map(|(txn, tid)| Write::Lock(txn, tid)),
        1 => txn().prop_map(Write::Drop),
        2 => (tid(), prop::option::of(txn())).prop_map(|(tid, txn)| Write::Transaction(tid, txn)),
        1 => tid().prop_map(Write::DeleteTransaction),
    ]
}

/// Gives values their ids.
#[derive(Default)]
struct Translator {
    last_id: u64,
    /// Name of each transaction that is committed: no two have the same.
    names: BTreeSet<TxnId>,
}

impl Translator {
    fn batch(&mut self, writes: Vec<Write>, mut loose: Vec<DataId>) -> Vec<WriteOp> {
        writes
            .into_iter()
            .flat_map(|write| self.op(write, &mut loose))
            .collect()
    }

    fn value(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn op(&mut self, write: Write, loose: &mut Vec<DataId>) -> Vec<WriteOp> {
        let version = TableVersion {
            reign: Reign(1),
            ptid: Ptid(self.last_id),
        };
        vec![match write {
            Write::Config(key, value) => WriteOp::SetConfig {
                key: if key { "a" } else { "b" }.to_owned(),
                value: value.map(|n| Bytes::from(vec![n; 3])),
            },
            Write::Table(np) => {
                let partitioning = Partitioning::new(np).unwrap();
                WriteOp::SetPartitionTable(PartitionTable::empty(partitioning, np))
            }
            Write::Cells(cells) => WriteOp::ChangeCells {
                version,
                replicas: 1,
                changes: cells
                    .into_iter()
                    .map(|cell| change(version, cell))
                    .collect(),
            },
            Write::Store { tid, oid } => {
                let id = self.value();
                return ops::store(id, tid, oid, &format!("value {id}"));
            }
            Write::Twice { tid, oid } => {
                let id = self.value();
                let mut both = ops::store(id, tid, oid, &format!("value {id}"));
                both.push(ops::object(tid + 5, oid, ObjectData::Value(DataId(id))));
                return both;
            }
            Write::Loose(txn) => {
                let id = self.value();
                ops::data(id, Some(txn), &format!("value {id}"))
            }
            Write::Claim { n, tid, oid } if n < loose.len() => {
                ops::object(tid, oid, ObjectData::Value(loose.remove(n)))
            }
            Write::Discard(n) if n < loose.len() => WriteOp::DeleteData {
                ids: vec![loose.remove(n)],
            },
            Write::Claim { .. } | Write::Discard(_) => return Vec::new(),
            Write::Same { tid, oid, of } => ops::object(tid, oid, ObjectData::SameAs(Tid(of))),
            Write::Deleted { tid, oid } => ops::object(tid, oid, ObjectData::Deleted),
            Write::DeleteObject { tid, oid } => ops::delete(tid, oid),
            Write::Vote(txn, true) => ops::vote(txn),
            Write::Vote(txn, false) => WriteOp::PutUnfinished { txn, record: None },
            Write::Pend(txn, objects) => {
                let objects: Vec<_> = objects.into_iter().map(pending).collect();
                ops::pend(txn, &objects)
            }
            Write::Lock(txn, tid) => WriteOp::LockUnfinished { txn, tid: Tid(tid) },
            Write::Drop(txn) => WriteOp::DropUnfinished { txn },
            Write::Transaction(tid, txn) => {
                ops::transaction(tid, txn.filter(|txn| self.names.insert(*txn)))
            }
            Write::DeleteTransaction(tid) => WriteOp::DeleteTransaction {
                partition: ops::P,
                tid: Tid(tid),
            },
        }]
    }
}

fn change(version: TableVersion, (partition, n, state): (u32, u32, CellState)) -> CellChange {
    let nid = NodeId::new(NodeType::Storage, n).unwrap();
    let cell = Cell {
        nid,
        state,
        assigned: version,
    };
    CellChange {
        partition: Partition(partition),
        cell,
    }
}

const fn pending((oid, n): (u64, u64)) -> (u64, ObjectData) {
    let data = match n % 3 {
        0 => ObjectData::Deleted,
        1 => ObjectData::Value(DataId(n)),
        _ => ObjectData::SameAs(Tid(n)),
    };
    (oid, data)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_key_value_store_and_sql_answer_alike(
        batches in prop::collection::vec(prop::collection::vec(write(), 0..7), 1..14),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = SqliteSettings::new(directory.path().join("db"));
        settings.synchronous = Synchronous::Off;
        let sql = SqliteBackend::open_inline(&settings).unwrap();
        let kv = KvBackend::inline(MemoryEngine::default(), BackendInfo::new("Memory", false));
        let mut translator = Translator::default();
        for writes in batches {
            let loose = dump::ready(kv.loose_data(None, 1000)).unwrap();
            let ops = translator.batch(writes, loose.into_iter().map(|(_, id)| id).collect());
            let shown = format!("{ops:#?}");
            let batch = WriteBatch::from(ops);
            let a = dump::ready(kv.apply(batch.clone(), Durability::Synced));
            let b = dump::ready(sql.apply(batch, Durability::Buffered));
            let told = |result: neo_api::BackendResult<()>| result.map_err(|e| e.to_string());
            prop_assert_eq!(told(a), told(b), "{}", shown);
            prop_assert_eq!(dump::dump(&kv), dump::dump(&sql), "{}", shown);
        }
    }
}
