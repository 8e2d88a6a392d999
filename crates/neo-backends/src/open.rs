//! The engines by name, as an operator gives them.

#[cfg(any(feature = "sqlite", feature = "sled", feature = "mysql"))]
pub(crate) mod uri;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use neo_api::{BackendError, BackendInfo, BackendResult, StorageBackend};

use crate::kv::KvBackend;
use crate::memory::MemoryEngine;
#[cfg(feature = "mysql")]
use crate::mysql::{MySqlBackend, location};
#[cfg(feature = "sled")]
use crate::sled::SledEngine;
#[cfg(feature = "sqlite")]
use crate::sqlite::SqliteBackend;

/// Every engine there is, also those that this version can't open: an operator should learn the
/// difference between a name that is wrong and one that is not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// Everything in memory, for tests and demonstrations.
    Memory,
    /// A file, in this process.
    Sqlite,
    /// A directory, in this process.
    Sled,
    /// A server.
    MySql,
    /// Another database, while its contents are copied.
    Importer,
}

impl Engine {
    /// Every engine.
    pub const ALL: &[Self] = &[
        Self::Memory,
        Self::Sqlite,
        Self::Sled,
        Self::MySql,
        Self::Importer,
    ];

    /// Its name, as NEO writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "Memory",
            Self::Sqlite => "SQLite",
            Self::Sled => "Sled",
            Self::MySql => "MySQL",
            Self::Importer => "Importer",
        }
    }

    /// Whether [`open`] can open it.
    #[must_use]
    pub const fn is_available(self) -> bool {
        match self {
            Self::Memory => true,
            Self::Sqlite => cfg!(feature = "sqlite"),
            Self::Sled => cfg!(feature = "sled"),
            Self::MySql => cfg!(feature = "mysql"),
            Self::Importer => false,
        }
    }

    /// Whether a path names a database of it.
    #[must_use]
    pub const fn has_path(self) -> bool {
        matches!(self, Self::Sqlite | Self::Sled)
    }

    /// What to show of the name of a database: all but a password.
    #[must_use]
    pub fn shown(self, database: &str) -> String {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql => location::Shown(database).to_string(),
            _ => database.to_owned(),
        }
    }

    /// Removes all that [`open`] made on a server, for an engine that has one; what is not ours is
    /// left alone.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`] for another engine, and as [`open`].
    pub fn erase(self, database: &str) -> BackendResult<()> {
        match self {
            #[cfg(feature = "mysql")]
            Self::MySql => MySqlBackend::erase(&location::settings(database)?),
            _ => Err(BackendError::Unsupported(format!(
                "erasing {}: it is on no server",
                self.shown(database)
            ))),
        }
    }

    /// The file of a database of this engine, or its directory, if it keeps one.
    ///
    /// # Errors
    /// When `database` has settings that do not exist, or a home that is not known.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "sled")),
        expect(unused_variables, reason = "no other engine keeps a file")
    )]
    pub fn file(self, database: &str) -> BackendResult<Option<PathBuf>> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => Ok(Some(uri::sqlite_settings(database)?.path)),
            #[cfg(feature = "sled")]
            Self::Sled => Ok(Some(uri::sled_settings(database)?.path)),
            _ => Ok(None),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no engine has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no adapter {0:?}; the adapters are: {names}", names = names())]
pub struct UnknownEngine(pub String);

impl FromStr for Engine {
    type Err = UnknownEngine;

    /// In any case. NEO's names of the ways to MySQL mean MySQL, and so does MariaDB.
    fn from_str(s: &str) -> Result<Self, UnknownEngine> {
        if ["MySQLdb", "PyMySQL", "MariaDB"]
            .iter()
            .any(|name| name.eq_ignore_ascii_case(s))
        {
            return Ok(Self::MySql);
        }
        let named = |engine: &&Self| engine.name().eq_ignore_ascii_case(s);
        let found = Self::ALL.iter().find(named).copied();
        found.ok_or_else(|| UnknownEngine(s.to_owned()))
    }
}

fn names() -> String {
    let here = Engine::ALL.iter().filter(|engine| engine.is_available());
    let names: Vec<&str> = here.map(|engine| engine.name()).collect();
    names.join(", ")
}

/// Threads that read from memory.
const MEMORY_READERS: usize = 2;

/// Opens the database of a storage node, and creates it if it does not exist.
///
/// A `database` that is a path may start with `~/`, the home directory. It may also be
/// `file:PATH?NAME=VALUE&...`; for SQLite with the names `readers`, `cache_bytes`,
/// `max_database_bytes`, `reserve_bytes` and `synchronous` of `SqliteSettings`, for sled with
/// `readers`, `cache_bytes` and `reserve_bytes` of `SledSettings`. For MySQL it is
/// `[user[:password]@]database[socket]`, where a socket starts with `/`, `.` or `~`, or
/// `[user[:password]@]database:host[:port]`; `?NAME=VALUE&...` may follow, with the names `engine`,
/// `readers` and `reconnect_s` of `MySqlSettings`, and `unsafe_flush=accept`. Memory has no name:
/// `database` is not looked at.
///
/// ```
/// let backend = neo_backends::open("Memory", "")?;
/// assert!(!backend.info().persistent);
/// # Ok::<(), neo_api::BackendError>(())
/// ```
///
/// # Errors
/// [`BackendError::Unsupported`] for an adapter that does not exist or is not available, or a
/// setting that does not exist, and whatever the engine says.
#[cfg_attr(
    not(any(feature = "sqlite", feature = "sled", feature = "mysql")),
    expect(unused_variables, reason = "memory has no name")
)]
pub fn open(adapter: &str, database: &str) -> BackendResult<Arc<dyn StorageBackend>> {
    let engine: Engine = adapter
        .parse()
        .map_err(|error: UnknownEngine| BackendError::Unsupported(error.to_string()))?;
    match engine {
        Engine::Memory => {
            let info = BackendInfo::new(engine.name(), false);
            let engine = MemoryEngine::default();
            Ok(Arc::new(KvBackend::threads(engine, info, MEMORY_READERS)))
        }
        #[cfg(feature = "sqlite")]
        Engine::Sqlite => {
            let settings = uri::sqlite_settings(database)?;
            Ok(Arc::new(SqliteBackend::open(&settings)?))
        }
        #[cfg(feature = "sled")]
        Engine::Sled => {
            let settings = uri::sled_settings(database)?;
            Ok(Arc::new(SledEngine::open_backend(&settings)?))
        }
        #[cfg(feature = "mysql")]
        Engine::MySql => {
            let settings = location::settings(database)?;
            Ok(Arc::new(MySqlBackend::open(&settings)?))
        }
        _ => Err(BackendError::Unsupported(format!(
            "the adapter {engine} is not available in this version"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(adapter: &str) -> String {
        open(adapter, "").map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_name_differs_from_an_engine_that_is_not_available() {
        let refused = refusal("Oracle");
        let words = "not supported by this database: there is no adapter \"Oracle\"; the adapters are: Memory";
        assert!(refused.starts_with(words), "{refused}");
        // Those that could only be refused in turn are not offered.
        for (name, is_here) in [
            ("Importer", false),
            ("Sled", cfg!(feature = "sled")),
            ("MySQL", cfg!(feature = "mysql")),
        ] {
            assert_eq!(refused.contains(name), is_here, "{refused}");
        }
        assert_eq!(
            refusal("importer"),
            "not supported by this database: the adapter Importer is not available in this version"
        );
        for name in ["PyMySQL", "MySQLdb", "mariadb"] {
            assert_eq!(name.parse(), Ok(Engine::MySql));
        }
        for engine in Engine::ALL {
            assert_eq!(engine.name().to_uppercase().parse(), Ok(*engine));
        }
    }
}
