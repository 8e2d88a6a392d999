//! Stores and checks: a change of an object goes to every writable cell, and waits for all of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use neo_api::{NodeId, Oid, TRANSACTION_OIDS_MAX, Tid};
use neo_proto::{MsgId, Packet, StoreOutcome};

use super::effect::{Change, Reply, ReplyId, TxnKey};
use super::transaction::Phase;
use super::{ClientCore, Failure, Req, Todo};
use crate::error::Error;

/// One object of a transaction.
#[derive(Debug)]
pub(super) struct ObjectChange {
    pub(super) change: Change,
    /// The revision that it starts from.
    pub(super) serial: Tid,
    /// Number of the change: what is answered about an earlier one does not count.
    pub(super) version: u32,
    /// Nodes that have not answered, with the requests.
    pub(super) waiting: BTreeMap<NodeId, MsgId>,
    /// Nodes that have compared the serial, and locked the object.
    pub(super) locked: BTreeSet<NodeId>,
    /// Nodes that have locked the object, and are catching up: they can't compare.
    pub(super) unchecked: BTreeSet<NodeId>,
    /// Nodes that were asked to let an older transaction pass.
    pub(super) relocking: BTreeSet<NodeId>,
    /// Those of them that want it once more.
    pub(super) relock_wanted: BTreeSet<NodeId>,
    /// The newest serial that a node told, greater than `serial`.
    pub(super) conflict: Option<Tid>,
    /// Requests about earlier changes that are not answered.
    pub(super) earlier: BTreeMap<MsgId, NodeId>,
    /// The change is sent when it can't be taken for an earlier one any more.
    pub(super) held: bool,
    /// Who waits until every node has answered.
    pub(super) reply: Option<ReplyId>,
}

impl ObjectChange {
    /// What a node had of the object does not count any more; tells whether it was waited for.
    pub(super) fn forget_node(&mut self, nid: NodeId) -> bool {
        self.locked.remove(&nid);
        self.unchecked.remove(&nid);
        self.relocking.remove(&nid);
        self.relock_wanted.remove(&nid);
        self.earlier.retain(|_, of| *of != nid);
        self.waiting.remove(&nid).is_some()
    }

    /// Another change takes the place of this one.
    fn supersede(&mut self) {
        self.version += 1;
        let waiting = std::mem::take(&mut self.waiting);
        self.earlier
            .extend(waiting.into_iter().map(|(nid, id)| (id, nid)));
        self.locked.clear();
        self.unchecked.clear();
        self.held = self.must_wait();
    }

    /// A relock that finds a conflict drops what is stored: nothing new may be there yet. A
    /// message without a value could overtake an earlier one with a value.
    pub(super) fn must_wait(&self) -> bool {
        let overtakes = self.change.payload().is_empty() && !self.earlier.is_empty();
        !self.relocking.is_empty() || overtakes
    }
}

impl ClientCore {
    pub(super) fn store(
        &mut self,
        key: TxnKey,
        reply: ReplyId,
        oid: Oid,
        serial: Tid,
        change: Change,
    ) {
        let Some(txn) = self.txns.get_mut(&key) else {
            self.reply(reply, Err(Error::Misuse("the transaction is over".into())));
            return;
        };
        match &txn.phase {
            Phase::Open => {}
            Phase::Failed(error) => {
                let error = error.clone();
                self.reply(reply, Err(error));
                return;
            }
            _ => {
                let error = Error::Misuse("a store must come before the vote".into());
                self.reply(reply, Err(error));
                return;
            }
        }
        if let Some(object) = txn.objects.get_mut(&oid) {
            if change == Change::Check {
                // A stored or checked object is locked already.
                self.reply(reply, Ok(Reply::Done));
                return;
            }
            if let Some(before) = object.reply.take() {
                self.reply(before, Ok(Reply::Done));
            }
            let Some(object) = self.object(key, oid) else {
                return;
            };
            object.change = change;
            object.serial = serial;
            object.reply = Some(reply);
            object.conflict = None;
            if let Some(txn) = self.txns.get_mut(&key) {
                txn.conflicting.remove(&oid);
            }
        } else if txn.order.len() >= TRANSACTION_OIDS_MAX {
            let words = format!("a transaction has at most {TRANSACTION_OIDS_MAX} objects");
            self.reply(reply, Err(Error::TooLarge(words)));
            return;
        } else {
            let object = ObjectChange {
                change,
                serial,
                version: 0,
                waiting: BTreeMap::new(),
                locked: BTreeSet::new(),
                unchecked: BTreeSet::new(),
                relocking: BTreeSet::new(),
                relock_wanted: BTreeSet::new(),
                conflict: None,
                earlier: BTreeMap::new(),
                held: false,
                reply: Some(reply),
            };
            txn.objects.insert(oid, object);
            txn.order.push(oid);
        }
        self.send_store(key, oid);
    }

    pub(super) fn object(&mut self, key: TxnKey, oid: Oid) -> Option<&mut ObjectChange> {
        self.txns.get_mut(&key)?.objects.get_mut(&oid)
    }

    /// Sends the object's change, as it is now, to every writable cell.
    pub(super) fn send_store(&mut self, key: TxnKey, oid: Oid) {
        let cells = self.writable(self.partition_of_oid(oid));
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        let nodes: Vec<NodeId> = cells
            .into_iter()
            .filter(|nid| txn.is_target(*nid))
            .collect();
        let (Some(name), Some(object)) = (txn.name, txn.objects.get_mut(&oid)) else {
            return;
        };
        object.supersede();
        if object.held {
            return;
        }
        let version = object.version;
        let serial = object.serial;
        let packet = match object.change.kind() {
            Some(kind) => Packet::AskStoreObject {
                txn: name,
                oid,
                serial,
                kind,
            },
            None => Packet::AskCheckCurrentSerial {
                txn: name,
                oid,
                serial,
            },
        };
        let payload = object.change.payload();
        for nid in nodes {
            let req = Req::Store {
                txn: key,
                oid,
                version,
            };
            let id = self.ask_storage_in_txn(key, nid, req, packet.clone(), payload.clone());
            if let (Some(id), Some(object)) = (id, self.object(key, oid)) {
                object.waiting.insert(nid, id);
            }
        }
        self.touch(key);
        self.store_settled(key, oid);
    }

    /// Asks a node, unless its connection is not the one that the transaction began with.
    pub(super) fn ask_storage_in_txn(
        &mut self,
        key: TxnKey,
        nid: NodeId,
        req: Req,
        packet: Packet,
        payload: Bytes,
    ) -> Option<MsgId> {
        let conn = self.storage_conn(nid);
        let txn = self.txns.get_mut(&key)?;
        let first = txn.nodes.entry(nid).or_default();
        match (*first, conn) {
            (Some(first), conn) if conn != Some(first) => {
                let failure = Failure::lost("the connection was lost since the first store");
                txn.failed.insert(nid, failure);
                self.todo.push_back(Todo::Txn(key));
                return None;
            }
            (None, Some(conn)) => *first = Some(conn),
            _ => {}
        }
        let id = self.ask_storage(nid, req, packet, payload);
        if let Some(txn) = self.txns.get_mut(&key) {
            txn.outstanding.insert(id, nid);
        }
        Some(id)
    }

    /// When every node has answered, or failed, nobody waits any more.
    pub(super) fn store_settled(&mut self, key: TxnKey, oid: Oid) {
        if let Some(object) = self.object(key, oid)
            && object.waiting.is_empty()
            && !object.held
            && let Some(reply) = object.reply.take()
        {
            self.reply(reply, Ok(Reply::Done));
        }
        self.todo.push_back(Todo::Txn(key));
    }

    pub(super) fn store_answered(
        &mut self,
        id: MsgId,
        nid: Option<NodeId>,
        key: TxnKey,
        oid: Oid,
        version: u32,
        outcome: StoreOutcome,
    ) {
        let (Some(txn), Some(nid)) = (self.txns.get_mut(&key), nid) else {
            return;
        };
        txn.outstanding.remove(&id);
        txn.delayed_by = None;
        let failed = txn.failed.contains_key(&nid);
        let Some(object) = txn.objects.get_mut(&oid) else {
            return;
        };
        object.earlier.remove(&id);
        if object.version == version && !failed {
            object.waiting.remove(&nid);
            match outcome {
                StoreOutcome::Locked => {
                    object.locked.insert(nid);
                }
                StoreOutcome::Unchecked => {
                    object.unchecked.insert(nid);
                }
                StoreOutcome::Conflict(serial) => {
                    object.conflict = object.conflict.max(Some(serial));
                    txn.conflicting.insert(oid);
                }
            }
        }
        self.touch_if_waiting(key);
        self.send_held(key, oid);
        self.store_settled(key, oid);
    }
}
