//! Looking up revisions, and the bytes of their values.

use bytes::Bytes;
use neo_api::{
    At, BackendError, Checksum, Compression, DataId, Loaded, OBJECT_BYTES_MAX, ObjectData, Oid,
    Partition, Record, RevisionId, Tid, WriteOp,
};

use super::BackendFactory;
use super::tools::{P0, P1, object, show, store, value, with};

/// An oid without revisions is `Unknown`, however it is asked for.
pub fn an_object_that_does_not_exist<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "one").into()).await;
        for at in [
            At::Latest,
            At::Before(Tid(0)),
            At::Before(Tid(11)),
            At::Before(Tid(u64::MAX)),
            At::Exact(Tid(10)),
            At::Exact(Tid(u64::MAX)),
        ] {
            assert_eq!(db.load(2, at).await, Loaded::Unknown, "{at:?}");
            assert_eq!(db.load(0, at).await, Loaded::Unknown, "{at:?}");
        }
    });
}

/// `Latest`, `Before` and `Exact` find the revision that they name, with its successor.
pub fn each_revision_by_each_way<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        for (tid, text) in [(10, "a"), (20, "b"), (30, "c")] {
            db.apply(store(tid, 1, text).into()).await;
        }
        for (at, expected) in [
            (At::Latest, "30.. c"),
            (At::Before(Tid(u64::MAX)), "30.. c"),
            (At::Before(Tid::MAX), "30.. c"),
            (At::Before(Tid(31)), "30.. c"),
            (At::Before(Tid(30)), "20..30 b"),
            (At::Before(Tid(21)), "20..30 b"),
            (At::Before(Tid(20)), "10..20 a"),
            (At::Before(Tid(11)), "10..20 a"),
            (At::Before(Tid(10)), "not yet"),
            (At::Before(Tid(0)), "not yet"),
            (At::Exact(Tid(10)), "10..20 a"),
            (At::Exact(Tid(20)), "20..30 b"),
            (At::Exact(Tid(30)), "30.. c"),
            (At::Exact(Tid(9)), "not yet"),
            (At::Exact(Tid(15)), "not yet"),
            (At::Exact(Tid(31)), "not yet"),
            (At::Exact(Tid(0)), "not yet"),
            (At::Exact(Tid(u64::MAX)), "not yet"),
        ] {
            assert_eq!(db.see(1, at).await, expected, "{at:?}");
        }
    });
}

/// A deletion is a revision: it is found, has a successor, and is one.
pub fn a_deletion_is_told<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "a").into()).await;
        db.apply(vec![object(20, 1, ObjectData::Deleted)]).await;
        assert_eq!(db.see(1, At::Latest).await, "20.. deleted");
        assert_eq!(db.see(1, At::Before(Tid(20))).await, "10..20 a");
        db.apply(store(30, 1, "c").into()).await;
        assert_eq!(db.see(1, At::Before(Tid(30))).await, "20..30 deleted");
        assert_eq!(db.see(1, At::Exact(Tid(20))).await, "20..30 deleted");
        assert_eq!(db.see(1, At::Latest).await, "30.. c");
        // One that starts with a deletion: its creation was undone.
        db.apply(vec![object(20, 2, ObjectData::Deleted)]).await;
        assert_eq!(db.see(2, At::Latest).await, "20.. deleted");
        assert_eq!(db.see(2, At::Before(Tid(20))).await, "not yet");
    });
}

/// The successor of a revision is never one of another object or partition.
pub fn neighbours_are_not_mistaken<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let mut ops = Vec::from(store(10, 1, "a"));
        ops.extend(store(5, 2, "b"));
        ops.extend(store(20, 3, "c"));
        ops.push(WriteOp::PutObject {
            partition: P1,
            id: RevisionId {
                tid: Tid(15),
                oid: Oid(1),
            },
            data: ObjectData::Deleted,
        });
        db.apply(ops).await;
        assert_eq!(db.see(1, At::Latest).await, "10.. a");
        assert_eq!(db.see(1, At::Before(Tid(11))).await, "10.. a");
        assert_eq!(db.see(2, At::Exact(Tid(5))).await, "5.. b");
        assert_eq!(db.see(2, At::Before(Tid(5))).await, "not yet");
        assert_eq!(db.see(3, At::Before(Tid(20))).await, "not yet");
        let other = db.0.load(P1, Oid(1), At::Latest).await.expect("loads");
        assert_eq!(show(&other), "15.. deleted");
        let none =
            db.0.load(Partition(2), Oid(1), At::Latest)
                .await
                .expect("loads");
        assert_eq!(none, Loaded::Unknown);
    });
}

/// The least and greatest ids work; an oid above 2^63 - 1 works or is refused as unsupported,
/// without effect.
pub fn the_ends_of_the_ranges<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let partition = Partition(65_534);
        for (n, (tid, oid)) in [(Tid::MAX.0, i64::MAX as u64), (0, 0), (Tid::MAX.0, 0)]
            .into_iter()
            .enumerate()
        {
            let id = RevisionId {
                tid: Tid(tid),
                oid: Oid(oid),
            };
            let data = value(n as u64 + 1);
            let put = super::tools::data(n as u64 + 1, "x");
            db.apply(vec![
                put,
                WriteOp::PutObject {
                    partition,
                    id,
                    data,
                },
            ])
            .await;
        }
        let zero =
            db.0.load(partition, Oid(0), At::Exact(Tid(0)))
                .await
                .expect("loads");
        assert_eq!(show(&zero), format!("0..{} x", Tid::MAX.0));
        let last =
            db.0.load(partition, Oid(i64::MAX as u64), At::Latest)
                .await
                .expect("loads");
        assert_eq!(show(&last), format!("{}.. x", Tid::MAX.0));
        for oid in [1 << 63, u64::MAX] {
            let id = RevisionId {
                tid: Tid(5),
                oid: Oid(oid),
            };
            let ops = vec![
                super::tools::data(oid - 1000, "x"),
                WriteOp::PutObject {
                    partition,
                    id,
                    data: value(oid - 1000),
                },
            ];
            let (found, last) = match db.try_apply(ops).await {
                Ok(()) => ("5.. x".to_owned(), oid),
                Err(BackendError::Unsupported(_)) => ("unknown".to_owned(), i64::MAX as u64),
                Err(error) => panic!("neither applied nor unsupported: {error}"),
            };
            let loaded =
                db.0.load(partition, Oid(oid), At::Latest)
                    .await
                    .expect("loads");
            assert_eq!(show(&loaded), found);
            let ids = db.0.last_ids(partition).await.expect("tells the last ids");
            assert_eq!(ids.last_oid, Some(Oid(last)));
        }
    });
}

/// `last_serials` answers in the order asked, deletions included, `None` for what is not there.
pub fn last_serials_in_the_order_asked<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let mut ops = Vec::from(store(10, 1, "a"));
        ops.extend(store(20, 1, "b"));
        ops.extend(store(15, 3, "c"));
        ops.push(object(30, 3, ObjectData::Deleted));
        db.apply(ops).await;
        let oids = [
            (P0, Oid(3)),
            (P0, Oid(2)),
            (P0, Oid(1)),
            (P1, Oid(1)),
            (P0, Oid(3)),
            (P0, Oid(1)),
        ];
        let serials = db.0.last_serials(&oids).await.expect("tells last serials");
        assert_eq!(
            serials,
            [30, 0, 20, 0, 30, 20].map(|tid| (tid > 0).then_some(Tid(tid)))
        );
        assert_eq!(db.0.last_serials(&[]).await.expect("tells nothing"), []);
        let many = vec![(P0, Oid(1)); 10_000];
        let serials = db.0.last_serials(&many).await.expect("tells last serials");
        assert_eq!(serials, vec![Some(Tid(20)); 10_000]);
    });
}

/// `load_many` gives what `load` gives, in the order asked, until the values have enough bytes.
pub fn many_at_once<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        for (tid, oid, text) in [(10, 1, "one"), (15, 3, "three"), (20, 1, "four")] {
            db.apply(store(tid, oid, text).into()).await;
        }
        db.apply(vec![object(30, 3, ObjectData::Deleted)]).await;
        let wanted = [
            (P0, Oid(3), At::Before(Tid(30))),
            (P0, Oid(2), At::Latest),
            (P0, Oid(3), At::Latest),
            (P1, Oid(1), At::Latest),
            (P0, Oid(1), At::Before(Tid(10))),
            (P0, Oid(1), At::Exact(Tid(10))),
            (P0, Oid(1), At::Latest),
            (P0, Oid(1), At::Latest),
        ];
        let mut each = Vec::new();
        for (partition, oid, at) in wanted {
            each.push(db.0.load(partition, oid, at).await.expect("loads"));
        }
        for (bytes, count) in [
            (usize::MAX, 8),
            (17, 8),
            (16, 8),
            (13, 8),
            (12, 7),
            (8, 6),
            (6, 6),
            (5, 1),
            (1, 1),
            (0, 1),
        ] {
            let many = db.0.load_many(&wanted, bytes).await.expect("loads");
            assert_eq!(many, each[..count], "{bytes} bytes");
        }
        assert_eq!(db.0.load_many(&[], 9).await.expect("loads"), []);
    });
}

/// `newest_before` gives the first entry of each history, in the order asked.
pub fn the_newest_of_many<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        for (tid, oid) in [(10, 1), (15, 3), (20, 1)] {
            db.apply(store(tid, oid, "x").into()).await;
        }
        db.apply(vec![object(30, 3, ObjectData::Deleted)]).await;
        let mut wanted = Vec::new();
        for before in [u64::MAX, 31, 30, 20, 16, 15, 10, 0] {
            for oid in [3, 2, 1] {
                wanted.push((P0, Oid(oid), Tid(before)));
            }
        }
        let mut each = Vec::new();
        for (partition, oid, before) in &wanted {
            let page = db.0.history(*partition, *oid, *before, 1).await;
            each.push(page.expect("tells a history").first().copied());
        }
        let newest = db.0.newest_before(&wanted).await.expect("tells the newest");
        assert_eq!(newest, each);
    });
}

/// Values from 0 bytes to the limit come back whole; one above it is refused.
pub fn values_of_every_size<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        const MIB_16: usize = 16 << 20;
        let max = db.0.info().object_bytes_max.min(OBJECT_BYTES_MAX);
        let sizes = [0, 1, 64 << 10, MIB_16 - 1, MIB_16, MIB_16 + 1, max];
        for (n, size) in (1..).zip(sizes) {
            let bytes: Vec<u8> = (0..size).map(|i| (i / 7 + i) as u8).collect();
            let record = Record::raw(bytes.into());
            let put = WriteOp::PutData {
                id: DataId(n),
                owner: None,
                record: record.clone(),
            };
            db.apply(vec![put, object(10, n, value(n))]).await;
            match db.load(n, At::Latest).await {
                Loaded::Found(found) => assert!(found.record == record, "{size} bytes"),
                other => panic!("{size} bytes: {other:?}"),
            }
        }
        let record = Record {
            compression: Compression::None,
            checksum: Checksum([0; 16]),
            data: Bytes::from(vec![0; max + 1]),
        };
        let put = WriteOp::PutData {
            id: DataId(99),
            owner: None,
            record,
        };
        let refused = db.try_apply(vec![put, object(10, 99, value(99))]).await;
        assert!(
            matches!(refused, Err(BackendError::Unsupported(_))),
            "{refused:?}"
        );
        assert_eq!(db.load(99, At::Latest).await, Loaded::Unknown);
    });
}

/// Compression and checksum are kept, also when they don't fit the bytes.
pub fn bytes_come_back_as_they_were<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let record = Record {
            compression: Compression::Zlib,
            checksum: Checksum(*b"0123456789abcdef"),
            data: Bytes::from_static(b"\x00\xff not a zlib stream \x00"),
        };
        let put = WriteOp::PutData {
            id: DataId(1),
            owner: None,
            record: record.clone(),
        };
        db.apply(vec![put, object(10, 1, value(1))]).await;
        match db.load(1, At::Exact(Tid(10))).await {
            Loaded::Found(found) => assert_eq!(found.record, record),
            other => panic!("{other:?}"),
        }
    });
}
