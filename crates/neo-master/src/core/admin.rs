//! What an operator may ask, through an admin node.

use std::collections::BTreeSet;

use neo_api::{ClusterState, NodeId, NodeState, NodeType, Now};
use neo_proto::{ConnId, ErrorCode, MsgId, Packet};

use super::effect::Out;
use super::{MasterCore, Phase};

impl MasterCore {
    pub(super) fn admin_message(
        &mut self,
        now: Now,
        conn: ConnId,
        id: MsgId,
        packet: Packet,
        out: &mut Out,
    ) {
        if changes_table(&packet) && self.is_table_changing() {
            if let Err(words) = self.postpone(conn, id, packet) {
                answer(conn, id, Err(words), out);
            }
            return;
        }
        match packet {
            Packet::SetClusterState { state } => self.set_cluster_state(now, conn, id, state, out),
            Packet::SetNodeState { nid, state } => {
                let done = self.set_node_state(now, nid, state, out);
                answer(conn, id, done, out);
            }
            Packet::AskLastIds {} => self.last_ids(conn, id, out),
            Packet::AskPackProgress {} => self.pack_progress(conn, id, out),
            Packet::AskLastTransaction {} if matches!(self.phase, Phase::Running(_)) => {
                let tid = self.tids.last();
                out.send(conn, id, Packet::AnswerLastTransaction { tid });
            }
            Packet::AskLastTransaction {} => {
                let message = self.not_ready();
                let code = ErrorCode::NotReady;
                out.send(conn, id, Packet::Error { code, message });
            }
            Packet::AddPendingNodes { nodes } => {
                if let Err(words) = self.add_nodes(now, (conn, id), &nodes, out) {
                    answer(conn, id, Err(words), out);
                }
            }
            Packet::SetNumReplicas { replicas } => {
                let done = self.set_replicas(replicas, out);
                answer(conn, id, done, out);
            }
            Packet::TweakPartitionTable { dry_run, ignore } => {
                match self.tweak_table(now, dry_run, &ignore, out) {
                    Ok(packet) => out.send(conn, id, packet),
                    Err(words) => answer(conn, id, Err(words), out),
                }
            }
            other => {
                let words = format!("unexpected {} from an admin node", other.name());
                self.violation(now, conn, id, &words, out);
            }
        }
    }

    fn set_cluster_state(
        &mut self,
        now: Now,
        conn: ConnId,
        id: MsgId,
        state: ClusterState,
        out: &mut Out,
    ) {
        match state {
            ClusterState::Verifying => self.recovery_start(now, conn, id, out),
            ClusterState::Stopping if self.is_stopping() => {
                answer(
                    conn,
                    id,
                    Err("the cluster is stopping already".to_owned()),
                    out,
                );
            }
            ClusterState::Stopping => {
                answer(conn, id, Ok("the cluster is stopping".to_owned()), out);
                self.stop_cluster(now, out);
            }
            other => {
                let words = format!(
                    "the cluster can't be set {other}: it can be started (VERIFYING) and stopped \
                     (STOPPING)"
                );
                answer(conn, id, Err(words), out);
            }
        }
    }

    fn set_node_state(
        &mut self,
        now: Now,
        nid: NodeId,
        state: NodeState,
        out: &mut Out,
    ) -> Result<String, String> {
        if self.nodes.get(nid).is_none() {
            return Err(format!("{nid} is not known"));
        }
        match (nid.node_type(), state) {
            (NodeType::Storage, NodeState::Down) => self.kill(now, nid, out),
            (NodeType::Master, NodeState::Down) => self.kill_master(now, nid, out),
            (NodeType::Storage, NodeState::Unknown) => self.drop_node(now, nid, out),
            (NodeType::Client, NodeState::Down | NodeState::Unknown) => {
                if let Some(conn) = self.nodes.conn(nid) {
                    self.disconnect(now, conn, "the operator disconnected it", out);
                }
                Ok(format!("{nid} is disconnected"))
            }
            (NodeType::Storage, NodeState::Running) => {
                Err("storage nodes become RUNNING when they are added".to_owned())
            }
            (NodeType::Master, NodeState::Unknown) => Err(format!(
                "{nid} is a master: it has no cells, and there is nothing to forget of it"
            )),
            (NodeType::Admin, NodeState::Down | NodeState::Unknown) => Err(format!(
                "{nid} is an admin node: it ends when its process is stopped, and is forgotten then"
            )),
            (_, state) => Err(format!("{nid} can't be set {state}")),
        }
    }

    /// A storage node must be spared by every partition, in the state that the cluster is in.
    fn can_be_spared(&self, nid: NodeId) -> Result<(), String> {
        let running = match &self.phase {
            Phase::Running(running) => running,
            _ if self.table.as_ref().is_some_and(|table| table.has_node(nid)) => {
                return Err(format!("{nid} has cells, and the cluster does not run"));
            }
            _ => return Ok(()),
        };
        let up = |nid| running.operating.contains_key(&nid);
        let lost = BTreeSet::from([nid]);
        match self
            .table
            .as_ref()
            .and_then(|table| table.bereft(&lost, up))
        {
            Some(partition) => Err(format!(
                "{nid} can't be spared: partition {partition} would have no readable cell"
            )),
            None => Ok(()),
        }
    }

    fn kill(&mut self, now: Now, nid: NodeId, out: &mut Out) -> Result<String, String> {
        if self.nodes.conn(nid).is_none() {
            return Err(format!("{nid} is not connected"));
        }
        self.can_be_spared(nid)?;
        self.nodes.tell_itself(nid, NodeState::Down, out);
        if let Some(conn) = self.nodes.conn(nid) {
            self.disconnect(now, conn, "the operator stopped it", out);
        }
        Ok(format!("{nid} is DOWN"))
    }

    fn kill_master(&mut self, now: Now, nid: NodeId, out: &mut Out) -> Result<String, String> {
        if nid == self.nid {
            return Err(format!(
                "the primary master can't be stopped so: {nid} leads; another one takes over when \
                 its process is stopped"
            ));
        }
        let conn = self.nodes.conn(nid);
        let conn = conn.ok_or_else(|| format!("{nid} is not connected"))?;
        self.nodes.tell_itself(nid, NodeState::Down, out);
        self.disconnect(now, conn, "the operator stopped it", out);
        Ok(format!("{nid} is DOWN"))
    }

    fn drop_node(&mut self, now: Now, nid: NodeId, out: &mut Out) -> Result<String, String> {
        if self
            .nodes
            .get(nid)
            .is_some_and(|node| node.state == NodeState::Running)
        {
            return Err(format!(
                "{nid} is running: stop it first, as by neoctl kill {nid}"
            ));
        }
        self.can_be_spared(nid)?;
        self.nodes.tell_itself(nid, NodeState::Unknown, out);
        if let Some(conn) = self.nodes.conn(nid) {
            self.disconnect(now, conn, "the operator dropped it", out);
        }
        let changes = self.table.as_ref().map(|table| table.discard(nid));
        self.change_table(&changes.unwrap_or_default(), out);
        self.nodes.remove(nid);
        if let Some(running) = self.running() {
            running.auto_tweak.forget(nid);
        }
        Ok(format!("{nid} is dropped: its cells are gone"))
    }
}

/// Whether a command waits while the partition table changes.
const fn changes_table(packet: &Packet) -> bool {
    match packet {
        Packet::SetNodeState { state, .. } => matches!(state, NodeState::Unknown),
        Packet::SetNumReplicas { .. } | Packet::TweakPartitionTable { .. } => true,
        _ => false,
    }
}

fn answer(conn: ConnId, id: MsgId, done: Result<String, String>, out: &mut Out) {
    let packet = match done {
        Ok(message) => Packet::AnswerDone { message },
        Err(message) => {
            let code = ErrorCode::Denied;
            Packet::Error { code, message }
        }
    };
    out.send(conn, id, packet);
}
