//! The past of one object, and all objects as they were.

use neo_api::{ObjectData, Oid, PageLimit, Partition, Tid, WriteOp};

use super::BackendFactory;
use super::tools::{Db, P0, P1, delete, id, object, same, store, with};

/// `serial`, `serial=data_serial`, `serial deleted`, each with its bytes, newest first.
async fn history(db: &Db, oid: u64, before: u64, limit: usize) -> Vec<String> {
    let entries = db.0.history(P0, Oid(oid), Tid(before), limit).await;
    let entries = entries.expect("the history is read");
    let line = |entry: &neo_api::HistoryEntry| {
        let same = entry
            .data_serial
            .map_or_else(String::new, |tid| format!("={}", tid.0));
        let bytes = entry
            .bytes
            .map_or_else(|| "deleted".to_owned(), |n| n.to_string());
        format!("{}{same} {bytes}", entry.serial.0)
    };
    entries.iter().map(line).collect()
}

/// An object with a value, a repetition, a deletion and the repetition of it, beside others.
async fn past(db: &Db) {
    db.apply(store(10, 1, "a").into()).await;
    db.apply(store(20, 1, "").into()).await;
    db.apply(store(15, 2, "neighbour").into()).await;
    db.apply(vec![
        object(30, 1, same(10)),
        object(40, 1, ObjectData::Deleted),
    ])
    .await;
    db.apply(store(50, 1, "four").into()).await;
    db.apply(vec![
        object(60, 1, same(40)),
        WriteOp::PutObject {
            partition: P1,
            id: id(35, 1),
            data: ObjectData::Deleted,
        },
    ])
    .await;
}

/// `history` tells serial, repetition and size of the object's revisions, newest first, deletions
/// included; those below `before` only.
pub fn revisions_of_an_object_newest_first<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        past(&db).await;
        let all = [
            "60=40 deleted",
            "50 4",
            "40 deleted",
            "30=10 1",
            "20 0",
            "10 1",
        ];
        for (before, expected) in [
            (u64::MAX, &all[..]),
            (Tid::MAX.0, &all),
            (61, &all),
            (60, &all[1..]),
            (41, &all[2..]),
            (40, &all[3..]),
            (11, &all[5..]),
            (10, &[]),
            (0, &[]),
        ] {
            assert_eq!(
                history(&db, 1, before, 100).await,
                expected,
                "before {before}"
            );
        }
        assert_eq!(history(&db, 2, u64::MAX, 100).await, ["15 9"]);
        for unknown in [0, 3, u64::MAX] {
            assert_eq!(history(&db, unknown, u64::MAX, 100).await, [""; 0]);
        }
    });
}

/// `history` gives as many as asked, while there are some.
pub fn a_history_page_by_page<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        past(&db).await;
        let all = history(&db, 1, u64::MAX, 100).await;
        for limit in 1..=7 {
            let (mut seen, mut before) = (Vec::new(), Tid::MAX);
            loop {
                let page = db.0.history(P0, Oid(1), before, limit).await;
                let page = page.expect("the history is read");
                assert!(page.len() == limit || page.len() == all.len() - seen.len());
                let Some(last) = page.last() else { break };
                assert!(last.serial < before, "{last:?} is not before {before}");
                before = last.serial;
                seen.extend(page.iter().map(|entry| entry.serial.0));
            }
            assert_eq!(seen, [60, 50, 40, 30, 20, 10]);
        }
        assert_eq!(history(&db, 1, u64::MAX, 0).await, [""; 0]);
    });
}

/// A value outlives the revision that it came with, and keeps its size.
pub fn a_repetition_outlives_what_it_repeats<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        db.apply(store(10, 1, "first").into()).await;
        db.apply(store(20, 1, "x").into()).await;
        db.apply(vec![object(30, 1, same(10)), delete(10, 1)]).await;
        assert_eq!(history(&db, 1, u64::MAX, 9).await, ["30 5", "20 1"]);
        assert_eq!(objects(&db, 30, true, 9).await, ["30/1 first"]);
    });
}

/// What there is at some tid, all pages together.
async fn objects(db: &Db, at: u64, values: bool, entries: usize) -> Vec<String> {
    let (mut lines, mut next) = (Vec::new(), Some(Oid(0)));
    while let Some(min) = next {
        let limit = PageLimit::entries(entries);
        let page = db.0.current(P0, min, Tid(at), values, limit).await;
        let page = page.expect("objects are listed");
        assert!(page.revisions.len() <= entries && page.next.is_none_or(|next| next > min));
        for revision in &page.revisions {
            assert_eq!(revision.record.is_some(), values, "{revision:?}");
            let same = revision
                .data_serial
                .map_or_else(String::new, |tid| format!(" of {}", tid.0));
            let text = revision.record.as_ref().map(|record| &record.data[..]);
            let text = String::from_utf8_lossy(text.unwrap_or(b"?")).into_owned();
            lines.push(format!(
                "{}/{} {text}{same}",
                revision.id.tid.0, revision.id.oid.0
            ));
        }
        next = page.next;
    }
    lines
}

/// `current` tells of each object the newest revision up to a tid, in order of oid; not those that
/// are deleted then, nor those that came later, nor those of other partitions.
pub fn objects_as_they_were<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        past(&db).await;
        db.apply(store(30, 0, "zero").into()).await;
        for (at, expected) in [
            (9, &[][..]),
            (10, &["10/1 a"]),
            (20, &["20/1 ", "15/2 neighbour"]),
            (39, &["30/0 zero", "30/1 a of 10", "15/2 neighbour"]),
            (45, &["30/0 zero", "15/2 neighbour"]),
            (50, &["30/0 zero", "50/1 four", "15/2 neighbour"]),
            (60, &["30/0 zero", "15/2 neighbour"]),
            (u64::MAX, &["30/0 zero", "15/2 neighbour"]),
        ] {
            for entries in [1, 2, 100] {
                assert_eq!(objects(&db, at, true, entries).await, expected, "at {at}");
            }
        }
        let without = objects(&db, 39, false, 100).await;
        assert_eq!(without, ["30/0 ?", "30/1 ? of 10", "15/2 ?"]);
        let limit = PageLimit::entries(9);
        let other =
            db.0.current(Partition(7), Oid(0), Tid::MAX, true, limit)
                .await;
        assert_eq!(
            other.expect("objects are listed"),
            neo_api::CurrentPage::default()
        );
    });
}

/// A page of `current` looks at so many objects, also at those that it does not tell of, and ends
/// with the one that reaches the bytes; the next one begins where it ended.
pub fn objects_page_by_page<F: BackendFactory>(factory: &F) {
    with(factory, async |db| {
        let mut ops = Vec::new();
        for oid in 1..=40 {
            if oid % 10 == 0 {
                ops.extend(store(10, oid, "12345678"));
            } else {
                ops.push(object(10, oid, ObjectData::Deleted));
            }
        }
        db.apply(ops).await;
        for (min, entries, bytes, expected, next) in [
            (0, 9, usize::MAX, &[][..], Some(10)),
            (0, 10, usize::MAX, &[10], Some(11)),
            (10, 1, usize::MAX, &[10], Some(11)),
            (11, 29, usize::MAX, &[20, 30], Some(40)),
            (0, 40, usize::MAX, &[10, 20, 30, 40], Some(41)),
            (0, 41, usize::MAX, &[10, 20, 30, 40], None),
            (0, 1000, 0, &[10], Some(11)),
            (0, 1000, 8, &[10], Some(11)),
            (0, 1000, 9, &[10, 20], Some(21)),
            (31, 1000, 9, &[40], None),
            (41, 1000, 9, &[], None),
            (u64::MAX, 1000, 9, &[], None),
        ] {
            let limit = PageLimit { entries, bytes };
            let page = db.0.current(P0, Oid(min), Tid::MAX, true, limit).await;
            let page = page.expect("objects are listed");
            let oids: Vec<u64> = page.revisions.iter().map(|r| r.id.oid.0).collect();
            assert_eq!(
                (&oids[..], page.next),
                (expected, next.map(Oid)),
                "{min} {limit:?}"
            );
        }
    });
}
