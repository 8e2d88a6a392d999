//! Writes: one batch, one transaction of SQLite.

use std::sync::Arc;

use neo_api::{BackendResult, Durability, WriteBatch};
use rusqlite::{CachedStatement, Connection, ErrorCode};

use super::checkpoint::{self, Checkpoints};
use super::error::{self, Doing};
use super::lock::{self, FileLock};
use super::plan::Plan;
use super::{Broken, SqliteSettings, schema};
use crate::limits;

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
        let path = lock::resolve(&settings.path)?;
        let lock = FileLock::acquire(&path)?;
        let mut conn = schema::open_writer(&path, settings)?;
        schema::begin_use(&mut conn, &path, settings)?;
        let checkpoints = Checkpoints::new(&mut conn, &path, settings, broken, threads)?;
        Ok(Self {
            conn,
            checkpoints,
            settings: settings.clone(),
            level: Durability::Synced,
            unsynced: false,
            broken: Arc::clone(broken),
            _lock: lock,
        })
    }

    pub(super) fn apply(&mut self, batch: WriteBatch, durability: Durability) -> BackendResult<()> {
        self.broken.check()?;
        limits::check(&batch)?;
        let sync = durability == Durability::Synced;
        if batch.is_empty() && !(sync && self.unsynced) {
            return Ok(());
        }
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

    fn apply_all(&self, batch: WriteBatch, sync: bool) -> BackendResult<()> {
        let before = self.conn.total_changes();
        let mut plan = Plan::new(&self.conn);
        for op in batch.ops {
            plan.op(op)?;
        }
        // SQLite syncs nothing for a transaction that changed nothing.
        if sync && self.unsynced && self.conn.total_changes() == before {
            plan.run("UPDATE meta SET value = value + 1 WHERE key = 'synced'", [])?;
        }
        Ok(())
    }

    fn commit(&self) -> BackendResult<()> {
        let committed = self.statement("COMMIT")?.execute([]);
        let Err(error) = committed else {
            return Ok(());
        };
        let known = [
            ErrorCode::DiskFull,
            ErrorCode::DatabaseBusy,
            ErrorCode::DatabaseLocked,
        ];
        if error
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

    fn roll_back(&self) {
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
        schema::set_clean(&self.conn, true)?;
        checkpoint::run(&self.conn, "TRUNCATE", &self.broken);
        self.broken.check()
    }

    fn statement(&self, sql: &str) -> BackendResult<CachedStatement<'_>> {
        self.conn.prepare_cached(sql).doing("preparing a statement")
    }
}
