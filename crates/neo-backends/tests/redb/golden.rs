//! A database that an earlier build wrote opens, and has what it had. `NEO_BLESS=1` writes the
//! file anew, which is right only together with a new format.

use std::path::Path;

use neo_api::StorageBackend;
use neo_backends::{RedbEngine, RedbSettings};

use crate::golden_data::{contents, fill, run};

#[test]
fn a_database_of_format_1_opens() {
    let directory = tempfile::tempdir().unwrap();
    let fresh = directory.path().join("fresh.redb");
    let backend = RedbEngine::open_backend(&RedbSettings::new(&fresh)).unwrap();
    fill(&backend);
    let expected = contents(&backend);
    run(backend.close()).unwrap();
    drop(backend);

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1.redb");
    if std::env::var_os("NEO_BLESS").is_some() {
        std::fs::copy(&fresh, &golden).unwrap();
    }
    let copy = directory.path().join("copy.redb");
    std::fs::copy(&golden, &copy).unwrap();
    let backend = RedbEngine::open_backend(&RedbSettings::new(&copy)).unwrap();
    let found = contents(&backend);
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
    assert!(found.lines().count() > 14, "{found}");
    run(backend.close()).unwrap();
}
