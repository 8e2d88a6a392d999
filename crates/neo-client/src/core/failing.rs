//! Nodes that fail in the middle of a transaction: it goes on without them, if it can.

use neo_api::NodeId;
use neo_proto::{ConnId, ErrorCode, MsgId};

use super::effect::{Reply, TxnKey};
use super::transaction::Phase;
use super::{ClientCore, Failure, Todo};

impl ClientCore {
    /// A node could not be asked, or refused.
    pub(super) fn node_failed(
        &mut self,
        key: TxnKey,
        id: MsgId,
        nid: Option<NodeId>,
        failure: Failure,
    ) {
        let (Some(txn), Some(nid)) = (self.txns.get_mut(&key), nid) else {
            return;
        };
        txn.outstanding.remove(&id);
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
            let waited = object.waiting.remove(&nid).is_some();
            object.locked.remove(&nid);
            object.unchecked.remove(&nid);
            object.relock_wanted.remove(&nid);
            object.relocking.remove(&nid);
            object.earlier.retain(|_, of| *of != nid);
            if object.held {
                free.push(*oid);
            }
            if waited && object.waiting.is_empty() && !object.held {
                replies.extend(object.reply.take());
            }
        }
        self.cancel_requests(&ids);
        for reply in replies {
            self.reply(reply, Ok(Reply::Done));
        }
        for oid in free {
            self.send_held(key, oid);
        }
        self.touch_if_waiting(key);
        self.todo.push_back(Todo::Txn(key));
    }
}
