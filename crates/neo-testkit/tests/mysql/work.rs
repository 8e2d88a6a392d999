//! Batches whose traces can be counted.

use std::sync::Arc;

use bytes::Bytes;
use neo_api::{
    At, BackendResult, DataId, Durability, Loaded, ObjectData, Oid, Partition, Record, RevisionId,
    StorageBackend, Tid, TransactionMeta, TransactionRecord, WriteOp,
};

pub(crate) const ENGINES: [&str; 2] = ["InnoDB", "RocksDB"];

const PARTITION: Partition = Partition(0);
const OID: Oid = Oid(1);

pub(crate) fn run<R>(future: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

pub(crate) fn open(database: &str) -> BackendResult<Arc<dyn StorageBackend>> {
    neo_backends::open("MySQL", database)
}

pub(crate) fn refusal(database: &str) -> String {
    match open(database) {
        Ok(_) => panic!("{database} is opened"),
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", source.unwrap_or_default())
        }
    }
}

pub(crate) fn apply(backend: &dyn StorageBackend, ops: Vec<WriteOp>) -> BackendResult<()> {
    run(backend.apply(ops.into(), Durability::Synced))
}

fn id(tid: u64) -> RevisionId {
    RevisionId {
        tid: Tid(tid),
        oid: OID,
    }
}

pub(crate) fn put(tid: u64, value: Vec<u8>) -> Vec<WriteOp> {
    vec![
        WriteOp::PutData {
            id: DataId(tid),
            owner: None,
            record: Record::raw(value.into()),
        },
        WriteOp::PutObject {
            partition: PARTITION,
            id: id(tid),
            data: ObjectData::Value(DataId(tid)),
        },
    ]
}

/// The n-th of a series of batches, none of which can be applied twice, or without the one before:
/// the only revision of an object goes on to the next tid. The first is 1.
pub(crate) fn step(n: u64) -> Vec<WriteOp> {
    let mut ops = if n == 1 {
        put(1, b"value".to_vec())
    } else {
        let repeated = WriteOp::PutObject {
            partition: PARTITION,
            id: id(n),
            data: ObjectData::SameAs(Tid(n - 1)),
        };
        let gone = WriteOp::DeleteObject {
            partition: PARTITION,
            id: id(n - 1),
        };
        vec![repeated, gone]
    };
    ops.push(WriteOp::PutTransaction {
        partition: PARTITION,
        record: TransactionRecord {
            tid: Tid(n),
            txn: None,
            meta: TransactionMeta::default(),
            oids: vec![OID],
            packed: false,
            pack: None,
        },
    });
    ops
}

/// How many steps there are: all of them are.
pub(crate) fn steps(backend: &dyn StorageBackend) -> u64 {
    let all = neo_api::PageLimit::entries(100_000);
    let order = neo_api::Order::Ascending;
    let found = run(backend.transactions(PARTITION, Tid(0), Tid::MAX, order, all)).unwrap();
    let tids: Vec<u64> = found.iter().map(|record| record.tid.0).collect();
    let count = tids.len() as u64;
    assert_eq!(tids, (1..=count).collect::<Vec<_>>());
    if count > 0 {
        match load(backend, At::Latest) {
            Loaded::Found(revision) => {
                assert_eq!(revision.serial, Tid(count));
                assert_eq!(revision.record.data, Bytes::from_static(b"value"));
            }
            other => panic!("{other:?}"),
        }
        let history = run(backend.history(PARTITION, OID, Tid::MAX, 10)).unwrap();
        assert_eq!(history.len(), 1, "{history:?}");
    }
    count
}

pub(crate) fn load(backend: &dyn StorageBackend, at: At) -> Loaded {
    run(backend.load(PARTITION, OID, at)).unwrap()
}

pub(crate) fn close(backend: &dyn StorageBackend) {
    run(backend.close()).unwrap();
}
