//! What a world is made of.

use std::time::Duration;

use neo_api::Address;
use neo_client::core::{CoreSettings, Mutations};
use neo_master::MasterSettings;
use neo_proto::SessionSettings;
use neo_storage::StorageSettings;

use super::name::Name;

/// All that a run depends on, besides what the test asks of the world.
#[derive(Debug, Clone)]
pub struct WorldSettings {
    /// Masters.
    pub masters: u8,
    /// Storage nodes.
    pub storages: u8,
    /// Clients.
    pub clients: u8,
    /// Nodes that a test speaks for.
    pub puppets: u8,
    /// Partitions.
    pub partitions: u32,
    /// Copies of each partition beside the first.
    pub replicas: u32,
    /// Where everything comes from that is left to chance.
    pub seed: u64,
    /// How long a message travels: least and most.
    pub latency: (Duration, Duration),
    /// How long a read waits for the disk, and again for its way back: least and most.
    pub read_delay: (Duration, Duration),
    /// How long a write takes that need not be durable.
    pub write_delay: Duration,
    /// How long a durable write takes.
    pub sync_delay: Duration,
    /// The world is quiet when nothing has happened for so long.
    pub calm: Duration,
    /// How long a client's operation waits without progress.
    pub operation_timeout: Duration,
    /// Times and bounds of connections.
    pub session: SessionSettings,
    /// The trace is a number only: for thousands of runs, of which one that fails is run again.
    pub is_terse: bool,
    /// All of the trace is printed as it happens, not just kept for a while.
    pub prints_trace: bool,
    /// Points are not only counted: for runs that are to be repeated with faults at them.
    pub keeps_points: bool,
    /// What each client caches, in bytes; 0: nothing, so that every load is a message.
    pub cache_bytes: usize,
    /// Changes the settings of the clients.
    pub tune_client: fn(&mut CoreSettings),
    /// Changes the settings of the masters.
    pub tune_master: fn(&mut MasterSettings),
    /// Changes the settings of the storage nodes.
    pub tune_storage: fn(&mut StorageSettings),
}

impl Default for WorldSettings {
    fn default() -> Self {
        let micros = Duration::from_micros;
        Self {
            masters: 1,
            storages: 2,
            clients: 1,
            puppets: 0,
            partitions: 4,
            replicas: 1,
            seed: 1,
            latency: (micros(100), micros(150)),
            read_delay: (micros(10), micros(30)),
            write_delay: micros(40),
            sync_delay: micros(400),
            // Longer than the longest pause between attempts to connect.
            calm: Duration::from_millis(1200),
            operation_timeout: Duration::from_secs(20),
            session: SessionSettings::default(),
            is_terse: false,
            prints_trace: false,
            keeps_points: true,
            cache_bytes: 0,
            tune_client: |_| {},
            tune_master: |_| {},
            tune_storage: |_| {},
        }
    }
}

/// The name of every simulated cluster.
pub(super) const CLUSTER: &str = "simulated";

impl WorldSettings {
    fn masters_addresses(&self) -> Vec<Address> {
        (1..=self.masters)
            .map(|n| Name::Master(n).address())
            .collect()
    }

    pub(super) fn master(&self) -> MasterSettings {
        let mut settings = MasterSettings::new(CLUSTER);
        settings.masters = self.masters_addresses();
        settings.partitions = self.partitions;
        settings.replicas = self.replicas;
        settings.autostart = Some(u32::from(self.storages));
        (self.tune_master)(&mut settings);
        settings
    }

    pub(super) fn storage(&self) -> StorageSettings {
        let mut settings = StorageSettings::new(CLUSTER, self.masters_addresses());
        (self.tune_storage)(&mut settings);
        settings
    }

    pub(super) fn client(&self, seed: u64) -> CoreSettings {
        let mut settings = CoreSettings {
            cluster: CLUSTER.to_owned(),
            masters: self.masters_addresses(),
            read_only: false,
            ignore_wrong_checksum: false,
            operation_timeout: self.operation_timeout,
            seed,
            routes: false,
            mutations: Mutations::default(),
        };
        (self.tune_client)(&mut settings);
        settings
    }
}
