//! The system calls of a batch: `Synced` is a sync after the last write, before the answer. And what
//! happens when the system refuses.

use std::path::Path;

use neo_api::BackendResult;
use neo_backends::{RedbEngine, RedbSettings};

use crate::{kv_syncs, strace};

fn open(path: &Path) -> BackendResult<RedbEngine> {
    RedbEngine::open(&RedbSettings::new(path))
}

#[test]
fn traced() {
    if let Some(path) = strace::traced() {
        kv_syncs::apply(&open(&path).unwrap());
    }
}

#[test]
fn synced_is_a_sync_after_the_last_write() {
    let calls = |trace: &str, marks| kv_syncs::calls(trace, marks, "database");
    let trace = kv_syncs::trace("syncs::traced");
    // A file that grows is synced, at any time; it grows by ever more.
    let buffered = calls(&trace, ["buffered", "synced"]);
    assert!(buffered.matches('s').count() < 5, "{buffered}");
    for marks in [["synced", "buffered-again"], ["nothing-synced", "end"]] {
        let calls = calls(&trace, marks);
        assert!(calls.ends_with("ws"), "{marks:?}: {calls}");
    }
}

#[test]
fn refused() {
    if let Some(path) = strace::traced() {
        kv_syncs::until_refused(&open(&path).unwrap(), &path);
    }
}

#[test]
fn a_sync_that_fails_ends_the_engine() {
    kv_syncs::check_refused("syncs::refused", open, "fdatasync", "error=EIO:when=7+");
}

#[test]
fn a_write_that_fails_ends_the_engine() {
    for when in [8, 9, 10, 11, 30] {
        let how = format!("error=ENOSPC:when={when}+");
        kv_syncs::check_refused("syncs::refused", open, "pwrite64", &how);
    }
}
