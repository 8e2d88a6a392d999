//! Programs that show how neo is used and extended; each runs in a second and asserts what it
//! shows. `cargo run -p examples --example NAME`:
//!
//! | name | shows |
//! | --- | --- |
//! | `quickstart` | store, load, look back, meet a conflict |
//! | `bank_transfer` | concurrent transactions, and that nothing is lost between them |
//! | `embedded_cluster` | the nodes as libraries, and the loss of one |
//! | `custom_backend` | a storage backend over a log file, in a hundred lines |
//! | `custom_transport` | a cluster that talks through Unix sockets |
//! | `custom_election` | who leads, decided by a lease service outside the cluster |

use std::sync::Arc;

use neo_api::{Address, Transport};
use neo_backends::OpenOptions;
use neo_client::Client;
use neo_master::{Master, MasterSettings, RunningMaster};
use neo_storage::{Storage, StorageSettings};

/// A cluster in this process that keeps everything in memory, for the examples that are not about
/// starting one.
#[derive(Debug)]
pub struct Cluster {
    master: RunningMaster,
    transport: Arc<dyn Transport>,
}

impl Cluster {
    const NAME: &str = "example";

    /// Starts a master and two storage nodes with one replica.
    ///
    /// # Errors
    /// When a node cannot start.
    pub async fn start(transport: Arc<dyn Transport>) -> anyhow::Result<Self> {
        let any = Address::new("127.0.0.1", 0);
        let mut settings = MasterSettings::new(Self::NAME);
        settings.partitions = 12;
        settings.replicas = 1;
        settings.autostart = Some(2);
        let master = Master::builder(settings)
            .transport(Arc::clone(&transport))
            .bind(any.clone())
            .start()
            .await?;
        for _ in 0..2 {
            let settings = StorageSettings::new(Self::NAME, vec![master.address().clone()]);
            let backend = neo_backends::open("Memory", "", &OpenOptions::default())?;
            Storage::builder(settings, backend)
                .transport(Arc::clone(&transport))
                .bind(any.clone())
                .start()
                .await?;
        }
        Ok(Self { master, transport })
    }

    /// Connects a client.
    ///
    /// # Errors
    /// When the cluster does not serve in time.
    pub async fn client(&self) -> neo_client::Result<Client> {
        Client::builder(Self::NAME)
            .master(self.master.address().to_string())
            .transport(Arc::clone(&self.transport))
            .connect()
            .await
    }

    /// Stops every node.
    ///
    /// # Errors
    /// When the master failed.
    pub async fn stop(self) -> anyhow::Result<()> {
        Ok(self.master.stop_cluster().await?)
    }
}

// The code in the README is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
