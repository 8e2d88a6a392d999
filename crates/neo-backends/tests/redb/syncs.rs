//! The system calls of a batch: `Synced` is a sync after the last write, before the answer. And what happens when the system refuses.
//!
//! The tests run themselves under strace.

use std::path::Path;
use std::process::Command;

use neo_api::{BackendError, Durability, KvBatch, KvEngine, Space};
use neo_backends::{RedbEngine, RedbSettings};

use crate::work;

const DATABASE: &str = "NEO_TEST_REDB_SYNCS";

/// Beside the database: how many batches were applied before one failed.
const ACKNOWLEDGED: &str = "acknowledged";

fn mark(name: &str) {
    assert!(!Path::new("/mark").join(name).exists());
}

/// What is traced: each mark is a look at a file that does not exist.
#[test]
fn traced() {
    let Some(path) = std::env::var_os(DATABASE) else {
        return;
    };
    let engine = RedbEngine::open(&RedbSettings::new(path)).unwrap();
    mark("buffered");
    for n in 1..10 {
        engine.apply(work::batch(n), Durability::Buffered).unwrap();
    }
    mark("synced");
    engine.apply(work::batch(10), Durability::Synced).unwrap();
    mark("buffered-again");
    engine.apply(work::batch(11), Durability::Buffered).unwrap();
    mark("nothing-synced");
    engine
        .apply(KvBatch::default(), Durability::Synced)
        .unwrap();
    mark("end");
}

/// Runs a test of this file, on a database in a directory, under strace; what it traced.
fn strace(directory: &Path, test: &str, arguments: &[&str]) -> String {
    let out = directory.join("trace");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-y"])
        .args(arguments)
        .arg("-o")
        .arg(&out);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(DATABASE, directory.join("database"));
    let output = command.output();
    let output = output.expect("strace is installed, as `cargo xtask test` does");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    std::fs::read_to_string(out).unwrap()
}

/// The calls between two marks: `w` a write to the file, `s` a sync of it.
fn calls(trace: &str, from: &str, to: &str) -> String {
    let from = trace.find(&format!("/mark/{from}\"")).unwrap();
    let to = trace.find(&format!("/mark/{to}\"")).unwrap();
    let kind = |line: &str| match () {
        () if line.contains("pwrite64(") && line.contains("/database>") => Some('w'),
        () if line.contains("fdatasync(") && line.contains("/database>") => Some('s'),
        () => None,
    };
    trace[from..to].lines().filter_map(kind).collect()
}

#[test]
fn synced_is_a_sync_after_the_last_write() {
    let calls_of = "trace=fdatasync,pwrite64,stat,statx,newfstatat";
    let directory = tempfile::tempdir().unwrap();
    let trace = strace(directory.path(), "syncs::traced", &["-e", calls_of]);
    // A file that grows is synced, at any time; it grows by ever more.
    let buffered = calls(&trace, "buffered", "synced");
    assert!(buffered.matches('s').count() < 5, "{buffered}");
    for (from, to) in [("synced", "buffered-again"), ("nothing-synced", "end")] {
        let calls = calls(&trace, from, to);
        assert!(calls.ends_with("ws"), "{from}: {calls}");
    }
}

/// What the system refuses: then and from then on, an error, and no panic, and no waiting.
#[test]
fn refused() {
    let Some(path) = std::env::var_os(DATABASE) else {
        return;
    };
    let acknowledged = Path::new(&path).with_file_name(ACKNOWLEDGED);
    let engine = RedbEngine::open(&RedbSettings::new(path)).unwrap();
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
    std::fs::write(acknowledged, (failed - 1).to_string()).unwrap();
}

/// That a refusal ends the engine, and nothing else.
fn check_refused(inject: &str) {
    let directory = tempfile::tempdir().unwrap();
    strace(directory.path(), "syncs::refused", &["-e", inject]);
    let acknowledged = std::fs::read_to_string(directory.path().join(ACKNOWLEDGED)).unwrap();
    let settings = RedbSettings::new(directory.path().join("database"));
    let found = work::check(&RedbEngine::open(&settings).unwrap());
    assert!(
        found >= acknowledged.parse().unwrap(),
        "{found} of {acknowledged}"
    );
}

#[test]
fn a_sync_that_fails_ends_the_engine() {
    check_refused("inject=fdatasync:error=EIO:when=7+");
}

#[test]
fn a_write_that_fails_ends_the_engine() {
    for when in [8, 9, 10, 11, 30] {
        check_refused(&format!("inject=pwrite64:error=ENOSPC:when={when}+"));
    }
}
