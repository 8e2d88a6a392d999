//! Whatever is written is read.

use bytes::Bytes;
use neo_api::{Oid, Tid, TransactionMeta};
use neo_backends::filestorage::{Data, NewData, Reader, Record, Status, Tail, Writer};
use proptest::collection::vec;
use proptest::prelude::*;

use super::read_all;

/// One record to write; numbers are reduced to what exists.
#[derive(Debug, Clone)]
enum Change {
    Data(Vec<u8>),
    /// Back to one of the object's revisions.
    Back(usize),
    Deleted,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => vec(any::<u8>(), 1..200).prop_map(Change::Data),
        1 => (100_000usize..1_300_000).prop_map(|len| Change::Data(vec![len as u8; len])),
        3 => any::<usize>().prop_map(Change::Back),
        1 => Just(Change::Deleted),
    ]
}

fn text() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

type Steps = Vec<(u64, bool, [Bytes; 3], Vec<(u64, Change)>)>;

fn steps() -> impl Strategy<Value = Steps> {
    let texts = [text(), text(), text()];
    vec(
        (
            1u64..1 << 50,
            any::<bool>(),
            texts,
            vec((0u64..5, change()), 0..6),
        ),
        0..12,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_is_read(steps in steps(), reopen_every in 1usize..8) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("any.fs");
        let mut writer = Writer::create(&path).unwrap();
        // Revisions by object, finished ones only: a record cannot point into its transaction.
        let mut history: [Vec<(Tid, Option<Bytes>)>; 5] = Default::default();
        let mut expected = Vec::new();
        let mut tid = Tid::ZERO;
        for (n, (gap, packed, [user, description, extension], changes)) in
            steps.into_iter().enumerate()
        {
            if n % reopen_every == 0 {
                drop(writer);
                writer = Writer::append(&path).unwrap();
            }
            tid = Tid(tid.0 + gap);
            let status = if packed { Status::Packed } else { Status::Normal };
            let meta = TransactionMeta { user, description, extension };
            writer.begin(tid, status, &meta).unwrap();
            let mut records: Vec<Record> = Vec::new();
            for (oid, change) in changes {
                let revisions = &history[oid as usize];
                let data = match change {
                    Change::Data(data) => Data::Data(data.into()),
                    Change::Back(n) if !revisions.is_empty() => {
                        let (data_tid, data) = revisions[n % revisions.len()].clone();
                        match data {
                            Some(data) => Data::BackPointer { data_tid, data },
                            None => Data::Deleted { data_tid: Some(data_tid) },
                        }
                    }
                    _ => Data::Deleted { data_tid: None },
                };
                writer.record(Oid(oid), NewData::from(&data)).unwrap();
                records.push(Record { oid: Oid(oid), data });
            }
            writer.finish_transaction().unwrap();
            for Record { oid, data } in &records {
                let data = match data {
                    Data::Data(data) | Data::BackPointer { data, .. } => Some(data.clone()),
                    Data::Deleted { .. } => None,
                };
                // Of several in a transaction, the last counts.
                let revisions = &mut history[oid.0 as usize];
                revisions.retain(|(earlier, _)| *earlier != tid);
                revisions.push((tid, data));
            }
            expected.push((tid, status, meta, records));
        }
        writer.finish().unwrap();
        let mut reader = Reader::open(&path).unwrap();
        prop_assert_eq!(reader.first_tid().unwrap(), expected.first().map(|t| t.0));
        prop_assert_eq!(reader.last_tid().unwrap(), expected.last().map(|t| t.0));
        let found: Vec<_> = read_all(&mut reader)
            .unwrap()
            .into_iter()
            .map(|(t, records)| (t.tid, t.status, t.meta, records))
            .collect();
        prop_assert!(found == expected);
        prop_assert_eq!(reader.tail(), Some(Tail::Clean));
    }
}
