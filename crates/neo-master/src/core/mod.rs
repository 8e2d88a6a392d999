//! The pure core of a master: inputs in, effects out, routed by the cluster's state.
//!
//! ```text
//!  Idle ──Lead──▶ Recovering ──▶ Verifying ──▶ Running ──▶ Ending ──▶ Stopped
//!    ▲                ▲──────────────┴────────────┤
//!    └───StepDown─────┴─ a readable node is lost, or this primary is deposed
//! ```

mod admin;
mod auto_tweak;
mod belonging;
mod catching_up;
mod changes;
mod commit;
mod copied;
mod creation;
mod dispatch;
mod effect;
mod failed_vote;
mod identification;
mod import;
mod joining;
mod last_ids;
mod leadership;
mod links;
mod masters;
mod node_manager;
mod oid_mark;
mod oids;
mod orders;
mod packs;
mod partition_table;
mod promotion;
mod random;
mod recovery;
mod remaining;
mod requests;
mod running;
mod secondary;
mod space;
mod start;
mod stopping;
mod survey;
mod table_commands;
mod tids;
mod transaction_manager;
mod tweak;
mod verification;
mod votes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use neo_api::{Address, ClusterState, Election, Instant, NodeId, NodeType, Now, Reign};
use neo_proto::{ClusterIdentity, ConnId, Core, Effects, ErrorCode, Input, Message, MsgId, Packet};

pub use self::effect::{Command, Event, Never, Status};

use self::effect::Out;
use self::identification::Peer;
use self::links::Links;
use self::node_manager::NodeManager;
use self::partition_table::Table;
use self::random::Random;
use self::recovery::Recovering;
use self::requests::Requests;
use self::running::Running;
use self::stopping::Ending;
use self::survey::Survey;
use self::tids::Tids;
use self::verification::Verifying;
use crate::config::MasterSettings;
use crate::election::PeerElection;

/// A master node's core.
#[derive(Debug)]
pub struct MasterCore {
    settings: MasterSettings,
    own: Address,
    nid: NodeId,
    random: Random,
    election: Box<dyn Election>,
    started: bool,
    phase: Phase,
    peers: BTreeMap<ConnId, Peer>,
    /// The other masters.
    links: Links,
    /// Every master that is known, for whoever asks.
    masters: Arc<[Address]>,
    /// A number of this process: a master knows itself by it.
    instance: u64,
    /// When connections that have not identified are closed.
    deadlines: BTreeSet<(Instant, ConnId)>,
    nodes: NodeManager,
    requests: Requests,
    surveys: BTreeMap<NodeId, Survey>,
    /// What a node is told that went its own way, when it comes again.
    own_ways: BTreeMap<NodeId, String>,
    last_session: u64,
    last_operation: u64,
    last_import: u64,
    /// While VERIFYING and RUNNING, that of this primary; else the greatest that was heard of.
    reign: Reign,
    /// In which reign the last commit was made, as far as is known.
    committed_in: Reign,
    identity: Option<ClusterIdentity>,
    /// The newest partition table known. It is kept when the primary falls back to RECOVERING: an
    /// older one is never loaded.
    table: Option<Table>,
    /// How many epochs the chain had when the table was made: tables are ordered by epoch first.
    table_epochs: usize,
    tids: Tids,
    /// No oid at or above it was ever handed out, as far as is known.
    oid_floor: u64,
    /// What was told last.
    status: Status,
}

/// What the master is doing, with what it needs for it.
#[derive(Debug)]
enum Phase {
    /// Not the primary.
    Idle {
        /// Who is, if it is known.
        primary: Option<Address>,
    },
    Recovering(Box<Recovering>),
    Verifying(Box<Verifying>),
    Running(Box<Running>),
    Ending(Ending),
    Stopped,
}

impl MasterCore {
    /// A master that listens at `own`, and elects the primary with the other masters.
    ///
    /// `seed` is for ids that must be unique in the world: it must be random.
    ///
    /// # Panics
    /// When the settings can't be; [`MasterSettings::check`] tells.
    #[must_use]
    pub fn new(settings: MasterSettings, own: Address, seed: [u64; 4]) -> Self {
        let election = PeerElection::new(settings.election_patience());
        Self::with_election(settings, own, seed, Box::new(election))
    }

    /// A master that is the primary when an election says so.
    ///
    /// # Panics
    /// When the settings can't be; [`MasterSettings::check`] tells.
    #[must_use]
    pub fn with_election(
        settings: MasterSettings,
        own: Address,
        seed: [u64; 4],
        election: Box<dyn Election>,
    ) -> Self {
        if let Err(error) = settings.check() {
            panic!("settings are checked before a core is made: {error}");
        }
        let first = NodeId::new(NodeType::Master, 1).expect("1 is a node's number");
        let clock_jump_max = std::time::Duration::from_secs(settings.clock_jump_max_s);
        let mut random = Random::new(seed);
        Self {
            nid: settings.nid.unwrap_or(first),
            own,
            instance: random.next(),
            random,
            election,
            started: false,
            phase: Phase::Idle { primary: None },
            peers: BTreeMap::new(),
            links: Links::default(),
            masters: Arc::default(),
            deadlines: BTreeSet::new(),
            nodes: NodeManager::default(),
            requests: Requests::default(),
            surveys: BTreeMap::new(),
            own_ways: BTreeMap::new(),
            last_session: 0,
            last_operation: 0,
            last_import: 0,
            reign: Reign::default(),
            committed_in: Reign::default(),
            identity: None,
            table: None,
            table_epochs: 0,
            tids: Tids::new(clock_jump_max),
            oid_floor: 1,
            status: Status::default(),
            settings,
        }
    }

    /// What the master can say of its cluster now.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// The state of the cluster; `None` while this master is not the primary.
    #[must_use]
    pub const fn cluster_state(&self) -> Option<ClusterState> {
        match &self.phase {
            Phase::Idle { .. } => None,
            Phase::Recovering(_) => Some(ClusterState::Recovering),
            Phase::Verifying(_) => Some(ClusterState::Verifying),
            Phase::Running(running) if running.stopping.is_none() => Some(ClusterState::Running),
            Phase::Running(_) | Phase::Ending(_) | Phase::Stopped => Some(ClusterState::Stopping),
        }
    }

    /// Its node id: as the primary calls it, or called it last.
    #[must_use]
    pub const fn nid(&self) -> NodeId {
        self.nid
    }

    /// Which cluster it leads; a secondary does not know.
    #[must_use]
    pub const fn identity(&self) -> Option<&ClusterIdentity> {
        self.identity.as_ref()
    }

    /// The primary that this master follows, if it does.
    #[must_use]
    pub const fn follows(&self) -> Option<&Address> {
        match &self.phase {
            Phase::Idle { primary } => primary.as_ref(),
            _ => None,
        }
    }

    /// The partition table that the master goes by.
    #[must_use]
    pub fn partition_table(&self) -> Option<&neo_api::PartitionTable> {
        self.table.as_ref().map(Table::get)
    }

    fn closed(&mut self, now: Now, conn: ConnId, reason: &str, out: &mut Out) {
        match self.forget_peer(conn) {
            Some(Peer::Node(nid)) if self.gathers(nid) => {
                self.storage_down(nid, reason);
                self.gather_loss(nid);
            }
            Some(peer) => self.peer_lost(now, conn, peer, reason, out),
            None => {}
        }
    }

    fn storage_down(&mut self, nid: NodeId, reason: &str) {
        tracing::info!(%nid, reason, "lost a node");
        self.surveys.remove(&nid);
        self.nodes.set_down(nid);
    }

    /// Closes a connection and deals with its loss.
    fn disconnect(&mut self, now: Now, conn: ConnId, reason: &str, out: &mut Out) {
        if let Some(peer) = self.forget_peer(conn) {
            out.close(conn, reason);
            self.peer_lost(now, conn, peer, reason, out);
        }
    }

    /// Forgets a connection; what follows from its loss is the caller's.
    fn forget_peer(&mut self, conn: ConnId) -> Option<Peer> {
        let peer = self.peers.remove(&conn)?;
        if let Peer::New { deadline } | Peer::Copy { deadline } = peer {
            self.deadlines.remove(&(deadline, conn));
        }
        self.requests.drop_conn(conn);
        Some(peer)
    }

    fn peer_lost(&mut self, now: Now, conn: ConnId, peer: Peer, reason: &str, out: &mut Out) {
        let nid = match peer {
            Peer::New { .. } | Peer::Copy { .. } => return,
            Peer::Master => return self.master_lost(now, conn, reason, out),
            Peer::Node(nid) => nid,
        };
        if nid.node_type() != NodeType::Storage {
            tracing::info!(%nid, reason, "lost a node");
        }
        match nid.node_type() {
            NodeType::Storage => {
                self.storage_down(nid, reason);
                match &self.phase {
                    Phase::Recovering(_) => self.recovery_lost(now, nid, out),
                    Phase::Verifying(_) => self.verification_lost(now, nid, out),
                    Phase::Running(_) => self.storages_lost(now, &[nid].into(), out),
                    Phase::Ending(_) => self.ending_step(now, out),
                    Phase::Idle { .. } | Phase::Stopped => {}
                }
            }
            NodeType::Client => {
                self.nodes.remove(nid);
                // Storage nodes hear that it is gone before they hear what becomes of its
                // transactions.
                self.nodes.publish(out);
                self.client_gone(now, nid, out);
            }
            NodeType::Admin | NodeType::Master => self.nodes.remove(nid),
        }
    }

    /// The peer broke the protocol.
    fn violation(&mut self, now: Now, conn: ConnId, id: MsgId, words: &str, out: &mut Out) {
        let who = match self.peers.get(&conn) {
            Some(Peer::Node(nid)) => nid.to_string(),
            Some(Peer::Master) => "another master".to_owned(),
            _ => "a peer that has not identified".to_owned(),
        };
        tracing::warn!(who, words, "protocol error: disconnecting");
        if id != MsgId(0) {
            let message = words.to_owned();
            let code = ErrorCode::Protocol;
            out.send(conn, id, Packet::Error { code, message });
        }
        self.disconnect(now, conn, words, out);
    }

    fn message(&mut self, now: Now, conn: ConnId, message: Message, out: &mut Out) {
        let Message {
            id,
            packet,
            payload,
        } = message;
        if !payload.is_empty() {
            // No message to a master has any; what came is dealt with by dropping it.
            let bytes = payload.len() as u64;
            out.push(neo_proto::Effect::Consumed { conn, bytes });
        }
        match (self.peers.get(&conn), packet) {
            (None, _) => {}
            (_, Packet::Heartbeat {} | Packet::Credit { .. }) => {}
            (Some(Peer::New { .. }), Packet::RequestIdentification { identification }) => {
                self.identify(now, conn, id, *identification, out);
            }
            (Some(Peer::Copy { .. }), Packet::NotifyPartitionTableStored { .. }) => {
                self.disconnect(now, conn, "it has an id of its own now", out);
            }
            (Some(Peer::Copy { .. }), packet) => {
                let words = format!("{} from a copy that got its id", packet.name());
                self.violation(now, conn, id, &words, out);
            }
            (Some(Peer::New { .. }), packet) => {
                let words = format!(
                    "{} before identification: this is a master, give neoctl the address of an admin \
                     node",
                    packet.name()
                );
                self.violation(now, conn, id, &words, out);
            }
            (Some(Peer::Master), packet) => self.master_message(now, conn, id, packet, out),
            (Some(Peer::Node(nid)), packet) => {
                let nid = *nid;
                match nid.node_type() {
                    NodeType::Storage if packet.is_answer() => {
                        self.storage_answer(now, conn, nid, id, packet, out);
                    }
                    NodeType::Storage => self.storage_message(now, conn, nid, id, packet, out),
                    NodeType::Client => self.client_message(now, conn, nid, id, packet, out),
                    NodeType::Admin => self.admin_message(now, conn, id, packet, out),
                    NodeType::Master => {
                        let words = format!("{} from a master", packet.name());
                        self.violation(now, conn, id, &words, out);
                    }
                }
            }
        }
    }

    fn timer(&mut self, now: Now, out: &mut Out) {
        while let Some((deadline, conn)) = self.deadlines.first().copied() {
            if deadline > now.mono {
                break;
            }
            self.disconnect(now, conn, "it did not identify itself in time", out);
        }
        match &self.phase {
            Phase::Recovering(_) => self.recovery_timer(now, out),
            Phase::Running(_) => self.running_timer(now, out),
            Phase::Ending(_) => self.ending_step(now, out),
            Phase::Idle { .. } | Phase::Verifying(_) | Phase::Stopped => {}
        }
        self.masters_timer(now, out);
        self.election_timer(now, out);
    }

    /// Tells the process around the node when something changed that it may want to know.
    fn report(&mut self, out: &mut Out) {
        let status = Status {
            state: self.cluster_state(),
            serving: matches!(&self.phase, Phase::Running(r) if r.serves()),
            reign: self.reign,
            version: self.table.as_ref().map(Table::version),
            storages: match &self.phase {
                Phase::Verifying(verifying) => verifying.chosen.len(),
                Phase::Running(running) => running.operating.len(),
                _ => 0,
            },
            clients: match &self.phase {
                Phase::Running(running) => running.clients,
                _ => 0,
            },
            // Changes with every commit: worth telling with something else only.
            last_tid: self.status.last_tid,
            waiting: self.waiting().to_owned(),
            masters: Arc::clone(&self.masters),
        };
        if status == self.status {
            return;
        }
        if status.waiting != self.status.waiting {
            if !status.waiting.is_empty() {
                tracing::info!("{}", status.waiting);
            }
            self.tell_admins_of_state(out);
        }
        self.status = Status {
            last_tid: self.tids.last(),
            ..status
        };
        out.event(Event::Status(Box::new(self.status.clone())));
    }

    /// For whom or what the cluster waits, in words; empty when it does not.
    fn waiting(&self) -> &str {
        match &self.phase {
            Phase::Recovering(recovering) => &recovering.waiting,
            _ => "",
        }
    }

    /// What a node is told of the cluster; nothing while this master is not the primary.
    fn cluster_information(&self) -> Option<Packet> {
        let state = self.cluster_state()?;
        let waiting = self.waiting().to_owned();
        Some(Packet::NotifyClusterInformation { state, waiting })
    }

    fn tell_admins_of_state(&self, out: &mut Out) {
        let Some(packet) = self.cluster_information() else {
            return;
        };
        for (_, conn) in self.nodes.online(NodeType::Admin) {
            out.notify(conn, packet.clone());
        }
    }

    /// Tells every node of the cluster's state.
    fn announce_state(&mut self, now: Now, out: &mut Out) {
        let (Some(state), Some(packet)) = (self.cluster_state(), self.cluster_information()) else {
            return;
        };
        tracing::info!(%state, reign = %self.reign, "the cluster's state");
        for &node_type in NodeType::ALL {
            for (_, conn) in self.nodes.online(node_type) {
                out.notify(conn, packet.clone());
            }
        }
        self.tell_election_of_state(now, state, out);
    }
}

impl Core for MasterCore {
    type Command = Command;
    type Event = Event;
    type Job = Never;
    type Done = Never;

    fn handle(&mut self, now: Now, input: Input<Self>, out: &mut Effects<Self>) {
        if matches!(self.phase, Phase::Stopped) {
            return;
        }
        if !self.started {
            self.started = true;
            self.start_election(now, out);
        }
        self.note_awake(now, out);
        let is_gathered = self.is_gathered(&input);
        if !is_gathered {
            self.settle_losses(now, out);
        }
        match input {
            Input::Connected { token, conn } => self.dialed(now, token, conn, out),
            Input::ConnectFailed { token, error } => self.dial_failed(now, token, &error, out),
            Input::Accepted { conn, .. } => self.accepted(now, conn),
            Input::Closed { conn, reason } => self.closed(now, conn, &reason, out),
            Input::Message { conn, message } => self.message(now, conn, message, out),
            Input::Command(Command::Stop) => self.stop_node(out),
            Input::Command(Command::StopCluster) => self.stop_cluster(now, out),
            Input::Command(Command::External(bytes)) => self.election_external(now, bytes, out),
            Input::Done(never) => match never {},
            Input::Timer => self.timer(now, out),
        }
        if !matches!(self.phase, Phase::Stopped) {
            // What was asked for by what was done is due at once.
            self.masters_timer(now, out);
        }
        if !is_gathered {
            self.nodes.publish(out);
        }
        self.report(out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Recovering(recovering) => recovering.deadline(),
            Phase::Running(running) => running.deadline(&self.settings),
            Phase::Ending(ending) => Some(ending.deadline),
            Phase::Stopped => return None,
            Phase::Idle { .. } | Phase::Verifying(_) => None,
        };
        let identification = self.deadlines.first().map(|(deadline, _)| *deadline);
        let election = self.election.poll_timeout();
        let masters = self.links.deadline();
        [phase, identification, election, masters]
            .into_iter()
            .flatten()
            .min()
    }
}
