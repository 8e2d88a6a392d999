//! An engine whose power can be cut.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use neo_api::{BackendError, BackendResult, Durability, KeyRange, KvBatch, KvEngine, Order, Space};

/// Wraps an engine, and remembers what a disk would hold after a loss of power.
///
/// The power is cut after the n-th `apply`: from then on every call fails. What is on the disk
/// then is every batch up to the last that was acknowledged as [`Durability::Synced`], and any
/// number of those after it, in order; the one that failed may be among them, since the power may
/// go at the very end of an `apply`. [`CrashEngine::survivors`] tells what can be there,
/// [`CrashEngine::restart`] makes each of these engines.
#[derive(Debug)]
pub struct CrashEngine<E> {
    live: E,
    disk: Mutex<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    /// Every batch, in order.
    batches: Vec<KvBatch>,
    /// How many of them are sure to survive.
    synced: usize,
    /// How many may still be acknowledged.
    left: Option<usize>,
    off: bool,
}

impl<E: KvEngine> CrashEngine<E> {
    /// Wraps an engine that has nothing in it.
    #[must_use]
    pub fn new(empty: E) -> Self {
        Self {
            live: empty,
            disk: Mutex::default(),
        }
    }

    /// Cuts the power after `n` more batches were acknowledged.
    pub fn cut_after(&self, n: usize) {
        self.disk().left = Some(n);
    }

    /// How many batches there can be on the disk.
    #[must_use]
    pub fn survivors(&self) -> RangeInclusive<usize> {
        let disk = self.disk();
        disk.synced..=disk.batches.len()
    }

    /// The engine with the first `kept` batches, on top of an `empty` one.
    ///
    /// # Errors
    /// Those of the engine.
    ///
    /// # Panics
    /// When `kept` is not among the [survivors](Self::survivors).
    pub fn restart(&self, kept: usize, empty: E) -> BackendResult<Self> {
        assert!(
            self.survivors().contains(&kept),
            "{kept} batches are not what can be on the disk"
        );
        let batches = self.disk().batches[..kept].to_vec();
        for batch in &batches {
            empty.apply(batch.clone(), Durability::Synced)?;
        }
        let disk = Disk {
            synced: kept,
            batches,
            ..Disk::default()
        };
        Ok(Self {
            live: empty,
            disk: Mutex::new(disk),
        })
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn powered(&self) -> BackendResult<()> {
        if self.disk().off {
            Err(no_power())
        } else {
            Ok(())
        }
    }
}

fn no_power() -> BackendError {
    BackendError::Closed("the power was cut".to_owned())
}

impl<E: KvEngine> KvEngine for CrashEngine<E> {
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        self.powered()?;
        self.live.get(space, key)
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>> {
        self.powered()?;
        self.live.scan(space, range, order, limit)
    }

    fn apply(&self, batch: KvBatch, durability: Durability) -> BackendResult<()> {
        let mut disk = self.disk();
        if disk.off {
            return Err(no_power());
        }
        disk.batches.push(batch.clone());
        if disk.left == Some(0) {
            disk.off = true;
            return Err(no_power());
        }
        self.live.apply(batch, durability)?;
        disk.left = disk.left.map(|n| n - 1);
        if durability == Durability::Synced {
            disk.synced = disk.batches.len();
        }
        Ok(())
    }
}
