//! The MySQL backend keeps the promises of a backend, on MariaDB's engines.

use std::sync::Arc;

use neo_api::{BackendResult, StorageBackend};
use neo_testkit::MariaDb;
use neo_testkit::conformance::backend::BackendFactory;

/// A database on a server of its own, with tables of an engine.
struct MySql(&'static str);

impl MySql {
    fn database(&self, server: &MariaDb) -> BackendResult<Arc<dyn StorageBackend>> {
        let database = server.database("neo").expect("a database is created");
        neo_backends::open("MySQL", &format!("{database}?engine={}", self.0))
    }
}

impl BackendFactory for MySql {
    type Guard = MariaDb;

    fn open(&self) -> (MariaDb, Arc<dyn StorageBackend>) {
        let server = MariaDb::start(self.0).expect("a server starts");
        let backend = self.database(&server).expect("a database is opened");
        (server, backend)
    }

    fn reopen(&self, server: &MariaDb) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        Some(self.database(server))
    }
}

mod innodb {
    neo_testkit::backend_conformance!(super::MySql("InnoDB"));
}

mod rocksdb {
    neo_testkit::backend_conformance!(super::MySql("RocksDB"));
}
