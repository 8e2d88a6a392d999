//! The SQLite backend and its file: what it refuses, what it survives, and how much it takes.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::path::{Path, PathBuf};

use neo_api::{
    At, BackendError, BackendResult, DataId, Durability, Loaded, ObjectData, Oid, PageLimit,
    Partition, Record, RevisionId, StorageBackend, Tid, WriteBatch, WriteOp,
};
use neo_backends::{SqliteBackend, SqliteSettings, Synchronous};
use rusqlite::Connection;
use tempfile::TempDir;

const P: Partition = Partition(0);

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
    fn open(&self) -> BackendResult<SqliteBackend> {
        SqliteBackend::open(&self.settings())
    }

    fn settings(&self) -> SqliteSettings {
        SqliteSettings::new(&self.path)
    }
}

fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn store(n: u64, bytes: Vec<u8>) -> WriteBatch {
    let id = RevisionId {
        tid: Tid(n),
        oid: Oid(n % 50),
    };
    let (partition, data) = (P, ObjectData::Value(DataId(n)));
    vec![
        WriteOp::PutData {
            id: DataId(n),
            owner: None,
            record: Record::raw(bytes.into()),
        },
        WriteOp::PutObject {
            partition,
            id,
            data,
        },
    ]
    .into()
}

fn apply(backend: &SqliteBackend, batch: WriteBatch, durability: Durability) -> BackendResult<()> {
    run(backend.apply(batch, durability))
}

fn fill(backend: &SqliteBackend, n: u64) {
    for n in 1..=n {
        apply(backend, store(n, vec![n as u8; 5000]), Durability::Buffered).unwrap();
    }
}

fn revisions(backend: &SqliteBackend) -> BackendResult<usize> {
    let every = RevisionId {
        tid: Tid(0),
        oid: Oid(0),
    };
    Ok(run(backend.revisions(P, every, Tid::MAX, usize::MAX))?.len())
}

fn refusal(place: &Place) -> BackendError {
    place.open().map(|_| ()).unwrap_err()
}

#[test]
fn a_file_of_something_else_is_refused_and_left_alone() {
    let place = place();
    for contents in [&b"ZODB FileStorage, say"[..], &[0; 5000], &[7; 100_000]] {
        fs::write(&place.path, contents).unwrap();
        let error = refusal(&place);
        assert!(
            matches!(error, BackendError::Incompatible { .. }),
            "{error}"
        );
        assert_eq!(fs::read(&place.path).unwrap(), contents);
    }
    fs::remove_file(&place.path).unwrap();
    let other = Connection::open(&place.path).unwrap();
    other
        .execute_batch("CREATE TABLE config (name TEXT, value TEXT)")
        .unwrap();
    drop(other);
    let before = fs::read(&place.path).unwrap();
    let error = refusal(&place).to_string();
    assert!(
        error.ends_with("it is an SQLite database of something else"),
        "{error}"
    );
    assert_eq!(fs::read(&place.path).unwrap(), before);
}

#[test]
fn a_newer_schema_is_refused() {
    let place = place();
    run(place.open().unwrap().close()).unwrap();
    let newer = Connection::open(&place.path).unwrap();
    newer.execute_batch("PRAGMA user_version = 4").unwrap();
    drop(newer);
    let error = refusal(&place).to_string();
    assert!(
        error.ends_with("its schema has version 4, this one knows 1 to 3"),
        "{error}"
    );
}

#[test]
fn an_empty_file_becomes_a_database() {
    let place = place();
    fs::write(&place.path, b"").unwrap();
    fill(&place.open().unwrap(), 3);
    assert_eq!(revisions(&place.open().unwrap()).unwrap(), 3);
}

#[test]
fn a_place_where_there_can_be_no_file_is_an_error() {
    let place = place();
    let parent = place.path.parent().unwrap();
    for path in [
        parent.to_owned(),
        parent.join("no/such/place"),
        PathBuf::new(),
    ] {
        let error = SqliteBackend::open(&SqliteSettings::new(&path))
            .map(|_| ())
            .unwrap_err();
        assert!(
            matches!(error, BackendError::Failed { .. }),
            "{}: {error}",
            path.display()
        );
    }
}

#[test]
fn another_name_of_an_open_file_is_in_use() {
    let place = place();
    let link = place.path.with_file_name("link");
    let _open = place.open().unwrap();
    std::os::unix::fs::symlink(&place.path, &link).unwrap();
    let error = SqliteBackend::open(&SqliteSettings::new(&link))
        .map(|_| ())
        .unwrap_err();
    match error {
        BackendError::InUse(path) => assert!(path.ends_with("node.sqlite"), "{path}"),
        error => panic!("{error}"),
    }
}

#[test]
fn an_adapter_is_opened_by_name() {
    let place = place();
    let path = place.path.to_str().unwrap();
    let backend = neo_backends::open("sqlite", path).unwrap();
    let info = backend.info();
    assert_eq!(
        (info.name, info.persistent, info.topology.len()),
        ("SQLite", true, 2)
    );
    run(backend.close()).unwrap();
}

#[test]
fn a_full_database_refuses_writes_and_reads_on() {
    let place = place();
    let mut settings = place.settings();
    settings.max_database_bytes = Some(1 << 20);
    let backend = SqliteBackend::open(&settings).unwrap();
    let mut n = 0;
    let error = loop {
        n += 1;
        if let Err(error) = apply(&backend, store(n, vec![1; 5000]), Durability::Buffered) {
            break error;
        }
        assert!(n < 1000, "it never fills");
    };
    assert!(matches!(error, BackendError::Full), "{error}");
    assert!(error.leaves_reads());
    let stored = n as usize - 1;
    assert_eq!(revisions(&backend).unwrap(), stored);
    for durability in [Durability::Synced, Durability::Buffered] {
        let again = apply(&backend, store(n, vec![1; 50_000]), durability);
        assert!(matches!(again, Err(BackendError::Full)), "{again:?}");
        assert_eq!(revisions(&backend).unwrap(), stored);
    }
    // What is deleted makes room.
    let ops = (1..10).map(|tid| WriteOp::DeleteObject {
        partition: P,
        id: RevisionId {
            tid: Tid(tid),
            oid: Oid(tid),
        },
    });
    apply(&backend, ops.collect::<Vec<_>>().into(), Durability::Synced).unwrap();
    apply(&backend, store(n, vec![1; 5000]), Durability::Synced).unwrap();
    run(backend.close()).unwrap();
    // So does a greater limit.
    let backend = place.open().unwrap();
    apply(&backend, store(n + 1, vec![1; 500_000]), Durability::Synced).unwrap();
    assert_eq!(revisions(&backend).unwrap(), stored + 2 - 9);
}

/// A database of a node that was not closed, in one file.
fn abandoned() -> Place {
    let place = place();
    let backend = place.open().unwrap();
    fill(&backend, 200);
    drop(backend);
    place
}

fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
    let mut file = fs::read(path).unwrap();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, file).unwrap();
}

#[test]
fn damage_is_found_after_a_stop_that_was_not_clean() {
    let place = abandoned();
    // A page in the midst is one of those that the tables were filled with.
    let length = fs::metadata(&place.path).unwrap().len() as usize;
    overwrite(&place.path, length / 4096 / 2 * 4096, &[0xa5; 4096]);
    let error = refusal(&place);
    assert!(matches!(error, BackendError::Corrupt(_)), "{error}");
    let mut unchecked = place.settings();
    unchecked.quick_check_bytes_max = 0;
    run(SqliteBackend::open(&unchecked).unwrap().close()).unwrap();
    // Now it was closed: it is not checked.
    assert!(place.open().is_ok());
}

#[test]
fn damage_anywhere_never_panics() {
    let whole = abandoned();
    let bytes = fs::read(&whole.path).unwrap();
    for n in 0..120 {
        let place = place();
        fs::write(&place.path, &bytes).unwrap();
        // The first pages, which have every header, and some of the others.
        let at = if n < 60 {
            n * 97
        } else {
            n * 7919 % (bytes.len() - 16)
        };
        overwrite(&place.path, at, &[(n * 31) as u8; 16]);
        let mut settings = place.settings();
        settings.synchronous = Synchronous::Off;
        settings.quick_check_bytes_max = 0;
        let Ok(backend) = SqliteBackend::open_inline(&settings) else {
            continue;
        };
        let every = RevisionId {
            tid: Tid(0),
            oid: Oid(0),
        };
        let _ = run(backend.fetch(P, every, Tid::MAX, PageLimit::entries(1000)));
        for oid in 0..50 {
            let loaded = run(backend.load(P, Oid(oid), At::Latest));
            assert!(
                !matches!(loaded, Err(BackendError::Closed(_))),
                "{loaded:?}"
            );
        }
        let _ = apply(&backend, store(1000, vec![1; 10_000]), Durability::Synced);
        let _ = run(backend.close());
    }
}

#[test]
fn a_value_that_is_lost_is_corrupt_not_absent() {
    let place = abandoned();
    let file = Connection::open(&place.path).unwrap();
    file.execute("DELETE FROM data WHERE id = 7", []).unwrap();
    drop(file);
    let backend = place.open().unwrap();
    let lost = run(backend.load(P, Oid(7), At::Exact(Tid(7))));
    assert!(matches!(lost, Err(BackendError::Corrupt(_))), "{lost:?}");
    let put = WriteOp::PutObject {
        partition: P,
        id: RevisionId {
            tid: Tid(900),
            oid: Oid(1),
        },
        data: ObjectData::Value(DataId(7)),
    };
    let refused = apply(&backend, vec![put].into(), Durability::Synced);
    assert!(
        matches!(refused, Err(BackendError::Corrupt(_))),
        "{refused:?}"
    );
    assert_eq!(revisions(&backend).unwrap(), 200);
}

#[test]
fn the_log_is_bounded() {
    let place = place();
    let mut settings = place.settings();
    settings.synchronous = Synchronous::Off;
    let backend = SqliteBackend::open(&settings).unwrap();
    let log = place.path.with_file_name("node.sqlite-wal");
    let mut longest = 0;
    for n in 1..=300 {
        apply(
            &backend,
            store(n, vec![n as u8; 1 << 20]),
            Durability::Buffered,
        )
        .unwrap();
        let latest = run(backend.load(P, Oid(n % 50), At::Latest)).unwrap();
        assert!(matches!(latest, Loaded::Found(_)));
        longest = longest.max(fs::metadata(&log).unwrap().len());
    }
    assert!(longest < 80 << 20, "{longest} bytes");
    run(backend.close()).unwrap();
    assert!(!log.exists());
}
