//! A kind of database, under the name that an operator gives it.

mod builtin;
mod registry;
#[cfg(any(
    feature = "mysql",
    feature = "redb",
    feature = "sled",
    feature = "sqlite"
))]
pub(crate) mod uri;

use std::fmt::{self, Debug};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use neo_api::{BackendError, BackendResult, StorageBackend};

pub use registry::{AdapterError, Adapters, DEFAULT_ADAPTER, open};

/// Which database, and how it is to be opened: as an operator says it.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseOptions {
    /// What `--database` says. It may have a password in it.
    pub database: String,
    /// What `--engine` says: the engine of new tables, where [a server](Adapter::has_engines) has
    /// several.
    pub engine: Option<String>,
    /// What `--dedup` says: values that are equal are kept once, where an adapter
    /// [can do that](Adapter::can_dedup).
    pub dedup: bool,
}

impl Debug for DatabaseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name may have a password in it: `Adapter::shown` knows.
        f.debug_struct("DatabaseOptions")
            .field("engine", &self.engine)
            .field("dedup", &self.dedup)
            .finish_non_exhaustive()
    }
}

impl DatabaseOptions {
    /// A database, opened as it usually is.
    #[must_use]
    pub fn new(database: impl Into<String>) -> Self {
        Self {
            database: database.into(),
            engine: None,
            dedup: false,
        }
    }
}

/// Where the databases of an adapter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// In this process, and gone with it: they have no name.
    Memory,
    /// Files, or a directory: their name is a path.
    Path,
    /// On a server.
    Server,
}

/// Opens databases of one kind. `neostorage -a NAME -d DATABASE` finds it by its name, in
/// [`Adapters`].
///
/// ```
/// use std::sync::Arc;
///
/// use neo_backends::{Adapter, Adapters, DatabaseOptions, KvBackend, MemoryEngine, Place};
/// use neo_api::{BackendInfo, BackendResult, StorageBackend};
///
/// #[derive(Debug)]
/// struct Forgetful;
///
/// impl Adapter for Forgetful {
///     fn name(&self) -> &str {
///         "Forgetful"
///     }
///
///     fn place(&self) -> Place {
///         Place::Memory
///     }
///
///     fn open(&self, _: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>> {
///         let info = BackendInfo::new("Forgetful", false);
///         Ok(Arc::new(KvBackend::threads(MemoryEngine::default(), info, 1)))
///     }
/// }
///
/// let adapters = Adapters::default().with(Forgetful);
/// let backend = adapters.find("forgetful")?.open(&DatabaseOptions::default());
/// assert_eq!(backend.expect("memory is there").info().name, "Forgetful");
/// # Ok::<(), neo_backends::AdapterError>(())
/// ```
pub trait Adapter: Debug + Send + Sync + 'static {
    /// Its name, as it is to be shown. An operator may write it in any case.
    fn name(&self) -> &str;

    /// Other names that it answers to.
    fn other_names(&self) -> &[&str] {
        &[]
    }

    /// Where its databases are.
    fn place(&self) -> Place;

    /// What names a database of it, for the help text of `--database`.
    fn database_help(&self) -> &str {
        match self.place() {
            Place::Memory => "nothing",
            Place::Path => "a path",
            Place::Server => "a name",
        }
    }

    /// Whether new tables may be of one engine or another: what `--engine` chooses.
    fn has_engines(&self) -> bool {
        false
    }

    /// Whether it can keep values that are equal once: what `--dedup` asks for.
    fn can_dedup(&self) -> bool {
        false
    }

    /// Opens a database, and creates it if it does not exist. It may block, and take its time.
    ///
    /// With [`Place::Path`], a leading `~/` of its name has been replaced by the home directory.
    ///
    /// # Errors
    /// [`BackendError::InUse`] and [`BackendError::Unavailable`] pass: `--wait` tries again.
    /// [`BackendError::Unsupported`] when the options make no sense. No other error is tried again.
    fn open(&self, options: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>>;

    /// What is to be shown of a database's name: all but a password.
    fn shown(&self, options: &DatabaseOptions) -> String {
        options.database.clone()
    }

    /// The files and directories of a database, which exists if the first of them does: what
    /// [`erase`](Self::erase) removes.
    ///
    /// # Errors
    /// When the name of the database makes no sense.
    fn files(&self, options: &DatabaseOptions) -> BackendResult<Vec<PathBuf>> {
        Ok(match self.place() {
            Place::Path => vec![PathBuf::from(&options.database)],
            Place::Memory | Place::Server => Vec::new(),
        })
    }

    /// Whether [`open`](Self::open) refuses a directory that has anything else in it, so that
    /// [`erase`](Self::erase) may remove all of it.
    fn owns_directories(&self) -> bool {
        false
    }

    /// Removes a database, for `--reset`; tells whether there was one. What is not a database of
    /// this adapter is left alone: as it is made here, it opens it before it removes its
    /// [`files`](Self::files).
    ///
    /// # Errors
    /// [`BackendError::InUse`] when a node has it open, [`BackendError::Unsupported`] when there is
    /// no way to do it, and whatever goes wrong on the way.
    fn erase(&self, options: &DatabaseOptions) -> BackendResult<bool> {
        let files = self.files(options)?;
        let Some(first) = files.first() else {
            let words = format!("erasing a database of the adapter {}", self.name());
            return Err(BackendError::Unsupported(words));
        };
        if !first.try_exists()? {
            return Ok(false);
        }
        if first.is_dir() && !self.owns_directories() {
            let words = format!("erasing {}, a directory", first.display());
            return Err(BackendError::Unsupported(words));
        }
        match self.open(options) {
            // Dropping closes it; a damaged one may go as well.
            Ok(_) | Err(BackendError::Corrupt(_)) => {}
            Err(error) => return Err(error),
        }
        for file in &files {
            remove(file).map_err(|source| BackendError::Failed {
                what: format!("the removal of {}", file.display()),
                source: source.into(),
            })?;
        }
        Ok(true)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
