//! Who may join, under which id.

use neo_api::{Instant, NodeId, NodeState, NodeType, Now, SessionId};
use neo_proto::{ClusterIdentity, ConnId, ErrorCode, Identification, MsgId, Packet, shown};

use super::belonging::{Foreign, belongs, last_given};
use super::effect::Out;
use super::node_manager::Node;
use super::{MasterCore, Phase};

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    /// It has not identified yet, and must until then.
    New { deadline: Instant },
    /// A copy of a storage node's database that got an id of its own, and must end until then.
    Copy { deadline: Instant },
    /// A node of the cluster that this master leads.
    Node(NodeId),
    /// Another master, on its way to be connected, or connected.
    Master,
}

/// Longest chain of epochs that is taken from a peer.
const EPOCHS_MAX: usize = 10_000;

/// Most levels of a storage node's place.
const TOPOLOGY_MAX: usize = 8;

/// How the histories of two sides of a cluster relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kinship {
    /// One chain, or nothing is known.
    Same,
    /// The peer was not there when epochs were opened.
    Ancestor,
    /// The peer knows epochs that are unknown here.
    Descendant,
    /// Another cluster, or both went their own way.
    Stranger,
}

type Refusal = (ErrorCode, String);

impl MasterCore {
    /// How many there may be is for the endpoint to say.
    pub(super) fn accepted(&mut self, now: Now, conn: ConnId) {
        let deadline = now.mono + self.settings.identification_timeout();
        self.peers.insert(conn, Peer::New { deadline });
        self.deadlines.insert((deadline, conn));
    }

    pub(super) fn identify(
        &mut self,
        now: Now,
        conn: ConnId,
        id: MsgId,
        peer: Identification,
        out: &mut Out,
    ) {
        if peer.node_type == NodeType::Master {
            return self.master_comes(now, conn, id, &peer, out);
        }
        if let Phase::Idle { primary } = &self.phase {
            let primary = primary.clone();
            let masters = self.masters.to_vec();
            out.send(conn, id, Packet::NotPrimaryMaster { primary, masters });
            self.disconnect(now, conn, "this master is not the primary", out);
            return;
        }
        let admitted = match peer.nid {
            Some(original) if peer.new_nid && peer.node_type == NodeType::Storage => {
                let named = self.admit_anybody(&peer);
                let named =
                    named.and_then(|()| self.name_copy(now, conn, id, original, &peer, out));
                if named.is_ok() {
                    return;
                }
                named.map(|()| original)
            }
            _ => self.admit(&peer),
        };
        match admitted {
            Ok(nid) => {
                if let Some(other) = self.nodes.conn(nid) {
                    let words = format!("{nid} is the id of a node that has data");
                    self.disconnect(now, other, &words, out);
                }
                self.welcome(now, conn, id, nid, peer, out);
            }
            Err((code, message)) => {
                tracing::info!(node_type = %peer.node_type, nid = nid_words(peer.nid), words = message, "refused a node");
                let reason = message.clone();
                out.send(conn, id, Packet::Error { code, message });
                self.disconnect(now, conn, &reason, out);
            }
        }
    }

    /// Whether a peer is of this cluster, as far as it knows.
    fn admit_anybody(&mut self, peer: &Identification) -> Result<(), Refusal> {
        let Identification { node_type, nid, .. } = peer;
        if peer.cluster != self.settings.cluster {
            return Err((ErrorCode::OtherCluster, self.other_cluster_words(peer)));
        }
        if nid.is_some_and(|nid| nid.node_type() != *node_type) {
            let words = format!("a {node_type} can't have the id {}", nid_words(*nid));
            return Err((ErrorCode::Protocol, words));
        }
        self.admit_identity(peer)?;
        if let Some(words) = self.own_way(peer) {
            return Err((ErrorCode::OtherCluster, words));
        }
        Ok(())
    }

    /// The id under which a node is admitted.
    fn admit(&mut self, peer: &Identification) -> Result<NodeId, Refusal> {
        self.admit_anybody(peer)?;
        let Identification { node_type, nid, .. } = peer;
        let state = self.cluster_state();
        match node_type {
            NodeType::Client if self.admits_client(peer) => {}
            NodeType::Client => return Err((ErrorCode::NotReady, self.not_ready())),
            NodeType::Storage if matches!(self.phase, Phase::Ending(_)) || self.is_stopping() => {
                return Err((ErrorCode::NotReady, "the cluster is stopping".to_owned()));
            }
            NodeType::Storage => {}
            NodeType::Admin if matches!(self.phase, Phase::Ending(_)) => {
                return Err((ErrorCode::NotReady, "the cluster is stopping".to_owned()));
            }
            NodeType::Admin | NodeType::Master => {}
        }
        debug_assert!(state.is_some(), "a master that does not lead admits nobody");
        if self.nodes.len() >= self.settings.nodes_max && !nid.is_some_and(|n| self.is_known(n)) {
            return Err((
                ErrorCode::TooLarge,
                format!(
                    "this cluster knows {} nodes, the most it may (nodes_max)",
                    self.nodes.len()
                ),
            ));
        }
        match node_type {
            NodeType::Storage => self.admit_storage(peer),
            _ => self.admit_temporary(peer),
        }
    }

    pub(super) fn other_cluster_words(&self, peer: &Identification) -> String {
        format!(
            "this is a node of cluster {:?}, you asked for {:?}",
            self.settings.cluster,
            shown(&peer.cluster)
        )
    }

    fn is_known(&self, nid: NodeId) -> bool {
        self.nodes.get(nid).is_some()
    }

    /// While the cluster stops, only clients that were here before, which know its identity: they
    /// may have to ask what became of a commit.
    fn admits_client(&self, peer: &Identification) -> bool {
        matches!(&self.phase, Phase::Running(running)
            if running.stopping.is_none() || peer.identity.is_some())
    }

    /// Why clients are not served, in words.
    pub(super) fn not_ready(&self) -> String {
        match &self.phase {
            Phase::Recovering(recovering) => {
                format!("the cluster is RECOVERING: {}", recovering.waiting)
            }
            Phase::Verifying(_) => "the cluster is VERIFYING, it will be ready soon".to_owned(),
            Phase::Running(running) if running.stopping.is_none() => {
                "the cluster is RUNNING".to_owned()
            }
            Phase::Idle { .. } => "this master is not the primary".to_owned(),
            Phase::Running(_) | Phase::Ending(_) | Phase::Stopped => {
                "the cluster is stopping".to_owned()
            }
        }
    }

    fn admit_storage(&self, peer: &Identification) -> Result<NodeId, Refusal> {
        let Some(address) = &peer.address else {
            return Err((
                ErrorCode::Protocol,
                "a storage node must tell where it listens".to_owned(),
            ));
        };
        if peer.topology.len() > TOPOLOGY_MAX {
            return Err((
                ErrorCode::TooLarge,
                format!(
                    "a place of {} levels: at most {TOPOLOGY_MAX}",
                    peer.topology.len()
                ),
            ));
        }
        if *address == self.own {
            return Err((
                ErrorCode::IdConflict,
                format!("{address} is where this master listens"),
            ));
        }
        let at = self.nodes.at(address);
        if let Some(other) = at.filter(|other| self.nodes.conn(*other).is_some()) {
            return Err((
                ErrorCode::IdConflict,
                format!("{other} is connected, and listens at {address} too"),
            ));
        }
        let table = self.table.as_ref();
        let judged = |nid| table.map_or(Ok(()), |table| belongs(table, nid, peer.noted));
        match peer.nid.map(|nid| (nid, judged(nid))) {
            // It ends with these words: nothing that comes later makes the database the right one.
            Some((nid, Err(foreign @ (Foreign::Draft | Foreign::Older)))) => {
                return Err((ErrorCode::OtherCluster, foreign.words(nid)));
            }
            Some((nid, Ok(()))) => return self.admit_named(nid, peer),
            // A database that was emptied is another node, also when it asks for its old id.
            Some((_, Err(Foreign::New))) | None => {}
        }
        // A node that never made its id durable is known by its address.
        let last = last_given(table);
        if let Some(nid) = at.filter(|nid| nid.number() > last) {
            return Ok(nid);
        }
        let nid = self.nodes.first_free(NodeType::Storage, last);
        nid.ok_or_else(|| (ErrorCode::TooLarge, "no node id is free".to_owned()))
    }

    /// A database comes back with its id.
    fn admit_named(&self, nid: NodeId, peer: &Identification) -> Result<NodeId, Refusal> {
        if self.nodes.conn(nid).is_some() && !self.gives_way(nid, peer) {
            return Err((
                ErrorCode::IdConflict,
                format!(
                    "another node that is {nid} is connected; was a database copied, or started \
                     twice?"
                ),
            ));
        }
        Ok(nid)
    }

    /// Whether a connected node with this id leaves it to the one that comes: while nobody knows
    /// better, that is the one whose database is newer under this id. An empty one has none.
    fn gives_way(&self, nid: NodeId, peer: &Identification) -> bool {
        let is_open = match &self.phase {
            Phase::Recovering(_) => true,
            Phase::Running(running) => !running.operating.contains_key(&nid),
            _ => false,
        };
        is_open
            && self
                .nodes
                .get(nid)
                .is_some_and(|node| node.noted < peer.noted)
    }

    /// Clients and admins: an id that is in use is no conflict, they get another one. Their old
    /// connection may be half-open still.
    fn admit_temporary(&mut self, peer: &Identification) -> Result<NodeId, Refusal> {
        if let Some(nid) = peer.nid
            && !self.is_known(nid)
        {
            return Ok(nid);
        }
        let nid = self.nodes.next_temporary(peer.node_type);
        nid.ok_or_else(|| (ErrorCode::TooLarge, "no node id is free".to_owned()))
    }

    fn admit_identity(&self, peer: &Identification) -> Result<(), Refusal> {
        let Some(theirs) = &peer.identity else {
            return Ok(());
        };
        check_identity(theirs).map_err(|words| (ErrorCode::Protocol, words))?;
        match self.kinship(theirs) {
            Kinship::Same | Kinship::Ancestor => Ok(()),
            // While RECOVERING the chain of a storage node is adopted, and a running primary is
            // deposed by it: see `welcome`.
            Kinship::Descendant if peer.node_type == NodeType::Storage => Ok(()),
            Kinship::Descendant => Err((
                ErrorCode::OtherCluster,
                "you have been on a side of this cluster that was started later, by force: \
                 connect to its master"
                    .to_owned(),
            )),
            Kinship::Stranger => Err((ErrorCode::OtherCluster, self.stranger_words(theirs))),
        }
    }

    /// What a storage node is told that was found to have gone its own way.
    fn own_way(&mut self, peer: &Identification) -> Option<String> {
        let words = self.own_ways.remove(&peer.nid?)?;
        let theirs = peer.identity.as_ref()?;
        (self.kinship(theirs) == Kinship::Ancestor).then_some(words)
    }

    pub(super) fn strange_master_words(&self, theirs: &ClusterIdentity) -> String {
        let name = &self.settings.cluster;
        if self
            .identity
            .as_ref()
            .is_some_and(|ours| ours.id == theirs.id)
        {
            format!(
                "cluster {name:?} was started by force on two sides, and each has a primary master: \
                 decide which side to keep, stop the other one, empty the databases of its storage \
                 nodes, and start them with the masters of the side to keep"
            )
        } else {
            format!(
                "two clusters of the name {name:?} were created, and each has a primary master: \
                 stop the one that is not wanted, empty the databases of its storage nodes, and \
                 start them with the masters of the other"
            )
        }
    }

    fn stranger_words(&self, theirs: &ClusterIdentity) -> String {
        let name = &self.settings.cluster;
        match &self.identity {
            Some(ours) if ours.id == theirs.id => format!(
                "cluster {name:?} was started by force on two sides, and this node is of the \
                 other one: decide which side to keep, and empty the databases of the other"
            ),
            Some(ours) => format!(
                "this is cluster {name:?} with id {}, but the node belongs to another one of the \
                 same name, with id {}: give it an empty database, or the right masters",
                ours.id, theirs.id
            ),
            None => format!("the node belongs to another cluster than {name:?}"),
        }
    }

    /// How what a peer remembers relates to what is known here.
    pub(super) fn kinship(&self, theirs: &ClusterIdentity) -> Kinship {
        let Some(ours) = &self.identity else {
            return Kinship::Same;
        };
        if ours.id != theirs.id || ours.epochs.iter().zip(&theirs.epochs).any(|(a, b)| a != b) {
            return Kinship::Stranger;
        }
        match theirs.epochs.len().cmp(&ours.epochs.len()) {
            std::cmp::Ordering::Less => Kinship::Ancestor,
            std::cmp::Ordering::Equal => Kinship::Same,
            std::cmp::Ordering::Greater => Kinship::Descendant,
        }
    }

    fn welcome(
        &mut self,
        now: Now,
        conn: ConnId,
        id: MsgId,
        nid: NodeId,
        peer: Identification,
        out: &mut Out,
    ) {
        let storage = peer.node_type == NodeType::Storage;
        let kinship = peer.identity.as_ref().map(|theirs| self.kinship(theirs));
        if kinship == Some(Kinship::Descendant) && !matches!(self.phase, Phase::Recovering(_)) {
            let words = format!(
                "{nid} knows that the cluster was started without this master, by force: this \
                 side must not go on"
            );
            self.deposed(now, &words, out);
            return;
        }
        if let Some(Peer::New { deadline }) = self.peers.insert(conn, Peer::Node(nid)) {
            self.deadlines.remove(&(deadline, conn));
        }
        self.last_session += 1;
        let session = SessionId(self.last_session);
        let state = match peer.node_type {
            NodeType::Storage => NodeState::Pending,
            _ => NodeState::Running,
        };
        let is_full = self.nodes.get(nid).is_some_and(|node| node.is_full);
        let node = Node {
            address: peer.address,
            state,
            session: Some(session),
            since_micros: Some(now.wall.0),
            conn: None,
            read_only: peer.read_only,
            has_table: false,
            topology: peer.topology.clone(),
            noted: peer.noted.filter(|_| peer.nid == Some(nid)),
            is_full,
        };
        // The others hear of it first: a storage node must know a client before that one comes.
        self.nodes.insert(nid, node);
        self.note_space(nid, peer.is_full);
        self.nodes.publish(out);
        self.nodes.connect(nid, conn);
        out.send(
            conn,
            id,
            Packet::AcceptIdentification {
                node_type: NodeType::Master,
                nid: Some(self.nid),
                your_nid: nid,
                reign: self.reign,
                session,
                identity: self.identity.clone(),
            },
        );
        let nodes = self.nodes.all_for(peer.node_type);
        out.notify(conn, Packet::NotifyNodeInformation { full: true, nodes });
        if let Some(packet) = self.cluster_information() {
            out.notify(conn, packet);
        }
        tracing::info!(%nid, session = session.0, "a node identified");
        if storage {
            self.storage_joined(now, nid, peer.identity, out);
        } else {
            self.send_table(conn, out);
            if let (NodeType::Client, Phase::Running(running)) = (peer.node_type, &mut self.phase) {
                running.clients += 1;
            }
        }
    }

    /// Sends the partition table, if there is one.
    pub(super) fn send_table(&self, conn: ConnId, out: &mut Out) {
        if let Some(table) = &self.table {
            let table = Box::new(table.get().clone());
            let identity = self.identity.clone();
            out.notify(conn, Packet::SendPartitionTable { identity, table });
        }
    }

    fn storage_joined(
        &mut self,
        now: Now,
        nid: NodeId,
        identity: Option<ClusterIdentity>,
        out: &mut Out,
    ) {
        match &self.phase {
            Phase::Recovering(_) => self.recovery_joined(now, nid, out),
            Phase::Running(_) => self.join_running(now, nid, identity.as_ref(), out),
            // It hears of the table when the cluster runs.
            Phase::Verifying(_) => {
                if let Phase::Verifying(verifying) = &mut self.phase {
                    verifying.late.insert(nid, identity);
                }
            }
            Phase::Idle { .. } | Phase::Ending(_) | Phase::Stopped => {}
        }
    }
}

fn nid_words(nid: Option<NodeId>) -> String {
    nid.map_or_else(|| "none".to_owned(), |nid| nid.to_string())
}

/// Whether an identity that came from a peer makes sense.
pub(super) fn check_identity(identity: &ClusterIdentity) -> Result<(), String> {
    let epochs = &identity.epochs;
    if epochs.is_empty() || epochs.len() > EPOCHS_MAX {
        return Err(format!("a chain of {} epochs can't be", epochs.len()));
    }
    let mut parent = None;
    for (number, epoch) in (1..).zip(epochs) {
        if epoch.number != number || epoch.parent != parent {
            return Err(format!("the chain of epochs is broken at {number}"));
        }
        parent = Some(epoch.id);
    }
    Ok(())
}
