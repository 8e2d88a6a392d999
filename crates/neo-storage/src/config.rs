//! Settings of a storage node, with their units in their names.

use std::time::Duration;

use neo_api::{Address, NodeId};
use serde::{Deserialize, Serialize};

/// Numbers and names that a storage node is given; each has a default but the first two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSettings {
    /// Name of the cluster.
    pub cluster: String,
    /// Masters to look for the primary at.
    pub masters: Vec<Address>,
    /// The id to ask for while the database has none; without, the primary chooses.
    #[serde(default)]
    pub nid: Option<NodeId>,
    /// The database is a copy of another node's: the node gets an id of its own, and ends. Default:
    /// false.
    #[serde(default)]
    pub new_nid: bool,
    /// Whether what is left of discarded cells is deleted. Default: true.
    #[serde(default = "yes")]
    pub drop_partitions: bool,
    /// The bounds; all have defaults.
    #[serde(default)]
    pub limits: StorageLimits,
    /// Rules to break on purpose, to prove that a checker sees it. No configuration reaches them.
    #[doc(hidden)]
    #[serde(skip)]
    pub mutations: Mutations,
}

impl StorageSettings {
    /// Settings with default limits.
    #[must_use]
    pub fn new(cluster: impl Into<String>, masters: Vec<Address>) -> Self {
        Self {
            cluster: cluster.into(),
            masters,
            nid: None,
            new_nid: false,
            drop_partitions: true,
            limits: StorageLimits::default(),
            mutations: Mutations::default(),
        }
    }
}

const fn yes() -> bool {
    true
}

/// Bounds and delays of a storage node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageLimits {
    /// Values of stores that are kept in memory until the vote, of all transactions; beyond it they
    /// are written at once. Default: 64 MiB.
    pub buffered_bytes_max: usize,
    /// The same, of one transaction. Default: 1 MiB.
    pub transaction_buffered_bytes_max: usize,
    /// Unfinished transactions. Default: 10,000.
    pub transactions_max: usize,
    /// Stores, checks and relocks of one connection that are not answered. Default: 100,000.
    pub unanswered_stores_max: usize,
    /// Reads of one connection that run at the same time. Default: 32.
    pub running_reads_max: usize,
    /// Reads of one connection that wait for one of these places. Default: 10,000.
    pub waiting_reads_max: usize,
    /// Reads that run at the same time in the backend, of all connections. Default: 64.
    pub backend_reads_max: usize,
    /// Messages that wait while a change of the partition table is made durable. Default: 100,000.
    pub held_messages_max: usize,
    /// Connections whose identification is not accepted yet. Default: 1,000.
    pub unidentified_max: usize,
    /// How long a peer may take to identify itself. Default: 10,000 ms.
    pub identification_timeout_ms: u64,
    /// How long the identification of a client that the primary has not told about may wait.
    /// Default: 5,000 ms.
    pub parked_timeout_ms: u64,
    /// A write that takes longer makes the node declare itself failed. Default: 30,000 ms.
    pub persist_timeout_ms: u64,
    /// Pause before a write that can't be refused (lock, unlock, partition table) is tried again on
    /// a full disk. Default: 200 ms.
    pub persist_retry_ms: u64,
    /// First pause between attempts to find the primary; it doubles. Default: 5 ms.
    pub backoff_min_ms: u64,
    /// Longest pause between attempts. Default: 1,000 ms.
    pub backoff_max_ms: u64,
    /// Cells that catch up fetch so many bytes per second at least, and as many are read for those of
    /// other nodes, although clients wait; 0: only while none waits. Default: 8 MiB per second.
    pub replication_bytes_per_s_min: u64,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self {
            buffered_bytes_max: 64 << 20,
            transaction_buffered_bytes_max: 1 << 20,
            transactions_max: 10_000,
            unanswered_stores_max: 100_000,
            running_reads_max: 32,
            waiting_reads_max: 10_000,
            backend_reads_max: 64,
            held_messages_max: 100_000,
            unidentified_max: 1_000,
            identification_timeout_ms: 10_000,
            parked_timeout_ms: 5_000,
            persist_timeout_ms: 30_000,
            persist_retry_ms: 200,
            backoff_min_ms: 5,
            backoff_max_ms: 1_000,
            replication_bytes_per_s_min: 8 << 20,
        }
    }
}

impl StorageLimits {
    pub(crate) const fn identification_timeout(&self) -> Duration {
        Duration::from_millis(self.identification_timeout_ms)
    }

    pub(crate) const fn parked_timeout(&self) -> Duration {
        Duration::from_millis(self.parked_timeout_ms)
    }

    pub(crate) const fn persist_timeout(&self) -> Duration {
        Duration::from_millis(self.persist_timeout_ms)
    }

    pub(crate) const fn persist_retry(&self) -> Duration {
        Duration::from_millis(self.persist_retry_ms)
    }
}

/// Rules that a core breaks when told to: a checker that stays silent then checks nothing.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mutations {
    /// A vote is answered when it is written, not when it is durable.
    pub vote_not_durable: bool,
    /// A lock is answered when it is written, not when it is durable.
    pub lock_not_durable: bool,
    /// A partition table change is not waited for.
    pub table_not_durable: bool,
    /// Stores and votes of other reigns are accepted.
    pub any_reign: bool,
    /// Reads do not wait for locked transactions.
    pub no_read_lock: bool,
    /// Stores do not look at the newest serial.
    pub no_conflicts: bool,
    /// The number of objects in a vote is not looked at.
    pub no_vote_count: bool,
    /// A cell is told to have caught up although transactions that were pending have not ended.
    pub no_pending_wait: bool,
}
