//! What sled's errors mean; and that after one, or a panic, nobody calls it any more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use neo_api::{BackendError, BackendResult};
use sled::Error;

/// Lets calls pass until one fails: sled does not tell what it has done then.
#[derive(Debug, Default)]
pub(super) struct Guard {
    failed: OnceLock<String>,
}

impl Guard {
    /// Refuses when a call has failed.
    pub(super) fn check(&self) -> BackendResult<()> {
        match self.failed.get() {
            Some(why) => Err(BackendError::Closed(why.clone())),
            None => Ok(()),
        }
    }

    /// Calls sled, unless a call has failed.
    pub(super) fn call<R>(
        &self,
        what: &'static str,
        call: impl FnOnce() -> Result<R, Error>,
    ) -> BackendResult<R> {
        self.check()?;
        let error = match catch(call) {
            Ok(Ok(result)) => return Ok(result),
            Ok(Err(error)) => meaning(what, error),
            Err(Panic(words)) => BackendError::Failed {
                what: what.to_owned(),
                source: Panic(words).into(),
            },
        };
        // Two threads may fail at once: either reason is one.
        let _ = self.failed.set(format!("{what} failed; open it again"));
        Err(error)
    }

    /// The end of sled: it syncs, and panics where it can't.
    pub(super) fn close(&self, close: impl FnOnce()) {
        if let Err(panic) = catch(close) {
            tracing::error!(error = %panic, "sled could not be closed");
        }
    }
}

/// Opens what the closure opens; sled panics on some damage.
pub(super) fn open<R>(open: impl FnOnce() -> Result<R, Error>) -> Result<R, OpenError> {
    match catch(open) {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => Err(OpenError::Sled(error)),
        Err(panic) => Err(OpenError::Panic(panic)),
    }
}

/// Why sled can't be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    Sled(Error),
    Panic(Panic),
}

/// What sled said when it panicked.
#[derive(Debug, thiserror::Error)]
#[error("sled panicked: {0}")]
pub(super) struct Panic(String);

fn catch<R>(call: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Panic(text.unwrap_or_default())
    })
}

/// Never `Full`: that would promise that nothing was written.
pub(super) fn meaning(what: &'static str, error: Error) -> BackendError {
    match error {
        Error::Corruption { .. } => BackendError::Corrupt(format!("{what}: {error}")),
        error => BackendError::Failed {
            what: what.to_owned(),
            source: Box::new(error),
        },
    }
}
