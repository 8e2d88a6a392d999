//! An engine whose power can be cut.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use neo_api::{
    BackendError, BackendResult, Durability, KeyRange, KvBatch, KvEngine, KvOp, Order, Space,
};

/// Wraps an engine, and remembers what a disk would not hold after a loss of power.
///
/// The power is cut after the n-th `apply`: from then on every call fails. What is on the disk
/// then is every batch up to the last that was acknowledged as [`Durability::Synced`], and any
/// number of those after it, in order; the one that failed may be among them, since the power may
/// go at the very end of an `apply`. [`CrashEngine::survivors`] tells what can be there,
/// [`CrashEngine::restart`] makes any of it so. What is remembered is bounded by what was not
/// synced, and by what was written since a [copy](CrashEngine::copy) was made.
#[derive(Debug)]
pub struct CrashEngine<E> {
    live: E,
    disk: Mutex<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    /// How many batches are sure to survive.
    synced: usize,
    /// For each acknowledged one after these, in order: what takes it back.
    undo: VecDeque<KvBatch>,
    /// The one that failed when the power went.
    failed: Option<KvBatch>,
    /// What takes back, in order, all that was written since a copy was made.
    since_copy: Option<Vec<KvBatch>>,
    /// How many may still be acknowledged.
    left: Option<usize>,
    off: bool,
}

impl Disk {
    /// Remembers what takes a batch back, for a copy that was made before.
    fn note(&mut self, undo: KvBatch) {
        if let Some(since) = &mut self.since_copy {
            since.push(undo);
        }
    }
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
        disk.synced..=disk.synced + disk.undo.len() + usize::from(disk.failed.is_some())
    }

    /// The power is back, and the first `kept` batches are there.
    ///
    /// # Errors
    /// Those of the engine.
    ///
    /// # Panics
    /// When `kept` is not among the [survivors](Self::survivors).
    pub fn restart(&self, kept: usize) -> BackendResult<()> {
        assert!(
            self.survivors().contains(&kept),
            "{kept} batches are not what can be on the disk"
        );
        let mut disk = self.disk();
        let failed = disk.failed.take();
        if let Some(failed) = failed.filter(|_| kept > disk.synced + disk.undo.len()) {
            let undo = self.undo(&failed)?;
            self.live.apply(failed, Durability::Synced)?;
            disk.note(undo);
        }
        while disk.synced + disk.undo.len() > kept {
            let undo = disk.undo.pop_back().unwrap_or_default();
            self.live.apply(undo, Durability::Synced)?;
            if let Some(since) = &mut disk.since_copy {
                since.pop();
            }
        }
        *disk = Disk {
            synced: kept,
            since_copy: disk.since_copy.take(),
            ..Disk::default()
        };
        Ok(())
    }

    /// Makes a copy of what is sure to be on the disk now; only the last one counts.
    pub fn copy(&self) {
        let mut disk = self.disk();
        disk.since_copy = Some(disk.undo.iter().cloned().collect());
    }

    /// The last copy that was made is on the disk instead of what is there; whether there is one.
    /// For a node that does not run.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn put_copy_back(&self) -> BackendResult<bool> {
        let mut disk = self.disk();
        let Some(since) = disk.since_copy.take() else {
            return Ok(false);
        };
        for undo in since.into_iter().rev() {
            self.live.apply(undo, Durability::Synced)?;
        }
        *disk = Disk::default();
        Ok(true)
    }

    /// What takes a batch back that is not applied yet.
    fn undo(&self, batch: &KvBatch) -> BackendResult<KvBatch> {
        let mut undo = KvBatch::default();
        for op in &batch.ops {
            let (KvOp::Put(space, key, _) | KvOp::Delete(space, key)) = op;
            undo.ops.push(match self.live.get(*space, key)? {
                Some(value) => KvOp::Put(*space, key.clone(), value),
                None => KvOp::Delete(*space, key.clone()),
            });
        }
        Ok(undo)
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
        if disk.left == Some(0) {
            disk.off = true;
            disk.failed = Some(batch);
            return Err(no_power());
        }
        let undo = self.undo(&batch)?;
        self.live.apply(batch, durability)?;
        disk.left = disk.left.map(|n| n - 1);
        disk.note(undo.clone());
        disk.undo.push_back(undo);
        if durability == Durability::Synced {
            disk.synced += disk.undo.len();
            disk.undo.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use neo_backends::MemoryEngine;

    use super::*;

    fn apply(engine: &CrashEngine<MemoryEngine>, n: u8) -> BackendResult<()> {
        let durability = if n.is_multiple_of(4) {
            Durability::Synced
        } else {
            Durability::Buffered
        };
        let (count, own) = (b"n".to_vec(), vec![n]);
        let ops = vec![
            KvOp::Put(Space::Config, count, vec![n].into()),
            KvOp::Put(Space::Data, own, Bytes::new()),
            KvOp::Delete(Space::Data, vec![n.wrapping_sub(3)]),
        ];
        engine.apply(KvBatch { ops }, durability)
    }

    fn all(engine: &CrashEngine<MemoryEngine>) -> Vec<(Bytes, Bytes)> {
        let every = || (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let list = |space| engine.scan(space, every(), Order::Ascending, 99).unwrap();
        [list(Space::Config), list(Space::Data)].concat()
    }

    #[test]
    fn after_a_power_cut_any_prefix_may_remain_that_holds_what_was_synced() {
        const BATCHES: u8 = 9;
        let mut restarts = 0;
        for cut in 0..=BATCHES {
            let synced = cut / 4 * 4;
            // The one that failed may be there, and one may be left over that was not tried.
            for kept in synced..=BATCHES.min(cut + 1) {
                let engine = CrashEngine::new(MemoryEngine::default());
                engine.cut_after(cut.into());
                for n in 1..=BATCHES {
                    assert_eq!(apply(&engine, n).is_ok(), n <= cut);
                }
                let last = usize::from(BATCHES.min(cut + 1));
                assert_eq!(engine.survivors(), usize::from(synced)..=last);
                engine.restart(kept.into()).unwrap();
                let whole = CrashEngine::new(MemoryEngine::default());
                for n in 1..=kept {
                    apply(&whole, n).unwrap();
                }
                assert_eq!(all(&engine), all(&whole), "cut after {cut}, {kept} kept");
                apply(&engine, kept + 1).unwrap();
                restarts += 1;
            }
        }
        assert!(restarts > 25, "{restarts}");
    }

    #[test]
    fn without_power_nothing_answers() {
        let engine = CrashEngine::new(MemoryEngine::default());
        engine.cut_after(0);
        let is_closed = |outcome| matches!(outcome, Err(BackendError::Closed(_)));
        assert!(is_closed(apply(&engine, 1)));
        assert!(is_closed(engine.get(Space::Config, b"n").map(drop)));
    }
}
