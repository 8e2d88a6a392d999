//! The processes, and which of them are killed or frozen at the moment.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use neo_api::{Address, NodeId, NodeType};
use neo_testkit::process::{Process, ProcessCluster};

use super::ledger::Ledger;

/// Who talks to others: a node, or a client, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    Node(Node),
    Client(u32),
}

impl Party {
    /// The name by which the hub knows it; a node's is that of its log.
    pub(super) fn name(self) -> String {
        match self {
            Self::Node(Node::Master(0)) => "master".to_owned(),
            Self::Node(Node::Master(at)) => format!("master{}", at + 1),
            Self::Node(Node::Storage(at)) => format!("s{}", at + 1),
            Self::Node(Node::Admin) => "admin".to_owned(),
            Self::Client(at) => format!("client{}", at + 1),
        }
    }

    /// Who has a name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let at = |digits: &str| digits.parse::<usize>().ok()?.checked_sub(1);
        let node = match name {
            "master" => Node::Master(0),
            "admin" => Node::Admin,
            name => {
                if let Some(digits) = name.strip_prefix("client") {
                    return Some(Self::Client(at(digits)?.try_into().ok()?));
                }
                match name.strip_prefix("master") {
                    Some(digits) => Node::Master(at(digits)?),
                    None => Node::Storage(at(name.strip_prefix('s')?)?),
                }
            }
        };
        Some(Self::Node(node))
    }

    /// Its sort, unless it is the admin node, which is here to look at the others.
    pub(super) const fn sort(self) -> Option<Sort> {
        match self {
            Self::Node(Node::Master(_)) => Some(Sort::Master),
            Self::Node(Node::Storage(_)) => Some(Sort::Storage),
            Self::Node(Node::Admin) => None,
            Self::Client(_) => Some(Sort::Client),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A sort of those who talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    Master,
    Storage,
    Client,
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Storage => "storage",
            Self::Client => "client",
        })
    }
}

/// A node, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Master(usize),
    Storage(usize),
    Admin,
}

impl Node {
    /// Its position among the storage nodes.
    pub(super) const fn storage(self) -> Option<usize> {
        match self {
            Self::Storage(at) => Some(at),
            Self::Master(_) | Self::Admin => None,
        }
    }

    /// Its id, if it is a storage node.
    pub(super) fn nid(self) -> Option<NodeId> {
        let number = u32::try_from(self.storage()? + 1).ok()?;
        NodeId::new(NodeType::Storage, number)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master(at) => write!(f, "master {}", at + 1),
            Self::Storage(at) => write!(f, "S{}", at + 1),
            Self::Admin => f.write_str("admin"),
        }
    }
}

/// What is wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ill {
    Killed,
    Frozen,
}

/// How long a clean stop may take.
const STOP: Duration = Duration::from_secs(30);
/// Lines of a log that are shown of a node that ended by itself.
const LAST_LINES: usize = 6;

/// All nodes.
#[derive(Debug)]
pub(super) struct Nodes {
    cluster: ProcessCluster,
    ill: BTreeMap<Node, (Ill, Instant)>,
}

impl Nodes {
    pub(super) const fn new(cluster: ProcessCluster) -> Self {
        Self {
            cluster,
            ill: BTreeMap::new(),
        }
    }

    pub(super) const fn cluster(&self) -> &ProcessCluster {
        &self.cluster
    }

    /// Every node.
    pub(super) fn all(&self) -> Vec<Node> {
        let masters = (0..self.cluster.masters.len()).map(Node::Master);
        masters
            .chain([Node::Admin])
            .chain(self.storages())
            .collect()
    }

    pub(super) fn storages(&self) -> impl Iterator<Item = Node> + use<> {
        (0..self.cluster.storages.len()).map(Node::Storage)
    }

    /// The master that listens there.
    pub(super) fn master_at(&self, address: &Address) -> Option<Node> {
        let addresses = self.cluster.master_addresses();
        addresses
            .iter()
            .position(|at| at == address)
            .map(Node::Master)
    }

    fn process(&mut self, node: Node) -> &mut Process {
        match node {
            Node::Master(at) => &mut self.cluster.masters[at],
            Node::Storage(at) => &mut self.cluster.storages[at],
            Node::Admin => &mut self.cluster.admin,
        }
    }

    /// Whether nothing is wrong with a node, as far as this program did something to it.
    pub(super) fn is_well(&self, node: Node) -> bool {
        !self.ill.contains_key(&node)
    }

    pub(super) fn is_any_frozen(&self) -> bool {
        self.ill.values().any(|(ill, _)| *ill == Ill::Frozen)
    }

    /// SIGKILL; it is started again after a while.
    pub(super) fn kill(&mut self, node: Node, after: Duration) -> io::Result<()> {
        self.process(node).kill()?;
        self.ill.insert(node, (Ill::Killed, Instant::now() + after));
        Ok(())
    }

    /// SIGKILL to every node before any of them is waited for; all are started again at one moment.
    /// Returns how many.
    pub(super) fn kill_all(&mut self, after: Duration) -> io::Result<usize> {
        self.cluster.kill_all()?;
        let ill = (Ill::Killed, Instant::now() + after);
        self.ill = self.all().into_iter().map(|node| (node, ill)).collect();
        Ok(self.ill.len())
    }

    /// SIGSTOP, and SIGCONT after a while.
    pub(super) fn freeze(&mut self, node: Node, time: Duration) -> io::Result<()> {
        self.process(node).signal("STOP")?;
        self.ill.insert(node, (Ill::Frozen, Instant::now() + time));
        Ok(())
    }

    /// Lets go on and starts again whose time has come; everybody, when it is over.
    pub(super) fn heal(&mut self, everybody: bool) -> io::Result<()> {
        let now = Instant::now();
        let due = self
            .ill
            .iter()
            .filter(|(_, (_, until))| everybody || *until <= now);
        let due: Vec<(Node, Ill)> = due.map(|(node, (ill, _))| (*node, *ill)).collect();
        for (node, ill) in due {
            self.ill.remove(&node);
            match ill {
                Ill::Killed => self.process(node).start()?,
                Ill::Frozen => self.process(node).signal("CONT")?,
            }
        }
        Ok(())
    }

    /// A node that ended although nobody killed it is an anomaly; it is started again.
    pub(super) fn look_after(&mut self, ledger: &Ledger) {
        for node in self.all() {
            let killed = matches!(self.ill.get(&node), Some((Ill::Killed, _)));
            if killed || self.process(node).is_running() {
                continue;
            }
            let output = self.process(node).output();
            let lines: Vec<&str> = output.lines().rev().take(LAST_LINES).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            ledger.anomaly(format!("{node} ended by itself:\n{}", lines.join("\n")));
            self.ill.insert(node, (Ill::Killed, Instant::now()));
        }
    }

    /// Waits until every node has ended, the storage nodes by themselves since the cluster stops.
    pub(super) async fn stopped(&mut self, ledger: &Ledger) -> io::Result<()> {
        let storages: Vec<Node> = self.storages().collect();
        self.ended(&storages).await;
        for node in self.all() {
            if self.process(node).is_running() {
                if storages.contains(&node) {
                    ledger.anomaly(format!("{node} did not end when the cluster stopped"));
                }
                self.process(node).signal("TERM")?;
            }
        }
        let all = self.all();
        self.ended(&all).await;
        for node in all {
            match self.process(node).wait() {
                Ok(status) if status.success() => {}
                Ok(status) => ledger.anomaly(format!("{node} did not end well: {status}")),
                Err(error) => ledger.anomaly(format!("{node} did not end: {error}")),
            }
        }
        Ok(())
    }

    async fn ended(&mut self, nodes: &[Node]) {
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline && nodes.iter().any(|node| self.process(*node).is_running())
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again() {
        let nodes = [
            Node::Master(0),
            Node::Master(11),
            Node::Storage(0),
            Node::Storage(3),
            Node::Admin,
        ];
        let all = nodes.map(Party::Node);
        for party in all.into_iter().chain([Party::Client(0), Party::Client(40)]) {
            assert_eq!(Party::named(&party.name()), Some(party));
        }
        for name in ["", "s", "s0", "master0", "client", "clients1", "M1", "s-1"] {
            assert_eq!(Party::named(name), None, "{name}");
        }
    }
}
