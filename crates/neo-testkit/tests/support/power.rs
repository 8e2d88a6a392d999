//! An engine in memory whose power goes at a crash: what is left then is any prefix that has all
//! that was synced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use neo_api::{BackendError, BackendResult, Durability, KeyRange, KvBatch, KvEngine, Order, Space};
use neo_backends::MemoryEngine;
use neo_testkit::CrashEngine;

/// What outlives an engine.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) contents: CrashEngine<MemoryEngine>,
    is_open: AtomicBool,
}

/// Crashes so far: each leaves another part of what may be left.
static CRASHES: AtomicUsize = AtomicUsize::new(0);

impl Disk {
    pub(crate) fn empty() -> Arc<Self> {
        Arc::new(Self {
            contents: CrashEngine::new(MemoryEngine::default()),
            is_open: AtomicBool::new(false),
        })
    }

    pub(crate) fn open(self: &Arc<Self>) -> BackendResult<Powered> {
        if self.is_open.swap(true, Ordering::SeqCst) {
            return Err(BackendError::InUse("the disk in memory".to_owned()));
        }
        Ok(Powered(Arc::clone(self)))
    }

    /// Cuts the power, and brings it back.
    pub(crate) fn crash(&self) -> BackendResult<()> {
        let survivors = self.contents.survivors();
        let choices = survivors.end() - survivors.start() + 1;
        let extra = CRASHES.fetch_add(1, Ordering::SeqCst) * 7 % choices;
        self.contents.restart(survivors.start() + extra)
    }
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Powered(Arc<Disk>);

impl Drop for Powered {
    fn drop(&mut self) {
        self.0.is_open.store(false, Ordering::SeqCst);
    }
}

impl KvEngine for Powered {
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        self.0.contents.get(space, key)
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>> {
        self.0.contents.scan(space, range, order, limit)
    }

    fn apply(&self, batch: KvBatch, durability: Durability) -> BackendResult<()> {
        self.0.contents.apply(batch, durability)
    }
}
