//! Any writes: few ids, so that they meet.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use neo_api::{
    Cell, CellChange, CellState, Compression, DataId, NodeId, NodeType, ObjectData, Oid, PackOrder,
    Partition, PartitionTable, Partitioning, Ptid, Record, Reign, RevisionId, TableVersion, Tid,
    TransactionRecord, TxnId, VotedRecord, WriteBatch, WriteOp,
};
use proptest::prelude::*;

use super::super::tools::{id, meta, pend, txn};

pub(super) const OIDS: Range<u64> = 0..6;
/// Reigns and ttids.
pub(super) const TXNS: [(u64, u64); 6] = [(1, 10), (1, 11), (1, 12), (2, 10), (2, 11), (2, 13)];

/// Of an oid or ttid.
pub(super) const fn partition_of(n: u64) -> Partition {
    Partition((n % 2) as u32)
}

/// An operation, before it is known which values there are.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Config(bool, Option<u8>),
    Table(u32),
    Cells(Vec<(u32, u32, CellState)>),
    /// A value of its own, for nobody.
    Store(RevisionId),
    /// The same value for two revisions.
    Twice(RevisionId),
    /// A loose value.
    Loose(TxnId),
    /// The n-th of the values that are loose becomes a revision's.
    Claim(usize, RevisionId),
    /// The n-th of them is removed.
    Discard(usize),
    Same(RevisionId, Tid),
    Deleted(RevisionId),
    DeleteObject(RevisionId),
    Vote(TxnId, bool),
    Pend(TxnId, Vec<(u64, u64)>),
    Lock(TxnId, Tid),
    Drop(TxnId),
    Transaction(Tid, Option<TxnId>),
    DeleteTransaction(Tid),
}

pub(super) fn batch() -> impl Strategy<Value = Vec<Write>> {
    prop::collection::vec(write(), 0..7)
}

fn write() -> impl Strategy<Value = Write> {
    let tid = || (1..14u64).prop_map(|n| Tid(n * 5));
    let rev = move || (tid(), OIDS).prop_map(|(tid, oid)| id(tid.0, oid));
    let name = || prop::sample::select(&TXNS[..]).prop_map(|(reign, ttid)| txn(reign, ttid));
    let state = prop::sample::select(CellState::ALL);
    let cells = prop::collection::vec((0..4u32, 1..4u32, state), 0..4);
    let objects = prop::collection::vec((OIDS, 0..9u64), 0..8);
    prop_oneof![
        1 => (any::<bool>(), any::<Option<u8>>()).prop_map(|(key, v)| Write::Config(key, v)),
        1 => (1..4u32).prop_map(Write::Table),
        1 => cells.prop_map(Write::Cells),
        6 => rev().prop_map(Write::Store),
        2 => rev().prop_map(Write::Twice),
        4 => name().prop_map(Write::Loose),
        4 => (0..9usize, rev()).prop_map(|(n, rev)| Write::Claim(n, rev)),
        1 => (0..9usize).prop_map(Write::Discard),
        5 => (rev(), tid()).prop_map(|(rev, of)| Write::Same(rev, of)),
        2 => rev().prop_map(Write::Deleted),
        5 => rev().prop_map(Write::DeleteObject),
        2 => (name(), any::<bool>()).prop_map(|(txn, with)| Write::Vote(txn, with)),
        2 => (name(), objects).prop_map(|(txn, objects)| Write::Pend(txn, objects)),
        2 => (name(), tid()).prop_map(|(txn, tid)| Write::Lock(txn, tid)),
        1 => name().prop_map(Write::Drop),
        2 => (tid(), prop::option::of(name())).prop_map(|(tid, txn)| Write::Transaction(tid, txn)),
        1 => tid().prop_map(Write::DeleteTransaction),
    ]
}

/// Makes operations of writes: no value has the id, and no transaction the name, of another one.
#[derive(Debug, Default)]
pub(super) struct Translator {
    last_id: u64,
    names: BTreeSet<TxnId>,
}

impl Translator {
    /// A batch, for a database where these values are loose.
    pub(super) fn batch(&mut self, writes: Vec<Write>, mut loose: Vec<DataId>) -> WriteBatch {
        let ops = writes.into_iter();
        let ops = ops.flat_map(|write| self.op(write, &mut loose));
        ops.collect::<Vec<WriteOp>>().into()
    }

    /// A new value: of every third one the bytes are not those of its checksum.
    fn value(&mut self, owner: Option<TxnId>) -> (DataId, WriteOp) {
        self.last_id += 1;
        let id = DataId(self.last_id);
        let mut record = Record::raw(Bytes::from(format!("value {}", id.0)));
        if id.0.is_multiple_of(3) {
            record.compression = Compression::Zlib;
            record.checksum.0[0] ^= 1;
        }
        (id, WriteOp::PutData { id, owner, record })
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
                let partitioning = Partitioning::new(np).expect("a small number of partitions");
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
            Write::Store(rev) => {
                let (id, data) = self.value(None);
                return vec![data, put(rev, ObjectData::Value(id))];
            }
            Write::Twice(rev) => {
                let (id, data) = self.value(None);
                let later = RevisionId {
                    tid: Tid(rev.tid.0 + 5),
                    ..rev
                };
                let value = ObjectData::Value(id);
                return vec![data, put(rev, value), put(later, value)];
            }
            Write::Loose(txn) => self.value(Some(txn)).1,
            Write::Claim(n, rev) if n < loose.len() => put(rev, ObjectData::Value(loose.remove(n))),
            Write::Discard(n) if n < loose.len() => WriteOp::DeleteData {
                ids: vec![loose.remove(n)],
            },
            Write::Claim(..) | Write::Discard(_) => return Vec::new(),
            Write::Same(rev, of) => put(rev, ObjectData::SameAs(of)),
            Write::Deleted(rev) => put(rev, ObjectData::Deleted),
            Write::DeleteObject(id) => WriteOp::DeleteObject {
                partition: partition_of(id.oid.0),
                id,
            },
            Write::Vote(txn, with) => {
                let record = with.then(|| voted(txn));
                WriteOp::PutUnfinished { txn, record }
            }
            Write::Pend(txn, objects) => {
                let objects: Vec<_> = objects.into_iter().map(pending).collect();
                pend(txn, &objects)
            }
            Write::Lock(txn, tid) => WriteOp::LockUnfinished { txn, tid },
            Write::Drop(txn) => WriteOp::DropUnfinished { txn },
            Write::Transaction(tid, txn) => self.transaction(tid, txn),
            Write::DeleteTransaction(tid) => WriteOp::DeleteTransaction {
                partition: partition_of(tid.0),
                tid,
            },
        }]
    }

    fn transaction(&mut self, tid: Tid, txn: Option<TxnId>) -> WriteOp {
        let partition = partition_of(tid.0);
        // A transaction is where its ttid is.
        let txn = txn.filter(|txn| partition_of(txn.ttid.0) == partition);
        let record = TransactionRecord {
            tid,
            txn: txn.filter(|txn| self.names.insert(*txn)),
            meta: meta(&format!("user {}", tid.0)),
            oids: vec![Oid(tid.0 % 3), Oid(1)],
            packed: tid.0.is_multiple_of(2),
            pack: order(tid.0),
        };
        WriteOp::PutTransaction { partition, record }
    }
}

const fn put(id: RevisionId, data: ObjectData) -> WriteOp {
    WriteOp::PutObject {
        partition: partition_of(id.oid.0),
        id,
        data,
    }
}

fn voted(txn: TxnId) -> VotedRecord {
    VotedRecord {
        meta: meta(&format!("user {}", txn.ttid.0)),
        oids: vec![Oid(1), Oid(2)],
        packed: txn.ttid.0.is_multiple_of(5),
        pack: order(txn.ttid.0),
    }
}

/// What some transactions order.
fn order(n: u64) -> Option<PackOrder> {
    let at = Tid(n / 2);
    let oids = n.is_multiple_of(2).then(|| vec![Oid(1), Oid(n)]);
    n.is_multiple_of(3).then_some(PackOrder { at, oids })
}

fn change(version: TableVersion, (partition, n, state): (u32, u32, CellState)) -> CellChange {
    let nid = NodeId::new(NodeType::Storage, n).expect("a small number of a node");
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
