//! Writes of committed data, configuration and the partition table.

use bytes::Bytes;
use neo_api::{
    At, BackendError, Cell, CellChange, CellState, DataId, Loaded, NodeId, NodeType, ObjectData,
    Oid, PageLimit, Partition, PartitionTable, Partitioning, PendingObject, Ptid, Record, Reign,
    TRANSACTION_OIDS_MAX, TableVersion, Tid, WriteOp,
};

use super::BackendFactory;
use super::tools::{
    Db, P0, P1, data, delete, meta, object, put_transaction, same, store, transaction, txn, value,
    vote, with,
};

/// A later operation of a batch sees what an earlier one did.
pub fn later_operations_see_earlier_ones<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let mut ops = Vec::from(store(10, 1, "a"));
        ops.push(object(20, 1, same(10)));
        ops.push(delete(10, 1));
        ops.extend(store(10, 2, "b"));
        ops.push(delete(10, 2));
        ops.extend(store(10, 2, "c"));
        ops.push(put_transaction(transaction(10, Some(txn(1, 5)))));
        ops.push(WriteOp::DeleteTransaction {
            partition: P0,
            tid: Tid(10),
        });
        ops.push(WriteOp::SetConfig {
            key: "k".into(),
            value: Some(Bytes::from_static(b"1")),
        });
        ops.push(WriteOp::SetConfig {
            key: "k".into(),
            value: Some(Bytes::from_static(b"2")),
        });
        ops.push(vote(txn(1, 6), "u"));
        ops.push(WriteOp::LockUnfinished {
            txn: txn(1, 6),
            tid: Tid(60),
        });
        ops.push(vote(txn(1, 7), "u"));
        ops.push(WriteOp::DropUnfinished { txn: txn(1, 7) });
        ops.push(super::tools::loose(5000, txn(1, 8), "d"));
        ops.push(object(10, 3, value(5000)));
        db.apply(ops).await;
        assert_eq!(db.see(1, At::Latest).await, "20.. a");
        assert_eq!(db.see(1, At::Before(Tid(20))).await, "not yet");
        assert_eq!(db.see(2, At::Latest).await, "10.. c");
        assert_eq!(db.see(3, At::Latest).await, "10.. d");
        assert_eq!(db.0.transaction(P0, Tid(10)).await.expect("reads"), None);
        assert_eq!(db.0.final_tid(P0, txn(1, 5)).await.expect("reads"), None);
        let config = db.0.config("k").await.expect("reads");
        assert_eq!(config, Some(Bytes::from_static(b"2")));
        assert_eq!(db.unfinished().await, "1/6=60(u:2)");
        assert_eq!(db.loose().await, []);
    });
}

/// A repetition of what is not there is `Missing`, and nothing of its batch remains.
pub fn a_batch_that_fails_has_no_effect<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "a").into()).await;
        for missing in [
            object(20, 1, same(11)),
            object(20, 2, same(10)),
            object(20, 1, same(20)),
        ] {
            let mut ops = Vec::from(store(15, 1, "b"));
            ops.push(vote(txn(1, 1), "u"));
            ops.push(super::tools::loose(7000, txn(1, 1), "l"));
            ops.push(delete(10, 1));
            ops.push(missing);
            ops.push(put_transaction(transaction(15, None)));
            let error = db.try_apply(ops).await.expect_err("a revision is missing");
            assert!(matches!(error, BackendError::Missing { .. }), "{error}");
            assert_eq!(db.see(1, At::Latest).await, "10.. a");
            assert_eq!(db.see(2, At::Latest).await, "unknown");
            assert_eq!(db.unfinished().await, "");
            assert_eq!(db.loose().await, []);
            assert_eq!(db.0.transaction(P0, Tid(15)).await.expect("reads"), None);
        }
        db.apply(store(30, 1, "c").into()).await;
        assert_eq!(db.see(1, At::Latest).await, "30.. c");
    });
}

/// Repeating a repetition gives the first value, and the revision that was named as its source.
pub fn repeating_a_repetition<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "a").into()).await;
        db.apply(store(20, 1, "b").into()).await;
        db.apply(vec![object(30, 1, same(10))]).await;
        db.apply(vec![object(40, 1, same(30))]).await;
        assert_eq!(db.see(1, At::Latest).await, "40.. a of 30");
        assert_eq!(db.see(1, At::Exact(Tid(30))).await, "30..40 a of 10");
        db.apply(vec![object(50, 1, same(20)), object(60, 1, same(50))])
            .await;
        assert_eq!(db.see(1, At::Latest).await, "60.. b of 50");
    });
}

/// Repeating a deletion deletes, and names the deletion as its source, as with a value.
pub fn repeating_a_deletion<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(vec![object(10, 1, ObjectData::Deleted)]).await;
        db.apply(store(20, 1, "b").into()).await;
        db.apply(vec![object(30, 1, same(10))]).await;
        assert_eq!(db.see(1, At::Latest).await, "30.. deleted");
        assert_eq!(db.see(1, At::Before(Tid(30))).await, "20..30 b");
        db.apply(vec![object(40, 1, same(30)), object(40, 1, same(30))])
            .await;
        let first = super::tools::id(0, 0);
        assert_eq!(
            db.fetch(first, 99, PageLimit::entries(10)).await,
            [
                "10/1 deleted",
                "20/1 b",
                "30/1 deleted of 10",
                "40/1 deleted of 30",
            ]
        );
        // A value takes the place of the whole revision.
        db.apply(store(40, 1, "c").into()).await;
        assert_eq!(db.see(1, At::Latest).await, "40.. c");
        db.apply(vec![object(30, 1, ObjectData::Deleted)]).await;
        let of_two = db.fetch(super::tools::id(30, 0), 99, PageLimit::entries(10));
        assert_eq!(of_two.await, ["30/1 deleted", "40/1 c"]);
    });
}

/// The same revision may be put again, as after an interruption.
pub fn an_object_put_twice<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "a").into()).await;
        let again = object(10, 1, value(1001));
        db.apply(vec![again.clone()]).await;
        db.apply(vec![again.clone(), again]).await;
        assert_eq!(db.see(1, At::Latest).await, "10.. a");
        let repeated = object(20, 1, same(10));
        db.apply(vec![repeated.clone()]).await;
        db.apply(vec![repeated]).await;
        assert_eq!(db.see(1, At::Latest).await, "20.. a of 10");
        let deleted = object(30, 1, ObjectData::Deleted);
        db.apply(vec![deleted.clone(), deleted]).await;
        let ids =
            db.0.revisions(P0, super::tools::id(0, 0), Tid::MAX, 10)
                .await;
        assert_eq!(ids.expect("lists").len(), 3);
        // Once put twice, it still goes away at once.
        db.apply(vec![delete(20, 1), delete(10, 1)]).await;
        assert_eq!(db.see(1, At::Before(Tid(30))).await, "not yet");
    });
}

/// A revision that is put with another value has that one, and only that.
pub fn an_object_put_anew_has_the_new_value<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "a").into()).await;
        db.apply(vec![data(1, "b"), object(10, 1, value(1))]).await;
        assert_eq!(db.see(1, At::Latest).await, "10.. b");
        db.apply(vec![object(10, 1, ObjectData::Deleted)]).await;
        assert_eq!(db.see(1, At::Latest).await, "10.. deleted");
        db.apply(vec![data(2, "c"), object(10, 1, value(2))]).await;
        assert_eq!(db.see(1, At::Latest).await, "10.. c");
        db.apply(vec![object(20, 1, same(10))]).await;
        db.apply(vec![data(3, "d"), object(10, 1, value(3))]).await;
        assert_eq!(db.see(1, At::Latest).await, "20.. c of 10");
        assert_eq!(db.see(1, At::Before(Tid(20))).await, "10..20 d");
    });
}

/// A value goes with the last revision that has it, not before.
pub fn deleting_keeps_a_shared_value<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "a").into()).await;
        db.apply(store(20, 1, "b").into()).await;
        db.apply(vec![object(30, 1, same(10))]).await;
        db.apply(vec![object(40, 1, same(30))]).await;
        db.apply(vec![delete(10, 1)]).await;
        assert_eq!(db.see(1, At::Before(Tid(20))).await, "not yet");
        assert_eq!(db.see(1, At::Exact(Tid(30))).await, "30..40 a");
        db.apply(vec![delete(40, 1)]).await;
        assert_eq!(db.see(1, At::Latest).await, "30.. a");
        db.apply(vec![delete(20, 1), delete(30, 1)]).await;
        assert_eq!(db.see(1, At::Latest).await, "unknown");
        // Without a repetition: one value for two revisions of an object.
        db.apply(vec![data(1, "c"), object(50, 2, value(1))]).await;
        db.apply(vec![object(60, 2, value(1))]).await;
        db.apply(vec![delete(50, 2)]).await;
        assert_eq!(db.see(2, At::Latest).await, "60.. c");
        db.apply(vec![
            data(2, "d"),
            object(70, 2, value(2)),
            object(80, 2, value(2)),
        ])
        .await;
        db.apply(vec![delete(80, 2)]).await;
        assert_eq!(db.see(2, At::Latest).await, "70.. d");
    });
}

/// Deleting what is not there is nothing.
pub fn deleting_what_is_not_there<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "a").into()).await;
        db.apply(vec![
            delete(11, 1),
            delete(10, 2),
            WriteOp::DeleteTransaction {
                partition: P0,
                tid: Tid(10),
            },
            WriteOp::DropUnfinished { txn: txn(1, 1) },
            WriteOp::DeleteData {
                ids: vec![DataId(5), DataId(6)],
            },
            WriteOp::SetConfig {
                key: "absent".into(),
                value: None,
            },
        ])
        .await;
        db.apply(Vec::new()).await;
        assert_eq!(db.see(1, At::Latest).await, "10.. a");
    });
}

/// The metadata of transactions come back as they were given.
pub fn transactions_are_put_replaced_deleted<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let read = async |partition, tid| {
            db.0.transaction(partition, Tid(tid))
                .await
                .expect("transactions are read")
        };
        let first = transaction(10, Some(txn(3, 9)));
        db.apply(vec![put_transaction(first.clone())]).await;
        assert_eq!(read(P0, 10).await, Some(first.clone()));
        assert_eq!(read(P0, 11).await, None);
        assert_eq!(read(P0, u64::MAX).await, None);
        assert_eq!(read(P1, 10).await, None);
        let mut second = transaction(10, None);
        (second.packed, second.oids) = (true, Vec::new());
        second.meta = neo_api::TransactionMeta::default();
        db.apply(vec![put_transaction(second.clone())]).await;
        assert_eq!(read(P0, 10).await, Some(second));
        db.apply(vec![WriteOp::DeleteTransaction {
            partition: P0,
            tid: Tid(10),
        }])
        .await;
        assert_eq!(read(P0, 10).await, None);
        let mut large = first;
        large.meta.extension = Bytes::from(vec![7; 1 << 20]);
        large.oids = (0..100_000).map(|n| Oid(n * 3)).collect();
        db.apply(vec![put_transaction(large.clone())]).await;
        assert!(read(P0, 10).await == Some(large));
    });
}

/// `final_tid` knows committed transactions by name, unless they are unfinished.
pub fn final_tid_by_name<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let ask = async |partition, txn| {
            db.0.final_tid(partition, txn)
                .await
                .expect("the final tid is told")
        };
        assert_eq!(ask(P0, txn(3, 9)).await, None);
        db.apply(vec![put_transaction(transaction(10, Some(txn(3, 9))))])
            .await;
        assert_eq!(ask(P0, txn(3, 9)).await, Some(Tid(10)));
        assert_eq!(ask(P1, txn(3, 9)).await, None);
        assert_eq!(ask(P0, txn(2, 9)).await, None);
        assert_eq!(ask(P0, txn(3, 8)).await, None);
        // The same transaction under another name: the old one is nobody's any more.
        db.apply(vec![put_transaction(transaction(10, Some(txn(4, 9))))])
            .await;
        assert_eq!(ask(P0, txn(3, 9)).await, None);
        assert_eq!(ask(P0, txn(4, 9)).await, Some(Tid(10)));
        // While its last row is there, it is unfinished.
        db.apply(vec![vote(txn(4, 9), "u")]).await;
        assert_eq!(ask(P0, txn(4, 9)).await, None);
        db.apply(vec![WriteOp::DropUnfinished { txn: txn(4, 9) }])
            .await;
        assert_eq!(ask(P0, txn(4, 9)).await, Some(Tid(10)));
        db.apply(vec![WriteOp::DeleteTransaction {
            partition: P0,
            tid: Tid(10),
        }])
        .await;
        assert_eq!(ask(P0, txn(4, 9)).await, None);
    });
}

/// Configuration is set, replaced and removed; an empty value is a value.
pub fn configuration<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let read = async |key: &str| db.0.config(key).await.expect("configuration is read");
        let longest = "k".repeat(64);
        assert_eq!(read("name").await, None);
        for key in ["name", &longest] {
            for value in [&b"one"[..], b"", b"\x00\xff", &[7; 1 << 20]] {
                let value = Some(Bytes::copy_from_slice(value));
                db.apply(vec![WriteOp::SetConfig {
                    key: key.into(),
                    value: value.clone(),
                }])
                .await;
                assert!(read(key).await == value);
            }
        }
        db.apply(vec![WriteOp::SetConfig {
            key: "name".into(),
            value: None,
        }])
        .await;
        assert_eq!(read("name").await, None);
        assert_eq!(read("nam").await, None);
        assert_eq!(read("").await, None);
        assert_eq!(read(&"k".repeat(65)).await, None);
        assert!(read(&longest).await.is_some());
    });
}

fn cell(n: u32, state: CellState) -> Cell {
    let nid = NodeId::new(NodeType::Storage, n).expect("n is a node's number");
    Cell {
        nid,
        state,
        assigned: version(1),
    }
}

const fn version(n: u64) -> TableVersion {
    TableVersion {
        reign: Reign(n),
        ptid: Ptid(n * 10),
    }
}

async fn table(db: &Db) -> Option<PartitionTable> {
    db.0.partition_table()
        .await
        .expect("the partition table is read")
}

/// The partition table is replaced as a whole, or changed by cells.
pub fn the_partition_table<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        assert_eq!(table(&db).await, None);
        let twelve = Partitioning::new(12).expect("12 is a number of partitions");
        let mut expected = PartitionTable::empty(twelve, 1);
        db.apply(vec![WriteOp::SetPartitionTable(expected.clone())])
            .await;
        assert_eq!(table(&db).await, Some(expected.clone()));
        let change = |partition, n, state| {
            let cell = cell(n, state);
            CellChange {
                partition: Partition(partition),
                cell,
            }
        };
        for (n, changes) in (2..).zip([
            vec![
                change(0, 1, CellState::UpToDate),
                change(11, 2, CellState::OutOfDate),
            ],
            vec![
                change(0, 2, CellState::OutOfDate),
                change(0, 1, CellState::Feeding),
            ],
            vec![
                change(0, 1, CellState::Discarded),
                change(5, 1, CellState::Discarded),
            ],
            vec![],
        ]) {
            let (version, replicas) = (version(n), n as u32);
            expected
                .apply(version, replicas, &changes)
                .expect("the changes make sense");
            db.apply(vec![WriteOp::ChangeCells {
                version,
                replicas,
                changes,
            }])
            .await;
            assert_eq!(table(&db).await, Some(expected.clone()));
        }
        let three = Partitioning::new(3).expect("3 is a number of partitions");
        let mut other = PartitionTable::empty(three, 0);
        other.version = version(9);
        other.rows[2] = vec![cell(1, CellState::UpToDate), cell(3, CellState::Corrupted)];
        let (version, replicas) = (version(10), 0);
        let changes = vec![change(1, 3, CellState::OutOfDate)];
        db.apply(vec![
            WriteOp::SetPartitionTable(other.clone()),
            WriteOp::ChangeCells {
                version,
                replicas,
                changes: changes.clone(),
            },
        ])
        .await;
        other
            .apply(version, replicas, &changes)
            .expect("the change makes sense");
        assert_eq!(table(&db).await, Some(other));
    });
}

/// A table or change that makes no sense is refused, and the old one stays.
pub fn a_table_that_makes_no_sense<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let change = |partition| WriteOp::ChangeCells {
            version: version(5),
            replicas: 3,
            changes: vec![CellChange {
                partition: Partition(partition),
                cell: cell(1, CellState::UpToDate),
            }],
        };
        let refused = db.try_apply(vec![change(0)]).await;
        assert!(
            matches!(refused, Err(BackendError::Unsupported(_))),
            "{refused:?}"
        );
        let two = Partitioning::new(2).expect("2 is a number of partitions");
        let good = PartitionTable::empty(two, 1);
        db.apply(vec![WriteOp::SetPartitionTable(good.clone())])
            .await;
        let mut bad = good.clone();
        bad.rows[0] = vec![cell(2, CellState::UpToDate), cell(1, CellState::UpToDate)];
        for op in [change(2), WriteOp::SetPartitionTable(bad)] {
            let refused = db.try_apply(vec![op]).await;
            assert!(
                matches!(refused, Err(BackendError::Unsupported(_))),
                "{refused:?}"
            );
            assert_eq!(table(&db).await, Some(good.clone()));
        }
    });
}

/// What is above a limit is refused as unsupported, and nothing of its batch remains.
pub fn limits_are_refused_without_effect<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let config = |key: &str, n| {
            let value = Some(Bytes::from(vec![0; n]));
            WriteOp::SetConfig {
                key: key.into(),
                value,
            }
        };
        let mut long = transaction(10, None);
        long.meta.user = Bytes::from(vec![0; (1 << 20) + 1]);
        let oids = vec![Oid(1); TRANSACTION_OIDS_MAX + 1];
        let object = PendingObject {
            oid: Oid(1),
            data: ObjectData::Deleted,
        };
        for op in [
            config(&"k".repeat(65), 1),
            config("é", 1),
            config("", 1),
            config("k", (1 << 20) + 1),
            put_transaction(long),
            put_transaction(transaction(1 << 63, None)),
            super::tools::object(1 << 63, 1, ObjectData::Deleted),
            WriteOp::LockUnfinished {
                txn: txn(1, 1),
                tid: Tid(1 << 63),
            },
            WriteOp::PutUnfinished {
                txn: txn(1, 1),
                record: Some((meta("u"), oids).into()),
            },
            WriteOp::PutUnfinishedObjects {
                txn: txn(1, 1),
                objects: vec![object; 10_001],
            },
        ] {
            let what = format!("{:.60}", format!("{op:?}"));
            let put = WriteOp::PutData {
                id: DataId(1),
                owner: Some(txn(1, 1)),
                record: Record::raw(Bytes::new()),
            };
            let refused = db.try_apply(vec![put, vote(txn(1, 1), "u"), op]).await;
            assert!(
                matches!(refused, Err(BackendError::Unsupported(_))),
                "{what}: {refused:?}"
            );
            assert_eq!(db.loose().await, [], "{what}");
            assert_eq!(db.unfinished().await, "", "{what}");
        }
        assert_eq!(db.load(1, At::Latest).await, Loaded::Unknown);
        let many = db.0.last_serials(&vec![(P0, Oid(1)); 10_001]).await;
        assert!(
            matches!(many, Err(BackendError::Unsupported(_))),
            "{many:?}"
        );
    });
}
