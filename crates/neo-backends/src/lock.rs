//! Who may use a file or directory, and where it is.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use neo_api::{BackendError, BackendResult};
use rustix::fs::Access;

/// The right to use a database: held until dropped, and freed by the system when the process
/// dies.
#[derive(Debug)]
pub(crate) struct FileLock(#[expect(dead_code, reason = "open, it holds the lock")] File);

impl FileLock {
    /// Locks a companion of the database: a lock on SQLite's file itself would be lost, by the
    /// rules of POSIX, whenever SQLite closes one of its descriptors; and a directory may be
    /// locked before it is made.
    pub(crate) fn acquire(database: &Path) -> BackendResult<Self> {
        let path = beside(database, ".lock");
        let what = || format!("locking {}", path.display());
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.map_err(|error| failed(what(), error))?;
        match file.try_lock() {
            // The file stays: one that is removed could be locked by two nodes, each its own.
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                Err(BackendError::InUse(database.display().to_string()))
            }
            Err(TryLockError::Error(error)) => Err(failed(what(), error)),
        }
    }
}

/// The one name of a database that is a file.
#[cfg(any(feature = "redb", feature = "sqlite"))]
pub(crate) fn resolve_file(path: &Path) -> BackendResult<PathBuf> {
    let resolved = resolve(path)?;
    if resolved.is_dir() {
        let error = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(failed(format!("opening {}", path.display()), error));
    }
    Ok(resolved)
}

/// The one name of a database: links and relative paths are resolved, so that two names of a file
/// have one lock.
pub(crate) fn resolve(path: &Path) -> BackendResult<PathBuf> {
    let shown = path.display();
    if let Ok(resolved) = path.canonicalize() {
        // Databases do not say why they can't.
        let may = rustix::fs::access(&resolved, Access::READ_OK);
        may.map_err(|error| failed(format!("opening {shown}"), error.into()))?;
        return Ok(resolved);
    }
    let name = path.file_name().ok_or_else(|| {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it names no file");
        failed(format!("opening {shown}"), error)
    })?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = parent.canonicalize();
    let parent = parent.map_err(|error| failed(format!("opening {shown}"), error))?;
    Ok(parent.join(name))
}

/// Makes the entries of the directory that has the file durable.
pub(crate) fn sync_directory(path: &Path) -> BackendResult<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failed(format!("syncing {}", parent.display()), error))
}

/// Host name and disk of a file or directory.
pub(crate) fn topology(path: &Path) -> BackendResult<Vec<String>> {
    let path = resolve(path)?;
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let metadata = path.metadata();
    let metadata =
        metadata.map_err(|error| failed(format!("looking at {}", path.display()), error))?;
    let device = std::os::unix::fs::MetadataExt::dev(&metadata);
    Ok(vec![host, device.to_string()])
}

pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What a refusal of the system means, before anything was written.
pub(crate) fn failed(what: String, source: io::Error) -> BackendError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BackendError::Full,
        io::ErrorKind::ReadOnlyFilesystem => BackendError::ReadOnly,
        _ => BackendError::Failed {
            what,
            source: Box::new(source),
        },
    }
}
