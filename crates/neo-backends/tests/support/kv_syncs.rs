//! The system calls of a batch, and what an engine does when the system refuses them.

use std::path::Path;

use neo_api::{BackendError, BackendResult, Durability, KvBatch, KvEngine, Space};

use crate::{strace, work};

/// Beside the database: how many batches were applied before one failed.
const ACKNOWLEDGED: &str = "acknowledged";

/// What is traced.
pub(crate) fn apply(engine: &impl KvEngine) {
    strace::mark("buffered");
    for n in 1..10 {
        engine.apply(work::batch(n), Durability::Buffered).unwrap();
    }
    strace::mark("synced");
    engine.apply(work::batch(10), Durability::Synced).unwrap();
    strace::mark("buffered-again");
    engine.apply(work::batch(11), Durability::Buffered).unwrap();
    strace::mark("nothing-synced");
    engine
        .apply(KvBatch::default(), Durability::Synced)
        .unwrap();
    strace::mark("end");
}

/// What a test that calls [`apply`] asks the system for.
pub(crate) fn trace(test: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let calls = strace::with_marks("fdatasync,pwrite64");
    strace::run(test, &directory.path().join("database"), &calls)
}

/// The calls between two marks: `w` a write to a file of this name, `s` a sync of it.
pub(crate) fn calls(trace: &str, marks: [&str; 2], file: &str) -> String {
    let file = format!("/{file}>");
    strace::calls(trace, marks, |line| match () {
        () if line.contains("pwrite64(") && line.contains(&file) => Some('w'),
        () if line.contains("fdatasync(") && line.contains(&file) => Some('s'),
        () => None,
    })
}

/// What the system refuses: then and from then on, an error, and no panic, and no waiting.
pub(crate) fn until_refused(engine: &impl KvEngine, database: &Path) {
    let applied = (1..200).map(|n| {
        engine
            .apply(work::batch(n), Durability::Synced)
            .map_err(|e| (n, e))
    });
    let (failed, error) = applied.filter_map(Result::err).next().unwrap();
    assert!(matches!(error, BackendError::Failed { .. }), "{error:?}");
    let again = engine.apply(KvBatch::default(), Durability::Buffered);
    assert!(matches!(again, Err(BackendError::Closed(_))), "{again:?}");
    let read = engine.get(Space::Config, b"count");
    assert!(matches!(read, Err(BackendError::Closed(_))), "{read:?}");
    let acknowledged = database.with_file_name(ACKNOWLEDGED);
    std::fs::write(acknowledged, (failed - 1).to_string()).unwrap();
}

/// That a refusal, to a test that calls [`until_refused`], ends the engine, and nothing else.
pub(crate) fn check_refused<E: KvEngine>(
    test: &str,
    open: impl Fn(&Path) -> BackendResult<E>,
    calls: &str,
    how: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("database");
    strace::run(test, &database, &strace::refused(calls, how));
    let acknowledged = std::fs::read_to_string(directory.path().join(ACKNOWLEDGED)).unwrap();
    let found = work::check(&open(&database).unwrap());
    assert!(
        found >= acknowledged.parse().unwrap(),
        "{found} of {acknowledged}"
    );
}
