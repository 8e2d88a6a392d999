//! Transactions: begin, finish, lock, commit in order of tid, abort, and the final tid.

use std::collections::BTreeSet;

use neo_api::{NodeId, NodeType, Now, Partition, TRANSACTION_OIDS_MAX, Tid, TxnId};
use neo_proto::{ErrorCode, FinalTid, Oids, Packet};

use super::effect::Out;
use super::oids::Waiting;
use super::requests::Ask;
use super::transaction_manager::{Asker, Committed, Finish, Finishing, Stage};
use super::votes::Lack;
use super::{MasterCore, Phase};

/// Most requests for the final tid of one transaction that may wait.
const ASKED_MAX: usize = 100;

impl MasterCore {
    pub(super) fn refuse(
        &self,
        asker: Asker,
        code: ErrorCode,
        words: impl Into<String>,
        out: &mut Out,
    ) {
        let message = words.into();
        self.reply(asker, Packet::Error { code, message }, out);
    }

    /// Answers a client, if it is still there.
    pub(super) fn reply(&self, asker: Asker, packet: Packet, out: &mut Out) {
        if self.peers.contains_key(&asker.conn) {
            out.send(asker.conn, asker.id, packet);
        }
    }

    pub(super) fn begin(&mut self, now: Now, asker: Asker, tid: Option<Tid>, out: &mut Out) {
        let read_only = self.is_read_only(asker.nid);
        let not_ready = self.not_ready();
        let (all_max, client_max) = (
            self.settings.transactions_max,
            self.settings.transactions_per_client_max,
        );
        let Some(running) = self.running() else {
            return;
        };
        let (code, words) = if read_only {
            (ErrorCode::ReadOnly, "the client is read-only".to_owned())
        } else if running.stopping.is_some() {
            (ErrorCode::NotReady, not_ready)
        } else if running.import.is_some() {
            (ErrorCode::NotReady, "an import is running".to_owned())
        } else if running.txns.len() + running.begins.len() >= all_max {
            let words = format!("{all_max} transactions are pending (transactions_max)");
            (ErrorCode::NotReady, words)
        } else if running.txns.of_client(asker.nid) >= client_max {
            let words = format!(
                "{client_max} transactions of this client are pending (transactions_per_client_max)"
            );
            (ErrorCode::TooLarge, words)
        } else if running.begins_at_once() {
            self.begin_now(now, asker, tid, out);
            return;
        } else {
            running.begins.push_back((asker, tid));
            return;
        };
        self.refuse(asker, code, words, out);
    }

    /// Every storage node that is waited for is ready: what waited for them begins.
    pub(super) fn begin_waiting(&mut self, now: Now, out: &mut Out) {
        while let Some(running) = self.running()
            && running.begins_at_once()
            && let Some((asker, tid)) = running.begins.pop_front()
        {
            self.begin_now(now, asker, tid, out);
        }
    }

    fn begin_now(&mut self, now: Now, asker: Asker, tid: Option<Tid>, out: &mut Out) {
        let ahead_max = std::time::Duration::from_secs(self.settings.imposed_tid_ahead_max_s);
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        if running.txns.imposed().is_some() {
            let words = "a transaction with an imposed tid is pending, which must be alone";
            self.refuse(asker, ErrorCode::NotReady, words, out);
            return;
        }
        let Some(table) = &self.table else { return };
        let ttid = match tid {
            None => self.tids.next_ttid(now),
            Some(_) if !running.txns.is_empty() => {
                let words = "a tid can be imposed only when no other transaction is pending";
                self.refuse(asker, ErrorCode::NotReady, words, out);
                return;
            }
            Some(tid) => match self.tids.check_imposed(tid, ahead_max, now) {
                Ok(()) => self
                    .tids
                    .next_ttid_like(tid, table.get().partitioning(), now),
                Err(words) => {
                    self.refuse(asker, ErrorCode::Denied, words, out);
                    return;
                }
            },
        };
        let Some(ttid) = ttid else {
            self.refuse(asker, ErrorCode::TooLarge, "no tids are left", out);
            return;
        };
        let txn = TxnId {
            reign: self.reign,
            ttid,
        };
        let readiness = running.readiness;
        running.txns.begin(txn, asker.nid, readiness, tid, now.mono);
        out.send(asker.conn, asker.id, Packet::AnswerBeginTransaction { txn });
    }

    pub(super) fn finish(
        &mut self,
        now: Now,
        asker: Asker,
        txn: TxnId,
        oids: Oids,
        partitions: Vec<Partition>,
        out: &mut Out,
    ) {
        let oids_max = self.settings.finishing_oids_max;
        let unmarked = self.settings.mutations.no_oid_mark;
        let (Phase::Running(running), Some(table)) = (&mut self.phase, &self.table) else {
            return;
        };
        match running.txns.get(txn) {
            Some(transaction) if transaction.client == Some(asker.nid) => {
                if !matches!(transaction.stage, Stage::Begun { parked: None, .. }) {
                    let words = "a transaction can be finished once";
                    self.violation(now, asker.conn, asker.id, words, out);
                    return;
                }
            }
            _ => {
                let words = format!("transaction {txn} is not pending: it was aborted, or expired");
                self.refuse(asker, ErrorCode::UnknownTransaction, words, out);
                return;
            }
        }
        if oids.0.len() > TRANSACTION_OIDS_MAX
            || running.txns.finishing_oids() + oids.0.len() > oids_max
        {
            let words = format!(
                "{} oids in a transaction: there may be {TRANSACTION_OIDS_MAX}, and {oids_max} in \
                 all that are finishing (finishing_oids_max)",
                oids.0.len()
            );
            self.refuse(asker, ErrorCode::TooLarge, words, out);
            self.abort(txn, None, out);
            self.transaction_ended(now, out);
            return;
        }
        let Some(partitions) = involved(table.get().partitioning(), txn, &oids, &partitions) else {
            let words = "the partitions of a transaction are not those of its objects";
            self.violation(now, asker.conn, asker.id, words, out);
            return;
        };
        let greatest = oids
            .0
            .iter()
            .map(|oid| oid.0)
            .filter(|oid| *oid < 1 << 63)
            .max();
        let covered = greatest.is_none_or(|oid| running.oids.in_use(oid));
        let finish = Finish {
            asker,
            oids,
            partitions,
            unvoted: BTreeSet::new(),
        };
        running.txns.park(txn, finish);
        if covered || unmarked {
            self.finish_parked(now, txn, out);
        } else {
            running.oids.wait(Waiting::Finish(txn));
            self.raise_oid_mark(out);
        }
    }

    /// The oids of a transaction are covered by the mark: it gets its tid when every node that takes
    /// part has voted, unless too many of its nodes failed.
    pub(super) fn finish_parked(&mut self, now: Now, txn: TxnId, out: &mut Out) {
        let parties = match self.parties(txn) {
            Ok(parties) => parties,
            Err(Lack::Nothing) => return,
            Err(Lack::Cells) => {
                self.incomplete(now, txn, out);
                return;
            }
        };
        if !parties.unvoted.is_empty() {
            self.ask_for_votes(txn, &parties.unvoted, out);
            return;
        }
        if !parties.failed.is_empty() {
            // They missed a part of this transaction: they are out of date before it is locked. The
            // loss may end more than them.
            let words = "it failed to take part in a transaction";
            self.expel(now, &parties.failed, words, out);
            self.finish_parked(now, txn, out);
            return;
        }
        let nodes = parties.nodes;
        let (Phase::Running(running), Some(table)) = (&mut self.phase, &self.table) else {
            return;
        };
        let Some(imposed) = running.txns.get(txn).map(|transaction| transaction.imposed) else {
            return;
        };
        let Some(finish) = running.txns.unpark(txn) else {
            return;
        };
        let tid = match imposed {
            Some(tid) => self.tids.impose(tid).is_ok().then_some(tid),
            None => self
                .tids
                .next_tid(txn.ttid, table.get().partitioning(), now),
        };
        let Some(tid) = tid else {
            self.refuse(finish.asker, ErrorCode::TooLarge, "no tids are left", out);
            self.abort(txn, None, out);
            self.transaction_ended(now, out);
            return;
        };
        for nid in &nodes {
            if let Some(conn) = self.nodes.conn(*nid) {
                let packet = Packet::AskLockInformation { txn, tid };
                self.requests.send(conn, Ask::Lock(txn), packet, out);
            }
        }
        running.txns.finish(txn, finish, tid, nodes);
    }

    /// A transaction can't be completed: it is aborted everywhere.
    fn incomplete(&mut self, now: Now, txn: TxnId, out: &mut Out) {
        let asker = self.running().and_then(|running| running.txns.unpark(txn));
        if let Some(finish) = asker {
            let words = "too many of the transaction's storage nodes failed: some of its objects \
                         would be on no readable cell";
            self.refuse(finish.asker, ErrorCode::IncompleteTransaction, words, out);
        }
        self.abort(txn, None, out);
        self.transaction_ended(now, out);
    }

    pub(super) fn locked(&mut self, now: Now, nid: NodeId, txn: TxnId, out: &mut Out) {
        if let Some(running) = self.running() {
            running.txns.locked(txn, nid);
            self.commit_ready(now, out);
        }
    }

    /// Commits what is locked everywhere, in order of tid.
    pub(super) fn commit_ready(&mut self, now: Now, out: &mut Out) {
        let mut ended = false;
        while let Some(committed) = self
            .running()
            .and_then(|running| running.txns.next_committed())
        {
            self.commit(committed, out);
            ended = true;
        }
        if ended {
            self.transaction_ended(now, out);
        }
    }

    fn commit(&mut self, committed: Committed, out: &mut Out) {
        let Committed {
            txn,
            client,
            watchers,
            finishing,
        } = committed;
        let Finishing {
            tid,
            asker,
            oids,
            nodes,
            asked,
            ..
        } = finishing;
        if client.is_some() {
            let answer = Packet::AnswerTransactionFinished { txn, tid };
            self.reply(asker, answer, out);
        }
        self.invalidate(tid, &oids, client, out);
        for asker in asked {
            let tid = FinalTid::Committed(tid);
            self.reply(asker, Packet::AnswerFinalTid { tid }, out);
        }
        for nid in nodes {
            if let Some(conn) = self.nodes.conn(nid) {
                out.notify(conn, Packet::NotifyUnlockInformation { txn });
            }
        }
        self.tell_ended(txn, Some(tid), &watchers, out);
        self.tids.committed(tid);
        self.committed_in = self.reign;
    }

    /// Tells the other clients; the one that committed knows.
    fn invalidate(&self, tid: Tid, oids: &Oids, by: Option<NodeId>, out: &mut Out) {
        let too_many = oids.0.len() > self.settings.invalidation_oids_max;
        for (nid, conn) in self.nodes.online(NodeType::Client) {
            if Some(nid) == by {
                continue;
            }
            let packet = if too_many {
                Packet::InvalidateAll { tid }
            } else {
                let oids = oids.clone();
                Packet::InvalidateObjects { tid, oids }
            };
            out.notify(conn, packet);
        }
    }

    /// Everything may have changed.
    pub(super) fn invalidate_all(&self, tid: Tid, by: Option<NodeId>, out: &mut Out) {
        for (nid, conn) in self.nodes.online(NodeType::Client) {
            if Some(nid) != by {
                out.notify(conn, Packet::InvalidateAll { tid });
            }
        }
    }

    /// Forgets a begun transaction, and has it forgotten: by the nodes that the client contacted,
    /// or by all that might have it.
    pub(super) fn abort(&mut self, txn: TxnId, contacted: Option<&[NodeId]>, out: &mut Out) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let Some(transaction) = running.txns.abort(txn) else {
            return;
        };
        if let Stage::Begun {
            parked: Some(finish),
            ..
        } = &transaction.stage
        {
            let code = ErrorCode::UnknownTransaction;
            let message = format!("transaction {txn} was aborted");
            let asker = finish.asker;
            if self.peers.contains_key(&asker.conn) {
                out.send(asker.conn, asker.id, Packet::Error { code, message });
            }
        }
        running.delayed.retain(|vote| vote.txn != txn);
        let participants = || running.participants(transaction.readiness);
        let mut nodes: BTreeSet<NodeId> = match contacted {
            Some(nodes) => {
                let contacted: BTreeSet<NodeId> = nodes.iter().copied().collect();
                participants()
                    .filter(|nid| contacted.contains(nid))
                    .collect()
            }
            None => participants().collect(),
        };
        let voted = transaction.votes.keys();
        nodes.extend(voted.filter(|nid| running.operating.contains_key(nid)));
        for nid in nodes {
            if let Some(conn) = self.nodes.conn(nid) {
                let nodes = Vec::new();
                out.notify(conn, Packet::AbortTransaction { txn, nodes });
            }
        }
        self.tell_ended(txn, None, &transaction.watchers, out);
    }

    pub(super) fn abort_by_client(
        &mut self,
        now: Now,
        client: NodeId,
        txn: TxnId,
        contacted: &[NodeId],
        out: &mut Out,
    ) {
        let Some(running) = self.running() else {
            return;
        };
        match running.txns.get(txn).map(|t| (t.client, &t.stage)) {
            Some((owner, Stage::Begun { .. })) if owner == Some(client) => {
                self.abort(txn, Some(contacted), out);
                self.transaction_ended(now, out);
            }
            // Once it has a tid, it may be locked somewhere, and then it is committed.
            Some(_) => {
                tracing::warn!(%txn, %client, "a transaction can't be aborted by this client, or now")
            }
            None => {}
        }
    }

    /// A pending transaction ended: others may have waited for it.
    pub(super) fn transaction_ended(&mut self, now: Now, out: &mut Out) {
        self.retry_delayed_votes(out);
        self.stopping_step(now, out);
    }

    /// What became of a transaction. The asking is a fence: what has not begun to finish never
    /// will.
    pub(super) fn final_tid(&mut self, now: Now, asker: Asker, txn: TxnId, out: &mut Out) {
        if txn.reign > self.reign && !self.settings.mutations.no_deposition {
            let words = format!("a client asks about transaction {txn}, of a later reign");
            self.deposed(now, &words, out);
            return;
        }
        let fence = !self.settings.mutations.no_fence;
        let (reign, last_ttid) = (self.reign, self.tids.last_ttid());
        let Some(running) = self.running() else {
            return;
        };
        let mut ended = false;
        let answer = match running.txns.get(txn).map(|transaction| &transaction.stage) {
            Some(Stage::Begun { .. }) => {
                if fence {
                    tracing::info!(%txn, "aborting a transaction whose client asks what became of it");
                    self.abort(txn, None, out);
                    ended = true;
                }
                FinalTid::NotCommitted
            }
            Some(Stage::Finishing(finishing)) if finishing.asked.len() >= ASKED_MAX => {
                let words = "too many ask about this transaction";
                self.refuse(asker, ErrorCode::NotReady, words, out);
                return;
            }
            Some(Stage::Finishing(_)) => {
                running.txns.ask_final(txn, asker);
                return;
            }
            None if txn.reign == reign && txn.ttid > last_ttid => FinalTid::NotCommitted,
            None => FinalTid::AskStorages,
        };
        self.reply(asker, Packet::AnswerFinalTid { tid: answer }, out);
        if ended {
            self.transaction_ended(now, out);
        }
    }
}

/// All partitions that a transaction involves, in order; `None` when the client's list can't be.
fn involved(
    p: neo_api::Partitioning,
    txn: TxnId,
    oids: &Oids,
    partitions: &[Partition],
) -> Option<Vec<Partition>> {
    let mut list = vec![p.of_tid(txn.ttid)];
    for partition in partitions {
        if partition.0 >= p.count() {
            return None;
        }
        list.push(*partition);
    }
    list.sort_unstable();
    list.dedup();
    // Transactions may have millions of oids: one look at each.
    let mut is_involved = vec![false; p.count() as usize];
    for partition in &list {
        is_involved[partition.0 as usize] = true;
    }
    let all = oids
        .0
        .iter()
        .all(|oid| is_involved[p.of_oid(*oid).0 as usize]);
    all.then_some(list)
}
