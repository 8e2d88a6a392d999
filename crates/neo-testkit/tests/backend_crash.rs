//! A backend over an engine keeps its promises when only what was synced is left, and whatever of
//! the rest is.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::Arc;

use neo_api::{BackendInfo, BackendResult, StorageBackend};
use neo_backends::KvBackend;
use neo_testkit::conformance::backend::{BackendFactory, Capability};

#[path = "support/power.rs"]
mod power;

use power::Disk;

struct PowerCut;

fn open(disk: &Arc<Disk>) -> BackendResult<Arc<dyn StorageBackend>> {
    let info = BackendInfo::new("Crash", true);
    Ok(Arc::new(KvBackend::inline(disk.open()?, info)))
}

impl BackendFactory for PowerCut {
    type Guard = Arc<Disk>;

    fn open(&self) -> (Arc<Disk>, Arc<dyn StorageBackend>) {
        let disk = Disk::empty();
        let backend = open(&disk).unwrap();
        (disk, backend)
    }

    fn declared(&self) -> &[Capability] {
        use Capability::{Inline, Persistent, PowerCut};
        &[Persistent, PowerCut, Inline]
    }

    fn reopen(&self, disk: &Arc<Disk>) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        Some(open(disk))
    }

    fn crash(
        &self,
        disk: &Arc<Disk>,
        backend: Arc<dyn StorageBackend>,
    ) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        drop(backend);
        Some(disk.crash().and_then(|()| open(disk)))
    }
}

neo_testkit::backend_conformance!(PowerCut);
