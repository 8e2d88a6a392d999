//! The link to the primary master: finding it, identification, nodes, the table, invalidations.

use std::collections::BTreeMap;
use std::time::Duration;

use neo_api::{
    Address, CellChange, ClusterState, NodeId, NodeState, NodeType, PartitionTable, Reign,
    SessionId, TableVersion, Tid,
};
use neo_proto::{
    ClusterIdentity, ConnId, ConnectToken, ErrorCode, Identification, NodeInfo, Packet,
};

use super::call::CallId;
use super::effect::Event;
use super::timer::TimerId;
use super::{ClientCore, Req, Timer, Todo, backoff};
use crate::error::Error;

/// How long a master that accepted the connection may take until the client can work: what it
/// tells is at hand.
const STARTING_MAX: Duration = Duration::from_secs(5);

/// A master that hangs, or whose machine is gone, is left for the next one after so long, which
/// doubles from round to round: the way to it may only be slow.
const DIAL_MIN: Duration = Duration::from_millis(300);

/// Most masters that are remembered.
const MASTERS_MAX: usize = 100;

#[derive(Debug)]
enum State {
    /// Between two attempts.
    Idle,
    Connecting(ConnectToken),
    /// Identification, then the cluster's information and the last tid.
    Starting(ConnId),
    Ready(ConnId),
}

#[derive(Debug)]
pub(super) struct MasterLink {
    masters: Vec<Address>,
    /// Position in `masters` of the next attempt.
    at: usize,
    attempts: u32,
    state: State,
    /// Rings when it has been starting for too long.
    starting: Option<TimerId>,
    /// Whether `first_sync` came.
    synced: bool,
    nid: Option<NodeId>,
    session: Option<(Reign, SessionId)>,
    identity: Option<ClusterIdentity>,
    cleared: bool,
    /// What the last attempt met, by position in `masters`.
    troubles: BTreeMap<usize, String>,
}

impl MasterLink {
    pub(super) const fn new(masters: Vec<Address>) -> Self {
        Self {
            masters,
            at: 0,
            attempts: 0,
            state: State::Idle,
            starting: None,
            synced: false,
            nid: None,
            session: None,
            identity: None,
            cleared: false,
            troubles: BTreeMap::new(),
        }
    }

    /// There are these masters; `true`: some were not known.
    fn learn(&mut self, masters: impl IntoIterator<Item = Address>) -> bool {
        let known = self.masters.len();
        for master in masters {
            if self.masters.len() < MASTERS_MAX && !self.masters.contains(&master) {
                self.masters.push(master);
            }
        }
        self.masters.len() > known
    }

    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    pub(super) const fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Starting(conn) | State::Ready(conn) => Some(conn),
            State::Idle | State::Connecting(_) => None,
        }
    }

    /// The connection, once it is ready.
    pub(super) const fn ready_conn(&self) -> Option<ConnId> {
        match self.state {
            State::Ready(conn) => Some(conn),
            _ => None,
        }
    }

    pub(super) const fn session(&self) -> Option<(Reign, SessionId)> {
        self.session
    }

    pub(super) const fn identity(&self) -> Option<&ClusterIdentity> {
        self.identity.as_ref()
    }

    /// Why there is no primary: what each master said, or why it could not be asked.
    pub(super) fn trouble(&self) -> String {
        let troubles: Vec<&str> = self.troubles.values().map(String::as_str).collect();
        troubles.join("; ")
    }
}

impl ClientCore {
    // --- finding the primary ---

    pub(super) fn master_connect(&mut self) {
        if !matches!(self.master.state, State::Idle) || self.master.masters.is_empty() {
            return;
        }
        let token = self.token();
        self.master.at %= self.master.masters.len();
        let to = self.master.masters[self.master.at].clone();
        self.master.state = State::Connecting(token);
        self.out.push(neo_proto::Effect::Connect { token, to });
        if self.master.masters.len() > 1 {
            let patience = DIAL_MIN.saturating_mul(1 << self.master_round().min(8));
            self.master.starting = Some(self.set_timer(patience, Timer::MasterStart));
        }
    }

    /// Another attempt: at once while there are masters that were not asked in this round.
    fn master_retry(&mut self, trouble: String) {
        tracing::debug!(%trouble, "no primary master yet");
        self.master.troubles.insert(self.master.at, trouble);
        self.master_started();
        self.master.state = State::Idle;
        self.master.at += 1;
        self.master.attempts += 1;
        self.set_timer(backoff(self.master_round()), Timer::MasterRetry);
    }

    /// How often all masters were tried.
    fn master_round(&self) -> u32 {
        self.master.attempts / u32::try_from(self.master.masters.len()).unwrap_or(1)
    }

    pub(super) fn connected(&mut self, token: ConnectToken, conn: ConnId) {
        if !matches!(self.master.state, State::Connecting(wanted) if wanted == token) {
            self.storage_connected(token, conn);
            return;
        }
        self.master_started();
        self.master.state = State::Starting(conn);
        self.master.synced = false;
        self.master.starting = Some(self.set_timer(STARTING_MAX, Timer::MasterStart));
        let identification = self.identify(None);
        self.ask_master(conn, Req::MasterIdentification, identification);
    }

    fn master_started(&mut self) {
        if let Some(timer) = self.master.starting.take() {
            self.timers.cancel(timer);
        }
    }

    /// A master that does not answer is not waited for, nor one that lives and does not tell what it
    /// should.
    pub(super) fn master_start_ended(&mut self) {
        self.master.starting = None;
        if let State::Connecting(_) = self.master.state {
            let at = self.master.at;
            let to = &self.master.masters[at];
            // What it said when it did answer says more.
            let said = self.master.troubles.get(&at).cloned();
            let trouble = said.unwrap_or_else(|| format!("the master at {to} does not answer"));
            self.master_retry(trouble);
        }
        if let State::Starting(conn) = self.master.state {
            let reason = format!("it did not tell about the cluster within {STARTING_MAX:?}");
            self.out.close(conn, reason.clone());
            self.master_lost(&reason);
        }
    }

    pub(super) fn connect_failed(&mut self, token: ConnectToken, error: &str) {
        if matches!(self.master.state, State::Connecting(wanted) if wanted == token) {
            let to = &self.master.masters[self.master.at];
            let trouble = format!("the master at {to} can't be reached: {error}");
            self.master_retry(trouble);
        } else {
            self.storage_connect_failed(token, error);
        }
    }

    /// What this client says of itself; `session` to storages.
    pub(super) fn identification(&self, session: Option<(Reign, SessionId)>) -> Identification {
        Identification {
            node_type: NodeType::Client,
            // A new id each time: whatever was of the old one is not confused with what begins now.
            nid: session.and(self.master.nid),
            address: None,
            cluster: self.settings.cluster.clone(),
            identity: self.master.identity.clone(),
            session,
            read_only: self.settings.read_only,
            topology: Vec::new(),
            masters: Vec::new(),
            new_nid: false,
            noted: None,
            is_full: false,
        }
    }

    pub(super) fn identify(&self, session: Option<(Reign, SessionId)>) -> Packet {
        Packet::RequestIdentification {
            identification: Box::new(self.identification(session)),
        }
    }

    pub(super) fn master_identified(&mut self, conn: ConnId, packet: Packet) {
        match packet {
            Packet::AcceptIdentification {
                your_nid,
                reign,
                session,
                identity,
                ..
            } => {
                if let Some(identity) = identity {
                    self.adopt_identity(identity);
                }
                self.master.nid = Some(your_nid);
                self.master.session = Some((reign, session));
                self.ask_master(conn, Req::FirstSync, Packet::AskLastTransaction {});
            }
            Packet::NotPrimaryMaster { primary, masters } => {
                self.learn_masters(masters.into_iter().chain(primary.clone()));
                self.out.close(conn, "not the primary master");
                let asked = self.master.masters[self.master.at].clone();
                self.master_retry(format!("{asked} is not the primary master"));
                // A primary that is told of is asked next.
                let told = primary.and_then(|p| self.master.masters.iter().position(|m| *m == p));
                if let Some(at) = told {
                    self.master.at = at;
                }
            }
            Packet::Error { code, message } => {
                self.out.close(conn, "refused");
                let asked = self.master.masters[self.master.at].clone();
                let words = format!("the master at {asked} says: {message}");
                if code == ErrorCode::OtherCluster {
                    tracing::error!(%words, "refused");
                    self.fail_waiting_calls(&Error::OtherCluster(words.clone()));
                }
                self.master_retry(words);
            }
            packet => {
                let reason = format!("{} is no answer to an identification", packet.name());
                self.protocol_violation(conn, reason);
            }
        }
    }

    /// Another chain of epochs than the one known: what is cached may be of a history that was
    /// given up.
    fn adopt_identity(&mut self, identity: ClusterIdentity) {
        let known = self.master.identity.replace(identity);
        if let (Some(known), Some(new)) = (known, &self.master.identity) {
            self.master.cleared |= known != *new;
        }
    }

    pub(super) fn first_sync(&mut self, tid: Tid) {
        self.master.synced = true;
        if std::mem::take(&mut self.master.cleared) || tid < self.last_tid {
            self.last_tid = tid;
            self.out.event(Event::Cleared { tid });
        } else if tid > self.last_tid {
            self.resync(tid);
        }
        self.become_ready();
    }

    /// Ready: identified, synced, with a table.
    fn become_ready(&mut self) {
        let State::Starting(conn) = self.master.state else {
            return;
        };
        let (true, Some(table), Some(nid)) = (self.master.synced, &self.table, self.master.nid)
        else {
            return;
        };
        let partitioning = table.partitioning();
        tracing::info!(%nid, last_tid = %self.last_tid, "the client is ready");
        self.master.state = State::Ready(conn);
        self.master.attempts = 0;
        self.master.troubles.clear();
        self.master_started();
        self.out.event(Event::Ready { nid, partitioning });
        self.are_routes_new = true;
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        for call in calls {
            self.call_send(call);
        }
        self.todo
            .extend(self.reads.keys().map(|read| Todo::Read(*read)));
        self.todo
            .extend(self.txns.keys().map(|txn| Todo::Outcome(*txn)));
    }

    pub(super) fn master_lost(&mut self, reason: &str) {
        let was_ready = self.master.is_ready();
        let trouble = format!("the connection to the primary master was lost: {reason}");
        tracing::info!(%reason, "lost the primary master");
        self.master_retry(trouble.clone());
        self.master.session = None;
        self.master.nid = None;
        self.table = None;
        self.nodes.clear();
        // The primary tells the storages that this client is gone; they close too.
        for conn in std::mem::take(&mut self.storage_conns).into_keys() {
            self.out
                .close(conn, "the connection to the primary master was lost");
        }
        for (_, link) in std::mem::take(&mut self.storages) {
            link.cancel_timers(&mut self.timers);
        }
        self.requests.clear();
        self.batches.clear();
        self.loads_to_ask.clear();
        for call in self.calls.values_mut() {
            call.waiting = true;
        }
        self.reads_wait();
        self.txns_without_master(&trouble);
        self.imports_without_master(&trouble);
        if was_ready {
            self.are_routes_new = true;
            self.out.event(Event::NotReady { reason: trouble });
        }
    }

    // --- what the primary tells ---

    pub(super) fn notification_of_master(&mut self, conn: ConnId, packet: Packet) {
        match packet {
            Packet::NotifyNodeInformation { full, nodes } => self.node_information(full, nodes),
            Packet::NotifyClusterInformation { state, .. } => self.cluster_information(conn, state),
            Packet::SendPartitionTable { identity, table } => {
                if let Err(error) = table.check() {
                    self.protocol_violation(conn, error.to_string());
                    return;
                }
                if let Some(identity) = identity {
                    self.adopt_identity(identity);
                }
                self.table_changed(*table);
                self.become_ready();
            }
            Packet::NotifyPartitionChanges {
                base,
                version,
                replicas,
                changes,
            } => self.partition_changes(conn, base, version, replicas, &changes),
            Packet::StopOperation {} => {
                self.out.close(conn, "the cluster stops serving");
                self.master_lost("the cluster does not serve any more");
            }
            // Before the first sync, they are part of what it tells.
            Packet::InvalidateObjects { .. } | Packet::InvalidateAll { .. }
                if !self.master.synced => {}
            Packet::InvalidateObjects { tid, mut oids } => {
                if self.settings.mutations.no_invalidation {
                    oids.0.clear();
                }
                self.invalidate(tid, &oids.0);
                self.out.event(Event::Invalidated { tid, oids: oids.0 });
            }
            Packet::InvalidateAll { tid } => self.resync(tid),
            packet => {
                let reason = format!("{} is not for a client", packet.name());
                self.protocol_violation(conn, reason);
            }
        }
    }

    fn node_information(&mut self, full: bool, nodes: Vec<NodeInfo>) {
        let before = self.nodes.clone();
        if full {
            self.nodes.clear();
        }
        for node in nodes {
            if node.state == NodeState::Unknown {
                self.nodes.remove(&node.nid);
            } else {
                self.nodes.insert(node.nid, node);
            }
        }
        if let Some(conn) = self.master.conn()
            && let Some(nid) = self.master.nid
            && self
                .nodes
                .get(&nid)
                .is_some_and(|n| n.state == NodeState::Down)
        {
            self.out.close(conn, "expelled");
            self.master_lost("the primary master has expelled this client");
            return;
        }
        let masters = self
            .nodes
            .values()
            .filter(|n| n.node_type() == NodeType::Master);
        let addresses: Vec<Address> = masters.filter_map(|n| n.address.clone()).collect();
        self.learn_masters(addresses);
        self.are_routes_new = true;
        self.storages_changed(&before);
    }

    fn learn_masters(&mut self, masters: impl IntoIterator<Item = Address>) {
        if self.master.learn(masters) {
            let masters = self.master.masters.clone();
            self.out.event(Event::Masters(masters));
        }
    }

    fn cluster_information(&mut self, conn: ConnId, state: ClusterState) {
        match state {
            ClusterState::Recovering | ClusterState::Verifying if self.master.is_ready() => {
                self.out.close(conn, "the cluster stops serving");
                self.master_lost(&format!("the cluster is {state}"));
            }
            // While STOPPING, second phases go on; the primary refuses to begin others.
            _ => {}
        }
    }

    fn table_changed(&mut self, table: PartitionTable) {
        self.table = Some(table);
        self.are_routes_new = true;
    }

    fn partition_changes(
        &mut self,
        conn: ConnId,
        base: TableVersion,
        version: TableVersion,
        replicas: u32,
        changes: &[CellChange],
    ) {
        self.are_routes_new = true;
        let applied = match &mut self.table {
            Some(table) if table.version == base => table
                .apply(version, replicas, changes)
                .map_err(|error| error.to_string()),
            Some(table) => Err(format!(
                "partition changes start from {base}, the table here is {}",
                table.version
            )),
            None => Err("partition changes without a table".to_owned()),
        };
        // A table that can't be followed is asked for anew.
        if let Err(reason) = applied {
            self.protocol_violation(conn, reason);
        }
    }

    /// Everything up to `tid` is known: loads in flight may have missed the changes of these.
    pub(super) fn invalidate(&mut self, tid: Tid, oids: &[neo_api::Oid]) {
        self.note_in_loads(tid, oids);
        self.last_tid = self.last_tid.max(tid);
    }

    /// Transactions were missed, up to `tid`.
    pub(super) fn resync(&mut self, tid: Tid) {
        let known = self.last_tid;
        self.last_tid = known.max(tid);
        self.note_gap_in_loads(known);
        self.out.event(Event::Resynced {
            known,
            tid: self.last_tid,
        });
    }
}
