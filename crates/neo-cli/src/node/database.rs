//! The database of a storage node: opened, waited for, erased.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use neo_api::{BackendError, StorageBackend};
use neo_backends::{Adapter, DatabaseOptions};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::Wait;
use crate::report;

/// Pause between attempts to open a database.
const RETRY: Duration = Duration::from_secs(1);

/// Which database, and what opens it.
#[derive(Debug, Clone)]
pub struct Database {
    /// What keeps the data.
    pub adapter: Arc<dyn Adapter>,
    /// Where, and how.
    pub options: DatabaseOptions,
}

impl Database {
    /// Opens it; one that is in use or not available is tried again, as long as `wait` says.
    ///
    /// # Errors
    /// What the adapter says.
    pub async fn open(&self, wait: Wait) -> anyhow::Result<Arc<dyn StorageBackend>> {
        let deadline = match wait {
            Wait::AtMost(wait) => Instant::now().checked_add(wait),
            Wait::Forever => None,
        };
        loop {
            let error = match self.open_once().await {
                Ok(backend) => return Ok(backend),
                Err(error) => error,
            };
            let passing = matches!(error, BackendError::InUse(_) | BackendError::Unavailable(_));
            let now = Instant::now();
            if !passing || deadline.is_some_and(|deadline| now >= deadline) {
                return Err(error).with_context(|| self.failed());
            }
            tracing::warn!("{}: {error}; trying again", self.failed());
            let next = now + RETRY;
            tokio::time::sleep_until(deadline.map_or(next, |deadline| next.min(deadline))).await;
        }
    }

    /// A database that was not closed is looked through, which takes its time: on a thread of its
    /// own, so that signals are heard meanwhile.
    async fn open_once(&self) -> Result<Arc<dyn StorageBackend>, BackendError> {
        let (done, opened) = oneshot::channel();
        let Self { adapter, options } = self.clone();
        let thread = std::thread::Builder::new().name("open".to_owned());
        let spawned = thread.spawn(move || {
            // Nobody waits any more when the node was told to stop.
            let _ = done.send(adapter.open(&options));
        });
        let failed = |what: &str, source| BackendError::Failed {
            what: what.to_owned(),
            source,
        };
        spawned.map_err(|e| failed("start of a thread", e.into()))?;
        match opened.await {
            Ok(opened) => opened,
            Err(error) => Err(failed("opening the database", error.into())),
        }
    }

    /// Erases it; what is no database of a storage node is left alone.
    ///
    /// # Errors
    /// When it is in use, is something else, or cannot be erased.
    pub fn erase(&self) -> anyhow::Result<()> {
        let shown = self.shown();
        let erased = self.adapter.erase(&self.options);
        if erased.with_context(|| format!("{shown} is not erased"))? {
            report::print(&format!("{shown} is erased"))
        } else {
            report::print(&format!("{shown} does not exist: nothing to erase"))
        }
    }

    fn failed(&self) -> String {
        let (name, shown) = (self.adapter.name(), self.shown());
        format!("cannot open the {name} database {shown}")
    }

    fn shown(&self) -> String {
        self.adapter.shown(&self.options)
    }
}
