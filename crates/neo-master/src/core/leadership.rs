//! Being the primary, or not: what the election says is done.

use bytes::Bytes;
use neo_api::{Address, ClusterState, ElectionEffect, ElectionInput, NodeState, NodeType, Now};
use neo_proto::{ConnId, Packet};

use super::effect::Out;
use super::node_manager::Node;
use super::{MasterCore, Phase};

impl MasterCore {
    pub(super) fn start_election(&mut self, now: Now, out: &mut Out) {
        let peers = self.settings.masters.iter();
        let peers = peers.filter(|peer| **peer != self.own).cloned().collect();
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
        self.elect(now, ElectionInput::Cluster(state), out);
    }

    fn elect(&mut self, now: Now, input: ElectionInput, out: &mut Out) {
        let mut effects = Vec::new();
        self.election.handle(now.mono, input, &mut effects);
        for effect in effects {
            match effect {
                ElectionEffect::Lead => self.lead(now, out),
                ElectionEffect::Follow(primary) => self.step_down(Some(primary), out),
                ElectionEffect::StepDown => self.step_down(None, out),
                // Masters do not talk to each other: elections that need it are not served.
                other => {
                    tracing::warn!(?other, "not carried out: masters do not talk to each other")
                }
            }
        }
    }

    fn lead(&mut self, now: Now, out: &mut Out) {
        if !matches!(self.phase, Phase::Idle { .. }) {
            return;
        }
        tracing::info!(nid = %self.nid, own = %self.own, "primary master");
        let mut node = Node::down(Some(self.own.clone()));
        node.state = NodeState::Running;
        self.nodes.insert(self.nid, node);
        self.enter_recovering(now, out);
    }

    fn step_down(&mut self, primary: Option<Address>, out: &mut Out) {
        if let Phase::Idle { primary: known } = &mut self.phase {
            *known = primary;
            return;
        }
        tracing::info!(?primary, "not the primary master any more");
        self.close_all("this master is not the primary any more", out);
        self.nodes.remove(self.nid);
        self.phase = Phase::Idle { primary };
    }

    /// Starts over: looks for the newest partition table.
    pub(super) fn enter_recovering(&mut self, now: Now, out: &mut Out) {
        if self.settings.mutations.no_floor {
            self.table = None;
        }
        self.phase = Phase::Recovering(Box::default());
        self.nodes.publish(out);
        self.announce_state(now, out);
        self.recovery_step(now, out);
    }

    /// The cluster can't be served any more: back to RECOVERING, with the own partition table as
    /// the floor.
    pub(super) fn fall_back(&mut self, now: Now, words: &str, out: &mut Out) {
        tracing::warn!(words, "back to RECOVERING");
        let stop = matches!(self.phase, Phase::Running(_));
        if let Phase::Running(running) = &self.phase {
            self.oid_floor = self.oid_floor.max(running.oids.floor());
        }
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
        if let Phase::Running(running) = &self.phase {
            self.oid_floor = self.oid_floor.max(running.oids.floor());
        }
        self.close_all(words, out);
        self.enter_recovering(now, out);
    }

    /// Closes every connection; nobody is told anything.
    pub(super) fn close_all(&mut self, words: &str, out: &mut Out) {
        let conns: Vec<ConnId> = self.peers.keys().copied().collect();
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

    /// Closes a connection without dealing with its loss.
    pub(super) fn close_quietly(&mut self, conn: ConnId, words: &str, out: &mut Out) {
        if self.forget_peer(conn).is_some() {
            out.close(conn, words);
        }
    }
}
