//! The writer's promises: interrupted and resumed, its order, and what it refuses.

use neo_api::{Oid, Tid, TransactionMeta};
use neo_backends::filestorage::{Data, Error, NewData, Reader, Status, Tail, Writer};

use super::{read_all, testdata, write_all};

fn meta(description: &str) -> TransactionMeta {
    TransactionMeta {
        description: description.to_owned().into(),
        ..Default::default()
    }
}

#[test]
fn an_export_that_was_cut_anywhere_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy.fs");
    let original = std::fs::read(testdata("undo.fs")).unwrap();
    for cut in (0..=original.len()).filter(|&cut| cut % 61 == 0 || cut > original.len() - 30) {
        std::fs::write(&path, &original[..cut]).unwrap();
        if (1..4).contains(&cut) {
            assert!(matches!(
                Writer::append(&path),
                Err(Error::NotFileStorage { .. })
            ));
            continue;
        }
        let mut writer = Writer::append(&path).unwrap();
        let mut reader = Reader::open(testdata("undo.fs")).unwrap();
        if let Some(last) = writer.last_tid() {
            reader.seek_after(last).unwrap();
        }
        assert_eq!(writer.position().max(4), reader.position());
        write_all(&mut writer, &read_all(&mut reader).unwrap()).unwrap();
        writer.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == original, "cut at {cut}");
    }
}

#[test]
fn an_unfinished_transaction_is_not_part_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("unfinished.fs");
    let large = vec![7; 3 << 20];
    let mut writer = Writer::create(&path).unwrap();
    writer
        .begin(Tid(1), Status::Normal, &meta("whole"))
        .unwrap();
    writer.record(Oid(1), NewData::Data(&large)).unwrap();
    writer.finish_transaction().unwrap();
    let end = writer.position();
    for oid in 1..10 {
        if oid == 1 {
            writer
                .begin(Tid(2), Status::Normal, &meta("not whole"))
                .unwrap();
        }
        writer
            .record(Oid(oid), NewData::Data(&large[..500_000]))
            .unwrap();
    }
    // What another process finds while the transaction is being written.
    let mut reader = Reader::open(&path).unwrap();
    assert!(reader.file_size() > end);
    assert_eq!(reader.last_tid().unwrap(), Some(Tid(1)));
    assert_eq!(read_all(&mut reader).unwrap().len(), 1);
    assert_eq!(reader.tail(), Some(Tail::Incomplete { offset: end }));
    drop(writer);

    let mut writer = Writer::append(&path).unwrap();
    assert_eq!((writer.position(), writer.last_tid()), (end, Some(Tid(1))));
    writer
        .begin(Tid(2), Status::Packed, &meta("small"))
        .unwrap();
    writer.record(Oid(1), NewData::Data(b"small")).unwrap();
    writer.finish_transaction().unwrap();
    writer.finish().unwrap();
    let all = read_all(&mut Reader::open(&path).unwrap()).unwrap();
    assert_eq!(all[1].0.status, Status::Packed);
    assert_eq!(all[1].1[0].data, Data::Data(b"small"[..].into()));
}

#[test]
fn an_aborted_transaction_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aborted.fs");
    let mut writer = Writer::create(&path).unwrap();
    for size in [10, 5 << 20] {
        writer
            .begin(Tid(5), Status::Normal, &meta("aborted"))
            .unwrap();
        writer
            .record(Oid(1), NewData::Data(&vec![1; size]))
            .unwrap();
        writer.abort_transaction().unwrap();
        assert_eq!((writer.position(), writer.last_tid()), (4, None));
    }
    writer.begin(Tid(5), Status::Normal, &meta("kept")).unwrap();
    writer.record(Oid(1), NewData::Deleted).unwrap();
    writer.finish_transaction().unwrap();
    writer.finish().unwrap();
    let all = read_all(&mut Reader::open(&path).unwrap()).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].1[0].data, Data::Deleted { data_tid: None });
}

#[test]
fn back_pointers_reach_the_buffer_and_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("back.fs");
    let mut writer = Writer::create(&path).unwrap();
    for tid in 1..=40u64 {
        writer.begin(Tid(tid), Status::Normal, &meta("")).unwrap();
        writer
            .record(Oid(0), NewData::Data(&tid.to_be_bytes()))
            .unwrap();
        writer
            .record(Oid(tid), NewData::Data(&vec![0; 100_000]))
            .unwrap();
        writer.finish_transaction().unwrap();
    }
    writer
        .begin(Tid(50), Status::Normal, &meta("undo"))
        .unwrap();
    for tid in [1, 40, 20] {
        writer
            .record(Oid(0), NewData::BackPointer { data_tid: Tid(tid) })
            .unwrap();
    }
    // Not there, of another object, of this transaction, later: it can still be finished.
    for (oid, tid) in [(0, 41), (3, 4), (0, 50), (0, 60), (99, 1)] {
        let error = writer.record(Oid(oid), NewData::BackPointer { data_tid: Tid(tid) });
        assert!(
            matches!(error, Err(Error::NoSuchRevision { .. })),
            "{error:?}"
        );
    }
    writer.finish_transaction().unwrap();
    writer.finish().unwrap();
    let all = read_all(&mut Reader::open(&path).unwrap()).unwrap();
    let undo: Vec<_> = all[40].1.iter().map(|record| record.data.clone()).collect();
    let expected = [1, 40, 20u64].map(|tid| Data::BackPointer {
        data_tid: Tid(tid),
        data: tid.to_be_bytes().to_vec().into(),
    });
    assert_eq!(undo, expected);
}

#[test]
fn what_it_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.fs");
    let mut writer = Writer::create(&path).unwrap();
    assert!(matches!(Writer::create(&path), Err(Error::Exists { .. })));
    assert!(matches!(Writer::append(&path), Err(Error::Locked { .. })));
    assert!(matches!(
        writer.record(Oid(1), NewData::Deleted),
        Err(Error::Misuse { .. })
    ));
    assert!(matches!(
        writer.finish_transaction(),
        Err(Error::Misuse { .. })
    ));
    assert!(matches!(
        writer.abort_transaction(),
        Err(Error::Misuse { .. })
    ));

    let long = TransactionMeta {
        user: vec![b'x'; 65_536].into(),
        ..Default::default()
    };
    let error = writer.begin(Tid(1), Status::Normal, &long).unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooLong {
                field: "user",
                length: 65_536,
                ..
            }
        ),
        "{error}"
    );
    let longest = TransactionMeta {
        user: vec![1; 65_535].into(),
        description: vec![2; 65_535].into(),
        extension: vec![3; 65_535].into(),
    };
    writer.begin(Tid(1), Status::Normal, &longest).unwrap();
    assert!(matches!(
        writer.begin(Tid(2), Status::Normal, &long),
        Err(Error::Misuse { .. })
    ));
    assert!(matches!(
        writer.record(Oid(1), NewData::Data(b"")),
        Err(Error::Empty { .. })
    ));
    writer.finish_transaction().unwrap();
    for tid in [0, 1] {
        let error = writer
            .begin(Tid(tid), Status::Normal, &longest)
            .unwrap_err();
        assert!(
            matches!(error, Error::TidOrder { last: Tid(1), .. }),
            "{error}"
        );
    }
    writer.begin(Tid(2), Status::Normal, &meta("")).unwrap();
    assert!(matches!(writer.finish(), Err(Error::Misuse { .. })));

    let all = read_all(&mut Reader::open(&path).unwrap()).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0].0.meta, all[0].1.len()), (&longest, 0));
}

#[test]
fn a_damaged_file_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.fs");
    let mut bytes = std::fs::read(testdata("undo.fs")).unwrap();
    bytes[1000] ^= 1;
    bytes[1001] ^= 1;
    bytes[606 + 16] = b'X';
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(Writer::append(&path), Err(Error::Corrupt { .. })));
    assert!(std::fs::read(&path).unwrap() == bytes);
}
