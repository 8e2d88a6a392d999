//! Space that is kept for what must succeed: to lock, move and forget what was voted.
//!
//! Two reserves, since two things can end. For the disk, a file `PATH.reserve` holds space that
//! nobody else gets; when a batch that must succeed meets a full disk, the file is removed. For
//! `max_database_bytes`, batches with new values have a lower limit than the others.
//!
//! Each vote adds to both what moving its objects will take; and since the pages of the log must
//! find room in the file, the first holds that as well. A batch with new values is taken only while
//! the reserve is whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use neo_api::{BackendError, BackendResult, TxnId, WriteBatch, WriteOp};
use rusqlite::Connection;
use tracing::{info, warn};

use super::SqliteSettings;
use super::error::Doing;
use super::{pending, schema, small};
use crate::lock::beside;

/// What an object takes when it is moved to its place: its rows in a table and an index, in pages
/// that are half full.
const MOVED_OBJECT_BYTES: u64 = 200;

/// A reserve that is so many times too large is made smaller.
const SLACK: u64 = 4;

#[derive(Debug)]
pub(super) struct Space {
    database: PathBuf,
    file: PathBuf,
    /// Bytes that the file holds.
    held: u64,
    /// What is kept at least; 0: nothing is.
    reserve_bytes: u64,
    /// Pages that the database may have, and may have now.
    pages_max: Option<u64>,
    pages_now: u64,
    page_bytes: u64,
    debts: Debts,
    /// Whether the operator was told that there is no space.
    told: bool,
}

impl Space {
    /// Takes the reserve, if there is room for it.
    pub(super) fn new(
        conn: &Connection,
        path: &Path,
        settings: &SqliteSettings,
    ) -> BackendResult<Self> {
        let page_bytes = schema::page_bytes(conn)?;
        let mut space = Self {
            database: path.to_owned(),
            file: reserve_path(path),
            held: 0,
            reserve_bytes: settings.reserve_bytes,
            pages_max: settings
                .max_database_bytes
                .map(|max| (max / page_bytes).max(1)),
            pages_now: 0,
            page_bytes,
            debts: Debts::load(conn)?,
            told: false,
        };
        if space.reserve_bytes == 0 {
            release(&space.file)?;
        }
        match space.admit(conn, &WriteBatch::new(), u64::MAX) {
            // Until there is room, nothing new is taken.
            Ok(()) | Err(BackendError::Full) => Ok(space),
            Err(error) => Err(error),
        }
    }

    /// To be called before a batch with new values: what it owes when it is done must fit into the
    /// reserve. `log_bytes` is the length of the log, or more.
    pub(super) fn admit(
        &mut self,
        conn: &Connection,
        batch: &WriteBatch,
        log_bytes: u64,
    ) -> BackendResult<()> {
        if self.reserve_bytes == 0 {
            return Ok(());
        }
        let owed = self.debts.total + Debts::added(batch);
        if let Some(pages) = self.pages_max {
            self.limit(conn, pages - self.kept_pages(owed, pages))?;
        }
        let owed = owed.saturating_add(batch.weight() as u64);
        let mut kept = self.kept(owed.saturating_add(log_bytes));
        if self.held < kept {
            // Most of the log may be pages that are in the file already.
            kept = self.kept(owed.saturating_add(self.growth(conn)?));
        }
        if (kept..=kept.saturating_mul(SLACK)).contains(&self.held) {
            return Ok(());
        }
        match hold(&self.file, kept) {
            Ok(()) => {
                self.held = kept;
                Ok(())
            }
            Err(error) => {
                self.held = file_bytes(&self.file);
                Err(error)
            }
        }
    }

    /// What the file will grow by when the log is moved to it.
    fn growth(&self, conn: &Connection) -> BackendResult<u64> {
        let pages: i64 = conn
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .doing("reading the size")?;
        let bytes = pages.unsigned_abs().saturating_mul(self.page_bytes);
        Ok(bytes.saturating_sub(file_bytes(&self.database)))
    }

    /// How much is kept when so much is owed: in steps, so that small transactions change nothing.
    fn kept(&self, owed: u64) -> u64 {
        let reserve = self.reserve_bytes;
        let above = owed.saturating_sub(reserve / 2);
        above
            .div_ceil(reserve)
            .saturating_add(1)
            .saturating_mul(reserve)
    }

    /// The same, in pages of a database that is limited: what is kept beside debts is a quarter of
    /// it at most.
    fn kept_pages(&self, owed: u64, pages: u64) -> u64 {
        let beside = (self.reserve_bytes / self.page_bytes).min(pages / 4);
        (beside + owed.div_ceil(self.page_bytes)).min(pages)
    }

    fn limit(&mut self, conn: &Connection, pages: u64) -> BackendResult<()> {
        if self.pages_now != pages {
            // Pages that are there already are not taken away: the limit is then what there is.
            let limit = format!("PRAGMA max_page_count = {}", pages.max(1));
            conn.query_row(&limit, [], |_| Ok(()))
                .doing("limiting the size")?;
            self.pages_now = pages;
        }
        Ok(())
    }

    /// A batch that must succeed found no space: gives up the reserve. The next batch with new
    /// values has to restore it.
    pub(super) fn draw(&mut self, conn: &Connection) -> BackendResult<()> {
        if self.held > 0 {
            let database = self.database.display();
            warn!(%database, "no space left: what was kept for voted transactions is used now");
        }
        if let Some(pages) = self.pages_max {
            self.limit(conn, pages)?;
        }
        self.free()
    }

    /// Gives up the reserve for the moment, for what it is kept for.
    pub(super) fn free(&mut self) -> BackendResult<()> {
        self.held = 0;
        release(&self.file)
    }

    /// A batch was applied.
    pub(super) fn applied(&mut self, batch: &WriteBatch, brings_values: bool) {
        self.debts.apply(batch);
        if brings_values && self.told {
            self.told = false;
            info!(database = %self.database.display(), "there is space again: new data is taken");
        }
    }

    /// A batch with new values was refused.
    pub(super) fn refused(&mut self) {
        if !self.told {
            self.told = true;
            warn!(
                database = %self.database.display(),
                "no space left: new data is refused until some is freed, or the limit is raised; \
                 reads go on"
            );
        }
    }
}

/// What unlocking will take, of each transaction that has voted.
#[derive(Debug, Default)]
struct Debts {
    of: BTreeMap<TxnId, u64>,
    total: u64,
}

impl Debts {
    fn load(conn: &Connection) -> BackendResult<Self> {
        let mut debts = Self::default();
        for (txn, object_bytes, record_bytes) in pending::sizes(conn)? {
            let objects = object_bytes / pending::OBJECT_BYTES as u64;
            debts.add(txn, objects * MOVED_OBJECT_BYTES + record_bytes);
        }
        small::each_parcel(conn, |_, parcel| {
            for entry in parcel {
                let entry = entry?;
                let objects = entry.decode()?.objects.len() as u64;
                debts.add(entry.txn, objects * MOVED_OBJECT_BYTES + entry.bytes());
            }
            Ok(())
        })?;
        Ok(debts)
    }

    fn add(&mut self, txn: TxnId, bytes: u64) {
        *self.of.entry(txn).or_default() += bytes;
        self.total += bytes;
    }

    fn added(batch: &WriteBatch) -> u64 {
        batch
            .ops
            .iter()
            .filter_map(debt)
            .map(|(_, bytes)| bytes)
            .sum()
    }

    fn apply(&mut self, batch: &WriteBatch) {
        for op in &batch.ops {
            if let Some((txn, bytes)) = debt(op) {
                self.add(txn, bytes);
            } else if let WriteOp::DropUnfinished { txn } = op {
                self.total -= self.of.remove(txn).unwrap_or(0);
            }
        }
    }
}

/// What moving this to its place will take.
fn debt(op: &WriteOp) -> Option<(TxnId, u64)> {
    match op {
        WriteOp::PutUnfinishedObjects { txn, objects } => {
            Some((*txn, objects.len() as u64 * MOVED_OBJECT_BYTES))
        }
        WriteOp::PutUnfinished { txn, .. } => Some((*txn, op.weight() as u64)),
        _ => None,
    }
}

/// Where the reserve of a database is.
pub(super) fn reserve_path(database: &Path) -> PathBuf {
    beside(database, ".reserve")
}

fn file_bytes(file: &Path) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

/// Makes the file hold so many bytes of the disk.
fn hold(file: &Path, bytes: u64) -> BackendResult<()> {
    let before = file_bytes(file);
    if before > bytes {
        return File::options()
            .write(true)
            .open(file)
            .and_then(|file| file.set_len(bytes))
            .map_err(failed);
    }
    let opened = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(file)
        .map_err(failed)?;
    // All of it, also what it seems to have: a crash may have left holes.
    let held = allocate(&opened, bytes);
    if held.is_err() {
        // As large as before; what can't be undone is found out next time.
        let _ = opened.set_len(before);
    }
    held.map_err(failed)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, bytes),
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    write_zeros(file, bytes)
}

fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    const PART: usize = 64 << 10;
    let zeros = [0; PART];
    for at in (0..bytes).step_by(PART) {
        let part = usize::try_from(bytes - at).map_or(PART, |rest| rest.min(PART));
        file.write_all_at(&zeros[..part], at)?;
    }
    Ok(())
}

/// Frees the space of the file.
pub(super) fn release(file: &Path) -> BackendResult<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

fn failed(source: io::Error) -> BackendError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BackendError::Full,
        _ => BackendError::Failed {
            what: "reserving space".to_owned(),
            source: Box::new(source),
        },
    }
}
