//! Writes: one batch, one transaction of SQLite.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use neo_api::{BackendError, BackendResult, Durability, WriteBatch};
use rusqlite::{CachedStatement, Connection, ErrorCode};

use super::checkpoint::{self, Checkpoints};
use super::error::{self, Doing};
use super::plan::Plan;
use super::space::{self, Space};
use super::unfinished::Unfinished;
use super::{Broken, SqliteSettings, schema};
use crate::lock::{self, FileLock};

/// Pause between attempts to move the pages of the log on a full disk.
const RETRY: Duration = Duration::from_millis(200);

/// The connection that writes, and the right to.
#[derive(Debug)]
pub(super) struct Writer {
    conn: Connection,
    checkpoints: Checkpoints,
    settings: SqliteSettings,
    /// What `PRAGMA synchronous` says.
    level: Durability,
    /// Whether a buffered batch was committed after the last synced one.
    unsynced: bool,
    space: Space,
    /// `None` after a batch that was undone: it is read again.
    unfinished: Option<Unfinished>,
    /// When the pages of a log that found no space are moved again.
    next_try: Option<Instant>,
    broken: Arc<Broken>,
    // Last, so that the database is closed when it is freed.
    _lock: FileLock,
}

impl Writer {
    pub(super) fn open(
        settings: &SqliteSettings,
        broken: &Arc<Broken>,
        threads: bool,
    ) -> BackendResult<Self> {
        let path = lock::resolve_file(&settings.path)?;
        let lock = FileLock::acquire(&path)?;
        let mut conn = match begin(&path, settings) {
            Err(BackendError::Full) => {
                // It may need a little space to be read: the reserve is for that as well.
                space::release(&space::reserve_path(&path))?;
                begin(&path, settings)
            }
            begun => begun,
        }?;
        let space = Space::new(&conn, &path, settings)?;
        let unfinished = Some(Unfinished::load(&conn)?);
        let checkpoints = Checkpoints::new(&mut conn, &path, settings, broken, threads)?;
        Ok(Self {
            conn,
            checkpoints,
            settings: settings.clone(),
            level: Durability::Synced,
            unsynced: false,
            space,
            unfinished,
            next_try: None,
            broken: Arc::clone(broken),
            _lock: lock,
        })
    }

    pub(super) fn apply(&mut self, batch: WriteBatch, durability: Durability) -> BackendResult<()> {
        self.broken.check()?;
        batch.check()?;
        let sync = durability == Durability::Synced;
        if batch.is_empty() && !(sync && self.unsynced) {
            return Ok(());
        }
        let brings_values = batch.brings_values();
        let mut applied = if brings_values {
            self.admit(&batch)
                .and_then(|()| self.attempt(&batch, durability))
        } else {
            self.attempt(&batch, durability)
        };
        if matches!(applied, Err(BackendError::Full)) {
            if brings_values {
                self.space.refused();
            } else {
                self.space.draw(&self.conn)?;
                checkpoint::run(&self.conn, "PASSIVE", &self.broken);
                applied = self.attempt(&batch, durability);
            }
        }
        if applied.is_ok() {
            self.space.applied(&batch, brings_values);
        }
        applied
    }

    /// Whether there is room for new values.
    fn admit(&mut self, batch: &WriteBatch) -> BackendResult<()> {
        if self.broken.is_full() {
            // A log that can't be emptied would take the rest of the disk. To try is work: not for
            // everybody who asks.
            let now = Instant::now();
            if self.next_try.is_some_and(|at| now < at) {
                return Err(BackendError::Full);
            }
            self.next_try = Some(now + RETRY);
            // The reserve has what they need.
            self.space.free()?;
            checkpoint::run(&self.conn, "PASSIVE", &self.broken);
            self.broken.check()?;
            if self.broken.is_full() {
                return Err(BackendError::Full);
            }
        }
        let log_bytes = self.checkpoints.log_bytes();
        self.space.admit(&self.conn, batch, log_bytes)
    }

    fn attempt(&mut self, batch: &WriteBatch, durability: Durability) -> BackendResult<()> {
        let sync = durability == Durability::Synced;
        if self.level != durability {
            schema::set_synchronous(&self.conn, &self.settings, sync)?;
            self.level = durability;
        }
        self.statement("BEGIN IMMEDIATE")?
            .execute([])
            .doing("beginning")?;
        if let Err(error) = self.apply_all(batch, sync) {
            self.roll_back();
            return Err(error);
        }
        self.commit()?;
        self.unsynced = !sync;
        self.checkpoints.after_commit(&self.conn);
        Ok(())
    }

    fn apply_all(&mut self, batch: &WriteBatch, sync: bool) -> BackendResult<()> {
        let unfinished = match &mut self.unfinished {
            Some(unfinished) => unfinished,
            none => none.insert(Unfinished::load(&self.conn)?),
        };
        let before = self.conn.total_changes();
        let mut plan = Plan::new(&self.conn, &self.settings, unfinished, batch);
        for op in &batch.ops {
            plan.op(op)?;
        }
        plan.finish()?;
        // SQLite syncs nothing for a transaction that changed nothing.
        if sync && self.unsynced && self.conn.total_changes() == before {
            plan.run("UPDATE meta SET value = value + 1 WHERE key = 'synced'", [])?;
        }
        Ok(())
    }

    fn commit(&mut self) -> BackendResult<()> {
        let committed = self.statement("COMMIT")?.execute([]);
        let Err(error) = committed else {
            return Ok(());
        };
        let known = [
            ErrorCode::DiskFull,
            ErrorCode::DatabaseBusy,
            ErrorCode::DatabaseLocked,
        ];
        let is_full = matches!(&error, rusqlite::Error::SqliteFailure(failure, _)
            if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE);
        if is_full
            || error
                .sqlite_error_code()
                .is_some_and(|code| known.contains(&code))
        {
            // The log has no commit mark: what was written of it is overwritten.
            self.roll_back();
        } else {
            self.broken.set(format!("a commit failed: {error}"));
        }
        Err(error::error("committing", error))
    }

    fn roll_back(&mut self) {
        self.unfinished = None;
        // After some errors SQLite has done so itself.
        if self.conn.is_autocommit() {
            return;
        }
        if let Err(error) = self.conn.execute_batch("ROLLBACK") {
            self.broken
                .set(format!("a batch could not be undone: {error}"));
        }
    }

    /// The last that is done before the connection is closed.
    pub(super) fn finish(&mut self) -> BackendResult<()> {
        self.broken.check()?;
        schema::set_synchronous(&self.conn, &self.settings, true)?;
        match schema::set_clean(&self.conn, true) {
            Err(BackendError::Full) => {
                self.space.draw(&self.conn)?;
                checkpoint::run(&self.conn, "PASSIVE", &self.broken);
                schema::set_clean(&self.conn, true)?;
            }
            set => set?,
        }
        checkpoint::run(&self.conn, "TRUNCATE", &self.broken);
        self.broken.check()
    }

    fn statement(&self, sql: &str) -> BackendResult<CachedStatement<'_>> {
        self.conn.prepare_cached(sql).doing("preparing a statement")
    }
}

/// Opens the connection that writes, and notes that the database is in use.
fn begin(path: &Path, settings: &SqliteSettings) -> BackendResult<Connection> {
    let mut conn = schema::open_writer(path, settings)?;
    schema::begin_use(&mut conn, path, settings)?;
    Ok(conn)
}
