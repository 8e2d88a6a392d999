//! An engine in a file of redb's: a database of Rust alone, in this process.

mod open;
#[cfg(test)]
mod power_test;

use std::fmt;
use std::ops::Bound;
use std::path::PathBuf;

use bytes::Bytes;
use neo_api::{
    BackendError, BackendInfo, BackendResult, Durability, KeyRange, KvBatch, KvEngine, KvOp, Order,
    Space,
};
use redb::{AccessGuard, Database, ReadOnlyTable, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::guard::Guard;
use crate::kv::KvBackend;
use crate::lock::{self, FileLock};
use crate::reserve;

/// Settings of a [`RedbEngine`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RedbSettings {
    /// The file; created if it does not exist, in a directory that does.
    pub path: PathBuf,
    /// Threads that read; 2.
    #[serde(default = "default::readers")]
    pub readers: usize,
    /// Memory for pages, in bytes; 64 MiB.
    #[serde(default = "default::cache_bytes")]
    pub cache_bytes: usize,
    /// New values are refused as [`BackendError::Full`] when they would leave less than so many
    /// bytes of the file system; 64 MiB. The rest is for transactions that have voted: what redb
    /// can't write stops the node.
    #[serde(default = "default::reserve_bytes")]
    pub reserve_bytes: u64,
    /// Of values that are equal and have so many bytes, and are written from now on, the bytes are
    /// kept once; `None`, the default: of no values. See
    /// [`DEDUP_BYTES_MIN`](crate::DEDUP_BYTES_MIN). [`open_backend`](RedbEngine::open_backend) does it.
    #[serde(default)]
    pub dedup_bytes_min: Option<u32>,
    /// Whether a start after a crash need not read the whole file; no. Batches that are synced take
    /// longer then.
    #[serde(default)]
    pub quick_repair: bool,
}

mod default {
    pub(super) const fn readers() -> usize {
        2
    }

    pub(super) const fn cache_bytes() -> usize {
        64 << 20
    }

    pub(super) const fn reserve_bytes() -> u64 {
        64 << 20
    }
}

impl RedbSettings {
    /// The defaults, for a file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: default::readers(),
            cache_bytes: default::cache_bytes(),
            reserve_bytes: default::reserve_bytes(),
            dedup_bytes_min: None,
            quick_repair: false,
        }
    }
}

type Row = &'static [u8];

/// The table of a space, which is named as it is.
const fn table(space: Space) -> TableDefinition<'static, Row, Row> {
    TableDefinition::new(space.name())
}

/// A database in a file, kept by [redb](https://docs.rs/redb/4).
///
/// Beside the file is `PATH.lock`, which keeps a second node out.
///
/// # What its durability is
/// redb writes pages where none is that the last synced batch needs, and makes them the database by
/// one more write, all with checksums, and one `fdatasync`.
///
/// - When the process dies or the power goes, what remains is a prefix of the batches with every
///   one that was acknowledged as `Synced`. That is tested, with processes that are killed, and with
///   disks that have any part of what was written since their last sync.
/// - Batches that are `Buffered` are in memory: the process that dies takes with it those that no
///   `Synced` one followed.
/// - After a crash redb reads the whole file before it opens, unless with
///   [`quick_repair`](RedbSettings::quick_repair), for the price of a second `fdatasync` and a few
///   more pages with every `Synced` batch.
/// - Redb refuses every call after a read, a write or a sync that failed, and so does this engine
///   after any error of redb, or a panic in it, until the database is opened again.
/// - Pages that are not needed any more are used again; the file gets no shorter while it is open.
///   A value takes whole pages of 4, 8, 16 KiB and so on, unless it shares one.
pub struct RedbEngine {
    /// There until this is dropped.
    db: Option<Database>,
    guard: Guard,
    path: PathBuf,
    reserve_bytes: u64,
    quick_repair: bool,
    /// Released last.
    _lock: FileLock,
}

impl fmt::Debug for RedbEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbEngine")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl RedbEngine {
    /// Opens a database, and creates it where there is none.
    ///
    /// # Errors
    /// [`BackendError::InUse`] when another node has it; [`BackendError::Incompatible`] when it is
    /// something else, or of another version; [`BackendError::Corrupt`]; and what the system says.
    pub fn open(settings: &RedbSettings) -> BackendResult<Self> {
        open::open(settings)
    }

    /// A backend over the database of these settings, with threads.
    ///
    /// # Errors
    /// As [`RedbEngine::open`].
    pub fn open_backend(settings: &RedbSettings) -> BackendResult<KvBackend<Self>> {
        let engine = Self::open(settings)?;
        let mut info = BackendInfo::new("Redb", true);
        info.topology = lock::topology(&settings.path)?;
        let backend = KvBackend::local(engine, info, settings.readers);
        Ok(backend.deduplicating(settings.dedup_bytes_min))
    }

    fn db(&self) -> &Database {
        self.db.as_ref().expect("it is taken when it is dropped")
    }

    /// A table as it is now. Nobody keeps it for longer than a call: redb can use the pages of a
    /// batch before again only when nobody may read them, and writes more as long as it can't.
    fn table(&self, space: Space) -> Result<ReadOnlyTable<Row, Row>, redb::Error> {
        Ok(self.db().begin_read()?.open_table(table(space))?)
    }

    fn write(&self, batch: KvBatch, durability: Durability) -> Result<(), redb::Error> {
        let mut transaction = self.db().begin_write()?;
        match durability {
            Durability::Buffered => transaction.set_durability(redb::Durability::None)?,
            Durability::Synced => transaction.set_quick_repair(self.quick_repair),
        }
        let mut ops = batch.ops.into_iter().peekable();
        while let Some(next) = ops.peek() {
            // A table is looked up once for neighbours.
            let space = space(next);
            let mut rows = transaction.open_table(table(space))?;
            while let Some(op) = ops.next_if(|op| self::space(op) == space) {
                match op {
                    KvOp::Put(_, key, value) => rows.insert(&key[..], &value[..])?,
                    KvOp::Delete(_, key) => rows.remove(&key[..])?,
                };
            }
        }
        Ok(transaction.commit()?)
    }
}

const fn space(op: &KvOp) -> Space {
    match op {
        KvOp::Put(space, ..) | KvOp::Delete(space, _) => *space,
    }
}

impl KvEngine for RedbEngine {
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        self.guard.call("reading", || {
            // What is read does not keep the table, and so its pages, alive.
            let table = self.table(space)?;
            let value = table.get(key)?;
            Ok::<_, redb::Error>(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>> {
        type Pair = (AccessGuard<'static, Row>, AccessGuard<'static, Row>);
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        let copy = |pair: Result<Pair, redb::StorageError>| {
            let (key, value) = pair?;
            let copy = Bytes::copy_from_slice;
            Ok::<_, redb::Error>((copy(key.value()), copy(value.value())))
        };
        self.guard.call("listing", || {
            let (from, to) = &range;
            let range = (
                from.as_ref().map(|key| &key[..]),
                to.as_ref().map(|key| &key[..]),
            );
            let table = self.table(space)?;
            let rows = table.range::<&[u8]>(range)?;
            match order {
                Order::Ascending => rows.take(limit).map(copy).collect(),
                Order::Descending => rows.rev().take(limit).map(copy).collect(),
            }
        })
    }

    fn bytes(&self) -> BackendResult<u64> {
        Ok(self.path.metadata()?.len())
    }

    fn apply(&self, batch: KvBatch, durability: Durability) -> BackendResult<()> {
        self.guard.check()?;
        let directory = self.path.parent().unwrap_or(&self.path);
        reserve::check(directory, self.reserve_bytes, &batch)?;
        self.guard
            .call("applying a batch", || self.write(batch, durability))
    }
}

/// Redb panics on a range that ends before it starts.
fn is_empty(range: &KeyRange) -> bool {
    match range {
        (Bound::Excluded(from), Bound::Excluded(to) | Bound::Included(to))
        | (Bound::Included(from), Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

impl Drop for RedbEngine {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else {
            return;
        };
        self.guard.close(|| db.close().map_err(redb::Error::from));
    }
}

impl crate::guard::Failure for redb::Error {
    const DATABASE: &'static str = "redb";

    fn meaning(self, what: &'static str) -> BackendError {
        match self {
            Self::Corrupted(why) => BackendError::Corrupt(format!("{what}: {why}")),
            error => BackendError::Failed {
                what: what.to_owned(),
                source: Box::new(error),
            },
        }
    }
}
