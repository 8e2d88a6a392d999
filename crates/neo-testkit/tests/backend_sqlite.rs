//! The SQLite backend keeps the promises of a backend, on threads and inline.

use std::sync::Arc;

use neo_api::{BackendResult, StorageBackend};
use neo_backends::{SqliteBackend, SqliteSettings};
use neo_testkit::conformance::backend::{BackendFactory, Capability};
use tempfile::TempDir;

/// Databases in directories of their own, by the way they are opened, and what they can do.
struct Sqlite(
    fn(&SqliteSettings) -> BackendResult<SqliteBackend>,
    &'static [Capability],
);

impl Sqlite {
    fn database(
        &self,
        directory: &TempDir,
        bytes: Option<u64>,
    ) -> BackendResult<Arc<dyn StorageBackend>> {
        let mut settings = SqliteSettings::new(directory.path().join("test.sqlite"));
        if let Some(bytes) = bytes {
            settings.max_database_bytes = Some(bytes);
            settings.reserve_bytes = bytes / 8;
        }
        Ok(Arc::new((self.0)(&settings)?))
    }

    fn create(&self, bytes: Option<u64>) -> (TempDir, Arc<dyn StorageBackend>) {
        let directory = tempfile::tempdir().expect("a temporary directory is made");
        let backend = self.database(&directory, bytes);
        (directory, backend.expect("a database is created"))
    }
}

impl BackendFactory for Sqlite {
    type Guard = TempDir;

    fn open_limited(&self, bytes: u64) -> Option<(TempDir, Arc<dyn StorageBackend>)> {
        Some(self.create(Some(bytes)))
    }

    fn open(&self) -> (TempDir, Arc<dyn StorageBackend>) {
        self.create(None)
    }

    fn declared(&self) -> &[Capability] {
        self.1
    }

    fn reopen(&self, directory: &TempDir) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        Some(self.database(directory, None))
    }
}

mod threads {
    use super::Capability::{LimitedSpace, Persistent};
    use super::*;

    neo_testkit::backend_conformance!(Sqlite(SqliteBackend::open, &[Persistent, LimitedSpace]));
}

mod inline {
    use super::Capability::{Inline, LimitedSpace, Persistent};
    use super::*;

    neo_testkit::backend_conformance!(Sqlite(
        SqliteBackend::open_inline,
        &[Persistent, LimitedSpace, Inline]
    ));
}
