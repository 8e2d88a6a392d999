//! Locks that are let go of for an older transaction, and conflicts that are merged.

use bytes::Bytes;
use neo_api::{NodeId, Oid, Record, Tid, TxnId};
use neo_proto::{ConnId, MsgId, Packet, RelockOutcome};

use super::effect::{Change, Conflict, Reply, ReplyId, TxnKey};
use super::{ClientCore, Req};
use crate::error::Error;

impl ClientCore {
    /// An older transaction waits for a lock of this one: it is let pass at once, whatever this
    /// transaction has asked about the object and waits for. That may be the very lock that the
    /// older one waits for, too: two that have checked the object and want to store it.
    pub(super) fn deadlock(&mut self, conn: ConnId, nid: NodeId, name: TxnId, oid: Oid) {
        let found = self.txns.iter_mut().find(|(_, txn)| txn.name == Some(name));
        let Some((key, txn)) = found else {
            return;
        };
        let key = *key;
        // A transaction that votes will end without waiting for anybody; where it has failed, it
        // was aborted.
        if !txn.is_open()
            || txn.nodes.get(&nid) != Some(&Some(conn))
            || txn.failed.contains_key(&nid)
        {
            return;
        }
        let Some(object) = txn.objects.get_mut(&oid) else {
            return;
        };
        // The lock came back, somebody else waits for it, and the answer is still on its way.
        if object.relocking.contains(&nid) {
            object.relock_wanted.insert(nid);
        } else {
            self.relock(key, nid, oid);
        }
    }

    fn relock(&mut self, key: TxnKey, nid: NodeId, oid: Oid) {
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        let (Some(name), Some(object)) = (txn.name, txn.objects.get_mut(&oid)) else {
            return;
        };
        object.relocking.insert(nid);
        let req = Req::Relock {
            txn: key,
            oid,
            version: object.version,
        };
        let packet = Packet::AskRelockObject { txn: name, oid };
        self.ask_storage_in_txn(key, nid, req, packet, Bytes::new());
        self.touch(key);
    }

    pub(super) fn relock_answered(
        &mut self,
        id: MsgId,
        nid: Option<NodeId>,
        key: TxnKey,
        oid: Oid,
        version: u32,
        outcome: RelockOutcome,
    ) {
        let (Some(txn), Some(nid)) = (self.txns.get_mut(&key), nid) else {
            return;
        };
        txn.outstanding.remove(&id);
        txn.delayed_by = None;
        let failed = txn.failed.contains_key(&nid);
        let is_open = txn.is_open();
        let Some(object) = txn.objects.get_mut(&oid) else {
            return;
        };
        object.relocking.remove(&nid);
        let wanted = object.relock_wanted.remove(&nid);
        match outcome {
            // What the lock was worth before, it is worth again: a cell that catches up has
            // compared nothing.
            RelockOutcome::Relocked if wanted && is_open && !failed => self.relock(key, nid, oid),
            RelockOutcome::Relocked => {}
            RelockOutcome::Conflict(serial) => {
                if object.version == version && !failed {
                    object.locked.remove(&nid);
                    object.unchecked.remove(&nid);
                    object.conflict = object.conflict.max(Some(serial));
                    txn.conflicting.insert(oid);
                }
            }
        }
        self.touch_if_waiting(key);
        self.send_held(key, oid);
        self.store_settled(key, oid);
    }

    /// What must be merged before the vote, unless a check failed: then the error.
    pub(super) fn conflicts(&self, key: TxnKey) -> Result<Vec<Conflict>, Error> {
        let Some(txn) = self.txns.get(&key) else {
            return Ok(Vec::new());
        };
        let mut conflicts = Vec::new();
        for oid in &txn.conflicting {
            let Some(object) = txn.objects.get(oid) else {
                continue;
            };
            let Some(serial) = object.conflict else {
                continue;
            };
            if object.change == Change::Check {
                return Err(Error::ReadConflict { oid: *oid, serial });
            }
            conflicts.push(Conflict {
                oid: *oid,
                version: object.version,
                base: object.serial,
                serial,
                change: object.change.clone(),
            });
        }
        Ok(conflicts)
    }

    /// What the transaction does to these objects so far.
    pub(super) fn changes(&mut self, key: TxnKey, reply: ReplyId, oids: &[Oid]) {
        let result = match self.txns.get(&key) {
            None => Err(Error::Misuse("the transaction is over".into())),
            Some(txn) => {
                let change = |oid: &Oid| {
                    let object = txn.objects.get(oid)?;
                    Some((object.serial, object.change.clone()))
                };
                Ok(Reply::Changes(oids.iter().map(change).collect()))
            }
        };
        self.reply(reply, result);
    }

    pub(super) fn resolve(
        &mut self,
        key: TxnKey,
        oid: Oid,
        version: u32,
        serial: Tid,
        record: Record,
    ) {
        let Some(object) = self.object(key, oid) else {
            return;
        };
        // A merge of an earlier change, or one that was made twice.
        if object.version != version || object.conflict.is_none() {
            return;
        }
        object.serial = serial;
        object.change = Change::Value(record);
        object.conflict = None;
        if let Some(txn) = self.txns.get_mut(&key) {
            txn.conflicting.remove(&oid);
            txn.resolved.insert(oid);
        }
        self.send_store(key, oid);
    }

    pub(super) fn send_held(&mut self, key: TxnKey, oid: Oid) {
        if let Some(object) = self.object(key, oid)
            && object.held
            && !object.must_wait()
        {
            self.send_store(key, oid);
        }
    }
}
