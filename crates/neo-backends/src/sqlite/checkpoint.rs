//! Moving pages from the log to the file, beside the writer.
//!
//! The log grows with every commit; its pages must be moved to the file, and both synced, before
//! it can start again from its beginning. That takes long, and so a thread does it while commits
//! go on. It can't be the end of it: the commits of that time are still in the log. The writer
//! moves these few itself, between two commits; with nothing left to move, SQLite starts the log
//! again. Should all of that not keep up, the writer stops and moves everything.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use neo_api::BackendResult;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tracing::{debug, warn};

use super::error::Doing;
use super::schema;
use super::{Broken, SqliteSettings};
use crate::worker::Worker;

/// With this much in the log, its pages are moved.
const LOG_BYTES: u64 = 8 << 20;

/// With this much, the writer waits until they are.
pub(super) const LOG_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Checkpoints {
    /// `None`: the writer does it all.
    mover: Option<Worker<Connection>>,
    page_bytes: u64,
    /// Pages in the log, told by SQLite at each commit.
    pages: Arc<AtomicU64>,
    moving: Arc<AtomicBool>,
    /// The mover has run, so that the rest is little.
    moved: Arc<AtomicBool>,
    broken: Arc<Broken>,
}

impl Checkpoints {
    /// Takes over from SQLite, which would do it at the end of a commit.
    pub(super) fn new(
        writer: &mut Connection,
        path: &Path,
        settings: &SqliteSettings,
        broken: &Arc<Broken>,
        threads: bool,
    ) -> BackendResult<Self> {
        let pages = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&pages);
        let hook = move |_: &mut rusqlite::hooks::Wal, n| {
            told.store(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        };
        writer.wal_hook(Some(hook)).doing("watching the log")?;
        let open = {
            let (path, settings) = (path.to_owned(), settings.clone());
            move |_| open(&path, &settings)
        };
        Ok(Self {
            mover: threads
                .then(|| Worker::threads("sqlite-move", 1, open))
                .transpose()?,
            page_bytes: schema::page_bytes(writer)?,
            pages,
            moving: Arc::default(),
            moved: Arc::default(),
            broken: Arc::clone(broken),
        })
    }

    /// Bytes of pages in the log, moved or not.
    pub(super) fn log_bytes(&self) -> u64 {
        let pages = self.pages.load(Ordering::Relaxed);
        pages.saturating_mul(self.page_bytes)
    }

    /// To be called between two commits.
    ///
    /// Its errors are not those of the commit, which is in the log.
    pub(super) fn after_commit(&self, writer: &Connection) {
        let bytes = self.log_bytes();
        if self.moved.swap(false, Ordering::Acquire) {
            run(writer, "PASSIVE", &self.broken);
        } else if bytes >= LOG_BYTES_MAX {
            debug!(bytes, "the log is too long: the writer waits");
            run(writer, "FULL", &self.broken);
        } else if bytes >= LOG_BYTES {
            let Some(mover) = &self.mover else {
                run(writer, "PASSIVE", &self.broken);
                return;
            };
            if self.moving.swap(true, Ordering::Acquire) {
                return;
            }
            let (moving, moved) = (Arc::clone(&self.moving), Arc::clone(&self.moved));
            let broken = Arc::clone(&self.broken);
            // Nobody waits for it; its errors are told by `run`.
            drop(mover.submit(move |conn| {
                run(conn, "PASSIVE", &broken);
                moved.store(true, Ordering::Release);
                moving.store(false, Ordering::Release);
            }));
        }
    }
}

fn open(path: &Path, settings: &SqliteSettings) -> BackendResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).doing("opening")?;
    conn.busy_timeout(Duration::ZERO).doing("opening")?;
    // It decides whether file and log are synced before the log starts again: never less than
    // the writer.
    schema::set_synchronous(&conn, settings, true)?;
    conn.execute_batch("PRAGMA cache_size = -256")
        .doing("configuring")?;
    Ok(conn)
}

/// Moves pages: `PASSIVE` what it can without waiting, `FULL` all, `TRUNCATE` all, and empties
/// the log.
///
/// What can't be moved, for want of space say, stays in the log. But when a sync of the log fails, the buffered batches in
/// it may be lost although a later sync succeeds: that ends the backend, as a failed commit does.
pub(super) fn run(conn: &Connection, mode: &str, broken: &Broken) {
    let moved = conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, i64>(2)?,
        ))
    });
    match moved {
        Ok((busy, pages, moved)) => {
            broken.set_full(false);
            debug!(mode, busy, pages, moved, "moved pages of the log");
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            broken.set_full(true);
            debug!(%error, "no space for the pages of the log");
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) => {
            broken.set(format!("the pages of the log could not be moved: {error}"));
        }
        Err(error) => warn!(%error, "the pages of the log could not be moved"),
    }
}
