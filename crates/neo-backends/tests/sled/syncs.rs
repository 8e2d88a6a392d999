//! The system calls of a batch: sled asks the system to write, and `Synced` is a sync after that,
//! before the answer. And what happens when the system refuses.

use std::path::Path;

use neo_api::BackendResult;
use neo_backends::{SledEngine, SledSettings};

use crate::{kv_syncs, strace};

fn open(path: &Path) -> BackendResult<SledEngine> {
    SledEngine::open(&SledSettings::new(path))
}

#[test]
fn traced() {
    if let Some(path) = strace::traced() {
        kv_syncs::apply(&open(&path).unwrap());
    }
}

#[test]
fn synced_is_a_sync_after_the_last_write() {
    let calls = |trace: &str, marks| kv_syncs::calls(trace, marks, "db");
    let trace = kv_syncs::trace("syncs::traced");
    assert!(!calls(&trace, ["buffered", "synced"]).contains('s'));
    for marks in [["synced", "buffered-again"], ["nothing-synced", "end"]] {
        let calls = calls(&trace, marks);
        assert!(calls.ends_with("ws"), "{marks:?}: {calls}");
        assert_eq!(calls.matches('s').count(), 1, "{marks:?}: {calls}");
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
