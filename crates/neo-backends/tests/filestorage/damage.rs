//! Files that were cut, flipped or made up: an error that says where, or data; never a panic.

use std::io::Cursor;
use std::path::Path;

use neo_api::{Oid, Tid};
use neo_backends::filestorage::{Data, Error, Format, Reader, Record, Tail, Transaction, Writer};

use super::{read_all, testdata};

type All = Vec<(Transaction, Vec<Record>)>;

fn read(bytes: &[u8]) -> Result<(All, Option<Tail>), Error> {
    let mut reader = Reader::new(Cursor::new(bytes), "damaged.fs")?;
    let all = read_all(&mut reader)?;
    Ok((all, reader.tail()))
}

/// The offset and the message of the error that reading ends with.
fn damage(bytes: &[u8]) -> (u64, String) {
    match read(bytes) {
        Err(Error::Corrupt { offset, what, .. }) => (offset, what),
        other => panic!("not found to be damaged: {other:?}"),
    }
}

fn undo_fs() -> (Vec<u8>, All) {
    let bytes = std::fs::read(testdata("undo.fs")).expect("testdata is part of the workspace");
    let (all, tail) = read(&bytes).expect("ZODB wrote it");
    assert_eq!(tail, Some(Tail::Clean));
    (bytes, all)
}

/// The database with some bytes replaced.
fn patched(bytes: &[u8], at: u64, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at as usize..][..new.len()].copy_from_slice(new);
    bytes
}

#[test]
fn cut_at_every_byte_it_gives_the_transactions_before() {
    let (bytes, all) = undo_fs();
    for cut in 0..4 {
        let error = read(&bytes[..cut]).unwrap_err();
        assert!(matches!(&error, Error::NotFileStorage { found, .. } if found.len() == cut));
    }
    for cut in 4..=bytes.len() {
        let whole = all
            .iter()
            .take_while(|(t, _)| t.offset + t.length <= cut as u64)
            .count();
        let end = all[..whole].last().map_or(4, |(t, _)| t.offset + t.length);
        let expected = if end == cut as u64 {
            Tail::Clean
        } else {
            Tail::Incomplete { offset: end }
        };
        let (found, tail) = read(&bytes[..cut]).unwrap();
        assert_eq!(
            (&found[..], tail),
            (&all[..whole], Some(expected)),
            "cut at {cut}"
        );

        let mut reader = Reader::new(Cursor::new(&bytes[..cut]), "cut.fs").unwrap();
        let last = all[..whole].last().map(|(t, _)| t.tid);
        assert_eq!(reader.last_tid().unwrap(), last, "cut at {cut}");
        assert_eq!(reader.first_tid().unwrap(), last.map(|_| all[0].0.tid));
    }
}

#[test]
fn zeros_at_the_end_are_an_unfinished_transaction() {
    let (bytes, all) = undo_fs();
    let offset = bytes.len() as u64;
    for zeros in [1, 22, 23, 24, 100, 1 << 20] {
        let longer = [&bytes[..], &vec![0; zeros]].concat();
        assert_eq!(
            read(&longer).unwrap(),
            (all.clone(), Some(Tail::Incomplete { offset }))
        );
    }
    let garbage = [&bytes[..], &[0; 100], &[1]].concat();
    assert_eq!(damage(&garbage).0, offset);
}

#[test]
fn every_flipped_bit_gives_an_error_or_data() {
    let (bytes, all) = undo_fs();
    let last_offset = all[all.len() - 1].0.offset;
    let mut found = 0;
    // One bit of each byte, and every bit of some.
    for at in 0..bytes.len() {
        for bit in 0..8 {
            if at % 8 != bit && at % 13 != 0 {
                continue;
            }
            let flipped = patched(&bytes, at as u64, &[bytes[at] ^ 1 << bit]);
            match read(&flipped) {
                // What is lost, if anything, is the last transaction: never silently the middle.
                Ok((_, Some(Tail::Incomplete { offset }))) => assert!(offset >= last_offset),
                Ok((some, tail)) => assert_eq!((some.len(), tail), (all.len(), Some(Tail::Clean))),
                Err(Error::Corrupt { offset, .. }) => {
                    assert!(offset <= bytes.len() as u64);
                    found += 1;
                }
                Err(Error::NotFileStorage { .. }) => assert!(at < 4),
                Err(other) => panic!("bit {bit} of {at}: {other:?}"),
            }
            let Ok(mut reader) = Reader::new(Cursor::new(&flipped), "flipped.fs") else {
                continue;
            };
            let _ = (
                reader.first_tid(),
                reader.last_tid(),
                reader.seek_after(all[20].0.tid),
            );
        }
    }
    // Structure is nearly half of this file, and nearly all of it is checked.
    assert!(found > 4_000, "{found}");
}

#[test]
fn every_overwritten_byte_and_any_garbage_give_an_error_or_data() {
    let (bytes, _) = undo_fs();
    for at in (4..bytes.len()).step_by(3) {
        for value in [0, b'c', b'u', 0xff] {
            let _ = read(&patched(&bytes, at as u64, &[value]));
        }
        if at + 8 <= bytes.len() {
            for value in [u64::MAX, u64::MAX - 8, i64::MAX as u64, 4, at as u64] {
                let _ = read(&patched(&bytes, at as u64, &value.to_be_bytes()));
            }
        }
    }
    let mut state = 1u64;
    for _ in 0..300 {
        let mut garbage = b"FS30".to_vec();
        while garbage.len() < 300 {
            // xorshift: the same garbage each time.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            garbage.extend(state.to_be_bytes());
        }
        let _ = read(&garbage);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let (bytes, all) = undo_fs();
    let t = &all[5].0;
    let texts = t.meta.user.len() + t.meta.description.len() + t.meta.extension.len();
    let record = t.offset + 23 + texts as u64;
    let trailer = t.offset + t.length - 8;
    let number = |n: u64| n.to_be_bytes();
    let cases: [(u64, &[u8], u64, &str); 10] = [
        (t.offset, &number(1), t.offset, "comes after"),
        (t.offset + 8, &number(1 << 40), t.offset, "one at"),
        (t.offset + 8, &number(9), t.offset, "less than its header"),
        (
            t.offset + 16,
            b"X",
            t.offset,
            "unknown transaction status 0x58",
        ),
        (t.offset + 16, b"c", t.offset, "unfinished, but one at"),
        (trailer, &number(77), t.offset, "77 after"),
        (
            record + 8,
            &number(77),
            record,
            "has tid 000000000000004d in transaction",
        ),
        (record + 16, &number(record), record, "behind it"),
        (record + 32, &[0, 1], record, "belongs to a version"),
        (
            record + 34,
            &number(u64::MAX),
            record,
            "18446744073709551615 bytes where",
        ),
    ];
    for (at, new, offset, what) in cases {
        let found = damage(&patched(&bytes, at, new));
        assert!(
            found.0 == offset && found.1.contains(what),
            "{what}: {found:?}"
        );
    }

    let last = &all[all.len() - 1].0;
    let (offset, what) = damage(&patched(&bytes, last.offset + 8, &number(1 << 40)));
    assert!(
        offset == last.offset && what.contains("beyond the end of the file"),
        "{what}"
    );

    let unfinished = patched(&bytes, last.offset + 16, b"c");
    let tail = Tail::Incomplete {
        offset: last.offset,
    };
    assert_eq!(
        read(&unfinished).unwrap(),
        (all[..all.len() - 1].to_vec(), Some(tail))
    );
    let mut reader = Reader::new(Cursor::new(&unfinished), "unfinished.fs").unwrap();
    assert_eq!(reader.last_tid().unwrap(), Some(all[all.len() - 2].0.tid));
}

#[test]
fn a_wrong_back_pointer_is_found_and_the_rest_is_read() {
    let (bytes, all) = undo_fs();
    let n = all
        .iter()
        .position(|(_, r)| matches!(r[0].data, Data::BackPointer { .. }))
        .unwrap();
    let t = &all[n].0;
    let texts = t.meta.user.len() + t.meta.description.len() + t.meta.extension.len();
    let record = t.offset + 23 + texts as u64;
    for pointer in [1, 5, record, record - 49, bytes.len() as u64, u64::MAX] {
        let bytes = patched(&bytes, record + 42, &pointer.to_be_bytes());
        let (offset, what) = damage(&bytes);
        assert!(
            offset == record && what.contains("points to"),
            "{pointer}: {what}"
        );

        let mut reader = Reader::new(Cursor::new(&bytes), "damaged.fs").unwrap();
        reader.seek_after(all[n - 1].0.tid).unwrap();
        assert_eq!(reader.next_transaction().unwrap().as_ref(), Some(t));
        assert!(reader.next_record().is_err());
        assert_eq!(reader.next_record().unwrap().as_ref(), all[n].1.get(1));
        assert_eq!(
            reader.next_transaction().unwrap().as_ref(),
            all.get(n + 1).map(|(t, _)| t)
        );
    }
}

#[test]
fn other_files_and_old_ones() {
    let (bytes, all) = undo_fs();
    let python2 = patched(&bytes, 0, b"FS21");
    let mut reader = Reader::new(Cursor::new(&python2), "python2.fs").unwrap();
    assert_eq!(
        (reader.format(), read_all(&mut reader).unwrap()),
        (Format::Fs21, all.clone())
    );

    let error = read(b"PK\x03\x04...").unwrap_err();
    assert_eq!(
        error.to_string(),
        "damaged.fs: not a FileStorage file: it begins with [50, 4b, 03, 04] instead of \"FS21\" \
         or \"FS30\"; give the path of a ZODB Data.fs"
    );
    // A transaction that was undone in place is not there.
    let undone = patched(&bytes, all[7].0.offset + 16, b"u");
    let (mut rest, tail) = read(&undone).unwrap();
    assert_eq!(tail, Some(Tail::Clean));
    rest.insert(7, all[7].clone());
    assert_eq!(rest, all);
}

#[test]
fn what_cannot_be_opened_is_told_without_an_offset() {
    let dir = tempfile::tempdir().unwrap();
    let told = |name: &str, make: &dyn Fn(&Path)| {
        let path = dir.path().join(name);
        make(&path);
        let words = |error: Error| {
            let error = error.to_string();
            let words = error.strip_prefix(&format!("{}: ", path.display()));
            words.expect("the path is told").to_owned()
        };
        let read = words(Reader::open(&path).unwrap_err());
        (read, Writer::append(&path).map(drop).map_err(words))
    };
    let advice = "give the path of a ZODB Data.fs";
    assert_eq!(
        told("none.fs", &|_| {}),
        (
            "cannot open the file".to_owned(),
            Err("cannot open the file for writing".to_owned())
        )
    );
    let no_file = format!("not a file, but a directory or a device; {advice}");
    assert_eq!(
        told("directory.fs", &|path| std::fs::create_dir(path).unwrap()),
        (no_file.clone(), Err(no_file))
    );
    // It could be what an interrupted export has left: the writer takes it.
    assert_eq!(
        told("empty.fs", &|path| std::fs::write(path, b"").unwrap()),
        (
            format!("not a FileStorage file: it is empty; {advice}"),
            Ok(())
        )
    );
    let nowhere = dir.path().join("nowhere/copy.fs");
    let error = Writer::create(&nowhere).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{}: cannot create the file", nowhere.display())
    );
}

#[test]
fn a_pointer_to_a_record_that_does_not_count_is_not_followed_by_tid() {
    let doubled = std::fs::read(testdata("doubled.fs")).unwrap();
    let (all, _) = read(&doubled).unwrap();
    let first_record = |n: usize| {
        let (transaction, _) = &all[n];
        transaction.offset + 23 + transaction.meta.description.len() as u64
    };
    // Points to the first of two records of the object in a transaction.
    let pointer = first_record(5) + 42;
    let bytes = patched(&doubled, pointer, &first_record(1).to_be_bytes());
    // Points to a deletion, after which the same transaction stores the object.
    let pointer = first_record(10) + 2 * 50 + 42;
    let bytes = patched(&bytes, pointer, &first_record(7).to_be_bytes());

    let (found, tail) = read(&bytes).unwrap();
    let mut expected = all;
    expected[5].1[0].data = expected[1].1[0].data.clone();
    assert!(matches!(expected[5].1[0].data, Data::Data(_)));
    expected[10].1[2].data = Data::Deleted { data_tid: None };
    assert_eq!(expected[10].1[2].oid, expected[7].1[0].oid);
    assert_eq!((found, tail), (expected, Some(Tail::Clean)));
}

#[test]
fn chains_of_back_pointers_end() {
    // Deletion, undo of it, and so on: each record points to the one two before it.
    let mut bytes = b"FS30".to_vec();
    let mut records: Vec<u64> = Vec::new();
    for n in 0..50u64 {
        let offset = bytes.len() as u64;
        let payload: &[u8] = if n == 0 { b"first" } else { &[0; 8] };
        let data_len = if n == 0 { payload.len() as u64 } else { 0 };
        let length = 23 + 42 + payload.len() as u64;
        bytes.extend([n + 1, length].map(u64::to_be_bytes).concat());
        bytes.extend([b' ', 0, 0, 0, 0, 0, 0]);
        let record = bytes.len() as u64;
        let previous = records.last().copied().unwrap_or(0);
        bytes.extend([9, n + 1, previous, offset].map(u64::to_be_bytes).concat());
        bytes.extend([0, 0]);
        bytes.extend(data_len.to_be_bytes());
        bytes.extend(payload);
        if n > 1 {
            let at = bytes.len() - 8;
            bytes[at..].copy_from_slice(&records[n as usize - 2].to_be_bytes());
        }
        bytes.extend(length.to_be_bytes());
        records.push(record);
    }
    let (all, _) = read(&bytes).unwrap();
    for (n, (_, records)) in all.iter().enumerate() {
        let data_tid = Tid(n as u64 - (n > 1) as u64);
        let expected = match n {
            0 => Data::Data(b"first"[..].into()),
            1 => Data::Deleted { data_tid: None },
            _ if n % 2 == 0 => Data::BackPointer {
                data_tid,
                data: b"first"[..].into(),
            },
            _ => Data::Deleted {
                data_tid: Some(data_tid),
            },
        };
        assert_eq!(
            records[..],
            [Record {
                oid: Oid(9),
                data: expected
            }]
        );
    }
}
