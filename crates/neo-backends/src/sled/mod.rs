//! An engine in a directory of sled's: a database of Rust alone, in this process.
//!
//! All spaces are in one tree of sled, with the space as first byte of the key, so that a batch
//! over several of them is one batch of sled's. `row` has the layout.

mod open;
mod row;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use neo_api::{
    BackendError, BackendInfo, BackendResult, Durability, KeyRange, KvBatch, KvEngine, Order, Space,
};
use serde::{Deserialize, Serialize};
use sled::{Db, IVec};

use crate::guard::{Failure, Guard};
use crate::kv::KvBackend;
use crate::lock::{self, FileLock};
use crate::reserve;

/// Settings of a [`SledEngine`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SledSettings {
    /// The directory; created if it does not exist, in one that does.
    pub path: PathBuf,
    /// Threads that read; 2.
    #[serde(default = "default::readers")]
    pub readers: usize,
    /// Memory for pages, in bytes; 64 MiB.
    #[serde(default = "default::cache_bytes")]
    pub cache_bytes: u64,
    /// New values are refused as [`BackendError::Full`] when they would leave less than so many
    /// bytes of the file system; 64 MiB. The rest is for transactions that have voted: what sled
    /// can't write stops the node.
    #[serde(default = "default::reserve_bytes")]
    pub reserve_bytes: u64,
    /// Of values that are equal and have so many bytes, and are written from now on, the bytes are
    /// kept once; `None`, the default: of no values. See
    /// [`DEDUP_BYTES_MIN`](crate::DEDUP_BYTES_MIN). [`open_backend`](SledEngine::open_backend) does it.
    #[serde(default)]
    pub dedup_bytes_min: Option<u32>,
}

mod default {
    pub(super) const fn readers() -> usize {
        2
    }

    pub(super) const fn cache_bytes() -> u64 {
        64 << 20
    }

    pub(super) const fn reserve_bytes() -> u64 {
        64 << 20
    }
}

impl SledSettings {
    /// The defaults, for a directory.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: default::readers(),
            cache_bytes: default::cache_bytes(),
            reserve_bytes: default::reserve_bytes(),
            dedup_bytes_min: None,
        }
    }
}

/// A database in a directory, kept by [sled](https://docs.rs/sled/0.34) 0.34.
///
/// Beside the directory is `PATH.lock`, which keeps a second node out.
///
/// # What its durability is
/// sled alone does less than a [`KvEngine`] must: its `flush` asks the system to write
/// (`sync_file_range`) and never tells the disk, and what it keeps in files of its own is not synced
/// at all. So with [`Durability::Synced`] this engine syncs sled's files itself, after the flush and
/// before it answers; and it cuts values in pieces that are small enough for sled's log.
///
/// - When the process dies, at any moment, what remains is a prefix of the batches with every one
///   that was acknowledged as `Synced`. That is tested.
/// - When the power goes, `Synced` batches are on the disk. Between two syncs, though, sled writes
///   again over parts of its file whose contents it has copied elsewhere, when that copy is with
///   the system, not when it is on the disk. A disk or a file system that changes the order of
///   writes, and loses power just then, can lose what was synced before, or keep a later batch
///   without an earlier one. Nothing outside of sled can help that. So: no copy that must survive on its own;
///   let another replica be on SQLite.
/// - sled takes a damaged piece of its log for the end of what was written: damage that its
///   checksums see in what was written since the last start can look like a database that is older.
/// - After an error of sled, or a panic in it, every call is refused until the database is opened
///   again: sled does not tell what it has done.
///
/// sled 0.34 is of 2021 and gets no mending; take it to try things, for tests, and where no C
/// compiler is.
pub struct SledEngine {
    /// There until this is dropped.
    db: Option<Db>,
    guard: Guard,
    /// A batch that becomes visible, against readers: they would see a part of it.
    batches: RwLock<()>,
    /// The file of sled's log.
    log: File,
    /// Where sled is.
    directory: PathBuf,
    reserve_bytes: u64,
    /// Released last.
    _lock: FileLock,
}

impl fmt::Debug for SledEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Sled would show everything that it has.
        f.debug_struct("SledEngine")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl SledEngine {
    /// Opens a database, and creates it where there is none.
    ///
    /// It blocks while sled reads what was written since the last start.
    ///
    /// # Errors
    /// [`BackendError::InUse`] when another node has it; [`BackendError::Incompatible`] when it is
    /// something else, or of another version; [`BackendError::Corrupt`]; and what the system says.
    pub fn open(settings: &SledSettings) -> BackendResult<Self> {
        open::open(settings)
    }

    /// A backend over the database of these settings, with threads.
    ///
    /// # Errors
    /// As [`SledEngine::open`].
    pub fn open_backend(settings: &SledSettings) -> BackendResult<KvBackend<Self>> {
        let engine = Self::open(settings)?;
        let mut info = BackendInfo::new("Sled", true);
        info.topology = lock::topology(&settings.path)?;
        let backend = KvBackend::local(engine, info, settings.readers);
        Ok(backend.deduplicating(settings.dedup_bytes_min))
    }

    /// Calls sled.
    fn call<R>(
        &self,
        what: &'static str,
        call: impl FnOnce(&Db) -> Result<R, sled::Error>,
    ) -> BackendResult<R> {
        let db = self.db.as_ref().expect("it is taken when it is dropped");
        self.guard.call(what, || call(db))
    }

    /// Reads while no batch becomes visible.
    fn read<R>(&self, read: impl FnOnce() -> BackendResult<R>) -> BackendResult<R> {
        let _still = self.batches.read().unwrap_or_else(PoisonError::into_inner);
        read()
    }

    fn row(&self, row: &[u8]) -> BackendResult<Option<IVec>> {
        self.call("reading", |db| db.get(row))
    }

    /// The value of a row that was read: with its pieces, if it has any.
    fn value(&self, space: Space, key: &[u8], row: &[u8]) -> BackendResult<Bytes> {
        match row::decode(row)? {
            row::Row::Whole(value) => Ok(Bytes::copy_from_slice(value)),
            row::Row::Pieces(length) => {
                let mut value = Vec::new();
                for n in 0..row::pieces(length) {
                    let piece = self.row(&row::piece_key(space, key, n))?;
                    value.extend_from_slice(&piece.ok_or_else(|| row::lost_piece(space, n))?);
                }
                if value.len() as u64 == length {
                    Ok(value.into())
                } else {
                    Err(row::lost_piece(space, row::pieces(length)))
                }
            }
        }
    }

    /// How many pieces a key has.
    fn pieces(&self, space: Space, key: &[u8]) -> BackendResult<u32> {
        let Some(row) = self.row(&row::key(space, key))? else {
            return Ok(0);
        };
        Ok(match row::decode(&row)? {
            row::Row::Whole(_) => 0,
            row::Row::Pieces(length) => row::pieces(length),
        })
    }

    /// Makes durable what was applied.
    fn sync(&self) -> BackendResult<()> {
        self.guard
            .call("syncing", || self.sync_blobs().map_err(sled::Error::Io))?;
        self.call("flushing", |db| db.flush().map(|_| ()))?;
        self.guard
            .call("syncing", || self.log.sync_data().map_err(sled::Error::Io))
    }

    /// Syncs the files of what was too large for sled's log, pages that are merged at most; nearly
    /// always there is none.
    fn sync_blobs(&self) -> io::Result<()> {
        let blobs = self.directory.join(open::BLOBS);
        let mut any = false;
        for blob in fs::read_dir(&blobs)? {
            match File::open(blob?.path()) {
                Ok(blob) => blob.sync_all()?,
                // Sled has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            any = true;
        }
        if any {
            File::open(&blobs)?.sync_all()?;
        }
        Ok(())
    }
}

impl KvEngine for SledEngine {
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        self.read(|| {
            let row = self.row(&row::key(space, key))?;
            row.map(|row| self.value(space, key, &row)).transpose()
        })
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>> {
        let Some(range) = row::range(space, range) else {
            return Ok(Vec::new());
        };
        self.read(|| {
            let rows: Vec<(IVec, IVec)> = self.call("listing", |db| {
                let rows = db.range(range);
                match order {
                    Order::Ascending => rows.take(limit).collect(),
                    Order::Descending => rows.rev().take(limit).collect(),
                }
            })?;
            let pair = |(key, row): (IVec, IVec)| {
                let value = self.value(space, &key[1..], &row)?;
                Ok((Bytes::copy_from_slice(&key[1..]), value))
            };
            rows.into_iter().map(pair).collect()
        })
    }

    fn bytes(&self) -> BackendResult<u64> {
        self.call("looking at the size", Db::size_on_disk)
    }

    fn apply(&self, batch: KvBatch, durability: Durability) -> BackendResult<()> {
        self.guard.check()?;
        reserve::check(&self.directory, self.reserve_bytes, &batch)?;
        let mut rows = sled::Batch::default();
        for ((space, key), value) in row::last_of_each(batch) {
            let before = self.pieces(space, &key)?;
            row::write(&mut rows, space, &key, value, before);
        }
        {
            let _alone = self.batches.write().unwrap_or_else(PoisonError::into_inner);
            self.call("applying a batch", |db| db.apply_batch(rows))?;
        }
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Synced => self.sync(),
        }
    }
}

impl Drop for SledEngine {
    fn drop(&mut self) {
        let db = self.db.take();
        self.guard.close(|| {
            // It syncs, and panics where it can't.
            drop(db);
            Ok::<_, sled::Error>(())
        });
        // Threads of sled may still have its file, and its lock with it: who opens the database
        // next should not meet them.
        if let Err(error) = self.log.lock() {
            tracing::warn!(%error, directory = %self.directory.display(), "sled's lock is not free");
        }
    }
}

impl Failure for sled::Error {
    const DATABASE: &'static str = "sled";

    fn meaning(self, what: &'static str) -> BackendError {
        match self {
            Self::Corruption { .. } => BackendError::Corrupt(format!("{what}: {self}")),
            error => BackendError::Failed {
                what: what.to_owned(),
                source: Box::new(error),
            },
        }
    }
}
