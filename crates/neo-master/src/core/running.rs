//! RUNNING: the storage nodes that take part, and their loss.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use neo_api::{
    CellChange, ClusterState, Instant, NodeId, NodeState, NodeType, Now, Ptid, TableVersion, Tid,
};
use neo_proto::{ClusterIdentity, ConnId, MsgId, Packet, WireLastIds};

use super::effect::Out;
use super::identification::Kinship;
use super::import::Import;
use super::oids::Oids;
use super::survey::base_after;
use super::transaction_manager::{Asker, DelayedVote, TransactionManager};
use super::{MasterCore, Phase};
use crate::config::MasterSettings;

/// All that a primary needs while it serves.
#[derive(Debug)]
pub(crate) struct Running {
    /// Names this period of service.
    pub(crate) operation: u64,
    /// Nodes that take part; the number is the moment at which each became ready.
    pub(crate) operating: BTreeMap<NodeId, Option<u64>>,
    /// Those that are not ready yet: transactions begin when there are none.
    pub(crate) starting: BTreeSet<NodeId>,
    /// Counts nodes that became ready.
    pub(crate) readiness: u64,
    /// Nodes that missed the opening of an epoch, and how many epochs they know.
    joining: BTreeMap<NodeId, usize>,
    pub(crate) txns: TransactionManager,
    /// Requests to begin that wait for nodes to be ready.
    pub(crate) begins: VecDeque<(Asker, Option<Tid>)>,
    /// Requests to go on without nodes that wait for another transaction.
    pub(crate) delayed: VecDeque<DelayedVote>,
    pub(crate) oids: Oids,
    pub(crate) import: Option<Import>,
    /// The cluster is stopping; transactions have until then.
    pub(crate) stopping: Option<Instant>,
    pub(crate) clients: usize,
}

impl Running {
    /// Whether clients are served, and transactions begin at once.
    pub(crate) fn serves(&self) -> bool {
        self.starting.is_empty() && self.stopping.is_none()
    }

    pub(crate) fn deadline(&self, settings: &MasterSettings) -> Option<Instant> {
        let oldest = self.txns.oldest();
        let age = oldest.map(|(since, _)| since + settings.transaction_age_max());
        [age, self.stopping].into_iter().flatten().min()
    }

    /// Nodes that take part in a transaction that began at this moment.
    pub(crate) fn participants(&self, readiness: u64) -> impl Iterator<Item = NodeId> {
        self.operating
            .iter()
            .filter(move |(_, ready)| ready.is_some_and(|ready| ready <= readiness))
            .map(|(nid, _)| *nid)
    }

    pub(crate) fn takes_part(&self, nid: NodeId, readiness: u64) -> bool {
        let ready = self.operating.get(&nid).copied().flatten();
        ready.is_some_and(|ready| ready <= readiness)
    }
}

impl MasterCore {
    pub(super) fn running(&mut self) -> Option<&mut Running> {
        match &mut self.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        }
    }

    /// Verification is done: serves.
    pub(super) fn enter_running(&mut self, now: Now, out: &mut Out) {
        let Some(verified) = self.take_verified() else {
            return;
        };
        if verified.last_tid < self.tids.last() {
            tracing::error!(
                found = %verified.last_tid, committed = %self.tids.last(),
                "storage nodes have lost transactions that were committed"
            );
        }
        self.tids.found(verified.last_tid, now);
        self.oid_floor = self.oid_floor.max(verified.oid_floor);
        self.last_operation += 1;
        let operation = self.last_operation;
        self.phase = Phase::Running(Box::new(Running {
            operation,
            operating: verified.chosen.iter().map(|nid| (*nid, None)).collect(),
            starting: verified.chosen.clone(),
            readiness: 0,
            joining: BTreeMap::new(),
            txns: TransactionManager::default(),
            begins: VecDeque::new(),
            delayed: VecDeque::new(),
            oids: Oids::new(self.oid_floor, self.settings.oid_block),
            import: None,
            stopping: None,
            clients: 0,
        }));
        for nid in &verified.chosen {
            if let Some(conn) = self.nodes.conn(*nid) {
                out.notify(conn, Packet::StartOperation { operation });
            }
        }
        self.announce_state(now, out);
        for (nid, identity) in verified.late {
            self.join_running(now, nid, identity.as_ref(), out);
        }
    }

    /// A storage node came to a cluster that runs. Until it can be filled it has no part, but it
    /// follows the partition table; what it has itself must not have gone its own way.
    pub(super) fn join_running(
        &mut self,
        _now: Now,
        nid: NodeId,
        identity: Option<&ClusterIdentity>,
        out: &mut Out,
    ) {
        match identity.map(|theirs| (self.kinship(theirs), theirs.epochs.len())) {
            Some((Kinship::Ancestor, epochs)) => {
                if let Some(running) = self.running() {
                    running.joining.insert(nid, epochs);
                }
                self.start_survey(nid, out);
            }
            Some((Kinship::Stranger | Kinship::Descendant, _)) => {
                let words = "it belongs to a side of the cluster that went its own way";
                self.refuse_storage(_now, nid, words, out);
            }
            Some((Kinship::Same, _)) | None => self.give_table(nid, out),
        }
    }

    pub(super) fn join_surveyed(&mut self, now: Now, nid: NodeId, reached: Tid, out: &mut Out) {
        let Some(epochs) = self.running().and_then(|r| r.joining.remove(&nid)) else {
            return;
        };
        let base = base_after(self.identity.as_ref(), epochs);
        if reached > base {
            self.refuse_own_way(now, nid, reached, base, out);
        } else {
            self.give_table(nid, out);
        }
    }

    fn give_table(&mut self, nid: NodeId, out: &mut Out) {
        if let Some(conn) = self.nodes.conn(nid) {
            if let Some(node) = self.nodes.get_mut(nid) {
                node.has_table = true;
            }
            self.send_table(conn, out);
            if self.table.as_ref().is_some_and(|table| table.has_node(nid)) {
                tracing::warn!(
                    %nid,
                    "stays PENDING: it was away, and this version does not bring it up to date"
                );
            } else {
                tracing::info!(%nid, "stays PENDING: it has no cells");
            }
        }
    }

    /// Changes the partition table, and tells everybody: storage nodes first, since they make it
    /// durable before they answer anything that comes later.
    pub(super) fn change_table(&mut self, changes: &[CellChange], out: &mut Out) {
        let Some(table) = &mut self.table else {
            return;
        };
        if changes.is_empty() {
            return;
        }
        let base = table.version();
        let version = TableVersion {
            reign: self.reign,
            ptid: Ptid(base.ptid.0 + 1),
        };
        table.apply(version, changes);
        tracing::info!(%version, cells = changes.len(), "the partition table changed");
        let packet = Packet::NotifyPartitionChanges {
            base,
            version,
            replicas: table.get().replicas,
            changes: changes.to_vec(),
        };
        for node_type in [NodeType::Storage, NodeType::Client, NodeType::Admin] {
            for (nid, conn) in self.nodes.online(node_type) {
                let follows = self.nodes.get(nid).is_some_and(|node| node.has_table);
                if node_type != NodeType::Storage || follows {
                    out.notify(conn, packet.clone());
                }
            }
        }
    }

    /// Storage nodes are lost: their connections are gone already, and the node list says so.
    pub(super) fn storages_lost(&mut self, now: Now, lost: &BTreeSet<NodeId>, out: &mut Out) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        for nid in lost {
            running.joining.remove(nid);
        }
        let lost: BTreeSet<NodeId> = lost
            .iter()
            .filter(|nid| running.operating.remove(nid).is_some())
            .copied()
            .collect();
        if lost.is_empty() {
            return;
        }
        self.nodes.publish(out);
        let Some(table) = &self.table else { return };
        if let Some(partition) = table.bereft(&lost, |nid| running.operating.contains_key(&nid)) {
            let words = format!(
                "partition {partition} has no readable cell left, since {} was lost",
                super::recovery::names(&lost.iter().copied().collect::<Vec<_>>())
            );
            self.fall_back(now, &words, out);
            return;
        }
        let mut freed = Vec::new();
        for nid in &lost {
            running.starting.remove(nid);
            running.txns.storage_lost(*nid);
            freed.extend(running.oids.noted(*nid));
        }
        let changes = table.outdate(&lost);
        self.change_table(&changes, out);
        self.oids_freed(now, freed, out);
        self.import_storages_lost(now, &lost, out);
        self.commit_ready(now, out);
        self.retry_unvoted(now, out);
        self.begin_waiting(now, out);
        self.retry_delayed_votes(out);
        self.stopping_step(now, out);
    }

    /// Storage nodes must go, though they are connected.
    pub(super) fn expel(&mut self, now: Now, nids: &BTreeSet<NodeId>, words: &str, out: &mut Out) {
        for nid in nids {
            tracing::warn!(%nid, words, "expelling a storage node");
            if let Some(conn) = self.nodes.conn(*nid) {
                self.close_quietly(conn, words, out);
            }
            self.surveys.remove(nid);
            self.nodes.set_down(*nid);
        }
        self.storages_lost(now, nids, out);
    }

    pub(super) fn storage_ready(&mut self, now: Now, nid: NodeId, operation: u64, out: &mut Out) {
        let Some(running) = self.running() else {
            return;
        };
        if operation != running.operation || !running.starting.remove(&nid) {
            return;
        }
        running.readiness += 1;
        let readiness = running.readiness;
        running.operating.insert(nid, Some(readiness));
        tracing::info!(%nid, "a storage node is ready");
        self.begin_waiting(now, out);
    }

    /// The greatest ids of the cluster, as far as they are known.
    pub(super) fn last_ids(&self, conn: ConnId, id: MsgId, out: &mut Out) {
        let ids = match &self.phase {
            Phase::Running(running) => WireLastIds {
                first_tid: None,
                last_tid: Some(self.tids.last()).filter(|tid| *tid != Tid::ZERO),
                last_oid: running.oids.last(),
            },
            _ => WireLastIds::default(),
        };
        let version = self.table.as_ref().map(super::Table::version);
        out.send(conn, id, Packet::AnswerLastIds { ids, version });
    }

    /// A client is gone: its transactions are aborted, unless they finish.
    pub(super) fn client_gone(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        let Some(running) = self.running() else {
            return;
        };
        running.clients -= 1;
        running.begins.retain(|(asker, _)| asker.nid != nid);
        running.oids.client_gone(nid);
        for txn in running.txns.client_gone(nid) {
            self.abort(txn, None, out);
        }
        self.import_client_gone(now, nid, out);
        self.transaction_ended(now, out);
    }

    pub(super) fn running_timer(&mut self, now: Now, out: &mut Out) {
        let age_max = self.settings.transaction_age_max();
        let mut ended = false;
        while let Some(running) = self.running()
            && let Some((since, txn)) = running.txns.oldest()
            && since + age_max <= now.mono
        {
            tracing::warn!(%txn, age_max_s = age_max.as_secs(), "aborting an old transaction");
            self.abort(txn, None, out);
            ended = true;
        }
        if ended {
            self.transaction_ended(now, out);
        }
        self.stopping_timer(now, out);
    }

    pub(super) fn is_read_only(&self, nid: NodeId) -> bool {
        self.nodes.get(nid).is_some_and(|node| node.read_only)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.cluster_state() == Some(ClusterState::Stopping)
    }

    /// Sets every storage node that is connected to a state, as it hears itself.
    pub(super) fn tell_storages(&self, state: NodeState, out: &mut Out) {
        for (nid, _) in self.nodes.online(NodeType::Storage) {
            self.nodes.tell_itself(nid, state, out);
        }
    }
}
