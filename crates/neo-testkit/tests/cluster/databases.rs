//! Databases for the storage nodes of a cluster, each on the adapter that a test names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use neo_api::{BackendInfo, BackendResult, StorageBackend};
use neo_backends::{KvBackend, MemoryEngine};
use neo_testkit::{Cluster, ClusterBuilder, MariaDb};
use tempfile::TempDir;

/// What a storage node may have its database on. The last two are tables of one MariaDB server.
pub(crate) const ADAPTERS: [&str; 6] = ["memory", "sqlite", "redb", "sled", "innodb", "rocksdb"];

/// The databases. They are removed with the last of the cluster.
#[derive(Clone)]
pub(crate) struct Databases(Arc<Places>);

struct Places {
    directory: TempDir,
    server: OnceLock<MariaDb>,
    engines: Mutex<BTreeMap<String, Arc<MemoryEngine>>>,
    /// Of each node the adapter, and how many databases it has had.
    nodes: Mutex<Vec<(&'static str, usize)>>,
}

impl Databases {
    /// The n-th storage node, from 1, on the n-th adapter.
    pub(crate) fn on(adapters: &[&'static str]) -> Self {
        let nodes = adapters.iter().map(|adapter| (*adapter, 1)).collect();
        Self(Arc::new(Places {
            directory: TempDir::new().unwrap(),
            server: OnceLock::new(),
            engines: Mutex::default(),
            nodes: Mutex::new(nodes),
        }))
    }

    /// A cluster with a storage node for each, where every node has a copy of all.
    pub(crate) fn cluster(&self) -> ClusterBuilder {
        let nodes = self.0.nodes.lock().unwrap().len();
        let databases = self.clone();
        let builder = Cluster::builder().storages(nodes);
        let builder = builder.replicas(nodes as u32 - 1).partitions(3);
        builder.backend(move |n| databases.open(n))
    }

    fn open(&self, n: usize) -> BackendResult<Arc<dyn StorageBackend>> {
        let (adapter, nth) = self.0.nodes.lock().unwrap()[n - 1];
        let name = format!("neo{n}_{nth}");
        match adapter {
            "memory" => {
                let mut engines = self.0.engines.lock().unwrap();
                let engine = Arc::clone(engines.entry(name).or_default());
                let info = BackendInfo::new("Memory", false);
                Ok(Arc::new(KvBackend::threads(engine, info, 2)))
            }
            "innodb" | "rocksdb" => {
                let start = || MariaDb::start("RocksDB").unwrap();
                let database = self.0.server.get_or_init(start).database(&name).unwrap();
                neo_backends::open("MySQL", &format!("{database}?engine={adapter}"))
            }
            _ => {
                let path = self.0.directory.path().join(name);
                neo_backends::open(adapter, &path.display().to_string())
            }
        }
    }

    /// From its next start on a node has a database that has nothing in it, on an adapter.
    pub(crate) fn replace(&self, n: usize, adapter: &'static str) {
        let node = &mut self.0.nodes.lock().unwrap()[n - 1];
        *node = (adapter, node.1 + 1);
    }
}
