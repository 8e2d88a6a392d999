//! Who is connected: identification of clients, and of storage nodes that catch up, by what the
//! primary says of them.
//!
//! A peer shows the number of its identification at the primary. Until the primary has told this
//! node about it, the identification waits; an older number than the primary's is a former life of
//! a node that got the same id, and is refused.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Address, Instant, NodeId, NodeState, NodeType, Reign, SessionId};
use neo_proto::{ConnId, ErrorCode, Identification, NodeInfo};

use super::io::Asker;
use super::transaction::{Peer, Refusal};

/// A connection that this node accepted.
#[derive(Debug)]
enum Conn {
    /// Nothing was heard of it yet.
    New,
    /// It waits for the primary to tell about it.
    Parked(Claim),
    /// It is this client, or storage node.
    Client(Client),
}

/// Who a peer says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) asker: Asker,
    nid: NodeId,
    session: SessionId,
    read_only: bool,
}

/// A client, or a storage node that catches up, whose identification was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) peer: Peer,
    pub(crate) read_only: bool,
}

impl Client {
    /// Whether it is a storage node, which reads what it lacks.
    pub(crate) fn is_storage(&self) -> bool {
        self.peer.nid.node_type() == NodeType::Storage
    }
}

/// What the primary told about a node that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    session: Option<SessionId>,
    /// Where it listens, if it is RUNNING.
    running_at: Option<Address>,
}

/// What becomes of an identification.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept(Client, Asker),
    Wait,
    Refuse(Asker, Refusal),
}

/// What a message of the primary about nodes leads to.
#[derive(Debug, Default)]
pub(crate) struct NodeChanges {
    /// Identifications that ended.
    pub(crate) gone: Vec<(NodeId, SessionId)>,
    /// Connections of theirs.
    pub(crate) close: Vec<ConnId>,
    /// Identifications that waited.
    pub(crate) verdicts: Vec<Verdict>,
}

/// The connections that this node accepted, and the nodes that the primary told about.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    conns: BTreeMap<ConnId, Conn>,
    /// When those that are not accepted yet have to be.
    deadlines: BTreeSet<(Instant, ConnId)>,
    nodes: BTreeMap<NodeId, Known>,
}

impl Conns {
    /// A peer connected.
    pub(crate) fn accepted(&mut self, conn: ConnId, deadline: Instant) {
        self.conns.insert(conn, Conn::New);
        self.deadlines.insert((deadline, conn));
    }

    /// How many are not identified.
    pub(crate) fn unidentified(&self) -> usize {
        self.deadlines.len()
    }

    pub(crate) fn client(&self, conn: ConnId) -> Option<Client> {
        match self.conns.get(&conn) {
            Some(Conn::Client(client)) => Some(*client),
            _ => None,
        }
    }

    pub(crate) fn contains(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    /// A connection is closed.
    pub(crate) fn remove(&mut self, conn: ConnId) {
        self.conns.remove(&conn);
        self.deadlines.retain(|(_, waiting)| *waiting != conn);
    }

    /// The service ended: names all connections, and forgets them and the nodes.
    pub(crate) fn clear(&mut self) -> Vec<ConnId> {
        self.deadlines.clear();
        self.nodes.clear();
        std::mem::take(&mut self.conns).into_keys().collect()
    }

    /// Connections that took too long.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<(ConnId, Option<Asker>)> {
        let mut expired = Vec::new();
        while let Some((at, conn)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            self.deadlines.remove(&(at, conn));
            let asker = match self.conns.remove(&conn) {
                Some(Conn::Parked(claim)) => Some(claim.asker),
                _ => None,
            };
            expired.push((conn, asker));
        }
        expired
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A peer says who it is. `reign` is that of the primary that this node serves.
    pub(crate) fn identify(
        &mut self,
        asker: Asker,
        identification: &Identification,
        reign: Reign,
        deadline: Instant,
    ) -> Verdict {
        let refuse = |code, text: &str| Verdict::Refuse(asker, (code, text.to_owned()));
        let (Some(nid), Some((its_reign, session))) = (identification.nid, identification.session)
        else {
            return refuse(
                ErrorCode::Protocol,
                "identify at the primary master first: a storage node wants your id and session",
            );
        };
        let its_type = identification.node_type;
        if !matches!(its_type, NodeType::Client | NodeType::Storage) || nid.node_type() != its_type
        {
            let text = "a storage node serves clients, and storage nodes that catch up";
            return refuse(ErrorCode::Denied, text);
        }
        if its_reign != reign {
            let text = "you are of another primary master's reign: identify at the primary again";
            return refuse(ErrorCode::NotReady, text);
        }
        let claim = Claim {
            asker,
            nid,
            session,
            read_only: identification.read_only,
        };
        let verdict = self.judge(claim);
        self.settle(&verdict, claim, Some(deadline));
        verdict
    }

    /// The primary tells about nodes.
    pub(crate) fn nodes(&mut self, full: bool, list: &[NodeInfo]) -> NodeChanges {
        let mut changes = NodeChanges::default();
        let before = self.nodes.clone();
        if full {
            self.nodes.clear();
        }
        for node in list {
            if matches!(node.state, NodeState::Unknown | NodeState::Down) {
                self.nodes.remove(&node.nid);
            } else {
                let is_running = node.state == NodeState::Running;
                let known = Known {
                    session: node.session,
                    running_at: node.address.clone().filter(|_| is_running),
                };
                self.nodes.insert(node.nid, known);
            }
        }
        for (nid, known) in before {
            if let Some(session) = known.session
                && matches!(nid.node_type(), NodeType::Client | NodeType::Storage)
                && self.session(nid) != Some(session)
            {
                changes.gone.push((nid, session));
            }
        }
        let of_gone = |client: &Client| {
            let identification = (client.peer.nid, client.peer.session);
            changes.gone.contains(&identification)
        };
        for (conn, state) in &self.conns {
            if let Conn::Client(client) = state
                && of_gone(client)
            {
                changes.close.push(*conn);
            }
        }
        for conn in &changes.close {
            self.conns.remove(conn);
        }
        let parked = self.conns.values().filter_map(|state| match state {
            Conn::Parked(claim) => Some(*claim),
            _ => None,
        });
        for claim in parked.collect::<Vec<_>>() {
            let verdict = self.judge(claim);
            self.settle(&verdict, claim, None);
            changes.verdicts.push(verdict);
        }
        changes.verdicts.retain(|verdict| *verdict != Verdict::Wait);
        changes
    }

    fn session(&self, nid: NodeId) -> Option<SessionId> {
        self.nodes.get(&nid)?.session
    }

    /// Where a node listens, if it is RUNNING.
    pub(crate) fn running_at(&self, nid: NodeId) -> Option<&Address> {
        self.nodes.get(&nid)?.running_at.as_ref()
    }

    fn judge(&self, claim: Claim) -> Verdict {
        match self.session(claim.nid) {
            Some(known) if known == claim.session => {
                let peer = Peer {
                    conn: claim.asker.conn,
                    nid: claim.nid,
                    session: claim.session,
                };
                let read_only = claim.read_only;
                Verdict::Accept(Client { peer, read_only }, claim.asker)
            }
            Some(known) if known > claim.session => {
                let text = "unknown by the primary master: identify there again";
                Verdict::Refuse(claim.asker, (ErrorCode::NotReady, text.to_owned()))
            }
            _ => Verdict::Wait,
        }
    }

    fn settle(&mut self, verdict: &Verdict, claim: Claim, deadline: Option<Instant>) {
        let conn = claim.asker.conn;
        match verdict {
            Verdict::Accept(client, _) => {
                self.remove(conn);
                self.conns.insert(conn, Conn::Client(*client));
            }
            Verdict::Wait => {
                if let Some(deadline) = deadline {
                    self.remove(conn);
                    self.conns.insert(conn, Conn::Parked(claim));
                    self.deadlines.insert((deadline, conn));
                }
            }
            Verdict::Refuse(..) => self.remove(conn),
        }
    }

    /// Whether a connection has said who it is and waits.
    pub(crate) fn is_parked(&self, conn: ConnId) -> bool {
        matches!(self.conns.get(&conn), Some(Conn::Parked(_)))
    }
}
