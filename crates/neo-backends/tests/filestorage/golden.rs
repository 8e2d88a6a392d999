//! What the reader gives equals what ZODB's iterator gave; the copy equals the original.

use neo_api::Tid;
use neo_backends::filestorage::{Data, Format, Reader, Status, Tail, Writer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{DATABASES, read_all, testdata, write_all};

#[test]
fn every_database_reads_as_its_manifest() {
    for name in DATABASES {
        let mut reader = Reader::open(testdata(&format!("{name}.fs"))).unwrap();
        assert_eq!(reader.format(), Format::Fs30);
        let all = read_all(&mut reader).unwrap();
        assert_eq!(reader.tail(), Some(Tail::Clean));
        assert_eq!(
            (reader.position(), reader.bytes_left()),
            (reader.file_size(), 0)
        );

        let manifest = std::fs::read_to_string(testdata(&format!("{name}.jsonl"))).unwrap();
        let manifest: Vec<Value> = manifest
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(all.len(), manifest.len(), "{name}");
        let mut offset = 4;
        for ((transaction, records), expected) in all.iter().zip(&manifest) {
            assert_eq!(transaction.offset, offset);
            offset += transaction.length;
            let records: Vec<Value> = records
                .iter()
                .map(|record| {
                    let (data_tid, data) = match &record.data {
                        Data::Data(data) => (None, Some(data)),
                        Data::BackPointer { data_tid, data } => (Some(*data_tid), Some(data)),
                        Data::Deleted { data_tid } => (*data_tid, None),
                    };
                    json!([
                        record.oid.to_string(),
                        data_tid.map(|tid| tid.to_string()),
                        data.map(|data| data.len()),
                        data.map(|data| hex(&Sha256::digest(data))),
                    ])
                })
                .collect();
            let found = json!({
                "tid": transaction.tid.to_string(),
                "status": match transaction.status {
                    Status::Normal => " ",
                    Status::Packed => "p",
                },
                "user": hex(&transaction.meta.user),
                "description": hex(&transaction.meta.description),
                "extension": hex(&transaction.meta.extension),
                "records": records,
            });
            assert_eq!(&found, expected, "{name} at {}", transaction.offset);
        }
    }
}

#[test]
fn a_copy_is_identical() {
    let dir = tempfile::tempdir().unwrap();
    for name in DATABASES {
        let original = testdata(&format!("{name}.fs"));
        let copy = dir.path().join(name);
        let all = read_all(&mut Reader::open(&original).unwrap()).unwrap();
        let mut writer = Writer::create(&copy).unwrap();
        write_all(&mut writer, &all).unwrap();
        let size = writer.position();
        writer.finish().unwrap();
        assert_eq!(
            read_all(&mut Reader::open(&copy).unwrap()).unwrap(),
            all,
            "{name}"
        );
        let (original, copy) = (
            std::fs::read(original).unwrap(),
            std::fs::read(copy).unwrap(),
        );
        assert_eq!(copy.len() as u64, size);
        assert!(original == copy, "{name} differs");
    }
}

#[test]
fn seek_after_every_tid_forwards_and_backwards() {
    let mut reader = Reader::open(testdata("undo.fs")).unwrap();
    let all = read_all(&mut reader).unwrap();
    let (first, last) = (all[0].0.tid, all[all.len() - 1].0.tid);
    assert_eq!(reader.first_tid().unwrap(), Some(first));
    assert_eq!(reader.last_tid().unwrap(), Some(last));

    let tids: Vec<Tid> = all.iter().map(|(transaction, _)| transaction.tid).collect();
    let moves = (0..tids.len())
        .chain((0..tids.len()).rev())
        .chain([0, 30, 3, 50]);
    for n in moves {
        for (tid, next) in [(tids[n], n + 1), (Tid(tids[n].0 - 1), n)] {
            reader.seek_after(tid).unwrap();
            assert_eq!(reader.next_record().unwrap(), None);
            // Asking for the ends does not move the reader.
            assert_eq!(reader.last_tid().unwrap(), Some(last));
            assert_eq!(reader.first_tid().unwrap(), Some(first));
            let transaction = reader.next_transaction().unwrap();
            assert_eq!(
                transaction.as_ref(),
                all.get(next).map(|(transaction, _)| transaction)
            );
            let first_record = reader.next_record().unwrap();
            assert_eq!(
                first_record.as_ref(),
                all.get(next).and_then(|(_, r)| r.first())
            );
        }
    }
    reader.seek_after(Tid::ZERO).unwrap();
    assert_eq!(read_all(&mut reader).unwrap(), all);
    reader.seek_after(Tid::MAX).unwrap();
    assert_eq!(reader.next_transaction().unwrap(), None);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn oids_are_told_before_their_records() {
    for name in DATABASES {
        let mut reader = Reader::open(testdata(&format!("{name}.fs"))).unwrap();
        while reader.next_transaction().unwrap().is_some() {
            let told = reader.record_oids().unwrap();
            let mut found = Vec::new();
            while let Some(record) = reader.next_record().unwrap() {
                found.push(record.oid);
            }
            assert_eq!(told, found);
            assert_eq!(reader.record_oids().unwrap(), []);
        }
    }
}
