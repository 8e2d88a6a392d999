//! A database that an earlier build wrote opens, and has what it had. `NEO_BLESS=1` writes the
//! file anew, which is right only together with a new version of the schema.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "support/golden.rs"]
mod golden;

use std::path::{Path, PathBuf};

use golden::{contents, fill, run};
use neo_api::StorageBackend;
use neo_backends::{SqliteBackend, SqliteSettings};

/// The schema that this build writes.
const NEWEST: u32 = 3;

#[test]
fn a_database_of_each_schema_opens() {
    let directory = tempfile::tempdir().unwrap();
    let fresh = directory.path().join("fresh.sqlite");
    let backend = SqliteBackend::open(&SqliteSettings::new(&fresh)).unwrap();
    fill(&backend);
    let expected = contents(&backend);
    run(backend.close()).unwrap();
    drop(backend);

    for schema in 1..=NEWEST {
        let golden: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/golden/schema-{schema}.sqlite"));
        if schema == NEWEST && std::env::var_os("NEO_BLESS").is_some() {
            std::fs::copy(&fresh, &golden).unwrap();
        }
        let copy = directory.path().join(format!("copy-{schema}.sqlite"));
        std::fs::copy(&golden, &copy).unwrap();
        let version = |path: &Path| -> u32 {
            let file = rusqlite::Connection::open(path).unwrap();
            file.query_row("PRAGMA user_version", [], |row| row.get(0))
                .unwrap()
        };
        assert_eq!(version(&copy), schema);
        let backend = SqliteBackend::open(&SqliteSettings::new(&copy)).unwrap();
        let found = contents(&backend);
        for (found, expected) in found.lines().zip(expected.lines()) {
            assert_eq!(found, expected, "schema {schema}");
        }
        assert_eq!(found.lines().count(), expected.lines().count());
        assert!(found.lines().count() > 14, "{found}");
        assert_eq!(backend.check().unwrap(), Vec::<String>::new());
        run(backend.close()).unwrap();
        assert_eq!(version(&copy), NEWEST);
    }
}
