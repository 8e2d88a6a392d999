//! Looking through an SQLite database that is in use.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use neo_api::{
    DataId, Durability, ObjectData, Oid, Partition, Record, RevisionId, StorageBackend, Tid,
    TransactionMeta, TransactionRecord, WriteBatch, WriteOp,
};
use neo_backends::{SqliteBackend, SqliteSettings};
use rusqlite::Connection;
use tempfile::TempDir;

/// More than is read at once.
const REVISIONS: u64 = 1_200;

struct Place {
    _directory: TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.sqlite");
    Place {
        _directory: directory,
        path,
    }
}

impl Place {
    fn open(&self) -> SqliteBackend {
        SqliteBackend::open(&SqliteSettings::new(&self.path)).unwrap()
    }

    /// A database that is closed, with so much in it.
    fn filled() -> Self {
        let place = place();
        let backend = place.open();
        for n in (1..=REVISIONS).step_by(100) {
            apply(
                &backend,
                (n..n + 100).flat_map(store).collect::<Vec<_>>().into(),
            );
        }
        run(backend.close()).unwrap();
        place
    }

    fn change(&self, text: &str) {
        let file = Connection::open(&self.path).unwrap();
        file.execute_batch(text).unwrap();
    }

    /// Changes the revisions behind the back of their index.
    fn change_without_index(&self, text: &str) {
        let file = Connection::open(&self.path).unwrap();
        let (page, sql): (i64, String) = file
            .query_row(
                "SELECT rootpage, sql FROM sqlite_schema WHERE name = 'obj_history'",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        drop(file);
        self.change(
            "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'obj_history';",
        );
        self.change(text);
        self.change(&format!(
            "PRAGMA writable_schema = ON;
             INSERT INTO sqlite_schema VALUES ('index', 'obj_history', 'obj', {page}, '{sql}');"
        ));
    }
}

fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn store(n: u64) -> Vec<WriteOp> {
    let id = RevisionId {
        tid: Tid(n),
        oid: Oid(n % 50),
    };
    let partition = Partition(0);
    vec![
        WriteOp::PutData {
            id: DataId(n),
            owner: None,
            record: Record::raw(vec![n as u8; 100].into()),
        },
        WriteOp::PutObject {
            partition,
            id,
            data: ObjectData::Value(DataId(n)),
        },
        WriteOp::PutTransaction {
            partition,
            record: TransactionRecord {
                tid: id.tid,
                txn: None,
                meta: TransactionMeta::default(),
                oids: vec![id.oid],
                packed: false,
                pack: None,
            },
        },
    ]
}

fn apply(backend: &SqliteBackend, batch: WriteBatch) {
    run(backend.apply(batch, Durability::Buffered)).unwrap();
}

#[test]
fn nothing_is_wrong_with_a_database_that_is_written_meanwhile() {
    let place = Place::filled();
    let backend = place.open();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 10_000.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let mut ops = store(n);
                let gone = RevisionId {
                    tid: Tid(n - 10),
                    oid: Oid((n - 10) % 50),
                };
                ops.push(WriteOp::DeleteObject {
                    partition: Partition(0),
                    id: gone,
                });
                apply(&backend, ops.into());
            }
        });
        for _ in 0..20 {
            assert_eq!(backend.check().unwrap(), Vec::<String>::new());
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_is_wrong_is_told() {
    let cases: [(&str, &str); 5] = [
        (
            "UPDATE data SET value = x'00' WHERE id = 700",
            "the value 700: its 1 bytes do not have its checksum",
        ),
        (
            "UPDATE data SET compression = 77 WHERE id = 1200",
            "the value 1200: ",
        ),
        (
            "DELETE FROM data WHERE id = 3",
            "the revision 0, 3, 3: its value is not there",
        ),
        (
            "UPDATE trans SET oids = x'0102' WHERE tid = 600",
            "the transaction 0, 600: oids of a transaction cannot be read",
        ),
        (
            "UPDATE trans SET user = 'a text' WHERE tid = 1",
            "the transaction 0, 1: ",
        ),
    ];
    for (damage, words) in cases {
        let place = Place::filled();
        place.change(damage);
        let findings = place.open().check().unwrap();
        assert_eq!(findings.len(), 1, "{damage}: {findings:?}");
        assert!(findings[0].starts_with(words), "{damage}: {findings:?}");
    }
}

#[test]
fn revisions_and_their_history_are_compared() {
    for (damage, words) in [
        (
            "DELETE FROM obj WHERE tid = 900",
            "the entry of the history 0, 900, 0: there is no such revision",
        ),
        (
            "INSERT INTO obj VALUES (0, 7, 8, NULL, NULL, 0)",
            "the revision 0, 7, 8: it is not in the history",
        ),
    ] {
        let place = Place::filled();
        place.change_without_index(damage);
        assert_eq!(place.open().check().unwrap(), [words]);
    }
}

#[test]
fn a_database_that_is_damaged_all_over_is_told_of_in_a_hundred_lines() {
    let place = Place::filled();
    place.change("UPDATE data SET value = x'00'");
    let findings = place.open().check().unwrap();
    assert_eq!(findings.len(), 101);
    assert_eq!(findings.last().unwrap(), "and maybe more");
}
