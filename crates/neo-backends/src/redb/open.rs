//! How a file becomes a database of ours.

use std::io;
use std::path::Path;

use neo_api::{BackendError, BackendResult, Space};
use redb::{Database, Error, ReadableDatabase, TableDefinition, TableHandle};

use super::{RedbEngine, RedbSettings, table};
use crate::guard::{self, Failure, Guard, OpenError};
use crate::lock::{self, FileLock};

/// Has the format alone.
const ABOUT: TableDefinition<'static, &str, &str> = TableDefinition::new("neo");
const FORMAT_KEY: &str = "format";

/// Of the tables of this engine, and of the keys of the backend on top of it, whose values have
/// formats of their own.
const FORMAT: &str = "1";

pub(super) fn open(settings: &RedbSettings) -> BackendResult<RedbEngine> {
    let path = lock::resolve_file(&settings.path)?;
    let lock = FileLock::acquire(&path)?;
    let opened = guard::open(|| {
        let mut builder = Database::builder();
        builder.set_cache_size(settings.cache_bytes);
        let shown = path.display().to_string();
        builder.set_repair_callback(move |_| {
            tracing::info!(path = shown, "the file was not closed, and is checked");
        });
        let db = builder.create(&path)?;
        let found = format(&db)?;
        Ok((db, found))
    });
    let (db, found) = opened.map_err(|error| refusal(&path, error))?;
    let incompatible = |why: &str| Err(incompatible(&path, why));
    match found {
        Found::Ours => {}
        Found::Nothing => return incompatible("it is a database of redb, of something else"),
        Found::Other => return incompatible("its format is of another version of neo"),
    }
    lock::sync_directory(&path)?;
    Ok(RedbEngine {
        db: Some(db),
        guard: Guard::default(),
        path,
        reserve_bytes: settings.reserve_bytes,
        quick_repair: settings.quick_repair,
        _lock: lock,
    })
}

pub(super) enum Found {
    Ours,
    Nothing,
    Other,
}

/// Whose database it is; an empty one becomes ours.
pub(super) fn format(db: &Database) -> Result<Found, Error> {
    let reading = db.begin_read()?;
    let names: Vec<String> = reading
        .list_tables()?
        .map(|table| table.name().to_owned())
        .collect();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if names.is_empty() && reading.list_multimap_tables()?.next().is_none() {
        complete(db)?;
        return Ok(Found::Ours);
    }
    if !has(ABOUT.name()) {
        return Ok(Found::Nothing);
    }
    Ok(match reading.open_table(ABOUT)?.get(FORMAT_KEY)? {
        Some(format) if format.value() == FORMAT => {
            // An earlier build did not know of some space, and has nothing in it.
            if !Space::ALL.iter().all(|space| has(space.name())) {
                complete(db)?;
            }
            Found::Ours
        }
        Some(_) => Found::Other,
        None => Found::Nothing,
    })
}

/// Makes the tables that are not there.
fn complete(db: &Database) -> Result<(), Error> {
    let transaction = db.begin_write()?;
    transaction.open_table(ABOUT)?.insert(FORMAT_KEY, FORMAT)?;
    for space in Space::ALL {
        transaction.open_table(table(space))?;
    }
    transaction.commit()?;
    Ok(())
}

fn incompatible(path: &Path, why: &str) -> BackendError {
    BackendError::Incompatible {
        what: path.display().to_string(),
        why: why.to_owned(),
    }
}

fn refusal(path: &Path, error: OpenError<Error>) -> BackendError {
    const WHAT: &str = "opening redb";
    match error {
        // Our own lock is free: some other program has it open.
        OpenError::Failed(Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch) => {
            BackendError::InUse(path.display().to_string())
        }
        OpenError::Failed(Error::UpgradeRequired(format)) => {
            incompatible(path, &format!("it is of format {format} of redb"))
        }
        OpenError::Failed(Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            incompatible(path, "it is no database of redb")
        }
        OpenError::Failed(Error::Io(error)) => {
            lock::failed(format!("opening {}", path.display()), error)
        }
        OpenError::Failed(error) => error.meaning(WHAT),
        OpenError::Panicked(panic) => BackendError::Corrupt(format!("{WHAT}: {panic}")),
    }
}
