//! What clients see of nodes that are lost, come back or are new, and of packs.

pub(crate) mod absence;
pub(crate) mod failover;
mod load;
pub(crate) mod pack;
pub(crate) mod replica;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use neo_client::Client;
use neo_testkit::process::{
    CLUSTER, ClusterOptions, ProcessCluster, View, Watcher, programs_beside_this_one,
};

/// A cluster whose nodes are killed, and what is known of it.
#[derive(Debug)]
struct Fragile {
    options: ClusterOptions,
    cluster: ProcessCluster,
    watcher: Watcher,
}

/// Between looks at a cluster that is waited for; what is timed by them is exact to this.
const LOOK: Duration = Duration::from_millis(5);

impl Fragile {
    /// Starts a fresh one in a directory, and waits until it serves.
    async fn start(dir: &Path, masters: u32, storages: u32, replicas: u32) -> Result<Self> {
        let options = ClusterOptions {
            masters,
            storages,
            replicas,
            ..ClusterOptions::new(programs_beside_this_one()?, dir)
        };
        let cluster = ProcessCluster::start(&options)?;
        let watcher = Watcher::new(cluster.admin_address().clone());
        let mut fragile = Self {
            options,
            cluster,
            watcher,
        };
        fragile.whole(Duration::from_secs(60)).await?;
        Ok(fragile)
    }

    /// A client without a cache.
    async fn client(&self) -> Result<Client> {
        let masters = self.cluster.master_addresses();
        let masters = masters.iter().map(ToString::to_string);
        let client = Client::builder(CLUSTER).masters(masters).cache_bytes(0);
        Ok(client.connect().await?)
    }

    /// Waits until every node serves and every cell is UP_TO_DATE.
    async fn whole(&mut self, patience: Duration) -> Result<View> {
        let storages = u32::try_from(self.cluster.storages.len())?;
        self.until(patience, |view| view.lacks(storages)).await
    }

    /// Waits until nothing is lacking any more.
    async fn until(
        &mut self,
        patience: Duration,
        lacks: impl Fn(&View) -> Option<String>,
    ) -> Result<View> {
        let deadline = Instant::now() + patience;
        loop {
            let view = self.watcher.look().await;
            let Some(lacks) = lacks(&view) else {
                return Ok(view);
            };
            if Instant::now() > deadline {
                bail!(
                    "after {} s the cluster still waits for {lacks}",
                    patience.as_secs()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The master that is the primary, counted from 0.
    async fn primary(&mut self) -> Result<usize> {
        let view = self.watcher.look().await;
        let primary = view.primary.context("there is no primary master")?;
        let mut masters = self.cluster.master_addresses().iter();
        masters
            .position(|at| *at == primary)
            .context("the primary master is none of these")
    }
}
