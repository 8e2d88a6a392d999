//! RUNNING: the storage nodes that take part, and their loss.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use neo_api::{ClusterState, Instant, NodeId, NodeState, NodeType, Now, Tid};
use neo_proto::{ConnId, Input, MsgId, Packet, WireLastIds};

use super::auto_tweak::AutoTweak;
use super::catching_up::CatchingUp;
use super::effect::Out;
use super::import::Import;
use super::joining::{Joining, Starting};
use super::oids::Oids;
use super::packs::Packs;
use super::promotion::Promotion;
use super::remaining::Remaining;
use super::table_commands::Adding;
use super::transaction_manager::{Asker, DelayedVote, TransactionManager};
use super::{MasterCore, Peer, Phase};
use crate::config::MasterSettings;

/// How often a primary looks at the clock, to know whether it has been asleep.
const TICK: std::time::Duration = std::time::Duration::from_secs(1);

/// All that a primary needs while it serves.
#[derive(Debug)]
pub(crate) struct Running {
    /// Names this period of service.
    pub(crate) operation: u64,
    /// When something was dealt with last.
    awake: Instant,
    /// Nodes that take part; the number is the moment at which each became ready.
    pub(crate) operating: BTreeMap<NodeId, Option<u64>>,
    /// Nodes whose connections ended at this moment: what follows is done once for all of them.
    lost: BTreeSet<NodeId>,
    /// Those that are not ready yet.
    pub(crate) starting: BTreeMap<NodeId, Starting>,
    /// Nodes that did not get ready in time when they were waited for.
    pub(crate) laggards: BTreeSet<NodeId>,
    /// Counts nodes that became ready.
    pub(crate) readiness: u64,
    /// Nodes that came while the cluster ran, and have no part yet.
    pub(crate) joining: BTreeMap<NodeId, Joining>,
    pub(crate) catching_up: CatchingUp,
    pub(crate) auto_tweak: AutoTweak,
    /// Orders to add nodes that do not take part yet.
    pub(crate) adding: Vec<Adding>,
    /// The change of the partition table that is under way.
    pub(crate) promotion: Option<Promotion>,
    /// Commands that change the table, and wait for it.
    pub(crate) commands: VecDeque<(ConnId, MsgId, Packet)>,
    pub(crate) txns: TransactionManager,
    /// Requests to begin that wait for nodes to be ready.
    pub(crate) begins: VecDeque<(Asker, Option<Tid>)>,
    /// Requests to go on without nodes that wait for another transaction.
    pub(crate) delayed: VecDeque<DelayedVote>,
    pub(crate) oids: Oids,
    pub(crate) import: Option<Import>,
    pub(crate) packs: Packs,
    pub(crate) remaining: Remaining,
    /// The cluster is stopping; transactions have until then.
    pub(crate) stopping: Option<Instant>,
    pub(crate) clients: usize,
}

impl Running {
    /// Whether clients are served, and transactions begin at once.
    pub(crate) fn serves(&self) -> bool {
        self.begins_at_once() && self.stopping.is_none()
    }

    /// Whether transactions begin at once: no node is waited for that starts.
    pub(crate) fn begins_at_once(&self) -> bool {
        !self
            .starting
            .values()
            .any(|starting| starting.is_waited_for)
    }

    pub(crate) fn deadline(&self, settings: &MasterSettings) -> Option<Instant> {
        let oldest = self.txns.oldest();
        let age = oldest.map(|(since, _)| since + settings.transaction_age_max());
        let joining = MasterCore::joining_deadline(self);
        let auto_tweak = self.auto_tweak.deadline(settings);
        let tick = Some(self.awake + TICK);
        let at_once = (!self.lost.is_empty()).then_some(self.awake);
        let deadlines = [age, self.stopping, joining, auto_tweak, tick, at_once];
        deadlines.into_iter().flatten().min()
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
        let starting = Starting {
            deadline: now.mono + self.settings.starting_timeout(),
            is_waited_for: true,
        };
        self.phase = Phase::Running(Box::new(Running {
            operation,
            awake: now.mono,
            lost: BTreeSet::new(),
            operating: verified.chosen.iter().map(|nid| (*nid, None)).collect(),
            starting: verified.chosen.iter().map(|nid| (*nid, starting)).collect(),
            laggards: BTreeSet::new(),
            readiness: 0,
            joining: BTreeMap::new(),
            catching_up: CatchingUp::default(),
            auto_tweak: AutoTweak::default(),
            adding: Vec::new(),
            promotion: None,
            commands: VecDeque::new(),
            txns: TransactionManager::default(),
            begins: VecDeque::new(),
            delayed: VecDeque::new(),
            oids: Oids::new(self.oid_floor, self.settings.oid_block),
            import: None,
            packs: Packs::new(verified.last_tid),
            remaining: Remaining::default(),
            stopping: None,
            clients: 0,
        }));
        self.nodes.gathered(out);
        let holders: Vec<NodeId> = match &self.table {
            Some(table) => table.holders().collect(),
            None => Vec::new(),
        };
        if let Some(running) = self.running() {
            for nid in holders
                .into_iter()
                .filter(|nid| !verified.chosen.contains(nid))
            {
                running.auto_tweak.gone(now, nid);
            }
        }
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

    /// A primary that was asleep for as long as silence is borne may find all its connections ended,
    /// one after the other: if it outdated the first ones, only the last one could serve, though
    /// nothing is wrong with any of them. It starts over, with every copy as it was.
    pub(super) fn note_awake(&mut self, now: Now, out: &mut Out) {
        let asleep_max = self.settings.asleep_max();
        let Some(running) = self.running() else {
            return;
        };
        let asleep = now.mono.since(running.awake);
        running.awake = now.mono;
        if asleep > asleep_max {
            let words = format!("this master was asleep for {} s", asleep.as_secs());
            self.fall_back(now, &words, out);
        }
    }

    /// Whether the loss of a node waits for that of others.
    pub(super) fn gathers(&self, nid: NodeId) -> bool {
        nid.node_type() == NodeType::Storage && matches!(self.phase, Phase::Running(_))
    }

    /// Whether an input is a loss that waits for others.
    pub(super) fn is_gathered(&self, input: &Input<Self>) -> bool {
        let Input::Closed { conn, .. } = input else {
            return false;
        };
        matches!(self.peers.get(conn), Some(Peer::Node(nid)) if self.gathers(*nid))
    }

    /// The connection to a storage node ended. When a switch dies, others follow at the same moment:
    /// all of them are one change of the table. It is made before anything else is dealt with, and
    /// the driver calls back when it has told what it knows.
    pub(super) fn gather_loss(&mut self, nid: NodeId) {
        if let Some(running) = self.running() {
            running.lost.insert(nid);
        }
    }

    /// Deals with the nodes that were lost at one moment.
    pub(super) fn settle_losses(&mut self, now: Now, out: &mut Out) {
        let lost = self
            .running()
            .map(|running| std::mem::take(&mut running.lost));
        if let Some(lost) = lost.filter(|lost| !lost.is_empty()) {
            self.storages_lost(now, &lost, out);
        }
    }

    /// Storage nodes are lost: their connections are gone already, and the node list says so.
    pub(super) fn storages_lost(&mut self, now: Now, lost: &BTreeSet<NodeId>, out: &mut Out) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let joining: Vec<NodeId> = lost
            .iter()
            .filter(|nid| running.joining.remove(nid).is_some())
            .copied()
            .collect();
        let lost: BTreeSet<NodeId> = lost
            .iter()
            .filter(|nid| running.operating.remove(nid).is_some())
            .copied()
            .collect();
        for nid in joining {
            self.added(nid, out);
        }
        if lost.is_empty() {
            return;
        }
        self.nodes.publish(out);
        let (Phase::Running(running), Some(table)) = (&mut self.phase, &self.table) else {
            return;
        };
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
            running.catching_up.node_lost(*nid);
            if table.has_node(*nid) {
                running.auto_tweak.gone(now, *nid);
            }
            running.txns.storage_lost(*nid);
            running.packs.node_lost(*nid);
            running.remaining.node_lost(*nid, out);
            freed.extend(running.oids.noted(*nid));
        }
        let changes = table.outdate(&lost);
        let is_void = running.promotion.as_ref();
        if !changes.is_empty() || is_void.is_some_and(|promotion| promotion.needs_any(&lost)) {
            self.change_table(&changes, out);
        }
        self.oids_freed(now, freed, out);
        self.import_storages_lost(now, &lost, out);
        self.commit_ready(now, out);
        self.retry_unvoted(now, out);
        self.begin_waiting(now, out);
        self.retry_delayed_votes(out);
        self.table_settled(now, out);
        self.packs_step(out);
        self.stopping_step(now, out);
    }

    /// Storage nodes must go, though they are connected.
    pub(super) fn expel(&mut self, now: Now, nids: &BTreeSet<NodeId>, words: &str, out: &mut Out) {
        for nid in nids {
            if self.nodes.get(*nid).is_some_and(|node| node.is_full) {
                // It said why, and that was told.
                tracing::info!(%nid, words, "expelling a storage node");
            } else {
                tracing::warn!(%nid, words, "expelling a storage node");
            }
            if let Some(conn) = self.nodes.conn(*nid) {
                self.close_quietly(conn, words, out);
            }
            self.surveys.remove(nid);
            self.nodes.set_down(*nid);
        }
        self.storages_lost(now, nids, out);
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
        let cells = Vec::new();
        out.send(
            conn,
            id,
            Packet::AnswerLastIds {
                ids,
                version,
                cells,
                committed_in: self.committed_in,
            },
        );
    }

    /// A client is gone: its transactions are aborted, unless they finish.
    pub(super) fn client_gone(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        let Some(running) = self.running() else {
            return;
        };
        running.clients -= 1;
        running.begins.retain(|(asker, _)| asker.nid != nid);
        running.oids.client_gone(nid);
        running.packs.client_gone(nid);
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
        self.joining_timer(now, out);
        self.auto_tweak_timer(now, out);
        self.packs_timer(out);
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
