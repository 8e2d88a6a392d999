//! RUNNING: the storage nodes that take part, their loss, and what clients and storage nodes say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use neo_api::{
    CellChange, ClusterState, Instant, NodeId, NodeState, NodeType, Now, Ptid, TableVersion, Tid,
};
use neo_proto::{ClusterIdentity, ConnId, ErrorCode, MsgId, Packet, WireLastIds};

use super::effect::Out;
use super::identification::Kinship;
use super::import::Import;
use super::oids::{Oids, Waiting};
use super::requests::Ask;
use super::survey::{base_after, own_way_words};
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
            let words = own_way_words(nid, reached, base);
            self.refuse_storage(now, nid, &words, out);
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

    pub(super) fn storage_message(
        &mut self,
        now: Now,
        conn: ConnId,
        nid: NodeId,
        id: MsgId,
        packet: Packet,
        out: &mut Out,
    ) {
        match packet {
            Packet::NotifyReady { operation } => self.storage_ready(now, nid, operation, out),
            // Every later answer of the node says it too; promotions will wait for it.
            Packet::NotifyPartitionTableStored { .. } => {}
            // Of a period of service that is over, or of cells that are not filled yet.
            Packet::NotifyReplicationDone { .. } => {}
            Packet::AskUnfinishedTransactions { .. } => {
                let message = "replication is not available in this version".to_owned();
                let code = ErrorCode::Replication;
                out.send(conn, id, Packet::Error { code, message });
            }
            other => {
                let words = format!("unexpected {} from a storage node", other.name());
                self.violation(now, conn, id, &words, out);
            }
        }
    }

    fn storage_ready(&mut self, now: Now, nid: NodeId, operation: u64, out: &mut Out) {
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

    /// An answer of a storage node.
    pub(super) fn storage_answer(
        &mut self,
        now: Now,
        conn: ConnId,
        nid: NodeId,
        id: MsgId,
        packet: Packet,
        out: &mut Out,
    ) {
        let Some(ask) = self.requests.answered(conn, id) else {
            let words = format!("{} to a question that was not asked", packet.name());
            self.violation(now, conn, MsgId(0), &words, out);
            return;
        };
        match (ask, packet) {
            (Ask::Recovery, Packet::AnswerRecovery { recovery }) => {
                self.recovery_answered(now, nid, *recovery, out);
            }
            (Ask::PartitionTable, Packet::AnswerPartitionTable { table }) => {
                self.recovery_table(now, nid, table.map(|table| *table), out);
            }
            (Ask::SurveyIds, Packet::AnswerLastIds { ids, .. }) => {
                self.survey_ids(now, nid, &ids, out);
            }
            (Ask::SurveyLocked, Packet::AnswerLockedTransactions { transactions, more }) => {
                self.survey_locked(now, nid, &transactions, more, out);
            }
            (Ask::StartReign, Packet::AnswerReignStarted { reign }) => {
                self.verification_reign(now, nid, reign, out);
            }
            (Ask::Locked, Packet::AnswerLockedTransactions { transactions, more }) => {
                self.verification_locked(now, nid, &transactions, more, out);
            }
            (Ask::FinalTid(txn), Packet::AnswerFinalTid { tid }) => {
                self.verification_final_tid(now, nid, txn, tid, out);
            }
            (Ask::Validate(asked), Packet::AnswerTransactionValidated { txn }) if asked == txn => {
                self.verification_done(now, nid, out);
            }
            (Ask::TruncateImport, Packet::AnswerTruncated { .. })
            | (Ask::ClearImport, Packet::AnswerImportMark { .. }) => {
                self.verification_done(now, nid, out);
            }
            (Ask::LastIds, Packet::AnswerLastIds { ids, .. }) => {
                self.verification_last_ids(now, nid, &ids, out);
            }
            (Ask::OidMark, Packet::AnswerOidMarkStored { .. }) => {
                self.oid_mark_noted(now, nid, out)
            }
            (Ask::Lock(asked), Packet::AnswerInformationLocked { txn }) if asked == txn => {
                self.locked(now, nid, txn, out);
            }
            (
                Ask::Import(step),
                Packet::AnswerImportMark { .. }
                | Packet::AnswerImportSynced { .. }
                | Packet::AnswerTruncated { .. },
            ) => self.import_answered(now, nid, step, out),
            (
                Ask::OidMark,
                Packet::Error {
                    code: ErrorCode::NoSpace,
                    message,
                },
            ) => {
                self.oid_mark_refused(now, nid, &message, out);
            }
            (ask, Packet::Error { code, message }) => {
                let words = format!("it can't do what it must ({ask:?}): {code}: {message}");
                self.refuse_storage(now, nid, &words, out);
            }
            (ask, other) => {
                let words = format!("{} is no answer to {ask:?}", other.name());
                self.violation(now, conn, MsgId(0), &words, out);
            }
        }
    }

    pub(super) fn client_message(
        &mut self,
        now: Now,
        conn: ConnId,
        nid: NodeId,
        id: MsgId,
        packet: Packet,
        out: &mut Out,
    ) {
        let asker = Asker { nid, conn, id };
        match packet {
            Packet::AskBeginTransaction { tid } => self.begin(now, asker, tid, out),
            Packet::AskNewOids { count } => self.new_oids(asker, count, out),
            Packet::AskFailedVote { txn, nodes } => self.failed_vote(now, asker, txn, &nodes, out),
            Packet::AskFinishTransaction {
                txn,
                oids,
                partitions,
            } => self.finish(now, asker, txn, oids, partitions, out),
            Packet::AbortTransaction { txn, nodes } => {
                self.abort_by_client(now, nid, txn, &nodes, out);
            }
            Packet::AskFinalTid { txn } => self.final_tid(now, asker, txn, out),
            Packet::AskLastTransaction {} => {
                let tid = self.tids.last();
                out.send(conn, id, Packet::AnswerLastTransaction { tid });
            }
            Packet::AskLastIds {} => self.last_ids(conn, id, out),
            Packet::AskBeginImport {} => self.begin_import(asker, out),
            Packet::AskCheckpointImport {
                import,
                tid,
                last_oid,
            } => self.checkpoint_import(now, asker, import, tid, last_oid, out),
            Packet::AskEndImport { import } => self.end_import(asker, import, out),
            other => {
                let words = format!("unexpected {} from a client", other.name());
                self.violation(now, conn, id, &words, out);
            }
        }
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

    fn oid_mark_noted(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        if let Some(running) = self.running() {
            let freed = running.oids.noted(nid);
            self.oids_freed(now, freed, out);
        }
    }

    /// A node has no space to note the mark: no oids, but the node can go on otherwise.
    fn oid_mark_refused(&mut self, now: Now, nid: NodeId, message: &str, out: &mut Out) {
        tracing::error!(%nid, message, "a storage node can't note which oids are handed out");
        let Some(running) = self.running() else {
            return;
        };
        let words = format!("{nid} can't note which oids are handed out: {message}");
        for waiting in running.oids.give_up() {
            match waiting {
                Waiting::Client(asker, _) => {
                    self.refuse(asker, ErrorCode::NoSpace, words.as_str(), out)
                }
                Waiting::Finish(txn) => {
                    let finish = self.running().and_then(|r| r.txns.unpark(txn));
                    if let Some(finish) = finish {
                        self.refuse(finish.asker, ErrorCode::NoSpace, words.as_str(), out);
                        self.abort(txn, None, out);
                    }
                }
                Waiting::Import => self.import_no_space(&words, out),
            }
        }
        self.transaction_ended(now, out);
    }

    fn new_oids(&mut self, asker: Asker, count: u32, out: &mut Out) {
        let max = self.settings.new_oids_max;
        let unmarked = self.settings.mutations.no_oid_mark;
        let waiting_max = self.settings.oid_requests_max;
        let refuse = |code, message: String, out: &mut Out| {
            out.send(asker.conn, asker.id, Packet::Error { code, message });
        };
        if count == 0 || count > max {
            let words = format!("{count} oids at once: from 1 to {max} can be had (new_oids_max)");
            refuse(ErrorCode::TooLarge, words, out);
            return;
        }
        let read_only = self.is_read_only(asker.nid);
        let Some(running) = self.running() else {
            return;
        };
        if read_only {
            refuse(
                ErrorCode::ReadOnly,
                "the client is read-only".to_owned(),
                out,
            );
            return;
        }
        if !running.oids.has_left(count) {
            refuse(ErrorCode::TooLarge, "no oids are left".to_owned(), out);
            return;
        }
        if running.oids.clients_waiting() >= waiting_max {
            let words = "too many requests for oids are waiting (oid_requests_max)";
            refuse(ErrorCode::NotReady, words.to_owned(), out);
            return;
        }
        // Who waits comes first.
        if unmarked {
            let first = running.oids.take_unmarked(count);
            out.send(asker.conn, asker.id, Packet::AnswerNewOids { first, count });
            return;
        }
        let first = match running.oids.clients_waiting() {
            0 => running.oids.take(count),
            _ => None,
        };
        match first {
            Some(first) => {
                out.send(asker.conn, asker.id, Packet::AnswerNewOids { first, count });
            }
            None => running.oids.wait(Waiting::Client(asker, count)),
        }
        self.raise_oid_mark(out);
    }

    /// Has the mark noted by every node, if somebody needs it.
    pub(super) fn raise_oid_mark(&mut self, out: &mut Out) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let Some(mark) = running.oids.to_raise() else {
            return;
        };
        let nodes: BTreeSet<NodeId> = running.operating.keys().copied().collect();
        for nid in &nodes {
            if let Some(conn) = self.nodes.conn(*nid) {
                let mark = neo_api::Oid(mark);
                let packet = Packet::AskStoreOidMark { mark };
                self.requests.send(conn, Ask::OidMark, packet, out);
            }
        }
        running.oids.raise(mark, nodes);
    }

    /// The mark was raised: what waited for it goes on, in order.
    fn oids_freed(&mut self, now: Now, freed: Vec<Waiting>, out: &mut Out) {
        if freed.is_empty() {
            return;
        }
        for waiting in freed {
            let Some(running) = self.running() else {
                return;
            };
            match waiting {
                Waiting::Client(asker, count) => match running.oids.take(count) {
                    Some(first) => {
                        let answer = Packet::AnswerNewOids { first, count };
                        out.send(asker.conn, asker.id, answer);
                    }
                    None => running.oids.wait(Waiting::Client(asker, count)),
                },
                Waiting::Finish(txn) => self.finish_parked(now, txn, out),
                Waiting::Import => self.import_oids_covered(now, out),
            }
        }
        self.raise_oid_mark(out);
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
