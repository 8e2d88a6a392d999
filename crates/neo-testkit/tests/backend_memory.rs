//! The memory engine keeps the promises of a backend, inline and on threads.

use std::sync::Arc;

use neo_api::{BackendInfo, StorageBackend};
use neo_backends::{KvBackend, MemoryEngine};
use neo_testkit::conformance::backend::{BackendFactory, Capability};

const INFO: BackendInfo = BackendInfo::new("Memory", false);

/// Databases by the way they are made, and what that gives.
struct Memory(
    fn(MemoryEngine) -> KvBackend<MemoryEngine>,
    &'static [Capability],
);

impl BackendFactory for Memory {
    type Guard = ();

    fn open(&self) -> ((), Arc<dyn StorageBackend>) {
        ((), Arc::new((self.0)(MemoryEngine::default())))
    }

    fn declared(&self) -> &[Capability] {
        self.1
    }
}

mod inline {
    use super::*;

    neo_testkit::backend_conformance!(Memory(
        |engine| KvBackend::inline(engine, INFO),
        &[Capability::Inline]
    ));
}

mod threads {
    use super::*;

    neo_testkit::backend_conformance!(Memory(|engine| KvBackend::threads(engine, INFO, 2), &[]));
}
