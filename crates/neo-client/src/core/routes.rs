//! Where threads that read by themselves go: what the core knows of the cluster, as of now.

use std::collections::BTreeMap;

use neo_api::{Address, NodeId, Oid, Partitioning, SessionId};
use neo_proto::Identification;

use super::ClientCore;

/// Who has what, and how to show who one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    partitioning: Partitioning,
    /// Readable cells on running nodes, by partition.
    cells: Vec<Vec<NodeId>>,
    addresses: BTreeMap<NodeId, Address>,
    /// What a storage node wants to see.
    pub identification: Identification,
}

impl Routes {
    /// The nodes that an object can be read from.
    #[must_use]
    pub fn readable(&self, oid: Oid) -> &[NodeId] {
        let partition = self.partitioning.of_oid(oid);
        self.cells
            .get(partition.0 as usize)
            .map_or(&[], Vec::as_slice)
    }

    /// Where a node listens.
    #[must_use]
    pub fn address(&self, nid: NodeId) -> Option<&Address> {
        self.addresses.get(&nid)
    }

    /// Which identification at the primary this is.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.identification.session.map(|(_, session)| session)
    }
}

impl ClientCore {
    /// The routes of a client that is ready.
    pub(super) fn routes(&self) -> Option<Routes> {
        let (true, Some(table), Some(session)) = (
            self.master.is_ready(),
            self.table.as_ref(),
            self.master.session(),
        ) else {
            return None;
        };
        let partitioning = table.partitioning();
        let readable = |partition| {
            let cells = table.readable(partition).map(|cell| cell.nid);
            cells.filter(|nid| self.is_running(*nid)).collect()
        };
        let running = self.nodes.values().filter(|node| self.is_running(node.nid));
        Some(Routes {
            partitioning,
            cells: partitioning.iter().map(readable).collect(),
            addresses: running
                .filter_map(|node| Some((node.nid, node.address.clone()?)))
                .collect(),
            identification: self.identification(Some(session)),
        })
    }
}
