//! How a directory becomes a database of ours.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use neo_api::{BackendError, BackendResult};
use sled::{Db, Error};

use super::{SledEngine, SledSettings, row};
use crate::guard::{self, Failure, Guard, OpenError};
use crate::lock::{self, FileLock};

/// Files that are too large for sled's log.
pub(super) const BLOBS: &str = "blobs";
const LOG: &str = "db";
const SETTINGS: &str = "conf";
/// What sled knows of its log, written at each start.
const SNAPSHOT: &str = "snap.";
/// A snapshot that a crash cut off.
const UNFINISHED: &str = ".generating";

/// The value of [`row::FORMAT_KEY`]: of the rows of this engine, and of the keys of the backend on
/// top of it, whose values have formats of their own.
const FORMAT: &[u8] = b"neo 1";

pub(super) fn open(settings: &SledSettings) -> BackendResult<SledEngine> {
    let directory = lock::resolve(&settings.path)?;
    let lock = FileLock::acquire(&directory)?;
    prepare(&directory)?;
    let config = sled::Config::new()
        .path(&directory)
        .cache_capacity(settings.cache_bytes);
    let opened = guard::open(|| {
        let db = config.open()?;
        let found = format(&db)?;
        Ok((db, found))
    });
    let (db, found) = opened.map_err(|error| refusal(&directory, error))?;
    let incompatible = |why: &str| Err(incompatible(&directory, why));
    match found {
        Found::Ours => {}
        Found::Nothing => return incompatible("it is a database of sled, of something else"),
        Found::Other => return incompatible("its format is of another version of neo"),
    }
    let log = sync(&directory)
        .map_err(|error| lock::failed(format!("syncing {}", directory.display()), error))?;
    Ok(SledEngine {
        db: Some(db),
        guard: Guard::default(),
        batches: RwLock::default(),
        log,
        directory,
        reserve_bytes: settings.reserve_bytes,
        _lock: lock,
    })
}

enum Found {
    Ours,
    Nothing,
    Other,
}

/// Whose database it is; an empty one becomes ours.
fn format(db: &Db) -> Result<Found, Error> {
    match db.get(row::FORMAT_KEY)? {
        Some(format) if format == FORMAT => Ok(Found::Ours),
        Some(_) => Ok(Found::Other),
        None if db.is_empty() && db.tree_names().len() == 1 => {
            db.insert(row::FORMAT_KEY, FORMAT)?;
            db.flush()?;
            Ok(Found::Ours)
        }
        None => Ok(Found::Nothing),
    }
}

/// Makes the directory, or looks that nothing of others is in it.
fn prepare(directory: &Path) -> BackendResult<()> {
    let failed = |error| lock::failed(format!("opening {}", directory.display()), error);
    match fs::create_dir(directory) {
        Ok(()) => return lock::sync_directory(directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    if !directory.is_dir() {
        return Err(incompatible(directory, "it is no directory"));
    }
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(SNAPSHOT) && name.ends_with(UNFINISHED) {
            // Sled would take it for a whole one, and refuse the database from then on.
            fs::remove_file(entry.path()).map_err(failed)?;
        } else if !name.starts_with(SNAPSHOT) && ![BLOBS, LOG, SETTINGS].contains(&&*name) {
            let why = format!("{name} is in it: it is no directory of sled's");
            return Err(incompatible(directory, &why));
        }
    }
    Ok(())
}

/// Makes what opening has written durable, which sled does for its log alone. Returns that log.
fn sync(directory: &Path) -> io::Result<File> {
    let log = File::open(directory.join(LOG))?;
    log.sync_all()?;
    for path in [
        directory.join(SETTINGS),
        directory.join(BLOBS),
        PathBuf::from(directory),
    ] {
        File::open(path)?.sync_all()?;
    }
    Ok(log)
}

fn incompatible(directory: &Path, why: &str) -> BackendError {
    BackendError::Incompatible {
        what: directory.display().to_string(),
        why: why.to_owned(),
    }
}

fn refusal(directory: &Path, error: OpenError<Error>) -> BackendError {
    const WHAT: &str = "opening sled";
    match error {
        OpenError::Failed(Error::Unsupported(why)) => incompatible(directory, &why),
        // Our own lock is free: some other program has it open.
        OpenError::Failed(Error::Io(error)) if is_locked(&error) => {
            BackendError::InUse(directory.display().to_string())
        }
        OpenError::Failed(Error::Io(error)) => {
            lock::failed(format!("opening {}", directory.display()), error)
        }
        OpenError::Failed(error) => error.meaning(WHAT),
        OpenError::Panicked(panic) => BackendError::Corrupt(format!("{WHAT}: {panic}")),
    }
}

/// Sled has words alone for it.
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.to_string().starts_with("could not acquire lock")
}
