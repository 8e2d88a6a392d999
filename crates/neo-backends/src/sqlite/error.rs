//! SQLite's errors, by what the node does about them, and integers that it can keep.

use neo_api::{BackendError, BackendResult};
use rusqlite::{Error, ErrorCode};

/// What an error of SQLite means.
pub(super) fn error(what: &str, error: Error) -> BackendError {
    let Error::SqliteFailure(failure, message) = &error else {
        return match error {
            Error::InvalidColumnType(..)
            | Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::QueryReturnedNoRows => BackendError::Corrupt(format!("{what}: {error}")),
            error => failed(what, error),
        };
    };
    match failure.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            BackendError::Unavailable(Box::new(error))
        }
        ErrorCode::DiskFull => BackendError::Full,
        // The index of the log could not grow.
        _ if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => BackendError::Full,
        ErrorCode::ReadOnly => BackendError::ReadOnly,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            let why = message.clone().unwrap_or_else(|| failure.to_string());
            BackendError::Corrupt(format!("{what}: {why}"))
        }
        ErrorCode::TooBig => BackendError::Unsupported(error.to_string()),
        _ => failed(what, error),
    }
}

fn failed(what: &str, error: Error) -> BackendError {
    BackendError::Failed {
        what: what.to_owned(),
        source: Box::new(error),
    }
}

/// Says what was being done.
pub(super) trait Doing<T> {
    fn doing(self, what: &str) -> BackendResult<T>;
}

impl<T> Doing<T> for Result<T, Error> {
    fn doing(self, what: &str) -> BackendResult<T> {
        self.map_err(|e| error(what, e))
    }
}

/// An id as SQLite keeps it: signed, so that half of them are out of its reach.
pub(super) fn int(n: u64) -> BackendResult<i64> {
    i64::try_from(n)
        .map_err(|_| BackendError::Unsupported(format!("the id {n:016x}, above 7fffffffffffffff")))
}

/// The greatest integer of SQLite up to an id.
pub(super) fn clamp(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// An id that was kept.
pub(super) fn uint(n: i64) -> BackendResult<u64> {
    u64::try_from(n).map_err(|_| BackendError::Corrupt(format!("an id is {n}")))
}
