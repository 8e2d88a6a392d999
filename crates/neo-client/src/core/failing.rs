//! Nodes that fail in the middle of a transaction: it goes on without them, if it can.

use neo_api::{NodeId, Oid};
use neo_proto::{ConnId, ErrorCode, MsgId, Packet};

use super::effect::{Reply, TxnKey};
use super::transaction::Phase;
use super::{ClientCore, Failure, Req, Sent, Todo};

impl ClientCore {
    /// A node could not be asked, or refused.
    pub(super) fn node_failed(&mut self, key: TxnKey, id: MsgId, sent: Sent, failure: Failure) {
        let (Some(txn), Some(nid)) = (self.txns.get_mut(&key), sent.nid) else {
            return;
        };
        txn.outstanding.remove(&id);
        if failure.code == Some(ErrorCode::NonReadableCell) {
            self.no_cell(key, id, nid, sent.req);
            return;
        }
        // What is wrong with the request is wrong on every node.
        if let Some(
            ErrorCode::TooLarge
            | ErrorCode::ReadOnly
            | ErrorCode::Denied
            | ErrorCode::MissingRevision,
        ) = failure.code
        {
            let error = failure.error(nid);
            self.fail_txn(key, error);
            return;
        }
        self.drop_node(key, nid, failure);
    }

    /// The node does not have the partition, whatever the table says here: a change of it is on its
    /// way to one of the two. Nothing is wrong with the node; it goes on with what else it has.
    fn no_cell(&mut self, key: TxnKey, id: MsgId, nid: NodeId, req: Req) {
        match req {
            Req::Store { oid, version, .. } => {
                if let Some(object) = self.object(key, oid) {
                    object.earlier.remove(&id);
                    if object.version == version {
                        object.forget_node(nid);
                    }
                }
                self.object_settled(key, oid);
            }
            Req::Relock { oid, .. } => {
                if let Some(object) = self.object(key, oid) {
                    object.forget_node(nid);
                }
                self.object_settled(key, oid);
            }
            Req::Vote { metadata: true, .. } => self.vote_without_metadata(key, nid),
            _ => {}
        }
        self.touch_if_waiting(key);
        self.todo.push_back(Todo::Txn(key));
    }

    /// Fewer nodes are waited for.
    fn object_settled(&mut self, key: TxnKey, oid: Oid) {
        self.send_held(key, oid);
        self.store_settled(key, oid);
    }

    /// A connection is gone, and with it what was stored over it and is not voted.
    pub(super) fn txns_lost_node(&mut self, nid: NodeId, conn: ConnId, reason: &str) {
        let keys: Vec<TxnKey> = self
            .txns
            .iter()
            .filter(|(_, txn)| txn.nodes.get(&nid) == Some(&Some(conn)))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            let failure = Failure::lost(format!("the connection was lost: {reason}"));
            self.drop_node(key, nid, failure);
        }
    }

    fn drop_node(&mut self, key: TxnKey, nid: NodeId, failure: Failure) {
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        let counts = txn.is_open() || matches!(txn.phase, Phase::Voting(_));
        // What is voted is durable there: it does not need the connection any more.
        if !counts || txn.voted.contains(&nid) {
            return;
        }
        tracing::info!(%nid, reason = %failure.message, "a transaction goes on without a node");
        txn.failed.entry(nid).or_insert(failure);
        let ids: Vec<MsgId> = txn
            .outstanding
            .iter()
            .filter(|(_, of)| **of == nid)
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            txn.outstanding.remove(id);
        }
        let mut replies = Vec::new();
        let mut free = Vec::new();
        for (oid, object) in &mut txn.objects {
            let waited = object.forget_node(nid);
            if object.held {
                free.push(*oid);
            }
            if waited && object.waiting.is_empty() && !object.held {
                replies.extend(object.reply.take());
            }
        }
        self.cancel_requests(&ids);
        // Its locks there would be waited for by others, perhaps by one that is waited for here.
        self.abort_at(key, nid);
        for reply in replies {
            self.reply(reply, Ok(Reply::Done));
        }
        for oid in free {
            self.send_held(key, oid);
        }
        self.touch_if_waiting(key);
        self.todo.push_back(Todo::Txn(key));
    }

    /// Tells a node to forget the transaction, over the connection that it was written over.
    pub(super) fn abort_at(&mut self, key: TxnKey, nid: NodeId) {
        let Some(txn) = self.txns.get(&key) else {
            return;
        };
        let (Some(name), Some(Some(conn))) = (txn.name, txn.nodes.get(&nid).copied()) else {
            return;
        };
        if self.storage_conn(nid) == Some(conn) {
            let nodes = Vec::new();
            self.out
                .notify(conn, Packet::AbortTransaction { txn: name, nodes });
        }
    }
}
