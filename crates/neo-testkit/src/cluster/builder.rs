//! How a cluster in one process is to be made.

use std::fmt;
use std::sync::Arc;

use neo_api::{Address, BackendInfo, BackendResult, StorageBackend, Transport};
use neo_backends::{KvBackend, MemoryEngine};
use neo_master::MasterSettings;
use neo_proto::SessionSettings;
use neo_proto::net::MemoryNetwork;
use neo_storage::StorageSettings;

use super::{Cluster, ClusterError, Place};

/// Opens the database of the n-th storage node, from 1: at its start, and at each restart.
type BackendFactory = Arc<dyn Fn(usize) -> BackendResult<Arc<dyn StorageBackend>> + Send + Sync>;

/// How a cluster is to be made.
#[derive(Clone)]
#[must_use]
pub struct ClusterBuilder {
    pub(super) name: String,
    pub(super) masters: usize,
    pub(super) storages: usize,
    pub(super) replicas: u32,
    pub(super) partitions: u32,
    pub(super) backend: BackendFactory,
    pub(super) wire: Wire,
    pub(super) session: SessionSettings,
    pub(super) tune_master: fn(&mut MasterSettings),
    pub(super) tune_storage: fn(&mut StorageSettings),
}

#[derive(Debug, Clone)]
pub(super) enum Wire {
    Tcp,
    Memory(MemoryNetwork),
    Own(Arc<dyn Transport>, Address),
}

impl fmt::Debug for ClusterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterBuilder")
            .field("name", &self.name)
            .field("masters", &self.masters)
            .field("storages", &self.storages)
            .field("replicas", &self.replicas)
            .field("partitions", &self.partitions)
            .field("wire", &self.wire)
            .finish_non_exhaustive()
    }
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            name: "test".to_owned(),
            masters: 1,
            storages: 1,
            replicas: 0,
            partitions: 12,
            backend: in_memory(),
            wire: Wire::Memory(MemoryNetwork::new()),
            session: SessionSettings::default(),
            tune_master: |_| {},
            tune_storage: |_| {},
        }
    }
}

impl ClusterBuilder {
    /// The cluster's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many masters: 1 by default.
    pub const fn masters(mut self, masters: usize) -> Self {
        self.masters = masters;
        self
    }

    /// How many storage nodes: 1 by default.
    pub const fn storages(mut self, storages: usize) -> Self {
        self.storages = storages;
        self
    }

    /// Copies of each partition beside the first: none by default.
    pub const fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    /// Partitions: 12 by default.
    pub const fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Real connections, on the loopback interface.
    pub fn tcp(mut self) -> Self {
        self.wire = Wire::Tcp;
        self
    }

    /// Connections within the process: the default.
    pub fn memory(mut self) -> Self {
        self.wire = Wire::Memory(MemoryNetwork::new());
        self
    }

    /// Connections of your own; nodes listen at `bind`, whose port is 0 for any free one.
    pub fn transport(mut self, transport: Arc<dyn Transport>, bind: Address) -> Self {
        self.wire = Wire::Own(transport, bind);
        self
    }

    /// Opens the database of the n-th storage node, from 1, at its start and at each restart. By
    /// default it is in memory, and is kept for as long as the cluster.
    pub fn backend(
        mut self,
        open: impl Fn(usize) -> BackendResult<Arc<dyn StorageBackend>> + Send + Sync + 'static,
    ) -> Self {
        self.backend = Arc::new(open);
        self
    }

    /// Times and bounds of connections, of nodes and of [`Cluster::client_builder`].
    pub fn session(mut self, session: SessionSettings) -> Self {
        self.session = session;
        self
    }

    /// Changes other settings of the master.
    pub const fn tune_master(mut self, tune: fn(&mut MasterSettings)) -> Self {
        self.tune_master = tune;
        self
    }

    /// Changes other settings of the storage nodes.
    pub const fn tune_storage(mut self, tune: fn(&mut StorageSettings)) -> Self {
        self.tune_storage = tune;
        self
    }

    /// Starts the cluster on the current tokio runtime, and waits until it serves.
    ///
    /// # Errors
    /// When a node does not start, or the cluster does not serve.
    pub async fn start(self) -> Result<Cluster, ClusterError> {
        let mut cluster = Cluster {
            storages: (0..self.storages).map(|_| Place::default()).collect(),
            masters: (0..self.masters).map(|_| Place::default()).collect(),
            settings: self,
        };
        for n in 1..=cluster.masters.len() {
            cluster.restart_master(n).await?;
        }
        for n in 1..=cluster.storages.len() {
            cluster.restart_storage(n).await?;
        }
        cluster.serving().await?;
        Ok(cluster)
    }
}

/// Databases in memory that outlive the nodes that open them.
fn in_memory() -> BackendFactory {
    let engines: Arc<std::sync::Mutex<Vec<Arc<MemoryEngine>>>> = Arc::default();
    Arc::new(move |n| {
        let mut engines = engines
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        while engines.len() < n {
            engines.push(Arc::default());
        }
        let info = BackendInfo::new("Memory", false);
        let engine = Arc::clone(&engines[n - 1]);
        Ok(Arc::new(KvBackend::inline(engine, info)))
    })
}
