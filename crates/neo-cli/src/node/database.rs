//! The database of a storage node: opened, waited for, erased.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use neo_api::{BackendError, StorageBackend};
use neo_backends::Engine;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::Wait;
use crate::report;

/// Pause between attempts to open a database.
const RETRY: Duration = Duration::from_secs(1);

/// Which database, of which engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// What keeps the data.
    pub engine: Engine,
    /// Where; for an engine that keeps files, their path. It may have a password in it.
    pub location: String,
}

impl Database {
    /// Opens it; one that is in use or not available is tried again, as long as `wait` says.
    ///
    /// # Errors
    /// What the engine says.
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
        let database = self.clone();
        let thread = std::thread::Builder::new().name("open".to_owned());
        let spawned = thread.spawn(move || {
            let Self { engine, location } = database;
            // Nobody waits any more when the node was told to stop.
            let _ = done.send(neo_backends::open(engine.name(), &location));
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
        let Self { engine, location } = self;
        if *engine == Engine::MySql {
            let shown = engine.shown(location);
            let erased = engine.erase(location);
            erased.with_context(|| format!("{shown} is not erased"))?;
            return report::print(&format!("{shown} is erased"));
        }
        let Some(path) = engine.file(location).with_context(|| self.failed())? else {
            bail!("a database of the adapter {engine} has nothing to erase");
        };
        let shown = path.display();
        if !path.exists() {
            return report::print(&format!("{shown} does not exist: nothing to erase"));
        }
        match neo_backends::open(engine.name(), location) {
            // Closed again by dropping it; a damaged one may go as well.
            Ok(_) | Err(BackendError::Corrupt(_)) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("{shown} is not erased"));
            }
        }
        if path.is_dir() {
            // It was opened: nothing of others is in it.
            let removed = std::fs::remove_dir_all(&path);
            removed.with_context(|| format!("cannot remove {shown}"))?;
            return report::print(&format!("{shown} is erased"));
        }
        for suffix in ["", "-wal", "-shm", "-journal", ".reserve"] {
            let mut file = path.clone().into_os_string();
            file.push(suffix);
            let file = PathBuf::from(file);
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", file.display()));
                }
                _ => {}
            }
        }
        report::print(&format!("{shown} is erased"))
    }

    fn failed(&self) -> String {
        let Self { engine, location } = self;
        format!(
            "cannot open the {engine} database {}",
            engine.shown(location)
        )
    }
}
