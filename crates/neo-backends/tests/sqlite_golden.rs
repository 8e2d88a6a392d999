//! A database that an earlier build wrote opens, and has what it had. `NEO_BLESS=1` writes the
//! file anew, which is right only together with a new version of the schema.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "support/golden.rs"]
mod golden;

use std::path::{Path, PathBuf};

use golden::{contents, fill, run};
use neo_api::StorageBackend;
use neo_backends::{SqliteBackend, SqliteSettings};

#[test]
fn a_database_of_schema_1_opens() {
    let directory = tempfile::tempdir().unwrap();
    let fresh = directory.path().join("fresh.sqlite");
    let backend = SqliteBackend::open(&SqliteSettings::new(&fresh)).unwrap();
    fill(&backend);
    let expected = contents(&backend);
    run(backend.close()).unwrap();
    drop(backend);

    let golden: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schema-1.sqlite");
    if std::env::var_os("NEO_BLESS").is_some() {
        std::fs::copy(&fresh, &golden).unwrap();
    }
    let copy = directory.path().join("copy.sqlite");
    std::fs::copy(&golden, &copy).unwrap();
    let backend = SqliteBackend::open(&SqliteSettings::new(&copy)).unwrap();
    let found = contents(&backend);
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
    assert!(found.lines().count() > 14, "{found}");
    run(backend.close()).unwrap();
}
