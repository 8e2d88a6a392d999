//! The engines by name, as an operator gives them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use neo_api::{BackendError, BackendInfo, BackendResult, StorageBackend};

use crate::kv::KvBackend;
use crate::memory::MemoryEngine;
use crate::sqlite::{SqliteBackend, SqliteSettings, Synchronous};

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
        matches!(self, Self::Memory | Self::Sqlite)
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

    /// In any case.
    fn from_str(s: &str) -> Result<Self, UnknownEngine> {
        let named = |engine: &&Self| engine.name().eq_ignore_ascii_case(s);
        let found = Self::ALL.iter().find(named).copied();
        found.ok_or_else(|| UnknownEngine(s.to_owned()))
    }
}

fn names() -> String {
    let names: Vec<&str> = Engine::ALL.iter().map(|engine| engine.name()).collect();
    names.join(", ")
}

/// What may be said about a database beside where it is; what is not said has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Threads that read.
    pub readers: Option<usize>,
    /// Memory for cached pages, in bytes.
    pub cache_bytes: Option<u64>,
    /// Most bytes that the database may have.
    pub max_database_bytes: Option<u64>,
}

/// Opens the database of a storage node, and creates it if it does not exist.
///
/// A `database` that is a path may start with `~/`, the home directory. For SQLite it may also be
/// `file:PATH?NAME=VALUE&...`, with the names `readers`, `cache_bytes`, `max_database_bytes`,
/// `reserve_bytes` and `synchronous` of [`SqliteSettings`], which go before `options`.
///
/// # Errors
/// [`BackendError::Unsupported`] for an adapter that does not exist or is not available, or a
/// setting that does not exist, and whatever the engine says.
pub fn open(
    adapter: &str,
    database: &str,
    options: &OpenOptions,
) -> BackendResult<Arc<dyn StorageBackend>> {
    let engine: Engine = adapter
        .parse()
        .map_err(|error: UnknownEngine| BackendError::Unsupported(error.to_string()))?;
    match engine {
        Engine::Memory => {
            let info = BackendInfo::new(engine.name(), false);
            let readers = options.readers.unwrap_or(2);
            Ok(Arc::new(KvBackend::threads(
                MemoryEngine::default(),
                info,
                readers,
            )))
        }
        Engine::Sqlite => Ok(Arc::new(SqliteBackend::open(&sqlite_settings(
            database, options,
        )?)?)),
        Engine::Sled | Engine::MySql | Engine::Importer => Err(BackendError::Unsupported(format!(
            "the adapter {engine} is not available in this version"
        ))),
    }
}

fn sqlite_settings(database: &str, options: &OpenOptions) -> BackendResult<SqliteSettings> {
    let (path, query) = match database.strip_prefix("file:") {
        Some(uri) => uri.split_once('?').unwrap_or((uri, "")),
        None => (database, ""),
    };
    let mut settings = SqliteSettings::new(expand_home(path)?);
    settings.readers = options.readers.unwrap_or(settings.readers);
    settings.cache_bytes = options.cache_bytes.unwrap_or(settings.cache_bytes);
    settings.max_database_bytes = options.max_database_bytes;
    for setting in query.split('&').filter(|setting| !setting.is_empty()) {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        let wrong = || BackendError::Unsupported(format!("{setting:?} in the database's URI"));
        match name {
            "readers" => settings.readers = value.parse().map_err(|_| wrong())?,
            "cache_bytes" => settings.cache_bytes = value.parse().map_err(|_| wrong())?,
            "reserve_bytes" => settings.reserve_bytes = value.parse().map_err(|_| wrong())?,
            "max_database_bytes" => {
                settings.max_database_bytes = Some(value.parse().map_err(|_| wrong())?);
            }
            "synchronous" if value.eq_ignore_ascii_case("full") => {
                settings.synchronous = Synchronous::Full;
            }
            "synchronous" if value.eq_ignore_ascii_case("off") => {
                settings.synchronous = Synchronous::Off;
            }
            _ => return Err(wrong()),
        }
    }
    Ok(settings)
}

fn expand_home(path: &str) -> BackendResult<PathBuf> {
    let Some(rest) = path.strip_prefix('~') else {
        return Ok(path.into());
    };
    // `~someone` is a name like any other.
    if !rest.is_empty() && !rest.starts_with('/') {
        return Ok(path.into());
    }
    match std::env::home_dir() {
        Some(home) => Ok(home.join(rest.trim_start_matches('/'))),
        None => Err(BackendError::Unsupported(format!(
            "{path}, since the home directory is not known"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(adapter: &str) -> String {
        let opened = open(adapter, "", &OpenOptions::default());
        opened.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_name_differs_from_an_engine_that_is_not_available() {
        assert_eq!(
            refusal("Oracle"),
            "not supported by this database: there is no adapter \"Oracle\"; the adapters are: \
             Memory, SQLite, Sled, MySQL, Importer"
        );
        assert_eq!(
            refusal("mysql"),
            "not supported by this database: the adapter MySQL is not available in this version"
        );
        for engine in Engine::ALL {
            assert_eq!(engine.name().to_uppercase().parse(), Ok(*engine));
        }
    }

    #[test]
    fn a_home_is_expanded_only_at_the_start() {
        let home = std::env::home_dir().unwrap();
        assert_eq!(expand_home("~/x/y.db").unwrap(), home.join("x/y.db"));
        assert_eq!(expand_home("~").unwrap(), home);
        for path in ["a/~/b", "~someone/b", "/~/b", ""] {
            assert_eq!(expand_home(path).unwrap(), PathBuf::from(path));
        }
    }

    #[test]
    fn a_uri_carries_settings() {
        let parse = |database: &str| sqlite_settings(database, &OpenOptions::default());
        let settings = parse("file:a.db?readers=3&synchronous=OFF&max_database_bytes=9").unwrap();
        assert_eq!(settings.path, PathBuf::from("a.db"));
        assert_eq!(
            (settings.readers, settings.synchronous),
            (3, Synchronous::Off)
        );
        assert_eq!(settings.max_database_bytes, Some(9));
        assert_eq!(parse("file:a.db").unwrap(), SqliteSettings::new("a.db"));
        // Without the scheme, a question mark is part of the name.
        assert_eq!(parse("a.db?x=1").unwrap().path, PathBuf::from("a.db?x=1"));
        for wrong in ["readers", "readers=x", "journal=wal", "synchronous=maybe"] {
            let error = parse(&format!("file:a.db?{wrong}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
