//! The admin node, pure: it follows the primary master, and answers or relays commands.

mod effect;
mod link;
mod operator;
mod view;

#[cfg(test)]
mod core_test;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use neo_api::{Address, ClusterState, Instant, NodeId, NodeState, NodeType, Now};
use neo_proto::{
    ConnId, Core, Effect, Effects, ErrorCode, Identification, Input, Message, MsgId, Packet, shown,
};
use tracing::{info, warn};

pub use self::effect::{AdminCommand, AdminSettings, AdminStatus};
use self::link::{Link, Stage};
use self::operator::Relay;
use self::view::View;

/// Most control connections at once; one more takes the place of the one that waits for nothing
/// for the longest time, so that a crowd of silent ones keeps no operator out.
const CONTROLS_MAX: usize = 256;

/// The pure core of an admin node.
#[derive(Debug)]
pub struct AdminCore {
    settings: AdminSettings,
    address: Address,
    link: Link,
    view: View,
    nid: Option<NodeId>,
    ids: u64,
    controls: BTreeSet<ConnId>,
    relays: BTreeMap<MsgId, Relay>,
    told: AdminStatus,
    /// The cluster stops: this node follows once its commands are answered.
    stopping: bool,
    ended: bool,
    /// Why the last attempts failed, so that it is logged once.
    trouble: Option<String>,
}

type Out = Effects<AdminCore>;

impl AdminCore {
    /// A node that listens at `address`, and has not done anything yet.
    ///
    /// # Panics
    /// When the settings name no master.
    #[must_use]
    pub fn new(settings: AdminSettings, address: Address) -> Self {
        assert!(!settings.masters.is_empty(), "an admin node needs a master");
        Self {
            link: Link::new(settings.masters.clone()),
            settings,
            address,
            view: View::default(),
            nid: None,
            ids: 0,
            controls: BTreeSet::new(),
            relays: BTreeMap::new(),
            told: AdminStatus::default(),
            stopping: false,
            ended: false,
            trouble: None,
        }
    }

    fn status(&self) -> AdminStatus {
        match self.link.stage() {
            Stage::Up { primary, .. } => AdminStatus {
                connected: true,
                primary,
                state: self.view.state,
                masters: self.link.masters().to_vec(),
            },
            _ => AdminStatus {
                masters: self.link.masters().to_vec(),
                ..AdminStatus::default()
            },
        }
    }

    fn next_id(&mut self) -> MsgId {
        self.ids += 1;
        MsgId(self.ids)
    }

    fn identify(&self, conn: ConnId, id: MsgId, out: &mut Out) {
        let identification = Identification {
            node_type: NodeType::Admin,
            // The id of an earlier identification is asked for again: logs stay readable.
            nid: self.nid.or(self.settings.nid),
            address: Some(self.address.clone()),
            cluster: self.settings.cluster.clone(),
            identity: None,
            session: None,
            read_only: false,
            topology: Vec::new(),
            masters: Vec::new(),
            new_nid: false,
            noted: None,
            is_full: false,
        };
        let identification = Box::new(identification);
        out.send(conn, id, Packet::RequestIdentification { identification });
    }

    /// The answer to the request for identification.
    fn identification_answered(&mut self, now: Now, conn: ConnId, packet: Packet, out: &mut Out) {
        let master = self.link.master().clone();
        match packet {
            Packet::AcceptIdentification {
                node_type: NodeType::Master,
                nid,
                your_nid,
                ..
            } => {
                info!(%master, nid = %your_nid, "connected to the primary master");
                self.nid = Some(your_nid);
                self.trouble = None;
                self.link.identified(now.mono, conn, nid);
            }
            Packet::NotPrimaryMaster { primary, masters } => {
                out.close(conn, "it is not the primary master");
                self.link.redirected(now.mono, primary, masters);
            }
            Packet::Error {
                code: ErrorCode::OtherCluster,
                message,
            } => {
                // Trying again can't help: the settings are of another cluster.
                let failure = Some(format!("the master at {master} refuses: {message}"));
                self.ended = true;
                out.push(Effect::Stop { failure });
            }
            Packet::Error { code, message } => {
                let words = format!("{code}: {}", shown(&message));
                self.warn_once(format!("the master at {master} refuses: {words}"));
                // A number that is taken meanwhile is not insisted on.
                self.nid = None;
                out.close(conn, "refused");
                self.link.lost(now.mono, &format!("it refuses: {words}"));
            }
            other => {
                let packet = other.name();
                self.warn_once(format!("the master at {master} answers by {packet}"));
                out.close(conn, "unexpected answer to an identification");
                self.link.lost(now.mono, &format!("it answers by {packet}"));
            }
        }
    }

    fn primary_lost(&mut self, now: Instant, reason: &str, out: &mut Out) {
        if self.link.up().is_some() {
            info!(reason, "the primary master is lost");
        }
        self.link
            .lost(now, &format!("the connection ended: {}", shown(reason)));
        self.view = View::default();
        let stopping = self.stopping;
        for (_, relay) in std::mem::take(&mut self.relays) {
            let packet = if relay.stops && stopping {
                let message = "Cluster state changed".to_owned();
                Packet::AnswerDone { message }
            } else {
                not_ready("the primary master was lost before it answered")
            };
            if self.controls.contains(&relay.control) {
                out.send(relay.control, relay.id, packet);
            }
        }
    }

    fn of_primary(&mut self, now: Now, conn: ConnId, message: Message, out: &mut Out) {
        let Message { id, packet, .. } = message;
        let result = match packet {
            Packet::NotifyNodeInformation { full, nodes } => {
                self.nodes_changed(full, nodes, out);
                Ok(())
            }
            Packet::NotifyClusterInformation { state, waiting } => {
                self.view.state = Some(state);
                self.view.waiting = waiting;
                self.stopping |= state == ClusterState::Stopping;
                Ok(())
            }
            Packet::SendPartitionTable { table, .. } => self.view.set_table(table),
            Packet::NotifyPartitionChanges {
                base,
                version,
                replicas,
                changes,
            } => self.view.change_table(base, version, replicas, &changes),
            Packet::StopOperation {} => Ok(()),
            answer if answer.is_answer() => match self.relays.remove(&id) {
                Some(relay) => {
                    if self.controls.contains(&relay.control) {
                        out.send(relay.control, relay.id, answer);
                    }
                    Ok(())
                }
                None => Err(format!("{} to no request", answer.name())),
            },
            other => {
                let problem = format!("{} is not for an admin node", other.name());
                if id != MsgId(0) {
                    out.send(conn, id, protocol_error(&problem));
                }
                Err(problem)
            }
        };
        if let Err(problem) = result {
            warn!(problem, "the primary master breaks the protocol");
            out.close(conn, &*problem);
            self.primary_lost(now.mono, &problem, out);
        }
    }

    fn nodes_changed(&mut self, full: bool, nodes: Vec<neo_proto::NodeInfo>, out: &mut Out) {
        let own = nodes.iter().find(|node| Some(node.nid) == self.nid);
        let gone = |state| matches!(state, NodeState::Down | NodeState::Unknown);
        if own.is_some_and(|own| gone(own.state)) {
            info!("told by the primary master to stop");
            self.stop(out);
            return;
        }
        let masters = nodes.iter().filter(|n| n.node_type() == NodeType::Master);
        self.link
            .learn(masters.filter_map(|node| node.address.as_ref()));
        self.view.update_nodes(full, nodes);
    }

    /// Ends the node; what was answered goes out first.
    fn stop(&mut self, out: &mut Out) {
        let controls = std::mem::take(&mut self.controls);
        for conn in controls.into_iter().chain(self.link.conn()) {
            out.close(conn, "the admin node stops");
        }
        self.ended = true;
        out.push(Effect::Stop { failure: None });
    }

    fn warn_once(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            warn!("{trouble}");
            self.trouble = Some(trouble);
        }
    }

    fn accepted(&mut self, conn: ConnId, out: &mut Out) {
        if self.controls.len() >= CONTROLS_MAX {
            let waits = |control: &ConnId| self.relays.values().any(|r| r.control == *control);
            let idle = self
                .controls
                .iter()
                .copied()
                .find(|control| !waits(control));
            let Some(idle) = idle else {
                warn!("too many control connections: refusing one");
                return out.close(conn, "too many control connections");
            };
            warn!("too many control connections: closing one that asked nothing");
            self.controls.remove(&idle);
            out.close(idle, "too many control connections");
        }
        self.controls.insert(conn);
    }

    fn connected(&mut self, token: neo_proto::ConnectToken, conn: ConnId, out: &mut Out) {
        let id = self.next_id();
        if self.link.connected(token, conn, id) {
            self.identify(conn, id, out);
        } else {
            out.close(conn, "not needed any more");
        }
    }

    fn message(&mut self, now: Now, conn: ConnId, message: Message, out: &mut Out) {
        let payload = message.payload.len() as u64;
        match self.link.stage() {
            Stage::Identifying(link, id) if link == conn => {
                if message.id == id && message.packet.is_answer() {
                    self.identification_answered(now, conn, message.packet, out);
                } else {
                    let words = "it says something else than who it is";
                    out.close(conn, words);
                    self.link.lost(now.mono, words);
                }
            }
            Stage::Up { conn: link, .. } if link == conn => {
                self.of_primary(now, conn, message, out);
            }
            _ if self.controls.contains(&conn) => self.of_control(conn, message, out),
            _ => {}
        }
        if payload > 0 {
            let bytes = payload;
            out.push(Effect::Consumed { conn, bytes });
        }
    }
}

impl Core for AdminCore {
    type Command = AdminCommand;
    type Event = AdminStatus;
    type Job = Infallible;
    type Done = Infallible;

    fn handle(&mut self, now: Now, input: Input<Self>, out: &mut Out) {
        if self.ended {
            return;
        }
        match input {
            Input::Connected { token, conn } => self.connected(token, conn, out),
            Input::ConnectFailed { token, error } => {
                if self.link.stage() == Stage::Connecting(token) {
                    let master = self.link.master();
                    self.warn_once(format!("cannot connect to the master at {master}: {error}"));
                    self.link.lost(now.mono, &error);
                }
            }
            Input::Accepted { conn, .. } => self.accepted(conn, out),
            Input::Closed { conn, reason } => {
                self.controls.remove(&conn);
                if self.link.conn() == Some(conn) {
                    self.primary_lost(now.mono, &reason, out);
                }
            }
            Input::Message { conn, message } => self.message(now, conn, message, out),
            Input::Command(AdminCommand::Stop) => self.stop(out),
            Input::Done(never) => match never {},
            Input::Timer => {}
        }
        if self.ended {
            return;
        }
        // A command may wait for its answer still; it comes, or the primary ends.
        if self.stopping && self.relays.is_empty() {
            info!("the cluster stops");
            self.tell(out);
            self.stop(out);
            return;
        }
        if let Some((token, to)) = self.link.connect(now.mono) {
            out.push(Effect::Connect { token, to });
        }
        self.tell(out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.link.poll_timeout()
    }
}

impl AdminCore {
    fn tell(&mut self, out: &mut Out) {
        let status = self.status();
        if status != self.told {
            self.told = status.clone();
            out.event(status);
        }
    }
}

fn not_ready(message: &str) -> Packet {
    Packet::Error {
        code: ErrorCode::NotReady,
        message: message.to_owned(),
    }
}

fn protocol_error(message: &str) -> Packet {
    Packet::Error {
        code: ErrorCode::Protocol,
        message: message.to_owned(),
    }
}
