//! A whole cluster in one process: the real drivers, over real or in-memory connections.
//!
//! ```
//! use neo_testkit::Cluster;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut cluster = Cluster::builder().storages(2).replicas(1).start().await?;
//! let client = cluster.client().await?;
//! let oid = client
//!     .transact(|txn| async move {
//!         let oid = txn.new_oid().await?;
//!         txn.store(oid, "kept twice").await?;
//!         Ok(oid)
//!     })
//!     .await?;
//! cluster.kill_storage(1).await;
//! let object = client.load(oid).await?.expect("it was committed");
//! assert_eq!(object.data, "kept twice");
//! client.close().await;
//! cluster.stop().await?;
//! # Ok(())
//! # }
//! ```

mod builder;

use std::sync::Arc;
use std::time::Duration;

use neo_api::{Address, BackendError, StorageBackend, Transport};
use neo_client::{Client, ClientBuilder};
use neo_master::{Master, MasterSettings, RunningMaster};
use neo_proto::net::{MemoryNetwork, NodeFailure, TcpTransport};
use neo_storage::{RunningStorage, Storage, StorageSettings};

pub use self::builder::ClusterBuilder;
use self::builder::Wire;

/// How long a cluster may take to serve, before [`Cluster::serving`] gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a cluster did not start or end as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A master could not be started.
    #[error("the master did not start")]
    Master(#[from] neo_master::StartError),
    /// A storage node could not be started.
    #[error("a storage node did not start")]
    Storage(#[from] neo_storage::StartError),
    /// A database could not be opened.
    #[error("a database did not open")]
    Backend(#[from] BackendError),
    /// A node ended by a failure of its own.
    #[error("a node failed")]
    Failed(#[from] NodeFailure),
    /// It does not serve in time.
    #[error("the cluster does not serve: {0}")]
    NotServing(String),
}

/// A cluster in one process. When it is dropped its nodes go on, until their runtime ends.
#[derive(Debug)]
pub struct Cluster {
    settings: ClusterBuilder,
    masters: Vec<Place<RunningMaster>>,
    storages: Vec<Place<RunningStorage>>,
}

/// Where a node listens, once it did, and what runs there.
#[derive(Debug)]
struct Place<N> {
    address: Option<Address>,
    running: Option<N>,
}

impl<N> Default for Place<N> {
    fn default() -> Self {
        Self {
            address: None,
            running: None,
        }
    }
}

impl Cluster {
    /// A cluster with a master and one storage node, in memory, unless told otherwise.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Where its masters listen.
    #[must_use]
    pub fn masters(&self) -> Vec<Address> {
        let places = self.masters.iter();
        places.filter_map(|place| place.address.clone()).collect()
    }

    /// How many storage nodes it has, running or not.
    #[must_use]
    pub const fn storages(&self) -> usize {
        self.storages.len()
    }

    /// Where the n-th storage node listens, from 1.
    #[must_use]
    pub fn storage_address(&self, n: usize) -> Option<&Address> {
        self.storages.get(n.checked_sub(1)?)?.address.as_ref()
    }

    /// The network, when it is in memory: to cut.
    #[must_use]
    pub const fn network(&self) -> Option<&MemoryNetwork> {
        match &self.settings.wire {
            Wire::Memory(network) => Some(network),
            Wire::Tcp | Wire::Own(..) => None,
        }
    }

    /// What the primary master tells of the cluster; `None` when there is none.
    #[must_use]
    pub fn status(&self) -> Option<neo_master::Status> {
        let statuses = self.running_masters().map(RunningMaster::current);
        let leading = statuses.filter(|status| status.state.is_some());
        // Two may lead, for a moment: the cluster is where it serves.
        leading.max_by_key(|status| (status.serving, status.reign))
    }

    /// The primary master, from 1; `None` when there is none.
    #[must_use]
    pub fn primary(&self) -> Option<usize> {
        let leads = |place: &Place<RunningMaster>| {
            let status = place.running.as_ref().map(RunningMaster::current);
            status.is_some_and(|status| status.state.is_some())
        };
        Some(self.masters.iter().position(leads)? + 1)
    }

    fn running_masters(&self) -> impl Iterator<Item = &RunningMaster> {
        self.masters
            .iter()
            .filter_map(|place| place.running.as_ref())
    }

    fn transport(&self) -> Arc<dyn Transport> {
        match &self.settings.wire {
            Wire::Tcp => Arc::new(TcpTransport::new()),
            Wire::Memory(network) => Arc::new(network.clone()),
            Wire::Own(transport, _) => Arc::clone(transport),
        }
    }

    /// Where a node is to listen: where it did before, if it did.
    fn bind(&self, before: Option<&Address>) -> Address {
        let first = match &self.settings.wire {
            Wire::Tcp => Address::new("127.0.0.1", 0),
            Wire::Memory(_) => Address::new("node", 0),
            Wire::Own(_, bind) => bind.clone(),
        };
        before.cloned().unwrap_or(first)
    }

    // --- clients ---

    /// A builder for clients of this cluster.
    pub fn client_builder(&self) -> ClientBuilder {
        let masters = self.masters();
        Client::builder(self.name())
            .masters(masters.iter().map(ToString::to_string))
            .transport(self.transport())
            .session(self.settings.session.clone())
    }

    /// A client that is connected.
    ///
    /// # Errors
    /// As the client says.
    pub async fn client(&self) -> neo_client::Result<Client> {
        self.client_builder().connect().await
    }

    // --- nodes ---

    /// Waits until clients are served.
    ///
    /// # Errors
    /// When they are not, in half a minute; it says what the master waits for.
    pub async fn serving(&self) -> Result<(), ClusterError> {
        const PAUSE: Duration = Duration::from_millis(2);
        let mut waited = Duration::ZERO;
        while !self.status().is_some_and(|status| status.serving) {
            if self.running_masters().next().is_none() || waited >= PATIENCE {
                let waiting = match self.status() {
                    Some(status) => status.waiting,
                    None => "no master leads".to_owned(),
                };
                return Err(ClusterError::NotServing(waiting));
            }
            tokio::time::sleep(PAUSE).await;
            waited += PAUSE;
        }
        Ok(())
    }

    /// Ends the n-th master at once, from 1, as a crash of its process would.
    pub async fn kill_master(&mut self, n: usize) {
        if let Some(master) = self.master(n).running.take() {
            master.kill().await;
        }
    }

    /// Starts the n-th master where it was, unless it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_master(&mut self, n: usize) -> Result<(), ClusterError> {
        if self.master(n).running.is_some() {
            return Ok(());
        }
        let mut settings = MasterSettings::new(self.name());
        settings.masters = self.masters();
        settings.partitions = self.settings.partitions;
        settings.replicas = self.settings.replicas;
        settings.autostart = u32::try_from(self.storages.len()).ok();
        (self.settings.tune_master)(&mut settings);
        let master = Master::builder(settings)
            .bind(self.bind(self.masters[n - 1].address.as_ref()))
            .transport(self.transport())
            .session(self.settings.session.clone())
            .start()
            .await?;
        let place = self.master(n);
        place.address = Some(master.address().clone());
        place.running = Some(master);
        Ok(())
    }

    fn master(&mut self, n: usize) -> &mut Place<RunningMaster> {
        let count = self.masters.len();
        assert!(
            (1..=count).contains(&n),
            "there is no master {n} of {count}"
        );
        &mut self.masters[n - 1]
    }

    /// Ends the n-th storage node at once, from 1, as a crash of its process would.
    pub async fn kill_storage(&mut self, n: usize) {
        if let Some(storage) = self.storage(n).running.take() {
            storage.kill().await;
        }
    }

    /// Stops the n-th storage node cleanly.
    ///
    /// # Errors
    /// When it failed.
    pub async fn stop_storage(&mut self, n: usize) -> Result<(), ClusterError> {
        if let Some(storage) = self.storage(n).running.take() {
            storage.stop().await?;
        }
        Ok(())
    }

    /// Starts the n-th storage node where it was, unless it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_storage(&mut self, n: usize) -> Result<(), ClusterError> {
        if self.storage(n).running.is_some() {
            return Ok(());
        }
        let backend = self.open_backend(n).await?;
        let mut settings = StorageSettings::new(self.name(), self.masters());
        (self.settings.tune_storage)(&mut settings);
        let bind = self.bind(self.storages[n - 1].address.as_ref());
        let storage = Storage::builder(settings, backend)
            .bind(bind)
            .transport(self.transport())
            .session(self.settings.session.clone())
            .start()
            .await?;
        let place = self.storage(n);
        place.address = Some(storage.address().clone());
        place.running = Some(storage);
        Ok(())
    }

    /// Opens the database of a storage node that does not run, to look at it.
    ///
    /// # Errors
    /// When it does not open.
    pub async fn open_backend(&self, n: usize) -> Result<Arc<dyn StorageBackend>, ClusterError> {
        const PAUSE: Duration = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        loop {
            match (self.settings.backend)(n) {
                // What a killed node had begun to write still holds the database.
                Err(BackendError::InUse(_)) if waited < PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                    waited += PAUSE;
                }
                opened => return Ok(opened?),
            }
        }
    }

    fn storage(&mut self, n: usize) -> &mut Place<RunningStorage> {
        let count = self.storages.len();
        assert!(
            (1..=count).contains(&n),
            "there is no storage node {n} of {count}"
        );
        &mut self.storages[n - 1]
    }

    /// Ends every node at once.
    pub async fn kill_all(&mut self) {
        for n in 1..=self.masters.len() {
            self.kill_master(n).await;
        }
        for n in 1..=self.storages.len() {
            self.kill_storage(n).await;
        }
    }

    /// Starts what does not run, and waits until clients are served.
    ///
    /// # Errors
    /// When a node does not start, or the cluster does not serve.
    pub async fn restart_all(&mut self) -> Result<(), ClusterError> {
        for n in 1..=self.masters.len() {
            self.restart_master(n).await?;
        }
        for n in 1..=self.storages.len() {
            self.restart_storage(n).await?;
        }
        self.serving().await
    }

    /// Stops the whole cluster cleanly, once what is pending has ended. It can be started again
    /// with [`restart_all`](Self::restart_all).
    ///
    /// # Errors
    /// When a node failed.
    pub async fn stop(&mut self) -> Result<(), ClusterError> {
        let primary = self.primary();
        if let Some(n) = primary
            && let Some(master) = self.master(n).running.take()
        {
            master.stop_cluster().await?;
        }
        for place in &mut self.masters {
            if let Some(secondary) = place.running.take() {
                // It ends with the cluster; one that does not know of it is told.
                secondary.stop().await?;
            }
        }
        for place in &mut self.storages {
            if let Some(storage) = place.running.take() {
                storage.stop().await?;
            }
        }
        Ok(())
    }
}
