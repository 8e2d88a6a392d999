//! Transactions: how far each is, how it begins and is given up, and its deadline.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Instant, NodeId, Oid, Tid, TxnId, VotedRecord};
use neo_proto::{ConnId, MsgId, Packet};

use super::call::CallKind;
use super::effect::{Reply, ReplyId, TxnKey};
use super::outcome::Outcome;
use super::store::ObjectChange;
use super::timer::TimerId;
use super::{ClientCore, Failure, Req, Timer};
use crate::error::Error;

#[derive(Debug)]
pub(super) enum Phase {
    /// The primary was asked for a name.
    Beginning(ReplyId),
    /// Stores and checks are asked and answered.
    Open,
    /// The vote was asked for: it starts when all stores are answered.
    Storing {
        reply: ReplyId,
        record: VotedRecord,
    },
    Voting(ReplyId),
    /// The primary decides whether the transaction may go on without the nodes that failed.
    Arbitrating(ReplyId),
    Voted,
    /// The primary decides; nobody may wait for it any more.
    Finishing(Option<ReplyId>),
    /// The answer of the primary was lost.
    Lost(Option<ReplyId>, Outcome),
    /// Over, by an error that the application is told with its next call.
    Failed(Error),
}

#[derive(Debug)]
pub(super) struct Txn {
    pub(super) name: Option<TxnId>,
    pub(super) phase: Phase,
    /// Storages that were running when it began: it is written to these.
    pub(super) targets: BTreeSet<NodeId>,
    /// Nodes that were written to, each with the connection: a node that was reached by another
    /// one since has lost what was written.
    pub(super) nodes: BTreeMap<NodeId, Option<ConnId>>,
    pub(super) failed: BTreeMap<NodeId, Failure>,
    pub(super) objects: BTreeMap<Oid, ObjectChange>,
    /// Objects in the order in which they came.
    pub(super) order: Vec<Oid>,
    /// Requests to storages that are not answered.
    pub(super) outstanding: BTreeMap<MsgId, NodeId>,
    /// Objects with a conflict.
    pub(super) conflicting: BTreeSet<Oid>,
    /// Objects that were merged.
    pub(super) resolved: BTreeSet<Oid>,
    pub(super) voted: BTreeSet<NodeId>,
    /// Nodes whose vote includes the metadata.
    pub(super) metadata: BTreeSet<NodeId>,
    /// Set while something is asked; moved on by every answer.
    deadline: Option<Instant>,
    /// Rings at the deadline, or at an earlier one.
    pub(super) timer: Option<TimerId>,
    /// Whose lock is waited for, to tell.
    pub(super) delayed_by: Option<TxnId>,
}

impl Txn {
    fn new(reply: ReplyId) -> Self {
        Self {
            name: None,
            phase: Phase::Beginning(reply),
            targets: BTreeSet::new(),
            nodes: BTreeMap::new(),
            failed: BTreeMap::new(),
            objects: BTreeMap::new(),
            order: Vec::new(),
            outstanding: BTreeMap::new(),
            conflicting: BTreeSet::new(),
            resolved: BTreeSet::new(),
            voted: BTreeSet::new(),
            metadata: BTreeSet::new(),
            deadline: None,
            timer: None,
            delayed_by: None,
        }
    }

    pub(super) fn everybody_who_waits(&self) -> Vec<ReplyId> {
        let mut waiting: Vec<ReplyId> = self.objects.values().filter_map(|o| o.reply).collect();
        waiting.extend(match &self.phase {
            Phase::Beginning(reply)
            | Phase::Storing { reply, .. }
            | Phase::Voting(reply)
            | Phase::Arbitrating(reply) => Some(*reply),
            Phase::Finishing(reply) | Phase::Lost(reply, _) => *reply,
            Phase::Open | Phase::Voted | Phase::Failed(_) => None,
        });
        waiting
    }

    /// A request of this transaction went out: the first one decides on the connection.
    pub(super) fn sent_over(&mut self, nid: NodeId, conn: ConnId) {
        self.nodes.entry(nid).or_default().get_or_insert(conn);
    }

    pub(super) fn is_target(&self, nid: NodeId) -> bool {
        self.targets.contains(&nid) && !self.failed.contains_key(&nid)
    }

    pub(super) const fn is_being_committed(&self) -> bool {
        matches!(self.phase, Phase::Finishing(_) | Phase::Lost(..))
    }

    /// Whether stores are still possible.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Storing { .. })
    }
}

impl ClientCore {
    // --- begin and end ---

    pub(super) fn begin(&mut self, key: TxnKey, reply: ReplyId, tid: Option<Tid>) {
        self.txns.insert(key, Txn::new(reply));
        self.touch(key);
        self.call(CallKind::Begin { txn: key, tid });
    }

    pub(super) fn begun(&mut self, conn: ConnId, key: TxnKey, name: TxnId) {
        let targets = self
            .nodes
            .keys()
            .copied()
            .filter(|nid| nid.node_type() == neo_api::NodeType::Storage && self.is_running(*nid))
            .collect();
        if let Some(txn) = self.txns.get_mut(&key)
            && let Phase::Beginning(reply) = txn.phase
        {
            txn.name = Some(name);
            txn.targets = targets;
            txn.phase = Phase::Open;
            self.untouch(key);
            self.reply(reply, Ok(Reply::Begun(name)));
        } else {
            // Given up meanwhile.
            let nodes = Vec::new();
            self.out
                .notify(conn, Packet::AbortTransaction { txn: name, nodes });
        }
    }

    pub(super) fn is_beginning(&self, key: TxnKey) -> bool {
        let txn = self.txns.get(&key);
        txn.is_some_and(|txn| matches!(txn.phase, Phase::Beginning(_)))
    }

    /// Lets go of everything that the transaction holds.
    pub(super) fn abort(&mut self, key: TxnKey) {
        let Some(txn) = self.txns.get(&key) else {
            return;
        };
        if txn.is_being_committed() {
            // The primary has the last word, and who waited is told, whoever it was.
            return;
        }
        self.release(key);
        self.untouch(key);
        let waiting = self.txns.remove(&key).map(|txn| txn.everybody_who_waits());
        for reply in waiting.into_iter().flatten() {
            self.reply(
                reply,
                Err(Error::Misuse("the transaction was aborted".into())),
            );
        }
        self.drop_calls_of(key);
        self.stop_when_idle();
    }

    /// Takes back what waits to be sent, and tells everybody to forget the transaction.
    pub(super) fn release(&mut self, key: TxnKey) {
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        let ids: Vec<MsgId> = std::mem::take(&mut txn.outstanding).into_keys().collect();
        let nodes = std::mem::take(&mut txn.nodes);
        let name = txn.name;
        self.cancel_requests(&ids);
        let (Some(name), false) = (name, matches!(self.txns[&key].phase, Phase::Failed(_))) else {
            return;
        };
        let contacted: Vec<NodeId> = nodes.keys().copied().collect();
        for (nid, conn) in nodes {
            // By the connection that it was written over: after the writes.
            if let Some(conn) = conn.filter(|conn| self.storage_conn(nid) == Some(*conn)) {
                let nodes = Vec::new();
                self.out
                    .notify(conn, Packet::AbortTransaction { txn: name, nodes });
            }
        }
        if let Some(conn) = self.master.ready_conn() {
            let nodes = contacted;
            self.out
                .notify(conn, Packet::AbortTransaction { txn: name, nodes });
        }
    }

    /// The transaction can't go on; nothing of it is committed.
    pub(super) fn fail_txn(&mut self, key: TxnKey, error: Error) {
        let Some(txn) = self.txns.get(&key) else {
            return;
        };
        if matches!(txn.phase, Phase::Failed(_)) || txn.is_being_committed() {
            return;
        }
        let waiting = txn.everybody_who_waits();
        self.release(key);
        self.untouch(key);
        self.drop_calls_of(key);
        if let Some(txn) = self.txns.get_mut(&key) {
            txn.phase = Phase::Failed(error.clone());
            txn.objects.clear();
        }
        for reply in waiting {
            self.reply(reply, Err(error.clone()));
        }
    }

    pub(super) fn txns_without_master(&mut self, reason: &str) {
        let keys: Vec<TxnKey> = self.txns.keys().copied().collect();
        for key in keys {
            let Some(txn) = self.txns.get_mut(&key) else {
                continue;
            };
            txn.outstanding.clear();
            match &mut txn.phase {
                // Asked again of the next primary.
                Phase::Beginning(_) | Phase::Failed(_) => {}
                Phase::Finishing(reply) | Phase::Lost(reply, _) => {
                    let reply = reply.take();
                    self.lost_finish(key, reply);
                }
                _ => self.fail_txn(key, Error::NotReady(reason.to_owned())),
            }
        }
    }

    // --- deadlines ---

    /// Something was asked or answered: the deadline moves on.
    pub(super) fn touch(&mut self, key: TxnKey) {
        let deadline = self.now.mono + self.settings.operation_timeout;
        if let Some(txn) = self.txns.get_mut(&key) {
            txn.deadline = Some(deadline);
            txn.timer
                .get_or_insert_with(|| self.timers.set(deadline, Timer::Txn(key)));
        }
    }

    pub(super) fn untouch(&mut self, key: TxnKey) {
        if let Some(timer) = self.txns.get_mut(&key).and_then(|txn| txn.timer.take()) {
            self.timers.cancel(timer);
        }
    }

    pub(super) fn txn_timer(&mut self, key: TxnKey) {
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        txn.timer = None;
        if let Some(deadline) = txn.deadline.filter(|deadline| *deadline > self.now.mono) {
            txn.timer = Some(self.timers.set(deadline, Timer::Txn(key)));
            return;
        }
        let what = match &txn.phase {
            Phase::Beginning(_) => "the primary master to begin a transaction".to_owned(),
            Phase::Open | Phase::Storing { .. } | Phase::Voting(_) => {
                let nodes: BTreeSet<NodeId> = txn.outstanding.values().copied().collect();
                let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
                let nodes = nodes.join(", ");
                match txn.delayed_by {
                    Some(holder) => format!("{nodes}: a lock that transaction {holder} holds"),
                    None => format!("{nodes} to store or vote"),
                }
            }
            Phase::Arbitrating(_) => "the primary master to judge failed nodes".to_owned(),
            Phase::Voted | Phase::Failed(_) => return,
            Phase::Finishing(_) | Phase::Lost(..) => {
                self.outcome_unknown(key, "no answer in time");
                return;
            }
        };
        let error = self.timeout_error(&what);
        self.fail_txn(key, error);
    }

    pub(super) fn delayed(&mut self, request: MsgId, holder: TxnId) {
        if let Some(sent) = self.requests.get(&request)
            && let Req::Store { txn, .. } | Req::Relock { txn, .. } = sent.req
            && let Some(txn) = self.txns.get_mut(&txn)
        {
            txn.delayed_by = Some(holder);
        }
    }

    pub(super) fn touch_if_waiting(&mut self, key: TxnKey) {
        let waits = self.txns.get(&key).is_some_and(|txn| {
            !txn.outstanding.is_empty() || !matches!(txn.phase, Phase::Open | Phase::Voted)
        });
        if waits {
            self.touch(key);
        } else {
            self.untouch(key);
        }
    }
}
