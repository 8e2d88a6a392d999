//! What can go wrong in a backend, by what the node does about it.

use std::io;

use crate::id::{Oid, Tid};

/// Result of a backend's call.
pub type BackendResult<T> = Result<T, BackendError>;

/// Why a backend's call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// It may work later (a server that restarts, a busy file). Nothing was written.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored makes no sense. The node stops, so that another replica serves.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// There is no space. Nothing was written; reads go on.
    #[error("the database has no space left")]
    Full,
    /// The database may not be written.
    #[error("the database is read-only")]
    ReadOnly,
    /// The backend was closed, or closed itself after a failure that leaves its state unknown.
    #[error("the database is closed: {0}")]
    Closed(String),
    /// Another process has it open.
    #[error("the database {0} is in use by another storage node")]
    InUse(String),
    /// It was written by a newer version, or is something else altogether.
    #[error("the database {what} cannot be opened by this version: {why}")]
    Incompatible {
        /// Which database.
        what: String,
        /// Version or format that was found.
        why: String,
    },
    /// A revision repeats the value of one that is not there. The batch had no effect.
    #[error("object {oid} has no revision {tid} whose value could be repeated")]
    Missing {
        /// The object.
        oid: Oid,
        /// The missing revision.
        tid: Tid,
    },
    /// A limit of the backend; the message names it.
    #[error("not supported by this database: {0}")]
    Unsupported(String),
    /// The system refused something (open, sync, permission). The state on disk is as after a
    /// crash.
    #[error("the database failed: {what}")]
    Failed {
        /// What was attempted.
        what: String,
        /// How it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// [`BackendError::Failed`], whatever the kind: `Full` or `Unavailable` would promise that nothing
/// was written.
impl From<io::Error> for BackendError {
    fn from(error: io::Error) -> Self {
        Self::Failed {
            what: "input or output".to_owned(),
            source: error.into(),
        }
    }
}

impl BackendError {
    /// Whether the same call may succeed later without anybody doing anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether the node can go on serving reads after it.
    #[must_use]
    pub const fn leaves_reads(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Full
                | Self::ReadOnly
                | Self::Missing { .. }
                | Self::Unsupported(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_says_nothing_of_what_was_written() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Interrupted] {
            let error = BackendError::from(io::Error::from(kind));
            assert!(!error.is_retryable() && !error.leaves_reads(), "{error}");
        }
    }
}
