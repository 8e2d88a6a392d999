//! The memory engine keeps the promises of a backend, inline and on threads.

use std::sync::Arc;

use neo_api::{BackendInfo, StorageBackend};
use neo_backends::{KvBackend, MemoryEngine};
use neo_testkit::conformance::backend::BackendFactory;

const fn info() -> BackendInfo {
    BackendInfo::new("Memory", false)
}

mod inline {
    use super::*;

    struct Inline;

    impl BackendFactory for Inline {
        type Guard = ();

        fn open(&self) -> ((), Arc<dyn StorageBackend>) {
            (
                (),
                Arc::new(KvBackend::inline(MemoryEngine::default(), info())),
            )
        }
    }

    neo_testkit::backend_conformance!(Inline);
}

mod threads {
    use super::*;

    struct Threads;

    impl BackendFactory for Threads {
        type Guard = ();

        fn open(&self) -> ((), Arc<dyn StorageBackend>) {
            (
                (),
                Arc::new(KvBackend::threads(MemoryEngine::default(), info(), 2)),
            )
        }
    }

    neo_testkit::backend_conformance!(Threads);
}
