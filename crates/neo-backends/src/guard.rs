//! A database that is not called any more once a call of it has failed, or panicked: it does not
//! tell what it has done then.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use neo_api::{BackendError, BackendResult};

/// What a database says when it fails.
pub(crate) trait Failure: Error + Send + Sync + 'static {
    /// Which database.
    const DATABASE: &'static str;

    /// What it means. Never `Full`: that would promise that nothing was written.
    fn meaning(self, what: &'static str) -> BackendError;
}

/// Lets calls pass until one fails.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    failed: OnceLock<String>,
}

impl Guard {
    /// Refuses when a call has failed.
    pub(crate) fn check(&self) -> BackendResult<()> {
        match self.failed.get() {
            Some(why) => Err(BackendError::Closed(why.clone())),
            None => Ok(()),
        }
    }

    /// Calls the database, unless a call has failed.
    pub(crate) fn call<R, E: Failure>(
        &self,
        what: &'static str,
        call: impl FnOnce() -> Result<R, E>,
    ) -> BackendResult<R> {
        self.check()?;
        let error = match open(call) {
            Ok(result) => return Ok(result),
            Err(OpenError::Failed(error)) => error.meaning(what),
            Err(OpenError::Panicked(panic)) => BackendError::Failed {
                what: what.to_owned(),
                source: Box::new(panic),
            },
        };
        // Two threads may fail at once: either reason is one.
        let _ = self.failed.set(format!("{what} failed; open it again"));
        Err(error)
    }

    /// The end of the database, whatever happened before.
    pub(crate) fn close<E: Failure>(&self, close: impl FnOnce() -> Result<(), E>) {
        if let Err(error) = open(close) {
            tracing::error!(%error, "{} could not be closed", E::DATABASE);
        }
    }
}

/// Opens what the closure opens; databases panic on some damage.
pub(crate) fn open<R, E: Failure>(open: impl FnOnce() -> Result<R, E>) -> Result<R, OpenError<E>> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(result) => result.map_err(OpenError::Failed),
        Err(panic) => {
            let words = panic.downcast_ref::<&str>().map(ToString::to_string);
            let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(OpenError::Panicked(Panic {
                database: E::DATABASE,
                words: words.unwrap_or_default(),
            }))
        }
    }
}

/// Why a database can't be opened.
#[derive(Debug)]
pub(crate) enum OpenError<E> {
    Failed(E),
    Panicked(Panic),
}

impl<E: fmt::Display> fmt::Display for OpenError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Panicked(panic) => panic.fmt(f),
        }
    }
}

/// What a database said when it panicked.
#[derive(Debug, thiserror::Error)]
#[error("{database} panicked: {words}")]
pub(crate) struct Panic {
    database: &'static str,
    words: String,
}
