//! The nodes that the primary knows, and telling everybody about them.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Address, NodeId, NodeState, NodeType, SessionId, TableVersion};
use neo_proto::{ConnId, NodeInfo, Packet};

use super::effect::Out;

/// A node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) address: Option<Address>,
    pub(crate) state: NodeState,
    /// Of its identification, while it is connected.
    pub(crate) session: Option<SessionId>,
    pub(crate) since_micros: Option<i64>,
    /// Its connection.
    pub(crate) conn: Option<ConnId>,
    /// A client that will not write.
    pub(crate) read_only: bool,
    /// A storage that follows the changes of the partition table.
    pub(crate) has_table: bool,
    /// Where a storage has its data, coarsest first; it is remembered while the node is away.
    pub(crate) topology: Vec<String>,
    /// The version of the partition table in a storage node's database, as it came, if its id is
    /// noted there.
    pub(crate) noted: Option<TableVersion>,
    /// A storage has no space left; remembered like that.
    pub(crate) is_full: bool,
}

impl Node {
    /// A node that is known and not connected.
    pub(crate) const fn down(address: Option<Address>) -> Self {
        Self {
            address,
            state: NodeState::Down,
            session: None,
            since_micros: None,
            conn: None,
            read_only: false,
            has_table: false,
            topology: Vec::new(),
            noted: None,
            is_full: false,
        }
    }
}

/// Every node, by id, with what was not told about them yet.
#[derive(Debug, Default)]
pub(crate) struct NodeManager {
    nodes: BTreeMap<NodeId, Node>,
    /// Connected nodes other than this master; ids are ordered by type.
    online: BTreeMap<NodeId, ConnId>,
    by_address: BTreeMap<Address, NodeId>,
    changed: BTreeSet<NodeId>,
    /// Storage nodes do not hear of each other now.
    gathers: bool,
    /// Number of the last id that was given to a client, and to an admin.
    last_temporary: [u32; 2],
}

impl NodeManager {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn get(&self, nid: NodeId) -> Option<&Node> {
        self.nodes.get(&nid)
    }

    /// The node to change; call [`Self::note`] when others should know.
    pub(crate) fn get_mut(&mut self, nid: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(&nid)
    }

    /// The connection of a node.
    pub(crate) fn conn(&self, nid: NodeId) -> Option<ConnId> {
        self.online.get(&nid).copied()
    }

    /// The node that listens at an address.
    pub(crate) fn at(&self, address: &Address) -> Option<NodeId> {
        self.by_address.get(address).copied()
    }

    /// Connected nodes of a type, in order of id.
    pub(crate) fn online(
        &self,
        node_type: NodeType,
    ) -> impl DoubleEndedIterator<Item = (NodeId, ConnId)> {
        let end = |n| NodeId::new(node_type, n).expect("1 and the greatest number are numbers");
        self.online
            .range(end(1)..=end(NodeId::NUMBER_MAX))
            .map(|(nid, conn)| (*nid, *conn))
    }

    /// Connected storage nodes that follow the partition table.
    pub(crate) fn followers(&self) -> impl Iterator<Item = (NodeId, ConnId)> {
        let online = self.online(NodeType::Storage);
        online.filter(|(nid, _)| self.nodes.get(nid).is_some_and(|node| node.has_table))
    }

    /// Adds or replaces a node.
    pub(crate) fn insert(&mut self, nid: NodeId, node: Node) {
        self.unlink(nid);
        if let Some(address) = &node.address {
            self.by_address.insert(address.clone(), nid);
        }
        if let Some(conn) = node.conn {
            self.online.insert(nid, conn);
        }
        self.nodes.insert(nid, node);
        self.changed.insert(nid);
    }

    /// A node is connected: it hears of others from now on.
    pub(crate) fn connect(&mut self, nid: NodeId, conn: ConnId) {
        if let Some(node) = self.nodes.get_mut(&nid) {
            node.conn = Some(conn);
            self.online.insert(nid, conn);
        }
    }

    /// The masters that are known.
    pub(crate) fn masters(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        let masters = self.nodes.iter();
        masters
            .filter_map(|(nid, node)| (nid.node_type() == NodeType::Master).then_some((*nid, node)))
    }

    /// Every master but one that will be set RUNNING is DOWN, until it comes.
    pub(crate) fn masters_down(&mut self) {
        let masters: Vec<NodeId> = self.masters().map(|(nid, _)| nid).collect();
        for nid in masters {
            self.set_down(nid);
        }
    }

    /// Forgets all nodes but the masters.
    pub(crate) fn only_masters(&mut self) {
        let masters = self.masters().map(|(nid, node)| (nid, node.clone()));
        let masters = masters.map(|(nid, node)| (nid, Node { conn: None, ..node }));
        let masters = masters.collect();
        self.set_masters(masters);
    }

    /// The masters, as the primary has them; nothing else is known to a secondary.
    pub(crate) fn set_masters(&mut self, masters: Vec<(NodeId, Node)>) {
        *self = Self {
            last_temporary: self.last_temporary,
            ..Self::default()
        };
        for (nid, node) in masters {
            self.insert(nid, node);
        }
    }

    /// A node has no connection any more; it stays known.
    pub(crate) fn set_down(&mut self, nid: NodeId) {
        self.online.remove(&nid);
        if let Some(node) = self.nodes.get_mut(&nid) {
            let topology = std::mem::take(&mut node.topology);
            let is_full = node.is_full;
            *node = Node {
                topology,
                is_full,
                ..Node::down(node.address.take())
            };
            self.changed.insert(nid);
        }
    }

    /// A node is forgotten.
    pub(crate) fn remove(&mut self, nid: NodeId) {
        self.unlink(nid);
        self.online.remove(&nid);
        if self.nodes.remove(&nid).is_some() {
            self.changed.insert(nid);
        }
    }

    fn unlink(&mut self, nid: NodeId) {
        if let Some(address) = self.nodes.get(&nid).and_then(|node| node.address.as_ref())
            && self.by_address.get(address) == Some(&nid)
        {
            self.by_address.remove(address);
        }
    }

    /// Sets a node's state.
    pub(crate) fn set_state(&mut self, nid: NodeId, state: NodeState) {
        if let Some(node) = self.nodes.get_mut(&nid)
            && node.state != state
        {
            node.state = state;
            self.changed.insert(nid);
        }
    }

    /// Notes whether a node has space; `true`: that is news.
    pub(crate) fn set_full(&mut self, nid: NodeId, is_full: bool) -> bool {
        let node = self.nodes.get_mut(&nid);
        let Some(node) = node.filter(|node| node.is_full != is_full) else {
            return false;
        };
        node.is_full = is_full;
        self.changed.insert(nid);
        true
    }

    /// The first id of a type that keeps its ids which is free, of those with a greater number.
    pub(crate) fn first_free(&self, node_type: NodeType, after: u32) -> Option<NodeId> {
        (after.saturating_add(1)..=NodeId::NUMBER_MAX)
            .filter_map(|n| NodeId::new(node_type, n))
            .find(|nid| !self.nodes.contains_key(nid))
    }

    /// An id for a node that does not keep it: the next number, so that an id is not given again
    /// soon, and the cost does not grow with the number of nodes.
    pub(crate) fn next_temporary(&mut self, node_type: NodeType) -> Option<NodeId> {
        let last = &mut self.last_temporary[usize::from(node_type == NodeType::Admin)];
        for _ in 0..=self.nodes.len() {
            *last = *last % NodeId::NUMBER_MAX + 1;
            let nid = NodeId::new(node_type, *last)?;
            if !self.nodes.contains_key(&nid) {
                return Some(nid);
            }
        }
        None
    }

    /// What is told about a node.
    fn info(&self, nid: NodeId) -> NodeInfo {
        match self.nodes.get(&nid) {
            Some(node) => NodeInfo {
                nid,
                address: node.address.clone(),
                state: node.state,
                session: node.session,
                since_micros: node.since_micros,
                is_full: node.is_full,
            },
            None => NodeInfo {
                nid,
                address: None,
                state: NodeState::Unknown,
                session: None,
                since_micros: None,
                is_full: false,
            },
        }
    }

    /// All nodes that a node of this type hears about.
    pub(crate) fn all_for(&self, node_type: NodeType) -> Vec<NodeInfo> {
        let told = self.nodes.keys().filter(|nid| self.tells(node_type, **nid));
        told.map(|nid| self.info(*nid)).collect()
    }

    /// Storage nodes are not told of each other until they have gathered: each would be told of
    /// each, one by one, before any of them has a use for it.
    pub(crate) const fn gather(&mut self) {
        self.gathers = true;
    }

    /// Storage nodes hear of each other from now on: of all that are known, in one message each.
    pub(crate) fn gathered(&mut self, out: &mut Out) {
        self.publish(out);
        self.gathers = false;
        let storages = self.nodes.keys();
        let storages = storages.filter(|nid| nid.node_type() == NodeType::Storage);
        let nodes: Vec<NodeInfo> = storages.map(|nid| self.info(*nid)).collect();
        for (_, conn) in self.online(NodeType::Storage) {
            let nodes = nodes.clone();
            out.notify(conn, Packet::NotifyNodeInformation { full: false, nodes });
        }
    }

    /// Whether a node of this type is told about that node now.
    const fn tells(&self, node_type: NodeType, about: NodeId) -> bool {
        let among_storages = matches!(
            (node_type, about.node_type()),
            (NodeType::Storage, NodeType::Storage)
        );
        hears(node_type, about) && !(self.gathers && among_storages)
    }

    /// Tells everybody who should know about the changes since the last call, one message each.
    pub(crate) fn publish(&mut self, out: &mut Out) {
        if self.changed.is_empty() {
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        for &node_type in NodeType::ALL {
            let told = changed.iter().filter(|nid| self.tells(node_type, **nid));
            let nodes: Vec<NodeInfo> = told.map(|nid| self.info(*nid)).collect();
            if nodes.is_empty() {
                continue;
            }
            for (_, conn) in self.online(node_type) {
                let nodes = nodes.clone();
                out.notify(conn, Packet::NotifyNodeInformation { full: false, nodes });
            }
        }
    }

    /// Tells one node what became of it, before its connection is closed.
    pub(crate) fn tell_itself(&self, nid: NodeId, state: NodeState, out: &mut Out) {
        if let Some(conn) = self.conn(nid) {
            let mut info = self.info(nid);
            info.state = state;
            let nodes = vec![info];
            out.notify(conn, Packet::NotifyNodeInformation { full: false, nodes });
        }
    }
}

/// Whether a node of this type is told about that node.
const fn hears(node_type: NodeType, about: NodeId) -> bool {
    match node_type {
        NodeType::Client => matches!(about.node_type(), NodeType::Master | NodeType::Storage),
        NodeType::Storage => !matches!(about.node_type(), NodeType::Admin),
        NodeType::Master => matches!(about.node_type(), NodeType::Master),
        NodeType::Admin => true,
    }
}

#[cfg(test)]
mod tests {
    use neo_proto::Effect;

    use super::*;

    fn nid(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn online(address: Option<Address>, conn: u64) -> Node {
        Node {
            state: NodeState::Running,
            conn: Some(ConnId(conn)),
            ..Node::down(address)
        }
    }

    fn told(nodes: &mut NodeManager) -> Vec<(u64, Vec<String>)> {
        let mut out = Out::new();
        nodes.publish(&mut out);
        let effects = out.take().into_iter();
        effects
            .map(|effect| match effect {
                Effect::Send { conn, message } => match message.packet {
                    Packet::NotifyNodeInformation { nodes, .. } => {
                        let words = |n: &NodeInfo| format!("{} {}", n.nid, n.state);
                        (conn.0, nodes.iter().map(words).collect())
                    }
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn each_type_hears_what_concerns_it_in_one_message() {
        let mut nodes = NodeManager::default();
        nodes.insert(nid("S1"), online(None, 1));
        nodes.insert(nid("C1"), online(None, 2));
        nodes.insert(nid("A1"), online(None, 3));
        let list = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            told(&mut nodes),
            [
                (1, list(&["S1 RUNNING", "C1 RUNNING"])),
                (2, list(&["S1 RUNNING"])),
                (3, list(&["S1 RUNNING", "C1 RUNNING", "A1 RUNNING"])),
            ]
        );
        assert_eq!(told(&mut nodes), []);
        nodes.remove(nid("C1"));
        assert_eq!(
            told(&mut nodes),
            [(1, list(&["C1 UNKNOWN"])), (3, list(&["C1 UNKNOWN"]))]
        );
    }

    #[test]
    fn storage_nodes_hear_of_each_other_when_they_have_gathered() {
        let mut nodes = NodeManager::default();
        nodes.gather();
        nodes.insert(nid("S1"), online(None, 1));
        nodes.insert(nid("S2"), online(None, 2));
        nodes.insert(nid("A1"), online(None, 3));
        let list = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let to_admin = list(&["S1 RUNNING", "S2 RUNNING", "A1 RUNNING"]);
        assert_eq!(told(&mut nodes), [(3, to_admin)]);
        assert_eq!(nodes.all_for(NodeType::Storage), []);
        let mut out = Out::new();
        nodes.gathered(&mut out);
        assert_eq!(out.take().len(), 2);
        nodes.set_state(nid("S2"), NodeState::Pending);
        let change = list(&["S2 PENDING"]);
        let all = [1, 2, 3].map(|conn| (conn, change.clone()));
        assert_eq!(told(&mut nodes), all);
    }

    #[test]
    fn ids_and_addresses_are_found_again() {
        let mut nodes = NodeManager::default();
        let address = Address::new("a", 1);
        nodes.insert(nid("S1"), online(Some(address.clone()), 1));
        assert_eq!(nodes.first_free(NodeType::Storage, 0), Some(nid("S2")));
        assert_eq!(nodes.first_free(NodeType::Storage, 3), Some(nid("S4")));
        nodes.set_down(nid("S1"));
        assert_eq!(nodes.at(&address), Some(nid("S1")));
        assert_eq!(nodes.conn(nid("S1")), None);
        assert_eq!(nodes.next_temporary(NodeType::Client), Some(nid("C1")));
        nodes.insert(nid("C2"), online(None, 2));
        assert_eq!(nodes.next_temporary(NodeType::Client), Some(nid("C3")));
        nodes.remove(nid("S1"));
        assert_eq!(nodes.at(&address), None);
    }
}
