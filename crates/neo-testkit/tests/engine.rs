//! The engines keep the promises of an engine: in memory, on sled, on redb, and where the power is cut.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "support/power.rs"]
mod power;

mod memory {
    use neo_backends::MemoryEngine;
    use neo_testkit::conformance::engine::EngineFactory;

    struct Memory;

    impl EngineFactory for Memory {
        type Guard = ();
        type Engine = MemoryEngine;

        fn open(&self) -> ((), MemoryEngine) {
            ((), MemoryEngine::default())
        }
    }

    neo_testkit::engine_conformance!(Memory);
}

mod sled {
    use std::path::Path;

    use neo_api::BackendResult;
    use neo_backends::{SledEngine, SledSettings};
    use neo_testkit::conformance::engine::OnDisk;

    fn open(path: &Path) -> BackendResult<SledEngine> {
        SledEngine::open(&SledSettings::new(path))
    }

    neo_testkit::engine_conformance!(OnDisk(open));
}

mod redb {
    use std::path::Path;

    use neo_api::BackendResult;
    use neo_backends::{RedbEngine, RedbSettings};
    use neo_testkit::conformance::engine::OnDisk;

    fn open(path: &Path) -> BackendResult<RedbEngine> {
        RedbEngine::open(&RedbSettings::new(path))
    }

    neo_testkit::engine_conformance!(OnDisk(open));
}

mod crash {
    use std::sync::Arc;

    use neo_api::BackendResult;
    use neo_testkit::conformance::engine::EngineFactory;

    use super::power::{Disk, Powered};

    struct PowerCut;

    impl EngineFactory for PowerCut {
        type Guard = Arc<Disk>;
        type Engine = Powered;

        fn open(&self) -> (Arc<Disk>, Powered) {
            let disk = Disk::empty();
            let engine = disk.open().unwrap();
            (disk, engine)
        }

        fn reopen(&self, disk: &Arc<Disk>) -> Option<BackendResult<Powered>> {
            Some(disk.open())
        }

        fn crash(&self, disk: &Arc<Disk>, engine: Powered) -> Option<BackendResult<Powered>> {
            drop(engine);
            Some(disk.crash().and_then(|()| disk.open()))
        }
    }

    neo_testkit::engine_conformance!(PowerCut);
}
