//! Secondary masters: what the primary tells them, and what they do then.

use neo_api::{Address, ClusterState, NodeId, NodeState, NodeType, Now, SessionId};
use neo_proto::{ConnId, NodeInfo, Packet};

use super::effect::Out;
use super::links::MASTERS_MAX;
use super::node_manager::Node;
use super::{MasterCore, Phase};

impl MasterCore {
    // --- at the primary ---

    /// Takes a connected master among the nodes, and tells it of the others.
    pub(super) fn adopt_master(
        &mut self,
        now: Now,
        address: &Address,
        conn: ConnId,
        out: &mut Out,
    ) {
        let wish = self.links.get(address).and_then(|link| link.wish);
        let Some(nid) = self.master_nid(address, wish) else {
            return;
        };
        self.last_session += 1;
        let node = Node {
            state: NodeState::Running,
            session: Some(SessionId(self.last_session)),
            since_micros: Some(now.wall.0),
            ..Node::down(Some(address.clone()))
        };
        self.nodes.insert(nid, node);
        self.nodes.publish(out);
        self.nodes.connect(nid, conn);
        let nodes = self.nodes.all_for(NodeType::Master);
        out.notify(conn, Packet::NotifyNodeInformation { full: true, nodes });
        if let Some(packet) = self.cluster_information() {
            out.notify(conn, packet);
        }
        tracing::info!(%nid, master = %address, "a secondary master");
    }

    /// The id of the master at an address: that it had, else the one that it asks for, else a free
    /// one.
    pub(super) fn master_nid(&self, address: &Address, wish: Option<NodeId>) -> Option<NodeId> {
        let is_master = |nid: &NodeId| nid.node_type() == NodeType::Master;
        let had = self.nodes.at(address).filter(is_master);
        let free = |nid: &NodeId| is_master(nid) && self.nodes.get(*nid).is_none();
        had.or_else(|| wish.filter(free))
            .or_else(|| self.nodes.first_free(NodeType::Master, 0))
    }

    // --- at a secondary ---

    pub(super) fn told_nodes(
        &mut self,
        from: &Address,
        full: bool,
        nodes: Vec<NodeInfo>,
        out: &mut Out,
    ) {
        let Some(link) = self.links.get_mut(from) else {
            return;
        };
        if full {
            link.nodes.clear();
        }
        for node in nodes {
            if node.node_type() != NodeType::Master {
                continue;
            }
            if node.state == NodeState::Unknown {
                link.nodes.remove(&node.nid);
            } else if link.nodes.len() < MASTERS_MAX || link.nodes.contains_key(&node.nid) {
                link.nodes.insert(node.nid, node);
            }
        }
        self.heed_primary(out);
    }

    /// Does what the primary that is followed has told.
    pub(super) fn heed_primary(&mut self, out: &mut Out) {
        let Phase::Idle {
            primary: Some(primary),
        } = &self.phase
        else {
            return;
        };
        let primary = primary.clone();
        let Some(link) = self.links.get(&primary) else {
            return;
        };
        let masters: Vec<(NodeId, Node)> = link
            .nodes
            .values()
            .map(|info| {
                let mut node = Node::down(info.address.clone());
                node.state = info.state;
                (info.nid, node)
            })
            .collect();
        let state = link.state;
        let own = masters
            .iter()
            .find(|(_, node)| node.address.as_ref() == Some(&self.own));
        let own = own.map(|(nid, node)| (*nid, node.state));
        if !masters.is_empty() {
            self.nodes.set_masters(masters);
            self.note_masters();
        }
        if let Some((nid, own_state)) = own {
            if nid != self.nid {
                tracing::info!(%nid, %primary, "the primary calls this master so");
                self.nid = nid;
            }
            if own_state == NodeState::Down {
                tracing::info!("the primary master wants this one to stop");
                return self.stop_node(out);
            }
        }
        if state == Some(ClusterState::Stopping) {
            tracing::info!("the cluster stops");
            self.stop_node(out);
        }
    }
}
