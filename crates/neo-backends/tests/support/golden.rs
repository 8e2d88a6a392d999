//! What databases in the golden files have, and what is seen of it.

use bytes::Bytes;
use neo_api::{
    At, Cell, CellState, DataId, Durability, NodeId, ObjectData, Oid, PageLimit, Partition,
    PartitionTable, PendingObject, Ptid, Record, Reign, RevisionId, StorageBackend, TableVersion,
    Tid, TransactionMeta, TransactionRecord, TxnId, WriteBatch, WriteOp,
};

pub(crate) fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn txn(ttid: u64) -> TxnId {
    TxnId {
        reign: Reign(3),
        ttid: Tid(ttid),
    }
}

fn meta(user: &str) -> TransactionMeta {
    TransactionMeta {
        user: Bytes::copy_from_slice(user.as_bytes()),
        description: Bytes::from_static(b"golden"),
        extension: Bytes::new(),
    }
}

pub(crate) fn put(id: u64, owner: Option<TxnId>, value: &'static [u8]) -> WriteOp {
    WriteOp::PutData {
        id: DataId(id),
        owner,
        record: Record::raw(Bytes::from_static(value)),
    }
}

pub(crate) fn object(oid: u64, tid: u64, data: ObjectData) -> WriteOp {
    WriteOp::PutObject {
        partition: Partition((oid % 2) as u32),
        id: RevisionId {
            tid: Tid(tid),
            oid: Oid(oid),
        },
        data,
    }
}

fn transaction(tid: u64, ttid: Option<u64>, oids: &[u64]) -> WriteOp {
    WriteOp::PutTransaction {
        partition: Partition((tid % 2) as u32),
        record: TransactionRecord {
            tid: Tid(tid),
            txn: ttid.map(txn),
            meta: meta("somebody"),
            oids: oids.iter().copied().map(Oid).collect(),
            packed: ttid.is_none(),
            pack: None,
        },
    }
}

fn table() -> PartitionTable {
    let version = TableVersion {
        reign: Reign(3),
        ptid: Ptid(2),
    };
    let cell = Cell {
        nid: "S1".parse::<NodeId>().unwrap(),
        state: CellState::UpToDate,
        assigned: version,
    };
    PartitionTable {
        version,
        replicas: 0,
        last_storage: 0,
        rows: vec![vec![cell], vec![cell]],
    }
}

/// Everything that a database can have: revisions of all kinds, transactions, one that is locked,
/// one that has voted, a value of one that has not, configuration and table.
pub(crate) fn fill(backend: &dyn StorageBackend) {
    let apply = |ops: Vec<WriteOp>| {
        run(backend.apply(WriteBatch::from(ops), Durability::Synced)).unwrap();
    };
    apply(vec![
        WriteOp::SetConfig {
            key: "cluster".to_owned(),
            value: Some(Bytes::from_static(b"golden")),
        },
        WriteOp::SetPartitionTable(table()),
    ]);
    apply(vec![
        put(1, None, b"one"),
        put(2, None, b"two"),
        object(1, 10, ObjectData::Value(DataId(1))),
        object(2, 10, ObjectData::Value(DataId(2))),
        transaction(10, None, &[1, 2]),
        object(1, 20, ObjectData::Deleted),
        object(2, 20, ObjectData::SameAs(Tid(10))),
        transaction(20, Some(18), &[1, 2]),
    ]);
    for (ttid, value) in [(30, &b"locked"[..]), (32, b"voted")] {
        let oid = Oid(ttid);
        apply(vec![
            put(ttid, Some(txn(ttid)), value),
            WriteOp::PutUnfinishedObjects {
                txn: txn(ttid),
                objects: vec![PendingObject {
                    oid,
                    data: ObjectData::Value(DataId(ttid)),
                }],
            },
            WriteOp::PutUnfinished {
                txn: txn(ttid),
                record: Some((meta("unfinished"), vec![oid]).into()),
            },
        ]);
    }
    apply(vec![WriteOp::LockUnfinished {
        txn: txn(30),
        tid: Tid(40),
    }]);
    apply(vec![put(50, Some(txn(50)), b"loose")]);
}

/// What a database has, in lines.
pub(crate) fn contents(backend: &dyn StorageBackend) -> String {
    let mut lines = Vec::new();
    let mut add =
        |what: &str, entry: &dyn std::fmt::Debug| lines.push(format!("{what}: {entry:?}"));
    add("config", &run(backend.config("cluster")).unwrap());
    add("table", &run(backend.partition_table()).unwrap());
    let all = PageLimit::entries(100);
    let first = RevisionId {
        tid: Tid::ZERO,
        oid: Oid::ZERO,
    };
    for partition in [Partition(0), Partition(1)] {
        for entry in run(backend.transactions(
            partition,
            Tid::ZERO,
            Tid::MAX,
            neo_api::Order::Ascending,
            all,
        ))
        .unwrap()
        {
            add("transaction", &entry);
        }
        for entry in run(backend.fetch(partition, first, Tid::MAX, all)).unwrap() {
            add("revision", &entry);
        }
        add("last ids", &run(backend.last_ids(partition)).unwrap());
    }
    add(
        "newest",
        &run(backend.load(Partition(0), Oid(2), At::Latest)).unwrap(),
    );
    add(
        "final tid",
        &run(backend.final_tid(Partition(0), txn(18))).unwrap(),
    );
    for entry in run(backend.unfinished(None, 100)).unwrap() {
        add("unfinished", &entry);
        let objects = run(backend.unfinished_objects(entry.txn, None, 100)).unwrap();
        add("its objects", &objects);
    }
    add("loose", &run(backend.loose_data(None, 100)).unwrap());
    add("next data id", &run(backend.next_data_id()).unwrap());
    lines.join("\n")
}
