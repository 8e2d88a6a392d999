//! A process that dies, and files that were copied.

use std::path::Path;

use neo_api::BackendResult;
use neo_backends::{SledEngine, SledSettings};

use crate::kv_crash;

fn open(path: &Path) -> BackendResult<SledEngine> {
    SledEngine::open(&SledSettings::new(path))
}

/// What is killed.
#[test]
fn killed() {
    if let Some(path) = kv_crash::to_be_killed() {
        kv_crash::go_on(&open(&path).unwrap());
    }
}

#[test]
fn a_prefix_remains_that_holds_what_was_synced() {
    kv_crash::check_kills("crash::killed", open);
}

#[test]
fn a_copy_of_the_files_has_what_was_synced() {
    kv_crash::check_copy(open);
}
