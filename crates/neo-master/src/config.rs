//! Settings of a master node: numbers and strings, with their units in their names.

use std::time::Duration;

use neo_api::{Address, NodeId, NodeType, Partitioning};
use serde::{Deserialize, Serialize};

/// What a master can be told. Every key has a default but `cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MasterSettings {
    /// Name of the cluster: nodes of another one are refused.
    pub cluster: String,
    /// The node id that this master asks for. Default: the first free one.
    pub nid: Option<NodeId>,
    /// Other masters; this one may be among them. More are learnt from those that it connects to, or
    /// that connect to it. Default: none.
    pub masters: Vec<Address>,
    /// A master that finds no primary waits so long for masters that do not answer, before it takes
    /// the lead. Default: 200 ms.
    pub election_patience_ms: u64,
    /// Copies of each partition beside the first, in a cluster that is created here. Default: 0.
    pub replicas: u32,
    /// Partitions of a cluster that is created here: 1 to 65535, fixed for ever. Default: 100.
    pub partitions: u32,
    /// Create the cluster as soon as so many storage nodes are there, without being told. Default:
    /// `None`: an operator starts it.
    pub autostart: Option<u32>,
    /// Balance the partition table without an operator when a storage node has been away for so long,
    /// and when it has been back for as long. Default: `None`: an operator does it.
    pub auto_tweak_s: Option<u64>,
    /// A transaction that has not begun to finish after so long is aborted. Default: 3,600 s.
    pub transaction_age_max_s: u64,
    /// Most transactions that may be pending at once. Default: 100,000.
    pub transactions_max: usize,
    /// Most transactions that one client may have pending at once. Default: 10,000.
    pub transactions_per_client_max: usize,
    /// Most oids that all finishing transactions together may have. Default: 2^24.
    pub finishing_oids_max: usize,
    /// Transactions of more oids are announced to the other clients as "everything may be old".
    /// Default: 65,536.
    pub invalidation_oids_max: usize,
    /// How many oids are reserved on the storage nodes at a time. Default: 100,000.
    pub oid_block: u64,
    /// Most oids that a client may ask for at once. Default: 100,000.
    pub new_oids_max: u32,
    /// Most requests for oids that may wait for a reservation. Default: 10,000.
    pub oid_requests_max: usize,
    /// Most nodes that are remembered. Default: 20,000.
    pub nodes_max: usize,
    /// A peer that has not identified itself after so long is disconnected. Default: 10,000 ms.
    pub identification_timeout_ms: u64,
    /// A storage node that does not say what it remembers is disconnected after so long. Default:
    /// 60,000 ms.
    pub recovery_timeout_ms: u64,
    /// A storage node that was told to start and is not ready after so long is disconnected;
    /// transactions do not begin before. Default: 10,000 ms.
    pub starting_timeout_ms: u64,
    /// A primary that did nothing for longer, not even look at the clock, was asleep: it starts over,
    /// and outdates no storage node that it lost meanwhile. Default: 10,000 ms, after which the
    /// others take it for lost.
    pub asleep_max_ms: u64,
    /// Most unfinished transactions that verification takes; more is nonsense. Default: 1,000,000.
    pub verification_transactions_max: usize,
    /// A wall clock that jumps ahead by more is not followed. Default: 3,600 s.
    pub clock_jump_max_s: u64,
    /// A tid that a client imposes may be ahead of the clock by so much. Default: 86,400 s, a day.
    pub imposed_tid_ahead_max_s: u64,
    /// When the cluster stops, transactions have so long to finish before they are aborted.
    /// Default: 30,000 ms.
    pub stop_patience_ms: u64,
    /// When the cluster stops, storage nodes have so long to leave. Default: 2,000 ms.
    pub stop_grace_ms: u64,
    /// Rules to break, for tests that prove that the checkers see it.
    #[doc(hidden)]
    #[serde(skip)]
    pub mutations: Mutations,
}

/// Rules that a test can switch off; no configuration reaches them.
#[doc(hidden)]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mutations {
    /// Asking for the final tid aborts nothing.
    pub no_fence: bool,
    /// A primary that loses its cluster forgets its partition table.
    pub no_floor: bool,
    /// A primary that hears of a later reign goes on.
    pub no_deposition: bool,
    /// Verification goes on without a readable node that is lost.
    pub no_way_back: bool,
    /// What a client wants finished is locked without a look at the votes.
    pub believe_finish: bool,
    /// Oids are handed out before their reservation is durable.
    pub no_oid_mark: bool,
    /// A cell becomes readable before the nodes with the old readable cells have noted it.
    pub promote_at_once: bool,
    /// A cell that catches up is complete when it has what was committed: nothing is told of
    /// transactions that were pending.
    pub no_pending: bool,
}

impl Default for MasterSettings {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            nid: None,
            masters: Vec::new(),
            election_patience_ms: 200,
            replicas: 0,
            partitions: 100,
            autostart: None,
            auto_tweak_s: None,
            transaction_age_max_s: 3600,
            transactions_max: 100_000,
            transactions_per_client_max: 10_000,
            finishing_oids_max: 1 << 24,
            invalidation_oids_max: 1 << 16,
            oid_block: 100_000,
            new_oids_max: 100_000,
            oid_requests_max: 10_000,
            nodes_max: 20_000,
            identification_timeout_ms: 10_000,
            recovery_timeout_ms: 60_000,
            starting_timeout_ms: 10_000,
            asleep_max_ms: 10_000,
            verification_transactions_max: 1_000_000,
            clock_jump_max_s: 3600,
            imposed_tid_ahead_max_s: 86_400,
            stop_patience_ms: 30_000,
            stop_grace_ms: 2_000,
            mutations: Mutations::default(),
        }
    }
}

/// Settings that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// No name.
    #[error("the cluster needs a name: set `cluster`")]
    NoCluster,
    /// Too few or too many partitions.
    #[error("`partitions` is {0}, but a cluster has 1 to 65535")]
    Partitions(u32),
    /// A number that must not be 0.
    #[error("`{0}` must not be 0")]
    Zero(&'static str),
    /// More oids at a time than make sense.
    #[error("`oid_block` is {0}, but at most 2^32 oids are reserved at a time")]
    OidBlock(u64),
    /// A node id of another type.
    #[error("`nid` is {0}, which is no master's (M1, M2, ...)")]
    Nid(NodeId),
}

impl MasterSettings {
    /// The defaults, for a cluster of this name.
    #[must_use]
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            ..Self::default()
        }
    }

    /// Checks what can be known without starting.
    ///
    /// # Errors
    /// When a setting can't be; the error names it.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.cluster.is_empty() {
            return Err(SettingsError::NoCluster);
        }
        if Partitioning::new(self.partitions).is_none() {
            return Err(SettingsError::Partitions(self.partitions));
        }
        let numbers = [
            ("autostart", self.autostart.map_or(1, u64::from)),
            ("auto_tweak_s", self.auto_tweak_s.unwrap_or(1)),
            ("transaction_age_max_s", self.transaction_age_max_s),
            ("transactions_max", self.transactions_max as u64),
            (
                "transactions_per_client_max",
                self.transactions_per_client_max as u64,
            ),
            ("oid_block", self.oid_block),
            ("new_oids_max", u64::from(self.new_oids_max)),
            ("nodes_max", self.nodes_max as u64),
            ("asleep_max_ms", self.asleep_max_ms),
        ];
        if let Some((name, _)) = numbers.iter().find(|(_, n)| *n == 0) {
            return Err(SettingsError::Zero(name));
        }
        if self.oid_block > 1 << 32 {
            return Err(SettingsError::OidBlock(self.oid_block));
        }
        match self.nid {
            Some(nid) if nid.node_type() != NodeType::Master => Err(SettingsError::Nid(nid)),
            _ => Ok(()),
        }
    }

    pub(crate) const fn election_patience(&self) -> Duration {
        Duration::from_millis(self.election_patience_ms)
    }

    pub(crate) const fn transaction_age_max(&self) -> Duration {
        Duration::from_secs(self.transaction_age_max_s)
    }

    pub(crate) const fn identification_timeout(&self) -> Duration {
        Duration::from_millis(self.identification_timeout_ms)
    }

    pub(crate) const fn recovery_timeout(&self) -> Duration {
        Duration::from_millis(self.recovery_timeout_ms)
    }

    pub(crate) fn auto_tweak(&self) -> Option<Duration> {
        self.auto_tweak_s.map(Duration::from_secs)
    }

    pub(crate) const fn asleep_max(&self) -> Duration {
        Duration::from_millis(self.asleep_max_ms)
    }

    pub(crate) const fn starting_timeout(&self) -> Duration {
        Duration::from_millis(self.starting_timeout_ms)
    }

    pub(crate) const fn stop_patience(&self) -> Duration {
        Duration::from_millis(self.stop_patience_ms)
    }

    pub(crate) const fn stop_grace(&self) -> Duration {
        Duration::from_millis(self.stop_grace_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_need_only_a_name() {
        assert_eq!(
            MasterSettings::default().check(),
            Err(SettingsError::NoCluster)
        );
        assert_eq!(MasterSettings::new("c").check(), Ok(()));
    }

    #[test]
    fn what_can_not_be_is_named() {
        let mut settings = MasterSettings::new("c");
        settings.partitions = 65_536;
        assert_eq!(settings.check(), Err(SettingsError::Partitions(65_536)));
        settings.partitions = 1;
        settings.autostart = Some(0);
        assert_eq!(settings.check(), Err(SettingsError::Zero("autostart")));
        settings.autostart = None;
        settings.oid_block = u64::MAX;
        assert_eq!(settings.check(), Err(SettingsError::OidBlock(u64::MAX)));
        settings.oid_block = 1;
        settings.nid = NodeId::new(NodeType::Storage, 1);
        assert!(
            settings
                .check()
                .unwrap_err()
                .to_string()
                .contains("no master's")
        );
    }

    #[test]
    fn an_unknown_key_is_refused_and_mutations_are_out_of_reach() {
        let settings: MasterSettings =
            serde_json::from_str(r#"{"cluster": "c", "replicas": 1}"#).unwrap();
        assert_eq!(settings.replicas, 1);
        for text in [
            r#"{"cluster": "c", "replica": 1}"#,
            r#"{"cluster": "c", "mutations": {}}"#,
        ] {
            assert!(serde_json::from_str::<MasterSettings>(text).is_err());
        }
    }
}
