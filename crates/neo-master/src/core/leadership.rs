//! Being the primary, or not: what the election says is done.

use bytes::Bytes;
use neo_api::{Address, ClusterState, ElectionEffect, ElectionInput, NodeState, NodeType, Now};
use neo_proto::{ConnId, Packet};

use super::effect::Out;
use super::identification::Peer;
use super::node_manager::Node;
use super::{MasterCore, Phase};

impl MasterCore {
    pub(super) fn start_election(&mut self, now: Now, out: &mut Out) {
        let peers = self.settings.masters.iter();
        let peers = peers.filter(|peer| **peer != self.own).cloned().collect();
        self.note_masters();
        let own = self.own.clone();
        self.elect(now, ElectionInput::Started { own, peers }, out);
    }

    pub(super) fn election_timer(&mut self, now: Now, out: &mut Out) {
        if self
            .election
            .poll_timeout()
            .is_some_and(|at| at <= now.mono)
        {
            self.elect(now, ElectionInput::Timer, out);
        }
    }

    pub(super) fn election_external(&mut self, now: Now, bytes: Bytes, out: &mut Out) {
        self.elect(now, ElectionInput::External(bytes), out);
    }

    pub(super) fn tell_election_of_state(&mut self, now: Now, state: ClusterState, out: &mut Out) {
        let input = ElectionInput::Cluster {
            state,
            epoch: self.epochs() as u64,
            reign: self.reign,
        };
        self.elect(now, input, out);
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle { .. })
    }

    pub(super) fn elect(&mut self, now: Now, input: ElectionInput, out: &mut Out) {
        let mut effects = Vec::new();
        self.election.handle(now.mono, input, &mut effects);
        for effect in effects {
            match effect {
                ElectionEffect::Lead => self.lead(now, out),
                ElectionEffect::Follow(primary) => self.step_down(Some(primary), out),
                ElectionEffect::StepDown => self.step_down(None, out),
                ElectionEffect::Connect(address) => self.masters_connect(now, address),
                ElectionEffect::Send { to, message } => self.say(&to, message, out),
                other => tracing::error!(?other, "an effect of the election is not known here"),
            }
        }
    }

    fn lead(&mut self, now: Now, out: &mut Out) {
        if !self.is_idle() {
            return;
        }
        if let Some(nid) = self.master_nid(&self.own, Some(self.nid)) {
            self.nid = nid;
        }
        tracing::info!(nid = %self.nid, own = %self.own, "this is the primary master");
        self.nodes.masters_down();
        let mut node = Node::down(Some(self.own.clone()));
        node.state = NodeState::Running;
        self.nodes.insert(self.nid, node);
        self.enter_recovering(now, out);
        if self.is_idle() {
            return;
        }
        let connected = self.links.connected();
        let connected: Vec<_> = connected.map(|(to, conn)| (to.clone(), conn)).collect();
        for (master, conn) in connected {
            self.adopt_master(now, &master, conn, out);
        }
    }

    /// Leads no more. A secondary holds nothing: what the cluster is, its storage nodes know.
    fn step_down(&mut self, primary: Option<Address>, out: &mut Out) {
        match &self.phase {
            Phase::Idle { primary: known } if *known == primary => return,
            Phase::Idle { .. } => {}
            // Nobody else is to lead a cluster that ends.
            Phase::Ending(_) | Phase::Stopped => return,
            Phase::Recovering(_) | Phase::Verifying(_) | Phase::Running(_) => {
                let words = "this master is not the primary any more";
                self.note_oids();
                self.give_up_orders(words, out);
                self.close_all(words, out);
                self.nodes.only_masters();
                self.own_ways.clear();
                self.identity = None;
                self.table = None;
                self.table_epochs = 0;
            }
        }
        match &primary {
            Some(primary) => tracing::info!(%primary, "a secondary master: another one leads"),
            None => tracing::info!("no primary master is known: looking for one"),
        }
        self.phase = Phase::Idle { primary };
        self.heed_primary(out);
    }

    /// Oids that were handed out are not handed out again by this process, whatever storage nodes
    /// remember.
    fn note_oids(&mut self) {
        if let Phase::Running(running) = &self.phase {
            self.oid_floor = self.oid_floor.max(running.oids.floor());
        }
    }

    /// Starts over: looks for the newest partition table.
    pub(super) fn enter_recovering(&mut self, now: Now, out: &mut Out) {
        if self.settings.mutations.no_floor {
            self.table = None;
        }
        self.phase = Phase::Recovering(Box::default());
        self.nodes.gather();
        self.nodes.publish(out);
        self.announce_state(now, out);
        self.recovery_step(now, out);
    }

    /// The cluster can't be served any more: back to RECOVERING, with the own partition table as
    /// the floor.
    pub(super) fn fall_back(&mut self, now: Now, words: &str, out: &mut Out) {
        tracing::warn!(words, "back to RECOVERING");
        let stop = matches!(self.phase, Phase::Running(_));
        self.note_oids();
        self.give_up_orders(&format!("back to RECOVERING: {words}"), out);
        for node_type in [NodeType::Client, NodeType::Storage] {
            let online: Vec<_> = self.nodes.online(node_type).collect();
            for (nid, conn) in online {
                if stop {
                    out.notify(conn, Packet::StopOperation {});
                }
                self.close_quietly(conn, words, out);
                if node_type == NodeType::Client {
                    self.nodes.remove(nid);
                } else {
                    self.nodes.set_down(nid);
                }
            }
        }
        self.surveys.clear();
        self.enter_recovering(now, out);
    }

    /// Another primary rules, or ruled later: this one answers nothing, closes everything and
    /// starts over.
    pub(super) fn deposed(&mut self, now: Now, words: &str, out: &mut Out) {
        tracing::error!(reign = %self.reign, words, "this primary is deposed");
        self.note_oids();
        self.give_up_orders(words, out);
        self.close_all(words, out);
        self.enter_recovering(now, out);
    }

    /// Closes every connection but those to other masters; nobody is told anything.
    pub(super) fn close_all(&mut self, words: &str, out: &mut Out) {
        let others = self.peers.iter();
        let others = others.filter(|(_, peer)| !matches!(peer, Peer::Master));
        let conns: Vec<ConnId> = others.map(|(conn, _)| *conn).collect();
        for conn in conns {
            self.close_quietly(conn, words, out);
        }
        for node_type in [NodeType::Storage, NodeType::Client, NodeType::Admin] {
            let online: Vec<_> = self.nodes.online(node_type).collect();
            for (nid, _) in online {
                if node_type == NodeType::Storage {
                    self.nodes.set_down(nid);
                } else {
                    self.nodes.remove(nid);
                }
            }
        }
        self.surveys.clear();
    }

    /// Closes the connections to other masters: this one ends.
    pub(super) fn leave_masters(&mut self, words: &str, out: &mut Out) {
        let masters = self.peers.iter();
        let masters = masters.filter(|(_, peer)| matches!(peer, Peer::Master));
        let conns: Vec<ConnId> = masters.map(|(conn, _)| *conn).collect();
        for conn in conns {
            self.close_quietly(conn, words, out);
        }
    }

    /// Closes a connection without dealing with its loss.
    pub(super) fn close_quietly(&mut self, conn: ConnId, words: &str, out: &mut Out) {
        if self.forget_peer(conn).is_some() {
            out.close(conn, words);
        }
    }
}
