//! What the core is told by the process around it, and what it tells.

use std::sync::Arc;

use bytes::Bytes;

use neo_api::{Address, ClusterState, Reign, TableVersion, Tid};
use neo_proto::Effects;

use super::MasterCore;

/// Where the core's functions push their effects.
pub(crate) type Out = Effects<MasterCore>;

/// From the process around the node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// This master ends; the cluster waits for another one, or for it to come back.
    Stop,
    /// The whole cluster ends, storage nodes included, as `neoctl set cluster STOPPING` does.
    StopCluster,
    /// For the election: a lease service or an orchestrator says something.
    External(Bytes),
}

/// To the process around the node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Something changed that an operator would like to know.
    Status(Box<Status>),
}

/// What the master can say of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Status {
    /// State of the cluster; `None` while this master is not the primary.
    pub state: Option<ClusterState>,
    /// Whether clients are served: RUNNING, and every storage node that takes part is ready.
    pub serving: bool,
    /// The reign of this primary, or the greatest that it has heard of.
    pub reign: Reign,
    /// Version of the partition table, if there is one.
    pub version: Option<TableVersion>,
    /// Storage nodes that take part.
    pub storages: usize,
    /// Clients that are connected.
    pub clients: usize,
    /// The last committed tid.
    pub last_tid: Tid,
    /// For whom or what it waits; empty when for nothing.
    pub waiting: String,
    /// Every master that is known, this one included.
    pub masters: Arc<[Address]>,
}

/// A value that does not exist: the master's core has no jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {}
