//! The adapters that a program knows.

use std::sync::Arc;

use neo_api::{BackendError, BackendResult, StorageBackend};

use super::{Adapter, DatabaseOptions, builtin};

/// The adapter of who names none.
pub const DEFAULT_ADAPTER: &str = "SQLite";

/// Names of NEO's adapters, and of all of this crate's: what of them is not compiled in, or not
/// there yet, is known to be so.
const KNOWN_NAMES: [&str; 9] = [
    "Memory", "SQLite", "Redb", "Sled", "MySQL", "MySQLdb", "PyMySQL", "MariaDB", "Importer",
];

/// Adapters by name: those of this crate, and any of your own.
#[derive(Debug, Clone)]
pub struct Adapters {
    adapters: Vec<Arc<dyn Adapter>>,
}

impl Default for Adapters {
    /// Those of this crate: which they are, its features say.
    fn default() -> Self {
        let adapters = builtin::all();
        Self { adapters }
    }
}

impl Adapters {
    /// No adapter at all.
    #[must_use]
    pub const fn none() -> Self {
        let adapters = Vec::new();
        Self { adapters }
    }

    /// With one more. It takes the place of those whose names it has.
    #[must_use]
    pub fn with(mut self, adapter: impl Adapter) -> Self {
        self.adapters
            .retain(|other| !names(&**other).any(|name| answers_to(&adapter, name)));
        self.adapters.push(Arc::new(adapter));
        self
    }

    /// The adapter of a name.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, name: &str) -> Result<&Arc<dyn Adapter>, AdapterError> {
        if let Some(found) = self.iter().find(|adapter| answers_to(&***adapter, name)) {
            return Ok(found);
        }
        let known = KNOWN_NAMES
            .iter()
            .find(|known| known.eq_ignore_ascii_case(name));
        Err(match known {
            Some(known) => AdapterError::NotAvailable((*known).to_owned()),
            None => AdapterError::Unknown {
                name: name.to_owned(),
                adapters: self
                    .iter()
                    .map(|adapter| adapter.name().to_owned())
                    .collect(),
            },
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Adapter>> {
        self.adapters.iter()
    }
}

fn names(adapter: &dyn Adapter) -> impl Iterator<Item = &str> {
    std::iter::once(adapter.name()).chain(adapter.other_names().iter().copied())
}

fn answers_to(adapter: &dyn Adapter, name: &str) -> bool {
    names(adapter).any(|own| own.eq_ignore_ascii_case(name))
}

/// A name that is no adapter's: an operator should learn the difference between one that is wrong
/// and one that is not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// It is wrong.
    #[error("there is no adapter {name:?}; the adapters are: {}", adapters.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        adapters: Vec<String>,
    },
    /// It was not compiled in, or this version does not have it.
    #[error("the adapter {0} is not available in this version")]
    NotAvailable(String),
}

impl From<AdapterError> for BackendError {
    fn from(error: AdapterError) -> Self {
        Self::Unsupported(error.to_string())
    }
}

/// Opens the database of a storage node by an adapter of this crate, and creates it if it does not
/// exist.
///
/// A `database` that is a path may start with `~/`, the home directory. It may also be
/// `file:PATH?NAME=VALUE&...`; for SQLite with the names `readers`, `cache_bytes`,
/// `max_database_bytes`, `reserve_bytes`, `quick_check_bytes_max`, `check_every_s` and `synchronous` of
/// `SqliteSettings`, or with SQLite's own `cache_size`, `journal_mode` (`wal`) and `synchronous`;
/// for sled with `readers`, `cache_bytes` and `reserve_bytes` of `SledSettings`, for redb with these
/// and `quick_repair` of `RedbSettings`. For MySQL it is
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
/// setting that does not exist, and whatever the database says.
pub fn open(adapter: &str, database: &str) -> BackendResult<Arc<dyn StorageBackend>> {
    let adapters = Adapters::default();
    adapters
        .find(adapter)?
        .open(&DatabaseOptions::new(database))
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;

    fn refusal(adapter: &str) -> String {
        open(adapter, "").map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_name_differs_from_an_adapter_that_is_not_available() {
        let refused = refusal("Oracle");
        let words = "not supported by this database: there is no adapter \"Oracle\"; the adapters are: Memory";
        assert!(refused.starts_with(words), "{refused}");
        // Those that could only be refused in turn are not offered.
        for (name, is_here) in [
            ("Importer", false),
            ("SQLite", cfg!(feature = "sqlite")),
            ("Redb", cfg!(feature = "redb")),
            ("Sled", cfg!(feature = "sled")),
            ("MySQL", cfg!(feature = "mysql")),
        ] {
            assert_eq!(refused.contains(name), is_here, "{refused}");
            let not_available = matches!(
                Adapters::default().find(name),
                Err(AdapterError::NotAvailable(_))
            );
            assert_eq!(not_available, !is_here, "{name}");
        }
        assert_eq!(
            refusal("importer"),
            "not supported by this database: the adapter Importer is not available in this version"
        );
    }

    #[test]
    fn every_name_is_known_in_any_case() {
        let adapters = Adapters::default();
        for adapter in adapters.iter() {
            for name in names(&**adapter) {
                for name in [name.to_uppercase(), name.to_lowercase()] {
                    assert!(Arc::ptr_eq(adapters.find(&name).unwrap(), adapter));
                }
                assert!(KNOWN_NAMES.contains(&name), "{name}");
            }
        }
    }

    /// It has the names that it is made with.
    #[derive(Debug)]
    struct Named(&'static str, &'static [&'static str]);

    impl Adapter for Named {
        fn name(&self) -> &str {
            self.0
        }

        fn other_names(&self) -> &[&str] {
            self.1
        }

        fn place(&self) -> Place {
            Place::Server
        }

        fn open(&self, _: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>> {
            open("Memory", "")
        }
    }

    #[test]
    fn an_adapter_of_ones_own_is_one_of_them() {
        let adapters = Adapters::default().with(Named("Oracle", &["Ora"]));
        assert_eq!(adapters.find("ORA").unwrap().name(), "Oracle");
        let error = adapters.find("Delphi").unwrap_err().to_string();
        assert!(error.ends_with(", Oracle"), "{error}");
        // On a server, it would say itself how it erases.
        let error = adapters
            .find("Oracle")
            .unwrap()
            .erase(&DatabaseOptions::new("x"));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("erasing a database of the adapter Oracle"),
            "{error}"
        );
    }

    #[test]
    fn the_last_one_of_a_name_counts() {
        let adapters = Adapters::none()
            .with(Named("One", &["Uno"]))
            .with(Named("Two", &["Due"]))
            .with(Named("Uno", &["TWO"]));
        let names: Vec<&str> = adapters.iter().map(|adapter| adapter.name()).collect();
        assert_eq!(names, ["Uno"]);
        // One of this crate may be replaced.
        let adapters = Adapters::default().with(Named("memory", &[]));
        assert_eq!(adapters.find("Memory").unwrap().place(), Place::Server);
    }
}
