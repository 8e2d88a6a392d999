//! The SQLite backend keeps the promises of a backend, on threads and inline.

use std::sync::Arc;

use neo_api::{BackendResult, StorageBackend};
use neo_backends::{SqliteBackend, SqliteSettings};
use neo_testkit::conformance::backend::BackendFactory;
use tempfile::TempDir;

fn settings(directory: &TempDir) -> SqliteSettings {
    SqliteSettings::new(directory.path().join("test.sqlite"))
}

fn limited(directory: &TempDir, bytes: u64) -> SqliteSettings {
    let mut settings = settings(directory);
    settings.max_database_bytes = Some(bytes);
    settings.reserve_bytes = bytes / 8;
    settings
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory is made")
}

mod threads {
    use super::*;

    struct Threads;

    fn open(directory: &TempDir) -> BackendResult<Arc<dyn StorageBackend>> {
        Ok(Arc::new(SqliteBackend::open(&settings(directory))?))
    }

    impl BackendFactory for Threads {
        type Guard = TempDir;

        fn open_limited(&self, bytes: u64) -> Option<(TempDir, Arc<dyn StorageBackend>)> {
            let directory = directory();
            let backend = SqliteBackend::open(&limited(&directory, bytes));
            Some((directory, Arc::new(backend.expect("a database is created"))))
        }

        fn open(&self) -> (TempDir, Arc<dyn StorageBackend>) {
            let directory = directory();
            let backend = open(&directory).expect("a database is created");
            (directory, backend)
        }

        fn reopen(&self, directory: &TempDir) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
            Some(open(directory))
        }
    }

    neo_testkit::backend_conformance!(Threads);
}

mod inline {
    use super::*;

    struct Inline;

    fn open(directory: &TempDir) -> BackendResult<Arc<dyn StorageBackend>> {
        Ok(Arc::new(SqliteBackend::open_inline(&settings(directory))?))
    }

    impl BackendFactory for Inline {
        type Guard = TempDir;

        fn open_limited(&self, bytes: u64) -> Option<(TempDir, Arc<dyn StorageBackend>)> {
            let directory = directory();
            let backend = SqliteBackend::open_inline(&limited(&directory, bytes));
            Some((directory, Arc::new(backend.expect("a database is created"))))
        }

        fn open(&self) -> (TempDir, Arc<dyn StorageBackend>) {
            let directory = directory();
            let backend = open(&directory).expect("a database is created");
            (directory, backend)
        }

        fn reopen(&self, directory: &TempDir) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
            Some(open(directory))
        }
    }

    neo_testkit::backend_conformance!(Inline);
}
