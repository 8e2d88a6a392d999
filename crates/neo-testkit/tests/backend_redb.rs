//! The engine on redb keeps the promises of a backend, on threads and inline.

use std::path::Path;
use std::sync::Arc;

use neo_api::{BackendInfo, BackendResult, StorageBackend};
use neo_backends::{KvBackend, RedbEngine, RedbSettings};
use neo_testkit::conformance::backend::OnDisk;

fn threads(path: &Path) -> BackendResult<Arc<dyn StorageBackend>> {
    let settings = RedbSettings::new(path);
    Ok(Arc::new(RedbEngine::open_backend(&settings)?))
}

fn inline(path: &Path) -> BackendResult<Arc<dyn StorageBackend>> {
    let engine = RedbEngine::open(&RedbSettings::new(path))?;
    let info = BackendInfo::new("Redb", true);
    Ok(Arc::new(KvBackend::inline(engine, info)))
}

mod on_threads {
    neo_testkit::backend_conformance!(super::OnDisk(super::threads));
}

mod on_the_callers {
    neo_testkit::backend_conformance!(super::OnDisk(super::inline));
}
