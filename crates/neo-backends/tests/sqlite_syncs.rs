//! The system calls of a commit: what `Synced` promises is a sync after the last write to the log
//! and before the answer; `Buffered` has none. And what happens when the system refuses them.
//!
//! The tests run themselves under strace.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::ffi::OsString;

use neo_api::{
    BackendError, BackendResult, DataId, Durability, ObjectData, Oid, Partition, Record,
    RevisionId, StorageBackend, Tid, WriteBatch, WriteOp,
};
use neo_backends::{SqliteBackend, SqliteSettings, Synchronous};

#[path = "support/strace.rs"]
mod strace;

fn store(n: u64) -> WriteBatch {
    let id = RevisionId {
        tid: Tid(n),
        oid: Oid(n),
    };
    let data = ObjectData::Value(DataId(n));
    let record = Record::raw(vec![1; 3000].into());
    vec![
        WriteOp::PutData {
            id: DataId(n),
            owner: None,
            record,
        },
        WriteOp::PutObject {
            partition: Partition(0),
            id,
            data,
        },
    ]
    .into()
}

#[test]
fn traced() {
    trace_of(Synchronous::Full);
}

#[test]
fn traced_without_syncs() {
    trace_of(Synchronous::Off);
}

/// What is traced.
fn trace_of(synchronous: Synchronous) {
    let Some(path) = strace::traced() else {
        return;
    };
    let mut settings = SqliteSettings::new(path);
    settings.synchronous = synchronous;
    strace::mark("create");
    let backend = SqliteBackend::open(&settings).unwrap();
    let apply = |batch, durability| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(backend.apply(batch, durability)).unwrap();
    };
    strace::mark("buffered");
    for n in 1..10 {
        apply(store(n), Durability::Buffered);
    }
    strace::mark("synced");
    apply(store(10), Durability::Synced);
    strace::mark("buffered-again");
    apply(store(11), Durability::Buffered);
    strace::mark("nothing-synced");
    apply(WriteBatch::new(), Durability::Synced);
    strace::mark("nothing-at-all");
    apply(WriteBatch::new(), Durability::Synced);
    strace::mark("end");
}

/// The calls between two marks: `w` a write to the log, `s` a sync of it, `d` a sync of the
/// directory.
fn calls(trace: &str, from: &str, to: &str) -> String {
    strace::calls(trace, [from, to], |line| match () {
        () if line.contains("pwrite64(") && line.contains("-wal>") => Some('w'),
        () if line.contains("sync(") && line.contains("-wal>") => Some('s'),
        () if line.contains("sync(") && !line.contains("db") => Some('d'),
        () => None,
    })
}

fn trace(test: &str) -> String {
    run_traced(test, &strace::with_marks("fsync,fdatasync,pwrite64"))
}

/// Runs a test of this file, on a database in a new directory, under strace.
fn run_traced(test: &str, arguments: &[OsString]) -> String {
    let directory = tempfile::tempdir().unwrap();
    strace::run(test, &directory.path().join("db"), arguments)
}

fn apply(backend: &SqliteBackend, n: u64, durability: Durability) -> BackendResult<()> {
    run(backend.apply(store(n), durability))
}

fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn revisions(backend: &SqliteBackend) -> BackendResult<usize> {
    let every = RevisionId {
        tid: Tid(0),
        oid: Oid(0),
    };
    Ok(run(backend.revisions(Partition(0), every, Tid::MAX, usize::MAX))?.len())
}

#[test]
fn syncs_fail() {
    let Some(path) = strace::traced() else {
        return;
    };
    let backend = SqliteBackend::open(&SqliteSettings::new(&path)).unwrap();
    let failed = (1..100).find(|n| apply(&backend, *n, Durability::Synced).is_err());
    let failed = failed.expect("a sync fails") as usize;
    let is_closed = |error: BackendError| matches!(error, BackendError::Closed(_));
    assert!(is_closed(revisions(&backend).unwrap_err()));
    assert!(is_closed(
        apply(&backend, 200, Durability::Buffered).unwrap_err()
    ));
    assert!(is_closed(run(backend.close()).unwrap_err()));
    drop(backend);
    let file = rusqlite::Connection::open(&path).unwrap();
    let n: isize = file
        .query_row("SELECT count(*) FROM obj", [], |row| row.get(0))
        .unwrap();
    // The one whose sync failed is there or not, which is why the backend closed.
    let n = n as usize;
    assert!(n == failed || n == failed - 1, "{n} of {failed}");
}

#[test]
fn a_failed_sync_closes_the_backend() {
    let refused = strace::refused("fsync,fdatasync", "error=EIO:when=15+");
    run_traced("syncs_fail", &refused);
}

#[test]
fn syncs_fail_beside() {
    let Some(path) = strace::traced() else {
        return;
    };
    let backend = SqliteBackend::open(&SqliteSettings::new(&path)).unwrap();
    let failed = (1..300).find_map(|n| {
        let record = Record::raw(vec![1; 1 << 20].into());
        let put = WriteOp::PutData {
            id: DataId(n),
            owner: None,
            record,
        };
        run(backend.apply(vec![put].into(), Durability::Buffered)).err()
    });
    assert!(failed.is_some(), "no sync fails");
    assert!(matches!(revisions(&backend), Err(BackendError::Closed(_))));
}

/// What is buffered is synced where the log's pages are moved; when that fails it may be lost, and
/// no later batch may be said to be durable.
#[test]
fn a_sync_that_fails_beside_the_writer_closes_the_backend() {
    let refused = strace::refused("fsync,fdatasync", "error=EIO:when=15+");
    run_traced("syncs_fail_beside", &refused);
}

#[test]
fn writes_find_no_space() {
    let Some(path) = strace::traced() else {
        return;
    };
    let settings = SqliteSettings::new(&path);
    let backend = SqliteBackend::open(&settings).unwrap();
    let (mut applied, mut full) = (0, 0);
    for n in 1..300 {
        let durability = if n % 2 == 0 {
            Durability::Buffered
        } else {
            Durability::Synced
        };
        match apply(&backend, n, durability) {
            Ok(()) => applied += 1,
            Err(BackendError::Full) => full += 1,
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(revisions(&backend).unwrap(), applied);
    }
    assert!(
        applied > 50 && full > 50,
        "{applied} applied, {full} refused"
    );
    drop(backend);
    let file = rusqlite::Connection::open(&path).unwrap();
    let n: isize = file
        .query_row("SELECT count(*) FROM obj", [], |row| row.get(0))
        .unwrap();
    assert_eq!(n as usize, applied);
}

#[test]
fn a_full_disk_refuses_batches_and_loses_none() {
    let refused = strace::refused("pwrite64", "error=ENOSPC:when=60+13");
    run_traced("writes_find_no_space", &refused);
}

#[test]
fn a_synced_batch_is_synced_before_it_is_acknowledged() {
    let trace = trace("traced");
    assert!(calls(&trace, "create", "buffered").contains('d'), "{trace}");
    let buffered = calls(&trace, "buffered", "synced");
    assert!(
        buffered.contains('w') && !buffered.contains('s'),
        "{buffered}"
    );
    let synced = calls(&trace, "synced", "buffered-again");
    assert!(synced.contains('w') && synced.ends_with('s'), "{synced}");
    let buffered = calls(&trace, "buffered-again", "nothing-synced");
    assert!(
        buffered.contains('w') && !buffered.contains('s'),
        "{buffered}"
    );
    // Nothing to write, but a batch before it to make durable.
    let synced = calls(&trace, "nothing-synced", "nothing-at-all");
    assert!(synced.ends_with('s'), "{synced}");
    assert_eq!(calls(&trace, "nothing-at-all", "end"), "");
}

/// The same trace shows when nothing is synced: the check above can fail.
#[test]
fn without_syncs_there_are_none() {
    let trace = trace("traced_without_syncs");
    let all = calls(&trace, "buffered", "end");
    assert!(all.contains('w') && !all.contains('s'), "{all}");
}
