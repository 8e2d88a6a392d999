//! The MySQL backend keeps the promises of a backend, on MariaDB's engines.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use neo_api::{BackendResult, StorageBackend};
use neo_testkit::MariaDb;
use neo_testkit::conformance::backend::{BackendFactory, Capability};

/// Databases on a server of its own, with tables of an engine.
struct MySql {
    engine: &'static str,
    server: OnceLock<MariaDb>,
    databases: AtomicUsize,
}

impl MySql {
    fn new(engine: &'static str) -> Self {
        Self {
            engine,
            server: OnceLock::new(),
            databases: AtomicUsize::new(0),
        }
    }

    fn database(&self, name: &str) -> BackendResult<Arc<dyn StorageBackend>> {
        let start = || MariaDb::start(self.engine).expect("a server starts");
        let database = self.server.get_or_init(start).database(name);
        let database = database.expect("a database is created");
        neo_backends::open("MySQL", &format!("{database}?engine={}", self.engine))
    }
}

impl BackendFactory for MySql {
    /// The database's name. The server ends with the factory, and all databases with it.
    type Guard = String;

    fn open(&self) -> (String, Arc<dyn StorageBackend>) {
        let name = format!("neo{}", self.databases.fetch_add(1, Ordering::SeqCst));
        let backend = self.database(&name).expect("a database is opened");
        (name, backend)
    }

    fn declared(&self) -> &[Capability] {
        &[Capability::Persistent]
    }

    fn reopen(&self, name: &String) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        Some(self.database(name))
    }

    /// A database takes a while to create.
    fn sequences(&self) -> u32 {
        6
    }
}

mod innodb {
    neo_testkit::backend_conformance!(super::MySql::new("InnoDB"));
}

mod rocksdb {
    neo_testkit::backend_conformance!(super::MySql::new("RocksDB"));
}
