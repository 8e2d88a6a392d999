//! The adapters of this crate.

#[cfg(any(feature = "redb", feature = "sled", feature = "sqlite"))]
use std::path::PathBuf;
use std::sync::Arc;

use neo_api::{BackendInfo, BackendResult, StorageBackend};

#[cfg(any(feature = "redb", feature = "sled", feature = "sqlite"))]
use super::uri;
use super::{Adapter, DatabaseOptions, Place};
use crate::kv::KvBackend;
use crate::limits::DEDUP_BYTES_MIN;
use crate::memory::MemoryEngine;
#[cfg(feature = "mysql")]
use crate::mysql::{MySqlBackend, MySqlSettings, location};
#[cfg(feature = "redb")]
use crate::redb::RedbEngine;
#[cfg(feature = "sled")]
use crate::sled::SledEngine;
#[cfg(feature = "sqlite")]
use crate::sqlite::SqliteBackend;

/// In the order in which they are offered.
pub(super) fn all() -> Vec<Arc<dyn Adapter>> {
    vec![
        Arc::new(Memory),
        #[cfg(feature = "sqlite")]
        Arc::new(Sqlite),
        #[cfg(feature = "redb")]
        Arc::new(Redb),
        #[cfg(feature = "sled")]
        Arc::new(Sled),
        #[cfg(feature = "mysql")]
        Arc::new(MySql),
    ]
}

/// Threads that read from memory.
const MEMORY_READERS: usize = 2;

/// Values of how many bytes are kept once: what the name of the database says comes first.
fn dedup(options: &DatabaseOptions, named: Option<u32>) -> Option<u32> {
    named.or_else(|| options.dedup.then_some(DEDUP_BYTES_MIN))
}

/// Everything in memory, for tests and demonstrations.
#[derive(Debug)]
struct Memory;

impl Adapter for Memory {
    fn name(&self) -> &str {
        "Memory"
    }

    fn place(&self) -> Place {
        Place::Memory
    }

    fn can_dedup(&self) -> bool {
        true
    }

    fn open(&self, options: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>> {
        let info = BackendInfo::new("Memory", false);
        let backend = KvBackend::local(MemoryEngine::default(), info, MEMORY_READERS);
        Ok(Arc::new(backend.deduplicating(dedup(options, None))))
    }
}

/// A file, in this process.
#[cfg(feature = "sqlite")]
#[derive(Debug)]
struct Sqlite;

#[cfg(feature = "sqlite")]
impl Adapter for Sqlite {
    fn name(&self) -> &str {
        "SQLite"
    }

    fn place(&self) -> Place {
        Place::Path
    }

    fn database_help(&self) -> &str {
        "the path of a file"
    }

    fn can_dedup(&self) -> bool {
        true
    }

    fn open(&self, options: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>> {
        let mut settings = uri::sqlite_settings(&options.database)?;
        settings.dedup_bytes_min = dedup(options, settings.dedup_bytes_min);
        Ok(Arc::new(SqliteBackend::open(&settings)?))
    }

    fn files(&self, options: &DatabaseOptions) -> BackendResult<Vec<PathBuf>> {
        let path = uri::sqlite_settings(&options.database)?.path;
        let with_suffix = |suffix| {
            let mut file = path.clone().into_os_string();
            file.push(suffix);
            PathBuf::from(file)
        };
        let suffixes = ["", "-wal", "-shm", "-journal", ".reserve"];
        Ok(suffixes.map(with_suffix).into())
    }
}

/// A file, in this process.
#[cfg(feature = "redb")]
#[derive(Debug)]
struct Redb;

#[cfg(feature = "redb")]
impl Adapter for Redb {
    fn name(&self) -> &str {
        "Redb"
    }

    fn place(&self) -> Place {
        Place::Path
    }

    fn database_help(&self) -> &str {
        "the path of a file"
    }

    fn can_dedup(&self) -> bool {
        true
    }

    fn open(&self, options: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>> {
        let mut settings = uri::redb_settings(&options.database)?;
        settings.dedup_bytes_min = dedup(options, settings.dedup_bytes_min);
        Ok(Arc::new(RedbEngine::open_backend(&settings)?))
    }

    fn files(&self, options: &DatabaseOptions) -> BackendResult<Vec<PathBuf>> {
        Ok(vec![uri::redb_settings(&options.database)?.path])
    }
}

/// A directory, in this process.
#[cfg(feature = "sled")]
#[derive(Debug)]
struct Sled;

#[cfg(feature = "sled")]
impl Adapter for Sled {
    fn name(&self) -> &str {
        "Sled"
    }

    fn place(&self) -> Place {
        Place::Path
    }

    fn database_help(&self) -> &str {
        "the path of a directory"
    }

    fn owns_directories(&self) -> bool {
        true
    }

    fn can_dedup(&self) -> bool {
        true
    }

    fn open(&self, options: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>> {
        let mut settings = uri::sled_settings(&options.database)?;
        settings.dedup_bytes_min = dedup(options, settings.dedup_bytes_min);
        Ok(Arc::new(SledEngine::open_backend(&settings)?))
    }

    fn files(&self, options: &DatabaseOptions) -> BackendResult<Vec<PathBuf>> {
        Ok(vec![uri::sled_settings(&options.database)?.path])
    }
}

/// A server. NEO's names of the ways to MySQL mean it, and so does MariaDB.
#[cfg(feature = "mysql")]
#[derive(Debug)]
struct MySql;

#[cfg(feature = "mysql")]
impl MySql {
    fn settings(options: &DatabaseOptions) -> BackendResult<MySqlSettings> {
        let mut settings = location::settings(&options.database)?;
        if let Some(engine) = &options.engine {
            settings.engine = Some(engine.clone());
        }
        settings.dedup_bytes_min = dedup(options, settings.dedup_bytes_min);
        Ok(settings)
    }
}

#[cfg(feature = "mysql")]
impl Adapter for MySql {
    fn name(&self) -> &str {
        "MySQL"
    }

    fn other_names(&self) -> &[&str] {
        &["MariaDB", "MySQLdb", "PyMySQL"]
    }

    fn place(&self) -> Place {
        Place::Server
    }

    fn database_help(&self) -> &str {
        "USER:PASSWORD@NAME/PATH/OF/SOCKET or USER:PASSWORD@NAME:HOST:PORT, of which all but NAME \
         may be left out"
    }

    fn has_engines(&self) -> bool {
        true
    }

    fn can_dedup(&self) -> bool {
        true
    }

    fn open(&self, options: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>> {
        Ok(Arc::new(MySqlBackend::open(&Self::settings(options)?)?))
    }

    fn shown(&self, options: &DatabaseOptions) -> String {
        location::Shown(&options.database).to_string()
    }

    fn erase(&self, options: &DatabaseOptions) -> BackendResult<bool> {
        MySqlBackend::erase(&Self::settings(options)?)?;
        Ok(true)
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use neo_api::BackendError;

    use super::*;

    #[test]
    fn erasing_takes_a_database_and_what_belongs_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let options = DatabaseOptions::new(format!("file:{}?readers=3", path.display()));
        assert!(!Sqlite.erase(&options).unwrap());
        let backend = Sqlite.open(&options).unwrap();
        let error = Sqlite.erase(&options).unwrap_err();
        assert!(matches!(error, BackendError::InUse(_)), "{error}");
        drop(backend);
        assert!(Sqlite.erase(&options).unwrap());
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        // Another process may hold the lock by now: its file is never removed.
        assert!(left.len() <= 1, "{left:?}");
        // Something else stays.
        std::fs::write(&path, "a letter").unwrap();
        assert!(
            Sqlite
                .erase(&DatabaseOptions::new(path.to_str().unwrap()))
                .is_err()
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"a letter");
    }
}
