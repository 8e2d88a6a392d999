//! What the core is told by the process around it, and what it tells.

use neo_api::{Address, ClusterState, NodeId};

/// What an admin node is told before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// Name of the cluster.
    pub cluster: String,
    /// Where its masters listen; at least one.
    pub masters: Vec<Address>,
    /// The id to ask for; without, the primary chooses.
    pub nid: Option<NodeId>,
}

/// What the process around the node wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminCommand {
    /// Stop cleanly.
    Stop,
}

/// What an admin node sees of its cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminStatus {
    /// Whether the admin node is connected to a primary master.
    pub connected: bool,
    /// That master's id.
    pub primary: Option<NodeId>,
    /// The state of the cluster; `None` without a primary.
    pub state: Option<ClusterState>,
    /// The masters that it knows.
    pub masters: Vec<Address>,
}
